//! From key to entry: one index per table and side, by the kinds of its fields. It holds entries' numbers; their keys are
//! in their [`Records`].

use super::super::ops::KeyPart;
use super::bits::Key;
use super::map::Map;
use super::record::{FullKey, Records};
use super::trie::Trie;
use super::tss::Tss;
use std::sync::atomic::AtomicU64;

/// Which search a table needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    Exact,
    Lpm,
    Ternary,
}

/// The number of an entry, and its record.
pub(crate) type Entry<'r> = (u32, &'r [AtomicU64]);

/// Entries of one table by key.
pub(crate) enum Index {
    K64(Matcher<u64>),
    K128(Matcher<u128>),
    K256(Matcher<[u64; 4]>),
    K512(Matcher<[u64; 8]>),
}

pub(crate) enum Matcher<K: Key> {
    Exact(Map),
    Lpm(Trie),
    Ternary(Tss<K>),
}

macro_rules! each {
    ($self:expr, $m:ident => $e:expr) => {
        match $self {
            Index::K64($m) => $e,
            Index::K128($m) => $e,
            Index::K256($m) => $e,
            Index::K512($m) => $e,
        }
    };
}

impl Index {
    /// For keys of so many words, beside range fields of those widths.
    pub(crate) fn new(search: Search, words: usize, ranges: &[KeyPart]) -> Self {
        // Those that go on with the range of the piece before them have no width of their own.
        let goes_on = |i: usize| i > 0 && ranges[i - 1].field == ranges[i].field;
        let widths = || ranges.iter().enumerate().map(|(i, r)| if goes_on(i) { 0 } else { r.width }).collect();
        match words {
            0..=1 => Self::K64(Matcher::new(search, widths())),
            2 => Self::K128(Matcher::new(search, widths())),
            3..=4 => Self::K256(Matcher::new(search, widths())),
            _ => Self::K512(Matcher::new(search, widths())),
        }
    }

    /// The entry that a packet with these slots matches, and its record.
    #[inline]
    pub(crate) fn lookup<'r>(
        &self,
        records: &'r Records,
        parts: &[KeyPart],
        ranges: &[KeyPart],
        s: &[u64],
    ) -> Option<Entry<'r>> {
        each!(self, m => m.lookup(records, pack(parts, s), ranges, s))
    }

    /// The entry that a packet with this key matches, which has at most two words.
    #[inline]
    pub(crate) fn lookup_packed<'r>(
        &self,
        records: &'r Records,
        key: [u64; 2],
        ranges: &[KeyPart],
        s: &[u64],
    ) -> Option<Entry<'r>> {
        match self {
            Self::K64(m) => m.lookup(records, key[0], ranges, s),
            Self::K128(m) => m.lookup(records, u128::from(key[0]) | u128::from(key[1]) << 64, ranges, s),
            Self::K256(_) | Self::K512(_) => None,
        }
    }

    /// The entries by hash, if that is how they are found, and lookups wait for memory.
    fn large_map(&self) -> Option<&Map> {
        match self {
            Self::K64(Matcher::Exact(m)) | Self::K128(Matcher::Exact(m)) => Some(m).filter(|m| m.is_large()),
            _ => None,
        }
    }

    /// Whether lookups wait for memory that can be asked for early.
    pub(crate) fn is_slow(&self) -> bool {
        self.large_map().is_some()
    }

    /// Asks for the cell of a key, of at most two words, and returns its hash.
    #[inline]
    pub(crate) fn ask_for_cell(&self, key: [u64; 2]) -> Option<u64> {
        let m = self.large_map()?;
        let hash = match self {
            Self::K64(_) => key[0].mix(m.seed),
            _ => (u128::from(key[0]) | u128::from(key[1]) << 64).mix(m.seed),
        };
        m.prefetch(hash);
        Some(hash)
    }

    /// The entry that a key with this hash finds, in all likelihood.
    #[inline]
    pub(crate) fn likely(&self, hash: u64) -> Option<u32> {
        self.large_map()?.likely(hash)
    }

    /// The entry with exactly this key.
    pub(crate) fn find(&self, records: &Records, k: &FullKey) -> Option<u32> {
        each!(self, m => m.find(records, k))
    }

    /// Adds an entry; its key, which is in its record, is not there yet.
    pub(crate) fn insert(&mut self, records: &Records, entry: u32) {
        each!(self, m => m.insert(records, entry));
    }

    /// Removes an entry that is there.
    pub(crate) fn remove(&mut self, records: &Records, entry: u32) {
        each!(self, m => m.remove(records, entry));
    }

    /// Puts an entry in the place of another with the same key.
    pub(crate) fn replace(&mut self, records: &Records, old: u32, new: u32) {
        each!(self, m => m.replace(records, old, new));
    }

    /// All entries, in no particular order.
    pub(crate) fn for_each(&self, f: &mut dyn FnMut(u32)) {
        each!(self, m => m.for_each(f));
    }
}

/// The key of a packet.
#[inline]
fn pack<K: Key>(parts: &[KeyPart], s: &[u64]) -> K {
    let mut k = K::ZERO;
    for p in parts {
        if let Some(v) = p.valid
            && s[usize::from(v)] == 0
        {
            continue;
        }
        let at = usize::from(p.slot);
        k.put(p.pos, s[at] & p.mask as u64);
        if p.width > 64 {
            k.put(p.pos + 64, s[at + 1] & (p.mask >> 64) as u64);
        }
    }
    k
}

/// The value of one field of a packet.
#[inline]
pub(crate) fn field_of(p: &KeyPart, s: &[u64]) -> u128 {
    if p.valid.is_some_and(|v| s[usize::from(v)] == 0) {
        return 0;
    }
    let at = usize::from(p.slot);
    let high = if p.width > 64 { u128::from(s[at + 1]) << 64 } else { 0 };
    (u128::from(s[at]) | high) & p.mask
}

impl<K: Key> Matcher<K> {
    fn new(search: Search, ranges: Vec<u32>) -> Self {
        match search {
            Search::Exact => Self::Exact(Map::default()),
            Search::Lpm => Self::Lpm(Trie::new()),
            Search::Ternary => Self::Ternary(Tss::new(ranges)),
        }
    }

    #[inline]
    fn lookup<'r>(&self, records: &'r Records, k: K, ranges: &[KeyPart], s: &[u64]) -> Option<Entry<'r>> {
        let entry = match self {
            Self::Exact(m) => return m.get_with(k.mix(m.seed), |e| Some((e, records.with_key(e, &k)?))),
            Self::Lpm(t) => t.lookup(&k, records),
            Self::Ternary(t) => t.lookup(&k, records, &|f| ranges.get(f).map_or(0, |p| field_of(p, s))),
        };
        entry.map(|e| (e, records.record(e)))
    }

    fn find(&self, records: &Records, full: &FullKey) -> Option<u32> {
        let k = K::from_bits(&full.value);
        match self {
            Self::Exact(m) => m.get(k.mix(m.seed), |e| records.has_key(e, &k)),
            Self::Lpm(t) => t.find(&k, full.prefix, records),
            Self::Ternary(t) => t.find(full, records),
        }
    }

    fn insert(&mut self, records: &Records, entry: u32) {
        match self {
            Self::Exact(m) => m.insert(records.packed::<K>(entry).mix(m.seed), entry),
            Self::Lpm(t) => t.insert::<K>(entry, records),
            Self::Ternary(t) => t.insert(entry, records),
        }
    }

    fn remove(&mut self, records: &Records, entry: u32) {
        match self {
            Self::Exact(m) => m.remove(records.packed::<K>(entry).mix(m.seed), entry),
            Self::Lpm(t) => t.remove::<K>(entry, records),
            Self::Ternary(t) => t.remove(entry, records),
        }
    }

    fn replace(&mut self, records: &Records, old: u32, new: u32) {
        match self {
            Self::Exact(m) => m.replace(records.packed::<K>(old).mix(m.seed), old, new),
            Self::Lpm(t) => t.replace::<K>(old, new, records),
            Self::Ternary(t) => t.replace(old, new, records),
        }
    }

    fn for_each(&self, f: &mut dyn FnMut(u32)) {
        match self {
            Self::Exact(m) => m.iter().for_each(f),
            Self::Lpm(t) => t.for_each(f),
            Self::Ternary(t) => t.for_each(f),
        }
    }
}
