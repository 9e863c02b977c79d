//! Linux 5.4 and newer.

pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod liveness;
pub(crate) mod memory;
