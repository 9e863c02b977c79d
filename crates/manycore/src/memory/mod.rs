//! Memory that several processes share.

mod block;
mod heap;
mod segment;

pub use block::Block;
pub use segment::Segment;
