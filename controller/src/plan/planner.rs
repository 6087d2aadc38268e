//! The plan, kept up by change: what a change touches is computed, and nothing else.
//!
//! | change | touches |
//! | --- | --- |
//! | a registration | its `router` and `return_source`; `demux` and `bucket` of the two destinations that it serves |
//! | a gateway, the configuration | the entries of `gateway.rs` |
//! | a round trip, a gateway's reachability | those destinations whose choice changes |
//! | a router's death or revival | the two destinations that it serves |

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::PuntReason;

use super::{DEFAULT_PUNT_RATES, Delta, Entry, Key, Plan, SiteConfig, entries, gateway};
use crate::model::{Change, Destination, Model, Registered, RegistrationKey, RouterIndex, SetId};
use crate::selection::{BUCKETS_PER_SET, BucketSet, Choice, Distances, Local, Member, Selection, choose};

/// What a destination's entries are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    /// One router: `demux` points to it.
    One(RouterIndex),
    /// Several: `demux` points to the set, whose buckets point to them.
    Set(SetId, Box<[Option<RouterIndex>; BUCKETS_PER_SET]>),
}

/// A destination that has live routers.
#[derive(Debug)]
struct Served {
    choice: Choice,
    buckets: BucketSet,
    shown: Option<Shown>,
}

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
    local: Local,
    distances: Distances,
    selection: Selection,
    section: BTreeMap<Key, Entry>,
    planned: BTreeMap<RegistrationKey, Planned>,
    served: BTreeMap<Destination, Served>,
    plan: Plan,
    delta: Delta,
}

impl Planner {
    /// Plans in full. `previous` carries the hysteresis of an earlier planner, if there was one.
    pub fn new(site: SiteConfig, model: &Model, local: Local, previous: &Selection) -> Self {
        let rate = |(reason, default): (PuntReason, _)| (reason, site.punt_rate(reason, default));
        let punt_rates = DEFAULT_PUNT_RATES.into_iter().map(rate).collect();
        let mut planner = Self {
            distances: Distances::new(model, &local),
            selection: previous.clone(),
            section: BTreeMap::new(),
            planned: BTreeMap::new(),
            served: BTreeMap::new(),
            plan: Plan { entries: BTreeMap::new(), punt_rates, applied: model.applied() },
            delta: Delta::default(),
            site,
            local,
        };
        planner.plan_section(model);
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
        planner.delta = Delta::default();
        planner
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
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

    fn advance(&mut self, model: &Model, local: Option<Local>) -> Delta {
        let changes = model.changes_since(self.plan.applied);
        let moved = local.as_ref().is_some_and(|local| local.gateway != self.local.gateway);
        let Some(changes) = changes.filter(|_| !moved) else {
            return self.start_over(model, local.unwrap_or_else(|| self.local.clone()));
        };
        self.plan.applied = model.applied();
        let mut work = Work::of(changes, self.local.gateway);
        if let Some(local) = local {
            work.distances |= local.rtts != self.local.rtts || local.unreachable != self.local.unreachable;
            work.keys.extend(changed_keys(&self.local.dead, &local.dead));
            self.local = local;
        }
        self.perform(model, work);
        std::mem::take(&mut self.delta)
    }

    fn start_over(&mut self, model: &Model, local: Local) -> Delta {
        let new = Self::new(self.site.clone(), model, local, &self.selection);
        let keys = changed_keys(&self.plan.entries, &new.plan.entries);
        *self = new;
        Delta { keys }
    }

    fn perform(&mut self, model: &Model, work: Work) {
        if work.section {
            self.plan_section(model);
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
        if work.distances {
            let distances = Distances::new(model, &self.local);
            if distances != self.distances {
                self.distances = distances;
                for (destination, _) in model.destinations() {
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
            self.put(*entry);
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

    /// Chooses for a destination and brings its entries up; `keys` are the registrations that may have changed.
    fn plan_destination(&mut self, model: &Model, destination: Destination, keys: &BTreeSet<RegistrationKey>) {
        let previous = self.selection.get(destination);
        let choice = choose(model, &self.local, &self.distances, destination, previous);
        self.selection.set(destination, choice);
        let mut served = self.served.remove(&destination);
        let shown_before = served.as_mut().and_then(|served| served.shown.take());
        let mut shown_now = None;
        if let (Some(choice), Some(set)) = (choice, model.set(destination)) {
            let mut served = match served.filter(|served| served.choice.gateway == choice.gateway) {
                Some(mut served) => {
                    served.choice = choice;
                    for key in keys {
                        match self.member(model, destination, choice, key) {
                            Some(member) => served.buckets.insert(*key, member),
                            None => served.buckets.remove(key),
                        }
                    }
                    served
                }
                None => Served { choice, buckets: self.members(model, destination, choice), shown: None },
            };
            shown_now = show(set, &served.buckets);
            served.shown = shown_now.clone();
            self.served.insert(destination, served);
        }
        self.show(destination, shown_before.as_ref(), shown_now.as_ref());
    }

    fn member(&self, model: &Model, destination: Destination, choice: Choice, key: &RegistrationKey) -> Option<Member> {
        let registered = model.registration(key)?;
        let registration = &registered.registration;
        let belongs = registration.gateway == choice.gateway
            && Destination::served_by(registration).contains(&destination)
            && self.local.is_live(registration);
        belongs.then_some(Member { router: registered.router, weight: registration.weight })
    }

    fn members(&self, model: &Model, destination: Destination, choice: Choice) -> BucketSet {
        model
            .serving(destination, choice.gateway)
            .filter(|registered| self.local.is_live(&registered.registration))
            .map(|registered| {
                let registration = &registered.registration;
                (registration.key, Member { router: registered.router, weight: registration.weight })
            })
            .collect()
    }

    fn hide_moved(&mut self, destination: Destination, set: Option<SetId>) {
        let moved = self
            .served
            .get_mut(&destination)
            .and_then(|served| served.shown.take_if(|shown| matches!(shown, Shown::Set(old, _) if Some(*old) != set)));
        if moved.is_some() {
            self.show(destination, moved.as_ref(), None);
        }
    }

    fn show(&mut self, destination: Destination, before: Option<&Shown>, now: Option<&Shown>) {
        if let Some(Shown::Set(old, _)) = before
            && !matches!(now, Some(Shown::Set(new, _)) if new == old)
        {
            for bucket in 0..=u8::MAX {
                self.remove(&entries::bucket_key(*old, bucket));
            }
        }
        match now {
            None => self.remove(&entries::demux_key(destination)),
            Some(Shown::One(router)) => self.put(entries::demux_router(destination, *router)),
            Some(Shown::Set(set, routers)) => {
                let known = match before {
                    Some(Shown::Set(old, routers)) if old == set => Some(routers),
                    _ => None,
                };
                for (bucket, router) in (0..=u8::MAX).zip(routers.iter()) {
                    if known.is_some_and(|known| known[usize::from(bucket)] == *router) {
                        continue;
                    }
                    match router {
                        Some(router) => self.put(entries::bucket(*set, bucket, *router)),
                        None => self.remove(&entries::bucket_key(*set, bucket)),
                    }
                }
                self.put(entries::demux_set(destination, *set));
            }
        }
    }

    fn put(&mut self, entry: Entry) {
        let key = entry.key();
        if self.plan.entries.insert(key, entry) != Some(entry) {
            self.delta.keys.insert(key);
        }
    }

    fn remove(&mut self, key: &Key) {
        if self.plan.entries.remove(key).is_some() {
            self.delta.keys.insert(*key);
        }
    }
}

/// What the changes of a stretch of the log make necessary.
#[derive(Debug, Default)]
struct Work {
    section: bool,
    distances: bool,
    keys: BTreeSet<RegistrationKey>,
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
                Change::Config => work.section = true,
                Change::Latency(from, to) => work.distances |= from == own || to == own,
                Change::Owner(_) => {}
            }
        }
        work
    }
}

fn show(set: SetId, buckets: &BucketSet) -> Option<Shown> {
    let mut members = buckets.members().values();
    let first = members.next()?;
    if members.next().is_none() {
        return Some(Shown::One(first.router));
    }
    let routers = std::array::from_fn(|bucket| buckets.router(u8::try_from(bucket).unwrap_or(u8::MAX)));
    Some(Shown::Set(set, Box::new(routers)))
}

/// The keys that only one map has, or that have another value in each.
fn changed_keys<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
    let gone_or_other = old.iter().filter(|(key, value)| new.get(key) != Some(value)).map(|(key, _)| key);
    let come = new.keys().filter(|key| !old.contains_key(key));
    gone_or_other.chain(come).cloned().collect()
}
