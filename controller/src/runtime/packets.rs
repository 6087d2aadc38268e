//! Between the switch's packet messages and what the state machines know.

use std::net::{Ipv4Addr, SocketAddrV4};

use dmux_p4rt::p4::v1;
use dmux_tables::{PacketInHeader, PacketOutHeader, PortId, Submit};
use dmux_wire::frame::{Datagram, UdpFrame, udp_frame};
use dmux_wire::icmpv4::Icmpv4Error;
use dmux_wire::{
    DMUX_PORT, GatewayId, MacAddr, Origin, Probe, ProtocolId, ProviderId, PuntReason, Shim, ShimKind, WireError,
};
use thiserror::Error;

use crate::model::Destination;
use crate::probing::{ProbeRequest, Stamps};
use crate::punted::{Egress, Outgoing};

/// Why a packet-in cannot be used.
#[derive(Debug, Error)]
pub(super) enum PuntError {
    #[error("its metadata is not that of the gateway program: {0}")]
    Metadata(#[from] dmux_tables::DecodeError),
    #[error("the frame is not what its punt reason says: {0}")]
    Frame(#[from] WireError),
    #[error("a shim of kind {0:?} was punted for another reason")]
    Kind(ShimKind),
}

/// A punted frame, understood.
#[derive(Debug)]
pub(super) struct Punt<'a> {
    pub ingress_port: PortId,
    /// When the switch received it, by the switch's clock: µs, 48 bits.
    pub t_in_us: u64,
    pub packet: Packet<'a>,
}

/// What was punted.
#[derive(Debug)]
pub(super) enum Packet<'a> {
    Control {
        from: SocketAddrV4,
        to: SocketAddrV4,
        message: &'a [u8],
    },
    Arp {
        frame: &'a [u8],
    },
    /// On MLI 0 or a control MLI.
    Endpoint {
        reason: PuntReason,
        frame: &'a [u8],
    },
    ProbeReply {
        from: Ipv4Addr,
        probe: Probe,
        stamps: Stamps,
    },
    /// To be answered with an ICMP error.
    Icmp {
        frame: &'a [u8],
        error: Icmpv4Error,
    },
    /// A return to this gateway itself: the answer to a probe of the operator API.
    Returned {
        router: SocketAddrV4,
        /// What was left of it when the datagram came.
        ttl: u8,
        client: SocketAddrV4,
        packet: &'a [u8],
    },
    NoRoute {
        client: SocketAddrV4,
        protocol: ProtocolId,
        provider: ProviderId,
    },
}

impl<'a> Punt<'a> {
    /// Understands a packet-in.
    pub fn decode(packet: &'a v1::PacketIn) -> Result<Self, PuntError> {
        let header = PacketInHeader::decode(&packet.metadata)?;
        let frame = &packet.payload[..];
        let packet = match header.reason {
            PuntReason::Control => {
                let udp = UdpFrame::parse(frame)?;
                let datagram = expect(&udp, ShimKind::Control)?;
                Packet::Control { from: udp.from, to: udp.to, message: datagram.payload }
            }
            PuntReason::Arp => Packet::Arp { frame },
            PuntReason::ProbeReply => {
                let udp = UdpFrame::parse(frame)?;
                let (probe, _) = Probe::parse(expect(&udp, ShimKind::Probe)?.payload)?;
                let stamps = Stamps {
                    out: probe.t_out,
                    reflect_in: probe.t_reflect_in,
                    reflect_out: probe.t_reflect_out,
                    back: header.t_in.micros(),
                };
                Packet::ProbeReply { from: *udp.from.ip(), probe, stamps }
            }
            PuntReason::TtlExpired => Packet::Icmp { frame, error: Icmpv4Error::TimeExceeded },
            PuntReason::TooBig => {
                Packet::Icmp { frame, error: Icmpv4Error::FragmentationNeeded { mtu: header.path_mtu } }
            }
            PuntReason::NoRoute => {
                let udp = UdpFrame::parse(frame)?;
                let shim = expect(&udp, ShimKind::Data)?.shim;
                Packet::NoRoute { client: udp.from, protocol: shim.protocol, provider: shim.provider }
            }
            PuntReason::Return => {
                let udp = UdpFrame::parse(frame)?;
                let datagram = expect(&udp, ShimKind::Return)?;
                let Some(Origin::Client { address, port, .. }) = datagram.origin else {
                    return Err(PuntError::Kind(ShimKind::Return));
                };
                let (client, packet) = (SocketAddrV4::new(address, port), datagram.payload);
                Packet::Returned { router: udp.from, ttl: udp.ipv4.ttl, client, packet }
            }
            reason @ (PuntReason::Discovery | PuntReason::MetalinkControl) => Packet::Endpoint { reason, frame },
        };
        Ok(Self { ingress_port: header.ingress_port, t_in_us: header.t_in.micros(), packet })
    }
}

fn expect<'a>(udp: &UdpFrame<'a>, kind: ShimKind) -> Result<Datagram<'a>, PuntError> {
    let datagram = Datagram::parse(udp.payload)?;
    if datagram.shim.kind == kind { Ok(datagram) } else { Err(PuntError::Kind(datagram.shim.kind)) }
}

/// A control message as a frame that the switch routes.
pub(super) fn control(from: SocketAddrV4, to: SocketAddrV4, message: &[u8]) -> Result<Outgoing, WireError> {
    let shim = Shim::of_no_protocol(ShimKind::Control);
    routed(from, to, &Datagram { shim, origin: None, payload: message }.to_vec())
}

/// A probe request as a frame that the switch stamps and routes.
pub(super) fn probe_request(origin: GatewayId, from: Ipv4Addr, request: &ProbeRequest) -> Result<Outgoing, WireError> {
    let mut payload = Vec::new();
    Probe::request(origin, request.sequence).emit(&mut payload);
    let shim = Shim::of_no_protocol(ShimKind::Probe);
    let payload = Datagram { shim, origin: None, payload: &payload }.to_vec();
    routed(SocketAddrV4::new(from, DMUX_PORT), SocketAddrV4::new(request.address, DMUX_PORT), &payload)
}

/// A client's packet to a service address, as a frame.
pub(super) fn from_client(
    client: SocketAddrV4,
    service: Ipv4Addr,
    destination: Destination,
    packet: &[u8],
) -> Result<Vec<u8>, WireError> {
    let shim = Shim::new(ShimKind::Data, destination.protocol, destination.provider);
    let payload = Datagram { shim, origin: None, payload: packet }.to_vec();
    udp_frame(MacAddr::ZERO, MacAddr::ZERO, client, SocketAddrV4::new(service, DMUX_PORT), &payload)
}

/// The UDP port that an address of ours sent a frame from; `None` for other senders.
pub(super) fn sent_from(frame: &[u8], own: Ipv4Addr) -> Option<u16> {
    UdpFrame::parse(frame).ok().filter(|udp| *udp.from.ip() == own).map(|udp| udp.from.port())
}

/// A frame as a packet-out that the switch treats as if it had received it.
pub(super) fn as_received(frame: Vec<u8>) -> v1::PacketOut {
    let header = PacketOutHeader { egress_port: PortId::of::<0>(), submit_to_ingress: Submit::AsReceived };
    v1::PacketOut { payload: frame.into(), metadata: header.encode() }
}

fn routed(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Result<Outgoing, WireError> {
    // The switch fills in the addresses of the link that it chooses.
    let frame = udp_frame(MacAddr::ZERO, MacAddr::ZERO, from, to, payload)?;
    Ok(Outgoing { egress: Egress::Routed, frame })
}

/// A frame as a packet-out.
pub(super) fn packet_out(outgoing: &Outgoing) -> v1::PacketOut {
    let header = match outgoing.egress {
        Egress::Port(port) => PacketOutHeader { egress_port: port, submit_to_ingress: Submit::OutOfPort },
        Egress::Routed => PacketOutHeader { egress_port: PortId::of::<0>(), submit_to_ingress: Submit::Routed },
    };
    v1::PacketOut { payload: outgoing.frame.clone().into(), metadata: header.encode() }
}
