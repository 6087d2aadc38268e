//! The replicated state (DESIGN §5.2): what all controllers agree on.
//!
//! [`Model`] is a value and [`Model::apply`] a pure function of it: the same commands in the same order give the same
//! model, and the same snapshot bytes, on every controller. It reads no clock (commands carry their time stamps) and
//! iterates over ordered maps only.
//!
//! ```text
//! Command ──apply──▶ State (snapshotted) ──▶ Index, Books (derived, rebuilt on restore)
//!                      └──▶ Journal (what changed since; not part of the state) ──▶ plan::Planner
//! ```

mod access;
mod apply;
mod books;
mod command;
mod config;
mod dampening;
mod fingerprint;
mod free;
mod gateway;
mod index;
mod journal;
mod lease;
mod metalink;
mod metanet;
mod numbers;
mod prefix;
mod register;
mod registration;
mod revocation;
mod shared;
mod snapshot;
mod state;

pub use access::{
    AccessLink, DEFAULT_LONG_LEASE_MS, DEFAULT_SHORT_LEASE_MS, Endpoint, LinkKey, LinkUse, MAX_ACCESS_LINKS,
    MAX_LEASE_MS, MAX_LINK_NAME, MAX_RATE, MIN_LEASE_MS, OutOfProfile, check_link_name,
};
pub use command::{Command, MAX_RENEWALS, Refusal, Reply};
pub use config::{
    Config, DEFAULT_ALL_PAIRS, DEFAULT_BUCKETS, DEFAULT_MARGIN_MS, DrainTimers, MAX_BUCKETS, MAX_BUCKETS_PER_SET,
    MAX_MARGIN_MS, MAX_PROTOCOLS, MAX_SERVICES, MIN_BUCKETS_PER_SET, Policy, ProtocolConfig, Timers,
};
pub use dampening::{Dampening, Flap, MAX_FLAPPING, Penalty};
pub use fingerprint::{Fingerprint, FingerprintError};
pub(crate) use free::Free;
pub use gateway::{Gateway, Latency, LatencySample, MAX_GATEWAY_NAME, MAX_GATEWAYS, NodeId, SwitchOwner, is_news};
pub use journal::{Change, MAX_JOURNAL};
pub use lease::{LeaseKind, MAX_WAITING, WAIT_GRACE_MS};
pub use metalink::{Claim, Limit, MAX_GIVE_BACK_REASON, MAX_METALINKS, Metalink, MetalinkId, Owner};
pub use metanet::{Admission, MAX_LISTED, MAX_METANET_NAME, MAX_METANETS, Metanet, MetanetUse};
pub use numbers::{Cell, MAX_RESTING, METALINK_CELLS, MLI_REST_MS, Mli};
pub use prefix::{Ipv4Prefix, PrefixError};
pub use register::{MAX_TOMBSTONES, MOVE_HOLD_INTERVALS, TOMBSTONE_MS};
pub use registration::{MAX_ROUTER_CHAIN, Registration, RegistrationKey};
pub use revocation::{MAX_REVOCATION_NOTE, MAX_REVOCATIONS, MAX_REVOKED_ROUTERS, Revocation, RevokedRouter};
pub use snapshot::{SNAPSHOT_VERSION, SnapshotError};
pub use state::{
    Destination, MAX_DESTINATIONS, MAX_REGISTRATIONS, MAX_ROUTER_NAME, Model, Registered, RouterIndex, SetId,
};

#[cfg(test)]
mod tests;
