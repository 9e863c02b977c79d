//! The functions that a pool has seen: each travels once to each worker.
//!
//! A small one travels in a message. A large one lies in sealed memory, which its workers share, so
//! it is copied once for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::channel::{Head, Kind, Message, Payload, SealedMessage};
use crate::memory::{Descriptor, WeakDescriptor};
use crate::primitive::AtomicU64;
use crate::{Error, Result};

/// More functions than this are kept only while jobs use them.
const KEPT: usize = 64;

/// Large functions of more bytes than this in total are kept only while jobs use them, but for the
/// one that was used last.
const KEPT_BYTES: usize = 256 << 20;

/// A function whose body is longer than this is a large one; so is one that has buffers.
const LARGE: usize = 32 << 10;

/// In the tag of a definition: the body is the name of the sealed memory that has the function.
const SEALED: u8 = 1;

/// A function in the face's encoding, under the number that workers know it by.
#[derive(Debug)]
pub struct Function {
    pub(super) number: u32,
    content: Content,
    /// That of the sealed memory among them.
    descriptors: Vec<Descriptor>,
    pub(super) times: Arc<Times>,
}

/// How long a function takes, in nanoseconds; 0 if that is not known.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// A call that is a job of its own: a running mean.
    pub(super) call: AtomicU64,
    /// An item of the last job that sized its tasks itself.
    pub(super) item: AtomicU64,
}

/// What a function is.
#[derive(Clone, Debug)]
enum Content {
    Inline(Arc<[u8]>),
    Sealed(Arc<SealedMessage>),
}

impl Content {
    /// How much memory it takes that is not the parent's own.
    fn shared_bytes(&self) -> usize {
        match self {
            Self::Inline(_) => 0,
            Self::Sealed(message) => message.memory().len(),
        }
    }
}

impl Function {
    /// Calls `f` with the message that makes the function known to a worker.
    pub(super) fn define<R>(&self, f: impl FnOnce(Head, &Payload<'_>) -> R) -> R {
        let head = Head { function: self.number, ..Head::new(Kind::Define) };
        let descriptors = &self.descriptors;
        match &self.content {
            Content::Inline(body) => {
                f(head, &Payload { body: &[body], descriptors, ..Payload::default() })
            }
            Content::Sealed(message) => {
                let name = message.memory().descriptor().id().to_le_bytes();
                let payload = Payload { body: &[&name], descriptors, ..Payload::default() };
                f(Head { tag: SEALED, ..head }, &payload)
            }
        }
    }
}

/// A function as it comes to a worker.
#[derive(Debug)]
pub struct Definition {
    message: Message,
    sealed: Option<SealedMessage>,
}

impl Definition {
    pub(super) fn new(message: Message) -> Result<Self> {
        let sealed = if message.tag() == SEALED { Some(find_sealed(&message)?) } else { None };
        Ok(Self { message, sealed })
    }

    /// Whether it lies in memory that all workers share.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.sealed.is_some()
    }

    /// The function in the face's encoding. The bytes of a large one are new each time, and belong
    /// to the caller.
    ///
    /// # Errors
    ///
    /// There is no address space left.
    pub fn open(&self) -> Result<Message> {
        let Some(sealed) = &self.sealed else { return Ok(self.message.clone()) };
        Ok(sealed.open()?.with_descriptors(self.message.descriptors().to_vec()))
    }
}

fn find_sealed(message: &Message) -> Result<SealedMessage> {
    let corrupt = || Error::corrupt("the name of a function's memory");
    let name: [u8; 8] = message.body().to_vec().try_into().map_err(|_| corrupt())?;
    let name = u64::from_le_bytes(name);
    let received = message.descriptors().iter().find(|it| it.id() == name).ok_or_else(corrupt)?;
    SealedMessage::attach(received.descriptor()?.clone())
}

/// All functions that workers may know, by content.
#[derive(Default)]
pub(super) struct Functions {
    small: HashMap<Arc<[u8]>, Entry>,
    large: Vec<Entry>,
    last: u32,
    clock: u64,
    /// Descriptors have ended since functions were last let go of.
    expired: bool,
    /// How much sealed memory was written.
    written: u64,
}

struct Entry {
    number: u32,
    content: Content,
    /// Of those who use it. It has the descriptors, so nobody else keeps them open.
    function: Weak<Function>,
    descriptors: Vec<WeakDescriptor>,
    times: Arc<Times>,
    used: u64,
}

impl Entry {
    fn is_unused(&self) -> bool {
        self.function.strong_count() == 0
    }

    /// Whether a descriptor has ended: then the function cannot come again, since it names it.
    fn has_expired(&self) -> bool {
        self.descriptors.iter().any(WeakDescriptor::has_ended)
    }

    /// The function, which names these descriptors.
    fn take(&mut self, descriptors: &[Descriptor], now: u64) -> Arc<Function> {
        self.used = now;
        if let Some(function) = self.function.upgrade() {
            return function;
        }
        let mut descriptors = descriptors.to_vec();
        if let Content::Sealed(message) = &self.content {
            descriptors.push(message.memory().descriptor().clone());
        }
        let (number, content, times) = (self.number, self.content.clone(), self.times.clone());
        let function = Arc::new(Function { number, content, descriptors, times });
        self.function = Arc::downgrade(&function);
        function
    }
}

/// Whether a function is to lie in sealed memory.
pub(super) fn is_large(payload: &Payload<'_>) -> bool {
    !payload.buffers.is_empty() || payload.body.iter().map(|part| part.len()).sum::<usize>() > LARGE
}

impl Functions {
    /// The small function with this body, new or known. The body names the descriptors.
    pub(super) fn intern(&mut self, body: &[u8], descriptors: &[Descriptor]) -> Arc<Function> {
        let now = self.tick();
        if let Some(entry) = self.small.get_mut(body) {
            return entry.take(descriptors, now);
        }
        let body: Arc<[u8]> = body.into();
        let mut entry = self.entry(Content::Inline(Arc::clone(&body)), descriptors);
        let function = entry.take(descriptors, now);
        self.small.insert(body, entry);
        function
    }

    /// The large functions, the one that was used last first.
    pub(super) fn large(&self) -> Vec<Arc<SealedMessage>> {
        let mut entries: Vec<&Entry> = self.large.iter().collect();
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.used));
        let sealed = |entry: &&Entry| match &entry.content {
            Content::Sealed(message) => Some(Arc::clone(message)),
            Content::Inline(_) => None,
        };
        entries.iter().filter_map(sealed).collect()
    }

    /// The large function that lies in this memory, new or known.
    pub(super) fn intern_sealed(
        &mut self,
        message: &Arc<SealedMessage>,
        descriptors: &[Descriptor],
    ) -> Arc<Function> {
        let now = self.tick();
        let same = |entry: &&mut Entry| match &entry.content {
            Content::Sealed(own) => Arc::ptr_eq(own, message),
            Content::Inline(_) => false,
        };
        if let Some(entry) = self.large.iter_mut().find(same) {
            return entry.take(descriptors, now);
        }
        let content = Content::Sealed(Arc::clone(message));
        self.written += content.shared_bytes() as u64;
        let mut entry = self.entry(content, descriptors);
        let function = entry.take(descriptors, now);
        self.large.push(entry);
        function
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn entry(&mut self, content: Content, descriptors: &[Descriptor]) -> Entry {
        self.last += 1;
        let descriptors = descriptors.iter().map(Descriptor::downgrade).collect();
        let (function, times) = (Weak::new(), Arc::default());
        Entry { number: self.last, content, function, descriptors, times, used: 0 }
    }

    /// How many bytes of sealed memory were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Descriptors have ended: some functions may be of no use any more.
    pub(super) fn expire(&mut self) {
        self.expired = true;
    }

    /// Lets go of a function that no job needs: one that cannot come again or, if there are too
    /// many, the one that was used longest ago. The workers are to forget it.
    pub(super) fn evict(&mut self) -> Option<u32> {
        let expired = self.expired.then(|| self.find_expired()).flatten();
        self.expired = expired.is_some();
        let number = expired.or_else(|| self.find_surplus())?;
        self.small.retain(|_, entry| entry.number != number);
        self.large.retain(|entry| entry.number != number);
        Some(number)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.small.values().chain(&self.large)
    }

    fn find_expired(&self) -> Option<u32> {
        let expired = |entry: &&Entry| entry.is_unused() && entry.has_expired();
        self.entries().find(expired).map(|entry| entry.number)
    }

    fn find_surplus(&self) -> Option<u32> {
        let oldest = |entries: &mut dyn Iterator<Item = &Entry>| {
            let unused = entries.filter(|entry| entry.is_unused());
            unused.min_by_key(|entry| entry.used).map(|entry| entry.number)
        };
        if self.small.len() + self.large.len() > KEPT {
            return oldest(&mut self.entries());
        }
        let last = self.large.iter().map(|entry| entry.used).max();
        let bytes: usize = self.large.iter().map(|entry| entry.content.shared_bytes()).sum();
        if bytes <= KEPT_BYTES {
            return None;
        }
        oldest(&mut self.large.iter().filter(|entry| Some(entry.used) != last))
    }
}
