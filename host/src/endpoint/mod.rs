//! An endpoint on an access LAN: finds the gateway by substrate discovery, attaches, connects to metanets by metalinks, and
//! keeps these alive ("Network Access in a Diversified Internet", §§3.2 and 3.3; messages: `proto/dmux/control/v1/metalink.proto`).
//!
//! ```text
//!            ┌── Discover ──▶ Offer ── Attach ──▶ Attached ──┐        of each metanet: Connect ─▶ Connected ─▶ Renew …
//!  silence,  │                                               ▼                            (Pending, refused: later again)
//!  refusals  └──────────────◀────────────────── all that was asked is asked again
//! ```
//!
//! Everything is repeated until it is answered, so a frame that is lost anywhere costs a repetition. What is asked on the
//! control MLI and not answered after some repetitions means that the gateway does not know the endpoint any more
//! (its controller has restarted, perhaps): it attaches again, and asks again. Metalinks outlive that: metaframes pass
//! until the lease ends.

mod connection;
mod core;
mod daemon;

mod frames;
mod request;
mod shaper;

use std::fmt;
use std::time::Duration;

use dmux_wire::control::RefusalCode;
use dmux_wire::metalink::{Lease, MetanetId, Offer};
use dmux_wire::{GatewayId, MacAddr, ProviderId};

pub use self::core::EndpointCore;
pub use self::daemon::{AccessPort, Carried, EndpointDaemon, Tunnel};

pub use self::shaper::Shaper;
pub use crate::patience::{Now, Timers};

/// Metanets that an endpoint connects to at most.
pub const MAX_CONNECTIONS: usize = 64;

/// A metanet's protocol, and its provider if it is one provider's: as people write it.
pub fn shown(metanet: MetanetId) -> String {
    match metanet.provider {
        ProviderId::ANY => metanet.protocol.to_string(),
        provider => format!("{}:{provider}", metanet.protocol),
    }
}

/// A metalink that the endpoint wants to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// To where.
    pub metanet: MetanetId,
    /// In either direction, bit/s; at least 1.
    pub rate: u64,
    /// Short-term or long-term.
    pub lease: Lease,
}

/// Who an endpoint is and what it wants.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Its Ethernet address on the access LAN.
    pub mac: MacAddr,
    /// A metanet once each; [`MAX_CONNECTIONS`] at most, the rest is left out.
    pub wanted: Vec<Wanted>,
    /// How patient it is.
    pub timers: Timers,
}

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this frame.
    Send(Vec<u8>),
    /// Tell whoever runs the endpoint.
    Tell(Event),
}

/// A metalink that the endpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Where it leads.
    pub metanet: MetanetId,
    /// Its number at the gateway.
    pub mli: u32,
    /// What it may carry in either direction, bit/s.
    pub rate: u64,
    /// How it is leased.
    pub lease: Lease,
    /// When the lease ends, on the clock of [`Now::mono`]; never later than the gateway says.
    pub until: Duration,
    /// The lease is not renewed any more.
    pub yields: bool,
}

/// Why a metalink is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Its lease ended before it was renewed.
    LeaseEnded,
    /// The gateway does not know it any more: it was revoked.
    Revoked,
    /// The endpoint is at another gateway.
    Moved,
    /// The endpoint released it, and the gateway said so.
    Released,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaseEnded => "its lease ended",
            Self::Revoked => "it was revoked",
            Self::Moved => "the endpoint is at another gateway",
            Self::Released => "it was released",
        })
    }
}

/// What whoever runs an endpoint may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A gateway answered the discovery.
    Found(Offer),
    /// The gateway takes requests.
    Attached {
        /// Which.
        gateway: GatewayId,
    },
    /// There is a metalink: the switch forwards by it.
    Connected(Held),
    /// It carries more or less from now on, or yields.
    Adjusted(Held),
    /// Its lease is renewed.
    Renewed(Held),
    /// There is none any more.
    Gone {
        /// Which.
        held: Held,
        /// Why.
        why: Gone,
    },
    /// The metanet's operator has to decide.
    Pending {
        /// Which.
        metanet: MetanetId,
        /// When the endpoint asks again.
        retry_after: Duration,
    },
    /// A request was refused.
    Refused {
        /// Of which metanet's metalink; `None`: attachment.
        metanet: Option<MetanetId>,
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people. From the network, but printable.
        text: String,
        /// The highest rate that would be granted, bit/s, if it is the rate.
        fits: Option<u64>,
        /// When the endpoint asks again.
        retry_after: Duration,
    },
    /// The gateway asks for certificates, and the endpoint has none.
    NoCertificate,
    /// The gateway does not answer, or does not know the endpoint any more: discovering again.
    Lost,
}

/// Why a metaframe cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// There is no metalink now.
    NoMetalink,
    /// It is longer than the gateway takes.
    TooLong {
        /// What it takes, bytes.
        mtu: usize,
    },
}

#[cfg(test)]
mod tests;
