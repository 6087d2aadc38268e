//! Configuration that the whole cluster shares.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use dmux_wire::{ProtocolId, ServiceIndex};
use serde::{Deserialize, Serialize};

use super::Ipv4Prefix;

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
/// Buckets of all destinations together: half the switches' `bucket` table, since each destination has a backup, too.
pub const MAX_BUCKETS: usize = 131_072;

/// How the routers of one protocol are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolConfig {
    /// Buckets that the clients of each of its destinations are spread over: a power of two from
    /// [`MIN_BUCKETS_PER_SET`] to [`MAX_BUCKETS_PER_SET`].
    #[serde(default = "default_buckets")]
    pub buckets: u16,
}

fn default_buckets() -> u16 {
    DEFAULT_BUCKETS
}

impl Default for ProtocolConfig {
    fn default() -> Self {
        Self { buckets: DEFAULT_BUCKETS }
    }
}

/// Timers that a router is told when it registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Between two keepalives of a router, ms.
    pub keepalive_ms: u32,
    /// Silence after which a registration expires, ms; at least three keepalives, so that one lost datagram, and the
    /// next, remove nobody.
    pub expire_after_ms: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self { keepalive_ms: 1_000, expire_after_ms: 3_500 }
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
        let Timers { keepalive_ms, expire_after_ms } = self.timers;
        if keepalive_ms < 100 {
            return Err(format!("timers.keepalive_ms is {keepalive_ms}; at least 100, or keepalives are a flood"));
        }
        if u64::from(expire_after_ms) < 3 * u64::from(keepalive_ms) {
            return Err(format!(
                "timers.expire_after_ms is {expire_after_ms}; at least three times keepalive_ms ({keepalive_ms})"
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
        Ok(())
    }
}
