//! Shared memory and descriptors inside pool messages.
//!
//! While a message is pickled, what is shared gives its descriptor to the message and its place to
//! the pickle. While one is unpickled, the descriptors that came with it are at hand.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, IntoRawFd, RawFd};

use manycore::channel::{self, QueueParts, Received};
use manycore::memory::Descriptor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::error::EngineError;
use crate::heap::Block;
use crate::pickle::Sink;
use crate::queues::Queue;
use crate::shared::Shared;
use crate::unchecked::borrow_fd;

thread_local! {
    /// This thread pickles a pool's message.
    static PICKLING: Cell<bool> = const { Cell::new(false) };

    /// The descriptors of the messages that this thread unpickles, the innermost last; and whether
    /// what is made of them is kept.
    static ARRIVED: RefCell<Vec<(Vec<Received>, bool)>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f`, which pickles a message.
pub(crate) fn while_pickling<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PICKLING.set(self.0);
        }
    }
    let _restore = Restore(PICKLING.replace(true));
    f()
}

/// Calls `f`, which unpickles a message that came with these descriptors.
pub(crate) fn with_descriptors<R>(
    descriptors: &[Received],
    keep: bool,
    f: impl FnOnce() -> R,
) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            ARRIVED.with_borrow_mut(Vec::pop);
        }
    }
    if descriptors.is_empty() {
        return f();
    }
    ARRIVED.with_borrow_mut(|arrived| arrived.push((descriptors.to_vec(), keep)));
    let _leave = Leave;
    f()
}

fn received(id: u64) -> PyResult<Received> {
    Ok(received_to_keep(id)?.0)
}

/// What came by this name, and whether what is made of it is kept.
fn received_to_keep(id: u64) -> PyResult<(Received, bool)> {
    let found = ARRIVED.with_borrow(|arrived| {
        let (all, keep) = arrived.last()?;
        Some((all.iter().find(|one| one.id() == id)?.clone(), *keep))
    });
    found.ok_or_else(|| PyRuntimeError::new_err("a part of a pool's message was unpickled alone"))
}

/// Whether this thread pickles a pool's message.
#[pyfunction]
pub(crate) fn is_pickling_message() -> bool {
    PICKLING.get()
}

/// Has a block go with the message of `sink`; what to give to `received_block`.
#[pyfunction]
pub(crate) fn send_block(sink: &Bound<'_, Sink>, block: &Block) -> PyResult<(u64, usize, usize)> {
    let (descriptor, offset, size) = block.inner.share_descriptor().map_err(EngineError)?;
    Ok((sink.get().add(descriptor), offset, size))
}

/// Has a queue go with the message of `sink`; what to give to `received_queue`.
#[pyfunction]
pub(crate) fn send_queue(sink: &Bound<'_, Sink>, queue: &Queue) -> PyResult<(u64, u64, u64)> {
    let QueueParts { segment, log, lamp } = queue.inner.share_descriptors().map_err(EngineError)?;
    let sink = sink.get();
    Ok((sink.add(segment), sink.add(log), sink.add(lamp)))
}

/// Has a copy of a descriptor go with the message of `sink`; what to give to `received_fd`.
#[pyfunction]
pub(crate) fn send_fd(sink: &Bound<'_, Sink>, fd: RawFd) -> PyResult<u64> {
    let descriptor = Descriptor::copy_of(borrow_fd(fd)?).map_err(EngineError)?;
    Ok(sink.get().add(descriptor))
}

/// A block that came with the message that is being unpickled.
#[pyfunction]
pub(crate) fn received_block(id: u64, offset: usize, size: usize) -> PyResult<Block> {
    Ok(Block { inner: received(id)?.block(offset, size).map_err(EngineError)? })
}

/// A queue that came with the message that is being unpickled.
#[pyfunction]
pub(crate) fn received_queue(segment: u64, log: u64, lamp: u64) -> PyResult<Queue> {
    let parts = QueueParts { segment, log, lamp }.try_map(received)?;
    Ok(Queue { inner: channel::Queue::received(&parts).map_err(EngineError)? })
}

/// A copy of a descriptor that came with the message that is being unpickled.
#[pyfunction]
pub(crate) fn received_fd(id: u64) -> PyResult<RawFd> {
    let received = received(id)?;
    let copy = received.descriptor().map_err(EngineError)?.as_fd().try_clone_to_owned()?;
    Ok(copy.into_raw_fd())
}

/// Has a shared object go with the message of `sink`; what to give to `received_shared`.
#[pyfunction]
pub(crate) fn send_shared(sink: &Bound<'_, Sink>, shared: &Shared) -> u64 {
    sink.get().add(shared.descriptor().clone())
}

/// A shared object that came with the message that is being unpickled.
#[pyfunction]
pub(crate) fn received_shared(py: Python<'_>, id: u64) -> PyResult<Py<Shared>> {
    let (received, keep) = received_to_keep(id)?;
    if let Some(shared) = received.kept::<Py<Shared>>() {
        return Ok(shared.clone_ref(py));
    }
    let descriptor = received.descriptor().map_err(EngineError)?.clone();
    let shared = Shared::of(py, descriptor)?;
    if keep {
        received.keep(Box::new(shared.clone_ref(py)));
    }
    Ok(shared)
}
