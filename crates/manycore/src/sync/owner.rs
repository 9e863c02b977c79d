//! Who holds something: a process in 31 bits, a thread in 64, and whether that process still lives.

use std::cell::Cell;

use crate::primitive::Ordering;
use crate::primitive::fixed::AtomicU64;
use crate::sys::{fork, liveness};

/// The bits of a process's tag: its id, and above it a hash of when it began, so that a later
/// process with the same id is not taken for it. Bit 31 is free for the user of the tag.
pub(super) const TAG: u32 = (1 << 31) - 1;
/// Linux gives no process a number above 2^22 - 1.
const PID: u32 = (1 << PID_BITS) - 1;
const PID_BITS: u32 = 22;
/// What the hash is one of: 1 to 511, and 0 means that the start time is not known.
const HASHES: u64 = 511;

/// The tag of this process in the low half; in the high half the fork generation that it is for.
static OWN: AtomicU64 = AtomicU64::new(0);

/// The tag of this process, never 0.
#[inline]
pub(super) fn process() -> u32 {
    let cached = OWN.load(Ordering::Relaxed);
    if (cached >> 32) as u32 == fork::generation() as u32 { cached as u32 } else { process_slow() }
}

#[cold]
fn process_slow() -> u32 {
    let pid = fork::pid();
    let tag = pid & PID | hash(liveness::start_time(pid)) << PID_BITS;
    OWN.store((fork::generation() & u64::from(u32::MAX)) << 32 | u64::from(tag), Ordering::Relaxed);
    tag
}

fn hash(start_time: Option<u64>) -> u32 {
    // Neighbouring start times differ in the low bits, so a remainder tells them apart.
    start_time.map_or(0, |ticks| (ticks % HASHES) as u32 + 1)
}

/// The process id in a tag.
pub(super) fn pid(tag: u32) -> u32 {
    tag & PID
}

/// Whether the process with this tag has ended. A few system calls, none for the caller's own.
#[cold]
pub(super) fn is_dead(tag: u32) -> bool {
    let tag = tag & TAG;
    if tag == process() {
        return false;
    }
    let known = tag >> PID_BITS;
    !liveness::lives(pid(tag), |began| known == 0 || known == hash(Some(began)))
}

/// Threads of this process that have asked for their name.
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// The calling thread among all threads of all living processes, never 0: its process's tag in
/// the high 31 bits, in the low 33 a number that the process gives to no other thread.
///
/// In a fork the forking thread keeps its number, and the tag makes the name a new one.
#[inline]
pub(super) fn thread() -> u64 {
    let number = match THREAD.get() {
        0 => number_thread(),
        number => number,
    };
    u64::from(process()) << 33 | number
}

#[cold]
fn number_thread() -> u64 {
    let number = THREADS.fetch_add(1, Ordering::Relaxed) + 1;
    THREAD.set(number);
    number
}

/// The tag of the process that a thread's name belongs to.
pub(super) fn process_of(thread: u64) -> u32 {
    (thread >> 33) as u32
}
