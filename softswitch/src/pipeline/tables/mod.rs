//! The tables of a running program, shared between the threads that run packets and a control plane that writes.
//!
//! Every table is there twice. Packets read one side; a batch of writes changes the other, then the sides change roles
//! and the batch is repeated on the first one once no packet reads it any more. So a packet never waits for a write,
//! sees a batch entirely or not at all, and a write costs two insertions, never a copy.
//!
//! ```text
//!   packets ──read──▶ side A         side B ◀──write── batch     then A and B change roles,
//!                       ╲            ╱                           and the batch is applied to A, too
//!                        entries (action, arguments: one version for each side; counters; meters)
//! ```

mod bits;
mod encode;
mod exact;
mod index;
mod lpm;
mod read;
mod slab;
mod state;
mod tss;
mod txn;

use super::entry::ActionCall;
use super::info::{MatchKind, MeterUnit};
use super::ops::KeyPart;
use super::program::Program;
use index::{Index, Search};
use slab::Slab;
pub(crate) use state::{Counter, Meter};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
pub use txn::Txn;

/// Record 0 of every table holds its default action.
const DEFAULT: u32 = 0;
/// First word of a record that has no action.
const NO_ACTION: u64 = u64::MAX;

/// The time that packets are stamped with.
pub trait Clock: Send + Sync {
    /// Microseconds since the switch started.
    fn now_us(&self) -> u64;
}

/// The keys of all tables, as one side has them.
pub(crate) struct Side {
    pub number: usize,
    pub tables: Vec<Index>,
}

/// What both sides of a table share.
pub(crate) struct Shared {
    /// Words of one version of an action with its arguments.
    words: usize,
    keyless: bool,
    counted: bool,
    unit: Option<MeterUnit>,
    records: Slab<AtomicU64>,
    counters: Slab<Counter>,
    meters: Slab<Meter>,
    /// Range fields of the key, in order.
    ranges: Vec<KeyPart>,
    /// Key fields that are hashed: all but the ranges.
    hashed: Vec<KeyPart>,
}

impl Shared {
    /// The words of one version of a record.
    #[inline]
    fn version(&self, entry: u32, side: usize) -> &[AtomicU64] {
        self.records.get(entry).get(side * self.words..(side + 1) * self.words).unwrap_or(&[])
    }
}

/// What a control plane alone knows.
pub(crate) struct Writer {
    tables: Vec<Accounts>,
}

#[derive(Default)]
struct Accounts {
    free: Vec<u32>,
    /// The first record that was never used.
    fresh: u32,
    entries: usize,
}

/// A program's tables, counters, meters and registers. Shared by all threads.
pub struct Dataplane {
    program: Arc<Program>,
    clock: Arc<dyn Clock>,
    sides: [RwLock<Side>; 2],
    active: AtomicUsize,
    writer: Mutex<Writer>,
    pub(crate) shared: Vec<Shared>,
    pub(crate) counters: Vec<Box<[Counter]>>,
    pub(crate) meters: Vec<(MeterUnit, Box<[Meter]>)>,
    pub(crate) registers: Vec<Box<[AtomicU64]>>,
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
        let side = |number| {
            let tables =
                (0..program.tables.len()).map(|t| Index::new(search(&program, t), program.keys[t].1)).collect();
            RwLock::new(Side { number, tables })
        };
        let shared: Vec<Shared> = (0..program.tables.len()).map(|t| shared(&program, t)).collect();
        let accounts = || Accounts { free: Vec::new(), fresh: DEFAULT + 1, entries: 0 };
        let cells = |n: usize| -> Box<[Counter]> { (0..n).map(|_| Counter::default()).collect() };
        let dp = Self {
            sides: [side(0), side(1)],
            active: AtomicUsize::new(0),
            writer: Mutex::new(Writer { tables: (0..program.tables.len()).map(|_| accounts()).collect() }),
            shared,
            counters: program.counters.iter().map(|c| cells(c.size)).collect(),
            meters: program.meters.iter().map(|m| (m.unit, (0..m.size).map(|_| Meter::default()).collect())).collect(),
            registers: program.registers.iter().map(|r| (0..r.size).map(|_| AtomicU64::new(0)).collect()).collect(),
            program,
            clock,
        };
        dp.start();
        dp
    }

    /// The program that it runs.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The clock that it was made with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
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

    fn lock_side(&self, side: usize) -> RwLockWriteGuard<'_, Side> {
        self.sides[side].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up the table for a packet; counts and meters a hit.
    #[inline]
    pub(crate) fn lookup(&self, side: &Side, t: usize, s: &[u64], frame_len: u64, now_us: u64) -> Found<'_> {
        let shared = &self.shared[t];
        let entry = if shared.keyless { None } else { side.tables[t].lookup(&shared.hashed, &shared.ranges, s) };
        let mut colour = None;
        if let Some(e) = entry {
            if shared.counted
                && let Some(c) = shared.counters.get(e).first()
            {
                c.count(frame_len);
            }
            if let Some(unit) = shared.unit {
                colour = shared.meters.get(e).first().map(|m| m.execute(unit, frame_len, now_us));
            }
        }
        let version = shared.version(entry.unwrap_or(DEFAULT), side.number);
        let (action, args) =
            version.split_first().map_or((NO_ACTION, version), |(a, r)| (a.load(Ordering::Relaxed), r));
        Found { hit: entry.is_some(), action, args, colour }
    }
}

fn search(program: &Program, t: usize) -> Search {
    let key = &program.tables[t].key;
    if program.tables[t].needs_priority {
        Search::Ternary
    } else if key.iter().any(|k| k.kind == MatchKind::Lpm) {
        Search::Lpm
    } else {
        Search::Exact
    }
}

fn shared(program: &Program, t: usize) -> Shared {
    let (info, rt) = (&program.tables[t], &program.table_rt[t]);
    let words = 1 + rt.actions.iter().map(|a| usize::from(a.param_words)).max().unwrap_or(0);
    let (ranges, hashed) = rt.key.iter().zip(&info.key).partition::<Vec<_>, _>(|(_, k)| k.kind == MatchKind::Range);
    let parts = |v: Vec<(&KeyPart, _)>| v.into_iter().map(|(p, _)| *p).collect();
    let shared = Shared {
        words,
        keyless: rt.key.is_empty(),
        counted: info.direct_counter,
        unit: info.direct_meter.as_ref().map(|(_, u)| *u),
        records: Slab::new(2 * words),
        counters: Slab::new(1),
        meters: Slab::new(1),
        ranges: parts(ranges),
        hashed: parts(hashed),
    };
    shared.records.reserve(DEFAULT);
    for side in 0..2 {
        store(&shared, DEFAULT, side, None, &[]);
    }
    shared
}

/// Writes one version of a record.
fn store(shared: &Shared, entry: u32, side: usize, action: Option<usize>, args: &[u64]) {
    if let Some((head, rest)) = shared.version(entry, side).split_first() {
        for (cell, v) in rest.iter().zip(args) {
            cell.store(*v, Ordering::Relaxed);
        }
        head.store(action.map_or(NO_ACTION, |a| a as u64), Ordering::Relaxed);
    }
}

/// Copies a version of a record to the other side.
fn mirror(shared: &Shared, entry: u32, from: usize) {
    for (a, b) in shared.version(entry, from).iter().zip(shared.version(entry, 1 - from)) {
        b.store(a.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The words of an action's arguments.
fn words_of(program: &Program, call: &ActionCall) -> Vec<u64> {
    let mut words = Vec::new();
    for (v, p) in call.args.iter().zip(&program.actions[call.action.0].params) {
        words.push(*v as u64);
        if p.width > 64 {
            words.push((*v >> 64) as u64);
        }
    }
    words
}
