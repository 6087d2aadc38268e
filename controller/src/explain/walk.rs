//! The way of one client's packet through the tables, as p4src has them: which entry each stage hits, and what comes of it.
//!
//! ```text
//! source_guard ─▶ local_service ─▶ demux ─┬─────────────▶ router ─▶ ipv4_route ─▶ nexthop ─▶ sent
//!                                         └─▶ bucket ───┘
//! ```
//!
//! A [`Walk`] asks for entries by key and is told what there is, so the same steps go through a plan in memory and through
//! a switch that has to be read. What a table cannot tell is left out: ports and their roles, TTL and MTU.

use std::fmt;
use std::net::SocketAddrV4;

use dmux_tables::{
    BucketAction, BucketKey, DemuxAction, DemuxKey, Ipv4RouteAction, Ipv4RouteKey, LocalServiceAction, LocalServiceKey,
    NexthopAction, NexthopIndex, NexthopKey, Prefix, RouterAction, RouterKey, SourceGuardAction, SourceGuardKey,
};
use dmux_wire::{DMUX_PORT, DropReason, MacAddr};

use super::Question;
use crate::model::RouterIndex;
use crate::plan::{Entry, Key};
use crate::selection::{client_hash, flow_hash};

const IP_PROTOCOL_UDP: u8 = 17;

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It leaves for a router.
    Sent {
        /// The router's index.
        router: RouterIndex,
        /// Where the tunnel leads.
        to: SocketAddrV4,
        /// The port that it leaves by.
        port: u16,
        /// The neighbour behind that port.
        neighbour: MacAddr,
    },
    /// The switch drops it and counts it under this reason.
    Dropped(DropReason),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent { router, to, port, neighbour } => {
                write!(f, "to router {router} at {to}, by port {port} and neighbour {neighbour}")
            }
            Self::Dropped(reason) => write!(f, "dropped: {reason}"),
        }
    }
}

/// A lookup in one table: the keys that match the packet, the one that would win first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    keys: Vec<Key>,
}

impl Lookup {
    fn one(key: impl Into<Key>) -> Self {
        Self { keys: vec![key.into()] }
    }

    fn longest(address: std::net::Ipv4Addr, key: impl Fn(Prefix<std::net::Ipv4Addr>) -> Key) -> Self {
        let prefix = |length| {
            let masked = crate::model::Ipv4Prefix::containing(address, length).address();
            Prefix::new(masked, length)
        };
        Self { keys: (0..=32).rev().filter_map(prefix).map(key).collect() }
    }

    /// The keys, in the order of preference.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The name of the table.
    pub fn table(&self) -> &'static str {
        self.keys.first().map_or("", Key::table_name)
    }

    /// What wins of the entries that a source has.
    pub fn best(&self, entry: impl FnMut(&Key) -> Option<Entry>) -> Option<Entry> {
        self.keys.iter().find_map(entry)
    }
}

/// One stage that the packet went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// What was looked up.
    pub lookup: Lookup,
    /// What was hit; `None` is a miss.
    pub hit: Option<Entry>,
}

/// The stage that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    SourceGuard,
    LocalService,
    Demux,
    /// The set, and one less than its number of buckets.
    Bucket(dmux_tables::SetId, u16),
    Router(RouterIndex),
    Route(RouterIndex, SocketAddrV4),
    Nexthop(RouterIndex, SocketAddrV4, NexthopIndex),
}

/// A walk under way, or at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    question: Question,
    hops: Vec<Hop>,
    /// The next stage, or what became of the packet.
    at: Result<Stage, Outcome>,
}

impl Walk {
    /// The packet has come in.
    pub fn new(question: Question) -> Self {
        let first = if question.guarded { Stage::SourceGuard } else { Stage::LocalService };
        Self { question, hops: Vec::new(), at: Ok(first) }
    }

    /// The whole walk through a source of entries.
    pub fn through(question: Question, entry: impl Fn(&Key) -> Option<Entry>) -> Self {
        let mut walk = Self::new(question);
        while let Some(lookup) = walk.next() {
            let hit = lookup.best(&entry);
            walk.found(lookup, hit);
        }
        walk
    }

    /// What has to be looked up now; `None` at the end.
    pub fn next(&self) -> Option<Lookup> {
        let question = &self.question;
        Some(match self.at.ok()? {
            Stage::SourceGuard => Lookup::longest(question.client, |src| SourceGuardKey { src }.into()),
            Stage::LocalService => {
                let (protocol, dst_port) = (IP_PROTOCOL_UDP, DMUX_PORT);
                Lookup::one(LocalServiceKey { dst: question.service, protocol, dst_port })
            }
            Stage::Demux => {
                let crate::model::Destination { protocol, provider } = question.destination;
                Lookup::one(DemuxKey { protocol, provider })
            }
            Stage::Bucket(set, mask) => Lookup::one(BucketKey { set, bucket: client_hash(question.client) & mask }),
            Stage::Router(router) => Lookup::one(RouterKey { router: dmux_tables::RouterIndex(router.0) }),
            Stage::Route(_, to) => Lookup::longest(*to.ip(), |dst| Ipv4RouteKey { dst }.into()),
            Stage::Nexthop(_, _, nexthop) => Lookup::one(NexthopKey { nexthop }),
        })
    }

    /// The answer to [`Walk::next`].
    pub fn found(&mut self, lookup: Lookup, hit: Option<Entry>) {
        if let Ok(stage) = self.at {
            self.at = self.after(stage, hit);
        }
        self.hops.push(Hop { lookup, hit });
    }

    /// What p4src does after a hit or a miss. An entry of another table than was asked for is a miss.
    fn after(&self, stage: Stage, hit: Option<Entry>) -> Result<Stage, Outcome> {
        let dropped = |reason| Err(Outcome::Dropped(reason));
        match (stage, hit) {
            (Stage::SourceGuard, Some(Entry::SourceGuard(_, SourceGuardAction::Deny))) => {
                dropped(DropReason::SpoofedSource)
            }
            (Stage::SourceGuard, _) => Ok(Stage::LocalService),
            (Stage::LocalService, Some(Entry::LocalService(_, LocalServiceAction::ShimService { .. }))) => {
                Ok(Stage::Demux)
            }
            (Stage::LocalService, Some(_)) => dropped(DropReason::BadShimKind),
            // Routed as if it were none of ours, into the dmux-prefix, where nothing listens.
            (Stage::LocalService, None) => dropped(DropReason::NoService),
            (Stage::Demux, Some(Entry::Demux(_, DemuxAction::ToRouter { router }))) => {
                Ok(Stage::Router(RouterIndex(router.0)))
            }
            (Stage::Demux, Some(Entry::Demux(_, DemuxAction::ToSet { set, mask }))) => Ok(Stage::Bucket(set, mask)),
            (Stage::Demux, _) => dropped(DropReason::NoRoute),
            (Stage::Bucket(..), Some(Entry::Bucket(_, action))) => Ok(Stage::Router(router_of(action))),
            (Stage::Bucket(..), _) => dropped(DropReason::NoBucket),
            (Stage::Router(router), Some(Entry::Router(_, RouterAction::Tunnel { dst, dst_port }))) => {
                Ok(Stage::Route(router, SocketAddrV4::new(dst, dst_port)))
            }
            (Stage::Router(_), _) => dropped(DropReason::NoRouter),
            (Stage::Route(router, to), Some(Entry::Ipv4Route(_, Ipv4RouteAction::Via { nexthop }))) => {
                Ok(Stage::Nexthop(router, to, nexthop))
            }
            (Stage::Route(router, to), Some(Entry::Ipv4Route(_, Ipv4RouteAction::ViaGroup { first, mask }))) => {
                let member = first.0.wrapping_add(self.flow_hash() & mask);
                Ok(Stage::Nexthop(router, to, NexthopIndex(member)))
            }
            (Stage::Route(..), Some(_)) => dropped(DropReason::NoService),
            (Stage::Route(..), None) => dropped(DropReason::NoIpv4Route),
            (Stage::Nexthop(router, to, _), Some(Entry::Nexthop(_, action))) => {
                let NexthopAction::SetNexthop { port, dst_mac, .. } = action;
                Err(Outcome::Sent { router, to, port: port.get(), neighbour: dst_mac })
            }
            (Stage::Nexthop(..), _) => dropped(DropReason::NoNexthop),
        }
    }

    fn flow_hash(&self) -> u16 {
        let Question { client, client_port, service, .. } = self.question;
        flow_hash(SocketAddrV4::new(client, client_port), SocketAddrV4::new(service, DMUX_PORT))
    }

    /// Whose packet it is.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// The stages so far.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// What became of the packet; `None` while there is more to look up.
    pub fn outcome(&self) -> Option<Outcome> {
        self.at.err()
    }

    /// The client's bucket, where it was looked for.
    pub fn bucket(&self) -> Option<u16> {
        self.hops.iter().find_map(|hop| match hop.lookup.keys() {
            [Key::Bucket(key)] => Some(key.bucket),
            _ => None,
        })
    }

    /// The router that the packet was given to, whether or not it can be reached.
    pub fn router(&self) -> Option<RouterIndex> {
        self.hops.iter().rev().find_map(|hop| match hop.hit {
            Some(Entry::Bucket(_, action)) => Some(router_of(action)),
            Some(Entry::Demux(_, DemuxAction::ToRouter { router })) => Some(RouterIndex(router.0)),
            _ => None,
        })
    }
}

/// The router of a bucket. Of a draining router's, that of a client that comes now: whether this one has been there
/// before, the entries do not tell.
fn router_of(action: BucketAction) -> RouterIndex {
    match action {
        BucketAction::ToRouter { router } => RouterIndex(router.0),
        BucketAction::ToDraining { leaving, learning, .. } if learning != 0 => RouterIndex(leaving.0),
        BucketAction::ToDraining { router, .. } => RouterIndex(router.0),
    }
}
