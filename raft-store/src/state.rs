//! openraft's state machine around an [`Application`]: state in memory, snapshots in a file.
//!
//! The state itself is not on disk between snapshots. It is rebuilt at start from the snapshot and the committed log,
//! so there is one truth on disk, and an apply costs no IO.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageIOError};
use tokio::sync::watch;

use crate::app::{Application, RestoreError};
use crate::engine::{Engine, EngineError};
use crate::error::StoreError;
use crate::format::{self, Meta, SNAPSHOT_FILE};
use crate::types::{Blob, Entry, LogId, Replies, StorageError, StoredMembership, TypeConfig};

/// Bytes of the application's version in front of its snapshot.
const VERSION_BYTES: usize = 2;

/// The state, for readers.
pub(crate) struct Shared<A> {
    inner: RwLock<Inner<A>>,
    applied: watch::Sender<u64>,
}

struct Inner<A> {
    app: A,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

impl<A: Application> Shared<A> {
    pub(crate) fn read<T>(&self, f: impl FnOnce(&A) -> T) -> T {
        f(&self.inner.read().unwrap_or_else(PoisonError::into_inner).app)
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}

/// The state machine that openraft drives.
pub(crate) struct StateMachine<A> {
    shared: Arc<Shared<A>>,
    snapshots: Arc<Snapshots>,
}

/// Where snapshots are kept; one at a time.
struct Snapshots {
    engine: Arc<dyn Engine>,
    /// Metadata of the one on disk. The lock is held while it is replaced, so an older one never overwrites a newer.
    current: Mutex<Option<Meta>>,
    /// Tells two snapshots of one log id apart.
    count: AtomicU64,
}

impl<A: Application> StateMachine<A> {
    /// A state machine that starts from `snapshot`, or from `initial`.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        initial: A,
        snapshot: Option<(Meta, Vec<u8>)>,
    ) -> Result<StateMachine<A>, RestoreError> {
        let (inner, current) = match snapshot {
            Some((meta, data)) => {
                let app = decode_app(&data)?;
                (Inner { app, last_applied: meta.last_log_id, membership: meta.last_membership.clone() }, Some(meta))
            }
            None => (Inner { app: initial, last_applied: None, membership: StoredMembership::default() }, None),
        };
        let (applied, _) = watch::channel(inner.last_applied.map_or(0, |id| id.index));
        Ok(StateMachine {
            shared: Arc::new(Shared { inner: RwLock::new(inner), applied }),
            snapshots: Arc::new(Snapshots { engine, current: Mutex::new(current), count: AtomicU64::new(0) }),
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared<A>> {
        self.shared.clone()
    }
}

/// The application's envelope: its version, little-endian, then its bytes.
fn encode_app<A: Application>(app: &A) -> Vec<u8> {
    let bytes = app.snapshot();
    let mut out = Vec::with_capacity(VERSION_BYTES + bytes.len());
    out.extend_from_slice(&A::SNAPSHOT_VERSION.to_le_bytes());
    out.extend_from_slice(&bytes);
    out
}

fn decode_app<A: Application>(data: &[u8]) -> Result<A, RestoreError> {
    let Some((version, bytes)) = data.split_first_chunk::<VERSION_BYTES>() else {
        return Err(RestoreError("it is empty".to_owned()));
    };
    let version = u16::from_le_bytes(*version);
    if version > A::SNAPSHOT_VERSION {
        return Err(RestoreError(format!(
            "it has version {version}, and this program reads up to {}: use the newer program",
            A::SNAPSHOT_VERSION
        )));
    }
    A::restore(version, bytes)
}

impl Snapshots {
    /// Makes `(meta, data)` the snapshot on disk unless a newer one is there.
    fn keep(&self, meta: &Meta, data: &[u8]) -> Result<(), EngineError> {
        let file = format::encode_snapshot_file(meta, data)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|c| c.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        self.engine.write_file(SNAPSHOT_FILE, &file)?;
        *current = Some(meta.clone());
        Ok(())
    }
}

fn snapshot_failed(e: &(impl std::error::Error + 'static)) -> StorageError {
    StorageIOError::write_snapshot(None, AnyError::new(e)).into()
}

/// Runs file IO off the async threads.
async fn blocking<T: Send + 'static>(
    engine: &Arc<dyn Engine>,
    f: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, StorageError> {
    if engine.is_in_memory() {
        return f().map_err(|e| snapshot_failed(&e));
    }
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result.map_err(|e| snapshot_failed(&e)),
        Err(e) => Err(snapshot_failed(&e)),
    }
}

impl<A: Application> Inner<A> {
    fn apply(&mut self, entry: Entry) -> Result<Replies, String> {
        let id = entry.log_id;
        let replies = match entry.payload {
            EntryPayload::Blank => Replies::default(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(id), membership);
                Replies::default()
            }
            EntryPayload::Normal(proposal) => {
                let mut replies = Vec::with_capacity(proposal.commands.len());
                for command in &proposal.commands {
                    // The leader decoded it before it went into the log, so this node runs an older program. To skip
                    // it would make this copy differ from the others for ever; to stop is right.
                    let command = postcard::from_bytes(&command.0).map_err(|e| {
                        format!("a command does not decode ({e}): this node's program is older than the leader's")
                    })?;
                    let reply = self.app.apply(id.index, command);
                    let reply = postcard::to_stdvec(&reply).map_err(|e| format!("a reply does not encode: {e}"))?;
                    replies.push(Blob(reply.into()));
                }
                Replies(replies)
            }
        };
        self.last_applied = Some(id);
        Ok(replies)
    }
}

impl<A: Application> RaftStateMachine<TypeConfig> for StateMachine<A> {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let inner = self.shared.inner.read().unwrap_or_else(PoisonError::into_inner);
        Ok((inner.last_applied, inner.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Replies>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        let mut last = None;
        {
            let mut inner = self.shared.inner.write().unwrap_or_else(PoisonError::into_inner);
            for entry in entries {
                let id = entry.log_id;
                last = Some(id.index);
                replies.push(inner.apply(entry).map_err(|what| StorageIOError::apply(id, AnyError::error(what)))?);
            }
        }
        if let Some(index) = last {
            self.shared.applied.send_replace(index);
        }
        Ok(replies)
    }

    /// Takes the bytes now, between two applies, so that the builder needs no lock later.
    async fn get_snapshot_builder(&mut self) -> Builder {
        let inner = self.shared.inner.read().unwrap_or_else(PoisonError::into_inner);
        let count = self.snapshots.count.fetch_add(1, Ordering::Relaxed);
        let meta = SnapshotMeta {
            last_log_id: inner.last_applied,
            last_membership: inner.membership.clone(),
            snapshot_id: format!("{}-{count}", format::log_id_text(inner.last_applied.as_ref())),
        };
        Builder { snapshots: self.snapshots.clone(), meta, data: encode_app(&inner.app) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Vec<u8>>) -> Result<(), StorageError> {
        let app = decode_app(&snapshot).map_err(|e| snapshot_failed(&e))?;
        let (snapshots, kept) = (self.snapshots.clone(), meta.clone());
        // Durable before openraft purges the log that it replaces.
        let engine = self.snapshots.engine.clone();
        blocking(&engine, move || snapshots.keep(&kept, &snapshot)).await?;
        {
            let mut inner = self.shared.inner.write().unwrap_or_else(PoisonError::into_inner);
            *inner = Inner { app, last_applied: meta.last_log_id, membership: meta.last_membership.clone() };
        }
        self.shared.applied.send_replace(meta.last_log_id.map_or(0, |id| id.index));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let engine = self.snapshots.engine.clone();
        let file = engine.clone();
        let read = blocking(&engine, move || {
            file.read_file(SNAPSHOT_FILE)?.map(|bytes| format::decode_snapshot_file(&bytes)).transpose()
        });
        Ok(read.await?.map(|(meta, data)| Snapshot { meta, snapshot: Box::new(data) }))
    }
}

/// A snapshot on its way to disk.
pub(crate) struct Builder {
    snapshots: Arc<Snapshots>,
    meta: Meta,
    data: Vec<u8>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let (snapshots, meta, data) = (self.snapshots.clone(), self.meta.clone(), std::mem::take(&mut self.data));
        let engine = self.snapshots.engine.clone();
        let data = blocking(&engine, move || snapshots.keep(&meta, &data).map(|()| data)).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(data) })
    }
}

/// A snapshot that does not restore is damage, or a newer program's.
pub(crate) fn restore_failed(dir: &std::path::Path, e: &RestoreError) -> StoreError {
    StoreError::Corrupt { dir: dir.to_owned(), what: e.to_string() }
}
