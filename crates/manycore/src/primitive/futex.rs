//! The kernel's futex as loom sees it: a list of sleepers under a lock.
//!
//! As exact as the kernel: a sleep begins only if the word still holds the expected value, a wake
//! takes the first sleepers of that word from the list, and nobody wakes for another reason. So a
//! lost wake-up is a deadlock of the model.

use std::time::Instant;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex, MutexGuard};

pub(crate) use crate::sys::futex::Wake;

loom::lazy_static! {
    static ref SLEEPERS: Sleepers = Sleepers { list: Mutex::new(List::default()), bell: Condvar::new() };
}

struct Sleepers {
    list: Mutex<List>,
    bell: Condvar,
}

#[derive(Default)]
struct List {
    next: u64,
    /// The number of each sleeper and the word that it sleeps on.
    asleep: Vec<(u64, *const AtomicU32)>,
}

// SAFETY: the pointers are only compared.
unsafe impl Send for List {}

fn lock() -> MutexGuard<'static, List> {
    SLEEPERS.list.lock().expect("a model that panicked is over")
}

/// As the kernel's; the model knows no time, so a sleep with a deadline never begins.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Wake {
    let mut list = lock();
    if word.load(Ordering::Relaxed) != expected {
        return Wake::Woken;
    }
    if deadline.is_some() {
        return Wake::TimedOut;
    }
    let number = list.next;
    list.next += 1;
    list.asleep.push((number, word));
    while list.asleep.iter().any(|&(n, _)| n == number) {
        list = SLEEPERS.bell.wait(list).expect("a model that panicked is over");
    }
    Wake::Woken
}

/// As the kernel's: wakes at most `count` sleepers on `word`, the oldest first.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    let mut list = lock();
    let mut woken = 0;
    list.asleep.retain(|&(_, at)| {
        let wakes = woken < count && std::ptr::eq(at, word);
        woken += u32::from(wakes);
        !wakes
    });
    SLEEPERS.bell.notify_all();
    woken
}
