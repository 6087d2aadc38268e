//! Large arrays: zeroed by the system page by page as they are first touched, and on huge pages, since a lookup in a
//! table of a million entries costs a walk of the page tables as well as a cache miss otherwise.

use super::state::{Counter, Meter};
use std::sync::atomic::AtomicU64;

/// Arrays from this size on ask for huge pages.
const LARGE_BYTES: usize = 4 << 20;

/// Types of which all bytes 0 is a value.
///
/// # Safety
/// It is, and nothing has to be dropped.
pub(crate) unsafe trait Zero: Sized {}

// SAFETY: numbers.
unsafe impl Zero for u64 {}
// SAFETY: as above, and an atomic has the representation of what it holds.
unsafe impl Zero for AtomicU64 {}
// SAFETY: two atomics.
unsafe impl Zero for Counter {}

/// What a [`Slab`](super::slab::Slab) consists of.
pub(crate) trait Cell: Sized {
    /// That many new ones.
    fn fresh(n: usize) -> Box<[Self]>;
}

impl<T: Zero> Cell for T {
    fn fresh(n: usize) -> Box<[Self]> {
        zeroed(n)
    }
}

impl Cell for Meter {
    fn fresh(n: usize) -> Box<[Self]> {
        (0..n).map(|_| Self::default()).collect()
    }
}

/// That many zeros.
pub(crate) fn zeroed<T: Zero>(n: usize) -> Box<[T]> {
    // SAFETY: `Zero` promises that zeros are values.
    let cells = unsafe { Box::<[T]>::new_zeroed_slice(n).assume_init() };
    if size_of_val(&*cells) >= LARGE_BYTES {
        let page = 4096;
        let start = (cells.as_ptr() as usize).next_multiple_of(page);
        let end = (cells.as_ptr() as usize + size_of_val(&*cells)) / page * page;
        // SAFETY: whole pages within the allocation, whose contents the advice does not change. It is one: that the
        // system may refuse it does not matter.
        unsafe {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE);
        }
    }
    cells
}
