//! Calls to another member on behalf of a user of the store.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Request, Status};

use super::link::Lost;
use super::peers::Peers;
use super::proto::propose_reply::Outcome as ProtoOutcome;
use super::proto::{
    Applied, HelloReply, HelloRequest, JoinRequest, MembershipReply, ProposeReply, ProposeRequest, ReadIndexRequest,
    RemoveRequest, read_index_reply,
};
use super::tls::chain;

/// What became of a proposal.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Durable on a majority and applied on the leader.
    Applied { index: u64, reply: Bytes },
    /// Certainly not in any log: may be proposed again.
    NotTaken(String),
    /// In a log, perhaps: may be applied, now or later, or not.
    Unknown(String),
    /// Not taken, and never will be.
    Refused(String),
}

impl From<Outcome> for ProposeReply {
    fn from(outcome: Outcome) -> Self {
        let outcome = match outcome {
            Outcome::Applied { index, reply } => ProtoOutcome::Applied(Applied { index, reply }),
            Outcome::NotTaken(why) => ProtoOutcome::NotTaken(why),
            Outcome::Unknown(why) => ProtoOutcome::Unknown(why),
            Outcome::Refused(why) => ProtoOutcome::Refused(why),
        };
        ProposeReply { outcome: Some(outcome) }
    }
}

/// Calls to members by address.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) peers: Arc<Peers>,
}

/// Whole milliseconds of `within`, at least one.
pub(crate) fn millis(within: Duration) -> u32 {
    u32::try_from(within.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Time for an answer to travel back after the other side's own deadline.
const TRAVEL: Duration = Duration::from_millis(200);

fn timed<T>(message: T, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(within + TRAVEL);
    request
}

/// Whether the connection could not even be made, so that nothing was sent.
fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() || error.downcast_ref() == Some(&Lost::Unreached) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Remote {
    /// Proposes through the member `id` at `addr`.
    pub(crate) async fn propose(&self, id: u64, addr: &str, command: Bytes, within: Duration) -> Outcome {
        let mut client = match self.peers.client(addr) {
            Ok(client) => client,
            Err(e) => return Outcome::NotTaken(e.to_string()),
        };
        let request = ProposeRequest { envelope: self.peers.envelope(id), command, within_ms: millis(within) };
        match client.propose(timed(request, within)).await.map(|r| r.into_inner().outcome) {
            Ok(Some(ProtoOutcome::Applied(Applied { index, reply }))) => Outcome::Applied { index, reply },
            Ok(Some(ProtoOutcome::NotTaken(why))) => Outcome::NotTaken(why),
            Ok(Some(ProtoOutcome::Unknown(why))) => Outcome::Unknown(why),
            Ok(Some(ProtoOutcome::Refused(why))) => Outcome::Refused(why),
            Ok(None) => Outcome::Unknown(format!("node {id} gave no outcome")),
            // Refusals by the service before it looked at the command.
            Err(s) if matches!(s.code(), Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented) => {
                Outcome::NotTaken(format!("node {id} refused: {}", s.message()))
            }
            Err(s) if never_sent(&s) => {
                Outcome::NotTaken(format!("node {id} at {addr} cannot be reached: {}", chain(&s)))
            }
            Err(s) => Outcome::Unknown(format!("node {id} at {addr} did not answer: {}", chain(&s))),
        }
    }

    /// The index that a linearizable read must wait for, from the leader `id`.
    pub(crate) async fn read_index(&self, id: u64, addr: &str, within: Duration) -> Result<u64, String> {
        let mut client = self.peers.client(addr).map_err(|e| e.to_string())?;
        let request = ReadIndexRequest { envelope: self.peers.envelope(id), within_ms: millis(within) };
        let reply = client.read_index(timed(request, within)).await.map_err(|s| chain(&s))?.into_inner();
        match reply.outcome {
            Some(read_index_reply::Outcome::Index(index)) => Ok(index),
            Some(read_index_reply::Outcome::Failed(why)) => Err(why),
            None => Err(format!("node {id} gave no index")),
        }
    }

    /// Introduces this node to member `id`.
    pub(crate) async fn hello(&self, id: u64, addr: &str, within: Duration) -> Result<HelloReply, String> {
        let mut client = self.peers.client(addr).map_err(|e| e.to_string())?;
        let request = HelloRequest { envelope: self.peers.envelope(id) };
        Ok(client.hello(timed(request, within)).await.map_err(|s| chain(&s))?.into_inner())
    }

    /// Asks the member at `addr` to let this node join.
    pub(crate) async fn join(
        &self,
        addr: &str,
        request: JoinRequest,
        within: Duration,
    ) -> Result<MembershipReply, String> {
        let mut client = self.peers.client(addr).map_err(|e| e.to_string())?;
        Ok(client.join(timed(request, within)).await.map_err(|s| chain(&s))?.into_inner())
    }

    /// Asks the leader `leader` to remove member `id`.
    pub(crate) async fn remove(
        &self,
        leader: u64,
        addr: &str,
        id: u64,
        within: Duration,
    ) -> Result<MembershipReply, String> {
        let mut client = self.peers.client(addr).map_err(|e| e.to_string())?;
        let request = RemoveRequest { envelope: self.peers.envelope(leader), id, within_ms: millis(within) };
        Ok(client.remove(timed(request, within)).await.map_err(|s| chain(&s))?.into_inner())
    }
}
