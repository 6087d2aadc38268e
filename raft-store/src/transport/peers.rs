//! Who the other members are: their incarnations, and channels to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::Status;

use super::link::Link;
use super::proto::raft_client::RaftClient;
use super::proto::{Envelope, Peer};
use super::{Dialer, MAX_MESSAGE_BYTES};
use crate::engine::{Engine, EngineError, Op};
use crate::error::StoreError;
use crate::flusher::Flusher;
use crate::format::{self, Identity, peer_key};

/// Node ids that incarnations are remembered of; every id that ever was counts.
const MAX_PEERS: usize = 4096;
/// Channels kept open.
const MAX_CHANNELS: usize = 256;

/// A client of one member.
pub(crate) type Client = RaftClient<Link>;

/// What a node knows of the others.
pub(crate) struct Peers {
    me: Identity,
    engine: Arc<dyn Engine>,
    flusher: Flusher,
    dialer: Dialer,
    known: Mutex<BTreeMap<u64, u64>>,
    channels: Mutex<HashMap<String, Link>>,
    /// False until a bootstrapping node knows every other member: until then it must not vote.
    ready: AtomicBool,
}

impl Peers {
    pub(crate) fn new(
        me: Identity,
        engine: Arc<dyn Engine>,
        flusher: Flusher,
        dialer: Dialer,
        known: impl IntoIterator<Item = (u64, u64)>,
    ) -> Peers {
        Peers {
            me,
            engine,
            flusher,
            dialer,
            known: Mutex::new(known.into_iter().collect()),
            channels: Mutex::default(),
            ready: AtomicBool::new(true),
        }
    }

    pub(crate) fn me(&self) -> Identity {
        self.me
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.dialer.has_tls()
    }

    pub(crate) fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The incarnation that `id` is known with; 0 when it is not.
    pub(crate) fn incarnation_of(&self, id: u64) -> u64 {
        if id == self.me.node_id { self.me.incarnation } else { self.known().get(&id).copied().unwrap_or(0) }
    }

    /// All of them and this node, for a joiner.
    pub(crate) fn all(&self) -> Vec<Peer> {
        let me = Peer { id: self.me.node_id, incarnation: self.me.incarnation };
        let others = self.known().iter().map(|(&id, &incarnation)| Peer { id, incarnation }).collect::<Vec<_>>();
        std::iter::once(me).chain(others).collect()
    }

    /// The envelope of a message to `to`.
    pub(crate) fn envelope(&self, to: u64) -> Option<Envelope> {
        Some(Envelope {
            from: self.me.node_id,
            from_incarnation: self.me.incarnation,
            to,
            to_incarnation: self.incarnation_of(to),
        })
    }

    /// Checks both ends of a message from outside and remembers the sender.
    pub(crate) async fn check(&self, envelope: Option<Envelope>) -> Result<u64, Status> {
        let envelope = envelope.ok_or_else(|| Status::invalid_argument("the envelope is missing"))?;
        if envelope.to != self.me.node_id {
            return Err(Status::failed_precondition(format!(
                "this is node {}, not node {}: is an address in the membership wrong?",
                self.me.node_id, envelope.to
            )));
        }
        if envelope.to_incarnation != 0 && envelope.to_incarnation != self.me.incarnation {
            return Err(Status::failed_precondition(format!(
                "node {} has another directory than the one that node {} knows",
                self.me.node_id, envelope.from
            )));
        }
        self.learn(envelope.from, envelope.from_incarnation).await.map_err(Status::failed_precondition)?;
        Ok(envelope.from)
    }

    /// Remembers durably that `id` has `incarnation`; the error says why it may not take part.
    pub(crate) async fn learn(&self, id: u64, incarnation: u64) -> Result<(), String> {
        if id == 0 || incarnation == 0 || id == self.me.node_id {
            return Err(format!(
                "node {id} with incarnation {incarnation} cannot be a peer of node {}",
                self.me.node_id
            ));
        }
        {
            let mut known = self.known();
            match known.get(&id) {
                Some(&before) if before == incarnation => return Ok(()),
                Some(_) => {
                    return Err(format!(
                        "node {} knows node {id} with another directory: a node that lost its directory comes back under a new id",
                        self.me.node_id
                    ));
                }
                None if known.len() >= MAX_PEERS => return Err(format!("{MAX_PEERS} node ids are known already")),
                None => {}
            }
            let write = || -> Result<(), EngineError> {
                let key = peer_key(id);
                let record = format::encode(&key, &incarnation)?;
                self.engine.write(vec![Op::Put(key, record)])
            };
            write().map_err(|e| e.to_string())?;
            known.insert(id, incarnation);
        }
        self.flusher.durable().await.map_err(|e| e.to_string())
    }

    /// Remembers what the membership says; the log has it, so it needs no record of its own.
    pub(crate) fn note(&self, id: u64, incarnation: u64) {
        if incarnation != 0 && id != self.me.node_id {
            self.known().entry(id).or_insert(incarnation);
        }
    }

    /// Checks that an answer came from the peer that was asked.
    pub(crate) fn check_reply(&self, envelope: Option<&Envelope>, from: u64) -> Result<(), String> {
        let envelope = envelope.ok_or("the answer has no envelope")?;
        let known = self.incarnation_of(from);
        if envelope.from != from || (known != 0 && known != envelope.from_incarnation) {
            return Err(format!(
                "asked node {from}, and node {} answered with incarnation {:016x} instead of {known:016x}",
                envelope.from, envelope.from_incarnation
            ));
        }
        Ok(())
    }

    /// A client of the member at `addr`.
    pub(crate) fn client(&self, addr: &str) -> Result<Client, StoreError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(addr) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.dialer.dial(addr)?;
                if channels.len() >= MAX_CHANNELS {
                    channels.clear();
                }
                channels.insert(addr.to_owned(), channel.clone());
                channel
            }
        };
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }
}
