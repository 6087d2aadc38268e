//! What is said when, frame by frame.

use dmux_wire::control::RefusalCode;
use dmux_wire::metalink::{self, Attached, Kind, Lease};
use dmux_wire::{CONTROL_MLI, Ethernet, MLI_DISCOVERY, MacAddr, Substrate};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::gateway::{Gateway, PCP, VID, frame, refused};
use super::*;
use crate::credentials::Credentials;

const LEASE: Duration = Duration::from_secs(30);

/// A frame of the endpoint's, as it is read.
fn read(frame: &[u8]) -> (Option<u16>, u32, u64, Kind) {
    let (header, rest) = Ethernet::parse(frame).unwrap();
    let (substrate, rest) = Substrate::parse(rest).unwrap();
    let decoded = metalink::decode(rest).unwrap();
    (header.vlan.map(|v| v.vid), substrate.mli, decoded.nonce, decoded.kind.unwrap())
}

/// The kinds that an endpoint sends and a gateway answers, until neither has anything to say.
fn converse(endpoint: &mut EndpointCore, gateway: &mut Gateway, now: Duration, actions: Vec<Action>) -> Vec<Event> {
    let mut events = told(&actions);
    let mut frames = sent(&actions);
    while let Some(frame) = frames.pop() {
        if let Some(answer) = gateway.frame(now, &frame) {
            let actions = endpoint.frame(at(now), &answer);
            events.extend(told(&actions));
            frames.extend(sent(&actions));
        }
    }
    events
}

fn connected(gateway: &mut Gateway, wanted: &[Wanted]) -> EndpointCore {
    let mut endpoint = endpoint(wanted, 1);
    let now = Duration::from_secs(1);
    let actions = endpoint.start(at(now));
    converse(&mut endpoint, gateway, now, actions);
    endpoint
}

#[test]
fn an_endpoint_discovers_attaches_connects_and_carries() {
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = endpoint(&[wanted(41, 15_000_000)], 1);
    let now = Duration::from_secs(1);
    assert_eq!(endpoint.metaframe(0, b"early"), Err(NotSent::NoMetalink));
    let actions = endpoint.start(at(now));
    let [discovery] = &sent(&actions)[..] else { panic!("one frame") };
    let (vid, mli, _, kind) = read(discovery);
    assert_eq!((vid, mli), (None, MLI_DISCOVERY));
    assert!(matches!(kind, Kind::Discover(_)));
    let events = converse(&mut endpoint, &mut gateway, now, actions);
    let held = *endpoint.held(0).unwrap();
    let gateway_id = dmux_wire::GatewayId(1);
    let expected = [Event::Found(gateway.offer()), Event::Attached { gateway: gateway_id }, Event::Connected(held)];
    assert_eq!(events, expected);
    assert_eq!((held.mli, held.rate, held.lease, held.until), (1, 15_000_000, Lease::Long, now + LEASE));

    let out = endpoint.metaframe(0, b"metaframe").unwrap();
    let (header, rest) = Ethernet::parse(&out).unwrap();
    assert_eq!(header.vlan.map(|v| (v.vid, v.pcp)), Some((VID, PCP)));
    assert_eq!(Substrate::parse(rest), Ok((Substrate::new(1), &b"metaframe"[..])));
    assert_eq!(endpoint.metaframe(0, &[0; 1401]), Err(NotSent::TooLong { mtu: 1400 }));
    assert_eq!(endpoint.metaframe(1, b"no such"), Err(NotSent::NoMetalink));
    // The same frame, turned round.
    let turned = Ethernet { dst: header.src, src: header.dst, ..header };
    let mut back = Vec::new();
    turned.emit(&mut back);
    back.extend(rest);
    assert_eq!(endpoint.delivered(&back), Some((0, &b"metaframe"[..])));
    assert_eq!(endpoint.delivered(&out), None, "its own");
    for other in [Ethernet { vlan: None, ..turned }, Ethernet { src: MacAddr([2; 6]), ..turned }] {
        let mut frame = Vec::new();
        other.emit(&mut frame);
        frame.extend(rest);
        assert_eq!(endpoint.delivered(&frame), None, "{other:?}");
    }
}

#[test]
fn repetitions_back_off_and_never_end() {
    let mut endpoint = endpoint(&[wanted(41, 1)], 1);
    let mut now = Duration::ZERO;
    let mut frames = sent(&endpoint.start(at(now)));
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let due = endpoint.deadline().unwrap();
        assert_eq!(endpoint.tick(at(due - Duration::from_micros(1))), []);
        pauses.push(due - now);
        now = due;
        frames.extend(sent(&endpoint.tick(at(now))));
    }
    assert_eq!(frames.len(), 11);
    assert!(frames.iter().all(|frame| *frame == frames[0]), "a repetition is the same frame");
    let timers = Timers::default();
    assert!(pauses[0] <= timers.first_retry && pauses[1] > pauses[0], "{pauses:?}");
    assert!(pauses[9] >= timers.max_retry * 3 / 4 && pauses[9] <= timers.max_retry, "{pauses:?}");
}

#[test]
fn a_lease_is_renewed_at_half_time_and_again_until_it_is_answered() {
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = connected(&mut gateway, &[wanted(41, 1000)]);
    let begun = Duration::from_secs(1);
    let due = endpoint.deadline().unwrap();
    assert!((begun + LEASE * 3 / 8..=begun + LEASE / 2).contains(&due), "{due:?}");
    let lost = sent(&endpoint.tick(at(due)));
    let (vid, mli, nonce, kind) = read(&lost[0]);
    assert_eq!((vid, mli), (Some(VID), CONTROL_MLI));
    assert_eq!(kind, Kind::Renew(metalink::Renew { mli: 1 }));
    let again = endpoint.deadline().unwrap();
    let actions = endpoint.tick(at(again));
    assert_eq!(read(&sent(&actions)[0]).2, nonce);
    let events = converse(&mut endpoint, &mut gateway, again, actions);
    // Reckoned from the first of both, since the answer could be to that one.
    let held = *endpoint.held(0).unwrap();
    assert_eq!((events, held.until), (vec![Event::Renewed(held)], due + LEASE));
}

#[test]
fn a_claim_keeps_its_number_until_it_is_decided() {
    let mut gateway = Gateway::new(LEASE);
    gateway.by_operator.insert(metanet(41), None);
    let mut endpoint = endpoint(&[wanted(41, 1000)], 1);
    let now = Duration::from_secs(1);
    let actions = endpoint.start(at(now));
    let events = converse(&mut endpoint, &mut gateway, now, actions);
    let retry_after = Duration::from_secs(1);
    assert_eq!(events.last(), Some(&Event::Pending { metanet: metanet(41), retry_after }));
    let now = now + retry_after;
    assert_eq!(endpoint.deadline(), Some(now));
    let actions = endpoint.tick(at(now));
    let (.., Kind::Connect(first)) = read(&sent(&actions)[0]) else { panic!("a claim") };
    converse(&mut endpoint, &mut gateway, now, actions);
    gateway.by_operator.insert(metanet(41), Some(first.request));
    let now = now + retry_after;
    let actions = endpoint.tick(at(now));
    let (.., Kind::Connect(second)) = read(&sent(&actions)[0]) else { panic!("a claim") };
    assert_eq!(first, second);
    let events = converse(&mut endpoint, &mut gateway, now, actions);
    assert!(matches!(events[..], [Event::Connected(_)]), "{events:?}");
}

#[test]
fn a_refused_claim_is_told_and_made_anew_later() {
    let mut gateway = Gateway::new(LEASE);
    gateway.capacity = 999;
    let mut endpoint = endpoint(&[wanted(41, 1000)], 1);
    let now = Duration::from_secs(1);
    let actions = endpoint.start(at(now));
    let events = converse(&mut endpoint, &mut gateway, now, actions);
    let Some(Event::Refused { metanet: about, code, text, fits, retry_after }) = events.last() else {
        panic!("refused")
    };
    assert_eq!((*about, *code, *fits), (Some(metanet(41)), RefusalCode::NoRoom, Some(999)));
    assert_eq!(text, "a?reason", "printable");
    assert!(*retry_after >= Timers::default().refused_retry / 2);
    gateway.capacity = 1000;
    let later = now + *retry_after;
    assert_eq!(endpoint.deadline(), Some(later));
    // The gateway has forgotten it meanwhile, and it knows.
    let actions = endpoint.tick(at(later));
    assert!(matches!(read(&sent(&actions)[0]).3, Kind::Discover(_)) == (*retry_after >= super::gateway::IDLE));
    converse(&mut endpoint, &mut gateway, later, actions);
    assert!(endpoint.held(0).is_some());
}

#[test]
fn a_claim_that_nobody_decided_is_made_again_as_it_was() {
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = endpoint(&[wanted(41, 1000)], 1);
    let now = Duration::from_secs(1);
    let discovery = sent(&endpoint.start(at(now)));
    let offer = gateway.frame(now, &discovery[0]).unwrap();
    let attach = sent(&endpoint.frame(at(now), &offer));
    let attached = gateway.frame(now, &attach[0]).unwrap();
    let mut claim = sent(&endpoint.frame(at(now), &attached));
    let mut numbers = Vec::new();
    for code in [RefusalCode::ClusterUnavailable, RefusalCode::Busy, RefusalCode::NotProgrammed, RefusalCode::Busy] {
        let (_, mli, nonce, kind) = read(&claim[0]);
        let Kind::Connect(connect) = kind else { panic!("a claim") };
        numbers.push(connect.request);
        endpoint.frame(at(now), &frame(Some(VID), mli, nonce, &refused(code, 0, 0)));
        let due = endpoint.deadline().unwrap();
        claim = sent(&endpoint.tick(at(due)));
    }
    assert_eq!((numbers[0], numbers[1]), (numbers[1], numbers[2]));
    assert!(numbers[2] < numbers[3], "what was given back is claimed anew: {numbers:?}");
}

#[test]
fn notices_are_hints_and_the_renewal_counts() {
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = connected(&mut gateway, &[wanted(41, 1000)]);
    let now = Duration::from_secs(2);
    gateway.metalinks.get_mut(&metanet(41)).unwrap().rate = 700;
    // Less is heeded at once; more only when the gateway says so.
    for (rate, believed) in [(800, 800), (2000, 800)] {
        let notice = Gateway::notice(metanet(41), 1, rate);
        endpoint.frame(at(now), &notice);
        assert_eq!(endpoint.held(0).unwrap().rate, believed);
    }
    assert_eq!(endpoint.deadline(), Some(now));
    let actions = endpoint.tick(at(now));
    let events = converse(&mut endpoint, &mut gateway, now, actions);
    assert!(matches!(events[..], [Event::Adjusted(Held { rate: 700, .. })]), "{events:?}");
    // That it is gone is no more than a hint either.
    endpoint.frame(at(now), &Gateway::notice(metanet(41), 1, 0));
    assert!(endpoint.held(0).is_some());
    gateway.revoke(metanet(41));
    let now = endpoint.deadline().unwrap();
    let actions = endpoint.tick(at(now));
    let events = converse(&mut endpoint, &mut gateway, now, actions);
    assert!(matches!(events[..], [Event::Gone { why: Gone::Revoked, .. }]), "{events:?}");
    let again = endpoint.deadline().unwrap();
    assert!(again >= now + Timers::default().refused_retry / 2, "an operator's will is not run over");
    // A flood of notices is not a flood of renewals.
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = connected(&mut gateway, &[wanted(41, 1000)]);
    let mut renewals = 0;
    for ms in 0..1000 {
        let now = Duration::from_secs(2) + Duration::from_millis(ms);
        let mli = endpoint.held(0).unwrap().mli;
        endpoint.frame(at(now), &Gateway::notice(metanet(41), mli, 1000));
        renewals += sent(&endpoint.tick(at(now))).len();
    }
    assert!((15..=21).contains(&renewals), "{renewals}");
}

#[test]
fn a_lease_that_yields_is_used_to_its_end() {
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = connected(&mut gateway, &[wanted(41, 1000)]);
    gateway.metalinks.get_mut(&metanet(41)).unwrap().yields = true;
    let due = endpoint.deadline().unwrap();
    let actions = endpoint.tick(at(due));
    let events = converse(&mut endpoint, &mut gateway, due, actions);
    assert!(matches!(events[..], [Event::Adjusted(Held { yields: true, .. })]), "{events:?}");
    let end = endpoint.held(0).unwrap().until;
    assert_eq!(endpoint.deadline(), Some(end), "nothing is asked before");
    let events = told(&endpoint.tick(at(end)));
    assert!(matches!(events[..], [Event::Gone { why: Gone::LeaseEnded, .. }]), "{events:?}");
}

#[test]
fn certificates_are_shown_where_they_are_asked_for() {
    let key = SigningKey::from_bytes(&[3; 32]);
    let mut gateway = Gateway::new(LEASE);
    gateway.authenticate = Some(key.verifying_key());
    let now = Duration::from_secs(1);
    let mut without = endpoint(&[wanted(41, 1000)], 1);
    let actions = without.start(at(now));
    let events = converse(&mut without, &mut gateway, now, actions);
    assert_eq!(events, [Event::Found(gateway.offer()), Event::NoCertificate]);
    let config = EndpointConfig { mac: MAC, wanted: vec![wanted(41, 1000)], timers: Timers::default() };
    let credentials = Credentials { key, chain: vec![vec![0x30; 400]] };
    let mut with = EndpointCore::new(config, Some(credentials), [1; 32]);
    let actions = with.start(at(now));
    converse(&mut with, &mut gateway, now, actions);
    assert!(with.held(0).is_some());
}

#[test]
fn a_refused_attachment_is_tried_again_later() {
    let mut endpoint = endpoint(&[wanted(41, 1000)], 1);
    let mut gateway = Gateway::new(LEASE);
    let now = Duration::from_secs(1);
    let discovery = sent(&endpoint.start(at(now)));
    let offer = gateway.frame(now, &discovery[0]).unwrap();
    let attach = sent(&endpoint.frame(at(now), &offer));
    let nonce = read(&attach[0]).2;
    let foreign = frame(None, MLI_DISCOVERY, nonce ^ 1, &refused(RefusalCode::NoMetalinks, 0, 0));
    assert_eq!(endpoint.frame(at(now), &foreign), [], "another nonce");
    let refusal = frame(None, MLI_DISCOVERY, nonce, &refused(RefusalCode::NoMetalinks, 0, 5000));
    let events = told(&endpoint.frame(at(now), &refusal));
    assert!(matches!(events[..], [Event::Refused { metanet: None, .. }]), "{events:?}");
    assert_eq!(endpoint.deadline(), Some(now + Duration::from_secs(5)));
    let late = frame(None, MLI_DISCOVERY, nonce, &Kind::Attached(Attached { idle_after_ms: 1 }));
    assert_eq!(endpoint.frame(at(now), &late), [], "an answer is spent");
}

#[test]
fn what_was_not_answered_is_asked_as_soon_as_the_gateway_knows_the_endpoint_again() {
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = endpoint(&[wanted(41, 1000)], 1);
    let mut now = Duration::from_secs(1);
    let discovery = sent(&endpoint.start(at(now)));
    let offer = gateway.frame(now, &discovery[0]).unwrap();
    let attach = sent(&endpoint.frame(at(now), &offer));
    let attached = gateway.frame(now, &attach[0]).unwrap();
    let claim = sent(&endpoint.frame(at(now), &attached));
    // The gateway's controller has restarted, and its switch drops what is on the control MLI.
    let mut actions = Vec::new();
    while !told(&actions).contains(&Event::Lost) {
        now = endpoint.deadline().unwrap();
        actions = endpoint.tick(at(now));
    }
    let discovery = sent(&actions).into_iter().find(|frame| matches!(read(frame).3, Kind::Discover(_)));
    let events = converse(&mut endpoint, &mut gateway, now, vec![Action::Send(discovery.unwrap())]);
    assert!(matches!(events.last(), Some(Event::Connected(_))), "{events:?}");
    let Kind::Connect(first) = read(&claim[0]).3 else { panic!("a claim") };
    assert_eq!(gateway.metalinks[&metanet(41)].request, first.request);
}

#[test]
fn who_leaves_a_gateway_that_has_forgotten_it_attaches_to_give_back_what_it_has() {
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = connected(&mut gateway, &[wanted(41, 1000)]);
    gateway.forget();
    let now = Duration::from_secs(5);
    let actions = endpoint.stop(at(now));
    let events = converse(&mut endpoint, &mut gateway, now, actions);
    assert_eq!(events, [Event::Lost]);
    while !endpoint.is_stopped() {
        let due = endpoint.deadline().unwrap();
        assert!(due < now + Timers::default().farewell);
        let actions = endpoint.tick(at(due));
        converse(&mut endpoint, &mut gateway, due, actions);
    }
    assert!(gateway.metalinks.is_empty());
}

#[test]
fn at_another_gateway_everything_begins_anew() {
    let mut gateway = Gateway::new(LEASE);
    let mut endpoint = connected(&mut gateway, &[wanted(41, 1000)]);
    let mut other = Gateway::new(LEASE);
    other.id = 2;
    let mut actions = Vec::new();
    let mut now = Duration::ZERO;
    while !told(&actions).contains(&Event::Lost) {
        now = endpoint.deadline().unwrap();
        actions = endpoint.tick(at(now));
    }
    let discovery = sent(&actions).into_iter().find(|frame| matches!(read(frame).3, Kind::Discover(_)));
    let events = converse(&mut endpoint, &mut other, now, vec![Action::Send(discovery.unwrap())]);
    let gone = events.iter().position(|e| matches!(e, Event::Gone { why: Gone::Moved, .. }));
    let connected = events.iter().position(|e| matches!(e, Event::Connected(_)));
    assert!(gone.is_some() && gone < connected, "{events:?}");
    assert_eq!(other.metalinks.len(), 1);
}

proptest! {
    #[test]
    fn no_frame_panics(start in 0usize..3, noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut gateway = Gateway::new(LEASE);
        let mut endpoint = connected(&mut gateway, &[wanted(41, 1000)]);
        let notice = Gateway::notice(metanet(41), 1, 5);
        let starts = [&[][..], &notice[..18], &notice[..22]];
        let bytes = [starts[start], &noise].concat();
        endpoint.frame(at(Duration::from_secs(2)), &bytes);
        endpoint.delivered(&bytes);
    }
}
