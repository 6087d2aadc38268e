//! What a watcher is told of a gateway whose router and switch come and go.

mod support;

use dmux_controller::api::v1::Event;
use dmux_controller::api::v1::event::What;
use serde_json::Value;
use support::{Gateway, Process, host_address, refused, succeed, wait};
use tonic::Streaming;

fn registration(kind: &'static str) -> impl Fn(&Event) -> Option<String> {
    move |event| match &event.what {
        Some(What::Registration(r)) if r.kind == kind => r.router.clone().map(|router| router.address),
        _ => None,
    }
}

/// The gateways of a choice for any provider: before and now.
fn choice(event: &Event) -> Option<(Option<u32>, Option<u32>)> {
    match &event.what {
        Some(What::Choice(c)) if (c.protocol, c.provider) == (41, 1) => Some((c.before, c.now)),
        _ => None,
    }
}

/// The next of both, in whichever order: a choice is this gateway's own, a registration the cluster's.
fn registration_and_choice(
    gateway: &Gateway,
    events: &mut Streaming<Event>,
    kind: &'static str,
) -> (String, (Option<u32>, Option<u32>)) {
    let (mut registered, mut chosen) = (None, None);
    gateway.api.next(events, kind, |event| {
        registered = registered.take().or_else(|| registration(kind)(event));
        chosen = chosen.or_else(|| choice(event));
        registered.clone().zip(chosen)
    })
}

fn switch(now: &'static str) -> impl Fn(&Event) -> Option<String> {
    move |event| match &event.what {
        Some(What::Switch(s)) if s.now == now => Some(s.detail.clone()),
        _ => None,
    }
}

#[test]
fn a_watcher_is_told_what_happens_in_order_and_from_a_known_state() {
    let mut gateway = Gateway::start(2);
    let mut events = gateway.api.watch();
    let (applied, sequence) = gateway.api.next(&mut events, "the first event", |event| match &event.what {
        Some(What::Snapshot(s)) if (s.registrations, s.gateways) == (0, 1) => Some((s.applied, event.sequence)),
        other => panic!("the marker comes first: {other:?}"),
    });
    assert!(applied > 0);

    let mut router = gateway.router(2, host_address(2));
    let (came, chosen) = registration_and_choice(&gateway, &mut events, "registered");
    assert_eq!((came.as_str(), chosen), ("203.0.113.2:4000", (None, Some(1))));

    // One that comes later starts from what is there by then.
    let mut late = gateway.api.watch();
    let known = gateway.api.next(&mut late, "its first event", |event| match &event.what {
        Some(What::Snapshot(s)) => Some(s.registrations),
        other => panic!("the marker comes first: {other:?}"),
    });
    assert_eq!(known, 1);
    drop(late);

    router.kill();
    let silent = gateway.api.next(&mut events, "the silence", |event| match &event.what {
        Some(What::Liveness(l)) if !l.heard => Some(l.address.clone()),
        _ => None,
    });
    assert_eq!(silent, "203.0.113.2:4000");
    let (gone, chosen) = registration_and_choice(&gateway, &mut events, "gone");
    assert_eq!((gone.as_str(), chosen), ("203.0.113.2:4000", (Some(1), None)));

    gateway.switch.kill();
    let why = gateway.api.next(&mut events, "the switch's end", switch("disconnected"));
    assert!(!why.is_empty());
    let last = gateway.api.next(&mut gateway.api.watch(), "the marker of another", |event| Some(event.sequence));
    assert!(last > sequence, "events were counted");
}

#[test]
fn the_command_prints_a_line_an_event_and_fails_when_the_controller_goes() {
    let mut gateway = Gateway::start(2);
    let api = gateway.api.address().to_string();
    let json = succeed(&["watch", "--api", &api, "--count", "1", "-o", "json"]);
    let document: Value = serde_json::from_str(&json).expect("a JSON document in a line");
    assert_eq!(document["what"]["snapshot"]["gateways"], 1, "{json}");

    let mut watch = Process::start(gateway.dir.path(), "watch", &["watch".into(), "--api".into(), api]);
    wait("it watches", || watch.log().contains("watching from log index").then_some(()));
    let _router = gateway.router(2, host_address(2));
    let log = wait("it tells", || Some(watch.log()).filter(|log| log.contains("registered, protocol 41, provider 7")));
    assert!(log.contains("router r 203.0.113.2:4000 at gateway 1"), "{log}");
    gateway.controller.kill();
    assert!(!watch.ended(), "{}", watch.log());
    assert!(watch.log().contains("broke off") || watch.log().contains("ended the stream"), "{}", watch.log());

    refused(&["watch", "--api", "127.0.0.1:1"], &["no controller answers", "--api"]);
}
