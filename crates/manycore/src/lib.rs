//! The engine of manycore: processes, pools and the shared memory between them.
//!
//! Each layer uses only those before it:
//! `sys → memory → sync → ring → channel → process → pool → typed`.
//!
//! A loom model (`--cfg loom`) has the layers up to the ring.

#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "a model has half of the crate"))]

#[cfg(not(target_os = "linux"))]
compile_error!("the manycore engine runs on Linux only, for now");

#[cfg(not(loom))]
pub mod channel;
mod error;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod internals;
pub mod memory;
#[cfg(not(loom))]
pub mod pool;
mod primitive;
#[cfg(not(loom))]
pub mod process;
mod ring;
pub mod sync;
mod sys;
#[cfg(not(loom))]
mod typed;

pub use error::{Error, Result};
#[cfg(not(loom))]
pub use typed::{Builder, Pool, Shared, StartMethod, TaskError, init};
