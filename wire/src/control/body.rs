use std::net::{Ipv4Addr, SocketAddrV4};

use prost::Message;
use thiserror::Error;

use super::{MAX_COOKIE, RefusalCode, generated};
use crate::{ProtocolId, ProviderId};

/// Why the signed part of a message is not acceptable, before any cryptography.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Not the protobuf message.
    #[error("the signed part cannot be read: {0}")]
    Malformed(String),
    /// Out of range.
    #[error("protocol {0} does not exist: give a number from 1 to 65535")]
    Protocol(u32),
    /// Out of range.
    #[error("provider {0} is no single provider: give the number that the authority assigned, at least 2")]
    Provider(u32),
    /// Out of range.
    #[error("weight {0} is out of range: give a number from 1 to 65535")]
    Weight(u32),
    /// Out of range.
    #[error("UDP port {0} does not exist: give a number from 1 to 65535")]
    Port(u32),
    /// No host can have it.
    #[error("{0} is not the address of one host: give the router's unicast address")]
    Address(Ipv4Addr),
    /// Longer than any that is given out.
    #[error("the cookie has {0} bytes, which none of ours has")]
    Cookie(usize),
}

impl BodyError {
    /// What a refusal for this reason carries.
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Malformed(_) | Self::Cookie(_) | Self::Port(_) => RefusalCode::Malformed,
            Self::Protocol(_) => RefusalCode::BadProtocol,
            Self::Provider(_) => RefusalCode::BadProvider,
            Self::Weight(_) => RefusalCode::BadWeight,
            Self::Address(_) => RefusalCode::BadAddress,
        }
    }
}

/// What a registration says, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterBody {
    /// The protocol that the router speaks.
    pub protocol: ProtocolId,
    /// Who operates it.
    pub provider: ProviderId,
    /// Where the router receives and sends.
    pub router: SocketAddrV4,
    /// Share of clients relative to its equals, at least 1.
    pub weight: u16,
    /// µs since the Unix epoch, higher than in everything signed before.
    pub sequence: u64,
    /// From the challenge; empty in the first message.
    pub cookie: Vec<u8>,
    /// Wish of the router in ms; 0: none.
    pub keepalive_interval_ms: u32,
    /// It keeps its clients and wants no new ones.
    pub draining: bool,
}

impl RegisterBody {
    /// The bytes to sign and send.
    pub fn encode(&self) -> Vec<u8> {
        generated::RegisterBody {
            protocol: self.protocol.0.into(),
            provider: self.provider.0,
            router_address: (*self.router.ip()).into(),
            router_port: self.router.port().into(),
            weight: self.weight.into(),
            sequence: self.sequence,
            cookie: self.cookie.clone(),
            keepalive_interval_ms: self.keepalive_interval_ms,
            draining: self.draining,
        }
        .encode_to_vec()
    }

    /// Reads and checks it.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        let raw = generated::RegisterBody::decode(bytes).map_err(|e| BodyError::Malformed(e.to_string()))?;
        let provider = ProviderId(raw.provider);
        if provider.0 == 0 || provider == ProviderId::ANY {
            return Err(BodyError::Provider(raw.provider));
        }
        Ok(Self {
            protocol: protocol(raw.protocol)?,
            provider,
            router: router(raw.router_address, raw.router_port)?,
            weight: u16::try_from(raw.weight).ok().filter(|&w| w > 0).ok_or(BodyError::Weight(raw.weight))?,
            sequence: raw.sequence,
            cookie: cookie(raw.cookie)?,
            keepalive_interval_ms: raw.keepalive_interval_ms,
            draining: raw.draining,
        })
    }
}

/// What names a registration in keepalives and farewells, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionBody {
    /// The protocol of the registration.
    pub protocol: ProtocolId,
    /// The router's address and port.
    pub router: SocketAddrV4,
    /// µs since the Unix epoch, higher than in everything signed before.
    pub sequence: u64,
    /// From a challenge; empty if there was none.
    pub cookie: Vec<u8>,
    /// Smoothed round trip to the gateway that answers keepalives, in µs; 0 while not measured.
    pub rtt_us: u32,
}

impl SessionBody {
    /// The bytes to sign and send.
    pub fn encode(&self) -> Vec<u8> {
        generated::SessionBody {
            protocol: self.protocol.0.into(),
            router_address: (*self.router.ip()).into(),
            router_port: self.router.port().into(),
            sequence: self.sequence,
            cookie: self.cookie.clone(),
            rtt_us: self.rtt_us,
        }
        .encode_to_vec()
    }

    /// Reads and checks it.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        let raw = generated::SessionBody::decode(bytes).map_err(|e| BodyError::Malformed(e.to_string()))?;
        Ok(Self {
            protocol: protocol(raw.protocol)?,
            router: router(raw.router_address, raw.router_port)?,
            sequence: raw.sequence,
            cookie: cookie(raw.cookie)?,
            rtt_us: raw.rtt_us,
        })
    }
}

fn protocol(raw: u32) -> Result<ProtocolId, BodyError> {
    u16::try_from(raw).ok().filter(|&p| p > 0).map(ProtocolId).ok_or(BodyError::Protocol(raw))
}

fn router(address: u32, port: u32) -> Result<SocketAddrV4, BodyError> {
    let address = Ipv4Addr::from(address);
    let port = u16::try_from(port).ok().filter(|&p| p > 0).ok_or(BodyError::Port(port))?;
    let first = address.octets()[0];
    if first == 0 || first >= 224 || address.is_loopback() {
        return Err(BodyError::Address(address));
    }
    Ok(SocketAddrV4::new(address, port))
}

fn cookie(raw: Vec<u8>) -> Result<Vec<u8>, BodyError> {
    if raw.len() > MAX_COOKIE { Err(BodyError::Cookie(raw.len())) } else { Ok(raw) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body() -> RegisterBody {
        RegisterBody {
            protocol: ProtocolId(41),
            provider: ProviderId(7),
            router: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 100), 4000),
            weight: 1,
            sequence: 1_700_000_000_000_000,
            cookie: vec![9; 17],
            keepalive_interval_ms: 0,
            draining: false,
        }
    }

    fn refused(change: impl FnOnce(&mut generated::RegisterBody)) -> RefusalCode {
        let mut raw = generated::RegisterBody::decode(&body().encode()[..]).unwrap();
        change(&mut raw);
        RegisterBody::decode(&raw.encode_to_vec()).unwrap_err().code()
    }

    #[test]
    fn each_field_out_of_range_is_refused_by_name() {
        assert_eq!(refused(|b| b.protocol = 0), RefusalCode::BadProtocol);
        assert_eq!(refused(|b| b.protocol = 65_536), RefusalCode::BadProtocol);
        assert_eq!(refused(|b| b.provider = 0), RefusalCode::BadProvider);
        assert_eq!(refused(|b| b.provider = 1), RefusalCode::BadProvider);
        assert_eq!(refused(|b| b.weight = 0), RefusalCode::BadWeight);
        assert_eq!(refused(|b| b.weight = 65_536), RefusalCode::BadWeight);
        assert_eq!(refused(|b| b.router_port = 0), RefusalCode::Malformed);
        assert_eq!(refused(|b| b.cookie = vec![0; 65]), RefusalCode::Malformed);
        for address in ["0.0.0.0", "0.9.9.9", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let address: Ipv4Addr = address.parse().unwrap();
            assert_eq!(refused(|b| b.router_address = address.into()), RefusalCode::BadAddress);
        }
    }

    proptest! {
        #[test]
        fn bodies_survive_the_wire(
            protocol in 1u16.., provider in 2u32.., ip in 0x0100_0000u32..0x7f00_0000, port in 1u16.., weight in 1u16..,
            sequence: u64, cookie in prop::collection::vec(any::<u8>(), 0..=MAX_COOKIE), wish: u32, draining: bool,
        ) {
            let router = SocketAddrV4::new(ip.into(), port);
            let protocol = ProtocolId(protocol);
            let session = SessionBody { protocol, router, sequence, cookie: cookie.clone(), rtt_us: weight.into() };
            prop_assert_eq!(SessionBody::decode(&session.encode()), Ok(session));
            let body = RegisterBody {
                protocol, provider: ProviderId(provider), router, weight, sequence, cookie,
                keepalive_interval_ms: wish, draining,
            };
            prop_assert_eq!(RegisterBody::decode(&body.encode()), Ok(body));
        }
    }
}
