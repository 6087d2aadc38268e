//! What a store says of itself, and waiting until it says something.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use openraft::error::Fatal;
use tokio::time::Instant;

use super::Store;
use crate::app::Application;
use crate::error::StoreError;
use crate::status::{Role, Status};
use crate::types::Metrics;

impl<A: Application> Store<A> {
    /// The leader and its address.
    pub(super) fn leader(&self) -> Option<(u64, String)> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let id = metrics.current_leader?;
        let addr = metrics.membership_config.membership().get_node(&id).map(|m| m.addr.clone());
        Some((id, addr.unwrap_or_default()))
    }

    /// Whether this node believes that it is the leader.
    pub fn is_leader(&self) -> bool {
        self.status().role == Role::Leader
    }

    /// This node's view of itself and of the cluster.
    pub fn status(&self) -> Status {
        let metrics = self.inner.raft.metrics().borrow().clone();
        self.status_from(&metrics)
    }

    fn status_from(&self, metrics: &Metrics) -> Status {
        let stopped = self.inner.stopped.load(Ordering::Acquire);
        let failure = self.failure();
        let role = match metrics.state {
            _ if stopped || failure.is_some() => Role::Stopped,
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let membership = metrics.membership_config.membership();
        let is_voter = |id: u64| membership.voter_ids().any(|v| v == id);
        let (voters, learners) =
            membership.nodes().map(|(&id, member)| (id, member.clone())).partition(|(id, _)| is_voter(*id));
        Status {
            id: metrics.id,
            role,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            applied: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            voters,
            learners,
            quorum_ack_ms: metrics.millis_since_quorum_ack,
            failure: failure.map(|e| e.to_string()),
        }
    }

    /// Waits until the status satisfies `f`; `None` when it did not in time.
    pub async fn wait_for(&self, within: Duration, mut f: impl FnMut(&Status) -> bool) -> Option<Status> {
        let deadline = Instant::now() + within;
        let mut metrics = self.inner.raft.metrics();
        let mut failure = self.inner.failure.subscribe();
        loop {
            let seen = metrics.borrow_and_update().clone();
            let status = self.status_from(&seen);
            if f(&status) {
                return Some(status);
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return None,
                changed = metrics.changed() => if changed.is_err() { return None },
                changed = failure.changed() => if changed.is_err() { return None },
            }
        }
    }

    /// Waits until this node is a member of a cluster with a leader.
    ///
    /// # Errors
    /// Why it failed, or [`StoreError::Raft`] when it is not there in time.
    pub async fn wait_ready(&self, within: Duration) -> Result<Status, StoreError> {
        let ready = |s: &Status| s.leader.is_some() && (s.voters.contains_key(&s.id) || s.learners.contains_key(&s.id));
        let status = self.wait_for(within, |s| s.role == Role::Stopped || ready(s)).await;
        match (status, self.failure()) {
            (_, Some(failure)) => Err(failure),
            (Some(status), None) if status.role != Role::Stopped => Ok(status),
            (Some(_), None) => Err(StoreError::Raft("it was shut down".to_owned())),
            (None, None) => Err(StoreError::Raft(format!(
                "not a member of a cluster with a leader after {within:?}: a first start needs every member up, any other a majority"
            ))),
        }
    }

    /// Why this node stopped by itself, if it did.
    pub fn failure(&self) -> Option<StoreError> {
        if let Some(failure) = self.inner.failure.borrow().clone() {
            return Some(failure);
        }
        match &self.inner.raft.metrics().borrow().running_state {
            Err(Fatal::Stopped) | Ok(()) => None,
            Err(fatal) => Some(StoreError::Raft(fatal.to_string())),
        }
    }

    pub(super) fn stop_reason(&self) -> Option<String> {
        if self.inner.stopped.load(Ordering::Acquire) {
            return Some("it was shut down".to_owned());
        }
        self.failure().map(|e| e.to_string())
    }
}
