//! The one thread that makes writes durable: group commit.
//!
//! Whoever needs durability queues a job. The thread takes all jobs that wait, syncs once for all of them, and then
//! completes each. While it syncs, the next group gathers.
//!
//! On a simulated disk the same is a task, and a sync takes the time that the simulation says.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::engine::{Engine, EngineError};
use crate::format::VOTE_FILE;
use crate::simulated::SyncTime;

type Done = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

struct Job {
    /// Second copy of the vote, written after the sync: on disk it may be older than the record, never newer.
    vote_file: Option<Vec<u8>>,
    done: Done,
}

/// A handle to the flusher thread. The thread ends when the last handle is dropped.
///
/// The queue needs no bound of its own: openraft has one append under way at a time, and votes, truncations and
/// peers' incarnations are awaited by whoever queues them.
#[derive(Clone)]
pub(crate) struct Flusher {
    jobs: UnboundedSender<Job>,
}

impl Flusher {
    /// Starts the thread.
    pub(crate) fn start(engine: Arc<dyn Engine>) -> std::io::Result<(Flusher, JoinHandle<()>)> {
        let (jobs, queue) = unbounded_channel();
        let thread = std::thread::Builder::new().name("raft-flusher".to_owned()).spawn(move || run(&*engine, queue))?;
        Ok((Flusher { jobs }, thread))
    }

    /// Starts a task that syncs a simulated disk.
    pub(crate) fn simulated(engine: Arc<dyn Engine>, time: SyncTime) -> Flusher {
        let (jobs, mut queue) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(group) = gather(queue.recv().await, &mut queue) {
                tokio::time::sleep(time()).await;
                complete(&*engine, group);
            }
        });
        Flusher { jobs }
    }

    /// Calls `done` once everything written before this call is durable, or cannot become so.
    pub(crate) fn then(&self, done: impl FnOnce(Result<(), EngineError>) + Send + 'static) {
        self.queue(Job { vote_file: None, done: Box::new(done) });
    }

    /// Returns once everything written before this call is durable.
    pub(crate) async fn durable(&self) -> Result<(), EngineError> {
        self.durable_with(None).await
    }

    /// The same, and the second copy of the vote too.
    pub(crate) async fn durable_with(&self, vote_file: Option<Vec<u8>>) -> Result<(), EngineError> {
        let (tx, rx) = oneshot::channel();
        self.queue(Job {
            vote_file,
            done: Box::new(move |result| {
                // The waiter may have been cancelled; the bytes are durable all the same.
                let _ = tx.send(result);
            }),
        });
        rx.await.unwrap_or(Err(EngineError::Closed))
    }

    fn queue(&self, job: Job) {
        if let Err(lost) = self.jobs.send(job) {
            (lost.0.done)(Err(EngineError::Closed));
        }
    }
}

fn run(engine: &dyn Engine, mut queue: UnboundedReceiver<Job>) {
    while let Some(group) = gather(queue.blocking_recv(), &mut queue) {
        complete(engine, group);
    }
}

/// The first job and all that wait behind it.
fn gather(first: Option<Job>, queue: &mut UnboundedReceiver<Job>) -> Option<Vec<Job>> {
    let first = first?;
    Some(std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok())).collect())
}

/// One sync for all of them.
fn complete(engine: &dyn Engine, group: Vec<Job>) {
    let synced = engine.sync();
    for job in group {
        let result = match (&synced, job.vote_file) {
            (Ok(()), Some(bytes)) => engine.write_file(VOTE_FILE, &bytes),
            (result, _) => result.clone(),
        };
        if let Err(error) = &result {
            tracing::error!(%error, "a write could not be made durable");
        }
        (job.done)(result);
    }
}
