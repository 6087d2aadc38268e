//! Registration of IPvN routers by datagram (IPdmux §III-A; DESIGN §3.5, §5.2, §8).
//!
//! [`Registrar`] is pure: it takes the time, a view of the replicated state and a datagram, and returns [`Effect`]s for
//! others to carry out. It owns what is not replicated: who was heard when.
//!
//! ```text
//!            datagram                                   Effect::Reply
//!   router ────────────▶ handle ──┬────────────────────────────────────▶ router
//!                                 └─ Effect::Propose(token, Command) ──▶ Raft ── committed(token, reply) ──▶ Effect::Reply
//!            time ─────▶ tick ───── Effect::Propose(Expire), Effect::Liveness
//! ```
//!
//! What a datagram may cost rises with what it has proven:
//!
//! | step | proven by | cost until then |
//! | --- | --- | --- |
//! | body readable, source is the router's address | nothing | parsing; an answer no longer than the request |
//! | source address | cookie (stateless) | one HMAC |
//! | identity | X.509 chain, signature | three Ed25519 verifications; after a failure none for [`REFUSAL_INTERVAL`] |
//! | freshness | sequence number above the last | one proposal, of at most [`MAX_IN_FLIGHT`] |
//!
//! A gateway that has not heard a router itself (it restarted, or anycast moved the router's path) demands a cookie for
//! the first keepalive too: the sequence numbers of keepalives are not replicated, so an old one could be replayed there.
//!
//! Certificates: see [`chain`]. How much all of that may cost a second: see [`work`].
//!
//! What becomes of a registration when something about its router or gateway changes:
//!
//! | what happens | what comes of it |
//! | --- | --- |
//! | the gateway restarts (its cookies are void) | registrations that are its own get a fresh term; the first keepalive of each is answered with a challenge and counts when it is repeated with the cookie; nothing is written |
//! | another gateway hears the keepalives (anycast moved; the owner died) | a challenge, then `Adopt`: the registration keeps its index and attributes, the former owner forgets it and cannot expire it |
//! | anycast cannot make up its mind | after a move the registration stays for [`MOVE_HOLD_INTERVALS`](crate::model::MOVE_HOLD_INTERVALS) keepalive intervals: another gateway that hears the router answers busy, unless the owner does not answer it either, or it hears two keepalives in succession, which is a change in RFC 2439's terms; a router that is held out is not moved even then |
//! | a recorded keepalive is played to another gateway | a challenge, and no more: the registration stays where it is |
//! | the router restarts, same certificate and attributes | accepted by the owner on the spot (the sequence comes from the clock, so it is higher): nothing is written; an expiry buries the highest number that was heard, so nothing recorded brings the registration back |
//! | the router restarts with its clock set back | refused as replayed until the clock has caught up, or the registration expired and 10 minutes have passed |
//! | new attributes, certificate or key at the same address | replaces the old registration (a change in RFC 2439's terms); keepalives under the old key are refused from then on |
//! | two routers claim one address, both certified | the latest registration holds; the other is refused (bad signature, then it registers in turn); each turn is a change, so the address is held out before long |
//! | an uncertified router claims it | refused; the registered one notices nothing |
//! | the router goes silent | out of this gateway's plan at once, quorum or not; `Expire` is proposed until it is taken |
//! | the router comes and goes | each going is a flap; once it is gone while suppressed, it is refused as dampened until reuse, and nothing is written (see [`model`](crate::model)) |
//! | a suppressed router that is registered says something else | accepted; it lives on by keepalives, and the cluster is told at reuse, but of the begin of a draining at once (see [`changes`]) |
//! | a certificate of its chain is revoked | the registration goes in the same command, on all gateways; the next keepalive and each registration are refused as revoked |
//! | the gateway is dead and nobody adopts | the registration stays, suspect, until the gateway is back (fresh term, then expiry) |
//! | the controllers lose their state (wiped) | keepalives are refused as not registered; the router registers again by itself |

pub mod chain;
mod changes;
mod cookie;
mod pending;
mod refusal;
mod registrar;
mod requests;
mod rtts;
mod sessions;
mod strangers;
mod view;
pub mod work;

use std::net::SocketAddrV4;
use std::time::Duration;

use dmux_wire::GatewayId;
use dmux_wire::control::{ControlError, Kind};
use thiserror::Error;

use crate::model::{Command, Registration, RegistrationKey};

pub use chain::{Authorities, AuthorityError, ChainError};
pub(crate) use cookie::Cookies;
pub(crate) use refusal::cut;
pub use refusal::{MAX_LOG_LINES, MAX_REFUSED_SOURCES, REFUSAL_INTERVAL};
pub use registrar::Registrar;
pub(crate) use sessions::is_signed;
pub use view::RegistrationView;

/// Proposals under way at most; what comes on top is refused as busy.
pub const MAX_IN_FLIGHT: usize = 256;
/// A proposal without an answer for this long is given up; the replicated state tells later what became of it.
pub const PROPOSAL_DEADLINE: Duration = Duration::from_secs(30);
/// How long what was committed may take to reach the local copy of the replicated state.
pub const APPLY_GRACE: Duration = Duration::from_secs(10);
/// Until an expiry that the cluster did not take is proposed again.
pub const EXPIRE_RETRY: Duration = Duration::from_secs(1);
/// How far a router's clock may be ahead of this gateway's.
pub const MAX_CLOCK_LEAD: Duration = Duration::from_secs(300);
/// The shortest keepalive interval that a router may wish for.
pub const MIN_KEEPALIVE: Duration = Duration::from_millis(100);
/// What a router is told to wait after a refusal that will pass by itself.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The time, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since any fixed moment; never goes back.
    pub mono: Duration,
    /// Since the Unix epoch.
    pub unix: Duration,
}

impl Now {
    pub(crate) fn unix_ms(&self) -> u64 {
        u64::try_from(self.unix.as_millis()).unwrap_or(u64::MAX)
    }

    fn unix_us(&self) -> u64 {
        u64::try_from(self.unix.as_micros()).unwrap_or(u64::MAX)
    }
}

/// Pairs a proposal with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Pairs a call of the operators' API with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// The cluster did not answer a proposal; its fate is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the cluster did not accept the proposal: {0}")]
pub struct Unavailable(pub String);

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everyday.
    Info,
    /// Something that somebody should look at.
    Warn,
}

/// What is to be done; the order matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a control message, behind a control shim, in a UDP datagram.
    Reply {
        /// The address that the request went to.
        from: SocketAddrV4,
        /// The router.
        to: SocketAddrV4,
        /// The message, without shim.
        bytes: Vec<u8>,
    },
    /// Answer a [`call`](Registrar::call).
    Answer {
        /// Which.
        call: CallId,
        /// What a datagram would have been answered.
        kind: Box<Kind>,
    },
    /// Propose a command to the cluster, and call [`Registrar::committed`] with its outcome.
    Propose {
        /// To be given back.
        token: Token,
        /// The command.
        command: Command,
    },
    /// A router fell silent here or is heard again: plan anew without waiting for the cluster (DESIGN §5.4).
    Liveness {
        /// Which.
        key: RegistrationKey,
        /// Heard, or silent for too long.
        alive: bool,
    },
    /// Tell the operator. At most [`MAX_LOG_LINES`] an interval.
    Log {
        /// How much it matters.
        level: Level,
        /// A sentence.
        text: String,
    },
}

/// What a registrar is told when it starts.
#[derive(Debug, Clone)]
pub struct RegistrarConfig {
    /// This gateway.
    pub gateway: GatewayId,
    /// Who may issue certificates to providers.
    pub authorities: Authorities,
    /// Random; cookies are made from it. A new one at each start.
    pub secret: [u8; 32],
}

/// Why a datagram was dropped without an answer; for counters and tests.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Ignored {
    #[error("{0}")]
    Unreadable(#[from] ControlError),
    #[error("a message that only gateways send")]
    NotARequest,
}

/// A registration, with the name cut and cleaned for logs.
pub(crate) fn describe(registration: &Registration) -> String {
    format!(
        "{} ({}) of provider {}, protocol {}",
        registration.name, registration.key.router, registration.provider, registration.key.protocol
    )
}

#[cfg(test)]
pub(crate) mod tests;
