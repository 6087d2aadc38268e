//! Datagrams that nobody should have sent.

use proptest::prelude::*;

use super::*;

#[test]
fn a_spoofed_keepalive_does_not_silence_the_router_it_names() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    site.pass(Duration::from_secs(1));
    for _ in 0..10 {
        let mut forged = router.keepalive();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        site.send(&forged);
    }
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
}

#[test]
fn a_flood_of_refusals_leaves_a_bounded_log() {
    let (mut site, mut router, _) = setup();
    for n in 0..500 {
        router.body.router = SocketAddrV4::new(Ipv4Addr::from(0x0a00_0001 + n), 4000);
        let from = router.body.router;
        site.send_from(from, &router.keepalive());
    }
    let lines = site.effects.iter().filter(|e| matches!(e, Effect::Log { .. })).count();
    assert_eq!(lines, MAX_LOG_LINES as usize);
}

#[test]
fn gateways_answers_are_not_requests() {
    let (mut site, _, _) = setup();
    let message = encode(1, Kind::Challenge(dmux_wire::control::Challenge { cookie: vec![1; 16] })).unwrap();
    assert_eq!(site.send(&message), []);
}

/// A hundred live routers, and what each got for its keepalives.
fn live_routers(site: &mut Site) -> Vec<Router> {
    let authority = Ca::authority(10);
    (0..100)
        .map(|n| {
            let mut router = Router::new(&authority);
            router.body.router.set_port(5000 + n);
            assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
            router
        })
        .collect()
}

#[test]
fn a_flood_of_100_000_bad_messages_costs_little_and_leaves_keepalives_as_they_are() {
    let (mut site, mut router, authority) = setup();
    let mut live = live_routers(&mut site);
    let provider = authority.provider(|_| ());
    let stranger = signing_key(120);
    let chain = vec![provider.router(&stranger, |_| ()), provider.der.clone()];
    let flood = 100_000;
    let (began, mut applied, mut bad, mut spoofed) = (site.registrar.verifications(), site.model.applied(), 0u32, 0u32);
    let seconds = 10;
    for second in 0..seconds {
        // Signatures are dear in a test: each kind of message is made once a second and sent from many sources.
        let mut forged: Vec<Vec<u8>> = live
            .iter_mut()
            .map(|victim| {
                // Who forges a source does not see the cookie that is sent to it.
                victim.body.cookie.clear();
                let mut message = victim.keepalive();
                let last = message.len() - 1;
                message[last] ^= 1;
                message
            })
            .collect();
        router.key = stranger.clone();
        router.chain = chain.clone();
        let unproven = [router.hello(), router.keepalive(), router.farewell(), vec![0xff; 1300], vec![7; 90]];
        let before = site.registrar.verifications();
        for n in 0..flood / seconds {
            match n % 4 {
                // In the name of a live router, from a source that may be forged.
                0 => {
                    let at = (n / 4) as usize % live.len();
                    let from = live[at].body.router;
                    let message = &mut forged[at];
                    let replies = site.send_from(from, message);
                    assert!(replies.iter().all(|reply| !matches!(reply, Kind::KeepaliveAck(_))));
                    spoofed += 1;
                }
                // From a proven source of its own, a registration under a key that its certificate does not have.
                1 if n % 400 == 1 => {
                    router.body.router = SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + second * 1000 + n), 4000);
                    router.body.sequence = site.now.unix_us();
                    site.prove(&mut router);
                    let from = router.body.router;
                    let message = router.register();
                    for _ in 0..20 {
                        site.send_from(from, &message);
                    }
                }
                _ => {
                    let from = SocketAddrV4::new(Ipv4Addr::from(0x0b00_0000 + n), 4000);
                    site.send_from(from, &unproven[n as usize % unproven.len()]);
                }
            }
            bad += 1;
        }
        let spent = site.registrar.verifications() - before;
        let bound = u64::from(work::VERIFICATIONS_PER_SECOND + work::FORGERIES_PER_SECOND);
        assert!(spent <= bound, "{spent} signatures verified in a second of flood");
        // In the midst of it, every live router's keepalive counts, at most one challenge later.
        for victim in &mut live {
            victim.body.cookie.clear();
            let from = victim.body.router;
            let mut replies = site.send_from(from, &victim.keepalive());
            if let [Kind::Challenge(challenge)] = &replies[..] {
                victim.body.cookie = challenge.cookie.clone();
                replies = site.send_from(from, &victim.keepalive());
            }
            assert!(matches!(replies[..], [Kind::KeepaliveAck(_)]), "{replies:?}");
        }
        site.pass(Duration::from_secs(1));
        site.tick();
        assert_eq!(site.model.applied(), applied, "nothing was written");
        applied = site.model.applied();
    }
    let spent = site.registrar.verifications() - began;
    let (sessions, pending, remembered) = site.registrar.load();
    println!(
        "{bad} bad messages ({spoofed} in live routers' names), {} keepalives: {spent} signatures verified",
        100 * seconds
    );
    assert_eq!((sessions, pending), (100, 0));
    assert!(remembered <= MAX_REFUSED_SOURCES);
    assert!(spent < 2_500, "{spent}: most bad messages cost no signature check");
}

#[test]
fn after_a_forged_keepalive_the_router_proves_its_source_once_more() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    router.body.cookie.clear();
    let mut forged = router.keepalive();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let before = site.registrar.verifications();
    for _ in 0..1000 {
        site.send(&forged);
    }
    assert_eq!(site.registrar.verifications() - before, 1, "one forgery is enough to become careful");
    let replies = site.send(&router.keepalive());
    let [Kind::Challenge(challenge)] = &replies[..] else { panic!("{replies:?}") };
    router.body.cookie = challenge.cookie.clone();
    let proven = router.keepalive();
    assert!(matches!(site.send(&proven)[..], [Kind::KeepaliveAck(_)]));
    assert_eq!(site.send(&proven), [], "a doubled datagram is no reason to refuse the router");
    router.body.cookie.clear();
    site.pass(work::SUSPICION);
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]), "and all is as before");
}

#[test]
fn a_valid_router_cannot_make_the_gateway_verify_without_end() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let before = site.registrar.verifications();
    for _ in 0..200 {
        router.body.sequence += 1;
        site.send(&router.register());
    }
    assert!(site.registrar.verifications() - before <= u64::from(work::VERIFICATIONS_PER_SOURCE));
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
}

#[test]
fn a_signature_for_one_purpose_is_none_for_another() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    // A keepalive's signature on a farewell, and the reverse.
    let Kind::Keepalive(keepalive) = decode(&router.keepalive()).unwrap().1 else { unreachable!() };
    let farewell = Deregister { body: keepalive.body, signature: keepalive.signature };
    let replies = site.send(&encode(9, Kind::Deregister(farewell)).unwrap());
    assert_eq!(refusal(&replies[0]).0, RefusalCode::BadSignature);
    assert!(site.registered().is_some(), "it was not removed");
    site.pass(work::SUSPICION);
    let Kind::Deregister(farewell) = decode(&router.farewell()).unwrap().1 else { unreachable!() };
    let keepalive = Keepalive { body: farewell.body, signature: farewell.signature };
    let replies = site.send(&encode(10, Kind::Keepalive(keepalive)).unwrap());
    assert_eq!(refusal(&replies[0]).0, RefusalCode::BadSignature);
}

#[test]
fn what_only_gateways_send_is_ignored_whatever_it_is() {
    use dmux_wire::control::{Accepted, Challenge, DeregisterAck, KeepaliveAck};
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let load = site.registrar.load().0;
    for kind in [
        Kind::Challenge(Challenge { cookie: vec![1; 16] }),
        Kind::Accepted(Accepted {
            keepalive_interval_ms: 1,
            expires_after_ms: 1,
            gateway: 1,
            sequence: u64::MAX,
            held_ms: 0,
        }),
        Kind::Refused(Refused { code: RefusalCode::NotRegistered.into(), text: "go".into(), retry_after_ms: 0 }),
        Kind::KeepaliveAck(KeepaliveAck { sequence: u64::MAX, gateway: 2 }),
        Kind::DeregisterAck(DeregisterAck { sequence: u64::MAX }),
    ] {
        assert_eq!(site.send(&encode(1, kind).unwrap()), []);
    }
    assert_eq!(site.registrar.load().0, load);
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
}

#[test]
fn every_cut_of_every_message_and_an_oversized_one_is_refused_and_nothing_kept() {
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    let whole = [router.hello(), router.register(), router.keepalive(), router.farewell()];
    for message in &whole {
        for cut in 0..message.len() {
            let replies = site.send(&message[..cut]);
            assert!(
                replies.iter().all(|r| matches!(r, Kind::Refused(_) | Kind::Challenge(_) | Kind::DeregisterAck(_))),
                "{replies:?}"
            );
        }
    }
    assert_eq!(site.registered(), None);
    assert_eq!((site.registrar.load().0, site.registrar.load().1), (0, 0));
    let mut oversized = whole[1].clone();
    oversized.resize(dmux_wire::control::MAX_CONTROL + 1, 0);
    site.pass(Duration::from_secs(2));
    site.effects.clear();
    assert_eq!(site.send(&oversized), []);
    let told =
        site.effects.iter().any(|e| matches!(e, Effect::Log { text, .. } if text.contains("longer than the 1200")));
    assert!(told, "{:?}", site.effects);
}

#[test]
fn reordered_keepalives_are_dropped_and_the_router_lives() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let late = router.keepalive();
    let early = router.keepalive();
    assert!(matches!(site.send(&early)[..], [Kind::KeepaliveAck(_)]));
    assert_eq!(site.send(&late), [], "it was overtaken");
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
}

#[test]
fn a_keepalive_dated_far_ahead_does_not_lock_the_router_out() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let now = router.body.sequence;
    router.body.sequence += 3_600_000_000;
    assert_eq!(site.send(&router.keepalive()), [], "its source may be forged: the log only is told");
    let told =
        site.effects.iter().any(|e| matches!(e, Effect::Log { text, .. } if text.contains("ahead of the gateway's")));
    assert!(told, "{:?}", site.effects);
    router.body.sequence = now;
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
}

/// Messages near to good ones, and noise.
fn message(router: &mut Router, kind: u8, cut: usize, flips: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = match kind {
        0 => router.hello(),
        1 => router.register(),
        2 => router.keepalive(),
        3 => router.farewell(),
        _ => Vec::new(),
    };
    for &(at, value) in flips {
        if bytes.is_empty() {
            break;
        }
        let at = at % bytes.len();
        bytes[at] ^= value;
    }
    bytes.truncate(bytes.len().saturating_sub(cut));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever comes, from registered and unknown sources: no panic, no reply to an unproven source that is longer
    /// than its request, no proposal without a proof.
    #[test]
    fn no_datagram_does_harm(
        steps in prop::collection::vec(
            (0u8..5, 0usize..30, prop::collection::vec((any::<usize>(), any::<u8>()), 0..3), any::<bool>(), 0u64..2000),
            1..12,
        ),
        registered: bool,
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (mut site, mut router, _) = setup();
        if registered {
            site.register(&mut router);
        }
        // From here on no cookie is known to the sender, so that no source is proven.
        router.body.cookie.clear();
        for (kind, cut, flips, elsewhere, wait) in steps {
            let mut bytes = message(&mut router, kind, cut, &flips);
            if kind == 4 {
                bytes.extend(&noise);
            }
            let from = if elsewhere { SocketAddrV4::new(Ipv4Addr::new(10, 9, 8, 7), 1) } else { ROUTER };
            let effects = site.registrar.handle(site.now, &site.model, from, REGISTRATION, &bytes);
            for effect in &effects {
                match effect {
                    Effect::Reply { to, bytes: reply, .. } => {
                        prop_assert_eq!(*to, from);
                        prop_assert!(reply.len() <= bytes.len(), "{} bytes for {}", reply.len(), bytes.len());
                    }
                    Effect::Propose { command, .. } => {
                        let signed_farewell = matches!(command, Command::Deregister { .. }) && registered;
                        prop_assert!(signed_farewell, "{:?}", command);
                    }
                    _ => {}
                }
            }
            site.carry_out(effects);
            site.pass(Duration::from_millis(wait));
            site.tick();
        }
    }
}
