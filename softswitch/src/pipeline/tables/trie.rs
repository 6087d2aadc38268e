//! Longest prefix match: a trie of six bits a step, as in "Tree Bitmap" (Eatherton, Varghese, Dittia 2004), without the
//! steps at which nothing is decided (as in a Patricia trie).
//!
//! The key is one string of bits: the exact fields first, then the lpm field; so an entry is a prefix of the string, and
//! exact fields cost no more than longer prefixes. A node at the depth `d` (a multiple of 6) holds the prefixes of `d` to
//! `d + 5` bits in one bitmap, its children in another, and in a third the steps that lead to one entry only; the bits are
//! counted to find a place in an array. A search goes down by the key alone and notes the last prefix that it passes; what
//! it has skipped is compared at the end, with the key in that entry's record. If they differ at bit `n`, the right entry
//! is the last one on the same way that has at most `n` bits. So a search touches one node of 40 bytes for each step where
//! entries part, whatever the width of the key, and then the record; an update changes a node or two.
//!
//! Every node but the root holds two things at least.

use super::arena::Arena;
use super::bits::Key;
use super::record::Records;

/// Bits of a step.
const STEP: u32 = 6;

/// For the upper five bits of a step: the places of the (up to) six prefixes of those six bits that a node can hold. The
/// prefix of `n` bits with the value `v` has the place `1 << n | v`.
static PASSED: [u64; 32] = passed();

const fn passed() -> [u64; 32] {
    let mut all = [0; 32];
    let mut bits = 0;
    while bits < 32 {
        let mut n = 0;
        while n < STEP {
            all[bits] |= 1 << (1 << n | bits >> (STEP - 1 - n));
            n += 1;
        }
        bits += 1;
    }
    all
}

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    /// Which of the 64 next steps lead to a child.
    children: u64,
    /// Which prefixes end here, by place.
    prefixes: u64,
    /// Which of the 64 next steps lead to a single entry.
    leaves: u64,
    /// Where the children are.
    kids: u32,
    /// Where the entries of the prefixes are; the entry itself if there is one only.
    entries: u32,
    /// The same for leaves.
    singles: u32,
    /// Bits of the key above this node.
    depth: u32,
}

/// Prefixes.
#[derive(Default)]
pub(crate) struct Trie {
    root: Node,
    nodes: Arena<Node>,
    entries: Arena<u32>,
    /// The processor counts bits in one instruction, which portable code may not assume.
    popcnt: bool,
    len: usize,
}

/// The six bits of the key at a depth; bits behind its end are 0. Depths count from the top of the key's words.
#[inline(always)]
fn step<K: Key>(k: &K, words: usize, depth: u32) -> u32 {
    let top = words - 1 - (depth / 64) as usize;
    let bit = depth % 64;
    let mut v = k.word(top) << bit >> (64 - STEP);
    if bit > 64 - STEP && top > 0 {
        v |= k.word(top - 1) >> (128 - STEP - bit);
    }
    v as u32
}

#[inline(always)]
fn below(map: u64, at: u32) -> u32 {
    (map & ((1 << at) - 1)).count_ones()
}

/// The place of a prefix within its node.
fn place<K: Key>(k: &K, words: usize, prefix: u32) -> u32 {
    let n = prefix % STEP;
    1 << n | step(k, words, prefix - n) >> (STEP - n)
}

impl Trie {
    pub(crate) fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        let popcnt = std::is_x86_feature_detected!("popcnt");
        #[cfg(not(target_arch = "x86_64"))]
        let popcnt = false;
        Self { popcnt, ..Self::default() }
    }

    #[inline]
    pub(crate) fn lookup<K: Key>(&self, k: &K, records: &Records) -> Option<u32> {
        #[cfg(target_arch = "x86_64")]
        if self.popcnt {
            // SAFETY: the processor has the instruction.
            return unsafe { self.lookup_popcnt(k, records) };
        }
        self.search(k, records)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt")]
    fn lookup_popcnt<K: Key>(&self, k: &K, records: &Records) -> Option<u32> {
        self.search(k, records)
    }

    #[inline(always)]
    fn search<K: Key>(&self, k: &K, records: &Records) -> Option<u32> {
        let words = records.key_words();
        let (leaf, passed) = self.walk(k, words, u32::MAX);
        let common = match (leaf, passed) {
            (Some(leaf), _) => {
                let common = records.common(leaf, k);
                if common >= records.prefix(leaf) {
                    return Some(leaf);
                }
                common
            }
            (None, Some((entry, _))) => records.common(entry, k),
            (None, None) => return None,
        };
        match passed? {
            (entry, len) if len <= common => Some(entry),
            _ => self.walk(k, words, common).1.map(|(e, _)| e),
        }
    }

    /// The leaf that the key's way down leads to, and the longest prefix of at most `limit` bits on it, with its length.
    #[inline(always)]
    fn walk<K: Key>(&self, k: &K, words: usize, limit: u32) -> (Option<u32>, Option<(u32, u32)>) {
        let mut node = &self.root;
        let (mut best, mut found, mut leaf) = (node, 0, None);
        while node.depth <= limit {
            let bits = step(k, words, node.depth);
            let mut passed = node.prefixes & PASSED[(bits >> 1) as usize & 31];
            let left = limit - node.depth;
            if left < STEP - 1 {
                // Prefixes of up to n bits have the places below 2 << n.
                passed &= (1 << (2 << left)) - 1;
            }
            if passed != 0 {
                (best, found) = (node, passed);
            }
            if node.children >> bits & 1 == 0 {
                if node.leaves >> bits & 1 != 0 {
                    leaf = Some(self.one_of(node.leaves, node.singles, bits));
                }
                break;
            }
            node = self.nodes.get(node.kids + below(node.children, bits));
        }
        if found == 0 {
            return (leaf, None);
        }
        let place = found.ilog2();
        (leaf, Some((self.one_of(best.prefixes, best.entries, place), best.depth + place.ilog2())))
    }

    /// The entry of one of the bits of a map.
    #[inline(always)]
    fn one_of(&self, map: u64, at: u32, bit: u32) -> u32 {
        if map.is_power_of_two() { at } else { *self.entries.get(at + below(map, bit)) }
    }

    /// All entries of a map.
    fn all_of<'a>(&'a self, map: u64, at: &'a u32) -> &'a [u32] {
        match map.count_ones() {
            0 => &[],
            1 => std::slice::from_ref(at),
            n => self.entries.slice(*at, n),
        }
    }

    /// Adds an entry to a map.
    fn add(&mut self, map: &mut u64, at: &mut u32, bit: u32, entry: u32) {
        *at = match map.count_ones() {
            0 => entry,
            1 => {
                let first = self.entries.one(*at);
                self.entries.insert(first, 1, below(*map, bit), entry)
            }
            n => self.entries.insert(*at, n, below(*map, bit), entry),
        };
        *map |= 1 << bit;
    }

    /// Takes an entry out of a map.
    fn take(&mut self, map: &mut u64, at: &mut u32, bit: u32) {
        let n = map.count_ones();
        if n > 1 {
            *at = self.entries.remove(*at, n, below(*map, bit));
        }
        if n == 2 {
            let last = *at;
            *at = *self.entries.get(last);
            self.entries.remove(last, 1, 0);
        }
        *map &= !(1 << bit);
    }

    /// A node with one entry.
    fn single<K: Key>(entry: u32, records: &Records) -> Node {
        let prefix = records.prefix(entry);
        let place = place(&records.packed::<K>(entry), records.key_words(), prefix);
        Node { prefixes: 1 << place, entries: entry, depth: prefix / STEP * STEP, ..Node::default() }
    }

    /// The key's next step at a node, and the child that it leads to.
    fn next<K: Key>(&self, at: Option<u32>, k: &K, words: usize) -> (u32, Option<u32>) {
        let node = self.node(at);
        let bits = step(k, words, node.depth);
        let child = node.children >> bits & 1 != 0;
        (bits, child.then(|| node.kids + below(node.children, bits)))
    }

    /// The entry with exactly this prefix.
    pub(crate) fn find<K: Key>(&self, k: &K, prefix: u32, records: &Records) -> Option<u32> {
        let (words, depth) = (records.key_words(), prefix / STEP * STEP);
        let mut at = None;
        while self.node(at).depth < depth {
            let (bits, child) = self.next(at, k, words);
            let node = self.node(at);
            if node.leaves >> bits & 1 != 0 {
                let leaf = self.one_of(node.leaves, node.singles, bits);
                return Some(leaf).filter(|e| records.prefix(*e) == prefix && records.has_key(*e, k));
            }
            at = Some(child?);
        }
        let (node, place) = (self.node(at), place(k, words, prefix));
        if node.depth != depth || node.prefixes >> place & 1 == 0 {
            return None;
        }
        Some(self.one_of(node.prefixes, node.entries, place)).filter(|e| records.has_key(*e, k))
    }

    /// Adds an entry whose prefix is not there yet.
    pub(crate) fn insert<K: Key>(&mut self, entry: u32, records: &Records) {
        let (k, prefix, words) = (records.packed::<K>(entry), records.prefix(entry), records.key_words());
        let depth = prefix / STEP * STEP;
        self.len += 1;
        if self.len == 1 {
            self.root = Self::single::<K>(entry, records);
            return;
        }
        // Down to the first node that is below what the key has in common with the others there.
        let common = self.common(&k, depth, records).min(prefix);
        let mut at = None;
        loop {
            let mut node = *self.node(at);
            if node.depth > common {
                break;
            }
            if node.depth == depth {
                self.add(&mut node.prefixes, &mut node.entries, place(&k, words, prefix), entry);
                *self.node_mut(at) = node;
                return;
            }
            let (bits, child) = self.next(at, &k, words);
            if child.is_some() {
                at = child;
            } else if node.leaves >> bits & 1 != 0 {
                // What was alone is no longer.
                let other = self.one_of(node.leaves, node.singles, bits);
                self.take(&mut node.leaves, &mut node.singles, bits);
                self.add_child(&mut node, bits, Self::single::<K>(other, records));
                *self.node_mut(at) = node;
                at = Some(node.kids + below(node.children, bits));
            } else {
                self.add(&mut node.leaves, &mut node.singles, bits, entry);
                *self.node_mut(at) = node;
                return;
            }
        }
        // A new node above that one.
        let lower = *self.node(at);
        let mut between = Node { depth: common / STEP * STEP, ..Node::default() };
        let some = self.any(&lower);
        let bits = step(&records.packed::<K>(some), words, between.depth);
        if lower.prefixes.is_power_of_two() && lower.children | lower.leaves == 0 {
            self.add(&mut between.leaves, &mut between.singles, bits, some);
        } else {
            self.add_child(&mut between, bits, lower);
        }
        if between.depth == depth {
            self.add(&mut between.prefixes, &mut between.entries, place(&k, words, prefix), entry);
        } else {
            self.add(&mut between.leaves, &mut between.singles, step(&k, words, between.depth), entry);
        }
        *self.node_mut(at) = between;
    }

    /// A node by its place; `None` is the root.
    fn node(&self, at: Option<u32>) -> &Node {
        at.map_or(&self.root, |at| self.nodes.get(at))
    }

    fn node_mut(&mut self, at: Option<u32>) -> &mut Node {
        match at {
            None => &mut self.root,
            Some(at) => self.nodes.get_mut(at),
        }
    }

    /// How many bits the key has in common with the entries that its way down to `depth` leads to.
    fn common<K: Key>(&self, k: &K, depth: u32, records: &Records) -> u32 {
        let mut at = None;
        while self.node(at).depth < depth {
            let (bits, child) = self.next(at, k, records.key_words());
            let node = self.node(at);
            if node.leaves >> bits & 1 != 0 {
                return records.common(self.one_of(node.leaves, node.singles, bits), k);
            }
            if child.is_none() {
                break;
            }
            at = child;
        }
        records.common(self.any(self.node(at)), k)
    }

    /// Some entry at or below a node.
    fn any<'a>(&'a self, mut node: &'a Node) -> u32 {
        while node.prefixes | node.leaves == 0 {
            node = self.nodes.get(node.kids);
        }
        if node.prefixes != 0 {
            self.one_of(node.prefixes, node.entries, node.prefixes.trailing_zeros())
        } else {
            self.one_of(node.leaves, node.singles, node.leaves.trailing_zeros())
        }
    }

    fn add_child(&mut self, node: &mut Node, bits: u32, child: Node) {
        node.kids = if node.children == 0 {
            self.nodes.one(child)
        } else {
            self.nodes.insert(node.kids, node.children.count_ones(), below(node.children, bits), child)
        };
        node.children |= 1 << bits;
    }

    /// Removes an entry that is there.
    pub(crate) fn remove<K: Key>(&mut self, entry: u32, records: &Records) {
        let (k, prefix, words) = (records.packed::<K>(entry), records.prefix(entry), records.key_words());
        let (mut at, mut parent) = (None, None);
        self.len -= 1;
        let node = loop {
            let mut node = *self.node(at);
            if node.depth >= prefix / STEP * STEP {
                self.take(&mut node.prefixes, &mut node.entries, place(&k, words, prefix));
                break node;
            }
            let (bits, child) = self.next(at, &k, words);
            if child.is_none() {
                self.take(&mut node.leaves, &mut node.singles, bits);
                break node;
            }
            parent = Some((at, bits));
            at = child;
        };
        *self.node_mut(at) = node;
        self.shorten::<K>(at, parent, records);
    }

    /// Puts what a node holds in its place, if that is one thing only.
    fn shorten<K: Key>(&mut self, at: Option<u32>, parent: Option<(Option<u32>, u32)>, records: &Records) {
        let node = *self.node(at);
        if node.prefixes.count_ones() + node.children.count_ones() + node.leaves.count_ones() != 1 {
            return;
        }
        if node.children != 0 {
            *self.node_mut(at) = *self.nodes.get(node.kids);
            self.nodes.remove(node.kids, 1, 0);
            return;
        }
        let last = self.any(&node);
        let Some((above, bits)) = parent else {
            self.root = Self::single::<K>(last, records);
            return;
        };
        let mut node = *self.node(above);
        node.kids = self.nodes.remove(node.kids, node.children.count_ones(), below(node.children, bits));
        node.children &= !(1 << bits);
        self.add(&mut node.leaves, &mut node.singles, bits, last);
        *self.node_mut(above) = node;
    }

    /// Puts an entry in the place of another with the same prefix.
    pub(crate) fn replace<K: Key>(&mut self, old: u32, new: u32, records: &Records) {
        let (k, prefix, words) = (records.packed::<K>(old), records.prefix(old), records.key_words());
        let mut at = None;
        let (leaf, bit) = loop {
            if self.node(at).depth >= prefix / STEP * STEP {
                break (false, place(&k, words, prefix));
            }
            let (bits, child) = self.next(at, &k, words);
            if child.is_none() {
                break (true, bits);
            }
            at = child;
        };
        let node = *self.node(at);
        let (map, first) = if leaf { (node.leaves, node.singles) } else { (node.prefixes, node.entries) };
        match (map.is_power_of_two(), leaf) {
            (false, _) => *self.entries.get_mut(first + below(map, bit)) = new,
            (true, true) => self.node_mut(at).singles = new,
            (true, false) => self.node_mut(at).entries = new,
        }
    }

    pub(crate) fn for_each(&self, f: &mut dyn FnMut(u32)) {
        let mut open = vec![&self.root];
        while let Some(node) = open.pop() {
            self.all_of(node.prefixes, &node.entries).iter().for_each(|e| f(*e));
            self.all_of(node.leaves, &node.singles).iter().for_each(|e| f(*e));
            open.extend(self.nodes.slice(node.kids, node.children.count_ones()));
        }
    }
}
