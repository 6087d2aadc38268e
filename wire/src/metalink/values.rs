//! The messages, as values that are in range. Their meaning is told in `proto/dmux/control/v1/metalink.proto`.

use prost::Message;

use super::{RefusalCode, ValueError, check};
use crate::control::generated;
use crate::{GatewayId, MacAddr, ProtocolId, ProviderId};

/// Names a metanet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetanetId {
    /// At least 1.
    pub protocol: ProtocolId,
    /// At least 1, which is any.
    pub provider: ProviderId,
}

impl MetanetId {
    fn to_raw(self) -> generated::MetanetId {
        generated::MetanetId { protocol: self.protocol.0.into(), provider: self.provider.0 }
    }
}

/// Asks for gateways.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discover {
    /// Only metanets after this one are wanted.
    pub after: Option<MetanetId>,
}

/// Where the endpoint is and what there is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// At least 1.
    pub gateway: GatewayId,
    /// The gateway's address on this LAN.
    pub gateway_mac: MacAddr,
    /// VLAN of provisioned metalinks, 1 to 4094.
    pub provisioned_vid: u16,
    /// Priority to send with there, 0 to 7.
    pub provisioned_pcp: u8,
    /// VLAN of shared MLIs, 1 to 4094.
    pub multipoint_vid: Option<u16>,
    /// The MLI to speak of metalinks on.
    pub control_mli: u32,
    /// Bytes that may follow the substrate header.
    pub mtu: u16,
    /// As many as there was room for, in order.
    pub metanets: Vec<OfferedMetanet>,
    /// There are more.
    pub more: bool,
    /// Attach with certificates and signature.
    pub authenticate: bool,
    /// For [`AttachBody`].
    pub cookie: Vec<u8>,
}

impl Offer {
    pub(super) fn to_raw(&self) -> generated::Offer {
        generated::Offer {
            gateway: self.gateway.0.into(),
            gateway_mac: self.gateway_mac.to_u64(),
            provisioned_vid: self.provisioned_vid.into(),
            provisioned_pcp: self.provisioned_pcp.into(),
            multipoint_vid: self.multipoint_vid.unwrap_or(0).into(),
            control_mli: self.control_mli,
            mtu: self.mtu.into(),
            metanets: self.metanets.iter().map(OfferedMetanet::to_raw).collect(),
            more: self.more,
            authenticate: self.authenticate,
            cookie: self.cookie.clone(),
        }
    }

    pub(super) fn of_raw(raw: generated::Offer) -> Result<Self, ValueError> {
        let multipoint = (raw.multipoint_vid != 0).then_some(raw.multipoint_vid);
        Ok(Self {
            gateway: check::gateway(raw.gateway)?,
            gateway_mac: check::mac(raw.gateway_mac)?,
            provisioned_vid: check::vid(raw.provisioned_vid)?,
            provisioned_pcp: check::pcp(raw.provisioned_pcp)?,
            multipoint_vid: multipoint.map(check::vid).transpose()?,
            control_mli: match raw.control_mli {
                mli if (1..=crate::MLI_MAX).contains(&mli) => mli,
                other => return Err(ValueError::Mli(other)),
            },
            mtu: check::mtu(raw.mtu)?,
            metanets: raw.metanets.into_iter().map(OfferedMetanet::of_raw).collect::<Result<_, _>>()?,
            more: raw.more,
            authenticate: raw.authenticate,
            cookie: check::cookie(raw.cookie)?,
        })
    }
}

/// A metanet of an [`Offer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedMetanet {
    /// What it is.
    pub id: MetanetId,
    /// At most [`MAX_NAME`](super::MAX_NAME) bytes.
    pub name: String,
    /// Its MLI on the multipoint VLAN, of [`SHARED_MLIS`](crate::SHARED_MLIS).
    pub shared_mli: Option<u32>,
}

impl OfferedMetanet {
    /// Bytes by which an [`Offer`] with it is longer.
    pub fn offer_len(&self) -> usize {
        let length = self.to_raw().encoded_len();
        1 + prost::length_delimiter_len(length) + length
    }

    fn to_raw(&self) -> generated::OfferedMetanet {
        let (name, shared_mli) = (self.name.clone(), self.shared_mli.unwrap_or(0));
        generated::OfferedMetanet { id: Some(self.id.to_raw()), name, shared_mli }
    }

    fn of_raw(raw: generated::OfferedMetanet) -> Result<Self, ValueError> {
        Ok(Self {
            id: check::metanet(raw.id)?,
            name: check::name(raw.name)?,
            shared_mli: check::shared_mli(raw.shared_mli)?,
        })
    }
}

impl Discover {
    pub(super) fn to_raw(&self) -> generated::Discover {
        generated::Discover { after: self.after.map(MetanetId::to_raw) }
    }

    pub(super) fn of_raw(raw: generated::Discover) -> Result<Self, ValueError> {
        Ok(Self { after: raw.after.map(|id| check::metanet(Some(id))).transpose()? })
    }
}

/// Asks for the use of the provisioned VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// An [`AttachBody`], as it was signed.
    pub body: Vec<u8>,
    /// Certificates in DER, the endpoint's first; may be empty.
    pub chain: Vec<Vec<u8>>,
    /// Over the body; may be empty.
    pub signature: Vec<u8>,
}

impl Attach {
    pub(super) fn to_raw(&self) -> generated::Attach {
        let Self { body, chain, signature } = self.clone();
        generated::Attach { body, chain, signature }
    }

    pub(super) fn of_raw(raw: generated::Attach) -> Self {
        Self { body: raw.body, chain: raw.chain, signature: raw.signature }
    }
}

/// The signed part of [`Attach`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachBody {
    /// From the [`Offer`].
    pub cookie: Vec<u8>,
    /// From the [`Offer`]: a signature for one gateway is none for another.
    pub gateway: GatewayId,
    /// The endpoint's own address.
    pub mac: MacAddr,
}

impl AttachBody {
    /// The bytes to sign and send.
    pub fn encode(&self) -> Vec<u8> {
        let (gateway, mac) = (self.gateway.0.into(), self.mac.to_u64());
        generated::AttachBody { cookie: self.cookie.clone(), gateway, mac }.encode_to_vec()
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// It cannot be read, or a value is out of range.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        let raw = generated::AttachBody::decode(bytes).map_err(|e| ValueError::Body(e.to_string()))?;
        Ok(Self {
            cookie: check::cookie(raw.cookie)?,
            gateway: check::gateway(raw.gateway)?,
            mac: check::mac(raw.mac)?,
        })
    }
}

/// The endpoint is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Without a message for so long, and without metalinks, it is not any more.
    pub idle_after_ms: u32,
}

impl Attached {
    pub(super) fn to_raw(self) -> generated::Attached {
        generated::Attached { idle_after_ms: self.idle_after_ms }
    }
}

/// How a metalink is leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lease {
    /// Yields to long-term claims.
    Short,
    /// Yields to nobody.
    Long,
}

impl Lease {
    const fn to_raw(self) -> i32 {
        match self {
            Self::Short => generated::Lease::Short as i32,
            Self::Long => generated::Lease::Long as i32,
        }
    }

    fn of_raw(raw: i32) -> Result<Self, ValueError> {
        match generated::Lease::try_from(raw) {
            Ok(generated::Lease::Short) => Ok(Self::Short),
            Ok(generated::Lease::Long) => Ok(Self::Long),
            Ok(generated::Lease::Unspecified) | Err(_) => Err(ValueError::Lease(raw)),
        }
    }
}

/// Asks for a metalink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect {
    /// To where.
    pub metanet: MetanetId,
    /// In either direction, bit/s. A gateway refuses 0.
    pub rate: u64,
    /// For how long.
    pub lease: Lease,
    /// Rises from one wish to the next.
    pub request: u64,
}

impl Connect {
    pub(super) fn to_raw(self) -> generated::Connect {
        let (metanet, lease) = (Some(self.metanet.to_raw()), self.lease.to_raw());
        generated::Connect { metanet, rate: self.rate, lease, request: self.request }
    }

    pub(super) fn of_raw(raw: generated::Connect) -> Result<Self, ValueError> {
        Ok(Self {
            metanet: check::metanet(raw.metanet)?,
            rate: raw.rate,
            lease: Lease::of_raw(raw.lease)?,
            request: raw.request,
        })
    }
}

/// A metalink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    /// Its number, 1 to [`PROVISIONED_MLI_MAX`](crate::PROVISIONED_MLI_MAX).
    pub mli: u32,
    /// Where it leads.
    pub metanet: MetanetId,
    /// In either direction, bit/s; at least 1.
    pub rate: u64,
    /// How it is leased.
    pub lease: Lease,
    /// What is left of the lease.
    pub lease_ms: u64,
    /// The wish that it fulfils.
    pub request: u64,
    /// The lease is not renewed.
    pub yields: bool,
}

impl Connected {
    pub(super) fn to_raw(self) -> generated::Connected {
        generated::Connected {
            mli: self.mli,
            metanet: Some(self.metanet.to_raw()),
            rate: self.rate,
            lease: self.lease.to_raw(),
            lease_ms: self.lease_ms,
            request: self.request,
            yields: self.yields,
        }
    }

    pub(super) fn of_raw(raw: generated::Connected) -> Result<Self, ValueError> {
        Ok(Self {
            mli: check::mli(raw.mli)?,
            metanet: check::metanet(raw.metanet)?,
            rate: check::rate(raw.rate)?,
            lease: Lease::of_raw(raw.lease)?,
            lease_ms: raw.lease_ms,
            request: raw.request,
            yields: raw.yields,
        })
    }
}

/// The metanet's operator has to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// When to repeat the request.
    pub retry_after_ms: u32,
}

impl Pending {
    pub(super) fn to_raw(self) -> generated::Pending {
        generated::Pending { retry_after_ms: self.retry_after_ms }
    }
}

/// The request is not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For programs; one that this version does not know reads as `Unspecified`.
    pub code: RefusalCode,
    /// For people; may be empty.
    pub text: String,
    /// The highest rate that would be granted, bit/s.
    pub fits: u64,
    /// When to try again; 0: not before something was changed.
    pub retry_after_ms: u32,
}

impl Refused {
    pub(super) fn to_raw(&self) -> generated::MetalinkRefused {
        let Self { code, text, fits, retry_after_ms } = self.clone();
        generated::MetalinkRefused { code: code.into(), text, fits, retry_after_ms }
    }

    pub(super) fn of_raw(raw: generated::MetalinkRefused) -> Self {
        let code = raw.code();
        Self { code, text: raw.text, fits: raw.fits, retry_after_ms: raw.retry_after_ms }
    }
}

/// Asks for a lease that lasts from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renew {
    /// Of which metalink of the endpoint's.
    pub mli: u32,
}

/// Gives a metalink back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Which of the endpoint's.
    pub mli: u32,
}

/// It is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Which.
    pub mli: u32,
}

/// Something happened to a metalink that its endpoint did not ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Which.
    pub mli: u32,
    /// Where it leads.
    pub metanet: MetanetId,
    /// From now on, bit/s; 0: it is gone.
    pub rate: u64,
    /// What is left of the lease.
    pub lease_ms: u64,
    /// The lease is not renewed.
    pub yields: bool,
}

impl Notice {
    pub(super) fn to_raw(self) -> generated::Notice {
        let Self { mli, metanet, rate, lease_ms, yields } = self;
        generated::Notice { mli, metanet: Some(metanet.to_raw()), rate, lease_ms, yields }
    }

    pub(super) fn of_raw(raw: generated::Notice) -> Result<Self, ValueError> {
        Ok(Self {
            mli: check::mli(raw.mli)?,
            metanet: check::metanet(raw.metanet)?,
            rate: raw.rate,
            lease_ms: raw.lease_ms,
            yields: raw.yields,
        })
    }
}
