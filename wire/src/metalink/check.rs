//! What values of messages have to be.

use thiserror::Error;

use super::{MAX_COOKIE, MAX_NAME, MetanetId, RefusalCode};
use crate::control::generated;
use crate::{GatewayId, MacAddr, PROVISIONED_MLI_MAX, ProtocolId, ProviderId, SHARED_MLIS};

/// The highest VLAN id that a frame may be tagged with.
const MAX_VID: u32 = 4094;

/// Why a value of a message cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// A part of its own encoding cannot be read.
    #[error("the signed part cannot be read: {0}")]
    Body(String),
    /// It is absent.
    #[error("no metanet is named")]
    NoMetanet,
    /// Out of range.
    #[error("protocol {0} does not exist: give a number from 1 to 65535")]
    Protocol(u32),
    /// Out of range.
    #[error("provider 0 does not exist: give 1 for any, or a provider's number")]
    Provider,
    /// Out of range.
    #[error("gateway {0} does not exist: give a number from 1 to 65535")]
    Gateway(u32),
    /// Not one station's.
    #[error("{0:#x} is not the Ethernet address of one station")]
    Mac(u64),
    /// Out of range.
    #[error("VLAN {0} does not exist: give a number from 1 to {MAX_VID}")]
    Vid(u32),
    /// Out of range.
    #[error("priority {0} does not exist: give a number from 0 to 7")]
    Pcp(u32),
    /// Out of range.
    #[error("{0} is no MLI of that kind")]
    Mli(u32),
    /// Out of range.
    #[error("an MTU of {0} bytes is not between 1 and 65535")]
    Mtu(u32),
    /// Longer than any that is given out.
    #[error("the cookie has {0} bytes, which none of ours has")]
    Cookie(usize),
    /// Longer than [`MAX_NAME`].
    #[error("a metanet's name has {0} bytes; at most {MAX_NAME}")]
    Name(usize),
    /// Neither short nor long.
    #[error("lease {0} does not exist: give 1 (short) or 2 (long)")]
    Lease(i32),
    /// A metalink has some rate.
    #[error("a metalink without a rate")]
    NoRate,
}

impl ValueError {
    /// What a refusal for this reason carries.
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Protocol(_) => RefusalCode::BadProtocol,
            Self::Provider => RefusalCode::BadProvider,
            Self::NoRate => RefusalCode::BadRate,
            _ => RefusalCode::Malformed,
        }
    }
}

pub(super) fn metanet(raw: Option<generated::MetanetId>) -> Result<MetanetId, ValueError> {
    let generated::MetanetId { protocol, provider } = raw.ok_or(ValueError::NoMetanet)?;
    let number = u16::try_from(protocol).ok().filter(|&p| p > 0).ok_or(ValueError::Protocol(protocol))?;
    if provider == 0 {
        return Err(ValueError::Provider);
    }
    Ok(MetanetId { protocol: ProtocolId(number), provider: ProviderId(provider) })
}

pub(super) fn gateway(raw: u32) -> Result<GatewayId, ValueError> {
    u16::try_from(raw).ok().filter(|&id| id > 0).map(GatewayId).ok_or(ValueError::Gateway(raw))
}

pub(super) fn mac(raw: u64) -> Result<MacAddr, ValueError> {
    let mac = MacAddr::from_u64(raw);
    if raw >> 48 != 0 || mac == MacAddr::ZERO || mac.is_multicast() { Err(ValueError::Mac(raw)) } else { Ok(mac) }
}

pub(super) fn vid(raw: u32) -> Result<u16, ValueError> {
    u16::try_from(raw).ok().filter(|_| (1..=MAX_VID).contains(&raw)).ok_or(ValueError::Vid(raw))
}

pub(super) fn pcp(raw: u32) -> Result<u8, ValueError> {
    u8::try_from(raw).ok().filter(|&pcp| pcp <= 7).ok_or(ValueError::Pcp(raw))
}

/// Of a provisioned metalink.
pub(super) fn mli(raw: u32) -> Result<u32, ValueError> {
    if (1..=PROVISIONED_MLI_MAX).contains(&raw) { Ok(raw) } else { Err(ValueError::Mli(raw)) }
}

pub(super) fn shared_mli(raw: u32) -> Result<Option<u32>, ValueError> {
    match raw {
        0 => Ok(None),
        mli if SHARED_MLIS.contains(&mli) => Ok(Some(mli)),
        other => Err(ValueError::Mli(other)),
    }
}

pub(super) fn mtu(raw: u32) -> Result<u16, ValueError> {
    u16::try_from(raw).ok().filter(|&mtu| mtu > 0).ok_or(ValueError::Mtu(raw))
}

pub(super) fn cookie(raw: Vec<u8>) -> Result<Vec<u8>, ValueError> {
    if raw.len() > MAX_COOKIE { Err(ValueError::Cookie(raw.len())) } else { Ok(raw) }
}

pub(super) fn name(raw: String) -> Result<String, ValueError> {
    if raw.len() > MAX_NAME { Err(ValueError::Name(raw.len())) } else { Ok(raw) }
}

pub(super) fn rate(raw: u64) -> Result<u64, ValueError> {
    if raw == 0 { Err(ValueError::NoRate) } else { Ok(raw) }
}
