//! Exact match: open addressing over one array, so that a lookup is a multiplication and, as a rule, one cache line.

use super::bits::Key;
use foldhash::fast::RandomState;
use std::hash::BuildHasher;

/// Cells of the smallest table that is not empty.
const LEAST: usize = 8;
/// No entry has this number: it is the default action's.
const FREE: u32 = 0;

/// Entries by key. At most three quarters of the cells are used.
pub(crate) struct Exact<K> {
    cells: Box<[(K, u32)]>,
    used: usize,
    /// 64 less the number of bits of a cell's index.
    shift: u32,
    /// Different for each table, so that no set of keys is slow everywhere.
    seed: u64,
}

impl<K> Default for Exact<K> {
    fn default() -> Self {
        Self { cells: Box::default(), used: 0, shift: 0, seed: RandomState::default().hash_one(0) }
    }
}

impl<K: Key> Exact<K> {
    #[inline]
    fn home(&self, k: &K) -> usize {
        (k.mix(self.seed) >> self.shift) as usize
    }

    /// The cell with the key, or the free one where it would go. There always is a free one.
    #[inline]
    fn cell(&self, k: &K) -> usize {
        let mask = self.cells.len() - 1;
        let mut at = self.home(k);
        while self.cells[at].1 != FREE && self.cells[at].0 != *k {
            at = (at + 1) & mask;
        }
        at
    }

    #[inline]
    pub(crate) fn get(&self, k: &K) -> Option<u32> {
        if self.used == 0 {
            return None;
        }
        Some(self.cells[self.cell(k)].1).filter(|e| *e != FREE)
    }

    /// Adds a key, or changes its entry.
    pub(crate) fn insert(&mut self, k: K, entry: u32) {
        if (self.used + 1) * 4 > self.cells.len() * 3 {
            self.grow();
        }
        let at = self.cell(&k);
        self.used += usize::from(self.cells[at].1 == FREE);
        self.cells[at] = (k, entry);
    }

    fn grow(&mut self) {
        let size = (self.cells.len() * 2).max(LEAST);
        let old = std::mem::replace(&mut self.cells, vec![(K::ZERO, FREE); size].into_boxed_slice());
        self.shift = 64 - size.trailing_zeros();
        for (k, e) in old.into_iter().filter(|(_, e)| *e != FREE) {
            let at = self.cell(&k);
            self.cells[at] = (k, e);
        }
    }

    pub(crate) fn remove(&mut self, k: &K) -> Option<u32> {
        let entry = self.get(k)?;
        let mask = self.cells.len() - 1;
        let mut hole = self.cell(k);
        self.used -= 1;
        // What follows without a gap moves up, if it may be there: so no search ends at the hole too early.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let (key, e) = self.cells[at];
            if e == FREE {
                break;
            }
            let way = at.wrapping_sub(self.home(&key)) & mask;
            if way >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = (key, e);
                hole = at;
            }
        }
        self.cells[hole] = (K::ZERO, FREE);
        Some(entry)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &u32)> {
        self.cells.iter().filter(|(_, e)| *e != FREE).map(|(k, e)| (k, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_does_what_a_map_does(steps in proptest::collection::vec((0u64..40, 0u32..50), 0..400)) {
            let (mut table, mut map) = (Exact::<u64>::default(), HashMap::new());
            for (k, e) in steps {
                if e == 0 || e > 30 {
                    prop_assert_eq!(table.remove(&k), map.remove(&k));
                } else {
                    table.insert(k, e);
                    map.insert(k, e);
                }
                prop_assert_eq!(table.is_empty(), map.is_empty());
                for k in 0..40 {
                    prop_assert_eq!(table.get(&k), map.get(&k).copied());
                }
            }
            prop_assert_eq!(table.iter().map(|(k, e)| (*k, *e)).collect::<HashMap<_, _>>(), map);
        }
    }
}
