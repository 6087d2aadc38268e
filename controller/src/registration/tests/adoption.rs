//! Keepalives that come to several gateways.

use super::*;

/// Two gateways that share the replicated state; `site.registrar` is the one that is asked.
struct Two {
    site: Site,
    router: Router,
    other: Registrar,
    here: bool,
}

impl Two {
    fn new() -> Self {
        let (mut site, mut router, authority) = setup();
        site.register(&mut router);
        Self { site, router, other: registrar(THERE, &authority), here: true }
    }

    fn route_to(&mut self, here: bool) {
        if std::mem::replace(&mut self.here, here) != here {
            std::mem::swap(&mut self.site.registrar, &mut self.other);
        }
    }

    /// A keepalive after `pause` to one of the gateways; its last answer.
    fn keepalive(&mut self, pause: Duration, here: bool) -> Kind {
        self.site.pass(pause);
        // Both look after what is theirs.
        for here in [!here, here] {
            self.route_to(here);
            self.site.tick();
        }
        self.router.body.sequence = self.router.body.sequence.max(self.site.now.unix_us());
        let replies = self.site.send(&self.router.keepalive());
        let replies = match &replies[..] {
            [Kind::Challenge(challenge)] => {
                self.router.body.cookie = challenge.cookie.clone();
                self.site.send(&self.router.keepalive())
            }
            _ => replies,
        };
        let [reply] = &replies[..] else { panic!("{replies:?}") };
        reply.clone()
    }

    fn owner(&self) -> GatewayId {
        self.site.registered().expect("it is registered").gateway
    }

    fn writes(&self) -> u64 {
        self.site.model.applied()
    }
}

#[test]
fn keepalives_in_turns_at_two_gateways_move_the_registration_once_in_a_while_and_it_lives() {
    let mut two = Two::new();
    let before = two.writes();
    for turn in 0..600 {
        let reply = two.keepalive(ms(1000), turn % 2 == 0);
        let owner = if two.here { HERE } else { THERE };
        match reply {
            Kind::KeepaliveAck(ack) => assert_eq!(GatewayId(ack.gateway as u16), owner),
            ref refused => assert_eq!(refusal(refused).0, RefusalCode::Busy),
        }
    }
    let writes = two.writes() - before;
    println!("keepalives in turns at two gateways for ten minutes: {writes} writes");
    assert!((1..=6).contains(&writes), "{writes}");
    assert_eq!(two.site.model.penalty(&key(), two.site.now.unix_ms()), None, "it is not the router's fault");
}

#[test]
fn one_that_moves_again_for_good_is_adopted_with_its_second_keepalive_there() {
    let mut two = Two::new();
    assert!(matches!(two.keepalive(ms(1000), false), Kind::KeepaliveAck(_)), "the first move is free");
    let reply = two.keepalive(ms(1000), true);
    assert!(refusal(&reply).1.contains("moved to gateway 2"), "{reply:?}");
    assert_eq!(two.owner(), THERE);
    assert!(matches!(two.keepalive(ms(900), true), Kind::KeepaliveAck(_)));
    assert_eq!(two.owner(), HERE);
    assert_eq!(two.site.model.penalty(&key(), two.site.now.unix_ms()).unwrap().flaps, 1, "a change");
}

#[test]
fn a_dead_owners_registration_is_adopted_at_once_however_lately_it_moved() {
    let mut two = Two::new();
    two.keepalive(ms(1000), false);
    two.route_to(true);
    two.site.registrar.set_unreachable([THERE].into());
    assert!(matches!(two.keepalive(ms(1000), true), Kind::KeepaliveAck(ack) if ack.gateway == 1));
    assert_eq!(two.owner(), HERE);
}

#[test]
fn routing_that_changes_for_ever_is_a_flap_in_the_end_and_writes_little_from_then_on() {
    let mut two = Two::new();
    let before = two.writes();
    let mut until_suppressed = None;
    for turn in 0..900 {
        // Two here, two there: each pair looks as if it had come to stay.
        let reply = two.keepalive(ms(1000), turn / 2 % 2 == 0);
        if matches!(&reply, Kind::Refused(refused) if refused.code() == RefusalCode::NotRegistered) {
            two.router.body.sequence += 1;
            let (site, router) = (&mut two.site, &mut two.router);
            site.register(router);
        }
        let suppressed = two.site.model.suppressed_until(&key(), two.site.now.unix_ms()).is_some();
        if suppressed && until_suppressed.is_none() {
            until_suppressed = Some((turn, two.writes() - before));
        }
        if until_suppressed.is_some_and(|(since, _)| turn == since + 600) {
            break;
        }
    }
    let (_, at_first) = until_suppressed.expect("it is held out in the end");
    let writes = two.writes() - before - at_first;
    println!(
        "pairs of keepalives at two gateways: {at_first} writes until it was held out, {writes} in ten minutes after"
    );
    assert!(at_first <= 10 && writes <= 10, "{at_first} and {writes}");
}

#[test]
fn a_recorded_keepalive_does_not_move_it_by_being_repeated() {
    let mut two = Two::new();
    two.keepalive(ms(1000), false);
    two.route_to(true);
    // With a cookie that holds, as whoever sees the router's datagrams may record it.
    two.site.prove(&mut two.router);
    let recorded = two.router.keepalive();
    for _ in 0..20 {
        two.site.pass(ms(500));
        two.site.send(&recorded);
        assert_eq!(two.owner(), THERE);
    }
}
