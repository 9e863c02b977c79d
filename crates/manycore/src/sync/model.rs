//! Models of the layer's words: loom tries every order of their steps.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p manycore --release --lib loom`

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::Doorbell;
use super::RawMutex;
use crate::primitive::{AtomicU32, Ordering};

/// Runs the model with at most `preemptions` switches away from a thread that could go on.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

struct Bell {
    bell: Doorbell,
    items: AtomicU32,
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self { bell: Doorbell::new(), items: AtomicU32::new(0) })
    }

    fn give(&self) {
        self.items.fetch_add(1, Ordering::Relaxed);
        self.bell.ring();
    }

    fn wait_for(&self, items: u32) {
        let is_ready = || self.items.load(Ordering::Relaxed) >= items;
        while !is_ready() {
            self.bell.park(is_ready, None).unwrap();
        }
    }
}

/// A lost ring leaves the sleeper asleep, which loom reports as a deadlock.
#[test]
fn loom_doorbell_one_ringer() {
    check(5, || {
        let bell = Bell::new();
        let ringer = bell.clone();
        let ringer = thread::spawn(move || {
            ringer.give();
            ringer.give();
        });
        bell.wait_for(1);
        bell.wait_for(2);
        ringer.join().unwrap();
    });
}

#[test]
fn loom_doorbell_two_ringers() {
    check(3, || {
        let bell = Bell::new();
        let ringers =
            [bell.clone(), bell.clone()].map(|ringer| thread::spawn(move || ringer.give()));
        bell.wait_for(2);
        ringers.map(|ringer| ringer.join().unwrap());
    });
}

/// loom's cell reports two threads inside at once, and also a missing happens-before.
#[test]
fn loom_mutex_excludes_and_wakes() {
    struct Guarded(RawMutex, UnsafeCell<u32>);
    // SAFETY: the cell is used only with the mutex held, which is what the model checks.
    unsafe impl Sync for Guarded {}
    // SAFETY: as for Sync.
    unsafe impl Send for Guarded {}
    fn add_one(guarded: &Guarded) {
        guarded.0.lock(None).unwrap();
        // SAFETY: the mutex is held.
        guarded.1.with_mut(|count| unsafe { *count += 1 });
        guarded.0.unlock().unwrap();
    }
    check(3, || {
        let guarded = Arc::new(Guarded(RawMutex::new(), UnsafeCell::new(0)));
        let others = [guarded.clone(), guarded.clone()]
            .map(|guarded| thread::spawn(move || add_one(&guarded)));
        add_one(&guarded);
        others.map(|other| other.join().unwrap());
        // SAFETY: the others have ended.
        guarded.1.with(|count| assert_eq!(unsafe { *count }, 3));
    });
}
