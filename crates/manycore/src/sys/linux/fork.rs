//! Which process this is: known without a system call, and right after every fork.

use crate::primitive::Ordering;
use crate::primitive::fixed::{AtomicBool, AtomicU32, AtomicU64};

static REGISTERED: AtomicBool = AtomicBool::new(false);
/// This process's id; 0 until somebody asked for it.
static PID: AtomicU32 = AtomicU32::new(0);
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// A number that differs between a process and its forks.
#[inline]
pub(crate) fn generation() -> u64 {
    if PID.load(Ordering::Relaxed) == 0 {
        register();
    }
    GENERATION.load(Ordering::Relaxed)
}

/// The id of this process.
#[inline]
pub(crate) fn pid() -> u32 {
    match PID.load(Ordering::Relaxed) {
        0 => register(),
        pid => pid,
    }
}

#[cold]
fn register() -> u32 {
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler touches nothing but two atomics and calls getpid, all of which is
        // allowed in the child of a fork.
        let result = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(result, 0, "out of memory");
        PID.store(std::process::id(), Ordering::Relaxed);
    }
    std::process::id()
}

extern "C" fn in_child() {
    PID.store(std::process::id(), Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
