//! A queue between any number of processes: what is put into it stays, whoever dies.
//!
//! `put` never depends on a reader, unless the queue was made for a limited number of items: what
//! does not fit into the ring of shared memory goes to a log, a file in memory. A process that has
//! put an item may end at once.
//!
//! # How it works
//!
//! Two locks: those who put hold one, those who get the other, so that one of each can copy at
//! the same time. Each lock guards a [record](record::Record) of a few numbers: where the queue
//! ends and where it begins. An item goes to the ring, or to the log if the log has unread items,
//! or if the ring is too full or the item too long. So the ring's items are always older than the
//! log's: get takes from the ring first.
//!
//! | step of `put`, under the putting lock | a kill after it leaves |
//! |---|---|
//! | 1. look where the queue begins | nothing changed |
//! | 2. copy the item behind the end | bytes that nobody looks at |
//! | 3. wake all who sleep for an item | sleepers that look, find nothing, and sleep again |
//! | 4. publish the record: one store | the item in the queue |
//! | 5. unlock | |
//!
//! | step of `get`, under the getting lock | a kill after it leaves |
//! |---|---|
//! | 1. look where the queue ends | nothing changed |
//! | 2. copy the first item out | nothing changed |
//! | 3. give back memory of earlier items | nothing changed, they were taken |
//! | 4. wake all who sleep for room | sleepers that look, find no room, and sleep again |
//! | 5. publish the record: one store | the queue without the item, which was ours |
//! | 6. unlock | |
//!
//! # Why a kill at any instruction leaves the queue whole
//!
//! *The data.* All that counts is in the two records, and each changes by a single store. Before
//! the store the new item's bytes lie where nobody looks; the item that is being taken is still
//! there, and as long as it is neither ring nor log starts again at its beginning, so nobody
//! writes over it. The lock of a dead process is taken over by the next one that wants it, who
//! finds one state or the other, each whole.
//!
//! *The memory.* Before an item makes the log longer than an empty one may stay, the record is
//! told so, by a store of its own. Whoever finds the log empty cuts it, half items included.
//!
//! *The sleepers.* Nobody may sleep for ever while there is something for it, whoever is killed:
//!
//! 1. Who goes to sleep for an item makes itself known on the [bell](bell::Bell) of the putting
//!    side, under the putting lock and after it saw there that the queue is empty.
//! 2. Who changes that side does so under the same lock, and rings the bell **before** the change.
//!    It either sees the sleeper, or the sleeper came later and saw the change.
//! 3. Who was woken needs the putting lock before it can sleep again. So it waits for the one who
//!    rang: until that one has unlocked, or is found dead and its lock is taken over. Then the
//!    change is there or will never be.
//! 4. All are woken, so it does not matter if one of them is killed on the way.
//! 5. A ring that is cut short leaves the bit that tells of sleepers, and nothing was published.
//!
//! The same holds for those who wait for room, with the sides changed. No process holds both
//! locks, so there is no order to get wrong.
//!
//! # The lamp
//!
//! Who waits for other things besides needs a descriptor that is readable while there are items:
//! the [lamp](lamp::Lamp). Once somebody has asked for it, whoever has changed a side sets the lamp
//! to what the queue then is, under a third lock. Of several the last one sees the changes of all,
//! so the lamp is right as soon as they are through. One that is killed between its change and the
//! lamp leaves it as it was until the next change.

mod bell;
mod known;
mod lamp;
mod log;
#[cfg(all(test, loom))]
mod model;
mod record;
mod ring;
mod state;

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use self::bell::Ticket;
use self::known::Known;
use self::lamp::Lamp;
use self::log::Log;
use self::ring::{Ring, no_memory};
use self::state::{Header, Side, Taken, Written};
use super::Received;
use crate::memory::{Block, Descriptor, Segment};
use crate::primitive::Ordering;
use crate::sync::Expectation;
use crate::sys::file;
use crate::{Error, Result};

/// Where the ring begins in the segment: on a page of its own.
const RING: usize = 4 << 10;
const LEN: usize = RING + ring::SIZE as usize;
const MAGIC: u64 = u64::from_be_bytes(*b"mc queue");
/// How long a call whose deadline is near still waits for a lock, which is held for one copy.
const GRACE: Duration = Duration::from_secs(1);
/// From this length on a put lingers before it begins to use the log.
const LONG: u64 = 256 << 10;
/// How long it lingers at most. That happens once while the ring fills up, which takes as long.
const LINGER: Duration = Duration::from_millis(2);
/// How long it may take to give memory back that nobody needs.
const TIDY: Duration = Duration::from_millis(20);

/// A first-in first-out queue of byte strings between processes, unbounded or for at most so many
/// items. Many may put and many may get.
///
/// A forked copy of the process uses it as it is; another process [attaches](Queue::attach) it.
pub struct Queue {
    block: Block,
    ring: Ring,
    log: Log,
    lamp: Lamp,
    known: Known,
    /// How soon there are items, and room.
    items: Expectation,
    room: Expectation,
}

/// What there was to take.
#[derive(Debug)]
pub enum Took {
    /// Nothing, or it would have taken a wait to find out.
    Nothing,
    /// An item, all of it.
    Item,
    /// A longer item, which is still there.
    Long(Long),
}

/// An item that is to be taken with [`Queue::take_long`].
#[derive(Debug)]
pub struct Long {
    /// The number of items that were taken before it.
    number: u64,
    len: u64,
}

impl Long {
    /// The length of the item.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never true.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What another process needs to attach a queue, by `T`, which stands for a descriptor.
#[derive(Clone, Debug)]
pub struct Parts<T> {
    /// The shared memory.
    pub segment: T,
    /// The file that takes what the shared memory has no room for.
    pub log: T,
    /// What tells whether there are items.
    pub lamp: T,
}

impl<T> Parts<T> {
    /// Makes something of each.
    ///
    /// # Errors
    ///
    /// What `f` fails with.
    pub fn try_map<U, E>(
        self,
        mut f: impl FnMut(T) -> std::result::Result<U, E>,
    ) -> std::result::Result<Parts<U>, E> {
        let Self { segment, log, lamp } = self;
        Ok(Parts { segment: f(segment)?, log: f(log)?, lamp: f(lamp)? })
    }
}

impl Queue {
    /// Makes a queue for at most `maxsize` items; 0: any number.
    ///
    /// # Errors
    ///
    /// The system is out of memory, descriptors or address space.
    pub fn new(maxsize: u32) -> Result<Self> {
        let segment = Segment::new(LEN)?;
        let fd = segment.fd().ok_or_else(no_descriptor)?;
        file::reserve(fd, 0, RING as u64)?;
        let queue = Self::build(Block::in_segment(segment, 0, LEN)?, Log::new()?, Lamp::new()?)?;
        let header = queue.header();
        header.maxsize.store(maxsize.into(), Ordering::Relaxed);
        // Relaxed: handing the descriptors on orders what comes after.
        header.magic.store(MAGIC, Ordering::Relaxed);
        Ok(queue)
    }

    /// The queue that another process [shares](Self::share).
    ///
    /// # Errors
    ///
    /// The descriptors are not those of a queue, or there is no address space left.
    pub fn attach(parts: Parts<OwnedFd>) -> Result<Self> {
        let log = Log::of(Descriptor::new(parts.log));
        Self::build(Block::attach(parts.segment, 0, LEN)?, log, Lamp::attach(parts.lamp))?.check()
    }

    /// The queue that came with a message, from [`Self::share_descriptors`].
    ///
    /// # Errors
    ///
    /// As for [`Self::attach`]; or a descriptor was lost on the way.
    pub fn received(parts: &Parts<Received>) -> Result<Self> {
        let log = Log::of(parts.log.descriptor()?.clone());
        let lamp = Lamp::of(parts.lamp.descriptor()?.clone());
        Self::build(parts.segment.block(0, LEN)?, log, lamp)?.check()
    }

    fn check(self) -> Result<Self> {
        if self.header().magic.load(Ordering::Relaxed) != MAGIC {
            return Err(Error::corrupt("the shared memory of a queue"));
        }
        Ok(self)
    }

    fn build(block: Block, log: Log, lamp: Lamp) -> Result<Self> {
        const { assert!(size_of::<Header>() <= RING) };
        let ring = Ring::new(block.part(RING, ring::SIZE as usize)?)?;
        let (items, room) = (Expectation::new(), Expectation::new());
        Ok(Self { block, ring, log, lamp, known: Known::new(), items, room })
    }

    /// What another process needs to attach the queue.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn share(&self) -> Result<Parts<BorrowedFd<'_>>> {
        let (segment, _, _) = self.block.share()?;
        Ok(Parts { segment, log: self.log.fd(), lamp: self.lamp.fd() })
    }

    /// As [`Self::share`], for a message.
    ///
    /// # Errors
    ///
    /// As for [`Self::share`].
    pub fn share_descriptors(&self) -> Result<Parts<Descriptor>> {
        let (segment, _, _) = self.block.share_descriptor()?;
        let (log, lamp) = (self.log.descriptor().clone(), self.lamp.descriptor().clone());
        Ok(Parts { segment, log, lamp })
    }

    /// A descriptor that is readable while the queue has items, to wait for together with others.
    /// From the first call on, in whichever process, each change of the queue costs a system call
    /// more. Nothing is to be read from it.
    ///
    /// # Errors
    ///
    /// `is_interrupted`.
    pub fn readable(&self) -> Result<BorrowedFd<'_>> {
        Held::lock(&self.header().putting, None)?.watch();
        Held::lock(&self.header().getting, None)?.watch();
        self.set_lamp()?;
        Ok(self.lamp.fd())
    }

    /// Has the lamp say what is so now.
    #[cold]
    fn set_lamp(&self) -> Result<()> {
        let lock = &self.header().lamp;
        lock.lock_or_recover(None)?;
        let set = self.lamp.set(!self.is_empty());
        // It is held, so this cannot fail.
        let _ = lock.unlock();
        set
    }

    /// After a change of a side that is watched. The change stands, whatever becomes of the lamp.
    #[cold]
    fn set_lamp_through_signals(&self) {
        while self.set_lamp().is_err_and(|error| error.is_interrupted()) {}
    }

    /// Puts one item, which consists of `parts`, one after the other. Waits only while the queue
    /// has as many items as it may have.
    ///
    /// # Errors
    ///
    /// `is_timeout`: the queue is full; `is_interrupted`; or there is no memory for the item. In
    /// each case nothing was put.
    pub fn put(&self, parts: &[&[u8]], deadline: Option<Instant>) -> Result<()> {
        if length(parts) >= LONG {
            self.linger(length(parts));
        }
        while !self.try_put(parts, deadline)? {
            self.wait_for_room(deadline)?;
        }
        Ok(())
    }

    /// As [`put`](Self::put), but only if that needs no wait and is soon done. Whether it did.
    ///
    /// # Errors
    ///
    /// There is no memory for the item.
    pub fn put_now(&self, parts: &[&[u8]]) -> Result<bool> {
        if length(parts) >= LONG {
            return Ok(false);
        }
        match Held::lock_now(&self.header().putting) {
            Some(side) if !side.is_watched() => self.put_held(&side, parts),
            _ => Ok(false),
        }
    }

    /// Takes the first item; waits while there is none.
    ///
    /// # Errors
    ///
    /// `is_timeout`: the queue is empty; `is_interrupted`; or there is no memory for the item. In
    /// each case nothing was taken.
    pub fn get(&self, deadline: Option<Instant>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.get_into(&mut bytes, deadline)?;
        Ok(bytes)
    }

    /// As [`get`](Self::get), but into a vector whose memory is used again.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get). What `bytes` then holds is not specified.
    pub fn get_into(&self, bytes: &mut Vec<u8>, deadline: Option<Instant>) -> Result<()> {
        self.take(bytes, usize::MAX, deadline).map(drop)
    }

    /// Takes the first item if it has at most `most` bytes. If it is longer, `bytes` get the first
    /// `most` of them, and the item stays. Waits while there is none.
    ///
    /// # Errors
    ///
    /// As for [`get_into`](Self::get_into).
    pub fn take(
        &self,
        bytes: &mut Vec<u8>,
        most: usize,
        deadline: Option<Instant>,
    ) -> Result<Took> {
        loop {
            match self.try_take(bytes, most, deadline)? {
                Took::Nothing => self.wait_for_item(deadline)?,
                took => return Ok(took),
            }
        }
    }

    /// As [`take`](Self::take), but only if that needs no wait and is soon done.
    ///
    /// # Errors
    ///
    /// There is no memory for the item.
    pub fn take_now(&self, bytes: &mut Vec<u8>, most: usize) -> Result<Took> {
        match Held::lock_now(&self.header().getting) {
            Some(side) if !side.is_watched() => self.take_held(&side, bytes, most),
            _ => Ok(Took::Nothing),
        }
    }

    /// Takes an item that [`take`](Self::take) has left, and fills `parts` with it, one after the
    /// other. False if somebody else has taken it since.
    ///
    /// # Errors
    ///
    /// `is_interrupted`; or `parts` have not the length of the item.
    pub fn take_long(&self, long: &Long, parts: &mut [&mut [MaybeUninit<u8>]]) -> Result<bool> {
        if parts.iter().map(|part| part.len() as u64).sum::<u64>() != long.len {
            return Err(Error::misuse("the parts of an item have another length"));
        }
        let side = Held::lock(&self.header().getting, None)?;
        let mut taken = side.load();
        if taken.items != long.number {
            return Ok(false);
        }
        let written = self.known.written(self.header(), &taken);
        let first = self.first(&written, &taken)?;
        let mut from = 0;
        for part in parts {
            self.read(&written, &taken, &first, from, part)?;
            from += part.len() as u64;
        }
        self.drop_first(&written, &mut taken, &first);
        self.publish_taken(side, taken, &written);
        Ok(true)
    }

    /// How many items are in the queue. Others may change that at any time.
    #[must_use]
    pub fn len(&self) -> usize {
        // Taken first: whoever is not counted as taken was not yet, when we look at those put.
        let taken = self.header().getting.items();
        let written = self.header().putting.items();
        usize::try_from(written.saturating_sub(taken)).unwrap_or(usize::MAX)
    }

    /// Whether there was an instant, during this call, at which the queue had no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the queue had as many items as it may have. Always false for an unbounded one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let maxsize = self.maxsize();
        if maxsize == 0 {
            return false;
        }
        // Put first, the other way round than in `len`.
        let written = self.header().putting.items();
        let taken = self.header().getting.items();
        written.saturating_sub(taken) >= maxsize.into()
    }

    /// The most items at a time; 0: any number.
    #[must_use]
    pub fn maxsize(&self) -> u32 {
        let maxsize = self.header().maxsize.load(Ordering::Relaxed);
        u32::try_from(maxsize).unwrap_or(u32::MAX)
    }

    /// Gives those who get a moment to make room for an item of `len` bytes in the ring. The log
    /// costs three to four times as much, for its pages are new; and once it is in use, all goes
    /// there until it is empty.
    #[cold]
    fn linger(&self, len: u64) {
        let deadline = Some(Instant::now() + LINGER);
        let has_room = || !self.is_on_the_brink(len);
        // A signal, or no room in time: then it is the log.
        let getting = &self.header().getting;
        while !has_room() && self.wait(getting, &self.room, deadline, has_room).is_ok() {}
    }

    /// Whether an item of `len` bytes would be the first one in the log for lack of room.
    fn is_on_the_brink(&self, len: u64) -> bool {
        let taken = self.header().getting.snapshot();
        let written = self.header().putting.snapshot();
        taken.log_head == written.log_tail && Ring::takes(len) && !Ring::fits(&written, &taken, len)
    }

    /// Puts the item unless the queue is full. Whether it did.
    fn try_put(&self, parts: &[&[u8]], deadline: Option<Instant>) -> Result<bool> {
        let side = Held::lock(&self.header().putting, deadline)?;
        let put = self.put_held(&side, parts)?;
        let watched = put && side.is_watched();
        drop(side);
        if watched {
            self.set_lamp_through_signals();
        }
        Ok(put)
    }

    fn put_held(&self, side: &Held<'_, 7>, parts: &[&[u8]]) -> Result<bool> {
        let (len, maxsize) = (length(parts), self.maxsize());
        let mut written = side.load();
        let taken = self.known.taken(self.header(), &written, maxsize, len);
        if maxsize != 0 && written.items - taken.items >= maxsize.into() {
            return Ok(false);
        }
        self.push(side, &mut written, &taken, parts)?;
        side.publish(written);
        Ok(true)
    }

    /// Copies the item behind the end of the queue.
    fn push(
        &self,
        side: &Held<'_, 7>,
        written: &mut Written,
        taken: &Taken,
        parts: &[&[u8]],
    ) -> Result<()> {
        let len = length(parts);
        if taken.ring_head == written.ring_tail {
            written.ring_base = written.ring_tail;
        }
        let log_is_empty = taken.log_head == written.log_tail;
        if log_is_empty && (written.log_base != written.log_tail || Log::is_fat(written)) {
            self.log.restart(written);
        }
        if log_is_empty && Ring::fits(written, taken, len) {
            self.ring.push(written, len, parts)?;
        } else {
            if Log::fattens(written, len) {
                // Said before it is so: what a kill in the middle leaves will be given back.
                side.update(*written);
            }
            self.log.push(written, len, parts)?;
        }
        written.items += 1;
        Ok(())
    }

    /// Takes the first item unless there is none.
    fn try_take(
        &self,
        bytes: &mut Vec<u8>,
        most: usize,
        deadline: Option<Instant>,
    ) -> Result<Took> {
        let side = Held::lock(&self.header().getting, deadline)?;
        let mut taken = side.load();
        let written = self.known.written(self.header(), &taken);
        let took = self.pop(&written, &mut taken, bytes, most)?;
        if matches!(took, Took::Item) {
            self.publish_taken(side, taken, &written);
        }
        Ok(took)
    }

    /// As `try_take` where nobody watches, and without tidying up.
    fn take_held(&self, side: &Held<'_, 4>, bytes: &mut Vec<u8>, most: usize) -> Result<Took> {
        let mut taken = side.load();
        let written = self.known.written(self.header(), &taken);
        if Log::is_fat(&written) {
            return Ok(Took::Nothing);
        }
        let took = self.pop(&written, &mut taken, bytes, most)?;
        if matches!(took, Took::Item) {
            side.publish(taken);
        }
        Ok(took)
    }

    fn publish_taken(&self, side: Held<'_, 4>, taken: Taken, written: &Written) {
        side.publish(taken);
        let watched = side.is_watched();
        drop(side);
        if watched {
            self.set_lamp_through_signals();
        }
        if Log::is_fat(written) && taken.log_head == written.log_tail {
            self.tidy();
        }
    }

    /// Copies the first item out of the queue, or its first `most` bytes if it is longer; then it
    /// stays.
    fn pop(
        &self,
        written: &Written,
        taken: &mut Taken,
        bytes: &mut Vec<u8>,
        most: usize,
    ) -> Result<Took> {
        if written.items == taken.items {
            return Ok(Took::Nothing);
        }
        let first = self.first(written, taken)?;
        let len = usize::try_from(first.len).map_err(|_| no_memory())?.min(most);
        bytes.clear();
        bytes.try_reserve(len).map_err(|_| no_memory())?;
        self.read(written, taken, &first, 0, &mut bytes.spare_capacity_mut()[..len])?;
        // SAFETY: the vector has room for `len` bytes, all of which were just written.
        unsafe { bytes.set_len(len) };
        if len as u64 == first.len {
            self.drop_first(written, taken, &first);
            return Ok(Took::Item);
        }
        Ok(Took::Long(Long { number: taken.items, len: first.len }))
    }

    /// The first item. Only if there is one.
    fn first(&self, written: &Written, taken: &Taken) -> Result<First> {
        if taken.ring_head != written.ring_tail {
            let len = self.ring.first(written, taken)?;
            Ok(First { len, is_in_ring: true })
        } else if taken.log_head != written.log_tail {
            let len = self.log.first(written, taken)?;
            Ok(First { len, is_in_ring: false })
        } else {
            Err(Error::corrupt("the number of items in a queue"))
        }
    }

    /// Fills `into` from the first item, from its byte `from` on.
    fn read(
        &self,
        written: &Written,
        taken: &Taken,
        first: &First,
        from: u64,
        into: &mut [MaybeUninit<u8>],
    ) -> Result<()> {
        if into.len() as u64 > first.len.saturating_sub(from) {
            return Err(Error::corrupt("an item of a queue"));
        }
        if first.is_in_ring {
            self.ring.read(written, taken, from, into);
            return Ok(());
        }
        self.log.read(written, taken, first.len, from, into)
    }

    fn drop_first(&self, written: &Written, taken: &mut Taken, first: &First) {
        if first.is_in_ring {
            Ring::drop_first(taken, first.len);
        } else {
            self.log.drop_first(written, taken, first.len);
        }
        taken.items += 1;
    }

    /// Gives back the memory of an empty log, if nobody is in the way. Otherwise that one, or the
    /// next one who puts, finds the log empty and does it.
    #[cold]
    fn tidy(&self) {
        let Ok(side) = Held::lock_until(&self.header().putting, Some(Instant::now() + TIDY)) else {
            return;
        };
        let mut written = side.load();
        if self.header().getting.snapshot().log_head == written.log_tail {
            self.log.restart(&mut written);
            side.update(written);
        }
    }

    /// Returns when there may be an item.
    #[cold]
    fn wait_for_item(&self, deadline: Option<Instant>) -> Result<()> {
        let side = &self.header().putting;
        self.wait(side, &self.items, deadline, || !self.is_empty())
    }

    /// Returns when there may be room.
    #[cold]
    fn wait_for_room(&self, deadline: Option<Instant>) -> Result<()> {
        let side = &self.header().getting;
        self.wait(side, &self.room, deadline, || !self.is_full())
    }

    /// Returns when `side` has changed such that `is_ready`, or may have.
    fn wait<const N: usize>(
        &self,
        side: &Side<N>,
        expectation: &Expectation,
        deadline: Option<Instant>,
        is_ready: impl Fn() -> bool,
    ) -> Result<()> {
        let begin = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= begin) {
            return Err(Error::timed_out());
        }
        if expectation.until(&is_ready) {
            return Ok(());
        }
        if let Some(ticket) = announce(side, deadline, is_ready)? {
            side.bell.sleep(ticket, deadline)?;
            expectation.waited_since(begin);
        }
        Ok(())
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: a header is made of atomics only, whatever their bits; every process that has
        // the segment of a queue uses its beginning as a `Header`.
        unsafe { self.block.get() }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The first item of a queue.
struct First {
    len: u64,
    is_in_ring: bool,
}

/// Makes a sleeper known on `side`, unless there is no reason to sleep.
fn announce<const N: usize>(
    side: &Side<N>,
    deadline: Option<Instant>,
    is_ready: impl Fn() -> bool,
) -> Result<Option<Ticket>> {
    let side = Held::lock(side, deadline)?;
    Ok(if is_ready() { None } else { Some(side.bell.announce()) })
}

/// A side of the queue whose lock is held; unlocks when dropped.
struct Held<'a, const N: usize> {
    side: &'a Side<N>,
}

impl<'a, const N: usize> Held<'a, N> {
    /// A deadline is there for the wait for items or room. One that has passed is no reason to
    /// fail because somebody else is just copying.
    #[inline]
    fn lock(side: &'a Side<N>, deadline: Option<Instant>) -> Result<Self> {
        if side.lock.try_lock() {
            return Ok(Self { side });
        }
        Self::lock_until(side, deadline.map(|deadline| deadline.max(Instant::now() + GRACE)))
    }

    /// The lock if it is free, or soon is.
    #[inline]
    fn lock_now(side: &'a Side<N>) -> Option<Self> {
        let is_ours = side.lock.try_lock() || side.lock.try_lock_for_a_moment();
        // Made only then: what is dropped unlocks.
        if is_ours { Some(Self { side }) } else { None }
    }

    #[cold]
    fn lock_until(side: &'a Side<N>, deadline: Option<Instant>) -> Result<Self> {
        // Nothing to repair if the holder was dead: the record has changed or it has not.
        side.lock.lock_or_recover(deadline)?;
        Ok(Self { side })
    }
}

impl<const N: usize> std::ops::Deref for Held<'_, N> {
    type Target = Side<N>;

    fn deref(&self) -> &Side<N> {
        self.side
    }
}

impl<const N: usize> Drop for Held<'_, N> {
    fn drop(&mut self) {
        // It is held, so this cannot fail.
        let _ = self.side.lock.unlock();
    }
}

fn length(parts: &[&[u8]]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

fn no_descriptor() -> Error {
    Error::misuse("the queue's descriptor was given away")
}
