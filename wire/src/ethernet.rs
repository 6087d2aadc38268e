//! Ethernet II with at most one 802.1Q tag in view.

use crate::error::split;
use crate::{MacAddr, WireError};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of the substrate: IEEE 802's first for local experiments (DESIGN §3.4).
pub const SUBSTRATE: u16 = 0x88b5;

/// An 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vlan {
    /// Priority code point, 0 to 7.
    pub pcp: u8,
    /// Drop eligible indicator.
    pub dei: bool,
    /// VLAN id, 12 bits.
    pub vid: u16,
}

/// An Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ethernet {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// The outermost 802.1Q tag.
    pub vlan: Option<Vlan>,
    /// What follows the header; with two tags, 0x8100.
    pub ether_type: u16,
}

impl Ethernet {
    /// Reads a header with its tag, if it has one, and returns the payload.
    pub fn parse(frame: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (dst, rest) = split::<6>("Ethernet destination", frame)?;
        let (src, rest) = split::<6>("Ethernet source", rest)?;
        let (kind, rest) = split::<2>("EtherType", rest)?;
        let (dst, src, ether_type) = (MacAddr(*dst), MacAddr(*src), u16::from_be_bytes(*kind));
        if ether_type != VLAN {
            return Ok((Self { dst, src, vlan: None, ether_type }, rest));
        }
        let ([t0, t1, e0, e1], rest) = split::<4>("802.1Q tag", rest)?;
        let tci = u16::from_be_bytes([*t0, *t1]);
        let vlan = Vlan { pcp: (tci >> 13) as u8, dei: tci & 0x1000 != 0, vid: tci & 0x0fff };
        Ok((Self { dst, src, vlan: Some(vlan), ether_type: u16::from_be_bytes([*e0, *e1]) }, rest))
    }

    /// Appends the header. Bits above the width of a tag's fields are cut.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(self.dst.0);
        out.extend(self.src.0);
        if let Some(vlan) = self.vlan {
            let tci = u16::from(vlan.pcp & 7) << 13 | u16::from(vlan.dei) << 12 | (vlan.vid & 0x0fff);
            out.extend(VLAN.to_be_bytes());
            out.extend(tci.to_be_bytes());
        }
        out.extend(self.ether_type.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tag_is_read_in_full() {
        let frame = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x81, 0, 0xb0, 0x64, 0x08, 0, 0xaa];
        let (header, rest) = Ethernet::parse(&frame).unwrap();
        assert_eq!(header.vlan, Some(Vlan { pcp: 5, dei: true, vid: 100 }));
        assert_eq!((header.ether_type, rest), (IPV4, &[0xaa][..]));
        assert!(Ethernet::parse(&frame[..17]).is_err());
    }

    proptest! {
        #[test]
        fn headers_survive_the_wire(
            dst: [u8; 6], src: [u8; 6], tag in prop::option::of((0u8..8, any::<bool>(), 0u16..4096)), kind: u16,
        ) {
            // An untagged header whose EtherType is a tag's would be read as a tag.
            prop_assume!(tag.is_some() || kind != VLAN);
            let vlan = tag.map(|(pcp, dei, vid)| Vlan { pcp, dei, vid });
            let header = Ethernet { dst: MacAddr(dst), src: MacAddr(src), vlan, ether_type: kind };
            let mut out = Vec::new();
            header.emit(&mut out);
            prop_assert_eq!(Ethernet::parse(&out), Ok((header, &[][..])));
        }
    }
}
