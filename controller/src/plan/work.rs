//! The difference between what a switch holds and what it should hold, in the order in which to write it.
//!
//! Make before break: what others refer to is inserted first, then what refers to it is inserted or modified, and only
//! then is deleted what nothing refers to any more, the referring first. P4Runtime leaves the order within a batch to
//! the switch (§12.1), so a batch never holds two updates of different phases.
//!
//! Two things are out of that order. What fails over comes before everything else: a `demux` entry that is there and
//! that is to point to what the switch holds already, in whole. And the sets that nothing refers to yet, the backups,
//! are brought up only when everything that serves somebody is.
//!
//! A refused update holds nothing else back: what refers to an entry that the switch would not take misses there, which
//! the switch counts by reason, and everything that does not is as it should be.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dmux_tables::{BucketAction, BucketKey, DemuxAction, RouterKey};
use dmux_wire::PuntReason;

use super::{Entry, Fixture, FixtureKey, Foreign, Key, MeterRate, Plan, PuntRate, ReadBack};

/// One update of a switch.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The switch does not hold the key. With the rate of its meter, if it has one.
    Insert(Entry, Option<MeterRate>),
    /// The switch holds the key with another action, or another rate.
    Modify(Entry, Option<MeterRate>),
    /// The plan has no such key.
    Delete(Entry),
    /// Something in the switch that is not of our program's making.
    DeleteForeign(Box<Foreign>),
    /// A meter's rate (MODIFY only, §9.4).
    SetPuntRate(PuntReason, PuntRate),
    /// The switch has no such group, or does not send the digest.
    InsertFixture(Fixture),
    /// The switch has it otherwise.
    ModifyFixture(Fixture),
    /// The plan has none.
    DeleteFixture(Fixture),
}

/// Something that can be out of step.
#[allow(clippy::large_enum_variant, reason = "nearly all items are entries, so boxing them saves nothing")]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// The `n`th foreign thing of the last read-back.
    Foreign(usize),
    /// A meter cell.
    Rate(PuntReason),
    /// A multicast group, or a digest.
    Fixture(FixtureKey),
    /// An entry.
    Entry(Key),
}

impl Item {
    /// That of the entry, if it is one.
    pub(super) fn key(&self) -> Option<Key> {
        match self {
            Self::Entry(key) => Some(*key),
            Self::Foreign(_) | Self::Rate(_) | Self::Fixture(_) => None,
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(at) => write!(f, "foreign entry {at}"),
            Self::Rate(reason) => write!(f, "punt meter `{reason}`"),
            Self::Fixture(key) => key.fmt(f),
            Self::Entry(key) => key.fmt(f),
        }
    }
}

/// A meter of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Metered {
    /// What it was set to, as long as that is known.
    wished: Option<MeterRate>,
    /// What the target made of it.
    programmed: MeterRate,
}

impl Metered {
    /// Whether it is set to this, as well as the target can. A rate that was only read is taken at its word: it may be another's
    /// that differs by as little as rounding does.
    fn is(&self, planned: &MeterRate) -> bool {
        match self.wished {
            Some(wished) => wished == *planned && self.programmed.rounds(planned),
            None => self.programmed == *planned,
        }
    }
}

/// What the switch is believed to hold.
#[derive(Debug, Default)]
pub(super) struct Actual {
    entries: BTreeMap<Key, Entry>,
    meters: BTreeMap<Key, Metered>,
    /// How many of them each table has, by its id.
    counts: BTreeMap<u32, u64>,
    pub(super) foreign: BTreeMap<usize, Foreign>,
    pub(super) rates: BTreeMap<PuntReason, PuntRate>,
    fixtures: BTreeMap<FixtureKey, Fixture>,
}

/// Position in the order of writing; updates of one phase may be written in any order.
pub(super) type Phase = u8;

/// A destination is switched over to what is ready.
const FAIL_OVER: Phase = 0;
/// What refers to nothing: meters, and the groups that entries may refer to.
const FREE: Phase = 1;
/// The first of what is inserted and modified, by its table's stage.
const MAKE: Phase = 2;
/// What nothing refers to yet.
const BACKUP: Phase = 128;
/// The last of what is deleted: the tables that others refer to.
const BREAK: Phase = Phase::MAX - 1;
/// Groups that no entry refers to any more.
const UNUSED: Phase = Phase::MAX;
/// Stages are small numbers (tables are few), so that the phases of making and of breaking never meet.
const MAX_STAGE: u8 = 120;

impl Actual {
    pub(super) fn new(read: ReadBack) -> Self {
        let mut counts = BTreeMap::new();
        for entry in read.entries.values() {
            *counts.entry(entry.table_id()).or_default() += 1;
        }
        let foreign = read.foreign.into_iter().enumerate().collect();
        let meters = read.meters.into_iter().map(|(key, programmed)| (key, Metered { wished: None, programmed }));
        Self {
            entries: read.entries,
            meters: meters.collect(),
            counts,
            foreign,
            rates: read.punt_rates,
            fixtures: read.fixtures,
        }
    }

    /// Takes from an earlier belief, which was right, what meters were set to.
    pub(super) fn keep_wishes(&mut self, believed: &Self) {
        for (key, meter) in &mut self.meters {
            meter.wished = believed.meters.get(key).and_then(|before| before.wished);
        }
    }

    /// Takes from an earlier belief what was read too early.
    pub(super) fn keep(&mut self, believed: &Self, keys: &BTreeSet<Key>) {
        for key in keys {
            match believed.entries.get(key) {
                Some(entry) => self.insert(*entry, believed.meters.get(key).copied()),
                None => self.remove(key),
            }
        }
    }

    /// The entries, by key.
    pub(super) fn entries(&self) -> &BTreeMap<Key, Entry> {
        &self.entries
    }

    /// How many entries each table has, by its id.
    pub(super) fn counts(&self) -> &BTreeMap<u32, u64> {
        &self.counts
    }

    fn insert(&mut self, entry: Entry, meter: Option<Metered>) {
        match meter {
            Some(meter) => self.meters.insert(entry.key(), meter),
            None => self.meters.remove(&entry.key()),
        };
        if self.entries.insert(entry.key(), entry).is_none() {
            *self.counts.entry(entry.table_id()).or_default() += 1;
        }
    }

    fn remove(&mut self, key: &Key) {
        self.meters.remove(key);
        if let Some(count) = self.entries.remove(key).and_then(|entry| self.counts.get_mut(&entry.table_id())) {
            *count -= 1;
        }
    }

    /// The update that brings one thing into step, and when; `None` if it is.
    pub(super) fn update(&self, plan: &Plan, item: &Item) -> Option<(Phase, Update)> {
        match item {
            Item::Foreign(at) => Some((FREE, Update::DeleteForeign(Box::new(self.foreign.get(at)?.clone())))),
            Item::Rate(reason) => {
                let wanted = *plan.punt_rates.get(reason)?;
                (self.rates.get(reason) != Some(&wanted)).then_some((FREE, Update::SetPuntRate(*reason, wanted)))
            }
            Item::Fixture(key) => match (self.fixtures.get(key), plan.fixtures.get(key)) {
                (None, None) => None,
                (None, Some(new)) => Some((FREE, Update::InsertFixture(new.clone()))),
                (Some(old), Some(new)) if old == new => None,
                (Some(_), Some(new)) => Some((FREE, Update::ModifyFixture(new.clone()))),
                (Some(old), None) => Some((UNUSED, Update::DeleteFixture(old.clone()))),
            },
            Item::Entry(key) => {
                let order = key.stage().min(MAX_STAGE);
                let make = match key {
                    Key::Bucket(key) if plan.backups.contains(&key.set) => BACKUP,
                    _ => MAKE + order,
                };
                let meter = plan.meters.get(key).copied();
                match (self.entries.get(key), plan.entries.get(key)) {
                    (None, None) => None,
                    (None, Some(new)) => Some((make, Update::Insert(*new, meter))),
                    (Some(_), Some(_)) if self.holds(plan, key) => None,
                    (Some(_), Some(new)) if self.is_ready(plan, new) => Some((FAIL_OVER, Update::Modify(*new, meter))),
                    (Some(_), Some(new)) => Some((make, Update::Modify(*new, meter))),
                    (Some(old), None) => Some((BREAK - order, Update::Delete(*old))),
                }
            }
        }
    }

    /// Whether the entry is one of `demux`, and the switch holds all that it leads to, as planned.
    fn is_ready(&self, plan: &Plan, entry: &Entry) -> bool {
        match entry {
            Entry::Demux(_, DemuxAction::ToRouter { router }) => {
                self.holds(plan, &RouterKey { router: *router }.into())
            }
            Entry::Demux(_, DemuxAction::ToSet { set, mask }) => (0..=*mask).all(|bucket| {
                let key = Key::from(BucketKey { set: *set, bucket });
                let routers = match plan.entries.get(&key) {
                    Some(Entry::Bucket(_, BucketAction::ToRouter { router })) => [*router, *router],
                    Some(Entry::Bucket(_, BucketAction::ToDraining { leaving, router, .. })) => [*leaving, *router],
                    _ => return false,
                };
                self.holds(plan, &key)
                    && routers.into_iter().all(|router| self.holds(plan, &RouterKey { router }.into()))
            }),
            _ => false,
        }
    }

    /// Whether the entry is there as planned, with its meter.
    pub(super) fn holds(&self, plan: &Plan, key: &Key) -> bool {
        plan.entries.get(key).is_some_and(|planned| self.entries.get(key) == Some(planned)) && self.meters(plan, key)
    }

    fn meters(&self, plan: &Plan, key: &Key) -> bool {
        plan.meters.get(key).is_none_or(|planned| self.meters.get(key).is_some_and(|meter| meter.is(planned)))
    }

    /// Everything that is out of step.
    pub(super) fn out_of_step(&self, plan: &Plan) -> BTreeSet<(Phase, Item)> {
        let meters = plan.meters.keys().filter(|key| !self.meters(plan, key));
        let keys: BTreeSet<_> = differing(&self.entries, &plan.entries).chain(meters).copied().collect();
        let keys = keys.into_iter().map(Item::Entry);
        let rates = plan.punt_rates.keys().copied().map(Item::Rate);
        let foreign = self.foreign.keys().copied().map(Item::Foreign);
        let fixtures = differing(&self.fixtures, &plan.fixtures).copied().map(Item::Fixture);
        foreign
            .chain(rates)
            .chain(fixtures)
            .chain(keys)
            .filter_map(|item| Some((self.update(plan, &item)?.0, item)))
            .collect()
    }

    /// Takes note that the switch accepted an update.
    pub(super) fn accepted(&mut self, item: &Item, update: Update) {
        match (item, update) {
            (Item::Foreign(at), _) => {
                self.foreign.remove(at);
            }
            (_, Update::SetPuntRate(reason, rate)) => {
                self.rates.insert(reason, rate);
            }
            (Item::Fixture(key), Update::InsertFixture(fixture) | Update::ModifyFixture(fixture)) => {
                self.fixtures.insert(*key, fixture);
            }
            (Item::Fixture(key), Update::DeleteFixture(_)) => {
                self.fixtures.remove(key);
            }
            (Item::Entry(_), Update::Insert(entry, meter) | Update::Modify(entry, meter)) => {
                self.insert(entry, meter.map(|rate| Metered { wished: Some(rate), programmed: rate }));
            }
            (Item::Entry(key), Update::Delete(_)) => self.remove(key),
            _ => {}
        }
    }
}

/// The keys that only one map has, or that have another value in each, in the time of a walk along both.
pub(super) fn differing<'a, K: Ord, V: PartialEq>(
    one: &'a BTreeMap<K, V>,
    other: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (one.peek(), other.peek()) {
                (Some((key, _)), Some((of_other, _))) => key.cmp(of_other),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            match order {
                Ordering::Less => return one.next().map(|(key, _)| key),
                Ordering::Greater => return other.next().map(|(key, _)| key),
                Ordering::Equal => {
                    let ((key, value), (_, of_other)) = one.next().zip(other.next())?;
                    if value != of_other {
                        return Some(key);
                    }
                }
            }
        }
    })
}

/// The batches, of at most `batch` updates each, that turn what was read back into the plan. To be written in this
/// order, each after the one before was answered.
pub fn diff(read: ReadBack, plan: &Plan, batch: usize) -> Vec<Vec<Update>> {
    let actual = Actual::new(read);
    let mut batches: Vec<(Phase, Vec<Update>)> = Vec::new();
    for (phase, item) in actual.out_of_step(plan) {
        let Some((_, update)) = actual.update(plan, &item) else { continue };
        match batches.last_mut() {
            Some((last, updates)) if *last == phase && updates.len() < batch.max(1) => updates.push(update),
            _ => batches.push((phase, vec![update])),
        }
    }
    batches.into_iter().map(|(_, updates)| updates).collect()
}
