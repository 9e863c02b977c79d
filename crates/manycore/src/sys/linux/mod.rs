//! Linux 5.4 and newer.

pub(crate) mod file;
pub(crate) mod forking;
pub(crate) mod futex;
pub(crate) mod memory;
pub(crate) mod stream;
