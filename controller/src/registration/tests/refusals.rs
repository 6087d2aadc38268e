//! Each thing that can be wrong has its own refusal, with a sentence that says what to do.

use rcgen::{BasicConstraints, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints};
use rcgen::{PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd};

use super::*;

/// Registers after a change; the code and the sentence of the refusal.
fn refused(change: impl FnOnce(&mut Router, &Ca)) -> (RefusalCode, String) {
    let (mut site, mut router, authority) = setup();
    site.prove(&mut router);
    change(&mut router, &authority);
    let from = router.body.router;
    let replies = site.send_from(from, &router.register());
    let [reply] = &replies[..] else { panic!("one reply, not {replies:?}") };
    let (code, text) = refusal(reply);
    assert_eq!(site.registered(), None);
    let logged =
        site.effects.iter().any(|e| matches!(e, Effect::Log { level: Level::Warn, text: t } if t.contains(text)));
    assert!(logged, "the log says the same: {:?}", site.effects);
    (code, text.to_owned())
}

fn with_provider(change: impl FnOnce(&mut rcgen::CertificateParams)) -> (RefusalCode, String) {
    refused(|router, authority| {
        let provider = authority.provider(change);
        router.chain = vec![provider.router(&router.key, |_| ()), provider.der];
    })
}

fn with_router(change: impl FnOnce(&mut rcgen::CertificateParams)) -> (RefusalCode, String) {
    refused(|router, authority| {
        let provider = authority.provider(|_| ());
        router.chain = vec![provider.router(&router.key, change), provider.der];
    })
}

#[track_caller]
fn expect(outcome: (RefusalCode, String), code: RefusalCode, words: &str) {
    assert_eq!(outcome.0, code, "{}", outcome.1);
    assert!(outcome.1.contains(words), "{:?} should contain {words:?}", outcome.1);
}

#[test]
fn a_missing_a_long_and_an_unreadable_chain() {
    expect(refused(|r, _| r.chain.clear()), RefusalCode::BadChain, "0 certificates");
    expect(refused(|r, _| r.chain = vec![vec![0x30, 0]; 5]), RefusalCode::BadChain, "at most 4");
    expect(refused(|r, _| r.chain[0] = vec![1, 2, 3]), RefusalCode::BadChain, "cannot be read");
}

#[test]
fn another_authority() {
    let outcome = refused(|router, _| router.chain = Router::new(&Ca::authority(11)).chain);
    expect(outcome, RefusalCode::UnknownAuthority, "authority of this network");
}

#[test]
fn a_chain_without_the_provider_in_between() {
    let outcome = refused(|router, _| router.chain.truncate(1));
    expect(outcome, RefusalCode::UnknownAuthority, "does not end at an authority");
}

#[test]
fn an_expired_router_and_an_expired_provider() {
    let end = |p: &mut rcgen::CertificateParams| p.not_after = date_time_ymd(2026, 12, 31);
    expect(with_router(end), RefusalCode::ChainExpired, "renew");
    expect(with_provider(end), RefusalCode::ChainExpired, "renew");
}

#[test]
fn a_certificate_of_the_future() {
    let outcome = with_router(|p| p.not_before = date_time_ymd(2027, 2, 1));
    expect(outcome, RefusalCode::ChainNotYetValid, "becomes valid only in");
}

#[test]
fn a_forged_signature_in_the_chain() {
    let outcome = refused(|router, _| {
        let last = router.chain[0].len() - 1;
        router.chain[0][last] ^= 1;
    });
    expect(outcome, RefusalCode::ChainInvalid, "signature");
}

#[test]
fn an_issuer_that_may_not_issue() {
    let outcome = with_provider(|p| p.is_ca = IsCa::ExplicitNoCa);
    expect(outcome, RefusalCode::ChainInvalid, "not a CA");
}

#[test]
fn a_provider_certificate_in_the_place_of_the_routers() {
    let outcome = refused(|router, _| router.chain.swap(0, 1));
    expect(outcome, RefusalCode::ChainInvalid, "one's own comes first");
}

#[test]
fn a_provider_that_issues_more_levels_than_it_may() {
    let outcome = refused(|router, authority| {
        let provider = authority.provider(|_| ());
        let below = provider.provider(|_| ());
        router.chain = vec![below.router(&router.key, |_| ()), below.der, provider.der];
    });
    expect(outcome, RefusalCode::ChainInvalid, "more levels");
}

#[test]
fn an_address_outside_of_the_providers_constraint() {
    let outcome = with_provider(|p| {
        let subnet = GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([192, 0, 2, 0], 24));
        p.name_constraints = Some(NameConstraints { permitted_subtrees: vec![subnet], excluded_subtrees: vec![] });
    });
    expect(outcome, RefusalCode::ChainInvalid, "outside of what its issuer may certify");
}

#[test]
fn a_certificate_for_another_purpose() {
    let outcome = with_router(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(outcome.0, RefusalCode::ChainInvalid, "{}", outcome.1);
}

#[test]
fn an_address_that_the_certificate_does_not_name() {
    let outcome = with_router(|p| p.subject_alt_names = vec![SanType::IpAddress([203, 0, 113, 99].into())]);
    expect(outcome, RefusalCode::AddressNotCertified, "dmux ca router --address 203.0.113.100");
}

#[test]
fn a_provider_that_the_chain_does_not_belong_to() {
    let outcome = refused(|router, _| router.body.provider = ProviderId(8));
    expect(outcome, RefusalCode::ProviderNotCertified, "certified provider 7, not provider 8");
    let none = with_provider(|p| p.subject_alt_names = vec![uri("urn:dmux:protocol:41")]);
    expect(none, RefusalCode::ProviderNotCertified, "no provider");
    let odd = with_provider(|p| p.subject_alt_names = vec![uri("urn:dmux:provider:07"), uri("urn:dmux:protocol:41")]);
    expect(odd, RefusalCode::ProviderNotCertified, "no provider");
}

#[test]
fn a_provider_cannot_certify_itself_as_another() {
    let outcome = refused(|router, authority| {
        let provider = authority.provider(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
        let below = provider.provider(|p| {
            p.subject_alt_names = vec![uri("urn:dmux:provider:8"), uri("urn:dmux:protocol:41")];
            p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        });
        router.chain = vec![below.router(&router.key, |_| ()), below.der, provider.der];
        router.body.provider = ProviderId(8);
    });
    expect(outcome, RefusalCode::ProviderNotCertified, "certified provider 7");
    let outcome = with_router_names(&["urn:dmux:provider:8", "urn:dmux:protocol:41"]);
    expect(outcome, RefusalCode::ProviderNotCertified, "certified provider 7");
}

fn with_router_names(names: &[&str]) -> (RefusalCode, String) {
    refused(|router, authority| {
        let provider = authority.provider(|_| ());
        let cert = provider.router(&router.key, |p| p.subject_alt_names.extend(names.iter().map(|n| uri(n))));
        router.chain = vec![cert, provider.der];
        router.body.provider = ProviderId(8);
    })
}

#[test]
fn a_protocol_that_the_provider_may_not_serve() {
    let outcome = refused(|router, _| router.body.protocol = ProtocolId(42));
    expect(outcome, RefusalCode::ProtocolNotCertified, "not certified for protocol 42");
}

#[test]
fn a_key_of_another_algorithm() {
    let outcome = refused(|router, authority| {
        let provider = authority.provider(|_| ());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        router.chain = vec![provider.router_with(&key, |_| ()), provider.der];
    });
    expect(outcome, RefusalCode::BadKey, "Ed25519");
}

#[test]
fn a_signature_of_another_key_and_one_for_another_purpose() {
    expect(refused(|r, _| r.key = signing_key(101)), RefusalCode::BadSignature, "does not verify");
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    let body = router.body.encode();
    let signature = router.sign(Domain::Keepalive, &body);
    let message = encode(9, Kind::Register(Register { body, chain: router.chain.clone(), signature })).unwrap();
    assert_eq!(refusal(&site.send(&message)[0]).0, RefusalCode::BadSignature);
}

#[test]
fn a_clock_that_is_ahead() {
    let outcome = refused(|r, _| r.body.sequence += 301_000_000);
    expect(outcome, RefusalCode::ClockSkew, "301 s ahead");
}

#[test]
fn an_address_in_the_dmux_prefix() {
    let (mut site, mut router, _) = setup();
    router.body.router = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 77), 4000);
    let reply = site.register(&mut router);
    assert_eq!(refusal(&reply).0, RefusalCode::BadAddress);
}

#[test]
fn fields_out_of_range_and_a_foreign_source_are_refused_before_any_proof() {
    let (mut site, mut router, _) = setup();
    router.body.provider = ProviderId::ANY;
    assert_eq!(refusal(&site.send(&router.register())[0]).0, RefusalCode::BadProvider);
    let (mut site, mut router, _) = setup();
    let other = SocketAddrV4::new(*ROUTER.ip(), 4001);
    let reply = site.send_from(other, &router.register());
    let (code, text) = refusal(&reply[0]);
    assert_eq!(code, RefusalCode::AddressMismatch);
    assert!(text.contains("without NAT"), "{text}");
}

#[test]
fn a_sequence_that_was_used_before() {
    let (mut site, mut router, _) = setup();
    assert!(matches!(site.register(&mut router), Kind::Accepted(_)));
    router.body.sequence -= 1;
    assert_eq!(refusal(&site.register(&mut router)).0, RefusalCode::Replayed);
    router.body.sequence += 1;
    site.send(&router.farewell());
    assert_eq!(site.registered(), None);
    site.pass(REFUSAL_INTERVAL);
    router.body.sequence -= 1;
    assert_eq!(refusal(&site.register(&mut router)).0, RefusalCode::Replayed, "not even after the farewell");
}

#[test]
fn refusals_come_once_per_source_and_interval_and_save_the_work() {
    let (mut site, mut router, authority) = setup();
    site.prove(&mut router);
    let good = std::mem::replace(&mut router.chain, Router::new(&Ca::authority(11)).chain);
    assert_eq!(site.send(&router.register()).len(), 1);
    assert_eq!(site.send(&router.register()), []);
    router.chain = good;
    assert_eq!(site.send(&router.register()), [], "no second verification within the interval");
    site.pass(REFUSAL_INTERVAL);
    assert!(matches!(site.send(&router.register())[..], [Kind::Accepted(_)]));
    drop(authority);
}

#[test]
fn the_cluster_refuses_or_does_not_answer() {
    let (mut site, mut router, _) = setup();
    site.prove(&mut router);
    let effects = site.registrar.handle(site.now, &site.model, ROUTER, REGISTRATION, &router.register());
    let [Effect::Propose { token, .. }] = effects[..] else { panic!("{effects:?}") };
    let gone = Err(Unavailable("no leader".into()));
    let replies = {
        let effects = site.registrar.committed(site.now, token, gone);
        site.carry_out(effects)
    };
    let Kind::Refused(refused) = &replies[0] else { panic!("{replies:?}") };
    assert_eq!((refused.code(), refused.retry_after_ms), (RefusalCode::ClusterUnavailable, 500));

    let effects = site.registrar.handle(site.now, &site.model, ROUTER, REGISTRATION, &router.register());
    let [Effect::Propose { token, .. }] = effects[..] else { panic!("{effects:?}") };
    let full = Ok(Reply::Refused(ModelRefusal::TooManyRegistrations(5)));
    let effects = site.registrar.committed(site.now, token, full);
    assert_eq!(refusal(&site.carry_out(effects)[0]).0, RefusalCode::Limit);
}

#[test]
fn proposals_in_flight_are_bounded_and_given_up_in_time() {
    let (mut site, mut router, authority) = setup();
    let provider = authority.provider(|_| ());
    for n in 0..=MAX_IN_FLIGHT {
        let port = 5000 + u16::try_from(n).unwrap();
        router.body.router = SocketAddrV4::new(*ROUTER.ip(), port);
        router.chain = vec![provider.router(&router.key, |_| ()), provider.der.clone()];
        site.prove(&mut router);
        let message = router.register();
        let effects = site.registrar.handle(site.now, &site.model, router.body.router, REGISTRATION, &message);
        match &effects[0] {
            Effect::Propose { .. } => assert!(n < MAX_IN_FLIGHT),
            Effect::Reply { bytes, .. } => {
                assert_eq!(n, MAX_IN_FLIGHT);
                let (_, reply) = decode(bytes).unwrap();
                assert_eq!(refusal(&reply), (RefusalCode::Busy, "busy, retry"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(site.registrar.load().1, MAX_IN_FLIGHT);
    site.pass(PROPOSAL_DEADLINE);
    site.tick();
    assert_eq!(site.registrar.load().1, 0);
}

#[test]
fn authorities_that_cannot_be_used_say_so() {
    assert_eq!(Authorities::from_pem("").unwrap_err(), AuthorityError::None);
    let garbage = Authorities::from_der(&[vec![1, 2]]).unwrap_err();
    assert!(garbage.to_string().contains("dmux ca init"), "{garbage}");
    let many = vec![Ca::authority(1).der; chain::MAX_AUTHORITIES + 1];
    assert_eq!(Authorities::from_der(&many).unwrap_err(), AuthorityError::TooMany(17));
}
