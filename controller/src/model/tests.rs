use std::net::{Ipv4Addr, SocketAddrV4};

use dmux_wire::{GatewayId, ProtocolId, ProviderId, ServiceIndex};

use super::*;
use crate::coordinates::Coordinate;

mod metalinks;

const G1: GatewayId = GatewayId(1);
const G2: GatewayId = GatewayId(2);

fn gateway(id: u16) -> Gateway {
    Gateway {
        id: GatewayId(id),
        name: format!("site-{id}"),
        unicast: Ipv4Addr::new(192, 0, 2, id as u8),
        api: "127.0.0.1:51701".into(),
        node: u64::from(id),
    }
}

fn registration(n: u16, provider: u32, gateway: GatewayId, sequence: u64) -> Registration {
    Registration {
        key: RegistrationKey {
            protocol: ProtocolId(41),
            router: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 100), 4000 + n),
        },
        provider: ProviderId(provider),
        weight: 1,
        gateway,
        public_key: [7; 32],
        sequence,
        name: format!("router-{n}"),
        registered_at: 1_000,
        not_after: 2_000_000_000,
        draining: None,
        chain: vec![Fingerprint([n as u8; 32]), Fingerprint([200 + provider as u8 % 50; 32])],
    }
}

/// A model under test, with the next log index.
struct Log {
    model: Model,
    index: u64,
}

impl Log {
    fn new() -> Self {
        let mut log = Self { model: Model::new(), index: 0 };
        for id in [1, 2] {
            assert_eq!(log.apply(Command::PutGateway { at: 0, gateway: gateway(id) }), Reply::Done);
        }
        log
    }

    /// Applies a command twice, as a retried proposal is, and insists that the second time changes nothing.
    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        let reply = self.model.apply(self.index, &command);
        let mut once = self.model.clone();
        self.index += 1;
        let again = self.model.apply(self.index, &command);
        once.state.applied = self.model.state.applied;
        assert_eq!(once, self.model, "{command:?} a second time changed the state");
        assert_eq!(reply.refusal().is_none(), again.refusal().is_none(), "{command:?} a second time: {again:?}");
        assert_eq!(Model::restore(&self.model.snapshot().unwrap()).unwrap(), self.model);
        reply
    }

    fn register(&mut self, registration: Registration) -> Reply {
        self.apply(Command::Register { at: 1_000, registration })
    }

    fn router(&mut self, registration: Registration) -> u32 {
        match self.register(registration) {
            Reply::Registered { router } => router.0,
            other => panic!("{other:?}"),
        }
    }
}

fn refused(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_registration_gets_a_router_index_and_two_sets_for_as_long_as_it_lives() {
    let mut log = Log::new();
    let a = registration(1, 7, G1, 10);
    assert_eq!(log.router(a.clone()), 1);
    assert_eq!(log.router(registration(2, 7, G2, 10)), 2);
    let named = Destination { protocol: ProtocolId(41), provider: ProviderId(7) };
    let sets: Vec<_> = log.model.destinations().collect();
    assert_eq!(sets.iter().map(|(d, _)| *d).collect::<Vec<_>>(), [Destination::any(ProtocolId(41)), named]);
    assert_ne!(sets[0].1, sets[1].1);

    let changed = Registration { sequence: 11, weight: 5, ..a.clone() };
    assert_eq!(log.router(changed), 1, "a newer registration keeps its index");
    let moved = Registration { sequence: 12, provider: ProviderId(8), ..a.clone() };
    assert_eq!(log.router(moved), 1);
    assert_eq!(log.model.destinations().len(), 3);
    assert_eq!(log.model.gateways_serving(named).collect::<Vec<_>>(), [G2]);

    assert_eq!(log.apply(Command::Deregister { at: 2_000, key: a.key, sequence: 13 }), Reply::Done);
    assert_eq!(log.model.destinations().len(), 2, "provider 8's set went with its last router");
    assert_eq!(log.router(registration(3, 7, G1, 1)), 3, "index 1 rests");
}

#[test]
fn what_is_not_newer_is_a_replay() {
    let mut log = Log::new();
    let a = registration(1, 7, G1, 10);
    log.router(a.clone());
    let old = Registration { sequence: 9, weight: 3, ..a.clone() };
    assert_eq!(refused(log.register(old)), Refusal::StaleSequence { have: 10, got: 9 });
    let farewell = Command::Deregister { at: 1, key: a.key, sequence: 10 };
    assert_eq!(refused(log.apply(farewell)), Refusal::StaleSequence { have: 10, got: 10 });
    let adopt = Command::Adopt { at: 1, key: a.key, gateway: G2, sequence: 10 };
    assert_eq!(refused(log.apply(adopt)), Refusal::StaleSequence { have: 10, got: 10 });
}

#[test]
fn a_retried_or_replayed_registration_does_not_survive_its_farewell() {
    let mut log = Log::new();
    let a = registration(1, 7, G1, 10);
    log.router(a.clone());
    log.apply(Command::Deregister { at: 2_000, key: a.key, sequence: 11 });
    let late = Command::Register { at: 3_000, registration: a.clone() };
    assert_eq!(refused(log.apply(late)), Refusal::StaleSequence { have: 11, got: 10 });
    assert_eq!(log.router(Registration { sequence: 12, ..a.clone() }), 2);

    log.apply(Command::Expire { at: 4_000, key: a.key, gateway: G1, sequence: 12 });
    assert_eq!(log.model.registrations().len(), 0);
    let after = Command::Register { at: 4_001 + TOMBSTONE_MS, registration: a };
    assert!(log.apply(after).refusal().is_none(), "the memory fades");
}

#[test]
fn tombstones_are_bounded() {
    let mut log = Log::new();
    for n in 0..=MAX_TOMBSTONES as u64 {
        let mut a = registration(0, 7, G1, n + 1);
        a.key.router = SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + n as u32), 1);
        log.index += 1;
        log.model.apply(log.index, &Command::Register { at: n, registration: a.clone() });
        log.index += 1;
        let reply = log.model.apply(log.index, &Command::Deregister { at: n, key: a.key, sequence: n + 2 });
        assert_eq!(reply, Reply::Done);
    }
    assert_eq!(log.model.state.tombstones.len(), MAX_TOMBSTONES);
    assert!(log.model.state.tombstones.is_consistent());
}

#[test]
fn only_the_owner_expires_and_only_what_it_knew() {
    let mut log = Log::new();
    let a = registration(1, 7, G1, 10);
    log.router(a.clone());
    let expire = |gateway, sequence| Command::Expire { at: 1, key: a.key, gateway, sequence };
    assert_eq!(refused(log.apply(expire(G2, 10))), Refusal::NotOwner(G1));
    let adopt = Command::Adopt { at: 1, key: a.key, gateway: G2, sequence: 15 };
    assert_eq!(log.apply(adopt), Reply::Registered { router: RouterIndex(1) });
    assert_eq!(refused(log.apply(expire(G1, 10))), Refusal::NotOwner(G2), "it lost the race against adoption");
    assert_eq!(refused(log.apply(expire(G2, 10))), Refusal::StaleSequence { have: 15, got: 10 });
    assert_eq!(log.model.registrations_at(G2).count(), 1);
    assert_eq!(log.apply(expire(G2, 25)), Reply::Done);
    let heard = Registration { sequence: 20, ..a.clone() };
    assert_eq!(refused(log.register(heard)), Refusal::StaleSequence { have: 25, got: 20 }, "its gateway heard more");
    let late = Command::Adopt { at: 1, key: a.key, gateway: G1, sequence: 99 };
    assert_eq!(refused(log.apply(late)), Refusal::NoSuchRegistration);
}

#[test]
fn registrations_that_cannot_be_are_refused() {
    let mut log = Log::new();
    let good = registration(1, 7, G1, 10);
    assert_eq!(
        refused(log.register(Registration { gateway: GatewayId(9), ..good.clone() })),
        Refusal::UnknownGateway(GatewayId(9))
    );
    let mut unspecified = good.clone();
    unspecified.key.router = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 4000);
    let mut port_zero = good.clone();
    port_zero.key.router.set_port(0);
    let mut anycast = good.clone();
    anycast.key.router = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 9), 4000);
    for bad in [
        Registration { provider: ProviderId::ANY, ..good.clone() },
        Registration { weight: 0, ..good.clone() },
        Registration { name: "x".repeat(MAX_ROUTER_NAME + 1), ..good.clone() },
        unspecified,
        port_zero,
        anycast,
    ] {
        assert!(matches!(refused(log.register(bad.clone())), Refusal::BadRegistration(_)), "{bad:?}");
    }
    assert_eq!(log.model.registrations().len(), 0);
    assert_eq!(log.model.destinations().len(), 0);
}

#[test]
fn sets_run_out_with_a_refusal_and_come_back() {
    let mut log = Log::new();
    // One set for "any", the others for one provider each.
    for n in 1..MAX_DESTINATIONS as u16 {
        log.router(registration(n, u32::from(n) + 1, G1, 1));
    }
    let one_too_many = registration(600, 60_000, G1, 1);
    assert_eq!(refused(log.register(one_too_many.clone())), Refusal::TooManyDestinations(MAX_DESTINATIONS));
    log.router(registration(601, 5, G1, 1));
    log.apply(Command::Deregister { at: 1, key: registration(1, 2, G1, 1).key, sequence: 2 });
    log.router(one_too_many);
    assert_eq!(log.model.destinations().len(), MAX_DESTINATIONS);
}

#[test]
fn each_claim_has_a_higher_epoch_and_a_retried_claim_the_same() {
    let mut log = Log::new();
    let claim = |node, claim| Command::ClaimSwitch { at: 0, gateway: G1, node, claim };
    assert_eq!(log.apply(claim(1, 77)), Reply::Claimed { epoch: 1 });
    assert_eq!(log.apply(claim(1, 78)), Reply::Claimed { epoch: 2 });
    assert_eq!(log.apply(claim(3, 78)), Reply::Claimed { epoch: 3 });
    assert_eq!(log.apply(Command::RemoveGateway { at: 0, gateway: G1 }), Reply::Done);
    assert_eq!(refused(log.apply(claim(1, 5))), Refusal::UnknownGateway(G1));
    log.apply(Command::PutGateway { at: 0, gateway: gateway(1) });
    assert_eq!(log.apply(claim(1, 5)), Reply::Claimed { epoch: 4 }, "an epoch never starts anew");
}

#[test]
fn gateways_that_cannot_be_are_refused() {
    let mut log = Log::new();
    let put = |gateway| Command::PutGateway { at: 0, gateway };
    let taken = Gateway { unicast: gateway(1).unicast, ..gateway(3) };
    assert_eq!(refused(log.apply(put(taken.clone()))), Refusal::AddressTaken { address: taken.unicast, by: G1 });
    for bad in [
        Gateway { unicast: Ipv4Addr::new(198, 51, 100, 9), ..gateway(3) },
        Gateway { unicast: Ipv4Addr::new(224, 0, 0, 1), ..gateway(3) },
        Gateway { name: "n".repeat(MAX_GATEWAY_NAME + 1), ..gateway(3) },
        Gateway { api: "a".repeat(300), ..gateway(3) },
    ] {
        assert!(matches!(refused(log.apply(put(bad))), Refusal::BadGateway { .. }));
    }
    log.router(registration(1, 7, G2, 10));
    let remove = Command::RemoveGateway { at: 0, gateway: G2 };
    assert_eq!(refused(log.apply(remove)), Refusal::GatewayInUse { gateway: G2, registrations: 1 });
}

#[test]
fn only_news_of_latency_is_written() {
    let mut log = Log::new();
    let record = |at, rtt| Command::RecordLatencies {
        at,
        from: G1,
        samples: vec![LatencySample::lossless(G2, rtt), LatencySample::lossless(GatewayId(9), 1)],
    };
    log.apply(record(1_000, 20_000));
    log.apply(record(2_000, 21_000));
    assert_eq!(log.model.latency(G1, G2), Some(&Latency { rtt_us: 20_000, loss_permille: 0, measured_at: 1_000 }));
    log.apply(record(2_000, 30_000));
    assert_eq!(log.model.latency(G1, G2), Some(&Latency { rtt_us: 30_000, loss_permille: 0, measured_at: 2_000 }));
    log.apply(record(1_000, 20_000));
    assert_eq!(log.model.latency(G1, G2).map(|l| l.rtt_us), Some(30_000), "a late retry");
    log.apply(record(100_000, 40_000));
    log.apply(record(1_000, 20_000));
    assert_eq!(log.model.latency(G1, G2).map(|l| l.rtt_us), Some(20_000), "a clock that was set back");
    let lossy = |loss_permille| Command::RecordLatencies {
        at: 200_000,
        from: G1,
        samples: vec![LatencySample { to: G2, rtt_us: 20_000, loss_permille }],
    };
    log.apply(lossy(20));
    assert_eq!(log.model.latency(G1, G2).map(|l| l.loss_permille), Some(0), "a little loss is no news");
    log.apply(lossy(9_999));
    assert_eq!(log.model.latency(G1, G2).map(|l| l.loss_permille), Some(1_000), "more than all is all");
    assert_eq!(log.model.latency(G2, G1), None);
    assert_eq!(log.model.latency(G1, GatewayId(9)), None);
    log.apply(Command::RemoveGateway { at: 0, gateway: G2 });
    assert_eq!(log.model.latencies().count(), 0);
}

#[test]
fn configuration_is_replaced_by_compare_and_swap() {
    let mut log = Log::new();
    let put = |config: &Config| Command::PutConfig { at: 0, config: config.clone() };
    let mut next = Config { version: 1, ..Config::default() };
    next.services.insert(ServiceIndex(2), Ipv4Addr::new(198, 51, 100, 3));
    assert_eq!(log.apply(put(&next)), Reply::Done);
    let rival = Config { timers: Timers { keepalive_ms: 500, expire_after_ms: 2_000 }, ..next.clone() };
    assert_eq!(refused(log.apply(put(&rival))), Refusal::ConfigVersion { have: 1, got: 1 });
    next.version = 2;
    next.services.insert(ServiceIndex(3), Ipv4Addr::new(203, 0, 113, 1));
    assert!(matches!(refused(log.apply(put(&next))), Refusal::BadConfig(_)));
    let around_a_gateway = Config {
        version: 2,
        dmux_prefix: "192.0.2.0/24".parse().unwrap(),
        registration: Ipv4Addr::new(192, 0, 2, 100),
        services: [(ServiceIndex(1), Ipv4Addr::new(192, 0, 2, 101))].into(),
        ..Config::default()
    };
    assert!(matches!(refused(log.apply(put(&around_a_gateway))), Refusal::BadConfig(_)));
}

#[test]
fn a_configuration_that_contradicts_itself_says_where() {
    let base = Config::default();
    base.check().unwrap();
    let with = |change: fn(&mut Config)| {
        let mut config = base.clone();
        change(&mut config);
        config.check().unwrap_err()
    };
    assert!(with(|c| c.registration = Ipv4Addr::new(198, 51, 100, 1)).contains("second use"));
    assert!(with(|c| c.services.clear()).contains("services"));
    assert!(with(|c| c.registration = Ipv4Addr::new(192, 0, 2, 1)).contains("outside"));
    assert!(with(|c| c.timers.expire_after_ms = 2_499).contains("expire_after_ms"));
    assert!(with(|c| c.timers.keepalive_ms = 1).contains("keepalive_ms"));
    assert!(with(|c| c.all_pairs_up_to = 1_025).contains("all_pairs_up_to"));
    assert!(with(|c| c.dmux_prefix = "0.0.0.0/0".parse().unwrap()).contains("wider"));
}

#[test]
fn the_journal_names_what_changed_and_nothing_else() {
    let mut log = Log::new();
    let before = log.model.applied();
    let a = registration(1, 7, G1, 10);
    log.router(a.clone());
    log.apply(Command::RecordLatencies { at: 5, from: G1, samples: vec![LatencySample::lossless(G2, 9_000)] });
    let changes = log.model.changes_since(before).unwrap();
    assert_eq!(changes, [Change::Registration(a.key), Change::Latency(G1, G2)]);
    assert_eq!(log.model.changes_since(log.model.applied()), Some(vec![]));
    let restored = Model::restore(&log.model.snapshot().unwrap()).unwrap();
    assert_eq!(restored.changes_since(before), None);
    assert_eq!(restored.changes_since(restored.applied()), Some(vec![]));
}

#[test]
fn damaged_snapshots_are_refused_for_what_they_are() {
    let mut log = Log::new();
    log.router(registration(1, 7, G1, 10));
    let good = log.model.snapshot().unwrap();
    for length in 0..5 {
        assert_eq!(Model::restore(&good[..length]), Err(SnapshotError::Truncated(length)));
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let error = Model::restore(&bad).unwrap_err();
        match at {
            0 => assert_eq!(error, SnapshotError::Version { found: SNAPSHOT_VERSION ^ 0x40 }),
            _ => assert!(matches!(error, SnapshotError::Checksum { .. }), "{at}: {error}"),
        }
    }
    let reseal = |state: &super::state::State| {
        let body = postcard::to_stdvec(state).unwrap();
        let mut bytes = vec![SNAPSHOT_VERSION];
        bytes.extend(crc32fast::hash(&body).to_be_bytes());
        bytes.extend(body);
        Model::restore(&bytes)
    };
    let mut state = log.model.state.clone();
    assert!(reseal(&state).is_ok());
    state.sets.clear();
    assert!(matches!(reseal(&state), Err(SnapshotError::Inconsistent(_))));
    let mut state = log.model.state.clone();
    state.gateways.clear();
    assert!(matches!(reseal(&state), Err(SnapshotError::Inconsistent(_))));
}

#[test]
fn prefixes_read_as_they_print_and_say_what_was_meant() {
    let prefix: Ipv4Prefix = "198.51.100.0/24".parse().unwrap();
    assert_eq!(prefix.to_string(), "198.51.100.0/24");
    assert!(prefix.contains(Ipv4Addr::new(198, 51, 100, 255)));
    assert!(!prefix.contains(Ipv4Addr::new(198, 51, 101, 0)));
    assert!(Ipv4Prefix::containing(Ipv4Addr::UNSPECIFIED, 0).contains(Ipv4Addr::BROADCAST));
    let error = "198.51.100.7/24".parse::<Ipv4Prefix>().unwrap_err();
    assert!(error.to_string().contains("198.51.100.0/24"), "{error}");
    for bad in ["", "198.51.100.0", "198.51.100.0/33", "198.51.100.0/-1", "x/24"] {
        assert!(bad.parse::<Ipv4Prefix>().is_err(), "{bad}");
    }
}

#[test]
fn a_draining_router_says_so_itself_or_an_operator_does_and_the_operator_has_the_last_word() {
    let mut log = Log::new();
    let a = registration(1, 7, G1, 10);
    let since = |log: &Log| log.model.registration(&a.key).unwrap().registration.draining;
    let drain = |at, draining| Command::Drain { at, key: a.key, draining };
    assert_eq!(refused(log.apply(drain(5, true))), Refusal::NoSuchRegistration);

    log.router(Registration { draining: Some(1_000), ..a.clone() });
    log.router(Registration { draining: Some(2_000), sequence: 11, ..a.clone() });
    assert_eq!(since(&log), Some(1_000), "it drains since it first said so");
    log.router(Registration { sequence: 12, ..a.clone() });
    assert_eq!(since(&log), None, "a registration without the wish takes it back");

    log.apply(drain(3_000, true));
    log.apply(drain(4_000, true));
    assert_eq!(since(&log), Some(3_000));
    log.router(Registration { sequence: 13, ..a.clone() });
    assert_eq!(since(&log), Some(3_000), "a router that registers again does not undo what an operator did");
    log.apply(Command::Adopt { at: 1, key: a.key, gateway: G2, sequence: 14 });
    assert_eq!(since(&log), Some(3_000));
    let before = log.model.applied();
    log.apply(drain(5_000, false));
    assert_eq!(since(&log), None);
    assert_eq!(log.model.changes_since(before).unwrap(), [Change::Registration(a.key)]);

    log.apply(drain(6_000, true));
    log.apply(Command::Deregister { at: 7_000, key: a.key, sequence: 15 });
    log.router(Registration { sequence: 16, ..a.clone() });
    assert_eq!(since(&log), None, "it came back");
}

#[test]
fn a_coordinate_is_kept_while_its_gateway_is_and_nonsense_is_refused() {
    let mut log = Log::new();
    let sane = Coordinate { position: [1_000, -2_000, 0], height: 300, error_permille: 120 };
    let record = |from, coordinate| Command::RecordCoordinate { at: 0, from, coordinate };
    let before = log.model.applied();
    log.apply(record(G1, sane));
    assert_eq!(log.model.coordinate(G1), Some(&sane));
    log.apply(record(G1, sane));
    assert_eq!(log.model.changes_since(before), Some(vec![Change::Coordinate(G1)]), "the same is no change");
    let nonsense = Coordinate { position: [i32::MAX, 0, 0], ..sane };
    assert!(matches!(refused(log.apply(record(G1, nonsense))), Refusal::BadGateway { .. }));
    assert!(matches!(refused(log.apply(record(GatewayId(9), sane))), Refusal::UnknownGateway(_)));
    let restored = Model::restore(&log.model.snapshot().unwrap()).unwrap();
    assert_eq!(restored.coordinate(G1), Some(&sane));
    log.apply(Command::RemoveGateway { at: 0, gateway: G1 });
    assert_eq!(log.model.coordinate(G1), None);
}
