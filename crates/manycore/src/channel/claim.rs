//! Which tasks a worker has started, and which its parent has taken back before that.

use crate::primitive::{AtomicU64, Ordering};

/// Tasks are numbered from 1 in the order in which they were sent, and started in that order.
///
/// A worker that is busy for long keeps the tasks behind it from workers that have nothing to do.
/// Their parent then takes back all that were not started. One compare-exchange of either side
/// decides who gets a task.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Claims {
    /// | bits | meaning |
    /// |---|---|
    /// | 0 to 62 | the last task that was started, 0 before the first |
    /// | 63 | taken: of the tasks after it some are not the worker's any more, see `taken` |
    ///
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | `n` | `m` | worker | starts `m` |
    /// | `n` | `n, taken` | parent | takes back all that were sent after `n` |
    /// | `n, taken` | `m` | worker | starts the first that was sent afterwards |
    started: AtomicU64,
    /// The last task that was taken back. The worker reads it while it sees the mark, and the
    /// parent writes it while there is none.
    taken: AtomicU64,
}

const TAKEN: u64 = 1 << 63;

impl Claims {
    /// Starts a task; false if the parent has taken it back.
    #[inline]
    pub(super) fn start(&self, task: u64) -> bool {
        // Relaxed: a guess, which the exchange checks.
        let before = self.started.load(Ordering::Relaxed);
        let free = before & TAKEN == 0;
        // Release: pairs with the acquire loads of `started` and `take_back`: what the worker
        // has done before is seen.
        let (success, failure) = (Ordering::Release, Ordering::Relaxed);
        free && self.started.compare_exchange(before, task, success, failure).is_ok()
            || self.start_slow(task)
    }

    #[cold]
    fn start_slow(&self, task: u64) -> bool {
        // Acquire: pairs with the release in `take_back`; `taken` was written before.
        let before = self.started.load(Ordering::Acquire);
        debug_assert!(before & TAKEN != 0, "only the parent changes the word besides us");
        if task <= self.taken.load(Ordering::Relaxed) {
            return false;
        }
        // Nobody else writes while the mark is there. Release: as in `start`.
        self.started.store(task, Ordering::Release);
        true
    }

    /// Takes back all tasks that were not started, of which `last` was sent last; gives the last
    /// one that was. `None` if the worker has not seen yet what was taken back before.
    pub(super) fn take_back(&self, last: u64) -> Option<u64> {
        // Acquire: as in `started`.
        let mut started = self.started.load(Ordering::Acquire);
        while started & TAKEN == 0 {
            self.taken.store(last, Ordering::Relaxed);
            // Release: pairs with the acquire load in `start_slow`.
            match self.started.compare_exchange(
                started,
                started | TAKEN,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(started),
                Err(now) => started = now,
            }
        }
        None
    }

    /// The last task that was started, 0 if none.
    pub(super) fn started(&self) -> u64 {
        // Acquire: pairs with the release in `start`.
        self.started.load(Ordering::Acquire) & !TAKEN
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Each task is either started or taken back, and a later one can be started.
    #[test]
    fn loom_claims_go_to_one_side() {
        loom::model(|| {
            let claims = Arc::new(Claims { started: AtomicU64::new(0), taken: AtomicU64::new(0) });
            let parent = Arc::clone(&claims);
            let parent = thread::spawn(move || parent.take_back(2));
            let started: Vec<u64> = (1..=2).filter(|task| claims.start(*task)).collect();
            let last = parent.join().unwrap().expect("nothing was taken back before");
            assert_eq!(started, (1..=last).collect::<Vec<_>>());
            assert!(last == 2 || claims.take_back(3).is_none());
            assert!(claims.start(4));
            assert_eq!(claims.started(), 4);
            assert_eq!(claims.take_back(5), Some(4));
        });
    }
}
