//! `dmux ping` through a real switch.

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket};

use dmux_wire::frame::Datagram;
use dmux_wire::{DMUX_PORT, ProtocolId, ProviderId, Shim, ShimKind, ipv6};
use serde_json::Value;
use support::{GATEWAY, Gateway, host_address, refused, succeed, wait};

/// The arguments of a ping from the host on port 1, whose link the test gives up.
fn from_host(gateway: &mut Gateway, more: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = ["ping", "--protocol", "41", "--client"].map(String::from).to_vec();
    arguments.push(host_address(1).to_string());
    arguments.extend(gateway.link_arguments(1));
    arguments.extend(more.iter().map(|&s| s.to_owned()));
    arguments
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_ping_shows_who_answers_and_the_path_by_which_it_went() {
    let mut gateway = Gateway::start(3);
    let _routers = [gateway.named_router(2, "r2", 7), gateway.named_router(3, "r3", 8)];
    wait("the routers are in the switch", || {
        gateway.api.switch()?.tables.iter().any(|t| t.table == "router" && t.entries == 2).then_some(())
    });
    gateway.api.synced();
    let api = gateway.api.address().to_string();
    let ping = from_host(&mut gateway, &["--count", "3", "--interval-ms", "10", "--via", &api]);

    let document: Value =
        serde_json::from_str(&succeed(&words(&[&ping[..], &["-o".into(), "json".into()]].concat()))).expect("JSON");
    assert_eq!((&document["sent"], &document["duplicates"]), (&3.into(), &0.into()), "{document:#}");
    assert!(document["received"].as_u64().is_some_and(|n| (1..=3).contains(&n)), "{document:#}");
    let answered = document["replies"][0]["router"].as_str().expect("a router");
    let path = &document["path"];
    let port = answered.rsplit(':').next().expect("the port that its address is of");
    assert_eq!(path["chosen"]["address"], format!("203.0.113.{port}:4000"), "{document:#}");
    assert_eq!((&path["differs"], &path["no_proof"]), (&false.into(), &"".into()));
    assert_eq!(document["replies"][0]["hop_limit"], 64);

    // The other provider's router, for people.
    let other = if port == "2" { "8" } else { "7" };
    let text = succeed(&words(&[&ping[..], &["--provider".into(), other.into()]].concat()));
    for expected in ["chosen: router", "by the switch: to router", "hop limit 64", "answered", "round trip least"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let other = if port == "2" { "2001:db8::3" } else { "2001:db8::2" };
    assert!(text.contains(&format!("from {other}")), "{text}");
}

#[test]
fn a_ping_that_nobody_answers_fails_and_says_so() {
    let mut gateway = Gateway::start(1);
    let api = gateway.api.address().to_string();
    let ping = from_host(&mut gateway, &["--count", "2", "--interval-ms", "10", "--timeout-ms", "50", "-o", "json"]);
    refused(&words(&ping), &["none of 2 requests to 198.51.100.1 was answered"]);
    let asked = [&ping[..], &["--via".into(), api]].concat();
    refused(&words(&asked), &["protocol 41 is unknown", "no router"]);
    let gone = [&ping[..], &["--via".into(), "127.0.0.1:1".into()]].concat();
    refused(&words(&gone), &["no controller answers at 127.0.0.1:1"]);
    refused(&["ping", "--protocol", "0"], &["--protocol 0"]);
    refused(&["ping", "--protocol", "41", "--client", "203.0.113.250"], &["--client 203.0.113.250", "--link"]);
}

#[test]
fn a_controller_pings_through_its_own_switch_and_names_the_registered_router() {
    let mut gateway = Gateway::start(3);
    let routers = [gateway.named_router(2, "r2", 7), gateway.named_router(3, "r3", 8)];
    wait("the routers are in the switch", || {
        gateway.api.switch()?.tables.iter().any(|t| t.table == "router" && t.entries == 2).then_some(())
    });
    gateway.api.synced();
    let api = gateway.api.address().to_string();
    let ping = ["ping", "--protocol", "41", "--from-gateway", &api, "--count", "3", "--interval-ms", "10"];
    for (provider, expected) in [("7", "2"), ("8", "3")] {
        let asked = [&ping[..], &["--provider", provider, "-o", "json"]].concat();
        let document: Value = serde_json::from_str(&succeed(&asked)).expect("JSON");
        let reply = &document["replies"][0];
        assert_eq!(reply["router"], format!("2001:db8::{expected}"), "{document:#}");
        assert_eq!(reply["registered"], format!("203.0.113.{expected}:4000"), "{document:#}");
        assert_eq!(reply["registered"], document["path"]["chosen"]["address"], "{document:#}");
        assert_eq!((&reply["hop_limit"], &reply["ttl"]), (&64.into(), &64.into()), "{document:#}");
        assert_eq!(document["path"]["client"], GATEWAY.to_string());
        assert_eq!(
            document["path"]["proof"][0]["table"], "local_service",
            "no guard looks at what the controller sends"
        );
    }
    let text = succeed(&ping);
    assert!(text.contains("by 203.0.113.") && text.contains("with TTL 64"), "{text}");
    // It went through the tables: the switch counted it for the router.
    let counted = gateway.api.routers().expect("routers");
    assert!(counted.iter().all(|r| r.packets.is_some_and(|n| n >= 3)), "{counted:?}");

    // A provider without routers: the switch drops it, and says why.
    let nobody = [&ping[..], &["--provider", "9"]].concat();
    refused(&nobody, &["none of 3 requests", "the switch drops it: no_route"]);
    drop(routers);
    gateway.switch.kill();
    wait("the switch's absence is noticed", || gateway.api.switch().filter(|s| s.state == "disconnected"));
    refused(&ping, &["the switch is not connected"]);
}

/// A gateway and a router behind it, at an address of the loopback network, for the kernel's own UDP.
#[test]
fn a_ping_by_the_kernels_network_counts_what_is_lost_and_who_answered() {
    // Nothing else of this machine uses this address.
    let service = SocketAddrV4::new(Ipv4Addr::new(127, 51, 70, 1), DMUX_PORT);
    let socket = UdpSocket::bind(service).expect("an address of the loopback network");
    let router = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        for n in 0..4 {
            let (length, from) = socket.recv_from(&mut buffer).expect("a request");
            let asked = Datagram::parse(&buffer[..length]).expect("a datagram");
            assert_eq!(
                (asked.shim.kind, asked.shim.protocol, asked.shim.provider),
                (ShimKind::Data, ProtocolId(41), ProviderId(7))
            );
            let packet = ipv6::echo_answer(asked.payload, Some(router)).expect("a request to all routers");
            // The second is lost; the third comes twice.
            for _ in 0..[1, 0, 2, 1][n] {
                let shim = Shim { kind: ShimKind::Deliver, ..asked.shim };
                socket.send_to(&Datagram { shim, origin: None, payload: &packet }.to_vec(), from).expect("sent");
            }
        }
    });
    let address = service.ip().to_string();
    let ping = ["ping", "--protocol", "41", "--provider", "7", "--service", &address, "--interval-ms", "20"];
    let document: Value =
        serde_json::from_str(&succeed(&[&ping[..], &["--count", "4", "-o", "json"]].concat())).expect("JSON");
    assert_eq!((&document["sent"], &document["received"], &document["duplicates"]), (&4.into(), &3.into(), &1.into()));
    assert_eq!(
        (&document["loss_percent"], &document["routers"]["2001:db8::11"]),
        (&25.0.into(), &3.into()),
        "{document:#}"
    );
    answering.join().expect("every request came");
}
