//! Entries and frames that get deep into a program, found by trying: frames run on the embedded switch, whose traces say
//! which tables missed with which key. An entry that would match is tried there, with actions and arguments out of the pool
//! and out of the frame, and kept if the frame then comes by something new, and the frames before do not come by less; frames
//! that came by something new are changed here and there for further ones.
//!
//! Frames and entries that lead to an index beyond an array are left out: BMv2 may die of them (docs/bmv2-differences.md).
//!
//! Only what is sent is chosen by it. What must come out of it, it does not know.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use dmux_p4rt::client::delete;
use dmux_p4rt::p4::config::v1::{self as info, P4Info};
use dmux_p4rt::p4::v1::TableEntry;
use dmux_p4rt::p4::v1::entity::Entity;
use serde_json::Value;

use super::entries::{Entries, Values, entry_for, first, id, random_entry};
use super::frames::{Frames, Sketch};
use super::watch::{Watched, Way};
use super::{Coverage, Pool};
use crate::dice::Dice;
use crate::program::Program;
use crate::target::Frame;

/// Frames that are tried.
const TRIES: usize = 10000;
/// Entries that are tried for one miss.
const TRIES_OF_ENTRY: usize = 6;
/// Entries in a table at most.
const MOST_ENTRIES: usize = 40;
/// Frames kept to make others of.
const MOST_KEPT: usize = 400;
/// How often a frame is drawn again that may lead beyond an array.
const MOST_REDRAWN: usize = 30;
/// Times at which frames are tried, to see what depends on them. Every byte differs from one to the next.
const TIMES_US: [u64; 3] = [0x0000_0102_0304_0506, 0x0000_1112_1314_1516, 0x0000_5372_7196_7553];
/// Frames of these that a new entry is tried with.
const SAMPLE: usize = 40;
/// Entries at most of which nobody knows whether they are ever hit.
const RANDOM_ENTRIES: usize = 6;

/// Draws entries and `count` frames for a program.
///
/// # Errors
/// A program that the embedded switch refuses.
pub fn explore(
    program: &Program,
    frames: &Frames,
    pool: &Pool,
    replication: bool,
    count: usize,
    dice: &Dice,
) -> Result<(Entries, Vec<Frame>)> {
    let mut search = Search::new(program, frames, pool, replication, dice)?;
    search.tries(TRIES, dice);
    search.some_entries(&mut dice.part(1));
    let from = 2 + TRIES as u64;
    let chosen = (from..from + count as u64).map(|n| search.choose(&mut dice.part(n))).collect();
    Ok((search.entries, chosen))
}

/// Runs a case on the embedded switch alone, to see what it comes by.
///
/// # Errors
/// A program that the embedded switch refuses.
pub fn coverage(program: &Program, entries: &Entries, frames: &[Frame]) -> Result<Coverage> {
    let mut watched = Watched::new(program, 1)?;
    for entity in entries.all() {
        watched.insert(entity);
    }
    let mut coverage = Coverage::of(&program.info, &program.tree()?);
    for (port, frame) in frames {
        let way = watched.run(*port, frame);
        for lookup in &way.lookups {
            coverage.add(&lookup.table, lookup.hit, lookup.action.as_deref());
        }
        for state in way.points.iter().filter_map(|p| p.strip_prefix("parser state ")) {
            coverage.states.entry(state.to_owned()).and_modify(|seen| *seen = true);
        }
    }
    Ok(coverage)
}

/// For each frame of a case, what it leads to on the embedded switch, as masks: 0xff where a byte depends on the time.
///
/// # Errors
/// A program that the embedded switch refuses.
pub fn time_dependence(program: &Program, entries: &Entries, frames: &[Frame]) -> Result<Vec<Vec<Frame>>> {
    let mut switches = Vec::new();
    for _ in TIMES_US {
        let watched = Watched::new(program, 1)?;
        for entity in entries.all() {
            watched.insert(entity);
        }
        switches.push(watched);
    }
    let mut all = Vec::new();
    for ((port, frame), n) in frames.iter().zip(1..) {
        let send = |(watched, begin): (&mut Watched, &u64)| watched.sends(*port, frame, begin + n);
        let mut ways = switches.iter_mut().zip(&TIMES_US).map(send);
        let first = ways.next().unwrap_or_default();
        let mut masks: Vec<Frame> = first.iter().map(|(port, frame)| (*port, vec![0; frame.len()])).collect();
        for other in ways {
            for ((mask, a), b) in masks.iter_mut().zip(&first).zip(&other) {
                let bytes = mask.1.iter_mut().zip(a.1.iter().zip(&b.1));
                bytes.filter(|(_, (a, b))| a != b).for_each(|(mask, _)| *mask = 0xff);
            }
        }
        all.push(masks);
    }
    Ok(all)
}

struct Search<'a> {
    info: &'a P4Info,
    frames: &'a Frames,
    pool: &'a Pool,
    watched: Watched,
    entries: Entries,
    /// Keys and arguments of entries: fields of frames that have them meet them.
    values: Values,
    seen: BTreeSet<String>,
    /// Frames that came by something new, in that order.
    kept: Vec<Kept>,
}

/// A frame that is worth changing.
struct Kept {
    sketch: Sketch,
    frame: Frame,
    points: BTreeSet<String>,
}

impl<'a> Search<'a> {
    fn new(program: &'a Program, frames: &'a Frames, pool: &'a Pool, replication: bool, dice: &Dice) -> Result<Self> {
        let first = first(&program.info, pool, replication, &mut dice.part(0));
        let search = Self {
            info: &program.info,
            frames,
            pool,
            watched: Watched::new(program, 1)?,
            entries: Entries { first, tables: Vec::new() },
            values: Values::default(),
            seen: BTreeSet::new(),
            kept: Vec::new(),
        };
        for entity in &search.entries.first {
            search.watched.insert(entity.clone());
        }
        Ok(search)
    }

    fn tries(&mut self, count: usize, dice: &Dice) {
        for n in 0..count as u64 {
            self.step(&mut dice.part(2 + n));
        }
    }

    /// Entries of which nobody knows whether they are ever hit: a few for each table.
    fn some_entries(&mut self, dice: &mut Dice) {
        for table in self.info.tables.iter().filter(|t| !t.is_const_table) {
            for _ in 0..dice.below(RANDOM_ENTRIES + 1) {
                if let Some(entry) = random_entry(self.info, table, self.pool, dice)
                    && self.try_entry(entry)
                    && self.lost(0)
                {
                    self.drop_last();
                }
            }
        }
    }

    /// Inserts an entry, unless the table has one of this key or enough of them.
    fn try_entry(&mut self, entry: TableEntry) -> bool {
        let of_table = || self.entries.tables.iter().filter(|e| e.table_id == entry.table_id);
        // Two of one priority that match the same packet: which one wins is the switch's choice.
        let meets = |e: &TableEntry| e.r#match == entry.r#match || (e.priority == entry.priority && e.priority != 0);
        if of_table().count() >= MOST_ENTRIES || of_table().any(meets) {
            return false;
        }
        let accepted = self.watched.insert(Entity::TableEntry(entry.clone()));
        if accepted {
            self.entries.tables.push(entry);
        }
        accepted
    }

    fn drop_last(&mut self) {
        if let Some(entry) = self.entries.tables.pop() {
            self.watched.write(delete(Entity::TableEntry(entry)));
        }
    }

    /// Whether a way has anything new; remembers it.
    fn new_points(&mut self, way: &Way) -> bool {
        let before = self.seen.len();
        self.seen.extend(way.points.iter().cloned());
        self.seen.len() > before
    }

    fn step(&mut self, dice: &mut Dice) {
        let sketch = self.draw(dice);
        let (port, frame) = self.frames.finish(&sketch, dice);
        let mut way = self.watched.run(port, &frame);
        let mut new = !way.beyond && self.new_points(&way);
        let keyed: Vec<_> = way.lookups.iter().filter(|l| !l.key.is_empty()).cloned().collect();
        let missed: Vec<_> = keyed.iter().filter(|l| !l.hit).cloned().collect();
        let lookup = if dice.one_in(3) { dice.pick(&keyed) } else { dice.pick(&missed) };
        if let Some(lookup) = lookup
            && let Some(table) = self.info.tables.iter().find(|t| name(t) == lookup.table && !t.is_const_table)
        {
            let near = sketch.values();
            for _ in 0..TRIES_OF_ENTRY {
                let Some(entry) = entry_for(self.info, table, &lookup.key, &near, self.pool, dice) else { continue };
                let replaced = self.take_out(&entry);
                let accepted = self.try_entry(entry);
                if accepted {
                    let other = self.watched.run(port, &frame);
                    let gain = other.points.difference(&self.seen).count();
                    if gain > 0 && !other.beyond && !self.lost(gain) {
                        new |= self.new_points(&other);
                        way = other;
                        if let Some(entry) = self.entries.tables.last() {
                            self.values.learn(self.info, entry);
                        }
                        break;
                    }
                    self.drop_last();
                }
                if let Some(entry) = replaced {
                    self.try_entry(entry);
                }
                if !accepted {
                    break;
                }
            }
        }
        if new && self.kept.len() < MOST_KEPT {
            self.kept.push(Kept { sketch, frame: (port, frame), points: way.points });
        }
    }

    /// Whether the frames that were kept come by less than before, and it is more than what was won.
    fn lost(&mut self, won: usize) -> bool {
        let every = self.kept.len().div_ceil(SAMPLE).max(1);
        let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
        let mut ways = Vec::new();
        for (n, kept) in self.kept.iter().enumerate().rev().step_by(every) {
            let way = self.watched.run(kept.frame.0, &kept.frame.1);
            before.extend(kept.points.iter().cloned());
            after.extend(way.points.iter().cloned());
            ways.push((n, way.points));
        }
        let lost = before.difference(&after).count() > won;
        if !lost {
            ways.into_iter().for_each(|(n, points)| self.kept[n].points = points);
        }
        lost
    }

    /// Deletes the entry that has the same key, if there is one.
    fn take_out(&mut self, entry: &TableEntry) -> Option<TableEntry> {
        let same = |e: &TableEntry| e.table_id == entry.table_id && e.r#match == entry.r#match;
        let at = self.entries.tables.iter().position(same)?;
        let old = self.entries.tables.remove(at);
        self.watched.write(delete(Entity::TableEntry(old.clone())));
        Some(old)
    }

    /// A frame that was kept: of two, the one that came by more.
    fn kept(&self, dice: &mut Dice) -> Option<&Kept> {
        let latest = &self.kept[self.kept.len().saturating_sub(8)..];
        let of = if dice.one_in(3) { latest } else { &self.kept[..] };
        let two = [dice.pick(of)?, dice.pick(of)?];
        two.into_iter().max_by_key(|kept| kept.points.len())
    }

    /// A frame: one that was kept with something changed, or a new one, with the fields of one that was kept or without.
    fn draw(&self, dice: &mut Dice) -> Sketch {
        let Some(kept) = self.kept(dice).filter(|_| !dice.one_in(8)) else { return self.frames.sketch(dice) };
        if dice.one_in(3) {
            let mut sketch = self.frames.sketch(dice);
            sketch.inherit(&kept.sketch, dice);
            return sketch;
        }
        let mut sketch = kept.sketch.clone();
        self.frames.change(&mut sketch, &self.values, self.pool, dice);
        sketch
    }

    /// A frame for the case: more often than not one that was found, as it is or changed.
    fn choose(&mut self, dice: &mut Dice) -> Frame {
        for _ in 0..MOST_REDRAWN {
            let sketch = match self.kept(dice) {
                Some(kept) if dice.one_in(3) => kept.sketch.clone(),
                _ => self.draw(dice),
            };
            let (port, frame) = self.frames.finish(&sketch, dice);
            if !self.watched.run(port, &frame).beyond {
                return (port, frame);
            }
        }
        (0, vec![0])
    }
}

fn name(table: &info::Table) -> &str {
    table.preamble.as_ref().map_or("", |p| &p.name)
}

impl Coverage {
    fn of(info: &P4Info, tree: &Value) -> Self {
        let action = |id_wanted: u32| {
            let found = info.actions.iter().find(|a| id(a.preamble.as_ref()) == id_wanted);
            found.and_then(|a| a.preamble.as_ref()).map_or_else(String::new, |p| p.name.clone())
        };
        let tables: BTreeMap<String, bool> =
            info.tables.iter().filter(|t| !t.match_fields.is_empty()).map(|t| (name(t).to_owned(), false)).collect();
        let of_table = |t: &info::Table| {
            let table = name(t).to_owned();
            t.action_refs.iter().map(move |r| ((table.clone(), action(r.id)), false)).collect::<Vec<_>>()
        };
        let parsers = tree["parsers"].as_array().into_iter().flatten();
        let states = parsers.flat_map(|p| p["parse_states"].as_array().into_iter().flatten());
        let states = states.filter_map(|s| Some((s["name"].as_str()?.to_owned(), false))).collect();
        Self { states, tables, actions: info.tables.iter().flat_map(of_table).collect() }
    }

    fn add(&mut self, table: &str, hit: bool, action: Option<&str>) {
        if let Some(was) = self.tables.get_mut(table) {
            *was |= hit;
        }
        let pair = (table.to_owned(), action.unwrap_or_default().to_owned());
        if let Some(was) = self.actions.get_mut(&pair) {
            *was = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn gateway() -> (Program, Frames, Pool) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bmv2-configs/gateway");
        let program = Program::load(&directory).unwrap();
        let tree = program.tree().unwrap();
        let (frames, pool) = (Frames::new(tree.clone()), Pool::new(&tree));
        (program, frames, pool)
    }

    #[test]
    fn a_seed_determines_a_case() {
        let (program, frames, pool) = gateway();
        let case = |seed| {
            let mut search = Search::new(&program, &frames, &pool, false, &Dice::new(seed)).unwrap();
            search.tries(300, &Dice::new(seed));
            let chosen = search.choose(&mut Dice::new(seed));
            (search.entries.tables, chosen)
        };
        assert_eq!(case(7), case(7));
        assert_ne!(case(7), case(8));
    }

    /// On the gateway's way of a client's packet lie seven tables, each of which must be hit for the next one to be applied.
    #[test]
    fn generated_entries_and_frames_get_through_the_gateway() {
        let (program, frames, pool) = gateway();
        let mut joined = Coverage::default();
        for seed in 1..=2 {
            let (entries, chosen) = explore(&program, &frames, &pool, false, 200, &Dice::new(seed)).unwrap();
            joined.join(&coverage(&program, &entries, &chosen).unwrap());
        }
        let hit: Vec<_> = joined.tables.iter().filter(|t| *t.1).map(|t| t.0.as_str()).collect();
        for table in ["port_role", "source_guard", "punt", "local_service", "ipv4_route", "nexthop"] {
            assert!(hit.contains(&table), "{table} is never hit: {hit:?}");
        }
        // Which of the ways behind them are found depends on the seed; each seed finds some.
        assert!(hit.len() > 7, "only {hit:?}");
    }
}
