//! Starting processes, watching them, and seeing to it that none outlives its parent.

mod child;
mod command;
mod forkserver;
pub mod lifeline;
mod serve;
mod status;
pub mod watch;

pub use child::{Child, Forked, exit_at_once, fork};
pub use command::Command;
pub use forkserver::ForkServer;
pub use serve::{Served, serve};
pub use status::ExitStatus;

/// The signal that asks a process to end.
pub const SIGTERM: i32 = libc::SIGTERM;

/// The signal that ends a process, whatever it does.
pub const SIGKILL: i32 = libc::SIGKILL;
