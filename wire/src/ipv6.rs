//! As much of IPv6 as an echo needs (RFC 8200, RFC 4443 §4): the fixed header, ICMPv6 echo, UDP.
//! Extension headers are not walked: a packet that has them shows the first as its `next_header`.

use std::net::Ipv6Addr;

use crate::checksum::Sum;
use crate::error::split;
use crate::{Udp, WireError};

/// Bytes of an IPv6 header.
pub const IPV6_LEN: usize = 40;
/// Next header of UDP.
pub const UDP: u8 = 17;
/// Next header of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Hop limit of packets that start here.
pub const DEFAULT_HOP_LIMIT: u8 = 64;

const ECHO_LEN: usize = 8;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// An IPv6 header without its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv6 {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// What the payload is.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Differentiated services and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
}

impl Ipv6 {
    /// A header with the default hop limit.
    pub const fn new(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8) -> Self {
        Self { src, dst, next_header, hop_limit: DEFAULT_HOP_LIMIT, traffic_class: 0, flow_label: 0 }
    }

    /// Reads a packet and returns its payload, without what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (h, rest) = split::<IPV6_LEN>("IPv6 header", bytes)?;
        let first = u32::from_be_bytes([h[0], h[1], h[2], h[3]]);
        if first >> 28 != 6 {
            return Err(WireError::BadVersion { what: "IPv6 header", version: (first >> 28) as u8 });
        }
        let need = usize::from(u16::from_be_bytes([h[4], h[5]]));
        let payload = rest.get(..need).ok_or(WireError::Truncated { what: "IPv6 payload", need, have: rest.len() })?;
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&h[at..at + 16]);
            Ipv6Addr::from(octets)
        };
        let header = Self {
            src: address(8),
            dst: address(24),
            next_header: h[6],
            hop_limit: h[7],
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0x000f_ffff,
        };
        Ok((header, payload))
    }

    /// Appends the header for a payload of that many bytes.
    pub fn emit(&self, payload_len: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
        let length =
            u16::try_from(payload_len).map_err(|_| WireError::TooLong { what: "IPv6 packet", length: payload_len })?;
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | (self.flow_label & 0x000f_ffff);
        out.extend(first.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend([self.next_header, self.hop_limit]);
        out.extend(self.src.octets());
        out.extend(self.dst.octets());
        Ok(())
    }
}

/// An ICMPv6 echo request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo<'a> {
    /// A reply, not a request.
    pub reply: bool,
    /// Pairs replies with a sender.
    pub identifier: u16,
    /// Pairs replies with requests.
    pub sequence: u16,
    /// What the reply must repeat.
    pub data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Reads an echo; other ICMPv6 messages are [`WireError::Unknown`].
    pub fn parse(bytes: &'a [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<Self, WireError> {
        let ([kind, code, _, _, i0, i1, s0, s1], data) = split::<ECHO_LEN>("ICMPv6 echo", bytes)?;
        let length = bytes.len() as u32;
        if Sum::default().pseudo_v6(src, dst, ICMPV6, length).bytes(bytes).finish() != 0 {
            return Err(WireError::BadChecksum { what: "ICMPv6 message" });
        }
        let reply = match (*kind, *code) {
            (ECHO_REQUEST, 0) => false,
            (ECHO_REPLY, 0) => true,
            (kind, _) => {
                return Err(WireError::Unknown { what: "ICMPv6 type", value: u32::from(kind) });
            }
        };
        let identifier = u16::from_be_bytes([*i0, *i1]);
        Ok(Self { reply, identifier, sequence: u16::from_be_bytes([*s0, *s1]), data })
    }

    /// Appends the message, with its checksum.
    pub fn emit(&self, src: Ipv6Addr, dst: Ipv6Addr, out: &mut Vec<u8>) {
        let kind = if self.reply { ECHO_REPLY } else { ECHO_REQUEST };
        let length = (ECHO_LEN + self.data.len()) as u32;
        let checksum = Sum::default()
            .pseudo_v6(src, dst, ICMPV6, length)
            .word(u16::from(kind) << 8)
            .word(self.identifier)
            .word(self.sequence)
            .bytes(self.data)
            .finish();
        out.extend([kind, 0]);
        for word in [checksum, self.identifier, self.sequence] {
            out.extend(word.to_be_bytes());
        }
        out.extend(self.data);
    }

    /// The IPv6 packet that carries it.
    pub fn packet(&self, src: Ipv6Addr, dst: Ipv6Addr) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(IPV6_LEN + ECHO_LEN + self.data.len());
        Ipv6::new(src, dst, ICMPV6).emit(ECHO_LEN + self.data.len(), &mut out)?;
        self.emit(src, dst, &mut out);
        Ok(out)
    }
}

/// An IPv6 packet with one UDP datagram.
pub fn udp_packet(src: Ipv6Addr, dst: Ipv6Addr, udp: Udp, payload: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(IPV6_LEN + crate::udp::UDP_LEN + payload.len());
    Ipv6::new(src, dst, UDP).emit(crate::udp::UDP_LEN + payload.len(), &mut out)?;
    udp.emit_v6(src, dst, payload, &mut out)?;
    Ok(out)
}

/// "All nodes" and "all routers" of a link (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// What a host that only echoes answers to an IPv6 packet: an ICMPv6 echo request with its reply, a UDP datagram with
/// the same payload. With an address of its `own`, it answers what was sent to that, and echo requests to all nodes or
/// all routers from that (RFC 4443 §4.2); without one, it answers for every unicast address.
/// `None` for everything else: replies, errors, unspecified sources, malformed packets, and datagrams from a port equal
/// to their destination's, between which two echo services would never stop.
pub fn echo_answer(packet: &[u8], own: Option<Ipv6Addr>) -> Option<Vec<u8>> {
    let (header, payload) = Ipv6::parse(packet).ok()?;
    let (src, dst) = (header.src, header.dst);
    let from = own.unwrap_or(dst);
    let to_all = own.is_some() && header.next_header == ICMPV6 && (dst == ALL_NODES || dst == ALL_ROUTERS);
    if src.is_unspecified() || src.is_multicast() || src == from || !(dst == from || to_all) || from.is_multicast() {
        return None;
    }
    match header.next_header {
        ICMPV6 => {
            let echo = Echo::parse(payload, src, dst).ok()?;
            if echo.reply { None } else { Echo { reply: true, ..echo }.packet(from, src).ok() }
        }
        UDP => {
            let (udp, data) = Udp::parse_v6(payload, src, dst).ok()?;
            if udp.src_port == udp.dst_port || udp.src_port == 0 {
                return None;
            }
            let back = Udp { src_port: udp.dst_port, dst_port: udp.src_port };
            udp_packet(from, src, back, data).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    #[test]
    fn an_echo_request_is_answered_with_its_data() {
        let request = Echo { reply: false, identifier: 7, sequence: 9, data: b"ping" };
        let answer = echo_answer(&request.packet(A, B).unwrap(), None).unwrap();
        let (header, payload) = Ipv6::parse(&answer).unwrap();
        assert_eq!((header.src, header.dst), (B, A));
        assert_eq!(Echo::parse(payload, B, A), Ok(Echo { reply: true, ..request }));
        assert_eq!(echo_answer(&answer, None), None, "a reply is not answered");
    }

    #[test]
    fn a_datagram_comes_back_from_where_it_went() {
        let packet = udp_packet(A, B, Udp { src_port: 5000, dst_port: 7 }, b"data").unwrap();
        let answer = echo_answer(&packet, None).unwrap();
        let (header, payload) = Ipv6::parse(&answer).unwrap();
        assert_eq!((header.src, header.dst), (B, A));
        let (udp, data) = Udp::parse_v6(payload, B, A).unwrap();
        assert_eq!((udp, data), (Udp { src_port: 7, dst_port: 5000 }, &b"data"[..]));
    }

    #[test]
    fn a_host_with_an_address_answers_for_that_and_for_all_nodes() {
        let ping = Echo { reply: false, identifier: 7, sequence: 9, data: b"ping" };
        for dst in [B, ALL_NODES, ALL_ROUTERS] {
            let answer = echo_answer(&ping.packet(A, dst).unwrap(), Some(B)).unwrap();
            let (header, payload) = Ipv6::parse(&answer).unwrap();
            assert_eq!((header.src, header.dst), (B, A));
            assert!(Echo::parse(payload, B, A).unwrap().reply);
        }
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        assert_eq!(echo_answer(&ping.packet(A, other).unwrap(), Some(B)), None);
        assert_eq!(echo_answer(&ping.packet(B, ALL_NODES).unwrap(), Some(B)), None, "not to itself");
        let datagram = udp_packet(A, ALL_NODES, Udp { src_port: 9, dst_port: 7 }, b"x").unwrap();
        assert_eq!(echo_answer(&datagram, Some(B)), None, "only echo requests may go to all");
    }

    #[test]
    fn what_could_loop_or_multiply_is_not_answered() {
        let echo = Echo { reply: false, identifier: 0, sequence: 0, data: &[] };
        assert_eq!(echo_answer(&echo.packet(A, ALL_NODES).unwrap(), None), None);
        assert_eq!(echo_answer(&echo.packet(ALL_NODES, B).unwrap(), None), None);
        assert_eq!(echo_answer(&echo.packet(Ipv6Addr::UNSPECIFIED, B).unwrap(), None), None);
        assert_eq!(echo_answer(&echo.packet(A, A).unwrap(), None), None);
        assert_eq!(echo_answer(&udp_packet(A, B, Udp { src_port: 7, dst_port: 7 }, b"x").unwrap(), None), None);
        let mut damaged = echo.packet(A, B).unwrap();
        damaged[43] ^= 1;
        assert_eq!(echo_answer(&damaged, None), None);
    }

    proptest! {
        #[test]
        fn headers_survive_the_wire(
            src: u128, dst: u128, bytes: (u8, u8, u8), label in 0u32..1 << 20, payload: Vec<u8>, after: Vec<u8>,
        ) {
            let (next_header, hop_limit, traffic_class) = bytes;
            let (src, dst) = (src.into(), dst.into());
            let header = Ipv6 { src, dst, next_header, hop_limit, traffic_class, flow_label: label };
            let mut out = Vec::new();
            header.emit(payload.len(), &mut out).unwrap();
            out.extend(&payload);
            out.extend(&after);
            prop_assert_eq!(Ipv6::parse(&out), Ok((header, &payload[..])));
        }

        #[test]
        fn echoes_survive_the_wire(src: u128, dst: u128, reply: bool, identifier: u16, sequence: u16, data: Vec<u8>) {
            let echo = Echo { reply, identifier, sequence, data: &data };
            let mut out = Vec::new();
            echo.emit(src.into(), dst.into(), &mut out);
            prop_assert_eq!(Echo::parse(&out, src.into(), dst.into()), Ok(echo));
        }
    }
}
