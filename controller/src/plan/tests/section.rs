//! The entries that do not depend on registrations.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use dmux_tables::{
    BucketTable, DemuxTable, Ipv4RouteTable, LocalServiceTable, NexthopTable, PortRole, ProbePeerTable,
    ReturnSourceTable, RouterTable, ServiceSourceTable, Table, meters,
};
use dmux_wire::{GatewayId, MacAddr, PuntReason, ServiceIndex};

use super::super::next_hops::Target;
use super::super::site::MAX_NEXT_HOP_CELLS;
use super::super::{Entry, MAX_ROUTES, PuntRate, SiteConfig, entries, plan};
use super::{Log, OWN, SITE, gateway, site};
use crate::model::{
    Command, Config, DEFAULT_BUCKETS, Ipv4Prefix, MAX_BUCKETS, MAX_DESTINATIONS, MAX_GATEWAYS, MAX_REGISTRATIONS,
    MAX_SERVICES,
};
use crate::selection::{Local, Selection};

fn planned(log: &Log, site: &SiteConfig, own: GatewayId) -> BTreeSet<Entry> {
    let (plan, _) = plan(&log.model, &Local::new(own), site, &Selection::default());
    plan.entries().values().copied().collect()
}

fn prefix(text: &str) -> Ipv4Prefix {
    text.parse().unwrap()
}

#[test]
fn a_gateway_without_routers_holds_exactly_this() {
    let own = Ipv4Addr::new(192, 0, 2, 1);
    let peer = Ipv4Addr::new(192, 0, 2, 2);
    let service = Ipv4Addr::new(198, 51, 100, 1);
    let registration = Ipv4Addr::new(198, 51, 100, 2);
    let mac = MacAddr([2, 0, 0, 0, 1, 1]);
    let dmux = prefix("198.51.100.0/24");
    let expected = BTreeSet::from([
        entries::port_role(1, PortRole::Wan, mac).unwrap(),
        entries::port_role(510, PortRole::Cpu, MacAddr::ZERO).unwrap(),
        entries::deny_source(prefix("0.0.0.0/8")),
        entries::deny_source(prefix("127.0.0.0/8")),
        entries::deny_source(prefix("169.254.0.0/16")),
        entries::deny_source(prefix("224.0.0.0/4")),
        entries::deny_source(prefix("240.0.0.0/4")),
        entries::deny_source(dmux),
        entries::deny_source(Ipv4Prefix::host(own)),
        entries::punt_arp(),
        entries::punt_control(registration),
        entries::punt_control(own),
        entries::punt_probe_reply(own),
        entries::shim_service(service, ServiceIndex(1), own),
        entries::gateway_service(own),
        entries::service_source(ServiceIndex(1), service),
        entries::probe_peer(peer),
        entries::route(prefix("0.0.0.0/0"), Target::One(1)),
        entries::drop_local(dmux),
        entries::drop_local(Ipv4Prefix::host(own)),
        entries::next_hop(1, 1, mac, MacAddr([2, 0, 0, 0, 0xff, 1]), 1500).unwrap(),
    ]);
    assert_eq!(planned(&Log::new([1, 2]), &site(), OWN), expected);
}

#[test]
fn a_gateway_that_the_cluster_does_not_know_only_routes() {
    let entries = planned(&Log::new([2]), &site(), OWN);
    assert!(entries.contains(&entries::route(prefix("0.0.0.0/0"), Target::One(1))));
    assert!(!entries.contains(&entries::probe_peer(gateway(2).unicast)));
}

#[test]
fn next_hops_that_share_flows_take_a_run_of_cells() {
    let more = r#"
[next_hops.b]
port = 1
mac = "02:00:00:00:ff:02"
mtu = 1400
[next_hops.c]
port = 1
mac = "02:00:00:00:ff:03"
mtu = 1500
[[routes]]
prefix = "10.0.0.0/8"
next_hops = ["upstream", "b"]
[[routes]]
prefix = "11.0.0.0/8"
next_hops = ["upstream", "b"]
[[routes]]
prefix = "12.0.0.0/8"
next_hops = ["upstream", "b", "c"]
"#;
    let site = SiteConfig::parse(&format!("{SITE}{more}")).unwrap();
    let entries = planned(&Log::new([1]), &site, OWN);
    // Cells 1 to 3 are b, c, upstream by name; 4 and 5 the pair; 6 to 21 the three.
    for expected in [
        entries::route(prefix("0.0.0.0/0"), Target::One(3)),
        entries::route(prefix("10.0.0.0/8"), Target::Group { first: 4, mask: 1 }),
        entries::route(prefix("11.0.0.0/8"), Target::Group { first: 4, mask: 1 }),
        entries::route(prefix("12.0.0.0/8"), Target::Group { first: 6, mask: 15 }),
    ] {
        assert!(entries.contains(&expected), "{expected:?}");
    }
    let mac = MacAddr([2, 0, 0, 0, 1, 1]);
    let hop = |cell, last, mtu| entries::next_hop(cell, 1, mac, MacAddr([2, 0, 0, 0, 0xff, last]), mtu).unwrap();
    for expected in [hop(4, 1, 1500), hop(5, 2, 1400), hop(6, 1, 1500), hop(8, 3, 1500), hop(21, 1, 1500)] {
        assert!(entries.contains(&expected), "{expected:?}");
    }
}

#[test]
fn the_gateway_wins_over_a_site_route_to_its_own_addresses() {
    let site = SiteConfig::parse(&SITE.replace("0.0.0.0/0", "198.51.100.0/24")).unwrap();
    let entries = planned(&Log::new([1]), &site, OWN);
    assert!(entries.contains(&entries::drop_local(prefix("198.51.100.0/24"))));
}

#[test]
fn a_new_configuration_moves_services() {
    let mut log = Log::new([1]);
    let mut config = Config { version: 1, ..Config::default() };
    config.services = [(ServiceIndex(7), Ipv4Addr::new(198, 51, 100, 9))].into();
    log.must(Command::PutConfig { at: 0, config });
    let entries = planned(&log, &site(), OWN);
    let own = gateway(1).unicast;
    assert!(entries.contains(&entries::shim_service(Ipv4Addr::new(198, 51, 100, 9), ServiceIndex(7), own)));
    assert!(!entries.contains(&entries::shim_service(Ipv4Addr::new(198, 51, 100, 1), ServiceIndex(1), own)));
}

#[test]
fn what_the_model_may_hold_fits_the_tables() {
    assert_eq!(RouterTable::SIZE, MAX_REGISTRATIONS as u64);
    assert_eq!(ReturnSourceTable::SIZE, MAX_REGISTRATIONS as u64);
    assert_eq!(BucketTable::SIZE, 2 * MAX_BUCKETS as u64, "what is served, and what comes next");
    assert_eq!(MAX_BUCKETS, MAX_DESTINATIONS * usize::from(DEFAULT_BUCKETS));
    assert!(DemuxTable::SIZE >= MAX_DESTINATIONS as u64);
    assert!(ProbePeerTable::SIZE >= MAX_GATEWAYS as u64);
    assert!(ServiceSourceTable::SIZE >= MAX_SERVICES as u64);
    assert!(LocalServiceTable::SIZE > MAX_SERVICES as u64, "the services and the gateway's own address");
    // The gateway's own: the dmux-prefix and its unicast address.
    assert!(Ipv4RouteTable::SIZE >= MAX_ROUTES as u64 + 2);
    assert!(NexthopTable::SIZE >= MAX_NEXT_HOP_CELLS as u64);
    assert!(meters::PUNT_METER.size > PuntReason::ALL.iter().map(|reason| u64::from(reason.code())).max().unwrap());
}

#[test]
fn every_punt_reason_has_a_rate() {
    let text = format!("{SITE}\n[punt_rates]\ntoo_big = {{ per_second = 7, burst = 2 }}\n");
    let site = SiteConfig::parse(&text).unwrap();
    let (plan, _) = plan(&Log::new([1]).model, &Local::new(OWN), &site, &Selection::default());
    assert!(plan.punt_rates().keys().eq(PuntReason::ALL.iter()));
    assert_eq!(plan.punt_rates()[&PuntReason::TooBig], PuntRate { per_second: 7, burst: 2 });
}
