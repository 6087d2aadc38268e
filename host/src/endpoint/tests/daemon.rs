//! The daemon over real sockets.

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};

use dmux_wire::frame::Datagram;
use dmux_wire::{Ethernet, PROVISIONED_MLI_MAX, Shim, ShimKind, Substrate};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::gateway::{Gateway, PCP, VID};
use super::*;
use crate::link::{FrameLink, LinkSpec};

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(20);

async fn link_to(far: &UdpSocket) -> FrameLink {
    let local = "127.0.0.1:0".parse().unwrap();
    FrameLink::open(LinkSpec { local, remote: far.local_addr().unwrap() }).unwrap()
}

fn turned(frame: &[u8], payload: &[u8]) -> Vec<u8> {
    let (header, rest) = Ethernet::parse(frame).unwrap();
    let (substrate, _) = Substrate::parse(rest).unwrap();
    let mut back = Vec::new();
    Ethernet { dst: header.src, src: header.dst, ..header }.emit(&mut back);
    substrate.emit(&mut back);
    back.extend(payload);
    back
}

#[tokio::test]
async fn metaframes_go_by_tunnel_until_there_is_a_metalink() {
    let lan = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let std::net::SocketAddr::V4(address) = service.local_addr().unwrap() else { panic!("IPv4") };
    let (carrier, port) = (link_to(&user).await, AccessPort::Link(link_to(&lan).await));
    let carrier_address = carrier.local_addr().unwrap();
    let tunnel = Tunnel::open(SocketAddrV4::new(*address.ip(), address.port())).await.unwrap();
    let core = endpoint(&[wanted(41, 1_000_000)], 1);
    let daemon = EndpointDaemon::new(core, port, vec![Some(carrier)], Some(tunnel));
    let (stop, stopped) = oneshot::channel::<()>();
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let stopped = async {
        let _ = stopped.await;
    };
    let running = tokio::spawn(daemon.run(stopped, move |_, event| told.lock().unwrap().push(event.clone())));

    let mut buffer = [0; 2048];
    // Nobody answers on the LAN yet.
    user.send_to(b"first", carrier_address).await.unwrap();
    let (length, tunnel) = timeout(PATIENCE, service.recv_from(&mut buffer)).await.unwrap().unwrap();
    let shim = Shim::new(ShimKind::Data, ProtocolId(41), ProviderId::ANY);
    assert_eq!(Datagram::parse(&buffer[..length]).unwrap(), Datagram { shim, origin: None, payload: b"first" });
    let deliver = Datagram { shim: Shim { kind: ShimKind::Deliver, ..shim }, origin: None, payload: b"back" }.to_vec();
    service.send_to(&deliver, tunnel).await.unwrap();
    let length = timeout(PATIENCE, user.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"back");

    let mut gateway = Gateway::new(Duration::from_secs(60));
    let begun = Instant::now();
    let mut metaframes = Vec::new();
    let mut stop = Some(stop);
    loop {
        let (length, from) = timeout(PATIENCE, lan.recv_from(&mut buffer)).await.unwrap().unwrap();
        let frame = &buffer[..length];
        let (header, rest) = Ethernet::parse(frame).unwrap();
        let (substrate, payload) = Substrate::parse(rest).unwrap();
        if (1..=PROVISIONED_MLI_MAX).contains(&substrate.mli) {
            assert_eq!(header.vlan.map(|v| (v.vid, v.pcp)), Some((VID, PCP)));
            if metaframes.is_empty() {
                lan.send_to(&turned(frame, b"answer"), from).await.unwrap();
            }
            metaframes.push(payload[0]);
            if metaframes.len() == 50 {
                // The rate that they are kept to is the shaper's business, and its tests'.
                assert!(metaframes.iter().copied().eq(0..50), "in order");
                stop.take();
            }
            continue;
        }
        let Some(answer) = gateway.frame(begun.elapsed(), frame) else { continue };
        lan.send_to(&answer, from).await.unwrap();
        if stop.is_none() && gateway.metalinks.is_empty() {
            break;
        }
        if metaframes.is_empty() && !gateway.metalinks.is_empty() {
            let connected = || events.lock().unwrap().iter().any(|e| matches!(e, Event::Connected(_)));
            let wait = async {
                while !connected() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(PATIENCE, wait).await.unwrap();
            for n in 0..50 {
                user.send_to(&[n; 1000], carrier_address).await.unwrap();
            }
        }
    }
    let length = timeout(PATIENCE, user.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"answer");
    let carried = timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(carried, [Carried { sent: 50, received: 1, tunnelled: 1, dropped: 0 }]);
    let last = events.lock().unwrap().last().cloned();
    assert!(matches!(last, Some(Event::Gone { why: Gone::Released, .. })), "{last:?}");
}
