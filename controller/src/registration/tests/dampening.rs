//! Routers that come and go (RFC 2439).

use super::*;

/// Once a second for ten minutes: comes, is heard, goes as `go` has it. Returns the writes before and after it was first
/// suppressed.
fn flap(go: impl Fn(&mut Site, &mut Router)) -> (usize, usize) {
    let (mut site, mut router, _) = setup();
    let mut before = None;
    let end = site.now.mono + Duration::from_secs(600);
    while site.now.mono < end {
        router.body.sequence = router.body.sequence.max(site.now.unix_us());
        router.body.sequence += 1;
        site.register(&mut router);
        site.pass(ms(500));
        site.tick();
        go(&mut site, &mut router);
        site.pass(ms(500));
        site.tick();
        if suppressed(&site) && before.is_none() {
            before = Some(proposals(&site));
        }
    }
    let before = before.expect("it is suppressed in the end");
    (before, proposals(&site) - before)
}

#[test]
fn a_router_that_flaps_every_second_for_ten_minutes_writes_little_once_it_is_suppressed() {
    let (before, after) = flap(|site, router| {
        let farewell = router.farewell();
        site.send(&farewell);
    });
    println!("farewells: {before} writes until it was suppressed, {after} after");
    assert!((1..=10).contains(&before) && after <= 10, "{before} and {after}");

    // It changes what it says each time, and never leaves.
    let (before, after) = flap(|_, router| router.body.weight = router.body.weight % 100 + 1);
    println!("changes: {before} writes until it was suppressed, {after} after");
    assert!((1..=10).contains(&before) && after <= 10, "{before} and {after}");
}

#[test]
fn two_certified_routers_that_fight_for_an_address_are_held_out_before_long() {
    let (mut site, mut router, authority) = setup();
    let provider = authority.provider(|_| ());
    let rivals = [signing_key(101), signing_key(102)]
        .map(|key| (vec![provider.router(&key, |_| ()), provider.der.clone()], key));
    let mut writes = 0;
    for turn in 0..600 {
        let (chain, key) = rivals[turn % 2].clone();
        (router.chain, router.key) = (chain, key);
        router.body.sequence += 1_000_000;
        site.register(&mut router);
        site.pass(ms(1000));
        site.tick();
        if turn == 20 {
            assert!(suppressed(&site));
            writes = proposals(&site);
        }
    }
    assert!(proposals(&site) - writes <= 10, "{} writes in ten minutes of fight", proposals(&site) - writes);
}

#[test]
fn suppressed_it_is_refused_until_reuse_without_a_proposal_and_then_returns() {
    let (mut site, mut router, _) = setup();
    while !suppressed(&site) {
        router.body.sequence += 1;
        assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
        let farewell = router.farewell();
        site.send(&farewell);
        site.pass(ms(1000));
    }
    let until = site.model.suppressed_until(&key(), site.now.unix_ms()).unwrap();
    let before = proposals(&site);
    router.body.sequence += 1;
    let Kind::Refused(refused) = site.register(&mut router) else { panic!("refused") };
    assert_eq!(refused.code(), RefusalCode::Dampened);
    assert_eq!(u64::from(refused.retry_after_ms), until - site.now.unix_ms());
    assert_eq!(proposals(&site), before);
    site.pass(ms(refused.retry_after_ms.into()));
    router.body.sequence += 1;
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
    assert!(!suppressed(&site));
}

#[test]
fn keepalives_however_late_and_adoption_are_no_flaps() {
    let (mut site, mut router, authority) = setup();
    site.register(&mut router);
    let expire = u64::from(site.model.config().timers.expire_after_ms);
    let gaps = [10, expire - 100, 999, 1, expire - 1, 2_000];
    for n in 0..600 {
        site.pass(ms(gaps[n % gaps.len()]));
        site.tick();
        if n % 100 == 99 {
            let other = if site.registered().unwrap().gateway == HERE { THERE } else { HERE };
            site.registrar = registrar(other, &authority);
            site.prove(&mut router);
        }
        let replies = site.send(&router.keepalive());
        assert!(matches!(replies[..], [Kind::KeepaliveAck(_)]), "{n}: {replies:?}");
    }
    assert_eq!(site.model.penalty(&key(), site.now.unix_ms()), None);
}

#[test]
fn a_router_that_restarts_as_it_was_is_no_news_and_no_flap() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let before = proposals(&site);
    for _ in 0..100 {
        site.pass(ms(1000));
        router.body.sequence += 1_000_000;
        site.prove(&mut router);
        let message = router.register();
        assert!(matches!(site.send(&message)[..], [Kind::Accepted(_)]));
        assert!(matches!(site.send(&message)[..], [Kind::Accepted(_)]), "its answer may get lost");
        site.tick();
    }
    assert_eq!(proposals(&site), before);
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
    router.body.sequence -= 1_000;
    assert_eq!(refusal(&site.register(&mut router)).0, RefusalCode::Replayed, "the sequence still counts");
    assert_eq!(site.model.penalty(&key(), site.now.unix_ms()), None);
}

#[test]
fn a_restart_that_was_not_written_cannot_be_replayed_once_it_is_gone() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    site.pass(ms(1000));
    router.body.sequence += 1_000_000;
    site.prove(&mut router);
    let recorded = router.register();
    let applied = site.model.applied();
    assert!(matches!(site.send(&recorded)[..], [Kind::Accepted(_)]));
    assert_eq!(site.model.applied(), applied, "it restarted as it was");
    let kept = router.keepalive();
    assert!(matches!(site.send(&kept)[..], [Kind::KeepaliveAck(_)]));
    site.pass(ms(3000));
    site.tick();
    assert_eq!(site.registered(), None, "it fell silent");
    // The cookie in it holds for a while yet.
    for _ in 0..20 {
        for message in [&recorded, &kept] {
            site.send(message);
            assert_eq!(site.registered(), None);
        }
        site.pass(ms(2000));
        site.tick();
    }
    assert_eq!(refusal(&site.send(&recorded)[0]).0, RefusalCode::Replayed);
    router.body.sequence += 1_000_000;
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)), "the router itself may come again");
}
