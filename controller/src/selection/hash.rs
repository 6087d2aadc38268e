//! Integer arithmetic of weighted rendezvous hashing: the same on every machine, which floating point is not.

use crate::model::RegistrationKey;

/// Bits of a hash's mantissa that index [`LOG2`].
const INDEX_BITS: u32 = 10;
/// Fraction bits of logarithms: a 64-bit hash's logarithm then fits 46 bits, and divided by a weight keeps 24.
const FRACTION_BITS: u32 = 40;

/// log2(1 + i / 1024) with [`FRACTION_BITS`] fraction bits.
static LOG2: [u64; (1 << INDEX_BITS) + 1] = log2_table();

const fn log2_table() -> [u64; (1 << INDEX_BITS) + 1] {
    let mut table = [0; (1 << INDEX_BITS) + 1];
    let mut i = 0;
    while i < 1 << INDEX_BITS {
        // By repeated squaring: x in [1, 2) with 62 fraction bits; each squaring yields one bit of the logarithm.
        let mut x: u128 = (1 << 62) + ((i as u128) << (62 - INDEX_BITS));
        let mut bit = 0;
        while bit < FRACTION_BITS {
            x = (x * x) >> 62;
            table[i] <<= 1;
            if x >> 63 != 0 {
                x >>= 1;
                table[i] |= 1;
            }
            bit += 1;
        }
        i += 1;
    }
    table[1 << INDEX_BITS] = 1 << FRACTION_BITS;
    table
}

/// log2 of a hash, with [`FRACTION_BITS`] fraction bits; interpolated, monotone, wrong by less than 2⁻²⁰.
fn log2(hash: u64) -> u64 {
    let hash = hash | 1;
    let exponent = hash.ilog2();
    let mantissa = (u128::from(hash) << (63 - exponent)) as u64; // in [2^63, 2^64)
    let fraction = mantissa << 1;
    let index = (fraction >> (64 - INDEX_BITS)) as usize;
    let rest = (fraction << INDEX_BITS) >> 32; // 32 bits
    let (low, high) = (LOG2[index], LOG2[index + 1]);
    (u64::from(exponent) << FRACTION_BITS) + low + (((high - low) * rest) >> 32)
}

/// A router's standing in the draws for buckets: drawn from its identity, not from its index, so that a router that
/// comes back gets the buckets it had.
pub(super) fn seed(key: &RegistrationKey) -> u64 {
    let address = u64::from(key.router.ip().to_bits());
    mix(mix(address << 32 | u64::from(key.router.port()) << 16 | u64::from(key.protocol.0)))
}

/// The cost at which a router takes a bucket; the least wins. With h uniform in (0, 1), -log(h)/weight is exponential
/// with rate `weight`, and the least of such is a router's with probability weight/Σ weights (Schindelhauer and
/// Schomaker, "Weighted Distributed Hash Tables", SPAA 2005).
pub(super) fn cost(seed: u64, bucket: u8, weight: u16) -> u64 {
    let hash = mix(seed ^ mix(u64::from(bucket) + 1));
    let negated_log = (64 << FRACTION_BITS) - log2(hash);
    // Weight 0 never gets here (the model refuses it); it would take nothing.
    (negated_log << 16).checked_div(u64::from(weight)).unwrap_or(u64::MAX)
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_mathematics_and_monotone() {
        let mut last = 0;
        for shift in 0..64 {
            for step in 0..64_u64 {
                let value = (1 << shift) | (((1_u128 << shift) * u128::from(step) / 64) as u64) | 1;
                let got = log2(value) as f64 / (1_u64 << FRACTION_BITS) as f64;
                let want = (value as f64).log2();
                assert!((got - want).abs() < 1e-6, "log2({value}) is {want}, not {got}");
                assert!(log2(value) >= last);
                last = log2(value);
            }
        }
        assert_eq!(log2(u64::MAX).max(63 << FRACTION_BITS), log2(u64::MAX));
        assert!(log2(u64::MAX) <= 64 << FRACTION_BITS);
    }

    #[test]
    fn a_cost_never_overflows() {
        // The dearest draw: 64 with 40 fraction bits, shifted by 16, is 2^62.
        assert!((64_u64 << FRACTION_BITS).checked_mul(1 << 16).is_some());
    }
}
