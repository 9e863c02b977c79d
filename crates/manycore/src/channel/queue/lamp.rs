//! A descriptor that tells whether the queue has items, for those who wait for several things.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::Result;
use crate::memory::Descriptor;
use crate::sys::event;

/// An eventfd that is readable while it is lit. It costs nothing until somebody watches it; from
/// then on every change of the queue sets it anew.
pub(super) struct Lamp {
    descriptor: Descriptor,
}

impl Lamp {
    /// # Errors
    ///
    /// The system is out of descriptors.
    pub(super) fn new() -> Result<Self> {
        event::cell().map(Self::attach)
    }

    pub(super) fn attach(fd: OwnedFd) -> Self {
        Self::of(Descriptor::new(fd))
    }

    pub(super) fn of(descriptor: Descriptor) -> Self {
        Self { descriptor }
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.descriptor)
    }

    /// # Errors
    ///
    /// The descriptor is not that of a lamp.
    pub(super) fn set(&self, lit: bool) -> Result<()> {
        if lit { event::put(self.fd(), 1) } else { event::take(self.fd()).map(drop) }
    }
}
