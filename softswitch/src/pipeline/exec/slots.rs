//! The slots of one packet, without bounds checks.
//!
//! They are most of what the interpreter touches: a check for each access, and reloading a slice's address after each
//! store, cost more than the instructions themselves. What makes it sound is checked once, when a program is loaded.

use super::super::layout::{Field, Slot};
use super::bytes::{sign64, sign128};
use super::{mask, wide_mask};
use std::marker::PhantomData;

/// The slots of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Slots<'a> {
    at: *mut u64,
    len: usize,
    owner: PhantomData<&'a mut [u64]>,
}

impl<'a> Slots<'a> {
    /// # Safety
    /// Every slot that is ever read or written through it is below the length of `s`, and so is the one behind it for
    /// wide values. `compile::check` establishes that for the slots of a program.
    pub(super) unsafe fn new(s: &'a mut [u64]) -> Self {
        Self { at: s.as_mut_ptr(), len: s.len(), owner: PhantomData }
    }

    /// Where they are, for machine code.
    pub(crate) fn address(self) -> *mut u64 {
        self.at
    }

    #[inline(always)]
    pub(super) fn get(self, i: Slot) -> u64 {
        debug_assert!(usize::from(i) < self.len, "slot {i} of {}", self.len);
        // SAFETY: `new` was promised that the slot exists.
        unsafe { *self.at.add(usize::from(i)) }
    }

    #[inline(always)]
    pub(super) fn set(self, i: Slot, v: u64) {
        debug_assert!(usize::from(i) < self.len, "slot {i} of {}", self.len);
        // SAFETY: `new` was promised that the slot exists.
        unsafe { *self.at.add(usize::from(i)) = v }
    }

    /// All slots, for code that indexes them itself. It must not outlive the next write.
    #[inline(always)]
    pub(super) fn all(&self) -> &[u64] {
        // SAFETY: pointer and length are those of the slice that `new` got; nothing is written while this is borrowed,
        // as every user drops it before the next instruction.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    /// The two slots of a wide value.
    #[inline]
    pub(super) fn wide(self, at: Slot) -> u128 {
        u128::from(self.get(at)) | u128::from(self.get(at + 1)) << 64
    }

    #[inline]
    pub(super) fn set_wide(self, at: Slot, v: u128) {
        self.set(at, v as u64);
        self.set(at + 1, (v >> 64) as u64);
    }

    /// Writes a field of any kind.
    pub(super) fn store(self, f: Field, v: u128) {
        if f.width > 128 {
            self.set_wide(f.slot, v);
            f.slots().skip(2).for_each(|s| self.set(s, 0));
            return;
        }
        match (f.wide(), f.signed) {
            (false, false) => self.set(f.slot, v as u64 & mask(f.width as u8)),
            (false, true) => self.set(f.slot, sign64(v as u64, f.width)),
            (true, false) => self.set_wide(f.slot, v & wide_mask(f.width as u8)),
            (true, true) => self.set_wide(f.slot, sign128(v, f.width)),
        }
    }

    /// Writes a field of the target, cut to its width, if the program has it.
    #[inline]
    pub(super) fn set_field(self, f: Option<Field>, v: u64) {
        if let Some(f) = f {
            self.set(f.slot, v & mask(f.width as u8));
        }
    }

    #[inline]
    pub(super) fn field(self, f: Option<Field>) -> u64 {
        f.map_or(0, |f| self.get(f.slot))
    }
}
