//! ICMP errors for IPv4: fragmentation needed and time exceeded (RFC 792, RFC 1191 §4, RFC 1812 §4.3.2.7).

use std::net::Ipv4Addr;

use thiserror::Error;

use crate::checksum::Sum;
use crate::error::split;
use crate::{Ipv4, WireError, ipv4};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const TIMESTAMPS: [u8; 2] = [13, 14];
const CODE_FRAGMENTATION_NEEDED: u8 = 4;
/// Payload bytes of the offending packet that an error quotes (RFC 792).
const QUOTED_PAYLOAD: usize = 8;
const HEADER_LEN: usize = 8;

/// What went wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Icmpv4Error {
    /// It is larger than the next hop takes.
    FragmentationNeeded {
        /// The largest total length that would have fitted.
        mtu: u16,
    },
    /// Its time to live ran out.
    TimeExceeded,
}

/// An ICMP error as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmpv4Message<'a> {
    /// What went wrong.
    pub error: Icmpv4Error,
    /// The start of the offending packet.
    pub quoted: &'a [u8],
}

/// Why no ICMP error is sent (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Silence {
    /// The offending bytes are no IPv4 packet.
    #[error("what should be answered is no IPv4 packet: {0}")]
    Malformed(#[from] WireError),
    /// An error about an error would never end.
    #[error("the offending packet is itself an ICMP error, or of an ICMP type unknown here")]
    IcmpError,
    /// Only the first fragment is answered.
    #[error("the offending packet is not the first fragment")]
    LaterFragment,
    /// One multicast must not cause many answers.
    #[error("the offending packet went to {0}, which is not one host")]
    ToMany(Ipv4Addr),
    /// There is no single host to tell.
    #[error("the offending packet claims to come from {0}, which is not one host")]
    FromNobody(Ipv4Addr),
}

/// The IPv4 packet, from `source`, that tells the sender of `offending` (an IPv4 packet as received, whole or cut after
/// its header) what went wrong. It is at most 96 bytes long. RFC 1812 forbids errors about some packets; those give a
/// [`Silence`]. That the frame was not a link-layer broadcast is for the caller to know.
pub fn error(source: Ipv4Addr, offending: &[u8], error: Icmpv4Error) -> Result<Vec<u8>, Silence> {
    let (packet, _) = Ipv4::parse_header(offending)?;
    let header = packet.header;
    if header.fragment_offset != 0 {
        return Err(Silence::LaterFragment);
    }
    if header.dst.is_multicast() || header.dst.is_broadcast() {
        return Err(Silence::ToMany(header.dst));
    }
    let src = header.src;
    let reserved = src.octets()[0] >= 240;
    if src.is_multicast() || src.is_loopback() || src.octets()[0] == 0 || reserved {
        return Err(Silence::FromNobody(src));
    }
    if header.protocol == ipv4::ICMP {
        let query =
            packet.payload.first().is_some_and(|t| matches!(*t, ECHO_REPLY | ECHO_REQUEST) || TIMESTAMPS.contains(t));
        if !query {
            return Err(Silence::IcmpError);
        }
    }
    let quoted_len = ipv4::IPV4_LEN + packet.options.len() + packet.payload.len().min(QUOTED_PAYLOAD);
    let (kind, code, mtu) = match error {
        Icmpv4Error::FragmentationNeeded { mtu } => (UNREACHABLE, CODE_FRAGMENTATION_NEEDED, mtu),
        Icmpv4Error::TimeExceeded => (TIME_EXCEEDED, 0, 0),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&offending[..quoted_len]);
    let checksum = Sum::default().bytes(&message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut reply = Ipv4::new(source, src, ipv4::ICMP);
    // RFC 1812 §4.3.2.5: errors go out with precedence "internetwork control".
    reply.tos = 0xc0;
    Ok(reply.packet(&message)?)
}

impl<'a> Icmpv4Message<'a> {
    /// Reads the ICMP part of a packet; messages other than the two errors are [`WireError::Unknown`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let ([kind, code, _, _, _, _, m0, m1], quoted) = split::<HEADER_LEN>("ICMP header", bytes)?;
        if Sum::default().bytes(bytes).finish() != 0 {
            return Err(WireError::BadChecksum { what: "ICMP message" });
        }
        let error = match (*kind, *code) {
            (UNREACHABLE, CODE_FRAGMENTATION_NEEDED) => {
                Icmpv4Error::FragmentationNeeded { mtu: u16::from_be_bytes([*m0, *m1]) }
            }
            (TIME_EXCEEDED, 0) => Icmpv4Error::TimeExceeded,
            _ => {
                return Err(WireError::Unknown { what: "ICMP type", value: u32::from(*kind) });
            }
        };
        Ok(Self { error, quoted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
    const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    fn packet(change: impl FnOnce(&mut Ipv4), payload: &[u8]) -> Vec<u8> {
        let mut header = Ipv4::new(HOST, SERVICE, ipv4::UDP);
        change(&mut header);
        header.packet(payload).unwrap()
    }

    #[test]
    fn fragmentation_needed_carries_the_mtu_and_quotes_header_and_eight_bytes() {
        let offending = packet(|_| (), &[7; 1400]);
        let out = error(ROUTER, &offending, Icmpv4Error::FragmentationNeeded { mtu: 1392 }).unwrap();
        let parsed = Ipv4::parse(&out).unwrap();
        assert_eq!((parsed.header.src, parsed.header.dst, parsed.header.protocol), (ROUTER, HOST, ipv4::ICMP));
        assert_eq!(parsed.payload[..2], [3, 4]);
        assert_eq!(parsed.payload[4..8], [0, 0, 0x05, 0x70]);
        let message = Icmpv4Message::parse(parsed.payload).unwrap();
        assert_eq!(message.error, Icmpv4Error::FragmentationNeeded { mtu: 1392 });
        assert_eq!(message.quoted, &offending[..28]);
    }

    #[test]
    fn time_exceeded_quotes_what_there_is() {
        let offending = packet(|h| h.ttl = 1, &[7; 3]);
        let out = error(ROUTER, &offending, Icmpv4Error::TimeExceeded).unwrap();
        let message = Icmpv4Message::parse(Ipv4::parse(&out).unwrap().payload).unwrap();
        assert_eq!((message.error, message.quoted), (Icmpv4Error::TimeExceeded, &offending[..]));
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let silent = |p: Vec<u8>| error(ROUTER, &p, Icmpv4Error::TimeExceeded).unwrap_err();
        let icmp = |t: u8| packet(|h| h.protocol = ipv4::ICMP, &[t, 0, 0, 0, 0, 0, 0, 0]);
        for kind in [3, 4, 5, 11, 12, 200] {
            assert_eq!(silent(icmp(kind)), Silence::IcmpError);
        }
        assert_eq!(silent(packet(|h| h.protocol = ipv4::ICMP, &[])), Silence::IcmpError);
        assert!(error(ROUTER, &icmp(ECHO_REQUEST), Icmpv4Error::TimeExceeded).is_ok());
        assert_eq!(silent(packet(|h| h.fragment_offset = 1, &[0; 8])), Silence::LaterFragment);
        assert!(error(ROUTER, &packet(|h| h.more_fragments = true, &[0; 8]), Icmpv4Error::TimeExceeded).is_ok());
        for dst in [Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::BROADCAST] {
            assert_eq!(silent(packet(|h| h.dst = dst, &[0; 8])), Silence::ToMany(dst));
        }
        for src in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"] {
            let src = src.parse().unwrap();
            assert_eq!(silent(packet(|h| h.src = src, &[0; 8])), Silence::FromNobody(src));
        }
        assert!(matches!(silent(vec![0x45; 19]), Silence::Malformed(_)));
    }

    proptest! {
        #[test]
        fn no_error_answers_an_error(src: u32, dst: u32, payload in prop::collection::vec(any::<u8>(), 0..64)) {
            let offending = Ipv4::new(src.into(), dst.into(), ipv4::UDP).packet(&payload).unwrap();
            if let Ok(first) = error(ROUTER, &offending, Icmpv4Error::TimeExceeded) {
                prop_assert!(first.len() <= 96);
                prop_assert_eq!(error(HOST, &first, Icmpv4Error::TimeExceeded), Err(Silence::IcmpError));
            }
        }
    }
}
