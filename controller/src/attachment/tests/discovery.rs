//! Offers and attachments, with and without certificates.

use super::*;

#[test]
fn an_offer_says_what_an_endpoint_has_to_know() {
    let mut bench = setup();
    let offer = bench.offer(&mut station(3, 1));
    assert_eq!((offer.gateway, offer.gateway_mac), (HERE, MacAddr([2, 0, 0, 0, 1, 3])));
    assert_eq!((offer.provisioned_vid, offer.provisioned_pcp, offer.multipoint_vid), (100, 5, Some(200)));
    assert_eq!((offer.control_mli, offer.mtu, offer.more, offer.authenticate), (CONTROL_MLI, 1_496, false, false));
    let metanets: Vec<_> = offer.metanets.iter().map(|m| (m.id, m.name.as_str(), m.shared_mli)).collect();
    assert_eq!(metanets, [(VIDEO, "metanet 41", Some(0xff_fc00)), (VOICE, "metanet 42", None)]);
    assert!(bench.attachments.is_empty(), "nothing is kept of who asks");
}

#[test]
fn an_answer_on_mli_0_comes_on_the_vlan_of_the_request() {
    let mut bench = setup();
    let mut station = station(3, 1);
    for vlan in [None, Some(Vlan { pcp: 3, dei: false, vid: 17 }), Some(PROVISIONED)] {
        let mut frame = station.frame(vlan, MLI_DISCOVERY, &Kind::Discover(Discover::default()));
        frame.resize(400, 0);
        let effects =
            bench.attachments.handle(bench.now, &bench.model, PuntReason::Discovery, station.port, &frame).unwrap();
        let [Effect::Send(outgoing)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(Ethernet::parse(&outgoing.frame).unwrap().0.vlan, vlan);
        assert_eq!(read(outgoing).0, station.endpoint());
    }
}

/// No answer to who is not proven is longer than the frame; the longer the frame, the more metanets are in it.
#[test]
fn nothing_is_amplified_and_padding_makes_room() {
    let mut bench = setup();
    for n in 0..100_u16 {
        let id = Destination { protocol: ProtocolId(1_000 + n), provider: ProviderId(7) };
        let (allow, deny) = (BTreeSet::new(), BTreeSet::new());
        let (name, admission) = ("x".repeat(1 + usize::from(n) % 64), Admission::ByOperator);
        let metanet = Metanet { id, name, admission, allow, deny, multipoint: n % 2 == 0 };
        bench.does(Command::PutMetanet { at: 0, metanet });
    }
    let mut station = station(3, 1);
    let (mut most, mut answered, mut second) = (0, 0, 0);
    for padding in 0..1_400 {
        if padding % 200 == 0 {
            bench.pass(Duration::from_secs(1));
        }
        let frame = station.discover(padding);
        match bench.attachments.handle(bench.now, &bench.model, PuntReason::Discovery, station.port, &frame) {
            Ok(effects) => {
                let [Effect::Send(outgoing)] = &effects[..] else { panic!("{effects:?}") };
                assert!(outgoing.frame.len() <= frame.len(), "{padding}");
                let Kind::Offer(offer) = read(outgoing).2 else { panic!("an offer") };
                assert!(offer.metanets.len() >= most && offer.more);
                most = offer.metanets.len();
                answered += 1;
            }
            Err(dropped) => assert_eq!((dropped, answered), (Dropped::TooShort, 0), "{padding}"),
        }
    }
    assert!(most > 20 && answered > 1_200, "{most}");
    // The rest, page by page.
    let mut seen = BTreeSet::new();
    let mut after = None;
    loop {
        second += 1;
        let mut frame = station.frame(None, MLI_DISCOVERY, &Kind::Discover(Discover { after }));
        frame.resize(1_000, 0);
        let answers = bench.on_mli_0(&station, &frame).unwrap();
        let [Kind::Offer(offer)] = &answers[..] else { panic!("{answers:?}") };
        seen.extend(offer.metanets.iter().map(|metanet| metanet.id));
        after = offer.metanets.last().map(|metanet| metanet.id);
        if !offer.more {
            break;
        }
    }
    assert_eq!(seen.len(), 102);
    assert!(second > 3);
}

#[test]
fn an_endpoint_is_attached_until_it_is_silent() {
    let mut bench = setup();
    let mut station = station(3, 1);
    let Kind::Attached(attached) = bench.attach(&mut station) else { panic!("attached") };
    assert_eq!(u64::from(attached.idle_after_ms), IDLE.as_millis() as u64);
    assert_eq!(bench.attachments.take_changes(), [(station.endpoint(), true)].into());
    // Attaching again begins anew.
    bench.pass(IDLE - Duration::from_secs(10));
    assert!(matches!(bench.attach(&mut station), Kind::Attached(_)));
    bench.pass(Duration::from_secs(20));
    assert!(bench.attachments.take_changes().is_empty());
    bench.pass(IDLE);
    assert_eq!(bench.attachments.take_changes(), [(station.endpoint(), false)].into());
    let renew = Kind::Renew(Renew { mli: 1 });
    assert_eq!(code(&bench.asks(&mut station, &renew)), RefusalCode::NotAttached);
}

#[test]
fn whoever_has_a_metalink_stays_attached() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    bench.connected(&mut station, 10);
    bench.pass(IDLE + Duration::from_secs(1));
    assert_eq!(bench.attachments.len(), 1);
    bench.does(Command::ReleaseMetalink { at: 1, metalink: MetalinkId { gateway: HERE, mli: Mli(1) } });
    bench.pass(IDLE + Duration::from_secs(1));
    assert_eq!(bench.attachments.len(), 0);
}

/// What attaching with a certificate comes to.
fn with_certificate(
    bench: &mut Bench,
    station: &mut Station,
    chain: Vec<Vec<u8>>,
    key: &SigningKey,
    domain: Domain,
) -> Kind {
    let offer = bench.offer(station);
    assert!(offer.authenticate);
    let sign = |body: &[u8]| key.sign(&domain.signed_bytes(body)).to_bytes().to_vec();
    let frame = attach(station, offer.cookie, chain, sign);
    bench.on_mli_0(station, &frame).unwrap().remove(0)
}

fn name_of(station: &Station) -> Vec<rcgen::SanType> {
    vec![uri(&crate::registration::chain::endpoint_urn(station.mac))]
}

#[test]
fn an_access_link_that_asks_for_certificates_gets_good_ones_only() {
    let mut bench = setup_with(|link| link.authenticate = true);
    let authority = Ca::authority(10);
    let (key, other_key) = (signing_key(77), signing_key(78));
    let mut laptop = station(3, 1);
    let certificate = authority.router(&key, |params| params.subject_alt_names = name_of(&laptop));
    let chain = vec![certificate.clone()];
    let mut is = |bench: &mut Bench, chain: Vec<Vec<u8>>, key: &SigningKey, domain, wanted| {
        let answer = with_certificate(bench, &mut laptop, chain, key, domain);
        assert_eq!(code(&answer), wanted, "{answer:?}");
    };
    use RefusalCode as C;
    is(&mut bench, vec![], &key, Domain::Attach, C::AuthenticationRequired);
    is(&mut bench, vec![vec![0x30, 3, 1, 2]], &key, Domain::Attach, C::BadChain);
    is(&mut bench, vec![vec![0x30]; 9], &key, Domain::Attach, C::BadChain);
    is(&mut bench, chain.clone(), &other_key, Domain::Attach, C::BadSignature);
    is(&mut bench, chain.clone(), &key, Domain::Register, C::BadSignature);
    let stranger = Ca::authority(11);
    let foreign = stranger.router(&key, |params| params.subject_alt_names = name_of(&station(3, 1)));
    is(&mut bench, vec![foreign], &key, Domain::Attach, C::UnknownAuthority);
    let anothers = authority.router(&key, |params| params.subject_alt_names = name_of(&station(3, 2)));
    is(&mut bench, vec![anothers], &key, Domain::Attach, C::AddressNotCertified);
    let routers = authority.router(&key, |_| ());
    is(&mut bench, vec![routers], &key, Domain::Attach, C::AddressNotCertified);
    let provider = authority.provider(|_| ());
    let by_provider = provider.router(&key, |params| params.subject_alt_names = name_of(&station(3, 1)));
    is(&mut bench, vec![by_provider, provider.der], &key, Domain::Attach, C::ChainInvalid);
    let old = authority.router(&key, |params| {
        params.subject_alt_names = name_of(&station(3, 1));
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
    });
    is(&mut bench, vec![old], &key, Domain::Attach, C::ChainExpired);
    assert!(bench.attachments.is_empty());
    assert!(matches!(with_certificate(&mut bench, &mut laptop, chain, &key, Domain::Attach), Kind::Attached(_)));
    assert_eq!(bench.attachments.len(), 1);
}

#[test]
fn what_was_proven_counts_until_it_is_revoked_or_expires() {
    let mut bench = setup_with(|link| link.authenticate = true);
    let authority = Ca::authority(10);
    let key = signing_key(77);
    let mut laptop = station(3, 1);
    let certificate = authority.router(&key, |params| params.subject_alt_names = name_of(&laptop));
    let chain = vec![certificate.clone()];
    let attach =
        |bench: &mut Bench, laptop: &mut Station| with_certificate(bench, laptop, chain.clone(), &key, Domain::Attach);
    assert!(matches!(attach(&mut bench, &mut laptop), Kind::Attached(_)));
    bench.connected(&mut laptop, 10);
    let (fingerprint, name) = crate::registration::chain::certificate_fingerprint(&certificate).unwrap();
    assert_eq!(name, "r1");
    bench.apply(&Command::Revoke { at: 1, fingerprint, note: "lost".into() });
    let renew = Kind::Renew(Renew { mli: 1 });
    assert_eq!(code(&bench.asks(&mut laptop, &renew)), RefusalCode::Revoked);
    assert_eq!(code(&bench.asks(&mut laptop, &renew)), RefusalCode::NotAttached);
    assert_eq!(code(&attach(&mut bench, &mut laptop)), RefusalCode::Revoked);
    bench.apply(&Command::Unrevoke { at: 2, fingerprint });
    assert!(matches!(attach(&mut bench, &mut laptop), Kind::Attached(_)));
    // The certificate ends at the start of 2028.
    bench.now.unix = Duration::from_secs(1_830_297_600);
    assert_eq!(code(&bench.asks(&mut laptop, &renew)), RefusalCode::ChainExpired);
}

#[test]
fn certificates_that_are_asked_for_later_are_asked_of_those_that_are_attached_too() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let link = AccessLink { authenticate: true, ..bench.model.access_links().next().unwrap().clone() };
    bench.does(Command::PutAccessLink { at: 1, link });
    let wish = station.wish(VIDEO, 10, Lease::Short);
    assert_eq!(code(&bench.asks(&mut station, &wish)), RefusalCode::AuthenticationRequired);
    assert!(bench.attachments.is_empty());
}
