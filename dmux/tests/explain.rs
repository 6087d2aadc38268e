//! What `dmux explain` says, held against what packets do and what a switch holds.

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use dmux_controller::api::v1::{ExplainRequest, Explanation};
use dmux_p4rt::ElectionId;
use dmux_p4rt::client::{Session, Target, delete};
use dmux_p4rt::p4::v1::TableEntry;
use dmux_wire::frame::{Datagram, UdpFrame, udp_frame};
use dmux_wire::ipv6::Echo;
use dmux_wire::{DMUX_PORT, Ipv6, ProtocolId, ProviderId, Shim, ShimKind};
use serde_json::Value;
use support::{GATEWAY_MAC, Gateway, client_address, host_address, host_mac, refused, succeed, wait};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), DMUX_PORT);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

fn request(client: Ipv4Addr, provider: u32) -> ExplainRequest {
    ExplainRequest { client: client.to_string(), protocol: 41, provider, ..ExplainRequest::default() }
}

/// The address of the router that answers a packet of this client, by the IPv6 address in which it answers.
fn lands_at(gateway: &Gateway, client: Ipv4Addr, provider: u32) -> String {
    let me = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, client.octets()[3].into());
    let echo = Echo { reply: false, identifier: 1, sequence: 1, data: b"where" };
    let shim = Shim::new(ShimKind::Data, ProtocolId(41), ProviderId(provider));
    let packet = echo.packet(me, ALL_ROUTERS).expect("a packet");
    let payload = Datagram { shim, origin: None, payload: &packet }.to_vec();
    let from = SocketAddrV4::new(client, 5555);
    let frame = udp_frame(host_mac(1), GATEWAY_MAC, from, SERVICE, &payload).expect("a frame");
    gateway.ask(1, &frame, "an echo reply", |frame| {
        let udp = UdpFrame::parse(frame).ok().filter(|udp| udp.to == from)?;
        let datagram = Datagram::parse(udp.payload).ok().filter(|d| d.shim.kind == ShimKind::Deliver)?;
        let (header, _) = Ipv6::parse(datagram.payload).ok()?;
        Some(SocketAddrV4::new(host_address(header.src.segments()[7]), 4000).to_string())
    })
}

fn synced(gateway: &Gateway, routers: u64) {
    let all = || gateway.api.switch().filter(|s| s.tables.iter().any(|t| t.table == "router" && t.entries == routers));
    wait("the routers are in the switch", all);
    gateway.api.synced();
}

fn chosen(explained: &Explanation) -> String {
    explained.chosen.as_ref().map_or_else(|| "none".into(), |c| c.address.clone())
}

fn tables(explained: &Explanation) -> Vec<&str> {
    explained.proof.iter().map(|p| p.table.as_str()).collect()
}

#[test]
fn the_router_that_is_named_is_the_one_that_packets_reach() {
    let mut gateway = Gateway::start(4);
    let _routers =
        [gateway.named_router(2, "r2", 7), gateway.named_router(3, "r3", 7), gateway.named_router(4, "r4", 8)];
    synced(&gateway, 3);
    let mut reached = std::collections::BTreeSet::new();
    for last in 1..=40 {
        let client = client_address(1, last);
        let explained = gateway.api.explain(request(client, 0)).expect("an explanation");
        let landed = lands_at(&gateway, client, 1);
        assert_eq!(chosen(&explained), landed, "{explained:#?}");
        assert!(!explained.differs && explained.no_proof.is_empty(), "{explained:#?}");
        assert!(explained.outcome.contains(&landed), "{explained:#?}");
        assert_eq!(explained.outcome, explained.planned_outcome);
        let expected = ["source_guard", "local_service", "demux", "bucket", "router", "ipv4_route", "nexthop"];
        assert_eq!(tables(&explained), expected);
        assert_eq!(explained.rejected.len(), 2);
        assert!(explained.rejected.iter().all(|r| r.reason == "other_bucket"), "{explained:#?}");
        reached.insert(landed);
    }
    assert_eq!(reached.len(), 3, "40 clients of a set of three reach each: {reached:?}");

    // A named provider with one router: no set, no bucket, and the others are not its.
    let client = client_address(1, 1);
    let explained = gateway.api.explain(request(client, 8)).expect("an explanation");
    assert_eq!(
        (chosen(&explained), lands_at(&gateway, client, 8)),
        ("203.0.113.4:4000".into(), "203.0.113.4:4000".into())
    );
    assert_eq!(explained.bucket, None);
    assert!(!tables(&explained).contains(&"bucket"), "{explained:#?}");
    assert!(explained.rejected.iter().all(|r| r.reason == "other_provider"), "{explained:#?}");

    // As a person and as a program see it.
    let api = gateway.api.address().to_string();
    let asked = ["explain", "--client", "198.18.1.1", "--protocol", "41", "--api", &api];
    let table = succeed(&asked);
    for words in
        ["chosen: router", "other_bucket", "demux[protocol=41 provider=1]", "the same", "by the switch: to router"]
    {
        assert!(table.contains(words), "{words}: {table}");
    }
    let document: Value = serde_json::from_str(&succeed(&[&asked[..], &["-o", "json"]].concat())).expect("JSON");
    assert_eq!(document["chosen"]["address"], lands_at(&gateway, client, 1));
    assert_eq!(document["proof"][2]["table"], "demux");
}

#[test]
fn what_is_wrong_with_a_question_is_said() {
    let mut gateway = Gateway::start(2);
    let _router = gateway.router(2, host_address(2));
    synced(&gateway, 1);
    let api = gateway.api.address().to_string();
    let ask = |client: &str, protocol: &str, more: &[&str], words: &[&str]| {
        let asked = ["explain", "--client", client, "--protocol", protocol, "--api", &api];
        refused(&[&asked[..], more].concat(), words);
    };
    ask("203.0.113.9", "99", &[], &["protocol 99", "no router", "41"]);
    ask("203.0.113.9", "0", &[], &["protocol 0"]);
    ask("198.51.100.77", "41", &[], &["198.51.100.77", "dmux-prefix"]);
    ask("203.0.113.9", "41", &["--gateway", "9"], &["no gateway 9", "1 (g1)"]);
    ask("203.0.113.9", "41", &["--service", "198.51.100.9"], &["198.51.100.9", "198.51.100.1"]);
    refused(
        &["explain", "--client", "203.0.113.9", "--protocol", "41", "--api", "127.0.0.1:1"],
        &["no controller answers at 127.0.0.1:1", "--api"],
    );
    // A provider that nobody is of has no router, which is an answer.
    let explained = gateway.api.explain(request(client_address(1, 1), 9)).expect("an explanation");
    assert_eq!((chosen(&explained).as_str(), explained.outcome.as_str()), ("none", "dropped: no_route"));
}

#[test]
fn an_entry_that_somebody_took_away_is_shown_and_a_switch_that_is_gone_is_no_proof() {
    let mut gateway = Gateway::start(2);
    let _router = gateway.router(2, host_address(2));
    synced(&gateway, 1);
    let endpoint = gateway.api.switch().expect("a switch").endpoint;

    // Another controller, which the switch believes more.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let intruder = runtime.block_on(async {
        let target = Target::new(format!("http://{endpoint}"), 1);
        let (session, events) =
            Session::connect(target, Some(ElectionId::of_epoch(1_000_000, 9))).await.expect("a session");
        let table = session.read_table(table_id("demux")).await.expect("the table");
        let delete = |entry| delete(TableEntry { action: None, ..entry });
        let written = session.write(table.into_iter().map(delete).collect()).await.expect("written");
        assert!(written.len() == 2 && written.iter().all(Result::is_ok), "{written:?}");
        (session, events)
    });
    let explained = gateway.api.explain(request(client_address(1, 1), 0)).expect("an explanation");
    assert_eq!(chosen(&explained), "203.0.113.2:4000", "by the plan");
    assert!(explained.differs, "{explained:#?}");
    assert_eq!(explained.outcome, "dropped: no_route");
    assert!(explained.planned_outcome.contains("203.0.113.2:4000"), "{explained:#?}");
    let last = explained.proof.last().expect("a proof");
    assert_eq!((last.table.as_str(), last.in_switch.as_str(), last.differs), ("demux", "", true));
    assert!(last.in_plan.starts_with("to_router"), "{last:?}");
    drop(intruder);

    gateway.switch.kill();
    let explained = wait("the switch's absence is noticed", || {
        gateway.api.explain(request(client_address(1, 1), 0)).ok().filter(|e| e.no_proof.contains("not connected"))
    });
    assert!(explained.proof.is_empty() && explained.outcome.is_empty(), "{explained:#?}");
    assert_eq!(chosen(&explained), "203.0.113.2:4000", "the plan is there all the same");
    assert_eq!(explained.switch_state, "disconnected");
}

#[test]
fn whose_a_client_is_while_its_router_drains_is_read_from_the_switch() {
    let mut gateway = Gateway::start(3);
    let _routers = [gateway.named_router(2, "r2", 7), gateway.named_router(3, "r3", 7)];
    synced(&gateway, 2);
    let explain = |client| gateway.api.explain(request(client, 0)).expect("an explanation");
    let leaves = "203.0.113.2:4000";
    let mut clients = (1..=60).map(|last| client_address(1, last)).filter(|&c| chosen(&explain(c)) == leaves);
    let (present, new) = clients.next().zip(clients.next()).expect("two clients of one router");

    let api = gateway.api.address().to_string();
    succeed(&["drain", "--router", leaves, "--protocol", "41", "--api", &api]);
    let client_is = |client, what: &str| {
        let explained = explain(client);
        explained.draining.as_ref().is_some_and(|d| d.client == what).then_some(explained)
    };
    let explained = wait("the switch learns", || client_is(present, "learning"));
    assert_eq!((chosen(&explained).as_str(), explained.draining.map(|d| d.cell_read)), (leaves, Some(false)));
    // One of the two sends meanwhile.
    wait("the switch has learnt who is there", || {
        lands_at(&gateway, present, 1);
        client_is(new, "new")
    });
    for (client, is, reason) in [(present, "present", "kept_by_draining"), (new, "new", "draining")] {
        let explained = explain(client);
        let draining = explained.draining.as_ref().expect("its bucket is left");
        assert_eq!((draining.client.as_str(), draining.cell_read), (is, true), "{explained:#?}");
        assert_eq!(draining.silent_ms.is_some(), is == "present");
        assert_eq!(explained.rejected[0].reason, reason, "{explained:#?}");
        assert_eq!(chosen(&explained), lands_at(&gateway, client, 1), "{explained:#?}");
        assert_eq!(chosen(&explained) == leaves, is == "present");
        assert!(!explained.differs, "{explained:#?}");
    }
    let text = succeed(&["explain", "--client", &new.to_string(), "--protocol", "41", "--api", &api]);
    assert!(text.contains("never was one of its") && text.contains("of client_seen"), "{text}");
}

/// The id of a table of the gateway program.
fn table_id(name: &str) -> u32 {
    let text = include_str!("../../bmv2-configs/gateway.p4info.txtpb");
    let info = dmux_p4rt::P4Info::from_text(text).expect("the P4Info");
    info.tables().iter().find(|table| table.name == name).expect("the table").id
}
