//! Replicated state: openraft over sled, with a gRPC transport (DESIGN §5.2).
//!
//! This crate knows nothing of dmux's model. It replicates any [`Application`], a deterministic state machine, and
//! hands out a [`Store`], which is cheap to clone and is the same thing on every node of the cluster:
//!
//! ```text
//! Store::open(StoreConfig, initial state)          start, refuse, or say how to rejoin
//! store.propose(command, within)                   replicated, durable on a majority, applied; from any node
//! store.read(|state| ..)                           this node's copy, never waits for Raft
//! store.linearizable(within)                       then read() sees everything acknowledged before the call
//! store.changed()                                  a watch of the last applied index
//! store.status(), store.wait_for(within, |s| ..)   role, leader, term, members, failure
//! store.remove_member(id, within)                  through the leader; joining is Start::Join
//! store.shutdown()
//! ```
//!
//! ```text
//!   propose ──▶ batcher ──▶ openraft core ──▶ LogStore ──▶ Engine (sled) ──▶ flusher thread: flush, fdatasync
//!      │           │             │   ▲                                            │ callbacks
//!      │(follower) │             │   └────────────────────────────────────────────┘
//!      ▼           │             ▼
//!   Peers ── gRPC ─┴──────▶ Service (the leader's)          StateMachine<A> ──▶ read(), changed()
//! ```
//!
//! # What is promised
//! * An acknowledged command is durable on a majority and survives `kill -9` and loss of power of any node.
//! * [`Store::propose`] applies a command at most once: `Ok` means once, [`ProposeError::Unknown`] means once or not
//!   at all, every other error means not at all. It retries only what certainly was not taken, so a caller whose
//!   commands are idempotent may simply propose again.
//! * A directory that is damaged, lost or another node's is refused ([`StoreError`]); nothing is ever reset.
//! * A node that lost its directory cannot vote again under its old id: every directory carries an incarnation that
//!   its peers remember ([incarnations](crate#incarnations)).
//!
//! # Incarnations
//! Raft breaks when a voter forgets what it voted for. So each directory gets a random incarnation at creation; each
//! member stores durably the incarnation of each peer before the first vote, every message names both ends'
//! incarnations, and either end refuses a mismatch. A bootstrapping node starts only after every member has recorded
//! it, which is why a first start needs all members up once.

mod app;
mod batcher;
mod config;
pub mod engine;
mod error;
mod flusher;
mod format;
mod log_store;
mod members;
mod open;
mod simulated;
mod start;
mod state;
mod status;
mod store;
mod transport;
mod types;

#[cfg(test)]
mod storage_tests;

pub use app::{Application, RestoreError};
pub use config::{ELECTION_SLOTS, Listen, SnapshotPolicy, Start, StoreConfig, Timing, TlsConfig};
pub use error::{MemberError, OpenStep, ProposeError, ReadError, StoreError};
pub use simulated::{Simulated, SyncTime};
pub use status::{Member, Role, Status};
pub use store::Store;
pub use transport::{Answer, Call, Carried, Lost, Server, Wire};
