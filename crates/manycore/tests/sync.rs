//! Locks between threads and processes, and what deaths do to them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use manycore::sync::{Doorbell, Mutex};

/// Runs `f` in a forked child. Its pid.
fn fork(f: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `f`, which does not depend on other threads, and ends without
    // returning into the test harness.
    match unsafe { libc::fork() } {
        0 => {
            let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
            // SAFETY: ends this process without running anything of the harness.
            unsafe { libc::_exit(if ok { 0 } else { 101 }) }
        }
        -1 => panic!("{}", std::io::Error::last_os_error()),
        pid => pid,
    }
}

/// Waits for the end of child `pid`; its wait status.
fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: a plain system call with a pointer to a local.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

#[test]
fn mutex_excludes() {
    let mutex = Mutex::new().unwrap();
    let counter = std::cell::UnsafeCell::new(0u64);
    struct Racy(std::cell::UnsafeCell<u64>);
    // SAFETY: only touched with the mutex held.
    unsafe impl Sync for Racy {}
    let counter = Racy(counter);
    let counter = &counter;
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..50_000 {
                    mutex.lock(None).unwrap();
                    // SAFETY: the mutex is held.
                    unsafe { *counter.0.get() += 1 };
                    mutex.unlock().unwrap();
                }
            });
        }
    });
    // SAFETY: the threads have ended.
    assert_eq!(unsafe { *counter.0.get() }, 200_000);
    assert!(mutex.unlock().unwrap_err().is_misuse());
}

#[test]
fn a_dead_holder_is_reported_then_taken_over() {
    let mutex = Mutex::new().unwrap();
    let pid = fork(|| mutex.lock(None).unwrap());
    // The child stays a zombie for now: it counts as dead.
    let error = mutex.lock(None).map_err(|e| e.dead_owner());
    if error.is_ok() {
        // We came first; then the child waits for us.
        mutex.unlock().unwrap();
    }
    assert_eq!(reap(pid), 0);
    assert_eq!(mutex.owner(), Some(pid as u32));
    assert_eq!(mutex.lock(None).unwrap_err().dead_owner(), Some(pid as u32));
    let deadline = Some(Instant::now() + Duration::from_secs(20));
    assert!(mutex.lock_or_recover(deadline).unwrap());
    assert_eq!(mutex.owner(), Some(std::process::id()));
    mutex.unlock().unwrap();
    assert!(!mutex.lock_or_recover(None).unwrap());
}

#[test]
fn a_ring_ends_a_park() {
    // Two threads hand a turn to each other; one lost ring and both sleep for ever.
    let bells = [Doorbell::new(), Doorbell::new()];
    let turn = AtomicUsize::new(0);
    let play = |me: usize| {
        for _ in 0..20_000 {
            let mine = || turn.load(Ordering::Relaxed) % 2 == me;
            while !mine() {
                bells[me].park(mine, None).unwrap();
            }
            turn.fetch_add(1, Ordering::Relaxed);
            bells[1 - me].ring();
        }
    };
    std::thread::scope(|s| {
        s.spawn(|| play(0));
        s.spawn(|| play(1));
    });
    let soon = Some(Instant::now() + Duration::from_millis(5));
    assert!(bells[0].park(|| false, soon).unwrap_err().is_timeout());
}

#[test]
fn a_spinning_ringer_meets_every_step_of_a_park() {
    // The ringer comes at any instant between the sleeper's look and its sleep.
    let bell = Doorbell::new();
    let full = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..20_000 {
                while !full.load(Ordering::Relaxed) {
                    bell.park(|| full.load(Ordering::Relaxed), None).unwrap();
                }
                full.store(false, Ordering::Relaxed);
            }
        });
        for _ in 0..20_000 {
            while full.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            full.store(true, Ordering::Relaxed);
            bell.ring();
        }
    });
}
