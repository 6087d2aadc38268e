//! Group commit of proposals on the leader.
//!
//! openraft appends and syncs one proposal at a time. So commands that arrive while earlier ones are on their way to
//! disk are gathered, and go into the log as one entry: with many clients one fdatasync serves them all, and with one
//! client nothing waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::transport::Outcome;
use crate::types::{Blob, Proposal, Raft};

/// Largest command. With [`MAX_BATCH_BYTES`] this keeps a record below the engine's limit.
pub(crate) const MAX_COMMAND_BYTES: usize = 64 << 10;
/// Bytes of commands in one log entry.
const MAX_BATCH_BYTES: usize = 96 << 10;
/// Commands in one log entry.
const MAX_BATCH_COMMANDS: usize = 512;
/// Commands that wait; beyond it proposers wait to enter.
const QUEUE: usize = 4096;
/// Entries under way at once: one replicates while the next is written.
const WINDOW: usize = 2;

struct Pending {
    command: Bytes,
    deadline: Instant,
    done: oneshot::Sender<Outcome>,
}

/// The entrance for commands on this node.
#[derive(Clone)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<Pending>,
}

impl Batcher {
    /// Starts the gathering task; it ends when the last handle is dropped.
    pub(crate) fn start(raft: Raft) -> Batcher {
        let (queue, pending) = mpsc::channel(QUEUE);
        tokio::spawn(gather(raft, pending));
        Batcher { queue }
    }

    /// Proposes on this node, which should be the leader.
    pub(crate) async fn submit(&self, command: Bytes, deadline: Instant) -> Outcome {
        if command.len() > MAX_COMMAND_BYTES {
            return Outcome::Refused(format!(
                "the command has {} bytes, the limit is {MAX_COMMAND_BYTES}",
                command.len()
            ));
        }
        let (done, outcome) = oneshot::channel();
        let pending = Pending { command, deadline, done };
        match tokio::time::timeout_at(deadline, self.queue.send(pending)).await {
            Err(_) => return Outcome::NotTaken("the leader's queue is full".to_owned()),
            Ok(Err(_)) => return Outcome::NotTaken("the store is stopping".to_owned()),
            Ok(Ok(())) => {}
        }
        match tokio::time::timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Unknown("the store stopped meanwhile".to_owned()),
            Err(_) => Outcome::Unknown("no majority confirmed it in time".to_owned()),
        }
    }
}

async fn gather(raft: Raft, mut pending: mpsc::Receiver<Pending>) {
    let window = Arc::new(Semaphore::new(WINDOW));
    let mut carried: Option<Pending> = None;
    loop {
        // The permit first: whatever arrives while the window is full joins the batch.
        let Ok(permit) = window.clone().acquire_owned().await else { return };
        let first = match carried.take() {
            Some(first) => first,
            None => match pending.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut bytes = first.command.len();
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH_COMMANDS
            && let Ok(next) = pending.try_recv()
        {
            if bytes + next.command.len() > MAX_BATCH_BYTES {
                carried = Some(next);
                break;
            }
            bytes += next.command.len();
            batch.push(next);
        }
        // Whoever gave up waiting was told that nothing is known; proposing it late would surprise them more.
        batch.retain(|p| !p.done.is_closed());
        if batch.is_empty() {
            continue;
        }
        let raft = raft.clone();
        tokio::spawn(async move {
            write(&raft, batch).await;
            drop(permit);
        });
    }
}

async fn write(raft: &Raft, batch: Vec<Pending>) {
    let taken = Arc::new(AtomicBool::new(false));
    let commands = batch.iter().map(|p| Blob(p.command.clone())).collect();
    let proposal = Proposal { commands, taken: Some(taken.clone()) };
    let latest = batch.iter().map(|p| p.deadline).max().unwrap_or_else(Instant::now);
    // openraft does not answer every proposal when it purges its log, so the wait has an end of its own.
    let result = tokio::time::timeout_at(latest + GRACE, raft.client_write(proposal)).await;
    let failed = |why: String| {
        if taken.load(Ordering::Acquire) { Outcome::Unknown(why) } else { Outcome::NotTaken(why) }
    };
    let outcomes: Vec<Outcome> = match result {
        Ok(Ok(response)) => {
            let index = response.log_id.index;
            response.data.0.into_iter().map(|reply| Outcome::Applied { index, reply: reply.0 }).collect()
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
            same(failed("this node is not the leader".to_owned()), batch.len())
        }
        Ok(Err(error)) => same(failed(error.to_string()), batch.len()),
        Err(_) => same(Outcome::Unknown("no majority confirmed it in time".to_owned()), batch.len()),
    };
    for (pending, outcome) in batch.into_iter().zip(outcomes) {
        // A proposer that gave up has dropped its end.
        let _ = pending.done.send(outcome);
    }
}

/// Time past the last deadline after which a silent proposal frees its place in the window.
const GRACE: Duration = Duration::from_millis(100);

fn same(outcome: Outcome, n: usize) -> Vec<Outcome> {
    vec![outcome; n]
}
