//! Registrations: join, change, leave, expire, adopt (DESIGN §5.2).

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::{GatewayId, ProviderId};
use serde::{Deserialize, Serialize};

use super::apply::is_host;
use super::gateway::is_news;
use super::index::first_free;
use super::{
    Change, Config, Destination, MAX_BUCKETS, MAX_DESTINATIONS, MAX_REGISTRATIONS, MAX_ROUTER_CHAIN, MAX_ROUTER_NAME,
    Model, Refusal, Registered, Registration, RegistrationKey, Reply, RouterIndex, SetId,
};

/// How long the last sequence number of a registration that is gone is remembered, ms: longer than any cookie lives
/// and than any proposal is retried, so that neither a replayed datagram nor a proposal applied twice brings it back.
pub const TOMBSTONE_MS: u64 = 600_000;
/// Keepalive intervals in which a registration is moved from a living gateway to another once without a penalty. Who
/// hears a router before these are over adopts it only if the owner is dead, or if it hears the router in succession,
/// which counts as a change ([`Dampening::change`](super::Dampening::change)): so anycast that cannot make up its mind
/// costs the cluster one write in that time.
pub const MOVE_HOLD_INTERVALS: u32 = 120;
/// Such memories at most, enough for all routers to leave at once; the oldest are given up beyond.
pub const MAX_TOMBSTONES: usize = MAX_REGISTRATIONS;

/// The sequence numbers of registrations that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Tombstones {
    by_key: BTreeMap<RegistrationKey, (u64, u64)>,
    by_age: BTreeSet<(u64, RegistrationKey)>,
}

impl Tombstones {
    /// The highest sequence number of a registration that is gone, unless that was long before `now`.
    fn sequence(&self, key: &RegistrationKey, now: u64) -> Option<u64> {
        let &(sequence, at) = self.by_key.get(key)?;
        (at.saturating_add(TOMBSTONE_MS) >= now).then_some(sequence)
    }

    fn bury(&mut self, at: u64, key: RegistrationKey, sequence: u64) {
        self.forget(&key);
        self.by_key.insert(key, (sequence, at));
        self.by_age.insert((at, key));
        while let Some(&(buried_at, oldest)) = self.by_age.first() {
            let expired = buried_at.saturating_add(TOMBSTONE_MS) < at;
            if !expired && self.by_key.len() <= MAX_TOMBSTONES {
                break;
            }
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, key: &RegistrationKey) {
        if let Some((_, at)) = self.by_key.remove(key) {
            self.by_age.remove(&(at, *key));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn is_consistent(&self) -> bool {
        self.by_key.len() == self.by_age.len()
            && self.by_key.iter().all(|(key, &(_, at))| self.by_age.contains(&(at, *key)))
    }
}

impl Model {
    pub(super) fn register(&mut self, at: u64, new: &Registration) -> Result<Reply, Refusal> {
        let key = new.key;
        let old = self.state.registrations.get(&key);
        let drained = self.state.drains.contains(&key).then_some(at);
        let since = old.and_then(|old| old.registration.draining);
        let draining = new.draining.or(drained).map(|from| since.unwrap_or(from));
        let new = &Registration { draining, ..new.clone() };
        if let Some(old) = old.filter(|old| old.registration == *new) {
            return Ok(Reply::Registered { router: old.router });
        }
        self.known_gateway(new.gateway)?;
        check_registration(new, self.config())?;
        if let Some(&revoked) = self.revoked(&new.chain) {
            return Err(Refusal::Revoked(revoked));
        }
        let have = match old {
            Some(old) => Some(old.registration.sequence),
            None => self.state.tombstones.sequence(&key, at),
        };
        if let Some(have) = have.filter(|&have| new.sequence <= have) {
            return Err(Refusal::StaleSequence { have, got: new.sequence });
        }
        let kept = old.map(|old| old.router);
        let moved = old.is_some_and(|old| old.registration.gateway != new.gateway);
        let says_the_same = old.is_none_or(|old| old.registration.says_the_same(new));
        let needed = Destination::served_by(new).iter().filter(|d| !self.state.sets.contains_key(d)).count();
        if self.state.sets.len() + needed > MAX_DESTINATIONS {
            return Err(Refusal::TooManyDestinations(MAX_DESTINATIONS));
        }
        if needed > 0 {
            let config = &self.state.config;
            check_buckets(self.buckets(config) + needed * config.buckets(key.protocol))?;
        }
        let router = match kept {
            Some(router) => router,
            None => self.allocate_router()?,
        };
        self.replace(key, Some(Registered { router, registration: new.clone() }));
        self.state.tombstones.forget(&key);
        if moved {
            self.state.moves.insert(key, at);
        }
        if !says_the_same {
            self.flapped(at, key, |dampening| dampening.change);
        }
        Ok(Reply::Registered { router })
    }

    pub(super) fn deregister(&mut self, at: u64, key: &RegistrationKey, sequence: u64) -> Result<Reply, Refusal> {
        let Some(old) = self.state.registrations.get(key) else {
            return Ok(Reply::Done);
        };
        let have = old.registration.sequence;
        if sequence <= have {
            return Err(Refusal::StaleSequence { have, got: sequence });
        }
        self.remove_registration(at, *key, sequence);
        self.flapped(at, *key, |dampening| dampening.flap);
        Ok(Reply::Done)
    }

    pub(super) fn expire(
        &mut self,
        at: u64,
        key: &RegistrationKey,
        gateway: GatewayId,
        sequence: u64,
    ) -> Result<Reply, Refusal> {
        let Some(old) = self.state.registrations.get(key) else {
            return Ok(Reply::Done);
        };
        let (owner, have) = (old.registration.gateway, old.registration.sequence);
        if owner != gateway {
            return Err(Refusal::NotOwner(owner));
        }
        if sequence < have {
            return Err(Refusal::StaleSequence { have, got: sequence });
        }
        // The gateway may have heard more than it had to write; none of that may be said again.
        self.remove_registration(at, *key, sequence);
        self.flapped(at, *key, |dampening| dampening.flap);
        Ok(Reply::Done)
    }

    pub(super) fn adopt(
        &mut self,
        at: u64,
        key: &RegistrationKey,
        gateway: GatewayId,
        sequence: u64,
    ) -> Result<Reply, Refusal> {
        self.known_gateway(gateway)?;
        let old = self.state.registrations.get(key).ok_or(Refusal::NoSuchRegistration)?;
        let (owner, have) = (old.registration.gateway, old.registration.sequence);
        if owner == gateway && sequence == have {
            return Ok(Reply::Registered { router: old.router });
        }
        if sequence <= have {
            return Err(Refusal::StaleSequence { have, got: sequence });
        }
        let mut adopted = old.clone();
        adopted.registration.gateway = gateway;
        adopted.registration.sequence = sequence;
        let router = adopted.router;
        self.replace(*key, Some(adopted));
        if owner != gateway {
            if self.moved_lately(key, at) {
                self.flapped(at, *key, |dampening| dampening.change);
            }
            self.state.moves.insert(*key, at);
        }
        Ok(Reply::Registered { router })
    }

    /// Whether the registration went to another gateway within the last [`MOVE_HOLD_INTERVALS`]. `now` in ms since the
    /// Unix epoch; clocks that differ lengthen that by no more than they differ.
    pub fn moved_lately(&self, key: &RegistrationKey, now: u64) -> bool {
        let hold = u64::from(self.state.config.timers.keepalive_ms) * u64::from(MOVE_HOLD_INTERVALS);
        self.state.moves.get(key).is_some_and(|moved_at| now.abs_diff(*moved_at) < hold)
    }

    pub(super) fn drain(&mut self, at: u64, key: &RegistrationKey, draining: bool) -> Result<Reply, Refusal> {
        let mut changed = self.state.registrations.get(key).ok_or(Refusal::NoSuchRegistration)?.clone();
        let since = changed.registration.draining;
        let wanted = draining.then(|| since.unwrap_or(at));
        if draining {
            self.state.drains.insert(*key);
        } else {
            self.state.drains.remove(key);
        }
        if since != wanted {
            changed.registration.draining = wanted;
            self.replace(*key, Some(changed));
        }
        Ok(Reply::Done)
    }

    pub(super) fn record_router_rtts(
        &mut self,
        gateway: GatewayId,
        samples: &[(RegistrationKey, u32)],
    ) -> Result<Reply, Refusal> {
        self.known_gateway(gateway)?;
        for &(key, rtt_us) in samples {
            let heard_there = self.state.registrations.get(&key).is_some_and(|r| r.registration.gateway == gateway);
            let known = self.state.router_rtts.get(&key);
            if heard_there && known.is_none_or(|&known| is_news(known, rtt_us)) {
                let old = self.state.router_rtts.insert(key, rtt_us);
                if let Some(registered) = self.state.registrations.get(&key) {
                    self.index.measured(registered, old, Some(rtt_us));
                }
                self.note(Change::Registration(key));
            }
        }
        Ok(Reply::Done)
    }

    /// Buckets of all destinations that are served, under a configuration.
    pub(super) fn buckets(&self, config: &Config) -> usize {
        self.state.sets.keys().map(|destination| config.buckets(destination.protocol)).sum()
    }

    /// `sequence`: the highest that is known of it.
    pub(super) fn remove_registration(&mut self, at: u64, key: RegistrationKey, sequence: u64) {
        self.replace(key, None);
        self.state.tombstones.bury(at, key, sequence);
    }

    /// Puts or removes a registration, and keeps the index, the sets and the journal in step.
    fn replace(&mut self, key: RegistrationKey, new: Option<Registered>) {
        let old = self.state.registrations.remove(&key);
        if let Some(old) = &old {
            self.index.remove(old, self.state.router_rtts.get(&key).copied());
        }
        let gateway = |registered: &Option<Registered>| registered.as_ref().map(|r| r.registration.gateway);
        if gateway(&old) != gateway(&new) {
            // It was measured from another gateway.
            self.state.router_rtts.remove(&key);
        }
        if let Some(new) = &new {
            self.index.insert(new, self.state.router_rtts.get(&key).copied());
            self.state.registrations.insert(key, new.clone());
        } else {
            self.state.drains.remove(&key);
            self.state.moves.remove(&key);
        }
        for registered in [&old, &new].into_iter().flatten() {
            for destination in Destination::served_by(&registered.registration) {
                self.sync_set(destination);
            }
        }
        self.note(Change::Registration(key));
    }

    /// A destination has a set id exactly while it is served.
    fn sync_set(&mut self, destination: Destination) {
        if !self.index.is_served(destination) {
            self.state.sets.remove(&destination);
        } else if !self.state.sets.contains_key(&destination) {
            let used: BTreeSet<u32> = self.state.sets.values().map(|set| set.0).collect();
            let free = first_free(self.state.last_set, MAX_DESTINATIONS as u32, used.len(), |id| used.contains(&id));
            // `register` has made sure that there is room.
            if let Some(id) = free {
                self.state.last_set = id;
                self.state.sets.insert(destination, SetId(id));
            }
        }
    }

    fn allocate_router(&mut self) -> Result<RouterIndex, Refusal> {
        let free = self.index.free_router(self.state.last_router);
        let index = free.ok_or(Refusal::TooManyRegistrations(MAX_REGISTRATIONS))?;
        self.state.last_router = index;
        Ok(RouterIndex(index))
    }
}

pub(super) fn check_buckets(buckets: usize) -> Result<(), Refusal> {
    if buckets > MAX_BUCKETS { Err(Refusal::TooManyBuckets(buckets)) } else { Ok(()) }
}

fn check_registration(registration: &Registration, config: &Config) -> Result<(), Refusal> {
    let Registration { key, provider, weight, name, chain, .. } = registration;
    let bad = |why: String| Err(Refusal::BadRegistration(why));
    if *provider == ProviderId::ANY {
        return bad(format!("provider {} means any provider; a router belongs to one", provider.0));
    }
    if *weight == 0 {
        return bad("weight 0 would get no clients; use 1 or more".into());
    }
    if name.len() > MAX_ROUTER_NAME {
        return bad(format!("the router's name has {} bytes; at most {MAX_ROUTER_NAME}", name.len()));
    }
    if chain.len() > MAX_ROUTER_CHAIN {
        return bad(format!("its chain has {} certificates; at most {MAX_ROUTER_CHAIN}", chain.len()));
    }
    if config.dmux_prefix.contains(*key.router.ip()) {
        return bad(format!(
            "{} lies in the dmux-prefix {}: packets to it would come back",
            key.router, config.dmux_prefix
        ));
    }
    if !is_host(*key.router.ip()) || key.router.port() == 0 {
        return bad(format!("{} is not an address and port that packets can be sent to", key.router));
    }
    Ok(())
}
