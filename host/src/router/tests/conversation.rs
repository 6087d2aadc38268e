use proptest::prelude::*;

use super::*;

/// A core, its clock, and what it told.
struct Bench {
    core: RouterCore,
    now: Now,
    events: Vec<Event>,
}

impl Bench {
    fn new() -> Self {
        let core = RouterCore::new(config(), credentials(), [5; 32]);
        let now = Now { mono: Duration::from_secs(50), unix: Duration::from_secs(1_800_000_000) };
        Self { core, now, events: Vec::new() }
    }

    /// The requests among the actions.
    fn sent(&mut self, actions: Vec<Action>) -> Vec<(u64, Kind)> {
        let mut sent = Vec::new();
        for action in actions {
            match action {
                Action::Send { to, bytes } => {
                    assert_eq!(to, REGISTRATION);
                    sent.push(Gateway::read(&bytes));
                }
                Action::Tell(event) => self.events.push(event),
            }
        }
        sent
    }

    fn start(&mut self) -> Vec<(u64, Kind)> {
        let actions = self.core.start(self.now);
        self.sent(actions)
    }

    fn stop(&mut self) -> Vec<(u64, Kind)> {
        let actions = self.core.stop(self.now);
        self.sent(actions)
    }

    fn reply(&mut self, nonce: u64, kind: Kind) -> Vec<(u64, Kind)> {
        let actions = self.core.datagram(self.now, REGISTRATION, &Gateway::write(nonce, kind));
        self.sent(actions)
    }

    /// Lets time pass to the next deadline.
    fn wait(&mut self) -> Vec<(u64, Kind)> {
        let at = self.core.deadline().expect("a deadline");
        let pass = at.saturating_sub(self.now.mono);
        self.now.mono += pass;
        self.now.unix += pass;
        let actions = self.core.tick(self.now);
        self.sent(actions)
    }

    /// Answers requests as a gateway that likes everything until there are none.
    fn play(&mut self, mut requests: Vec<(u64, Kind)>) {
        while let Some((nonce, request)) = requests.pop() {
            requests.extend(self.reply(nonce, Gateway::answer(&request)));
        }
    }

    fn registered() -> Self {
        let mut bench = Self::new();
        let hello = bench.start();
        bench.play(hello);
        assert!(matches!(bench.events[..], [Event::Registered { gateway: GatewayId(1), .. }]), "{:?}", bench.events);
        bench.events.clear();
        bench
    }
}

fn refuse(code: RefusalCode, retry_after_ms: u32) -> Kind {
    Kind::Refused(Refused { code: code.into(), text: "because\x1b[2J".into(), retry_after_ms })
}

fn sequence(kind: &Kind) -> u64 {
    match kind {
        Kind::Register(r) => RegisterBody::decode(&r.body).unwrap().sequence,
        Kind::Keepalive(k) => SessionBody::decode(&k.body).unwrap().sequence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_registers_and_keeps_alive_with_rising_sequences() {
    let mut bench = Bench::registered();
    assert_eq!(bench.core.gateway(), Some(GatewayId(1)));
    let mut last = 0;
    for _ in 0..10 {
        let before = bench.now.mono;
        let requests = bench.wait();
        let [(_, request @ Kind::Keepalive(_))] = &requests[..] else { panic!("{requests:?}") };
        let pause = bench.now.mono - before;
        assert!((Duration::from_millis(750)..=Duration::from_millis(1000)).contains(&pause), "{pause:?}");
        assert!(sequence(request) > last);
        last = sequence(request);
        bench.play(requests);
    }
    assert_eq!(bench.events, []);
}

#[test]
fn an_unanswered_hello_is_repeated_ever_more_slowly() {
    let mut bench = Bench::new();
    bench.start();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let before = bench.now.mono;
        assert!(matches!(bench.wait()[..], [(_, Kind::Register(_))]));
        pauses.push((bench.now.mono - before).as_millis());
    }
    assert!(pauses[0] <= 300 && pauses[7] >= 7500 && pauses[7] <= 10_000, "{pauses:?}");
}

#[test]
fn an_unanswered_registration_is_sent_again_as_it_is_and_then_begun_anew() {
    let mut bench = Bench::new();
    let hello = bench.start();
    let first = bench.reply(hello[0].0, Gateway::answer(&hello[0].1));
    for _ in 0..2 {
        assert_eq!(bench.wait(), first);
    }
    let again = bench.wait();
    assert!(matches!(&again[..], [(_, Kind::Register(r))] if r.signature.is_empty()), "{again:?}");
    bench.play(again);
    assert!(matches!(bench.events[..], [Event::Registered { .. }]));
}

#[test]
fn answers_need_the_nonce_and_the_registration_address() {
    let mut bench = Bench::new();
    let hello = bench.start();
    let challenge = Kind::Challenge(Challenge { cookie: COOKIE.to_vec() });
    assert_eq!(bench.reply(hello[0].0 ^ 1, challenge.clone()), []);
    let elsewhere = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 9), 51700);
    let bytes = Gateway::write(hello[0].0, challenge.clone());
    assert_eq!(bench.core.datagram(bench.now, elsewhere, &bytes), []);
    assert_eq!(bench.reply(hello[0].0, challenge.clone()).len(), 1);
    assert_eq!(bench.reply(hello[0].0, challenge), [], "a nonce is spent once");
}

#[test]
fn a_doubled_keepalive_whose_copy_is_refused_does_no_harm() {
    let mut bench = Bench::registered();
    let keepalive = bench.wait();
    let nonce = keepalive[0].0;
    bench.play(keepalive);
    assert_eq!(bench.reply(nonce, refuse(RefusalCode::Replayed, 0)), []);
    assert_eq!(bench.events, []);
    assert!(bench.core.gateway().is_some());
}

#[test]
fn cookies_without_end_are_not_signed() {
    let mut bench = Bench::new();
    let mut requests = bench.start();
    let mut signed = 0;
    while let [(nonce, _)] = requests[..] {
        requests = bench.reply(nonce, Kind::Challenge(Challenge { cookie: COOKIE.to_vec() }));
        signed += 1;
        assert!(signed < 10);
    }
    assert_eq!(signed, 4);
}

#[test]
fn what_passes_is_retried_soon_and_what_does_not_late() {
    for (code, retry, least, most) in [
        (RefusalCode::Busy, 500, 500, 600),
        (RefusalCode::ClusterUnavailable, 0, 300, 600),
        (RefusalCode::Limit, u32::MAX, 30_000, 30_000),
        (RefusalCode::UnknownAuthority, 0, 30_000, 30_000),
        (RefusalCode::BadSignature, 0, 30_000, 30_000),
    ] {
        let mut bench = Bench::new();
        let hello = bench.start();
        let signed = bench.reply(hello[0].0, Gateway::answer(&hello[0].1));
        assert_eq!(bench.reply(signed[0].0, refuse(code, retry)), []);
        let [Event::Refused { code: told, ref text, retry_after }] = bench.events[..] else { panic!() };
        assert_eq!((told, text.as_str()), (code, "because?[2J"), "nothing for the terminal to obey");
        assert!((least..=most).contains(&retry_after.as_millis()), "{code:?}: {retry_after:?}");
        let before = bench.now.mono;
        let again = bench.wait();
        assert_eq!(bench.now.mono - before, retry_after);
        bench.play(again);
        assert!(matches!(bench.events[1], Event::Registered { .. }));
    }
}

#[test]
fn a_gateway_that_forgot_it_is_told_again_at_once() {
    let mut bench = Bench::registered();
    let keepalive = bench.wait();
    let hello = bench.reply(keepalive[0].0, refuse(RefusalCode::NotRegistered, 0));
    assert!(matches!(hello[..], [(_, Kind::Register(_))]));
    assert!(sequence(&hello[0].1) > sequence(&keepalive[0].1));
    bench.play(hello);
    assert!(matches!(bench.events[..], [Event::Forgotten, Event::Registered { .. }]));
}

#[test]
fn silence_ends_the_registration_but_not_the_router() {
    let mut bench = Bench::registered();
    let heard = bench.now.mono;
    let again = loop {
        let requests = bench.wait();
        if let [(_, Kind::Register(_))] = requests[..] {
            break requests;
        }
        assert!(matches!(requests[..], [(_, Kind::Keepalive(_))]));
    };
    assert!(bench.now.mono - heard >= Duration::from_millis(3500));
    bench.play(again);
    assert!(matches!(bench.events[..], [Event::Silence, Event::Registered { .. }]));
}

#[test]
fn another_gateway_challenges_and_takes_over() {
    let mut bench = Bench::registered();
    let keepalive = bench.wait();
    let challenge = Kind::Challenge(Challenge { cookie: COOKIE.to_vec() });
    let with_cookie = bench.reply(keepalive[0].0, challenge);
    let [(nonce, Kind::Keepalive(signed))] = &with_cookie[..] else { panic!("{with_cookie:?}") };
    check(Domain::Keepalive, &signed.body, &signed.signature);
    let body = SessionBody::decode(&signed.body).unwrap();
    assert_eq!(body.cookie, COOKIE);
    let ack = Kind::KeepaliveAck(KeepaliveAck { sequence: body.sequence, gateway: 2 });
    assert_eq!(bench.reply(*nonce, ack), []);
    assert_eq!(bench.events, [Event::Moved { from: GatewayId(1), to: GatewayId(2) }]);
}

#[test]
fn keepalives_tell_the_smoothed_round_trip() {
    let mut bench = Bench::registered();
    let mut told = Vec::new();
    for (round_trip, gateway) in [(8_000, 1), (16_000, 1), (4_000, 2), (4_000, 2), (4_000, 2)] {
        let keepalive = bench.wait();
        let [(nonce, Kind::Keepalive(signed))] = &keepalive[..] else { panic!("{keepalive:?}") };
        let body = SessionBody::decode(&signed.body).unwrap();
        told.push(body.rtt_us);
        bench.now.mono += Duration::from_micros(round_trip);
        let ack = Kind::KeepaliveAck(KeepaliveAck { sequence: body.sequence, gateway });
        assert_eq!(bench.reply(*nonce, ack), []);
    }
    // 8 ms, then 7/8 of that and 1/8 of 16; and nothing of the way to a gateway that had to adopt it first.
    assert_eq!(told, [0, 8_000, 9_000, 0, 4_000]);
}

#[test]
fn one_cookie_is_enough_for_a_keepalive() {
    let mut bench = Bench::registered();
    let keepalive = bench.wait();
    let challenge = Kind::Challenge(Challenge { cookie: COOKIE.to_vec() });
    let with_cookie = bench.reply(keepalive[0].0, challenge.clone());
    assert_eq!(bench.reply(with_cookie[0].0, challenge.clone()), []);
    let next = bench.wait();
    assert_eq!(bench.reply(next[0].0, challenge).len(), 1, "the next keepalive may be challenged again");
}

#[test]
fn it_says_farewell_and_waits_for_the_answer() {
    let mut bench = Bench::registered();
    let farewell = bench.stop();
    assert!(!bench.core.is_stopped());
    let repeated = bench.wait();
    assert!(matches!(repeated[..], [(_, Kind::Deregister(_))]), "{repeated:?}");
    drop(farewell);
    bench.play(repeated);
    assert!(bench.core.is_stopped());
    assert_eq!(bench.events, [Event::Left { confirmed: true }]);
    assert_eq!(bench.core.deadline(), None);
}

#[test]
fn a_farewell_without_answer_ends_too() {
    let mut bench = Bench::registered();
    bench.stop();
    let start = bench.now.mono;
    while !bench.core.is_stopped() {
        bench.wait();
    }
    assert_eq!(bench.now.mono - start, config().timers.farewell);
    assert_eq!(bench.events, [Event::Left { confirmed: false }]);
}

#[test]
fn who_is_not_registered_leaves_without_a_word() {
    let mut bench = Bench::new();
    bench.start();
    assert_eq!(bench.stop(), []);
    assert!(bench.core.is_stopped());
}

#[test]
fn only_packets_of_its_protocol_and_provider_are_delivered() {
    let bench = Bench::new();
    let gateway = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 51700);
    let origin = Origin::Client { address: Ipv4Addr::new(10, 0, 0, 1), port: 5555, service: ServiceIndex(7) };
    let shim = |kind, protocol, provider| Shim::new(kind, ProtocolId(protocol), ProviderId(provider));
    let packet = |shim: Shim| {
        let origin = shim.kind.has_origin().then_some(origin);
        Datagram { shim, origin, payload: b"IPvN" }.to_vec()
    };
    for provider in [1, 7] {
        let forward = shim(ShimKind::Forward, 41, provider);
        let bytes = packet(forward);
        let delivery = bench.core.delivery(gateway, &bytes).unwrap();
        assert_eq!(delivery, Delivery { gateway, shim: forward, origin, packet: b"IPvN" });
        let back = delivery.answer(b"back");
        let shim = Shim { kind: ShimKind::Return, ..forward };
        assert_eq!(Datagram::parse(&back), Ok(Datagram { shim, origin: Some(origin), payload: b"back" }));
    }
    for other in [shim(ShimKind::Forward, 42, 7), shim(ShimKind::Forward, 41, 8), shim(ShimKind::Return, 41, 7)] {
        assert_eq!(bench.core.delivery(gateway, &packet(other)), None);
    }
}

proptest! {
    /// Whatever comes, at whatever time: no panic, and at most one answer to a datagram.
    #[test]
    fn no_datagram_does_harm(
        steps in prop::collection::vec((0u8..6, any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 1..20),
    ) {
        let mut bench = Bench::new();
        let mut nonce = bench.start()[0].0;
        for (kind, right, noise) in steps {
            let kind = match kind {
                0 => Kind::Challenge(Challenge { cookie: noise.clone() }),
                1 => Gateway::accept(u64::MAX),
                2 => refuse(RefusalCode::try_from(i32::from(noise.first().copied().unwrap_or(0) % 23)).unwrap(), u32::MAX),
                3 => Kind::KeepaliveAck(KeepaliveAck { sequence: 0, gateway: u32::MAX }),
                4 => Kind::DeregisterAck(DeregisterAck { sequence: 0 }),
                _ => Kind::Accepted(Accepted { keepalive_interval_ms: 0, expires_after_ms: u32::MAX, gateway: 9, sequence: 0, held_ms: 0 }),
            };
            let mut bytes = Gateway::write(if right { nonce } else { 0 }, kind);
            if !right {
                bytes.extend(&noise);
            }
            bench.core.delivery(REGISTRATION, &bytes);
            let actions = bench.core.datagram(bench.now, REGISTRATION, &bytes);
            let answers = bench.sent(actions);
            prop_assert!(answers.len() <= 1);
            nonce = answers.last().map_or(nonce, |(n, _)| *n);
            if bench.core.deadline().is_some() && noise.len() % 2 == 0 {
                nonce = bench.wait().last().map_or(nonce, |(n, _)| *n);
            }
        }
    }
}

#[test]
fn draining_is_told_by_registering_again_and_taken_back_likewise() {
    let mut bench = Bench::new();
    let requests = bench.start();
    bench.play(requests);
    for draining in [true, false] {
        bench.now.unix += Duration::from_secs(1);
        let now = bench.now;
        assert!(bench.core.set_draining(now, !draining).is_empty(), "it is so already");
        let actions = bench.core.set_draining(now, draining);
        let [(nonce, Kind::Register(_))] = bench.sent(actions)[..] else { panic!("a registration") };
        let signed = bench.reply(nonce, Kind::Challenge(Challenge { cookie: COOKIE.to_vec() }));
        let [(_, Kind::Register(register))] = &signed[..] else { panic!("{signed:?}") };
        assert_eq!(RegisterBody::decode(&register.body).unwrap().draining, draining);
        bench.play(signed.clone());
        assert!(bench.core.gateway().is_some(), "registered again");
    }
}

#[test]
fn a_router_that_stops_while_it_registers_again_says_farewell() {
    // Greeting again, signed again and unanswered, refused again: each time the first registration lives.
    for steps in 0..3 {
        let mut bench = Bench::registered();
        let actions = bench.core.set_draining(bench.now, true);
        let mut requests = bench.sent(actions);
        for _ in 0..steps {
            let (nonce, request) = requests.pop().expect("a request");
            let answer = match Gateway::answer(&request) {
                Kind::Accepted(_) => refuse(RefusalCode::ProtocolNotCertified, 0),
                answer => answer,
            };
            requests = bench.reply(nonce, answer);
        }
        let farewell = bench.stop();
        assert!(matches!(farewell[..], [(_, Kind::Deregister(_))]), "{steps}: {farewell:?}");
        bench.events.clear();
        bench.play(farewell);
        assert_eq!(bench.events, [Event::Left { confirmed: true }]);
        assert!(bench.core.is_stopped());
    }
}

#[test]
fn a_router_that_stops_before_its_first_registration_is_answered_says_farewell() {
    let mut bench = Bench::new();
    let [(nonce, hello)] = &bench.start()[..] else { panic!("hello") };
    assert!(matches!(bench.reply(*nonce, Gateway::answer(hello))[..], [(_, Kind::Register(_))]));
    let farewell = bench.stop();
    let [(nonce, Kind::Deregister(_))] = farewell[..] else { panic!("{farewell:?}") };
    // The registration is still under way.
    assert_eq!(bench.reply(nonce, refuse(RefusalCode::Busy, 500)), []);
    let again = bench.wait();
    assert!(matches!(again[..], [(_, Kind::Deregister(_))]), "{again:?}");
    bench.play(again);
    assert_eq!(bench.events, [Event::Left { confirmed: true }]);
}

#[test]
fn who_was_refused_or_has_expired_leaves_without_a_word() {
    let mut bench = Bench::new();
    let [(nonce, hello)] = &bench.start()[..] else { panic!("hello") };
    let [(nonce, _)] = bench.reply(*nonce, Gateway::answer(hello))[..] else { panic!("signed") };
    bench.reply(nonce, refuse(RefusalCode::BadChain, 0));
    assert_eq!(bench.stop(), []);
    assert!(bench.core.is_stopped());

    let mut bench = Bench::registered();
    while !matches!(bench.events[..], [Event::Silence]) {
        bench.wait();
    }
    assert_eq!(bench.stop(), [], "no gateway was heard for as long as a registration lives");
}

#[test]
fn what_one_gateway_holds_is_said_again_to_another() {
    let mut bench = Bench::new();
    let mut requests = bench.start();
    while let Some((nonce, request)) = requests.pop() {
        let mut answer = Gateway::answer(&request);
        if let Kind::Accepted(accepted) = &mut answer {
            accepted.held_ms = 60_000;
        }
        requests = bench.reply(nonce, answer);
    }
    let held = Event::Held { remaining: Duration::from_secs(60) };
    assert!(matches!(&bench.events[..], [Event::Registered { .. }, told] if *told == held), "{:?}", bench.events);
    // A gateway that has not heard it yet asks for a cookie.
    let [(nonce, Kind::Keepalive(_))] = bench.wait()[..] else { panic!("keepalive") };
    let requests = bench.reply(nonce, Kind::Challenge(Challenge { cookie: COOKIE.to_vec() }));
    assert!(matches!(requests[..], [(_, Kind::Register(_))]), "{requests:?}");
    bench.play(requests);
    // The one that accepted it now holds nothing.
    let [(nonce, Kind::Keepalive(_))] = bench.wait()[..] else { panic!("keepalive") };
    let requests = bench.reply(nonce, Kind::Challenge(Challenge { cookie: COOKIE.to_vec() }));
    assert!(matches!(requests[..], [(_, Kind::Keepalive(_))]), "{requests:?}");
}
