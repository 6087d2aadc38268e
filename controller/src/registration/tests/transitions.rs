//! What a registration goes through.

use super::*;

#[test]
fn a_router_registers_in_two_exchanges() {
    let (mut site, mut router, _) = setup();
    let Kind::Accepted(accepted) = site.register(&mut router) else { panic!("accepted") };
    let timers = site.model.config().timers;
    assert_eq!(accepted.keepalive_interval_ms, timers.keepalive_ms);
    assert_eq!(accepted.expires_after_ms, timers.expire_after_ms);
    assert_eq!((accepted.gateway, accepted.sequence), (1, router.body.sequence));
    let registered = site.registered().unwrap();
    assert_eq!((registered.provider, registered.weight, registered.gateway), (PROVIDER, 1, HERE));
    assert_eq!(registered.public_key, router.key.verifying_key().to_bytes());
    assert_eq!((registered.name.as_str(), registered.not_after), ("r1", 1_830_297_600));
    let key = registered.key;
    assert_eq!(site.registrar.last_heard(&key), Some(site.now.mono));
}

#[test]
fn nothing_is_kept_before_the_cookie() {
    let (mut site, mut router, _) = setup();
    for port in 1..200 {
        router.body.router = SocketAddrV4::new(*ROUTER.ip(), port);
        site.prove(&mut router);
    }
    assert_eq!(site.registrar.load(), (0, 0, 0));
}

#[test]
fn a_stale_cookie_is_answered_with_a_new_one() {
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    site.pass(Duration::from_secs(60));
    let replies = site.send(&router.register());
    let [Kind::Challenge(challenge)] = &replies[..] else { panic!("{replies:?}") };
    assert_ne!(challenge.cookie, router.body.cookie);
    router.body.cookie = challenge.cookie.clone();
    assert!(matches!(site.send(&router.register())[..], [Kind::Accepted(_)]));
}

/// Found by simulated clusters (seeds 728 and 882 of the first thousand).
#[test]
fn who_is_told_again_that_it_is_registered_stays_so_as_long_as_it_was_told() {
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    let message = router.register();
    assert!(matches!(site.send(&message)[..], [Kind::Accepted(_)]));
    let expire = ms(site.model.config().timers.expire_after_ms.into());
    site.pass(expire - ms(1));
    assert!(matches!(site.send(&message)[..], [Kind::Accepted(_)]));
    site.pass(expire - ms(1));
    site.tick();
    assert!(site.registered().is_some());
    // Its expiry is on its way: it may be gone already.
    site.pass(ms(1));
    let (expiry, _) = site.registrar.tick(site.now, &site.model);
    let replies = site.send(&message);
    let [reply] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(refusal(reply).0, RefusalCode::Busy);
    site.carry_out(expiry);
    assert!(site.registered().is_none());
}

#[test]
fn a_lost_answer_is_given_again_and_a_request_under_way_is_not_repeated() {
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    let message = router.register();
    let effects = site.registrar.handle(site.now, &site.model, ROUTER, REGISTRATION, &message);
    assert_eq!(site.registrar.handle(site.now, &site.model, ROUTER, REGISTRATION, &message), []);
    assert!(matches!(site.carry_out(effects)[..], [Kind::Accepted(_)]));
    let applied = site.model.applied();
    assert!(matches!(site.send(&message)[..], [Kind::Accepted(_)]));
    assert_eq!(site.model.applied(), applied, "without another proposal");
}

#[test]
fn keepalives_keep_it_alive_and_are_not_replicated() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let applied = site.model.applied();
    for _ in 0..20 {
        site.pass(ms(1000));
        let replies = site.send(&router.keepalive());
        assert!(matches!(&replies[..], [Kind::KeepaliveAck(ack)] if ack.sequence == router.body.sequence));
        site.tick();
    }
    assert_eq!(site.model.applied(), applied);
    assert!(site.registered().is_some());
}

#[test]
fn silence_expires_it() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let expire = ms(site.model.config().timers.expire_after_ms.into());
    let deadline = site.now.mono + expire;
    site.tick();
    site.pass(expire - ms(1));
    assert_eq!(site.tick(), Some(deadline));
    assert!(site.registered().is_some());
    site.pass(ms(1));
    site.tick();
    assert_eq!(site.registered(), None);
    assert!(site.effects.iter().any(|e| matches!(e, Effect::Liveness { alive: false, .. })));
    assert!(site.registrar.silent().is_empty(), "what is gone is not silent");
    let reply = site.send(&router.keepalive());
    assert_eq!(refusal(&reply[0]).0, RefusalCode::NotRegistered);
    router.body.sequence += 1;
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)), "and it may come again");
}

#[test]
fn without_a_quorum_the_silent_are_known_locally_and_expiry_is_retried() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let key = site.registered().unwrap().key;
    site.pass(ms(10_000));
    let (effects, _) = site.registrar.tick(site.now, &site.model);
    let [Effect::Liveness { alive: false, .. }, Effect::Propose { token, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert!(site.registrar.silent().contains(&key));
    site.registrar.committed(site.now, token, Err(Unavailable("no leader".into())));
    assert!(site.registrar.silent().contains(&key));
    let (effects, next) = site.registrar.tick(site.now, &site.model);
    assert_eq!((effects, next), (vec![], Some(site.now.mono + EXPIRE_RETRY)));

    // It is heard again before the retry.
    let revived = site.registrar.handle(site.now, &site.model, ROUTER, REGISTRATION, &router.keepalive());
    assert!(matches!(revived[1], Effect::Liveness { alive: true, .. }), "{revived:?}");
    assert!(site.registrar.silent().is_empty());
    site.pass(EXPIRE_RETRY);
    assert_eq!(site.registrar.tick(site.now, &site.model).0, []);
}

#[test]
fn a_router_heard_while_its_expiry_is_refused_keeps_its_term() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    site.pass(ms(10_000));
    let (effects, _) = site.registrar.tick(site.now, &site.model);
    let Effect::Propose { token, .. } = effects[1] else { panic!("{effects:?}") };
    site.send(&router.keepalive());
    site.registrar.committed(site.now, token, Err(Unavailable("timeout".into())));
    site.pass(EXPIRE_RETRY);
    assert_eq!(site.registrar.tick(site.now, &site.model).0, []);
    assert!(site.registrar.silent().is_empty());
}

#[test]
fn a_farewell_removes_it_at_once_and_may_be_repeated() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let message = router.farewell();
    for _ in 0..2 {
        let replies = site.send(&message);
        assert!(matches!(&replies[..], [Kind::DeregisterAck(ack)] if ack.sequence == router.body.sequence));
        assert_eq!(site.registered(), None);
    }
    assert_eq!(site.registrar.load().0, 0);
}

#[test]
fn another_gateway_adopts_it_after_a_cookie() {
    let (mut site, mut router, authority) = setup();
    site.register(&mut router);
    let mut here = std::mem::replace(&mut site.registrar, registrar(THERE, &authority));
    router.body.cookie.clear();
    let replies = site.send(&router.keepalive());
    let [Kind::Challenge(challenge)] = &replies[..] else { panic!("{replies:?}") };
    router.body.cookie = challenge.cookie.clone();
    let replies = site.send(&router.keepalive());
    assert!(matches!(&replies[..], [Kind::KeepaliveAck(ack)] if ack.gateway == 2), "{replies:?}");
    assert_eq!(site.registered().unwrap().gateway, THERE);
    assert_eq!(site.registered().unwrap().sequence, router.body.sequence);
    // The former owner forgets it, and does not expire it.
    site.pass(ms(60_000));
    assert_eq!(here.tick(site.now, &site.model), (vec![], None));
}

#[test]
fn an_old_keepalive_does_not_move_a_registration() {
    let (mut site, mut router, authority) = setup();
    site.register(&mut router);
    let recorded = router.keepalive();
    site.send(&recorded);
    site.registrar = registrar(THERE, &authority);
    let replies = site.send(&recorded);
    assert!(matches!(replies[..], [Kind::Challenge(_)]), "{replies:?}");
    assert_eq!(site.registered().unwrap().gateway, HERE);
}

#[test]
fn a_replayed_keepalive_does_not_count() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let recorded = router.keepalive();
    site.send(&recorded);
    site.pass(ms(1000));
    assert_eq!(site.send(&recorded), [], "nor is it answered: the router may have been told that it counted");
    site.pass(ms(3000));
    site.tick();
    assert_eq!(site.registered(), None, "the replay gave it no time");
}

#[test]
fn after_a_restart_the_routers_get_a_fresh_term_and_prove_themselves_once() {
    let (mut site, mut router, authority) = setup();
    site.register(&mut router);
    let key = site.registered().unwrap().key;
    site.registrar = registrar(HERE, &authority);
    site.pass(ms(60_000));
    let expire = ms(site.model.config().timers.expire_after_ms.into());
    assert_eq!(site.tick(), Some(site.now.mono + expire));
    assert_eq!(site.registrar.last_heard(&key), None);
    router.body.cookie.clear();
    let replies = site.send(&router.keepalive());
    let [Kind::Challenge(challenge)] = &replies[..] else { panic!("{replies:?}") };
    router.body.cookie = challenge.cookie.clone();
    let applied = site.model.applied();
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
    assert_eq!(site.model.applied(), applied);
    // And who stays silent expires.
    site.pass(expire);
    site.tick();
    assert_eq!(site.registered(), None);
}

#[test]
fn what_was_committed_outlives_a_lagging_copy_of_the_state() {
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    let lagging = site.model.clone();
    assert!(matches!(site.send(&router.register())[..], [Kind::Accepted(_)]));
    let key = site.registered().unwrap().key;
    let keepalive = router.keepalive();
    let effects = site.registrar.handle(site.now, &lagging, ROUTER, REGISTRATION, &keepalive);
    assert!(matches!(site.carry_out(effects)[..], [Kind::KeepaliveAck(_)]));
    // A copy that never catches up is believed in the end.
    let mut fed = site.now;
    for _ in 0..12 {
        fed.mono += ms(1000);
        fed.unix += ms(1000);
        let message = router.keepalive();
        site.registrar.handle(fed, &lagging, ROUTER, REGISTRATION, &message);
    }
    site.registrar.tick(fed, &lagging);
    assert_eq!(site.registrar.last_heard(&key), None);
}

#[test]
fn a_change_replaces_the_registration_and_its_key() {
    let (mut site, mut router, authority) = setup();
    site.register(&mut router);
    let provider = authority.provider(|_| ());
    router.key = signing_key(102);
    router.chain = vec![provider.router(&router.key, |_| ()), provider.der];
    router.body.sequence += 1;
    router.body.weight = 9;
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
    let registered = site.registered().unwrap();
    assert_eq!((registered.weight, registered.public_key), (9, router.key.verifying_key().to_bytes()));
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
}

#[test]
fn it_ends_with_its_certificates() {
    let (mut site, mut router, authority) = setup();
    let provider = authority.provider(|_| ());
    let cert =
        provider.router(&router.key, |p| p.not_after = p.not_before + (EPOCH - ms(1_767_225_600_000)) + ms(2000));
    router.chain = vec![cert, provider.der];
    site.register(&mut router);
    site.pass(ms(1000));
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
    site.pass(ms(1000));
    assert_eq!(refusal(&site.send(&router.keepalive())[0]).0, RefusalCode::ChainExpired);
    site.tick();
    assert_eq!(site.registered(), None);
}

#[test]
fn a_provider_may_delegate_and_the_authority_may_issue_to_a_router_directly() {
    let (mut site, mut router, authority) = setup();
    let provider = authority.provider(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
    let below = provider.provider(|p| p.subject_alt_names.clear());
    router.chain = vec![below.router(&router.key, |_| ()), below.der, provider.der];
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)));

    let direct = authority.router(&router.key, |p| {
        p.subject_alt_names.extend([uri("urn:dmux:provider:7"), uri("urn:dmux:protocol:41")]);
    });
    router.chain = vec![direct];
    router.body.sequence += 1;
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
}

#[test]
fn a_wish_for_more_frequent_keepalives_is_granted_within_bounds() {
    let usual = crate::model::Timers::default().keepalive_ms;
    for (wish, granted) in [(0, usual), (500, 500), (10, 100), (u32::MAX, usual)] {
        let (mut site, mut router, _) = setup();
        router.body.keepalive_interval_ms = wish;
        let Kind::Accepted(accepted) = site.register(&mut router) else { panic!("accepted") };
        assert_eq!(accepted.keepalive_interval_ms, granted, "wish {wish}");
    }
}

#[test]
fn a_name_in_a_certificate_cannot_play_tricks() {
    let (mut site, mut router, authority) = setup();
    let provider = authority.provider(|_| ());
    let cert = provider.router(&router.key, |p| {
        p.distinguished_name.push(DnType::CommonName, format!("r\x1b[2J\n{}", "ü".repeat(60)));
    });
    router.chain = vec![cert, provider.der];
    site.register(&mut router);
    let name = &site.registered().unwrap().name;
    assert!(name.starts_with("r??2J?ü") && name.len() <= 64, "{name:?}");
}

#[test]
fn a_router_drains_by_registering_again_and_stays_so_where_it_moves() {
    let (mut site, mut router, authority) = setup();
    site.register(&mut router);
    assert_eq!(site.registered().unwrap().draining, None);
    router.body.sequence += 1;
    router.body.draining = true;
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
    let since = site.registered().unwrap().draining;
    assert_eq!(since, Some(site.now.unix_ms()));
    site.pass(ms(1000));
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
    site.registrar = registrar(THERE, &authority);
    site.prove(&mut router);
    assert!(matches!(site.send(&router.keepalive())[..], [Kind::KeepaliveAck(_)]));
    assert_eq!((site.registered().unwrap().gateway, site.registered().unwrap().draining), (THERE, since));
    router.body.sequence += 1;
    router.body.draining = false;
    site.register(&mut router);
    assert_eq!(site.registered().unwrap().draining, None);
}

/// Found by simulated clusters: the answer to the farewell was lost with the way to the leader, and this gateway's copy
/// lagged behind.
#[test]
fn who_restarts_after_a_farewell_of_unknown_fate_is_registered_anew() {
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let lagging = site.model.clone();
    let effects = site.registrar.handle(site.now, &lagging, ROUTER, REGISTRATION, &router.farewell());
    let [Effect::Propose { token, command }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(site.apply(command), Reply::Done);
    site.registrar.committed(site.now, *token, Err(Unavailable("the way to the leader is lost".into())));
    router.body.sequence += 1;
    let effects = site.registrar.handle(site.now, &lagging, ROUTER, REGISTRATION, &router.register());
    let proposed = effects.iter().any(|e| matches!(e, Effect::Propose { command: Command::Register { .. }, .. }));
    assert!(proposed, "it may be gone already, so that it is not told without a write that it is there: {effects:?}");
}

/// Found by simulated clusters: the gateway's disk was slow, so that its copy came to the registration after the farewell
/// was confirmed.
#[test]
fn who_restarts_while_the_copy_lags_behind_its_farewell_is_registered_anew() {
    let (mut site, mut router, _) = setup();
    let before = site.model.clone();
    site.prove(&mut router);
    let write = |site: &mut Site, message: &[u8]| {
        let effects = site.registrar.handle(site.now, &before, ROUTER, REGISTRATION, message);
        let [Effect::Propose { token, command }] = &effects[..] else { panic!("{effects:?}") };
        let reply = site.apply(command);
        site.registrar.committed(site.now, *token, Ok(reply));
    };
    write(&mut site, &router.register());
    let lagging = site.model.clone();
    write(&mut site, &router.farewell());
    assert_eq!(site.registered(), None);
    router.body.sequence += 1;
    let effects = site.registrar.handle(site.now, &lagging, ROUTER, REGISTRATION, &router.register());
    let proposed = effects.iter().any(|e| matches!(e, Effect::Propose { command: Command::Register { .. }, .. }));
    assert!(proposed, "it is told without a write that it is there, and is not: {effects:?}");
}
