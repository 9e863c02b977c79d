//! The locks between processes, while nobody else wants them and while another thread does.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use manycore::sync::{Condition, Event, Mutex, RecursiveMutex, Semaphore};

fn uncontended(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("uncontended");
    let mutex = Mutex::new().unwrap();
    group.bench_function("mutex", |bencher| {
        bencher.iter(|| {
            mutex.lock(None).unwrap();
            mutex.unlock().unwrap();
        });
    });
    let recursive = RecursiveMutex::new().unwrap();
    group.bench_function("recursive mutex", |bencher| {
        bencher.iter(|| {
            recursive.lock(None).unwrap();
            recursive.unlock().unwrap();
        });
    });
    let semaphore = Semaphore::new(1, None).unwrap();
    group.bench_function("semaphore", |bencher| {
        bencher.iter(|| {
            semaphore.acquire(None).unwrap();
            semaphore.release(1).unwrap();
        });
    });
    let condition = Condition::new().unwrap();
    group.bench_function("condition, notify nobody", |bencher| {
        bencher.iter(|| assert_eq!(condition.notify(1), 0));
    });
    let event = Event::new().unwrap();
    event.set();
    group.bench_function("event, wait when set", |bencher| {
        bencher.iter(|| event.wait(None).unwrap());
    });
    group.finish();
}

/// Two threads take the same lock as often as each other; the time of both together, by how often
/// it was taken.
fn contended(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two threads");
    group.bench_function("mutex", |bencher| {
        bencher.iter_custom(|times| {
            let mutex = Arc::new(Mutex::new().unwrap());
            let other = Arc::clone(&mutex);
            let start = Instant::now();
            let thread = thread::spawn(move || take(&other, times / 2));
            take(&mutex, times - times / 2);
            thread.join().unwrap();
            start.elapsed()
        });
    });
    group.finish();
}

fn take(mutex: &Mutex, times: u64) {
    for _ in 0..times {
        mutex.lock(None).unwrap();
        mutex.unlock().unwrap();
    }
}

criterion_group!(benches, uncontended, contended);
criterion_main!(benches);
