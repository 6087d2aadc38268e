//! The model as the application of the replicated log.

use dmux_raft_store::{Application, RestoreError};

use crate::model::{Command, Model, Reply};

/// The replicated state of dmux.
#[derive(Debug, Clone, Default)]
pub struct Replicated(pub Model);

impl Application for Replicated {
    type Command = Command;
    type Reply = Reply;
    // The model's snapshots carry their own version; this one is of the envelope around them.
    const SNAPSHOT_VERSION: u16 = 1;

    fn apply(&mut self, index: u64, command: Command) -> Reply {
        self.0.apply(index, &command)
    }

    fn snapshot(&self) -> Vec<u8> {
        match self.0.snapshot() {
            Ok(bytes) => bytes,
            Err(error) => {
                // An empty snapshot is refused by every reader, so nobody can take it for the state.
                tracing::error!(%error, "the replicated state cannot be encoded");
                Vec::new()
            }
        }
    }

    fn restore(_version: u16, bytes: &[u8]) -> Result<Self, RestoreError> {
        Model::restore(bytes).map(Self).map_err(|e| RestoreError(e.to_string()))
    }
}
