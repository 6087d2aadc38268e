use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dmux_wire::{GatewayId, ProtocolId, ProviderId};
use proptest::prelude::*;

use super::*;
use crate::model::{
    Command, Destination, Gateway, LatencySample, Model, Policy, ProtocolConfig, RegistrationKey, RouterIndex,
};

const OWN: GatewayId = GatewayId(1);
const P41: ProtocolId = ProtocolId(41);

fn key(n: u16) -> RegistrationKey {
    let [high, low] = n.to_be_bytes();
    RegistrationKey { protocol: P41, router: SocketAddrV4::new(Ipv4Addr::new(203, 0, high, low), 4000) }
}

fn registration(n: u16, provider: u32, gateway: u16) -> Registration {
    Registration {
        key: key(n),
        provider: ProviderId(provider),
        weight: 1,
        gateway: GatewayId(gateway),
        public_key: [0; 32],
        sequence: 10,
        name: String::new(),
        registered_at: 0,
        not_after: 0,
        draining: None,
        chain: Vec::new(),
    }
}

/// Gateways 1 to 4, and a router of provider 7 at each that is named.
fn model(at: &[u16]) -> Model {
    let mut model = Model::new();
    let gateways = (1..=4).map(|id| Command::PutGateway {
        at: 0,
        gateway: Gateway {
            id: GatewayId(id),
            name: String::new(),
            unicast: Ipv4Addr::new(192, 0, 2, id as u8),
            api: String::new(),
            node: 1,
        },
    });
    let routers = at.iter().map(|&id| Command::Register { at: 0, registration: registration(id, 7, id) });
    for (index, command) in (1..).zip(gateways.chain(routers)) {
        let reply = model.apply(index, &command);
        assert_eq!(reply.refusal(), None);
    }
    model
}

fn local(rtts_us: &[(u16, u64)]) -> Local {
    let rtts = rtts_us.iter().map(|&(id, us)| (GatewayId(id), Duration::from_micros(us))).collect();
    Local { rtts, ..Local::new(OWN) }
}

fn chosen(model: &Model, local: &Local, previous: &Selection) -> (Option<u16>, Selection) {
    let selection = select(model, local, previous);
    (selection.get(Destination::any(P41)).map(|choice| choice.gateway.0), selection)
}

fn first(model: &Model, local: &Local) -> Option<u16> {
    chosen(model, local, &Selection::default()).0
}

#[test]
fn the_closest_gateway_with_a_live_router_wins() {
    let far = local(&[(2, 9_000), (3, 5_000)]);
    assert_eq!(first(&model(&[2, 3]), &far), Some(3));
    assert_eq!(first(&model(&[2]), &far), Some(2));
    assert_eq!(first(&model(&[1, 2, 3]), &far), Some(1), "its own distance is nothing");
    assert_eq!(first(&model(&[]), &far), None);
    assert_eq!(first(&model(&[2, 4]), &far), Some(2), "a measured distance before an unknown one");
    assert_eq!(first(&model(&[4]), &far), Some(4), "an unknown distance before nothing");
}

#[test]
fn a_named_provider_is_chosen_for_itself() {
    let mut model = model(&[2]);
    model.apply(100, &Command::Register { at: 0, registration: registration(30, 8, 3) });
    let selection = select(&model, &local(&[(2, 1_000), (3, 9_000)]), &Selection::default());
    let of = |provider| {
        let destination = Destination { protocol: P41, provider: ProviderId(provider) };
        selection.get(destination).map(|choice| choice.gateway.0)
    };
    assert_eq!((of(7), of(8), of(1), of(9)), (Some(2), Some(3), Some(2), None));
}

#[test]
fn jitter_moves_nobody_and_a_real_difference_does() {
    let model = model(&[2, 3]);
    let (at, selection) = chosen(&model, &local(&[(2, 20_000), (3, 21_000)]), &Selection::default());
    assert_eq!(at, Some(2));
    let stays = |two, three| chosen(&model, &local(&[(2, two), (3, three)]), &selection).0 == Some(2);
    assert!(stays(22_000, 20_000), "2 ms of 22 is below a tenth");
    assert!(!stays(22_300, 20_000), "2.3 ms of 22.3 is above");
    assert!(stays(1_500, 500), "a millisecond is the floor");
    assert!(!stays(1_501, 500));
}

#[test]
fn an_own_router_is_preferred_at_once() {
    let mut model = model(&[2]);
    let near = local(&[(2, 200)]);
    let (at, selection) = chosen(&model, &near, &Selection::default());
    assert_eq!(at, Some(2));
    model.apply(100, &Command::Register { at: 0, registration: registration(9, 7, 1) });
    assert_eq!(chosen(&model, &near, &selection).0, Some(1));
}

#[test]
fn without_own_measurements_the_replicated_ones_count_in_either_direction() {
    let mut model = model(&[2, 3]);
    let lossy = |from, to, rtt_us, loss_permille| Command::RecordLatencies {
        at: 0,
        from: GatewayId(from),
        samples: vec![LatencySample { to: GatewayId(to), rtt_us, loss_permille }],
    };
    let record = |from, to, rtt_us| lossy(from, to, rtt_us, 0);
    model.apply(100, &record(1, 2, 9_000));
    model.apply(101, &record(3, 1, 4_000));
    assert_eq!(first(&model, &local(&[])), Some(3));
    assert_eq!(first(&model, &local(&[(3, 20_000)])), Some(2), "own measurements count before");
    model.apply(102, &lossy(3, 1, 4_000, 200));
    assert_eq!(first(&model, &local(&[])), Some(2), "a path that loses a fifth is farther");
}

#[test]
fn suspect_routers_rank_after_every_confirmed_choice() {
    let mut local = local(&[(2, 1_000), (3, 90_000)]);
    local.unreachable.insert(GatewayId(2));
    assert_eq!(first(&model(&[2, 3]), &local), Some(3));
    assert_eq!(first(&model(&[2, 4]), &local), Some(4), "even one whose distance is unknown");
    let selection = select(&model(&[2]), &local, &Selection::default());
    let only = Choice { gateway: GatewayId(2), suspect: true, pool: vec![GatewayId(2)] };
    assert_eq!(selection.get(Destination::any(P41)), Some(&only), "but they are not dead");
    assert_eq!(chosen(&model(&[2, 4]), &local, &selection).0, Some(4), "and hysteresis does not keep them");
}

#[test]
fn dead_routers_are_not_chosen_until_they_register_again() {
    let mut model = model(&[1, 2]);
    let mut local = local(&[(2, 5_000)]);
    local.dead.insert(key(1), 10);
    assert_eq!(first(&model, &local), Some(2));
    local.dead.insert(key(2), 10);
    assert_eq!(first(&model, &local), None);
    let again = Registration { sequence: 11, ..registration(1, 7, 1) };
    model.apply(100, &Command::Register { at: 0, registration: again });
    assert_eq!(first(&model, &local), Some(1));
}

#[test]
fn what_comes_next_is_the_next_closest_gateway() {
    let far = local(&[(2, 9_000), (3, 5_000), (4, 7_000)]);
    let next = |model: &Model, local: &Local, previous: &Selection| {
        let selection = select(model, local, previous);
        let backup = selection.chosen(Destination::any(P41)).and_then(|chosen| chosen.backup.clone());
        (backup.map(|choice| choice.gateway.0), selection)
    };
    let all = model(&[2, 3, 4]);
    assert_eq!(next(&model(&[3]), &far, &Selection::default()).0, None);
    let (backup, selection) = next(&all, &far, &Selection::default());
    assert_eq!(backup, Some(4));
    let jitter = local(&[(2, 6_900), (3, 5_000), (4, 7_000)]);
    assert_eq!(next(&all, &jitter, &selection).0, Some(4), "jitter does not change what comes next, either");
    let mut dead = far.clone();
    dead.unreachable.insert(GatewayId(3));
    let (backup, failed_over) = next(&all, &dead, &selection);
    assert_eq!((failed_over.get(Destination::any(P41)).unwrap().gateway.0, backup), (4, Some(2)));
}

#[test]
fn failing_over_changes_the_side_and_nothing_of_what_was_ready() {
    let mut model = model(&[2, 3, 3, 4]);
    for (index, n) in (100..).zip([10, 11, 12]) {
        model.apply(index, &Command::Register { at: 0, registration: registration(n, 7, n % 2 + 2) });
    }
    let near = local(&[(2, 1_000), (3, 9_000), (4, 90_000)]);
    let first = select(&model, &near, &Selection::default());
    let before = first.chosen(Destination::any(P41)).unwrap();
    assert_eq!((before.choice.gateway.0, before.side), (2, Side::A));
    let mut dead = near.clone();
    dead.unreachable.insert(GatewayId(2));
    let second = select(&model, &dead, &first);
    let after = second.chosen(Destination::any(P41)).unwrap();
    assert_eq!((after.choice.gateway.0, after.side), (3, Side::B));
    assert_eq!(after.owners[Side::B.number()], before.owners[Side::B.number()]);
    let third = select(&model, &near, &second);
    let back = third.chosen(Destination::any(P41)).unwrap();
    assert_eq!((back.choice.gateway.0, back.side), (2, Side::A));
}

#[test]
fn routers_that_move_to_another_gateway_keep_their_clients() {
    let mut model = model(&[]);
    for n in 0..4 {
        model.apply(10 + u64::from(n), &Command::Register { at: 0, registration: registration(n, 7, 2) });
    }
    let before = select(&model, &local(&[]), &Selection::default());
    for n in 0..4 {
        let moved = Registration { sequence: 11, ..registration(n, 7, 3) };
        model.apply(20 + u64::from(n), &Command::Register { at: 0, registration: moved });
    }
    let after = select(&model, &local(&[]), &before);
    let served = |selection: &Selection| {
        let chosen = selection.chosen(Destination::any(P41)).unwrap();
        chosen.owners[chosen.side.number()].clone()
    };
    assert_eq!(served(&before), served(&after));
}

fn with_policy(model: &mut Model, protocol: ProtocolConfig) {
    let mut config = model.config().clone();
    config.version += 1;
    config.protocols.insert(P41, protocol);
    let reply = model.apply(model.applied() + 1, &Command::PutConfig { at: 0, config });
    assert_eq!(reply.refusal(), None);
}

fn measured(model: &mut Model, n: u16, gateway: u16, rtt_us: u32) {
    let samples = vec![(key(n), rtt_us)];
    model.apply(model.applied() + 1, &Command::RecordRouterRtts { at: 0, gateway: GatewayId(gateway), samples });
}

/// Buckets of each of these routers, of any provider.
fn served(selection: &Selection, routers: &[u16]) -> Vec<usize> {
    let chosen = selection.chosen(Destination::any(P41)).unwrap();
    routers.iter().map(|&n| share(&chosen.owners[chosen.side.number()], n)).collect()
}

#[test]
fn the_closest_router_is_chosen_with_the_way_from_its_gateway() {
    let mut model = model(&[1, 2, 3]);
    let near = local(&[(2, 4_000), (3, 9_000)]);
    with_policy(&mut model, ProtocolConfig { policy: Policy::ClosestRouter, ..ProtocolConfig::default() });
    assert_eq!(first(&model, &near), Some(1), "while no router is measured, the closest gateway");
    measured(&mut model, 1, 1, 30_000);
    measured(&mut model, 2, 2, 20_000);
    measured(&mut model, 3, 3, 1_000);
    let (at, selection) = chosen(&model, &near, &Selection::default());
    assert_eq!(at, Some(3), "10 ms in all, before 24 and 30");
    // Jitter between gateways moves nobody here, either.
    assert_eq!(chosen(&model, &local(&[(2, 4_000), (3, 25_000)]), &selection).0, Some(3), "26 ms or 24");
    assert_eq!(chosen(&model, &local(&[(2, 4_000), (3, 30_000)]), &selection).0, Some(2));
    measured(&mut model, 3, 2, 90_000);
    assert_eq!(model.router_rtt(&key(3)), Some(1_000), "only its own gateway measures a router");
}

#[test]
fn of_the_routers_of_a_gateway_the_closest_share_the_clients() {
    let mut model = model(&[]);
    for n in 10..14 {
        model.apply(100 + u64::from(n), &Command::Register { at: 0, registration: registration(n, 7, 2) });
    }
    with_policy(&mut model, ProtocolConfig { policy: Policy::ClosestRouter, ..ProtocolConfig::default() });
    for (n, rtt) in [(10, 20_000), (11, 21_900), (12, 22_100)] {
        measured(&mut model, n, 2, rtt);
    }
    let selection = select(&model, &local(&[]), &Selection::default());
    assert_eq!(served(&selection, &[10, 11, 12, 13]), [128, 128, 0, 0], "within a tenth, farther, never measured");
}

#[test]
fn weighted_routers_share_within_the_margin() {
    let mut model = model(&[2, 3, 4]);
    let heavy = Registration { weight: 3, sequence: 11, ..registration(3, 7, 3) };
    model.apply(100, &Command::Register { at: 0, registration: heavy });
    let weighted = ProtocolConfig { policy: Policy::Weighted, margin_ms: 5, ..ProtocolConfig::default() };
    with_policy(&mut model, weighted);
    let near = local(&[(2, 10_000), (3, 14_900), (4, 15_100)]);
    let selection = select(&model, &near, &Selection::default());
    assert_eq!(served(&selection, &[2, 3, 4]), [64, 192, 0]);
    // What is in stays until it is markedly beyond, and what was out does not come in.
    let jitter = select(&model, &local(&[(2, 10_000), (3, 16_400), (4, 15_100)]), &selection);
    assert_eq!(served(&jitter, &[2, 3, 4]), [64, 192, 0]);
    let beyond = select(&model, &local(&[(2, 10_000), (3, 17_000), (4, 14_000)]), &jitter);
    assert_eq!(served(&beyond, &[2, 3, 4]), [128, 0, 128]);
    // Another gateway becomes the closest of the same ones: nobody moves.
    let turned = select(&model, &local(&[(2, 14_000), (3, 10_000), (4, 90_000)]), &selection);
    assert_eq!(turned.get(Destination::any(P41)).unwrap().gateway.0, 3);
    let owners = |selection: &Selection| {
        let chosen = selection.chosen(Destination::any(P41)).unwrap();
        (chosen.side, chosen.owners[chosen.side.number()].clone())
    };
    assert_eq!(owners(&turned), owners(&selection));
    let mut dead = near.clone();
    dead.unreachable.insert(GatewayId(2));
    let without = select(&model, &dead, &selection);
    assert_eq!(served(&without, &[2, 3, 4]), [0, 192, 64], "the rest goes on");
}

fn member(n: u16, weight: u16) -> (RegistrationKey, Member) {
    (key(n), Member { router: RouterIndex(u32::from(n) + 1), weight })
}

fn equal(count: u16) -> Members {
    (0..count).map(|n| member(n, 1)).collect()
}

fn share(owners: &Owners, n: u16) -> usize {
    owners.buckets().iter().filter(|owner| **owner == Some(key(n))).count()
}

/// Buckets that have another owner.
fn moved(before: &Owners, after: &Owners) -> usize {
    before.buckets().iter().zip(after.buckets()).filter(|(before, after)| before != after).count()
}

#[test]
fn load_is_even_to_within_one_bucket() {
    // 5 % of 64 buckets are 3.2, and 2 % of 1024 are 20.
    for (count, buckets) in [(4, 256), (4, 4096), (3, 256), (7, 4096), (256, 256)] {
        let owners = equal(count).deal(&Owners::default(), buckets);
        let shares: Vec<usize> = (0..count).map(|n| share(&owners, n)).collect();
        let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
        assert_eq!(shares.iter().sum::<usize>(), buckets);
        assert!(most - least <= usize::from(!buckets.is_multiple_of(count.into())), "{shares:?}");
    }
}

#[test]
fn weights_are_followed_to_within_one_bucket() {
    let members: Members = [member(0, 100), member(1, 300), member(2, 1), member(3, 599)].into_iter().collect();
    let owners = members.deal(&Owners::default(), 1024);
    for (n, weight) in [(0, 100), (1, 300), (2, 1), (3, 599)] {
        let exact = 1024 * weight / 1000;
        assert!((exact..=exact + 1).contains(&share(&owners, n)), "{n}: {}", share(&owners, n));
    }
}

#[test]
fn more_members_than_buckets_get_one_each_or_none() {
    let mut members = equal(1000);
    let owners = members.deal(&Owners::default(), 256);
    assert!((0..1000).all(|n| share(&owners, n) <= 1));
    assert_eq!((0..1000).map(|n| share(&owners, n)).sum::<usize>(), 256);
    let (key, heavy) = member(2000, 1000);
    members.insert(key, heavy);
    let after = members.deal(&owners, 256);
    assert_eq!(share(&after, 2000), 128);
    assert_eq!(moved(&owners, &after), 128);
}

#[test]
fn new_sets_of_much_the_same_members_agree_much() {
    let (four, five) = (equal(4).deal(&Owners::default(), 256), equal(5).deal(&Owners::default(), 256));
    // No memory in common: consistent hashing alone keeps most of the 4/5 that need not move.
    assert!(moved(&four, &five) < 256 / 2, "{}", moved(&four, &five));
}

#[test]
fn a_set_of_another_size_keeps_its_clients() {
    let members = equal(4);
    let small = members.deal(&Owners::default(), 256);
    let large = members.deal(&small, 4096);
    for (bucket, owner) in large.buckets().iter().enumerate() {
        assert_eq!(*owner, small.buckets()[bucket % 256]);
    }
}

/// A few members with weights, the buckets, and a past of some other members.
fn set() -> impl Strategy<Value = (BTreeMap<u16, u16>, BTreeMap<u16, u16>, usize)> {
    let members = || prop::collection::btree_map(0..60_u16, 1..=10_u16, 1..20);
    (members(), members(), prop::sample::select(vec![16_usize, 256, 1024]))
}

fn members_of(weights: &BTreeMap<u16, u16>) -> Members {
    weights.iter().map(|(&n, &weight)| member(n, weight)).collect()
}

proptest! {
    #[test]
    fn each_member_has_its_share_whatever_was_before((now, before, buckets) in set()) {
        let past = members_of(&before).deal(&Owners::default(), buckets);
        let owners = members_of(&now).deal(&past, buckets);
        let total: usize = now.values().map(|&weight| usize::from(weight)).sum();
        for (&n, &weight) in &now {
            let exact = buckets * usize::from(weight);
            let (low, high) = (exact / total, exact.div_ceil(total));
            prop_assert!((low..=high).contains(&share(&owners, n)), "{} of {low} to {high}", share(&owners, n));
        }
        prop_assert!(owners.buckets().iter().all(Option::is_some));
    }

    #[test]
    fn dealing_again_changes_nothing((now, before, buckets) in set()) {
        let members = members_of(&now);
        let owners = members.deal(&members_of(&before).deal(&Owners::default(), buckets), buckets);
        prop_assert_eq!(&members.deal(&owners, buckets), &owners);
    }

    #[test]
    fn a_new_set_is_that_of_its_members_in_whatever_order((now, _, buckets) in set()) {
        let straight = members_of(&now);
        let mut detour = Members::default();
        for (&n, &weight) in now.iter().rev() {
            let (key, member) = member(n, weight);
            detour.insert(key, Member { weight: 99, ..member });
            detour.insert(key, member);
        }
        let (key, gone) = member(1000, 3);
        detour.insert(key, gone);
        prop_assert!(detour.remove(&key) && !detour.remove(&key));
        prop_assert_eq!(&straight, &detour);
        prop_assert_eq!(straight.deal(&Owners::default(), buckets), detour.deal(&Owners::default(), buckets));
    }

    #[test]
    fn of_equal_routers_one_that_goes_moves_its_clients_only(
        count in 2..20_u16,
        history in prop::collection::vec(0..20_u16, 0..6),
        leaving in 0..20_u16,
    ) {
        let leaving = leaving % count;
        let mut members = equal(count);
        // Others have come and gone before.
        let mut owners = members.deal(&Owners::default(), 256);
        for n in history {
            let (key, visitor) = member(100 + n, 1);
            if !members.remove(&key) {
                members.insert(key, visitor);
            }
            owners = members.deal(&owners, 256);
        }
        let n = members.len();
        let had = share(&owners, leaving);
        members.remove(&key(leaving));
        let after = members.deal(&owners, 256);
        prop_assert_eq!(moved(&owners, &after), had);
        prop_assert!(had as f64 / 256.0 <= 1.0 / n as f64 + 0.02, "{had} of 256, one of {n}");
        // One that comes back takes its share and nobody else gets anything.
        let (key, back) = member(leaving, 1);
        members.insert(key, back);
        let again = members.deal(&after, 256);
        prop_assert_eq!(moved(&after, &again), share(&again, leaving));
        prop_assert!(share(&again, leaving) <= 256_usize.div_ceil(n));
    }

    #[test]
    fn choosing_again_changes_nothing(
        at in prop::collection::btree_set(1..=4_u16, 0..4),
        before in prop::collection::vec((2..=4_u16, 0..30_000_u64), 0..3),
        now in prop::collection::vec((2..=4_u16, 0..30_000_u64), 0..3),
        unreachable in prop::collection::btree_set(2..=4_u16, 0..3),
        policy in prop::sample::select(vec![Policy::Closest, Policy::ClosestRouter, Policy::Weighted]),
        routers in prop::collection::vec((1..=4_u16, 0..30_000_u32), 0..4),
    ) {
        let mut model = model(&at.into_iter().collect::<Vec<_>>());
        with_policy(&mut model, ProtocolConfig { policy, ..ProtocolConfig::default() });
        for (n, rtt) in routers {
            measured(&mut model, n, n, rtt);
        }
        let previous = select(&model, &local(&before), &Selection::default());
        let now = Local { unreachable: unreachable.into_iter().map(GatewayId).collect(), ..local(&now) };
        let once = select(&model, &now, &previous);
        prop_assert_eq!(&select(&model, &now, &once), &once);
    }
}

#[test]
fn the_chosen_and_the_next_gateway_of_each_destination_are_watched_and_the_own_one_is_not() {
    let watch = |at: &[u16], local: &Local| {
        let model = model(at);
        let selection = select(&model, local, &Selection::default());
        let watched = watched(local.gateway, &selection);
        watched.into_iter().map(|id| id.0).collect::<Vec<_>>()
    };
    let mut local = local(&[(2, 9_000), (3, 2_000), (4, 5_000)]);
    assert_eq!(watch(&[2, 3, 4], &local), [3, 4]);
    assert_eq!(watch(&[1, 2, 4], &local), [4], "what is next after the own one");
    local.unreachable.insert(GatewayId(3));
    assert_eq!(watch(&[2, 3, 4], &local), [2, 4]);
    assert_eq!(watch(&[2, 3], &local), [2, 3]);
    assert_eq!(watch(&[1], &local), [0_u16; 0]);
}
