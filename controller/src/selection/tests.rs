use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dmux_wire::{GatewayId, ProtocolId, ProviderId};
use proptest::prelude::*;

use super::*;
use crate::model::{Command, Gateway, Model, RouterIndex};

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
    let record =
        |from, to, rtt| Command::RecordLatencies { at: 0, from: GatewayId(from), samples: vec![(GatewayId(to), rtt)] };
    model.apply(100, &record(1, 2, 9_000));
    model.apply(101, &record(3, 1, 4_000));
    assert_eq!(first(&model, &local(&[])), Some(3));
    assert_eq!(first(&model, &local(&[(3, 20_000)])), Some(2), "own measurements count before");
}

#[test]
fn suspect_routers_rank_after_every_confirmed_choice() {
    let mut local = local(&[(2, 1_000), (3, 90_000)]);
    local.unreachable.insert(GatewayId(2));
    assert_eq!(first(&model(&[2, 3]), &local), Some(3));
    assert_eq!(first(&model(&[2, 4]), &local), Some(4), "even one whose distance is unknown");
    let selection = select(&model(&[2]), &local, &Selection::default());
    let only = Choice { gateway: GatewayId(2), suspect: true };
    assert_eq!(selection.get(Destination::any(P41)), Some(only), "but they are not dead");
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

fn share(set: &BucketSet, router: RouterIndex) -> usize {
    (0..=u8::MAX).filter(|&bucket| set.router(bucket) == Some(router)).count()
}

#[test]
fn buckets_are_shared_by_weight() {
    // Over many sets, since 256 buckets are few: 1 to 3, within a twentieth.
    let (mut light, mut heavy) = (0, 0);
    for n in 0..100 {
        let member = |router, weight| Member { router: RouterIndex(router), weight };
        let set: BucketSet = [(key(2 * n), member(1, 100)), (key(2 * n + 1), member(2, 300))].into_iter().collect();
        light += share(&set, RouterIndex(1));
        heavy += share(&set, RouterIndex(2));
    }
    assert_eq!(light + heavy, 25_600);
    assert!((6_400 - 320..=6_400 + 320).contains(&light), "{light}");
}

#[test]
fn equal_routers_get_about_equal_shares() {
    let set: BucketSet = (0..4).map(|n| (key(n), Member { router: RouterIndex(n.into()), weight: 1 })).collect();
    for n in 0..4 {
        // Binomial(256, 1/4): 64 ± 7; four standard deviations.
        assert!((36..=92).contains(&share(&set, RouterIndex(n))), "{n}: {}", share(&set, RouterIndex(n)));
    }
}

fn members() -> impl Strategy<Value = BTreeMap<u16, u16>> {
    prop::collection::btree_map(0..200_u16, 1..=10_u16, 0..12)
}

fn member(n: u16, weight: u16) -> (RegistrationKey, Member) {
    (key(n), Member { router: RouterIndex(u32::from(n) + 1), weight })
}

proptest! {
    #[test]
    fn a_leaving_router_moves_only_its_own_buckets(members in members(), leaving in 0..200_u16) {
        let before: BucketSet = members.iter().map(|(&n, &w)| member(n, w)).collect();
        let mut after = before.clone();
        after.remove(&key(leaving));
        for bucket in 0..=u8::MAX {
            if before.router(bucket) != Some(RouterIndex(u32::from(leaving) + 1)) {
                prop_assert_eq!(before.router(bucket), after.router(bucket));
            }
        }
    }

    #[test]
    fn a_joining_router_takes_buckets_only_for_itself(members in members(), joining in 200..300_u16, weight in 1..=10_u16) {
        let before: BucketSet = members.iter().map(|(&n, &w)| member(n, w)).collect();
        let mut after = before.clone();
        let (key, new) = member(joining, weight);
        after.insert(key, new);
        for bucket in 0..=u8::MAX {
            let now = after.router(bucket);
            prop_assert!(now == before.router(bucket) || now == Some(new.router));
        }
    }

    #[test]
    fn a_heavier_router_loses_nothing(members in members(), n in 0..200_u16, weight in 1..=10_u16, more in 1..=10_u16) {
        let mut set: BucketSet = members.iter().map(|(&n, &w)| member(n, w)).collect();
        let (key, router) = member(n, weight);
        set.insert(key, router);
        let before = set.clone();
        set.insert(key, Member { weight: weight + more, ..router });
        for bucket in 0..=u8::MAX {
            let now = set.router(bucket);
            prop_assert!(now == before.router(bucket) || now == Some(router.router));
        }
    }

    #[test]
    fn the_order_of_arrival_and_a_detour_leave_no_trace(
        members in members(),
        visitors in prop::collection::vec((0..200_u16, 1..=10_u16), 0..12),
    ) {
        let straight: BucketSet = members.iter().map(|(&n, &w)| member(n, w)).collect();
        let mut detour = BucketSet::new();
        for &(n, weight) in &visitors {
            let (key, member) = member(n, weight);
            detour.insert(key, member);
        }
        for (&n, &weight) in members.iter().rev() {
            let (key, member) = member(n, weight);
            detour.insert(key, member);
        }
        for &(n, _) in visitors.iter().filter(|(n, _)| !members.contains_key(n)) {
            detour.remove(&key(n));
        }
        prop_assert_eq!(straight, detour);
    }

    #[test]
    fn choosing_again_changes_nothing(
        at in prop::collection::btree_set(1..=4_u16, 0..4),
        before in prop::collection::vec((2..=4_u16, 0..30_000_u64), 0..3),
        now in prop::collection::vec((2..=4_u16, 0..30_000_u64), 0..3),
        unreachable in prop::collection::btree_set(2..=4_u16, 0..3),
    ) {
        let model = model(&at.into_iter().collect::<Vec<_>>());
        let previous = select(&model, &local(&before), &Selection::default());
        let now = Local { unreachable: unreachable.into_iter().map(GatewayId).collect(), ..local(&now) };
        let once = select(&model, &now, &previous);
        prop_assert_eq!(&select(&model, &now, &once), &once);
    }
}
