//! Blocks and descriptors as values of a typed pool: they travel with the message, not in it.

use std::cell::{Cell, RefCell};

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::channel::{Message, OwnedPayload, Received};
use crate::memory::{Block, Descriptor};

thread_local! {
    /// The descriptors of the message that this thread encodes.
    static SENT: RefCell<Option<Vec<Descriptor>>> = const { RefCell::new(None) };

    /// Those that came with the message that this thread decodes.
    static RECEIVED: RefCell<Vec<Received>> = const { RefCell::new(Vec::new()) };

    static KEEPS: Cell<bool> = const { Cell::new(false) };
}

/// Encodes a value, with what it shares.
pub(super) fn encode<T: Serialize>(value: &T) -> postcard::Result<OwnedPayload> {
    let outer = SENT.replace(Some(Vec::new()));
    let bytes = postcard::to_stdvec(value);
    let descriptors = SENT.replace(outer).unwrap_or_default();
    Ok(OwnedPayload::from_body(bytes?).with_descriptors(descriptors))
}

/// Decodes a message's value, with what it shares.
pub(super) fn decode<T: DeserializeOwned>(message: &Message) -> postcard::Result<T> {
    let outer = RECEIVED.replace(message.descriptors().to_vec());
    let value = postcard::from_bytes(&message.body().to_vec());
    RECEIVED.set(outer);
    value
}

/// As [`decode`], in a worker: shared values stay until their sender lets go of them.
pub(super) fn decode_and_keep<T: DeserializeOwned>(message: &Message) -> postcard::Result<T> {
    let outer = KEEPS.replace(true);
    let value = decode(message);
    KEEPS.set(outer);
    value
}

/// Whether shared values stay that are decoded now.
pub(super) fn keeps() -> bool {
    KEEPS.get()
}

const NO_MESSAGE: &str = "shared memory and descriptors travel only in the messages of a pool";

/// Has a descriptor go with the message; gives its name.
pub(super) fn send<E: serde::ser::Error>(descriptor: Descriptor) -> Result<u64, E> {
    let id = descriptor.id();
    SENT.with_borrow_mut(|sent| {
        let sent = sent.as_mut().ok_or_else(|| E::custom(NO_MESSAGE))?;
        if !sent.iter().any(|known| known.id() == id) {
            sent.push(descriptor);
        }
        Ok(id)
    })
}

pub(super) fn receive<E: serde::de::Error>(id: u64) -> Result<Received, E> {
    let found = RECEIVED.with_borrow(|all| all.iter().find(|one| one.id() == id).cloned());
    found.ok_or_else(|| E::custom(NO_MESSAGE))
}

/// In a pool's inputs and results: the same memory at both ends.
impl Serialize for Block {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (descriptor, offset, len) = self.share_descriptor().map_err(S::Error::custom)?;
        (send::<S::Error>(descriptor)?, offset, len).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, offset, len) = Deserialize::deserialize(deserializer)?;
        receive::<D::Error>(id)?.block(offset, len).map_err(D::Error::custom)
    }
}

/// In a pool's inputs and results: the same open file at both ends.
impl Serialize for Descriptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        send::<S::Error>(self.clone())?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let received = receive::<D::Error>(Deserialize::deserialize(deserializer)?)?;
        received.descriptor().cloned().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_message_nothing_is_shared() {
        let block = Block::new(8).unwrap();
        assert!(postcard::to_stdvec(&block).is_err());
        assert!(encode(&(1, &block)).is_ok());
        assert!(postcard::to_stdvec(&block).is_err());
        let place = postcard::to_stdvec(&(1u64, 0usize, 8usize)).unwrap();
        assert!(postcard::from_bytes::<Block>(&place).is_err());
    }
}
