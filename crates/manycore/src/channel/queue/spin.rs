//! A short look before going to sleep.

use std::thread;

use crate::primitive::{AtomicU32, Ordering, spin_loop};

/// Looks this often at most: about as long as it takes to wake a sleeper.
const MOST: u32 = 1 << 9;
const LEAST: u32 = 1 << 3;

/// How often to look; grows when it paid and shrinks when it did not.
pub(super) struct Spin {
    looks: AtomicU32,
    most: u32,
}

impl Spin {
    pub(super) fn new() -> Self {
        let alone = thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
        // Alone on a core one only keeps the other from doing its part.
        let most = if alone { 0 } else { MOST };
        Self { looks: AtomicU32::new(most), most }
    }

    /// Looks for a moment. Whether `is_ready` was seen.
    pub(super) fn until(&self, is_ready: impl Fn() -> bool) -> bool {
        // Relaxed: only a guess, and two threads that change it at once do no harm.
        let looks = self.looks.load(Ordering::Relaxed);
        let ready = (0..looks).any(|_| {
            spin_loop();
            is_ready()
        });
        let next = if ready { looks * 2 } else { looks / 2 };
        self.looks.store(next.clamp(LEAST.min(self.most), self.most), Ordering::Relaxed);
        ready
    }
}
