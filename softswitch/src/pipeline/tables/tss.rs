//! Ternary match by tuple space search: a hash table for each mask that is in use, the one with the highest priority
//! first, so that the search ends as soon as nothing better can follow. Ranges are compared inside a bucket.

use super::bits::Key;
use super::index::FullKey;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};

/// Lower and upper bound of a range field, both included.
type Bounds = (u128, u128);

/// An entry under one masked value.
#[derive(Debug, Clone)]
struct Rule {
    priority: i32,
    entry: u32,
    ranges: Box<[Bounds]>,
}

/// Entries that share a mask.
struct Group<K> {
    mask: K,
    /// How many entries have each priority; its last key is the highest.
    priorities: BTreeMap<i32, u32>,
    highest: i32,
    /// Rules by masked value, highest priority first.
    rules: HashMap<K, Vec<Rule>, RandomState>,
}

/// Ternary entries.
pub(crate) struct Tss<K> {
    /// Highest priority first.
    groups: Vec<Group<K>>,
}

impl<K> Default for Tss<K> {
    fn default() -> Self {
        Self { groups: Vec::new() }
    }
}

impl<K: Key> Tss<K> {
    /// The entry with the highest priority that matches; `in_range` decides on its ranges.
    #[inline]
    pub(crate) fn lookup(&self, k: &K, in_range: &impl Fn(&[Bounds]) -> bool) -> Option<u32> {
        let mut best: Option<(i32, u32)> = None;
        for g in &self.groups {
            if best.is_some_and(|(p, _)| p >= g.highest) {
                break;
            }
            let Some(rules) = g.rules.get(&k.and(&g.mask)) else { continue };
            for r in rules {
                if best.is_some_and(|(p, _)| p >= r.priority) {
                    break;
                }
                if r.ranges.is_empty() || in_range(&r.ranges) {
                    best = Some((r.priority, r.entry));
                    break;
                }
            }
        }
        best.map(|(_, e)| e)
    }

    fn group(&self, mask: &K) -> Option<usize> {
        self.groups.iter().position(|g| g.mask == *mask)
    }

    pub(crate) fn find(&self, k: &FullKey) -> Option<u32> {
        let g = &self.groups[self.group(&K::from_bits(&k.mask))?];
        let rules = g.rules.get(&K::from_bits(&k.value))?;
        rules.iter().find(|r| r.priority == k.priority && *r.ranges == *k.ranges).map(|r| r.entry)
    }

    pub(crate) fn insert(&mut self, k: &FullKey, entry: u32) {
        let mask = K::from_bits(&k.mask);
        let at = self.group(&mask).unwrap_or_else(|| {
            let (priorities, rules) = (BTreeMap::new(), HashMap::default());
            self.groups.push(Group { mask, priorities, highest: i32::MIN, rules });
            self.groups.len() - 1
        });
        let g = &mut self.groups[at];
        let rules = g.rules.entry(K::from_bits(&k.value)).or_default();
        let place = rules.partition_point(|r| r.priority >= k.priority);
        rules.insert(place, Rule { priority: k.priority, entry, ranges: k.ranges.clone().into_boxed_slice() });
        *g.priorities.entry(k.priority).or_default() += 1;
        if k.priority > g.highest {
            g.highest = k.priority;
            self.reorder(at);
        }
    }

    pub(crate) fn remove(&mut self, k: &FullKey) -> Option<u32> {
        let at = self.group(&K::from_bits(&k.mask))?;
        let g = &mut self.groups[at];
        let value = K::from_bits(&k.value);
        let rules = g.rules.get_mut(&value)?;
        let place = rules.iter().position(|r| r.priority == k.priority && *r.ranges == *k.ranges)?;
        let rule = rules.remove(place);
        if rules.is_empty() {
            g.rules.remove(&value);
        }
        if let Some(n) = g.priorities.get_mut(&k.priority) {
            *n -= 1;
            if *n == 0 {
                g.priorities.remove(&k.priority);
            }
        }
        match g.priorities.last_key_value() {
            None => {
                self.groups.remove(at);
            }
            Some((highest, _)) if *highest != g.highest => {
                g.highest = *highest;
                self.reorder(at);
            }
            Some(_) => {}
        }
        Some(rule.entry)
    }

    /// Moves one group to its place; the others are in order.
    fn reorder(&mut self, at: usize) {
        let g = self.groups.remove(at);
        let place = self.groups.partition_point(|o| o.highest >= g.highest);
        self.groups.insert(place, g);
    }

    pub(crate) fn for_each(&self, f: &mut dyn FnMut(FullKey, u32)) {
        for g in &self.groups {
            for (k, rules) in &g.rules {
                for r in rules {
                    let key = FullKey {
                        value: k.bits(),
                        mask: g.mask.bits(),
                        priority: r.priority,
                        ranges: r.ranges.to_vec(),
                    };
                    f(key, r.entry);
                }
            }
        }
    }
}
