//! A table of entries that refuses, lies, loses answers and restarts, with its reconciler and a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_tables::{AccessPortAction, MulticastGroup};
use dmux_wire::PuntReason;

use super::super::{
    Action, Entry, Event, Fixture, FixtureKey, Foreign, Key, MeterRate, Plan, PuntRate, ReadBack, Reconciler,
    ReconcilerOptions, State, Update, UpdateError, plan,
};
use super::{Log, OWN, access_site, registration};
use crate::selection::{Local, Selection};

const RESOURCE_EXHAUSTED: i32 = 8;

/// What a switch holds and how it misbehaves.
#[derive(Debug, Default)]
pub(super) struct Switch {
    pub(super) entries: BTreeMap<Key, Entry>,
    pub(super) meters: BTreeMap<Key, MeterRate>,
    pub(super) foreign: Vec<Foreign>,
    pub(super) rates: BTreeMap<PuntReason, PuntRate>,
    pub(super) fixtures: BTreeMap<FixtureKey, Fixture>,
    pub(super) pipeline: bool,
    /// Keys of which nothing is accepted.
    pub(super) refuses: BTreeSet<Key>,
    /// Fixtures of which nothing is accepted.
    pub(super) refuses_fixtures: BTreeSet<FixtureKey>,
    /// Keys whose updates are accepted and forgotten.
    pub(super) forgets: BTreeSet<Key>,
    /// Coming actions whose answer is lost (the action itself is performed).
    pub(super) loses: u32,
    /// Everything ever asked of it.
    pub(super) actions: Vec<Action>,
}

impl Switch {
    pub(super) fn perform(&mut self, action: &Action) -> Event {
        self.actions.push(action.clone());
        let lost = self.loses > 0;
        self.loses = self.loses.saturating_sub(1);
        let outcome = |event, failed| if lost { failed } else { event };
        let gone = || String::from("deadline exceeded");
        match action {
            Action::Wait { .. } => panic!("nothing to perform"),
            Action::CheckPipeline => outcome(Event::Pipeline(Ok(self.pipeline)), Event::Pipeline(Err(gone()))),
            Action::SetPipeline => {
                *self = Self { pipeline: true, actions: std::mem::take(&mut self.actions), ..Self::default() };
                outcome(Event::PipelineSet(Ok(())), Event::PipelineSet(Err(gone())))
            }
            Action::ReadBack => outcome(Event::ReadBack(Ok(self.read())), Event::ReadBack(Err(gone()))),
            Action::Write(updates) => {
                let results = updates.iter().map(|update| self.write(update)).collect();
                outcome(Event::Written(Ok(results)), Event::Written(Err(gone())))
            }
        }
    }

    pub(super) fn read(&self) -> ReadBack {
        ReadBack {
            entries: self.entries.clone(),
            meters: self.meters.clone(),
            foreign: self.foreign.clone(),
            punt_rates: self.rates.clone(),
            fixtures: self.fixtures.clone(),
        }
    }

    pub(super) fn write(&mut self, update: &Update) -> Result<(), UpdateError> {
        let refuse = |code, message: &str| Err(UpdateError { code, message: message.into() });
        let entry = match update {
            Update::SetPuntRate(reason, rate) => {
                self.rates.insert(*reason, *rate);
                return Ok(());
            }
            Update::InsertFixture(fixture) | Update::ModifyFixture(fixture) | Update::DeleteFixture(fixture) => {
                return self.write_fixture(update, fixture);
            }
            Update::DeleteForeign(foreign) => {
                self.foreign.retain(|held| held != &**foreign);
                return Ok(());
            }
            Update::Insert(entry, _) | Update::Modify(entry, _) | Update::Delete(entry) => entry,
        };
        let key = entry.key();
        if self.refuses.contains(&key) {
            return refuse(RESOURCE_EXHAUSTED, "table is full");
        }
        match (update, self.entries.contains_key(&key)) {
            (Update::Insert(..), true) => return refuse(6, "exists"),
            (Update::Modify(..) | Update::Delete(_), false) => return refuse(5, "no such entry"),
            _ => {}
        }
        if !self.forgets.contains(&key) {
            match update {
                Update::Delete(_) => self.entries.remove(&key),
                _ => self.entries.insert(key, *entry),
            };
            match update {
                Update::Insert(_, Some(rate)) | Update::Modify(_, Some(rate)) => self.meters.insert(key, *rate),
                _ => self.meters.remove(&key),
            };
        }
        Ok(())
    }

    fn write_fixture(&mut self, update: &Update, fixture: &Fixture) -> Result<(), UpdateError> {
        let refuse = |code, message: &str| Err(UpdateError { code, message: message.into() });
        let key = fixture.key();
        if self.refuses_fixtures.contains(&key) {
            return refuse(RESOURCE_EXHAUSTED, "no more groups");
        }
        let there = self.fixtures.contains_key(&key);
        if let FixtureKey::Group(group) = key
            && matches!(update, Update::DeleteFixture(_))
            && self.entries.values().any(|entry| entry_floods_to(entry) == Some(group))
        {
            return refuse(9, "an entry refers to it");
        }
        match (update, there) {
            (Update::InsertFixture(_), true) => return refuse(6, "exists"),
            (Update::ModifyFixture(_) | Update::DeleteFixture(_), false) => return refuse(5, "no such group"),
            (Update::DeleteFixture(_), true) => self.fixtures.remove(&key),
            _ => self.fixtures.insert(key, fixture.clone()),
        };
        Ok(())
    }

    pub(super) fn holds(&self, plan: &Plan) -> bool {
        self.entries == *plan.entries()
            && self.meters == *plan.meters()
            && self.rates == *plan.punt_rates()
            && self.fixtures == *plan.fixtures()
            && self.foreign.is_empty()
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = &Vec<Update>> {
        self.actions.iter().filter_map(|action| if let Action::Write(updates) = action { Some(updates) } else { None })
    }

    pub(super) fn reads(&self) -> usize {
        self.actions.iter().filter(|action| **action == Action::ReadBack).count()
    }
}

/// A switch, its reconciler and a clock.
pub(super) struct Rig {
    pub(super) switch: Switch,
    pub(super) reconciler: Reconciler,
    pub(super) now: Duration,
    /// The answer to a read-back comes only when nothing else is left to do, and not while this is set.
    pub(super) slow_reads: bool,
    pub(super) answer: Option<Event>,
}

pub(super) fn options() -> ReconcilerOptions {
    ReconcilerOptions { batch: 100, ..ReconcilerOptions::default() }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self {
            switch: Switch::default(),
            reconciler: Reconciler::new(options()),
            now: Duration::ZERO,
            slow_reads: false,
            answer: None,
        }
    }

    pub(super) fn connected(plan: &Plan) -> Self {
        let mut rig = Self::new();
        rig.reconciler.on(rig.now, plan, Event::Connected);
        rig
    }

    /// Performs what is to be done now; returns when to go on.
    pub(super) fn run(&mut self, plan: &Plan) -> Option<Duration> {
        for _ in 0..1_000 {
            match self.reconciler.next(self.now, plan) {
                Action::Wait { until } => match self.answer.take_if(|_| !self.slow_reads) {
                    Some(answer) => self.reconciler.on(self.now, plan, answer),
                    None => return until,
                },
                action => {
                    self.now += Duration::from_millis(1);
                    let event = self.switch.perform(&action);
                    if action == Action::ReadBack && self.slow_reads {
                        self.answer = Some(event);
                    } else {
                        self.reconciler.on(self.now, plan, event);
                    }
                }
            }
        }
        panic!("it never rests: {:?}", self.reconciler.status());
    }

    /// Lets time pass, from deadline to deadline.
    pub(super) fn run_for(&mut self, plan: &Plan, time: Duration) {
        let end = self.now + time;
        while let Some(until) = self.run(plan).filter(|&until| until <= end) {
            self.now = self.now.max(until);
        }
        self.now = end;
    }

    pub(super) fn state(&self) -> State {
        self.reconciler.status().state
    }
}

/// The group that an entry sends to.
pub(super) fn entry_floods_to(entry: &Entry) -> Option<MulticastGroup> {
    match entry {
        Entry::AccessPort(_, AccessPortAction::SetAccessLink { flood_group, .. }) => Some(*flood_group),
        _ => None,
    }
}

/// Three routers of two providers, and two more elsewhere: every table has entries, and there are backups.
pub(super) fn log() -> Log {
    let mut log = Log::new([1, 2]);
    for n in 0..3 {
        log.register(registration(n, 7 + u32::from(n / 2), 1, 1));
    }
    for n in [20, 21] {
        log.register(registration(n, 7, 2, 1));
    }
    log
}

pub(super) fn whole(log: &Log) -> Plan {
    plan(&log.model, &Local::new(OWN), &access_site(), &Selection::default()).0
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The order of an update among others: references first in, last out, and backups when all that serves is in.
pub(super) fn assert_ordered<'a>(plan: &Plan, batches: impl Iterator<Item = &'a Vec<Update>>, batch: usize) {
    let mut last = 0;
    for updates in batches {
        assert!(!updates.is_empty() && updates.len() <= batch);
        let phases: BTreeSet<u16> = updates
            .iter()
            .map(|update| match update {
                Update::DeleteForeign(_) | Update::SetPuntRate(..) => 0,
                Update::InsertFixture(_) | Update::ModifyFixture(_) => 0,
                Update::DeleteFixture(_) => 2_000,
                Update::Insert(Entry::Bucket(key, _), _) if plan.backups.contains(&key.set) => 500,
                Update::Insert(entry, _) | Update::Modify(entry, _) => 1 + u16::from(entry.stage()),
                Update::Delete(entry) => 1_000 - u16::from(entry.stage()),
            })
            .collect();
        assert_eq!(phases.len(), 1, "a batch may be written in any order");
        let phase = phases.first().copied().unwrap_or_default();
        assert!(phase >= last, "phase {phase} after {last}");
        last = phase;
    }
}
