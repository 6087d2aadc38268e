//! Frames that the switch punted and the controller answers itself: ARP and ICMP errors. Pure: frames in, frames out.
//! How often these may come is the switch's `punt_meter`; nothing is kept here.

use std::net::Ipv4Addr;

use dmux_tables::PortId;
use dmux_wire::icmpv4::{self, Icmpv4Error, Silence};
use dmux_wire::{Arp, Ethernet, MacAddr, WireError, arp::ArpOperation, ethernet};
use thiserror::Error;

/// Where a frame should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Out of this port, as it is.
    Port(PortId),
    /// By its IPv4 destination, as if the switch had received it.
    Routed,
}

/// A frame for the switch to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub egress: Egress,
    /// The frame.
    pub frame: Vec<u8>,
}

impl Outgoing {
    /// A frame around an IPv4 packet that the switch routes; it fills in the MAC addresses.
    pub fn routed(packet: &[u8]) -> Self {
        let mut frame = Vec::with_capacity(14 + packet.len());
        Ethernet { dst: MacAddr::ZERO, src: MacAddr::ZERO, vlan: None, ether_type: ethernet::IPV4 }.emit(&mut frame);
        frame.extend_from_slice(packet);
        Self { egress: Egress::Routed, frame }
    }
}

/// Why a punted frame gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unanswered {
    /// It is not what its punt reason says.
    #[error("the frame does not parse: {0}")]
    Malformed(#[from] WireError),
    /// An ARP packet that asks for nothing of ours.
    #[error("the ARP packet asks for no address of this gateway")]
    NotOurs,
    /// RFC 1812 forbids an answer.
    #[error(transparent)]
    Silence(#[from] Silence),
}

/// Answers an ARP request that came in at `port`, whose address is `mac`, for an address that `ours` knows.
pub fn answer_arp(
    frame: &[u8],
    port: PortId,
    mac: MacAddr,
    ours: impl Fn(Ipv4Addr) -> bool,
) -> Result<Outgoing, Unanswered> {
    let (ethernet, packet) = Ethernet::parse(frame)?;
    let request = Arp::parse(packet)?;
    // A sender that claims our own address, or several stations', must not be answered into being believed.
    let honest = request.sender_mac == ethernet.src && !ethernet.src.is_multicast() && !ours(request.sender);
    if ethernet.ether_type != ethernet::ARP
        || request.operation != ArpOperation::Request
        || !ours(request.target)
        || !honest
    {
        return Err(Unanswered::NotOurs);
    }
    Ok(Outgoing { egress: Egress::Port(port), frame: request.reply(mac).frame() })
}

/// The ICMP error, from our unicast address `from`, about the packet in `frame`.
pub fn answer_icmp(frame: &[u8], from: Ipv4Addr, error: Icmpv4Error) -> Result<Outgoing, Unanswered> {
    let (ethernet, packet) = Ethernet::parse(frame)?;
    if ethernet.dst.is_multicast() {
        // RFC 1812 §4.3.2.7: never about a link-layer broadcast.
        return Err(Unanswered::NotOurs);
    }
    Ok(Outgoing::routed(&icmpv4::error(from, packet, error)?))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use dmux_wire::frame::udp_frame;
    use dmux_wire::icmpv4::Icmpv4Message;
    use dmux_wire::{Ipv4, ipv4};

    use super::*;

    const HOST: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
    const PORT: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const P7: PortId = PortId::of::<7>();
    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const THEIRS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

    fn ours(a: Ipv4Addr) -> bool {
        a == OURS
    }

    #[test]
    fn who_asks_for_our_address_is_told_the_mac_of_the_port() {
        let out = answer_arp(&Arp::request(HOST, THEIRS, OURS).frame(), P7, PORT, ours).unwrap();
        assert_eq!(out.egress, Egress::Port(P7));
        let (ethernet, rest) = Ethernet::parse(&out.frame).unwrap();
        let reply = Arp::parse(rest).unwrap();
        assert_eq!((ethernet.dst, ethernet.src), (HOST, PORT));
        assert_eq!((reply.operation, reply.sender, reply.sender_mac), (ArpOperation::Reply, OURS, PORT));
    }

    #[test]
    fn other_arp_packets_are_not_answered() {
        let other_target = Arp::request(HOST, THEIRS, THEIRS);
        let a_reply = Arp::request(HOST, THEIRS, OURS).reply(PORT);
        let our_address_stolen = Arp::request(HOST, OURS, OURS);
        let shared_mac = Arp::request(MacAddr::BROADCAST, THEIRS, OURS);
        for arp in [other_target, a_reply, our_address_stolen, shared_mac] {
            assert_eq!(answer_arp(&arp.frame(), P7, PORT, ours), Err(Unanswered::NotOurs), "{arp:?}");
        }
        let whole = Arp::request(HOST, THEIRS, OURS).frame();
        for len in 0..whole.len() {
            assert!(matches!(answer_arp(&whole[..len], P7, PORT, ours), Err(Unanswered::Malformed(_))), "{len} bytes");
        }
    }

    #[test]
    fn a_sender_is_told_the_length_that_fits() {
        let from = SocketAddrV4::new(THEIRS, 5555);
        let to = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 51700);
        let frame = udp_frame(HOST, PORT, from, to, &[0; 100]).unwrap();
        let out = answer_icmp(&frame, OURS, Icmpv4Error::FragmentationNeeded { mtu: 1492 }).unwrap();
        assert_eq!(out.egress, Egress::Routed);
        let packet = Ipv4::parse(&out.frame[14..]).unwrap();
        assert_eq!((packet.header.src, packet.header.dst, packet.header.protocol), (OURS, THEIRS, ipv4::ICMP));
        let message = Icmpv4Message::parse(packet.payload).unwrap();
        assert_eq!(message.error, Icmpv4Error::FragmentationNeeded { mtu: 1492 });
        assert_eq!(message.quoted, &frame[14..14 + 28]);
    }

    #[test]
    fn nobody_is_told_about_a_broadcast() {
        let from = SocketAddrV4::new(THEIRS, 5555);
        let frame = udp_frame(HOST, MacAddr::BROADCAST, from, from, &[]).unwrap();
        assert_eq!(answer_icmp(&frame, OURS, Icmpv4Error::TimeExceeded), Err(Unanswered::NotOurs));
    }
}
