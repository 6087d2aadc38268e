//! Opening a directory: create it, or read all of it and refuse what cannot be right.

use std::path::Path;
use std::sync::Arc;

use crate::engine::{Engine, EngineError, Op};
use crate::error::{OpenStep, StoreError};
use crate::format::{
    self, FORMAT, Identity, KEY_IDENTITY, KEY_PURGED, KEY_VOTE, SNAPSHOT_FILE, VOTE_FILE, log_end, log_id_text,
    log_key, peer_end, peer_key,
};
use crate::log_store::{Bounds, SCAN_LIMIT};
use crate::types::{Entry, LogId, Vote};

/// What a directory holds.
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) bounds: Bounds,
    /// Incarnations of other nodes.
    pub(crate) peers: Vec<(u64, u64)>,
    pub(crate) snapshot: Option<(format::Meta, Vec<u8>)>,
}

impl Opened {
    /// Whether the node ever took part in a cluster.
    pub(crate) fn has_history(&self) -> bool {
        self.bounds.last.is_some()
            || self.bounds.purged.is_some()
            || self.bounds.vote.is_some_and(|v| v != Vote::default())
    }
}

/// Reads everything and checks it. `create` draws the incarnation of a new directory; `None` refuses an empty one.
pub(crate) fn open(
    engine: &Arc<dyn Engine>,
    dir: &Path,
    node_id: u64,
    create: Option<&dyn Fn() -> u64>,
) -> Result<Opened, StoreError> {
    let fail = |e: EngineError, step: OpenStep| match e {
        EngineError::Corrupt(what) => StoreError::Corrupt { dir: dir.to_owned(), what },
        other => StoreError::Io { step, dir: dir.to_owned(), error: other.to_string() },
    };
    let corrupt = |what: String| StoreError::Corrupt { dir: dir.to_owned(), what };
    let Some(record) = engine.get(KEY_IDENTITY).map_err(|e| fail(e, OpenStep::Read))? else {
        if !is_blank(engine).map_err(|e| fail(e, OpenStep::Read))? {
            return Err(corrupt("it holds data and no identity".to_owned()));
        }
        let draw = create.ok_or_else(|| StoreError::Empty { dir: dir.to_owned() })?;
        let identity = Identity { node_id, incarnation: draw() };
        found(engine, identity).map_err(|e| fail(e, OpenStep::Write))?;
        let bounds = Bounds { vote: Some(Vote::default()), ..Bounds::default() };
        return Ok(Opened { identity, bounds, peers: Vec::new(), snapshot: None });
    };
    let (format, identity) = format::decode_identity(&record).map_err(|e| fail(e, OpenStep::Read))?;
    if format > FORMAT {
        return Err(StoreError::Format { dir: dir.to_owned(), found: format, supported: FORMAT });
    }
    if format == 0 {
        return Err(corrupt("its format is 0, which was never written".to_owned()));
    }
    if identity.node_id != node_id {
        return Err(StoreError::WrongNode { dir: dir.to_owned(), found: identity.node_id, wanted: node_id });
    }
    read_all(engine, identity).map_err(|e| fail(e, OpenStep::Read))
}

/// Nothing but what an interrupted [`found`] leaves.
fn is_blank(engine: &Arc<dyn Engine>) -> Result<bool, EngineError> {
    let records = engine.scan(&[], &[u8::MAX], 1)?;
    let vote = engine.read_file(VOTE_FILE)?.map(|b| format::decode_vote_file(&b)).transpose()?;
    let snapshot = engine.read_file(SNAPSHOT_FILE)?;
    // A vote in the file and none in the map: the map was lost, not never written.
    Ok(records.is_empty() && snapshot.is_none() && vote.is_none_or(|v| v == Vote::default()))
}

/// Founds a directory. The file first and the records in one batch, so that every crash leaves it blank or whole.
fn found(engine: &Arc<dyn Engine>, identity: Identity) -> Result<(), EngineError> {
    let vote = Vote::default();
    engine.write_file(VOTE_FILE, &format::encode_vote_file(&vote)?)?;
    engine.write(vec![
        Op::Put(KEY_IDENTITY.to_vec(), format::encode_identity(identity)?),
        Op::Put(KEY_VOTE.to_vec(), format::encode(KEY_VOTE, &vote)?),
    ])?;
    engine.sync()
}

fn read_all(engine: &Arc<dyn Engine>, identity: Identity) -> Result<Opened, EngineError> {
    let corrupt = |what: String| EngineError::Corrupt(what);
    let vote = read_vote(engine)?;
    let purged: Option<LogId> = engine.get(KEY_PURGED)?.map(|r| format::decode(KEY_PURGED, &r)).transpose()?;
    let snapshot = engine.read_file(SNAPSHOT_FILE)?.map(|b| format::decode_snapshot_file(&b)).transpose()?;
    let covered = snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
    if purged > covered {
        return Err(corrupt(format!(
            "the log was purged up to {} and the snapshot covers {}",
            log_id_text(purged.as_ref()),
            log_id_text(covered.as_ref())
        )));
    }
    let last = read_log(engine, purged)?;
    let mut peers = Vec::new();
    for (key, record) in engine.scan(&peer_key(0), &peer_end(), usize::MAX)? {
        peers.push((format::key_number(&key)?, format::decode(&key, &record)?));
    }
    Ok(Opened { identity, bounds: Bounds { purged, last, vote: Some(vote) }, peers, snapshot })
}

/// Both copies of the vote must be there, and the file must not be ahead of the record.
fn read_vote(engine: &Arc<dyn Engine>) -> Result<Vote, EngineError> {
    let record = engine.get(KEY_VOTE)?.ok_or_else(|| EngineError::Corrupt("the vote is missing".to_owned()))?;
    let vote: Vote = format::decode(KEY_VOTE, &record)?;
    let file = engine
        .read_file(VOTE_FILE)?
        .ok_or_else(|| EngineError::Corrupt("the second copy of the vote is missing".to_owned()))?;
    let copy = format::decode_vote_file(&file)?;
    if copy > vote {
        return Err(EngineError::Corrupt(format!(
            "the vote went back from {copy} to {vote}, so later writes are lost"
        )));
    }
    if copy != vote {
        // The crash fell between the record and the file.
        engine.write_file(VOTE_FILE, &format::encode_vote_file(&vote)?)?;
    }
    Ok(vote)
}

/// Walks the whole log: each record sound, each index present, terms never falling. Finishes an interrupted purge.
fn read_log(engine: &Arc<dyn Engine>, purged: Option<LogId>) -> Result<Option<LogId>, EngineError> {
    let mut next = 0;
    let mut last: Option<LogId> = None;
    let expected = purged.map_or(0, |p| p.index + 1);
    loop {
        let pairs = engine.scan(&log_key(next), &log_end(), SCAN_LIMIT)?;
        if pairs.is_empty() {
            return Ok(last);
        }
        let mut leftovers = Vec::new();
        for (key, record) in pairs {
            let index = format::key_number(&key)?;
            next = index.saturating_add(1);
            if index < expected {
                leftovers.push(Op::Remove(key));
                continue;
            }
            let wanted = last.map_or(expected, |l| l.index + 1);
            if index != wanted {
                return Err(EngineError::Corrupt(format!("log entries {wanted} to {} are missing", index - 1)));
            }
            let entry: Entry = format::decode(&key, &record)?;
            if entry.log_id.index != index || last.or(purged).is_some_and(|l| l.leader_id > entry.log_id.leader_id) {
                return Err(EngineError::Corrupt(format!("log entry {index} does not belong where it is")));
            }
            last = Some(entry.log_id);
        }
        if !leftovers.is_empty() {
            engine.write(leftovers)?;
        }
    }
}
