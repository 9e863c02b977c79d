//! Forks of this process, whoever makes them: every copy finds out that it is one.
//!
//! `std` atomics, since these words are globals (loom has none) and hold nothing to model.
#![allow(clippy::disallowed_types, reason = "globals, which loom does not have")]

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::{Error, Result};

/// How many handlers [`on_fork_child`] takes.
const HANDLERS: usize = 16;

static GENERATION: AtomicU64 = AtomicU64::new(1);
static PID: AtomicU32 = AtomicU32::new(0);
static FORKS: AtomicU64 = AtomicU64::new(0);
static CHILD_HANDLERS: [AtomicUsize; HANDLERS] = [const { AtomicUsize::new(0) }; HANDLERS];
static GATE: Gate = Gate(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

unsafe extern "C" {
    // The libc crate leaves it out on Linux.
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> libc::c_int;
}

/// Runs when the program or the shared library is loaded, so before any thread that could fork
/// at the same time: a fork that overtook the registration would go unnoticed.
#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = register;

extern "C" fn register() {
    PID.store(std::process::id(), Ordering::Relaxed);
    // SAFETY: the three handlers live as long as the code that registers them (glibc drops the
    // handlers of a library that it unloads) and make only calls that are allowed there.
    let failed = unsafe { pthread_atfork(Some(before), Some(after_parent), Some(after_child)) };
    if failed != 0 {
        // Without it no copy of this process would know that it is one. Memory for some twenty
        // bytes is missing; nothing else could run either.
        std::process::abort();
    }
}

extern "C" fn before() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    GATE.lock();
}

extern "C" fn after_parent() {
    // SAFETY: `before` locked it in this thread.
    unsafe { GATE.unlock() };
    FORKS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn after_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    PID.store(std::process::id(), Ordering::Relaxed);
    // SAFETY: `before` locked it in the thread of which this one is the copy.
    unsafe { GATE.unlock() };
    for slot in &CHILD_HANDLERS {
        let address = slot.load(Ordering::Acquire);
        if address != 0 {
            // SAFETY: `on_fork_child` stores nothing but addresses of such functions.
            let handler = unsafe { std::mem::transmute::<usize, fn()>(address) };
            handler();
        }
    }
}

/// A number that is another one in every forked copy of a process.
#[inline]
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// The pid of this process, without a system call.
#[inline]
pub(crate) fn pid() -> u32 {
    PID.load(Ordering::Relaxed)
}

/// A number that grows just before and just after every fork that this process makes: if it is
/// the same at two moments, no child is a copy of what was there in between.
#[allow(dead_code, reason = "the heap asks it, once it is here")]
#[inline]
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Has `handler` run in every forked copy of this process. Giving it twice is as giving it once.
///
/// It runs in a copy of a process that may have had other threads, in whatever state they were:
/// only async-signal-safe work, no locks, no allocation.
///
/// # Panics
///
/// If the table is full.
pub(crate) fn on_fork_child(handler: fn()) {
    let address = handler as usize;
    let taken = CHILD_HANDLERS.iter().any(|slot| {
        // Release: the child's Acquire load then sees what the handler needs.
        let seen = slot.compare_exchange(0, address, Ordering::Release, Ordering::Relaxed);
        seen.is_ok() || seen == Err(address)
    });
    assert!(taken, "more than {HANDLERS} handlers for forked children");
}

/// Runs `f` while no fork happens in this process. `f` must not fork.
pub(crate) fn exclude<T>(f: impl FnOnce() -> T) -> T {
    struct Unlock;
    impl Drop for Unlock {
        fn drop(&mut self) {
            // SAFETY: locked below, in this thread.
            unsafe { GATE.unlock() };
        }
    }
    GATE.lock();
    let _unlock = Unlock;
    f()
}

/// Makes a copy of this process: 0 in the copy, its pid in the original.
///
/// # Safety
///
/// As for [`crate::process::fork`].
pub(crate) unsafe fn fork() -> Result<u32> {
    // SAFETY: the caller keeps the rules for a copy of a process.
    let pid = unsafe { libc::fork() };
    u32::try_from(pid).map_err(|_| Error::last_os("fork"))
}

/// Held while a process forks. A pthread mutex, which may be locked before a fork and unlocked
/// on both sides of it.
struct Gate(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a pthread mutex is made to be used from every thread through its address, and the
// cell is reached only by the two functions below.
unsafe impl Sync for Gate {}

impl Gate {
    fn lock(&self) {
        // SAFETY: the mutex is initialised and never moves. It fails only when misused.
        let failed = unsafe { libc::pthread_mutex_lock(self.0.get()) };
        debug_assert_eq!(failed, 0, "pthread_mutex_lock");
    }

    /// # Safety
    ///
    /// The calling thread, or the one of which it is the copy, has locked it.
    unsafe fn unlock(&self) {
        // SAFETY: as the caller says.
        let failed = unsafe { libc::pthread_mutex_unlock(self.0.get()) };
        debug_assert_eq!(failed, 0, "pthread_mutex_unlock");
    }
}

/// A global that every process makes for itself, when it first asks.
///
/// A forked copy finds it empty and never touches what it inherited, which stays allocated: its
/// locks may have been held by threads that the copy does not have.
pub(crate) struct PerProcess<T: Send + Sync + 'static> {
    newest: AtomicPtr<Entry<T>>,
}

struct Entry<T> {
    generation: u64,
    value: T,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// This process's value, if it has been made.
    pub(crate) fn get(&self) -> Option<&'static T> {
        // Acquire: pairs with the Release in `get_or_make`, so the entry is seen whole.
        // SAFETY: null, or an entry that `get_or_make` leaked.
        let entry = unsafe { self.newest.load(Ordering::Acquire).as_ref() }?;
        (entry.generation == generation()).then_some(&entry.value)
    }

    /// This process's value, made by `make` if need be.
    ///
    /// `make` runs in one thread at a time and while no fork happens. It must not allocate: a
    /// thread that is about to fork may hold the allocator's locks and wait for us.
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
        match self.get() {
            Some(value) => Ok(value),
            None => self.make(make),
        }
    }

    #[cold]
    fn make(&self, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
        let mut space = Some(Box::new_uninit());
        exclude(|| {
            if self.get().is_some() {
                return Ok(());
            }
            let value = make()?;
            if let Some(space) = space.take() {
                let entry = Box::write(space, Entry { generation: generation(), value });
                // Release: pairs with the Acquire in `get`.
                self.newest.store(Box::into_raw(entry), Ordering::Release);
            }
            Ok(())
        })?;
        Ok(self.get().expect("made just now, or by another thread"))
    }
}

/// A forked copy of this process for tests, which does nothing and ends after a minute.
#[cfg(test)]
pub(crate) struct IdleCopy(libc::pid_t);

#[cfg(test)]
impl IdleCopy {
    pub(crate) fn make() -> Self {
        // SAFETY: the copy makes system calls only, and ends by the signal.
        unsafe {
            let pid = fork().unwrap();
            if pid == 0 {
                libc::alarm(60);
                loop {
                    libc::pause();
                }
            }
            Self(pid.cast_signed())
        }
    }

    /// Ends it; false if it had ended by itself.
    pub(crate) fn end(self) -> bool {
        let mut status = 0;
        // SAFETY: the child is ours and was not reaped; the pointer is to a live number.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, &mut status, 0);
        }
        libc::WTERMSIG(status) == libc::SIGKILL
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::sys::process::exit;

    fn fork_once() {
        // SAFETY: the copy ends at once.
        match unsafe { fork() }.unwrap() {
            0 => exit(i32::from(generation() == 1)),
            pid => {
                let mut status = -1;
                // SAFETY: the pointer is to a live number.
                unsafe { libc::waitpid(pid.cast_signed(), &mut status, 0) };
                assert_eq!(status, 0);
            }
        }
    }

    #[test]
    fn forks_are_counted_and_change_the_generation_of_the_copy_only() {
        let before = (generation(), forks());
        fork_once();
        assert_eq!(generation(), before.0);
        assert!(forks() >= before.1 + 2);
        assert_eq!(pid(), std::process::id());
    }

    #[test]
    fn no_fork_happens_while_a_value_is_made() {
        static VALUE: PerProcess<u32> = PerProcess::new();
        let (forked, has_forked) = channel();
        thread::scope(|scope| {
            let make = || {
                scope.spawn(move || {
                    fork_once();
                    forked.send(()).unwrap();
                });
                // As long as this is, a fork cannot end meanwhile.
                assert!(has_forked.recv_timeout(Duration::from_millis(100)).is_err());
                Ok(5)
            };
            assert_eq!(VALUE.get_or_make(make).unwrap(), &5);
            has_forked.recv().unwrap();
        });
        assert_eq!(VALUE.get_or_make(|| Ok(6)).unwrap(), &5);
    }
}
