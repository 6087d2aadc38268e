//! The tables of a running program, shared between the threads that run packets and a control plane that writes.
//!
//! Every table is there twice. Packets read one side; a batch of writes changes the other, then the sides change roles
//! and the batch is repeated on the first one once no packet reads it any more. So a packet never waits for a write,
//! sees a batch entirely or not at all, and a write costs two insertions, never a copy.
//!
//! ```text
//!   packets ──read──▶ side A         side B ◀──write── batch     then A and B change roles,
//!                       ╲            ╱                           and the batch is applied to A, too
//!                        records (key, action, arguments), counters, meters: there once
//! ```
//! A side has only the numbers of entries, found by hash ([`map`]), prefix ([`trie`]) or masks ([`tss`]); what an entry
//! is, is in its [`record`].

mod arena;
mod bits;
mod chains;
mod encode;
mod filter;
mod hash;
mod idle;
mod index;
mod known_ports;
mod ledger;
mod map;
mod memory;
mod packing;
mod profiles;
mod read;
mod record;
mod slab;
mod state;
mod trie;
mod tss;
mod txn;
mod value_set;
mod via;

use super::digest::Digests;
use super::entry::{ActionCall, CounterValue, pieces};
use super::hashes::State;
use super::info::{MeterUnit, ProfileIx, TableIx};
use super::ops::KeyPart;
use super::program::Program;
use super::replication::Replication;
use crate::prefetch::prefetch;
pub use idle::Idled;
use idle::{Idle, Rest};
use index::{Entry, Index, Search};
pub(crate) use known_ports::KnownPorts;
use ledger::Ledger;
pub(crate) use packing::Packing;
pub(crate) use profiles::Draw;
use profiles::{Members, SideProfile};
pub(crate) use record::NO_ACTION;
use record::Records;
use slab::Slab;
pub(crate) use state::{Counter, Meter, Register};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
pub use txn::Txn;
pub(crate) use value_set::ValueSet;

/// Record 0 of every table has no action: a default that was not set. No entry has this number.
const NOTHING: u32 = 0;

/// Counters of so many entries are in the processor's cache, and need not be asked for early.
const CACHED: u32 = 16_384;

/// The time that packets are stamped with.
pub trait Clock: Send + Sync {
    /// Microseconds since the switch started.
    fn now_us(&self) -> u64;
}

/// A table, as one side has it.
pub(crate) struct Table {
    index: Index,
    /// The record of the default action.
    default: u32,
}

/// The keys of all tables, as one side has them.
pub(crate) struct Side {
    /// 0 or 1.
    number: usize,
    tables: Vec<Table>,
    profiles: Vec<SideProfile>,
}

impl Side {
    /// Whether lookups in the table wait for memory that can be asked for early.
    pub(crate) fn is_slow(&self, t: usize) -> bool {
        self.tables.get(t).is_some_and(|t| t.index.is_slow())
    }

    /// Asks for the memory where the search for a key, of at most two words, begins; returns its hash.
    #[inline]
    pub(crate) fn ask_for_cell(&self, t: usize, key: [u64; 2]) -> Option<u64> {
        self.tables.get(t)?.index.ask_for_cell(key)
    }

    /// The entry that a key, of at most two words, finds in all likelihood.
    #[cfg(test)]
    pub(crate) fn likely(&self, t: usize, key: [u64; 2]) -> Option<u32> {
        let index = &self.tables.get(t)?.index;
        index.likely(index.ask_for_cell(key)?)
    }

    /// Asks for the record and the counter of the entry that a key with this hash finds, in all likelihood.
    #[inline]
    pub(crate) fn ask_for_record(&self, dp: &Dataplane, t: usize, hash: u64) {
        if let (Some(table), Some(shared)) = (self.tables.get(t), dp.shared.get(t))
            && let Some(record) = table.index.likely(hash)
        {
            shared.records.prefetch(record);
            if shared.counted {
                // Of an entry that was never modified, cell and record have the same number.
                shared.counters.get(record).iter().for_each(prefetch);
            }
        }
    }
}

/// What both sides of a table share.
pub(crate) struct Shared {
    search: Search,
    keyless: bool,
    counted: bool,
    unit: Option<MeterUnit>,
    /// How long entries have not been hit, in tables that support idle timeouts.
    rests: Option<Slab<Rest>>,
    /// A hit does more than lead to an action: it is counted, metered, or its time is noted.
    noted: bool,
    /// Entries have cells: hits are noted, or the entries' order decides between equal priorities.
    celled: bool,
    records: Records,
    counters: Slab<Counter>,
    meters: Slab<Meter>,
    /// All fields of the key, in order, with their places in the packed key (where they have one).
    fields: Vec<KeyPart>,
    /// Range fields of the key, in order.
    ranges: Vec<KeyPart>,
    /// Key fields that are packed: all but the ranges.
    packed: Vec<KeyPart>,
}

impl Shared {
    /// What a hit does to the entry with this cell: BMv2 counts, meters and times hits only, so the default entry has none
    /// of these.
    #[inline]
    fn note(&self, cell: u32, frame_len: u64, now_us: u64) -> Option<u64> {
        if self.counted
            && let Some(c) = self.counters.get(cell).first()
        {
            c.count(frame_len);
        }
        if let Some(rests) = &self.rests
            && let Some(r) = rests.get(cell).first()
        {
            r.hit(now_us);
        }
        let unit = self.unit?;
        self.meters.get(cell).first().map(|m| m.execute(unit, frame_len, now_us))
    }

    /// Sets the counter and the meter of a cell back, and lets its entry begin to rest.
    fn reset(&self, cell: u32, now_us: u64) {
        if self.counted {
            self.counters.reserve(cell);
            self.counters.get(cell).iter().for_each(|c| c.write(CounterValue::default()));
        }
        if self.unit.is_some() {
            self.meters.reserve(cell);
            self.meters.get(cell).iter().for_each(Meter::reset);
        }
        if let Some(rests) = &self.rests {
            rests.reserve(cell);
            rests.get(cell).iter().for_each(|r| r.begin(now_us));
        }
    }
}

/// What a control plane alone knows.
pub(crate) struct Writer {
    tables: Vec<Accounts>,
    profiles: Vec<Ledger>,
    ports: KnownPorts,
    idle: Idle,
}

struct Accounts {
    entries: usize,
    free: Vec<u32>,
    /// The first record that was never used.
    fresh: u32,
    /// The lowest is used first, as BMv2 does with its handles.
    free_cells: BinaryHeap<Reverse<u32>>,
    fresh_cells: u32,
}

impl Accounts {
    fn record(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.fresh += 1;
            self.fresh - 1
        })
    }

    fn cell(&mut self) -> u32 {
        self.free_cells.pop().map_or_else(
            || {
                self.fresh_cells += 1;
                self.fresh_cells - 1
            },
            |c| c.0,
        )
    }
}

/// A program's tables, counters, meters and registers. Shared by all threads.
pub struct Dataplane {
    program: Arc<Program>,
    clock: Arc<dyn Clock>,
    sides: [RwLock<Side>; 2],
    active: AtomicUsize,
    writer: Mutex<Writer>,
    pub(crate) shared: Vec<Shared>,
    profiles: Vec<Members>,
    pub(crate) counters: Vec<Box<[Counter]>>,
    pub(crate) meters: Vec<(MeterUnit, Box<[Meter]>)>,
    pub(crate) registers: Vec<Register>,
    /// Held by whoever reads a register to write it again.
    turn: Mutex<()>,
    pub(crate) value_sets: Vec<ValueSet>,
    /// For each calculation.
    pub(crate) hash_states: Vec<State>,
    /// Misses and hits of each table, if the program tells of them.
    tallies: Vec<[AtomicU64; 2]>,
    replication: Replication,
    digests: Digests,
}

/// What a table lookup came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub hit: bool,
    /// Index among the table's actions; beyond them, there is none.
    pub action: u64,
    pub args: &'a [AtomicU64],
    /// Colour of the direct meter.
    pub colour: Option<u64>,
}

impl Dataplane {
    /// Empty tables for a program (but for its constant entries).
    pub fn new(program: Arc<Program>, clock: Arc<dyn Clock>) -> Self {
        let shared: Vec<Shared> = (0..program.tables.len()).map(|t| shared(&program, t)).collect();
        let side = |number| {
            let table =
                |s: &Shared| Table { index: Index::new(s.search, s.records.key_words(), &s.ranges), default: NOTHING };
            let profiles = program.profiles.iter().map(|_| SideProfile::default()).collect();
            RwLock::new(Side { number, tables: shared.iter().map(table).collect(), profiles })
        };
        let accounts = || Accounts {
            entries: 0,
            free: Vec::new(),
            fresh: NOTHING + 1,
            free_cells: BinaryHeap::new(),
            fresh_cells: 1,
        };
        let cells = |n: usize| -> Box<[Counter]> { (0..n).map(|_| Counter::default()).collect() };
        let dp = Self {
            sides: [side(0), side(1)],
            active: AtomicUsize::new(0),
            writer: Mutex::new(Writer {
                tables: (0..program.tables.len()).map(|_| accounts()).collect(),
                profiles: program.profiles.iter().map(|_| Ledger::default()).collect(),
                ports: KnownPorts::default(),
                idle: Idle::default(),
            }),
            shared,
            profiles: (0..program.profiles.len()).map(|p| Members::new(&program, ProfileIx(p))).collect(),
            counters: program.counters.iter().map(|c| cells(c.size)).collect(),
            meters: program.meters.iter().map(|m| (m.unit, (0..m.size).map(|_| Meter::default()).collect())).collect(),
            turn: Mutex::new(()),
            registers: program.registers.iter().map(|r| Register::new(r.size, r.width)).collect(),
            hash_states: program.calcs.iter().map(|c| State::new(c.algo)).collect(),
            value_sets: program.value_sets.iter().map(|_| ValueSet::default()).collect(),
            tallies: (0..program.tables.len()).map(|_| Default::default()).collect(),
            replication: Replication::new(),
            digests: Digests::new(&program),
            program,
            clock,
        };
        dp.start();
        dp
    }

    /// Counts what a lookup came to.
    pub(crate) fn tally(&self, table: usize, hit: bool) {
        if let Some(tally) = self.tallies.get(table) {
            tally[usize::from(hit)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a table was hit and missed since the program was loaded; `None` if it does not tell
    /// ([`Marking::None`](super::Marking::None)).
    pub fn hits_and_misses(&self, TableIx(t): TableIx) -> Option<(u64, u64)> {
        let tally = self.tallies.get(t).filter(|_| self.program.target.marking != super::Marking::None)?;
        Some((tally[1].load(Ordering::Relaxed), tally[0].load(Ordering::Relaxed)))
    }

    /// The program that it runs.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The clock that it was made with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The multicast groups and clone sessions.
    pub fn replication(&self) -> &Replication {
        &self.replication
    }

    /// The digests.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The side that packets read, held until the guard is dropped. Never waits for a writer.
    #[inline]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Side> {
        loop {
            // A side is locked for writing only while it is not the active one, or just ceased to be it: then the
            // other one is free.
            match self.sides[self.active.load(Ordering::Acquire)].try_read() {
                Ok(side) => return side,
                Err(TryLockError::Poisoned(e)) => return e.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
    }

    /// Waits until no other packet is between reading and writing a register.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_side(&self, side: usize) -> RwLockWriteGuard<'_, Side> {
        self.sides[side].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up the table for a packet; counts and meters a hit.
    #[inline]
    pub(crate) fn lookup(&self, side: &Side, t: usize, s: &[u64], frame_len: u64, now_us: u64) -> Found<'_> {
        let (shared, table) = (&self.shared[t], &side.tables[t]);
        let found =
            if shared.keyless { None } else { table.index.lookup(&shared.records, &shared.packed, &shared.ranges, s) };
        self.found(table, shared, found, frame_len, now_us)
    }

    /// The same for a key of at most two words that is packed already.
    #[inline]
    pub(crate) fn lookup_packed(
        &self,
        side: &Side,
        t: usize,
        key: [u64; 2],
        s: &[u64],
        frame_len: u64,
        now_us: u64,
    ) -> Found<'_> {
        let (shared, table) = (&self.shared[t], &side.tables[t]);
        let found = table.index.lookup_packed(&shared.records, key, &shared.ranges, s);
        self.found(table, shared, found, frame_len, now_us)
    }

    #[inline]
    fn found<'s>(
        &'s self,
        table: &Table,
        shared: &'s Shared,
        found: Option<Entry<'s>>,
        frame_len: u64,
        now_us: u64,
    ) -> Found<'s> {
        let (number, record) = found.unwrap_or_else(|| (table.default, shared.records.record(table.default)));
        if shared.counted
            && number > CACHED
            && let Some(c) = shared.counters.get(number).first()
        {
            // Its counter, as a rule: of an entry that was never modified, cell and record have the same number.
            prefetch(c);
        }
        let (action, args, cell) = shared.records.action_of(record);
        let mut colour = None;
        if shared.noted && found.is_some() {
            colour = shared.note(cell, frame_len, now_us);
        }
        Found { hit: found.is_some(), action, args, colour }
    }
}

fn shared(program: &Program, t: usize) -> Shared {
    let (info, rt) = (&program.tables[t], &program.table_rt[t]);
    let Packing { search, words, fields, ranges, packed } = Packing::of(info, &rt.key);
    let arg_words = match info.profile {
        None => rt.actions.iter().map(|a| usize::from(a.param_words)).max().unwrap_or(0),
        // The number of what an entry names, or the arguments of the program's default action.
        Some(_) => program.defaults[t].call.as_ref().map_or(0, |c| words_of(program, c).count()).max(1),
    };
    let ternary = search == Search::Ternary;
    let unit = info.direct_meter.as_ref().map(|(_, u)| *u);
    let shared = Shared {
        search,
        keyless: rt.key.is_empty(),
        counted: info.direct_counter,
        unit,
        rests: info.support_timeout.then(|| Slab::new(1)),
        noted: info.direct_counter || unit.is_some() || info.support_timeout,
        celled: ternary || info.direct_counter || unit.is_some() || info.support_timeout,
        records: Records::new(words as usize, arg_words, ternary, ranges.len()),
        counters: Slab::new(1),
        meters: Slab::new(1),
        fields,
        ranges,
        packed,
    };
    shared.records.write(NOTHING, NO_ACTION, 0, None, std::iter::empty());
    shared
}

/// The words of an action's arguments.
fn words_of<'a>(program: &'a Program, call: &'a ActionCall) -> impl Iterator<Item = u64> + 'a {
    let mut args = &call.args[..];
    program.actions[call.action.0].params.iter().flat_map(move |p| {
        let (own, rest) = args.split_at(pieces(p.width).count().min(args.len()));
        args = rest;
        // The high piece comes first, the low word too.
        let words = own.iter().rev().flat_map(|v| [*v as u64, (*v >> 64) as u64]);
        words.take(p.width.div_ceil(64) as usize)
    })
}
