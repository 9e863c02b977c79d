//! The one place where atomics and futexes come from: `std` and the kernel, or `loom` in a model
//! (`--cfg loom`).
//!
//! `clippy.toml` bans the raw types everywhere else. They are aliases here, since a re-export
//! would be the raw type itself to clippy.
#![allow(clippy::disallowed_types, reason = "this module is the one that hands them out")]

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use fixed::{AtomicBool, AtomicU32, AtomicU64};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{Ordering, fence};

/// Sleep on a word and wake its sleepers: the kernel's, or a list of sleepers under a lock.
#[cfg(not(loom))]
pub(crate) use crate::sys::futex;

#[cfg(loom)]
pub(crate) mod futex;

/// Atomics for statics, which no model looks at: loom's cannot be made in a constant.
pub(crate) mod fixed {
    pub(crate) type AtomicBool = std::sync::atomic::AtomicBool;
    pub(crate) type AtomicU8 = std::sync::atomic::AtomicU8;
    pub(crate) type AtomicU16 = std::sync::atomic::AtomicU16;
    pub(crate) type AtomicU32 = std::sync::atomic::AtomicU32;
    pub(crate) type AtomicU64 = std::sync::atomic::AtomicU64;
}

/// Tells the processor, or the model, that this thread spins.
#[inline]
pub(crate) fn spin_loop() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
