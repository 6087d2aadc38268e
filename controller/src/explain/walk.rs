//! The way of one client's packet through the tables, as p4src has them: which entry each stage hits, and what comes of it.
//!
//! ```text
//! source_guard ─▶ local_service ─▶ demux ─┬────────────────────────────────▶ router ─▶ ipv4_route ─▶ nexthop ─▶ sent
//!                                         └─▶ bucket ─┬───────────────────┘
//!                                                     └─▶ (client_seen) ──┘
//! ```
//!
//! A [`Walk`] asks for entries by key and is told what there is, so the same steps go through a plan in memory and through
//! a switch that has to be read. Where a draining router leaves the client's bucket, it asks what the switch knows of the
//! client, too ([`Walk::asks`]). What a table cannot tell is left out: ports and their roles, TTL and MTU.

use std::fmt;
use std::net::SocketAddrV4;
use std::time::Duration;

use dmux_tables::{
    BucketAction, BucketKey, DemuxAction, DemuxKey, Ipv4RouteAction, Ipv4RouteKey, LocalServiceAction, LocalServiceKey,
    NexthopAction, NexthopIndex, NexthopKey, Prefix, RouterAction, RouterKey, SourceGuardAction, SourceGuardKey,
};
use dmux_wire::{DMUX_PORT, DropReason, MacAddr};

use super::Question;
use crate::model::RouterIndex;
use crate::plan::{Entry, Key};
use crate::selection::{client_cell, client_hash, flow_hash};

const IP_PROTOCOL_UDP: u8 = 17;
/// A tick of `client_seen` is 2^20 µs.
const TICK_BITS: u32 = 20;

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

/// A router that drains leaves the client's bucket to another; whether the client is one that it keeps is in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// The router that drains.
    pub router: RouterIndex,
    /// The router that new clients of the bucket are given to.
    pub heir: RouterIndex,
    /// Silence after which a client is none of its any more, in ticks of 2^20 µs.
    pub idle: u32,
    /// The cell of `client_seen` that the client has there.
    pub cell: u32,
    /// What is known of the client there.
    pub presence: Presence,
}

/// What a switch knows of a client at a draining router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Everybody that sends counts as a client of the router's at present, and is remembered.
    Learning,
    /// The switch saw it there a short while ago: it stays.
    Present {
        /// Since when it is silent.
        silent: Duration,
    },
    /// It was seen there, too long ago.
    Idle {
        /// Since when it is silent.
        silent: Duration,
    },
    /// It was never seen there: it is new, and goes to the other router.
    New,
    /// It cannot be told; what is said further is said as if it were new.
    Unknown,
}

impl Presence {
    /// What p4src makes of a cell (`ClientPresence`), `now_us` by the switch's clock.
    pub fn of(cell: u32, idle: u32, now_us: Option<u64>) -> Self {
        if cell == 0 {
            return Self::New;
        }
        let Some(now_us) = now_us else { return Self::Unknown };
        // The clock has 48 bits, of which 28 are ticks; the remainder of a tick more does not matter.
        let now = ((now_us & ((1 << 48) - 1)) >> TICK_BITS) as u32 + 1;
        // What was written after the clock was read is from now.
        let ago = now.wrapping_sub(cell);
        let ago = if ago >> 31 == 0 { ago } else { 0 };
        let silent = Duration::from_micros(u64::from(ago) << TICK_BITS);
        if ago <= idle { Self::Present { silent } } else { Self::Idle { silent } }
    }

    /// Whether the client's packets go to the draining router.
    fn stays(self) -> bool {
        matches!(self, Self::Learning | Self::Present { .. })
    }

    /// One word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Present { .. } => "present",
            Self::Idle { .. } => "idle",
            Self::New => "new",
            Self::Unknown => "unknown",
        }
    }
}

/// The stage that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    SourceGuard,
    LocalService,
    Demux,
    /// The set, and one less than its number of buckets.
    Bucket(dmux_tables::SetId, u16),
    /// What the switch knows of the client has to be asked first.
    Leaving(Leaving),
    Router(RouterIndex),
    Route(RouterIndex, SocketAddrV4),
    Nexthop(RouterIndex, SocketAddrV4, NexthopIndex),
}

/// A walk under way, or at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    question: Question,
    hops: Vec<Hop>,
    leaving: Option<Leaving>,
    /// The next stage, or what became of the packet.
    at: Result<Stage, Outcome>,
}

impl Walk {
    /// The packet has come in.
    pub fn new(question: Question) -> Self {
        let first = if question.guarded { Stage::SourceGuard } else { Stage::LocalService };
        Self { question, hops: Vec::new(), leaving: None, at: Ok(first) }
    }

    /// The whole walk through a source of entries, given what is known of the client at a draining router.
    pub fn through(question: Question, presence: Presence, entry: impl Fn(&Key) -> Option<Entry>) -> Self {
        let mut walk = Self::new(question);
        loop {
            if walk.asks().is_some() {
                walk.told(presence);
            }
            let Some(lookup) = walk.next() else { return walk };
            let hit = lookup.best(&entry);
            walk.found(lookup, hit);
        }
    }

    /// At which draining router it has to be known whether the client is there; nothing is to be looked up until then.
    pub fn asks(&self) -> Option<Leaving> {
        match self.at {
            Ok(Stage::Leaving(leaving)) => Some(leaving),
            _ => None,
        }
    }

    /// The answer to [`Walk::asks`].
    pub fn told(&mut self, presence: Presence) {
        if let Ok(Stage::Leaving(leaving)) = self.at {
            self.leave(Leaving { presence, ..leaving });
        }
    }

    fn leave(&mut self, leaving: Leaving) {
        self.leaving = Some(leaving);
        self.at = Ok(Stage::Router(if leaving.presence.stays() { leaving.router } else { leaving.heir }));
    }

    /// The draining router that leaves the client's bucket, if one does.
    pub fn leaving(&self) -> Option<Leaving> {
        self.leaving
    }

    /// What has to be looked up now; `None` at the end, and while it [asks](Self::asks).
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
            Stage::Leaving(_) => return None,
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
        if let Some(leaving) = self.asks().filter(|leaving| leaving.presence == Presence::Learning) {
            self.leave(leaving);
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
            (Stage::Bucket(..), Some(Entry::Bucket(_, BucketAction::ToRouter { router }))) => {
                Ok(Stage::Router(RouterIndex(router.0)))
            }
            (
                Stage::Bucket(..),
                Some(Entry::Bucket(_, BucketAction::ToDraining { leaving, router, idle, learning })),
            ) => {
                let leaving = RouterIndex(leaving.0);
                Ok(Stage::Leaving(Leaving {
                    router: leaving,
                    heir: RouterIndex(router.0),
                    idle,
                    cell: client_cell(self.question.client, leaving),
                    presence: if learning != 0 { Presence::Learning } else { Presence::Unknown },
                }))
            }
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
            // Nothing is looked up there.
            (stage @ Stage::Leaving(_), _) => Ok(stage),
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
            Some(Entry::Bucket(_, BucketAction::ToRouter { router })) => Some(RouterIndex(router.0)),
            Some(Entry::Bucket(_, BucketAction::ToDraining { .. })) => {
                let leaving = self.leaving?;
                Some(if leaving.presence.stays() { leaving.router } else { leaving.heir })
            }
            Some(Entry::Demux(_, DemuxAction::ToRouter { router })) => Some(RouterIndex(router.0)),
            _ => None,
        })
    }
}
