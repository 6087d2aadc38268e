//! Ways into the state that are derived from it: not snapshotted, rebuilt on restore.

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::GatewayId;

use super::free::Free;
use super::{Destination, MAX_REGISTRATIONS, Registered, RegistrationKey};

/// Who serves what, where; and which router indices and destinations are in use.
#[derive(Debug, Clone)]
pub(super) struct Index {
    serving: BTreeMap<Destination, BTreeMap<GatewayId, BTreeSet<RegistrationKey>>>,
    at: BTreeMap<GatewayId, BTreeSet<RegistrationKey>>,
    routers: Free,
    draining: BTreeSet<RegistrationKey>,
    /// How many registrations that drain each gateway has for a destination, if any.
    drain_at: BTreeMap<Destination, BTreeMap<GatewayId, usize>>,
    /// Those whose way from their gateway is known, by it, in µs.
    by_rtt: BTreeMap<Destination, BTreeMap<GatewayId, BTreeSet<(u32, RegistrationKey)>>>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            serving: BTreeMap::new(),
            at: BTreeMap::new(),
            routers: Free::new(MAX_REGISTRATIONS as u32),
            draining: BTreeSet::new(),
            drain_at: BTreeMap::new(),
            by_rtt: BTreeMap::new(),
        }
    }
}

impl Index {
    /// `rtt_us`: the way to it from its gateway, if that is known; here and in [`Self::remove`].
    pub(super) fn insert(&mut self, registered: &Registered, rtt_us: Option<u32>) {
        let registration = &registered.registration;
        self.routers.take(registered.router.0);
        if registration.draining.is_some() {
            self.draining.insert(registration.key);
        }
        self.at.entry(registration.gateway).or_default().insert(registration.key);
        for destination in Destination::served_by(registration) {
            let gateways = self.serving.entry(destination).or_default();
            gateways.entry(registration.gateway).or_default().insert(registration.key);
            if registration.draining.is_some() {
                *self.drain_at.entry(destination).or_default().entry(registration.gateway).or_default() += 1;
            }
        }
        self.measured(registered, None, rtt_us);
    }

    /// The way to a registration from its gateway is another.
    pub(super) fn measured(&mut self, registered: &Registered, old: Option<u32>, new: Option<u32>) {
        let registration = &registered.registration;
        let (gateway, key) = (registration.gateway, registration.key);
        for destination in Destination::served_by(registration) {
            if let Some(old) = old
                && let Some(gateways) = self.by_rtt.get_mut(&destination)
            {
                remove_member(gateways, gateway, &(old, key));
                if gateways.is_empty() {
                    self.by_rtt.remove(&destination);
                }
            }
            if let Some(new) = new {
                let gateways = self.by_rtt.entry(destination).or_default();
                gateways.entry(gateway).or_default().insert((new, key));
            }
        }
    }

    /// Those of a gateway that serve a destination and whose way from it is known, the closest first.
    pub(super) fn closest(
        &self,
        destination: Destination,
        gateway: GatewayId,
    ) -> impl Iterator<Item = &(u32, RegistrationKey)> {
        self.by_rtt.get(&destination).and_then(|gateways| gateways.get(&gateway)).into_iter().flatten()
    }

    /// Whether a registration that serves the destination drains.
    pub(super) fn drains(&self, destination: Destination) -> bool {
        self.drain_at.contains_key(&destination)
    }

    /// Whether all of a gateway's that serve a destination drain.
    pub(super) fn all_drain(&self, destination: Destination, gateway: GatewayId) -> bool {
        let draining = self.drain_at.get(&destination).and_then(|gateways| gateways.get(&gateway));
        let serving = self.serving.get(&destination).and_then(|gateways| gateways.get(&gateway));
        draining.copied().unwrap_or(0) == serving.map_or(0, BTreeSet::len)
    }

    pub(super) fn remove(&mut self, registered: &Registered, rtt_us: Option<u32>) {
        let registration = &registered.registration;
        self.routers.give(registered.router.0);
        self.draining.remove(&registration.key);
        self.measured(registered, rtt_us, None);
        remove_member(&mut self.at, registration.gateway, &registration.key);
        for destination in Destination::served_by(registration) {
            if let Some(gateways) = self.serving.get_mut(&destination) {
                remove_member(gateways, registration.gateway, &registration.key);
                if gateways.is_empty() {
                    self.serving.remove(&destination);
                }
            }
            if registration.draining.is_some() {
                self.drains_no_more(destination, registration.gateway);
            }
        }
    }

    fn drains_no_more(&mut self, destination: Destination, gateway: GatewayId) {
        let Some(gateways) = self.drain_at.get_mut(&destination) else { return };
        if let Some(count) = gateways.get_mut(&gateway) {
            *count -= 1;
            if *count == 0 {
                gateways.remove(&gateway);
            }
        }
        if gateways.is_empty() {
            self.drain_at.remove(&destination);
        }
    }

    pub(super) fn draining(&self) -> impl Iterator<Item = &RegistrationKey> {
        self.draining.iter()
    }

    pub(super) fn is_served(&self, destination: Destination) -> bool {
        self.serving.contains_key(&destination)
    }

    pub(super) fn gateways_serving(&self, destination: Destination) -> impl Iterator<Item = GatewayId> {
        self.serving.get(&destination).into_iter().flat_map(|gateways| gateways.keys().copied())
    }

    pub(super) fn serving(
        &self,
        destination: Destination,
        gateway: GatewayId,
    ) -> impl Iterator<Item = &RegistrationKey> {
        self.serving.get(&destination).and_then(|gateways| gateways.get(&gateway)).into_iter().flatten()
    }

    pub(super) fn keys_at(&self, gateway: GatewayId) -> impl Iterator<Item = &RegistrationKey> {
        self.at.get(&gateway).into_iter().flatten()
    }

    pub(super) fn count_at(&self, gateway: GatewayId) -> usize {
        self.at.get(&gateway).map_or(0, BTreeSet::len)
    }

    /// The first router index after `last`, going round, that is not in use.
    pub(super) fn free_router(&self, last: u32) -> Option<u32> {
        self.routers.after(last)
    }
}

/// The first number of `1..=limit` after `last`, going round, that is not `taken`.
pub(super) fn first_free(last: u32, limit: u32, used: usize, taken: impl Fn(u32) -> bool) -> Option<u32> {
    if used >= limit as usize {
        return None;
    }
    let after = last.min(limit);
    (after + 1..=limit).chain(1..=after).find(|&index| !taken(index))
}

fn remove_member<T: Ord>(map: &mut BTreeMap<GatewayId, BTreeSet<T>>, gateway: GatewayId, key: &T) {
    if let Some(keys) = map.get_mut(&gateway) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(&gateway);
        }
    }
}
