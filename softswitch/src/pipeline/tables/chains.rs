//! Entries that have value and mask in common and differ by priority or ranges: chains, best rank first. Where a chain
//! would be long, it is split by ranges: each range of one field is cut into aligned blocks of a power of two (at most
//! two of each size), and there is a chain for each block. A packet's value lies in one block of each size, so that a
//! search looks at as many chains as there are sizes, whatever the number of ranges and however they overlap.

use super::map::Map;
use super::record::Records;
use std::collections::BTreeSet;

/// Chains up to this length are searched as they are.
const SHORT: usize = 12;
/// Sizes of blocks: 2^0 to 2^127, and all.
const SIZES: usize = 129;

#[derive(Debug, Clone, Copy)]
struct Link {
    rank: u64,
    entry: u32,
    next: u32,
}

/// Behind the last link.
const END: u32 = u32::MAX;

/// Chains of links, in one array.
#[derive(Default)]
struct Links {
    all: Vec<Link>,
    free: Vec<u32>,
}

impl Links {
    fn insert(&mut self, head: &mut u32, rank: u64, entry: u32) {
        let link = Link { rank, entry, next: END };
        let new = match self.free.pop() {
            Some(at) => {
                self.all[at as usize] = link;
                at
            }
            None => {
                self.all.push(link);
                self.all.len() as u32 - 1
            }
        };
        let mut before = None;
        let mut at = *head;
        while at != END && self.all[at as usize].rank >= rank {
            (before, at) = (Some(at), self.all[at as usize].next);
        }
        self.all[new as usize].next = at;
        *before.map_or(head, |b| &mut self.all[b as usize].next) = new;
    }

    fn find(&self, head: u32, is: impl Fn(u32) -> bool) -> Option<(Option<u32>, u32)> {
        let (mut before, mut at) = (None, head);
        while at != END {
            let link = &self.all[at as usize];
            if is(link.entry) {
                return Some((before, at));
            }
            (before, at) = (Some(at), link.next);
        }
        None
    }

    fn remove(&mut self, head: &mut u32, entry: u32) {
        if let Some((before, at)) = self.find(*head, |e| e == entry) {
            *before.map_or(head, |b| &mut self.all[b as usize].next) = self.all[at as usize].next;
            self.free.push(at);
        }
    }

    fn replace(&mut self, head: u32, old: u32, new: u32) {
        if let Some((_, at)) = self.find(head, |e| e == old) {
            self.all[at as usize].entry = new;
        }
    }

    fn iter(&self, mut at: u32) -> impl Iterator<Item = &Link> {
        std::iter::from_fn(move || {
            let link = self.all.get(at as usize)?;
            at = link.next;
            Some(link)
        })
    }
}

/// Chains by the blocks of one field's ranges.
struct Blocks {
    field: usize,
    width: u32,
    /// Heads of chains, by the hash of their block. Blocks whose hashes are equal share a chain, which does no harm, as
    /// every link is compared.
    heads: Map,
    chains: Vec<u32>,
    free: Vec<u32>,
    /// How many blocks of each size there are.
    sizes: Box<[u32; SIZES]>,
    /// Those of which there is one, smallest first.
    used: Vec<u8>,
}

/// Entries with the same value and mask.
pub(super) struct Bucket {
    links: Links,
    /// All of them, unless there are blocks.
    head: u32,
    len: usize,
    blocks: Option<Blocks>,
}

fn hash(seed: u64, size: u32, block: u128) -> u64 {
    use super::bits::Key;
    block.mix(seed ^ u64::from(size) << 57)
}

/// The blocks of a range: (size, number) with the values `number << size ..= (number << size) + 2^size - 1`.
fn cut(low: u128, high: u128, width: u32, f: &mut impl FnMut(u32, u128)) {
    let mut at = low;
    loop {
        let mut size = at.trailing_zeros().min(width);
        // One less than the values of a block.
        let last = |size: u32| if size == 0 { 0 } else { super::super::compile::ones(size) };
        while last(size) > high - at {
            size -= 1;
        }
        f(size, if size >= 128 { 0 } else { at >> size });
        let end = at + last(size);
        if end >= high {
            return;
        }
        at = end + 1;
    }
}

impl Blocks {
    fn add(&mut self, links: &mut Links, records: &Records, entry: u32) {
        let (low, high) = records.range(entry, self.field);
        let rank = records.rank(entry);
        cut(low, high, self.width, &mut |size, block| {
            let hash = hash(self.heads.seed, size, block);
            let chain = self.heads.likely(hash).unwrap_or_else(|| {
                let chain = self.free.pop().unwrap_or_else(|| {
                    self.chains.push(END);
                    self.chains.len() as u32 - 1
                });
                self.heads.insert(hash, chain + 1);
                self.chains[chain as usize] = END;
                chain + 1
            }) - 1;
            links.insert(&mut self.chains[chain as usize], rank, entry);
            self.sizes[size as usize] += 1;
            if self.sizes[size as usize] == 1 {
                let place = self.used.partition_point(|s| u32::from(*s) < size);
                self.used.insert(place, size as u8);
            }
        });
    }

    fn take(&mut self, links: &mut Links, records: &Records, entry: u32) {
        let (low, high) = records.range(entry, self.field);
        cut(low, high, self.width, &mut |size, block| {
            let hash = hash(self.heads.seed, size, block);
            let Some(chain) = self.heads.likely(hash) else { return };
            let head = &mut self.chains[chain as usize - 1];
            links.remove(head, entry);
            if *head == END {
                self.heads.remove(hash, chain);
                self.free.push(chain - 1);
            }
            self.sizes[size as usize] -= 1;
            if self.sizes[size as usize] == 0 {
                self.used.retain(|s| u32::from(*s) != size);
            }
        });
    }

    fn each_chain(&self, records: &Records, entry: u32, f: &mut impl FnMut(u32)) {
        let (low, high) = records.range(entry, self.field);
        cut(low, high, self.width, &mut |size, block| {
            if let Some(chain) = self.heads.likely(hash(self.heads.seed, size, block)) {
                f(self.chains[chain as usize - 1]);
            }
        });
    }
}

impl Bucket {
    pub(super) fn new() -> Self {
        Self { links: Links::default(), head: END, len: 0, blocks: None }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// One of the entries.
    pub(super) fn any(&self) -> Option<u32> {
        match &self.blocks {
            None => self.links.all.get(self.head as usize).map(|l| l.entry),
            Some(b) => b
                .heads
                .iter()
                .next()
                .and_then(|c| self.links.all.get(b.chains[c as usize - 1] as usize))
                .map(|l| l.entry),
        }
    }

    /// The best entry that ranks above `best` and whose ranges hold the values of the fields.
    #[inline]
    pub(super) fn lookup(
        &self,
        mut best: u64,
        field: impl Fn(usize) -> u128,
        holds: impl Fn(u32) -> bool,
    ) -> Option<(u64, u32)> {
        let mut found = None;
        let mut search = |head: u32| {
            for link in self.links.iter(head) {
                if link.rank <= best {
                    break;
                }
                if holds(link.entry) {
                    best = link.rank;
                    found = Some((link.rank, link.entry));
                    break;
                }
            }
        };
        match &self.blocks {
            None => search(self.head),
            Some(b) => {
                let v = field(b.field);
                for size in &b.used {
                    let size = u32::from(*size);
                    let block = v.checked_shr(size).unwrap_or(0);
                    if let Some(chain) = b.heads.likely(hash(b.heads.seed, size, block)) {
                        search(b.chains[chain as usize - 1]);
                    }
                }
            }
        }
        found
    }

    /// The entry that `is` the one; `low` and `high` tell the bounds of a field.
    pub(super) fn find(&self, bounds: &[(u128, u128)], is: impl Fn(u32) -> bool) -> Option<u32> {
        let head = match &self.blocks {
            None => self.head,
            Some(b) => {
                let (low, high) = *bounds.get(b.field)?;
                let mut head = END;
                cut(low, high, b.width, &mut |size, block| {
                    if head == END
                        && let Some(chain) = b.heads.likely(hash(b.heads.seed, size, block))
                    {
                        head = b.chains[chain as usize - 1];
                    }
                });
                head
            }
        };
        self.links.find(head, is).map(|(_, at)| self.links.all[at as usize].entry)
    }

    pub(super) fn insert(&mut self, entry: u32, records: &Records, widths: &[u32]) {
        self.len += 1;
        match &mut self.blocks {
            Some(b) => b.add(&mut self.links, records, entry),
            None => {
                self.links.insert(&mut self.head, records.rank(entry), entry);
                // Looked at again whenever it has become twice as long: ranges may differ by then.
                if self.len > SHORT && self.len.is_power_of_two() {
                    self.split(records, widths);
                }
            }
        }
    }

    /// Splits the chain by the field with most different ranges, if there are enough of them.
    fn split(&mut self, records: &Records, widths: &[u32]) {
        let all: Vec<u32> = self.links.iter(self.head).map(|l| l.entry).collect();
        let different = |f: usize| {
            let mut ranges: Vec<_> = all.iter().map(|e| records.range(*e, f)).collect();
            ranges.sort_unstable();
            ranges.dedup();
            ranges.len()
        };
        // Not by pieces that go on with another one: alone, they say nothing.
        let fields = (0..widths.len()).filter(|f| widths[*f] != 0);
        let Some((most, field)) = fields.map(|f| (different(f), f)).max() else { return };
        if most <= SHORT / 2 {
            return;
        }
        let mut blocks = Blocks {
            field,
            width: widths[field],
            heads: Map::default(),
            chains: Vec::new(),
            free: Vec::new(),
            sizes: Box::new([0; SIZES]),
            used: Vec::new(),
        };
        self.links = Links::default();
        self.head = END;
        // Worst first: each is put at the front of its chains.
        all.iter().rev().for_each(|e| blocks.add(&mut self.links, records, *e));
        self.blocks = Some(blocks);
    }

    pub(super) fn remove(&mut self, entry: u32, records: &Records) {
        self.len -= 1;
        match &mut self.blocks {
            Some(b) => b.take(&mut self.links, records, entry),
            None => self.links.remove(&mut self.head, entry),
        }
    }

    pub(super) fn replace(&mut self, old: u32, new: u32, records: &Records) {
        match &self.blocks {
            Some(b) => b.each_chain(records, old, &mut |head| self.links.replace(head, old, new)),
            None => self.links.replace(self.head, old, new),
        }
    }

    pub(super) fn for_each(&self, f: &mut dyn FnMut(u32)) {
        match &self.blocks {
            None => self.links.iter(self.head).for_each(|l| f(l.entry)),
            Some(b) => {
                // An entry is in several chains.
                let mut all = BTreeSet::new();
                for chain in b.heads.iter() {
                    self.links.iter(b.chains[chain as usize - 1]).for_each(|l| {
                        all.insert(l.entry);
                    });
                }
                all.into_iter().for_each(f);
            }
        }
    }
}
