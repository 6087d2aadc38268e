//! Writing tables: batches that packets see at once.

use super::super::entry::{ActionCall, CounterValue, EntrySpec, MatchValue};
use super::super::error::TableError;
use super::super::info::TableIx;
use super::encode::{check_action, encode};
use super::record::FullKey;
use super::{Dataplane, NOTHING, Register, Side, Writer, words_of};
use std::cmp::Reverse;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// A change that has been made on one side and must be repeated on the other: `old` gives way to `new`, where one of
/// them may be nothing.
struct Change {
    table: u32,
    old: u32,
    new: u32,
    /// It is the default action's record that changes, and no entry's.
    default: bool,
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
        for change in &log {
            self.make(&mut side, change);
        }
        for Change { table, old, new, default } in log {
            if old == NOTHING {
                continue;
            }
            // Nothing refers to the old record any more.
            let (accounts, shared) = (&mut writer.tables[table as usize], &self.shared[table as usize]);
            accounts.free.push(old);
            if new == NOTHING && !default && shared.celled {
                accounts.free_cells.push(Reverse(shared.records.cell(old)));
            }
        }
        result
    }

    /// Makes a change on one side.
    fn make(&self, side: &mut Side, change: &Change) {
        let Change { table, old, new, default } = *change;
        let (records, table) = (&self.shared[table as usize].records, &mut side.tables[table as usize]);
        match (default, old, new) {
            (true, ..) => table.default = new,
            (_, NOTHING, new) => table.index.insert(records, new),
            (_, old, NOTHING) => table.index.remove(records, old),
            (_, old, new) => table.index.replace(records, old, new),
        }
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
            self.write(|txn| {
                let mut all = Vec::new();
                txn.side.tables[t].index.for_each(&mut |e| all.push(e));
                all.into_iter().for_each(|e| txn.take(t, e));
            });
        }
        self.batch(true, |txn| {
            for t in 0..self.program.tables.len() {
                let _ = txn.set_default(TableIx(t), None);
            }
        });
        for t in (0..self.program.tables.len()).filter(|t| !removable(*t)) {
            self.read().tables[t].index.for_each(&mut |e| self.shared[t].reset(self.shared[t].records.cell(e)));
        }
        self.counters.iter().flatten().for_each(|c| c.write(CounterValue::default()));
        self.meters.iter().flat_map(|(_, m)| m).for_each(|m| m.configure(None));
        self.registers.iter().for_each(Register::clear);
        self.value_sets.iter().for_each(super::ValueSet::clear);
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
        let shared = &self.dp.shared[t];
        let key = encode(&self.dp.program, t, &shared.fields, &spec.key, spec.priority)?;
        let action = check_action(&self.dp.program, info, &spec.action)?;
        if self.side.tables[t].index.find(&shared.records, &key).is_some() {
            return Err(TableError::Exists { table: info.name.clone(), priority: spec.priority });
        }
        let accounts = &mut self.writer.tables[t];
        if accounts.entries >= info.max_size {
            return Err(TableError::Full { table: info.name.clone(), capacity: info.max_size });
        }
        accounts.entries += 1;
        let new = accounts.record();
        let cell = if shared.celled { accounts.cell() } else { 0 };
        shared.reset(cell);
        shared.records.write(new, action as u64, cell, Some(&key), words_of(&self.dp.program, &spec.action));
        self.change(t, NOTHING, new, false);
        Ok(())
    }

    /// Makes a change on this side, and notes it for the other.
    fn change(&mut self, table: usize, old: u32, new: u32, default: bool) {
        // As many tables as a program has.
        let change = Change { table: table as u32, old, new, default };
        self.dp.make(self.side, &change);
        self.log.push(change);
    }

    fn existing(&self, t: usize, key: &[MatchValue], priority: i32) -> Result<(FullKey, u32), TableError> {
        let shared = &self.dp.shared[t];
        let key = encode(&self.dp.program, t, &shared.fields, key, priority)?;
        match self.side.tables[t].index.find(&shared.records, &key) {
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
        let (key, old) = self.existing(t, key, priority)?;
        let (records, new) = (&self.dp.shared[t].records, self.writer.tables[t].record());
        records.write(new, local as u64, records.cell(old), Some(&key), words_of(&self.dp.program, action));
        self.change(t, old, new, false);
        Ok(())
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// It is not there, the table is constant, or the key does not fit the table.
    pub fn delete(&mut self, table: TableIx, key: &[MatchValue], priority: i32) -> Result<(), TableError> {
        let t = self.table(table)?;
        self.writable(t)?;
        let (_, entry) = self.existing(t, key, priority)?;
        self.take(t, entry);
        Ok(())
    }

    fn take(&mut self, t: usize, entry: u32) {
        self.writer.tables[t].entries -= 1;
        self.change(t, entry, NOTHING, false);
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
        let new = match call {
            Some(c) => {
                let local = check_action(&self.dp.program, info, c)?;
                let new = self.writer.tables[t].record();
                self.dp.shared[t].records.write(new, local as u64, 0, None, words_of(&self.dp.program, c));
                new
            }
            None => NOTHING,
        };
        let old = self.side.tables[t].default;
        self.change(t, old, new, true);
        Ok(())
    }
}
