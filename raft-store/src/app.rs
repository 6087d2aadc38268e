//! What a user of this crate implements: a deterministic state machine.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A state machine that every node of the cluster holds a copy of.
///
/// `apply` must be a pure function of the state and the command: no clock, no randomness, no iteration over a map of
/// unspecified order, no IO. Times travel inside commands.
pub trait Application: Send + Sync + Sized + 'static {
    /// What is proposed, replicated and applied. Encoded with postcard: add variants at the end only.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What `apply` answers to the proposer.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// Version of the bytes that `snapshot` makes. A snapshot of a newer version than this is refused, an older one
    /// is handed to `restore` with its version.
    const SNAPSHOT_VERSION: u16;

    /// Applies one command. `index` is its position in the replicated log; it never decreases, and commands that
    /// were proposed at the same time may share one (they are applied in the same order everywhere).
    fn apply(&mut self, index: u64, command: Self::Command) -> Self::Reply;

    /// The whole state as bytes. Called with the state read-locked, so it should cost milliseconds.
    fn snapshot(&self) -> Vec<u8>;

    /// The inverse of `snapshot`, for bytes of `version` (at most `SNAPSHOT_VERSION`).
    ///
    /// # Errors
    /// When the bytes are not such a snapshot.
    fn restore(version: u16, bytes: &[u8]) -> Result<Self, RestoreError>;
}

/// Why a snapshot could not become a state.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the snapshot does not decode: {0}")]
pub struct RestoreError(pub String);
