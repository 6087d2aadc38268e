//! IPv4 (RFC 791). Options can be read, and are never written.

use std::net::Ipv4Addr;

use crate::WireError;
use crate::checksum::Sum;
use crate::error::split;

/// Bytes of a header without options.
pub const IPV4_LEN: usize = 20;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Time to live of packets that start here (RFC 1122 §3.2.1.7 recommends 64).
pub const DEFAULT_TTL: u8 = 64;

const FLAG_DF: u16 = 0x4000;
const FLAG_MF: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// An IPv4 header without its lengths, checksum and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv4 {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Differentiated services and ECN, the former type of service.
    pub tos: u8,
    /// Pairs fragments.
    pub identification: u16,
    /// May not be fragmented.
    pub dont_fragment: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// Offset of this fragment in units of 8 bytes, 13 bits.
    pub fragment_offset: u16,
}

/// A checked IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Packet<'a> {
    /// The header.
    pub header: Ipv4,
    /// The header's options, at most 40 bytes.
    pub options: &'a [u8],
    /// What follows the header, without link padding.
    pub payload: &'a [u8],
}

impl Ipv4 {
    /// A whole packet that starts here: default time to live, not to be fragmented (so its identification is
    /// free to be zero, RFC 6864 §4.1).
    pub const fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> Self {
        Self {
            src,
            dst,
            protocol,
            ttl: DEFAULT_TTL,
            tos: 0,
            identification: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
        }
    }

    /// True for every fragment, the first included.
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Reads a packet; checks version, lengths and header checksum.
    pub fn parse(bytes: &[u8]) -> Result<Ipv4Packet<'_>, WireError> {
        let (parsed, total) = Self::parse_header(bytes)?;
        let payload = parsed.payload.get(..total - IPV4_LEN - parsed.options.len()).ok_or(WireError::Truncated {
            what: "IPv4 packet",
            need: total,
            have: bytes.len(),
        })?;
        Ok(Ipv4Packet { payload, ..parsed })
    }

    /// Reads a header whose packet may have been cut, as the quotation in an ICMP error is. Returns what is there of
    /// the payload, and the total length that the header claims.
    pub fn parse_header(bytes: &[u8]) -> Result<(Ipv4Packet<'_>, usize), WireError> {
        let (h, _) = split::<IPV4_LEN>("IPv4 header", bytes)?;
        if h[0] >> 4 != 4 {
            return Err(WireError::BadVersion { what: "IPv4 header", version: h[0] >> 4 });
        }
        let header_len = usize::from(h[0] & 0x0f) * 4;
        if header_len < IPV4_LEN {
            return Err(WireError::BadLength { what: "IPv4 header", length: header_len });
        }
        let (whole, payload) = bytes.split_at_checked(header_len).ok_or(WireError::Truncated {
            what: "IPv4 header",
            need: header_len,
            have: bytes.len(),
        })?;
        let total = usize::from(u16::from_be_bytes([h[2], h[3]]));
        if total < header_len {
            return Err(WireError::BadLength { what: "IPv4 packet", length: total });
        }
        if Sum::default().bytes(whole).finish() != 0 {
            return Err(WireError::BadChecksum { what: "IPv4 header" });
        }
        let fragment = u16::from_be_bytes([h[6], h[7]]);
        let header = Self {
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
            protocol: h[9],
            ttl: h[8],
            tos: h[1],
            identification: u16::from_be_bytes([h[4], h[5]]),
            dont_fragment: fragment & FLAG_DF != 0,
            more_fragments: fragment & FLAG_MF != 0,
            fragment_offset: fragment & OFFSET_MASK,
        };
        Ok((Ipv4Packet { header, options: &whole[IPV4_LEN..], payload }, total))
    }

    /// Appends a header without options for a payload of that many bytes, with its checksum.
    pub fn emit(&self, payload_len: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
        let too_long = WireError::TooLong { what: "IPv4 packet", length: payload_len };
        let total = payload_len.checked_add(IPV4_LEN).and_then(|n| u16::try_from(n).ok()).ok_or(too_long)?;
        let mut fragment = self.fragment_offset & OFFSET_MASK;
        if self.dont_fragment {
            fragment |= FLAG_DF;
        }
        if self.more_fragments {
            fragment |= FLAG_MF;
        }
        let mut h = [0; IPV4_LEN];
        h[0] = 0x45;
        h[1] = self.tos;
        h[2..4].copy_from_slice(&total.to_be_bytes());
        h[4..6].copy_from_slice(&self.identification.to_be_bytes());
        h[6..8].copy_from_slice(&fragment.to_be_bytes());
        h[8] = self.ttl;
        h[9] = self.protocol;
        h[12..16].copy_from_slice(&self.src.octets());
        h[16..20].copy_from_slice(&self.dst.octets());
        let checksum = Sum::default().bytes(&h).finish();
        h[10..12].copy_from_slice(&checksum.to_be_bytes());
        out.extend(h);
        Ok(())
    }

    /// The packet with this payload.
    pub fn packet(&self, payload: &[u8]) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(IPV4_LEN + payload.len());
        self.emit(payload.len(), &mut out)?;
        out.extend(payload);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        Ipv4::new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1), UDP).packet(b"hello").unwrap()
    }

    /// Sets byte `at` and repairs the checksum of the first `header_len` bytes.
    fn with(mut packet: Vec<u8>, at: usize, value: u8, header_len: usize) -> Vec<u8> {
        packet[at] = value;
        packet[10..12].fill(0);
        let sum = Sum::default().bytes(&packet[..header_len]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    #[test]
    fn each_wrong_field_has_its_error() {
        let good = sample();
        assert_eq!(Ipv4::parse(&good).unwrap().payload, b"hello");
        let version = with(good.clone(), 0, 0x65, 20);
        assert_eq!(Ipv4::parse(&version), Err(WireError::BadVersion { what: "IPv4 header", version: 6 }));
        let ihl = with(good.clone(), 0, 0x44, 20);
        assert_eq!(Ipv4::parse(&ihl), Err(WireError::BadLength { what: "IPv4 header", length: 16 }));
        let short = with(good.clone(), 3, 19, 20);
        assert_eq!(Ipv4::parse(&short), Err(WireError::BadLength { what: "IPv4 packet", length: 19 }));
        let long = with(good.clone(), 3, 26, 20);
        assert_eq!(Ipv4::parse(&long), Err(WireError::Truncated { what: "IPv4 packet", need: 26, have: 25 }));
        let mut flipped = good;
        flipped[8] ^= 1;
        assert_eq!(Ipv4::parse(&flipped), Err(WireError::BadChecksum { what: "IPv4 header" }));
    }

    #[test]
    fn options_are_read_and_padding_is_not_payload() {
        let mut packet = sample();
        packet.splice(20..20, [7, 4, 0, 0]);
        let mut packet = with(with(packet, 0, 0x46, 24), 3, 29, 24);
        packet.extend([0; 21]);
        let parsed = Ipv4::parse(&packet).unwrap();
        assert_eq!((parsed.options, parsed.payload), (&[7, 4, 0, 0][..], &b"hello"[..]));
    }

    #[test]
    fn a_payload_beyond_the_length_field_is_refused() {
        let header = Ipv4::new(Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, 0);
        assert!(header.emit(65_515, &mut Vec::new()).is_ok());
        assert!(header.emit(65_516, &mut Vec::new()).is_err());
        assert!(header.emit(usize::MAX, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn packets_survive_the_wire(
            src: u32, dst: u32, numbers: (u8, u8, u8, u16), df: bool, mf: bool, offset in 0u16..=OFFSET_MASK,
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let (protocol, ttl, tos, identification) = numbers;
            let header = Ipv4 {
                src: src.into(), dst: dst.into(), protocol, ttl, tos, identification,
                dont_fragment: df, more_fragments: mf, fragment_offset: offset,
            };
            let packet = header.packet(&payload).unwrap();
            let expected = Ipv4Packet { header, options: &[], payload: &payload };
            prop_assert_eq!(Ipv4::parse(&packet), Ok(expected));
        }
    }
}
