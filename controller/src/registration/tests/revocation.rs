//! Certificates whose keys are revoked.

use super::*;
use crate::registration::chain::certificate_fingerprint;

fn revoke(site: &mut Site, certificate: &[u8]) -> Reply {
    let (fingerprint, note) = certificate_fingerprint(certificate).unwrap();
    let at = site.now.unix_ms();
    site.apply(&Command::Revoke { at, fingerprint, note })
}

#[test]
fn a_revoked_router_goes_at_once_and_comes_no_more() {
    let (mut site, mut router, authority) = setup();
    site.register(&mut router);
    site.tick();
    let certificate = router.chain[0].clone();
    assert_eq!(revoke(&mut site, &certificate), Reply::Revoked { registrations: 1 });
    assert_eq!(site.registered(), None);
    site.tick();
    assert_eq!(site.registrar.load().0, 0, "its gateway has forgotten it, too");
    assert_eq!(refusal(&site.send(&router.keepalive())[0]).0, RefusalCode::Revoked);
    site.pass(Duration::from_secs(1));
    router.body.sequence += 1;
    let (code, text) = (site.register(&mut router), "is revoked");
    assert_eq!(refusal(&code).0, RefusalCode::Revoked);
    assert!(refusal(&code).1.contains(text));

    // The same key in a renewed certificate is as bad; another key is good.
    site.pass(Duration::from_secs(2));
    let provider = authority.provider(|_| ());
    router.chain[0] = provider.router(&router.key, |p| p.not_after = date_time_ymd(2029, 1, 1));
    router.body.sequence += 1;
    assert_eq!(refusal(&site.register(&mut router)).0, RefusalCode::Revoked);
    site.pass(Duration::from_secs(2));
    router.key = signing_key(103);
    router.chain[0] = provider.router(&router.key, |_| ());
    router.body.sequence += 1;
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
}

#[test]
fn a_revoked_provider_takes_its_routers_along_and_no_others() {
    let (mut site, mut router, authority) = setup();
    site.register(&mut router);
    let provider = router.chain[1].clone();
    // Another provider's router, two levels below the authority.
    let upper = authority.provider(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
    let lower = upper.provider(|p| p.subject_alt_names.clear());
    let mut other = Router::new(&authority);
    other.body.router.set_port(4001);
    other.chain = vec![lower.router(&other.key, |_| ()), lower.der.clone(), upper.der.clone()];
    site.register(&mut other);
    let key = RegistrationKey { protocol: PROTOCOL, router: other.body.router };
    assert_eq!(site.model.registration(&key).unwrap().registration.chain.len(), 3);

    assert_eq!(revoke(&mut site, &lower.der), Reply::Revoked { registrations: 1 });
    assert!(site.registered().is_some() && site.model.registration(&key).is_none());
    assert_eq!(revoke(&mut site, &provider), Reply::Revoked { registrations: 1 });
    assert_eq!(site.registered(), None);
}

#[test]
fn a_revocation_may_be_taken_back() {
    let (mut site, mut router, _) = setup();
    let certificate = router.chain[1].clone();
    revoke(&mut site, &certificate);
    assert_eq!(refusal(&site.register(&mut router)).0, RefusalCode::Revoked);
    let (fingerprint, _) = certificate_fingerprint(&certificate).unwrap();
    assert_eq!(site.apply(&Command::Unrevoke { at: 1, fingerprint }), Reply::Done);
    site.pass(Duration::from_secs(2));
    router.body.sequence += 1;
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
}

#[test]
fn a_gateway_whose_copy_lags_cannot_register_what_is_revoked() {
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    let lagging = site.model.clone();
    let certificate = router.chain[0].clone();
    revoke(&mut site, &certificate);
    let message = router.register();
    let effects = site.registrar.handle(site.now, &lagging, ROUTER, REGISTRATION, &message);
    assert!(matches!(effects[..], [Effect::Propose { .. }]));
    assert_eq!(refusal(&site.carry_out(effects)[0]).0, RefusalCode::Revoked);
    assert_eq!(site.registered(), None);
}

#[test]
fn a_revocation_right_after_the_registration_ends_the_session_at_the_next_keepalive() {
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    let effects = site.registrar.handle(site.now, &site.model, ROUTER, REGISTRATION, &router.register());
    let [Effect::Propose { token, command }] = &effects[..] else { panic!("{effects:?}") };
    // Both are applied here before the registrar hears that the first was committed.
    let reply = site.apply(command);
    let certificate = router.chain[0].clone();
    assert_eq!(revoke(&mut site, &certificate), Reply::Revoked { registrations: 1 });
    site.tick();
    site.registrar.committed(site.now, *token, Ok(reply));
    let replies = site.send(&router.keepalive());
    assert_eq!(refusal(&replies[0]).0, RefusalCode::Revoked);
    assert_eq!(site.registrar.load().0, 0);

    // Or between two keepalives, before the copy of the state was looked at again.
    let (mut site, mut router, _) = setup();
    site.register(&mut router);
    let certificate = router.chain[1].clone();
    revoke(&mut site, &certificate);
    assert_eq!(refusal(&site.send(&router.keepalive())[0]).0, RefusalCode::Revoked);
    assert_eq!(site.registrar.load().0, 0);
    let (fingerprint, _) = certificate_fingerprint(&certificate).unwrap();
    site.apply(&Command::Unrevoke { at: 1, fingerprint });
    site.pass(Duration::from_secs(2));
    assert_eq!(refusal(&site.send(&router.keepalive())[0]).0, RefusalCode::NotRegistered, "it was taken back");
}
