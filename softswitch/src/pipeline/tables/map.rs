//! Entries by a hash of their key: open addressing over cells of eight bytes, which hold an entry's number and 32 bits of
//! its hash. The key itself is in the entry's record, which a hit needs anyway, and which both sides of the tables
//! share; the hash bits see to it that hardly any other record is looked at.
//!
//! A cell's place grows with its hash bits, so that the table can grow by any factor, and without a look at the keys.

use super::memory::zeroed;
use crate::prefetch::prefetch;
use foldhash::fast::RandomState;
use std::hash::BuildHasher;

/// Cells of the smallest table that is not empty.
const LEAST: usize = 8;
/// Of so many entries, cells and records are in the processor's cache.
const CACHED: usize = 32_768;
/// No entry has this number.
const FREE: u32 = 0;

/// Entry numbers by hash. At most three quarters of the cells are used, and half of them after the table has grown.
pub(crate) struct Map {
    cells: Box<[u64]>,
    used: usize,
    /// Different for each table, so that no set of keys is slow everywhere.
    pub(crate) seed: u64,
}

impl Default for Map {
    fn default() -> Self {
        Self { cells: Box::default(), used: 0, seed: RandomState::default().hash_one(0) }
    }
}

#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[inline]
fn entry(cell: u64) -> u32 {
    cell as u32
}

impl Map {
    #[inline]
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.cells.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.cells.len() { 0 } else { at + 1 }
    }

    /// The cell of the entry with this hash that `is` the one. There always is a free cell to end the search.
    #[inline]
    fn place(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<usize> {
        if self.used == 0 {
            return None;
        }
        let mut at = self.home(tag(hash));
        loop {
            let cell = self.cells[at];
            if entry(cell) == FREE {
                return None;
            }
            if tag(cell) == tag(hash) && is(entry(cell)) {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    /// The entry with this hash that `is` the one.
    #[inline]
    pub(crate) fn get(&self, hash: u64, is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.place(hash, is).map(|at| entry(self.cells[at]))
    }

    /// What `is` makes of the entry with this hash that is the one.
    #[inline]
    pub(crate) fn get_with<R>(&self, hash: u64, mut is: impl FnMut(u32) -> Option<R>) -> Option<R> {
        let mut found = None;
        self.place(hash, |entry| {
            found = is(entry);
            found.is_some()
        });
        found
    }

    /// The first entry with this hash, whatever its key.
    #[inline]
    pub(crate) fn likely(&self, hash: u64) -> Option<u32> {
        self.get(hash, |_| true)
    }

    /// It has so many entries that a lookup waits for memory.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.used > CACHED
    }

    /// Asks for the memory in which a search begins.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(cell) = self.cells.get(self.home(tag(hash))) {
            prefetch(cell);
        }
    }

    /// Adds an entry (not 0).
    pub(crate) fn insert(&mut self, hash: u64, entry: u32) {
        if (self.used + 1) * 4 > self.cells.len() * 3 {
            self.grow();
        }
        self.used += 1;
        self.put(u64::from(tag(hash)) << 32 | u64::from(entry));
    }

    fn put(&mut self, cell: u64) {
        let mut at = self.home(tag(cell));
        while entry(self.cells[at]) != FREE {
            at = self.after(at);
        }
        self.cells[at] = cell;
    }

    fn grow(&mut self) {
        let size = (self.cells.len() * 3 / 2).max(LEAST);
        let old = std::mem::replace(&mut self.cells, zeroed(size));
        for cell in old.into_iter().filter(|c| entry(*c) != FREE) {
            self.put(cell);
        }
    }

    /// Puts an entry in the place of another with the same key.
    pub(crate) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        if let Some(at) = self.place(hash, |e| e == old) {
            self.cells[at] = self.cells[at] >> 32 << 32 | u64::from(new);
        }
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, hash: u64, gone: u32) {
        let Some(mut hole) = self.place(hash, |e| e == gone) else { return };
        self.used -= 1;
        // What follows without a gap moves up, if it may be there: so no search ends at the hole too early.
        let way = |from: usize, to: usize, size: usize| if to >= from { to - from } else { to + size - from };
        let size = self.cells.len();
        let mut at = hole;
        loop {
            at = self.after(at);
            let cell = self.cells[at];
            if entry(cell) == FREE {
                break;
            }
            if way(self.home(tag(cell)), at, size) >= way(hole, at, size) {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = 0;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.cells.iter().map(|c| entry(*c)).filter(|e| *e != FREE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Few hashes, so that most entries are not where they belong, and some keys have the same.
        #[test]
        fn it_does_what_a_map_does(steps in proptest::collection::vec((1u32..60, 0u8..4), 0..400)) {
            let (mut table, mut map) = (Map::default(), BTreeMap::new());
            let hash = |k: u32| u64::from(k % 23).wrapping_mul(0x0f00_1234_5678_9abc);
            // Keys are numbers below 60; the entry of key k is k or k + 100.
            let is = |k: u32| move |e: u32| e % 100 == k;
            for (k, what) in steps {
                match (what, map.get(&k).copied()) {
                    (0 | 1, None) => {
                        table.insert(hash(k), k);
                        map.insert(k, k);
                    }
                    (2, Some(e)) => {
                        let new = if e >= 100 { k } else { k + 100 };
                        table.replace(hash(k), e, new);
                        map.insert(k, new);
                    }
                    (3, Some(e)) => {
                        table.remove(hash(k), e);
                        map.remove(&k);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.used, map.len());
                for k in 1..60 {
                    prop_assert_eq!(table.get(hash(k), is(k)), map.get(&k).copied());
                }
            }
            let mut all: Vec<u32> = table.iter().collect();
            all.sort_unstable();
            let mut expected: Vec<u32> = map.into_values().collect();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn many_entries_are_all_found() {
        let mut table = Map::default();
        let hash = |k: u32| u64::from(k).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (1..50_000).for_each(|k| table.insert(hash(k), k));
        (1..50_000).filter(|k| k % 3 == 0).for_each(|k| table.remove(hash(k), k));
        for k in 1..50_000 {
            assert_eq!(table.get(hash(k), |e| e == k), (k % 3 != 0).then_some(k));
        }
    }
}
