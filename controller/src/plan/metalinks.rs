//! The metalinks of the own gateway in its switch, by change: what comes, goes or carries otherwise costs its own entries and
//! nothing else.
//!
//! | of | entries |
//! | --- | --- |
//! | each endpoint that is attached or has a metalink | `endpoint`; `metalink_rx` of its control MLI, with a small meter |
//! | each metalink | `metalink_rx` and `metalink_tx`, each with a meter of its rate |
//!
//! A metalink that the site has no place for is not planned: its claim is to be given back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dmux_tables::{PortId, Priority8, VlanId};
use dmux_wire::MacAddr;
use thiserror::Error;

use super::endpoints::{MAX_ENDPOINTS, Numbering, control_cell};
use super::rates::{CONTROL_RATE, MeterRate};
use super::{Delta, Entry, Key, Planner, SiteConfig, entries};
use crate::model::{Endpoint, LinkKey, Metalink, MetalinkId, Mli, Model, OutOfProfile};

/// Why a metalink cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// The site has no access link of this name.
    #[error("the gateway's site configuration has no access link {0:?}")]
    NoSuchLink(String),
    /// The endpoint's port leads elsewhere.
    #[error("port {port} is not one of access link {link:?} in the gateway's site configuration")]
    NotItsPort {
        /// The port.
        port: u16,
        /// The access link.
        link: String,
    },
    /// The switch has no room for another endpoint.
    #[error("the switch has room for {MAX_ENDPOINTS} endpoints, which are all in use")]
    TooManyEndpoints,
}

/// Where endpoints behind a port are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    link: String,
    pub(super) port: PortId,
    /// The switch's own address there.
    pub(super) mac: MacAddr,
    pub(super) vid: VlanId,
    pub(super) pcp: Priority8,
    pub(super) queue: Priority8,
    pub(super) mtu: u16,
}

/// What is planned of metalinks, and for whom.
#[derive(Debug, Default)]
pub(super) struct Metalinks {
    /// By port of the switch.
    places: BTreeMap<u16, Place>,
    links: BTreeSet<String>,
    numbering: Numbering,
    planned: BTreeMap<Mli, Planned>,
    /// The metalinks of each endpoint that is in the switch, or attached.
    endpoints: BTreeMap<Endpoint, BTreeSet<Mli>>,
    unfit: BTreeMap<Mli, Unfit>,
}

#[derive(Debug)]
struct Planned {
    endpoint: Endpoint,
    keys: [Key; 2],
}

impl Metalinks {
    pub(super) fn new(site: &SiteConfig, numbering: Numbering) -> Self {
        let mac = |number| site.ports.iter().find(|port| port.number == number).map(|port| port.mac);
        // `SiteConfig::check` refuses what none of these can be made of.
        let place = |link: &super::AccessLink, port: PortId| {
            Some(Place {
                link: link.name.clone(),
                port,
                mac: mac(port.get())?,
                vid: link.provisioned()?,
                pcp: Priority8::new(link.pcp)?,
                queue: Priority8::new(link.queue)?,
                mtu: link.mtu,
            })
        };
        let places =
            site.access_links.iter().flat_map(|link| link.port_ids().filter_map(move |port| place(link, port)));
        Self {
            places: places.map(|place| (place.port.get(), place)).collect(),
            links: site.access_links.iter().map(|link| link.name.clone()).collect(),
            numbering,
            ..Self::default()
        }
    }

    /// The numbers, for a planner that starts over.
    pub(super) fn numbering(&self) -> &Numbering {
        &self.numbering
    }

    fn place(&self, metalink: &Metalink) -> Result<&Place, Unfit> {
        let (link, port) = (&metalink.link.name, metalink.endpoint.port);
        if !self.links.contains(link) {
            return Err(Unfit::NoSuchLink(link.clone()));
        }
        let there = self.places.get(&port).filter(|place| place.link == *link);
        there.ok_or_else(|| Unfit::NotItsPort { port, link: link.clone() })
    }
}

impl Planner {
    /// The keys of the entries that a metalink of the own gateway consists of; none if it is not planned.
    pub fn metalink_keys(&self, mli: Mli) -> Vec<Key> {
        let Some(planned) = self.metalinks.planned.get(&mli) else { return Vec::new() };
        let place = self.metalinks.places.get(&planned.endpoint.port);
        let endpoint = place.map(|place| entries::endpoint_key(place.port, planned.endpoint.mac));
        endpoint.into_iter().chain(planned.keys).collect()
    }

    /// The keys of the entries by which the switch takes an endpoint's frames on the control MLI; none if it has no room for them.
    pub fn endpoint_keys(&self, endpoint: &Endpoint) -> Vec<Key> {
        let place = self.metalinks.places.get(&endpoint.port);
        let number =
            self.metalinks.numbering.number(endpoint).filter(|_| self.metalinks.endpoints.contains_key(endpoint));
        let keys = place.zip(number).map(|(place, number)| {
            let control = entries::metalink_control(number, control_cell(number));
            [entries::endpoint_key(place.port, endpoint.mac), control.key()]
        });
        keys.into_iter().flatten().collect()
    }

    /// The metalinks for which this entry is needed.
    pub fn metalinks_of(&self, key: &Key) -> Vec<Mli> {
        let endpoint = match key {
            Key::MetalinkRx(key) => return self.planned_mli(key.mli.get()),
            Key::MetalinkTx(key) => return self.planned_mli(key.mli.get()),
            Key::Endpoint(key) => Endpoint { port: key.port.get(), mac: key.src },
            _ => return Vec::new(),
        };
        self.metalinks.endpoints.get(&endpoint).into_iter().flatten().copied().collect()
    }

    fn planned_mli(&self, mli: u32) -> Vec<Mli> {
        Some(Mli(mli)).filter(|mli| self.metalinks.planned.contains_key(mli)).into_iter().collect()
    }

    /// Whose control MLI the switch counts in this cell.
    pub fn endpoint_of_control_cell(&self, cell: u32) -> Option<Endpoint> {
        self.metalinks.numbering.endpoint_of_cell(cell)
    }

    /// The metalinks that the site has no place for, and why.
    pub fn unfit(&self) -> impl Iterator<Item = (Mli, &Unfit)> {
        self.metalinks.unfit.iter().map(|(&mli, why)| (mli, why))
    }

    /// Takes note of endpoints that are attached now, or not any more, at the cost of the change. Returns what it touched.
    pub fn attach(&mut self, changes: impl IntoIterator<Item = (Endpoint, bool)>) -> Delta {
        for (endpoint, attached) in changes {
            // Nobody else holds the set between two observations, so this copies nothing.
            let known = Arc::make_mut(&mut self.local.attached);
            let changed = if attached { known.insert(endpoint) } else { known.remove(&endpoint) };
            if changed {
                self.plan_endpoint(endpoint);
            }
        }
        std::mem::take(&mut self.delta)
    }

    /// All of them.
    pub(super) fn plan_metalinks(&mut self, model: &Model) {
        for endpoint in self.local.attached.clone().iter() {
            self.plan_endpoint(*endpoint);
        }
        self.plan_metalinks_anew(model);
        let known = self.metalinks.endpoints.keys().copied().collect();
        self.metalinks.numbering.keep(&known);
    }

    /// After the change of a policy.
    pub(super) fn plan_metalinks_anew(&mut self, model: &Model) {
        for metalink in own(model, self.local.gateway) {
            self.plan_metalink(model, metalink.mli);
        }
    }

    pub(super) fn plan_metalink(&mut self, model: &Model, mli: Mli) {
        let before = self.metalinks.planned.remove(&mli);
        self.metalinks.unfit.remove(&mli);
        let metalink = model.metalink(MetalinkId { gateway: self.local.gateway, mli });
        let mut now = None;
        if let Some(metalink) = metalink {
            match self.fit(model, metalink) {
                Ok(entries) => {
                    let keys = entries.map(|entry| entry.key());
                    let rate = MeterRate::of_bits(metalink.rate);
                    for entry in entries {
                        self.put_metered(entry, Some(rate));
                    }
                    now = Some(Planned { endpoint: metalink.endpoint, keys });
                }
                Err(why) => {
                    self.metalinks.unfit.insert(mli, why);
                }
            }
        }
        if let Some(before) = before {
            let stays = |key: &Key| now.as_ref().is_some_and(|now| now.keys.contains(key));
            for key in before.keys.iter().filter(|key| !stays(key)) {
                self.remove(key);
            }
            if now.as_ref().is_none_or(|now| now.endpoint != before.endpoint) {
                if let Some(mlis) = self.metalinks.endpoints.get_mut(&before.endpoint) {
                    mlis.remove(&mli);
                }
                self.plan_endpoint(before.endpoint);
            }
        }
        if let Some(now) = now {
            self.metalinks.planned.insert(mli, now);
        }
    }

    fn fit(&mut self, model: &Model, metalink: &Metalink) -> Result<[Entry; 2], Unfit> {
        let place = self.metalinks.place(metalink)?.clone();
        let police = match policy(model, &metalink.link) {
            OutOfProfile::Drop => dmux_tables::OutOfProfile::Drop,
            OutOfProfile::ReportOnly => dmux_tables::OutOfProfile::ReportOnly,
        };
        let number = self.metalinks.numbering.take(metalink.endpoint).ok_or(Unfit::TooManyEndpoints)?;
        // The model gives numbers of 24 bits only.
        let entries = entries::metalink(metalink, number, &place, police).ok_or(Unfit::TooManyEndpoints)?;
        self.metalinks.endpoints.entry(metalink.endpoint).or_default().insert(metalink.mli);
        self.plan_endpoint(metalink.endpoint);
        Ok(entries)
    }

    /// Its own entries, if it is attached or has metalinks, and the switch has room for it.
    pub(super) fn plan_endpoint(&mut self, endpoint: Endpoint) {
        let Some(place) = self.metalinks.places.get(&endpoint.port).cloned() else { return };
        let metalinks = self.metalinks.endpoints.get(&endpoint);
        let wanted = self.local.attached.contains(&endpoint) || metalinks.is_some_and(|mlis| !mlis.is_empty());
        if !wanted && metalinks.is_none() {
            return;
        }
        let Some(number) = self.metalinks.numbering.take(endpoint) else { return };
        let known = entries::endpoint(place.port, endpoint.mac, number);
        let control = entries::metalink_control(number, control_cell(number));
        if wanted {
            self.metalinks.endpoints.entry(endpoint).or_default();
            self.put(known);
            self.put_metered(control, Some(CONTROL_RATE));
        } else {
            self.metalinks.endpoints.remove(&endpoint);
            self.metalinks.numbering.give(&endpoint);
            self.remove(&known.key());
            self.remove(&control.key());
        }
    }
}

fn own(model: &Model, gateway: dmux_wire::GatewayId) -> impl Iterator<Item = &Metalink> {
    let first = MetalinkId { gateway, mli: Mli(0) };
    model.metalinks_from(std::ops::Bound::Included(first)).take_while(move |m| m.link.gateway == gateway)
}

fn policy(model: &Model, link: &LinkKey) -> OutOfProfile {
    model.access_link(link).map_or(OutOfProfile::default(), |link| link.out_of_profile)
}
