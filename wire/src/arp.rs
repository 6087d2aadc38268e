//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use crate::error::split;
use crate::{Ethernet, MacAddr, WireError, ethernet};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, and their address lengths.
const PREAMBLE: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ArpOperation {
    /// Who has the target address?
    Request = 1,
    /// The sender has the sender address.
    Reply = 2,
}

/// An ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arp {
    /// Question or answer.
    pub operation: ArpOperation,
    /// The sender's Ethernet address.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address.
    pub sender: Ipv4Addr,
    /// The target's Ethernet address; zero in a request.
    pub target_mac: MacAddr,
    /// The target's IPv4 address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads an ARP packet; Ethernet padding after it is ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let (h, _) = split::<ARP_LEN>("ARP packet", bytes)?;
        if h[..6] != PREAMBLE {
            let value = u32::from_be_bytes([h[0], h[1], h[2], h[3]]);
            return Err(WireError::Unknown { what: "ARP hardware and protocol type", value });
        }
        let operation = match u16::from_be_bytes([h[6], h[7]]) {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            other => {
                return Err(WireError::Unknown { what: "ARP operation", value: u32::from(other) });
            }
        };
        let mac = |at: usize| MacAddr([h[at], h[at + 1], h[at + 2], h[at + 3], h[at + 4], h[at + 5]]);
        let ip = |at: usize| Ipv4Addr::new(h[at], h[at + 1], h[at + 2], h[at + 3]);
        Ok(Self { operation, sender_mac: mac(8), sender: ip(14), target_mac: mac(18), target: ip(24) })
    }

    /// Appends the packet.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(PREAMBLE);
        out.extend((self.operation as u16).to_be_bytes());
        out.extend(self.sender_mac.0);
        out.extend(self.sender.octets());
        out.extend(self.target_mac.0);
        out.extend(self.target.octets());
    }

    /// The question who has `target`, from `sender`.
    pub const fn request(sender_mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self { operation: ArpOperation::Request, sender_mac, sender, target_mac: MacAddr::ZERO, target }
    }

    /// The answer to this request: the target address is at `mac`.
    pub const fn reply(&self, mac: MacAddr) -> Self {
        Self {
            operation: ArpOperation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// The frame that carries it: requests go to all stations, replies to the target.
    pub fn frame(&self) -> Vec<u8> {
        let dst = match self.operation {
            ArpOperation::Request => MacAddr::BROADCAST,
            ArpOperation::Reply => self.target_mac,
        };
        let mut out = Vec::with_capacity(14 + ARP_LEN);
        Ethernet { dst, src: self.sender_mac, vlan: None, ether_type: ethernet::ARP }.emit(&mut out);
        self.emit(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_reply_answers_its_request() {
        let request = Arp::request(A, Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let frame = request.frame();
        let (header, payload) = Ethernet::parse(&frame).unwrap();
        assert_eq!((header.dst, header.src, header.ether_type), (MacAddr::BROADCAST, A, ethernet::ARP));
        let reply = Arp::parse(payload).unwrap().reply(B);
        assert_eq!((reply.sender_mac, reply.sender), (B, Ipv4Addr::new(192, 0, 2, 2)));
        assert_eq!((reply.target_mac, reply.target), (A, Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(Ethernet::parse(&reply.frame()).unwrap().0.dst, A);
    }

    #[test]
    fn other_hardware_and_operations_are_refused() {
        let mut out = Vec::new();
        Arp::request(A, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED).emit(&mut out);
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (7, 3)] {
            let mut bad = out.clone();
            bad[at] = value;
            assert!(matches!(Arp::parse(&bad), Err(WireError::Unknown { .. })), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn packets_survive_the_wire(reply: bool, a: [u8; 6], b: u32, c: [u8; 6], d: u32, pad: Vec<u8>) {
            let arp = Arp {
                operation: if reply { ArpOperation::Reply } else { ArpOperation::Request },
                sender_mac: MacAddr(a),
                sender: b.into(),
                target_mac: MacAddr(c),
                target: d.into(),
            };
            let mut out = Vec::new();
            arp.emit(&mut out);
            out.extend(pad);
            prop_assert_eq!(Arp::parse(&out), Ok(arp));
        }
    }
}
