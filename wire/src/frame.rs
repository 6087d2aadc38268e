//! Whole frames and whole dmux datagrams, composed of the headers.

use std::net::SocketAddrV4;

use crate::{Ethernet, Ipv4, MacAddr, Origin, Shim, Udp, WireError, ethernet, ipv4, udp};

/// Bytes of an Ethernet, an IPv4 and a UDP header.
const HEADERS: usize = 14 + ipv4::IPV4_LEN + udp::UDP_LEN;

/// A UDP datagram in an Ethernet frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpFrame<'a> {
    /// The Ethernet header.
    pub ethernet: Ethernet,
    /// The IPv4 header.
    pub ipv4: Ipv4,
    /// Where the datagram comes from.
    pub from: SocketAddrV4,
    /// Where it goes.
    pub to: SocketAddrV4,
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> UdpFrame<'a> {
    /// Reads a frame; whatever is not a whole, unfragmented IPv4 packet without options that carries UDP is an error.
    pub fn parse(frame: &'a [u8]) -> Result<Self, WireError> {
        let (ethernet, packet) = Ethernet::parse(frame)?;
        if ethernet.ether_type != ethernet::IPV4 {
            return Err(WireError::Unknown { what: "EtherType", value: u32::from(ethernet.ether_type) });
        }
        let (ipv4, from, to, payload) = parse_udp_packet(packet)?;
        Ok(Self { ethernet, ipv4, from, to, payload })
    }
}

/// Reads an IPv4 packet that carries a whole UDP datagram: its header, source, destination and payload.
pub fn parse_udp_packet(packet: &[u8]) -> Result<(Ipv4, SocketAddrV4, SocketAddrV4, &[u8]), WireError> {
    let parsed = Ipv4::parse(packet)?;
    let header = parsed.header;
    if header.is_fragment() {
        let value = u32::from(header.fragment_offset);
        return Err(WireError::Unknown { what: "IPv4 fragment offset of a fragment", value });
    }
    if !parsed.options.is_empty() {
        return Err(WireError::BadLength { what: "IPv4 header with options", length: 20 + parsed.options.len() });
    }
    if header.protocol != ipv4::UDP {
        return Err(WireError::Unknown { what: "IPv4 protocol", value: u32::from(header.protocol) });
    }
    let (udp, payload) = Udp::parse_v4(parsed.payload, header.src, header.dst)?;
    let from = SocketAddrV4::new(header.src, udp.src_port);
    Ok((header, from, SocketAddrV4::new(header.dst, udp.dst_port), payload))
}

/// The frame that carries a UDP datagram from `from` to `to` between two stations.
pub fn udp_frame(
    src_mac: MacAddr,
    dst_mac: MacAddr,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(HEADERS + payload.len());
    Ethernet { dst: dst_mac, src: src_mac, vlan: None, ether_type: ethernet::IPV4 }.emit(&mut out);
    Ipv4::new(*from.ip(), *to.ip(), ipv4::UDP).emit(udp::UDP_LEN + payload.len(), &mut out)?;
    Udp { src_port: from.port(), dst_port: to.port() }.emit_v4(*from.ip(), *to.ip(), payload, &mut out)?;
    Ok(out)
}

/// What a UDP datagram of dmux carries: shim, origin header where the kind has one, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The shim.
    pub shim: Shim,
    /// Who sent the packet inside; present in `forward` and `return` packets.
    pub origin: Option<Origin>,
    /// An IPvN packet, a control message or a probe header.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads the payload of a UDP datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (shim, rest) = Shim::parse(bytes)?;
        if !shim.kind.has_origin() {
            return Ok(Self { shim, origin: None, payload: rest });
        }
        let (origin, payload) = Origin::parse(rest, shim.metalink)?;
        Ok(Self { shim, origin: Some(origin), payload })
    }

    /// The payload of the UDP datagram. The shim's flag `M` follows the origin.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(crate::SHIM_LEN + crate::ORIGIN_LEN + self.payload.len());
        let metalink = self.origin.map_or(self.shim.metalink, |o| o.is_metalink());
        Shim { metalink, ..self.shim }.emit(&mut out);
        if let Some(origin) = &self.origin {
            origin.emit(&mut out);
        }
        out.extend(self.payload);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arp, Probe, ProtocolId, ProviderId, ServiceIndex, ShimKind, icmpv4, ipv6};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    /// DESIGN §3, worked bytes: client to service address, and the gateway to the router.
    #[test]
    fn worked_datagrams() {
        let data = Shim::new(ShimKind::Data, ProtocolId(41), ProviderId::ANY);
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 5555);
        let to = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 51700);
        let payload = Datagram { shim: data, origin: None, payload: b"IPvN" }.to_vec();
        let frame = udp_frame(A, B, from, to, &payload).unwrap();
        let parsed = UdpFrame::parse(&frame).unwrap();
        assert_eq!((parsed.from, parsed.to, parsed.ethernet.dst), (from, to, B));
        assert_eq!(parsed.payload, [&[0x10, 0, 0, 0x29, 0, 0, 0, 1][..], b"IPvN"].concat());

        let forward = [&[0x11, 0, 0, 0x29, 0, 0, 0, 1, 0x0a, 0, 0, 1, 0x15, 0xb3, 0, 7][..], b"IPvN"].concat();
        let datagram = Datagram::parse(&forward).unwrap();
        let origin = Origin::Client { address: *from.ip(), port: 5555, service: ServiceIndex(7) };
        assert_eq!((datagram.origin, datagram.payload), (Some(origin), &b"IPvN"[..]));
        assert_eq!(datagram.to_vec(), forward);
    }

    #[test]
    fn fragments_options_and_other_protocols_are_no_datagrams() {
        let ip = Ipv4Addr::new(192, 0, 2, 1);
        let mut header = Ipv4::new(ip, ip, ipv4::UDP);
        header.more_fragments = true;
        assert!(parse_udp_packet(&header.packet(&[0, 1, 0, 2, 0, 8, 0, 0]).unwrap()).is_err());
        let tcp = Ipv4::new(ip, ip, 6).packet(&[0, 1, 0, 2, 0, 8, 0, 0]).unwrap();
        assert_eq!(parse_udp_packet(&tcp), Err(WireError::Unknown { what: "IPv4 protocol", value: 6 }));
    }

    proptest! {
        /// Every parser of the crate takes any bytes, behind any valid start.
        #[test]
        fn no_bytes_panic(start in 0usize..8, noise in prop::collection::vec(any::<u8>(), 0..128)) {
            const STARTS: [&[u8]; 8] = [
                &[], &[0x45], &[0x46, 0, 0, 30], &[0x60], &[0x10], &[0x11, 1], &[0, 1, 8, 0, 6, 4],
                &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x81, 0],
            ];
            let bytes = [STARTS[start], &noise].concat();
            let (v4, v6) = (Ipv4Addr::LOCALHOST, std::net::Ipv6Addr::LOCALHOST);
            let _ = UdpFrame::parse(&bytes);
            let _ = parse_udp_packet(&bytes);
            let _ = Datagram::parse(&bytes);
            let _ = Ethernet::parse(&bytes);
            let _ = Arp::parse(&bytes);
            let _ = Probe::parse(&bytes);
            let _ = Ipv4::parse_header(&bytes);
            let _ = Udp::parse_v4(&bytes, v4, v4);
            let _ = Udp::parse_v6(&bytes, v6, v6);
            let _ = icmpv4::Icmpv4Message::parse(&bytes);
            let _ = icmpv4::error(v4, &bytes, icmpv4::Icmpv4Error::TimeExceeded);
            let _ = ipv6::Echo::parse(&bytes, v6, v6);
            let _ = ipv6::echo_answer(&bytes, None);
            let _ = crate::control::decode(&bytes);
        }
    }
}
