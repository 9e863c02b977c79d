//! Models of the layer's words: loom tries every order of their steps.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p manycore --release --lib model`

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::barrier::RawBarrier;
use super::condition::Slot;
use super::event::RawEvent;
use super::semaphore::RawSemaphore;
use super::{Doorbell, RawMutex, owner};
use crate::primitive::{AtomicU32, Ordering};

/// Runs the model with at most `preemptions` switches away from a thread that could go on.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn join(threads: [thread::JoinHandle<()>; 2]) {
    for thread in threads {
        thread.join().unwrap();
    }
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
        join(ringers);
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
        join(others);
        // SAFETY: the others have ended.
        guarded.1.with(|count| assert_eq!(unsafe { *count }, 3));
    });
}

/// Two releases, the second of which may find that the first has taken the mark away: the woken
/// one has to wake the other.
#[test]
fn loom_semaphore_wakes_in_a_chain() {
    check(3, || {
        let semaphore = Arc::new(RawSemaphore::new());
        let takers = [semaphore.clone(), semaphore.clone()]
            .map(|semaphore| thread::spawn(move || semaphore.acquire(None).unwrap()));
        semaphore.release(1).unwrap();
        semaphore.release(1).unwrap();
        join(takers);
    });
}

#[test]
fn loom_event_set_and_clear_keeps_nobody_asleep() {
    check(3, || {
        let event = Arc::new(RawEvent::new());
        // Both have begun to wait, as far as they are concerned, before the set.
        let rounds = event.rounds();
        let waiters = [event.clone(), event.clone()]
            .map(|event| thread::spawn(move || event.wait_after(rounds, None).unwrap()));
        event.set();
        event.clear();
        join(waiters);
    });
}

/// What happens before the set is seen after the wait.
#[test]
fn loom_event_publishes() {
    struct Guarded(RawEvent, UnsafeCell<u32>);
    // SAFETY: the cell is written before the set and read after the wait, which is what the
    // model checks.
    unsafe impl Sync for Guarded {}
    // SAFETY: as for Sync.
    unsafe impl Send for Guarded {}
    check(3, || {
        let guarded = Arc::new(Guarded(RawEvent::new(), UnsafeCell::new(0)));
        let waiter = guarded.clone();
        let waiter = thread::spawn(move || {
            waiter.0.wait(None).unwrap();
            // SAFETY: the event is set, so nobody writes any more.
            waiter.1.with(|value| assert_eq!(unsafe { *value }, 1));
        });
        // SAFETY: the event is not set, so nobody reads yet.
        guarded.1.with_mut(|value| unsafe { *value = 1 });
        guarded.0.set();
        waiter.join().unwrap();
    });
}

/// Two meetings of two: everybody gets through, each with a number of its own.
#[test]
fn loom_barrier_lets_all_through() {
    check(3, || {
        let barrier = Arc::new(RawBarrier::with(2));
        let other = barrier.clone();
        let meet_twice = |barrier: &RawBarrier| [0; 2].map(|_| barrier.wait(None).unwrap());
        let other = thread::spawn(move || meet_twice(&other));
        let mine = meet_twice(&barrier);
        let theirs = other.join().unwrap();
        assert_eq!([mine[0] + theirs[0], mine[1] + theirs[1]], [1, 1]);
    });
}

/// An abort reaches one who waits or who comes later.
#[test]
fn loom_barrier_abort_reaches_all() {
    check(3, || {
        let barrier = Arc::new(RawBarrier::with(2));
        let other = barrier.clone();
        let other = thread::spawn(move || other.wait(None).unwrap_err().is_misuse());
        barrier.abort();
        assert!(other.join().unwrap());
    });
}

/// A notification finds its waiter wherever that is between its entry and its sleep.
#[test]
fn loom_condition_tells_one() {
    check(3, || {
        let slot = Arc::new(Slot::new());
        let sleeper = slot.clone();
        slot.occupy(owner::thread(), 0);
        let sleeper = thread::spawn(move || assert!(sleeper.sleep(None).unwrap()));
        assert!(slot.notify());
        sleeper.join().unwrap();
    });
}
