//! What is known of an entry: one record of 64-bit words, which both sides of the tables refer to by its number.
//!
//! ```text
//!   head ─ key ──────────── arguments ──── ternary tables only: priority ─ mask ─ bounds of ranges ──
//!    │ 16 bits: which of the table's actions; 16 bits: length of an lpm key's prefix; 32 bits: cell
//! ```
//! A record is written before the first side refers to it, and stays as it is until none does: an entry that is modified
//! gets a new one. What packets change (counter, meter) is in arrays of its own, at the index `cell`, which an entry
//! keeps as long as it lives.

use super::bits::{Bits, Key};
use super::slab::Slab;
use crate::prefetch::prefetch;
use std::sync::atomic::{AtomicU64, Ordering};

/// The action of a record that has none.
pub(crate) const NO_ACTION: u64 = 0xffff;

/// A key as a control plane gives it, packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FullKey {
    pub value: Bits,
    /// Bits that must be equal; of no meaning but for ternary tables.
    pub mask: Bits,
    /// How many of the value's upper bits must be equal; of no meaning but for lpm tables.
    pub prefix: u32,
    pub priority: i32,
    /// Bounds of each range field, in order.
    pub ranges: Vec<(u128, u128)>,
}

/// The records of a table.
pub(crate) struct Records {
    slab: Slab<AtomicU64>,
    key_words: usize,
    arg_words: usize,
    ternary: bool,
    ranges: usize,
}

fn load(w: &AtomicU64) -> u64 {
    w.load(Ordering::Relaxed)
}

impl Records {
    pub(crate) fn new(key_words: usize, arg_words: usize, ternary: bool, ranges: usize) -> Self {
        let rest = if ternary { 1 + key_words + 4 * ranges } else { 0 };
        Self { slab: Slab::new(1 + key_words + arg_words + rest), key_words, arg_words, ternary, ranges }
    }

    /// Words of a key.
    #[inline]
    pub(crate) fn key_words(&self) -> usize {
        self.key_words
    }

    /// Asks for a record's memory.
    #[inline]
    pub(crate) fn prefetch(&self, r: u32) {
        let record = self.slab.get(r);
        if let (Some(first), Some(last)) = (record.first(), record.last()) {
            prefetch(first);
            prefetch(last);
        }
    }

    #[inline]
    fn word(&self, r: &[AtomicU64], at: usize) -> u64 {
        r.get(at).map_or(0, load)
    }

    #[inline]
    fn key(&self, r: u32) -> &[AtomicU64] {
        self.slab.get(r).get(1..=self.key_words).unwrap_or(&[])
    }

    /// Whether the record has this key.
    #[inline]
    pub(crate) fn has_key<K: Key>(&self, r: u32, k: &K) -> bool {
        self.key(r).iter().enumerate().all(|(i, w)| load(w) == k.word(i))
    }

    /// The record, if it has this key.
    #[inline]
    pub(crate) fn with_key<K: Key>(&self, r: u32, k: &K) -> Option<&[AtomicU64]> {
        let record = self.slab.get(r);
        let key = record.get(1..=self.key_words)?;
        key.iter().enumerate().all(|(i, w)| load(w) == k.word(i)).then_some(record)
    }

    /// All of a record.
    #[inline]
    pub(crate) fn record(&self, r: u32) -> &[AtomicU64] {
        self.slab.get(r)
    }

    /// How many bits, counted from the top of the key's words, the record's key has in common with this one.
    #[inline]
    pub(crate) fn common<K: Key>(&self, r: u32, k: &K) -> u32 {
        let mut n = 0;
        for (i, w) in self.key(r).iter().enumerate().rev() {
            let same = (load(w) ^ k.word(i)).leading_zeros();
            n += same;
            if same < 64 {
                break;
            }
        }
        n
    }

    /// The key, in the packed form that searches use.
    pub(crate) fn packed<K: Key>(&self, r: u32) -> K {
        let mut k = [0; 8];
        k.iter_mut().zip(self.key(r)).for_each(|(a, w)| *a = load(w));
        K::from_bits(&k)
    }

    /// Where a ternary record's priority is; mask and bounds follow.
    #[inline]
    fn rest(&self, r: u32) -> &[AtomicU64] {
        self.slab.get(r).get(1 + self.key_words + self.arg_words..).unwrap_or(&[])
    }

    /// The mask of a ternary record.
    pub(crate) fn mask<K: Key>(&self, r: u32) -> K {
        let mut k = [0; 8];
        k.iter_mut().zip(self.rest(r).iter().skip(1).take(self.key_words)).for_each(|(a, w)| *a = load(w));
        K::from_bits(&k)
    }

    /// What a ternary record is worth when several match: its priority, and of equal ones (which P4Runtime leaves open)
    /// the lowest cell, as in BMv2.
    #[inline]
    pub(crate) fn rank(&self, r: u32) -> u64 {
        let priority = self.word(self.rest(r), 0);
        priority << 32 | u64::from(!self.cell(r))
    }

    /// The bounds of a range field.
    #[inline]
    pub(crate) fn range(&self, r: u32, field: usize) -> (u128, u128) {
        let wide = |w: &[AtomicU64]| u128::from(self.word(w, 0)) | u128::from(self.word(w, 1)) << 64;
        match self.rest(r).get(1 + self.key_words + 4 * field..) {
            Some(w) => (wide(w), wide(w.get(2..).unwrap_or(&[]))),
            None => (0, u128::MAX),
        }
    }

    #[inline]
    fn head(&self, r: u32) -> u64 {
        self.word(self.slab.get(r), 0)
    }

    /// The index of the entry's counter and meter.
    #[inline]
    pub(crate) fn cell(&self, r: u32) -> u32 {
        (self.head(r) >> 32) as u32
    }

    /// The length of an lpm record's prefix.
    pub(crate) fn prefix(&self, r: u32) -> u32 {
        self.head(r) as u32 >> 16
    }

    /// Which of the table's actions, its arguments, and the cell.
    #[inline]
    pub(crate) fn action(&self, r: u32) -> (u64, &[AtomicU64], u32) {
        self.action_of(self.slab.get(r))
    }

    /// The same of a record that is at hand.
    #[inline]
    pub(crate) fn action_of<'r>(&self, record: &'r [AtomicU64]) -> (u64, &'r [AtomicU64], u32) {
        let from = 1 + self.key_words;
        let head = self.word(record, 0);
        (head & NO_ACTION, record.get(from..from + self.arg_words).unwrap_or(&[]), (head >> 32) as u32)
    }

    /// The whole key.
    pub(crate) fn full_key(&self, r: u32) -> FullKey {
        let rest = self.rest(r);
        FullKey {
            value: self.packed(r),
            mask: if self.ternary { self.mask(r) } else { [0; 8] },
            prefix: self.prefix(r),
            priority: if self.ternary { self.word(rest, 0) as i32 } else { 0 },
            ranges: (0..self.ranges).map(|f| self.range(r, f)).collect(),
        }
    }

    /// Whether a ternary record has exactly this key, its value and mask being known to be the same.
    pub(crate) fn has_rest(&self, r: u32, k: &FullKey) -> bool {
        self.word(self.rest(r), 0) as i32 == k.priority
            && k.ranges.iter().enumerate().all(|(f, bounds)| self.range(r, f) == *bounds)
    }

    /// Writes a record that nothing refers to yet.
    pub(crate) fn write(&self, r: u32, action: u64, cell: u32, key: Option<&FullKey>, args: impl Iterator<Item = u64>) {
        self.slab.reserve(r);
        let record = self.slab.get(r);
        let put = |at: usize, v: u64| {
            if let Some(w) = record.get(at) {
                w.store(v, Ordering::Relaxed);
            }
        };
        let prefix = key.map_or(0, |k| k.prefix);
        put(0, action & NO_ACTION | u64::from(prefix & 0xffff) << 16 | u64::from(cell) << 32);
        let args_at = 1 + self.key_words;
        args.take(self.arg_words).enumerate().for_each(|(i, v)| put(args_at + i, v));
        let Some(key) = key else { return };
        key.value.iter().take(self.key_words).enumerate().for_each(|(i, v)| put(1 + i, *v));
        if self.ternary {
            let at = args_at + self.arg_words;
            put(at, key.priority as u64);
            key.mask.iter().take(self.key_words).enumerate().for_each(|(i, v)| put(at + 1 + i, *v));
            let at = at + 1 + self.key_words;
            for (f, (low, high)) in key.ranges.iter().enumerate() {
                for (i, v) in [*low, *high].into_iter().enumerate() {
                    put(at + 4 * f + 2 * i, v as u64);
                    put(at + 4 * f + 2 * i + 1, (v >> 64) as u64);
                }
            }
        }
    }
}
