//! Models of the queue's words: loom tries every order of their steps.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p manycore --release --lib loom`

use loom::sync::Arc;
use loom::thread;

use super::bell::Bell;
use super::record::Record;
use crate::primitive::{AtomicU32, Ordering};
use crate::sync::RawMutex;

/// Runs the model with at most `preemptions` switches away from a thread that could go on.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Numbers of two different changes, or bytes from before the change, fail an assertion.
#[test]
fn loom_record_is_never_seen_half_changed() {
    check(3, || {
        let shared = Arc::new((Record::<2>::new(), AtomicU32::new(0)));
        let writer = shared.clone();
        let writer = thread::spawn(move || {
            for i in 1..4 {
                writer.1.store(i, Ordering::Relaxed);
                writer.0.publish([i.into(), i.into()]);
                assert_eq!(writer.0.load(), [i.into(), i.into()]);
            }
        });
        let [one, two] = shared.0.snapshot();
        assert_eq!(one, two);
        assert!(u64::from(shared.1.load(Ordering::Relaxed)) >= one);
        assert!(shared.0.word(0) >= one);
        writer.join().unwrap();
    });
}

/// One side of a queue, as far as sleepers go.
struct Side {
    lock: RawMutex,
    bell: Bell,
    items: Record<1>,
}

impl Side {
    fn new() -> Arc<Self> {
        Arc::new(Self { lock: RawMutex::new(), bell: Bell::new(), items: Record::new() })
    }

    fn put(&self) {
        self.lock.lock_or_recover(None).unwrap();
        let [items] = self.items.load();
        self.bell.ring();
        self.items.publish([items + 1]);
        self.lock.unlock().unwrap();
    }

    fn wait_for(&self, items: u64) {
        while self.items.word(0) < items {
            self.lock.lock_or_recover(None).unwrap();
            let ticket = (self.items.word(0) < items).then(|| self.bell.announce());
            self.lock.unlock().unwrap();
            if let Some(ticket) = ticket {
                self.bell.sleep(ticket, None).unwrap();
            }
        }
    }
}

/// A lost ring leaves the sleeper asleep, which loom reports as a deadlock.
#[test]
fn loom_bell_wakes_a_sleeper() {
    check(3, || {
        let side = Side::new();
        let putter = side.clone();
        let putter = thread::spawn(move || {
            putter.put();
            putter.put();
        });
        side.wait_for(2);
        putter.join().unwrap();
    });
}

#[test]
fn loom_bell_wakes_all_sleepers() {
    check(2, || {
        let side = Side::new();
        let sleeper = side.clone();
        let sleeper = thread::spawn(move || sleeper.wait_for(1));
        let putter = side.clone();
        let putter = thread::spawn(move || putter.put());
        side.wait_for(1);
        putter.join().unwrap();
        sleeper.join().unwrap();
    });
}
