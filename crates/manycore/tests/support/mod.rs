//! What the tests with several processes need.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use manycore::channel::Queue;

/// A forked child; killed and reaped when dropped.
pub(crate) struct Child {
    pid: i32,
}

/// Runs `f` in a forked child, which ends with 0, or with 101 if `f` panics.
pub(crate) fn fork(f: impl FnOnce()) -> Child {
    // SAFETY: the child runs `f`, which uses nothing of other threads, and ends without returning
    // into the test harness.
    match unsafe { libc::fork() } {
        0 => {
            let ok = catch_unwind(AssertUnwindSafe(f)).is_ok();
            // SAFETY: ends this process without running anything of the harness.
            unsafe { libc::_exit(if ok { 0 } else { 101 }) }
        }
        -1 => panic!("{}", std::io::Error::last_os_error()),
        pid => Child { pid },
    }
}

impl Child {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Kills the child, and does not come back before it is gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Waits for the child's end, which must be a good one.
    pub(crate) fn join(mut self) {
        assert_eq!(self.wait(), 0, "the child has failed");
    }

    /// Waits for a change of the child's state; gives its wait status.
    pub(crate) fn wait(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: a plain system call with a pointer to a local.
        assert_eq!(unsafe { libc::waitpid(self.pid, &raw mut status, 0) }, self.pid);
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            self.pid = 0;
        }
        status
    }

    fn end(&mut self) {
        // SAFETY: a plain system call; the child is not reaped yet, so the pid is its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        while self.pid != 0 {
            self.wait();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.pid != 0 {
            self.end();
        }
    }
}

/// Ends the whole program unless it is dropped in time.
pub(crate) struct Watchdog {
    _done: Sender<()>,
}

pub(crate) fn watchdog(what: &'static str) -> Watchdog {
    let (done, is_done) = channel();
    thread::spawn(move || {
        if is_done.recv_timeout(Duration::from_secs(120)).err()
            == Some(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            eprintln!("{what} hangs");
            std::process::abort();
        }
    });
    Watchdog { _done: done }
}

pub(crate) fn soon(milliseconds: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(milliseconds))
}

/// Numbers that look random, the same ones in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// An item of `len` bytes that shows who made it, which one it is, and whether it is whole.
pub(crate) fn item(maker: u32, number: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = [maker, number].iter().flat_map(|n| n.to_le_bytes()).collect();
    // 251 is prime, so a piece that is missing or in the wrong place shows.
    let pattern: Vec<u8> = (0..251).map(|i| i ^ number as u8).collect();
    bytes.extend_from_slice(&pattern.repeat(len / pattern.len() + 1)[..len]);
    bytes
}

/// The maker and the number of a whole item.
pub(crate) fn check(bytes: &[u8]) -> (u32, u32) {
    let number = |i: usize| u32::from_le_bytes(bytes[i * 4..][..4].try_into().unwrap());
    let (maker, number) = (number(0), number(1));
    assert!(bytes == item(maker, number, bytes.len() - 8), "item {number} of {maker} is damaged");
    (maker, number)
}

/// How much memory the log has.
pub(crate) fn log_memory(queue: &Queue) -> u64 {
    let log = queue.share().unwrap().log;
    // SAFETY: `fstat` fills in the zeroed struct.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(log.as_raw_fd(), &raw mut stat), 0);
        stat.st_blocks as u64 * 512
    }
}
