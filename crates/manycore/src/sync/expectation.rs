//! Whether it pays to look out before a sleep.

use std::time::{Duration, Instant};

use super::spin::LookOut;
use crate::primitive::{Ordering, fixed};

/// How long to look out: about twice what it takes to wake a sleeper.
const LIMIT: Duration = Duration::from_micros(60);

/// A wait that was over so soon, sleep and waking included, was worth a look-out.
const SOON: Duration = Duration::from_micros(150);

/// How many late waits in a row it takes to lose all hope.
const MOST: u32 = 4;

/// What those who wait for one thing have learned about how long that takes.
///
/// They look out for it as long as it mostly comes soon. When it keeps coming late, looking out
/// would only take a processor from somebody, and they go to sleep at once; waits that turn out to
/// have been short make them look out again.
pub(crate) struct Expectation {
    look_out: LookOut,
    /// 0: whoever waits goes to sleep at once. Relaxed: two threads that change it at once do no
    /// harm.
    hope: fixed::AtomicU32,
}

impl Expectation {
    pub(crate) fn new() -> Self {
        Self { look_out: LookOut::new(), hope: fixed::AtomicU32::new(MOST / 2) }
    }

    /// Whether [`until`](Self::until) would look more than once.
    pub(crate) fn is_hopeful(&self) -> bool {
        self.hope.load(Ordering::Relaxed) > 0
    }

    /// Looks out if it is likely to pay; what the last look saw.
    pub(crate) fn until(&self, mut ready: impl FnMut() -> bool) -> bool {
        if !self.is_hopeful() {
            return ready();
        }
        let seen = self.look_out.until(LIMIT, ready);
        if seen {
            self.learn(true);
        }
        seen
    }

    /// To be called after a wait that looking out did not end, with when it began.
    pub(crate) fn waited_since(&self, begin: Instant) {
        self.learn(begin.elapsed() <= SOON);
    }

    /// Has those who wait go to sleep at once, until one wait turns out to have been short.
    pub(crate) fn give_up(&self) {
        self.hope.store(0, Ordering::Relaxed);
    }

    fn learn(&self, soon: bool) {
        let hope = self.hope.load(Ordering::Relaxed);
        let next = if soon { (hope + 1).min(MOST) } else { hope.saturating_sub(1) };
        if next != hope {
            self.hope.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_end_the_looking_out_and_early_ones_bring_it_back() {
        let expectation = Expectation::new();
        assert!(expectation.is_hopeful());
        let late = Instant::now().checked_sub(SOON * 2).unwrap();
        for _ in 0..MOST {
            expectation.waited_since(late);
        }
        let mut looks = 0;
        assert!(!expectation.until(|| {
            looks += 1;
            false
        }));
        assert_eq!(looks, 1);
        expectation.learn(true);
        assert!(expectation.is_hopeful());
        for _ in 0..2 * MOST {
            assert!(expectation.until(|| true));
        }
        for _ in 1..MOST {
            expectation.waited_since(late);
        }
        assert!(expectation.is_hopeful());
    }
}
