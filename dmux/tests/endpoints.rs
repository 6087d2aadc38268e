//! Whole access LANs: the embedded switch, real controllers, `dmux endpoint`, and an IPvN router behind them.

mod support;

use std::net::{Ipv6Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use dmux_wire::ipv6::{Echo, ICMPV6};
use dmux_wire::{CONTROL_MLI, Ethernet, Ipv6, MacAddr, Substrate, Vlan, ethernet};
use serde_json::Value;
use support::{GATEWAY_MAC, Gateway, Process, host_mac, refused, succeed, wait};

/// The metanet's router is on this port, and answers at this address.
const ROUTER_PORT: u16 = 3;
const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, ROUTER_PORT);
const ENDPOINT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99);

/// An access LAN whose metanet 41 admits by itself, up to 30 Mbit/s of 100 Mbit/s, with leases of so many seconds.
fn promise(gateway: &Gateway, leases: &str) {
    let put =
        format!("access-link put --gateway 1 --name lan --capacity 100M --short-lease {leases} --long-lease {leases}");
    operator(gateway, &put);
    operator(gateway, "metanet create --protocol 41 --name video --admit-up-to 30M");
}

fn operator(gateway: &Gateway, line: &str) -> String {
    let api = gateway.api.address().to_string();
    succeed(&line.split_whitespace().chain(["--api", &api]).collect::<Vec<_>>())
}

fn get(gateway: &Gateway, resource: &str) -> Value {
    serde_json::from_str(&operator(gateway, &format!("get {resource} -o json"))).expect("JSON")
}

fn metalinks(gateway: &Gateway) -> Vec<Value> {
    get(gateway, "metalinks").as_array().expect("a list").clone()
}

fn promised(gateway: &Gateway) -> u64 {
    let capacity = get(gateway, "capacity");
    let sum = |key: &str| capacity[0][key].as_u64().expect("a number");
    sum("long_promised") + sum("short_promised")
}

/// What an endpoint has printed.
fn events(endpoint: &Process) -> Vec<Value> {
    endpoint.log().lines().filter(|line| line.starts_with('{')).filter_map(|l| serde_json::from_str(l).ok()).collect()
}

/// The first event of a kind, after `skip` others of its kind.
fn event(endpoint: &Process, kind: &str, skip: usize) -> Value {
    wait(&format!("event {kind}"), || events(endpoint).into_iter().filter(|e| e["event"] == kind).nth(skip))
}

/// How many entries a table of the switch has.
fn entries(gateway: &Gateway, table: &str) -> Option<u64> {
    gateway.api.switch()?.tables.iter().find(|t| t.table == table).map(|t| t.entries)
}

/// How many frames the switch has dropped for a reason.
fn dropped(gateway: &Gateway, reason: &str) -> u64 {
    let drops = gateway.api.switch().expect("the switch").drops;
    drops.iter().find(|drop| drop.reason == reason).map_or(0, |drop| drop.packets)
}

/// Whoever uses a metalink: its socket, and `--carry` for the endpoint.
fn user() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let own = socket.local_addr().expect("an address");
    let [endpoint] = support::free_addresses(1)[..] else { panic!("an address") };
    socket.connect(endpoint).expect("connect");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    (socket, format!("41=udp:{endpoint}>{own}"))
}

/// Sends an echo request by a metalink until the router's answer to it is there.
fn ping(user: &UdpSocket, sequence: u16) {
    let echo = |reply| Echo { reply, identifier: 7, sequence, data: b"metaframe" };
    let request = echo(false).packet(ENDPOINT, ROUTER).expect("a packet");
    let mut buffer = [0; 2048];
    wait("the router's answer", || {
        user.send(&request).ok()?;
        while let Ok(length) = user.recv(&mut buffer) {
            let (header, message) = Ipv6::parse(&buffer[..length]).expect("an IPv6 packet");
            assert_eq!((header.src, header.dst, header.next_header), (ROUTER, ENDPOINT, ICMPV6));
            let answer = Echo::parse(message, header.src, header.dst).expect("an echo message");
            if answer == echo(true) {
                return Some(());
            }
        }
        None
    });
}

fn router_is_there(gateway: &Gateway) {
    wait("the router is in the switch", || (entries(gateway, "router")? == 1).then_some(()));
}

/// A frame of the substrate from a station to the gateway.
fn frame(src: MacAddr, vid: u16, mli: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let vlan = Some(Vlan { pcp: 5, dei: false, vid });
    Ethernet { dst: GATEWAY_MAC, src, vlan, ether_type: ethernet::SUBSTRATE }.emit(&mut frame);
    Substrate::new(mli).emit(&mut frame);
    frame.extend(payload);
    frame
}

#[test]
fn metaframes_reach_a_router_and_come_back_and_strangers_take_nobodys_tokens() {
    let mut gateway = Gateway::start_access();
    let router = gateway.named_router(ROUTER_PORT, "r", 7);
    promise(&gateway, "3600");
    router_is_there(&gateway);
    // Who only looks is told what there is, and leaves.
    let mut looker = gateway.endpoint(1, "looker", &[]);
    assert!(looker.ended(), "{}", looker.log());
    let found = event(&looker, "found", 0);
    assert_eq!((&found["provisioned_vid"], &found["metanets"][0]["name"]), (&100.into(), &"video".into()), "{found}");
    drop(looker);

    let (user, carry) = user();
    let endpoint = gateway.endpoint(1, "endpoint", &["--connect", "41@15M:long", "--carry", &carry]);
    let connected = event(&endpoint, "connected", 0);
    assert_eq!((&connected["rate"], &connected["lease"]), (&15_000_000.into(), &"long".into()), "{connected}");
    // It is told only when it is so: the first metaframe already gets through.
    ping(&user, 1);
    assert_eq!(promised(&gateway), 15_000_000);
    let [metalink] = &metalinks(&gateway)[..] else { panic!("one metalink") };
    assert_eq!((&metalink["mac"], &metalink["port"]), (&host_mac(1).to_string().into(), &1.into()), "{metalink}");
    let mli = u32::try_from(connected["mli"].as_u64().expect("a number")).expect("24 bits");

    // From another port: its address and MLI; its MLI only; the control MLI of somebody who is not attached.
    let (own, other) = (host_mac(1), host_mac(2));
    for (bad, reason) in [
        (frame(own, 100, mli, b"spoofed"), "unknown_endpoint"),
        (frame(other, 100, mli, b"another's"), "unknown_endpoint"),
        (frame(other, 100, CONTROL_MLI, b"not attached"), "unknown_endpoint"),
        (frame(other, 300, mli, b"nowhere"), "wrong_vlan"),
        (frame(other, 200, mli, b"not shared"), "unknown_metalink"),
    ] {
        let before = dropped(&gateway, reason);
        gateway.send(2, &bad);
        wait(reason, || (dropped(&gateway, reason) > before).then_some(()));
    }
    // A second of the metalink's rate in spoofed frames: whoever it belongs to loses nothing.
    let spoofed = frame(own, 100, mli, &[0; 1400]);
    for _ in 0..1000 {
        gateway.send(2, &spoofed);
    }
    for sequence in 2..10 {
        ping(&user, sequence);
    }
    assert_eq!(dropped(&gateway, "metalink_rate"), 0);

    endpoint.terminate();
    let gone = event(&endpoint, "gone", 0);
    assert_eq!(gone["why"], "it was released", "{gone}");
    let carried = event(&endpoint, "carried", 0);
    assert!(carried["received"].as_u64() >= Some(9), "{carried}");
    assert_eq!((metalinks(&gateway).len(), promised(&gateway)), (0, 0));
    wait("the metalink is out of the switch", || (entries(&gateway, "metalink_tx")? == 0).then_some(()));
    drop(router);
}

#[test]
fn what_a_dead_endpoint_had_is_back_when_its_lease_ends() {
    let mut gateway = Gateway::start_access();
    promise(&gateway, "2");
    let mut endpoint = gateway.endpoint(1, "endpoint", &["--connect", "41@15M"]);
    event(&endpoint, "connected", 0);
    // Through several leases: it is renewed in time.
    event(&endpoint, "renewed", 5);
    assert!(!events(&endpoint).iter().any(|e| e["event"] == "gone"), "{}", endpoint.log());
    assert_eq!(promised(&gateway), 15_000_000);
    endpoint.kill();
    wait("its lease ends", || (promised(&gateway) == 0).then_some(()));
    assert_eq!(metalinks(&gateway).len(), 0);
    wait("the metalink is out of the switch", || (entries(&gateway, "metalink_tx")? == 0).then_some(()));
}

#[test]
fn an_endpoint_notices_what_operators_do() {
    let mut gateway = Gateway::start_access();
    promise(&gateway, "3600");
    let endpoint = gateway.endpoint(1, "endpoint", &["--connect", "41@15M:long"]);
    let mli = event(&endpoint, "connected", 0)["mli"].as_u64().expect("a number");
    operator(&gateway, &format!("metalink adjust --gateway 1 --mli {mli} --rate 5M"));
    wait("less", || events(&endpoint).iter().any(|e| e["event"] == "adjusted" && e["rate"] == 5_000_000).then_some(()));
    operator(&gateway, &format!("metalink adjust --gateway 1 --mli {mli} --rate 25M"));
    wait("more", || {
        events(&endpoint).iter().any(|e| e["event"] == "adjusted" && e["rate"] == 25_000_000).then_some(())
    });
    operator(&gateway, &format!("metalink revoke --gateway 1 --mli {mli}"));
    assert_eq!(event(&endpoint, "gone", 0)["why"], "it was revoked");
    wait("the metalink is out of the switch", || (entries(&gateway, "metalink_tx")? == 0).then_some(()));
    let api = gateway.api.address().to_string();
    refused(&["metalink", "renew", "--gateway", "1", "--mli", &mli.to_string(), "--api", &api], &["no such metalink"]);
}

#[test]
fn lost_frames_cost_repetitions_and_nothing_else() {
    let mut gateway = Gateway::start_lossy_access();
    promise(&gateway, "3");
    let endpoint = gateway.endpoint(1, "endpoint", &["--connect", "41@15M"]);
    let mli = event(&endpoint, "connected", 0)["mli"].clone();
    event(&endpoint, "renewed", 5);
    let all = events(&endpoint);
    assert!(!all.iter().any(|e| e["event"] == "gone" || e["event"] == "refused"), "{all:?}");
    let [metalink] = &metalinks(&gateway)[..] else { panic!("one metalink") };
    assert_eq!(metalink["id"]["mli"], mli, "{metalink}");
}

#[test]
fn a_controller_that_restarts_finds_its_endpoints_as_they_were() {
    let mut gateway = Gateway::start_access();
    let router = gateway.named_router(ROUTER_PORT, "r", 7);
    promise(&gateway, "6");
    router_is_there(&gateway);
    let (user, carry) = user();
    let endpoint = gateway.endpoint(1, "endpoint", &["--connect", "41@15M", "--carry", &carry]);
    let mli = event(&endpoint, "connected", 0)["mli"].clone();
    ping(&user, 1);
    gateway.controller.kill();
    // The switch goes on by itself.
    ping(&user, 2);
    gateway.restart_controller();
    gateway.api.synced();
    let renewals = events(&endpoint).iter().filter(|e| e["event"] == "renewed").count();
    event(&endpoint, "renewed", renewals);
    ping(&user, 3);
    let [metalink] = &metalinks(&gateway)[..] else { panic!("one metalink") };
    assert_eq!(metalink["id"]["mli"], mli, "{metalink}");
    assert!(!events(&endpoint).iter().any(|e| e["event"] == "gone"), "{}", endpoint.log());
    // A switch that restarts gets everything again.
    gateway.switch.kill();
    gateway.restart_switch();
    router_is_there(&gateway);
    ping(&user, 4);
    drop(router);
}

#[test]
fn with_three_controllers_one_may_be_away() {
    let mut gateway = Gateway::start_cluster_access();
    let router = gateway.named_router(ROUTER_PORT, "r", 7);
    wait("the cluster takes commands", || {
        let gateways = gateway.api.gateways()?;
        (gateways.len() == 3 && gateways.iter().any(|g| g.role == "leader")).then_some(())
    });
    promise(&gateway, "6");
    router_is_there(&gateway);
    let (first_user, carry) = user();
    let first = gateway.endpoint(1, "first", &["--connect", "41@15M", "--carry", &carry]);
    event(&first, "connected", 0);
    ping(&first_user, 1);
    for other in [0, 1] {
        let (_, api) = &gateway.others[other];
        let elsewhere = wait("another controller knows it", || {
            let all = succeed(&["get", "metalinks", "-o", "json", "--api", &api.address().to_string()]);
            serde_json::from_str::<Vec<Value>>(&all).ok().filter(|all| all.len() == 1)
        });
        assert_eq!(elsewhere[0]["mac"], host_mac(1).to_string());
    }
    // Perhaps the leader, perhaps not: both must do.
    gateway.others[0].0.kill();
    let (second_user, carry) = user();
    let second = gateway.endpoint(2, "second", &["--connect", "41@15M:long", "--carry", &carry]);
    event(&second, "connected", 0);
    ping(&second_user, 1);
    event(&first, "renewed", 1);
    assert_eq!(promised(&gateway), 30_000_000);
    assert!(!events(&first).iter().any(|e| e["event"] == "gone"), "{}", first.log());
    drop(router);
}

/// Set in the process that is inside a network namespace.
const INSIDE: &str = "DMUX_TEST_INSIDE_NAMESPACE";
/// What that process prints when it has come through everything.
const THROUGH: &str = "all of it held";

/// The test starts this binary again inside `unshare` and runs the rest there, so nothing of the machine is touched.
#[test]
fn on_an_interface_it_is_all_the_same() {
    if std::env::var_os(INSIDE).is_some() {
        on_an_interface();
        println!("{THROUGH}");
        return;
    }
    let inner = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--nocapture", "on_an_interface_it_is_all_the_same"])
        .env(INSIDE, "1")
        .output()
        .expect("`unshare` (util-linux) is needed to test interfaces");
    let text = format!("{}{}", String::from_utf8_lossy(&inner.stdout), String::from_utf8_lossy(&inner.stderr));
    assert!(
        !text.contains("unshare failed"),
        "no network namespace can be made here: run the tests as root, or allow unprivileged user namespaces\n{text}"
    );
    assert!(inner.status.success() && text.contains(THROUGH), "{text}");
}

fn on_an_interface() {
    let mac = host_mac(1);
    for arguments in [
        "link set lo up".to_owned(),
        format!("link add lan address {mac} type veth peer name port"),
        "link set lan up".into(),
        "link set port up".into(),
    ] {
        let status = Command::new("ip").args(arguments.split(' ')).status().expect("`ip` (iproute2) is needed");
        assert!(status.success(), "ip {arguments}");
    }
    let mut gateway = Gateway::start_access_on("port");
    let router = gateway.named_router(ROUTER_PORT, "r", 7);
    promise(&gateway, "3600");
    router_is_there(&gateway);
    let (user, carry) = user();
    let arguments =
        ["endpoint", "--output", "json", "--interface", "lan", "--connect", "41@15M:long", "--carry", &carry];
    let endpoint = Process::start(gateway.dir.path(), "endpoint", &arguments.map(String::from));
    event(&endpoint, "connected", 0);
    ping(&user, 1);
    let [metalink] = &metalinks(&gateway)[..] else { panic!("one metalink") };
    assert_eq!(metalink["mac"], mac.to_string(), "{metalink}");
    endpoint.terminate();
    assert_eq!(event(&endpoint, "gone", 0)["why"], "it was released");
    drop(router);
}

#[test]
fn where_certificates_are_asked_for_only_its_own_is_good_enough() {
    let mut gateway = Gateway::start_access();
    promise(&gateway, "3600");
    operator(&gateway, "access-link put --gateway 1 --name lan --capacity 100M --authenticate");
    let path = |name: &str| gateway.dir.path().join(name).display().to_string();
    let (authority, own, others) = (path("authority"), path("own"), path("others"));
    for (mac, out) in [(host_mac(1), &own), (host_mac(2), &others)] {
        succeed(&["ca", "endpoint", "--ca", &authority, "--mac", &mac.to_string(), "--name", "e", "--out", out]);
    }
    let without = gateway.endpoint(1, "without", &["--connect", "41@15M"]);
    event(&without, "no_certificate", 0);
    drop(without);
    let wrong = gateway.endpoint(1, "wrong", &["--connect", "41@15M", "--credentials", &others]);
    let said = event(&wrong, "refused", 0);
    assert_eq!(said["code"], "REFUSAL_CODE_ADDRESS_NOT_CERTIFIED", "{said}");
    drop(wrong);
    let right = gateway.endpoint(1, "right", &["--connect", "41@15M", "--credentials", &own]);
    event(&right, "connected", 0);
}
