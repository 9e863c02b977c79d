//! The functions that a pool has seen: each travels once to each worker.

use std::collections::HashMap;
use std::sync::Arc;

/// More functions than this are kept only while jobs use them.
const KEPT: usize = 64;

/// A function in the face's encoding, under the number that workers know it by.
#[derive(Debug)]
pub struct Function {
    pub(super) number: u32,
    pub(super) body: Arc<[u8]>,
}

/// All functions that workers may know, by content.
#[derive(Default)]
pub(super) struct Functions {
    by_body: HashMap<Arc<[u8]>, Entry>,
    last: u32,
    clock: u64,
}

struct Entry {
    function: Arc<Function>,
    used: u64,
}

impl Functions {
    /// The function with this body, new or known.
    pub(super) fn intern(&mut self, body: &[u8]) -> Arc<Function> {
        self.clock += 1;
        if let Some(entry) = self.by_body.get_mut(body) {
            entry.used = self.clock;
            return Arc::clone(&entry.function);
        }
        self.last += 1;
        let body: Arc<[u8]> = body.into();
        let function = Arc::new(Function { number: self.last, body: Arc::clone(&body) });
        let entry = Entry { function: Arc::clone(&function), used: self.clock };
        self.by_body.insert(body, entry);
        function
    }

    /// Lets go of the function that was used longest ago, if there are too many and no job needs
    /// it; the workers are to forget it.
    pub(super) fn evict(&mut self) -> Option<u32> {
        if self.by_body.len() <= KEPT {
            return None;
        }
        let unused = self.by_body.values().filter(|e| Arc::strong_count(&e.function) == 1);
        let function = Arc::clone(&unused.min_by_key(|entry| entry.used)?.function);
        self.by_body.remove(&function.body);
        Some(function.number)
    }
}
