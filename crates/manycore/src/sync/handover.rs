//! A message from hand to hand: from one who has it to one who waits for it at this very moment.

use std::thread;

use super::mutex::RawMutex;
use super::shared::{Layout, Shared};
use crate::Result;
use crate::memory::Block;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, spin_loop};

/// The longest message that is handed over.
const ROOM: usize = WORDS * WORD;
const WORDS: usize = 32;
const WORD: usize = 8;

/// How often the giver looks for an answer before it offers its processor to the taker, and how
/// often it does that before it takes the message back.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 100 };
const ROUNDS: u32 = if cfg!(loom) { 1 } else { 4 };

/// Beside a channel that keeps messages. Nothing is ever kept here: a message is either taken by
/// somebody who is in the middle of receiving, or it is taken back and goes through the channel.
/// So nobody can tell from the channel that this exists.
///
/// The order holds because a taker first looks whether the channel is empty. Whatever was sent
/// before the offer is there by then, and the offer is refused. A taker that was held up between
/// its look and its answer does not take a later offer for this one: the number has changed.
///
/// A giver that is killed leaves a whole message, which may be taken, or the givers' lock, which is
/// only ever tried. A taker that is killed leaves an offer that is taken back. One that is killed
/// while it copies leaves the state `taken`, and everything goes through the channel from then on.
#[derive(Debug)]
#[repr(C, align(64))]
struct RawHandover {
    /// | bits | meaning |
    /// |---|---|
    /// | 0 and 1 | the state |
    /// | 2 to 31 | grows with every offer that ends, so that no two are alike; wrapping |
    ///
    /// | from | to | by | when |
    /// |---|---|---|---|
    /// | `n`, idle | `n`, waiting | a taker | begins to look out |
    /// | `n`, waiting | `n`, idle | a taker | stops |
    /// | `n`, waiting | `n`, offered | the giver with the lock | has written the message |
    /// | `n`, offered | `n`, taken | a taker | the channel is empty |
    /// | `n`, taken | `n + 1`, idle | the same taker | has copied the message |
    /// | `n`, offered | `n + 2`, idle | a taker | the channel is not empty |
    /// | `n`, offered | `n + 2`, idle | the giver | nobody answers |
    word: AtomicU32,
    len: AtomicU32,
    /// Held by the giver.
    lock: RawMutex,
    message: [AtomicU64; WORDS],
}

const STATE: u32 = 3;
const IDLE: u32 = 0;
const WAITING: u32 = 1;
const OFFERED: u32 = 2;
const TAKEN: u32 = 3;
const ONE: u32 = 4;
const TWO: u32 = 2 * ONE;

/// A message that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer(u32);

impl RawHandover {
    #[cfg(loom)]
    fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            len: AtomicU32::new(0),
            lock: RawMutex::new(),
            message: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Hands the message over if somebody waits for it. Whether it was taken.
    fn give(&self, message: &[u8]) -> bool {
        if !self.is_wanted() || message.len() > ROOM || !self.lock.try_lock() {
            return false;
        }
        let given = self.offer(message).is_some_and(|offer| self.is_accepted(offer));
        // It is held, so this cannot fail.
        let _ = self.lock.unlock();
        given
    }

    fn is_wanted(&self) -> bool {
        self.word.load(Ordering::Relaxed) & STATE == WAITING
    }

    /// Only for the holder of the lock.
    fn offer(&self, message: &[u8]) -> Option<Offer> {
        // Acquire, partner: the Release in `take`: the last message has been copied.
        let waiting = self.word.load(Ordering::Acquire);
        if waiting & STATE != WAITING {
            return None;
        }
        self.len.store(message.len() as u32, Ordering::Relaxed);
        for (place, bytes) in self.message.iter().zip(message.chunks(WORD)) {
            let mut word = [0; WORD];
            word[..bytes.len()].copy_from_slice(bytes);
            place.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        let offered = waiting - WAITING + OFFERED;
        // Release, partner: the Acquire in `offered`.
        self.change(waiting, offered, Ordering::Release).then_some(Offer(offered))
    }

    /// Waits a moment for the answer, and takes the message back if there is none.
    fn is_accepted(&self, Offer(offered): Offer) -> bool {
        for round in 0..=ROUNDS {
            for _ in 0..LOOKS {
                let word = self.word.load(Ordering::Relaxed);
                if word != offered {
                    return Self::says_taken(word, offered);
                }
                spin_loop();
            }
            if round < ROUNDS {
                thread::yield_now();
            }
        }
        let idle = Self::ended(offered);
        let back = self.word.compare_exchange(offered, idle, Ordering::Relaxed, Ordering::Relaxed);
        back.is_err_and(|word| Self::says_taken(word, offered))
    }

    /// There is no other offer until the giver, who asks, has unlocked.
    fn says_taken(word: u32, offered: u32) -> bool {
        let since = (word & !STATE).wrapping_sub(offered & !STATE);
        word & STATE == TAKEN || since == ONE
    }

    /// What follows an offer that nobody takes.
    fn ended(offered: u32) -> u32 {
        (offered - OFFERED).wrapping_add(TWO)
    }

    /// Says that somebody waits.
    fn wait(&self) {
        let word = self.word.load(Ordering::Relaxed);
        if word & STATE == IDLE {
            self.change(word, word + WAITING, Ordering::Relaxed);
        }
    }

    fn offered(&self) -> Option<Offer> {
        // Acquire, partner: the Release in `offer`.
        let word = self.word.load(Ordering::Acquire);
        (word & STATE == OFFERED).then_some(Offer(word))
    }

    /// Takes the message, unless the giver has taken it back or somebody else was faster; gives its
    /// length.
    fn take(&self, Offer(offered): Offer, into: &mut [u8; ROOM]) -> Option<usize> {
        let taken = offered - OFFERED + TAKEN;
        if !self.change(offered, taken, Ordering::Acquire) {
            return None;
        }
        let len = (self.len.load(Ordering::Relaxed) as usize).min(ROOM);
        for (place, bytes) in self.message.iter().zip(into[..len].chunks_mut(WORD)) {
            let word = place.load(Ordering::Relaxed).to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
        let idle = (taken - TAKEN).wrapping_add(ONE);
        // Release, partner: the Acquire in `offer`.
        self.word.store(idle, Ordering::Release);
        Some(len)
    }

    /// Says that nobody waits any more. An offer that was made meanwhile stays, and is returned.
    fn leave(&self) -> Option<Offer> {
        let word = self.word.load(Ordering::Relaxed);
        if word & STATE == WAITING {
            self.change(word, word - WAITING, Ordering::Relaxed);
        }
        self.offered()
    }

    fn refuse(&self, Offer(offered): Offer) {
        self.change(offered, Self::ended(offered), Ordering::Relaxed);
    }

    fn change(&self, from: u32, to: u32, order: Ordering) -> bool {
        self.word.compare_exchange(from, to, order, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: repr(C), atomics only, idle when zero.
unsafe impl Layout for RawHandover {}

/// A place in shared memory where messages are handed over; see `RawHandover`.
#[derive(Clone, Debug)]
pub(crate) struct Handover {
    raw: Shared<RawHandover>,
}

impl Handover {
    /// The longest message.
    pub(crate) const ROOM: usize = ROOM;
    /// What it takes up.
    pub(crate) const SIZE: usize = size_of::<RawHandover>();

    /// The one in `block`; a new one if the block is zeroed.
    pub(crate) fn from_block(block: Block) -> Result<Self> {
        Ok(Self { raw: Shared::from_block(block)? })
    }

    /// Whether somebody waits at this moment.
    pub(crate) fn is_wanted(&self) -> bool {
        self.raw.is_wanted()
    }

    /// Hands the message over if somebody waits for it. Whether it was taken.
    pub(crate) fn give(&self, message: &[u8]) -> bool {
        self.raw.give(message)
    }

    /// Says that somebody waits, who looks for offers all the time until [`Self::leave`].
    pub(crate) fn wait(&self) {
        self.raw.wait();
    }

    /// The offer of a message, if there is one.
    #[inline]
    pub(crate) fn offered(&self) -> Option<Offer> {
        self.raw.offered()
    }

    /// Takes the message, unless it is not there any more; gives its length. The caller has found
    /// the channel empty after it saw the offer.
    pub(crate) fn take(&self, offer: Offer, into: &mut [u8; ROOM]) -> Option<usize> {
        self.raw.take(offer, into)
    }

    /// Says that nobody waits any more. An offer that was made meanwhile has to be taken or
    /// refused.
    pub(crate) fn leave(&self) -> Option<Offer> {
        self.raw.leave()
    }

    /// Has the message go through the channel.
    pub(crate) fn refuse(&self, offer: Offer) {
        self.raw.refuse(offer);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A taker that was held up after its look at the channel.
    #[test]
    fn an_offer_that_is_over_is_not_taken_for_the_next_one() {
        let place = Handover::from_block(Block::new(Handover::SIZE).unwrap()).unwrap();
        let mut room = [0; ROOM];
        let offer = |message: u8| {
            place.wait();
            place.raw.offer(&[message; 16]).unwrap()
        };
        let taken_back = offer(1);
        assert!(!place.raw.is_accepted(taken_back));
        let refused = offer(2);
        assert_eq!(place.take(taken_back, &mut room), None);
        place.refuse(taken_back);
        assert_eq!(place.offered(), Some(refused));
        place.refuse(refused);
        assert!(!place.raw.is_accepted(refused));
        let third = offer(3);
        assert_eq!(place.take(refused, &mut room), None);
        assert_eq!(place.take(third, &mut room), Some(16));
        assert_eq!(room[..16], [3; 16]);
        assert!(place.raw.is_accepted(third));
        assert_eq!(place.take(third, &mut room), None);
    }

    #[test]
    fn the_numbers_of_offers_wrap() {
        let place = Handover::from_block(Block::new(Handover::SIZE).unwrap()).unwrap();
        let mut room = [0; ROOM];
        for ends in [1, 2] {
            place.raw.word.store(0_u32.wrapping_sub(ends * ONE), Ordering::Relaxed);
            place.wait();
            let offer = place.raw.offer(b"message").unwrap();
            if ends == 1 {
                assert_eq!(place.take(offer, &mut room), Some(7));
            } else {
                place.refuse(offer);
            }
            assert_eq!(place.raw.is_accepted(offer), ends == 1);
            assert_eq!(place.raw.word.load(Ordering::Relaxed), 0);
        }
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A message that is taken is whole and taken once; one that is not is the giver's again.
    #[test]
    fn loom_handover_gives_a_message_once() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let place = Arc::new(RawHandover::new());
            let giver = place.clone();
            let giver =
                thread::spawn(move || [[1; 16], [2; 16]].map(|message| giver.give(&message)));
            let mut got = Vec::new();
            for _ in 0..2 {
                let mut room = [0; ROOM];
                place.wait();
                let offer = place.offered().or_else(|| place.leave());
                if let Some(len) = offer.and_then(|offer| place.take(offer, &mut room)) {
                    assert_eq!(len, 16);
                    assert_eq!(room[..16], [room[0]; 16]);
                    got.push(room[0]);
                }
            }
            let given = giver.join().unwrap();
            // An offer that came after the last look is taken back.
            let taken = [1, 2].map(|message| got.contains(&message));
            assert_eq!(given, taken);
            assert!(got.len() == taken.iter().filter(|taken| **taken).count());
        });
    }
}
