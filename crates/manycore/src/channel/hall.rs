//! Where the parent of a pool sleeps.

use std::os::fd::OwnedFd;

use crate::memory::Segment;
use crate::primitive::{AtomicU32, Ordering};
use crate::sync::Doorbell;
use crate::{Error, Result};

/// Where the parent of a pool sleeps, shared with all of its workers: only bells, whose ringing
/// is never more than a hint.
#[derive(Clone)]
pub(crate) struct Hall {
    segment: Segment,
}

#[repr(C)]
struct Bells {
    /// The thread that attends to the pool sleeps here.
    front: Doorbell,
    _front: [u64; 15],
    /// The supervisor sleeps here.
    back: Doorbell,
    _back: [u64; 15],
    /// 1 while a thread attends to the pool.
    attended: AtomicU32,
}

impl Hall {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { segment: Segment::new(size_of::<Bells>())? })
    }

    pub(super) fn from_fd(fd: OwnedFd) -> Result<Self> {
        let mut segment = Segment::from_fd(fd)?;
        drop(segment.take_fd());
        Ok(Self { segment })
    }

    pub(super) fn fd(&self) -> Result<OwnedFd> {
        let fd = self.segment.fd().ok_or_else(|| Error::closed("the hall"))?;
        fd.try_clone_to_owned().map_err(|e| Error::os("copy a descriptor", e))
    }

    fn bells(&self) -> &Bells {
        // SAFETY: parent and workers use this segment as these atomics in zeroed memory.
        unsafe { self.segment.at(0) }
    }

    pub(crate) fn front(&self) -> &Doorbell {
        &self.bells().front
    }

    pub(crate) fn back(&self) -> &Doorbell {
        &self.bells().back
    }

    /// Whether a thread of the parent attends to the pool, so that the supervisor need not.
    pub(crate) fn is_attended(&self) -> bool {
        // SeqCst: with the fences of `Doorbell` and `set_attended`, either the worker sees that
        // nobody attends any more, or the one who leaves sees the worker's result.
        self.bells().attended.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn set_attended(&self, attended: bool) {
        // SeqCst: see `is_attended`.
        self.bells().attended.store(attended.into(), Ordering::SeqCst);
    }
}
