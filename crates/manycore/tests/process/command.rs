//! Programs.

use std::fs::File;
use std::io::{Read, pipe};
use std::os::fd::{AsFd, AsRawFd};

use manycore::process::Command;

use crate::support::{Watchdog, Words, bit, given, role, signals_in, tell};

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let error = Command::new("/no/such/program").spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    // As exec: PATH is not searched.
    let error = Command::new("sh").spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    let error = Command::new("/").spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
}

#[test]
fn text_that_no_program_can_get_is_refused() {
    assert!(Command::new("/bin/sh").arg("a\0b").spawn().unwrap_err().is_misuse());
    assert!(Command::new("/bin/sh").env("A=B", "").spawn().unwrap_err().is_misuse());
    assert!(Command::new("/bin/sh").env("", "").spawn().unwrap_err().is_misuse());
}

fn shell(script: &str) -> Command<'static> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

#[test]
fn the_environment_is_inherited_and_added_to() {
    let _watchdog = Watchdog::new();
    let path = std::env::var("PATH").unwrap();
    let mut command = shell(r#"test "$PATH" = "$OLD" && test "$NEW" = 2 && exit 5"#);
    command.env("OLD", path).env("NEW", "1").env("NEW", "2");
    assert_eq!(command.spawn().unwrap().wait(None).unwrap().code(), Some(5));

    let mut command =
        shell(r#"test "$PATH" = replaced && test "$(/usr/bin/env | /bin/grep -c ^PATH=)" = 1"#);
    command.env("PATH", "replaced");
    assert_eq!(command.spawn().unwrap().wait(None).unwrap().code(), Some(0));
}

#[test]
fn only_named_descriptors_are_handed_on() {
    let _watchdog = Watchdog::new();
    let mut words = Words::new();
    let unnamed = File::open("/dev/null").unwrap();
    let mut command = role("command_fds", &[words.writer.as_fd()]);
    let child = command.env("UNNAMED", unnamed.as_raw_fd().to_string()).spawn().unwrap();
    assert_eq!(words.next(), 17);
    assert_eq!(child.wait(None).unwrap().code(), Some(0));
}

pub(crate) fn fds() {
    let writer = given(0);
    let unnamed = std::env::var("UNNAMED").unwrap();
    let link = std::fs::read_link(format!("/proc/self/fd/{unnamed}"));
    assert!(link.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound));
    tell(writer, 17);
}

/// What /proc says of a program started by a thread that blocks SIGUSR1.
fn status_of_a_program() -> String {
    let (mut reader, writer) = pipe().unwrap();
    let mut command = shell(&format!("exec cat /proc/self/status >&{}", writer.as_raw_fd()));
    let child = {
        let _blocked = Blocked::new(libc::SIGUSR1);
        command.fd(writer.as_fd()).spawn().unwrap()
    };
    drop(command);
    drop(writer);
    let mut status = String::new();
    reader.read_to_string(&mut status).unwrap();
    assert_eq!(child.wait(None).unwrap().code(), Some(0));
    status
}

#[test]
fn no_signal_is_blocked_and_dispositions_stay() {
    let _watchdog = Watchdog::new();
    let status = status_of_a_program();
    assert_eq!(signals_in(&status, "SigBlk"), 0);
    // Rust programs ignore SIGPIPE, and this one is such a program.
    assert_eq!(signals_in(&status, "SigIgn") & bit(libc::SIGPIPE), bit(libc::SIGPIPE));
}

struct Blocked(libc::sigset_t);

impl Blocked {
    fn new(signo: i32) -> Self {
        // SAFETY: the sets are live, and zero is a valid one.
        unsafe {
            let mut set = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigaddset(&mut set, signo);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
            Self(before)
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set is the one that was there before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}
