//! A router that is held out, and says something else.

use super::*;

fn accepted(reply: &Kind) -> &dmux_wire::control::Accepted {
    let Kind::Accepted(accepted) = reply else { panic!("accepted, not {reply:?}") };
    accepted
}

/// A router that has changed its weight until it was held out, and is registered.
fn held_out() -> (Site, Router, Ca) {
    let (mut site, mut router, authority) = setup();
    while !suppressed(&site) {
        router.body.weight += 1;
        assert_eq!(accepted(&change(&mut site, &mut router)).held_ms, 0);
    }
    assert_eq!(site.registered().unwrap().weight, router.body.weight);
    (site, router, authority)
}

fn change(site: &mut Site, router: &mut Router) -> Kind {
    router.body.sequence = router.body.sequence.max(site.now.unix_us()) + 1;
    site.register(router)
}

/// Keepalives once a second, each acknowledged, until the router is held out no more, and a little longer.
fn until_reuse(site: &mut Site, router: &mut Router) {
    let mut after = 0;
    while after < 15 {
        site.pass(ms(1000));
        router.body.sequence = router.body.sequence.max(site.now.unix_us());
        let replies = site.send(&router.keepalive());
        match &replies[..] {
            [Kind::Challenge(challenge)] => {
                router.body.cookie = challenge.cookie.clone();
                let replies = site.send(&router.keepalive());
                assert!(matches!(replies[..], [Kind::KeepaliveAck(_)]), "{replies:?}");
            }
            [Kind::KeepaliveAck(_)] => {}
            other => panic!("{other:?}"),
        }
        site.tick();
        after += u32::from(!suppressed(site));
    }
}

#[test]
fn a_change_while_held_out_is_held_and_the_router_lives_on_and_the_cluster_is_told_at_reuse() {
    let (mut site, mut router, _) = held_out();
    let (before, weight) = (proposals(&site), router.body.weight);
    router.body.weight = 77;
    let reply = change(&mut site, &mut router);
    let until = site.model.suppressed_until(&key(), site.now.unix_ms()).unwrap();
    assert!(u64::from(accepted(&reply).held_ms).abs_diff(until - site.now.unix_ms()) < 60_000);
    assert_eq!((site.registered().unwrap().weight, proposals(&site)), (weight, before));
    until_reuse(&mut site, &mut router);
    assert_eq!(site.registered().unwrap().weight, 77);
    assert_eq!(proposals(&site), before + 1, "one write");
    assert!(!suppressed(&site));
    until_reuse(&mut site, &mut router);
    assert_eq!(proposals(&site), before + 1, "and it is told once");
}

#[test]
fn a_new_key_holds_at_once_for_its_keepalives() {
    let (mut site, mut router, authority) = held_out();
    let old = router.key.clone();
    let provider = authority.provider(|_| ());
    router.key = signing_key(102);
    router.chain = vec![provider.router(&router.key, |_| ()), provider.der];
    accepted(&change(&mut site, &mut router));
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
    let new = std::mem::replace(&mut router.key, old);
    assert_eq!(refusal(&site.send(&router.keepalive())[0]).0, RefusalCode::BadSignature);
    router.key = new;
    until_reuse(&mut site, &mut router);
    assert_eq!(site.registered().unwrap().public_key, router.key.verifying_key().to_bytes());
}

#[test]
fn the_last_change_counts_and_one_that_is_taken_back_is_none() {
    let (mut site, mut router, _) = held_out();
    let (before, weight) = (proposals(&site), router.body.weight);
    for other in [50, 60, weight] {
        router.body.weight = other;
        let held = accepted(&change(&mut site, &mut router)).held_ms > 0;
        assert_eq!(held, other != weight);
    }
    until_reuse(&mut site, &mut router);
    assert_eq!((site.registered().unwrap().weight, proposals(&site)), (weight, before));
}

#[test]
fn a_held_change_that_is_said_again_is_answered_again() {
    let (mut site, mut router, _) = held_out();
    router.body.weight = 77;
    let first = accepted(&change(&mut site, &mut router)).held_ms;
    let before = proposals(&site);
    let message = router.register();
    let again = site.send(&message);
    assert_eq!(accepted(&again[0]).held_ms, first, "its answer was lost");
    let restarted = accepted(&change(&mut site, &mut router)).held_ms;
    assert!(restarted > 0 && proposals(&site) == before, "the router restarted");
}

#[test]
fn a_drain_passes_at_once_and_draining_in_turns_writes_once() {
    let (mut site, mut router, _) = held_out();
    let before = proposals(&site);
    for turn in 0..600 {
        router.body.draining = turn % 2 == 0;
        let reply = change(&mut site, &mut router);
        assert_eq!(accepted(&reply).held_ms > 0, !router.body.draining && suppressed(&site), "{turn}");
        if turn == 0 {
            assert!(site.registered().unwrap().draining.is_some());
        }
        site.pass(ms(1000));
        site.tick();
        assert!(site.registered().is_some());
    }
    let writes = proposals(&site) - before;
    println!("draining in turns for ten minutes: {writes} writes after it was held out");
    assert!((1..=10).contains(&writes), "{writes}");
    router.body.draining = false;
    change(&mut site, &mut router);
    until_reuse(&mut site, &mut router);
    assert_eq!(site.registered().unwrap().draining, None, "what it said last holds in the end");
}

#[test]
fn one_that_restarts_at_another_gateway_is_moved_and_what_it_says_is_held_there() {
    let (mut site, mut router, authority) = held_out();
    let weight = router.body.weight;
    site.registrar = registrar(THERE, &authority);
    router.body.weight = 77;
    let before = proposals(&site);
    assert!(accepted(&change(&mut site, &mut router)).held_ms > 0);
    let registered = site.registered().unwrap();
    assert_eq!((registered.gateway, registered.weight), (THERE, weight));
    assert_eq!(proposals(&site), before + 1);
    // Not again before long.
    site.registrar = registrar(HERE, &authority);
    assert_eq!(refusal(&change(&mut site, &mut router)).0, RefusalCode::Busy);
    site.registrar.set_unreachable([THERE].into());
    site.pass(ms(1000));
    assert!(accepted(&change(&mut site, &mut router)).held_ms > 0, "unless the owner is dead");
    assert_eq!(site.registered().unwrap().gateway, HERE);
    until_reuse(&mut site, &mut router);
    assert_eq!(site.registered().unwrap().weight, 77);
}

#[test]
fn without_a_quorum_at_reuse_it_is_tried_again_and_what_cannot_be_is_given_up() {
    let (mut site, mut router, _) = held_out();
    router.body.weight = 77;
    change(&mut site, &mut router);
    let mut token = None;
    while token.is_none() {
        site.pass(ms(1000));
        router.body.sequence = router.body.sequence.max(site.now.unix_us());
        let replies = site.send(&router.keepalive());
        assert!(matches!(replies[..], [Kind::KeepaliveAck(_)]), "{replies:?}");
        let (effects, _) = site.registrar.tick(site.now, &site.model);
        token = effects.iter().find_map(|e| if let Effect::Propose { token, .. } = e { Some(*token) } else { None });
    }
    site.registrar.committed(site.now, token.unwrap(), Err(Unavailable("no leader".into())));
    assert_eq!(site.registrar.tick(site.now, &site.model).0, []);
    site.pass(EXPIRE_RETRY);
    let (effects, _) = site.registrar.tick(site.now, &site.model);
    let [Effect::Propose { token, .. }] = effects[..] else { panic!("{effects:?}") };
    let full = Reply::Refused(ModelRefusal::TooManyDestinations(1));
    site.registrar.committed(site.now, token, Ok(full));
    site.pass(EXPIRE_RETRY);
    assert_eq!(site.registrar.tick(site.now, &site.model).0, []);
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
}

#[test]
fn one_that_holds_a_change_may_fall_silent_leave_and_be_revoked_like_any_other() {
    let (mut site, mut router, _) = held_out();
    router.body.weight = 77;
    change(&mut site, &mut router);
    site.pass(ms(10_000));
    site.tick();
    assert_eq!((site.registered(), site.registrar.load().0), (None, 0));

    let (mut site, mut router, _) = held_out();
    router.body.weight = 77;
    change(&mut site, &mut router);
    let farewell = router.farewell();
    assert!(matches!(site.send(&farewell)[..], [Kind::DeregisterAck(_)]));
    assert_eq!((site.registered(), site.registrar.load().0), (None, 0));
    assert_eq!(refusal(&change(&mut site, &mut router)).0, RefusalCode::Dampened, "as one that is not registered");
}
