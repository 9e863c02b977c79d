//! What a process knows of the other side of a queue without looking there.

use super::record::Record;
use super::ring;
use super::state::{Header, Taken, Written};

/// The other side as this process last saw it. Each look at the real thing fetches memory that
/// another processor writes to all the time, so there is one only if what is known does not do.
///
/// Nothing known becomes wrong: positions only grow, and where a position lies does not change
/// before the item there was taken. So what was put stays put, and what was taken stays taken.
///
/// These are records because a thread may be in the middle of a change when another one forks.
pub(super) struct Known {
    /// Changed by the holder of the getting lock.
    written: Record<7>,
    /// Changed by the holder of the putting lock.
    taken: Record<4>,
}

/// Those who put look at least once in so many bytes of the ring whether it is empty, and could
/// begin anew where it is warm.
const STRETCH: u64 = 512;

impl Known {
    /// The beginning of every queue.
    pub(super) fn new() -> Self {
        Self { written: Record::new(), taken: Record::new() }
    }

    /// What there is to take; at least one item if there is one. Only for the holder of the getting
    /// lock.
    #[inline]
    pub(super) fn written(&self, header: &Header, taken: &Taken) -> Written {
        let known = Written::from(self.written.load());
        if known.items > taken.items { known } else { self.look_at_written(header) }
    }

    fn look_at_written(&self, header: &Header) -> Written {
        let written = header.putting.snapshot();
        self.written.publish(written.into());
        written
    }

    /// What was taken; enough for an item of `len` bytes to be put, if there is room for one. Only
    /// for the holder of the putting lock.
    #[inline]
    pub(super) fn taken(
        &self,
        header: &Header,
        written: &Written,
        maxsize: u32,
        len: u64,
    ) -> Taken {
        let known = Taken::from(self.taken.load());
        let is_full = maxsize != 0 && written.items - known.items >= maxsize.into();
        let log_is_empty = known.log_head == written.log_tail;
        let place = written.ring_tail - written.ring_base;
        let is_new = place / STRETCH != (place + ring::space(len)) / STRETCH;
        if is_full || is_new || !log_is_empty || !ring::Ring::fits(written, &known, len) {
            return self.look_at_taken(header);
        }
        known
    }

    fn look_at_taken(&self, header: &Header) -> Taken {
        let taken = header.getting.snapshot();
        self.taken.publish(taken.into());
        taken
    }
}
