//! Memory that several processes share.

mod block;
mod cells;
mod descriptor;
mod heap;
mod sealed;
mod segment;

pub use block::Block;
pub use cells::{Cells, Width};
pub use descriptor::Descriptor;
pub(crate) use descriptor::{Mourner, WeakDescriptor};
pub use sealed::{PrivateCopy, Sealed};
pub use segment::Segment;
