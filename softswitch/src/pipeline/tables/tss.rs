//! Ternary match by tuple space search (Srinivasan, Suri, Varghese 1999): a hash table for each mask that is in use.
//! Groups of entries with the same mask are roughly in the order of their best entry, and one that cannot beat what was
//! found is not searched; where there are many masks, a [`Filter`] tells in advance which of them are worth it. Entries
//! that differ by priority or ranges only are a [`Bucket`]. Of equal priorities the lowest cell wins, as in BMv2.

use super::bits::Key;
use super::chains::Bucket;
use super::filter::Filter;
use super::map::Map;
use super::record::{FullKey, Records};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// From this number of groups on, a filter pays.
const FILTERED: usize = 24;
/// Numbers from here on are buckets; those of entries are below.
const BUCKETS: u32 = 1 << 31;

/// Entries that share a mask.
struct Group<K> {
    mask: K,
    /// Entries and buckets by masked value.
    map: Map,
    /// No entry has a higher rank (the one with this rank may be gone).
    bound: u64,
    entries: usize,
}

/// Ternary entries.
pub(crate) struct Tss<K> {
    /// Those without entries are gaps.
    groups: Vec<Group<K>>,
    by_mask: HashMap<K, u32, RandomState>,
    gaps: Vec<u32>,
    buckets: Vec<Bucket>,
    free_buckets: Vec<u32>,
    filter: Option<Filter>,
    /// Highest bound of each 64 groups.
    bounds: Vec<u64>,
    entries: usize,
    /// Changes since groups were last put in order.
    changes: usize,
    seed: u64,
    /// Bits of each range field, in order; 0 for a piece that goes on with the one before it.
    ranges: Vec<u32>,
    /// There are such pieces.
    pieced: bool,
}

impl<K: Key> Tss<K> {
    pub(crate) fn new(ranges: Vec<u32>) -> Self {
        Self {
            groups: Vec::new(),
            by_mask: HashMap::default(),
            gaps: Vec::new(),
            buckets: Vec::new(),
            free_buckets: Vec::new(),
            filter: None,
            bounds: Vec::new(),
            entries: 0,
            changes: 0,
            seed: Map::default().seed,
            pieced: ranges.contains(&0),
            ranges,
        }
    }

    /// The best entry that matches; `field` tells the values of range fields.
    #[inline]
    pub(crate) fn lookup(&self, k: &K, records: &Records, field: &impl Fn(usize) -> u128) -> Option<u32> {
        // Ranks are above 0, as priorities are.
        let mut best = (0, 0);
        match &self.filter {
            None => {
                for g in &self.groups {
                    self.search(g, k, records, field, &mut best);
                }
            }
            Some(filter) => {
                for word in 0..filter.words() {
                    if self.bounds.get(word).is_none_or(|b| *b <= best.0) {
                        continue;
                    }
                    let mut candidates = filter.candidates(k, word);
                    while candidates != 0 {
                        let at = word * 64 + candidates.trailing_zeros() as usize;
                        candidates &= candidates - 1;
                        if let Some(g) = self.groups.get(at) {
                            self.search(g, k, records, field, &mut best);
                        }
                    }
                }
            }
        }
        (best.0 != 0).then_some(best.1)
    }

    #[inline(always)]
    fn search(&self, g: &Group<K>, k: &K, records: &Records, field: &impl Fn(usize) -> u128, best: &mut (u64, u32)) {
        if g.bound <= best.0 {
            return;
        }
        let value = k.and(&g.mask);
        let Some(at) = g.map.get(value.mix(self.seed), |at| self.is(at, &value, records)) else { return };
        let holds = |e: u32| {
            if self.pieced {
                return self.holds_pieces(e, records, field);
            }
            (0..self.ranges.len()).all(|f| {
                let (low, high) = records.range(e, f);
                (low..=high).contains(&field(f))
            })
        };
        if at >= BUCKETS {
            if let Some(found) = self.buckets[(at - BUCKETS) as usize].lookup(best.0, field, holds) {
                *best = found;
            }
        } else {
            let rank = records.rank(at);
            if rank > best.0 && holds(at) {
                *best = (rank, at);
            }
        }
    }

    /// Whether all ranges of an entry hold the values, where some are in pieces: the first piece in which a value differs
    /// from a bound decides.
    #[inline(never)]
    fn holds_pieces(&self, e: u32, records: &Records, field: &impl Fn(usize) -> u128) -> bool {
        let (mut above, mut below) = (false, false);
        (0..self.ranges.len()).all(|f| {
            if self.ranges[f] != 0 {
                (above, below) = (false, false);
            }
            let ((low, high), v) = (records.range(e, f), field(f));
            let inside = (above || v >= low) && (below || v <= high);
            (above, below) = (above || v > low, below || v < high);
            inside
        })
    }

    /// Whether an entry or a bucket has this masked value.
    #[inline]
    fn is(&self, at: u32, value: &K, records: &Records) -> bool {
        if at < BUCKETS {
            return records.has_key(at, value);
        }
        self.buckets[(at - BUCKETS) as usize].any().is_some_and(|e| records.has_key(e, value))
    }

    fn group(&self, mask: &K) -> Option<usize> {
        self.by_mask.get(mask).map(|g| *g as usize)
    }

    /// What is under a masked value: an entry or a bucket.
    fn under(&self, group: usize, value: &K, records: &Records) -> Option<u32> {
        self.groups[group].map.get(value.mix(self.seed), |at| self.is(at, value, records))
    }

    pub(crate) fn find(&self, k: &FullKey, records: &Records) -> Option<u32> {
        let group = self.group(&K::from_bits(&k.mask))?;
        let at = self.under(group, &K::from_bits(&k.value), records)?;
        if at >= BUCKETS {
            self.buckets[(at - BUCKETS) as usize].find(&k.ranges, |e| records.has_rest(e, k))
        } else {
            Some(at).filter(|e| records.has_rest(*e, k))
        }
    }

    pub(crate) fn insert(&mut self, entry: u32, records: &Records) {
        let (mask, value, rank) = (records.mask::<K>(entry), records.packed::<K>(entry), records.rank(entry));
        let at = self.group(&mask).unwrap_or_else(|| self.add_group(mask));
        let hash = value.mix(self.seed);
        match self.under(at, &value, records) {
            None => self.groups[at].map.insert(hash, entry),
            Some(b) if b >= BUCKETS => self.buckets[(b - BUCKETS) as usize].insert(entry, records, &self.ranges),
            Some(other) => {
                let mut bucket = Bucket::new();
                bucket.insert(other, records, &self.ranges);
                bucket.insert(entry, records, &self.ranges);
                let b = match self.free_buckets.pop() {
                    Some(b) => {
                        self.buckets[b as usize] = bucket;
                        b
                    }
                    None => {
                        self.buckets.push(bucket);
                        self.buckets.len() as u32 - 1
                    }
                };
                self.groups[at].map.replace(hash, other, b + BUCKETS);
            }
        }
        let g = &mut self.groups[at];
        g.entries += 1;
        g.bound = g.bound.max(rank);
        self.bounds[at / 64] = self.bounds[at / 64].max(rank);
        if let Some(f) = &mut self.filter {
            f.add(at, &mask, &value);
        }
        self.entries += 1;
        self.changed(records);
    }

    fn add_group(&mut self, mask: K) -> usize {
        let group = Group { mask, map: Map::default(), bound: 0, entries: 0 };
        let at = match self.gaps.pop() {
            Some(at) => {
                self.groups[at as usize] = group;
                at as usize
            }
            None => {
                self.groups.push(group);
                self.groups.len() - 1
            }
        };
        self.by_mask.insert(mask, at as u32);
        self.bounds.resize(self.groups.len().div_ceil(64), 0);
        match &mut self.filter {
            Some(f) if !f.has_room_for(at) => {
                // Made anew when this change is through.
                self.filter = None;
                self.changes = FILTERED.max(self.entries);
            }
            Some(f) => f.add_group(at, &mask),
            None => {}
        }
        at
    }

    pub(crate) fn remove(&mut self, entry: u32, records: &Records) {
        let (mask, value) = (records.mask::<K>(entry), records.packed::<K>(entry));
        let Some(at) = self.group(&mask) else { return };
        let hash = value.mix(self.seed);
        match self.under(at, &value, records) {
            Some(b) if b >= BUCKETS => {
                let bucket = &mut self.buckets[(b - BUCKETS) as usize];
                bucket.remove(entry, records);
                if bucket.len() == 1
                    && let Some(last) = bucket.any()
                {
                    *bucket = Bucket::new();
                    self.free_buckets.push(b - BUCKETS);
                    self.groups[at].map.replace(hash, b, last);
                }
            }
            _ => self.groups[at].map.remove(hash, entry),
        }
        let g = &mut self.groups[at];
        g.entries -= 1;
        if g.entries == 0 {
            g.map = Map::default();
            g.bound = 0;
            self.gaps.push(at as u32);
            self.by_mask.remove(&mask);
        }
        self.entries -= 1;
        self.changed(records);
    }

    /// Puts an entry in the place of another with the same key.
    pub(crate) fn replace(&mut self, old: u32, new: u32, records: &Records) {
        let (mask, value) = (records.mask::<K>(old), records.packed::<K>(old));
        let Some(at) = self.group(&mask) else { return };
        match self.under(at, &value, records) {
            Some(b) if b >= BUCKETS => self.buckets[(b - BUCKETS) as usize].replace(old, new, records),
            _ => self.groups[at].map.replace(value.mix(self.seed), old, new),
        }
    }

    /// Counts a change. After half as many as there are entries, bounds, the groups' order and the filter are made anew; so
    /// that costs no more than the changes themselves.
    fn changed(&mut self, records: &Records) {
        self.changes += 1;
        if self.changes <= FILTERED.max(self.entries / 2) {
            return;
        }
        self.changes = 0;
        let mut groups: Vec<_> = std::mem::take(&mut self.groups).into_iter().filter(|g| g.entries > 0).collect();
        for g in &mut groups {
            let mut bound = 0;
            self.each_of(g, &mut |e| bound = bound.max(records.rank(e)));
            g.bound = bound;
        }
        groups.sort_by_key(|g| std::cmp::Reverse(g.bound));
        self.gaps.clear();
        self.by_mask = groups.iter().enumerate().map(|(at, g)| (g.mask, at as u32)).collect();
        self.bounds = groups.chunks(64).map(|of| of[0].bound).collect();
        self.filter = (groups.len() >= FILTERED).then(|| {
            let mut filter = Filter::new(8 * records.key_words(), groups.len() * 3 / 2);
            for (at, g) in groups.iter().enumerate() {
                filter.add_group(at, &g.mask);
                self.each_of(g, &mut |e| filter.add(at, &g.mask, &records.packed::<K>(e)));
            }
            filter
        });
        self.groups = groups;
    }

    fn each_of(&self, g: &Group<K>, f: &mut dyn FnMut(u32)) {
        for at in g.map.iter() {
            if at >= BUCKETS { self.buckets[(at - BUCKETS) as usize].for_each(f) } else { f(at) }
        }
    }

    pub(crate) fn for_each(&self, f: &mut dyn FnMut(u32)) {
        self.groups.iter().for_each(|g| self.each_of(g, f));
    }
}
