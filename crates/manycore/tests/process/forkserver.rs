//! The fork server and its children.

use std::io::{PipeWriter, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use manycore::process::{Child, ForkServer, Served, exit_at_once, fork, lifeline, serve};

use crate::support::{
    self, Stranger, Watchdog, Words, bit, forked, given, limit_fds, open_fds, own, pause, role,
    run_role, tell,
};

const CONTROL: &str = "MANYCORE_TEST_CONTROL";
const LINE: &str = "MANYCORE_TEST_LINE";

fn start() -> ForkServer {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut manycore::process::Command<'_>)) -> ForkServer {
    ForkServer::start(|control| {
        let mut command = server_command(control);
        change(&mut command);
        command
    })
    .unwrap()
}

fn server_command(control: i32) -> manycore::process::Command<'static> {
    let line = lifeline::line().unwrap().as_raw_fd();
    let mut command = role("server", &[]);
    command.env(CONTROL, control.to_string()).env(LINE, line.to_string());
    command
}

fn number(name: &str) -> Option<i32> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

pub(crate) fn server() {
    let line = own(number(LINE).unwrap());
    lifeline::watch(line.as_fd(), Duration::ZERO).unwrap();
    if let Some(count) = number("ROOM") {
        limit_fds(count.try_into().unwrap());
    }
    let control = own(number(CONTROL).unwrap());
    // SAFETY: the threads of the test harness and its locks play no part in the copies.
    match unsafe { serve(control, &mut || fork()) }.unwrap() {
        Served::Ended => exit_at_once(0),
        Served::Child { request, fds } => exit_at_once(child(line.as_fd(), &request, fds)),
    }
}

/// What a child does at a request: a word and a number.
fn child(line: BorrowedFd<'_>, request: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let request = str::from_utf8(request).unwrap();
    match request.split_once(' ').unwrap() {
        ("exit", code) => return code.parse().unwrap(),
        ("wait", code) => {
            support::wait_for_end(&fds[0]);
            return code.parse().unwrap();
        }
        ("pause", _) => pause(),
        ("listen", _) => {
            lifeline::watch(line, Duration::ZERO).unwrap();
            pause();
        }
        ("long", text) => {
            let whole = text == "x".repeat((64 << 10) - 6) && fds.len() == 252;
            return i32::from(whole);
        }
        ("fds", _) => tell(&fds[0], open_fds().try_into().unwrap()),
        ("flags", _) => fds.iter().for_each(|fd| tell(&fds[0], flags(fd))),
        ("ignored", _) => {
            tell(&fds[0], ignored());
        }
        (other, _) => panic!("no request {other}"),
    }
    0
}

/// Which of the two signals that a server handles in its own way this process ignores.
fn ignored() -> u32 {
    let ignored = support::signals("SigIgn") & (bit(libc::SIGINT) | bit(libc::SIGCHLD));
    ignored.try_into().unwrap()
}

fn flags(fd: &OwnedFd) -> u32 {
    u32::from(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC))
}

/// A child that ends with `code` when the pipe ends of which the test keeps this end.
fn waiting(server: &ForkServer, code: i32) -> (Child, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    (server.fork(format!("wait {code}").as_bytes(), &[reader.as_fd()]).unwrap(), writer)
}

#[test]
fn children_end_as_they_are_told() {
    let _watchdog = Watchdog::new();
    let server = start();
    assert_eq!(server.process().try_wait().unwrap(), None);
    for code in [0, 3, 255] {
        let child = server.fork(format!("exit {code}").as_bytes(), &[]).unwrap();
        assert_ne!(child.pid(), server.pid());
        assert_eq!(child.wait(None).unwrap().code(), Some(code));
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(code));
    }
    let child = server.fork(b"pause 0", &[]).unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert!(child.wait(support::soon(1)).unwrap_err().is_timeout());
    child.signal(libc::SIGTERM).unwrap();
    assert_eq!(child.wait(None).unwrap().signal(), Some(libc::SIGTERM));
    child.signal(libc::SIGTERM).unwrap();
}

#[test]
fn once_the_sentinel_is_readable_the_status_is_there() {
    let _watchdog = Watchdog::new();
    let server = start();
    for _ in 0..100 {
        let child = server.fork(b"exit 9", &[]).unwrap();
        support::wait_readable(child.sentinel());
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(9));
    }
}

#[test]
fn descriptors_arrive_close_on_exec_and_nothing_else_does() {
    let _watchdog = Watchdog::new();
    let mut words = Words::new();
    let server = start();
    let fds = [words.writer.as_fd(); 3];
    let child = server.fork(b"flags 0", &fds).unwrap();
    assert_eq!([words.next(), words.next(), words.next()], [1, 1, 1]);
    assert_eq!(child.wait(None).unwrap().code(), Some(0));

    // However many children live and have lived.
    let mut counts = Vec::new();
    let mut living = Vec::new();
    for _ in 0..10 {
        server.fork(b"fds 0", &[words.writer.as_fd()]).unwrap().wait(None).unwrap();
        counts.push(words.next());
        living.push(waiting(&server, 0));
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn interrupt_and_child_signals_are_restored_in_children() {
    let _watchdog = Watchdog::new();
    let mut words = Words::new();
    let server = start();
    let child = server.fork(b"ignored 0", &[words.writer.as_fd()]).unwrap();
    assert_eq!(words.next(), ignored());
    assert_eq!(child.wait(None).unwrap().code(), Some(0));
    server.process().signal(libc::SIGINT).unwrap();
    assert_eq!(server.fork(b"exit 4", &[]).unwrap().wait(None).unwrap().code(), Some(4));
}

#[test]
fn statuses_come_in_any_order() {
    let _watchdog = Watchdog::new();
    let server = start();
    let (children, mut pipes): (Vec<_>, Vec<_>) =
        (0..20).map(|code| waiting(&server, code)).unzip();
    thread::scope(|scope| {
        for (code, child) in (0..).zip(&children) {
            for _ in 0..2 {
                scope.spawn(move || assert_eq!(child.wait(None).unwrap().code(), Some(code)));
            }
        }
        while let Some(last) = pipes.pop() {
            drop(last);
            children[pipes.len()].wait(None).unwrap();
        }
    });
}

#[test]
fn many_threads_may_ask_at_once() {
    let _watchdog = Watchdog::new();
    let server = start();
    thread::scope(|scope| {
        for code in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for _ in 0..25 {
                    let child = server.fork(format!("exit {code}").as_bytes(), &[]).unwrap();
                    assert_eq!(child.wait(None).unwrap().code(), Some(code));
                }
            });
        }
    });
}

#[test]
fn a_killed_server_is_found_out() {
    let _watchdog = Watchdog::new();
    let server = start();
    let told = server.fork(b"exit 3", &[]).unwrap();
    assert_eq!(told.wait(None).unwrap().code(), Some(3));
    let (child, pipe) = waiting(&server, 5);
    server.process().signal(libc::SIGKILL).unwrap();
    assert_eq!(server.process().wait(None).unwrap().signal(), Some(libc::SIGKILL));
    assert!(server.fork(b"exit 0", &[]).unwrap_err().is_closed());
    assert_eq!(told.wait(None).unwrap().code(), Some(3));
    // The child lives on; only nobody knows how it will have ended.
    assert_eq!(child.try_wait().unwrap(), None);
    drop(pipe);
    assert_eq!(child.wait(None).unwrap().exitcode(), 255);
    assert_eq!(child.try_wait().unwrap().unwrap().exitcode(), 255);
}

#[test]
fn a_server_killed_at_any_moment_never_leaves_us_waiting() {
    let _watchdog = Watchdog::new();
    for round in 0..30 {
        let server = start();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let children = thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut children = Vec::new();
                loop {
                    match server.fork(b"exit 6", &[]) {
                        Ok(child) => children.push(child),
                        Err(error) => {
                            assert!(error.is_closed(), "{error}");
                            return children;
                        }
                    }
                    let _ = ready.send(());
                }
            });
            (0..round).for_each(|_| is_ready.recv().unwrap());
            server.process().signal(libc::SIGKILL).unwrap();
            asking.join().unwrap()
        });
        assert!(children.len() >= round);
        for child in children {
            let code = child.wait(None).unwrap().exitcode();
            assert!(code == 6 || code == 255, "{code}");
        }
    }
}

#[test]
fn who_has_seen_the_sentinel_need_not_wait_for_the_status() {
    let _watchdog = Watchdog::new();
    let server = start();
    for _ in 0..100 {
        let child = server.fork(b"exit 4", &[]).unwrap();
        support::wait_readable(child.sentinel());
        assert_eq!(child.wait(support::soon(0)).unwrap().code(), Some(4));
    }
}

#[test]
fn a_server_ends_with_its_last_child() {
    let _watchdog = Watchdog::new();
    let server = start();
    let sentinel = server.process().sentinel().try_clone_to_owned().unwrap();
    let (child, pipe) = waiting(&server, 8);
    drop(server);
    drop(pipe);
    assert_eq!(child.wait(None).unwrap().code(), Some(8));
    support::wait_readable(sentinel.as_fd());

    let server = start();
    assert_eq!(server.stop(None).unwrap().code(), Some(0));
    assert!(server.fork(b"exit 0", &[]).unwrap_err().is_closed());
}

#[test]
fn a_forked_copy_cannot_use_the_server_nor_end_it() {
    let _watchdog = Watchdog::new();
    let mut server = Some(start());
    let copy = forked(|| {
        let server = server.take().unwrap();
        let refused = server.fork(b"exit 0", &[]).is_err_and(|error| error.is_inherited())
            && server.stop(None).is_err_and(|error| error.is_inherited());
        drop(server);
        i32::from(!refused)
    });
    assert_eq!(copy.wait(None).unwrap().code(), Some(0));
    let child = server.unwrap().fork(b"exit 2", &[]).unwrap();
    assert_eq!(child.wait(None).unwrap().code(), Some(2));
}

#[test]
fn the_servers_death_shows_though_others_hold_its_end() {
    let _watchdog = Watchdog::new();
    let mut held = None;
    let server = ForkServer::start(|control| {
        // SAFETY: the number is that of a descriptor which is open during this call.
        let end = unsafe { BorrowedFd::borrow_raw(control) };
        held = Some(end.try_clone_to_owned().unwrap());
        server_command(control)
    })
    .unwrap();
    let child = server.fork(b"pause 0", &[]).unwrap();
    thread::scope(|scope| {
        // Also for those who wait for a reply at that moment.
        let asking = scope.spawn(|| while server.fork(b"exit 0", &[]).is_ok() {});
        server.process().signal(libc::SIGKILL).unwrap();
        asking.join().unwrap();
    });
    assert!(server.fork(b"exit 0", &[]).unwrap_err().is_closed());
    child.signal(libc::SIGKILL).unwrap();
    assert_eq!(child.wait(None).unwrap().exitcode(), 255);
    drop(held);
}

#[test]
fn requests_that_are_too_large_are_refused() {
    let _watchdog = Watchdog::new();
    let server = start();
    assert!(server.fork(&[b' '; 64 << 10], &[]).unwrap_err().is_misuse());
    let null = std::fs::File::open("/dev/null").unwrap();
    assert!(server.fork(b"exit 0", &vec![null.as_fd(); 253]).unwrap_err().is_misuse());
    // What may be asked for arrives whole.
    let mut request = b"long ".to_vec();
    request.resize((64 << 10) - 1, b'x');
    let child = server.fork(&request, &vec![null.as_fd(); 252]).unwrap();
    assert_eq!(child.wait(None).unwrap().code(), Some(1));
}

#[test]
fn a_server_without_room_for_the_descriptors_refuses() {
    let _watchdog = Watchdog::new();
    let server = start_with(|command| {
        command.env("ROOM", "4");
    });
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = server.fork(b"exit 0", &[null.as_fd(); 10]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    for _ in 0..10 {
        assert_eq!(server.fork(b"exit 1", &[]).unwrap().wait(None).unwrap().code(), Some(1));
    }
}

#[test]
fn a_child_whose_descriptor_has_no_room_is_killed() {
    let _watchdog = Watchdog::new();
    run_role("server_no_room");
}

pub(crate) fn no_room() {
    let server = start();
    let words = Words::new();
    // One for the cell of the status, none for the pidfd.
    limit_fds(1);
    let error = server.fork(b"pause 0", &[words.writer.as_fd()]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    words.wait_for_end();
}

#[test]
fn many_children_leak_no_descriptor() {
    let _watchdog = Watchdog::new();
    run_role("server_many");
}

pub(crate) fn many() {
    let server = start();
    let in_server = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    assert_eq!(server.fork(b"exit 1", &[]).unwrap().wait(None).unwrap().code(), Some(1));
    let before = open_fds();
    let before_in_server = in_server();
    for _ in 0..300 {
        assert_eq!(server.fork(b"exit 1", &[]).unwrap().wait(None).unwrap().code(), Some(1));
    }
    assert_eq!(open_fds(), before);
    // The server closes what belongs to a child just after it has told the status.
    assert!(in_server() <= before_in_server + 2);
}

/// A process with a server, which has a child.
pub(crate) fn parent() {
    let server = start();
    let child = server.fork(b"listen 0", &[]).unwrap();
    let mut words = std::fs::File::from(given(0));
    words.write_all(&server.pid().to_ne_bytes()).unwrap();
    words.write_all(&child.pid().to_ne_bytes()).unwrap();
    pause();
}

#[test]
fn server_and_children_die_with_the_parent() {
    let _watchdog = Watchdog::new();
    for _ in 0..10 {
        let mut words = Words::new();
        let parent = role("server_parent", &[words.writer.as_fd()]).spawn().unwrap();
        let members = [Stranger::new(words.next()), Stranger::new(words.next())];
        parent.signal(libc::SIGKILL).unwrap();
        members.iter().for_each(Stranger::wait);
        parent.wait(None).unwrap();
    }
}
