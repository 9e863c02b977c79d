//! The only place with system calls. This file is the contract; a folder per OS keeps it.

mod linux;

pub(crate) use linux::fork;
pub(crate) use linux::futex;
pub(crate) use linux::liveness;
pub(crate) use linux::memory;
