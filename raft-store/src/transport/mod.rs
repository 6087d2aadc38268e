//! gRPC between members: messages, who may speak, the client and the server side.

mod address;
mod link;
mod network;
mod peers;
mod remote;
mod service;
mod tls;

#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub(crate) mod proto {
    tonic::include_proto!("dmux.raft.v1");
}

pub(crate) use address::{bind, check_addr};
pub use link::{Answer, Call, Carried, Lost, Server, Wire};
pub(crate) use network::Network;
pub(crate) use peers::Peers;
pub(crate) use remote::{Outcome, Remote};
pub(crate) use service::{Service, serve, serve_on};
pub(crate) use tls::Dialer;

/// Largest message: an append of 1 MiB, or one entry of the largest size, with room to spare.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Pieces that a snapshot travels in.
pub(crate) const SNAPSHOT_PART_BYTES: usize = 256 << 10;
/// Largest snapshot that is received.
pub(crate) const MAX_SNAPSHOT_BYTES: usize = 256 << 20;
/// Requests under way on one connection.
pub(crate) const MAX_STREAMS: u32 = 1024;
