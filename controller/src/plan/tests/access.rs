//! Access links: their description, their entries and groups, and how a switch gets these.

use std::collections::BTreeSet;
use std::sync::Arc;

use dmux_tables::{
    AccessLinkIndex, AccessPortAction, AccessPortKey, AccessPortTable, AccessVlanAction, AccessVlanKey,
    AccessVlanTable, DiscoveryPortAction, DiscoveryPortKey, LanForwardAction, LanForwardKey, LanSourceAction,
    LanSourceDigest, LanSourceKey, MulticastGroup, PortId, PortRole, PortRoleAction, PortRoleKey, Table,
    ViolationDigest, VlanId,
};
use dmux_wire::{MacAddr, PuntReason};

use super::super::site::MAX_PORT;
use super::super::{
    DISCOVERY_RATE, Entry, Event, Fixture, FixtureKey, Key, Plan, Planner, PuntRate, STATION_DIGESTS, SiteConfig,
    SiteError, State, Update, VIOLATION_DIGESTS, diff, plan,
};
use super::rig::{Rig, Switch, assert_ordered, entry_floods_to, log, options, whole};
use super::{ACCESS, Log, OWN, SITE, access_site, gateway, site};
use crate::selection::{Local, Selection};
use crate::stations::Station;

const FIRST: AccessLinkIndex = AccessLinkIndex(1);

/// Stations of the first access link: two of them share an address on two VLANs.
pub(super) fn station(n: u8) -> Station {
    Station { link: FIRST, vid: VlanId::new(200 * u16::from(n % 2)).unwrap(), mac: MacAddr([6, 0, 0, 0, 0, n / 2]) }
}

fn port(port: u16) -> PortId {
    PortId::new(port).unwrap()
}

fn planned(site: &SiteConfig, local: &Local) -> Plan {
    plan(&Log::new([1, 2]).model, local, site, &Selection::default()).0
}

fn groups(plan: &Plan) -> Vec<(u16, Vec<u16>)> {
    let group = |fixture: &Fixture| match fixture {
        Fixture::Group(id, ports) => Some((id.0, ports.iter().map(|port| port.get()).collect())),
        Fixture::Digest(..) => None,
    };
    plan.fixtures().values().filter_map(group).collect()
}

#[test]
fn access_links_add_exactly_this() {
    let local = Local::new(OWN);
    let without: BTreeSet<Entry> = planned(&site(), &local).entries().values().copied().collect();
    let plan = planned(&access_site(), &local);
    let with: BTreeSet<Entry> = plan.entries().values().copied().collect();
    assert!(without.is_subset(&with));
    let mut expected: BTreeSet<Entry> = BTreeSet::new();
    for (number, link) in [(3, 1), (4, 1), (5, 2)] {
        let mac = MacAddr([2, 0, 0, 0, 1, number as u8]);
        let port = port(number);
        expected.insert((PortRoleKey { port }, PortRoleAction::SetRole { role: PortRole::Access, mac }).into());
        expected.insert((DiscoveryPortKey { port }, DiscoveryPortAction::Discover).into());
        let action = AccessPortAction::SetAccessLink {
            link: AccessLinkIndex(link),
            flood_group: MulticastGroup(link),
            gateway: OWN,
            gateway_addr: gateway(1).unicast,
        };
        expected.insert((AccessPortKey { port }, action).into());
    }
    for (link, vid, action) in [
        (1, 100, AccessVlanAction::Provisioned),
        (1, 200, AccessVlanAction::Multipoint),
        (2, 100, AccessVlanAction::Provisioned),
        (2, 300, AccessVlanAction::Multipoint),
    ] {
        expected.insert((AccessVlanKey { link: AccessLinkIndex(link), vid: VlanId::new(vid).unwrap() }, action).into());
    }
    assert_eq!(with.difference(&without).copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(groups(&plan), [(1, vec![3, 4]), (2, vec![5])]);
    for (id, rate) in [(LanSourceDigest::ID, STATION_DIGESTS), (ViolationDigest::ID, VIOLATION_DIGESTS)] {
        assert_eq!(plan.fixtures().get(&FixtureKey::Digest(id)), Some(&Fixture::Digest(id, Some(rate))));
    }
    assert!(planned(&site(), &local).fixtures().is_empty(), "nothing to bridge, nothing to hear of");
}

#[test]
fn a_gateway_that_the_cluster_does_not_know_bridges_nothing() {
    let (plan, _) = plan(&Log::new([2]).model, &Local::new(OWN), &access_site(), &Selection::default());
    assert!(plan.entries().values().all(|entry| entry_floods_to(entry).is_none()));
}

#[test]
fn a_station_is_known_where_it_sends_from_and_found_there() {
    let mut planner = Planner::new(access_site(), &log().model, Local::new(OWN), &Selection::default());
    let before: BTreeSet<Entry> = planner.plan().entries().values().copied().collect();
    let one = station(1);
    let (vid, mac) = (one.vid, one.mac);
    let at = |number| -> BTreeSet<Entry> {
        let port = port(number);
        BTreeSet::from([
            (LanSourceKey { port, vid, src: mac }, LanSourceAction::KnownSource).into(),
            (LanForwardKey { link: FIRST, vid, dst: mac }, LanForwardAction::ToPort { port }).into(),
        ])
    };
    let more = |planner: &Planner| -> BTreeSet<Entry> {
        let all: BTreeSet<Entry> = planner.plan().entries().values().copied().collect();
        all.difference(&before).copied().collect()
    };
    assert_eq!(planner.learn([(one, Some(port(3)))]).keys().len(), 2);
    assert_eq!(more(&planner), at(3));
    assert!(planner.learn([(one, Some(port(3)))]).is_empty());
    assert_eq!(planner.learn([(one, Some(port(4)))]).keys().len(), 3, "the old place, the new one, the way there");
    assert_eq!(more(&planner), at(4));
    // What was learnt by change is what an observation of it says.
    let stations = Arc::new([(one, port(4))].into());
    assert_eq!(planner.local(), &Local { stations, ..Local::new(OWN) });
    assert_eq!(planner.learn([(one, None)]).keys().len(), 2);
    assert_eq!(more(&planner), BTreeSet::new());
}

#[test]
fn a_group_is_there_before_the_entries_that_flood_to_it_and_goes_after() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    rig.run(&plan);
    assert_ordered(&plan, rig.switch.writes(), options().batch);
    let written: Vec<&Update> = rig.switch.writes().flatten().collect();
    let floods = |update: &&Update| matches!(update, Update::Insert(entry, _) if entry_floods_to(entry).is_some());
    let first = written.iter().position(floods).unwrap();
    let groups = written.iter().rposition(|update| matches!(update, Update::InsertFixture(_))).unwrap();
    assert!(groups < first, "{groups} and {first}");

    // The rig refuses to delete a group that an entry refers to.
    let (without, _) = super::super::plan(&log().model, &Local::new(OWN), &site(), &Selection::default());
    let batches = diff(rig.switch.read(), &without, 10);
    assert_ordered(&without, batches.iter(), 10);
    for update in batches.iter().flatten() {
        assert_eq!(rig.switch.write(update), Ok(()), "{update:?}");
    }
    assert!(rig.switch.holds(&without));
}

#[test]
fn an_audit_puts_groups_and_digests_right() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    rig.run(&plan);
    let unlike = Fixture::Group(MulticastGroup(1), BTreeSet::new());
    rig.switch.fixtures.insert(unlike.key(), unlike);
    rig.switch.fixtures.remove(&FixtureKey::Group(MulticastGroup(2)));
    rig.switch.fixtures.remove(&FixtureKey::Digest(LanSourceDigest::ID));
    let foreign = Fixture::Group(MulticastGroup(77), [port(1)].into());
    rig.switch.fixtures.insert(foreign.key(), foreign);
    assert!(!rig.switch.holds(&plan));
    rig.run_for(&plan, options().audit_every * 2);
    assert!(rig.switch.holds(&plan), "{:?}", rig.switch.fixtures);
    assert_eq!(rig.state(), State::Synced);
}

#[test]
fn a_group_that_is_refused_is_shown_and_tried_again() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    rig.switch.pipeline = true;
    rig.switch.refuses_fixtures.insert(FixtureKey::Group(MulticastGroup(2)));
    rig.run(&plan);
    let status = rig.reconciler.status();
    assert_eq!((status.state, status.refused), (State::Refused, 1));
    assert!(status.detail.contains("multicast group 2: no more groups"), "{}", status.detail);
    rig.switch.refuses_fixtures.clear();
    rig.run_for(&plan, options().retry_max * 2);
    assert!(rig.switch.holds(&plan));
    assert_eq!(rig.state(), State::Synced);
}

#[test]
fn a_switch_that_starts_anew_gets_its_groups_again() {
    let plan = whole(&log());
    let mut rig = Rig::connected(&plan);
    rig.run(&plan);
    rig.switch = Switch::default();
    rig.reconciler.on(rig.now, &plan, Event::Disconnected { why: "restarted".into() });
    rig.reconciler.on(rig.now, &plan, Event::Connected);
    rig.run(&plan);
    assert!(rig.switch.holds(&plan));
}

#[test]
fn every_access_port_has_its_share_of_discovery() {
    let text = format!("{SITE}{ACCESS}\n[punt_rates]\ndiscovery = {{ per_second = 7, burst = 2 }}\n");
    for (site, rate) in
        [(access_site(), DISCOVERY_RATE), (SiteConfig::parse(&text).unwrap(), PuntRate { per_second: 7, burst: 2 })]
    {
        let plan = planned(&site, &Local::new(OWN));
        for number in [3, 4, 5] {
            assert_eq!(plan.meters()[&Key::from(DiscoveryPortKey { port: port(number) })], rate.into());
        }
        let all = PuntRate { per_second: 3 * rate.per_second, burst: 3 * rate.burst };
        assert_eq!(plan.punt_rates()[&PuntReason::Discovery], all);
    }
    assert_eq!(planned(&site(), &Local::new(OWN)).punt_rates()[&PuntReason::Discovery], DISCOVERY_RATE);
}

#[test]
fn access_links_that_cannot_be_are_named_by_their_key() {
    let text = format!("{SITE}{ACCESS}");
    SiteConfig::parse(&text).unwrap();
    let first = |from: &str, to: &str| text.replacen(from, to, 1);
    for (text, key) in [
        (first("name = \"floor-1\"", "name = \"\""), "access_links[0].name"),
        (first("floor-1", &"x".repeat(33)), "access_links[0].name"),
        (first("floor-2", "floor-1"), "access_links[1].name"),
        (first("ports = [3, 4]", "ports = []"), "access_links[0].ports"),
        (first("ports = [3, 4]", "ports = [3, 4, 1]"), "access_links[0].ports"),
        (first("ports = [3, 4]", "ports = [3, 4, 6]"), "access_links[0].ports"),
        (first("ports = [3, 4]", "ports = [3, 4, 3]"), "access_links[0].ports"),
        (first("ports = [5]", "ports = [5, 4]"), "access_links[1].ports"),
        (first("ports = [3, 4]", "ports = [3]"), "ports[2].role"),
        (first("provisioned_vid = 100", "provisioned_vid = 0"), "access_links[0].provisioned_vid"),
        (first("provisioned_vid = 100", "provisioned_vid = 4095"), "access_links[0].provisioned_vid"),
        (first("multipoint_vid = 200", "multipoint_vid = 0"), "access_links[0].multipoint_vid"),
        (first("multipoint_vid = 200", "multipoint_vid = 100"), "access_links[0].multipoint_vid"),
        (first("pcp = 5", "pcp = 8"), "access_links[0].pcp"),
        (first("queue = 7", "queue = 8"), "access_links[0].queue"),
    ] {
        match SiteConfig::parse(&text) {
            Err(SiteError::Value { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{key}: {other:?}"),
        }
    }
    let site = access_site();
    assert_eq!(SiteConfig::parse(&toml::to_string(&site).unwrap()), Ok(site));
}

#[test]
fn as_many_access_links_as_ports_fit_the_tables() {
    let most = u64::from(MAX_PORT);
    assert!(AccessPortTable::SIZE >= most);
    assert!(AccessVlanTable::SIZE >= 2 * most);
}
