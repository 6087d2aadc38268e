//! What happens between opening a directory and being a member: bootstrap or join.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::error::{InitializeError, RaftError};

use crate::config::{Start, StoreConfig};
use crate::error::StoreError;
use crate::status::Member;
use crate::transport::proto::membership_reply::Outcome;
use crate::transport::proto::{Changed, JoinRequest};
use crate::transport::{Peers, Remote, check_addr};
use crate::types::Raft;

/// Pause between attempts to reach other members.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause after a member said that a join may work later.
const JOIN_PAUSE: Duration = Duration::from_millis(250);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long the leader may take to bring a joiner up to date in one attempt.
const JOIN_WITHIN: Duration = Duration::from_secs(20);
/// Attempts between two log lines of the same complaint.
const QUIET_ATTEMPTS: u32 = 100;
/// Largest number of members in a bootstrap, and of seeds.
const MAX_MEMBERS: usize = 64;

/// Checks what a configuration says about the cluster.
pub(crate) fn check(config: &StoreConfig) -> Result<(), StoreError> {
    let tls = config.tls.is_some();
    if config.node_id == 0 {
        return Err(StoreError::Config("node id 0 is reserved: choose a number from 1".to_owned()));
    }
    if config.snapshots.every == 0 {
        return Err(StoreError::Config(
            "a snapshot after every 0 entries makes no sense: choose at least 1".to_owned(),
        ));
    }
    match &config.start {
        Start::Existing => Ok(()),
        Start::Bootstrap { members } => {
            if !members.contains_key(&config.node_id) {
                return Err(StoreError::Config(format!(
                    "the bootstrap members {:?} do not include this node, {}",
                    members.keys().collect::<Vec<_>>(),
                    config.node_id
                )));
            }
            if members.contains_key(&0) || members.len() > MAX_MEMBERS {
                return Err(StoreError::Config(format!("bootstrap with 1 to {MAX_MEMBERS} members, none with id 0")));
            }
            let mut seen = BTreeMap::new();
            for (id, addr) in members {
                check_addr(addr, tls)?;
                if let Some(other) = seen.insert(addr, id) {
                    return Err(StoreError::Config(format!("nodes {other} and {id} have the same address {addr}")));
                }
            }
            Ok(())
        }
        Start::Join { seeds, .. } | Start::Learn { seeds } => {
            if seeds.is_empty() || seeds.len() > MAX_MEMBERS {
                return Err(StoreError::Config(format!(
                    "joining takes 1 to {MAX_MEMBERS} addresses of members to ask"
                )));
            }
            seeds.iter().try_for_each(|addr| check_addr(addr, tls))
        }
    }
}

/// Whether this node must not vote until it has met every bootstrap member.
pub(crate) fn must_introduce(start: &Start, peers: &Peers) -> bool {
    match start {
        Start::Bootstrap { members } => members.keys().any(|&id| peers.incarnation_of(id) == 0),
        _ => false,
    }
}

/// Bootstraps: meets every member, then the lowest id founds the cluster.
pub(crate) async fn bootstrap(
    members: BTreeMap<u64, String>,
    raft: Raft,
    peers: std::sync::Arc<Peers>,
) -> Result<(), StoreError> {
    let me = peers.me().node_id;
    let remote = Remote { peers: peers.clone() };
    for (&id, addr) in members.iter().filter(|(id, _)| **id != me) {
        meet(&remote, id, addr, false).await?;
    }
    peers.set_ready(true);
    if members.keys().next() != Some(&me) {
        return Ok(());
    }
    // An election that others are not ready for would only cost a timeout.
    for (&id, addr) in members.iter().filter(|(id, _)| **id != me) {
        meet(&remote, id, addr, true).await?;
    }
    let nodes: BTreeMap<u64, Member> =
        members.into_iter().map(|(id, addr)| (id, Member { addr, incarnation: 0 })).collect();
    match raft.initialize(nodes).await {
        // Somebody was faster: the cluster runs, which is all that was wanted.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(e) => Err(StoreError::Raft(format!("the cluster could not be founded: {e}"))),
    }
}

/// Exchanges incarnations with one member, for as long as it takes; with `ready` until it has met everybody too.
async fn meet(remote: &Remote, id: u64, addr: &str, ready: bool) -> Result<(), StoreError> {
    let me = remote.peers.me().node_id;
    for attempt in 0_u32.. {
        let last = match remote.hello(id, addr, ATTEMPT).await {
            Ok(reply) if reply.id != id => {
                return Err(StoreError::Config(format!(
                    "{addr} is node {}, not node {id}: correct the bootstrap members",
                    reply.id
                )));
            }
            Ok(reply) if !reply.refused.is_empty() => {
                tracing::error!(peer = id, why = %reply.refused, "a member refuses this node");
                return Err(StoreError::Forgotten { id: me, peer: id });
            }
            Ok(reply) => {
                remote.peers.learn(id, reply.incarnation).await.map_err(StoreError::Raft)?;
                if reply.ready || !ready {
                    return Ok(());
                }
                "it has not met every member yet".to_owned()
            }
            Err(why) => why,
        };
        if attempt % QUIET_ATTEMPTS == QUIET_ATTEMPTS - 1 {
            tracing::info!(peer = id, addr, %last, "a first start waits for every member");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Joins through any seed, for as long as it takes.
pub(crate) async fn join(
    seeds: Vec<String>,
    voter: bool,
    replaces: Option<u64>,
    advertise: String,
    peers: std::sync::Arc<Peers>,
) -> Result<(), StoreError> {
    let me = peers.me();
    let remote = Remote { peers: peers.clone() };
    let request = JoinRequest {
        id: me.node_id,
        incarnation: me.incarnation,
        addr: advertise,
        voter,
        replaces,
        within_ms: u32::try_from(JOIN_WITHIN.as_millis()).unwrap_or(u32::MAX),
    };
    let mut hint: Option<String> = None;
    for attempt in 0_usize.. {
        let addr = hint.take().unwrap_or_else(|| seeds[attempt % seeds.len()].clone());
        let last = match remote.join(&addr, request.clone(), JOIN_WITHIN).await.map(|r| r.outcome) {
            Ok(Some(Outcome::Changed(Changed { peers: known }))) => {
                for peer in known.into_iter().filter(|p| p.id != me.node_id) {
                    peers.learn(peer.id, peer.incarnation).await.map_err(StoreError::JoinRefused)?;
                }
                return Ok(());
            }
            Ok(Some(Outcome::Refused(why))) => return Err(StoreError::JoinRefused(why)),
            Ok(Some(Outcome::Ask(leader))) if check_addr(&leader.addr, peers.has_tls()).is_ok() => {
                hint = Some(leader.addr);
                format!("node {} is the leader", leader.id)
            }
            Ok(Some(Outcome::Ask(_))) | Ok(None) => "it does not know the leader".to_owned(),
            Ok(Some(Outcome::Retry(why))) | Err(why) => why,
        };
        tracing::info!(addr, %last, "joining goes on");
        tokio::time::sleep(if hint.is_some() { PAUSE } else { JOIN_PAUSE }).await;
    }
    Ok(())
}
