//! Configuration that the whole cluster shares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use dmux_wire::{ProtocolId, ServiceIndex};
use serde::{Deserialize, Serialize};

use super::{Dampening, Ipv4Prefix, MAX_GATEWAYS};

/// Service addresses at most: each takes a few entries in every switch.
pub const MAX_SERVICES: usize = 64;

/// Protocols that may be configured: as many as can be served, each by two destinations at least.
pub const MAX_PROTOCOLS: usize = 256;
/// Buckets of a set, unless its protocol is configured otherwise.
pub const DEFAULT_BUCKETS: u16 = 256;
/// Buckets of a set at most: more of them spread clients more evenly, and let more routers take part.
pub const MAX_BUCKETS_PER_SET: u16 = 4_096;
/// Buckets of a set at least.
pub const MIN_BUCKETS_PER_SET: u16 = 16;
/// How much farther than the closest a gateway may be for its routers to share the clients, ms.
pub const DEFAULT_MARGIN_MS: u32 = 10;
/// Beyond this every gateway on Earth is as good as any other, ms.
pub const MAX_MARGIN_MS: u32 = 1_000;
/// Longest time of draining's timers, ms: a day.
pub const MAX_DRAIN_MS: u32 = 86_400_000;
/// Shortest silence after which a client is gone, ms: switches count in ticks of a second.
pub const MIN_IDLE_MS: u32 = 2_000;
/// Buckets of all destinations together: half the switches' `bucket` table, since each destination has a backup, too.
pub const MAX_BUCKETS: usize = 131_072;

/// How a router that drains keeps its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainTimers {
    /// How long a gateway takes everybody for one of its clients, ms: those that send in this time are.
    pub learn_ms: u32,
    /// Silence after which a client is none of its any more, ms.
    pub idle_ms: u32,
}

impl Default for DrainTimers {
    fn default() -> Self {
        Self { learn_ms: 10_000, idle_ms: 300_000 }
    }
}

/// By what the routers of a protocol are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The closest gateway's routers (IPdmux §III-B).
    #[default]
    Closest,
    /// The routers for which the way to their gateway and on from there is shortest: the paper leaves the second part
    /// out. Costs planning in proportion to a destination's routers.
    ClosestRouter,
    /// All routers at gateways that are not much farther than the closest, by weight.
    Weighted,
}

impl Policy {
    /// All of them, with the names that operators use.
    pub const NAMES: [(Self, &str); 3] =
        [(Self::Closest, "closest"), (Self::ClosestRouter, "closest-router"), (Self::Weighted, "weighted")];
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(policy, _)| policy == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text).map(|(policy, _)| *policy);
        found.ok_or_else(|| format!("{text:?} is no policy; there are closest, closest-router and weighted"))
    }
}

/// How the routers of one protocol are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolConfig {
    /// Buckets that the clients of each of its destinations are spread over: a power of two from
    /// [`MIN_BUCKETS_PER_SET`] to [`MAX_BUCKETS_PER_SET`].
    #[serde(default = "default_buckets")]
    pub buckets: u16,
    /// By what they are chosen.
    #[serde(default)]
    pub policy: Policy,
    /// By [`Policy::Weighted`], how much farther than the closest a gateway may be, ms.
    #[serde(default = "default_margin_ms")]
    pub margin_ms: u32,
}

fn default_buckets() -> u16 {
    DEFAULT_BUCKETS
}

fn default_margin_ms() -> u32 {
    DEFAULT_MARGIN_MS
}

impl Default for ProtocolConfig {
    fn default() -> Self {
        Self { buckets: DEFAULT_BUCKETS, policy: Policy::default(), margin_ms: DEFAULT_MARGIN_MS }
    }
}

/// Gateways up to which all pairs are probed, unless configured otherwise: 64 probes a second at each, and 4,032 round
/// trips in the replicated state.
pub const DEFAULT_ALL_PAIRS: u16 = 64;

/// Timers that a router is told when it registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Between two keepalives of a router, ms.
    pub keepalive_ms: u32,
    /// Silence after which a registration expires, ms, counted from the last keepalive heard; at least two and a half
    /// keepalive intervals: routers send three in the time of two and a quarter to three, so that one lost datagram, and
    /// mostly the next, remove nobody.
    pub expire_after_ms: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self { keepalive_ms: 1_000, expire_after_ms: 2_900 }
    }
}

/// The cluster's configuration. Changed as a whole, by compare-and-swap on `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// 0 is the built-in configuration; each change must carry the current version plus one.
    pub version: u64,
    /// The anycast prefix that every gateway announces.
    pub dmux_prefix: Ipv4Prefix,
    /// The service addresses, by the index that origin headers carry.
    pub services: BTreeMap<ServiceIndex, Ipv4Addr>,
    /// Where IPvN routers register.
    pub registration: Ipv4Addr,
    /// Keepalive timers.
    pub timers: Timers,
    /// The protocols that are not chosen by the defaults.
    pub protocols: BTreeMap<ProtocolId, ProtocolConfig>,
    /// Up to so many gateways, each probes all others; beyond, each probes a few and the distances are reckoned from
    /// network coordinates ([`crate::coordinates`]).
    pub all_pairs_up_to: u16,
    /// How draining routers keep their clients.
    pub draining: DrainTimers,
    /// How routers that come and go are held out.
    pub dampening: Dampening,
}

impl Default for Config {
    /// The addresses of DESIGN §11.
    fn default() -> Self {
        Self {
            version: 0,
            dmux_prefix: Ipv4Prefix::containing(Ipv4Addr::new(198, 51, 100, 0), 24),
            services: BTreeMap::from([(ServiceIndex(1), Ipv4Addr::new(198, 51, 100, 1))]),
            registration: Ipv4Addr::new(198, 51, 100, 2),
            timers: Timers::default(),
            protocols: BTreeMap::new(),
            all_pairs_up_to: DEFAULT_ALL_PAIRS,
            draining: DrainTimers::default(),
            dampening: Dampening::default(),
        }
    }
}

impl Config {
    /// How the routers of a protocol are chosen.
    pub fn protocol(&self, protocol: ProtocolId) -> ProtocolConfig {
        self.protocols.get(&protocol).cloned().unwrap_or_default()
    }

    /// Buckets of each of a protocol's destinations.
    pub fn buckets(&self, protocol: ProtocolId) -> usize {
        self.protocols.get(&protocol).map_or(DEFAULT_BUCKETS, |protocol| protocol.buckets).into()
    }

    /// What is wrong with it, as a sentence for the person who wrote it.
    pub fn check(&self) -> Result<(), String> {
        let prefix = self.dmux_prefix;
        if prefix.length() < 8 {
            return Err(format!("dmux_prefix {prefix} is wider than a /8; announce only addresses that are yours"));
        }
        if !prefix.contains(self.registration) {
            return Err(format!("registration address {} is outside dmux_prefix {prefix}", self.registration));
        }
        if self.services.is_empty() {
            return Err("services is empty; give at least one service address".into());
        }
        if self.services.len() > MAX_SERVICES {
            return Err(format!("{} service addresses; at most {MAX_SERVICES} fit", self.services.len()));
        }
        let mut seen = BTreeSet::from([self.registration]);
        for (index, &address) in &self.services {
            if !prefix.contains(address) {
                return Err(format!("service {} at {address} is outside dmux_prefix {prefix}", index.0));
            }
            if !seen.insert(address) {
                return Err(format!("service {} at {address} is a second use of that address", index.0));
            }
        }
        if usize::from(self.all_pairs_up_to) > MAX_GATEWAYS {
            return Err(format!(
                "all_pairs_up_to is {}; there are at most {MAX_GATEWAYS} gateways",
                self.all_pairs_up_to
            ));
        }
        self.dampening.check()?;
        let Timers { keepalive_ms, expire_after_ms } = self.timers;
        if keepalive_ms < 100 {
            return Err(format!("timers.keepalive_ms is {keepalive_ms}; at least 100, or keepalives are a flood"));
        }
        if 2 * u64::from(expire_after_ms) < 5 * u64::from(keepalive_ms) {
            return Err(format!(
                "timers.expire_after_ms is {expire_after_ms}; at least two and a half times keepalive_ms ({keepalive_ms})"
            ));
        }
        let DrainTimers { learn_ms, idle_ms } = self.draining;
        if learn_ms > MAX_DRAIN_MS || !(MIN_IDLE_MS..=MAX_DRAIN_MS).contains(&idle_ms) {
            return Err(format!(
                "draining.learn_ms is {learn_ms} and idle_ms {idle_ms}; at most {MAX_DRAIN_MS}, and idle_ms at least {MIN_IDLE_MS}"
            ));
        }
        if self.protocols.len() > MAX_PROTOCOLS {
            return Err(format!("{} protocols are configured; at most {MAX_PROTOCOLS} fit", self.protocols.len()));
        }
        for (protocol, config) in &self.protocols {
            config.check().map_err(|why| format!("protocols.{}.{why}", protocol.0))?;
        }
        Ok(())
    }
}

impl ProtocolConfig {
    fn check(&self) -> Result<(), String> {
        let buckets = self.buckets;
        if !buckets.is_power_of_two() || !(MIN_BUCKETS_PER_SET..=MAX_BUCKETS_PER_SET).contains(&buckets) {
            return Err(format!(
                "buckets is {buckets}; a power of two from {MIN_BUCKETS_PER_SET} to {MAX_BUCKETS_PER_SET}"
            ));
        }
        if self.margin_ms > MAX_MARGIN_MS {
            return Err(format!("margin_ms is {}; at most {MAX_MARGIN_MS}", self.margin_ms));
        }
        Ok(())
    }
}
