//! The reconciler against a table of entries that refuses, lies, loses answers and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_wire::{GatewayId, ProviderId, PuntReason};
use proptest::prelude::*;

use super::super::{
    Action, Entry, Event, Foreign, Key, Plan, Planner, PuntRate, ReadBack, Reconciler, ReconcilerOptions, State,
    Update, UpdateError, diff, entries, plan,
};
use super::{Log, OWN, key, registration, site};
use crate::model::{Command, Destination, RouterIndex};
use crate::selection::{Local, Selection};

const RESOURCE_EXHAUSTED: i32 = 8;

/// What a switch holds and how it misbehaves.
#[derive(Debug, Default)]
struct Switch {
    entries: BTreeMap<Key, Entry>,
    foreign: Vec<Foreign>,
    rates: BTreeMap<PuntReason, PuntRate>,
    pipeline: bool,
    /// Keys of which nothing is accepted.
    refuses: BTreeSet<Key>,
    /// Keys whose updates are accepted and forgotten.
    forgets: BTreeSet<Key>,
    /// Coming actions whose answer is lost (the action itself is performed).
    loses: u32,
    /// Everything ever asked of it.
    actions: Vec<Action>,
}

impl Switch {
    fn perform(&mut self, action: &Action) -> Event {
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

    fn read(&self) -> ReadBack {
        ReadBack {
            entries: self.entries.values().copied().collect(),
            foreign: self.foreign.clone(),
            punt_rates: self.rates.clone(),
        }
    }

    fn write(&mut self, update: &Update) -> Result<(), UpdateError> {
        let refuse = |code, message: &str| Err(UpdateError { code, message: message.into() });
        let entry = match update {
            Update::SetPuntRate(reason, rate) => {
                self.rates.insert(*reason, *rate);
                return Ok(());
            }
            Update::DeleteForeign(foreign) => {
                self.foreign.retain(|held| held != &**foreign);
                return Ok(());
            }
            Update::Insert(entry) | Update::Modify(entry) | Update::Delete(entry) => entry,
        };
        let key = entry.key();
        if self.refuses.contains(&key) {
            return refuse(RESOURCE_EXHAUSTED, "table is full");
        }
        match (update, self.entries.contains_key(&key)) {
            (Update::Insert(_), true) => return refuse(6, "exists"),
            (Update::Modify(_) | Update::Delete(_), false) => return refuse(5, "no such entry"),
            _ => {}
        }
        if !self.forgets.contains(&key) {
            match update {
                Update::Delete(_) => self.entries.remove(&key),
                _ => self.entries.insert(key, *entry),
            };
        }
        Ok(())
    }

    fn holds(&self, plan: &Plan) -> bool {
        self.entries == *plan.entries() && self.rates == *plan.punt_rates() && self.foreign.is_empty()
    }

    fn writes(&self) -> impl Iterator<Item = &Vec<Update>> {
        self.actions.iter().filter_map(|action| if let Action::Write(updates) = action { Some(updates) } else { None })
    }

    fn reads(&self) -> usize {
        self.actions.iter().filter(|action| **action == Action::ReadBack).count()
    }
}

/// A switch, its reconciler and a clock.
struct Rig {
    switch: Switch,
    reconciler: Reconciler,
    now: Duration,
}

fn options() -> ReconcilerOptions {
    ReconcilerOptions { batch: 100, ..ReconcilerOptions::default() }
}

impl Rig {
    fn new() -> Self {
        Self { switch: Switch::default(), reconciler: Reconciler::new(options()), now: Duration::ZERO }
    }

    fn connected(plan: &Plan) -> Self {
        let mut rig = Self::new();
        rig.reconciler.on(rig.now, plan, Event::Connected);
        rig
    }

    /// Performs what is to be done now; returns when to go on.
    fn run(&mut self, plan: &Plan) -> Option<Duration> {
        for _ in 0..1_000 {
            match self.reconciler.next(self.now, plan) {
                Action::Wait { until } => return until,
                action => {
                    self.now += Duration::from_millis(1);
                    let event = self.switch.perform(&action);
                    self.reconciler.on(self.now, plan, event);
                }
            }
        }
        panic!("it never rests: {:?}", self.reconciler.status());
    }

    /// Lets time pass, from deadline to deadline.
    fn run_for(&mut self, plan: &Plan, time: Duration) {
        let end = self.now + time;
        while let Some(until) = self.run(plan).filter(|&until| until <= end) {
            self.now = self.now.max(until);
        }
        self.now = end;
    }

    fn state(&self) -> State {
        self.reconciler.status().state
    }
}

/// Three routers of two providers, and two more elsewhere: every table has entries, and there are backups.
fn log() -> Log {
    let mut log = Log::new([1, 2]);
    for n in 0..3 {
        log.register(registration(n, 7 + u32::from(n / 2), 1, 1));
    }
    for n in [20, 21] {
        log.register(registration(n, 7, 2, 1));
    }
    log
}

fn whole(log: &Log) -> Plan {
    plan(&log.model, &Local::new(OWN), &site(), &Selection::default()).0
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn an_empty_switch_becomes_whole_and_is_seen_to_be() {
    let plan = whole(&log());
    let mut rig = Rig::new();
    assert_eq!(rig.run(&plan), None, "nothing is asked of a switch that is not there");
    rig.reconciler.on(rig.now, &plan, Event::Connected);
    rig.run(&plan);
    assert!(rig.switch.holds(&plan));
    let status = rig.reconciler.status();
    assert_eq!((status.state, status.detail.as_str()), (State::Synced, ""));
    assert_eq!((status.entries, status.pending, status.refused, status.resyncs), (plan.entries().len(), 0, 0, 1));
    assert!(status.last_resync.is_some_and(|took| took == rig.now));
    assert_eq!(rig.switch.actions[..3], [Action::CheckPipeline, Action::SetPipeline, Action::ReadBack]);
    assert_eq!(rig.switch.actions.last(), Some(&Action::ReadBack), "synced only after a look");
}

#[test]
fn a_switch_that_is_whole_is_not_written_to() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    rig.run(&plan);
    rig.reconciler.on(rig.now, &plan, Event::Disconnected { why: "reset by peer".into() });
    assert_eq!(rig.reconciler.status().detail, "reset by peer");
    rig.switch.actions.clear();
    rig.reconciler.on(rig.now, &plan, Event::Connected);
    rig.run(&plan);
    assert_eq!(rig.switch.actions, [Action::CheckPipeline, Action::ReadBack, Action::ReadBack]);
    assert_eq!(rig.reconciler.status().resyncs, 2);
}

/// The order of an update among others: references first in, last out, and backups when all that serves is in.
fn assert_ordered<'a>(plan: &Plan, batches: impl Iterator<Item = &'a Vec<Update>>, batch: usize) {
    let mut last = 0;
    for updates in batches {
        assert!(!updates.is_empty() && updates.len() <= batch);
        let phases: BTreeSet<u16> = updates
            .iter()
            .map(|update| match update {
                Update::DeleteForeign(_) | Update::SetPuntRate(..) => 0,
                Update::Insert(Entry::Bucket(key, _)) if plan.backups.contains(&key.set) => 500,
                Update::Insert(entry) | Update::Modify(entry) => 1 + u16::from(entry.stage()),
                Update::Delete(entry) => 1_000 - u16::from(entry.stage()),
            })
            .collect();
        assert_eq!(phases.len(), 1, "a batch may be written in any order");
        let phase = phases.first().copied().unwrap_or_default();
        assert!(phase >= last, "phase {phase} after {last}");
        last = phase;
    }
}

#[test]
fn what_is_referred_to_is_there_before_and_goes_after() {
    let log = log();
    let plan = whole(&log);
    let demux = entries::demux_key(Destination::any(super::P41));
    assert!(demux.stage() > entries::router_key(RouterIndex(1)).stage());
    let mut rig = Rig::connected(&plan);
    rig.run(&plan);
    assert_ordered(&plan, rig.switch.writes(), options().batch);

    let other = whole(&Log::new([1]));
    let read = ReadBack { entries: plan.entries().values().copied().collect(), ..ReadBack::default() };
    let batches = diff(read, &other, 10);
    assert_ordered(&other, batches.iter(), 10);
    let mut switch = Switch { entries: plan.entries().clone(), ..Switch::default() };
    for update in batches.iter().flatten() {
        assert_eq!(switch.write(update), Ok(()));
    }
    assert!(switch.holds(&other));
    assert_eq!(diff(switch.read(), &other, 10), Vec::<Vec<Update>>::new());
}

#[test]
fn failing_over_is_one_write_for_each_destination() {
    // Gateway 2 is closer than gateway 3; both have several routers of five providers, and one of a sixth.
    let mut log = Log::new([1, 2, 3]);
    for n in 0..31 {
        log.register(registration(n, 7 + u32::from(n / 6), 2, 1));
        log.register(registration(100 + n, 7 + u32::from(n / 6), 3, 1));
    }
    let mut local = Local::new(OWN);
    for (id, rtt) in [(2, 5), (3, 20)] {
        local.rtts.insert(GatewayId(id), ms(rtt));
    }
    let mut planner = Planner::new(site(), &log.model, local.clone(), &Selection::default());
    let mut rig = Rig::connected(planner.plan());
    rig.run(planner.plan());
    rig.switch.actions.clear();
    let destinations = log.model.destinations().len();
    assert_eq!(destinations, 7, "any provider and six");

    local.unreachable.insert(GatewayId(2));
    let delta = planner.observe(&log.model, local.clone());
    rig.reconciler.planned(&delta);
    rig.run(planner.plan());
    let writes: Vec<_> = rig.switch.writes().cloned().collect();
    assert!(writes[0].iter().all(|update| matches!(update, Update::Modify(Entry::Demux(..)))), "{:?}", writes[0]);
    assert_eq!(writes[0].len(), destinations, "one update for each destination, before anything else");
    assert_eq!(writes.len(), 1, "and the routers of the gateway that is gone stay ready, should it come back");
    assert!(rig.switch.holds(planner.plan()));

    rig.switch.actions.clear();
    local.unreachable.clear();
    let delta = planner.observe(&log.model, local);
    rig.reconciler.planned(&delta);
    rig.run(planner.plan());
    assert_eq!(rig.switch.writes().map(Vec::len).collect::<Vec<_>>(), [destinations]);
}

#[test]
fn a_lost_router_is_replaced_before_the_backups_are() {
    let log = log();
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    let mut rig = Rig::connected(planner.plan());
    rig.run(planner.plan());
    rig.switch.actions.clear();
    // One of provider 7's two routers at the own gateway goes, and one of the two elsewhere that are ready for provider 7.
    let mut local = Local::new(OWN);
    local.dead.extend([(key(0), 1), (key(20), 1)]);
    let delta = planner.observe(&log.model, local);
    rig.reconciler.planned(&delta);
    rig.run(planner.plan());
    assert!(rig.switch.holds(planner.plan()));
    let first: Vec<_> = rig.switch.writes().next().unwrap().to_vec();
    let demux = entries::demux_router(Destination { protocol: super::P41, provider: ProviderId(7) }, RouterIndex(2));
    assert_eq!(first, [Update::Modify(demux)], "the last one of provider 7 is in the switch already");
    assert_ordered(planner.plan(), rig.switch.writes().skip(1), options().batch);
}

#[test]
fn foreign_entries_are_deleted() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    rig.run(&plan);
    let entry = dmux_p4rt::p4::v1::TableEntry { table_id: 77, ..Default::default() };
    rig.switch.foreign.push(Foreign { entry, why: "no table has id 77".into() });
    rig.run_for(&plan, options().audit_every * 3);
    assert!(rig.switch.holds(&plan));
    assert_eq!(rig.state(), State::Synced);
}

#[test]
fn a_change_is_written_alone() {
    let mut log = log();
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    let mut rig = Rig::connected(planner.plan());
    rig.run(planner.plan());
    rig.switch.actions.clear();
    log.must(Command::Deregister { at: 0, key: key(2), sequence: 2 });
    let delta = planner.update(&log.model);
    rig.reconciler.planned(&delta);
    rig.run(planner.plan());
    assert!(rig.switch.holds(planner.plan()));
    assert_eq!(rig.state(), State::Synced);
    assert_eq!(rig.switch.writes().map(Vec::len).sum::<usize>(), delta.keys().len());
    assert_eq!(rig.switch.reads(), 0);
}

#[test]
fn a_refused_update_is_shown_retried_with_back_off_and_never_taken_as_done() {
    let plan = whole(&log());
    let refused = entries::router_key(RouterIndex(2));
    let mut rig = Rig::connected(&plan);
    rig.switch.pipeline = true;
    rig.switch.refuses.insert(refused);
    rig.run(&plan);
    let status = rig.reconciler.status();
    assert_eq!((status.state, status.refused, status.resyncs), (State::Refused, 1, 0));
    assert!(status.detail.contains("table is full") && status.detail.contains("attempt 1"), "{}", status.detail);

    let attempts = |rig: &Rig| {
        rig.switch.writes().flatten().filter(|u| matches!(u, Update::Insert(e) if e.key() == refused)).count()
    };
    rig.run_for(&plan, Duration::from_secs(30));
    // 0.1 + 0.2 + … + 12.8 s is within 30 s; the tenth attempt would be at 51 s.
    assert_eq!(attempts(&rig), 9);

    rig.switch.refuses.clear();
    rig.run_for(&plan, Duration::from_secs(30));
    assert!(rig.switch.holds(&plan));
    assert_eq!((rig.state(), rig.reconciler.status().resyncs), (State::Synced, 1));
}

#[test]
fn a_new_wish_for_a_refused_key_is_tried_at_once() {
    let mut log = log();
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    let mut rig = Rig::connected(planner.plan());
    rig.switch.pipeline = true;
    rig.switch.refuses.insert(entries::return_source_key(&key(2)));
    rig.run(planner.plan());
    assert_eq!(rig.state(), State::Refused);
    log.must(Command::Deregister { at: 0, key: key(2), sequence: 2 });
    let delta = planner.update(&log.model);
    rig.reconciler.planned(&delta);
    rig.run(planner.plan());
    assert!(rig.switch.holds(planner.plan()), "nothing is wished for any more");
    assert_eq!(rig.reconciler.status().refused, 0);
}

#[test]
fn a_switch_that_lies_is_found_out_without_a_tight_loop() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    rig.switch.pipeline = true;
    rig.switch.forgets.insert(entries::router_key(RouterIndex(1)));
    rig.run(&plan);
    let status = rig.reconciler.status();
    assert_eq!((status.state, status.refused, status.resyncs), (State::Refused, 1, 0));
    assert!(status.detail.contains("does not hold"), "{}", status.detail);
    rig.run_for(&plan, Duration::from_secs(30));
    assert!(rig.switch.reads() < 15, "{} reads in half a minute", rig.switch.reads());
    rig.switch.forgets.clear();
    rig.run_for(&plan, Duration::from_secs(60));
    assert!(rig.switch.holds(&plan));
    assert_eq!(rig.state(), State::Synced);
}

#[test]
fn an_audit_puts_right_what_another_hand_changed() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    rig.run(&plan);
    let gone = entries::router_key(RouterIndex(1));
    rig.switch.entries.remove(&gone);
    rig.switch.rates.clear();
    rig.run_for(&plan, options().audit_every * 2);
    assert!(rig.switch.holds(&plan));
    assert_eq!((rig.state(), rig.reconciler.status().resyncs), (State::Synced, 1));
}

#[test]
fn an_update_that_surprises_leads_to_a_look() {
    let mut log = log();
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    let mut rig = Rig::connected(planner.plan());
    rig.run(planner.plan());
    // The switch lost the entry that is about to be deleted, and another.
    rig.switch.entries.remove(&entries::return_source_key(&key(2)));
    rig.switch.entries.remove(&entries::return_source_key(&key(0)));
    log.must(Command::Deregister { at: 0, key: key(2), sequence: 2 });
    let delta = planner.update(&log.model);
    rig.reconciler.planned(&delta);
    rig.run_for(planner.plan(), Duration::from_secs(1));
    assert!(rig.switch.holds(planner.plan()));
    assert_eq!(rig.state(), State::Synced);
}

#[test]
fn lost_answers_are_not_taken_for_either_outcome() {
    let plan = whole(&log());
    // Lose the answer of each action in turn: check, set, read, each write, verify.
    for lost in 0..12 {
        let mut rig = Rig::connected(&plan);
        for _ in 0..lost {
            let action = rig.reconciler.next(rig.now, &plan);
            if matches!(action, Action::Wait { .. }) {
                break;
            }
            let event = rig.switch.perform(&action);
            rig.reconciler.on(rig.now, &plan, event);
        }
        rig.switch.loses = 2;
        rig.run_for(&plan, Duration::from_secs(130));
        assert!(rig.switch.holds(&plan), "action {lost}");
        assert_eq!(rig.state(), State::Synced, "action {lost}");
    }
}

#[test]
fn answers_from_before_a_reconnect_are_ignored() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    let check = rig.reconciler.next(rig.now, &plan);
    assert_eq!(check, Action::CheckPipeline);
    rig.reconciler.on(rig.now, &plan, Event::Disconnected { why: "gone".into() });
    rig.reconciler.on(rig.now, &plan, Event::Connected);
    assert_eq!(rig.reconciler.next(rig.now, &plan), Action::CheckPipeline);
    rig.reconciler.on(rig.now, &plan, Event::Written(Ok(vec![])));
    assert_eq!(rig.reconciler.next(rig.now, &plan), Action::Wait { until: None }, "the check is still under way");
    rig.reconciler.on(rig.now, &plan, Event::Pipeline(Ok(true)));
    assert_eq!(rig.reconciler.next(rig.now, &plan), Action::ReadBack);
}

#[derive(Debug, Clone)]
enum Fault {
    Register(u16, u32),
    Deregister(u16),
    Refuse(usize),
    Forget(usize),
    Lose(u32),
    Remove(usize),
    Restart,
    Pass(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => (0..6_u16, 7..10_u32).prop_map(|(n, provider)| Fault::Register(n, provider)),
        2 => (0..6_u16).prop_map(Fault::Deregister),
        1 => (0..400_usize).prop_map(Fault::Refuse),
        1 => (0..400_usize).prop_map(Fault::Forget),
        1 => (1..4_u32).prop_map(Fault::Lose),
        1 => (0..400_usize).prop_map(Fault::Remove),
        1 => Just(Fault::Restart),
        3 => (1..5_000_u64).prop_map(Fault::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_the_switch_ends_equal_to_the_plan(faults in prop::collection::vec(fault(), 1..30)) {
        let mut log = log();
        let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
        let mut rig = Rig::connected(planner.plan());
        for (fault, sequence) in faults.iter().zip(10..) {
            let nth = |at: &usize| planner.plan().entries().keys().nth(*at).copied();
            match fault {
                Fault::Register(n, provider) => {
                    log.apply(Command::Register { at: 0, registration: registration(*n, *provider, 1, sequence) });
                }
                Fault::Deregister(n) => {
                    log.apply(Command::Deregister { at: 0, key: key(*n), sequence });
                }
                Fault::Refuse(at) => rig.switch.refuses.extend(nth(at)),
                Fault::Forget(at) => rig.switch.forgets.extend(nth(at)),
                Fault::Lose(count) => rig.switch.loses = *count,
                Fault::Remove(at) => {
                    if let Some(key) = nth(at) {
                        rig.switch.entries.remove(&key);
                    }
                }
                Fault::Restart => {
                    rig.switch = Switch::default();
                    rig.reconciler.on(rig.now, planner.plan(), Event::Disconnected { why: "restarted".into() });
                    rig.reconciler.on(rig.now, planner.plan(), Event::Connected);
                }
                Fault::Pass(time) => rig.run_for(planner.plan(), ms(*time)),
            }
            let delta = planner.update(&log.model);
            rig.reconciler.planned(&delta);
        }
        rig.switch.refuses.clear();
        rig.switch.forgets.clear();
        rig.switch.loses = 0;
        rig.run_for(planner.plan(), Duration::from_secs(300));
        prop_assert!(rig.switch.holds(planner.plan()), "{:?}", rig.reconciler.status());
        let status = rig.reconciler.status();
        prop_assert_eq!((status.state, status.refused, status.pending), (State::Synced, 0, 0));
        prop_assert!(status.resyncs > 0);
    }
}
