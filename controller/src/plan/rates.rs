//! How many frames of each punt reason a switch may send to its controller.

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
    (PuntReason::Discovery, rate(200, 100)),
    (PuntReason::MetalinkControl, rate(1_000, 500)),
];
