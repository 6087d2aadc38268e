//! The state itself and how it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

use dmux_wire::{GatewayId, ProtocolId, ProviderId};
use serde::{Deserialize, Serialize};

use super::access::Access;
use super::books::Books;
use super::dampening::Flaps;
use super::index::Index;
use super::journal::Journal;
use super::register::Tombstones;
use super::revocation::Revocations;
use super::{Change, Config, Gateway, Latency, Registration, RegistrationKey, SwitchOwner};
use crate::coordinates::Coordinate;

/// Router indices, hence registrations: the size of the `router` table of the switches.
pub const MAX_REGISTRATIONS: usize = 131_072;
/// Set ids, hence (protocol, provider) pairs: as many sets of [`DEFAULT_BUCKETS`](super::DEFAULT_BUCKETS) make
/// [`MAX_BUCKETS`](super::MAX_BUCKETS).
pub const MAX_DESTINATIONS: usize = 512;
/// Bytes of a router's name at most.
pub const MAX_ROUTER_NAME: usize = 64;

/// Index of a router in every switch's `router` table: 1 to [`MAX_REGISTRATIONS`], unique among registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouterIndex(pub u32);

/// Id of a (protocol, provider) pair, from which its sets in every switch's `bucket` table have theirs: 1 to [`MAX_DESTINATIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SetId(pub u32);

impl fmt::Display for RouterIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a client asks for: a protocol, of one provider or of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Destination {
    /// The protocol.
    pub protocol: ProtocolId,
    /// The provider, or [`ProviderId::ANY`].
    pub provider: ProviderId,
}

impl Destination {
    /// Any provider's routers of a protocol.
    pub fn any(protocol: ProtocolId) -> Self {
        Self { protocol, provider: ProviderId::ANY }
    }

    /// The two destinations that a registration serves: its provider's and anybody's.
    pub fn served_by(registration: &Registration) -> [Self; 2] {
        let protocol = registration.key.protocol;
        [Self { protocol, provider: registration.provider }, Self::any(protocol)]
    }
}

/// A registration and the index that the cluster gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Its index in every switch's `router` table; the same for as long as the registration lives.
    pub router: RouterIndex,
    /// The registration.
    pub registration: Registration,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The log index of the last command applied.
    pub(super) applied: u64,
    pub(super) config: Config,
    pub(super) gateways: BTreeMap<GatewayId, Gateway>,
    pub(super) owners: BTreeMap<GatewayId, SwitchOwner>,
    pub(super) registrations: BTreeMap<RegistrationKey, Registered>,
    pub(super) sets: BTreeMap<Destination, SetId>,
    pub(super) latencies: BTreeMap<(GatewayId, GatewayId), Latency>,
    pub(super) tombstones: Tombstones,
    /// Round trips in µs between routers and their gateways; of registrations only.
    pub(super) router_rtts: BTreeMap<RegistrationKey, u32>,
    /// Registrations that an operator drains, whatever their routers say.
    pub(super) drains: BTreeSet<RegistrationKey>,
    pub(super) flaps: Flaps,
    /// When a registration last went from one gateway to another, ms since the Unix epoch; of registrations only.
    pub(super) moves: BTreeMap<RegistrationKey, u64>,
    pub(super) revocations: Revocations,
    /// The last index given out: the search for a free one starts after it, so that an index rests as long as
    /// possible before another router gets it.
    pub(super) last_router: u32,
    /// Likewise for sets.
    pub(super) last_set: u32,
    pub(super) coordinates: BTreeMap<GatewayId, Coordinate>,
    pub(super) access: Access,
}

/// The replicated state, an index into it, the books of its access links, and a journal of its latest changes. Equal when the states are.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub(super) state: State,
    pub(super) index: Index,
    pub(super) books: Books,
    pub(super) journal: Journal,
}

impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl Eq for Model {}

impl Model {
    /// The state before the first command, with the built-in configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// The log index of the last command applied; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.state.applied
    }

    /// What changed after log index `index`; `None` when that is longer ago than the journal reaches (or lies before
    /// the snapshot that this model was restored from): plan in full then. May name one thing several times.
    pub fn changes_since(&self, index: u64) -> Option<Vec<Change>> {
        self.journal.since(index)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// The gateways, by id.
    pub fn gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.state.gateways.values()
    }

    /// One gateway.
    pub fn gateway(&self, id: GatewayId) -> Option<&Gateway> {
        self.state.gateways.get(&id)
    }

    /// Who may write to a gateway's switch.
    pub fn owner(&self, gateway: GatewayId) -> Option<&SwitchOwner> {
        self.state.owners.get(&gateway)
    }

    /// The registrations, by key.
    pub fn registrations(&self) -> impl ExactSizeIterator<Item = &Registered> {
        self.state.registrations.values()
    }

    /// The registrations from a key on, by key.
    pub fn registrations_from(&self, from: Bound<RegistrationKey>) -> impl Iterator<Item = &Registered> {
        self.state.registrations.range((from, Bound::Unbounded)).map(|(_, registered)| registered)
    }

    /// One registration.
    pub fn registration(&self, key: &RegistrationKey) -> Option<&Registered> {
        self.state.registrations.get(key)
    }

    /// The registrations that a gateway owns, by key.
    pub fn registrations_at(&self, gateway: GatewayId) -> impl Iterator<Item = &Registered> {
        self.index.keys_at(gateway).filter_map(|key| self.state.registrations.get(key))
    }

    /// Whether an operator drains the registration, whatever its router says.
    pub fn is_drained(&self, key: &RegistrationKey) -> bool {
        self.state.drains.contains(key)
    }

    /// Every destination that some registration serves, and its set id.
    pub fn destinations(&self) -> impl ExactSizeIterator<Item = (Destination, SetId)> {
        self.state.sets.iter().map(|(&destination, &set)| (destination, set))
    }

    /// The set id of a destination.
    pub fn set(&self, destination: Destination) -> Option<SetId> {
        self.state.sets.get(&destination).copied()
    }

    /// The gateways at which some registration serves the destination, by id.
    pub fn gateways_serving(&self, destination: Destination) -> impl Iterator<Item = GatewayId> {
        self.index.gateways_serving(destination)
    }

    /// The registrations at one gateway that serve the destination, by key.
    pub fn serving(&self, destination: Destination, gateway: GatewayId) -> impl Iterator<Item = &Registered> {
        self.index.serving(destination, gateway).filter_map(|key| self.state.registrations.get(key))
    }

    /// The recorded round trip from one gateway's switch to another's.
    pub fn latency(&self, from: GatewayId, to: GatewayId) -> Option<&Latency> {
        self.state.latencies.get(&(from, to))
    }

    /// The registrations that keep their clients and get no new ones, by key.
    pub fn draining(&self) -> impl Iterator<Item = &Registered> {
        self.index.draining().filter_map(|key| self.state.registrations.get(key))
    }

    /// Whether a registration that serves the destination keeps its clients and gets no new ones.
    pub fn drains(&self, destination: Destination) -> bool {
        self.index.drains(destination)
    }

    /// Whether all registrations at a gateway that serve the destination do.
    pub fn all_drain(&self, destination: Destination, gateway: GatewayId) -> bool {
        self.index.all_drain(destination, gateway)
    }

    /// The registrations at one gateway that serve the destination and whose way from it is known, in µs, the closest first.
    pub fn closest(&self, destination: Destination, gateway: GatewayId) -> impl Iterator<Item = (u32, &Registered)> {
        let closest = self.index.closest(destination, gateway);
        closest.filter_map(|(rtt, key)| Some((*rtt, self.state.registrations.get(key)?)))
    }

    /// The recorded round trip in µs between a router and the gateway that hears it.
    pub fn router_rtt(&self, key: &RegistrationKey) -> Option<u32> {
        self.state.router_rtts.get(key).copied()
    }

    /// The network coordinate that a gateway has published.
    pub fn coordinate(&self, gateway: GatewayId) -> Option<&Coordinate> {
        self.state.coordinates.get(&gateway)
    }

    /// Every recorded round trip.
    pub fn latencies(&self) -> impl Iterator<Item = (GatewayId, GatewayId, &Latency)> {
        self.state.latencies.iter().map(|(&(from, to), latency)| (from, to, latency))
    }
}
