//! The IPvN router adaptor: registers at the registration address, keeps alive, de-tunnels packets and sends answers back
//! through the gateway that they came from (IPdmux §III; DESIGN §3.1, §3.5).
//!
//! ```text
//!  transport ──datagram──▶ RouterCore (pure) ──Action::Send──▶ transport
//!      │                        ▲   └──────────Action::Tell──▶ events
//!      │ forward packets        │ tick
//!      └──▶ Sink ──answers──▶ transport
//! ```

mod core;
mod daemon;
mod sink;
mod transport;

use std::net::SocketAddrV4;
use std::time::Duration;

use dmux_wire::control::RefusalCode;
use dmux_wire::frame::Datagram;
use dmux_wire::{GatewayId, Origin, ProtocolId, ProviderId, Shim, ShimKind};

pub use self::core::RouterCore;
pub use crate::patience::{Now, Timers};
pub use daemon::{RouterDaemon, Stats};
pub use sink::{Count, Echo, Sink};
pub use transport::{FrameTransport, Transport, UdpTransport};

/// What a router registers, and where.
#[derive(Debug, Clone, Copy)]
pub struct RouterConfig {
    /// The registration address and port.
    pub registration: SocketAddrV4,
    /// The router's own address and port.
    pub router: SocketAddrV4,
    /// The protocol it speaks.
    pub protocol: ProtocolId,
    /// Whose it is.
    pub provider: ProviderId,
    /// Its share of clients relative to its equals.
    pub weight: u16,
    /// Keepalives at least this often, if the gateway agrees; `None` leaves it to the gateway.
    pub keepalive: Option<Duration>,
    /// How patient it is.
    pub timers: Timers,
}

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a UDP datagram with this payload from the router's address and port.
    Send {
        /// To whom.
        to: SocketAddrV4,
        /// Shim and control message.
        bytes: Vec<u8>,
    },
    /// Tell whoever runs the router.
    Tell(Event),
}

/// What whoever runs a router may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The registration is accepted.
    Registered {
        /// Who hears the keepalives.
        gateway: GatewayId,
        /// Between keepalives.
        keepalive: Duration,
        /// Silence after which it expires.
        expires_after: Duration,
    },
    /// The router flapped, and its registrations are held out: no clients come for so long at least.
    Held {
        /// For how long.
        remaining: Duration,
    },
    /// Another gateway hears the keepalives now.
    Moved {
        /// Who heard them before.
        from: GatewayId,
        /// Who hears them now.
        to: GatewayId,
    },
    /// A request was refused.
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people. From the network, but printable.
        text: String,
        /// When the router tries again.
        retry_after: Duration,
    },
    /// No gateway answered the keepalives for as long as a registration lives: registering anew.
    Silence,
    /// The gateway does not know the registration (it expired, perhaps): registering anew.
    Forgotten,
    /// The farewell was answered; or not in time, and the registration will expire.
    Left {
        /// Whether it was answered.
        confirmed: bool,
    },
}

/// A de-tunnelled packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The gateway that sent it, and its port.
    pub gateway: SocketAddrV4,
    /// Its shim.
    pub shim: Shim,
    /// Who sent it to the gateway.
    pub origin: Origin,
    /// The packet of the protocol.
    pub packet: &'a [u8],
}

impl Delivery<'_> {
    /// The payload of the UDP datagram to [`gateway`](Self::gateway) that brings `packet` to the origin.
    pub fn answer(&self, packet: &[u8]) -> Vec<u8> {
        let shim = Shim { kind: ShimKind::Return, ..self.shim };
        Datagram { shim, origin: Some(self.origin), payload: packet }.to_vec()
    }
}

#[cfg(test)]
mod tests;
