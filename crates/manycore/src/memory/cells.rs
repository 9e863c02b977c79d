//! Numbers of one size in a block, each read and written as a whole.

use super::Block;
use crate::primitive::Ordering;
use crate::primitive::fixed::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use crate::{Error, Result};

/// How many bytes a number has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Width {
    /// 8 bits.
    One = 1,
    /// 16 bits.
    Two = 2,
    /// 32 bits.
    Four = 4,
    /// 64 bits.
    Eight = 8,
}

/// The first `len` numbers of a block, as bits: what they mean is the caller's affair.
///
/// Nobody sees half of a write, also if a process dies in it. What comes before what is up to a
/// lock.
#[derive(Clone, Debug)]
pub struct Cells {
    block: Block,
    width: Width,
    len: usize,
}

impl Cells {
    /// The numbers at the beginning of `block`.
    ///
    /// # Errors
    ///
    /// [`Error::is_misuse`] if the block is shorter.
    pub fn new(block: Block, width: Width, len: usize) -> Result<Self> {
        if len.checked_mul(width as usize).is_none_or(|size| size > block.len()) {
            return Err(Error::misuse("the numbers do not fit into the block"));
        }
        Ok(Self { block, width, len })
    }

    /// How many there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bits of a number, with zeroes above them; `None` if there is no such number.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<u64> {
        let place = self.place(index)?;
        // Relaxed: see the type.
        // SAFETY: `place` is a number of this width inside the block, which `self` keeps mapped,
        // and aligned, since blocks are. All bits are values.
        Some(unsafe {
            match self.width {
                Width::One => AtomicU8::from_ptr(place).load(Ordering::Relaxed).into(),
                Width::Two => AtomicU16::from_ptr(place.cast()).load(Ordering::Relaxed).into(),
                Width::Four => AtomicU32::from_ptr(place.cast()).load(Ordering::Relaxed).into(),
                Width::Eight => AtomicU64::from_ptr(place.cast()).load(Ordering::Relaxed),
            }
        })
    }

    /// Sets a number to the low bits of `bits`; `None` if there is no such number.
    #[inline]
    pub fn set(&self, index: usize, bits: u64) -> Option<()> {
        let place = self.place(index)?;
        // SAFETY: as in `get`; nobody has references to the block's bytes.
        unsafe {
            match self.width {
                Width::One => AtomicU8::from_ptr(place).store(bits as u8, Ordering::Relaxed),
                Width::Two => {
                    AtomicU16::from_ptr(place.cast()).store(bits as u16, Ordering::Relaxed);
                }
                Width::Four => {
                    AtomicU32::from_ptr(place.cast()).store(bits as u32, Ordering::Relaxed);
                }
                Width::Eight => AtomicU64::from_ptr(place.cast()).store(bits, Ordering::Relaxed),
            }
        }
        Some(())
    }

    /// Copies the first numbers, which have one byte, into `bytes`; `None` if they are not so many.
    pub fn copy_bytes(&self, bytes: &mut [u8]) -> Option<()> {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = self.get(index)? as u8;
        }
        Some(())
    }

    /// Sets the first numbers, which have one byte, to all pieces one after the other; `None`, and
    /// nothing is set, if they are not so many.
    pub fn set_bytes(&self, pieces: &[&[u8]]) -> Option<()> {
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() > self.len {
            return None;
        }
        for (index, &byte) in pieces.iter().copied().flatten().enumerate() {
            self.set(index, byte.into())?;
        }
        Some(())
    }

    #[inline]
    fn place(&self, index: usize) -> Option<*mut u8> {
        let offset = index.wrapping_mul(self.width as usize);
        (index < self.len).then(|| self.block.as_ptr().wrapping_add(offset))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const WIDTHS: [Width; 4] = [Width::One, Width::Two, Width::Four, Width::Eight];

    #[test]
    fn numbers_keep_their_low_bits_and_their_neighbours() {
        for width in WIDTHS {
            let cells = Cells::new(Block::new(24).unwrap(), width, 3).unwrap();
            let all = u64::MAX >> (64 - 8 * width as u32);
            cells.set(1, u64::MAX).unwrap();
            assert_eq!([cells.get(0), cells.get(1), cells.get(2)], [Some(0), Some(all), Some(0)]);
        }
    }

    #[test]
    fn there_is_nothing_beyond_the_last() {
        let cells = Cells::new(Block::new(64).unwrap(), Width::Eight, 8).unwrap();
        assert_eq!((cells.get(8), cells.set(8, 1)), (None, None));
        assert_eq!((cells.get(usize::MAX), cells.set(1 << 61, 1)), (None, None));
        assert_eq!(cells.len(), 8);
    }

    #[test]
    fn bytes_go_in_and_out() {
        let cells = Cells::new(Block::new(4).unwrap(), Width::One, 4).unwrap();
        assert_eq!(cells.set_bytes(&[b"abc", b"d"]), Some(()));
        assert_eq!(cells.set_bytes(&[b"abc", b"de"]), None);
        assert_eq!(cells.set_bytes(&[b"x"]), Some(()));
        let mut bytes = [0; 4];
        assert_eq!(cells.copy_bytes(&mut bytes), Some(()));
        assert_eq!(&bytes, b"xbcd");
        assert_eq!(cells.copy_bytes(&mut [0; 5]), None);
    }

    #[test]
    fn more_than_fit_are_refused() {
        let block = Block::new(64).unwrap();
        for len in [9, 1 << 61, usize::MAX] {
            assert!(Cells::new(block.clone(), Width::Eight, len).unwrap_err().is_misuse());
        }
    }
}
