//! The server side of the transport.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use super::link::{Server, Wire};
use super::peers::Peers;
use super::proto::raft_server::Raft as RaftService;
use super::proto::{
    HelloReply, HelloRequest, JoinRequest, MembershipReply, Message, ProposeReply, ProposeRequest, ReadIndexReply,
    ReadIndexRequest, RemoveRequest, SnapshotPart, read_index_reply,
};
use super::tls::server_tls;
use super::{MAX_SNAPSHOT_BYTES, MAX_STREAMS, Outcome};
use crate::batcher::Batcher;
use crate::config::TlsConfig;
use crate::error::StoreError;
use crate::format::Meta;
use crate::members::Members;
use crate::types::{Raft, Vote};

/// Longest that a caller may ask the leader to try for.
const MAX_WITHIN: Duration = Duration::from_secs(60);
/// Ends idle connections whose other end has gone without a word.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Answers members.
pub(crate) struct Service {
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) batcher: Batcher,
    pub(crate) members: Members,
    /// Whether bytes are a command of the application. Checked before they go into the log, because a node that
    /// cannot decode what is in the log has to stop.
    pub(crate) is_command: fn(&[u8]) -> Result<(), String>,
    /// One snapshot is received at a time, which bounds the memory it takes.
    pub(crate) receiving: Semaphore,
}

fn within(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms)).min(MAX_WITHIN)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    postcard::from_bytes(bytes).map_err(|e| Status::invalid_argument(format!("the body does not decode: {e}")))
}

impl Service {
    /// Checks a Raft message and who sent it.
    async fn receive<T: DeserializeOwned>(&self, message: &Message) -> Result<(u64, T), Status> {
        let from = self.peers.check(message.envelope).await?;
        if !self.peers.ready() {
            return Err(Status::unavailable("this node does not know every bootstrap member yet"));
        }
        Ok((from, decode(&message.body)?))
    }

    fn answer<T: Serialize>(&self, to: u64, body: &T) -> Result<Response<Message>, Status> {
        let body = postcard::to_stdvec(body).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(Message { envelope: self.peers.envelope(to), body: body.into() }))
    }
}

fn raft_failed(e: impl std::fmt::Display) -> Status {
    Status::unavailable(e.to_string())
}

#[tonic::async_trait]
impl RaftService for Service {
    async fn append(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let (from, rpc) = self.receive(request.get_ref()).await?;
        let reply = self.raft.append_entries(rpc).await.map_err(raft_failed)?;
        self.answer(from, &reply)
    }

    async fn vote(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let (from, rpc) = self.receive(request.get_ref()).await?;
        let reply = self.raft.vote(rpc).await.map_err(raft_failed)?;
        self.answer(from, &reply)
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Result<Response<Message>, Status> {
        let _one = self
            .receiving
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("another snapshot is being received: try again"))?;
        let mut parts = request.into_inner();
        let first = parts.next().await.ok_or_else(|| Status::invalid_argument("the snapshot is empty"))??;
        let from = self.peers.check(first.envelope).await?;
        let (vote, meta): (Vote, Meta) = decode(&first.header)?;
        let mut data = Vec::new();
        let mut crc = first.crc;
        while let Some(part) = parts.next().await {
            let part = part?;
            if data.len() + part.data.len() > MAX_SNAPSHOT_BYTES {
                return Err(Status::resource_exhausted(format!(
                    "the snapshot has more than {MAX_SNAPSHOT_BYTES} bytes"
                )));
            }
            data.extend_from_slice(&part.data);
            crc = crc.or(part.crc);
        }
        if crc != Some(crc32fast::hash(&data)) {
            return Err(Status::data_loss("the snapshot did not arrive whole"));
        }
        let snapshot = openraft::Snapshot { meta, snapshot: Box::new(data) };
        let reply = self.raft.install_full_snapshot(vote, snapshot).await.map_err(raft_failed)?;
        self.answer(from, &reply)
    }

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let refused = match self.peers.check(request.get_ref().envelope).await {
            Ok(_) => String::new(),
            Err(status) => status.message().to_owned(),
        };
        let me = self.peers.me();
        Ok(Response::new(HelloReply {
            id: me.node_id,
            incarnation: me.incarnation,
            refused,
            ready: self.peers.ready(),
        }))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeReply>, Status> {
        let request = request.into_inner();
        self.peers.check(request.envelope).await?;
        let outcome = match (self.is_command)(&request.command) {
            Ok(()) => self.batcher.submit(request.command, Instant::now() + within(request.within_ms)).await,
            Err(why) => Outcome::Refused(format!("the leader cannot decode the command: {why}")),
        };
        Ok(Response::new(outcome.into()))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        let request = request.into_inner();
        self.peers.check(request.envelope).await?;
        let outcome = match self.members.read_index(within(request.within_ms)).await {
            Ok(index) => read_index_reply::Outcome::Index(index),
            Err(why) => read_index_reply::Outcome::Failed(why),
        };
        Ok(Response::new(ReadIndexReply { outcome: Some(outcome) }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<MembershipReply>, Status> {
        let request = request.into_inner();
        let within = within(request.within_ms);
        Ok(Response::new(self.members.join(request, within).await))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<MembershipReply>, Status> {
        let request = request.into_inner();
        self.peers.check(request.envelope).await?;
        Ok(Response::new(self.members.remove(request.id, within(request.within_ms)).await))
    }
}

/// Answers what comes over a wire to `addr`; whoever has the wire decides for how long.
pub(crate) fn serve_on(wire: &dyn Wire, addr: &str, service: Service) {
    wire.listen(addr, Server::new(service));
}

/// Serves until `stop` resolves or is dropped.
pub(crate) fn serve(
    listener: TcpListener,
    service: Service,
    tls: Option<&TlsConfig>,
    stop: oneshot::Receiver<()>,
) -> Result<JoinHandle<()>, StoreError> {
    let failed = |e: &std::io::Error| StoreError::Config(format!("the listener cannot be used: {e}"));
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| failed(&e))?;
    let incoming = TcpListenerStream::new(listener).map(|stream| {
        stream.inspect(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY refused");
            }
        })
    });
    let mut server = tonic::transport::Server::builder()
        .max_concurrent_streams(Some(MAX_STREAMS))
        .http2_keepalive_interval(Some(KEEPALIVE));
    if let Some(tls) = tls {
        server = server.tls_config(server_tls(tls)).map_err(|e| StoreError::Tls(super::tls::chain(&e)))?;
    }
    let router = server.add_service(Server::new(service).into_inner());
    Ok(tokio::spawn(async move {
        // Tells the peers' connections to end too: one that outlived its node would answer for a stopped raft for
        // ever, and its peer would never dial the next process.
        let stopped = async move { drop(stop.await) };
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
            tracing::error!(error = %super::tls::chain(&error), "the raft transport stopped");
        }
    }))
}
