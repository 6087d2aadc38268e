//! Storage for entries that packets read while a control plane adds more: it grows, and never moves.

use super::memory::Cell;
use std::sync::OnceLock;

/// Cells of the first chunk; each chunk is twice the one before.
const FIRST: usize = 64;
/// Enough chunks for 2^32 cells.
const CHUNKS: usize = 27;

/// An array of records of `stride` cells each. Reading needs no lock; a chunk is allocated once and then stays. What of
/// it was never written takes no memory.
pub(crate) struct Slab<T> {
    stride: usize,
    chunks: [OnceLock<Box<[T]>>; CHUNKS],
}

impl<T: Cell> Slab<T> {
    pub(crate) fn new(stride: usize) -> Self {
        Self { stride, chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    #[inline]
    fn locate(ix: u32) -> (usize, usize) {
        let n = ix as usize + FIRST;
        let chunk = (n.ilog2() - FIRST.ilog2()) as usize;
        (chunk, n - (FIRST << chunk))
    }

    /// Makes room for the record, if there is none yet.
    pub(crate) fn reserve(&self, ix: u32) {
        let (chunk, _) = Self::locate(ix);
        self.chunks[chunk].get_or_init(|| T::fresh((FIRST << chunk) * self.stride));
    }

    /// The cells of a record; none if it was never reserved.
    #[inline]
    pub(crate) fn get(&self, ix: u32) -> &[T] {
        let (chunk, at) = Self::locate(ix);
        match self.chunks[chunk].get() {
            Some(c) => &c[at * self.stride..(at + 1) * self.stride],
            None => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn records_do_not_overlap_and_keep_their_place() {
        let slab: Slab<AtomicU64> = Slab::new(3);
        for ix in 0..5000u32 {
            slab.reserve(ix);
            let r = slab.get(ix);
            assert_eq!(r.len(), 3);
            for (i, c) in r.iter().enumerate() {
                assert_eq!(c.swap(u64::from(ix) * 3 + i as u64 + 1, Ordering::Relaxed), 0);
            }
        }
        for ix in 0..5000u32 {
            for (i, c) in slab.get(ix).iter().enumerate() {
                assert_eq!(c.load(Ordering::Relaxed), u64::from(ix) * 3 + i as u64 + 1);
            }
        }
    }

    #[test]
    fn an_unreserved_record_is_empty() {
        assert!(Slab::<u64>::new(2).get(1 << 30).is_empty());
    }
}
