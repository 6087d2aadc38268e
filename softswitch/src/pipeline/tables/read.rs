//! Reading tables, counters, meters and registers back, and writing the latter three.

use super::super::entry::{
    ActionCall, ColourCounts, CounterValue, EntryView, MatchValue, MeterConfig, Outcome, pieces,
};
use super::super::error::TableError;
use super::super::info::{ProfileIx, TableIx};
use super::encode::{decode, encode};
use super::{Counter, Dataplane, Meter, Register, Rest, Side};
use num_bigint::BigUint;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl Dataplane {
    pub(super) fn check_table(&self, t: usize) -> Result<usize, TableError> {
        if t < self.program.tables.len() { Ok(t) } else { Err(TableError::NoSuchObject { kind: "table", index: t }) }
    }

    /// The action of a record.
    fn action_of(&self, t: usize, entry: u32) -> Option<ActionCall> {
        let (local, args, _) = self.shared[t].records.action(entry);
        let action = *self.program.tables[t].actions.get(local as usize)?;
        let mut words = args.iter().map(|w| u128::from(w.load(Ordering::Relaxed)));
        let mut args = Vec::new();
        for p in &self.program.actions[action.0].params {
            let from = args.len();
            // The low word comes first, the high piece too.
            for width in pieces(p.width).collect::<Vec<_>>().into_iter().rev() {
                let low = words.next().unwrap_or(0);
                args.push(if width > 64 { low | words.next().unwrap_or(0) << 64 } else { low });
            }
            args[from..].reverse();
        }
        Some(ActionCall { action, args })
    }

    fn outcome_of(&self, t: usize, entry: u32, side: &Side) -> Option<Outcome> {
        if let Some(ProfileIx(p)) = self.program.tables[t].profile
            && let Some(via) = side.profiles[p].describe(self.named(t, entry))
        {
            return Some(Outcome::Via(via));
        }
        self.action_of(t, entry).map(Outcome::Call)
    }

    fn view(&self, t: usize, entry: u32, side: &Side) -> Option<EntryView> {
        let (info, shared) = (&self.program.tables[t], &self.shared[t]);
        let (key, cell) = (shared.records.full_key(entry), shared.records.cell(entry));
        Some(EntryView {
            key: decode(&self.program, t, &shared.fields, &key),
            priority: key.priority,
            action: self.outcome_of(t, entry, side)?,
            counter: shared.counters.get(cell).first().filter(|_| shared.counted).map(Counter::read),
            meter: shared.meters.get(cell).first().filter(|_| shared.unit.is_some()).and_then(Meter::config),
            colours: shared.meters.get(cell).first().filter(|_| shared.unit.is_some()).map(Meter::marked),
            idle: shared.rests.as_ref().and_then(|r| r.get(cell).first()).map(Rest::state),
            is_const: info.is_const,
        })
    }

    /// The entry that a packet with these slots finds, for who wants to tell about it: nothing is counted.
    #[cold]
    pub(crate) fn matched(&self, side: &Side, t: usize, s: &[u64]) -> Option<EntryView> {
        let (shared, table) = (self.shared.get(t)?, side.tables.get(t)?);
        if shared.keyless {
            return None;
        }
        let (entry, _) = table.index.lookup(&shared.records, &shared.packed, &shared.ranges, s)?;
        self.view(t, entry, side)
    }

    fn with_entry<R>(
        &self,
        TableIx(t): TableIx,
        key: &[MatchValue],
        priority: i32,
        f: impl FnOnce(usize, u32, &Side) -> R,
    ) -> Result<R, TableError> {
        self.check_table(t)?;
        let shared = &self.shared[t];
        let key = encode(&self.program, t, &shared.fields, key, priority)?;
        let side = self.read();
        match side.tables[t].index.find(&shared.records, &key) {
            Some(e) => Ok(f(t, e, &side)),
            None => Err(TableError::NotFound { table: self.program.tables[t].name.clone(), priority }),
        }
    }

    /// One entry, by its key.
    ///
    /// # Errors
    /// It is not there, or the key does not fit the table.
    pub fn get(&self, table: TableIx, key: &[MatchValue], priority: i32) -> Result<EntryView, TableError> {
        let view = self.with_entry(table, key, priority, |t, e, side| self.view(t, e, side))?;
        view.ok_or_else(|| TableError::NotFound { table: self.program.tables[table.0].name.clone(), priority })
    }

    /// Calls `f` with every entry of a table, in no particular order. Writes wait until it is through; packets do not.
    ///
    /// # Errors
    /// There is no such table.
    pub fn for_each_entry(&self, TableIx(t): TableIx, f: &mut dyn FnMut(EntryView)) -> Result<(), TableError> {
        self.check_table(t)?;
        // Without writers, what packets read cannot change either.
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let side = self.read();
        side.tables[t].index.for_each(&mut |entry| {
            if let Some(v) = self.view(t, entry, &side) {
                f(v);
            }
        });
        Ok(())
    }

    /// How many entries a table holds, constant ones included. 0 if there is no such table.
    pub fn entry_count(&self, TableIx(t): TableIx) -> usize {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.tables.get(t).map_or(0, |a| a.entries)
    }

    /// What a miss runs.
    ///
    /// # Errors
    /// There is no such table.
    pub fn default_entry(&self, TableIx(t): TableIx) -> Result<Option<Outcome>, TableError> {
        self.check_table(t)?;
        let side = self.read();
        Ok(self.outcome_of(t, side.tables[t].default, &side))
    }

    fn no_direct(&self, t: TableIx, what: &'static str) -> TableError {
        TableError::NoDirect { table: self.program.tables[t.0].name.clone(), what }
    }

    fn with_counter<R>(
        &self,
        t: TableIx,
        key: &[MatchValue],
        priority: i32,
        f: impl FnOnce(&Counter) -> R,
    ) -> Result<R, TableError> {
        let found = self.with_entry(t, key, priority, |t, e, _| {
            self.shared[t].counters.get(self.shared[t].records.cell(e)).first().map(f)
        })?;
        found.ok_or_else(|| self.no_direct(t, "counter"))
    }

    fn with_meter<R>(
        &self,
        t: TableIx,
        key: &[MatchValue],
        priority: i32,
        f: impl FnOnce(&Meter) -> R,
    ) -> Result<R, TableError> {
        let found = self.with_entry(t, key, priority, |t, e, _| {
            self.shared[t].meters.get(self.shared[t].records.cell(e)).first().map(f)
        })?;
        found.ok_or_else(|| self.no_direct(t, "meter"))
    }

    /// The direct counter of an entry.
    ///
    /// # Errors
    /// The entry is not there, or the table has no direct counter.
    pub fn direct_counter(
        &self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
    ) -> Result<CounterValue, TableError> {
        self.with_counter(table, key, priority, Counter::read)
    }

    /// Sets the direct counter of an entry.
    ///
    /// # Errors
    /// As [`direct_counter`](Self::direct_counter).
    pub fn set_direct_counter(
        &self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
        v: CounterValue,
    ) -> Result<(), TableError> {
        self.with_counter(table, key, priority, |c| c.write(v))
    }

    /// The direct meter of an entry; `None` if it is not configured (then all is green).
    ///
    /// # Errors
    /// The entry is not there, or the table has no direct meter.
    pub fn direct_meter(
        &self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
    ) -> Result<Option<MeterConfig>, TableError> {
        self.with_meter(table, key, priority, Meter::config)
    }

    /// Configures the direct meter of an entry, or sets it back.
    ///
    /// # Errors
    /// As [`direct_meter`](Self::direct_meter), or the peak rate is below the committed rate.
    pub fn set_direct_meter(
        &self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
        config: Option<MeterConfig>,
    ) -> Result<(), TableError> {
        if let Some(info) = self.program.tables.get(table.0) {
            check_rates(&info.name, config)?;
        }
        self.with_meter(table, key, priority, |m| m.configure(config))
    }

    /// Lets the direct meter of an entry count its colours from 0 again.
    ///
    /// # Errors
    /// As [`direct_meter`](Self::direct_meter).
    pub fn reset_direct_colours(&self, table: TableIx, key: &[MatchValue], priority: i32) -> Result<(), TableError> {
        self.with_meter(table, key, priority, Meter::forget_marked)
    }

    /// A cell of the counter with this index in [`Program::counters`](super::super::Program::counters).
    ///
    /// # Errors
    /// There is no such counter or cell.
    pub fn counter(&self, counter: usize, index: usize) -> Result<CounterValue, TableError> {
        self.counter_cell(counter, index).map(Counter::read)
    }

    /// Sets a cell of a counter.
    ///
    /// # Errors
    /// As [`counter`](Self::counter).
    pub fn set_counter(&self, counter: usize, index: usize, v: CounterValue) -> Result<(), TableError> {
        self.counter_cell(counter, index).map(|c| c.write(v))
    }

    fn counter_cell(&self, counter: usize, index: usize) -> Result<&Counter, TableError> {
        let cells = self.counters.get(counter).ok_or(TableError::NoSuchObject { kind: "counter", index: counter })?;
        let name = &self.program.counters[counter].name;
        cells.get(index).ok_or_else(|| TableError::BadIndex { name: name.clone(), size: cells.len(), index })
    }

    fn meter_cell(&self, meter: usize, index: usize) -> Result<&Meter, TableError> {
        let (_, cells) = self.meters.get(meter).ok_or(TableError::NoSuchObject { kind: "meter", index: meter })?;
        let name = &self.program.meters[meter].name;
        cells.get(index).ok_or_else(|| TableError::BadIndex { name: name.clone(), size: cells.len(), index })
    }

    /// The configuration of a cell of the meter with this index in [`Program::meters`](super::super::Program::meters).
    ///
    /// # Errors
    /// There is no such meter or cell.
    pub fn meter(&self, meter: usize, index: usize) -> Result<Option<MeterConfig>, TableError> {
        self.meter_cell(meter, index).map(Meter::config)
    }

    /// Configures a cell of a meter, or sets it back.
    ///
    /// # Errors
    /// As [`meter`](Self::meter), or the peak rate is below the committed rate.
    pub fn set_meter(&self, meter: usize, index: usize, config: Option<MeterConfig>) -> Result<(), TableError> {
        let cell = self.meter_cell(meter, index)?;
        check_rates(&self.program.meters[meter].name, config)?;
        cell.configure(config);
        Ok(())
    }

    /// What a cell of a meter has marked, by colour.
    ///
    /// # Errors
    /// As [`meter`](Self::meter).
    pub fn meter_colours(&self, meter: usize, index: usize) -> Result<ColourCounts, TableError> {
        self.meter_cell(meter, index).map(Meter::marked)
    }

    /// Lets a cell of a meter count its colours from 0 again.
    ///
    /// # Errors
    /// As [`meter`](Self::meter).
    pub fn reset_meter_colours(&self, meter: usize, index: usize) -> Result<(), TableError> {
        self.meter_cell(meter, index).map(Meter::forget_marked)
    }

    fn register_array(&self, register: usize) -> Result<&Register, TableError> {
        self.registers.get(register).ok_or(TableError::NoSuchObject { kind: "register", index: register })
    }

    fn no_cell(&self, register: usize, index: usize) -> TableError {
        let info = &self.program.registers[register];
        TableError::BadIndex { name: info.name.clone(), size: info.size, index }
    }

    /// A cell of the register with this index in [`Program::registers`](super::super::Program::registers).
    ///
    /// # Errors
    /// There is no such register or cell.
    pub fn register(&self, register: usize, index: usize) -> Result<BigUint, TableError> {
        self.register_array(register)?.read(index).ok_or_else(|| self.no_cell(register, index))
    }

    /// Sets a cell of a register; the value is cut to its width.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn set_register(&self, register: usize, index: usize, v: &BigUint) -> Result<(), TableError> {
        let register_array = self.register_array(register)?;
        let _between_packets = self.turn();
        if register_array.write(index, v) { Ok(()) } else { Err(self.no_cell(register, index)) }
    }
}

fn check_rates(name: &str, config: Option<MeterConfig>) -> Result<(), TableError> {
    match config {
        Some(MeterConfig::TwoRates { cir, pir, .. }) if pir < cir => Err(TableError::BadMeter {
            name: name.to_owned(),
            what: format!("a peak rate of {pir} is below the committed rate of {cir}"),
        }),
        _ => Ok(()),
    }
}
