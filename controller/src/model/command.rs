//! What may be asked of the replicated state, and what it answers.

use std::net::Ipv4Addr;

use dmux_wire::GatewayId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    AccessLink, Cell, Claim, Config, Destination, Fingerprint, Gateway, LatencySample, Limit, LinkKey, MAX_BUCKETS,
    MetalinkId, Metanet, Mli, NodeId, Registration, RegistrationKey, RouterIndex,
};
use crate::coordinates::Coordinate;

/// A change of the replicated state. `at` is the proposer's time in ms since the Unix epoch: the state machine has no
/// clock of its own. Applying one twice is the same as applying it once, so a proposal whose fate is unknown may be
/// made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Adds a gateway or replaces what is known of it.
    PutGateway {
        /// When.
        at: u64,
        /// The gateway.
        gateway: Gateway,
    },
    /// Forgets a gateway that hears no router.
    RemoveGateway {
        /// When.
        at: u64,
        /// Which.
        gateway: GatewayId,
    },
    /// Makes `node` the only writer of the gateway's switch, with an epoch above all before.
    ClaimSwitch {
        /// When.
        at: u64,
        /// Whose switch.
        gateway: GatewayId,
        /// The claimant.
        node: NodeId,
        /// A number the claimant drew for this claim (fresh after each of its restarts); the same (node, claim) is
        /// told the same epoch again.
        claim: u64,
    },
    /// Adds a registration or replaces one by a newer (its `sequence` is higher).
    Register {
        /// When.
        at: u64,
        /// The registration, with the gateway that heard it.
        registration: Registration,
    },
    /// The router said farewell.
    Deregister {
        /// When.
        at: u64,
        /// Which.
        key: RegistrationKey,
        /// The farewell's signed sequence number.
        sequence: u64,
    },
    /// The gateway that owns the registration has heard nothing for too long.
    Expire {
        /// When.
        at: u64,
        /// Which.
        key: RegistrationKey,
        /// The gateway that says so; refused if another has adopted the registration.
        gateway: GatewayId,
        /// The highest signed sequence number that the gateway heard of it: nothing up to it brings the registration back.
        /// Refused if the registration's own has risen above it since.
        sequence: u64,
    },
    /// Another gateway hears the router's keepalives now.
    Adopt {
        /// When.
        at: u64,
        /// Which.
        key: RegistrationKey,
        /// The gateway that hears them.
        gateway: GatewayId,
        /// The keepalive's signed sequence number.
        sequence: u64,
    },
    /// Round trips and losses that a gateway measured to others; those that are not news change nothing.
    RecordLatencies {
        /// When.
        at: u64,
        /// The measuring gateway.
        from: GatewayId,
        /// One for each peer.
        samples: Vec<LatencySample>,
    },
    /// Replaces the configuration, if its version is the current one plus one.
    PutConfig {
        /// When.
        at: u64,
        /// The configuration.
        config: Config,
    },
    /// An operator's wish that a router keeps its clients and gets no new ones; it holds until it is taken back or the
    /// registration goes, whatever the router says.
    Drain {
        /// When.
        at: u64,
        /// Which.
        key: RegistrationKey,
        /// Begin, or take back.
        draining: bool,
    },
    /// Round trips between routers and the gateway that hears them; those that are not news, or whose router is heard
    /// elsewhere by now, change nothing.
    RecordRouterRtts {
        /// When.
        at: u64,
        /// The gateway.
        gateway: GatewayId,
        /// Router and round trip in µs.
        samples: Vec<(RegistrationKey, u32)>,
    },
    /// Where a gateway is on the map of network coordinates, by which others reckon their distance to it.
    RecordCoordinate {
        /// When.
        at: u64,
        /// The gateway.
        from: GatewayId,
        /// Its coordinate.
        coordinate: Coordinate,
    },
    /// Whatever rests on this key is good for nothing from now on; registrations that do are removed at once.
    Revoke {
        /// When.
        at: u64,
        /// The key of a router's or a provider's certificate.
        fingerprint: Fingerprint,
        /// For people: whose, why.
        note: String,
    },
    /// Takes a revocation back.
    Unrevoke {
        /// When.
        at: u64,
        /// Of which key.
        fingerprint: Fingerprint,
    },
    /// Adds a metanet, or replaces its name and policy.
    PutMetanet {
        /// When.
        at: u64,
        /// The metanet.
        metanet: Metanet,
    },
    /// Forgets a metanet that no metalink leads to.
    RemoveMetanet {
        /// When.
        at: u64,
        /// Which.
        metanet: Destination,
    },
    /// Adds an access link, or replaces what may be promised on it; refused below what is promised.
    PutAccessLink {
        /// When.
        at: u64,
        /// The access link.
        link: AccessLink,
    },
    /// Forgets an access link that has no metalinks.
    RemoveAccessLink {
        /// When.
        at: u64,
        /// Which.
        link: LinkKey,
    },
    /// Checks a claim against policy and capacity, and grants it with numbers and lease, or refuses it. An owner that has a
    /// metalink already keeps its numbers and gets what it claims now.
    ClaimMetalink {
        /// When; the lease counts from here.
        at: u64,
        /// The claim.
        claim: Claim,
    },
    /// Makes the leases of metalinks last from now on again, each for itself: [`Reply::Each`]. Many at once, since each of
    /// thousands is renewed several times in its life.
    RenewMetalinks {
        /// When; refused once the lease has ended.
        at: u64,
        /// Which: at most [`MAX_RENEWALS`].
        metalinks: Vec<MetalinkId>,
    },
    /// Gives a metalink more or less bandwidth, as its metanet wants. Its lease ends when it did.
    AdjustMetalink {
        /// When; refused once the lease has ended.
        at: u64,
        /// Which.
        metalink: MetalinkId,
        /// In either direction, bit/s.
        rate: u64,
    },
    /// Takes a metalink away; its MLI rests.
    ReleaseMetalink {
        /// When.
        at: u64,
        /// Which.
        metalink: MetalinkId,
    },
    /// Takes the metalinks of a gateway away whose leases have ended. The gateway's own controller says so.
    EndLeases {
        /// When.
        at: u64,
        /// Whose.
        gateway: GatewayId,
    },
    /// Takes a metalink away that its gateway's switch cannot be programmed for. Changes nothing if it was claimed anew since.
    GiveMetalinkBack {
        /// When.
        at: u64,
        /// Which.
        metalink: MetalinkId,
        /// The number of the claim that cannot be met.
        request: u64,
        /// Why, for people; at most [`MAX_GIVE_BACK_REASON`](super::MAX_GIVE_BACK_REASON) bytes of it are kept.
        why: String,
    },
}

/// Leases that one command renews, at most: it and its answer stay far below what a command may have.
pub const MAX_RENEWALS: usize = 1024;

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is so now (or was already).
    Done,
    /// The switch is the claimant's, under this epoch.
    Claimed {
        /// The upper half of the election id.
        epoch: u64,
    },
    /// The registration holds.
    Registered {
        /// Its index in every switch's `router` table.
        router: RouterIndex,
    },
    /// Nothing was changed.
    Refused(Refusal),
    /// The key is revoked.
    Revoked {
        /// How many registrations went with it.
        registrations: u32,
    },
    /// The metalink is the owner's.
    Metalink {
        /// Its number at the gateway.
        mli: Mli,
        /// Where the gateway's switch counts it.
        cell: Cell,
        /// What it may carry in either direction, bit/s.
        rate: u64,
        /// When its lease ends, ms since the Unix epoch.
        until: u64,
    },
    /// Of a command about several things: to each its own, in their order.
    Each(Vec<Reply>),
}

impl Reply {
    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum Refusal {
    /// The gateway was never put.
    #[error("gateway {} is not known to the cluster; start its controller so that it announces itself", .0.0)]
    UnknownGateway(GatewayId),
    /// [`MAX_GATEWAYS`](super::MAX_GATEWAYS) are there already.
    #[error("the cluster holds {0} gateways already; remove one first")]
    TooManyGateways(usize),
    /// A gateway's value cannot be used.
    #[error("gateway {} cannot be accepted: {why}", .gateway.0)]
    BadGateway {
        /// Which.
        gateway: GatewayId,
        /// What is wrong.
        why: String,
    },
    /// Two gateways may not have one address.
    #[error("address {address} belongs to gateway {} already", .by.0)]
    AddressTaken {
        /// The address.
        address: Ipv4Addr,
        /// Who has it.
        by: GatewayId,
    },
    /// Routers are still registered there.
    #[error("gateway {} still hears {registrations} routers; wait until they are adopted elsewhere or expire", .gateway.0)]
    GatewayInUse {
        /// Which.
        gateway: GatewayId,
        /// How many.
        registrations: usize,
    },
    /// All router indices are taken.
    #[error("all {0} router indices are in use; the registration is refused until one is free")]
    TooManyRegistrations(usize),
    /// All set ids are taken.
    #[error("all {0} (protocol, provider) sets are in use; the registration is refused until one is free")]
    TooManyDestinations(usize),
    /// A registration's value cannot be used.
    #[error("the registration cannot be accepted: {0}")]
    BadRegistration(String),
    /// A message that is not newer than what is known: a replay, or one that was overtaken.
    #[error("sequence {got} does not exceed {have}, which is known already: replayed or overtaken")]
    StaleSequence {
        /// The known one.
        have: u64,
        /// The message's.
        got: u64,
    },
    /// The registration is another gateway's by now.
    #[error("the registration is owned by gateway {} now", .0.0)]
    NotOwner(GatewayId),
    /// There is no such registration.
    #[error("no such registration; the router has to register again")]
    NoSuchRegistration,
    /// Somebody else changed the configuration meanwhile.
    #[error("configuration version {got} does not follow version {have}; read the current one and try again")]
    ConfigVersion {
        /// The current version.
        have: u64,
        /// The proposed one.
        got: u64,
    },
    /// The configuration contradicts itself.
    #[error("the configuration cannot be accepted: {0}")]
    BadConfig(String),
    /// The buckets of all destinations would be more than the switches have room for.
    #[error(
        "{0} buckets for clients are too many; {MAX_BUCKETS} fit: give some protocols fewer, or serve fewer destinations"
    )]
    TooManyBuckets(usize),
    /// A certificate that the registration rests on was revoked.
    #[error("key {0} of the registration's certificates is revoked; the router needs a certificate with another key")]
    Revoked(Fingerprint),
    /// A revocation's value cannot be used.
    #[error("the revocation cannot be accepted: {0}")]
    BadRevocation(String),
    /// [`MAX_REVOCATIONS`](super::MAX_REVOCATIONS) are there already.
    #[error("{0} keys are revoked already; take back those whose certificates have expired")]
    TooManyRevocations(usize),
    /// Access links are still there.
    #[error("gateway {} has {links} access links; remove them first", .gateway.0)]
    GatewayHasAccessLinks {
        /// Which.
        gateway: GatewayId,
        /// How many.
        links: usize,
    },
    /// A metanet's value cannot be used.
    #[error("the metanet cannot be accepted: {0}")]
    BadMetanet(String),
    /// [`MAX_METANETS`](super::MAX_METANETS) are there already.
    #[error("there are {0} metanets already; delete one first")]
    TooManyMetanets(usize),
    /// There is no such metanet.
    #[error("there is no such metanet; `dmux get metanets` shows those that there are")]
    NoSuchMetanet,
    /// Metalinks lead to it.
    #[error("{metalinks} metalinks lead to the metanet; revoke them first")]
    MetanetInUse {
        /// How many.
        metalinks: usize,
    },
    /// An access link's value cannot be used.
    #[error("the access link cannot be accepted: {0}")]
    BadAccessLink(String),
    /// [`MAX_ACCESS_LINKS`](super::MAX_ACCESS_LINKS) are there already.
    #[error("the gateway has {0} access links already; remove one first")]
    TooManyAccessLinks(usize),
    /// There is no such access link.
    #[error("the gateway has no such access link; `dmux get capacity` shows those that there are")]
    NoSuchAccessLink,
    /// Metalinks have some of its capacity.
    #[error("the access link has {metalinks} metalinks; revoke them first")]
    AccessLinkInUse {
        /// How many.
        metalinks: usize,
    },
    /// An access link would have less than it has promised.
    #[error(
        "{promised} bit/s of the access link are promised, up to {to_one_endpoint} to one endpoint; give at least that, \
         or adjust metalinks first"
    )]
    BelowPromised {
        /// All promises, bit/s.
        promised: u64,
        /// The most that one endpoint has, bit/s.
        to_one_endpoint: u64,
    },
    /// A claim's value cannot be used.
    #[error("the claim cannot be accepted: {0}")]
    BadClaim(String),
    /// The metanet's policy says no.
    #[error("the metanet does not admit the endpoint by itself: {0}")]
    NotAdmitted(String),
    /// The rate does not fit.
    #[error("the rate is more {limit}; {fits} bit/s would fit{}", later(.retry_at))]
    NoRoom {
        /// By what.
        limit: Limit,
        /// The highest rate that would be granted now, bit/s; 0 if none.
        fits: u64,
        /// A long-term claim: when short-term leases that yield to it have ended, ms since the Unix epoch. So much is kept for
        /// whoever repeats the claim then.
        retry_at: Option<u64>,
    },
    /// All cells of the gateway, or all metalinks of the cluster, are in use.
    #[error("all {0} metalinks that there may be are in use; the claim is refused until one is free")]
    TooManyMetalinks(usize),
    /// Too many metalinks have gone lately.
    #[error("too many MLIs have to rest before they are used again; try again later")]
    MlisRest {
        /// When the next has rested, ms since the Unix epoch.
        retry_at: u64,
    },
    /// There is no such metalink.
    #[error("there is no such metalink; it was revoked, or its lease has ended")]
    NoSuchMetalink,
    /// The lease has ended.
    #[error("the metalink's lease has ended; claim it anew")]
    LeaseEnded {
        /// When, ms since the Unix epoch.
        at: u64,
    },
    /// A long-term claim needs the capacity.
    #[error("the lease yields to a long-term claim: it is neither renewed nor raised, and holds until its end")]
    Yields {
        /// When it ends, ms since the Unix epoch.
        until: u64,
    },
    /// The gateway gave the claim back.
    #[error("the gateway could not program its switch for the claim, and gave it back: {0}")]
    NotProgrammed(String),
}

fn later(retry_at: &Option<u64>) -> &'static str {
    match retry_at {
        Some(_) => "; short-term leases yield to this claim, so repeat it when they have ended",
        None => "",
    }
}
