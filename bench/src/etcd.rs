//! Three etcd members on loopback, and a client of their gRPC interface.
//!
//! etcd is driven through the interface that its own clients use: unary `etcdserverpb.KV/Put` over HTTP/2 connections
//! that stay open, straight to the leader. Of its messages only the fields that are needed here are written down.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tonic::transport::{Channel, Endpoint};

use crate::load::{LoadResult, closed_loop, new_key};
use crate::process::{Daemon, free_port, on_path};

const MEMBERS: usize = 3;
/// A cluster that has elected nobody after this long will not.
const READY_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts to start, since ports may be taken between choosing and using them.
const START_ATTEMPTS: usize = 3;
/// HTTP/2 connections that clients share; more of them made 64 clients no faster.
const CONNECTIONS: usize = 8;

/// `etcdserverpb.PutRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.ResponseHeader`.
#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// `etcdserverpb.PutResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

/// `etcdserverpb.StatusRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

/// `etcdserverpb.StatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

async fn call<Q, A>(channel: Channel, path: &'static str, request: Q) -> Result<A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.context("the connection to etcd is gone")?;
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let answer = client.unary(tonic::Request::new(request), path, codec).await;
    Ok(answer.with_context(|| "etcd refused a request")?.into_inner())
}

async fn put(channel: Channel, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
    let answer: PutResponse = call(channel, "/etcdserverpb.KV/Put", PutRequest { key, value }).await?;
    // Each acknowledged write has a revision: an answer without one acknowledges nothing.
    if answer.header.is_none_or(|h| h.revision < 1) {
        bail!("etcd answered a put without a revision");
    }
    Ok(())
}

/// Three members, and connections to their leader.
pub struct Cluster {
    _members: Vec<Daemon>,
    leader: Vec<Channel>,
}

impl Cluster {
    /// Where `etcd` is.
    pub fn program() -> Option<PathBuf> {
        on_path("etcd")
    }

    /// Starts the members with their data below `dir` and waits for a leader.
    pub async fn start(program: &Path, dir: &Path) -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::try_start(program, &dir.join(format!("etcd-{attempt}"))).await {
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
                started => return started,
            }
        }
    }

    async fn try_start(program: &Path, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let mut urls = Vec::new();
        for _ in 0..MEMBERS {
            urls.push((format!("http://127.0.0.1:{}", free_port()?), format!("http://127.0.0.1:{}", free_port()?)));
        }
        let cluster: Vec<_> = urls.iter().enumerate().map(|(n, (peer, _))| format!("m{n}={peer}")).collect();
        let cluster = cluster.join(",");
        let mut members = Vec::new();
        for (n, (peer, client)) in urls.iter().enumerate() {
            let name = format!("m{n}");
            let mut command = Command::new(program);
            command
                .arg("--name")
                .arg(&name)
                .arg("--data-dir")
                .arg(dir.join(&name))
                .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
                .args(["--listen-client-urls", client, "--advertise-client-urls", client])
                .args(["--initial-cluster", &cluster, "--initial-cluster-state", "new", "--log-level", "error"]);
            members.push(Daemon::spawn(&format!("etcd-{name}"), &mut command, dir)?);
        }
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            for member in &mut members {
                member.check()?;
            }
            for (_, client) in &urls {
                if let Ok(leader) = connect_if_leader(client).await {
                    return Ok(Self { _members: members, leader });
                }
            }
            if Instant::now() >= deadline {
                bail!("the etcd members elected no leader within {} s", READY_WITHIN.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Clients that put values of `bytes` bytes, each under a new key; `run` differs from call to call.
    pub async fn writes(&self, run: u64, clients: usize, length: Duration, bytes: usize) -> Result<LoadResult> {
        let channels = self.leader.clone();
        closed_loop(clients, length, move |client, n| {
            let channel = channels[client % channels.len()].clone();
            put(channel, new_key(run, client, n), vec![b'x'; bytes])
        })
        .await
    }
}

/// Connections to this member, if it says that it leads.
async fn connect_if_leader(url: &str) -> Result<Vec<Channel>> {
    let endpoint =
        Endpoint::from_shared(url.to_owned())?.timeout(CALL_TIMEOUT).connect_timeout(CALL_TIMEOUT).tcp_nodelay(true);
    let first = endpoint.connect().await?;
    let status: StatusResponse = call(first.clone(), "/etcdserverpb.Maintenance/Status", StatusRequest {}).await?;
    if status.leader == 0 || status.header.is_none_or(|h| h.member_id != status.leader) {
        bail!("not the leader");
    }
    let mut channels = vec![first];
    while channels.len() < CONNECTIONS {
        channels.push(endpoint.connect().await?);
    }
    Ok(channels)
}
