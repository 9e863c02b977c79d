//! Locks and signals between processes, on futexes.
//!
//! A dead owner is found out and reported, never waited for.

mod doorbell;
mod mutex;
mod owner;
mod patience;
mod shared;
mod spin;

pub use doorbell::Doorbell;
pub use mutex::Mutex;
pub(crate) use mutex::RawMutex;
pub(crate) use spin::spin_until;
