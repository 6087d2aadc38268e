//! Configuration that the whole cluster shares.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use dmux_wire::ServiceIndex;
use serde::{Deserialize, Serialize};

use super::Ipv4Prefix;

/// Service addresses at most: each takes a few entries in every switch.
pub const MAX_SERVICES: usize = 64;

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
        }
    }
}

impl Config {
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
        Ok(())
    }
}
