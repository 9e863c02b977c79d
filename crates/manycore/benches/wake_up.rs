//! The doorbell: what ringing costs, and how long a wake-up takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use manycore::sync::Doorbell;

fn nobody_is_parked(criterion: &mut Criterion) {
    let bell = Doorbell::new();
    criterion.bench_function("ring, nobody is parked", |bencher| bencher.iter(|| bell.ring()));
}

fn ready_after_all(criterion: &mut Criterion) {
    let bell = Doorbell::new();
    criterion.bench_function("park, ready after all", |bencher| {
        bencher.iter(|| bell.park(|| true, None).unwrap());
    });
}

/// Two threads that wake each other and sleep: there and back are two wake-ups.
fn there_and_back(criterion: &mut Criterion) {
    criterion.bench_function("there and back, both park", |bencher| {
        bencher.iter_custom(|times| {
            let (here, there) = (Arc::new(Side::new()), Arc::new(Side::new()));
            let (to, from) = (Arc::clone(&here), Arc::clone(&there));
            let times = times as usize;
            let answering = thread::spawn(move || {
                for turn in 1..=times {
                    from.wait_for(turn);
                    to.tell(turn);
                }
            });
            let start = Instant::now();
            for turn in 1..=times {
                there.tell(turn);
                here.wait_for(turn);
            }
            let elapsed = start.elapsed();
            answering.join().unwrap();
            elapsed
        });
    });
}

/// A number that grows, and the bell of the thread that waits for it.
struct Side {
    bell: Doorbell,
    turn: AtomicUsize,
}

impl Side {
    fn new() -> Self {
        Self { bell: Doorbell::new(), turn: AtomicUsize::new(0) }
    }

    fn tell(&self, turn: usize) {
        // Release: pairs with the acquire loads in `wait_for`.
        self.turn.store(turn, Ordering::Release);
        self.bell.ring();
    }

    fn wait_for(&self, turn: usize) {
        // Acquire: pairs with the release store in `tell`.
        let is_there = || self.turn.load(Ordering::Acquire) >= turn;
        while !is_there() {
            self.bell.park(is_there, None).unwrap();
        }
    }
}

criterion_group!(benches, nobody_is_parked, ready_after_all, there_and_back);
criterion_main!(benches);
