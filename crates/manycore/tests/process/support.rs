//! What all the tests need.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use manycore::process::{Child, Command, Forked, exit_at_once, fork};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, getrlimit, pidfd_open, pidfd_send_signal, setrlimit,
};

pub(crate) const ROLE: &str = "MANYCORE_TEST_ROLE";
const FDS: &str = "MANYCORE_TEST_FDS";

/// Aborts the process, so that the test fails, if it is not dropped within a minute.
pub(crate) struct Watchdog {
    /// Closed by the drop, which the thread sees.
    _alive: Sender<()>,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        let (alive, dropped) = channel::<()>();
        thread::spawn(move || {
            if dropped.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("a test hangs");
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}

/// This binary in another role, with `fds` open.
pub(crate) fn role<'fd>(name: &str, fds: &[BorrowedFd<'fd>]) -> Command<'fd> {
    let numbers: Vec<_> = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["entry", "--exact", "--nocapture"]);
    command.env(ROLE, name).env(FDS, numbers.join(","));
    for fd in fds {
        command.fd(*fd);
    }
    command
}

/// Runs a role that is a test by itself.
pub(crate) fn run_role(name: &str) {
    let status = role(name, &[]).spawn().unwrap().wait(None).unwrap();
    assert_eq!(status.code(), Some(0), "{name}: {status}");
}

/// In a role: descriptor number `index` of those that were given.
pub(crate) fn given(index: usize) -> OwnedFd {
    let number = std::env::var(FDS).unwrap().split(',').nth(index).unwrap().parse().unwrap();
    own(number)
}

pub(crate) fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the callers were given this number and take it over, once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Forks a copy that runs `f` and ends with the code that it returns.
pub(crate) fn forked(f: impl FnOnce() -> i32) -> Child {
    // SAFETY: what the tests do in a copy is safe in a copy of a threaded process with glibc,
    // whose allocator is.
    match unsafe { fork() }.unwrap() {
        Forked::Parent(child) => child,
        Forked::Child => exit_at_once(f()),
    }
}

/// A copy that does nothing until it is killed.
pub(crate) fn idle() -> Child {
    forked(|| pause())
}

pub(crate) fn pause() -> ! {
    loop {
        // SAFETY: no requirements.
        unsafe { libc::pause() };
    }
}

pub(crate) fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

pub(crate) fn soon(millis: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(millis))
}

/// A pipe for words from another process.
pub(crate) struct Words {
    reader: PipeReader,
    pub(crate) writer: PipeWriter,
}

impl Words {
    pub(crate) fn new() -> Self {
        let (reader, writer) = pipe().unwrap();
        Self { reader, writer }
    }

    pub(crate) fn next(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.reader.read_exact(&mut bytes).unwrap();
        u32::from_ne_bytes(bytes)
    }

    /// Waits until nobody else has the end for writing; words that come are lost.
    pub(crate) fn wait_for_end(self) {
        let Self { mut reader, writer } = self;
        drop(writer);
        reader.read_to_end(&mut Vec::new()).unwrap();
    }
}

/// Waits until nobody has the other end of this pipe.
pub(crate) fn wait_for_end(pipe: &OwnedFd) {
    PipeReader::from(pipe.try_clone().unwrap()).read_to_end(&mut Vec::new()).unwrap();
}

pub(crate) fn wait_readable(fd: BorrowedFd<'_>) {
    while poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], None).is_err() {}
}

pub(crate) fn tell(to: impl AsFd, word: u32) {
    PipeWriter::from(to.as_fd().try_clone_to_owned().unwrap())
        .write_all(&word.to_ne_bytes())
        .unwrap();
}

/// A process that is not our child.
pub(crate) struct Stranger(OwnedFd);

impl Stranger {
    /// `pid` lives now.
    pub(crate) fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        Self(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    pub(crate) fn wait(&self) {
        wait_readable(self.0.as_fd());
    }

    pub(crate) fn kill(&self) {
        pidfd_send_signal(&self.0, Signal::KILL).unwrap();
    }

    pub(crate) fn lives(&self) -> bool {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&Default::default())).unwrap() == 0
    }
}

/// How many descriptors this process has open.
pub(crate) fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The bit mask that /proc shows for this process under `name`, for example `SigBlk`.
pub(crate) fn signals(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    signals_in(&status, name)
}

pub(crate) fn signals_in(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

pub(crate) fn bit(signo: i32) -> u64 {
    1 << (signo - 1)
}

/// Allows this process `count` descriptors more than it has open.
pub(crate) fn limit_fds(count: usize) {
    // SAFETY: asks about numbers, whatever they stand for.
    let is_free = |number: &i32| unsafe { libc::fcntl(*number, libc::F_GETFD) } < 0;
    // The limit is the number of the first one that is free and may not be had.
    let limit = (0..).filter(is_free).nth(count).unwrap();
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = Some(limit.cast_unsigned().into());
    setrlimit(Resource::Nofile, limits).unwrap();
}
