//! Seeded random numbers (SplitMix64): the same on every machine and for ever.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A number of so many bits; small ones and the largest are likely, so that keys meet.
    pub fn value(&mut self, bits: u32) -> u128 {
        let max = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
        match self.below(8) {
            0..=4 => (self.below(4) as u128).min(max),
            5 => max,
            6 => max - (self.below(2) as u128).min(max),
            _ => (u128::from(self.next()) << 64 | u128::from(self.next())) & max,
        }
    }
}
