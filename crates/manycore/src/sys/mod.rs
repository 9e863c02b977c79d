//! The only place with system calls. This file is the contract; a folder per OS keeps it.

mod linux;

pub(crate) use linux::file;
pub(crate) use linux::forking;
pub(crate) use linux::futex;
pub(crate) use linux::memory;
pub(crate) use linux::stream;
