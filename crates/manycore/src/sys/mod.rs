//! The only place with system calls. This file is the contract; a folder per OS keeps it.

mod linux;

pub(crate) use linux::{
    event, file, fork, futex, lifeline, liveness, memory, poll, private, process, room, signal,
    socket, stream, thread,
};
