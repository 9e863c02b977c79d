//! Which tasks a worker has started, and which its parent has taken back before that.

use crate::primitive::{AtomicU64, Ordering};

/// Tasks are numbered from 1 in the order in which they were sent, and started in that order.
///
/// A worker that is busy for long keeps the tasks behind it from workers that have nothing to do.
/// Their parent then takes back all that were not started. One compare-exchange of either side
/// decides who gets a task.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Claims {
    /// | bits | meaning |
    /// |---|---|
    /// | 0 to 62 | the last task that was started, 0 before the first |
    /// | 63 | taken: of the tasks after it some are not the worker's any more, see `taken` |
    ///
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | `n` | `m` | worker | starts `m` |
    /// | `n` | `n, taken` | parent | takes back all after `n` that the worker has, at least one |
    /// | `n, taken` | `n` | worker | has seen the last of these |
    started: AtomicU64,
    /// The last task that was taken back, or that the parent wanted back when it had been started.
    /// The worker reads it while it sees the mark, and the parent writes it while there is none.
    taken: AtomicU64,
}

const TAKEN: u64 = 1 << 63;

impl Claims {
    /// Starts a task; false if the parent has taken it back.
    #[inline]
    pub(crate) fn start(&self, task: u64) -> bool {
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
        let last = self.taken.load(Ordering::Relaxed);
        debug_assert!(task <= last, "the mark goes with the last of them");
        if task >= last {
            // Nobody else writes while the mark is there. Release: as in `start`.
            self.started.store(before & !TAKEN, Ordering::Release);
        }
        false
    }

    /// Takes back all tasks that the worker has not started, of which `last` was sent last; gives
    /// the task before the first of them. `None` if there are none, or the worker has not seen all
    /// yet that were taken back before.
    pub(crate) fn take_back(&self, last: u64) -> Option<u64> {
        // Acquire: as in `started`.
        let mut started = self.started.load(Ordering::Acquire);
        // Relaxed: only the parent writes it.
        let taken = self.taken.load(Ordering::Relaxed);
        // Those that were taken back before are not started either, and are not the worker's.
        while started & TAKEN == 0 && started.max(taken) < last {
            self.taken.store(last, Ordering::Relaxed);
            // Release: pairs with the acquire load in `start_slow`.
            match self.started.compare_exchange(
                started,
                started | TAKEN,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(started.max(taken)),
                Err(now) => started = now,
            }
        }
        None
    }

    /// Whether the worker has seen all that was taken back.
    pub(crate) fn are_settled(&self) -> bool {
        // Acquire: as in `started`.
        self.started.load(Ordering::Acquire) & TAKEN == 0
    }

    /// The last task that was started, 0 if none.
    pub(crate) fn started(&self) -> u64 {
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
            let last = parent.join().unwrap().unwrap_or(2);
            assert_eq!(started, (1..=last).collect::<Vec<_>>());
            assert_eq!(claims.started(), last);
            assert!(claims.are_settled());
            assert!(claims.start(3));
            assert_eq!(claims.take_back(3), None);
            assert_eq!(claims.take_back(5), Some(3));
            assert!(!claims.start(4) && !claims.are_settled());
            assert_eq!(claims.take_back(5), None);
            assert!(!claims.start(5) && claims.are_settled());
            assert_eq!(claims.take_back(5), None, "these were taken back before");
            assert!(claims.start(6));
            assert_eq!(claims.take_back(8), Some(6));
            assert!(!claims.start(7) && !claims.start(8));
            assert_eq!(claims.take_back(9), Some(8));
            assert!(!claims.start(9) && claims.start(10));
        });
    }
}
