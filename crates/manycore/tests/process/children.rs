//! Forked children and their statuses.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use manycore::process::{Forked, fork};

use crate::support::{Watchdog, forked, idle, limit_fds, open_fds, pause, role, run_role, soon};

#[test]
fn exit_code_and_signal_are_told() {
    let _watchdog = Watchdog::new();
    let status = forked(|| 3).wait(None).unwrap();
    assert_eq!((status.code(), status.signal(), status.exitcode()), (Some(3), None, 3));

    let child = idle();
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(libc::SIGTERM).unwrap();
    let status = child.wait(None).unwrap();
    assert_eq!((status.code(), status.signal(), status.exitcode()), (None, Some(15), -15));
    assert_eq!(status.to_string(), "signal 15 (SIGTERM)");
    assert_eq!(child.try_wait().unwrap(), Some(status));
}

#[test]
fn wait_ends_at_its_deadline_and_loses_nothing() {
    let _watchdog = Watchdog::new();
    let child = idle();
    assert!(child.wait(soon(1)).unwrap_err().is_timeout());
    child.signal(libc::SIGKILL).unwrap();
    assert_eq!(child.wait(None).unwrap().exitcode(), -9);
    assert_eq!(child.wait(soon(0)).unwrap().exitcode(), -9);
}

#[test]
fn all_threads_that_wait_get_the_status() {
    let _watchdog = Watchdog::new();
    for _ in 0..50 {
        let child = idle();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(child.wait(None).unwrap().signal(), Some(9)));
            }
            child.signal(libc::SIGKILL).unwrap();
        });
    }
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_signo: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_signal_interrupts_a_wait() {
    let _watchdog = Watchdog::new();
    // SAFETY: the handler only adds to a number. Flags 0: no restart.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as *const () as libc::sighandler_t;
        libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut());
    }
    let child = idle();
    thread::scope(|scope| {
        // SAFETY: no requirements.
        let waiter = unsafe { libc::pthread_self() };
        let (end, ended) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            // One that comes before the wait has begun interrupts nothing, so: until it ends.
            while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                // SAFETY: the scope keeps the thread alive.
                unsafe { libc::pthread_kill(waiter, libc::SIGUSR2) };
                thread::yield_now();
            }
        });
        assert!(child.wait(None).unwrap_err().is_interrupted());
        drop(end);
    });
    assert!(HANDLED.load(Ordering::Relaxed) > 0);
    child.signal(libc::SIGKILL).unwrap();
    assert_eq!(child.wait(None).unwrap().exitcode(), -9);
}

#[test]
fn a_signal_to_an_ended_process_is_no_error() {
    let _watchdog = Watchdog::new();
    let child = idle();
    assert_eq!(child.signal(1000).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    child.signal(libc::SIGKILL).unwrap();
    child.signal(libc::SIGKILL).unwrap();
    child.wait(None).unwrap();
    child.signal(libc::SIGKILL).unwrap();
}

#[test]
fn a_status_that_somebody_else_took_is_unknown() {
    let _watchdog = Watchdog::new();
    let child = forked(|| 3);
    // SAFETY: no pointer is given.
    let pid = unsafe { libc::waitpid(child.pid().cast_signed(), std::ptr::null_mut(), 0) };
    assert_eq!(pid, child.pid().cast_signed());
    child.signal(libc::SIGKILL).unwrap();
    let status = child.wait(None).unwrap();
    assert_eq!((status.code(), status.signal(), status.exitcode()), (None, None, 255));
}

#[test]
fn a_forked_copy_cannot_use_the_handle() {
    let _watchdog = Watchdog::new();
    let child = idle();
    let check = || {
        let refused = child.wait(None).is_err_and(|e| e.is_inherited())
            && child.try_wait().is_err_and(|e| e.is_inherited())
            && child.signal(9).is_err_and(|e| e.is_inherited());
        if refused && child.pid() != 0 { 0 } else { 1 }
    };
    assert_eq!(forked(check).wait(None).unwrap().code(), Some(0));
    // The program's own fork, which knows nothing of us.
    // SAFETY: the copy looks at its memory and ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        manycore::process::exit_at_once(check());
    }
    let mut status = -1;
    // SAFETY: the pointer is to a live number.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(9).unwrap();
    child.wait(None).unwrap();
}

#[test]
fn ignored_children_are_still_waited_for() {
    let _watchdog = Watchdog::new();
    run_role("children_ignored");
}

pub(crate) fn ignored() {
    // SAFETY: SIG_IGN runs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    for _ in 0..100 {
        let child = forked(|| 0);
        assert_eq!(child.wait(None).unwrap().exitcode(), 255);
        child.signal(9).unwrap();
    }
    let child = idle();
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(9).unwrap();
    assert_eq!(child.wait(None).unwrap().exitcode(), 255);
}

#[test]
fn a_thousand_forks_leak_no_descriptor() {
    let _watchdog = Watchdog::new();
    run_role("children_thousand");
}

pub(crate) fn thousand() {
    let before = open_fds();
    for _ in 0..1000 {
        assert_eq!(forked(|| 7).wait(None).unwrap().code(), Some(7));
    }
    assert_eq!(open_fds(), before);
    // Nor does the copy get one that it has no use for.
    let child = forked(|| open_fds().try_into().unwrap());
    assert_eq!(child.wait(None).unwrap().code(), Some(before.try_into().unwrap()));
}

#[test]
fn without_descriptors_nothing_is_started() {
    let _watchdog = Watchdog::new();
    run_role("children_without_descriptors");
}

pub(crate) fn without_descriptors() {
    limit_fds(0);
    // SAFETY: a copy would end at once.
    match unsafe { fork() } {
        Ok(Forked::Child) => manycore::process::exit_at_once(1),
        outcome => assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EMFILE)),
    }
    assert_eq!(role("none", &[]).spawn().unwrap_err().raw_os_error(), Some(libc::EMFILE));
    // SAFETY: no pointer is given.
    assert_eq!(unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) }, -1, "a child is left");
    // One is enough.
    limit_fds(1);
    assert_eq!(forked(|| 0).wait(None).unwrap().code(), Some(0));
}

#[test]
fn dropping_a_child_does_not_end_it() {
    let _watchdog = Watchdog::new();
    let child = forked(|| pause());
    let sentinel = child.sentinel().try_clone_to_owned().unwrap();
    let pid = child.pid().cast_signed();
    assert!(sentinel.as_raw_fd() >= 0);
    drop(child);
    // SAFETY: no pointer is given; the pid is that of our child, not waited for yet.
    unsafe {
        assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG), 0);
        assert_eq!(libc::kill(pid, libc::SIGKILL), 0);
        assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
    }
}
