//! What a switch needs besides entries and meters, and what only the cabling of its site decides: multicast groups, and
//! which digests it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use dmux_tables::{LanSourceDigest, MulticastGroup, PortId, ViolationDigest};

use super::{SiteConfig, entries};

/// How a switch is to collect the messages of a digest (P4Runtime §9.8). All of it is bounded: the list by its size, the
/// wait for more by a timeout; and what was told is not told again until it was acknowledged, or that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestRate {
    /// Messages in a list at most.
    pub list: u16,
    /// How long a message may wait for others.
    pub wait: Duration,
    /// How long the same message is held back while its list is not acknowledged.
    pub ack: Duration,
}

/// Of stations: a list is small, as whoever waits for its address to be known is flooded meanwhile.
pub const STATION_DIGESTS: DigestRate =
    DigestRate { list: 64, wait: Duration::from_millis(10), ack: Duration::from_secs(1) };

/// Of endpoints that send more than they may: the switch tells once a second a metalink at most, and nobody is in a hurry.
pub const VIOLATION_DIGESTS: DigestRate =
    DigestRate { list: 256, wait: Duration::from_millis(100), ack: Duration::from_secs(1) };

/// The digests that a controller ever asks for.
pub const DIGESTS: [u32; 2] = [LanSourceDigest::ID, ViolationDigest::ID];

/// What identifies one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FixtureKey {
    /// A multicast group.
    Group(MulticastGroup),
    /// The subscription to a digest, by its id.
    Digest(u32),
}

impl fmt::Display for FixtureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "multicast group {group}"),
            Self::Digest(id) => write!(f, "digest {id:#010x}"),
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fixture {
    /// A frame to the group is copied to these ports. A group that has other replicas than we make reads as one without
    /// ports, which none of ours is.
    Group(MulticastGroup, BTreeSet<PortId>),
    /// The digest of this id is sent. A configuration that is none of ours reads as `None`.
    Digest(u32, Option<DigestRate>),
}

impl Fixture {
    /// What identifies it.
    pub fn key(&self) -> FixtureKey {
        match self {
            Self::Group(group, _) => FixtureKey::Group(*group),
            Self::Digest(id, _) => FixtureKey::Digest(*id),
        }
    }
}

/// What a site needs: a group for each access link, and news of stations and of violations if there is any.
pub(super) fn of(site: &SiteConfig) -> BTreeMap<FixtureKey, Fixture> {
    let groups =
        site.links().map(|(index, link)| Fixture::Group(entries::flood_group(index), link.port_ids().collect()));
    let digests = [(LanSourceDigest::ID, STATION_DIGESTS), (ViolationDigest::ID, VIOLATION_DIGESTS)];
    let digests = digests.map(|(id, rate)| Fixture::Digest(id, Some(rate)));
    groups
        .chain(digests.into_iter().filter(|_| !site.access_links.is_empty()))
        .map(|fixture| (fixture.key(), fixture))
        .collect()
}
