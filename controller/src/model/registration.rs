//! Registrations as the cluster holds them (IPdmux §III-A: `register(proto id, router id, credentials)`).

use std::net::SocketAddrV4;

use dmux_wire::{GatewayId, ProtocolId, ProviderId};
use serde::{Deserialize, Serialize};

use super::Fingerprint;

/// Keys in a registration's chain at most.
pub const MAX_ROUTER_CHAIN: usize = 4;

/// What identifies a registration: one IPvN router serves one protocol at one address and UDP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RegistrationKey {
    /// The protocol that the router speaks.
    pub protocol: ProtocolId,
    /// Where tunnelled packets are sent, and where returned packets come from.
    pub router: SocketAddrV4,
}

/// One registered IPvN router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its identity.
    pub key: RegistrationKey,
    /// The provider that its certificate chain names.
    pub provider: ProviderId,
    /// Share of clients relative to its equals; at least 1.
    pub weight: u16,
    /// The gateway that hears its keepalives and owns its liveness (DESIGN §5.2).
    pub gateway: GatewayId,
    /// The Ed25519 key of the router's certificate: keepalives and the farewell are signed with it.
    pub public_key: [u8; 32],
    /// The highest signed sequence number that has reached the replicated state, in µs since the Unix epoch;
    /// a message that does not exceed it is a replay.
    pub sequence: u64,
    /// The subject of the router's certificate, for people; at most 64 bytes.
    pub name: String,
    /// When the cluster accepted it, in ms since the Unix epoch (time stamp of the command).
    pub registered_at: u64,
    /// When the certificate chain expires, in seconds since the Unix epoch.
    pub not_after: u64,
    /// Since when it keeps its clients and gets no new ones, in ms since the Unix epoch: because the router says so, or
    /// an operator ([`Command::Drain`](super::Command::Drain)).
    pub draining: Option<u64>,
    /// The keys that its right rests on, the router's first: those of its certificates, without the authority's.
    pub chain: Vec<Fingerprint>,
}

impl Registration {
    /// Whether another registration of this key differs in nothing but when it was made: then it is news to nobody but
    /// the gateway that hears it.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self {
            key,
            provider,
            weight,
            gateway,
            public_key,
            sequence: _,
            name,
            registered_at: _,
            not_after,
            draining,
            chain,
        } = self;
        *key == other.key
            && *provider == other.provider
            && *weight == other.weight
            && *gateway == other.gateway
            && *public_key == other.public_key
            && *name == other.name
            && *not_after == other.not_after
            && draining.is_some() == other.draining.is_some()
            && *chain == other.chain
    }
}
