//! The plan, kept up by change: what a change touches is computed, and nothing else.
//!
//! | change | touches |
//! | --- | --- |
//! | a registration | its `router` and `return_source`; `demux` and `bucket` of the two destinations that it serves |
//! | a gateway, the configuration, a shared MLI | the entries of `gateway.rs`; with the configuration, all destinations |
//! | a round trip, a coordinate, a gateway's reachability | those destinations whose choice changes |
//! | a router's death, revival or draining | the two destinations that it serves |
//! | a station of an access LAN | its two entries |
//! | a metalink, an endpoint that attaches | the entries of `metalinks.rs` for it |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dmux_tables::PortId;
use dmux_wire::PuntReason;

use super::endpoints::Numbering;
use super::held;
use super::metalinks::Metalinks;
use super::served::Served;
use super::work::differing;
use super::{DEFAULT_PUNT_RATES, Delta, Entry, Key, MeterRate, Plan, SiteConfig, entries, fixtures, gateway};
use crate::model::{Change, Destination, Mli, Model, Registered, RegistrationKey, RouterIndex};
use crate::selection::{Distances, Local, Selection};
use crate::stations::Station;

/// A registration as the plan has it.
#[derive(Debug, Clone, Copy)]
struct Planned {
    router: RouterIndex,
    serves: [Destination; 2],
}

/// A plan and what is needed to change it at the cost of the change.
#[derive(Debug)]
pub struct Planner {
    site: SiteConfig,
    pub(super) local: Local,
    pub(super) distances: Distances,
    pub(super) selection: Selection,
    section: BTreeMap<Key, Entry>,
    planned: BTreeMap<RegistrationKey, Planned>,
    pub(super) served: BTreeMap<Destination, Served>,
    pub(super) plan: Plan,
    pub(super) metalinks: Metalinks,
    pub(super) delta: Delta,
    /// What is put and removed goes into `delta`.
    tells: bool,
}

impl Planner {
    /// Plans in full. `previous` carries the hysteresis of an earlier planner, if there was one.
    pub fn new(site: SiteConfig, model: &Model, local: Local, previous: &Selection) -> Self {
        Self::resume(site, model, local, previous, Numbering::default())
    }

    /// Plans in full, and goes on with the numbers that endpoints have.
    pub(super) fn resume(
        site: SiteConfig,
        model: &Model,
        local: Local,
        previous: &Selection,
        numbering: Numbering,
    ) -> Self {
        let rate = |(reason, default): (PuntReason, _)| {
            let rate = match reason {
                // Every port has its share, whatever comes at the others.
                PuntReason::Discovery => site.discovery_rate().times(site.access_port_count().max(1)),
                _ => site.punt_rate(reason, default),
            };
            (reason, rate)
        };
        let punt_rates = DEFAULT_PUNT_RATES.into_iter().map(rate).collect();
        let mut planner = Self {
            distances: Distances::new(model, &local),
            selection: previous.clone(),
            section: BTreeMap::new(),
            planned: BTreeMap::new(),
            served: BTreeMap::new(),
            plan: Plan { punt_rates, fixtures: fixtures::of(&site), applied: model.applied(), ..Plan::default() },
            metalinks: Metalinks::new(&site, numbering),
            delta: Delta::default(),
            tells: false,
            site,
            local,
        };
        planner.plan_section(model);
        for (station, port) in planner.local.stations.clone().iter() {
            planner.plan_station(station, None, Some(*port));
        }
        planner.plan_metalinks(model);
        for registered in model.registrations() {
            planner.plan_router(registered);
        }
        let gone: Vec<_> = planner.selection.iter().map(|(d, _)| d).filter(|&d| model.set(d).is_none()).collect();
        for destination in gone {
            planner.selection.set(destination, None);
        }
        for (destination, _) in model.destinations() {
            planner.plan_destination(model, destination, &BTreeSet::new());
        }
        planner.tells = true;
        planner
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Another one that planned in full from the same observations, choices and numbers: the same, if this one is right.
    pub fn afresh(&self, model: &Model) -> Self {
        let numbering = self.metalinks.numbering().clone();
        Self::resume(self.site.clone(), model, self.local.clone(), &self.selection, numbering)
    }

    /// What is chosen for each destination.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// What this controller has seen itself, as last told.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// The plan and the selection that it rests on.
    pub fn into_parts(self) -> (Plan, Selection) {
        (self.plan, self.selection)
    }

    /// Follows the replicated state. Returns what it touched.
    pub fn update(&mut self, model: &Model) -> Delta {
        self.advance(model, None)
    }

    /// Follows the replicated state and takes note of new local observations. Returns what they touched.
    pub fn observe(&mut self, model: &Model, local: Local) -> Delta {
        self.advance(model, Some(local))
    }

    /// Takes note of where stations are now, `None` for those that are gone, at the cost of the change. Returns what it
    /// touched.
    pub fn learn(&mut self, stations: impl IntoIterator<Item = (Station, Option<PortId>)>) -> Delta {
        for (station, port) in stations {
            // Nobody else holds the map between two observations, so this copies nothing.
            let known = Arc::make_mut(&mut self.local.stations);
            let before = match port {
                Some(port) => known.insert(station, port),
                None => known.remove(&station),
            };
            self.plan_station(&station, before, port);
        }
        std::mem::take(&mut self.delta)
    }

    fn plan_station(&mut self, station: &Station, before: Option<PortId>, now: Option<PortId>) {
        if let Some(before) = before.filter(|_| before != now) {
            for entry in entries::station(station, before) {
                self.remove(&entry.key());
            }
        }
        if let Some(now) = now {
            for entry in entries::station(station, now) {
                self.put(entry);
            }
        }
    }

    fn advance(&mut self, model: &Model, local: Option<Local>) -> Delta {
        let changes = model.changes_since(self.plan.applied);
        let moved = local.as_ref().is_some_and(|local| local.gateway != self.local.gateway);
        let Some(changes) = changes.filter(|_| !moved) else {
            return self.start_over(model, local.unwrap_or_else(|| self.local.clone()));
        };
        self.plan.applied = model.applied();
        let mut work = Work::of(changes, self.local.gateway);
        if let Some(local) = local {
            work.distances |= local.rtts != self.local.rtts
                || local.unreachable != self.local.unreachable
                || local.by_coordinates != self.local.by_coordinates;
            work.keys.extend(changed_keys(&self.local.dead, &local.dead));
            work.keys.extend(self.local.learned.symmetric_difference(&local.learned).copied());
            work.keys.extend(self.local.dampened.symmetric_difference(&local.dampened));
            let old = std::mem::replace(&mut self.local, local);
            if !Arc::ptr_eq(&old.stations, &self.local.stations) {
                let now = self.local.stations.clone();
                for station in differing(&old.stations, &now) {
                    self.plan_station(station, old.stations.get(station).copied(), now.get(station).copied());
                }
            }
            if !Arc::ptr_eq(&old.attached, &self.local.attached) {
                let now = self.local.attached.clone();
                for endpoint in old.attached.symmetric_difference(&now) {
                    self.plan_endpoint(*endpoint);
                }
            }
        }
        self.perform(model, work);
        std::mem::take(&mut self.delta)
    }

    /// Plans anew from what a switch was found to hold, so that a controller that starts moves no client. For the first
    /// look at the switch: afterwards this planner's own memory is the better one.
    pub fn adopt<'a>(&mut self, model: &Model, held: impl Iterator<Item = &'a Entry>) -> Delta {
        let held: Vec<&Entry> = held.collect();
        self.selection = held::selection(model, held.iter().copied());
        let numbering = held::numbering(held.into_iter());
        self.start_over_with(model, self.local.clone(), numbering)
    }

    fn start_over(&mut self, model: &Model, local: Local) -> Delta {
        self.start_over_with(model, local, self.metalinks.numbering().clone())
    }

    fn start_over_with(&mut self, model: &Model, local: Local, numbering: Numbering) -> Delta {
        let new = Self::resume(self.site.clone(), model, local, &self.selection, numbering);
        let mut keys = changed_keys(&self.plan.entries, &new.plan.entries);
        keys.extend(changed_keys(&self.plan.meters, &new.plan.meters));
        *self = new;
        Delta { keys }
    }

    fn perform(&mut self, model: &Model, work: Work) {
        if work.section {
            self.plan_section(model);
        }
        for mli in work.metalinks {
            self.plan_metalink(model, mli);
        }
        if work.access_links {
            self.plan_metalinks_anew(model);
        }
        let mut destinations: BTreeMap<Destination, BTreeSet<RegistrationKey>> = BTreeMap::new();
        for key in work.keys {
            let before = self.planned.get(&key).copied();
            let registered = model.registration(&key);
            match registered {
                Some(registered) => self.plan_router(registered),
                None => self.drop_router(&key),
            }
            let now = registered.map(|registered| Destination::served_by(&registered.registration));
            for destination in before.map(|before| before.serves).into_iter().chain(now).flatten() {
                destinations.entry(destination).or_default().insert(key);
            }
        }
        let mut moved = BTreeSet::new();
        if work.distances {
            let distances = Distances::new(model, &self.local);
            moved = distances.differing(&self.distances);
            self.distances = distances;
        }
        if work.all || !moved.is_empty() {
            for (destination, _) in model.destinations() {
                if work.all || model.gateways_serving(destination).any(|gateway| moved.contains(&gateway)) {
                    destinations.entry(destination).or_default();
                }
            }
        }
        // Set ids that changed hands are given up before any is taken.
        for &destination in destinations.keys() {
            self.hide_moved(destination, model.set(destination));
        }
        for (destination, keys) in destinations {
            self.plan_destination(model, destination, &keys);
        }
    }

    fn plan_section(&mut self, model: &Model) {
        let new = gateway::section(&self.site, model, self.local.gateway);
        let old = std::mem::take(&mut self.section);
        for key in old.keys().filter(|key| !new.contains_key(key)) {
            self.remove(key);
        }
        for entry in new.values() {
            let meter = match entry {
                Entry::DiscoveryPort(..) => Some(self.site.discovery_rate().into()),
                _ => None,
            };
            self.put_metered(*entry, meter);
        }
        self.section = new;
    }

    fn plan_router(&mut self, registered: &Registered) {
        let key = registered.registration.key;
        let planned = Planned { router: registered.router, serves: Destination::served_by(&registered.registration) };
        if let Some(old) = self.planned.insert(key, planned).filter(|old| old.router != registered.router) {
            self.give_up(old.router, &key);
        }
        self.put(entries::router(registered.router, key.router));
        self.put(entries::return_source(&key));
    }

    fn drop_router(&mut self, key: &RegistrationKey) {
        if let Some(old) = self.planned.remove(key) {
            self.give_up(old.router, key);
            self.remove(&entries::return_source_key(key));
        }
    }

    /// A router's index is free, unless another registration has it by now.
    fn give_up(&mut self, router: RouterIndex, key: &RegistrationKey) {
        let own = entries::router(router, key.router);
        let index = entries::router_key(router);
        if self.plan.entries.get(&index) == Some(&own) {
            self.remove(&index);
        }
    }

    pub(super) fn put(&mut self, entry: Entry) {
        self.put_metered(entry, None);
    }

    pub(super) fn put_metered(&mut self, entry: Entry, meter: Option<MeterRate>) {
        let key = entry.key();
        let same_meter = match meter {
            Some(rate) => self.plan.meters.insert(key, rate) == Some(rate),
            None => self.plan.meters.remove(&key).is_none(),
        };
        let same = self.plan.entries.insert(key, entry) == Some(entry) && same_meter;
        if !same && self.tells {
            self.delta.keys.insert(key);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.plan.meters.remove(key);
        if self.plan.entries.remove(key).is_some() && self.tells {
            self.delta.keys.insert(*key);
        }
    }
}

/// What the changes of a stretch of the log make necessary.
#[derive(Debug, Default)]
struct Work {
    section: bool,
    distances: bool,
    /// Every destination has to be looked at.
    all: bool,
    keys: BTreeSet<RegistrationKey>,
    metalinks: BTreeSet<Mli>,
    /// Every metalink has to be looked at.
    access_links: bool,
}

impl Work {
    fn of(changes: Vec<Change>, own: dmux_wire::GatewayId) -> Self {
        let mut work = Self::default();
        for change in changes {
            match change {
                Change::Registration(key) => {
                    work.keys.insert(key);
                }
                Change::Gateway(_) => {
                    work.section = true;
                    work.distances = true;
                }
                Change::Config => {
                    work.section = true;
                    work.all = true;
                }
                Change::Coordinate(_) => work.distances = true,
                Change::Latency(from, to) => work.distances |= from == own || to == own,
                Change::SharedMlis => work.section = true,
                Change::Metalink(id) if id.gateway == own => {
                    work.metalinks.insert(id.mli);
                }
                Change::AccessLinks(gateway) => work.access_links |= gateway == own,
                Change::Owner(_) | Change::Metalink(_) => {}
            }
        }
        work
    }
}

fn changed_keys<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
    differing(old, new).cloned().collect()
}
