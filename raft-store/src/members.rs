//! Changes of membership, on the leader.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::status::Member;
use crate::transport::proto::membership_reply::Outcome;
use crate::transport::proto::{Changed, JoinRequest, Leader, MembershipReply};
use crate::transport::{Peers, check_addr};
use crate::types::{Metrics, NodeId, Proposal, Raft};

type WriteError = RaftError<NodeId, ClientWriteError<NodeId, Member>>;

/// Carries out changes, one at a time.
#[derive(Clone)]
pub(crate) struct Members {
    raft: Raft,
    peers: Arc<Peers>,
    changing: Arc<Mutex<()>>,
    /// The last term in which this process has committed an entry as the leader; 0: none.
    confirmed_term: Arc<AtomicU64>,
}

/// How a change ended otherwise than done.
enum Stop {
    Refused(String),
    Retry(String),
    Ask(Leader),
}

impl Members {
    pub(crate) fn new(raft: Raft, peers: Arc<Peers>) -> Members {
        Members { raft, peers, changing: Arc::default(), confirmed_term: Arc::default() }
    }

    /// Lets a node join, or finishes its interrupted join.
    pub(crate) async fn join(&self, request: JoinRequest, within: Duration) -> MembershipReply {
        let deadline = Instant::now() + within;
        let result = self.one_at_a_time(deadline, self.do_join(&request, deadline)).await;
        if let Err(Stop::Refused(why)) = &result {
            tracing::warn!(id = request.id, addr = %request.addr.escape_debug(), %why, "a join was refused");
        }
        self.reply(result)
    }

    /// Removes a voter or a learner.
    pub(crate) async fn remove(&self, id: u64, within: Duration) -> MembershipReply {
        let deadline = Instant::now() + within;
        let result = self.one_at_a_time(deadline, self.do_remove(id, deadline)).await;
        self.reply(result)
    }

    /// On the leader: the index that a linearizable read must wait for.
    pub(crate) async fn read_index(&self, within: Duration) -> Result<u64, String> {
        match tokio::time::timeout(within, self.do_read_index()).await {
            Ok(result) => result,
            Err(_) => Err("no majority answered in time".to_owned()),
        }
    }

    /// A leader that was killed and comes back before anybody noticed resumes its term, with the commit index that it
    /// had last saved: entries that were acknowledged after that are in its log, and openraft 0.9 does not count them
    /// as committed yet. So the first read of a term in this process commits an empty entry, which commits all of
    /// them.
    async fn do_read_index(&self) -> Result<u64, String> {
        let term = self.metrics().current_term;
        if self.confirmed_term.load(Ordering::Acquire) != term {
            let barrier = self.raft.client_write(Proposal::default()).await.map_err(|e| e.to_string())?;
            self.confirmed_term.store(barrier.log_id.leader_id.term, Ordering::Release);
        }
        let (read, _) = self.raft.get_read_log_id().await.map_err(|e| e.to_string())?;
        Ok(read.map_or(0, |id| id.index))
    }

    async fn one_at_a_time(
        &self,
        deadline: Instant,
        change: impl Future<Output = Result<(), Stop>>,
    ) -> Result<(), Stop> {
        let Ok(_guard) = timeout_at(deadline, self.changing.lock()).await else {
            return Err(Stop::Retry("another membership change is under way".to_owned()));
        };
        change.await
    }

    fn reply(&self, result: Result<(), Stop>) -> MembershipReply {
        let outcome = match result {
            Ok(()) => Outcome::Changed(Changed { peers: self.peers.all() }),
            Err(Stop::Refused(why)) => Outcome::Refused(why),
            Err(Stop::Retry(why)) => Outcome::Retry(why),
            Err(Stop::Ask(leader)) => Outcome::Ask(leader),
        };
        MembershipReply { outcome: Some(outcome) }
    }

    fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow().clone()
    }

    /// The metrics of this node as the leader, or whom to ask.
    fn as_leader(&self) -> Result<Metrics, Stop> {
        let metrics = self.metrics();
        match metrics.current_leader {
            Some(id) if id == metrics.id => Ok(metrics),
            Some(id) => {
                let addr = metrics.membership_config.membership().get_node(&id).map(|m| m.addr.clone());
                Err(Stop::Ask(Leader { id, addr: addr.unwrap_or_default() }))
            }
            None => Err(Stop::Retry("the cluster has no leader at the moment".to_owned())),
        }
    }

    async fn do_join(&self, request: &JoinRequest, deadline: Instant) -> Result<(), Stop> {
        let metrics = self.as_leader()?;
        check_addr(&request.addr, self.peers.has_tls()).map_err(|e| Stop::Refused(e.to_string()))?;
        if request.id == 0 || request.incarnation == 0 {
            return Err(Stop::Refused("a node id and an incarnation are never 0".to_owned()));
        }
        let membership = metrics.membership_config.membership();
        let known = self.peers.incarnation_of(request.id);
        if known != 0 && known != request.incarnation {
            return Err(Stop::Refused(format!(
                "the cluster knows node id {} with another directory; a node that lost its directory comes back under a node id that was \
                 never used, and names the old one with --replaces",
                request.id
            )));
        }
        let replaces = request.replaces.filter(|id| *id != request.id);
        if request.replaces == Some(request.id) {
            return Err(Stop::Refused("a node cannot replace itself: choose a node id that was never used".to_owned()));
        }
        if let Some((other, _)) =
            membership.nodes().find(|(id, m)| **id != request.id && Some(**id) != replaces && m.addr == request.addr)
        {
            return Err(Stop::Refused(format!("node {other} has the address {} already", request.addr)));
        }
        // Recorded before the membership names it: from now on this id belongs to this directory.
        self.peers.learn(request.id, request.incarnation).await.map_err(Stop::Refused)?;
        if membership.get_node(&request.id).is_none() {
            tracing::info!(id = request.id, addr = %request.addr, "a node joins as a learner");
            let node = Member { addr: request.addr.clone(), incarnation: request.incarnation };
            self.finish(deadline, self.raft.add_learner(request.id, node, false)).await?;
        }
        if !request.voter {
            return Ok(());
        }
        self.caught_up(request.id, deadline).await?;
        let mut voters: BTreeSet<u64> = self.metrics().membership_config.membership().voter_ids().collect();
        voters.insert(request.id);
        if let Some(lost) = replaces {
            voters.remove(&lost);
        }
        self.finish(deadline, self.raft.change_membership(voters, false)).await?;
        if let Some(lost) = replaces
            && self.metrics().membership_config.membership().get_node(&lost).is_some()
        {
            self.finish(
                deadline,
                self.raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([lost])), false),
            )
            .await?;
        }
        tracing::info!(id = request.id, ?replaces, "a node has become a voter");
        Ok(())
    }

    async fn do_remove(&self, id: u64, deadline: Instant) -> Result<(), Stop> {
        let metrics = self.as_leader()?;
        let membership = metrics.membership_config.membership();
        if membership.get_node(&id).is_none() {
            return Ok(());
        }
        let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
        if voters.remove(&id) {
            if voters.is_empty() {
                return Err(Stop::Refused("the last voter cannot be removed".to_owned()));
            }
            self.finish(deadline, self.raft.change_membership(voters, false)).await
        } else {
            self.finish(deadline, self.raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false))
                .await
        }
    }

    /// Waits until the learner has what this leader has: a voter that lags would cost the cluster its majority.
    async fn caught_up(&self, id: u64, deadline: Instant) -> Result<(), Stop> {
        let target = self.metrics().last_log_index;
        let mut watch = self.raft.metrics();
        let caught_up = watch.wait_for(|m| {
            let matching = m.replication.as_ref().and_then(|r| r.get(&id)).copied().flatten();
            id == m.id || matching.map(|log_id| log_id.index) >= target || m.replication.is_none()
        });
        match timeout_at(deadline, caught_up).await {
            Ok(Ok(m)) if m.replication.is_some() => Ok(()),
            Ok(_) => Err(Stop::Retry("this node lost the leadership meanwhile".to_owned())),
            Err(_) => Err(Stop::Retry(format!(
                "node {id} did not catch up in time: does its listener answer at its address?"
            ))),
        }
    }

    async fn finish<T>(
        &self,
        deadline: Instant,
        change: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<(), Stop> {
        match timeout_at(deadline, change).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(e)))) => Err(match e {
                ChangeMembershipError::EmptyMembership(e) => Stop::Refused(e.to_string()),
                retry => Stop::Retry(retry.to_string()),
            }),
            Ok(Err(e)) => Err(Stop::Retry(e.to_string())),
            Err(_) => Err(Stop::Retry("no majority confirmed it in time".to_owned())),
        }
    }
}
