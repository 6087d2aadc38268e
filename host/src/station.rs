//! A host's half of Ethernet, ARP and IPv4 for one UDP user: pure. For hosts that have no kernel interface, as in a lab.

use std::net::{Ipv4Addr, SocketAddrV4};

use dmux_wire::icmpv4::{Icmpv4Error, Icmpv4Message};
use dmux_wire::{Arp, Ethernet, Ipv4, MacAddr, Udp, WireError, arp::ArpOperation, ethernet, frame, ipv4};

/// Addresses of a station at most.
pub const MAX_ADDRESSES: usize = 4096;

/// A host with one interface, on a link whose other end is its gateway.
#[derive(Debug, Clone)]
pub struct Station {
    mac: MacAddr,
    gateway_mac: MacAddr,
    first: Ipv4Addr,
    count: u32,
}

/// What a frame is to the station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A UDP datagram for one of its addresses.
    Datagram {
        /// Source.
        from: SocketAddrV4,
        /// Destination.
        to: SocketAddrV4,
        /// What it carries.
        payload: &'a [u8],
    },
    /// A question that this frame answers.
    Answer(Vec<u8>),
    /// A datagram that the station sent did not arrive.
    Undelivered {
        /// Who says so.
        by: Ipv4Addr,
        /// Source of the datagram.
        from: SocketAddrV4,
        /// Its destination.
        to: SocketAddrV4,
        /// Why.
        error: Icmpv4Error,
    },
    /// Not for this station, or not understood.
    Ignored,
}

impl Station {
    /// A station with `count` consecutive addresses, at least one and at most [`MAX_ADDRESSES`].
    pub fn new(mac: MacAddr, gateway_mac: MacAddr, first: Ipv4Addr, count: usize) -> Self {
        let count = u32::try_from(count.clamp(1, MAX_ADDRESSES)).unwrap_or(1);
        Self { mac, gateway_mac, first, count }
    }

    /// Its address number `n`, going round.
    pub fn address(&self, n: usize) -> Ipv4Addr {
        let n = u32::try_from(n % self.count as usize).unwrap_or(0);
        Ipv4Addr::from_bits(self.first.to_bits().wrapping_add(n))
    }

    /// Whether an address is its own.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        address.to_bits().wrapping_sub(self.first.to_bits()) < self.count
    }

    /// The frame that carries a datagram to the gateway.
    pub fn datagram(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Result<Vec<u8>, WireError> {
        frame::udp_frame(self.mac, self.gateway_mac, from, to, payload)
    }

    /// Takes a frame, whatever it is.
    pub fn incoming<'a>(&self, frame: &'a [u8]) -> Incoming<'a> {
        self.understood(frame).unwrap_or(Incoming::Ignored)
    }

    fn understood<'a>(&self, frame: &'a [u8]) -> Option<Incoming<'a>> {
        let (header, payload) = Ethernet::parse(frame).ok()?;
        let addressed = header.dst == self.mac;
        match header.ether_type {
            ethernet::ARP if addressed || header.dst == MacAddr::BROADCAST => {
                let arp = Arp::parse(payload).ok()?;
                let ours =
                    arp.operation == ArpOperation::Request && self.has(arp.target) && !arp.sender_mac.is_multicast();
                ours.then(|| Incoming::Answer(arp.reply(self.mac).frame()))
            }
            ethernet::IPV4 if addressed => {
                let packet = Ipv4::parse(payload).ok()?;
                if !self.has(packet.header.dst) {
                    return None;
                }
                if packet.header.protocol == ipv4::ICMP && !packet.header.is_fragment() {
                    return self.undelivered(packet.header.src, packet.payload);
                }
                let (_, from, to, payload) = frame::parse_udp_packet(payload).ok()?;
                Some(Incoming::Datagram { from, to, payload })
            }
            _ => None,
        }
    }

    fn undelivered<'a>(&self, by: Ipv4Addr, icmp: &[u8]) -> Option<Incoming<'a>> {
        let message = Icmpv4Message::parse(icmp).ok()?;
        let (quoted, _) = Ipv4::parse_header(message.quoted).ok()?;
        if quoted.header.protocol != ipv4::UDP || !self.has(quoted.header.src) {
            return None;
        }
        let ports = quoted.payload.first_chunk::<4>()?;
        let udp = Udp {
            src_port: u16::from_be_bytes([ports[0], ports[1]]),
            dst_port: u16::from_be_bytes([ports[2], ports[3]]),
        };
        let from = SocketAddrV4::new(quoted.header.src, udp.src_port);
        let to = SocketAddrV4::new(quoted.header.dst, udp.dst_port);
        Some(Incoming::Undelivered { by, from, to, error: message.error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmux_wire::icmpv4;
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 96);
    const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 51700);

    fn station() -> Station {
        Station::new(MAC, GATEWAY, FIRST, 32)
    }

    #[test]
    fn a_station_has_consecutive_addresses() {
        let station = station();
        assert!(station.has(FIRST) && station.has(Ipv4Addr::new(203, 0, 113, 127)));
        assert!(!station.has(Ipv4Addr::new(203, 0, 113, 95)) && !station.has(Ipv4Addr::new(203, 0, 113, 128)));
        assert_eq!(station.address(33), Ipv4Addr::new(203, 0, 113, 97));
    }

    #[test]
    fn datagrams_for_it_are_taken_and_others_are_not() {
        let station = station();
        let own = SocketAddrV4::new(station.address(5), 40000);
        let frame = frame::udp_frame(GATEWAY, MAC, SERVICE, own, b"hello").unwrap();
        assert_eq!(station.incoming(&frame), Incoming::Datagram { from: SERVICE, to: own, payload: b"hello" });
        let other_mac = frame::udp_frame(GATEWAY, GATEWAY, SERVICE, own, b"hello").unwrap();
        assert_eq!(station.incoming(&other_mac), Incoming::Ignored);
        let other_ip = frame::udp_frame(GATEWAY, MAC, SERVICE, SERVICE, b"hello").unwrap();
        assert_eq!(station.incoming(&other_ip), Incoming::Ignored);
    }

    #[test]
    fn it_answers_arp_for_its_addresses_only() {
        let station = station();
        let gateway_ip = Ipv4Addr::new(192, 0, 2, 1);
        let question = Arp::request(GATEWAY, gateway_ip, station.address(1));
        let Incoming::Answer(answer) = station.incoming(&question.frame()) else { panic!("an answer") };
        let (header, payload) = Ethernet::parse(&answer).unwrap();
        assert_eq!(header.dst, GATEWAY);
        assert_eq!(Arp::parse(payload), Ok(question.reply(MAC)));
        assert_eq!(station.incoming(&answer), Incoming::Ignored, "answers are not questions");
        let other = Arp::request(GATEWAY, gateway_ip, Ipv4Addr::new(203, 0, 113, 1));
        assert_eq!(station.incoming(&other.frame()), Incoming::Ignored);
    }

    #[test]
    fn it_hears_that_a_datagram_was_too_big() {
        let station = station();
        let from = SocketAddrV4::new(station.address(2), 40000);
        let sent = station.datagram(from, SERVICE, &[0; 1400]).unwrap();
        let error = Icmpv4Error::FragmentationNeeded { mtu: 1392 };
        let by = Ipv4Addr::new(192, 0, 2, 1);
        let mut back = Vec::new();
        Ethernet { dst: MAC, src: GATEWAY, vlan: None, ether_type: ethernet::IPV4 }.emit(&mut back);
        back.extend(icmpv4::error(by, &sent[14..], error).unwrap());
        assert_eq!(station.incoming(&back), Incoming::Undelivered { by, from, to: SERVICE, error });
    }

    proptest! {
        #[test]
        fn no_frame_panics(start in 0usize..4, noise in prop::collection::vec(any::<u8>(), 0..120)) {
            const STARTS: [&[u8]; 4] = [
                &[],
                &[2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 8, 0, 0x45],
                &[255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
                &[2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0x81, 0],
            ];
            station().incoming(&[STARTS[start], &noise].concat());
        }
    }
}
