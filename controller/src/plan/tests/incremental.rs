//! Incremental planning equals planning in full, whatever happens in whatever order.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use dmux_tables::PortId;
use dmux_wire::{GatewayId, ProtocolId, ServiceIndex};
use proptest::prelude::*;

use super::super::{Entry, Planner, entries, plan};
use super::access::station;
use super::metalinks::{claim, endpoint, put_link, put_metanet};
use super::whole::reference;
use super::{Log, OWN, P41, access_site, gateway, key, registration, site};
use crate::model::{
    Command, Config, Destination, Gateway, LatencySample, MAX_DESTINATIONS, MetalinkId, Mli, Model, OutOfProfile,
    Policy, ProtocolConfig, RouterIndex,
};
use crate::selection::{Local, Selection, Side, select};

#[derive(Debug, Clone)]
enum Step {
    Register { n: u16, provider: u32, gateway: u16, weight: u16 },
    Deregister(u16),
    Expire(u16),
    Adopt(u16, u16),
    PutGateway(u16, u8),
    RemoveGateway(u16),
    Latency(u16, u16, u32),
    Services(u8),
    Protocol(u16, Policy),
    RouterRtt(u16, u16, u32),
    Drain(u16, bool),
    Learned(u16),
    Rtt(u16, u64),
    Unreachable(u16, bool),
    Dead(u16, bool),
    Dampened(u16, bool),
    Station(u8, u16),
    Silent(u8),
    Claim { n: u16, port: u16, link: u8, metanet: u16, rate: u64 },
    Release(u32),
    Policy(bool),
    Attached(u16, bool),
    Catchup,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..10_u16;
    let id = 1..5_u16;
    prop_oneof![
        6 => (n.clone(), 2..5_u32, id.clone(), 1..4_u16)
            .prop_map(|(n, provider, gateway, weight)| Step::Register { n, provider, gateway, weight }),
        2 => n.clone().prop_map(Step::Deregister),
        1 => n.clone().prop_map(Step::Expire),
        2 => (n.clone(), id.clone()).prop_map(|(n, id)| Step::Adopt(n, id)),
        1 => (id.clone(), 0..3_u8).prop_map(|(id, variant)| Step::PutGateway(id, variant)),
        1 => id.clone().prop_map(Step::RemoveGateway),
        1 => (id.clone(), id.clone(), 0..40_000_u32).prop_map(|(from, to, rtt)| Step::Latency(from, to, rtt)),
        1 => (1..4_u8).prop_map(Step::Services),
        1 => (4..6_u32, prop::sample::select(vec![Policy::Closest, Policy::ClosestRouter, Policy::Weighted]))
            .prop_map(|(log, policy)| Step::Protocol(1 << log, policy)),
        2 => (n.clone(), id.clone(), 0..40_000_u32).prop_map(|(n, id, rtt)| Step::RouterRtt(n, id, rtt)),
        2 => (id.clone(), 0..40_000_u64).prop_map(|(id, rtt)| Step::Rtt(id, rtt)),
        1 => (id, any::<bool>()).prop_map(|(id, unreachable)| Step::Unreachable(id, unreachable)),
        2 => (n.clone(), any::<bool>()).prop_map(|(n, draining)| Step::Drain(n, draining)),
        1 => n.clone().prop_map(Step::Learned),
        2 => (n.clone(), any::<bool>()).prop_map(|(n, dead)| Step::Dead(n, dead)),
        1 => (n, any::<bool>()).prop_map(|(n, held)| Step::Dampened(n, held)),
        2 => (0..4_u8, 3..6_u16).prop_map(|(n, port)| Step::Station(n, port)),
        1 => (0..4_u8).prop_map(Step::Silent),
        3 => (0..6_u16, 3..7_u16, 0..3_u8, 0..2_u16, 1..30_u64)
            .prop_map(|(n, port, link, metanet, rate)| Step::Claim { n, port, link, metanet, rate }),
        2 => (1..8_u32).prop_map(Step::Release),
        1 => any::<bool>().prop_map(Step::Policy),
        2 => (0..6_u16, any::<bool>()).prop_map(|(n, attached)| Step::Attached(n, attached)),
        8 => Just(Step::Catchup),
    ]
}

/// Performs a step; refusals are as good as any other outcome here.
fn perform(step: &Step, log: &mut Log, local: &mut Local, sequence: u64) {
    let at = sequence;
    let command = match *step {
        Step::Register { n, provider, gateway, weight } => Command::Register {
            at,
            registration: crate::model::Registration { weight, ..registration(n, provider, gateway, sequence) },
        },
        Step::Deregister(n) => Command::Deregister { at, key: key(n), sequence },
        Step::Expire(n) => match log.model.registration(&key(n)) {
            Some(known) => {
                let (gateway, sequence) = (known.registration.gateway, known.registration.sequence);
                Command::Expire { at, key: key(n), gateway, sequence }
            }
            None => return,
        },
        Step::Adopt(n, id) => Command::Adopt { at, key: key(n), gateway: GatewayId(id), sequence },
        Step::PutGateway(id, variant) => {
            let unicast = Ipv4Addr::new(192, 0, 2, id as u8 + 10 * variant);
            Command::PutGateway { at, gateway: Gateway { unicast, ..gateway(id) } }
        }
        Step::RemoveGateway(id) => Command::RemoveGateway { at, gateway: GatewayId(id) },
        Step::Latency(from, to, rtt) => Command::RecordLatencies {
            at,
            from: GatewayId(from),
            samples: vec![LatencySample::lossless(GatewayId(to), rtt)],
        },
        Step::Services(count) => {
            let version = log.model.config().version + 1;
            let services = (1..=count).map(|n| (ServiceIndex(n.into()), Ipv4Addr::new(198, 51, 100, 10 + n))).collect();
            Command::PutConfig { at, config: Config { version, services, ..Config::default() } }
        }
        Step::Drain(n, draining) => Command::Drain { at, key: key(n), draining },
        Step::Learned(n) => {
            local.learned.insert(key(n));
            return;
        }
        Step::RouterRtt(n, id, rtt) => {
            Command::RecordRouterRtts { at, gateway: GatewayId(id), samples: vec![(key(n), rtt)] }
        }
        Step::Protocol(buckets, policy) => {
            let mut config = log.model.config().clone();
            config.version += 1;
            config.protocols.insert(P41, ProtocolConfig { buckets, policy, margin_ms: 8 });
            Command::PutConfig { at, config }
        }
        Step::Rtt(id, rtt) => {
            local.rtts.insert(GatewayId(id), Duration::from_micros(rtt));
            return;
        }
        Step::Unreachable(id, true) => {
            local.unreachable.insert(GatewayId(id));
            return;
        }
        Step::Unreachable(id, false) => {
            local.unreachable.remove(&GatewayId(id));
            return;
        }
        Step::Dead(n, true) => {
            let sequence = log.model.registration(&key(n)).map_or(0, |known| known.registration.sequence);
            local.dead.insert(key(n), sequence);
            return;
        }
        Step::Dead(n, false) => {
            local.dead.remove(&key(n));
            return;
        }
        Step::Dampened(n, true) => {
            local.dampened.insert(key(n));
            return;
        }
        Step::Dampened(n, false) => {
            local.dampened.remove(&key(n));
            return;
        }
        Step::Station(n, at) => {
            Arc::make_mut(&mut local.stations).insert(station(n), PortId::new(at).unwrap());
            return;
        }
        Step::Silent(n) => {
            Arc::make_mut(&mut local.stations).remove(&station(n));
            return;
        }
        Step::Claim { n, port, link, metanet, rate } => {
            let link = ["floor-1", "floor-2", "attic"][usize::from(link)];
            let metanet = Destination::any(ProtocolId(41 + metanet));
            for name in ["floor-1", "floor-2", "attic"] {
                if log.model.access_links().all(|link| link.key.name != name) {
                    log.apply(put_link(name, OutOfProfile::Drop));
                }
            }
            log.apply(put_metanet(metanet, rate % 2 == 0));
            claim(endpoint(n, port), link, metanet, rate, sequence)
        }
        Step::Release(mli) => Command::ReleaseMetalink { at, metalink: MetalinkId { gateway: OWN, mli: Mli(mli) } },
        Step::Policy(drop) => put_link("floor-1", if drop { OutOfProfile::Drop } else { OutOfProfile::ReportOnly }),
        Step::Attached(n, attached) => {
            let (endpoint, known) = (endpoint(n, 3 + n % 3), Arc::make_mut(&mut local.attached));
            if attached {
                known.insert(endpoint)
            } else {
                known.remove(&endpoint)
            };
            return;
        }
        Step::Catchup => return,
    };
    log.apply(command);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn incremental_planning_is_planning_in_full(steps in prop::collection::vec(step(), 1..80)) {
        let site = access_site();
        let mut log = Log::new([1, 2, 3]);
        let mut local = Local::new(OWN);
        let mut planner = Planner::new(site.clone(), &log.model, local.clone(), &Selection::default());
        // What a reader of the deltas alone believes.
        let mut followed: BTreeMap<_, _> = planner.plan().entries().clone();
        for (step, sequence) in steps.iter().chain([&Step::Catchup]).zip(1..) {
            perform(step, &mut log, &mut local, sequence);
            if !matches!(step, Step::Catchup) {
                continue;
            }
            let before = planner.selection().clone();
            let delta = planner.observe(&log.model, local.clone());
            for key in delta.keys() {
                match planner.plan().entries().get(key) {
                    Some(entry) => followed.insert(*key, *entry),
                    None => followed.remove(key),
                };
            }
            let numbering = planner.metalinks.numbering().clone();
            let whole = Planner::resume(site.clone(), &log.model, local.clone(), &before, numbering);
            let (whole, selection) = whole.into_parts();
            prop_assert_eq!(&select(&log.model, &local, &before), planner.selection());
            prop_assert_eq!(&selection, planner.selection());
            prop_assert_eq!(&whole, planner.plan());
            let (metalinks, meters) = super::metalinks::reference(&log.model, &local, planner.plan());
            prop_assert_eq!(&super::metalinks::of_metalinks(planner.plan()), &metalinks);
            prop_assert_eq!(planner.plan().meters(), &meters);
            let mut all = reference(&log.model, &local, &site, &selection);
            all.extend(metalinks);
            prop_assert_eq!(&all, planner.plan().entries());
            prop_assert_eq!(&followed, planner.plan().entries());
            prop_assert!(planner.observe(&log.model, local.clone()).is_empty(), "nothing happened, and yet");
        }
    }
}

#[test]
fn a_change_costs_what_it_touches() {
    let mut log = Log::new([1, 2]);
    for n in 0..200 {
        log.register(registration(n, 7, 1, 1));
    }
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    assert!(planner.plan().entries().len() > 900);
    log.register(registration(500, 8, 2, 1));
    let delta = planner.update(&log.model);
    // router, return_source, and the demux entry of provider 8; "any" stays at the own gateway.
    // At another gateway, it is what comes next for "any", and alone there: the router's entry is all that takes.
    assert_eq!(delta.keys().len(), 3);
    assert_eq!(planner.plan().applied(), log.model.applied());

    log.register(registration(300, 7, 1, 1));
    let buckets = planner.update(&log.model).keys().len() - 2;
    assert_eq!(buckets, 2, "one of 201 routers is due one of 256 buckets, of two destinations");
}

#[test]
fn a_planner_that_fell_behind_starts_over_and_says_what_differs() {
    let mut log = Log::new([1]);
    log.register(registration(1, 7, 1, 1));
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    log.register(registration(2, 8, 1, 1));
    let restored = Model::restore(&log.model.snapshot().unwrap()).unwrap();
    let before = planner.selection().clone();
    let delta = planner.update(&restored);
    let (whole, _) = plan(&restored, &Local::new(OWN), &site(), &before);
    assert_eq!(planner.plan(), &whole);
    assert!(!delta.keys().contains(&entries::router_key(RouterIndex(1))));
    assert!(delta.keys().contains(&entries::router_key(RouterIndex(2))));
}

#[test]
fn clients_of_the_other_routers_stay_when_one_dies() {
    let mut log = Log::new([1]);
    for n in 0..3 {
        log.register(registration(n, 7, 1, 1));
    }
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    let any = log.model.set(Destination::any(P41)).unwrap();
    let before = planner.plan().clone();
    let mut local = Local::new(OWN);
    local.dead.insert(key(1), 1);
    planner.observe(&log.model, local);
    let dead = log.model.registration(&key(1)).unwrap().router;
    let any = entries::set(any, Side::A);
    for bucket in 0..256 {
        let key = entries::bucket_key(any, bucket);
        let (old, new) = (&before.entries()[&key], &planner.plan().entries()[&key]);
        assert_ne!(*new, entries::bucket(any, bucket, dead));
        assert!(old == new || *old == entries::bucket(any, bucket, dead));
    }
    assert!(planner.plan().entries().contains_key(&entries::return_source_key(&key(1))), "it may still return");
}

#[test]
fn set_ids_may_change_hands_within_one_update() {
    let mut log = Log::new([1]);
    let come = |log: &mut Log, sequence| {
        for n in 0..4 {
            log.register(registration(n, 7 + u32::from(n) / 2, 1, sequence));
        }
    };
    come(&mut log, 1);
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    let sets = |log: &Log| log.model.destinations().map(|(_, set)| set).collect::<Vec<_>>();
    let before = sets(&log);
    // Three sets come and go in each round. Going round all ids leaves an id with another destination than before.
    for round in 1..=MAX_DESTINATIONS as u64 / 3 + 1 {
        for n in 0..4 {
            log.must(Command::Deregister { at: 0, key: key(n), sequence: 2 * round });
        }
        come(&mut log, 2 * round + 1);
    }
    let after = sets(&log);
    assert!((0..3).any(|a| (0..3).any(|b| a != b && before[a] == after[b])), "{before:?} {after:?}");
    let restarts = log.model.changes_since(planner.plan().applied()).is_none();
    assert!(!restarts, "the journal reaches back, so this is an incremental update");
    planner.update(&log.model);
    let wanted = reference(&log.model, planner.local(), &site(), planner.selection());
    assert_eq!(planner.plan().entries(), &wanted);
}

#[test]
fn a_controller_that_starts_goes_on_from_what_the_switch_holds() {
    let mut log = Log::new([1, 2]);
    for n in 0..9 {
        log.register(registration(n, 7 + u32::from(n % 2), 1 + n % 2, 1));
    }
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    // A past that a new planner could not guess.
    for n in [2, 6] {
        log.must(Command::Deregister { at: 0, key: key(n), sequence: 2 });
        planner.update(&log.model);
    }
    log.register(registration(2, 7, 1, 3));
    planner.update(&log.model);
    let mut restarted = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    assert_ne!(restarted.plan(), planner.plan(), "or this shows nothing");
    let delta = restarted.adopt(&log.model, planner.plan().entries().values());
    assert!(!delta.is_empty());
    assert_eq!(restarted.plan(), planner.plan());

    // A router that left meanwhile moves its own clients only.
    log.must(Command::Deregister { at: 0, key: key(4), sequence: 4 });
    let mut late = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    late.adopt(&log.model, planner.plan().entries().values());
    planner.update(&log.model);
    assert_eq!(late.plan(), planner.plan());
}

fn drain(log: &mut Log, n: u16, draining: bool) {
    log.must(Command::Drain { at: 0, key: key(n), draining });
}

#[test]
fn a_draining_router_keeps_its_clients_and_gets_no_new_ones() {
    let mut log = Log::new([1]);
    for n in 0..3 {
        log.register(registration(n, 7, 1, 1));
    }
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    let set = entries::set(log.model.set(Destination::any(P41)).unwrap(), Side::A);
    let drains = log.model.registration(&key(1)).unwrap().router;
    let at = |planner: &Planner, bucket| planner.plan().entries()[&entries::bucket_key(set, bucket)];
    let before: Vec<_> = (0..256).map(|bucket| at(&planner, bucket)).collect();
    let own = |bucket: u16| before[usize::from(bucket)] == entries::bucket(set, bucket, drains);
    assert!((85..=86).contains(&(0..256).filter(|&bucket| own(bucket)).count()));

    drain(&mut log, 1, true);
    planner.update(&log.model);
    let expected = |planner: &Planner, model: &Model, bucket: u16, learning| {
        let chosen = planner.selection().chosen(Destination::any(P41)).unwrap();
        let owner = chosen.owners[chosen.side.number()].buckets()[usize::from(bucket)].unwrap();
        let router = model.registration(&owner).unwrap().router;
        assert_ne!(router, drains);
        entries::draining(set, bucket, entries::Leaving { router: drains, idle: 287, learning }, router)
    };
    for bucket in 0..256 {
        let leaves = expected(&planner, &log.model, bucket, true);
        let now = if own(bucket) { leaves } else { before[usize::from(bucket)] };
        assert_eq!(at(&planner, bucket), now, "the others' clients do not notice");
    }
    let mut local = Local::new(OWN);
    local.learned.insert(key(1));
    planner.observe(&log.model, local.clone());
    for bucket in (0..256).filter(|&bucket| own(bucket)) {
        assert_eq!(at(&planner, bucket), expected(&planner, &log.model, bucket, false));
    }
    let mut restarted = Planner::new(site(), &log.model, local, &Selection::default());
    restarted.adopt(&log.model, planner.plan().entries().values());
    assert_eq!(restarted.plan(), planner.plan(), "a controller that starts leaves it at that");

    // Taken back: all as before. Gone instead: to where new clients went already.
    let mut again = log.model.clone();
    again.apply(1_000, &Command::Drain { at: 0, key: key(1), draining: false });
    restarted.update(&again);
    assert_eq!((0..256).map(|bucket| at(&restarted, bucket)).collect::<Vec<_>>(), before);
    let owners = planner.selection().chosen(Destination::any(P41)).unwrap().owners.clone();
    log.must(Command::Deregister { at: 0, key: key(1), sequence: 9 });
    planner.update(&log.model);
    assert_eq!(planner.selection().chosen(Destination::any(P41)).unwrap().owners, owners);
    assert!((0..256).all(|bucket| {
        matches!(at(&planner, bucket), Entry::Bucket(_, dmux_tables::BucketAction::ToRouter { .. }))
    }));
}

#[test]
fn the_only_router_of_a_gateway_drains_to_the_next_gateway() {
    let mut log = Log::new([1, 2]);
    log.register(registration(0, 7, 1, 1));
    let mut planner = Planner::new(site(), &log.model, Local::new(OWN), &Selection::default());
    let any = Destination::any(P41);
    drain(&mut log, 0, true);
    planner.update(&log.model);
    let only = log.model.registration(&key(0)).unwrap().router;
    let demux = entries::demux_key(any);
    assert_eq!(planner.plan().entries()[&demux], entries::demux_router(any, only), "nobody else is there");
    log.register(registration(1, 7, 2, 1));
    planner.update(&log.model);
    let next = log.model.registration(&key(1)).unwrap().router;
    let set = entries::set(log.model.set(any).unwrap(), Side::B);
    assert_eq!(planner.plan().entries()[&demux], entries::demux_set(any, set, 256));
    let leaving = entries::Leaving { router: only, idle: 287, learning: true };
    assert_eq!(planner.plan().entries()[&entries::bucket_key(set, 9)], entries::draining(set, 9, leaving, next));
    log.must(Command::Deregister { at: 0, key: key(0), sequence: 9 });
    planner.update(&log.model);
    assert_eq!(planner.plan().entries()[&demux], entries::demux_router(any, next));
}
