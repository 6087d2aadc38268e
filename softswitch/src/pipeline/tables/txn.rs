//! Writing tables: batches that packets see at once.

use super::super::entry::{ActionCall, CounterValue, EntrySpec, MatchValue};
use super::super::error::TableError;
use super::super::info::TableIx;
use super::encode::{check_action, encode};
use super::profiles::ProfileChange;
use super::record::FullKey;
use super::{Dataplane, Meter, NOTHING, Register, Side, Writer, words_of};
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
    pub(super) dp: &'a Dataplane,
    pub(super) writer: &'a mut Writer,
    pub(super) side: &'a mut Side,
    log: Vec<Change>,
    /// Changes of action profiles, by the profile's index.
    pub(super) profile_log: Vec<(usize, ProfileChange)>,
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
        let (log, profile_log, result) = {
            let mut side = self.lock_side(1 - old);
            let (log, profile_log) = (Vec::new(), Vec::new());
            let mut txn = Txn { dp: self, writer: &mut writer, side: &mut side, log, profile_log, initial };
            let result = f(&mut txn);
            (txn.log, txn.profile_log, result)
        };
        if log.is_empty() && profile_log.is_empty() {
            return result;
        }
        self.active.store(1 - old, Ordering::Release);
        // Waits for the packets that still read the old side: microseconds, as none starts there any more.
        let mut side = self.lock_side(old);
        for change in &log {
            self.make(&mut side, change);
        }
        for (profile, change) in &profile_log {
            if let ProfileChange::Member { record, .. } = change {
                self.profiles[*profile].mirror(*record, 1 - old);
            }
            side.profiles[*profile].apply(change);
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
            txn.clear_profiles();
        });
        let now_us = self.clock.now_us();
        for t in (0..self.program.tables.len()).filter(|t| !removable(*t)) {
            self.read().tables[t].index.for_each(&mut |e| self.shared[t].reset(self.shared[t].records.cell(e), now_us));
        }
        self.counters.iter().flatten().for_each(|c| c.write(CounterValue::default()));
        self.meters.iter().flat_map(|(_, m)| m).for_each(Meter::reset);
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

    pub(super) fn writable(&self, t: usize) -> Result<(), TableError> {
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
        let (dp, t) = (self.dp, self.table(table)?);
        let key = self.vacant(t, &spec.key, spec.priority)?;
        let action = check_action(&dp.program, &dp.program.tables[t], &spec.action)?;
        self.add(t, &key, action as u64, words_of(&dp.program, &spec.action));
        Ok(())
    }

    /// The packed key of an entry that may be added.
    #[inline]
    pub(super) fn vacant(&self, t: usize, key: &[MatchValue], priority: i32) -> Result<FullKey, TableError> {
        self.writable(t)?;
        let (info, shared) = (&self.dp.program.tables[t], &self.dp.shared[t]);
        let key = encode(&self.dp.program, t, &shared.fields, key, priority)?;
        if self.side.tables[t].index.find(&shared.records, &key).is_some() {
            return Err(TableError::Exists { table: info.name.clone(), priority });
        }
        if self.writer.tables[t].entries >= info.max_size {
            return Err(TableError::Full { table: info.name.clone(), capacity: info.max_size });
        }
        Ok(key)
    }

    /// Adds an entry with a key that is vacant.
    #[inline]
    pub(super) fn add(&mut self, t: usize, key: &FullKey, action: u64, args: impl Iterator<Item = u64>) {
        let shared = &self.dp.shared[t];
        let accounts = &mut self.writer.tables[t];
        accounts.entries += 1;
        let new = accounts.record();
        let cell = if shared.celled { accounts.cell() } else { 0 };
        if shared.noted {
            shared.reset(cell, self.dp.clock.now_us());
        }
        shared.records.write(new, action, cell, Some(key), args);
        self.change(t, NOTHING, new, false);
    }

    /// Puts another record in the place of an entry's; counter and meter stay.
    #[inline]
    pub(super) fn exchange(&mut self, t: usize, key: &FullKey, old: u32, action: u64, args: impl Iterator<Item = u64>) {
        let (records, new) = (&self.dp.shared[t].records, self.writer.tables[t].record());
        records.write(new, action, records.cell(old), Some(key), args);
        self.change(t, old, new, false);
    }

    /// Puts another record in the place of the default action's; without an action, none.
    pub(super) fn exchange_default(&mut self, t: usize, to: Option<(u64, impl Iterator<Item = u64>)>) {
        let new = match to {
            Some((action, args)) => {
                let new = self.writer.tables[t].record();
                self.dp.shared[t].records.write(new, action, 0, None, args);
                new
            }
            None => NOTHING,
        };
        let old = self.side.tables[t].default;
        self.change(t, old, new, true);
    }

    /// Makes a change on this side, and notes it for the other.
    fn change(&mut self, table: usize, old: u32, new: u32, default: bool) {
        // As many tables as a program has.
        let change = Change { table: table as u32, old, new, default };
        self.dp.make(self.side, &change);
        self.log.push(change);
    }

    pub(super) fn existing(&self, t: usize, key: &[MatchValue], priority: i32) -> Result<(FullKey, u32), TableError> {
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
        self.exchange(t, &key, old, local as u64, words_of(&self.dp.program, action));
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
        self.release(t, entry);
        if self.dp.shared[t].rests.is_some() {
            self.writer.idle.forget(t, self.dp.shared[t].records.cell(entry));
        }
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
        let own = self.dp.program.defaults[t].call.as_ref();
        let to = match (action, own) {
            (Some(c), _) => Some((check_action(&self.dp.program, info, c)?, c)),
            // An indirect table may have one, too, though no control plane can set it.
            (None, Some(c)) => info.actions.iter().position(|a| *a == c.action).map(|local| (local, c)),
            (None, None) => None,
        };
        self.release(t, self.side.tables[t].default);
        self.exchange_default(t, to.map(|(local, c)| (local as u64, words_of(&self.dp.program, c))));
        Ok(())
    }
}
