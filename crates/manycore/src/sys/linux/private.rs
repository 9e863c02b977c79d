//! Descriptors that no forked copy of this process keeps.
//!
//! A copy of a pipe's end that only we know of must not be open in a child: whoever waits for the
//! pipe to hang up would wait for the child, too.
#![allow(clippy::disallowed_types, reason = "globals, which loom does not have")]

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use super::fork;
use crate::{Error, Result};

/// A slot that nobody has, and one whose owner has no descriptor yet.
const FREE: i32 = -1;
const TAKEN: i32 = -2;

/// All descriptors of this kind. Pages are never given back, so a forked child can walk through
/// them whatever the other threads were at.
static NEWEST: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

struct Page {
    slots: [AtomicI32; 64],
    older: *const Page,
}

/// A descriptor that is closed in every forked copy of this process.
pub(crate) struct PrivateFd {
    /// `None` only while it is dropped.
    fd: Option<OwnedFd>,
    slot: &'static AtomicI32,
    generation: u64,
}

impl PrivateFd {
    /// A copy of a descriptor.
    pub(crate) fn copy_of(fd: BorrowedFd<'_>) -> Result<Self> {
        let copy = || fd.try_clone_to_owned().map_err(|e| Error::os("copy a descriptor", e));
        Self::make(|| Ok((copy()?, ()))).map(|(fd, ())| fd)
    }

    /// Takes a descriptor; a fork before this call has kept a copy.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self::make(|| Ok((fd, ()))).expect("making it cannot fail").0
    }

    /// What `make` makes, and something else. It runs while no fork happens, and must not
    /// allocate: a thread that is about to fork may hold the allocator's locks.
    pub(crate) fn make<T>(make: impl FnOnce() -> Result<(OwnedFd, T)>) -> Result<(Self, T)> {
        fork::on_fork_child(close_all);
        let slot = take_slot();
        // A fork sees the descriptor in its slot, or does not see it at all.
        let made = fork::exclude(|| {
            let (fd, other) = make()?;
            slot.store(fd.as_raw_fd(), Ordering::Relaxed);
            Ok((fd, other))
        });
        if made.is_err() {
            slot.store(FREE, Ordering::Relaxed);
        }
        let (fd, other) = made?;
        Ok((Self { fd: Some(fd), slot, generation: fork::generation() }, other))
    }
}

impl AsFd for PrivateFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("taken only by the drop").as_fd()
    }
}

impl Drop for PrivateFd {
    fn drop(&mut self) {
        let fd = self.fd.take();
        if self.generation != fork::generation() {
            // Closed when this copy of the process began; the number may mean another one now.
            mem::forget(fd);
            return;
        }
        fork::exclude(|| {
            drop(fd);
            self.slot.store(FREE, Ordering::Relaxed);
        });
    }
}

/// A slot for one descriptor.
fn take_slot() -> &'static AtomicI32 {
    let take = |slot: &&AtomicI32| {
        slot.compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    if let Some(slot) = pages().flat_map(|page| &page.slots).find(take) {
        return slot;
    }
    let page = Page { slots: [const { AtomicI32::new(FREE) }; 64], older: ptr::null() };
    page.slots[0].store(TAKEN, Ordering::Relaxed);
    &publish(Box::leak(Box::new(page))).slots[0]
}

fn publish(page: &'static mut Page) -> &'static Page {
    let page: *mut Page = page;
    let mut newest = NEWEST.load(Ordering::Relaxed);
    loop {
        // SAFETY: nobody else knows the page before it is published.
        unsafe { (*page).older = newest };
        // Release: pairs with the acquire load in `pages`, so that the page is seen whole.
        match NEWEST.compare_exchange_weak(newest, page, Ordering::Release, Ordering::Relaxed) {
            // SAFETY: the page was leaked, and from here on nobody has it mutably.
            Ok(_) => return unsafe { &*page },
            Err(other) => newest = other,
        }
    }
}

fn pages() -> impl Iterator<Item = &'static Page> {
    // Acquire: pairs with the release in `publish`; the older ones were published before.
    let newest = NEWEST.load(Ordering::Acquire).cast_const();
    // SAFETY: null, or a page that `publish` has published, which stays for ever.
    let page = |page: *const Page| unsafe { page.as_ref() };
    std::iter::successors(page(newest), move |newer| page(newer.older))
}

/// In a forked copy.
fn close_all() {
    for slot in pages().flat_map(|page| &page.slots) {
        let number = slot.swap(FREE, Ordering::Relaxed);
        if number >= 0 {
            // SAFETY: the number is that of a descriptor which this copy has inherited, and its
            // owner does not touch it in another generation.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{memory, process};

    #[test]
    fn a_fork_has_no_copy() {
        let open = memory::create(1).unwrap();
        let copies: Vec<_> = (0..200).map(|_| PrivateFd::copy_of(open.as_fd()).unwrap()).collect();
        let is_open = |fd: &PrivateFd| fd.as_fd().try_clone_to_owned().is_ok();
        assert!(copies.iter().all(is_open));
        // SAFETY: the copy makes system calls and ends; it allocates nothing.
        match unsafe { fork::fork() }.unwrap() {
            0 => process::exit(copies.iter().any(is_open).into()),
            pid => {
                let mut status = -1;
                // SAFETY: the pointer is to a live number.
                unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) };
                assert_eq!(status, 0);
            }
        }
        assert!(copies.iter().all(is_open));
    }
}
