//! Being told that a child has ended.

use std::sync::mpsc::{Sender, channel};

use manycore::process::Child;
use manycore::process::watch::{Watch, on_exit};

use crate::support::{Watchdog, forked, idle, run_role, signals_in};

fn tell_end<T: Send + 'static>(child: &Child, to: &Sender<T>, what: T) -> Watch {
    let to = to.clone();
    on_exit(child, Box::new(move || to.send(what).unwrap())).unwrap()
}

#[test]
fn the_end_of_every_child_is_told_once() {
    let _watchdog = Watchdog::new();
    let (to, ends) = channel();
    let children: Vec<_> = (0..100).map(|_| idle()).collect();
    let watches: Vec<_> =
        children.iter().enumerate().map(|(index, child)| tell_end(child, &to, index)).collect();
    for child in children.iter().rev() {
        child.signal(libc::SIGKILL).unwrap();
    }
    drop(to);
    let mut told: Vec<_> = ends.iter().collect();
    told.sort_unstable();
    assert_eq!(told, (0..100).collect::<Vec<_>>());
    drop(watches);
    children.iter().for_each(|child| assert!(child.wait(None).is_ok()));
}

#[test]
fn a_child_that_has_ended_is_told_at_once() {
    let _watchdog = Watchdog::new();
    let child = forked(|| 0);
    child.wait(None).unwrap();
    let (to, ends) = channel();
    let _watch = tell_end(&child, &to, ());
    ends.recv().unwrap();
}

#[test]
fn a_watch_does_not_need_the_child_to_be_kept() {
    let _watchdog = Watchdog::new();
    let (to, ends) = channel();
    let child = idle();
    let pid = child.pid().cast_signed();
    let _watch = tell_end(&child, &to, ());
    drop(child);
    // SAFETY: the pid is that of our child, not waited for yet.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    ends.recv().unwrap();
    // SAFETY: no pointer is given.
    assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
}

#[test]
fn a_dropped_watch_tells_nothing() {
    let _watchdog = Watchdog::new();
    let (to, ends) = channel();
    let (dropped, kept) = (idle(), idle());
    drop(tell_end(&dropped, &to, "dropped"));
    let _watch = tell_end(&kept, &to, "kept");
    for child in [dropped, kept] {
        child.signal(libc::SIGKILL).unwrap();
        child.wait(None).unwrap();
    }
    // The thread that tells is one: what it told of the first would be here before.
    assert_eq!(ends.recv().unwrap(), "kept");
    assert!(ends.try_recv().is_err());
}

#[test]
fn a_panic_does_not_end_the_other_watches() {
    let _watchdog = Watchdog::new();
    let child = idle();
    let _panics = on_exit(&child, Box::new(|| panic!("on purpose"))).unwrap();
    let (to, ends) = channel();
    let _watch = tell_end(&child, &to, ());
    child.signal(libc::SIGKILL).unwrap();
    ends.recv().unwrap();
    child.wait(None).unwrap();
}

#[test]
fn the_thread_has_a_name_and_takes_no_signals() {
    let _watchdog = Watchdog::new();
    let child = forked(|| 0);
    let (to, ends) = channel();
    let report = move || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        to.send(status).unwrap();
    };
    let _watch = on_exit(&child, Box::new(report)).unwrap();
    let status = ends.recv().unwrap();
    assert!(status.starts_with("Name:\tmanycore-watch\n"), "{status}");
    // All but SIGKILL, SIGSTOP and the two that the C library keeps for itself.
    assert_eq!(signals_in(&status, "SigBlk") | 0x0000_0003_8004_0100, u64::MAX);
    child.wait(None).unwrap();
}

#[test]
fn a_forked_copy_has_watches_of_its_own() {
    let _watchdog = Watchdog::new();
    run_role("watch_copy");
}

pub(crate) fn copy() {
    let (to, ends) = channel();
    let child = idle();
    let mut watch = Some(tell_end(&child, &to, ()));
    let copy = forked(|| {
        assert!(on_exit(&child, Box::new(|| ())).unwrap_err().is_inherited());
        let grandchild = idle();
        let (to, ends) = channel();
        let _watch = tell_end(&grandchild, &to, ());
        drop(watch.take());
        grandchild.signal(libc::SIGKILL).unwrap();
        ends.recv().unwrap();
        grandchild.wait(None).unwrap().signal().unwrap()
    });
    assert_eq!(copy.wait(None).unwrap().code(), Some(libc::SIGKILL));
    // What the copy dropped is still there for us.
    assert!(ends.try_recv().is_err());
    child.signal(libc::SIGKILL).unwrap();
    ends.recv().unwrap();
    child.wait(None).unwrap();
}

#[test]
fn two_may_watch_the_same_child() {
    let _watchdog = Watchdog::new();
    let (to, ends) = channel();
    let child = idle();
    let _watches = [tell_end(&child, &to, 1), tell_end(&child, &to, 2)];
    child.signal(libc::SIGKILL).unwrap();
    let mut told = [ends.recv().unwrap(), ends.recv().unwrap()];
    told.sort_unstable();
    assert_eq!(told, [1, 2]);
    child.wait(None).unwrap();
}
