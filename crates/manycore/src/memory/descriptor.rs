//! A descriptor that goes to other processes with messages.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::Result;
use crate::primitive::{AtomicBool, Ordering, fixed};
use crate::sys::fork::PerProcess;
use crate::sys::private::PrivateFd;

static LAST: fixed::AtomicU64 = fixed::AtomicU64::new(0);

/// An open descriptor with a name, by which links know what they have sent already: however many
/// messages it goes with, it crosses to each process once. Cheap to clone, closed with the last
/// clone; the other processes are then told that it will not come again.
#[derive(Clone)]
pub struct Descriptor {
    inner: Arc<Inner>,
}

struct Inner {
    fd: Fd,
    id: u64,
    /// Dropped after the descriptor.
    end: End,
}

enum Fd {
    Inherited(OwnedFd),
    Private(PrivateFd),
}

/// Is told of the end of descriptors.
pub(crate) trait Mourner: Send + Sync {
    /// The descriptor of this name is closed. May be called on any thread.
    fn ended(&self, id: u64);
}

struct End {
    id: u64,
    /// Somebody wants to be told.
    is_watched: AtomicBool,
}

/// Who is to be told of which end. Each process has its own: a forked child must neither tell the
/// mourners of its parent, nor wait for a lock that a thread of its parent held.
type Mourners = Mutex<HashMap<u64, Vec<Weak<dyn Mourner>>>>;

static MOURNERS: PerProcess<Mourners> = PerProcess::new();

impl Descriptor {
    /// Takes an open descriptor, which forked children inherit.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self::of(Fd::Inherited(fd))
    }

    fn of(fd: Fd) -> Self {
        // Relaxed: only that no two are the same matters.
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let end = End { id, is_watched: AtomicBool::new(false) };
        Self { inner: Arc::new(Inner { fd, id, end }) }
    }

    /// A copy of a descriptor that somebody else goes on with. Nobody knows of the copy, so
    /// forked children do not have it.
    ///
    /// # Errors
    ///
    /// This process has too many descriptors open.
    pub fn copy_of(fd: BorrowedFd<'_>) -> Result<Self> {
        PrivateFd::copy_of(fd).map(|fd| Self::of(Fd::Private(fd)))
    }

    /// As [`Self::new`], but forked children do not have it.
    pub(crate) fn private(fd: OwnedFd) -> Self {
        Self::of(Fd::Private(PrivateFd::new(fd)))
    }

    /// As [`PrivateFd::make`].
    pub(crate) fn make_private<T>(
        make: impl FnOnce() -> Result<(OwnedFd, T)>,
    ) -> Result<(Self, T)> {
        PrivateFd::make(make).map(|(fd, other)| (Self::of(Fd::Private(fd)), other))
    }

    /// Whether forked children do not have it.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self.inner.fd, Fd::Private(_))
    }

    /// Its name, which no other descriptor of this process ever has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Has `mourner` told when the last clone is gone, for as long as it lives itself.
    ///
    /// # Errors
    ///
    /// None at present.
    pub(crate) fn watch(&self, mourner: &Arc<impl Mourner + 'static>) -> Result<()> {
        let mourners = MOURNERS.get_or_make(|| Ok(Mourners::default()))?;
        let mut mourners = mourners.lock().unwrap_or_else(PoisonError::into_inner);
        let mourners = mourners.entry(self.id()).or_default();
        mourners.retain(|other| other.strong_count() > 0);
        let mourner: Weak<dyn Mourner> = Arc::downgrade(mourner) as _;
        mourners.push(mourner);
        // Relaxed: the drop that reads it comes after the last reference, which orders them.
        self.inner.end.is_watched.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The descriptor itself, if this is the last clone and it is not private.
    pub(super) fn into_fd(self) -> Option<OwnedFd> {
        match Arc::into_inner(self.inner)?.fd {
            Fd::Inherited(fd) => Some(fd),
            Fd::Private(_) => None,
        }
    }

    /// To know of its end without putting it off.
    pub(crate) fn downgrade(&self) -> WeakDescriptor {
        WeakDescriptor { inner: Arc::downgrade(&self.inner) }
    }
}

/// What is left of a descriptor for those who only want to know whether it is still there.
pub(crate) struct WeakDescriptor {
    inner: Weak<Inner>,
}

impl WeakDescriptor {
    pub(crate) fn has_ended(&self) -> bool {
        self.inner.strong_count() == 0
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner.fd {
            Fd::Inherited(fd) => fd.as_fd(),
            Fd::Private(fd) => fd.as_fd(),
        }
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptor").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let Some(mourners) = MOURNERS.get().filter(|_| self.is_watched.load(Ordering::Relaxed))
        else {
            return;
        };
        let mourners = mourners.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        for mourner in mourners.iter().flatten().filter_map(Weak::upgrade) {
            mourner.ended(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory;

    #[derive(Default)]
    struct Deaths(Mutex<Vec<u64>>);

    impl Mourner for Deaths {
        fn ended(&self, id: u64) {
            self.0.lock().unwrap().push(id);
        }
    }

    #[test]
    fn its_end_is_told_once_and_to_those_who_live() {
        let [one, other] = [1, 2].map(|_| Descriptor::new(memory::create(1).unwrap()));
        assert_ne!(one.id(), other.id());
        let (deaths, gone) = (Arc::new(Deaths::default()), Arc::new(Deaths::default()));
        one.watch(&gone).unwrap();
        one.watch(&deaths).unwrap();
        other.watch(&deaths).unwrap();
        drop(gone);
        let (id, clone, weak) = (one.id(), one.clone(), one.downgrade());
        drop(one);
        assert!(deaths.0.lock().unwrap().is_empty() && !weak.has_ended());
        drop(clone);
        assert_eq!(*deaths.0.lock().unwrap(), [id]);
        assert!(weak.has_ended());
    }
}
