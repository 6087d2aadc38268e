//! How a site is cabled: ports, next hops, routes. Written by a person, in TOML, beside the controller.
//!
//! ```toml
//! [[ports]]
//! number = 1
//! role = "wan"
//! mac = "02:00:00:00:01:01"
//!
//! [next_hops.upstream]
//! port = 1
//! mac = "02:00:00:00:ff:01"
//! mtu = 1500
//!
//! [[routes]]
//! prefix = "0.0.0.0/0"
//! next_hops = ["upstream"]          # several share flows (ECMP)
//!
//! [[access_links]]                  # optional; its ports have role = "access"
//! name = "floor-1"
//! ports = [3, 4]
//! provisioned_vid = 100
//! multipoint_vid = 200
//! pcp = 5
//! queue = 7
//! mtu = 1496                        # optional: the largest metaframe
//!
//! [punt_rates]                      # optional; what is not named keeps its default
//! arp = { per_second = 500, burst = 100 }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::{MacAddr, PuntReason};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::access::AccessLink;
use super::rates::PuntRate;
use crate::model::Ipv4Prefix;

/// Static routes at most: the size of the `ipv4_route` table, less room for the gateway's own.
pub const MAX_ROUTES: usize = 16_000;
/// Cells of the `nexthop` table that next hops and groups may take.
pub(super) const MAX_NEXT_HOP_CELLS: usize = 4_000;
/// Next hops that one route may share flows over.
pub(super) const MAX_GROUP: usize = 64;
/// The highest usable port: 511 means "drop" to a v1model switch.
pub(super) const MAX_PORT: u16 = 510;
/// IPv4 needs 68 (RFC 791); a smaller MTU cannot carry even an error message about it.
const MIN_MTU: u16 = 68;

/// Where a port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortRole {
    /// To the Internet: clients, routers and other gateways.
    Wan,
    /// To an access LAN, as a port of one access link.
    Access,
}

/// A port of the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number, as P4Runtime names it.
    pub number: u16,
    /// Where it leads.
    pub role: PortRole,
    /// The switch's own Ethernet address there: frames to any other are dropped.
    pub mac: MacAddr,
}

/// A neighbour that packets are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextHop {
    /// The port that it is behind.
    pub port: u16,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The largest IPv4 packet, in bytes, that the link takes.
    pub mtu: u16,
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destinations.
    pub prefix: Ipv4Prefix,
    /// Names of next hops; several share flows.
    pub next_hops: Vec<String>,
}

fn default_cpu_port() -> u16 {
    MAX_PORT
}

/// A site, checked: construct it with [`SiteConfig::parse`], or call [`SiteConfig::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// The controller's port; the switch's `--cpu-port`.
    #[serde(default = "default_cpu_port")]
    pub cpu_port: u16,
    /// The ports.
    pub ports: Vec<Port>,
    /// The neighbours, by name.
    #[serde(default)]
    pub next_hops: BTreeMap<String, NextHop>,
    /// The routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The access LANs.
    #[serde(default)]
    pub access_links: Vec<AccessLink>,
    /// Punt rates that differ from [`DEFAULT_PUNT_RATES`](super::DEFAULT_PUNT_RATES).
    #[serde(default)]
    pub punt_rates: BTreeMap<PuntReason, PuntRate>,
}

/// What is wrong with a site's description, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SiteError {
    /// Not TOML, or not of the expected shape.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A value that cannot be.
    #[error("{key}: {why}")]
    Value {
        /// Path of the key, such as `routes[2].next_hops`.
        key: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}

impl SiteConfig {
    /// Reads and checks a description.
    pub fn parse(text: &str) -> Result<Self, SiteError> {
        let site: Self = toml::from_str(text).map_err(|error| SiteError::Syntax {
            line: error.span().map_or(1, |span| {
                1 + text.as_bytes()[..span.start.min(text.len())].iter().filter(|&&b| b == b'\n').count()
            }),
            message: error.message().to_owned(),
        })?;
        site.check()?;
        Ok(site)
    }

    /// Finds the first thing that is wrong.
    pub fn check(&self) -> Result<(), SiteError> {
        if self.cpu_port == 0 || self.cpu_port > MAX_PORT {
            return Err(value("cpu_port", format!("{} is not a port; use 1 to {MAX_PORT}", self.cpu_port)));
        }
        self.check_ports()?;
        super::access::check(self)?;
        self.check_next_hops()?;
        self.check_routes()?;
        for (reason, rate) in &self.punt_rates {
            if rate.per_second == 0 || rate.burst == 0 {
                return Err(value(
                    format!("punt_rates.{reason}"),
                    "a rate or burst of 0 would silence the reason; use at least 1".into(),
                ));
            }
        }
        let cells = super::next_hops::NextHopCells::new(self).len();
        if cells > MAX_NEXT_HOP_CELLS {
            return Err(value(
                "routes",
                format!(
                    "next hops and ECMP groups need {cells} cells of the nexthop table; {MAX_NEXT_HOP_CELLS} fit. Use fewer different groups"
                ),
            ));
        }
        Ok(())
    }

    /// The rate of substrate discovery at each access port.
    pub fn discovery_rate(&self) -> PuntRate {
        self.punt_rates.get(&PuntReason::Discovery).copied().unwrap_or(super::rates::DISCOVERY_RATE)
    }

    /// How many ports lead to access LANs.
    pub fn access_port_count(&self) -> usize {
        self.access_links.iter().map(|link| link.ports.len()).sum()
    }

    /// The rate of each punt reason.
    pub fn punt_rate(&self, reason: PuntReason, default: PuntRate) -> PuntRate {
        self.punt_rates.get(&reason).copied().unwrap_or(default)
    }

    fn check_ports(&self) -> Result<(), SiteError> {
        if self.ports.is_empty() {
            return Err(value("ports", "there is none; give at least one with role \"wan\"".into()));
        }
        let mut seen = BTreeSet::new();
        for (at, port) in self.ports.iter().enumerate() {
            let key = format!("ports[{at}]");
            if port.number == 0 || port.number > MAX_PORT {
                return Err(value(key + ".number", format!("{} is not a port; use 1 to {MAX_PORT}", port.number)));
            }
            if port.number == self.cpu_port {
                return Err(value(key + ".number", format!("{} is the CPU port", port.number)));
            }
            if !seen.insert(port.number) {
                return Err(value(key + ".number", format!("port {} is described twice", port.number)));
            }
            check_mac(key + ".mac", port.mac)?;
        }
        Ok(())
    }

    fn check_next_hops(&self) -> Result<(), SiteError> {
        for (name, hop) in &self.next_hops {
            let key = format!("next_hops.{name}");
            if !self.ports.iter().any(|port| port.number == hop.port) {
                return Err(value(key + ".port", format!("there is no port {}; add it to ports", hop.port)));
            }
            if hop.mtu < MIN_MTU {
                return Err(value(key + ".mtu", format!("{} is below {MIN_MTU}, the least that IPv4 allows", hop.mtu)));
            }
            check_mac(key + ".mac", hop.mac)?;
        }
        Ok(())
    }

    fn check_routes(&self) -> Result<(), SiteError> {
        if self.routes.len() > MAX_ROUTES {
            return Err(value("routes", format!("{} routes; at most {MAX_ROUTES} fit", self.routes.len())));
        }
        let mut seen = BTreeSet::new();
        for (at, route) in self.routes.iter().enumerate() {
            let key = format!("routes[{at}]");
            if !seen.insert(route.prefix) {
                return Err(value(
                    key + ".prefix",
                    format!("{} is routed twice; list all its next hops in one route", route.prefix),
                ));
            }
            if route.next_hops.is_empty() || route.next_hops.len() > MAX_GROUP {
                return Err(value(
                    key + ".next_hops",
                    format!("{} next hops; give 1 to {MAX_GROUP}", route.next_hops.len()),
                ));
            }
            let mut members = BTreeSet::new();
            for name in &route.next_hops {
                if !self.next_hops.contains_key(name) {
                    let known: Vec<_> = self.next_hops.keys().take(8).map(String::as_str).collect();
                    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                    return Err(value(
                        key + ".next_hops",
                        format!("no next hop is called `{name}` (known: {known}); add [next_hops.{name}]"),
                    ));
                }
                if !members.insert(name) {
                    return Err(value(key + ".next_hops", format!("`{name}` is listed twice")));
                }
            }
        }
        Ok(())
    }
}

fn check_mac(key: String, mac: MacAddr) -> Result<(), SiteError> {
    if mac.is_multicast() || mac == MacAddr::ZERO {
        return Err(value(key, format!("{mac} is not the address of one station")));
    }
    Ok(())
}

pub(super) fn value(key: impl Into<String>, why: String) -> SiteError {
    SiteError::Value { key: key.into(), why }
}
