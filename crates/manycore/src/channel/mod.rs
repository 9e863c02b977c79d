//! Messages between processes.

pub mod queue;
pub mod stream;

pub use queue::Queue;
