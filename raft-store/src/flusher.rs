//! The one thread that makes writes durable: group commit.
//!
//! Whoever needs durability queues a job. The thread takes all jobs that wait, syncs once for all of them, and then
//! completes each. While it syncs, the next group gathers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::engine::{Engine, EngineError};
use crate::format::VOTE_FILE;

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
    jobs: Sender<Job>,
}

impl Flusher {
    /// Starts the thread.
    pub(crate) fn start(engine: Arc<dyn Engine>) -> std::io::Result<(Flusher, JoinHandle<()>)> {
        let (jobs, queue) = channel();
        let thread =
            std::thread::Builder::new().name("raft-flusher".to_owned()).spawn(move || run(&*engine, &queue))?;
        Ok((Flusher { jobs }, thread))
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

fn run(engine: &dyn Engine, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let group: Vec<Job> = std::iter::once(first).chain(queue.try_iter()).collect();
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
}
