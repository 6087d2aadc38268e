use std::net::SocketAddrV4;

use dmux_wire::{DropReason, ProtocolId};
use proptest::prelude::*;

use super::*;
use crate::model::{Command, Gateway, Ipv4Prefix, ProtocolConfig, Registration, RegistrationKey};
use crate::plan::{Plan, Planner, SiteConfig, plan};
use crate::selection::Selection;

const OWN: GatewayId = GatewayId(1);
const P41: ProtocolId = ProtocolId(41);
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

const SITE: &str = r#"
[[ports]]
number = 3
role = "wan"
mac = "02:00:00:00:01:01"

[next_hops.a]
port = 3
mac = "02:00:00:00:ff:01"
mtu = 1500

[next_hops.b]
port = 3
mac = "02:00:00:00:ff:02"
mtu = 1500

[[routes]]
prefix = "0.0.0.0/0"
next_hops = ["a"]

[[routes]]
prefix = "10.2.0.0/16"
next_hops = ["a", "b"]
"#;

fn router(n: u8, at: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, at, 0, n), 4000)
}

/// Router `n` of a provider at a gateway; its address is in 10.GATEWAY.0.0/16.
fn registration(n: u8, provider: u32, at: u8) -> Registration {
    Registration {
        key: RegistrationKey { protocol: P41, router: router(n, at) },
        provider: ProviderId(provider),
        weight: 1,
        gateway: GatewayId(at.into()),
        public_key: [0; 32],
        sequence: 10,
        name: format!("r{n}"),
        registered_at: 0,
        not_after: 0,
        draining: None,
        chain: Vec::new(),
    }
}

/// Gateways 1 to 4, and routers: (number, provider, gateway).
fn model(routers: &[(u8, u32, u8)]) -> Model {
    let mut model = Model::new();
    let gateways = (1..=4).map(|id| Command::PutGateway {
        at: 0,
        gateway: Gateway {
            id: GatewayId(id),
            name: format!("site-{id}"),
            unicast: Ipv4Addr::new(192, 0, 2, id as u8),
            api: String::new(),
            node: id.into(),
        },
    });
    let routers = routers
        .iter()
        .map(|&(n, provider, at)| Command::Register { at: 0, registration: registration(n, provider, at) });
    for (index, command) in (1..).zip(gateways.chain(routers)) {
        assert_eq!(model.apply(index, &command).refusal(), None);
    }
    model
}

fn local(rtts_us: &[(u16, u64)]) -> Local {
    let rtts = rtts_us.iter().map(|&(id, us)| (GatewayId(id), Duration::from_micros(us))).collect();
    Local { rtts, ..Local::new(OWN) }
}

fn question(client: Ipv4Addr, provider: u32) -> Question {
    let destination = Destination { protocol: P41, provider: ProviderId(provider) };
    Question { client, client_port: 5555, service: SERVICE, destination, guarded: true }
}

fn planned(model: &Model, local: &Local, previous: &Selection) -> (Plan, Selection) {
    plan(model, local, &SiteConfig::parse(SITE).unwrap(), previous)
}

fn walk(plan: &Plan, question: Question) -> Walk {
    Walk::through(question, Presence::New, |key| plan.entries().get(key).copied())
}

/// What is explained after planning from `previous`: the chosen router's name, and each rejected one's with the reason.
fn explained(model: &Model, local: &Local, previous: &Selection, provider: u32) -> (String, Vec<(String, Reason)>) {
    let (plan, selection) = planned(model, local, previous);
    let question = question(CLIENT, provider);
    let walk = walk(&plan, question);
    let choice = selection.get(question.destination);
    let explained = explain(model, local, question.destination, choice, &walk);
    let name = |registered: &Registered| registered.registration.name.clone();
    let chosen = explained.chosen.as_ref().map(name).unwrap_or_default();
    (chosen, explained.rejected.iter().map(|r| (name(&r.registered), r.reason)).collect())
}

fn first(model: &Model, local: &Local, provider: u32) -> (String, Vec<(String, Reason)>) {
    explained(model, local, &Selection::default(), provider)
}

fn is(chosen: &str, rejected: &[(&str, Reason)]) -> (String, Vec<(String, Reason)>) {
    (chosen.to_owned(), rejected.iter().map(|&(name, reason)| (name.to_owned(), reason)).collect())
}

#[test]
fn the_farther_and_the_unmeasured_are_told_from_the_chosen() {
    let model = model(&[(2, 7, 2), (3, 7, 3), (4, 7, 4)]);
    let by = Duration::from_micros(4_500);
    let far = local(&[(2, 9_500), (3, 5_000)]);
    let expected = is("r3", &[("r2", Reason::Farther { by }), ("r4", Reason::Unmeasured)]);
    assert_eq!(first(&model, &far, 1), expected);
}

#[test]
fn beside_its_own_router_every_other_is_farther_by_its_whole_distance() {
    let model = model(&[(1, 7, 1), (2, 7, 2)]);
    let by = Duration::from_micros(9_500);
    assert_eq!(first(&model, &local(&[(2, 9_500)]), 1), is("r1", &[("r2", Reason::Farther { by })]));
}

#[test]
fn another_providers_router_is_rejected_for_that_whatever_else_it_is() {
    let model = model(&[(1, 8, 1), (2, 7, 2)]);
    let mut local = local(&[(2, 9_500)]);
    let other = Reason::OtherProvider { asked: ProviderId(7) };
    assert_eq!(first(&model, &local, 7), is("r2", &[("r1", other)]));
    local.dead.insert(registration(1, 8, 1).key, 10);
    assert_eq!(first(&model, &local, 7), is("r2", &[("r1", other)]));
    let nobody = Reason::OtherProvider { asked: ProviderId(9) };
    assert_eq!(first(&model, &local, 9), is("", &[("r1", nobody), ("r2", nobody)]));
}

#[test]
fn by_the_closest_router_the_whole_way_counts() {
    let mut model = model(&[(1, 7, 1), (2, 7, 2), (3, 7, 2), (4, 7, 2)]);
    let mut config = model.config().clone();
    config.version += 1;
    config.protocols.insert(P41, ProtocolConfig { policy: Policy::ClosestRouter, ..ProtocolConfig::default() });
    let rtts = |gateway: u16, samples: &[(u8, u32)]| {
        let key = |n| registration(n, 7, gateway as u8).key;
        let samples = samples.iter().map(|&(n, rtt)| (key(n), rtt)).collect();
        Command::RecordRouterRtts { at: 0, gateway: GatewayId(gateway), samples }
    };
    for command in [Command::PutConfig { at: 0, config }, rtts(1, &[(1, 30_000)]), rtts(2, &[(2, 5_000), (3, 9_000)])] {
        assert_eq!(model.apply(model.applied() + 1, &command).refusal(), None);
    }
    // 30 ms from this gateway itself; 4 ms to the other one, and on from there 5, 9 and nobody knows how many.
    let farther = |by| Reason::Farther { by: Duration::from_micros(by) };
    let expected = is("r2", &[("r3", farther(4_000)), ("r4", Reason::Unmeasured), ("r1", farther(21_000))]);
    assert_eq!(first(&model, &local(&[(2, 4_000)]), 1), expected);
}

#[test]
fn a_silent_router_is_rejected_and_the_next_is_chosen() {
    let model = model(&[(1, 7, 1), (2, 7, 2)]);
    let mut local = local(&[(2, 9_500)]);
    local.dead.insert(registration(1, 7, 1).key, 10);
    assert_eq!(first(&model, &local, 1), is("r2", &[("r1", Reason::Silent)]));
    local.dead.insert(registration(2, 7, 2).key, 10);
    assert_eq!(first(&model, &local, 1), is("", &[("r1", Reason::Silent), ("r2", Reason::Silent)]));
}

#[test]
fn a_router_that_is_held_out_is_rejected_for_that_before_its_silence() {
    let model = model(&[(1, 7, 1), (2, 7, 2)]);
    let mut local = local(&[(2, 9_500)]);
    local.dampened.insert(registration(1, 7, 1).key);
    local.dead.insert(registration(1, 7, 1).key, 10);
    assert_eq!(first(&model, &local, 1), is("r2", &[("r1", Reason::Dampened)]));
    // One that has gone has no registration to be rejected, but is not forgotten.
    let gone = registration(9, 7, 2).key;
    local.dampened.insert(gone);
    let nowhere = Walk::new(question(CLIENT, 1));
    let explained = explain(&model, &local, Destination::any(P41), None, &nowhere);
    assert_eq!(explained.held_out, [gone]);
}

#[test]
fn routers_of_a_gateway_that_does_not_answer_are_suspect_unless_there_is_no_other_choice() {
    let mut local = local(&[(2, 1_000), (3, 90_000)]);
    local.unreachable.insert(GatewayId(2));
    assert_eq!(first(&model(&[(2, 7, 2), (3, 7, 3)]), &local, 1), is("r3", &[("r2", Reason::Suspect)]));
    local.unreachable.insert(GatewayId(3));
    let by = Duration::from_micros(89_000);
    assert_eq!(first(&model(&[(2, 7, 2), (3, 7, 3)]), &local, 1), is("r2", &[("r3", Reason::Farther { by })]));
}

#[test]
fn a_closer_one_that_hysteresis_holds_back_is_told_by_how_much() {
    let model = model(&[(2, 7, 2), (3, 7, 3)]);
    let (_, selection) = planned(&model, &local(&[(2, 20_000), (3, 21_000)]), &Selection::default());
    let by = Duration::from_micros(2_000);
    let expected = is("r2", &[("r3", Reason::NotMarkedlyCloser { by })]);
    assert_eq!(explained(&model, &local(&[(2, 22_000), (3, 20_000)]), &selection, 1), expected);
    let expected = is("r2", &[("r3", Reason::AsFar)]);
    assert_eq!(explained(&model, &local(&[(2, 22_000), (3, 22_000)]), &selection, 1), expected);
}

#[test]
fn of_equal_routers_the_bucket_decides_and_every_client_gets_the_one_that_the_table_says() {
    let model = model(&[(1, 7, 1), (2, 8, 1), (3, 7, 1)]);
    let local = local(&[]);
    let (plan, selection) = planned(&model, &local, &Selection::default());
    let mut seen = std::collections::BTreeSet::new();
    for last in 1..=200 {
        let question = question(Ipv4Addr::new(203, 0, 113, last), 1);
        let walk = walk(&plan, question);
        let bucket = walk.bucket().expect("there is a set");
        let choice = selection.get(question.destination);
        let explained = explain(&model, &local, question.destination, choice, &walk);
        let chosen = explained.chosen.clone().expect("a router");
        assert_eq!(explained.rejected.len(), 2);
        assert!(explained.rejected.iter().all(|r| r.reason == Reason::OtherBucket { bucket }), "{explained:?}");
        let Some(Outcome::Sent { router: index, to, .. }) = walk.outcome() else { panic!("{walk:?}") };
        assert_eq!((index, to), (chosen.router, chosen.registration.key.router));
        seen.insert(chosen.registration.name);
    }
    assert_eq!(seen.len(), 3, "200 clients reach all three");
}

#[test]
fn a_draining_router_of_the_chosen_gateway_is_rejected_for_that() {
    let mut model = model(&[(1, 7, 1), (2, 7, 1), (3, 7, 2)]);
    let local = local(&[(2, 1_000)]);
    let other = |name: &str| if name == "r1" { "r2" } else { "r1" };
    let (chosen, _) = first(&model, &local, 1);
    let n = if chosen == "r1" { 2 } else { 1 };
    let drain = Command::Drain { at: 5, key: registration(n, 7, 1).key, draining: true };
    assert_eq!(model.apply(model.applied() + 1, &drain).refusal(), None);
    let by = Duration::from_micros(1_000);
    let expected = is(&chosen, &[(other(&chosen), Reason::Draining), ("r3", Reason::Farther { by })]);
    assert_eq!(first(&model, &local, 1), expected);
}

#[test]
fn whose_a_client_is_in_a_bucket_that_is_being_left_follows_from_what_the_switch_saw() {
    let mut model = model(&[(1, 7, 1), (2, 7, 1)]);
    let mut local = local(&[]);
    let mut planner = Planner::new(SiteConfig::parse(SITE).unwrap(), &model, local.clone(), &Selection::default());
    let question = question(CLIENT, 1);
    let before = walk(planner.plan(), question).router().expect("a router");
    let leaves = model.registrations().find(|r| r.router == before).expect("it is registered").registration.clone();
    let drain = Command::Drain { at: 5, key: leaves.key, draining: true };
    assert_eq!(model.apply(model.applied() + 1, &drain).refusal(), None);
    planner.update(&model);
    let told = |planner: &Planner, presence| {
        let walk = Walk::through(question, presence, |key| planner.plan().entries().get(key).copied());
        let explained = explain(
            &model,
            planner.local(),
            question.destination,
            planner.selection().get(question.destination),
            &walk,
        );
        let rejected: Vec<_> = explained.rejected.iter().map(|r| r.reason).collect();
        (walk.leaving().expect("the bucket is left").presence, explained.chosen.expect("a router").router, rejected)
    };
    let silent = Duration::from_secs(1);
    let stays = |presence| (presence, before, vec![Reason::KeptByDraining]);
    assert_eq!(told(&planner, Presence::New), stays(Presence::Learning), "everybody is taken for one of its");
    local.learned.insert(leaves.key);
    planner.observe(&model, local);
    assert_eq!(told(&planner, Presence::Present { silent }), stays(Presence::Present { silent }));
    for gone in [Presence::New, Presence::Idle { silent }, Presence::Unknown] {
        let (presence, router, rejected) = told(&planner, gone);
        assert_eq!((presence, rejected), (gone, vec![Reason::Draining]));
        assert_ne!(router, before);
    }
}

#[test]
fn a_cell_of_clients_seen_is_read_as_the_switch_reads_it() {
    let at = |ticks: u64| Some((ticks << 20) + 5);
    let ticks = |n: u64| Duration::from_micros(n << 20);
    assert_eq!(Presence::of(0, 10, at(7)), Presence::New);
    // The cell holds the tick of the last packet and one.
    assert_eq!(Presence::of(8, 10, at(7)), Presence::Present { silent: ticks(0) });
    assert_eq!(Presence::of(8, 10, at(17)), Presence::Present { silent: ticks(10) });
    assert_eq!(Presence::of(8, 10, at(18)), Presence::Idle { silent: ticks(11) });
    assert_eq!(Presence::of(9, 10, at(7)), Presence::Present { silent: ticks(0) }, "written after the clock was read");
    assert_eq!(Presence::of(8, 10, None), Presence::Unknown);
}

#[test]
fn routers_that_went_with_a_revoked_key_are_told_until_they_come_again() {
    let mut model = model(&[(1, 7, 1)]);
    let key = Fingerprint([7; 32]);
    let revoked = Registration { chain: vec![key], ..registration(2, 8, 1) };
    let apply = |model: &mut Model, command| assert_eq!(model.apply(model.applied() + 1, &command).refusal(), None);
    apply(&mut model, Command::Register { at: 0, registration: revoked.clone() });
    apply(&mut model, Command::Revoke { at: 1, fingerprint: key, note: String::new() });
    let told = |model: &Model| {
        let explained = explain(model, &local(&[]), Destination::any(P41), None, &Walk::new(question(CLIENT, 1)));
        explained
            .revoked
            .into_iter()
            .map(|(router, by)| (router.key, router.name, router.provider.0, by))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&model), [(revoked.key, "r2".to_owned(), 8, key)]);
    assert_eq!(Model::restore(&model.snapshot().unwrap()).as_ref(), Ok(&model));
    let anew = Registration { chain: vec![Fingerprint([8; 32])], sequence: 11, ..revoked };
    apply(&mut model, Command::Register { at: 2, registration: anew });
    assert_eq!(told(&model), []);
}

#[test]
fn more_rejected_routers_than_are_listed_are_counted() {
    let many: Vec<_> = (0..=255).map(|n| (n, 7, 2)).chain((0..20).map(|n| (n, 7, 3))).collect();
    let (model, local) = (model(&many), local(&[(2, 1_000), (3, 2_000)]));
    let (plan, selection) = planned(&model, &local, &Selection::default());
    let question = question(CLIENT, 1);
    let walk = walk(&plan, question);
    let explained = explain(&model, &local, question.destination, selection.get(question.destination), &walk);
    assert_eq!((explained.rejected.len(), explained.left_out), (MAX_REJECTED, 276 - 1 - MAX_REJECTED));
    assert!(explained.rejected[..255].iter().all(|r| r.registered.registration.gateway == GatewayId(2)));
}

#[test]
fn a_walk_ends_where_an_entry_is_missing_with_the_reason_that_the_switch_counts() {
    let model = model(&[(1, 7, 1), (2, 7, 1)]);
    let (plan, _) = planned(&model, &local(&[]), &Selection::default());
    let whole = walk(&plan, question(CLIENT, 1));
    let tables: Vec<_> = whole.hops().iter().map(|hop| hop.lookup.table()).collect();
    let expected = ["source_guard", "local_service", "demux", "bucket", "router", "ipv4_route", "nexthop"];
    assert_eq!(tables, expected);
    assert!(matches!(whole.outcome(), Some(Outcome::Sent { port: 3, .. })), "{whole:?}");
    for (table, reason) in [
        ("local_service", DropReason::NoService),
        ("demux", DropReason::NoRoute),
        ("bucket", DropReason::NoBucket),
        ("router", DropReason::NoRouter),
        ("ipv4_route", DropReason::NoIpv4Route),
        ("nexthop", DropReason::NoNexthop),
    ] {
        let without = Walk::through(question(CLIENT, 1), Presence::New, |key| {
            plan.entries().get(key).copied().filter(|entry| entry.key().table_name() != table)
        });
        assert_eq!(without.outcome(), Some(Outcome::Dropped(reason)), "{table}");
        assert_eq!(without.hops().last().map(|hop| (hop.lookup.table(), hop.hit)), Some((table, None)));
    }
}

#[test]
fn sources_that_no_client_has_do_not_get_in() {
    let (plan, _) = planned(&model(&[(1, 7, 1)]), &local(&[]), &Selection::default());
    for client in ["127.0.0.1", "198.51.100.7", "192.0.2.1", "224.0.0.5"] {
        let walk = walk(&plan, question(client.parse().unwrap(), 1));
        assert_eq!(walk.outcome(), Some(Outcome::Dropped(DropReason::SpoofedSource)), "{client}");
        let own = Question { guarded: false, ..*walk.question() };
        let own = Walk::through(own, Presence::New, |key| plan.entries().get(key).copied());
        assert!(matches!(own.outcome(), Some(Outcome::Sent { .. })), "what the controller sends is not looked at");
    }
}

#[test]
fn where_flows_are_shared_the_clients_port_picks_the_member_and_the_bucket_stays() {
    let model = model(&[(1, 7, 2)]);
    let (plan, _) = planned(&model, &local(&[(2, 1_000)]), &Selection::default());
    let mut neighbours = std::collections::BTreeSet::new();
    for client_port in 1000..1032 {
        let walk = walk(&plan, Question { client_port, ..question(CLIENT, 1) });
        let Some(Outcome::Sent { to, neighbour, .. }) = walk.outcome() else { panic!("{walk:?}") };
        assert_eq!(to, router(1, 2));
        neighbours.insert(neighbour);
    }
    assert_eq!(neighbours.len(), 2);
}

proptest! {
    #[test]
    fn a_lookup_by_prefix_finds_the_longest_that_matches(address: u32, lengths in prop::collection::btree_set(0..=32_u8, 0..8)) {
        let address = Ipv4Addr::from_bits(address);
        let question = Question { client: address, ..question(CLIENT, 1) };
        let lookup = Walk::new(question).next().unwrap();
        let held: Vec<String> =
            lengths.iter().map(|&length| format!("source_guard[src={}]", Ipv4Prefix::containing(address, length))).collect();
        let entry = |key: &crate::plan::Key| {
            let crate::plan::Key::SourceGuard(key) = *key else { return None };
            held.contains(&key.to_string()).then(|| (key, dmux_tables::SourceGuardAction::Deny).into())
        };
        let found = lookup.best(entry).map(|entry: crate::plan::Entry| entry.key().to_string());
        prop_assert_eq!(found.as_ref(), held.last());
    }
}
