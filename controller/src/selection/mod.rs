//! Selection (DESIGN §5.4): which gateway's routers a destination's packets go to, and which of them each client gets.
//!
//! Pure: what was chosen before goes in ([`Selection`]), what is chosen now comes out. Choosing again from the same
//! inputs and one's own outcome changes nothing, so a destination that no input touched need not be looked at.

mod choose;
mod chosen;
mod client;
mod hash;
mod members;
mod owners;
mod pool;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dmux_tables::PortId;
use dmux_wire::GatewayId;

pub use choose::{Choice, Distance, Distances, HYSTERESIS_FLOOR, choose, members, select, standing};
pub use chosen::{Chosen, Selection, Side, Standing};
pub use client::{client_cell, client_hash, flow_hash};
pub use members::{Member, Members};
pub use owners::Owners;
pub use pool::Pool;
pub use watch::{MAX_WATCHED, watched};

use crate::model::{Endpoint, Registered, Registration, RegistrationKey};
use crate::stations::Station;

/// What this controller has seen itself, and nobody else need know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The gateway it runs.
    pub gateway: GatewayId,
    /// Distances from its switch to the others' (smoothed round trips, and what their loss costs); those missing are
    /// taken from the replicated state.
    pub rtts: BTreeMap<GatewayId, Duration>,
    /// Gateways that do not answer probes: their routers are suspect.
    pub unreachable: BTreeSet<GatewayId>,
    /// Routers that it knows to be dead, each with the sequence of the registration that died: a registration with a
    /// higher one is alive again, even before this map is told.
    pub dead: BTreeMap<RegistrationKey, u64>,
    /// There are too many gateways to measure all: coordinates count before round trips that were recorded when all were.
    pub by_coordinates: bool,
    /// Draining routers whose present clients the switch has had the time to learn.
    pub learned: BTreeSet<RegistrationKey>,
    /// Routers that are held out now because they flapped (RFC 2439): known to all, but only a clock tells when it ends.
    pub dampened: BTreeSet<RegistrationKey>,
    /// The stations of the access LANs, and the ports that they are behind. Shared, since it may be large and everything
    /// else here is small.
    pub stations: Arc<BTreeMap<Station, PortId>>,
    /// Endpoints of access links that are attached: they may speak of metalinks. Those that have one are in the replicated
    /// state, whether they are here or not.
    pub attached: Arc<BTreeSet<Endpoint>>,
}

impl Local {
    /// A controller that has seen nothing yet.
    pub fn new(gateway: GatewayId) -> Self {
        Self {
            gateway,
            rtts: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            dead: BTreeMap::new(),
            by_coordinates: false,
            learned: BTreeSet::new(),
            dampened: BTreeSet::new(),
            stations: Arc::default(),
            attached: Arc::default(),
        }
    }

    /// Whether packets may be sent to the router.
    pub fn is_live(&self, registration: &Registration) -> bool {
        let held_out = self.dampened.contains(&registration.key);
        !held_out && self.dead.get(&registration.key).is_none_or(|&died_at| registration.sequence > died_at)
    }

    /// Whether the router is registered at a gateway that does not answer (DESIGN §5.4: *suspect*, not dead).
    pub fn is_suspect(&self, registered: &Registered) -> bool {
        let at = registered.registration.gateway;
        // Nobody probes itself.
        at != self.gateway && self.unreachable.contains(&at)
    }
}

#[cfg(test)]
mod tests;
