//! The state as bytes.
//!
//! ```text
//! version (1) | CRC-32 of the body (4, big-endian) | body: postcard of State
//! ```

use thiserror::Error;

use super::books::Books;
use super::index::Index;
use super::journal::Journal;
use super::state::State;
use super::{Destination, MAX_DESTINATIONS, MAX_REGISTRATIONS, Model};

/// The version that this program writes, and the only one that it reads.
pub const SNAPSHOT_VERSION: u8 = 13;
const HEADER: usize = 5;

/// Why bytes are not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Shorter than its header.
    #[error("snapshot of {0} bytes is truncated; fetch it again from the leader")]
    Truncated(usize),
    /// Another program version wrote it.
    #[error(
        "snapshot version {found} is not {SNAPSHOT_VERSION}; run the dmux version that wrote it, or rejoin this node empty"
    )]
    Version {
        /// The first byte.
        found: u8,
    },
    /// The bytes changed since they were written.
    #[error("snapshot is damaged: CRC {found:#010x} instead of {expected:#010x}; rejoin this node under a new id")]
    Checksum {
        /// Of the bytes.
        found: u32,
        /// Of the header.
        expected: u32,
    },
    /// The checksum holds but the bytes do not decode.
    #[error("snapshot does not decode: {0}; this is a bug in the dmux that wrote it")]
    Decode(String),
    /// It decodes to a state that no sequence of commands leads to.
    #[error("snapshot contradicts itself: {0}; this is a bug in the dmux that wrote it")]
    Inconsistent(&'static str),
    /// It could not be encoded.
    #[error("the state cannot be encoded: {0}")]
    Encode(String),
}

impl Model {
    /// The state as bytes: the same on every controller that has applied the same commands.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let body = postcard::to_stdvec(&self.state).map_err(|e| SnapshotError::Encode(e.to_string()))?;
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.push(SNAPSHOT_VERSION);
        bytes.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// The model that a snapshot holds. Its journal begins there, so readers of an earlier state plan in full.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let Some((&[version, a, b, c, d], body)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(SnapshotError::Truncated(bytes.len()));
        };
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version { found: version });
        }
        let (expected, found) = (u32::from_be_bytes([a, b, c, d]), crc32fast::hash(body));
        if expected != found {
            return Err(SnapshotError::Checksum { found, expected });
        }
        let (state, rest): (State, _) =
            postcard::take_from_bytes(body).map_err(|e| SnapshotError::Decode(e.to_string()))?;
        if !rest.is_empty() {
            return Err(SnapshotError::Decode(format!("{} bytes follow the state", rest.len())));
        }
        let index = index_of(&state)?;
        let books = Books::of(&state.access).map_err(SnapshotError::Inconsistent)?;
        if state.access.links.keys().any(|key| !state.gateways.contains_key(&key.gateway)) {
            return Err(SnapshotError::Inconsistent("an access link is at a gateway that does not exist"));
        }
        let journal = Journal::starting_at(state.applied);
        Ok(Self { state, index, books, journal })
    }
}

fn index_of(state: &State) -> Result<Index, SnapshotError> {
    let inconsistent = |what| Err(SnapshotError::Inconsistent(what));
    let mut index = Index::default();
    let mut routers = std::collections::BTreeSet::new();
    let mut served = std::collections::BTreeSet::new();
    for (key, registered) in &state.registrations {
        if registered.registration.key != *key {
            return inconsistent("a registration is filed under another's key");
        }
        if !state.gateways.contains_key(&registered.registration.gateway) {
            return inconsistent("a registration is at a gateway that does not exist");
        }
        if !(1..=MAX_REGISTRATIONS as u32).contains(&registered.router.0) || !routers.insert(registered.router) {
            return inconsistent("a router index is out of range or used twice");
        }
        served.extend(Destination::served_by(&registered.registration));
        index.insert(registered, state.router_rtts.get(key).copied());
    }
    let ids: std::collections::BTreeSet<_> = state.sets.values().collect();
    if ids.len() != state.sets.len() || ids.iter().any(|id| !(1..=MAX_DESTINATIONS as u32).contains(&id.0)) {
        return inconsistent("a set id is out of range or used twice");
    }
    if !served.iter().eq(state.sets.keys()) {
        return inconsistent("the sets are not those of the registrations");
    }
    if state.gateways.iter().any(|(id, gateway)| gateway.id != *id) {
        return inconsistent("a gateway is filed under another's id");
    }
    if state.drains.iter().any(|key| !state.registrations.contains_key(key)) {
        return inconsistent("a registration that does not exist is drained");
    }
    if state.router_rtts.keys().any(|key| !state.registrations.contains_key(key)) {
        return inconsistent("a round trip is of a router that is not registered");
    }
    if state.moves.keys().any(|key| !state.registrations.contains_key(key)) {
        return inconsistent("a registration that does not exist has moved");
    }
    if !state.flaps.is_consistent() {
        return inconsistent("the memories of flaps are not in step");
    }
    if !state.tombstones.is_consistent() {
        return inconsistent("the memories of gone registrations are not in step");
    }
    Ok(index)
}
