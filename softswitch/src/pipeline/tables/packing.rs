//! Where the fields of a table's key are in its packed form.

use super::super::info::{MatchKind, TableInfo};
use super::super::ops::KeyPart;
use super::index::Search;

/// The packed form of a table's key.
pub(crate) struct Packing {
    pub search: Search,
    /// 64-bit words that it takes.
    pub words: u32,
    /// All fields of the key, in order, with their places (where they have one).
    pub fields: Vec<KeyPart>,
    /// Range fields, in order: they are not packed.
    pub ranges: Vec<KeyPart>,
    /// All others.
    pub packed: Vec<KeyPart>,
}

impl Packing {
    /// The packed form of this table's key, whose fields are `key`.
    pub(crate) fn of(info: &TableInfo, key: &[KeyPart]) -> Self {
        let search = if info.needs_priority {
            Search::Ternary
        } else if info.key.iter().any(|k| k.kind == MatchKind::Lpm) {
            Search::Lpm
        } else {
            Search::Exact
        };
        let mut fields = key.to_vec();
        let kinds: Vec<MatchKind> = key.iter().map(|p| info.key[usize::from(p.field)].kind).collect();
        let is_range = |f: usize| kinds[f] == MatchKind::Range;
        // In lpm tables from the top of the words, and the lpm field last, so that prefixes are prefixes of the whole.
        let mut order: Vec<usize> = (0..fields.len()).filter(|f| !is_range(*f)).collect();
        let bits: u32 = order.iter().map(|f| fields[*f].width).sum();
        let mut words = bits.div_ceil(64);
        let mut pos = bits;
        if search == Search::Lpm {
            order.sort_by_key(|f| kinds[*f] == MatchKind::Lpm);
            // Room behind the longest prefix for the step with which the trie ends.
            words = (bits + 1).div_ceil(64);
            pos = words * 64;
        }
        for f in order {
            pos -= fields[f].width;
            fields[f].pos = pos;
        }
        let (ranges, packed) = fields.iter().enumerate().partition::<Vec<_>, _>(|(f, _)| is_range(*f));
        let parts = |v: Vec<(usize, &KeyPart)>| v.into_iter().map(|(_, p)| *p).collect();
        Self { search, words, ranges: parts(ranges), packed: parts(packed), fields }
    }
}
