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
