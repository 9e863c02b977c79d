//! Where blocks come from: arenas for the small ones, a segment each for the big ones.
//!
//! An arena is a segment of 64 KiB, the next ones of twice the size up to 4 MiB. It is unmapped
//! when its last block is gone: the heap itself holds it only weakly.
//!
//! A freed block is used again only if no other process can know it: it was never shared, and no
//! fork began between its birth and its end. Such a child would still use it. The others' memory
//! goes with their arena.
//!
//! A forked child leaves the heap of its parent alone and starts an own one; the blocks that it
//! has inherited stay mapped, and are never used again for something else.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::block::ALIGN;
use super::{Descriptor, Segment};
use crate::primitive::{AtomicBool, Ordering};
use crate::sys::fork::{self, PerProcess};
use crate::sys::{file, memory};
use crate::{Error, Result};

/// From this size on a block is a segment of its own.
const BIG: usize = 64 << 10;
const SMALLEST_ARENA: usize = 64 << 10;
const LARGEST_ARENA: usize = 4 << 20;

/// What tells a segment from every other one that exists now.
type Identity = (u64, u64);

/// Allocates `len` zeroed bytes that are aligned to [`ALIGN`].
pub(super) fn allocate(len: usize) -> Result<Lease> {
    let size = len.max(1).checked_next_multiple_of(ALIGN);
    let size = size.ok_or_else(|| Error::misuse("a block of this size cannot exist"))?;
    if size < BIG {
        return heap()?.allocate(size);
    }
    let segment = heap()?.segment(size)?;
    heap()?.keep(Arena { segment, room: None }).map(|arena| Lease::new(arena, 0, size))
}

/// The segment behind a descriptor, in the mapping that this process has already, if it has one.
/// And whether it has made one for this.
pub(super) fn attach(descriptor: Descriptor) -> Result<(Lease, bool)> {
    heap()?.attach(descriptor).map(|(arena, new)| (Lease::whole(arena), new))
}

/// The heap of this process.
fn heap() -> Result<&'static Heap> {
    static HEAP: PerProcess<Heap> = PerProcess::new();
    HEAP.get_or_make(|| Ok(Heap::default()))
}

#[derive(Default)]
struct Heap {
    /// The arenas that have room for small blocks, the oldest first.
    arenas: Mutex<Vec<Weak<Arena>>>,
    /// All segments with blocks, own and attached ones.
    mapped: Mutex<HashMap<Identity, Weak<Arena>>>,
}

impl Heap {
    fn allocate(&self, size: usize) -> Result<Lease> {
        let mut arenas = lock(&self.arenas);
        arenas.retain(|arena| arena.strong_count() > 0);
        for arena in arenas.iter().rev().filter_map(Weak::upgrade) {
            if let Some(offset) = arena.take(size) {
                return Ok(Lease::new(arena, offset, size));
            }
        }
        let len = (SMALLEST_ARENA << arenas.len().min(6)).min(LARGEST_ARENA);
        let arena = self.keep(Arena::new(self.segment(len)?))?;
        arenas.push(Arc::downgrade(&arena));
        let offset = arena.take(size).ok_or_else(|| Error::misuse("the block is too big"))?;
        Ok(Lease::new(arena, offset, size))
    }

    /// A segment whose pages exist.
    fn segment(&self, len: usize) -> Result<Segment> {
        memory::check_room("shared memory", len)?;
        let segment = Segment::new(len)?;
        file::reserve(descriptor(&segment)?, 0, len as u64)?;
        Ok(segment)
    }

    /// Notes that the arena's segment is mapped.
    fn keep(&self, arena: Arena) -> Result<Arc<Arena>> {
        let identity = file::identity(descriptor(&arena.segment)?)?;
        let arena = Arc::new(arena);
        lock(&self.mapped).insert(identity, Arc::downgrade(&arena));
        Ok(arena)
    }

    fn attach(&self, descriptor: Descriptor) -> Result<(Arc<Arena>, bool)> {
        let identity = file::identity(descriptor.as_fd())?;
        let mut mapped = lock(&self.mapped);
        if let Some(arena) = mapped.get(&identity).and_then(Weak::upgrade) {
            return Ok((arena, false));
        }
        let segment = Segment::from_descriptor(descriptor)?;
        let arena = Arc::new(Arena { segment, room: None });
        mapped.insert(identity, Arc::downgrade(&arena));
        Ok((arena, true))
    }

    /// Strikes the segment off the list, unless it was mapped again meanwhile.
    fn forget(&self, identity: Identity) {
        let mut mapped = lock(&self.mapped);
        if mapped.get(&identity).is_some_and(|arena| arena.strong_count() == 0) {
            mapped.remove(&identity);
        }
    }
}

fn descriptor(segment: &Segment) -> Result<BorrowedFd<'_>> {
    segment.fd().ok_or_else(|| Error::misuse("the segment's descriptor was given away"))
}

/// Nothing in the heap's critical sections panics half-way, so a poisoned lock is a whole one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A segment that has blocks in it.
struct Arena {
    segment: Segment,
    /// What is free in it; nothing ever in those that are no arenas of small blocks.
    room: Option<Mutex<Room>>,
}

impl Arena {
    fn new(segment: Segment) -> Self {
        let room = Room::new(segment.len());
        Self { segment, room: Some(Mutex::new(room)) }
    }

    fn take(&self, size: usize) -> Option<usize> {
        lock(self.room.as_ref()?).take(size)
    }

    /// Makes `size` bytes at `offset` free, and zero.
    ///
    /// # Safety
    ///
    /// They were taken, and nobody has a pointer to them any more.
    unsafe fn put(&self, offset: usize, size: usize) {
        let Some(room) = &self.room else { return };
        let mut room = lock(room);
        // SAFETY: `take` gave out the range, so it is inside the mapping, and the caller
        // promises that nobody looks at it.
        unsafe { self.segment.as_ptr().add(offset).write_bytes(0, size) };
        room.put(offset, size);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(fd) = self.segment.fd()
            && let Ok(identity) = file::identity(fd)
            && let Ok(heap) = heap()
        {
            heap.forget(identity);
        }
    }
}

/// The free ranges of an arena, none adjacent to the next: offset and length.
struct Room {
    free: BTreeMap<usize, usize>,
}

impl Room {
    fn new(len: usize) -> Self {
        Self { free: BTreeMap::from([(0, len)]) }
    }

    /// Takes `size` bytes out of the first range that is long enough.
    fn take(&mut self, size: usize) -> Option<usize> {
        let (offset, len) = self.free.iter().map(|(o, l)| (*o, *l)).find(|(_, l)| *l >= size)?;
        self.free.remove(&offset);
        if len > size {
            self.free.insert(offset + size, len - size);
        }
        Some(offset)
    }

    /// Makes a range free, together with its free neighbours.
    fn put(&mut self, mut offset: usize, mut size: usize) {
        if let Some(after) = self.free.remove(&(offset + size)) {
            size += after;
        }
        if let Some((before, len)) = self.free.range(..offset).next_back().map(|(o, l)| (*o, *l))
            && before + len == offset
        {
            self.free.remove(&before);
            (offset, size) = (before, len + size);
        }
        self.free.insert(offset, size);
    }
}

/// The right to use a piece of an arena; ends when dropped.
pub(super) struct Lease {
    arena: Arc<Arena>,
    offset: usize,
    size: usize,
    /// The number of forks at its birth; `None` if the piece came from elsewhere.
    born: Option<u64>,
    generation: u64,
    shared: AtomicBool,
}

impl Lease {
    fn new(arena: Arc<Arena>, offset: usize, size: usize) -> Self {
        let (born, generation) = (Some(fork::forks()), fork::generation());
        Self { arena, offset, size, born, generation, shared: AtomicBool::new(false) }
    }

    /// The whole of an arena that is not ours to give out.
    fn whole(arena: Arc<Arena>) -> Self {
        let size = arena.segment.len();
        let mut lease = Self::new(arena, 0, size);
        lease.born = None;
        lease
    }

    /// The whole of a segment that somebody else looks after.
    pub(super) fn of(segment: Segment) -> Self {
        Self::whole(Arc::new(Arena { segment, room: None }))
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.arena.segment
    }

    /// Notes that another process may know the piece from now on.
    pub(super) fn share(&self) {
        // Relaxed: the drop that reads it comes after the last reference, which orders them.
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Whether no other process can know the piece.
    fn is_private(&self) -> bool {
        !self.shared.load(Ordering::Relaxed)
            && self.generation == fork::generation()
            && self.born == Some(fork::forks())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_private() {
            // SAFETY: the piece was taken for this lease, the last block in it is gone, and no
            // other process knows it.
            unsafe { self.arena.put(self.offset, self.size) };
        }
    }
}
