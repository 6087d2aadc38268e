//! Storage for entries that packets read while a control plane adds more: it grows, and never moves.

use super::memory::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

/// Cells of the first chunk; each chunk is twice the one before.
const FIRST: usize = 64;
/// Enough chunks for 2^32 cells.
const CHUNKS: usize = 27;

/// An array of records of `stride` cells each. Reading needs no lock; a chunk is allocated once and then stays. What of
/// it was never written takes no memory.
pub(crate) struct Slab<T> {
    stride: usize,
    /// First cells of the chunks; null where there is none yet.
    chunks: [AtomicPtr<T>; CHUNKS],
    /// Whoever adds a chunk.
    growing: Mutex<()>,
}

impl<T: Cell> Slab<T> {
    pub(crate) fn new(stride: usize) -> Self {
        Self { stride, chunks: [const { AtomicPtr::new(null_mut()) }; CHUNKS], growing: Mutex::new(()) }
    }

    #[inline]
    fn locate(ix: u32) -> (usize, usize) {
        let n = ix as usize + FIRST;
        let chunk = (n.ilog2() - FIRST.ilog2()) as usize;
        (chunk, n - (FIRST << chunk))
    }

    /// Cells of a chunk.
    fn size(&self, chunk: usize) -> usize {
        (FIRST << chunk) * self.stride
    }

    /// Makes room for the record, if there is none yet.
    pub(crate) fn reserve(&self, ix: u32) {
        let (chunk, _) = Self::locate(ix);
        let first = &self.chunks[chunk];
        if first.load(Ordering::Acquire).is_null() {
            let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
            if first.load(Ordering::Acquire).is_null() {
                let cells = Box::into_raw(T::fresh(self.size(chunk)));
                debug_assert_eq!(cells.len(), self.size(chunk));
                // Release: whoever sees the chunk sees what is in it.
                first.store(cells.cast(), Ordering::Release);
            }
        }
    }

    /// The cells of a record; none if it was never reserved.
    #[inline]
    pub(crate) fn get(&self, ix: u32) -> &[T] {
        let (chunk, at) = Self::locate(ix);
        let first = self.chunks[chunk].load(Ordering::Acquire);
        if first.is_null() {
            return &[];
        }
        // SAFETY: the chunk has `FIRST << chunk` records of `stride` cells, `at` is below that number by construction, and
        // chunks live as long as the slab.
        unsafe { std::slice::from_raw_parts(first.add(at * self.stride), self.stride) }
    }
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        for (chunk, first) in self.chunks.iter_mut().enumerate() {
            let first = *first.get_mut();
            if !first.is_null() {
                let cells = std::ptr::slice_from_raw_parts_mut(first, (FIRST << chunk) * self.stride);
                // SAFETY: `reserve` made it of a box of this length, and nobody refers to it any more.
                drop(unsafe { Box::from_raw(cells) });
            }
        }
    }
}

// SAFETY: the chunks are the slab's own boxes, and reached by shared references only.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Slab<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

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
