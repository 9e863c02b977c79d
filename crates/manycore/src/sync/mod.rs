//! Locks and signals between processes, on futexes.
//!
//! Every object lives in a [`Block`](crate::memory::Block) and is used by whoever maps it. The
//! words they are made of have their tables of states beside them; `README.md` in this folder has
//! what they share: the races, and what a death may cost.

mod barrier;
mod claims;
mod condition;
mod doorbell;
mod event;
mod expectation;
mod handover;
#[cfg(all(test, loom))]
mod model;
mod mutex;
mod owner;
mod patience;
mod recursive;
mod semaphore;
mod shared;
mod spin;

pub use barrier::Barrier;
pub(crate) use claims::Claims;
pub use condition::Condition;
pub use doorbell::Doorbell;
pub use event::Event;
pub(crate) use expectation::Expectation;
pub(crate) use handover::{Handover, Offer};
pub use mutex::Mutex;
pub(crate) use mutex::RawMutex;
pub use recursive::RecursiveMutex;
pub use semaphore::Semaphore;
pub(crate) use spin::LookOut;
