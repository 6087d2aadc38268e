//! Who is known where, whatever the switch and the hosts on its LANs say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_tables::{
    AccessLinkIndex, AnyEntry, LanForwardAction, LanForwardKey, LanForwardTable, LanSourceAction, LanSourceKey,
    LanSourceTable, PortId, Table, VlanId,
};
use dmux_wire::MacAddr;
use proptest::prelude::*;

use super::{LEARN_BURST, LEARN_PER_SECOND, MAX_STATIONS, NotLearnt, Station, Stations};
use crate::plan::SiteConfig;

const OWN: MacAddr = MacAddr([2, 0, 0, 0, 1, 3]);
const FIRST: AccessLinkIndex = AccessLinkIndex(1);
const SECOND: AccessLinkIndex = AccessLinkIndex(2);

/// Two access links: ports 3 and 4, and port 5.
fn stations() -> Stations {
    let mut text = String::from("[[ports]]\nnumber = 1\nrole = \"wan\"\nmac = \"02:00:00:00:01:01\"\n");
    for port in 3..=5 {
        text += &format!("[[ports]]\nnumber = {port}\nrole = \"access\"\nmac = \"02:00:00:00:01:{port:02x}\"\n");
    }
    for (name, ports) in [("one", "[3, 4]"), ("two", "[5]")] {
        text += &format!(
            "[[access_links]]\nname = \"{name}\"\nports = {ports}\nprovisioned_vid = 100\nmultipoint_vid = 200\n\
             pcp = 5\nqueue = 7\n"
        );
    }
    Stations::new(&SiteConfig::parse(&text).unwrap())
}

fn vid(vid: u16) -> VlanId {
    VlanId::new(vid).unwrap()
}

fn port(port: u16) -> PortId {
    PortId::new(port).unwrap()
}

fn station(link: AccessLinkIndex, n: u32) -> Station {
    let [a, b, c, d] = n.to_be_bytes();
    Station { link, vid: vid(0), mac: MacAddr([6, 0, a, b, c, d]) }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// As many as a link may learn at once.
fn burst() -> u32 {
    LEARN_BURST / 2
}

#[test]
fn a_station_is_told_once_and_again_when_it_moves() {
    let mut stations = stations();
    let one = station(FIRST, 1);
    assert_eq!(stations.heard(seconds(0), one, port(3)), Ok(()));
    assert_eq!(stations.take_changes(), BTreeMap::from([(one, Some(port(3)))]));
    assert_eq!(stations.heard(seconds(1), one, port(3)), Ok(()));
    assert_eq!(stations.take_changes(), BTreeMap::new(), "it is where it was");
    assert_eq!(stations.heard(seconds(2), one, port(4)), Ok(()));
    assert_eq!(stations.take_changes(), BTreeMap::from([(one, Some(port(4)))]));
    assert_eq!(stations.len(), 1);
    // On another VLAN it is another station.
    let tagged = Station { vid: vid(200), ..one };
    assert_eq!(stations.heard(seconds(3), tagged, port(3)), Ok(()));
    assert_eq!(stations.take_changes(), BTreeMap::from([(tagged, Some(port(3)))]));
}

#[test]
fn a_silent_station_is_forgotten_where_it_is_and_not_where_it_was() {
    let mut stations = stations();
    let one = station(FIRST, 1);
    stations.heard(seconds(0), one, port(3)).unwrap();
    stations.heard(seconds(9), one, port(4)).unwrap();
    stations.take_changes();
    stations.idle(port(3), one.vid, one.mac);
    stations.idle(port(4), vid(7), one.mac);
    stations.idle(port(77), one.vid, one.mac);
    assert_eq!(stations.take_changes(), BTreeMap::new());
    stations.idle(port(4), one.vid, one.mac);
    assert_eq!(stations.take_changes(), BTreeMap::from([(one, None)]));
    assert!(stations.is_empty());
}

#[test]
fn what_is_no_station_is_not_learnt() {
    let mut stations = stations();
    let one = station(FIRST, 1);
    let with = |mac| Station { mac, ..one };
    for (told, at, why) in [
        (with(OWN), 3, NotLearnt::Own),
        // The port's on the WAN is the gateway's as well.
        (with(MacAddr([2, 0, 0, 0, 1, 1])), 3, NotLearnt::Own),
        (with(MacAddr::BROADCAST), 3, NotLearnt::Group),
        (with(MacAddr([0x33, 0x33, 0, 0, 0, 1])), 3, NotLearnt::Group),
        (with(MacAddr::ZERO), 3, NotLearnt::Group),
        (Station { vid: vid(100), ..one }, 3, NotLearnt::Provisioned),
        (one, 5, NotLearnt::Port),
        (one, 1, NotLearnt::Port),
        (Station { link: AccessLinkIndex(3), ..one }, 3, NotLearnt::Port),
    ] {
        assert_eq!(stations.heard(seconds(0), told, port(at)), Err(why), "{told:?} at {at}");
    }
    assert_eq!(stations.take_changes(), BTreeMap::new());
}

#[test]
fn a_link_that_invents_stations_loses_its_own_oldest_only() {
    let mut stations = stations();
    let other = station(SECOND, 1);
    stations.heard(seconds(0), other, port(5)).unwrap();
    let share = MAX_STATIONS as u32 / 2;
    for n in 0..share {
        // Slowly enough for the rate.
        stations.heard(Duration::from_millis(u64::from(n) * 5), station(FIRST, n), port(3)).unwrap();
    }
    // The first was told of again since, so the second is the oldest.
    let now = seconds(1_000);
    stations.heard(now, station(FIRST, 0), port(3)).unwrap();
    stations.take_changes();
    stations.heard(now, station(FIRST, share), port(4)).unwrap();
    let changes = BTreeMap::from([(station(FIRST, 1), None), (station(FIRST, share), Some(port(4)))]);
    assert_eq!(stations.take_changes(), changes);
    assert_eq!(stations.len(), share as usize + 1);
}

#[test]
fn changes_are_limited_and_a_flood_on_one_link_does_not_stop_another() {
    let mut stations = stations();
    for n in 0..burst() {
        assert_eq!(stations.heard(seconds(0), station(FIRST, n), port(3)), Ok(()), "{n}");
    }
    assert_eq!(stations.heard(seconds(0), station(FIRST, burst()), port(3)), Err(NotLearnt::Rate));
    assert_eq!(stations.heard(seconds(0), station(FIRST, 0), port(4)), Err(NotLearnt::Rate), "a move costs as much");
    assert_eq!(stations.heard(seconds(0), station(FIRST, 0), port(3)), Ok(()), "what is known is no change");
    assert_eq!(stations.heard(seconds(0), station(SECOND, 0), port(5)), Ok(()));
    let taken = (burst()..).take_while(|&n| stations.heard(seconds(1), station(FIRST, n), port(3)).is_ok()).count();
    assert_eq!(taken, LEARN_PER_SECOND as usize / 2, "what a second brings");
}

#[test]
fn a_controller_that_starts_takes_over_what_its_switch_holds() {
    let mut stations = stations();
    let many = burst() + 10;
    let source = |n, at| {
        (LanSourceKey { port: port(at), vid: vid(0), src: station(FIRST, n).mac }, LanSourceAction::KnownSource)
    };
    let forward = |n, at| {
        let key = LanForwardKey { link: FIRST, vid: vid(0), dst: station(FIRST, n).mac };
        (key, LanForwardAction::ToPort { port: port(at) })
    };
    let mut held: Vec<AnyEntry> = (0..many).flat_map(|n| [source(n, 3).into(), forward(n, 3).into()]).collect();
    // The halves of a station that do not fit each other, and one at a port that is another link's.
    held.extend([AnyEntry::from(source(1_000, 3)), forward(1_001, 3).into(), source(1_002, 3).into()]);
    held.extend([AnyEntry::from(forward(1_002, 4)), source(1_003, 5).into(), forward(1_003, 5).into()]);
    // Somebody moved before the controller looked.
    let moved = station(FIRST, 0);
    stations.heard(seconds(0), moved, port(4)).unwrap();
    stations.adopt(seconds(0), held.iter());
    let all: BTreeMap<_, _> = (0..many).map(|n| (station(FIRST, n), Some(port(if n == 0 { 4 } else { 3 })))).collect();
    assert_eq!(stations.take_changes(), all);
}

#[test]
fn what_is_known_at_once_fits_the_tables() {
    let at_once = MAX_STATIONS + 2 * LEARN_BURST as usize;
    assert!(LanSourceTable::SIZE >= at_once as u64);
    assert!(LanForwardTable::SIZE >= at_once as u64);
}

#[derive(Debug, Clone)]
enum Told {
    Heard { n: u32, tagged: bool, port: u16 },
    Idle { n: u32, tagged: bool, port: u16 },
    Take,
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        4 => (0..6_u32, any::<bool>(), 3..6_u16).prop_map(|(n, tagged, port)| Told::Heard { n, tagged, port }),
        2 => (0..6_u32, any::<bool>(), 3..6_u16).prop_map(|(n, tagged, port)| Told::Idle { n, tagged, port }),
        1 => Just(Told::Take),
    ]
}

proptest! {
    /// Who follows the changes alone knows what the state machine knows: the last port at which each station was heard.
    #[test]
    fn the_changes_tell_where_everybody_is(all in prop::collection::vec(told(), 1..200)) {
        let mut stations = stations();
        let (mut expected, mut followed) = (BTreeMap::new(), BTreeMap::new());
        for (told, at) in all.iter().chain([&Told::Take]).zip(0..) {
            let of = |n, tagged, port| Station {
                vid: vid(if tagged { 200 } else { 0 }),
                ..station(if port == 5 { SECOND } else { FIRST }, n)
            };
            match *told {
                Told::Heard { n, tagged, port: at_port } => {
                    let station = of(n, tagged, at_port);
                    prop_assert_eq!(stations.heard(seconds(at), station, port(at_port)), Ok(()));
                    expected.insert(station, port(at_port));
                }
                Told::Idle { n, tagged, port: at_port } => {
                    let station = of(n, tagged, at_port);
                    stations.idle(port(at_port), station.vid, station.mac);
                    if expected.get(&station) == Some(&port(at_port)) {
                        expected.remove(&station);
                    }
                }
                Told::Take => {
                    for (station, port) in stations.take_changes() {
                        match port {
                            Some(port) => followed.insert(station, port),
                            None => followed.remove(&station),
                        };
                    }
                    prop_assert_eq!(&followed, &expected);
                }
            }
            prop_assert_eq!(stations.len(), expected.len());
            let ages: BTreeSet<_> =
                stations.links.values().flat_map(|link| link.by_age.iter().map(|(_, station)| *station)).collect();
            prop_assert!(ages.iter().eq(expected.keys()), "what is known has an age");
        }
    }
}
