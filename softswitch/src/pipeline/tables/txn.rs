//! Writing tables: batches that packets see at once.

use super::super::entry::{ActionCall, CounterValue, EntrySpec, MatchValue};
use super::super::error::TableError;
use super::super::info::TableIx;
use super::encode::{check_action, encode};
use super::index::FullKey;
use super::{DEFAULT, Dataplane, Side, Writer, mirror, store, words_of};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// A change that has been made on one side and must be repeated on the other.
enum Change {
    Put {
        table: usize,
        key: FullKey,
        entry: u32,
    },
    Take {
        table: usize,
        key: FullKey,
        entry: u32,
    },
    /// A new action in a record that stays.
    Action {
        table: usize,
        entry: u32,
    },
}

/// A batch of writes; see [`Dataplane::write`].
pub struct Txn<'a> {
    dp: &'a Dataplane,
    writer: &'a mut Writer,
    side: &'a mut Side,
    log: Vec<Change>,
    /// Constant tables may be filled.
    initial: bool,
}

impl Dataplane {
    /// Runs a batch of writes. Packets go on meanwhile, on what was there before; when the closure returns, they see the
    /// whole batch. An update that fails changes nothing and does not stop the others.
    pub fn write<R>(&self, f: impl FnOnce(&mut Txn<'_>) -> R) -> R {
        self.batch(false, f)
    }

    fn batch<R>(&self, initial: bool, f: impl FnOnce(&mut Txn<'_>) -> R) -> R {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.active.load(Ordering::Acquire);
        let (log, result) = {
            let mut side = self.lock_side(1 - old);
            let mut txn = Txn { dp: self, writer: &mut writer, side: &mut side, log: Vec::new(), initial };
            let result = f(&mut txn);
            (txn.log, result)
        };
        if log.is_empty() {
            return result;
        }
        self.active.store(1 - old, Ordering::Release);
        // Waits for the packets that still read the old side: microseconds, as none starts there any more.
        let mut side = self.lock_side(old);
        for change in log {
            match change {
                Change::Put { table, key, entry } => {
                    mirror(&self.shared[table], entry, 1 - old);
                    side.tables[table].insert(&key, entry);
                }
                Change::Take { table, key, entry } => {
                    side.tables[table].remove(&key);
                    writer.tables[table].free.push(entry);
                }
                Change::Action { table, entry } => mirror(&self.shared[table], entry, 1 - old),
            }
        }
        result
    }

    /// Gives a new data plane its constant entries and default actions.
    pub(super) fn start(&self) {
        self.batch(true, |txn| {
            for t in 0..self.program.tables.len() {
                // The compiler has checked both.
                let _ = txn.set_default(TableIx(t), None);
                for e in &self.program.const_entries[t] {
                    if let Err(e) = txn.insert(TableIx(t), e) {
                        tracing::warn!("constant entry left out: {e}");
                    }
                }
            }
        });
    }

    /// Removes all entries that a control plane wrote, and sets default actions, counters, meters and registers back.
    pub fn clear(&self) {
        let removable = |t: usize| !self.program.tables[t].is_const;
        for t in (0..self.program.tables.len()).filter(|t| removable(*t)) {
            let mut keys = Vec::new();
            self.read().tables[t].for_each(&mut |k, _| keys.push(k));
            self.write(|txn| keys.into_iter().for_each(|k| txn.take(t, k)));
        }
        self.batch(true, |txn| {
            for t in 0..self.program.tables.len() {
                let _ = txn.set_default(TableIx(t), None);
            }
        });
        for t in (0..self.program.tables.len()).filter(|t| !removable(*t)) {
            self.read().tables[t].for_each(&mut |_, e| {
                self.shared[t].counters.get(e).iter().for_each(|c| c.write(CounterValue::default()));
                self.shared[t].meters.get(e).iter().for_each(|m| m.configure(None));
            });
        }
        self.counters.iter().flatten().for_each(|c| c.write(CounterValue::default()));
        self.meters.iter().flat_map(|(_, m)| m).for_each(|m| m.configure(None));
        self.registers.iter().flatten().for_each(|r| r.store(0, Ordering::Relaxed));
    }

    /// Adds one entry; see [`Txn::insert`].
    pub fn insert(&self, table: TableIx, spec: &EntrySpec) -> Result<(), TableError> {
        self.write(|t| t.insert(table, spec))
    }

    /// Changes one entry; see [`Txn::modify`].
    pub fn modify(
        &self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
        action: &ActionCall,
    ) -> Result<(), TableError> {
        self.write(|t| t.modify(table, key, priority, action))
    }

    /// Removes one entry; see [`Txn::delete`].
    pub fn delete(&self, table: TableIx, key: &[MatchValue], priority: i32) -> Result<(), TableError> {
        self.write(|t| t.delete(table, key, priority))
    }

    /// Sets a default action; see [`Txn::set_default`].
    pub fn set_default(&self, table: TableIx, action: Option<&ActionCall>) -> Result<(), TableError> {
        self.write(|t| t.set_default(table, action))
    }
}

impl Txn<'_> {
    fn table(&self, TableIx(t): TableIx) -> Result<usize, TableError> {
        self.dp.check_table(t)
    }

    fn writable(&self, t: usize) -> Result<(), TableError> {
        let info = &self.dp.program.tables[t];
        if info.is_const && !self.initial {
            return Err(TableError::Constant { table: info.name.clone(), what: "the table" });
        }
        Ok(())
    }

    /// Adds an entry. Its direct counter starts at 0, its direct meter not configured.
    ///
    /// # Errors
    /// It is there already, the table is full or constant, or key, priority or action do not fit the table.
    pub fn insert(&mut self, table: TableIx, spec: &EntrySpec) -> Result<(), TableError> {
        let t = self.table(table)?;
        self.writable(t)?;
        let info = &self.dp.program.tables[t];
        let key = encode(&self.dp.program, t, &spec.key, spec.priority)?;
        let action = check_action(&self.dp.program, info, &spec.action)?;
        if self.side.tables[t].find(&key).is_some() {
            return Err(TableError::Exists { table: info.name.clone(), priority: spec.priority });
        }
        let accounts = &mut self.writer.tables[t];
        if accounts.entries >= info.max_size {
            return Err(TableError::Full { table: info.name.clone(), capacity: info.max_size });
        }
        accounts.entries += 1;
        let entry = accounts.free.pop().unwrap_or_else(|| {
            accounts.fresh += 1;
            accounts.fresh - 1
        });
        let shared = &self.dp.shared[t];
        shared.records.reserve(entry);
        if shared.counted {
            shared.counters.reserve(entry);
            shared.counters.get(entry).iter().for_each(|c| c.write(CounterValue::default()));
        }
        if shared.unit.is_some() {
            shared.meters.reserve(entry);
            shared.meters.get(entry).iter().for_each(|m| m.configure(None));
        }
        store(shared, entry, self.side.number, Some(action), &words_of(&self.dp.program, &spec.action));
        self.side.tables[t].insert(&key, entry);
        self.log.push(Change::Put { table: t, key, entry });
        Ok(())
    }

    fn existing(&self, t: usize, key: &[MatchValue], priority: i32) -> Result<(FullKey, u32), TableError> {
        let key = encode(&self.dp.program, t, key, priority)?;
        match self.side.tables[t].find(&key) {
            Some(e) => Ok((key, e)),
            None => Err(TableError::NotFound { table: self.dp.program.tables[t].name.clone(), priority }),
        }
    }

    /// Gives an entry another action. Its direct counter and meter stay.
    ///
    /// # Errors
    /// It is not there, the table is constant, or key or action do not fit the table.
    pub fn modify(
        &mut self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
        action: &ActionCall,
    ) -> Result<(), TableError> {
        let t = self.table(table)?;
        self.writable(t)?;
        let local = check_action(&self.dp.program, &self.dp.program.tables[t], action)?;
        let (_, entry) = self.existing(t, key, priority)?;
        store(&self.dp.shared[t], entry, self.side.number, Some(local), &words_of(&self.dp.program, action));
        self.log.push(Change::Action { table: t, entry });
        Ok(())
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// It is not there, the table is constant, or the key does not fit the table.
    pub fn delete(&mut self, table: TableIx, key: &[MatchValue], priority: i32) -> Result<(), TableError> {
        let t = self.table(table)?;
        self.writable(t)?;
        let (key, _) = self.existing(t, key, priority)?;
        self.take(t, key);
        Ok(())
    }

    fn take(&mut self, t: usize, key: FullKey) {
        if let Some(entry) = self.side.tables[t].remove(&key) {
            self.writer.tables[t].entries -= 1;
            self.log.push(Change::Take { table: t, key, entry });
        }
    }

    /// Sets the action of a miss; `None` sets it back to the program's.
    ///
    /// # Errors
    /// The program says that it is constant, or the action does not fit the table.
    pub fn set_default(&mut self, table: TableIx, action: Option<&ActionCall>) -> Result<(), TableError> {
        let t = self.table(table)?;
        let info = &self.dp.program.tables[t];
        if info.const_default && !self.initial {
            return Err(TableError::Constant { table: info.name.clone(), what: "its default action" });
        }
        let call = action.or(self.dp.program.defaults[t].call.as_ref());
        let (local, words) = match call {
            Some(c) => (Some(check_action(&self.dp.program, info, c)?), words_of(&self.dp.program, c)),
            None => (None, Vec::new()),
        };
        store(&self.dp.shared[t], DEFAULT, self.side.number, local, &words);
        self.log.push(Change::Action { table: t, entry: DEFAULT });
        Ok(())
    }
}
