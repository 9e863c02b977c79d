//! The functions that a pool has seen: each travels once to each worker.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::memory::{Descriptor, WeakDescriptor};
use crate::primitive::AtomicU64;

/// More functions than this are kept only while jobs use them.
const KEPT: usize = 64;

/// A function in the face's encoding, under the number that workers know it by.
#[derive(Debug)]
pub struct Function {
    pub(super) number: u32,
    pub(super) body: Arc<[u8]>,
    pub(super) descriptors: Vec<Descriptor>,
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

/// All functions that workers may know, by content.
#[derive(Default)]
pub(super) struct Functions {
    by_body: HashMap<Arc<[u8]>, Entry>,
    last: u32,
    clock: u64,
    /// Descriptors have ended since functions were last let go of.
    expired: bool,
}

struct Entry {
    number: u32,
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

    /// Whether a descriptor has ended: then the body cannot come again, since it names it.
    fn has_expired(&self) -> bool {
        self.descriptors.iter().any(WeakDescriptor::has_ended)
    }
}

impl Functions {
    /// The function with this body, new or known. The body names the descriptors.
    pub(super) fn intern(&mut self, body: &[u8], descriptors: &[Descriptor]) -> Arc<Function> {
        self.clock += 1;
        let known = self.by_body.get(body).and_then(|entry| entry.function.upgrade());
        let function = known.unwrap_or_else(|| self.make(body, descriptors));
        let entry = self.by_body.entry(Arc::clone(&function.body)).or_insert_with(|| Entry {
            number: function.number,
            function: Weak::new(),
            descriptors: descriptors.iter().map(Descriptor::downgrade).collect(),
            times: Arc::clone(&function.times),
            used: 0,
        });
        entry.function = Arc::downgrade(&function);
        entry.used = self.clock;
        function
    }

    /// A function that nobody uses now, under the number that it had before.
    fn make(&mut self, body: &[u8], descriptors: &[Descriptor]) -> Arc<Function> {
        let known = self.by_body.get_key_value(body);
        let (number, body, times) = match known {
            Some((body, entry)) => (entry.number, Arc::clone(body), Arc::clone(&entry.times)),
            None => (self.last + 1, body.into(), Arc::default()),
        };
        self.last = self.last.max(number);
        Arc::new(Function { number, body, descriptors: descriptors.to_vec(), times })
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
        let body = expired.or_else(|| self.find_surplus())?;
        self.by_body.remove(&body).map(|entry| entry.number)
    }

    fn find_expired(&self) -> Option<Arc<[u8]>> {
        let expired = |entry: &Entry| entry.is_unused() && entry.has_expired();
        self.by_body.iter().find(|(_, entry)| expired(entry)).map(|(body, _)| Arc::clone(body))
    }

    fn find_surplus(&self) -> Option<Arc<[u8]>> {
        if self.by_body.len() <= KEPT {
            return None;
        }
        let unused = self.by_body.iter().filter(|(_, entry)| entry.is_unused());
        unused.min_by_key(|(_, entry)| entry.used).map(|(body, _)| Arc::clone(body))
    }
}
