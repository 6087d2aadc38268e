//! Gateways, the owners of their switches, and the distances between them.

use std::net::Ipv4Addr;

use dmux_wire::GatewayId;
use serde::{Deserialize, Serialize};

/// Gateways that the cluster holds at most. Up to [`Config::all_pairs_up_to`](super::Config) of them, every gateway probes
/// every other; beyond, distances are reckoned from network coordinates.
pub const MAX_GATEWAYS: usize = 1024;
/// Bytes of a gateway's name at most.
pub const MAX_GATEWAY_NAME: usize = 64;
/// Bytes of a controller's API address at most.
pub(super) const MAX_API_ADDRESS: usize = 256;

/// The Raft node of a controller.
pub type NodeId = u64;

/// A site: one switch and the controller beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Its number.
    pub id: GatewayId,
    /// For people; at most [`MAX_GATEWAY_NAME`] bytes.
    pub name: String,
    /// Its unicast address: returns and probes are sent to it.
    pub unicast: Ipv4Addr,
    /// Where the controller's API listens (`host:port`), for `dmux get`.
    pub api: String,
    /// The Raft node of the controller.
    pub node: NodeId,
}

/// Who may write to a switch (DESIGN §5.3). The P4Runtime election id is (epoch, node).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchOwner {
    /// The controller's Raft node.
    pub node: NodeId,
    /// Rises with every claim, and never falls, not even when the gateway is removed and put again.
    pub epoch: u64,
    /// The claimant's own number for this claim, so that a retried claim is told the epoch it already has.
    pub claim: u64,
}

/// Whether a round trip, in µs, is another than the one that is known.
pub fn is_news(known_us: u32, rtt_us: u32) -> bool {
    known_us.abs_diff(rtt_us) > (known_us / 10).max(500)
}

/// What a gateway measured of the way to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySample {
    /// The other.
    pub to: GatewayId,
    /// Round trip in µs.
    pub rtt_us: u32,
    /// Lost probes of a thousand.
    pub loss_permille: u16,
}

impl LatencySample {
    /// A path that loses nothing.
    pub fn lossless(to: GatewayId, rtt_us: u32) -> Self {
        Self { to, rtt_us, loss_permille: 0 }
    }
}

/// A measured round trip between two gateways' switches, and the share of probes that were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Round trip in µs.
    pub rtt_us: u32,
    /// Lost probes of a thousand.
    pub loss_permille: u16,
    /// Time stamp of the command that recorded it, ms since the Unix epoch.
    pub measured_at: u64,
}

impl Latency {
    /// A new figure is written when the round trip differs by more than a tenth or half a millisecond, whichever is
    /// more, or the loss by [`LOSS_NEWS`](Self::LOSS_NEWS): jitter does not wake every planner of the cluster.
    pub(crate) fn is_news(&self, sample: &LatencySample) -> bool {
        is_news(self.rtt_us, sample.rtt_us) || self.loss_permille.abs_diff(sample.loss_permille) >= Self::LOSS_NEWS
    }

    /// A change of the loss, in thousandths, that is worth writing.
    const LOSS_NEWS: u16 = 30;

    /// A sample older than the recorded one by up to this is a proposal that was retried and arrived late; older by
    /// more, the gateway's clock was set back, and the sample is the best there is.
    pub(super) const LATE_MS: u64 = 60_000;
}
