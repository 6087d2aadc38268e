//! Access links: what may be promised on each in total and to one endpoint ("Network Access in a Diversified Internet",
//! §3.2). VLANs and ports are the site's configuration; here is what has to be agreed on.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dmux_wire::{GatewayId, MacAddr};
use serde::{Deserialize, Serialize};

use super::lease::Waiting;
use super::metalink::{Metalink, MetalinkId, Owner};
use super::metanet::Metanet;
use super::numbers::Numbers;
use super::shared::SharedMlis;
use super::{Change, Destination, LeaseKind, Model, Refusal, Reply};

/// Access links of a gateway at most: each takes two of the 1,024 entries of `access_vlan`.
pub const MAX_ACCESS_LINKS: usize = 512;
/// Bytes of an access link's name at most.
pub const MAX_LINK_NAME: usize = 32;
/// The highest rate, in bit/s: far beyond any link, and far below where sums would overflow.
pub const MAX_RATE: u64 = 1_000_000_000_000_000;
/// The shortest lease that an access link may give, ms.
pub const MIN_LEASE_MS: u64 = 1_000;
/// The longest, ms: 30 days.
pub const MAX_LEASE_MS: u64 = 30 * 86_400_000;
/// A short-term lease, unless the access link is put otherwise, ms.
pub const DEFAULT_SHORT_LEASE_MS: u64 = 60_000;
/// A long-term lease, unless the access link is put otherwise, ms.
pub const DEFAULT_LONG_LEASE_MS: u64 = 3_600_000;
/// The highest port of a switch (v1model has 9 bits, of which the last means "drop").
pub const MAX_PORT: u16 = 510;

/// What identifies an access link: its gateway and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkKey {
    /// Whose switch it hangs on.
    pub gateway: GatewayId,
    /// As in the site's configuration: letters, digits, `-`, `_` and `.`; at most [`MAX_LINK_NAME`] bytes.
    pub name: String,
}

impl fmt::Display for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of gateway {}", self.name, self.gateway)
    }
}

/// What becomes of an endpoint's frames that are out of its metalink's profile. They are counted and reported either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OutOfProfile {
    /// They are dropped.
    #[default]
    Drop,
    /// They are forwarded all the same (the paper's gateways monitor and report, §3.2).
    ReportOnly,
}

impl OutOfProfile {
    /// All of them, with the names that operators use.
    pub const NAMES: [(Self, &str); 2] = [(Self::Drop, "drop"), (Self::ReportOnly, "report-only")];
}

impl fmt::Display for OutOfProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(policy, _)| policy == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for OutOfProfile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text).map(|(policy, _)| *policy);
        found.ok_or_else(|| format!("{text:?} is nothing that can become of frames; there are drop and report-only"))
    }
}

/// An access link as operators put it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLink {
    /// Which.
    pub key: LinkKey,
    /// Assignable capacity, bit/s: the sum of all promises never exceeds it, in either direction.
    pub capacity: u64,
    /// What all metalinks of one endpoint may have together, bit/s.
    pub endpoint_maximum: u64,
    /// How long a short-term lease lasts, ms.
    pub short_lease_ms: u64,
    /// How long a long-term lease lasts, ms.
    pub long_lease_ms: u64,
    /// Endpoints attach with certificates only.
    pub authenticate: bool,
    /// What becomes of what endpoints send beyond their promises.
    pub out_of_profile: OutOfProfile,
}

/// What is wrong with the name of an access link, as a sentence for the person who wrote it.
pub fn check_link_name(name: &str) -> Result<(), String> {
    let legible = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > MAX_LINK_NAME || !name.bytes().all(legible) {
        return Err(format!("its name has to have 1 to {MAX_LINK_NAME} letters, digits, \"-\", \"_\" or \".\""));
    }
    Ok(())
}

impl AccessLink {
    /// How long a lease of a kind lasts here, ms.
    pub fn lease_ms(&self, kind: LeaseKind) -> u64 {
        match kind {
            LeaseKind::Short => self.short_lease_ms,
            LeaseKind::Long => self.long_lease_ms,
        }
    }

    /// What is wrong with it, as a sentence for the person who wrote it.
    pub fn check(&self) -> Result<(), String> {
        check_link_name(&self.key.name)?;
        if !(1..=MAX_RATE).contains(&self.capacity) {
            return Err(format!("capacity {} bit/s is not between 1 and {MAX_RATE}", self.capacity));
        }
        if !(1..=self.capacity).contains(&self.endpoint_maximum) {
            return Err(format!(
                "an endpoint's maximum of {} bit/s is not between 1 and the capacity, {}",
                self.endpoint_maximum, self.capacity
            ));
        }
        let leases = [("short", self.short_lease_ms), ("long", self.long_lease_ms)];
        for (kind, ms) in leases {
            if !(MIN_LEASE_MS..=MAX_LEASE_MS).contains(&ms) {
                return Err(format!("a {kind}-term lease of {ms} ms is not between {MIN_LEASE_MS} and {MAX_LEASE_MS}"));
            }
        }
        if self.short_lease_ms > self.long_lease_ms {
            return Err(format!(
                "a short-term lease of {} ms is longer than a long-term one of {}",
                self.short_lease_ms, self.long_lease_ms
            ));
        }
        Ok(())
    }
}

/// Who is at the other end of metalinks: known by where its frames come in and from which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Port of the gateway's switch: 1 to [`MAX_PORT`].
    pub port: u16,
    /// Its own address.
    pub mac: MacAddr,
}

impl Endpoint {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_PORT).contains(&self.port) {
            return Err(format!("port {} is not between 1 and {MAX_PORT}", self.port));
        }
        if self.mac.is_multicast() || self.mac == MacAddr::ZERO {
            return Err(format!("{} is not the address of one station", self.mac));
        }
        Ok(())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at port {}", self.mac, self.port)
    }
}

/// What a snapshot holds of metanets, access links and metalinks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Access {
    pub(super) metanets: BTreeMap<Destination, Metanet>,
    pub(super) links: BTreeMap<LinkKey, AccessLink>,
    pub(super) metalinks: BTreeMap<MetalinkId, Metalink>,
    /// Long-term claims that wait until short-term leases end, by access link, the first come first; no list is empty.
    pub(super) waiting: BTreeMap<LinkKey, Vec<Waiting>>,
    /// Of gateways that ever had a metalink; they stay, so that a gateway that is put again gives no MLI too early.
    pub(super) numbers: BTreeMap<GatewayId, Numbers>,
    /// MLIs of metanets on the multipoint VLANs.
    pub(super) shared: SharedMlis,
}

/// What of an access link's capacity is promised, bit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkUse {
    /// By long-term leases.
    pub long: u64,
    /// By short-term leases.
    pub short: u64,
    /// Of these: by such that end with their lease, as a long-term claim needs the capacity.
    pub yielding: u64,
    /// What long-term claims wait for.
    pub waiting: u64,
    /// Metalinks on the link.
    pub metalinks: usize,
}

impl Model {
    /// The access links, by gateway and name.
    pub fn access_links(&self) -> impl ExactSizeIterator<Item = &AccessLink> {
        self.state.access.links.values()
    }

    /// One access link.
    pub fn access_link(&self, key: &LinkKey) -> Option<&AccessLink> {
        self.state.access.links.get(key)
    }

    /// What of its capacity is promised.
    pub fn link_use(&self, key: &LinkKey) -> LinkUse {
        let waiting = self.state.access.waiting.get(key).into_iter().flatten().map(|w| w.rate).sum();
        let book = self.books.link(key);
        LinkUse {
            long: book.map_or(0, |b| b.long),
            short: book.map_or(0, |b| b.short),
            yielding: book.map_or(0, |b| b.yielding),
            waiting,
            metalinks: book.map_or(0, |b| b.metalinks),
        }
    }

    /// Whether an endpoint has any metalink on an access link.
    pub fn has_metalinks(&self, link: &LinkKey, endpoint: &Endpoint) -> bool {
        // No rate is 0, so whoever has a metalink has some.
        self.books.link(link).is_some_and(|book| book.endpoints.contains_key(endpoint))
    }

    /// Access links of a gateway.
    pub(super) fn access_links_of(&self, gateway: GatewayId) -> usize {
        let first = LinkKey { gateway, name: String::new() };
        self.state.access.links.range(first..).take_while(|(key, _)| key.gateway == gateway).count()
    }

    pub(super) fn put_access_link(&mut self, link: &AccessLink) -> Result<Reply, Refusal> {
        let key = &link.key;
        if self.access_link(key) == Some(link) {
            return Ok(Reply::Done);
        }
        self.known_gateway(key.gateway)?;
        link.check().map_err(Refusal::BadAccessLink)?;
        if self.access_link(key).is_none() && self.access_links_of(key.gateway) >= MAX_ACCESS_LINKS {
            return Err(Refusal::TooManyAccessLinks(MAX_ACCESS_LINKS));
        }
        if let Some(book) = self.books.link(key) {
            let most = book.endpoints.values().copied().max().unwrap_or(0);
            if link.capacity < book.promised() || link.endpoint_maximum < most {
                return Err(Refusal::BelowPromised { promised: book.promised(), to_one_endpoint: most });
            }
        }
        let old = self.state.access.links.insert(key.clone(), link.clone());
        if old.is_some_and(|old| old.out_of_profile != link.out_of_profile) {
            self.note(Change::AccessLinks(key.gateway));
        }
        Ok(Reply::Done)
    }

    pub(super) fn remove_access_link(&mut self, key: &LinkKey) -> Result<Reply, Refusal> {
        let metalinks = self.books.link(key).map_or(0, |book| book.metalinks);
        if metalinks > 0 {
            return Err(Refusal::AccessLinkInUse { metalinks });
        }
        self.state.access.links.remove(key);
        self.state.access.waiting.remove(key);
        Ok(Reply::Done)
    }

    /// The metalink of an endpoint to a metanet.
    pub fn metalink_of(&self, owner: &Owner) -> Option<&Metalink> {
        let mli = self.books.mli_of(owner)?;
        self.state.access.metalinks.get(&MetalinkId { gateway: owner.gateway, mli })
    }
}
