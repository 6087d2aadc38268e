//! Gateway latencies (DESIGN §3.3, IPdmux §III-A "IPvN router selection") and who answers: which probes to send, and
//! what the answers say. The time stamps are the switches'; this module pairs requests with replies, and judges silence.
//!
//! Peers come in two classes. The *watched* ones, whose routers are chosen now or would be next, are asked often, so that
//! their death is seen within `watch_misses` intervals and one allowance; the others are asked now and then. All
//! intervals stretch alike when they would exceed `per_second` together.
//!
//! Silence is evidence against a peer only if we listened. Five things keep a busy machine from accusing anybody:
//! - A probe is lost when its answer is later than answers have been of late ([RFC 6298]'s mean and four deviations, as
//!   seen by this controller, not by the switches' stamps).
//! - When the prober is called late, its clock stood still meanwhile, and answers that wait get the time to be read.
//! - A lost probe counts as missed only if some other peer was heard in its time; if nobody was, our own switch or link
//!   may be what is silent. As soon as a watched peer is in doubt, up to [`WITNESSES`] others are asked as often.
//! - On a path that loses probes anyway, more of them in a row are needed ([`FALSE_ALARM`]).
//! - Silence of everybody counts after [`BLIND_AFTER`].
//!
//! [RFC 6298]: https://www.rfc-editor.org/rfc/rfc6298#section-2

mod loss;
mod peer;
mod prober;
mod stamps;

use std::net::Ipv4Addr;
use std::time::Duration;

use dmux_wire::GatewayId;
use thiserror::Error;

pub use loss::{LOSS_COST_US, LOSS_FORGIVEN_PERMILLE, distance_us};
pub use prober::Prober;
pub use stamps::{MAX_RTT, Stamps};

/// Probes to one peer whose replies may be awaited at a time; the oldest is given up beyond.
pub const MAX_OUTSTANDING: usize = 32;
/// The least time that an answer is given before its probe counts as lost: what a machine with other work may need.
pub const LEAST_ALLOWANCE: Duration = Duration::from_millis(40);
/// The most; also before any answer came.
pub const MOST_ALLOWANCE: Duration = Duration::from_millis(500);
/// A call that comes later than it was asked for by more than this finds a prober that was not listening.
pub const LATE: Duration = Duration::from_millis(20);
/// How long nobody at all may be heard until that is held against the peers.
pub const BLIND_AFTER: Duration = Duration::from_secs(1);
/// How likely it may be that so many probes in a row were lost by chance: where a path is lossy, more of them make a peer
/// unreachable. At 25 probes a second this is once in half a day at most.
pub const FALSE_ALARM: f64 = 1e-6;
/// At most so many times the configured misses.
pub const MOST_MISSES: u32 = 4;
/// Probes that were held up may leave at once if they fit into so much time of the rate.
pub const BURST: Duration = Duration::from_millis(100);
/// Peers that are asked as often as a watched one while one of those is in doubt.
pub const WITNESSES: usize = 2;
/// Answers in a row after which an unreachable peer is reachable again, so that a path that loses nearly everything does
/// not come and go with every answer.
pub const RETURN_ANSWERS: u32 = 3;

/// When to probe and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTimers {
    /// Between two probes to the same peer.
    pub interval: Duration,
    /// Probes without an answer, in a row, after which the peer counts as unreachable.
    pub misses: u32,
    /// Between two probes to the same watched peer.
    pub watch_interval: Duration,
    /// Probes without an answer, in a row, after which a watched peer counts as unreachable.
    pub watch_misses: u32,
    /// Probes a second at most, to all peers together; at least one is sent a second.
    pub per_second: u32,
    /// At least this long between two latency reports to the cluster, so that jitter does not fill the log.
    pub report_every: Duration,
}

impl Default for ProbeTimers {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            misses: 3,
            watch_interval: Duration::from_millis(40),
            watch_misses: 4,
            per_second: 500,
            report_every: Duration::from_secs(10),
        }
    }
}

/// A probe that the switch should send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeRequest {
    /// The peer.
    pub to: GatewayId,
    /// Its unicast address.
    pub address: Ipv4Addr,
    /// What the reply must carry.
    pub sequence: u32,
}

/// Why a reply was not used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProbeError {
    /// No such request is outstanding: late, replayed or forged.
    #[error(
        "probe reply from {from} with sequence {sequence:#x} answers no outstanding probe (late, replayed or forged)"
    )]
    Unexpected {
        /// Source address of the reply.
        from: Ipv4Addr,
        /// Its sequence number.
        sequence: u32,
    },
    /// The stamps contradict each other.
    #[error("probe stamps are impossible: {total} µs in all, of which {held} µs at the reflecting switch")]
    Impossible {
        /// µs between leaving and returning.
        total: u64,
        /// µs at the reflecting switch.
        held: u64,
    },
}

/// What is known of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView {
    /// Smoothed round trip; `None` before enough samples.
    pub rtt: Option<Duration>,
    /// Smoothed share of probes that were lost, of a thousand.
    pub loss_permille: u16,
    /// What it ranks by ([`distance_us`]); follows the smoothed figures in steps.
    pub distance: Option<Duration>,
    /// False once too many probes in a row were lost, until some in a row are answered.
    pub reachable: bool,
    /// Whether it is asked often.
    pub watched: bool,
}

#[cfg(test)]
mod tests;
