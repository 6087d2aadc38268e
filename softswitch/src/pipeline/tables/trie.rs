//! Longest prefix match: a trie of six bits a step, as in "Tree Bitmap" (Eatherton, Varghese, Dittia 2004), without the
//! steps at which nothing is decided (as in a Patricia trie).
//!
//! The key is one string of bits: the exact fields first, then the lpm field; so an entry is a prefix of the string, and
//! exact fields cost no more than longer prefixes. A node at the depth `d` (a multiple of 6) holds the prefixes of `d` to
//! `d + 5` bits in one bitmap, and its children in another; both are counted to find a place in an array. A search goes
//! down by the key alone and notes the last prefix that it passes; what it has skipped is compared at the end, with the
//! key in that entry's record. If they differ at bit `n`, the right entry is the last one on the same way that has at
//! most `n` bits. So a search touches one node of 32 bytes for each step where entries part, whatever the width of the
//! key, and an update changes a node or two.

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
    /// Where the children are.
    kids: u32,
    /// Where the entries of the prefixes are; the entry itself if there is one only.
    entries: u32,
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
        let (entry, len) = self.last_passed(k, records.key_words(), u32::MAX)?;
        let common = records.common(entry, k);
        if common >= len {
            return Some(entry);
        }
        self.last_passed(k, records.key_words(), common).map(|(e, _)| e)
    }

    /// The longest prefix of at most `limit` bits on the key's way down, and its length.
    #[inline(always)]
    fn last_passed<K: Key>(&self, k: &K, words: usize, limit: u32) -> Option<(u32, u32)> {
        let mut node = &self.root;
        let (mut best, mut found) = (node, 0);
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
                break;
            }
            node = self.nodes.get(node.kids + below(node.children, bits));
        }
        if found == 0 {
            return None;
        }
        let place = found.ilog2();
        Some((self.entry(best, place), best.depth + place.ilog2()))
    }

    #[inline(always)]
    fn entry(&self, node: &Node, place: u32) -> u32 {
        if node.prefixes.is_power_of_two() {
            node.entries
        } else {
            *self.entries.get(node.entries + below(node.prefixes, place))
        }
    }

    /// The entry with exactly this prefix.
    pub(crate) fn find<K: Key>(&self, k: &K, prefix: u32, records: &Records) -> Option<u32> {
        let words = records.key_words();
        let mut node = &self.root;
        while node.depth < prefix / STEP * STEP {
            let bits = step(k, words, node.depth);
            if node.children >> bits & 1 == 0 {
                return None;
            }
            node = self.nodes.get(node.kids + below(node.children, bits));
        }
        let place = place(k, words, prefix);
        if node.depth > prefix || node.prefixes >> place & 1 == 0 {
            return None;
        }
        Some(self.entry(node, place)).filter(|e| records.has_key(*e, k))
    }

    /// Adds an entry whose prefix is not there yet.
    pub(crate) fn insert<K: Key>(&mut self, entry: u32, records: &Records) {
        let (k, prefix, words) = (records.packed::<K>(entry), records.prefix(entry), records.key_words());
        let depth = prefix / STEP * STEP;
        self.len += 1;
        let leaf = Node { prefixes: 1 << place(&k, words, prefix), entries: entry, depth, ..Node::default() };
        if self.len == 1 {
            self.root = leaf;
            return;
        }
        let common = self.common(&k, depth, records).min(prefix);
        // Down to the last node that is above what differs, and to the one below it.
        let mut at = None;
        loop {
            let node = self.node(at);
            if node.depth > common {
                break;
            }
            let bits = step(&k, words, node.depth);
            if node.depth >= depth || node.children >> bits & 1 == 0 {
                let node = *node;
                let node = if node.depth == depth {
                    self.with_prefix(node, place(&k, words, prefix), entry)
                } else {
                    self.with_child(node, bits, leaf)
                };
                *self.node_mut(at) = node;
                return;
            }
            at = Some(node.kids + below(node.children, bits));
        }
        // A new node between the two.
        let lower = *self.node(at);
        let between = Node { depth: common / STEP * STEP, ..Node::default() };
        let other = records.packed::<K>(self.any(&lower));
        let mut between = self.with_child(between, step(&other, words, between.depth), lower);
        between = if between.depth == depth {
            self.with_prefix(between, place(&k, words, prefix), entry)
        } else {
            self.with_child(between, step(&k, words, between.depth), leaf)
        };
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
        let mut node = &self.root;
        while node.depth < depth {
            let bits = step(k, records.key_words(), node.depth);
            if node.children >> bits & 1 == 0 {
                break;
            }
            node = self.nodes.get(node.kids + below(node.children, bits));
        }
        records.common(self.any(node), k)
    }

    /// Some entry at or below a node.
    fn any<'a>(&'a self, mut node: &'a Node) -> u32 {
        while node.prefixes == 0 {
            node = self.nodes.get(node.kids);
        }
        self.entry(node, node.prefixes.trailing_zeros())
    }

    fn with_child(&mut self, mut node: Node, bits: u32, child: Node) -> Node {
        node.kids = if node.children == 0 {
            self.nodes.one(child)
        } else {
            self.nodes.insert(node.kids, node.children.count_ones(), below(node.children, bits), child)
        };
        node.children |= 1 << bits;
        node
    }

    fn without_child(&mut self, mut node: Node, bits: u32) -> Node {
        node.kids = self.nodes.remove(node.kids, node.children.count_ones(), below(node.children, bits));
        node.children &= !(1 << bits);
        node
    }

    fn with_prefix(&mut self, mut node: Node, place: u32, entry: u32) -> Node {
        node.entries = match node.prefixes.count_ones() {
            0 => entry,
            1 => {
                let first = self.entries.one(node.entries);
                self.entries.insert(first, 1, below(node.prefixes, place), entry)
            }
            n => self.entries.insert(node.entries, n, below(node.prefixes, place), entry),
        };
        node.prefixes |= 1 << place;
        node
    }

    fn without_prefix(&mut self, mut node: Node, place: u32) -> Node {
        let n = node.prefixes.count_ones();
        if n > 1 {
            node.entries = self.entries.remove(node.entries, n, below(node.prefixes, place));
        }
        node.prefixes &= !(1 << place);
        if n == 2 {
            let last = node.entries;
            node.entries = *self.entries.get(last);
            self.entries.remove(last, 1, 0);
        }
        node
    }

    /// Removes an entry that is there.
    pub(crate) fn remove<K: Key>(&mut self, entry: u32, records: &Records) {
        let (k, prefix, words) = (records.packed::<K>(entry), records.prefix(entry), records.key_words());
        let (mut at, mut parent) = (None, None);
        while self.node(at).depth < prefix / STEP * STEP {
            let node = self.node(at);
            let bits = step(&k, words, node.depth);
            parent = Some((at, bits));
            at = Some(node.kids + below(node.children, bits));
        }
        self.len -= 1;
        let node = self.without_prefix(*self.node(at), place(&k, words, prefix));
        *self.node_mut(at) = node;
        if node.prefixes != 0 {
            return;
        }
        match (node.children, parent) {
            (0, Some((above, bits))) => {
                let node = self.without_child(*self.node(above), bits);
                *self.node_mut(above) = node;
                self.shorten(above);
            }
            _ => self.shorten(at),
        }
    }

    /// Puts a node's only child in its place, if it holds nothing else.
    fn shorten(&mut self, at: Option<u32>) {
        let node = *self.node(at);
        if node.prefixes == 0 && node.children.is_power_of_two() {
            *self.node_mut(at) = *self.nodes.get(node.kids);
            self.nodes.remove(node.kids, 1, 0);
        }
    }

    /// Puts an entry in the place of another with the same prefix.
    pub(crate) fn replace<K: Key>(&mut self, old: u32, new: u32, records: &Records) {
        let (k, prefix, words) = (records.packed::<K>(old), records.prefix(old), records.key_words());
        let mut at = None;
        while self.node(at).depth < prefix / STEP * STEP {
            let node = self.node(at);
            at = Some(node.kids + below(node.children, step(&k, words, node.depth)));
        }
        let node = *self.node(at);
        if node.prefixes.is_power_of_two() {
            self.node_mut(at).entries = new;
        } else {
            *self.entries.get_mut(node.entries + below(node.prefixes, place(&k, words, prefix))) = new;
        }
    }

    pub(crate) fn for_each(&self, f: &mut dyn FnMut(u32)) {
        let mut open = vec![&self.root];
        while let Some(node) = open.pop() {
            match node.prefixes.count_ones() {
                0 => {}
                1 => f(node.entries),
                n => self.entries.slice(node.entries, n).iter().for_each(|e| f(*e)),
            }
            open.extend(self.nodes.slice(node.kids, node.children.count_ones()));
        }
    }
}
