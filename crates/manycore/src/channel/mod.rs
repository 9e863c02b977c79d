//! Messages between processes.

pub mod stream;
