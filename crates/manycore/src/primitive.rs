//! The one place where atomics come from: `std`, or `loom` in a model (`--cfg loom`).
//!
//! `clippy.toml` bans the raw types everywhere else.
#![allow(clippy::disallowed_types, reason = "this module is the one that hands them out")]

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
