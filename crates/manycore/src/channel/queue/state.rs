//! What a queue keeps in its segment beside the items themselves.

use super::bell::Bell;
use super::record::Record;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::sync::RawMutex;

/// The beginning of a queue's segment.
#[repr(C, align(64))]
pub(super) struct Header {
    pub(super) magic: AtomicU64,
    /// The most items at a time; 0: any number.
    pub(super) maxsize: AtomicU64,
    /// What those who put change.
    pub(super) putting: Side<7>,
    /// What those who get change.
    pub(super) getting: Side<4>,
    /// Held by whoever sets the lamp.
    pub(super) lamp: RawMutex,
}

/// One end of the queue.
#[repr(C, align(64))]
pub(super) struct Side<const N: usize> {
    /// Held by whoever changes this side.
    pub(super) lock: RawMutex,
    /// Rung before this side changes; the other side sleeps here.
    pub(super) bell: Bell,
    /// 1 once somebody watches the lamp. Only changed and looked at with the lock.
    watched: AtomicU32,
    pub(super) record: Record<N>,
}

/// Where the queue ends. Positions only grow; a base is the position that lies at place 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// Items that were ever put.
    pub(super) items: u64,
    /// Position behind the last item in the ring.
    pub(super) ring_tail: u64,
    pub(super) ring_base: u64,
    /// Position behind the last item in the log.
    pub(super) log_tail: u64,
    pub(super) log_base: u64,
    /// How many bytes of the ring have memory.
    pub(super) reserved: u64,
    /// How long the log's file may be at most.
    pub(super) log_size: u64,
}

/// Where the queue begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Items that were ever taken.
    pub(super) items: u64,
    /// Position of the first item in the ring.
    pub(super) ring_head: u64,
    /// Position of the first item in the log.
    pub(super) log_head: u64,
    /// Position up to which the log's memory was given back.
    pub(super) punched: u64,
}

/// The place of `items` in both records.
const ITEMS: usize = 0;

impl Side<7> {
    #[inline]
    pub(super) fn load(&self) -> Written {
        self.record.load().into()
    }

    #[inline]
    pub(super) fn snapshot(&self) -> Written {
        self.record.snapshot().into()
    }

    /// Tells the sleepers, then makes the change. Only for the holder of the lock.
    #[inline]
    pub(super) fn publish(&self, new: Written) {
        self.bell.ring();
        self.update(new);
    }

    /// Makes a change that nobody waits for. Only for the holder of the lock.
    #[inline]
    pub(super) fn update(&self, new: Written) {
        self.record.publish(new.into());
    }
}

impl Side<4> {
    #[inline]
    pub(super) fn load(&self) -> Taken {
        self.record.load().into()
    }

    #[inline]
    pub(super) fn snapshot(&self) -> Taken {
        self.record.snapshot().into()
    }

    /// Tells the sleepers, then makes the change. Only for the holder of the lock.
    #[inline]
    pub(super) fn publish(&self, new: Taken) {
        self.bell.ring();
        self.record.publish(new.into());
    }
}

impl<const N: usize> Side<N> {
    /// Whether who changes this side has to set the lamp. Only for the holder of the lock.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        // Relaxed, here and below: the lock orders it.
        self.watched.load(Ordering::Relaxed) != 0
    }

    /// Has the lamp set from now on. Only for the holder of the lock.
    pub(super) fn watch(&self) {
        self.watched.store(1, Ordering::Relaxed);
    }

    /// How many items ever went through this side.
    #[inline]
    pub(super) fn items(&self) -> u64 {
        self.record.word(ITEMS)
    }
}

impl From<[u64; 7]> for Written {
    #[inline]
    fn from(words: [u64; 7]) -> Self {
        let [items, ring_tail, ring_base, log_tail, log_base, reserved, log_size] = words;
        Self { items, ring_tail, ring_base, log_tail, log_base, reserved, log_size }
    }
}

impl From<[u64; 4]> for Taken {
    #[inline]
    fn from(words: [u64; 4]) -> Self {
        let [items, ring_head, log_head, punched] = words;
        Self { items, ring_head, log_head, punched }
    }
}

impl From<Written> for [u64; 7] {
    #[inline]
    fn from(written: Written) -> Self {
        let Written { items, ring_tail, ring_base, log_tail, log_base, reserved, log_size } =
            written;
        [items, ring_tail, ring_base, log_tail, log_base, reserved, log_size]
    }
}

impl From<Taken> for [u64; 4] {
    #[inline]
    fn from(taken: Taken) -> Self {
        let Taken { items, ring_head, log_head, punched } = taken;
        [items, ring_head, log_head, punched]
    }
}
