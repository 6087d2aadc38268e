//! An engine in memory that keeps live and durable bytes apart, for crash tests and simulation.
//!
//! Every write appends to a history. A crash leaves the batches up to a chosen point of that history that lies at or
//! after the last sync, which is exactly what [`Engine`] promises of a real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Engine, EngineError, Op, Pair, check_sizes};

/// What was replaced when a file was written, so that a crash can fall just before it.
pub type FilePoint = (String, Vec<u8>);

/// See the module.
#[derive(Clone, Default)]
pub struct CrashEngine {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    live: BTreeMap<Vec<u8>, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
    /// Everything since the start that changes what a crash could leave.
    history: Vec<Event>,
    closed: bool,
    /// Operations left before the power goes; `None`: never.
    fuse: Option<u64>,
}

#[derive(Clone)]
enum Event {
    Batch(Vec<Op>),
    Sync,
    File(FilePoint),
}

impl CrashEngine {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power after `operations` more writes, syncs and file writes: the next one fails, as all after it do.
    pub fn cut_after(&self, operations: u64) {
        self.disk().fuse = Some(operations);
    }

    /// How many writes, syncs and file writes there were.
    pub fn operations(&self) -> usize {
        self.disk().history.len()
    }

    /// The disks that a crash now could leave: for each number of unsynced batches that made it, none to all.
    pub fn after_crash(&self) -> Vec<CrashEngine> {
        let disk = self.disk();
        let last_sync = disk.history.iter().rposition(|e| matches!(e, Event::Sync)).map_or(0, |i| i + 1);
        let unsynced: Vec<usize> =
            (last_sync..disk.history.len()).filter(|&i| matches!(disk.history[i], Event::Batch(_))).collect();
        (0..=unsynced.len())
            .map(|survivors| {
                let lost = &unsynced[survivors..];
                let mut left = Disk::default();
                for (i, event) in disk.history.iter().enumerate() {
                    match event {
                        Event::Batch(ops) if !lost.contains(&i) => left.apply(ops.clone()),
                        Event::File((name, bytes)) => {
                            left.files.insert(name.clone(), bytes.clone());
                        }
                        Event::Batch(_) | Event::Sync => {}
                    }
                }
                // What survived a crash is durable from then on.
                left.history = left.as_history();
                CrashEngine { disk: Arc::new(Mutex::new(left)) }
            })
            .collect()
    }

    /// Flips one bit of the value of `key`, as a bad disk would. Returns whether there was one.
    pub fn flip(&self, key: &[u8]) -> bool {
        let mut disk = self.disk();
        let Some(last) = disk.live.get_mut(key).and_then(|v| v.last_mut()) else { return false };
        *last ^= 1;
        disk.history = disk.as_history();
        true
    }

    /// Removes `key` behind the store's back.
    pub fn lose(&self, key: &[u8]) -> bool {
        let mut disk = self.disk();
        let lost = disk.live.remove(key).is_some();
        disk.history = disk.as_history();
        lost
    }

    /// Removes the file `name` behind the store's back.
    pub fn lose_file(&self, name: &str) -> bool {
        let mut disk = self.disk();
        let lost = disk.files.remove(name).is_some();
        disk.history = disk.as_history();
        lost
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.disk().live.keys().cloned().collect()
    }

    /// The same disk in a machine that was started again after an orderly stop.
    pub fn reopen(&self) -> CrashEngine {
        let disk = self.disk();
        let mut next = Disk { live: disk.live.clone(), files: disk.files.clone(), ..Disk::default() };
        next.history = next.as_history();
        CrashEngine { disk: Arc::new(Mutex::new(next)) }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn apply(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Put(key, value) => {
                    self.live.insert(key, value);
                }
                Op::Remove(key) => {
                    self.live.remove(&key);
                }
            }
        }
    }

    fn as_history(&self) -> Vec<Event> {
        let all = self.live.iter().map(|(k, v)| Op::Put(k.clone(), v.clone())).collect();
        let mut history = vec![Event::Batch(all)];
        history.extend(self.files.iter().map(|(n, b)| Event::File((n.clone(), b.clone()))));
        history.push(Event::Sync);
        history
    }

    fn alive(&self) -> Result<(), EngineError> {
        if self.closed { Err(EngineError::Closed) } else { Ok(()) }
    }

    /// Burns one operation of the fuse.
    fn operate(&mut self) -> Result<(), EngineError> {
        self.alive()?;
        match &mut self.fuse {
            Some(0) => {
                self.closed = true;
                Err(EngineError::Closed)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Engine for CrashEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let disk = self.disk();
        disk.alive()?;
        Ok(disk.live.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        let disk = self.disk();
        disk.alive()?;
        let range = disk.live.range(from.to_vec()..to.to_vec());
        Ok(range.take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn write(&self, batch: Vec<Op>) -> Result<(), EngineError> {
        check_sizes(&batch)?;
        let mut disk = self.disk();
        disk.operate()?;
        disk.history.push(Event::Batch(batch.clone()));
        disk.apply(batch);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut disk = self.disk();
        disk.operate()?;
        disk.history.push(Event::Sync);
        Ok(())
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let mut disk = self.disk();
        disk.operate()?;
        disk.history.push(Event::File((name.to_owned(), bytes.to_vec())));
        disk.files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let disk = self.disk();
        disk.alive()?;
        Ok(disk.files.get(name).cloned())
    }

    fn is_in_memory(&self) -> bool {
        true
    }

    fn close(&self) {
        self.disk().closed = true;
    }
}
