//! Gathers the renewals of leases, so that thousands of metalinks cost the cluster tens of commands a second.

use std::time::Duration;

use dmux_raft_store::Store;
use tokio::sync::{mpsc, oneshot};

use super::Input;
use super::clock::Wall;
use super::replicated::Replicated;
use crate::attachment;
use crate::model::{Command, MAX_RENEWALS, MetalinkId, Reply};
use crate::registration::Unavailable;

/// How long a renewal waits for others: a fraction of what is left of the shortest lease, a second, when it is renewed at half
/// of it.
const GATHER: Duration = Duration::from_millis(20);
/// Renewals that may wait; the next caller waits for room.
const QUEUE: usize = 4 * MAX_RENEWALS;

type Outcome = Result<Reply, Unavailable>;

/// Where the outcome of a renewal goes.
enum To {
    Caller(oneshot::Sender<Outcome>),
    /// To the actor, with those of all others.
    Endpoint(attachment::Token),
}

type Asked = (MetalinkId, To);

/// The way to the task that gathers. Clones lead to the same one.
#[derive(Clone)]
pub(super) struct Renewals(mpsc::Sender<Asked>);

impl Renewals {
    /// The way, and the task, which runs until the last way is gone.
    pub fn new(
        store: Store<Replicated>,
        wall: Wall,
        within: Duration,
        inputs: mpsc::Sender<Input>,
    ) -> (Self, impl Future<Output = ()>) {
        let (asked, queue) = mpsc::channel(QUEUE);
        (Self(asked), gather(queue, store, wall, within, inputs))
    }

    /// Makes a metalink's lease last from now on again: [`Reply::Metalink`], or why not.
    ///
    /// # Errors
    /// When the cluster cannot decide: whether the lease is renewed is not known then, and asking again does no harm.
    pub async fn renew(&self, metalink: MetalinkId) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let stopping = || Unavailable("the controller is shutting down".to_owned());
        self.0.send((metalink, To::Caller(answer))).await.map_err(|_| stopping())?;
        outcome.await.map_err(|_| stopping())?
    }

    /// Likewise for an endpoint: the outcome comes as an [`Input::Renewed`].
    ///
    /// # Errors
    /// When as many wait as may.
    pub fn ask(&self, token: attachment::Token, metalink: MetalinkId) -> Result<(), Unavailable> {
        let sent = self.0.try_send((metalink, To::Endpoint(token)));
        sent.map_err(|_| Unavailable(format!("{QUEUE} renewals wait already; try again")))
    }
}

async fn gather(
    mut queue: mpsc::Receiver<Asked>,
    store: Store<Replicated>,
    wall: Wall,
    within: Duration,
    inputs: mpsc::Sender<Input>,
) {
    let mut asked = Vec::new();
    while queue.recv_many(&mut asked, 1).await > 0 {
        tokio::time::sleep(GATHER).await;
        while asked.len() < MAX_RENEWALS
            && let Ok(another) = queue.try_recv()
        {
            asked.push(another);
        }
        let metalinks: Vec<MetalinkId> = asked.iter().map(|(metalink, _)| *metalink).collect();
        let count = metalinks.len();
        let outcome = store.propose(Command::RenewMetalinks { at: wall.unix_ms(), metalinks }, within).await;
        let replies: Vec<Outcome> = match outcome {
            Ok((_, Reply::Each(replies))) => replies.into_iter().map(Ok).collect(),
            Ok((_, other)) => vec![Ok(other); count],
            Err(error) => vec![Err(Unavailable(error.to_string())); count],
        };
        let mut renewed = Vec::new();
        for ((_, to), reply) in asked.drain(..).zip(replies) {
            match to {
                To::Endpoint(token) => renewed.push((token, reply)),
                // Whoever asked may have given up.
                To::Caller(answer) => drop(answer.send(reply)),
            }
        }
        if !renewed.is_empty() {
            // The actor is gone only when the controller stops.
            let _ = inputs.send(Input::Renewed(renewed)).await;
        }
    }
}
