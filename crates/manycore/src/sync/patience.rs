//! How long a sleeper trusts that somebody will wake it.

use std::time::{Duration, Instant};

use crate::primitive::AtomicU32;
use crate::primitive::futex::{self, Wake};
use crate::{Error, Result};

/// Sleeps on futex words that end by themselves, so that the sleeper looks around: the first
/// after 20 ms, then after twice the time of the one before, at most a second.
///
/// Whoever should wake a sleeper may be killed one instruction before, and a woken sleeper one
/// instruction before it hands the turn on. No futex protocol survives that by itself; this bounds
/// the damage to a second. It is no polling for the event: without a death every sleep ends by a
/// wake-up.
///
/// A signal that arrives between two sleeps ends none. So from time to time, after a sleep of full
/// length, the wait ends as if by a signal: the caller looks at its signals and comes again.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    step: Duration,
    is_steadfast: bool,
}

/// How a sleep ended that neither failed nor reached the caller's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slept {
    /// Woken, or the word held something else.
    Woken,
    /// Patience ran out: look whether those one waits for still live.
    Look,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(20);
    const LAST: Duration = Duration::from_secs(1);

    const WORTH: Duration = Duration::from_millis(1);

    pub(super) fn new() -> Self {
        Self { began: Instant::now(), step: Self::FIRST, is_steadfast: false }
    }

    /// For those who cannot end a wait and begin it again without harm: a signal ends it only if
    /// it comes during a sleep.
    pub(super) fn steadfast() -> Self {
        Self { is_steadfast: true, ..Self::new() }
    }

    /// Sleeps while `word` holds `expected`.
    pub(super) fn sleep(
        &mut self,
        word: &AtomicU32,
        expected: u32,
        deadline: Option<Instant>,
    ) -> Result<Slept> {
        let look = self.next_look();
        let until = match (deadline, look) {
            (Some(deadline), Some(look)) => Some(deadline.min(look)),
            (deadline, look) => deadline.or(look),
        };
        match futex::wait(word, expected, until) {
            Wake::Woken => Ok(Slept::Woken),
            Wake::Interrupted => Err(Error::interrupted()),
            Wake::TimedOut if until == deadline => Err(Error::timed_out()),
            Wake::TimedOut if self.step == Self::LAST && !self.is_steadfast => {
                Err(Error::interrupted())
            }
            Wake::TimedOut => {
                self.step = (self.step * 2).min(Self::LAST);
                Ok(Slept::Look)
            }
        }
    }

    /// Whether the wait was long enough to make up for a look at its end: a timeout of nothing
    /// should cost nothing.
    pub(super) fn is_worth_a_look(&self) -> bool {
        self.began.elapsed() >= Self::WORTH
    }

    /// `None` in a model, which has no time and in which nobody dies.
    fn next_look(&self) -> Option<Instant> {
        if cfg!(loom) { None } else { Some(Instant::now() + self.step) }
    }
}
