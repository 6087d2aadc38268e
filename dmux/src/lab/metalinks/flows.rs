//! What is sent and what arrives, by flow and time.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use dmux_wire::frame::{Datagram, udp_frame};
use dmux_wire::{
    DMUX_PORT, Ethernet, MacAddr, Origin, PROVISIONED_MLI_MAX, ProviderId, Shim, ShimKind, Substrate, ethernet,
};
use std::net::SocketAddrV4;

use super::site::{ENDPOINT, GATEWAY, GATEWAY_MAC, NETS, Net, SENDER_PORTS, Site, sender_mac};

/// Bytes of a metaframe, and of what a legacy frame carries.
const PAYLOAD: usize = 1400;
/// What a router's packet is longer by than the frame on the access link: what the meter counts more.
const TUNNEL_MORE: usize = 36;
/// EtherType of the legacy frames (local experimental 2): what they are is nobody's business.
const LEGACY: u16 = 0x88b6;
/// Counts are kept for so long.
pub const BIN: Duration = Duration::from_millis(250);
/// Between two looks of a sender at its clock.
const TICK: Duration = Duration::from_micros(500);

/// A packet of a metanet's router for the endpoint.
fn packet(net: &Net, mli: u32) -> anyhow::Result<Vec<u8>> {
    let shim = Shim::new(ShimKind::Return, net.protocol, ProviderId::ANY);
    let origin = Some(Origin::Metalink { mli, gateway: GATEWAY.0 });
    let datagram = Datagram { shim, origin, payload: &[0; PAYLOAD] }.to_vec();
    let to = SocketAddrV4::new(GATEWAY.1, DMUX_PORT);
    Ok(udp_frame(net.router_mac(), GATEWAY_MAC, net.router, to, &datagram)?)
}

/// How a received frame is told to be of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It comes by this metalink.
    Mli(u32),
    /// It is a legacy frame from this station.
    Source(MacAddr),
}

impl Mark {
    /// That of a frame of the experiment; `None` for everything else.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let (header, rest) = Ethernet::parse(frame).ok()?;
        match header.ether_type {
            ethernet::SUBSTRATE => {
                let (Substrate { mli, .. }, _) = Substrate::parse(rest).ok()?;
                (1..=PROVISIONED_MLI_MAX).contains(&mli).then_some(Self::Mli(mli))
            }
            LEGACY => Some(Self::Source(header.src)),
            _ => None,
        }
    }
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
    /// How its frames are told when they arrive.
    pub mark: Mark,
}

impl Flow {
    /// The flows of figure 3b, one event each `interval`: both metalinks offered twice what they may have. `mlis`: what the
    /// endpoint was given, in the order of [`NETS`].
    pub fn all(interval: Duration, mlis: &[u32]) -> anyhow::Result<Vec<Self>> {
        let metalink = |name, net: &Net, mli: u32, from: u32, to: u32| {
            Ok::<Self, anyhow::Error>(Self {
                name,
                provisioned: Some(net.rate),
                offered: 2 * net.rate,
                during: (interval * from, interval * to),
                port: net.port,
                frame: packet(net, mli)?,
                mark: Mark::Mli(mli),
            })
        };
        let [first, second] = *mlis else { anyhow::bail!("{} metalinks instead of two", mlis.len()) };
        let legacy = |name, port: u16, from: u32, to: u32| {
            let src = sender_mac(port);
            let mut frame = Vec::new();
            Ethernet { dst: ENDPOINT, src, vlan: None, ether_type: LEGACY }.emit(&mut frame);
            frame.resize(frame.len() + PAYLOAD, 0);
            let during = (interval * from, interval * to);
            Self { name, provisioned: None, offered: super::LINK, during, port, frame, mark: Mark::Source(src) }
        };
        Ok(vec![
            metalink("metanet of 15 Mb/s", &NETS[0], first, 0, 3)?,
            metalink("metanet of 30 Mb/s", &NETS[1], second, 1, 4)?,
            legacy("legacy, first sender", SENDER_PORTS[0], 2, 5),
            legacy("legacy, second sender", SENDER_PORTS[1], 0, super::WINDOWS),
        ])
    }

    /// Bits of a received frame that count: for a metalink as the meter counts them.
    pub fn bits(&self, length: usize) -> u64 {
        let more = if self.provisioned.is_some() { TUNNEL_MORE } else { 0 };
        8 * (length + more) as u64
    }

    /// Whether it sends during all of this time.
    pub fn runs(&self, from: Duration, to: Duration) -> bool {
        self.during.0 <= from && to <= self.during.1
    }
}

/// Sends all flows and counts for so long. Returns bits by flow and [`BIN`].
pub fn run(site: &Site, flows: &[Flow], length: Duration) -> anyhow::Result<Vec<Vec<u64>>> {
    let endpoint = site.endpoint()?;
    let begin = Instant::now();
    endpoint.count(flows, begin, length);
    std::thread::scope(|scope| {
        for flow in flows {
            let socket = &site.cable(flow.port)?.port;
            scope.spawn(move || send(socket, flow, begin));
        }
        Ok::<(), anyhow::Error>(())
    })?;
    std::thread::sleep((begin + length).saturating_duration_since(Instant::now()));
    Ok(endpoint.counted())
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
