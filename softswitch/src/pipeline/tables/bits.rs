//! Packed keys: all key fields side by side, in the smallest of four sizes.

use std::hash::Hash;

/// A packed key of up to 512 bits, least significant word first: the form in which a control plane's keys arrive.
pub(crate) type Bits = [u64; 8];

/// A packed key. Fields are put at bit positions; what is not put is 0.
pub(crate) trait Key: Copy + Eq + Hash + Send + Sync + 'static {
    /// All bits 0.
    const ZERO: Self;
    /// Ors `v` in at bit `pos`; it ends within the key.
    fn put(&mut self, pos: u32, v: u64);
    /// The bits where both have one.
    fn and(&self, o: &Self) -> Self;
    /// The low bits of the wide form.
    fn from_bits(b: &Bits) -> Self;
    /// 64 of its bits, word 0 being the lowest; 0 beyond its end.
    fn word(&self, i: usize) -> u64;
    /// A hash whose upper bits are good.
    fn mix(&self, seed: u64) -> u64;
}

/// Both halves of a 128-bit product: each bit of either factor moves about half of the result's.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let p = u128::from(a) * u128::from(b);
    p as u64 ^ (p >> 64) as u64
}

/// An odd number without a pattern (from the digits of pi).
const ODD: u64 = 0x243f_6a88_85a3_08d3;

impl Key for u64 {
    const ZERO: Self = 0;
    #[inline]
    fn put(&mut self, pos: u32, v: u64) {
        *self |= v << pos;
    }
    #[inline]
    fn and(&self, o: &Self) -> Self {
        self & o
    }
    fn from_bits(b: &Bits) -> Self {
        b[0]
    }
    #[inline]
    fn word(&self, i: usize) -> u64 {
        if i == 0 { *self } else { 0 }
    }
    #[inline]
    fn mix(&self, seed: u64) -> u64 {
        fold(self ^ seed, ODD)
    }
}

impl Key for u128 {
    const ZERO: Self = 0;
    #[inline]
    fn put(&mut self, pos: u32, v: u64) {
        *self |= Self::from(v) << pos;
    }
    #[inline]
    fn and(&self, o: &Self) -> Self {
        self & o
    }
    fn from_bits(b: &Bits) -> Self {
        Self::from(b[0]) | Self::from(b[1]) << 64
    }
    #[inline]
    fn word(&self, i: usize) -> u64 {
        match i {
            0 => *self as u64,
            1 => (*self >> 64) as u64,
            _ => 0,
        }
    }
    #[inline]
    fn mix(&self, seed: u64) -> u64 {
        fold(fold(*self as u64 ^ seed, ODD) ^ (*self >> 64) as u64, ODD)
    }
}

impl<const N: usize> Key for [u64; N] {
    const ZERO: Self = [0; N];
    #[inline]
    fn put(&mut self, pos: u32, v: u64) {
        let (word, bit) = ((pos / 64) as usize, pos % 64);
        self[word] |= v << bit;
        if bit != 0 && word + 1 < N {
            self[word + 1] |= v >> (64 - bit);
        }
    }
    #[inline]
    fn and(&self, o: &Self) -> Self {
        let mut r = *self;
        for (a, b) in r.iter_mut().zip(o) {
            *a &= b;
        }
        r
    }
    fn from_bits(b: &Bits) -> Self {
        let mut r = [0; N];
        for (a, b) in r.iter_mut().zip(b) {
            *a = *b;
        }
        r
    }
    #[inline]
    fn word(&self, i: usize) -> u64 {
        self.get(i).copied().unwrap_or(0)
    }
    #[inline]
    fn mix(&self, seed: u64) -> u64 {
        self.iter().fold(seed, |h, w| fold(h ^ w, ODD))
    }
}

/// Ors a value of up to 128 bits into the wide form.
pub(crate) fn put_wide(b: &mut Bits, pos: u32, v: u128) {
    b.put(pos, v as u64);
    let high = (v >> 64) as u64;
    if high != 0 {
        b.put(pos + 64, high);
    }
}

/// Takes `width` bits (1..=128) at `pos`.
pub(crate) fn take(b: &Bits, pos: u32, width: u32) -> u128 {
    let word = |i: usize| b.get(i).copied().unwrap_or(0);
    let (at, bit) = ((pos / 64) as usize, pos % 64);
    let low = u128::from(word(at)) | u128::from(word(at + 1)) << 64;
    let mut v = low >> bit;
    if bit != 0 {
        v |= u128::from(word(at + 2)) << (128 - bit);
    }
    v & super::super::compile::ones(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_can_be_taken(pos in 0u32..384, width in 1u32..=128, v in any::<u128>()) {
            let v = v & super::super::super::compile::ones(width);
            let mut b = [0; 8];
            put_wide(&mut b, pos, v);
            prop_assert_eq!(take(&b, pos, width), v);
            prop_assert_eq!(b.iter().map(|w| w.count_ones()).sum::<u32>(), v.count_ones());
        }

        #[test]
        fn all_sizes_agree(pos in 0u32..32, v in any::<u32>()) {
            let (mut a, mut b, mut c) = (0u64, 0u128, [0u64; 4]);
            a.put(pos, u64::from(v));
            b.put(pos, u64::from(v));
            c.put(pos, u64::from(v));
            for i in 0..5 {
                prop_assert_eq!(a.word(i), b.word(i));
                prop_assert_eq!(a.word(i), c.word(i));
            }
            prop_assert_eq!(u64::from_bits(&[a, 1, 2, 3, 4, 5, 6, 7]), a);
        }
    }
}
