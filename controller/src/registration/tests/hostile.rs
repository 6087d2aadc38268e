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
