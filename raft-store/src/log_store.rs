//! openraft's log and vote on an [`Engine`]. The only module, with `state`, that knows openraft's storage traits.

use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};

use crate::engine::{Engine, EngineError, Op};
use crate::flusher::Flusher;
use crate::format::{self, KEY_COMMITTED, KEY_PURGED, KEY_VOTE, log_end, log_key};
use crate::types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// Entries read from the engine at once.
pub(crate) const SCAN_LIMIT: usize = 256;
/// Entries deleted in one batch.
const DELETE_BATCH: u64 = 512;
/// Bytes of entries in one append message: well below the transport's limit on messages.
const MAX_APPEND_BYTES: usize = 1 << 20;

/// What is kept in memory of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) vote: Option<Vote>,
}

/// The log, the vote and the commit index of one node.
#[derive(Clone)]
pub(crate) struct LogStore {
    engine: Arc<dyn Engine>,
    flusher: Flusher,
    bounds: Arc<Mutex<Bounds>>,
}

impl LogStore {
    /// `bounds` is what opening the directory found (see `open`).
    pub(crate) fn new(engine: Arc<dyn Engine>, flusher: Flusher, bounds: Bounds) -> Self {
        LogStore { engine, flusher, bounds: Arc::new(Mutex::new(bounds)) }
    }

    fn bounds(&self) -> MutexGuard<'_, Bounds> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries of `[start, end)` up to about `max_bytes`, at least one when there is one.
    fn read(&self, mut start: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, EngineError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while start < end {
            let to = log_key(end);
            let pairs = self.engine.scan(&log_key(start), &to, SCAN_LIMIT)?;
            let full = pairs.len() == SCAN_LIMIT;
            for (key, record) in pairs {
                bytes += record.len();
                if !entries.is_empty() && bytes > max_bytes {
                    return Ok(entries);
                }
                entries.push(format::decode::<Entry>(&key, &record)?);
                start = format::key_number(&key)? + 1;
            }
            if !full {
                break;
            }
        }
        Ok(entries)
    }

    /// Deletes `[first, last]`, from the end that keeps what remains without a gap. `head` goes into the first batch.
    fn delete(&self, first: u64, last: u64, from_the_end: bool, head: Option<Op>) -> Result<(), EngineError> {
        let mut batch: Vec<Op> = head.into_iter().collect();
        let mut remove = |index: u64| -> Result<(), EngineError> {
            batch.push(Op::Remove(log_key(index)));
            if batch.len() as u64 >= DELETE_BATCH { self.engine.write(std::mem::take(&mut batch)) } else { Ok(()) }
        };
        if from_the_end {
            (first..=last).rev().try_for_each(&mut remove)?;
        } else {
            (first..=last).try_for_each(&mut remove)?;
        }
        if batch.is_empty() { Ok(()) } else { self.engine.write(batch) }
    }

    fn first_index(&self) -> Result<Option<u64>, EngineError> {
        let first = self.engine.scan(&log_key(0), &log_end(), 1)?;
        first.first().map(|(key, _)| format::key_number(key)).transpose()
    }
}

fn any(e: &EngineError) -> AnyError {
    AnyError::new(e)
}

fn read_failed(e: EngineError) -> StorageError {
    StorageIOError::read_logs(any(&e)).into()
}

fn write_failed(e: EngineError) -> StorageError {
    StorageIOError::write_logs(any(&e)).into()
}

fn vote_failed(e: EngineError) -> StorageError {
    StorageIOError::write_vote(any(&e)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, StorageError>
    where
        RB: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => n.saturating_add(1),
            Bound::Excluded(&n) => n,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).map_err(read_failed)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, MAX_APPEND_BYTES).map_err(read_failed)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let bounds = self.bounds();
        Ok(LogState { last_purged_log_id: bounds.purged, last_log_id: bounds.last.or(bounds.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let record = format::encode(KEY_VOTE, vote).map_err(vote_failed)?;
        let file = format::encode_vote_file(vote).map_err(vote_failed)?;
        self.engine.write(vec![Op::Put(KEY_VOTE.to_vec(), record)]).map_err(vote_failed)?;
        self.flusher.durable_with(Some(file)).await.map_err(vote_failed)?;
        self.bounds().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.bounds().vote)
    }

    /// Not made durable: losing it only means that entries are applied again once a leader says so. The engine loses
    /// a suffix of the batches at most, so a commit index on disk never runs ahead of its entries.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let record = format::encode(KEY_COMMITTED, &committed).map_err(write_failed)?;
        self.engine.write(vec![Op::Put(KEY_COMMITTED.to_vec(), record)]).map_err(write_failed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let record = self.engine.get(KEY_COMMITTED).map_err(read_failed)?;
        let committed: Option<Option<LogId>> =
            record.map(|r| format::decode(KEY_COMMITTED, &r)).transpose().map_err(read_failed)?;
        Ok(committed.flatten())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Vec::new();
        let mut last = None;
        for entry in entries {
            let key = log_key(entry.log_id.index);
            let record = format::encode(&key, &entry).map_err(write_failed)?;
            if let openraft::EntryPayload::Normal(proposal) = &entry.payload {
                proposal.mark_taken();
            }
            batch.push(Op::Put(key, record));
            last = Some(entry.log_id);
        }
        self.engine.write(batch).map_err(write_failed)?;
        if last.is_some() {
            self.bounds().last = last;
        }
        self.flusher.then(move |result| callback.log_io_completed(result.map_err(std::io::Error::other)));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let last = self.bounds().last;
        let Some(last) = last.filter(|last| last.index >= log_id.index) else { return Ok(()) };
        // From the end, so that a crash in the middle leaves a shorter log and never a gap.
        self.delete(log_id.index, last.index, true, None).map_err(write_failed)?;
        self.flusher.durable().await.map_err(write_failed)?;
        let previous = match log_id.index.checked_sub(1) {
            Some(index) => self.read(index, index + 1, usize::MAX).map_err(read_failed)?.pop().map(|e| e.log_id),
            None => None,
        };
        self.bounds().last = previous;
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let purged = format::encode(KEY_PURGED, &log_id).map_err(write_failed)?;
        let first = self.first_index().map_err(read_failed)?.unwrap_or(log_id.index.saturating_add(1));
        // The record goes with the first deletions, so entries are never missing without it; what a crash leaves
        // behind it is removed when the directory is opened.
        let head = Op::Put(KEY_PURGED.to_vec(), purged);
        if first > log_id.index {
            self.engine.write(vec![head]).map_err(write_failed)?;
        } else {
            self.delete(first, log_id.index, false, Some(head)).map_err(write_failed)?;
        }
        let mut bounds = self.bounds();
        bounds.purged = Some(log_id);
        if bounds.last.is_some_and(|last| last.index <= log_id.index) {
            bounds.last = None;
        }
        Ok(())
    }
}
