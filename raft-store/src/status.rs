//! What a store says about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A member as the membership records it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `host:port` of its transport.
    pub addr: String,
    /// Incarnation of its directory; 0 for a bootstrap member, whose peers learnt it by handshake.
    pub incarnation: u64,
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.addr)
    }
}

/// What a node is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes proposals.
    Leader,
    /// Votes and follows.
    Follower,
    /// Campaigns.
    Candidate,
    /// Follows without a vote; also a node that has not yet bootstrapped or joined.
    Learner,
    /// Stopped, on purpose or by [`Status::failure`].
    Stopped,
}

/// A node's view of itself and of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// This node.
    pub id: u64,
    /// Its role.
    pub role: Role,
    /// The leader that it knows of.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// Last index in its log.
    pub last_log: Option<u64>,
    /// Last index applied to its state.
    pub applied: Option<u64>,
    /// Last index that its snapshot covers.
    pub snapshot: Option<u64>,
    /// Voters, by id.
    pub voters: BTreeMap<u64, Member>,
    /// Learners, by id.
    pub learners: BTreeMap<u64, Member>,
    /// Only on the leader: milliseconds since a majority last confirmed it.
    pub quorum_ack_ms: Option<u64>,
    /// Why the node stopped by itself, in words for a person.
    pub failure: Option<String>,
}
