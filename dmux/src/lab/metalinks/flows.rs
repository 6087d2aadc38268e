//! What is sent and what arrives, by flow and time.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use dmux_wire::frame::{Datagram, udp_frame};
use dmux_wire::{DMUX_PORT, Ethernet, MacAddr, Origin, ProtocolId, ProviderId, Shim, ShimKind};

use super::gateway::{ENDPOINT, GATEWAY, PROTOCOLS, SENDER_PORTS, port_mac, sender_mac};

/// Bytes of a metaframe, and of what a legacy frame carries.
const PAYLOAD: usize = 1400;
/// What a router's packet is longer by than the frame on the access link: what the meter counts more.
const TUNNEL_MORE: usize = 36;
/// EtherType of the substrate.
const SUBSTRATE: [u8; 2] = [0x88, 0xb5];
/// EtherType of the legacy frames (local experimental 2): what they are is nobody's business.
const LEGACY: u16 = 0x88b6;
/// Counts are kept for so long.
pub const BIN: Duration = Duration::from_millis(250);
/// Between two looks of a sender at its clock.
const TICK: Duration = Duration::from_micros(500);
const LONGEST_FRAME: usize = 2048;

/// A provisioned metalink.
pub struct Metalink {
    /// Its identifier.
    pub mli: u32,
    /// The metanet.
    pub protocol: ProtocolId,
    /// Its IPvN router.
    pub router: SocketAddrV4,
    /// Bits a second.
    pub rate: u64,
}

impl Metalink {
    /// Those of the paper.
    pub const ALL: [Self; 2] = [
        Self {
            mli: 0x01_0001,
            protocol: PROTOCOLS[0],
            router: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 4000),
            rate: 15_000_000,
        },
        Self {
            mli: 0x01_0002,
            protocol: PROTOCOLS[1],
            router: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 2), 4000),
            rate: 30_000_000,
        },
    ];

    /// A packet of its router for the endpoint.
    fn frame(&self) -> anyhow::Result<Vec<u8>> {
        let shim = Shim::new(ShimKind::Return, self.protocol, ProviderId::ANY);
        let origin = Some(Origin::Metalink { mli: self.mli, gateway: GATEWAY.0 });
        let datagram = Datagram { shim, origin, payload: &[0; PAYLOAD] }.to_vec();
        let to = SocketAddrV4::new(GATEWAY.1, DMUX_PORT);
        Ok(udp_frame(MacAddr([2, 0, 0, 0, 2, 1]), port_mac(1), self.router, to, &datagram)?)
    }
}

/// How a received frame is told to be of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Mli(u32),
    Source(MacAddr),
}

/// One flow of the experiment.
#[derive(Debug, Clone)]
pub struct Flow {
    /// For people.
    pub name: &'static str,
    /// Bits a second that it may have; `None` for legacy traffic, which gets what is left.
    pub provisioned: Option<u64>,
    /// Bits a second that are sent.
    offered: u64,
    /// When it begins and ends.
    during: (Duration, Duration),
    port: u16,
    frame: Vec<u8>,
    mark: Mark,
}

impl Flow {
    /// The flows of figure 3b, one event each `interval`: both metalinks offered twice what they may have.
    pub fn all(interval: Duration) -> anyhow::Result<Vec<Self>> {
        let [first, second] = &Metalink::ALL;
        let metalink = |name, m: &Metalink, from: u32, to: u32| {
            Ok::<Self, anyhow::Error>(Self {
                name,
                provisioned: Some(m.rate),
                offered: 2 * m.rate,
                during: (interval * from, interval * to),
                port: 1,
                frame: m.frame()?,
                mark: Mark::Mli(m.mli),
            })
        };
        let legacy = |name, port: u16, from: u32, to: u32| {
            let src = sender_mac(port);
            let mut frame = Vec::new();
            Ethernet { dst: ENDPOINT, src, vlan: None, ether_type: LEGACY }.emit(&mut frame);
            frame.resize(frame.len() + PAYLOAD, 0);
            let during = (interval * from, interval * to);
            Self { name, provisioned: None, offered: super::LINK, during, port, frame, mark: Mark::Source(src) }
        };
        Ok(vec![
            metalink("metanet of 15 Mb/s", first, 0, 3)?,
            metalink("metanet of 30 Mb/s", second, 1, 4)?,
            legacy("legacy, first sender", SENDER_PORTS[0], 2, 5),
            legacy("legacy, second sender", SENDER_PORTS[1], 0, super::WINDOWS),
        ])
    }

    /// Bits of a received frame that count: for a metalink as the meter counts them.
    fn bits(&self, length: usize) -> u64 {
        let more = if self.provisioned.is_some() { TUNNEL_MORE } else { 0 };
        8 * (length + more) as u64
    }

    /// Whether it sends during all of this time.
    pub fn runs(&self, from: Duration, to: Duration) -> bool {
        self.during.0 <= from && to <= self.during.1
    }
}

/// The outer ends of the switch's ports.
pub struct Links(Vec<UdpSocket>);

impl Links {
    /// Opens them: (the switch's address, ours) by port, from 1.
    pub fn open(ports: &[(SocketAddr, SocketAddr)]) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for (switch, own) in ports {
            let socket = UdpSocket::bind(own).with_context(|| format!("binding {own}"))?;
            socket.connect(switch)?;
            socket.set_read_timeout(Some(BIN))?;
            sockets.push(socket);
        }
        Ok(Self(sockets))
    }

    fn port(&self, number: u16) -> anyhow::Result<&UdpSocket> {
        self.0.get(usize::from(number).wrapping_sub(1)).context("no such port")
    }
}

/// Sends all flows and counts for so long. Returns bits by flow and [`BIN`].
pub fn run(links: &Links, flows: &[Flow], length: Duration) -> anyhow::Result<Vec<Vec<u64>>> {
    let endpoint = links.port(super::gateway::ENDPOINT_PORT)?;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for flow in flows {
            let socket = links.port(flow.port)?;
            scope.spawn(move || send(socket, flow, begin));
        }
        count(endpoint, flows, begin, length)
    })
}

fn send(socket: &UdpSocket, flow: &Flow, begin: Instant) {
    let (from, to) = flow.during;
    let bits = 8 * flow.frame.len() as u64;
    let mut sent = 0_u64;
    loop {
        let elapsed = begin.elapsed();
        if elapsed >= to {
            return;
        }
        let Some(running) = elapsed.checked_sub(from) else {
            std::thread::sleep(TICK);
            continue;
        };
        let due = (running.as_secs_f64() * flow.offered as f64 / bits as f64) as u64;
        while sent < due {
            // What the machine does not take is lost, as on any link: more is offered than may pass.
            let _ = socket.send(&flow.frame);
            sent += 1;
        }
        std::thread::sleep(TICK);
    }
}

fn count(socket: &UdpSocket, flows: &[Flow], begin: Instant, length: Duration) -> anyhow::Result<Vec<Vec<u64>>> {
    let bins = (length.as_nanos() / BIN.as_nanos()) as usize;
    let mut counts = vec![vec![0; bins]; flows.len()];
    let mut buffer = [0; LONGEST_FRAME];
    loop {
        let received = socket.recv(&mut buffer);
        let bin = (begin.elapsed().as_nanos() / BIN.as_nanos()) as usize;
        if bin >= bins {
            return Ok(counts);
        }
        let frame = match received {
            Ok(n) => &buffer[..n],
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(e) => return Err(e).context("receiving at the endpoint"),
        };
        let Some(mark) = mark(frame) else { continue };
        if let Some(n) = flows.iter().position(|f| f.mark == mark) {
            counts[n][bin] += flows[n].bits(frame.len());
        }
    }
}

fn mark(frame: &[u8]) -> Option<Mark> {
    let (ethernet, rest) = Ethernet::parse(frame).ok()?;
    if ethernet.vlan.is_some() && ethernet.ether_type.to_be_bytes() == SUBSTRATE {
        let [_, a, b, c, ..] = *rest else { return None };
        return Some(Mark::Mli(u32::from_be_bytes([0, a, b, c])));
    }
    Some(Mark::Source(ethernet.src))
}
