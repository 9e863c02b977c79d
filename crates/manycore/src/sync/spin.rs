//! Looking out for a moment before going to sleep.

use std::thread;
use std::time::{Duration, Instant};

use crate::primitive::spin_loop;

/// How many looks, each with a pause of the processor after it, come between two offers to let
/// another thread run.
const LOOKS: u32 = 16;

/// Looks until `ready` or until `limit` has passed; what the last look saw.
///
/// In between it offers the processor to whoever could use it, so where there is more work than
/// processors the look-out costs next to nothing.
pub(crate) fn spin_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if ready() {
                return true;
            }
            for _ in 0..8 {
                spin_loop();
            }
        }
        if start.elapsed() >= limit {
            return ready();
        }
        thread::yield_now();
    }
}
