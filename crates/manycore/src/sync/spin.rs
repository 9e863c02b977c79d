//! Looking out for a moment before going to sleep.

use std::thread;
use std::time::{Duration, Instant};

use crate::primitive::{Ordering, fixed, spin_loop};

/// How many looks, each with a pause of the processor after it, come between two offers to let
/// another thread run.
const LOOKS: u32 = 16;

/// An offer that takes longer than this was taken: somebody else ran meanwhile.
const TAKEN: Duration = Duration::from_micros(3);

/// An offer that takes longer than this has cost many times what a sleep would have.
const DEAR: Duration = Duration::from_millis(2);

/// Looks out before a sleep, unless the processors are wanted for other things.
///
/// In between it offers the processor to whoever could use it, so the other side, if it shares
/// this processor, can do what is looked out for. But where strangers compute, an offer may cost
/// several of their time slices, while a sleeper that is woken runs almost at once. So after an
/// offer that came back late nobody looks out for as long as it took: at the worst half of the
/// time is lost by that, and little where it was our own other side that computed.
pub(crate) struct LookOut {
    made: Instant,
    /// Whether the last offer was taken. Relaxed: a hint.
    taken: fixed::AtomicBool,
    /// Nanoseconds after `made` before which nobody looks out. Relaxed: a hint.
    not_before: fixed::AtomicU64,
}

impl LookOut {
    pub(crate) fn new() -> Self {
        let taken = fixed::AtomicBool::new(false);
        Self { made: Instant::now(), taken, not_before: fixed::AtomicU64::new(0) }
    }

    /// Whether an offer was taken since this was asked last: somebody wants this processor.
    pub(crate) fn was_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed) && self.taken.swap(false, Ordering::Relaxed)
    }

    /// Looks until `ready` or until `limit` has passed; what the last look saw.
    pub(crate) fn until(&self, limit: Duration, ready: impl FnMut() -> bool) -> bool {
        self.until_with(limit, ready, thread::yield_now)
    }

    fn until_with(
        &self,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
        offer: impl Fn(),
    ) -> bool {
        let start = self.made.elapsed();
        if start < Duration::from_nanos(self.not_before.load(Ordering::Relaxed)) {
            return ready();
        }
        loop {
            for _ in 0..LOOKS {
                if ready() {
                    return true;
                }
                for _ in 0..8 {
                    spin_loop();
                }
            }
            let before = self.made.elapsed();
            if before >= start + limit {
                return ready();
            }
            offer();
            let after = self.made.elapsed();
            if after >= before + DEAR {
                self.resign(after, after - before);
            }
            if after >= before + TAKEN {
                self.taken.store(true, Ordering::Relaxed);
                return ready();
            }
        }
    }

    #[cold]
    fn resign(&self, now: Duration, lost: Duration) {
        let until = u64::try_from((now + lost).as_nanos()).unwrap_or(u64::MAX);
        self.not_before.store(until, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(3600);

    #[test]
    fn it_looks_until_there_is_something() {
        let look_out = LookOut::new();
        let looks = Cell::new(0);
        let ready = || looks.replace(looks.get() + 1) >= 1000;
        // Where others want this processor it gives up before.
        while !look_out.until(LIMIT, ready) {
            assert!(look_out.was_taken());
            // On a busy machine the offer may even have come back late.
            look_out.not_before.store(0, Ordering::Relaxed);
        }
        assert_eq!(looks.get(), 1001);
        assert!(!look_out.until(Duration::ZERO, || false));
    }

    #[test]
    fn it_gives_up_when_an_offer_is_taken() {
        let look_out = LookOut::new();
        let offers = Cell::new(0);
        let taken = || {
            offers.set(offers.get() + 1);
            thread::sleep(TAKEN);
        };
        assert!(!look_out.until_with(LIMIT, || false, taken));
        look_out.not_before.store(0, Ordering::Relaxed);
        assert!(look_out.until_with(LIMIT, || offers.get() == 2, taken));
        assert!(look_out.was_taken() && !look_out.was_taken());
    }

    #[test]
    fn after_an_offer_that_came_back_late_it_sleeps_at_once() {
        let look_out = LookOut::new();
        let offers = Cell::new(0);
        let late = || {
            offers.set(offers.get() + 1);
            thread::sleep(DEAR);
        };
        assert!(look_out.until_with(LIMIT, || offers.get() == 1, late));
        let until = look_out.not_before.load(Ordering::Relaxed);
        assert!(u128::from(until) >= 2 * DEAR.as_nanos());
        // As if this test took no time; it would not come back if it looked out.
        look_out.not_before.store(u64::MAX, Ordering::Relaxed);
        assert!(!look_out.until_with(LIMIT, || false, late));
        assert!(look_out.until_with(LIMIT, || true, late));
        assert_eq!(offers.get(), 1);
        // The load may have gone.
        look_out.not_before.store(0, Ordering::Relaxed);
        assert!(look_out.until_with(LIMIT, || offers.get() == 2, late));
    }
}
