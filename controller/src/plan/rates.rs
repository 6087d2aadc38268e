//! Rates of meters: how many frames of each punt reason a switch may send to its controller, and what metalinks may carry.

use std::time::Duration;

use dmux_wire::PuntReason;
use serde::{Deserialize, Serialize};

/// A token bucket in frames: committed and peak rate are the same, so a frame is either green or red.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PuntRate {
    /// Frames a second in the long run.
    pub per_second: u32,
    /// Frames at once.
    pub burst: u32,
}

const fn rate(per_second: u32, burst: u32) -> PuntRate {
    PuntRate { per_second, burst }
}

impl PuntRate {
    /// So many times as much.
    pub(super) fn times(self, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        rate(self.per_second.saturating_mul(count), self.burst.saturating_mul(count))
    }
}

impl From<PuntRate> for MeterRate {
    fn from(rate: PuntRate) -> Self {
        Self { per_second: rate.per_second.into(), burst: rate.burst.into() }
    }
}

/// Of each access port, by a meter of its own: a flood at one is at nobody's expense elsewhere.
pub const DISCOVERY_RATE: PuntRate = rate(200, 100);

/// What a site gets that says nothing else. Registrations are work for the controller, so they have the most; what
/// anybody can cause without a reply that matters (no route, TTL) has little.
pub const DEFAULT_PUNT_RATES: [(PuntReason, PuntRate); 9] = [
    (PuntReason::Control, rate(5_000, 1_000)),
    (PuntReason::Arp, rate(200, 50)),
    (PuntReason::ProbeReply, rate(2_000, 500)),
    (PuntReason::TtlExpired, rate(100, 50)),
    (PuntReason::TooBig, rate(200, 100)),
    (PuntReason::NoRoute, rate(20, 20)),
    (PuntReason::Return, rate(200, 100)),
    (PuntReason::Discovery, DISCOVERY_RATE),
    (PuntReason::MetalinkControl, rate(4_000, 1_000)),
];

/// How long a metalink that was silent may catch up: its burst is what its rate is in this time, and [`LEAST_BURST`] at least.
pub const METALINK_BURST: Duration = Duration::from_millis(20);
/// Two of the longest frames (1500 bytes, tagged, with what the data plane counts more towards endpoints): with less, a meter
/// would call a frame red that comes a moment early.
const LEAST_BURST: u64 = 2 * 1_554;
/// What an endpoint may send on its control MLI: a dozen messages a second.
pub const CONTROL_RATE: MeterRate = MeterRate { per_second: 16_000, burst: 16_000 };

/// A token bucket of an entry, in bytes (metalinks) or frames (discovery): committed and peak rate are the same, so a frame is either green or red.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeterRate {
    /// In the long run.
    pub per_second: u64,
    /// At once.
    pub burst: u64,
}

impl MeterRate {
    /// For a rate in bit/s: never less than that, and less than 8 bit/s more, as meters count bytes.
    pub fn of_bits(rate: u64) -> Self {
        let per_second = rate.div_ceil(8);
        let burst = u128::from(per_second) * METALINK_BURST.as_nanos() / 1_000_000_000;
        Self { per_second, burst: u64::try_from(burst).unwrap_or(u64::MAX).max(LEAST_BURST) }
    }

    /// In bit/s.
    pub fn bits(&self) -> u64 {
        self.per_second.saturating_mul(8)
    }

    /// Whether this is what some target may make of `wanted`: meters of hardware have mantissas of a few bits, and their bursts
    /// are often powers of two.
    pub fn rounds(&self, wanted: &Self) -> bool {
        let off = self.per_second.abs_diff(wanted.per_second);
        let bursts = wanted.burst / 2..=wanted.burst.saturating_mul(2);
        off <= wanted.per_second / 16 && bursts.contains(&self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_to_the_last_bit() {
        let rate = MeterRate::of_bits(15_000_001);
        assert_eq!(rate, MeterRate { per_second: 1_875_001, burst: 37_500 });
        assert_eq!(MeterRate::of_bits(1), MeterRate { per_second: 1, burst: LEAST_BURST });
        let most = MeterRate::of_bits(crate::model::MAX_RATE);
        assert!(i64::try_from(most.burst).is_ok() && most.bits() == crate::model::MAX_RATE);
    }

    #[test]
    fn what_a_target_rounds_is_told_from_another_rate() {
        let wanted = MeterRate::of_bits(100_000_000);
        let near = MeterRate { per_second: 12_400_000, burst: 262_144 };
        assert!(near.rounds(&wanted) && wanted.rounds(&wanted));
        for other in [
            MeterRate { per_second: 11_000_000, ..wanted },
            MeterRate { burst: 1_000, ..wanted },
            MeterRate { per_second: 0, ..wanted },
        ] {
            assert!(!other.rounds(&wanted), "{other:?}");
        }
    }
}
