//! Values that are encoded once and lie in memory that all processes share.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{TaskError, sharing};
use crate::channel::{Payload, Received, SealedMessage};

/// A value for all workers of a [`Pool`](crate::Pool): encoded once, sent once to each worker, and
/// decoded there once, however many inputs have it.
///
/// ```no_run
/// use manycore::Shared;
///
/// fn look_up((table, place): (Shared<Vec<u64>>, usize)) -> u64 {
///     table[place]
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     manycore::init();
///     let pool = manycore::Pool::builder().workers(2).build()?;
///     let table = Shared::<Vec<u64>>::new((0..1_000_000).collect())?;
///     pool.map(look_up, (0..1000).map(|place| (table.clone(), place)))?;
///     Ok(())
/// }
/// ```
pub struct Shared<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    value: T,
    message: SealedMessage,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: Serialize> Shared<T> {
    /// Encodes a value into memory that all processes share.
    ///
    /// # Errors
    ///
    /// It cannot be encoded, or has blocks or descriptors in it, which travel with messages; or
    /// there is not enough memory.
    pub fn new(value: T) -> Result<Self, TaskError> {
        let body = postcard::to_stdvec(&value)?;
        let message = SealedMessage::new(&Payload { body: &[&body], ..Payload::default() })?;
        Ok(Self { inner: Arc::new(Inner { value, message }) })
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.inner.value).finish()
    }
}

/// In a pool's inputs and results: the same value at both ends.
impl<T> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.inner.message.memory().descriptor().clone();
        sharing::send::<S::Error>(descriptor)?.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned + Send + Sync + 'static> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let received = sharing::receive::<D::Error>(Deserialize::deserialize(deserializer)?)?;
        if let Some(inner) = received.kept::<Kept<T>>().and_then(|kept| kept.known.upgrade()) {
            return Ok(Self { inner });
        }
        let shared = Self::from(&received).map_err(D::Error::custom)?;
        let known = Arc::downgrade(&shared.inner);
        let _here = sharing::keeps().then(|| Arc::clone(&shared.inner));
        received.keep(Box::new(Kept { known, _here }));
        Ok(shared)
    }
}

/// What a link keeps of a value that came over it.
struct Kept<T> {
    known: Weak<Inner<T>>,
    /// Only in a worker: what a parent's link keeps is dropped with the pool's lock, which is no
    /// moment for the drop of a user's value.
    _here: Option<Arc<Inner<T>>>,
}

impl<T: DeserializeOwned> Shared<T> {
    fn from(received: &Received) -> Result<Self, TaskError> {
        let message = SealedMessage::attach(received.descriptor()?.clone())?;
        let value = sharing::decode(&message.open()?)?;
        Ok(Self { inner: Arc::new(Inner { value, message }) })
    }
}
