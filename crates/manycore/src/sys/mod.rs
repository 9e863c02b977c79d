//! The only place with system calls. This file is the contract; a folder per OS keeps it.

mod linux;

pub(crate) use linux::event;
pub(crate) use linux::file;
pub(crate) use linux::fork;
pub(crate) use linux::futex;
pub(crate) use linux::lifeline;
pub(crate) use linux::liveness;
pub(crate) use linux::memory;
pub(crate) use linux::poll;
pub(crate) use linux::process;
pub(crate) use linux::signal;
pub(crate) use linux::socket;
pub(crate) use linux::stream;
