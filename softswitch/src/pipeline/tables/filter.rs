//! Which groups of a ternary table can have an entry for a key at all: a set of groups for each value of each byte of the
//! key, as bits. The sets of a key's bytes have in common what is worth a search, mostly a few groups of hundreds.
//!
//! Nothing is taken out when an entry goes; the filter is made anew after as many changes as there are entries.

use super::bits::Key;

pub(super) struct Filter {
    /// Words of a set.
    words: usize,
    /// Sets by byte of the key (lowest first), then by value.
    sets: Vec<u64>,
    /// Bytes of the key that some group looks at.
    looked_at: Vec<u8>,
}

fn byte<K: Key>(k: &K, i: usize) -> u8 {
    (k.word(i / 8) >> (i % 8 * 8)) as u8
}

impl Filter {
    /// For keys of so many bytes and up to so many groups, none of which holds anything yet.
    pub(super) fn new(bytes: usize, groups: usize) -> Self {
        let words = groups.div_ceil(64);
        Self { words, sets: vec![0; bytes * 256 * words], looked_at: Vec::new() }
    }

    pub(super) fn has_room_for(&self, group: usize) -> bool {
        group < self.words * 64
    }

    pub(super) fn words(&self) -> usize {
        self.words
    }

    fn bytes(&self) -> usize {
        self.sets.len() / (256 * self.words)
    }

    fn put(&mut self, byte: usize, value: u8, group: usize) {
        self.sets[(byte * 256 + usize::from(value)) * self.words + group / 64] |= 1 << (group % 64);
    }

    /// A new group: bytes at which it does not look rule nothing out.
    pub(super) fn add_group<K: Key>(&mut self, group: usize, mask: &K) {
        for i in 0..self.bytes() {
            if byte(mask, i) == 0 {
                (0..=255).for_each(|v| self.put(i, v, group));
            } else if !self.looked_at.contains(&(i as u8)) {
                self.looked_at.push(i as u8);
            }
        }
    }

    /// A new entry of a group.
    pub(super) fn add<K: Key>(&mut self, group: usize, mask: &K, value: &K) {
        for i in 0..self.bytes() {
            let (m, v) = (byte(mask, i), byte(value, i));
            if m == 0 {
                continue;
            }
            // All values of the bits that do not matter.
            let mut rest = 0u8;
            loop {
                self.put(i, v | rest, group);
                rest = rest.wrapping_sub(!m) & !m;
                if rest == 0 {
                    break;
                }
            }
        }
    }

    /// The groups of one word that may have an entry for the key.
    #[inline]
    pub(super) fn candidates<K: Key>(&self, k: &K, word: usize) -> u64 {
        let mut all = u64::MAX;
        for i in &self.looked_at {
            let i = usize::from(*i);
            all &= self.sets[(i * 256 + usize::from(byte(k, i))) * self.words + word];
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_candidate_for_what_its_entries_match() {
        let mut f = Filter::new(2, 70);
        f.add_group(0, &0xff00u64);
        f.add(0, &0xff00u64, &0x1200);
        f.add_group(69, &0x00f0u64);
        f.add(69, &0x00f0u64, &0x0050);
        assert!(f.has_room_for(127) && !f.has_room_for(128));
        let both = |k: u64| (f.candidates(&k, 0) & 1, f.candidates(&k, 1) >> 5 & 1);
        assert_eq!(both(0x1234), (1, 0));
        assert_eq!(both(0x125f), (1, 1));
        assert_eq!(both(0x1350), (0, 1));
        assert_eq!(both(0x1360), (0, 0));
    }
}
