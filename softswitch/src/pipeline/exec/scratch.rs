//! What a worker keeps from one packet to the next that no program can see: buffers, its random numbers, and how much it
//! has logged.

use std::hash::{BuildHasher, Hasher};

/// Messages of `log_msg` that one worker emits in a second.
const MESSAGES_PER_SECOND: u32 = 1000;

pub(crate) struct Scratch {
    /// The bytes that a calculation runs over.
    pub(super) calc: Vec<u8>,
    random: u64,
    /// Tables that packets were looked up in since the batch began; see [`table_bit`].
    pub(super) applied: u64,
    /// The second that messages are counted in, and how many there were.
    log: (u64, u32),
}

/// One bit for each of the first 64 tables, which others share: it is for guesses only.
#[inline(always)]
pub(super) fn table_bit(t: usize) -> u64 {
    1 << (t % 64)
}

impl Scratch {
    pub(super) fn new() -> Self {
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Self { calc: Vec::with_capacity(256), random: seed, applied: 0, log: (0, 0) }
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn random(&mut self, low: u64, high: u64) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ z >> 31;
        let span = u128::from(high - low) + 1;
        low + ((u128::from(z) * span) >> 64) as u64
    }

    /// There is room for one more message in this second.
    pub(super) fn may_log(&mut self, now_us: u64) -> bool {
        let second = now_us / 1_000_000;
        if self.log.0 != second {
            self.log = (second, 0);
        }
        self.log.1 += 1;
        self.log.1 <= MESSAGES_PER_SECOND
    }
}
