//! Descriptors that go with messages: each crosses a link once and has a name from then on.
//!
//! The side that has a descriptor decides how long the other keeps it. As long as it is open here,
//! messages only name it. When its last clone is gone, a record says that it will not be named
//! again, and the other side lets go of it, but for the objects that were made of it.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::hall::Hall;
use super::mail::{self, Content};
use crate::Result;
use crate::memory::{Block, Descriptor, Mourner};
use crate::primitive::{AtomicBool, Ordering};

/// The side that sends.
pub(super) struct DescriptorWriter {
    socket: Descriptor,
    /// What the other side has.
    known: HashSet<u64>,
    ends: Arc<Ends>,
    /// Of those that have ended, the ones that the other side was not told of yet.
    untold: Vec<u64>,
}

impl DescriptorWriter {
    /// If there is a hall, its supervisor is woken when a descriptor ends.
    pub(super) fn new(socket: Descriptor, hall: Option<Hall>) -> Self {
        let ends = Ends { ids: Mutex::default(), any: AtomicBool::new(false), hall };
        Self { socket, known: HashSet::new(), ends: Arc::new(ends), untold: Vec::new() }
    }

    /// Sends those that the other side does not have; false if it has not made room yet.
    pub(super) fn send(&mut self, descriptors: &[Descriptor]) -> Result<bool> {
        let mut new: Vec<&Descriptor> =
            descriptors.iter().filter(|it| !self.known.contains(&it.id())).collect();
        if new.is_empty() {
            return Ok(true);
        }
        new.sort_unstable_by_key(|descriptor| descriptor.id());
        new.dedup_by_key(|descriptor| descriptor.id());
        let (private, others): (Vec<_>, Vec<_>) = new.into_iter().partition(|it| it.is_private());
        Ok(self.send_letters(Content::Descriptors, &others)?
            && self.send_letters(Content::Private, &private)?)
    }

    fn send_letters(&mut self, content: Content, descriptors: &[&Descriptor]) -> Result<bool> {
        for part in descriptors.chunks(mail::MOST) {
            if !self.send_letter(content, part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn send_letter(&mut self, content: Content, descriptors: &[&Descriptor]) -> Result<bool> {
        let ids: Vec<u64> = descriptors.iter().map(|it| it.id()).collect();
        let fds: Vec<_> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
        let sent = mail::send(&self.socket, content, &ids, &fds)?;
        if sent {
            for descriptor in descriptors {
                self.known.insert(descriptor.id());
                descriptor.watch(&self.ends)?;
            }
        }
        Ok(sent)
    }

    /// The other side could not take this one in: it has to be sent again.
    pub(super) fn unknow(&mut self, id: u64) {
        self.known.remove(&id);
    }

    /// Whether descriptors have ended since [`Self::next_end`] was asked last.
    pub(super) fn has_news(&self) -> bool {
        // Acquire: pairs with the release store in `Ends::ended`.
        self.ends.any.load(Ordering::Acquire)
    }

    /// A descriptor that has ended, which the other side is to be told; see [`Self::told`].
    pub(super) fn next_end(&mut self) -> Option<u64> {
        if self.has_news() {
            let ended = self.ends.take();
            self.untold.extend(ended.into_iter().filter(|id| self.known.remove(id)));
        }
        self.untold.last().copied()
    }

    /// The other side was told of what [`Self::next_end`] gave.
    pub(super) fn told(&mut self) {
        self.untold.pop();
    }
}

/// Descriptors that the other side has and that have ended.
struct Ends {
    ids: Mutex<Vec<u64>>,
    any: AtomicBool,
    hall: Option<Hall>,
}

impl Ends {
    fn take(&self) -> Vec<u64> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: the lock orders it.
        self.any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *ids)
    }
}

impl Mourner for Ends {
    fn ended(&self, id: u64) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.push(id);
        // Release: pairs with the acquire load in `has_news`.
        self.any.store(true, Ordering::Release);
        drop(ids);
        if let Some(hall) = &self.hall {
            hall.back().ring();
        }
    }
}

/// The side that receives.
#[derive(Default)]
pub(super) struct DescriptorReader {
    arrived: HashMap<u64, Received>,
}

impl DescriptorReader {
    /// Takes in descriptors with their names. If there are too few, the last were lost.
    pub(super) fn insert_all(&mut self, ids: &[u64], came: impl Iterator<Item = Descriptor>) {
        let came = came.map(Some).chain(std::iter::repeat_with(|| None));
        for (id, descriptor) in ids.iter().copied().zip(came) {
            let arrived = Arrived { id, descriptor, whole: OnceLock::new(), kept: OnceLock::new() };
            self.arrived.insert(id, Received { arrived: Arc::new(arrived) });
        }
    }

    /// Whether this one has arrived, and not only its name.
    pub(super) fn has(&self, id: u64) -> bool {
        self.arrived.get(&id).is_some_and(|received| !received.is_lost())
    }

    pub(super) fn get(&self, id: u64) -> Option<Received> {
        self.arrived.get(&id).cloned()
    }

    /// Lets go of one; whether it was there.
    pub(super) fn forget(&mut self, id: u64) -> bool {
        self.arrived.remove(&id).is_some()
    }
}

/// A descriptor that came with a message. It stays open as long as its sender has it open, or
/// somebody here uses it.
#[derive(Clone)]
pub struct Received {
    arrived: Arc<Arrived>,
}

struct Arrived {
    id: u64,
    /// `None`: it was lost on the way, since too many were open.
    descriptor: Option<Descriptor>,
    /// The shared memory behind it, if this process has mapped it for this.
    whole: OnceLock<Block>,
    kept: OnceLock<Kept>,
}

/// Something of the face's.
type Kept = Box<dyn Any + Send + Sync>;

impl Received {
    /// The name that it has in the process that sent it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.arrived.id
    }

    /// The descriptor.
    ///
    /// # Errors
    ///
    /// It was lost on the way: this process has too many descriptors open.
    pub fn descriptor(&self) -> Result<&Descriptor> {
        self.arrived.descriptor.as_ref().ok_or_else(mail::lost)
    }

    /// The block at `offset` of the shared memory behind the descriptor, which is mapped once for
    /// all.
    ///
    /// # Errors
    ///
    /// As [`Self::descriptor`]; or it is no shared memory, or the place is not inside it.
    pub fn block(&self, offset: usize, len: usize) -> Result<Block> {
        self.whole()?.part(offset, len)
    }

    /// As [`Self::block`], all of it.
    ///
    /// # Errors
    ///
    /// As [`Self::block`].
    pub fn whole(&self) -> Result<Block> {
        if let Some(whole) = self.arrived.whole.get() {
            return Ok(whole.clone());
        }
        let (whole, new) = Block::attach_whole(self.descriptor()?.clone())?;
        // Memory that this process had already is not kept: its own use decides how long it
        // lives, and our sender may wait for its end to let go of it.
        Ok(if new { self.arrived.whole.get_or_init(|| whole).clone() } else { whole })
    }

    /// Keeps what the face has made of it for as long as the sender has the descriptor open, unless
    /// something is kept already.
    pub fn keep(&self, value: Kept) {
        // Who comes second goes on with what it has.
        let _ = self.arrived.kept.set(value);
    }

    /// What is kept with it.
    #[must_use]
    pub fn kept<T: 'static>(&self) -> Option<&T> {
        self.arrived.kept.get()?.downcast_ref()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.arrived.descriptor.is_none()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("id", &self.id()).finish_non_exhaustive()
    }
}
