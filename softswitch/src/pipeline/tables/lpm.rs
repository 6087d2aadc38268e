//! Longest prefix match: a hash table for each prefix length that is in use, longest first.

use super::bits::Key;
use super::exact::Exact;

/// Prefixes of one length.
struct Level<K> {
    mask: K,
    /// Number of ones in the mask: the prefix length, plus the widths of the exact fields beside it.
    ones: u32,
    entries: Exact<K>,
}

/// Prefixes, and exact fields beside them.
pub(crate) struct Lpm<K> {
    /// Longest first.
    levels: Vec<Level<K>>,
}

impl<K> Default for Lpm<K> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<K: Key> Lpm<K> {
    #[inline]
    pub(crate) fn lookup(&self, k: &K) -> Option<u32> {
        self.levels.iter().find_map(|l| l.entries.get(&k.and(&l.mask)))
    }

    fn level(&self, mask: &K) -> Option<usize> {
        self.levels.iter().position(|l| l.mask == *mask)
    }

    pub(crate) fn find(&self, k: &K, mask: &K) -> Option<u32> {
        self.levels[self.level(mask)?].entries.get(k)
    }

    pub(crate) fn insert(&mut self, k: K, mask: K, ones: u32, entry: u32) {
        let at = self.level(&mask).unwrap_or_else(|| {
            let at = self.levels.partition_point(|l| l.ones > ones);
            self.levels.insert(at, Level { mask, ones, entries: Exact::default() });
            at
        });
        self.levels[at].entries.insert(k, entry);
    }

    pub(crate) fn remove(&mut self, k: &K, mask: &K) -> Option<u32> {
        let at = self.level(mask)?;
        let entry = self.levels[at].entries.remove(k);
        if self.levels[at].entries.is_empty() {
            self.levels.remove(at);
        }
        entry
    }

    pub(crate) fn for_each(&self, f: &mut dyn FnMut(&K, &K, u32)) {
        for l in &self.levels {
            l.entries.iter().for_each(|(k, e)| f(k, &l.mask, *e));
        }
    }
}
