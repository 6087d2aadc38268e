//! The answer to a Read, made in one go and sent as the reader takes it.
//!
//! ```text
//!   gate held (no writes) ┌────────────┐  a few messages as they are,   ┌────────────┐
//!   tables … ────────────▶│ produce()  │─ the rest encoded (compact) ──▶│ Answer     │──▶ gRPC
//!                         └────────────┘                                └────────────┘
//! ```
//!
//! A snapshot must not wait for its reader, or one slow controller would hold up every write. So what the reader has not
//! taken yet waits in encoded form, a fifth of what the same messages take in memory, and is decoded when its turn
//! comes. A reader that keeps up costs no more than a few messages.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use dmux_p4rt::p4::v1;
use prost::Message;
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tonic::Status;

use super::config::ForwardingPipeline;
use super::error::batch_status;
use super::read;
use super::role::Access;

/// Reads whose answers may be on their way at once; further ones are refused.
pub const MAX_READS: usize = 32;

/// Entities in one message at most.
const CHUNK_ENTITIES: usize = 512;

/// Bytes in one message at most, but for a single entity that is larger: clients accept 4 MiB by default.
const CHUNK_BYTES: usize = 1 << 20;

/// Messages that may wait as they are; further ones are encoded.
const AHEAD: usize = 8;

/// Bytes in which messages may wait, of all answers together. A read that needs more fails with RESOURCE_EXHAUSTED.
pub const MAX_WAITING_BYTES: usize = 1 << 30;

enum Piece {
    Plain(v1::ReadResponse),
    Encoded(Waiting),
    Failed(Status),
}

/// A message that waits encoded, and is counted as long as it does.
struct Waiting {
    bytes: Vec<u8>,
    all: Arc<AtomicUsize>,
}

impl Waiting {
    /// `None` if there is no room for it.
    fn new(bytes: Vec<u8>, all: &Arc<AtomicUsize>) -> Option<Self> {
        let before = all.fetch_add(bytes.len(), Ordering::Relaxed);
        let waiting = Self { bytes, all: Arc::clone(all) };
        (before + waiting.bytes.len() <= MAX_WAITING_BYTES).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The messages of one answer. Dropping it makes room for another read.
pub(crate) struct Answer {
    pieces: mpsc::UnboundedReceiver<Piece>,
    waiting: Arc<AtomicUsize>,
    _room: OwnedSemaphorePermit,
}

/// Starts to read on a thread of its own, which keeps writers out until it has read everything. `all` counts the bytes that
/// wait in all answers.
pub(crate) fn answer(
    pipeline: Arc<ForwardingPipeline>,
    filter: Access,
    requests: Vec<v1::Entity>,
    gate: OwnedRwLockReadGuard<()>,
    room: OwnedSemaphorePermit,
    all: Arc<AtomicUsize>,
) -> Answer {
    // Bounded by what the tables hold, and by the bytes that may wait.
    let (sender, pieces) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let writer = Chunks { sender, waiting: Arc::clone(&waiting), all, entities: Vec::new(), bytes: 0, full: false };
    tokio::task::spawn_blocking(move || {
        writer.produce(&pipeline, &filter, &requests);
        drop(gate);
    });
    Answer { pieces, waiting, _room: room }
}

struct Chunks {
    sender: mpsc::UnboundedSender<Piece>,
    waiting: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
    entities: Vec<v1::Entity>,
    bytes: usize,
    /// The answer was broken off, since too much waits already.
    full: bool,
}

impl Chunks {
    fn produce(mut self, pipeline: &ForwardingPipeline, filter: &Access, requests: &[v1::Entity]) {
        let mut results = Vec::with_capacity(requests.len());
        for request in requests {
            results.push(read::read(pipeline, request, &mut |entity| {
                if filter.covers_entity(&entity) {
                    self.add(entity);
                }
            }));
        }
        self.flush();
        if self.full {
            return;
        }
        if let Err(status) = batch_status("read", &results) {
            self.send(Piece::Failed(status));
        }
    }

    fn add(&mut self, entity: v1::Entity) {
        // The rest of an answer that nobody waits for is not worth keeping.
        if self.full || self.sender.is_closed() {
            return;
        }
        let bytes = entity.encoded_len();
        if self.bytes + bytes > CHUNK_BYTES {
            self.flush();
        }
        self.entities.push(entity);
        self.bytes += bytes;
        if self.entities.len() >= CHUNK_ENTITIES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.entities.is_empty() {
            return;
        }
        let message = v1::ReadResponse { entities: std::mem::take(&mut self.entities) };
        self.bytes = 0;
        if self.waiting.load(Ordering::Relaxed) < AHEAD {
            self.send(Piece::Plain(message));
        } else if let Some(waiting) = Waiting::new(message.encode_to_vec(), &self.all) {
            self.send(Piece::Encoded(waiting));
        } else {
            self.full = true;
            self.send(Piece::Failed(Status::resource_exhausted(format!(
                "{MAX_WAITING_BYTES} bytes of answers wait for their readers already: read faster, or less"
            ))));
        }
    }

    fn send(&self, piece: Piece) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Without a receiver, the client has gone.
        let _ = self.sender.send(piece);
    }
}

impl Stream for Answer {
    type Item = Result<v1::ReadResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = match self.pieces.poll_recv(context) {
            Poll::Ready(piece) => piece,
            Poll::Pending => return Poll::Pending,
        };
        self.waiting.fetch_sub(usize::from(piece.is_some()), Ordering::Relaxed);
        Poll::Ready(piece.map(|piece| {
            match piece {
                Piece::Plain(message) => Ok(message),
                Piece::Encoded(waiting) => v1::ReadResponse::decode(waiting.bytes.as_slice())
                    .map_err(|e| Status::internal(format!("an answer could not be decoded again: {e}"))),
                Piece::Failed(status) => Err(status),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_and_has_a_bound() {
        let all = Arc::new(AtomicUsize::new(0));
        let first = Waiting::new(vec![0; 100], &all).unwrap();
        all.fetch_add(MAX_WAITING_BYTES - 200, Ordering::Relaxed);
        let second = Waiting::new(vec![0; 100], &all).unwrap();
        assert!(Waiting::new(vec![0; 1], &all).is_none());
        drop(first);
        assert!(Waiting::new(vec![0; 100], &all).is_some());
        drop(second);
        assert_eq!(all.load(Ordering::Relaxed), MAX_WAITING_BYTES - 200, "what was refused is not counted");
    }
}
