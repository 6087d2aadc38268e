//! The storage under openraft's own suite, and under cuts of power at every point.

use std::path::Path;
use std::sync::Arc;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, SnapshotMeta};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::app::{Application, RestoreError};
use crate::engine::{CrashEngine, Engine, Op, SledEngine};
use crate::error::StoreError;
use crate::flusher::Flusher;
use crate::format::{
    self, KEY_COMMITTED, KEY_IDENTITY, KEY_PURGED, KEY_VOTE, SNAPSHOT_FILE, VOTE_FILE, log_key, peer_key,
};
use crate::log_store::LogStore;
use crate::open::{Opened, open};
use crate::state::StateMachine;
use crate::types::{Entry, LogId, Proposal, StorageError, TypeConfig, Vote};

/// Counts what it is told.
#[derive(Default)]
struct Counter(u64);

impl Application for Counter {
    type Command = u64;
    type Reply = u64;
    const SNAPSHOT_VERSION: u16 = 1;

    fn apply(&mut self, _index: u64, command: u64) -> u64 {
        self.0 += command;
        self.0
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn restore(_version: u16, bytes: &[u8]) -> Result<Self, RestoreError> {
        bytes.try_into().map(|b| Counter(u64::from_le_bytes(b))).map_err(|_| RestoreError("not 8 bytes".to_owned()))
    }
}

fn open_dir(engine: &Arc<dyn Engine>) -> Result<Opened, StoreError> {
    open(engine, Path::new("test"), 1, Some(&|| 7))
}

fn log_store(engine: &Arc<dyn Engine>, opened: &Opened) -> LogStore {
    let (flusher, _) = Flusher::start(engine.clone()).unwrap();
    LogStore::new(engine.clone(), flusher, opened.bounds.clone())
}

struct OnSled;

impl StoreBuilder<TypeConfig, LogStore, StateMachine<Counter>, TempDir> for OnSled {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine<Counter>), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let engine: Arc<dyn Engine> = Arc::new(SledEngine::open(&dir.path().join("node")).unwrap());
        let opened = open_dir(&engine).unwrap();
        let machine = StateMachine::new(engine.clone(), Counter::default(), None).unwrap();
        Ok((dir, log_store(&engine, &opened), machine))
    }
}

struct OnCrashEngine;

impl StoreBuilder<TypeConfig, LogStore, StateMachine<Counter>> for OnCrashEngine {
    async fn build(&self) -> Result<((), LogStore, StateMachine<Counter>), StorageError> {
        let engine: Arc<dyn Engine> = Arc::new(CrashEngine::new());
        let opened = open_dir(&engine).unwrap();
        let machine = StateMachine::new(engine.clone(), Counter::default(), None).unwrap();
        Ok(((), log_store(&engine, &opened), machine))
    }
}

#[test]
fn sled_passes_openrafts_suite() {
    Suite::test_all(OnSled).unwrap();
}

#[test]
fn the_crash_engine_passes_openrafts_suite() {
    Suite::test_all(OnCrashEngine).unwrap();
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn entry(term: u64, index: u64) -> Entry {
    let command = crate::types::Blob(postcard::to_stdvec(&index).unwrap().into());
    let proposal = Proposal { commands: vec![command], taken: None };
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(proposal) }
}

/// What the log is asked to do.
#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Vote,
    /// Keeps this many of the entries above the purged ones.
    Truncate(u64),
    /// Purges this many of the entries there are.
    Purge(u64),
    Committed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u64).prop_map(Step::Append),
        2 => Just(Step::Vote),
        1 => (0..6_u64).prop_map(Step::Truncate),
        1 => (0..4_u64).prop_map(Step::Purge),
        1 => Just(Step::Committed),
    ]
}

/// What was acknowledged: terms of entries by index, the vote's term.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    purged: u64,
    entries: Vec<u64>,
    term: u64,
    /// How many entries, purged ones included, are committed: those are never truncated.
    committed: u64,
}

impl Model {
    fn next(&self) -> u64 {
        self.purged + self.entries.len() as u64
    }

    /// The first index is 0, and `purged` counts purged entries.
    fn term_at(&self, index: u64) -> Option<u64> {
        self.entries.get(usize::try_from(index.checked_sub(self.purged)?).ok()?).copied()
    }
}

/// Takes one step on the store; the model after it.
async fn take(store: &mut LogStore, engine: &Arc<dyn Engine>, before: &Model, step: &Step) -> (Model, Result<(), ()>) {
    let mut after = before.clone();
    let result = match step {
        Step::Append(n) => {
            let term = before.term.max(1);
            let entries: Vec<Entry> = (0..*n).map(|i| entry(term, before.next() + i)).collect();
            after.entries.extend(entries.iter().map(|_| term));
            store.blocking_append(entries).await.map_err(drop)
        }
        Step::Vote => {
            after.term += 1;
            store.save_vote(&Vote::new(after.term, 1)).await.map_err(drop)
        }
        Step::Truncate(keep) => {
            let keep = (*keep).max(before.committed.saturating_sub(before.purged)).min(before.entries.len() as u64);
            after.entries.truncate(usize::try_from(keep).unwrap());
            store.truncate(log_id(before.term, before.purged + keep)).await.map_err(drop)
        }
        Step::Purge(n) => {
            let n = (*n).min(before.entries.len() as u64);
            if n == 0 {
                return (after, Ok(()));
            }
            let last = log_id(before.entries[usize::try_from(n - 1).unwrap()], before.purged + n - 1);
            after.purged += n;
            after.entries.drain(..usize::try_from(n).unwrap());
            let meta = SnapshotMeta { last_log_id: Some(last), ..SnapshotMeta::default() };
            let file = format::encode_snapshot_file(&meta, &[]).unwrap();
            match engine.write_file(SNAPSHOT_FILE, &file) {
                Ok(()) => store.purge(last).await.map_err(drop),
                Err(_) => Err(()),
            }
        }
        Step::Committed => match before.next().checked_sub(1).and_then(|i| before.term_at(i).map(|t| log_id(t, i))) {
            Some(id) => {
                after.committed = id.index + 1;
                store.save_committed(Some(id)).await.map_err(drop)
            }
            None => Ok(()),
        },
    };
    (after, result)
}

/// Whether what is found after a crash lies between `before` and `after`, where `after` was under way.
async fn check(disk: CrashEngine, before: &Model, after: &Model) -> Result<(), TestCaseError> {
    let engine: Arc<dyn Engine> = Arc::new(disk);
    let opened = open_dir(&engine).map_err(|e| TestCaseError::fail(format!("refused to open: {e}")))?;
    let vote = opened.bounds.vote.unwrap();
    prop_assert!(vote.leader_id.term == before.term || vote.leader_id.term == after.term, "{vote} for {before:?}");
    let mut store = log_store(&engine, &opened);
    let state = store.get_log_state().await.unwrap();
    let purged = state.last_purged_log_id.map_or(0, |id| id.index + 1);
    prop_assert!(purged <= after.purged);
    let next = state.last_log_id.map_or(0, |id| id.index + 1);
    let (low, high) = (before.next().min(after.next()), before.next().max(after.next()));
    prop_assert!((low..=high).contains(&next), "{next} entries, {before:?} then {after:?}");
    let entries = store.try_get_log_entries(purged..next).await.unwrap();
    prop_assert_eq!(entries.len() as u64, next - purged);
    for (entry, index) in entries.iter().zip(purged..) {
        prop_assert_eq!(entry.log_id.index, index);
        let wanted = if index < low { before.term_at(index) } else { after.term_at(index).or(before.term_at(index)) };
        // Entries below the purge are gone from the model; when they are still there they are not looked at.
        if let Some(term) = wanted {
            prop_assert_eq!(entry.log_id.leader_id.term, term);
        }
    }
    if let Some(committed) = store.read_committed().await.unwrap() {
        prop_assert!(committed.index < high.max(purged), "committed {committed} runs ahead");
    }
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// The power is cut before every operation of the engine in turn, and each number of unsynced batches survives.
    #[test]
    fn a_cut_of_power_at_any_point_keeps_all_that_was_acknowledged(steps in proptest::collection::vec(step(), 1..12)) {
        runtime().block_on(async {
            for cut in 0_u64.. {
                let disk = CrashEngine::new();
                let engine: Arc<dyn Engine> = Arc::new(disk.clone());
                let opened = open_dir(&engine).unwrap();
                let mut store = log_store(&engine, &opened);
                disk.cut_after(cut);
                let mut before = Model::default();
                let mut done = true;
                for step in &steps {
                    let (after, result) = take(&mut store, &engine, &before, step).await;
                    if result.is_err() {
                        for left in disk.after_crash() {
                            check(left, &before, &after).await?;
                        }
                        done = false;
                        break;
                    }
                    before = after;
                }
                if done {
                    for left in disk.after_crash() {
                        check(left, &before, &before).await?;
                    }
                    break;
                }
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

#[test]
fn a_cut_of_power_while_a_directory_is_founded_leaves_it_usable() {
    for cut in 0.. {
        let disk = CrashEngine::new();
        disk.cut_after(cut);
        let engine: Arc<dyn Engine> = Arc::new(disk.clone());
        let founded = open_dir(&engine).is_ok();
        for left in disk.after_crash() {
            let engine: Arc<dyn Engine> = Arc::new(left);
            assert_eq!(open_dir(&engine).unwrap().identity.node_id, 1);
        }
        if founded {
            return;
        }
    }
}

/// A disk with ten entries, two of them purged, a vote, a commit index and a peer.
fn used_disk() -> CrashEngine {
    let disk = CrashEngine::new();
    let engine: Arc<dyn Engine> = Arc::new(disk.clone());
    let opened = open_dir(&engine).unwrap();
    let mut store = log_store(&engine, &opened);
    runtime().block_on(async {
        let mut model = Model::default();
        for step in [Step::Vote, Step::Append(10), Step::Committed, Step::Purge(2)] {
            model = take(&mut store, &engine, &model, &step).await.0;
        }
    });
    let key = peer_key(2);
    engine.write(vec![Op::Put(key.clone(), format::encode(&key, &99_u64).unwrap())]).unwrap();
    disk.reopen()
}

fn refused(disk: &CrashEngine) -> String {
    let engine: Arc<dyn Engine> = Arc::new(disk.reopen());
    match open_dir(&engine) {
        Err(e @ StoreError::Corrupt { .. }) => e.to_string(),
        Err(other) => panic!("refused, but with {other}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn damage_is_refused_and_the_refusal_says_how_to_rejoin() {
    let engine: Arc<dyn Engine> = Arc::new(used_disk());
    let opened = open_dir(&engine).unwrap();
    assert_eq!(opened.bounds.last, Some(log_id(1, 9)));
    assert_eq!(opened.peers, vec![(2, 99)]);

    for key in [KEY_IDENTITY.to_vec(), KEY_VOTE.to_vec(), KEY_PURGED.to_vec(), log_key(5), peer_key(2)] {
        let disk = used_disk();
        assert!(disk.flip(&key), "{key:?} exists");
        let text = refused(&disk);
        assert!(text.contains("CRC") && text.contains("--join"), "{text}");
    }
    for (key, says) in [
        (KEY_VOTE.to_vec(), "vote is missing"),
        (log_key(5), "log entries 5 to 5 are missing"),
        (log_key(2), "log entries 2 to 2 are missing"),
        (KEY_PURGED.to_vec(), "log entries 0 to 1 are missing"),
        (KEY_IDENTITY.to_vec(), "no identity"),
    ] {
        let disk = used_disk();
        assert!(disk.lose(&key));
        let text = refused(&disk);
        assert!(text.contains(says), "{text}");
    }
    for (file, says) in [(VOTE_FILE, "second copy"), (SNAPSHOT_FILE, "snapshot covers nothing")] {
        let disk = used_disk();
        assert!(disk.lose_file(file));
        let text = refused(&disk);
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_damaged_commit_index_stops_the_node() {
    let disk = used_disk();
    assert!(disk.flip(KEY_COMMITTED));
    let engine: Arc<dyn Engine> = Arc::new(disk.reopen());
    let opened = open_dir(&engine).unwrap();
    let mut store = log_store(&engine, &opened);
    assert!(runtime().block_on(store.read_committed()).is_err());
}

#[test]
fn a_vote_that_went_back_is_refused() {
    let disk = used_disk();
    let engine: Arc<dyn Engine> = Arc::new(disk.clone());
    let newer = format::encode_vote_file(&Vote::new(5, 1)).unwrap();
    engine.write_file(VOTE_FILE, &newer).unwrap();
    assert!(refused(&disk).contains("went back"));
    // A map that was lost as a whole is not a new directory either.
    let empty = CrashEngine::new();
    empty.write_file(VOTE_FILE, &newer).unwrap();
    assert!(refused(&empty).contains("no identity"));
}

#[test]
fn a_newer_format_and_another_nodes_directory_are_refused() {
    let disk = used_disk();
    let engine: Arc<dyn Engine> = Arc::new(disk.clone());
    let record = format::encode(KEY_IDENTITY, &(format::FORMAT + 1, 1_u64, 7_u64)).unwrap();
    engine.write(vec![Op::Put(KEY_IDENTITY.to_vec(), record)]).unwrap();
    let reopened: Arc<dyn Engine> = Arc::new(disk.reopen());
    assert!(matches!(open_dir(&reopened), Err(StoreError::Format { found: 2, supported: 1, .. })));

    let engine: Arc<dyn Engine> = Arc::new(used_disk());
    let other = open(&engine, Path::new("test"), 3, None);
    assert!(matches!(other, Err(StoreError::WrongNode { found: 1, wanted: 3, .. })));
    let blank: Arc<dyn Engine> = Arc::new(CrashEngine::new());
    assert!(matches!(open(&blank, Path::new("test"), 1, None), Err(StoreError::Empty { .. })));
}

#[test]
fn a_failed_sync_is_never_followed_by_a_promise() {
    let disk = CrashEngine::new();
    let engine: Arc<dyn Engine> = Arc::new(disk.clone());
    let opened = open_dir(&engine).unwrap();
    let mut store = log_store(&engine, &opened);
    disk.cut_after(1);
    runtime().block_on(async {
        assert!(store.blocking_append([entry(1, 0)]).await.is_err());
        assert!(store.save_vote(&Vote::new(2, 1)).await.is_err());
    });
}

#[test]
fn a_second_process_is_turned_away_from_a_directory_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node");
    let first = SledEngine::open(&path).unwrap();
    let Err(StoreError::InUse { .. }) = SledEngine::open(&path) else { panic!("opened twice") };
    first.close();
    assert!(first.get(b"x").is_err());
    let again = SledEngine::open(&path).unwrap();
    assert!(again.get(b"x").unwrap().is_none());
}

#[test]
fn a_sled_file_full_of_rubbish_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node");
    {
        let engine: Arc<dyn Engine> = Arc::new(SledEngine::open(&path).unwrap());
        open_dir(&engine).unwrap();
        engine.close();
    }
    let db = path.join("sled/db");
    let size = std::fs::metadata(&db).unwrap().len();
    assert!(size > 0);
    std::fs::write(&db, vec![0x5a; usize::try_from(size).unwrap()]).unwrap();
    // Whatever sled makes of it, the store must not start over as if it were new.
    let outcome = SledEngine::open(&path).and_then(|engine| {
        let engine: Arc<dyn Engine> = Arc::new(engine);
        open(&engine, &path, 1, None).map(drop)
    });
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. } | StoreError::Empty { .. })), "{outcome:?}");
}
