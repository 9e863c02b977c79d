//! Memory that several processes share.

mod block;
mod segment;

pub use block::Block;
pub use segment::Segment;
