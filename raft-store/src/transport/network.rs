//! openraft's network: one connection object for each peer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{AnyError, OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Code, Request, Status};

use super::SNAPSHOT_PART_BYTES;
use super::peers::{Client, Peers};
use super::proto::{Message, SnapshotPart};
use super::tls::chain;
use crate::status::Member;
use crate::types::{NodeId, TypeConfig, Vote};

/// Pause before an unreachable peer is tried again.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(100);
/// Pieces of a snapshot that are cut ahead of what the connection takes.
const PARTS_AHEAD: usize = 4;

type RpcError = RPCError<NodeId, Member, RaftError<NodeId>>;

/// Makes connections.
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Connection {
        self.peers.note(target, node.incarnation);
        Connection { peers: self.peers.clone(), target, addr: node.addr.clone() }
    }
}

/// The way to one peer.
pub(crate) struct Connection {
    peers: Arc<Peers>,
    target: NodeId,
    addr: String,
}

/// Why a call failed: the peer cannot be reached (pause before the next try), or anything else.
enum Failure {
    Unreachable(AnyError),
    Other(AnyError),
}

impl From<Failure> for RpcError {
    fn from(f: Failure) -> Self {
        match f {
            Failure::Unreachable(e) => RPCError::Unreachable(Unreachable::from(e)),
            Failure::Other(e) => RPCError::Network(NetworkError::from(e)),
        }
    }
}

impl From<Failure> for StreamingError<TypeConfig, Fatal<NodeId>> {
    fn from(f: Failure) -> Self {
        match f {
            Failure::Unreachable(e) => StreamingError::Unreachable(Unreachable::from(e)),
            Failure::Other(e) => StreamingError::Network(NetworkError::from(e)),
        }
    }
}

fn other(what: impl ToString) -> Failure {
    Failure::Other(AnyError::error(what))
}

fn from_status(status: &Status) -> Failure {
    let error = AnyError::error(chain(status));
    match status.code() {
        // A refused incarnation will be refused again: do not hammer.
        Code::Unavailable | Code::FailedPrecondition | Code::Unimplemented => Failure::Unreachable(error),
        _ => Failure::Other(error),
    }
}

impl Connection {
    fn client(&self) -> Result<Client, Failure> {
        self.peers.client(&self.addr).map_err(|e| Failure::Unreachable(AnyError::new(&e)))
    }

    fn message(&self, body: &impl Serialize) -> Result<Message, Failure> {
        let body = postcard::to_stdvec(body).map_err(other)?;
        Ok(Message { envelope: self.peers.envelope(self.target), body: body.into() })
    }

    fn open<T: DeserializeOwned>(&self, reply: &Message) -> Result<T, Failure> {
        self.peers
            .check_reply(reply.envelope.as_ref(), self.target)
            .map_err(|e| Failure::Unreachable(AnyError::error(e)))?;
        postcard::from_bytes(&reply.body).map_err(other)
    }

    fn request<T>(&self, message: T, option: &RPCOption) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(option.hard_ttl());
        request
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        option: RPCOption,
    ) -> Result<Message, Failure> {
        let header = postcard::to_stdvec(&(vote, &snapshot.meta)).map_err(other)?;
        let data = Bytes::from(*snapshot.snapshot);
        let envelope = self.peers.envelope(self.target);
        let (tx, rx) = tokio::sync::mpsc::channel(PARTS_AHEAD);
        let cut = async move {
            let crc = crc32fast::hash(&data);
            let first = SnapshotPart { envelope, header: header.into(), data: Bytes::new(), crc: None };
            let pieces = (0..data.len()).step_by(SNAPSHOT_PART_BYTES).map(|at| {
                let piece = data.slice(at..data.len().min(at + SNAPSHOT_PART_BYTES));
                SnapshotPart { data: piece, ..SnapshotPart::default() }
            });
            let last = SnapshotPart { crc: Some(crc), ..SnapshotPart::default() };
            for part in std::iter::once(first).chain(pieces).chain(std::iter::once(last)) {
                if tx.send(part).await.is_err() {
                    return;
                }
            }
        };
        let mut client = self.client()?;
        let request = self.request(tokio_stream::wrappers::ReceiverStream::new(rx), &option);
        let (reply, ()) = tokio::join!(client.snapshot(request), cut);
        reply.map(tonic::Response::into_inner).map_err(|s| from_status(&s))
    }
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RpcError> {
        let request = self.request(self.message(&rpc)?, &option);
        let reply = self.client()?.append(request).await.map_err(|s| from_status(&s))?.into_inner();
        Ok(self.open(&reply)?)
    }

    async fn vote(&mut self, rpc: VoteRequest<NodeId>, option: RPCOption) -> Result<VoteResponse<NodeId>, RpcError> {
        let request = self.request(self.message(&rpc)?, &option);
        let reply = self.client()?.vote(request).await.map_err(|s| from_status(&s))?.into_inner();
        Ok(self.open(&reply)?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig, Fatal<NodeId>>> {
        let reply = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            reply = self.send_snapshot(vote, snapshot, option) => reply?,
        };
        Ok(self.open(&reply)?)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
