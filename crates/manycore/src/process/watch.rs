//! Being told that a child has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Child;
use crate::Result;
use crate::sys::fork::{self, PerProcess};
use crate::sys::{event, signal, thread};

type Callback = Box<dyn FnOnce() + Send>;

/// Nothing of it is touched in a forked copy, which gets one of its own.
static WATCHER: PerProcess<Watcher> = PerProcess::new();

struct Watcher {
    set: event::Set,
    watches: Mutex<Watches>,
}

#[derive(Default)]
struct Watches {
    entries: BTreeMap<u64, Entry>,
    last: u64,
    has_thread: bool,
}

struct Entry {
    /// Ours, too, so that the watch does not depend on the `Child` being kept.
    sentinel: Arc<OwnedFd>,
    callback: Callback,
}

/// A watch over a child. Dropping it ends the watch; a callback that has begun runs to its end.
#[must_use = "dropping it ends the watch"]
pub struct Watch {
    number: u64,
    generation: u64,
}

/// Runs `callback` once when `child` has ended: at once if it has already.
///
/// It runs in a thread that all watches of the process share, in which every signal is blocked
/// and which takes no processor time while nothing happens; so it should be short, and must not
/// wait.
///
/// # Errors
///
/// The system is out of descriptors or threads. `is_inherited` if the child belongs to the
/// process of which this one is a copy.
pub fn on_exit(child: &Child, callback: Box<dyn FnOnce() + Send>) -> Result<Watch> {
    child.check_owner()?;
    let sentinel = child.share_sentinel();
    WATCHER.get_or_make(Watcher::new)?.add(Entry { sentinel, callback })
}

impl Watcher {
    fn new() -> Result<Self> {
        Ok(Self { set: event::Set::new()?, watches: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, mut entry: Entry) -> Result<Watch> {
        let mut watches = self.lock();
        if !watches.has_thread {
            self.start()?;
            watches.has_thread = true;
        }
        watches.last += 1;
        let number = watches.last;
        // Under the lock, so that the thread finds the entry if the child has ended already.
        match self.set.add(entry.sentinel.as_fd(), number) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                // A second watch over the same child.
                entry.sentinel = Arc::new(event::duplicate(entry.sentinel.as_fd())?);
                self.set.add(entry.sentinel.as_fd(), number)?;
            }
            added => added?,
        }
        watches.entries.insert(number, entry);
        Ok(Watch { number, generation: fork::generation() })
    }

    fn start(&'static self) -> Result<()> {
        let _blocked = signal::AllBlocked::new();
        thread::start(c"manycore-watch", 256 << 10, || self.run())
    }

    fn run(&self) {
        // An error would mean that the descriptor is no epoll, closed behind our back.
        while let Ok(number) = self.set.next() {
            if let Some(callback) = self.remove(number) {
                // A panic has been reported; the other watches go on.
                let _ = catch_unwind(AssertUnwindSafe(callback));
            }
        }
    }

    fn remove(&self, number: u64) -> Option<Callback> {
        let entry = self.lock().entries.remove(&number)?;
        // Closing alone would not do: a forked copy may have the sentinel open.
        self.set.remove(&entry.sentinel);
        Some(entry.callback)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            return;
        }
        if let Some(watcher) = WATCHER.get() {
            watcher.remove(self.number);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
