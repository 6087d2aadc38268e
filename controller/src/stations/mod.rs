//! The stations of the access LANs: who is behind which port, so that the switch bridges a LAN and does not flood it.
//!
//! ```text
//!                 told by the switch (it misses `lan_source`)            idle in the switch, or evicted
//!     unknown ────────────────────────────────────────────▶ known at a port ────────────────────────▶ unknown
//!                                                             ▲         │
//!                                                             └─────────┘ told from another port: it moved
//! ```
//!
//! How long a station is silent only the switch knows, which sees every frame: its entry of `lan_source` has an idle timeout
//! ([`IDLE`]), and the switch says (and says again, §16.4) when it was not hit for that long. So a station that talks costs no
//! message and no write, and no clock of ours is needed. What is told is not to be trusted: a host can send from any
//! address, so each access link has a share of all stations and of all changes, and what it invents is at its own expense.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_tables::{AccessLinkIndex, AnyEntry, LanForwardAction, LanForwardKey, LanSourceKey, PortId, VlanId};
use dmux_wire::MacAddr;
use thiserror::Error;

use crate::plan::{AccessLink, SiteConfig};

/// Stations at most, of all access links: fewer than fit the switch's tables, for a station's new entries are there before
/// its old ones, and those of who was evicted for it, are gone.
pub const MAX_STATIONS: usize = 12_000;
/// Stations learnt or moved a second at most, of all access links; the switch tells of the others again.
pub const LEARN_PER_SECOND: u32 = 500;
/// And at once.
pub const LEARN_BURST: u32 = 1_000;
/// Silence after which a station is forgotten (IEEE 802.1Q, 8.8.3: 300 s is what bridges do by default).
pub const IDLE: Duration = Duration::from_secs(300);

/// A station. Every VLAN is a LAN of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Station {
    /// The access link.
    pub link: AccessLinkIndex,
    /// The VLAN, 0 for untagged frames.
    pub vid: VlanId,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// Why what was told of a station is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotLearnt {
    /// The port is none of the link's: told before the site was cabled anew.
    #[error("its port is none of the access link's")]
    Port,
    /// Nobody may pretend to be the gateway.
    #[error("its address is the gateway's own")]
    Own,
    /// A group's address, or none.
    #[error("its address is not the address of one station")]
    Group,
    /// The provisioned VLAN leads to the gateway only.
    #[error("nothing is bridged on the provisioned VLAN")]
    Provisioned,
    /// See [`LEARN_PER_SECOND`].
    #[error("more stations are new at this access link than are taken a second")]
    Rate,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    port: PortId,
    /// When it was last told of, and its place among all that was told.
    heard: (Duration, u64),
}

#[derive(Debug)]
struct Link {
    ports: BTreeSet<PortId>,
    provisioned: Option<VlanId>,
    /// Its stations by when they were last told of.
    by_age: BTreeSet<((Duration, u64), Station)>,
    /// Changes that may be made now, in millionths, and as of when.
    tokens: u64,
    counted: Duration,
}

/// Millionths.
const TOKEN: u64 = 1_000_000;

/// The state machine.
#[derive(Debug)]
pub struct Stations {
    links: BTreeMap<AccessLinkIndex, Link>,
    own: BTreeSet<MacAddr>,
    known: BTreeMap<Station, Known>,
    /// Since [`Stations::take_changes`].
    changes: BTreeMap<Station, Option<PortId>>,
    /// Counts what was told.
    turn: u64,
}

impl Stations {
    /// Of a site, before anything was told.
    pub fn new(site: &SiteConfig) -> Self {
        let link = |link: &AccessLink| Link {
            ports: link.port_ids().collect(),
            provisioned: link.provisioned(),
            by_age: BTreeSet::new(),
            tokens: u64::MAX,
            counted: Duration::ZERO,
        };
        Self {
            links: site.links().map(|(index, described)| (index, link(described))).collect(),
            own: site.ports.iter().map(|port| port.mac).collect(),
            known: BTreeMap::new(),
            changes: BTreeMap::new(),
            turn: 0,
        }
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Stations that one access link may have.
    fn share(&self) -> usize {
        (MAX_STATIONS / self.links.len().max(1)).max(1)
    }

    /// The switch has seen a frame of a station that it does not know at that port.
    pub fn heard(&mut self, now: Duration, station: Station, port: PortId) -> Result<(), NotLearnt> {
        self.place(now, station, port, true)
    }

    fn place(&mut self, now: Duration, station: Station, port: PortId, limited: bool) -> Result<(), NotLearnt> {
        let (share, links) = (self.share(), self.links.len());
        let link =
            self.links.get_mut(&station.link).filter(|link| link.ports.contains(&port)).ok_or(NotLearnt::Port)?;
        if self.own.contains(&station.mac) {
            return Err(NotLearnt::Own);
        }
        if station.mac.is_multicast() || station.mac == MacAddr::ZERO {
            return Err(NotLearnt::Group);
        }
        if link.provisioned == Some(station.vid) {
            return Err(NotLearnt::Provisioned);
        }
        let before = self.known.get(&station).copied();
        let is_news = before.is_none_or(|known| known.port != port);
        if is_news && limited && !link.take_token(now, links) {
            return Err(NotLearnt::Rate);
        }
        if let Some(known) = before {
            link.by_age.remove(&(known.heard, station));
        } else if link.by_age.len() >= share
            && let Some((_, oldest)) = link.by_age.pop_first()
        {
            self.known.remove(&oldest);
            self.changes.insert(oldest, None);
        }
        self.turn += 1;
        let heard = (now, self.turn);
        link.by_age.insert((heard, station));
        self.known.insert(station, Known { port, heard });
        if is_news {
            self.changes.insert(station, Some(port));
        }
        Ok(())
    }

    /// The switch has seen no frame of a station at that port for [`IDLE`]. One that has moved meanwhile stays.
    pub fn idle(&mut self, port: PortId, vid: VlanId, mac: MacAddr) {
        let Some((&index, link)) = self.links.iter_mut().find(|(_, link)| link.ports.contains(&port)) else { return };
        let station = Station { link: index, vid, mac };
        if let Some(known) = self.known.get(&station).copied().filter(|known| known.port == port) {
            link.by_age.remove(&(known.heard, station));
            self.known.remove(&station);
            self.changes.insert(station, None);
        }
    }

    /// Takes over what a switch was found to hold, all at once, so that a controller that starts floods no LAN anew.
    pub fn adopt<'a>(&mut self, now: Duration, held: impl Iterator<Item = &'a AnyEntry> + Clone) {
        let sources: BTreeSet<LanSourceKey> = held
            .clone()
            .filter_map(|entry| if let AnyEntry::LanSource(key, _) = entry { Some(*key) } else { None })
            .collect();
        for entry in held {
            let AnyEntry::LanForward(LanForwardKey { link, vid, dst }, LanForwardAction::ToPort { port }) = *entry
            else {
                continue;
            };
            let station = Station { link, vid, mac: dst };
            // What was told is news, what is held is not.
            if sources.contains(&LanSourceKey { port, vid, src: dst }) && !self.known.contains_key(&station) {
                // What is not taken goes from the switch with the next write.
                let _ = self.place(now, station, port, false);
            }
        }
    }

    /// What changed since this was last asked: the port of each station that is new or moved, `None` for those forgotten.
    pub fn take_changes(&mut self) -> BTreeMap<Station, Option<PortId>> {
        std::mem::take(&mut self.changes)
    }
}

impl Link {
    /// Whether one more change may be made; each of `links` has an equal share of the rate.
    fn take_token(&mut self, now: Duration, links: usize) -> bool {
        let links = links.max(1) as u64;
        let burst = (u64::from(LEARN_BURST) * TOKEN / links).max(TOKEN);
        let since = now.saturating_sub(self.counted).as_micros();
        let gained = u64::try_from(since).unwrap_or(u64::MAX).saturating_mul(LEARN_PER_SECOND.into()) / links;
        self.counted = self.counted.max(now);
        self.tokens = self.tokens.saturating_add(gained).min(burst);
        let enough = self.tokens >= TOKEN;
        if enough {
            self.tokens -= TOKEN;
        }
        enough
    }
}

#[cfg(test)]
mod tests;
