//! UDP over IPv4 and IPv6 (RFC 768, RFC 8200 §8.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::WireError;
use crate::checksum::Sum;
use crate::error::split;

/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;
const PROTOCOL: u8 = crate::ipv4::UDP;

/// A UDP header without length and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Udp {
    /// Reads a datagram over IPv4. A zero checksum was not computed and is not checked.
    pub fn parse_v4(bytes: &[u8], src: Ipv4Addr, dst: Ipv4Addr) -> Result<(Self, &[u8]), WireError> {
        let parsed = Parsed::new(bytes)?;
        let sum = Sum::default().pseudo_v4(src, dst, PROTOCOL, parsed.datagram.len() as u16);
        if parsed.checksum != 0 && sum.bytes(parsed.datagram).finish() != 0 {
            return Err(WireError::BadChecksum { what: "UDP datagram" });
        }
        Ok((parsed.header, &parsed.datagram[UDP_LEN..]))
    }

    /// Reads a datagram over IPv6, where a checksum is mandatory.
    pub fn parse_v6(bytes: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<(Self, &[u8]), WireError> {
        let parsed = Parsed::new(bytes)?;
        let sum = Sum::default().pseudo_v6(src, dst, PROTOCOL, parsed.datagram.len() as u32);
        if parsed.checksum == 0 || sum.bytes(parsed.datagram).finish() != 0 {
            return Err(WireError::BadChecksum { what: "UDP datagram" });
        }
        Ok((parsed.header, &parsed.datagram[UDP_LEN..]))
    }

    /// Appends a datagram over IPv4, with its checksum.
    pub fn emit_v4(&self, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let length = datagram_len(payload)?;
        self.emit(Sum::default().pseudo_v4(src, dst, PROTOCOL, length), length, payload, out);
        Ok(())
    }

    /// Appends a datagram over IPv6, with its checksum.
    pub fn emit_v6(&self, src: Ipv6Addr, dst: Ipv6Addr, payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let length = datagram_len(payload)?;
        self.emit(Sum::default().pseudo_v6(src, dst, PROTOCOL, u32::from(length)), length, payload, out);
        Ok(())
    }

    fn emit(&self, pseudo: Sum, length: u16, payload: &[u8], out: &mut Vec<u8>) {
        let sum = pseudo.word(self.src_port).word(self.dst_port).word(length).bytes(payload).finish();
        // Zero would mean "not computed" (RFC 768).
        let checksum = if sum == 0 { 0xffff } else { sum };
        for word in [self.src_port, self.dst_port, length, checksum] {
            out.extend(word.to_be_bytes());
        }
        out.extend(payload);
    }
}

fn datagram_len(payload: &[u8]) -> Result<u16, WireError> {
    let length = payload.len() + UDP_LEN;
    u16::try_from(length).map_err(|_| WireError::TooLong { what: "UDP datagram", length })
}

struct Parsed<'a> {
    header: Udp,
    checksum: u16,
    /// Header and payload, as long as the length field says.
    datagram: &'a [u8],
}

impl<'a> Parsed<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, WireError> {
        let ([a, b, c, d, e, f, g, h], _) = split::<UDP_LEN>("UDP header", bytes)?;
        let length = usize::from(u16::from_be_bytes([*e, *f]));
        if length < UDP_LEN {
            return Err(WireError::BadLength { what: "UDP datagram", length });
        }
        let datagram = bytes.get(..length).ok_or(WireError::Truncated {
            what: "UDP datagram",
            need: length,
            have: bytes.len(),
        })?;
        let header = Udp { src_port: u16::from_be_bytes([*a, *b]), dst_port: u16::from_be_bytes([*c, *d]) };
        Ok(Self { header, checksum: u16::from_be_bytes([*g, *h]), datagram })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    #[test]
    fn a_zero_sum_is_sent_as_all_ones() {
        // The payload is chosen so that the computed checksum is zero.
        let header = Udp { src_port: 1, dst_port: 2 };
        let mut out = Vec::new();
        header.emit_v4(A, B, &[0, 0], &mut out).unwrap();
        let sum = u16::from_be_bytes([out[6], out[7]]);
        out.clear();
        header.emit_v4(A, B, &sum.to_be_bytes(), &mut out).unwrap();
        assert_eq!(out[6..8], [0xff, 0xff]);
        assert!(Udp::parse_v4(&out, A, B).is_ok());
    }

    #[test]
    fn a_zero_checksum_passes_over_ipv4_only() {
        let bytes = [0, 1, 0, 2, 0, 9, 0, 0, 7];
        assert_eq!(Udp::parse_v4(&bytes, A, B), Ok((Udp { src_port: 1, dst_port: 2 }, &[7][..])));
        let six = Ipv6Addr::LOCALHOST;
        assert_eq!(Udp::parse_v6(&bytes, six, six), Err(WireError::BadChecksum { what: "UDP datagram" }));
    }

    #[test]
    fn lengths_are_checked() {
        let short = WireError::BadLength { what: "UDP datagram", length: 7 };
        assert_eq!(Udp::parse_v4(&[0, 1, 0, 2, 0, 7, 0, 0, 7], A, B), Err(short));
        assert!(matches!(Udp::parse_v4(&[0, 1, 0, 2, 0, 10, 0, 0, 7], A, B), Err(WireError::Truncated { .. })));
        assert!(Udp { src_port: 0, dst_port: 0 }.emit_v4(A, B, &[0; 65_528], &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn datagrams_survive_the_wire(
            ports: (u16, u16), v4: (u32, u32), v6: (u128, u128), payload: Vec<u8>, flip: (usize, u8),
        ) {
            let header = Udp { src_port: ports.0, dst_port: ports.1 };
            let (s4, d4) = (v4.0.into(), v4.1.into());
            let mut out = Vec::new();
            header.emit_v4(s4, d4, &payload, &mut out).unwrap();
            prop_assert_eq!(Udp::parse_v4(&out, s4, d4), Ok((header, &payload[..])));
            let (s6, d6) = (v6.0.into(), v6.1.into());
            let mut out = Vec::new();
            header.emit_v6(s6, d6, &payload, &mut out).unwrap();
            prop_assert_eq!(Udp::parse_v6(&out, s6, d6), Ok((header, &payload[..])));
            // No single flipped byte goes unnoticed, where the length stays.
            let at = flip.0 % out.len();
            prop_assume!(!(4..6).contains(&at));
            out[at] ^= flip.1 | 1;
            prop_assert!(Udp::parse_v6(&out, s6, d6).is_err());
        }
    }
}
