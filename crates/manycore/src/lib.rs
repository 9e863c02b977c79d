//! The engine of manycore: processes, pools and the shared memory between them.
//!
//! Each layer uses only those before it:
//! `sys → memory → sync → ring → channel → process → pool → typed`.

#[cfg(not(target_os = "linux"))]
compile_error!("the manycore engine runs on Linux only, for now");

pub mod channel;
mod error;
pub mod memory;
pub mod pool;
mod primitive;
pub mod process;
mod ring;
pub mod sync;
mod sys;
mod typed;

pub use error::{Error, Result};
pub use typed::{Builder, Pool, StartMethod, TaskError, init};
