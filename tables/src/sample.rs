//! Entries made from a seed, for the properties that hold for every table.

use crate::{Prefix, Priority, Ternary, Value};

/// Something that a test can make.
pub trait Sample {
    /// Any one.
    fn sample(source: &mut Source) -> Self;
}

/// Numbers from a seed (splitmix64), edges more often than chance would have them.
pub struct Source(u64);

impl Source {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.word() % end as u64) as usize
    }

    fn bits(&mut self, bits: u32) -> u128 {
        let all = u128::MAX >> (u128::BITS - bits);
        match self.below(8) {
            0 => 0,
            1 => all,
            2 => 1,
            // A low byte of zero, which a shortest form must not lose.
            3 => all & !0xff,
            _ => ((u128::from(self.word()) << 64) | u128::from(self.word())) & all,
        }
    }

    pub fn value<T: Value>(&mut self) -> T {
        // Types without a value for every pattern are small.
        (0..100_000).find_map(|_| T::from_bits(self.bits(T::BITS))).expect("a type without values")
    }

    pub fn lpm<T: Value>(&mut self) -> Prefix<T> {
        let len = self.below(T::BITS as usize + 1) as u8;
        let value = self.value();
        Prefix::new(value, len).unwrap()
    }

    pub fn ternary<T: Value>(&mut self) -> Ternary<T> {
        let mask = self.bits(T::BITS);
        let value = self.value();
        Ternary::new(value, mask).unwrap()
    }

    pub fn priority(&mut self) -> Priority {
        let priority = (self.word() >> 33) as i32;
        Priority::new(priority.max(1)).unwrap()
    }
}
