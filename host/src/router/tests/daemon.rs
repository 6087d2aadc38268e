//! The daemon over real sockets.

use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex};

use dmux_wire::frame::{UdpFrame, udp_frame};
use dmux_wire::ipv6::{Echo as EchoMessage, ICMPV6};
use dmux_wire::{Ipv6, MacAddr};
use tokio::net::UdpSocket;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::*;
use crate::link::LinkSpec;

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(20);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const GATEWAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 51700);

fn v6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)
}

fn forward(packet: &[u8]) -> (Origin, Vec<u8>) {
    let origin = Origin::Client { address: Ipv4Addr::new(10, 0, 0, 1), port: 5555, service: ServiceIndex(7) };
    let shim = Shim::new(ShimKind::Forward, ProtocolId(41), ProviderId::ANY);
    (origin, Datagram { shim, origin: Some(origin), payload: packet }.to_vec())
}

fn ping() -> Vec<u8> {
    EchoMessage { reply: false, identifier: 1, sequence: 2, data: b"ping" }.packet(v6(1), v6(0x11)).unwrap()
}

#[track_caller]
fn expect_pong(payload: &[u8], origin: Origin, from: Ipv6Addr) {
    let back = Datagram::parse(payload).unwrap();
    assert_eq!((back.shim.kind, back.origin), (ShimKind::Return, Some(origin)));
    let (header, message) = Ipv6::parse(back.payload).unwrap();
    assert_eq!((header.src, header.dst, header.next_header), (from, v6(1), ICMPV6));
    assert!(EchoMessage::parse(message, header.src, header.dst).unwrap().reply);
}

#[tokio::test]
async fn over_kernel_udp_it_registers_echoes_and_leaves() {
    let gateway = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let std::net::SocketAddr::V4(registration) = gateway.local_addr().unwrap() else { panic!("IPv4") };
    let transport = UdpTransport::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = transport.local_addr().unwrap();
    // Routers with loopback addresses do not exist, so it says that it is another: the test's gateway does not mind.
    let core = RouterCore::new(RouterConfig { registration, ..config() }, credentials(), [5; 32]);
    let (stop, stopped) = oneshot::channel::<()>();
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let daemon = RouterDaemon::new(vec![core], transport, Echo { address: Some(v6(0x11)) });
    let running = tokio::spawn(daemon.run(
        async {
            let _ = stopped.await;
        },
        watch::channel(false).1,
        move |_, event| told.lock().unwrap().push(event.clone()),
    ));

    let mut buffer = [0; 2048];
    let mut stop = Some(stop);
    let (origin, packet) = forward(&ping());
    loop {
        let (length, from) = timeout(PATIENCE, gateway.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(from, address);
        if Shim::parse(&buffer[..length]).unwrap().0.kind == ShimKind::Return {
            expect_pong(&buffer[..length], origin, v6(0x11));
            stop.take();
            continue;
        }
        let (nonce, request) = Gateway::read(&buffer[..length]);
        let answer = Gateway::answer(&request);
        gateway.send_to(&Gateway::write(nonce, answer.clone()), from).await.unwrap();
        match answer {
            Kind::Accepted(_) => {
                for noise in [&b""[..], &[0xff; 100]] {
                    gateway.send_to(noise, from).await.unwrap();
                }
                gateway.send_to(&packet, from).await.unwrap();
            }
            Kind::DeregisterAck(_) => break,
            _ => {}
        }
    }
    let stats = timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(stats, Stats { delivered: 1, returned: 1 });
    let events = events.lock().unwrap();
    assert!(matches!(events[..], [Event::Registered { .. }, Event::Left { confirmed: true }]), "{events:?}");
}

#[tokio::test]
async fn over_a_frame_link_it_registers_and_echoes() {
    let switch = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let spec = LinkSpec { local: "127.0.0.1:0".parse().unwrap(), remote: switch.local_addr().unwrap() };
    let transport = FrameTransport::open(spec, MAC, GATEWAY_MAC, ROUTER).unwrap();
    let core = RouterCore::new(config(), credentials(), [5; 32]);
    let daemon = RouterDaemon::new(vec![core], transport, Echo::default());
    let running = tokio::spawn(daemon.run(std::future::pending(), watch::channel(false).1, |_, _| ()));

    let mut buffer = [0; 2048];
    let (origin, packet) = forward(&ping());
    loop {
        let (length, port) = timeout(PATIENCE, switch.recv_from(&mut buffer)).await.unwrap().unwrap();
        let frame = UdpFrame::parse(&buffer[..length]).unwrap();
        assert_eq!((frame.ethernet.src, frame.ethernet.dst, frame.from), (MAC, GATEWAY_MAC, ROUTER));
        if frame.to == GATEWAY {
            expect_pong(frame.payload, origin, v6(0x11));
            break;
        }
        assert_eq!(frame.to, REGISTRATION);
        let (nonce, request) = Gateway::read(frame.payload);
        let answer = Gateway::answer(&request);
        let reply = udp_frame(GATEWAY_MAC, MAC, REGISTRATION, ROUTER, &Gateway::write(nonce, answer.clone())).unwrap();
        switch.send_to(&reply, port).await.unwrap();
        if let Kind::Accepted(_) = answer {
            let frame = udp_frame(GATEWAY_MAC, MAC, GATEWAY, ROUTER, &packet).unwrap();
            switch.send_to(&frame, port).await.unwrap();
        }
    }
    running.abort();
}

#[tokio::test]
async fn several_protocols_of_one_address_register_drain_and_leave_together() {
    let gateway = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let std::net::SocketAddr::V4(registration) = gateway.local_addr().unwrap() else { panic!("IPv4") };
    let transport = UdpTransport::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let core = |protocol, seed| {
        let config = RouterConfig { registration, protocol: ProtocolId(protocol), ..config() };
        RouterCore::new(config, credentials(), [seed; 32])
    };
    let daemon = RouterDaemon::new(vec![core(41, 1), core(42, 2)], transport, Count);
    let (stop, stopped) = oneshot::channel::<()>();
    let (drain, draining) = watch::channel(false);
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&accepted);
    let running = tokio::spawn(daemon.run(
        async {
            let _ = stopped.await;
        },
        draining,
        move |protocol, event| {
            if matches!(event, Event::Registered { .. }) {
                told.lock().unwrap().push(protocol.0);
            }
        },
    ));
    let mut stop = Some(stop);
    let mut buffer = [0; 2048];
    let (mut registered, mut drained, mut left) = (Vec::new(), Vec::new(), Vec::new());
    while left.len() < 2 {
        let (length, from) = timeout(PATIENCE, gateway.recv_from(&mut buffer)).await.unwrap().unwrap();
        let (nonce, request) = Gateway::read(&buffer[..length]);
        let answer = Gateway::answer(&request);
        gateway.send_to(&Gateway::write(nonce, answer.clone()), from).await.unwrap();
        match (request, answer) {
            (Kind::Register(request), Kind::Accepted(_)) => {
                let body = RegisterBody::decode(&request.body).unwrap();
                if body.draining { &mut drained } else { &mut registered }.push(body.protocol.0);
            }
            (Kind::Deregister(request), _) => left.push(SessionBody::decode(&request.body).unwrap().protocol.0),
            _ => {}
        }
        // Keepalives come until the cores have heard of it.
        let times = |protocol| accepted.lock().unwrap().iter().filter(|p| **p == protocol).count();
        match times(41).min(times(42)) {
            0 => {}
            1 => drop(drain.send_replace(true)),
            _ => drop(stop.take()),
        }
    }
    for all in [&mut registered, &mut drained, &mut left] {
        all.sort_unstable();
        all.dedup();
        assert_eq!(*all, [41, 42]);
    }
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}
