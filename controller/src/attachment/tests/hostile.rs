//! What nobody honest sends: each is refused or dropped with its reason, counted, and at no other endpoint's expense.

use proptest::prelude::*;

use super::*;

#[test]
fn frames_that_are_not_what_they_were_punted_for_are_dropped() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let renew = Kind::Renew(Renew { mli: 1 });
    let control = station.frame(Some(PROVISIONED), CONTROL_MLI, &renew);
    let discover = station.discover(100);
    let on = |n| PortId::new(n).unwrap();
    let mut dropped = |reason, port, frame: &[u8]| bench.heard(reason, port, frame).unwrap_err();
    use PuntReason as R;
    assert_eq!(dropped(R::Discovery, on(1), &discover), Dropped::Port(on(1)), "a WAN port");
    assert_eq!(dropped(R::MetalinkControl, on(9), &control), Dropped::Port(on(9)), "no port of ours");
    assert_eq!(dropped(R::Arp, on(3), &control), Dropped::Reason(R::Arp));
    assert_eq!(dropped(R::Discovery, on(3), &control), Dropped::Mli(CONTROL_MLI));
    assert_eq!(dropped(R::MetalinkControl, on(3), &discover), Dropped::Mli(MLI_DISCOVERY));
    for vlan in [None, Some(Vlan { vid: 101, ..PROVISIONED }), Some(Vlan { vid: 200, ..PROVISIONED })] {
        let frame = station.frame(vlan, CONTROL_MLI, &renew);
        assert_eq!(dropped(R::MetalinkControl, on(3), &frame), Dropped::Vlan(vlan.map(|vlan| vlan.vid)));
    }
    for mac in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([1, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 1, 3])] {
        let frame = Station { mac, ..station.clone() }.discover(100);
        assert_eq!(dropped(R::Discovery, on(3), &frame), Dropped::Source(mac));
    }
    let mut legacy = discover.clone();
    legacy[12..14].copy_from_slice(&[8, 0]);
    assert!(matches!(dropped(R::Discovery, on(3), &legacy), Dropped::Headers(_)));
    let mut version = discover.clone();
    version[14] = 0x20;
    assert!(matches!(dropped(R::Discovery, on(3), &version), Dropped::Headers(_)));
    // Kinds that gateways send, and those of the other MLI.
    let kinds = [Kind::Attached(dmux_wire::metalink::Attached { idle_after_ms: 1 }), renew.clone()];
    for kind in kinds {
        let frame = station.frame(None, MLI_DISCOVERY, &kind);
        assert_eq!(dropped(R::Discovery, on(3), &frame), Dropped::Kind);
    }
    let frame = station.frame(Some(PROVISIONED), CONTROL_MLI, &Kind::Discover(Discover::default()));
    assert_eq!(dropped(R::MetalinkControl, on(3), &frame), Dropped::Kind);
    let counts = &bench.attachments.counts().dropped;
    assert_eq!((counts["port"], counts["mli"], counts["vlan"], counts["source"], counts["kind"]), (2, 2, 3, 4, 3));
}

#[test]
fn what_is_malformed_truncated_or_oversized_is_dropped() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let wish = station.wish(VIDEO, 10, Lease::Short);
    let whole = station.frame(Some(PROVISIONED), CONTROL_MLI, &wish);
    for length in 0..whole.len() {
        bench.pass(Duration::from_secs(1));
        let cut = bench.heard(PuntReason::MetalinkControl, station.port, &whole[..length]);
        assert!(matches!(cut, Err(Dropped::Headers(_) | Dropped::Message(_))), "{length}: {cut:?}");
    }
    let oversized = [&1_201_u16.to_be_bytes()[..], &[0; 1_201]].concat();
    let frame = station.raw(Some(PROVISIONED), CONTROL_MLI, &oversized);
    let error = Err(Dropped::Message(MetalinkError::TooLong(1_201)));
    assert_eq!(bench.heard(PuntReason::MetalinkControl, station.port, &frame), error);
    assert_eq!(bench.proposals(), 0);
    // A value that cannot be is told.
    let none = Kind::Connect(Connect {
        metanet: MetanetId { protocol: ProtocolId(0), provider: ProviderId(1) },
        rate: 1,
        lease: Lease::Short,
        request: 1,
    });
    assert_eq!(code(&bench.asks(&mut station, &none)), RefusalCode::BadProtocol);
}

#[test]
fn a_cookie_is_good_for_one_address_at_one_port_for_a_while() {
    let mut bench = setup();
    let mut victim = station(3, 1);
    let cookie = bench.offer(&mut victim).cookie;
    let tries = |bench: &mut Bench, mut who: Station, cookie: &[u8]| {
        let frame = attach(&mut who, cookie.to_vec(), Vec::new(), |_| Vec::new());
        bench.on_mli_0(&who, &frame).unwrap().remove(0)
    };
    let another = tries(&mut bench, station(3, 2), &cookie);
    assert_eq!(code(&another), RefusalCode::BadCookie, "another's");
    assert_eq!(code(&tries(&mut bench, station(4, 1), &cookie)), RefusalCode::BadCookie, "another port's");
    assert_eq!(code(&tries(&mut bench, station(3, 1), &[0; 16])), RefusalCode::BadCookie, "a guess");
    assert_eq!(code(&tries(&mut bench, station(3, 1), &[])), RefusalCode::BadCookie, "none");
    assert!(bench.attachments.is_empty(), "nothing is kept");
    // Another gateway's offer, and another's name in the message.
    for (gateway, mac) in [(GatewayId(2), victim.mac), (HERE, MacAddr([2, 0, 0, 0, 9, 2]))] {
        let body = AttachBody { cookie: cookie.clone(), gateway, mac }.encode();
        let kind = Kind::Attach(Attach { body, chain: Vec::new(), signature: Vec::new() });
        let frame = victim.frame(None, MLI_DISCOVERY, &kind);
        let answer = bench.on_mli_0(&victim, &frame).unwrap().remove(0);
        assert_eq!(code(&answer), RefusalCode::AddressMismatch);
    }
    assert!(matches!(tries(&mut bench, victim.clone(), &cookie), Kind::Attached(_)));
    // Replayed by whoever saw it: while it is good, it attaches whom it was given to; later, nobody.
    assert!(matches!(tries(&mut bench, victim.clone(), &cookie), Kind::Attached(_)));
    assert_eq!(bench.attachments.len(), 1);
    bench.pass(Duration::from_secs(61));
    assert_eq!(code(&tries(&mut bench, victim, &cookie)), RefusalCode::BadCookie, "too old");
}

#[test]
fn nobody_speaks_for_another_endpoint() {
    let mut bench = setup();
    let mut owner = bench.attached(3, 1);
    let metalink = bench.connected(&mut owner, 10);
    let mut other = bench.attached(3, 2);
    // The same address behind another port is another endpoint.
    let mut same_address = bench.attached(4, 1);
    for thief in [&mut other, &mut same_address] {
        for kind in [Kind::Renew(Renew { mli: metalink.mli }), Kind::Release(Release { mli: metalink.mli })] {
            assert_eq!(code(&bench.asks(thief, &kind)), RefusalCode::NoSuchMetalink);
        }
    }
    assert_eq!(bench.proposals(), 1, "the claim, and nothing else");
    assert_eq!(bench.model.metalinks_from(std::ops::Bound::Unbounded).count(), 1);
    // An MLI that is nobody's tells nothing either.
    assert_eq!(code(&bench.asks(&mut other, &Kind::Renew(Renew { mli: 4_711 }))), RefusalCode::NoSuchMetalink);
    // And who is not attached is not asked what it wants.
    let mut stranger = station(3, 3);
    let release = Kind::Release(Release { mli: metalink.mli });
    assert_eq!(code(&bench.asks(&mut stranger, &release)), RefusalCode::NotAttached);
}

#[test]
fn who_is_not_attached_gets_no_longer_answer_than_its_frame() {
    let mut bench = setup();
    let mut stranger = station(3, 3);
    let frame = stranger.frame(Some(PROVISIONED), CONTROL_MLI, &Kind::Renew(Renew { mli: 1 }));
    let effects = bench.attachments.handle(bench.now, &bench.model, PuntReason::MetalinkControl, stranger.port, &frame);
    let effects = effects.unwrap();
    let [Effect::Send(outgoing)] = &effects[..] else { panic!("{effects:?}") };
    assert!(outgoing.frame.len() <= frame.len());
    assert_eq!(code(&read(outgoing).2), RefusalCode::NotAttached);
}

#[test]
fn a_flood_on_mli_0_costs_attached_endpoints_nothing() {
    let mut bench = setup();
    let mut station = bench.attached(3, 1);
    let mut offers = 0;
    for n in 0..10_000_u64 {
        // From addresses without number, of one port.
        let mac = MacAddr::from_u64(0x0200_0000_0000 + n);
        let flooder = Station { mac, ..super::station(3, 0) };
        let frame = flooder.clone().discover(400);
        offers += bench.on_mli_0(&flooder, &frame).is_ok() as u32;
    }
    assert!(offers <= DISCOVERIES_PER_PORT, "{offers}");
    assert_eq!(bench.attachments.len(), 1, "nothing is kept");
    assert!(bench.attachments.counts().dropped["rate"] >= 9_000);
    // The endpoint at the same port is served, and another port's discoveries are answered.
    let wish = station.wish(VIDEO, 10, Lease::Short);
    assert!(matches!(bench.asks(&mut station, &wish), Kind::Connected(_)));
    bench.offer(&mut super::station(4, 1));
}

#[test]
fn an_endpoint_that_floods_has_its_share_of_a_second_and_no_more() {
    let mut bench = setup();
    let mut modest = bench.attached(3, 1);
    let mut greedy = bench.attached(3, 2);
    let mut answered = 0;
    for _ in 0..1_000 {
        let wish = greedy.wish(VIDEO, 1, Lease::Short);
        answered += bench.sends(&mut greedy, &wish).is_ok() as u32;
    }
    assert_eq!(answered, REQUESTS_PER_ENDPOINT);
    assert!(matches!(bench.connected(&mut modest, 10), Connected { rate: 10, .. }));
    bench.pass(Duration::from_secs(1));
    let wish = greedy.wish(VIDEO, 1, Lease::Short);
    assert!(bench.sends(&mut greedy, &wish).is_ok(), "another second");
}

#[test]
fn requests_under_way_are_bounded() {
    let mut bench = setup();
    bench.is_stuck = true;
    let id = |n: u16| Destination { protocol: ProtocolId(1_000 + n), provider: ProviderId(1) };
    for n in 0..20 {
        let (allow, deny) = (BTreeSet::new(), BTreeSet::new());
        let (name, admission) = ("m".into(), Admission::Automatic { up_to: 50 });
        let metanet = Metanet { id: id(n), name, admission, allow, deny, multipoint: false };
        bench.does(Command::PutMetanet { at: 0, metanet });
    }
    let mut greedy = bench.attached(3, 1);
    let mut taken = 0;
    for n in 0..20 {
        let metanet = MetanetId { protocol: id(n).protocol, provider: id(n).provider };
        let wish = greedy.wish(metanet, 1, Lease::Short);
        taken += (bench.sends(&mut greedy, &wish) != Err(Dropped::Busy)) as usize;
    }
    assert_eq!((taken, bench.proposals()), (MAX_IN_FLIGHT_PER_ENDPOINT, MAX_IN_FLIGHT_PER_ENDPOINT));
    let mut modest = bench.attached(4, 1);
    let wish = modest.wish(VIDEO, 1, Lease::Short);
    assert_eq!(bench.sends(&mut modest, &wish), Ok(vec![]));
    assert_eq!(bench.attachments.flights.len(), MAX_IN_FLIGHT_PER_ENDPOINT + 1);
    // All of it is given up in the end.
    bench.pass(Duration::from_secs(30));
    assert_eq!(bench.attachments.flights.len(), 0);
}

proptest! {
    #[test]
    fn no_frame_panics(reason in 0usize..9, start in 0usize..4, noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bench = setup();
        let station = station(3, 1);
        let starts = [
            Vec::new(),
            station.raw(None, MLI_DISCOVERY, &[]),
            station.raw(Some(PROVISIONED), CONTROL_MLI, &[]),
            station.raw(Some(PROVISIONED), CONTROL_MLI, &[0, 30]),
        ];
        let frame = [&starts[start][..], &noise].concat();
        let _ = bench.heard(PuntReason::ALL[reason], station.port, &frame);
    }
}
