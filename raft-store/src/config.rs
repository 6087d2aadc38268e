//! What a store is opened with.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::StoreError;

/// Election ranges available. Voters whose slots differ never campaign at the same tick.
pub const ELECTION_SLOTS: u64 = 8;
/// openraft checks its timers once every this many half heartbeats.
const TICK_HALF_HEARTBEATS: u32 = 3;
/// Ticks without a word from the leader before the first slot campaigns.
const FIRST_ELECTION_TICKS: u32 = 4;
/// Shortest heartbeat that makes sense beside an fdatasync on a busy disk.
const MIN_HEARTBEAT: Duration = Duration::from_millis(10);
/// Longest heartbeat: beyond it a dead leader is noticed only after minutes.
const MAX_HEARTBEAT: Duration = Duration::from_secs(5);
/// Longest address a member may have.
pub const MAX_ADDR_BYTES: usize = 256;

/// Everything a store needs to start.
#[derive(Debug)]
pub struct StoreConfig {
    /// This node's id, unique for ever: the id of a lost node is never used again. Not 0.
    pub node_id: u64,
    /// Directory of this node alone; created when missing.
    pub dir: PathBuf,
    /// Where the gRPC transport listens.
    pub listen: Listen,
    /// `host:port` that the other members reach this node at; the listener's own address when absent.
    pub advertise: Option<String>,
    /// Mutual TLS. Without it only loopback addresses are accepted, for listening and for dialling.
    pub tls: Option<TlsConfig>,
    /// Heartbeat and election timing.
    pub timing: Timing,
    /// When to snapshot and how much of the log to keep behind it.
    pub snapshots: SnapshotPolicy,
    /// How this start relates to a cluster.
    pub start: Start,
}

impl StoreConfig {
    /// A configuration with the default timing and snapshot policy, without TLS.
    pub fn new(node_id: u64, dir: impl Into<PathBuf>, listen: Listen, start: Start) -> Self {
        StoreConfig {
            node_id,
            dir: dir.into(),
            listen,
            advertise: None,
            tls: None,
            timing: Timing::default(),
            snapshots: SnapshotPolicy::default(),
            start,
        }
    }
}

/// A listening address, or a listener that is bound already (port 0 in tests, socket activation).
#[derive(Debug)]
pub enum Listen {
    /// Bind this address.
    Addr(SocketAddr),
    /// Use this listener.
    Bound(TcpListener),
}

/// How this start relates to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// First start of a new cluster with these voters (id to `host:port`), this node among them; the same map on
    /// each. On a directory that was started before it just starts, so the same command line may be kept for ever.
    Bootstrap {
        /// The first voters.
        members: BTreeMap<u64, String>,
    },
    /// Join a running cluster through any of `seeds`, as a voter. On a directory that has joined it just starts.
    Join {
        /// `host:port` of members to ask; any one that answers will do.
        seeds: Vec<String>,
        /// A voter that is lost for good and leaves in the same membership change.
        replaces: Option<u64>,
    },
    /// Join as a learner: holds the whole state, has no vote (DESIGN §5.2).
    Learn {
        /// `host:port` of members to ask; any one that answers will do.
        seeds: Vec<String>,
    },
    /// Start from the directory; refuse when it is empty.
    Existing,
}

/// PEM files of mutual TLS between members. Names are checked against `server_name`.
#[derive(Clone)]
pub struct TlsConfig {
    /// Certificate chain of this node, PEM.
    pub cert_pem: Vec<u8>,
    /// Private key of this node, PEM.
    pub key_pem: Vec<u8>,
    /// The authority that signs members, PEM.
    pub ca_pem: Vec<u8>,
    /// DNS name that every member's certificate carries.
    pub server_name: String,
}

impl std::fmt::Debug for TlsConfig {
    /// Keys do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsConfig").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Heartbeat and election timing of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Interval of the leader's heartbeats; the same on every node.
    pub heartbeat: Duration,
    /// This node's election slot, `0..8`; must differ between voters. `None`: `(node_id - 1) % 8`.
    pub election_slot: Option<u64>,
}

impl Default for Timing {
    fn default() -> Self {
        Timing { heartbeat: Duration::from_millis(100), election_slot: None }
    }
}

impl Timing {
    /// The range, in milliseconds, that openraft draws this node's election timeout from, once per process.
    ///
    /// Because it is drawn once, two nodes with equal timeouts could split every vote for ever. So slot `k` gets
    /// `[4t + 2kt, 4t + 2kt + t/2)` with `t` = one tick (1.5 heartbeats): ranges never overlap and lie 1.5 ticks
    /// apart, more than the granularity of the timer.
    ///
    /// # Errors
    /// [`StoreError::Config`] for a heartbeat or a slot out of range.
    pub(crate) fn election_range(&self, node_id: u64) -> Result<(u64, u64), StoreError> {
        if !(MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&self.heartbeat) {
            return Err(StoreError::Config(format!(
                "heartbeat {:?} is out of range: choose {MIN_HEARTBEAT:?} to {MAX_HEARTBEAT:?}",
                self.heartbeat
            )));
        }
        let slot = self.election_slot.unwrap_or_else(|| node_id.wrapping_sub(1) % ELECTION_SLOTS);
        if slot >= ELECTION_SLOTS {
            return Err(StoreError::Config(format!(
                "election slot {slot} is out of range: choose 0 to {}",
                ELECTION_SLOTS - 1
            )));
        }
        let tick = self.heartbeat * TICK_HALF_HEARTBEATS / 2;
        let min = tick * FIRST_ELECTION_TICKS + tick * 2 * u32::try_from(slot).unwrap_or(0);
        let max = min + tick / 2;
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Ok((millis(min), millis(max)))
    }
}

/// When to snapshot and how much of the log to keep behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Snapshot after this many log entries since the last one.
    pub every: u64,
    /// Entries kept behind a snapshot, so that a node that lags a little catches up without one.
    pub keep: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        SnapshotPolicy { every: 5000, keep: 1000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn election_ranges_lie_more_than_a_tick_apart() {
        for heartbeat in [10, 50, 100, 1000] {
            let timing = |slot| Timing { heartbeat: Duration::from_millis(heartbeat), election_slot: Some(slot) };
            let tick = heartbeat * 3 / 2;
            for slot in 1..ELECTION_SLOTS {
                let (_, before) = timing(slot - 1).election_range(1).unwrap();
                let (min, max) = timing(slot).election_range(1).unwrap();
                assert!(min - before > tick, "slot {slot}: {before} then {min}, tick {tick}");
                assert!(min < max && min > heartbeat);
            }
        }
    }

    #[test]
    fn timing_out_of_range_is_refused() {
        assert!(Timing { heartbeat: Duration::ZERO, election_slot: None }.election_range(1).is_err());
        assert!(Timing { heartbeat: Duration::from_millis(50), election_slot: Some(8) }.election_range(1).is_err());
    }
}
