//! Counts the forks of this process.

use std::sync::Once;

use crate::primitive::{AtomicU64, Ordering};

/// Forks that this process has begun; counted before the child exists.
static BEGUN: AtomicU64 = AtomicU64::new(0);
/// Forks that have come back, here in the parent.
static ENDED: AtomicU64 = AtomicU64::new(0);
/// How many forks lie between the first process of this program and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Changes in every forked child.
pub(crate) fn generation() -> u64 {
    watch();
    // Relaxed: it changes only while the process has a single thread, in the child handler.
    GENERATION.load(Ordering::Relaxed)
}

/// How many forks this process has made; `None` while one is being made by another thread.
///
/// Two equal answers with something in between mean that no child has a copy of it.
pub(crate) fn settled() -> Option<u64> {
    watch();
    // Acquire, partner: the Release in `prepare` and `parent`. ENDED first: seen with all the
    // forks that had begun before it.
    let ended = ENDED.load(Ordering::Acquire);
    let begun = BEGUN.load(Ordering::Acquire);
    (ended == begun).then_some(begun)
}

fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        // SAFETY: the handlers only touch lock-free atomics, which is allowed at any point of a
        // fork, and they are never unloaded.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

extern "C" fn prepare() {
    BEGUN.fetch_add(1, Ordering::Release);
}

extern "C" fn parent() {
    ENDED.fetch_add(1, Ordering::Release);
}

extern "C" fn child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    ENDED.store(BEGUN.load(Ordering::Relaxed), Ordering::Relaxed);
}
