//! Metalinks in the plan: their entries and meters, by change; what the site has no place for; and what a switch makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dmux_tables::{
    DiscoveryPortKey, EndpointAction, EndpointIndex, MetalinkRxAction, MetalinkRxKey, MetalinkTxAction, MetalinkTxKey,
    PortId, Priority8, VlanId,
};
use dmux_wire::{MacAddr, ProtocolId, ProviderId};

use super::super::{CONTROL_RATE, DISCOVERY_RATE, Entry, Key, MeterRate, Plan, Planner, State, Unfit, Update};
use super::rig::{Rig, assert_ordered, ms, options};
use super::{Log, OWN, access_site};
use crate::model::{
    AccessLink, Admission, Claim, Command, Destination, Endpoint, LeaseKind, LinkKey, MetalinkId, Metanet, Mli, Model,
    OutOfProfile, Reply,
};
use crate::selection::{Local, Selection};

pub(super) const METANET: Destination = Destination { protocol: ProtocolId(41), provider: ProviderId(7) };
const SECOND: Destination = Destination { protocol: ProtocolId(42), provider: ProviderId::ANY };
const PORT: PortId = PortId::of::<3>();

pub(super) fn endpoint(n: u16, port: u16) -> Endpoint {
    let [high, low] = n.to_be_bytes();
    Endpoint { port, mac: MacAddr([2, 0, 0, 9, high, low]) }
}

fn link(name: &str) -> LinkKey {
    LinkKey { gateway: OWN, name: name.into() }
}

pub(super) fn put_link(name: &str, out_of_profile: OutOfProfile) -> Command {
    let link = AccessLink {
        key: link(name),
        capacity: 1_000_000_000_000,
        endpoint_maximum: 1_000_000_000_000,
        short_lease_ms: 60_000,
        long_lease_ms: 60_000,
        out_of_profile,
        authenticate: false,
    };
    Command::PutAccessLink { at: 0, link }
}

pub(super) fn put_metanet(id: Destination, multipoint: bool) -> Command {
    let (allow, deny) = Default::default();
    let name = "a metanet".into();
    let metanet = Metanet { id, name, admission: Admission::ByOperator, allow, deny, multipoint };
    Command::PutMetanet { at: 0, metanet }
}

pub(super) fn claim(endpoint: Endpoint, name: &str, metanet: Destination, rate: u64, request: u64) -> Command {
    let lease = LeaseKind::Long;
    let claim = Claim { link: link(name), endpoint, metanet, rate, lease, request, by_operator: true };
    Command::ClaimMetalink { at: 0, claim }
}

/// The switch of a site with two access links, to which two metanets lead.
pub(super) fn access_log() -> Log {
    let mut log = Log::new([1, 2]);
    for name in ["floor-1", "floor-2", "attic"] {
        log.must(put_link(name, OutOfProfile::Drop));
    }
    for id in [METANET, SECOND] {
        log.must(put_metanet(id, false));
    }
    log
}

impl Log {
    pub(super) fn claimed(&mut self, command: Command) -> MetalinkId {
        match self.apply(command) {
            Reply::Metalink { mli, .. } => MetalinkId { gateway: OWN, mli },
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn release(&mut self, metalink: MetalinkId) {
        self.must(Command::ReleaseMetalink { at: 1, metalink });
    }
}

pub(super) fn planner(log: &Log) -> Planner {
    Planner::new(access_site(), &log.model, Local::new(OWN), &Selection::default())
}

fn numbers(plan: &Plan) -> BTreeMap<Endpoint, EndpointIndex> {
    let number = |entry: &Entry| match entry {
        Entry::Endpoint(key, EndpointAction::SetEndpoint { endpoint }) => {
            Some((Endpoint { port: key.port.get(), mac: key.src }, *endpoint))
        }
        _ => None,
    };
    plan.entries().values().filter_map(number).collect()
}

/// What there has to be of metalinks, given who has which number: all ports of the site's have VLAN 100, priority 5, queue 7.
pub(super) fn reference(model: &Model, local: &Local, plan: &Plan) -> (BTreeMap<Key, Entry>, BTreeMap<Key, MeterRate>) {
    let links = BTreeMap::from([(3, "floor-1"), (4, "floor-1"), (5, "floor-2")]);
    let numbers = numbers(plan);
    assert_eq!(numbers.values().collect::<BTreeSet<_>>().len(), numbers.len(), "two endpoints have one number");
    let (mut entries, mut meters) = (BTreeMap::new(), BTreeMap::new());
    let mut put = |entry: Entry, rate: Option<MeterRate>| {
        meters.extend(rate.map(|rate| (entry.key(), rate)));
        entries.insert(entry.key(), entry);
    };
    let all: Vec<_> = model
        .metalinks_from(std::ops::Bound::Unbounded)
        .filter(|m| m.link.gateway == local.gateway && links.get(&m.endpoint.port) == Some(&m.link.name.as_str()))
        .collect();
    let attached = local.attached.iter().copied().filter(|endpoint| links.contains_key(&endpoint.port));
    for endpoint in attached.chain(all.iter().map(|m| m.endpoint)) {
        let number = numbers[&endpoint];
        let port = PortId::new(endpoint.port).unwrap();
        let key = dmux_tables::EndpointKey { port, src: endpoint.mac };
        put((key, EndpointAction::SetEndpoint { endpoint: number }).into(), None);
        let key = MetalinkRxKey { endpoint: number, mli: dmux_tables::Mli::CONTROL };
        let action = MetalinkRxAction::MetalinkControl { cell: 16_383 + number.0 };
        put((key, action).into(), Some(CONTROL_RATE));
    }
    for metalink in all {
        let (cell, rate) = (metalink.cell.0.into(), Some(MeterRate::of_bits(metalink.rate)));
        let mli = dmux_tables::Mli::new(metalink.mli.0).unwrap();
        let Destination { protocol, provider } = metalink.metanet;
        let police = match model.access_link(&metalink.link).unwrap().out_of_profile {
            OutOfProfile::Drop => dmux_tables::OutOfProfile::Drop,
            OutOfProfile::ReportOnly => dmux_tables::OutOfProfile::ReportOnly,
        };
        let key = MetalinkRxKey { endpoint: numbers[&metalink.endpoint], mli };
        put((key, MetalinkRxAction::Metalink { protocol, provider, cell, police }).into(), rate);
        let port = metalink.endpoint.port;
        let action = MetalinkTxAction::SendMetalink {
            port: PortId::new(port).unwrap(),
            src_mac: MacAddr([2, 0, 0, 0, 1, port as u8]),
            dst_mac: metalink.endpoint.mac,
            vid: VlanId::new(100).unwrap(),
            pcp: Priority8::new(5).unwrap(),
            queue: Priority8::new(7).unwrap(),
            mtu: 1_496,
            cell,
        };
        put((MetalinkTxKey { gateway: OWN, mli, protocol }, action).into(), rate);
    }
    // These entries are the gateway's, whatever endpoints there are.
    let ports = links.keys().filter(|_| model.gateway(local.gateway).is_some());
    let discovery = |&port: &u16| {
        let key = DiscoveryPortKey { port: PortId::new(port).unwrap() };
        (Key::from(key), MeterRate::from(DISCOVERY_RATE))
    };
    meters.extend(ports.map(discovery));
    (entries, meters)
}

/// The entries of the plan that there are for metalinks.
pub(super) fn of_metalinks(plan: &Plan) -> BTreeMap<Key, Entry> {
    let ours = |key: &Key| matches!(key, Key::Endpoint(_) | Key::MetalinkRx(_) | Key::MetalinkTx(_));
    plan.entries().iter().filter(|(key, _)| ours(key)).map(|(key, entry)| (*key, *entry)).collect()
}

fn is_right(planner: &Planner, model: &Model) {
    let (entries, meters) = reference(model, planner.local(), planner.plan());
    assert_eq!(of_metalinks(planner.plan()), entries);
    assert_eq!(planner.plan().meters(), &meters);
    let whole = planner.afresh(model);
    assert_eq!((whole.plan(), whole.unfit().count()), (planner.plan(), planner.unfit().count()));
}

#[test]
fn one_metalink_among_ten_thousand_costs_its_own_entries() {
    let mut log = access_log();
    for n in 0..10_000 {
        log.claimed(claim(endpoint(n, 3), "floor-1", METANET, 15_000_001, 1));
    }
    let mut planner = planner(&log);
    is_right(&planner, &log.model);
    let new = log.claimed(claim(endpoint(10_000, 4), "floor-1", METANET, 30_000_000, 1));
    assert_eq!(planner.update(&log.model).keys().len(), 4, "endpoint, control MLI, and both directions");
    let second = log.claimed(claim(endpoint(10_000, 4), "floor-1", SECOND, 30_000_000, 1));
    assert_eq!(planner.update(&log.model).keys().len(), 2, "the endpoint is there");
    is_right(&planner, &log.model);
    log.must(Command::AdjustMetalink { at: 1, metalink: new, rate: 29_999_992 });
    assert_eq!(planner.update(&log.model).keys().len(), 2, "its two meters");
    log.must(Command::RenewMetalinks { at: 1, metalinks: vec![new] });
    assert!(planner.update(&log.model).is_empty(), "a lease is not the switch's business");
    is_right(&planner, &log.model);
    log.release(new);
    assert_eq!(planner.update(&log.model).keys().len(), 2);
    log.release(second);
    assert_eq!(planner.update(&log.model).keys().len(), 4);
    is_right(&planner, &log.model);
    assert!(log.model.changes_since(log.model.applied() - 1).is_some());
}

#[test]
fn what_the_site_has_no_place_for_is_told_and_not_planned() {
    let mut log = access_log();
    let mut planner = planner(&log);
    let nowhere = log.claimed(claim(endpoint(1, 3), "attic", METANET, 1_000, 1));
    let elsewhere = log.claimed(claim(endpoint(2, 5), "floor-1", METANET, 1_000, 1));
    let nothing = log.claimed(claim(endpoint(3, 77), "floor-1", METANET, 1_000, 1));
    assert!(planner.update(&log.model).is_empty());
    let why: BTreeMap<_, _> = planner.unfit().map(|(mli, why)| (mli, why.clone())).collect();
    let not_its = |port| Unfit::NotItsPort { port, link: "floor-1".into() };
    let expected = [(nowhere, Unfit::NoSuchLink("attic".into())), (elsewhere, not_its(5)), (nothing, not_its(77))];
    assert_eq!(why, expected.into_iter().map(|(id, why)| (id.mli, why)).collect());
    is_right(&planner, &log.model);
    // A later claim of the same owner's moves it to where it is.
    assert_eq!(log.claimed(claim(endpoint(2, 5), "floor-2", METANET, 1_000, 2)), elsewhere);
    log.release(nowhere);
    log.release(nothing);
    assert_eq!(planner.update(&log.model).keys().len(), 4);
    assert_eq!(planner.unfit().count(), 0);
    is_right(&planner, &log.model);
}

#[test]
fn whoever_is_attached_may_speak_of_metalinks_and_nothing_else() {
    let mut log = access_log();
    let mut planner = planner(&log);
    let (one, elsewhere) = (endpoint(1, 3), endpoint(2, 9));
    assert_eq!(planner.attach([(one, true), (elsewhere, true)]).keys().len(), 2, "port 9 is on no access link");
    is_right(&planner, &log.model);
    assert!(planner.attach([(one, true)]).is_empty());
    let metalink = log.claimed(claim(one, "floor-1", METANET, 1_000, 1));
    assert_eq!(planner.update(&log.model).keys().len(), 2);
    assert!(planner.attach([(one, false), (elsewhere, false)]).is_empty(), "its metalink keeps it attached");
    is_right(&planner, &log.model);
    let attached = Arc::new([one].into());
    assert!(planner.observe(&log.model, Local { attached, ..Local::new(OWN) }).is_empty());
    log.release(metalink);
    assert_eq!(planner.update(&log.model).keys().len(), 2);
    assert_eq!(planner.observe(&log.model, Local::new(OWN)).keys().len(), 2);
    assert_eq!(of_metalinks(planner.plan()), BTreeMap::new());
    is_right(&planner, &log.model);
}

#[test]
fn a_policy_is_of_all_metalinks_of_its_access_link() {
    let mut log = access_log();
    for n in 0..5 {
        log.claimed(claim(endpoint(n, 3), "floor-1", METANET, 1_000, 1));
    }
    log.claimed(claim(endpoint(9, 5), "floor-2", METANET, 1_000, 1));
    let mut planner = planner(&log);
    log.must(put_link("floor-1", OutOfProfile::ReportOnly));
    let delta = planner.update(&log.model);
    assert_eq!(delta.keys().len(), 5, "what they send upstream");
    is_right(&planner, &log.model);
}

#[test]
fn a_controller_that_starts_leaves_endpoints_their_numbers() {
    let mut log = access_log();
    let mut old = planner(&log);
    let claims: Vec<_> = (0..4).map(|n| log.claimed(claim(endpoint(n, 3), "floor-1", METANET, 1_000, 1))).collect();
    old.update(&log.model);
    log.release(claims[0]);
    old.update(&log.model);
    let mut new = planner(&log);
    assert_ne!(numbers(new.plan()), numbers(old.plan()), "or this shows nothing");
    new.adopt(&log.model, old.plan().entries().values());
    assert_eq!(new.plan(), old.plan());
    let late = log.claimed(claim(endpoint(7, 3), "floor-1", METANET, 1_000, 1));
    for planner in [&mut old, &mut new] {
        planner.update(&log.model);
        assert_eq!(planner.metalink_keys(late.mli).len(), 3);
        is_right(planner, &log.model);
        assert_eq!(numbers(planner.plan())[&endpoint(7, 3)], EndpointIndex(5));
    }
}

#[test]
fn a_shared_mli_is_one_of_all_access_links() {
    let mut log = access_log();
    let mut planner = planner(&log);
    let shared = |planner: &Planner| -> Vec<(u16, u32)> {
        let key = |key: &Key| if let Key::SharedMli(key) = key { Some((key.link.0, key.mli.get())) } else { None };
        planner.plan().entries().keys().filter_map(key).collect()
    };
    assert_eq!(shared(&planner), []);
    log.must(put_metanet(METANET, true));
    assert_eq!(planner.update(&log.model).keys().len(), 2);
    let mli = log.model.shared_mli(METANET).unwrap().0;
    assert_eq!(shared(&planner), [(1, mli), (2, mli)]);
    is_right(&planner, &log.model);
    log.must(put_metanet(METANET, false));
    assert_eq!(planner.update(&log.model).keys().len(), 2);
    assert_eq!(shared(&planner), []);
}

pub(super) fn ready() -> (Log, Planner, Rig) {
    let mut log = access_log();
    log.claimed(claim(endpoint(1, 3), "floor-1", METANET, 15_000_000, 1));
    let planner = planner(&log);
    let mut rig = Rig::connected(planner.plan());
    rig.run(planner.plan());
    assert_eq!(rig.state(), State::Synced);
    (log, planner, rig)
}

#[test]
fn a_metalink_is_programmed_in_order_and_with_its_meter() {
    let (mut log, mut planner, mut rig) = ready();
    assert_ordered(planner.plan(), rig.switch.writes(), options().batch);
    assert!(rig.switch.holds(planner.plan()));
    let new = log.claimed(claim(endpoint(2, 3), "floor-1", METANET, 30_000_000, 1));
    rig.reconciler.planned(&planner.update(&log.model));
    let keys = planner.metalink_keys(new.mli);
    assert!(keys.len() == 3 && !rig.reconciler.holds(planner.plan(), &keys));
    let before = rig.switch.actions.len();
    rig.run(planner.plan());
    assert!(rig.reconciler.holds(planner.plan(), &keys));
    let writes: Vec<_> = rig.switch.writes().skip(rig.switch.writes().count() - 2).cloned().collect();
    assert_ordered(planner.plan(), writes.iter(), options().batch);
    let is_endpoint =
        |update: &Update| matches!(update, Update::Insert(Entry::Endpoint(key, _), None) if key.port == PORT);
    assert!(writes.len() == 2 && writes[1].iter().all(is_endpoint), "{writes:?}");
    assert_eq!(rig.switch.actions.len() - before, 2, "nothing else was asked");
    log.release(new);
    rig.reconciler.planned(&planner.update(&log.model));
    rig.run(planner.plan());
    assert!(rig.switch.holds(planner.plan()));
    let last: Vec<_> = rig.switch.writes().skip(rig.switch.writes().count() - 2).collect();
    assert!(matches!(last[0][..], [Update::Delete(Entry::Endpoint(..))]), "{last:?}");
}

#[test]
fn a_rate_that_the_target_rounds_is_left_and_another_is_put_right() {
    let (mut log, mut planner, mut rig) = ready();
    let metalink = MetalinkId { gateway: OWN, mli: Mli(1) };
    let key = *planner.metalink_keys(Mli(1)).last().unwrap();
    // The target rounds.
    rig.switch.meters.insert(key, MeterRate { per_second: 1_870_000, burst: 32_768 });
    let writes = rig.switch.writes().count();
    rig.run_for(planner.plan(), options().audit_every * 2);
    assert_eq!((rig.state(), rig.switch.writes().count()), (State::Synced, writes));
    // A new rate that differs by less than rounding may is written all the same.
    log.must(Command::AdjustMetalink { at: 1, metalink, rate: 14_960_000 });
    rig.reconciler.planned(&planner.update(&log.model));
    rig.run(planner.plan());
    assert!(rig.switch.holds(planner.plan()));
    // Somebody else's hand.
    for other in [None, Some(MeterRate { per_second: 1, burst: 1 })] {
        match other {
            Some(rate) => rig.switch.meters.insert(key, rate),
            None => rig.switch.meters.remove(&key),
        };
        rig.run_for(planner.plan(), options().audit_every * 2);
        assert!(rig.switch.holds(planner.plan()), "{other:?}");
    }
    // After a reconnect nobody knows what it was set to, so it is set again.
    rig.switch.meters.insert(key, MeterRate { per_second: 1_860_000, burst: 32_768 });
    rig.reconciler.on(rig.now, planner.plan(), super::super::Event::Connected);
    rig.run(planner.plan());
    assert!(rig.switch.holds(planner.plan()));
}

#[test]
fn a_refusal_that_will_not_go_away_is_told_from_one_that_may() {
    let (mut log, mut planner, mut rig) = ready();
    let new = log.claimed(claim(endpoint(2, 3), "floor-1", METANET, 30_000_000, 1));
    rig.reconciler.planned(&planner.update(&log.model));
    let key = *planner.metalink_keys(new.mli).last().unwrap();
    rig.switch.refuses.insert(key);
    rig.run(planner.plan());
    let refused: Vec<_> = rig.reconciler.refused().map(|(key, why)| (*key, why.to_owned())).collect();
    assert_eq!(refused, [(key, "table is full (code 8)".to_owned())]);
    assert_eq!(planner.metalinks_of(&key), [new.mli]);
    assert!(!rig.reconciler.holds(planner.plan(), &planner.metalink_keys(new.mli)));
    // Given back, everything is as before.
    log.release(new);
    rig.reconciler.planned(&planner.update(&log.model));
    rig.run_for(planner.plan(), ms(60_000));
    assert_eq!((rig.state(), rig.reconciler.refused().count()), (State::Synced, 0));
    assert!(rig.switch.holds(planner.plan()));
}
