//! Messages between processes.

pub(crate) mod link;
mod message;
mod slab;

pub(crate) use message::{Head, Kind};
pub use message::{Message, OwnedPayload, Payload, View};
