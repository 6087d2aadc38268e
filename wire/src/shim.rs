use std::net::Ipv4Addr;

use crate::error::split;
use crate::{GatewayId, ProtocolId, ProviderId, ServiceIndex, WireError};

/// Bytes of a shim.
pub const SHIM_LEN: usize = 8;
/// Bytes of an origin header.
pub const ORIGIN_LEN: usize = 8;
/// The largest MLI: it has 24 bits.
pub const MLI_MAX: u32 = (1 << 24) - 1;

const VERSION: u8 = 1;
/// Flag bit 0 (`M`): the origin is a metalink endpoint.
const FLAG_METALINK: u8 = 1;

/// What a packet with a shim is (DESIGN §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ShimKind {
    /// Client to service address; an IPvN packet follows.
    Data = 0,
    /// Gateway to IPvN router; an origin header and the IPvN packet follow.
    Forward = 1,
    /// IPvN router to the gateway's unicast address; an origin header and the IPvN packet follow.
    Return = 2,
    /// Gateway to client; an IPvN packet follows.
    Deliver = 3,
    /// A control message follows.
    Control = 4,
    /// A probe header follows.
    Probe = 5,
}

impl ShimKind {
    /// The kind with this number.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Data,
            1 => Self::Forward,
            2 => Self::Return,
            3 => Self::Deliver,
            4 => Self::Control,
            5 => Self::Probe,
            _ => return None,
        })
    }

    /// True if an origin header follows the shim.
    pub const fn has_origin(self) -> bool {
        matches!(self, Self::Forward | Self::Return)
    }
}

/// The shim: what follows the UDP header of every dmux packet (DESIGN §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shim {
    /// What the packet is.
    pub kind: ShimKind,
    /// Flag `M`: the origin is a metalink endpoint, not an IPv4 client.
    pub metalink: bool,
    /// The protocol of the packet inside.
    pub protocol: ProtocolId,
    /// Whose routers should get it.
    pub provider: ProviderId,
}

impl Shim {
    /// A shim without flags.
    pub const fn new(kind: ShimKind, protocol: ProtocolId, provider: ProviderId) -> Self {
        Self { kind, metalink: false, protocol, provider }
    }

    /// The shim of control messages and probes, which concern no protocol.
    pub const fn of_no_protocol(kind: ShimKind) -> Self {
        Self::new(kind, ProtocolId(0), ProviderId(0))
    }

    /// Reads a shim and returns what follows it; reserved flags are ignored.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let ([first, flags, p0, p1, v0, v1, v2, v3], rest) = split::<SHIM_LEN>("shim", bytes)?;
        let version = first >> 4;
        if version != VERSION {
            return Err(WireError::BadVersion { what: "shim", version });
        }
        let code = first & 0x0f;
        let kind = ShimKind::from_code(code).ok_or(WireError::Unknown { what: "shim kind", value: u32::from(code) })?;
        let shim = Self {
            kind,
            metalink: flags & FLAG_METALINK != 0,
            protocol: ProtocolId(u16::from_be_bytes([*p0, *p1])),
            provider: ProviderId(u32::from_be_bytes([*v0, *v1, *v2, *v3])),
        };
        Ok((shim, rest))
    }

    /// Appends the shim.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.push(VERSION << 4 | self.kind as u8);
        out.push(if self.metalink { FLAG_METALINK } else { 0 });
        out.extend(self.protocol.0.to_be_bytes());
        out.extend(self.provider.0.to_be_bytes());
    }
}

/// Who sent the packet inside (DESIGN §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A client that tunnelled to a service address.
    Client {
        /// Its IPv4 address, as the gateway saw it.
        address: Ipv4Addr,
        /// Its UDP port, as the gateway saw it.
        port: u16,
        /// The service address it used.
        service: ServiceIndex,
    },
    /// A metalink endpoint (flag `M`).
    Metalink {
        /// The metalink, 24 bits.
        mli: u32,
        /// The gateway it hangs on.
        gateway: GatewayId,
    },
}

impl Origin {
    /// Reads an origin header and returns what follows it; `metalink` is the shim's flag `M`.
    pub fn parse(bytes: &[u8], metalink: bool) -> Result<(Self, &[u8]), WireError> {
        let ([a, b, c, d, e, f, g, h], rest) = split::<ORIGIN_LEN>("origin header", bytes)?;
        let origin = if metalink {
            let mli = u32::from_be_bytes([*a, *b, *c, *d]) & MLI_MAX;
            Self::Metalink { mli, gateway: GatewayId(u16::from_be_bytes([*e, *f])) }
        } else {
            Self::Client {
                address: Ipv4Addr::new(*a, *b, *c, *d),
                port: u16::from_be_bytes([*e, *f]),
                service: ServiceIndex(u16::from_be_bytes([*g, *h])),
            }
        };
        Ok((origin, rest))
    }

    /// Appends the header. The upper 8 bits of an MLI are sent as zero.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Client { address, port, service } => {
                out.extend(address.octets());
                out.extend(port.to_be_bytes());
                out.extend(service.0.to_be_bytes());
            }
            Self::Metalink { mli, gateway } => {
                out.extend((mli & MLI_MAX).to_be_bytes());
                out.extend(gateway.0.to_be_bytes());
                out.extend([0, 0]);
            }
        }
    }

    /// What the shim's flag `M` must be.
    pub const fn is_metalink(&self) -> bool {
        matches!(self, Self::Metalink { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROTOCOL: ProtocolId = ProtocolId(41);

    /// DESIGN §3, worked bytes.
    #[test]
    fn worked_bytes_of_the_shims() {
        let worked = [
            (ShimKind::Data, [0x10, 0, 0, 0x29, 0, 0, 0, 1]),
            (ShimKind::Forward, [0x11, 0, 0, 0x29, 0, 0, 0, 1]),
            (ShimKind::Return, [0x12, 0, 0, 0x29, 0, 0, 0, 1]),
            (ShimKind::Deliver, [0x13, 0, 0, 0x29, 0, 0, 0, 1]),
        ];
        for (kind, bytes) in worked {
            let shim = Shim::new(kind, PROTOCOL, ProviderId::ANY);
            let mut out = Vec::new();
            shim.emit(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(Shim::parse(&bytes), Ok((shim, &[][..])));
        }
    }

    #[test]
    fn worked_bytes_of_the_origin() {
        let bytes = [0x0a, 0, 0, 1, 0x15, 0xb3, 0, 7];
        let origin = Origin::Client { address: Ipv4Addr::new(10, 0, 0, 1), port: 5555, service: ServiceIndex(7) };
        let mut out = Vec::new();
        origin.emit(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(Origin::parse(&bytes, false), Ok((origin, &[][..])));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let (shim, _) = Shim::parse(&[0x10, 0xfe, 0, 0x29, 0, 0, 0, 1]).unwrap();
        assert_eq!(shim, Shim::new(ShimKind::Data, PROTOCOL, ProviderId::ANY));
        let (origin, _) = Origin::parse(&[0xff, 1, 2, 3, 0, 9, 0xff, 0xff], true).unwrap();
        assert_eq!(origin, Origin::Metalink { mli: 0x0001_0203, gateway: GatewayId(9) });
    }

    #[test]
    fn other_versions_and_kinds_are_refused() {
        assert_eq!(Shim::parse(&[0x20, 0, 0, 0, 0, 0, 0, 0]), Err(WireError::BadVersion { what: "shim", version: 2 }));
        assert_eq!(Shim::parse(&[0x16, 0, 0, 0, 0, 0, 0, 0]), Err(WireError::Unknown { what: "shim kind", value: 6 }));
        assert_eq!(Shim::parse(&[0x10; 7]), Err(WireError::Truncated { what: "shim", need: 8, have: 7 }));
    }

    proptest! {
        #[test]
        fn shims_survive_the_wire(kind in 0u8..=5, metalink: bool, protocol: u16, provider: u32, rest: Vec<u8>) {
            let shim = Shim {
                kind: ShimKind::from_code(kind).unwrap(),
                metalink,
                protocol: ProtocolId(protocol),
                provider: ProviderId(provider),
            };
            let mut out = Vec::new();
            shim.emit(&mut out);
            out.extend(&rest);
            prop_assert_eq!(Shim::parse(&out), Ok((shim, &rest[..])));
        }

        #[test]
        fn origins_survive_the_wire(a: u32, port: u16, index: u16, metalink: bool) {
            let origin = if metalink {
                Origin::Metalink { mli: a & MLI_MAX, gateway: GatewayId(index) }
            } else {
                Origin::Client { address: a.into(), port, service: ServiceIndex(index) }
            };
            let mut out = Vec::new();
            origin.emit(&mut out);
            prop_assert_eq!(out.len(), ORIGIN_LEN);
            prop_assert_eq!(Origin::parse(&out, metalink), Ok((origin, &[][..])));
        }
    }
}
