//! Network coordinates: distances between gateways that have never probed each other.
//!
//! Where there are too many gateways for all pairs, each probes a few, keeps a [`Coordinate`] such that the distances to
//! them come out right (Vivaldi with height: Dabek, Cox, Kaashoek, Morris, SIGCOMM 2004), and publishes it when it has
//! moved enough to matter (the filters: Ledlie, Gardner, Seltzer, "Network Coordinates in the Wild", NSDI 2007). The
//! distance to everybody else is then computed.
//!
//! ```text
//!   probe replies ─▶ Quiet (moving percentile) ─▶ Vivaldi ─▶ Publisher (centroid, relative change) ─▶ replicated
//!                                                    ▲                                                   │
//!                                                    └────────── coordinates of the probed ──────────────┘
//! ```
//!
//! Pure: [`Mapper`] takes `now` and samples, and says whom to probe and what to publish.

mod filter;
mod mapper;
mod neighbours;
mod vivaldi;

use serde::{Deserialize, Serialize};

pub use filter::{PUBLISH_EVERY, RELATIVE_CHANGE};
pub use mapper::Mapper;
pub use neighbours::{NEAR, RANDOM, RECHOOSE};
pub use vivaldi::Vivaldi;

/// Dimensions beside the height. Two leave noticeably larger errors on measured maps, more than three gain little.
pub const DIMENSIONS: usize = 3;
/// A coordinate whose error is above this says too little to choose by.
pub const TRUSTED_PERMILLE: u16 = 500;
/// Nothing on Earth is farther from its origin; a coordinate beyond it is nonsense.
const MAX_US: i32 = 100_000_000;

/// Where a gateway is, in µs of round trip: a position, and the height above it that every path to the gateway climbs
/// (its access link). The error says how far computed distances are off, in thousandths, smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinate {
    /// Position.
    pub position: [i32; DIMENSIONS],
    /// Height.
    pub height: u32,
    /// Relative error of the distances computed from it.
    pub error_permille: u16,
}

impl Coordinate {
    /// The round trip to another coordinate, in µs: the distance of the positions, and both heights.
    pub fn distance_us(&self, other: &Self) -> u64 {
        let square: f64 = self
            .position
            .iter()
            .zip(&other.position)
            .map(|(&a, &b)| {
                let d = f64::from(a) - f64::from(b);
                d * d
            })
            .sum();
        square.sqrt() as u64 + u64::from(self.height) + u64::from(other.height)
    }

    /// Whether distances computed from it are worth choosing by.
    pub fn is_trusted(&self) -> bool {
        self.error_permille <= TRUSTED_PERMILLE
    }

    /// Whether it can be where a gateway is.
    pub fn is_sane(&self) -> bool {
        self.position.iter().all(|x| (-MAX_US..=MAX_US).contains(x)) && self.height <= MAX_US as u32
    }
}

/// Whether distances are computed, given whether they were before: beyond `limit` gateways they are, and they are
/// measured again when there are fewer by an eighth, so that one gateway that comes and goes does not switch over all.
pub fn by_coordinates(before: bool, gateways: usize, limit: usize) -> bool {
    if before { gateways > limit - limit / 8 } else { gateways > limit }
}

#[cfg(test)]
mod tests;
