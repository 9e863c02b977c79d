//! Messages between processes.

mod descriptors;
pub(crate) mod hall;
pub(crate) mod link;
mod mail;
mod message;
pub mod queue;
mod sealed;
mod slab;
pub mod stream;

pub use descriptors::Received;
pub(crate) use message::{Head, Kind};
pub use message::{Message, OwnedPayload, Payload, View};
pub use queue::{Long, Parts as QueueParts, Queue, Took};
pub use sealed::SealedMessage;
