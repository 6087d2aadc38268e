//! What fails over is written at once, whatever else the reconciler is about.

use std::time::Duration;

use dmux_wire::{GatewayId, ProviderId};

use super::super::{Action, Entry, Event, Planner, State, Update, entries};
use super::rig::{Rig, assert_ordered, log, ms, options};
use super::{Log, OWN, key, registration, site};
use crate::model::{Destination, RouterIndex};
use crate::selection::{Local, Selection};

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
    assert!(writes[0].iter().all(|update| matches!(update, Update::Modify(Entry::Demux(..), _))), "{:?}", writes[0]);
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
    assert_eq!(first, [Update::Modify(demux, None)], "the last one of provider 7 is in the switch already");
    assert_ordered(planner.plan(), rig.switch.writes().skip(1), options().batch);
}

/// Gateways 2 and 3, of which 2 is closer, have two routers of each of three providers; the switch is whole, and an audit
/// is under way.
struct Audited {
    log: Log,
    local: Local,
    planner: Planner,
    rig: Rig,
    /// What the audit reads: the switch as it was when it began.
    read: Event,
}

impl Audited {
    fn new() -> Self {
        let mut log = Log::new([1, 2, 3]);
        for n in 0..6 {
            log.register(registration(n, 7 + u32::from(n / 2), 2, 1));
            log.register(registration(100 + n, 7 + u32::from(n / 2), 3, 1));
        }
        let mut local = Local::new(OWN);
        local.rtts.extend([(GatewayId(2), ms(5)), (GatewayId(3), ms(20))]);
        let planner = Planner::new(site(), &log.model, local.clone(), &Selection::default());
        let mut rig = Rig::connected(planner.plan());
        rig.run(planner.plan());
        let mut audited = Self { log, local, planner, rig, read: Event::ReadBack(Ok(Default::default())) };
        audited.audit();
        audited
    }

    fn audit(&mut self) {
        self.rig.now += options().audit_every;
        assert_eq!(self.next(), Action::ReadBack);
        self.read = self.rig.switch.perform(&Action::ReadBack);
        self.rig.switch.actions.clear();
    }

    /// Gateway 2 stops answering, or answers again.
    fn unreachable(&mut self, is: bool) {
        if is {
            self.local.unreachable.insert(GatewayId(2));
        } else {
            self.local.unreachable.clear();
        }
        let delta = self.planner.observe(&self.log.model, self.local.clone());
        assert!(!delta.is_empty());
        self.rig.reconciler.planned(&delta);
    }

    fn next(&mut self) -> Action {
        self.rig.reconciler.next(self.rig.now, self.planner.plan())
    }

    fn on(&mut self, event: Event) {
        self.rig.reconciler.on(self.rig.now, self.planner.plan(), event);
    }

    /// The write that fails over, which has to be what is done next.
    fn failover(&mut self) -> Action {
        let action = self.next();
        let Action::Write(updates) = &action else { panic!("{action:?}") };
        assert!(updates.iter().all(|update| matches!(update, Update::Modify(Entry::Demux(..), _))), "{updates:?}");
        assert_eq!(updates.len(), self.log.model.destinations().len());
        action
    }

    /// The switch is whole without another write, and is known to be.
    fn is_whole(&mut self) {
        self.rig.switch.actions.clear();
        self.rig.run(self.planner.plan());
        assert_eq!(self.rig.switch.writes().count(), 0, "{:?}", self.rig.switch.actions);
        assert!(self.rig.switch.holds(self.planner.plan()));
        let status = self.rig.reconciler.status();
        assert_eq!((status.state, status.refused, status.pending), (State::Synced, 0, 0), "{}", status.detail);
    }
}

#[test]
fn failing_over_does_not_wait_for_an_audit_that_reads() {
    let mut it = Audited::new();
    it.unreachable(true);
    let write = it.failover();
    assert_eq!(it.rig.state(), State::Verifying, "the audit is still under way");
    let written = it.rig.switch.perform(&write);
    it.on(written);
    // The audit shows `demux` as it was before: that says nothing of what was written since.
    it.on(it.read.clone());
    it.is_whole();
}

#[test]
fn an_audit_is_answered_while_a_failover_is_being_written() {
    let mut it = Audited::new();
    it.unreachable(true);
    let write = it.failover();
    it.on(it.read.clone());
    assert_eq!(it.next(), Action::Wait { until: None }, "the write is still under way");
    let written = it.rig.switch.perform(&write);
    it.on(written);
    it.is_whole();
}

#[test]
fn failing_over_and_back_within_one_audit_leaves_nothing_behind() {
    let mut it = Audited::new();
    it.unreachable(true);
    let write = it.failover();
    it.unreachable(false);
    assert_eq!(it.next(), Action::Wait { until: None }, "one write at a time");
    let written = it.rig.switch.perform(&write);
    it.on(written);
    let write = it.failover();
    it.on(it.read.clone());
    let written = it.rig.switch.perform(&write);
    it.on(written);
    it.is_whole();
}

#[test]
fn what_was_not_written_meanwhile_is_judged_by_the_audit() {
    let mut it = Audited::new();
    // Another hand removed a router before the audit read.
    let gone = entries::router_key(RouterIndex(1));
    it.rig.switch.entries.remove(&gone);
    it.read = it.rig.switch.perform(&Action::ReadBack);
    it.unreachable(true);
    let write = it.failover();
    let written = it.rig.switch.perform(&write);
    it.on(written);
    it.on(it.read.clone());
    assert_eq!(it.rig.reconciler.status().refused, 1, "{}", it.rig.reconciler.status().detail);
    it.rig.run_for(it.planner.plan(), Duration::from_secs(1));
    assert!(it.rig.switch.entries.contains_key(&gone));
    it.is_whole();
}

#[test]
fn an_audit_that_a_lost_write_may_have_overtaken_is_done_again() {
    let mut it = Audited::new();
    it.unreachable(true);
    it.failover();
    // It did not arrive, which nobody knows; what was read meanwhile may be from before or after.
    it.on(Event::Written(Err("deadline exceeded".into())));
    assert_eq!(it.rig.state(), State::Reading);
    it.on(it.read.clone());
    assert!(matches!(it.next(), Action::Wait { until: Some(_) }), "a pause first");
    it.rig.now += options().retry_min;
    assert_eq!(it.next(), Action::ReadBack);
    let read = it.rig.switch.perform(&Action::ReadBack);
    it.on(read);
    let write = it.failover();
    let written = it.rig.switch.perform(&write);
    it.on(written);
    it.is_whole();
}

#[test]
fn failing_over_waits_for_one_batch_of_many() {
    let mut it = Audited::new();
    let read = it.read.clone();
    it.on(read);
    // Two providers' worth of routers come, and gateway 2 goes when the first batch is on its way.
    for n in 200..500 {
        it.log.register(registration(n, 50 + u32::from(n % 2), 1, 1));
    }
    let delta = it.planner.update(&it.log.model);
    it.rig.reconciler.planned(&delta);
    let bulk = it.next();
    let Action::Write(updates) = &bulk else { panic!("{bulk:?}") };
    assert_eq!(updates.len(), options().batch);
    it.unreachable(true);
    let written = it.rig.switch.perform(&bulk);
    it.on(written);
    let action = it.next();
    let Action::Write(updates) = &action else { panic!("{action:?}") };
    let providers: Vec<_> = [7, 8, 9].map(|n| Destination { protocol: super::P41, provider: ProviderId(n) }).into();
    let written: Vec<_> = updates
        .iter()
        .map(|update| match update {
            Update::Modify(entry @ Entry::Demux(..), _) => entry.key(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(written, providers.into_iter().map(entries::demux_key).collect::<Vec<_>>());
    assert!(it.rig.reconciler.status().pending > options().batch, "the others are still to come");
}
