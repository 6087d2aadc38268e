//! Draws that are the same on every machine.

use crate::model::RegistrationKey;

/// What a router's draws begin with: from its identity, not from its index, so that a router that comes back draws
/// what it drew.
pub(super) fn seed(key: &RegistrationKey) -> u64 {
    let address = u64::from(key.router.ip().to_bits());
    mix(mix(address << 32 | u64::from(key.router.port()) << 16 | u64::from(key.protocol.0)))
}

/// The `n`th point of a router on the ring.
pub(super) fn point(seed: u64, n: u64) -> u64 {
    mix(seed ^ mix(n + 1))
}

/// Where on the ring a bucket is.
pub(super) fn place(bucket: usize) -> u64 {
    mix(bucket as u64 + 1)
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
