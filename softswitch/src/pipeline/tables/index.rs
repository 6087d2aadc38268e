//! From key to entry: one index per table and side, by the kinds of its fields.

use super::super::ops::KeyPart;
use super::bits::{Bits, Key};
use super::exact::Exact;
use super::lpm::Lpm;
use super::tss::Tss;

/// A key as a control plane gives it, packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FullKey {
    pub value: Bits,
    /// Bits that must be equal. All of an exact field's, a prefix of an lpm field's, none of a range field's.
    pub mask: Bits,
    pub priority: i32,
    /// Bounds of each range field, in order.
    pub ranges: Vec<(u128, u128)>,
}

/// Which search a table needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    Exact,
    Lpm,
    Ternary,
}

/// Entries of one table by key.
pub(crate) enum Index {
    K64(Matcher<u64>),
    K128(Matcher<u128>),
    K256(Matcher<[u64; 4]>),
    K512(Matcher<[u64; 8]>),
}

pub(crate) enum Matcher<K: Key> {
    Exact(Exact<K>),
    Lpm(Lpm<K>),
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
    pub(crate) fn new(search: Search, key_bits: u32) -> Self {
        match key_bits {
            0..=64 => Self::K64(Matcher::new(search)),
            65..=128 => Self::K128(Matcher::new(search)),
            129..=256 => Self::K256(Matcher::new(search)),
            _ => Self::K512(Matcher::new(search)),
        }
    }

    /// The entry that a packet with these slots matches.
    #[inline]
    pub(crate) fn lookup(&self, parts: &[KeyPart], ranges: &[KeyPart], s: &[u64]) -> Option<u32> {
        each!(self, m => m.lookup(pack(parts, s), ranges, s))
    }

    /// The entry with exactly this key.
    pub(crate) fn find(&self, k: &FullKey) -> Option<u32> {
        each!(self, m => m.find(k))
    }

    /// Adds an entry; the key is not there yet.
    pub(crate) fn insert(&mut self, k: &FullKey, entry: u32) {
        each!(self, m => m.insert(k, entry));
    }

    /// Removes the entry with exactly this key.
    pub(crate) fn remove(&mut self, k: &FullKey) -> Option<u32> {
        each!(self, m => m.remove(k))
    }

    /// All entries, in no particular order.
    pub(crate) fn for_each(&self, f: &mut dyn FnMut(FullKey, u32)) {
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
    fn new(search: Search) -> Self {
        match search {
            Search::Exact => Self::Exact(Exact::default()),
            Search::Lpm => Self::Lpm(Lpm::default()),
            Search::Ternary => Self::Ternary(Tss::default()),
        }
    }

    #[inline]
    fn lookup(&self, k: K, ranges: &[KeyPart], s: &[u64]) -> Option<u32> {
        match self {
            Self::Exact(m) => m.get(&k),
            Self::Lpm(l) => l.lookup(&k),
            Self::Ternary(t) => t.lookup(&k, &|bounds| {
                bounds.iter().zip(ranges).all(|((lo, hi), p)| (*lo..=*hi).contains(&field_of(p, s)))
            }),
        }
    }

    fn find(&self, k: &FullKey) -> Option<u32> {
        match self {
            Self::Exact(m) => m.get(&K::from_bits(&k.value)),
            Self::Lpm(l) => l.find(&K::from_bits(&k.value), &K::from_bits(&k.mask)),
            Self::Ternary(t) => t.find(k),
        }
    }

    fn insert(&mut self, k: &FullKey, entry: u32) {
        match self {
            Self::Exact(m) => m.insert(K::from_bits(&k.value), entry),
            Self::Lpm(l) => l.insert(K::from_bits(&k.value), K::from_bits(&k.mask), ones_in(&k.mask), entry),
            Self::Ternary(t) => t.insert(k, entry),
        }
    }

    fn remove(&mut self, k: &FullKey) -> Option<u32> {
        match self {
            Self::Exact(m) => m.remove(&K::from_bits(&k.value)),
            Self::Lpm(l) => l.remove(&K::from_bits(&k.value), &K::from_bits(&k.mask)),
            Self::Ternary(t) => t.remove(k),
        }
    }

    fn for_each(&self, f: &mut dyn FnMut(FullKey, u32)) {
        let plain = |k: &K, mask: Bits| FullKey { value: k.bits(), mask, priority: 0, ranges: Vec::new() };
        match self {
            Self::Exact(m) => m.iter().for_each(|(k, e)| f(plain(k, [u64::MAX; 8]), *e)),
            Self::Lpm(l) => l.for_each(&mut |k, mask, e| f(plain(k, mask.bits()), e)),
            Self::Ternary(t) => t.for_each(f),
        }
    }
}

fn ones_in(b: &Bits) -> u32 {
    b.iter().map(|w| w.count_ones()).sum()
}
