//! One gateway, its switch and its controller as processes, and what hosts on its ports see.

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use dmux_wire::frame::{Datagram, UdpFrame, udp_frame};
use dmux_wire::icmpv4::{Icmpv4Error, Icmpv4Message};
use dmux_wire::ipv6::Echo;
use dmux_wire::{Arp, DMUX_PORT, Ethernet, Ipv4, ProtocolId, ProviderId, Shim, ShimKind, ethernet, ipv4};
use support::{GATEWAY, GATEWAY_MAC, Gateway, host_address, host_mac, wait};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), DMUX_PORT);

fn client(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(host_address(port), 5555)
}

/// A data packet of protocol 41 from the host on a port, around these bytes.
fn data(port: u16, packet: &[u8]) -> Vec<u8> {
    let shim = Shim::new(ShimKind::Data, ProtocolId(41), ProviderId::ANY);
    let payload = Datagram { shim, origin: None, payload: packet }.to_vec();
    udp_frame(host_mac(port), GATEWAY_MAC, client(port), SERVICE, &payload).expect("a frame")
}

/// The ICMP error in a frame, and the packet that it quotes.
fn icmp_error(frame: &[u8]) -> Option<(Ipv4, Icmpv4Error, Vec<u8>)> {
    let (header, packet) = Ethernet::parse(frame).ok()?;
    let packet =
        Ipv4::parse(packet).ok().filter(|p| header.ether_type == ethernet::IPV4 && p.header.protocol == ipv4::ICMP)?;
    let message = Icmpv4Message::parse(packet.payload).ok()?;
    Some((packet.header, message.error, message.quoted.to_vec()))
}

fn router_is_registered(gateway: &Gateway) {
    wait("the router is registered", || gateway.api.routers().filter(|r| r.len() == 1));
    // A registration is in the switch only when the plan with it is.
    wait("the router is in the switch", || {
        gateway.api.switch()?.tables.iter().any(|t| t.table == "router" && t.entries == 1).then_some(())
    });
}

#[test]
fn the_api_describes_itself() {
    let gateway = Gateway::start(1);
    let services = gateway.api.services();
    for service in ["dmux.api.v1.Dmux", "dmux.api.v1.Registry"] {
        assert!(services.iter().any(|s| s == service), "{services:?}");
    }
}

#[test]
fn neighbours_resolve_the_gateways_addresses_by_arp() {
    let gateway = Gateway::start(1);
    for address in [GATEWAY, *SERVICE.ip(), Ipv4Addr::new(198, 51, 100, 2)] {
        let question = Arp::request(host_mac(1), host_address(1), address).frame();
        let reply = gateway.ask(1, &question, "an ARP reply", |frame| {
            let (header, packet) = Ethernet::parse(frame).ok()?;
            (header.ether_type == ethernet::ARP).then(|| Arp::parse(packet).expect("an ARP packet"))
        });
        assert_eq!((reply.sender, reply.sender_mac), (address, GATEWAY_MAC));
        assert_eq!((reply.target, reply.target_mac), (host_address(1), host_mac(1)));
    }
}

#[test]
fn what_is_too_big_after_encapsulation_is_told_the_length_that_fits_and_what_fits_passes() {
    let mut gateway = Gateway::start(2);
    let router = gateway.router(2, host_address(2));
    router_is_registered(&gateway);

    // 20 IPv4, 8 UDP, 8 shim; the origin header makes it 8 longer than the 1500 of the link.
    let too_big = data(1, &vec![0; 1464]);
    assert_eq!(too_big.len(), 14 + 1500);
    let (header, error, quoted) = gateway.ask(1, &too_big, "fragmentation needed", icmp_error);
    assert_eq!((header.src, header.dst), (GATEWAY, host_address(1)));
    assert_eq!(error, Icmpv4Error::FragmentationNeeded { mtu: 1492 });
    assert_eq!(quoted, &too_big[14..14 + 28], "the header that the client sent, and 8 bytes");

    // As large as it said, and the router's echo comes back through the gateway.
    let (me, you) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
    let echo = Echo { reply: false, identifier: 1, sequence: 1, data: &vec![7; 1456 - 48] };
    let fits = data(1, &echo.packet(me, you).expect("a packet"));
    assert_eq!(fits.len(), 14 + 1492);
    let answer = gateway.ask(1, &fits, "an echo reply", |frame| {
        let udp = UdpFrame::parse(frame).ok()?;
        let datagram = Datagram::parse(udp.payload).ok()?;
        (udp.from == SERVICE && datagram.shim.kind == ShimKind::Deliver).then(|| datagram.payload.to_vec())
    });
    assert_eq!(answer, Echo { reply: true, ..echo }.packet(you, me).expect("a packet"));
    drop(router);
}

#[test]
fn a_packet_whose_time_is_over_is_told_so() {
    let gateway = Gateway::start(2);
    let from = client(1);
    let mut frame = udp_frame(host_mac(1), GATEWAY_MAC, from, SocketAddrV4::new(host_address(2), 9), b"x").unwrap();
    let packet = Ipv4 { ttl: 1, ..Ipv4::new(*from.ip(), host_address(2), ipv4::UDP) }.packet(&frame[34..]).unwrap();
    frame.splice(14.., packet);
    let (header, error, _) = gateway.ask(1, &frame, "time exceeded", icmp_error);
    assert_eq!((header.src, error), (GATEWAY, Icmpv4Error::TimeExceeded));
    let drops = wait("the drop is counted", || gateway.api.switch().map(|s| s.drops).filter(|d| !d.is_empty()));
    assert!(drops.iter().any(|d| d.reason == "ttl_expired" && d.packets > 0), "{drops:?}");
}

#[test]
fn a_router_that_is_stopped_says_farewell_and_is_gone_at_once() {
    let mut gateway = Gateway::start(2);
    let mut router = gateway.router(1, host_address(1));
    router_is_registered(&gateway);
    router.terminate();
    assert!(router.ended(), "{}", router.log());
    assert!(router.log().contains("said farewell"), "{}", router.log());
    wait("the registration is gone", || gateway.api.routers().filter(Vec::is_empty));
    wait("its entries are gone", || {
        gateway.api.switch()?.tables.iter().any(|t| t.table == "return_source" && t.entries == 0).then_some(())
    });
}

#[test]
fn a_router_that_is_killed_expires() {
    let mut gateway = Gateway::start(1);
    let mut router = gateway.router(1, host_address(1));
    router_is_registered(&gateway);
    router.kill();
    wait("the registration has expired", || gateway.api.routers().filter(Vec::is_empty));
    assert!(gateway.controller.log().contains("203.0.113.1:4000"), "{}", gateway.controller.log());
}

#[test]
fn a_certificate_for_another_address_is_refused_with_the_reason_on_both_sides() {
    let mut gateway = Gateway::start(1);
    let router = gateway.router(1, Ipv4Addr::new(203, 0, 113, 99));
    wait("the router is told why", || {
        let log = router.log();
        (log.contains("refused") && log.contains("203.0.113.1")).then_some(())
    });
    let log =
        wait("the operator is told why", || Some(gateway.controller.log()).filter(|l| l.contains("203.0.113.1:4000")));
    assert!(log.contains("WARN"), "{log}");
    assert_eq!(gateway.api.routers().map(|r| r.len()), Some(0));
}

#[test]
fn a_damaged_directory_is_refused_with_the_way_to_rejoin_and_not_touched() {
    let mut gateway = Gateway::start(1);
    gateway.controller.kill();
    let database = gateway.dir.path().join("data1/sled/db");
    let mut bytes = std::fs::read(&database).expect("sled's file");
    let middle = bytes.len() / 2;
    // A stretch in the middle of the file, wherever records are.
    for byte in &mut bytes[..middle] {
        *byte ^= 0x5a;
    }
    std::fs::write(&database, &bytes).expect("written");
    gateway.restart_controller();
    assert!(!gateway.controller.ended(), "it must not start");
    let log = gateway.controller.log();
    for word in ["damaged", "new node id", "--join", "--replaces"] {
        assert!(log.contains(word), "{word:?} is missing: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}
