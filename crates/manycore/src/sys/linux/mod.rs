//! Linux 5.4 and newer.

pub(crate) mod event;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod lifeline;
pub(crate) mod liveness;
pub(crate) mod memory;
pub(crate) mod poll;
pub(crate) mod private;
pub(crate) mod process;
pub(crate) mod room;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod thread;
