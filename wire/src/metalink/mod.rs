//! Messages between endpoints and their gateway, in the encoding of `proto/dmux/control/v1/metalink.proto`, which also tells
//! the conversation.
//!
//! A message stands behind the substrate header ([`Substrate`](crate::Substrate)) with its length before it, since Ethernet
//! pads short frames: [`encode`] and [`decode`] do both, and check every value, so that a [`Kind`] is what it says.
//! [`Domain::Attach`](crate::control::Domain) says what is signed of an [`Attach`].

mod check;
#[cfg(test)]
mod tests;
mod values;

use prost::Message;
use thiserror::Error;

use crate::control::generated::{self, metalink_message::Kind as Raw};
use crate::error::split;

pub use crate::control::{MAX_COOKIE, RefusalCode};
pub use check::ValueError;
pub use values::{
    Attach, AttachBody, Attached, Connect, Connected, Discover, Lease, MetanetId, Notice, Offer, OfferedMetanet,
    Pending, Refused, Release, Released, Renew,
};

/// The longest message in bytes, without its length and all headers: it fits a frame of any Ethernet.
pub const MAX_METALINK: usize = 1200;
/// Bytes of the length before a message.
pub const LENGTH_LEN: usize = 2;
/// Bytes of a metanet's name at most.
pub const MAX_NAME: usize = 64;

/// Why bytes are no message, or a message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetalinkError {
    /// Longer than [`MAX_METALINK`].
    #[error(
        "a metalink message of {0} bytes is longer than the {MAX_METALINK} allowed; use shorter certificates or a shorter chain"
    )]
    TooLong(usize),
    /// Shorter than its length says, or without one.
    #[error("the message is cut off: {have} bytes of {need}")]
    Truncated {
        /// Bytes it needs.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// Not the protobuf message.
    #[error("the bytes are no metalink message: {0}")]
    Malformed(String),
    /// A kind that this version does not know, or none.
    #[error("the metalink message is of no known kind")]
    UnknownKind,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Endpoint: is there a gateway?
    Discover(Discover),
    /// Gateway: there is.
    Offer(Offer),
    /// Endpoint: it wants to use the provisioned VLAN.
    Attach(Attach),
    /// Gateway: it may.
    Attached(Attached),
    /// Gateway: the request is not granted.
    Refused(Refused),
    /// Endpoint: it wants a metalink.
    Connect(Connect),
    /// Gateway: the metalink is there.
    Connected(Connected),
    /// Gateway: the metanet's operator has to decide.
    Pending(Pending),
    /// Endpoint: the lease is to last from now on.
    Renew(Renew),
    /// Endpoint: the metalink is not needed any more.
    Release(Release),
    /// Gateway: it is gone.
    Released(Released),
    /// Gateway: something happened to a metalink.
    Notice(Notice),
}

impl Kind {
    /// Whether endpoints send it; all other kinds come from gateways.
    pub const fn is_request(&self) -> bool {
        matches!(self, Self::Discover(_) | Self::Attach(_) | Self::Connect(_) | Self::Renew(_) | Self::Release(_))
    }
}

/// A message that could be read. Whoever answers it needs its nonce also where a value in it is out of range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Chosen by the endpoint, repeated in the answer.
    pub nonce: u64,
    /// What it says, or which value cannot be.
    pub kind: Result<Kind, ValueError>,
}

/// What follows the substrate header: the length and the message.
///
/// # Errors
/// [`MetalinkError::TooLong`].
pub fn encode(nonce: u64, kind: &Kind) -> Result<Vec<u8>, MetalinkError> {
    let message = generated::MetalinkMessage { nonce, kind: Some(kind.to_raw()) };
    let length = message.encoded_len();
    let prefix = u16::try_from(length).ok().filter(|_| length <= MAX_METALINK);
    let prefix = prefix.ok_or(MetalinkError::TooLong(length))?;
    let mut bytes = Vec::with_capacity(LENGTH_LEN + length);
    bytes.extend(prefix.to_be_bytes());
    bytes.extend(message.encode_to_vec());
    Ok(bytes)
}

/// Reads what follows the substrate header; what follows the message is padding. Allocates at most a small multiple of
/// [`MAX_METALINK`].
///
/// # Errors
/// There is no message in the bytes. A message with an impossible value is one: [`Decoded::kind`] says which.
pub fn decode(bytes: &[u8]) -> Result<Decoded, MetalinkError> {
    let have = bytes.len();
    let cut = |need| MetalinkError::Truncated { need, have };
    let (prefix, rest) = split::<LENGTH_LEN>("metalink message", bytes).map_err(|_| cut(LENGTH_LEN))?;
    let length = usize::from(u16::from_be_bytes(*prefix));
    if length > MAX_METALINK {
        return Err(MetalinkError::TooLong(length));
    }
    let message = rest.get(..length).ok_or(cut(LENGTH_LEN + length))?;
    let message = generated::MetalinkMessage::decode(message).map_err(|e| MetalinkError::Malformed(e.to_string()))?;
    let raw = message.kind.ok_or(MetalinkError::UnknownKind)?;
    Ok(Decoded { nonce: message.nonce, kind: Kind::of_raw(raw) })
}

impl Kind {
    fn to_raw(&self) -> Raw {
        match self {
            Self::Discover(m) => Raw::Discover(m.to_raw()),
            Self::Offer(m) => Raw::Offer(m.to_raw()),
            Self::Attach(m) => Raw::Attach(m.to_raw()),
            Self::Attached(m) => Raw::Attached(m.to_raw()),
            Self::Refused(m) => Raw::Refused(m.to_raw()),
            Self::Connect(m) => Raw::Connect(m.to_raw()),
            Self::Connected(m) => Raw::Connected(m.to_raw()),
            Self::Pending(m) => Raw::Pending(m.to_raw()),
            Self::Renew(m) => Raw::Renew(generated::Renew { mli: m.mli }),
            Self::Release(m) => Raw::Release(generated::Release { mli: m.mli }),
            Self::Released(m) => Raw::Released(generated::Released { mli: m.mli }),
            Self::Notice(m) => Raw::Notice(m.to_raw()),
        }
    }

    fn of_raw(raw: Raw) -> Result<Self, ValueError> {
        Ok(match raw {
            Raw::Discover(m) => Self::Discover(Discover::of_raw(m)?),
            Raw::Offer(m) => Self::Offer(Offer::of_raw(m)?),
            Raw::Attach(m) => Self::Attach(Attach::of_raw(m)),
            Raw::Attached(m) => Self::Attached(Attached { idle_after_ms: m.idle_after_ms }),
            Raw::Refused(m) => Self::Refused(Refused::of_raw(m)),
            Raw::Connect(m) => Self::Connect(Connect::of_raw(m)?),
            Raw::Connected(m) => Self::Connected(Connected::of_raw(m)?),
            Raw::Pending(m) => Self::Pending(Pending { retry_after_ms: m.retry_after_ms }),
            Raw::Renew(m) => Self::Renew(Renew { mli: check::mli(m.mli)? }),
            Raw::Release(m) => Self::Release(Release { mli: check::mli(m.mli)? }),
            Raw::Released(m) => Self::Released(Released { mli: check::mli(m.mli)? }),
            Raw::Notice(m) => Self::Notice(Notice::of_raw(m)?),
        })
    }
}
