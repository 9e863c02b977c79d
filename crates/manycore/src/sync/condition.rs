//! Wait for something that changes under a lock, and tell those who wait.

use std::time::Instant;

use super::Mutex;
use super::owner;
use super::patience::Patience;
use super::shared::{Layout, Shared};
use crate::memory::Block;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, futex};
use crate::{Error, Result};

/// One waiting thread.
#[repr(C)]
pub(super) struct Slot {
    /// The waiting thread (see `owner::thread`). Of use unless the state is `FREE`.
    owner: AtomicU64,
    /// The order in which they came.
    ticket: AtomicU32,
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | `FREE` | `WAITING` | its owner, with the lock | enters |
    /// | `WAITING` | `NOTIFIED` | a notifier, with the lock | tells it, then wakes it |
    /// | `WAITING` or `NOTIFIED` | `FREE` | its owner | leaves |
    /// | `WAITING` or `NOTIFIED` | `FREE` | others, with the lock | found its owner dead |
    state: AtomicU32,
}

const FREE: u32 = 0;
const WAITING: u32 = 1;
const NOTIFIED: u32 = 2;

/// A notification belongs to one slot: nobody else can take it, nobody wakes without one, and
/// one that meets a dead waiter goes to the next. All but `state` is only changed with the lock
/// held that belongs to the condition.
#[repr(C)]
struct RawCondition {
    /// The next ticket, wrapping.
    tickets: AtomicU32,
    /// All slots from here on are free.
    used: AtomicU32,
    _reserved: AtomicU64,
    slots: [Slot; SLOTS],
}

/// As many as fit into 16 KiB, of which only the pages are real that somebody waited in.
const SLOTS: usize = 1023;

// SAFETY: repr(C), nothing but atomics, nobody waits when zero.
unsafe impl Layout for RawCondition {}

impl Slot {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { owner: AtomicU64::new(0), ticket: AtomicU32::new(0), state: AtomicU32::new(FREE) }
    }

    fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Relaxed) == WAITING
    }

    fn is_of(&self, thread: u64) -> bool {
        self.state.load(Ordering::Relaxed) != FREE && self.owner.load(Ordering::Relaxed) == thread
    }

    fn is_of_dead(&self) -> bool {
        owner::is_dead(owner::process_of(self.owner.load(Ordering::Relaxed)))
    }

    fn age(&self, tickets: u32) -> u32 {
        tickets.wrapping_sub(self.ticket.load(Ordering::Relaxed))
    }

    /// Makes the slot somebody's; complete with the last store, should we be killed here.
    pub(super) fn occupy(&self, owner: u64, ticket: u32) {
        self.owner.store(owner, Ordering::Relaxed);
        self.ticket.store(ticket, Ordering::Relaxed);
        self.state.store(WAITING, Ordering::Relaxed);
    }

    /// Whether the waiter was told before the deadline.
    pub(super) fn sleep(&self, deadline: Option<Instant>) -> Result<bool> {
        let mut patience = Patience::new();
        // Relaxed: what was done before the notification is seen through the lock.
        while self.is_waiting() {
            match patience.sleep(&self.state, WAITING, deadline) {
                Err(error) if error.is_timeout() => return Ok(!self.is_waiting()),
                slept => slept?,
            };
        }
        Ok(true)
    }

    /// Tells the waiter. False if it is dead, and then the slot is free, or gave up.
    pub(super) fn notify(&self) -> bool {
        let told =
            self.state.compare_exchange(WAITING, NOTIFIED, Ordering::Relaxed, Ordering::Relaxed);
        if told.is_err() {
            return false;
        }
        // One that the kernel did not find asleep is on its way to or from there, or dead.
        let told = futex::wake(&self.state, 1) == 1 || !self.is_of_dead();
        if !told {
            self.state.store(FREE, Ordering::Relaxed);
        }
        told
    }
}

impl RawCondition {
    fn used(&self) -> &[Slot] {
        let used = self.used.load(Ordering::Relaxed) as usize;
        &self.slots[..used.min(SLOTS)]
    }

    /// The calling thread's slot, the newest if a signal handler waits inside a wait.
    fn mine(&self) -> Option<&Slot> {
        let me = owner::thread();
        let tickets = self.tickets.load(Ordering::Relaxed);
        self.used().iter().filter(|slot| slot.is_of(me)).min_by_key(|slot| slot.age(tickets))
    }

    /// The slot of the thread that waits longest.
    fn oldest(&self) -> Option<&Slot> {
        let tickets = self.tickets.load(Ordering::Relaxed);
        self.used().iter().filter(|slot| slot.is_waiting()).max_by_key(|slot| slot.age(tickets))
    }

    /// A free slot, if need be that of somebody who died.
    fn vacant(&self) -> Option<&Slot> {
        let is_free = |slot: &&Slot| slot.state.load(Ordering::Relaxed) == FREE;
        if let Some(slot) = self.used().iter().find(is_free) {
            return Some(slot);
        }
        let used = self.used().len();
        if used == SLOTS {
            return self.slots.iter().find(|slot| slot.is_of_dead());
        }
        self.used.store(used as u32 + 1, Ordering::Relaxed);
        Some(&self.slots[used])
    }

    fn shrink(&self) {
        let is_taken = |slot: &Slot| slot.state.load(Ordering::Relaxed) != FREE;
        let used = self.used().iter().rposition(is_taken).map_or(0, |last| last + 1);
        self.used.store(used as u32, Ordering::Relaxed);
    }
}

/// A condition variable between processes. The lock that belongs to it is the caller's affair,
/// or a [`Mutex`] with [`wait`](Self::wait).
///
/// To wait: [`enter`](Self::enter) with the lock, unlock, [`sleep`](Self::sleep), lock,
/// [`leave`](Self::leave), all in one thread.
#[derive(Clone, Debug)]
pub struct Condition {
    raw: Shared<RawCondition>,
}

impl Condition {
    /// How many threads can wait at the same time.
    pub const MAX_WAITERS: usize = SLOTS;

    /// A condition in a block of its own.
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or address space.
    pub fn new() -> Result<Self> {
        Ok(Self { raw: Shared::new()? })
    }

    /// The condition that another process has in `block`; a new one if the block is zeroed.
    ///
    /// # Errors
    ///
    /// The block is too short.
    pub fn from_block(block: Block) -> Result<Self> {
        Ok(Self { raw: Shared::from_block(block)? })
    }

    /// Where the condition lies, to hand it to another process.
    #[must_use]
    pub fn block(&self) -> &Block {
        self.raw.block()
    }

    /// Makes the calling thread one that waits; it holds the lock.
    ///
    /// # Errors
    ///
    /// [`Error::is_misuse`] if [`MAX_WAITERS`](Self::MAX_WAITERS) threads wait already.
    pub fn enter(&self) -> Result<()> {
        let slot = self.raw.vacant().ok_or_else(|| {
            Error::misuse(format!("more than {SLOTS} threads wait for one condition"))
        })?;
        let ticket = self.raw.tickets.load(Ordering::Relaxed);
        slot.occupy(owner::thread(), ticket);
        self.raw.tickets.store(ticket.wrapping_add(1), Ordering::Relaxed);
        Ok(())
    }

    /// Sleeps until somebody notifies this thread: `true`, or until the deadline: `false`. The
    /// lock is not held.
    ///
    /// # Errors
    ///
    /// [`Error::is_interrupted`]: sleep again or leave. [`Error::is_misuse`] if the thread has
    /// not entered.
    pub fn sleep(&self, deadline: Option<Instant>) -> Result<bool> {
        self.raw.mine().ok_or_else(not_entered)?.sleep(deadline)
    }

    /// Ends the calling thread's wait; it holds the lock again. `notified` is what `sleep` said,
    /// false if it failed. Whether the thread was notified: also if that came after the end of
    /// its sleep.
    pub fn leave(&self, notified: bool) -> bool {
        let notified = self.give_up() || notified;
        self.raw.shrink();
        notified
    }

    /// As `leave`, for a thread that could not get the lock again.
    fn give_up(&self) -> bool {
        self.raw.mine().is_some_and(|slot| slot.state.swap(FREE, Ordering::Relaxed) == NOTIFIED)
    }

    /// How many threads have entered and not left, notified ones too. Without the lock it is a
    /// glimpse.
    #[must_use]
    pub fn waiters(&self) -> usize {
        let is_taken = |slot: &&Slot| slot.state.load(Ordering::Relaxed) != FREE;
        self.raw.used().iter().filter(is_taken).count()
    }

    /// Tells the `n` threads that wait longest; the caller holds the lock. How many it told.
    pub fn notify(&self, n: u32) -> u32 {
        let mut told = 0;
        while told < n {
            match self.raw.oldest() {
                Some(slot) => told += u32::from(slot.notify()),
                None => break,
            }
        }
        told
    }

    /// Tells all threads that wait; the caller holds the lock. How many it told.
    pub fn notify_all(&self) -> u32 {
        let waiting = self.raw.used().iter().filter(|slot| slot.is_waiting());
        waiting.map(|slot| u32::from(slot.notify())).sum()
    }

    /// Unlocks `mutex`, sleeps until somebody notifies this thread, and locks again. False if
    /// the deadline passed before.
    ///
    /// # Errors
    ///
    /// With the mutex held: [`Error::is_interrupted`], [`Error::is_misuse`] if it was not locked
    /// or too many wait. Without: [`Error::dead_owner`] if its holder died meanwhile.
    pub fn wait(&self, mutex: &Mutex, deadline: Option<Instant>) -> Result<bool> {
        if !mutex.is_locked() {
            return Err(Error::misuse("the lock is not held"));
        }
        self.enter()?;
        mutex.unlock()?;
        let slept = self.sleep(deadline);
        if let Err(error) = lock_through_signals(mutex) {
            self.give_up();
            return Err(error);
        }
        if self.leave(matches!(slept, Ok(true))) { Ok(true) } else { slept }
    }
}

#[cold]
fn not_entered() -> Error {
    Error::misuse("this thread does not wait for the condition")
}

fn lock_through_signals(mutex: &Mutex) -> Result<()> {
    loop {
        match mutex.lock(None) {
            Err(error) if error.is_interrupted() => {}
            locked => return locked,
        }
    }
}
