//! Nothing outlives its parent.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use manycore::process::{Child, Forked, fork, lifeline};

use crate::support::{
    Stranger, Watchdog, Words, forked, given, idle, pause, role, spin, tell, wait_readable,
};

/// What a child tells when it listens to its parent's line.
const LISTENS: u32 = 0;
/// What a child with a grace tells when it has seen that its parent is gone.
const NOTICED: u32 = u32::MAX;

/// A role, and the processes of which it tells: none of them our children.
struct Family {
    parent: Child,
    members: Vec<Stranger>,
    words: Words,
}

impl Family {
    /// Starts the role and waits until it has told the pids of `members` processes, and until
    /// at least `listening` of them listen.
    fn new(name: &str, grace: Duration, members: usize, listening: usize) -> Self {
        let words = Words::new();
        let mut command = role(name, &[words.writer.as_fd()]);
        let parent = command.env("GRACE", grace.as_millis().to_string()).spawn().unwrap();
        let mut family = Self { parent, members: Vec::new(), words };
        let mut heard = 0;
        while family.members.len() < members || heard < listening {
            match family.words.next() {
                LISTENS => heard += 1,
                pid => family.members.push(Stranger::new(pid)),
            }
        }
        family
    }

    fn kill_parent(&self) {
        self.parent.signal(libc::SIGKILL).unwrap();
        assert_eq!(self.parent.wait(None).unwrap().signal(), Some(libc::SIGKILL));
    }

    fn wait(&self) {
        self.members.iter().for_each(Stranger::wait);
    }
}

fn grace() -> Duration {
    Duration::from_millis(std::env::var("GRACE").unwrap().parse().unwrap())
}

/// In a role: a copy that listens to our line and goes on with `f`.
fn listener(words: BorrowedFd<'_>, f: impl FnOnce(BorrowedFd<'_>) -> i32) -> Child {
    let line = lifeline::line().unwrap();
    forked(|| {
        lifeline::watch(line, grace()).unwrap();
        tell(words, LISTENS);
        f(line)
    })
}

/// An idle and a busy child.
pub(crate) fn parent() {
    let words = given(0);
    for child in [listener(words.as_fd(), |_| pause()), listener(words.as_fd(), |_| spin())] {
        tell(&words, child.pid());
    }
    pause();
}

#[test]
fn idle_and_busy_children_die_with_their_parent() {
    let _watchdog = Watchdog::new();
    for round in 0..50 {
        // In turns at whatever moment, and when both listen.
        let family = Family::new("lifeline_parent", Duration::ZERO, 2, 2 * (round % 2));
        assert!(family.members.iter().all(Stranger::lives));
        family.kill_parent();
        family.wait();
        family.words.wait_for_end();
    }
}

/// A child that looks after its parent's end by itself, though every signal was blocked when it
/// was forked, and one that is busy.
pub(crate) fn graceful() {
    let words = given(0);
    // SAFETY: the set is live, and filled before it is read.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
    let notices = listener(words.as_fd(), |line| {
        wait_readable(line);
        tell(&words, NOTICED);
        pause()
    });
    tell(&words, notices.pid());
    tell(&words, listener(words.as_fd(), |_| spin()).pid());
    pause();
}

#[test]
fn with_a_grace_children_can_notice_and_die_all_the_same() {
    let _watchdog = Watchdog::new();
    for _ in 0..5 {
        let mut family = Family::new("lifeline_graceful", Duration::from_millis(100), 2, 2);
        family.kill_parent();
        assert_eq!(family.words.next(), NOTICED);
        family.wait();
    }
}

#[test]
fn a_grace_also_counts_when_the_parent_is_gone_already() {
    let _watchdog = Watchdog::new();
    for grace in [Duration::ZERO, Duration::from_millis(1)] {
        let (line, held) = std::io::pipe().unwrap();
        drop(held);
        let child = forked(|| {
            lifeline::watch(line.as_fd(), grace).unwrap();
            spin()
        });
        assert_eq!(child.wait(None).unwrap().signal(), Some(libc::SIGKILL));
    }
}

/// A chain: each watches the one before, and only the first is known to the test.
pub(crate) fn ancestor() {
    let words = given(0);
    for _ in 0..4 {
        let line = lifeline::line().unwrap();
        // SAFETY: this process does nothing in its other threads that a copy could miss.
        if let Forked::Parent(child) = unsafe { fork() }.unwrap() {
            tell(&words, child.pid());
            pause();
        }
        lifeline::watch(line, grace()).unwrap();
        tell(&words, LISTENS);
    }
    spin();
}

#[test]
fn grandchildren_die_too() {
    let _watchdog = Watchdog::new();
    for round in 0..10 {
        let grace = Duration::from_millis(round % 2);
        let family = Family::new("lifeline_ancestor", grace, 4, 4);
        family.kill_parent();
        family.wait();
    }
}

/// A child that listens, and then processes of all other kinds that could hold the line.
pub(crate) fn siblings() {
    let words = given(0);
    tell(&words, listener(words.as_fd(), |_| spin()).pid());
    tell(&words, idle().pid());
    tell(&words, raw_copy());
    #[expect(clippy::zombie_processes, reason = "it outlives us, and the test ends it")]
    let program = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    tell(&words, program.id());
    let program = manycore::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
    tell(&words, program.pid());
    pause();
}

#[test]
fn nobody_else_holds_the_line() {
    let _watchdog = Watchdog::new();
    let family = Family::new("lifeline_siblings", Duration::ZERO, 5, 1);
    family.kill_parent();
    let (listener, others) = family.members.split_first().unwrap();
    listener.wait();
    for other in others {
        assert!(other.lives());
        other.kill();
        other.wait();
    }
}

#[test]
fn a_copy_has_a_line_of_its_own() {
    let _watchdog = Watchdog::new();
    let ours = lifeline::line().unwrap();
    assert_eq!(inode(lifeline::line().unwrap()), inode(ours));
    let child = forked(|| i32::from(inode(lifeline::line().unwrap()) == inode(ours)));
    assert_eq!(child.wait(None).unwrap().code(), Some(0));
}

fn inode(fd: BorrowedFd<'_>) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

/// Makes the line while another thread forks copies that do nothing but live.
pub(crate) fn race() {
    let words = given(0);
    let listener = std::thread::scope(|scope| {
        scope.spawn(|| (0..20).for_each(|_| tell(&words, raw_copy())));
        let line = lifeline::line().unwrap();
        forked(|| {
            lifeline::watch(line, Duration::ZERO).unwrap();
            pause()
        })
    });
    tell(&words, listener.pid());
    pause();
}

/// A copy made as a program would that knows nothing of us.
fn raw_copy() -> u32 {
    // SAFETY: the copy only pauses.
    match unsafe { libc::fork() } {
        0 => pause(),
        pid => pid.cast_unsigned(),
    }
}

#[test]
fn a_line_made_during_forks_is_not_copied() {
    let _watchdog = Watchdog::new();
    for _ in 0..20 {
        let family = Family::new("lifeline_race", Duration::ZERO, 21, 0);
        family.kill_parent();
        let (listener, copies) = family.members.split_last().unwrap();
        listener.wait();
        copies.iter().for_each(Stranger::kill);
        family.wait();
    }
}
