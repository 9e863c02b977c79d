//! Messages between processes.

pub(crate) mod link;
mod message;
pub mod queue;
mod slab;
pub mod stream;

pub(crate) use message::{Head, Kind};
pub use message::{Message, OwnedPayload, Payload, View};
pub use queue::Queue;
