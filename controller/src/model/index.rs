//! Ways into the state that are derived from it: not snapshotted, rebuilt on restore.

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::GatewayId;

use super::{Destination, Registered, RegistrationKey};

/// Who serves what, where; and which router indices and destinations are in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    serving: BTreeMap<Destination, BTreeMap<GatewayId, BTreeSet<RegistrationKey>>>,
    at: BTreeMap<GatewayId, BTreeSet<RegistrationKey>>,
    routers: BTreeSet<u32>,
    draining: BTreeSet<RegistrationKey>,
}

impl Index {
    pub(super) fn insert(&mut self, registered: &Registered) {
        let registration = &registered.registration;
        self.routers.insert(registered.router.0);
        if registration.draining.is_some() {
            self.draining.insert(registration.key);
        }
        self.at.entry(registration.gateway).or_default().insert(registration.key);
        for destination in Destination::served_by(registration) {
            let gateways = self.serving.entry(destination).or_default();
            gateways.entry(registration.gateway).or_default().insert(registration.key);
        }
    }

    pub(super) fn remove(&mut self, registered: &Registered) {
        let registration = &registered.registration;
        self.routers.remove(&registered.router.0);
        self.draining.remove(&registration.key);
        remove_member(&mut self.at, registration.gateway, registration.key);
        for destination in Destination::served_by(registration) {
            if let Some(gateways) = self.serving.get_mut(&destination) {
                remove_member(gateways, registration.gateway, registration.key);
                if gateways.is_empty() {
                    self.serving.remove(&destination);
                }
            }
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
    pub(super) fn free_router(&self, last: u32, limit: u32) -> Option<u32> {
        first_free(last, limit, self.routers.len(), |index| self.routers.contains(&index))
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

fn remove_member(map: &mut BTreeMap<GatewayId, BTreeSet<RegistrationKey>>, gateway: GatewayId, key: RegistrationKey) {
    if let Some(keys) = map.get_mut(&gateway) {
        keys.remove(&key);
        if keys.is_empty() {
            map.remove(&gateway);
        }
    }
}
