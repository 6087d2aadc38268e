//! The reconciler against a switch that misbehaves.

use std::time::Duration;

use dmux_tables::PortId;
use proptest::prelude::*;

use super::super::{Action, Event, Foreign, Planner, ReadBack, State, Update, diff, entries};
use super::access::station;
use super::rig::{Rig, Switch, assert_ordered, log, ms, options, whole};
use super::{Log, OWN, access_site, key, registration, site};
use crate::model::{Command, Destination, RouterIndex};
use crate::selection::{Local, Selection};

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
    let read = ReadBack { entries: plan.entries().clone(), ..ReadBack::default() };
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
        rig.switch.writes().flatten().filter(|u| matches!(u, Update::Insert(e, _) if e.key() == refused)).count()
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
    RemoveFixture(usize),
    Station(u8, Option<u16>),
    Restart,
    Pass(u64),
    /// Whether read-backs are answered at once, or only when the plan has changed meanwhile.
    SlowReads(bool),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => (0..6_u16, 7..10_u32).prop_map(|(n, provider)| Fault::Register(n, provider)),
        2 => (0..6_u16).prop_map(Fault::Deregister),
        1 => (0..400_usize).prop_map(Fault::Refuse),
        1 => (0..400_usize).prop_map(Fault::Forget),
        1 => (1..4_u32).prop_map(Fault::Lose),
        1 => (0..400_usize).prop_map(Fault::Remove),
        1 => (0..3_usize).prop_map(Fault::RemoveFixture),
        2 => (0..4_u8, prop::option::of(3..5_u16)).prop_map(|(n, port)| Fault::Station(n, port)),
        1 => Just(Fault::Restart),
        3 => (1..100_000_u64).prop_map(Fault::Pass),
        2 => any::<bool>().prop_map(Fault::SlowReads),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_the_switch_ends_equal_to_the_plan(faults in prop::collection::vec(fault(), 1..30)) {
        let mut log = log();
        let mut planner = Planner::new(access_site(), &log.model, Local::new(OWN), &Selection::default());
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
                Fault::RemoveFixture(at) => {
                    if let Some(&key) = planner.plan().fixtures().keys().nth(*at) {
                        rig.switch.fixtures.remove(&key);
                    }
                }
                Fault::Station(n, at) => {
                    let delta = planner.learn([(station(*n), at.and_then(PortId::new))]);
                    rig.reconciler.planned(&delta);
                }
                Fault::Restart => {
                    rig.switch = Switch::default();
                    rig.answer = None;
                    rig.reconciler.on(rig.now, planner.plan(), Event::Disconnected { why: "restarted".into() });
                    rig.reconciler.on(rig.now, planner.plan(), Event::Connected);
                }
                Fault::Pass(time) => rig.run_for(planner.plan(), ms(*time)),
                Fault::SlowReads(slow) => rig.slow_reads = *slow,
            }
            let delta = planner.update(&log.model);
            rig.reconciler.planned(&delta);
        }
        rig.switch.refuses.clear();
        rig.switch.forgets.clear();
        rig.switch.loses = 0;
        rig.slow_reads = false;
        rig.run_for(planner.plan(), Duration::from_secs(300));
        prop_assert!(rig.switch.holds(planner.plan()), "{:?}", rig.reconciler.status());
        let status = rig.reconciler.status();
        prop_assert_eq!((status.state, status.refused, status.pending), (State::Synced, 0, 0));
        prop_assert!(status.resyncs > 0);
    }
}
