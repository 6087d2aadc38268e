//! Requests through the operators' API: what datagrams say, without the cookie.

use super::*;

/// The request in a datagram of the router's.
fn kind(message: &[u8]) -> Kind {
    decode(message).unwrap().1
}

fn call(site: &mut Site, kind: &Kind) -> Kind {
    let effects = site.registrar.call(site.now, &site.model, CallId(1), kind);
    let mut answers = site.carry_out(effects);
    assert_eq!(answers.len(), 1, "each call has one answer: {answers:?}");
    answers.remove(0)
}

#[test]
fn a_router_registers_stays_and_leaves_without_a_cookie() {
    let (mut site, mut router, _) = setup();
    assert!(matches!(call(&mut site, &kind(&router.register())), Kind::Accepted(a) if a.gateway == 1));
    assert_eq!(site.registered().unwrap().gateway, HERE);
    site.pass(Duration::from_secs(2));
    assert!(matches!(call(&mut site, &kind(&router.keepalive())), Kind::KeepaliveAck(_)));
    site.pass(Duration::from_secs(2));
    site.tick();
    assert!(site.registered().is_some(), "it was kept alive");
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]), "by datagram, too");
    assert!(matches!(call(&mut site, &kind(&router.farewell())), Kind::DeregisterAck(_)));
    assert_eq!(site.registered(), None);
}

#[test]
fn chain_signature_sequence_and_clock_are_checked_and_every_call_is_answered() {
    let (mut site, mut router, _) = setup();
    for _ in 0..10 {
        let mut forged = kind(&router.register());
        if let Kind::Register(request) = &mut forged {
            request.signature[0] ^= 1;
        }
        assert_eq!(refusal(&call(&mut site, &forged)).0, RefusalCode::BadSignature);
    }
    let good = kind(&router.register());
    assert!(matches!(call(&mut site, &good), Kind::Accepted(_)), "failed calls put nobody on probation");
    let mut bare = good.clone();
    if let Kind::Register(request) = &mut bare {
        request.chain.clear();
    }
    assert_eq!(refusal(&call(&mut site, &bare)).0, RefusalCode::BadChain);
    let keepalive = kind(&router.keepalive());
    assert!(matches!(call(&mut site, &keepalive), Kind::KeepaliveAck(_)));
    for _ in 0..3 {
        assert_eq!(refusal(&call(&mut site, &keepalive)).0, RefusalCode::Replayed);
    }
    router.body.sequence += 3_600_000_000;
    assert_eq!(refusal(&call(&mut site, &kind(&router.keepalive()))).0, RefusalCode::ClockSkew);
    let answer = Kind::KeepaliveAck(dmux_wire::control::KeepaliveAck { sequence: 1, gateway: 1 });
    assert_eq!(refusal(&call(&mut site, &answer)).0, RefusalCode::Malformed);
}

#[test]
fn a_second_call_while_the_first_is_under_way_is_told_so() {
    let (mut site, mut router, _) = setup();
    let request = kind(&router.register());
    let first = site.registrar.call(site.now, &site.model, CallId(1), &request);
    let second = site.registrar.call(site.now, &site.model, CallId(2), &request);
    let [Effect::Answer { call: CallId(2), kind }] = &second[..] else { panic!("{second:?}") };
    assert_eq!(refusal(kind).0, RefusalCode::Busy);
    assert!(matches!(site.carry_out(first)[..], [Kind::Accepted(_)]));
}
