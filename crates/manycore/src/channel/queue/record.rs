//! A few numbers in shared memory that change together or not at all.

use crate::primitive::{AtomicU64, Ordering, fence};

/// `N` numbers, written by whoever holds a certain lock and read by everybody.
///
/// There are two copies. `turn` tells which one holds; the writer fills in the other one and then
/// adds 1 to `turn`, and that one store is the whole change. A writer that is killed before it has
/// changed nothing, whatever it has written into the copy that does not hold: the next writer
/// writes over it.
///
/// | `turn` | holds | may be written to |
/// |---|---|---|
/// | even | `copies[0]` | `copies[1]` |
/// | odd | `copies[1]` | `copies[0]` |
///
/// A reader without the lock looks at `turn` before and after. If it is the same, the copy held
/// all the time and was not written to.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Record<const N: usize> {
    turn: AtomicU64,
    copies: [[AtomicU64; N]; 2],
}

impl<const N: usize> Record<N> {
    /// All zeroes.
    pub(super) fn new() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { turn: AtomicU64::new(0), copies: [zeros(), zeros()] }
    }

    /// The numbers, for the holder of the lock.
    #[inline]
    pub(super) fn load(&self) -> [u64; N] {
        // Relaxed: the lock orders us after the last writer.
        let copy = self.copy(self.turn.load(Ordering::Relaxed));
        std::array::from_fn(|i| copy[i].load(Ordering::Relaxed))
    }

    /// The numbers as they were together at some instant during this call.
    #[inline]
    pub(super) fn snapshot(&self) -> [u64; N] {
        self.read(|copy| std::array::from_fn(|i| copy[i].load(Ordering::Relaxed)))
    }

    /// One of the numbers as it was at some instant during this call.
    #[inline]
    pub(super) fn word(&self, index: usize) -> u64 {
        self.read(|copy| copy[index].load(Ordering::Relaxed))
    }

    #[inline]
    fn read<T>(&self, read: impl Fn(&[AtomicU64; N]) -> T) -> T {
        loop {
            // Acquire, partner: the Release store in `publish`.
            let turn = self.turn.load(Ordering::Acquire);
            let value = read(self.copy(turn));
            // Acquire, partner: the Release fence in `publish`. If we saw a number of the writer
            // after the next one, then we see here that the turn has changed.
            fence(Ordering::Acquire);
            if self.turn.load(Ordering::Relaxed) == turn {
                return value;
            }
        }
    }

    /// Makes `new` the numbers that hold. Only for the holder of the lock.
    #[inline]
    pub(super) fn publish(&self, new: [u64; N]) {
        let turn = self.turn.load(Ordering::Relaxed).wrapping_add(1);
        // Release, partner: the Acquire fence in `read`.
        fence(Ordering::Release);
        for (word, new) in self.copy(turn).iter().zip(new) {
            word.store(new, Ordering::Relaxed);
        }
        // Release, partner: the Acquire load in `read`: who sees the numbers sees also the bytes
        // that were written before.
        self.turn.store(turn, Ordering::Release);
    }

    #[inline]
    fn copy(&self, turn: u64) -> &[AtomicU64; N] {
        &self.copies[usize::from(turn & 1 == 1)]
    }
}
