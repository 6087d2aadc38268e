//! The routers of some gateways that may share a destination's set, kept up at the cost of what changes: one more among
//! 100,000 costs what one more among ten does. [`members`](super::members) says the same from nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};

use dmux_wire::{GatewayId, ProtocolId};

use super::choose::hysteresis;
use super::{Local, Member, Members};
use crate::model::{Destination, Model, Policy, RegistrationKey};

/// Before every other key.
const FIRST: RegistrationKey =
    RegistrationKey { protocol: ProtocolId(0), router: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0) };

/// All live routers at some gateways that serve a destination, and which of them are members.
#[derive(Debug)]
pub struct Pool {
    destination: Destination,
    gateways: Vec<GatewayId>,
    policy: Policy,
    takers: Group,
    /// They drain: members only while nobody takes new clients.
    drainers: Group,
}

impl Pool {
    /// From the replicated state and own observations.
    pub fn new(model: &Model, local: &Local, destination: Destination, gateways: &[GatewayId]) -> Self {
        let policy = model.config().protocol(destination.protocol).policy;
        let (takers, drainers) = (Group::default(), Group::default());
        let mut pool = Self { destination, gateways: gateways.to_vec(), policy, takers, drainers };
        for &gateway in gateways {
            for registered in model.serving(destination, gateway) {
                pool.look_at(model, local, &registered.registration.key);
            }
        }
        pool
    }

    /// Whether it is that of these gateways, by this policy.
    pub fn is_of(&self, gateways: &[GatewayId], policy: Policy) -> bool {
        self.gateways == gateways && self.policy == policy
    }

    /// Whose routers they are.
    pub fn gateways(&self) -> &[GatewayId] {
        &self.gateways
    }

    /// Those that share the destination's clients.
    pub fn members(&self) -> &Members {
        if self.takers.all.is_empty() { self.drainers.members() } else { self.takers.members() }
    }

    /// Looks at a registration that may have changed, come or gone. Returns whether the members may be others now.
    pub fn look_at(&mut self, model: &Model, local: &Local, key: &RegistrationKey) -> bool {
        let candidate = model.registration(key).filter(|registered| {
            let registration = &registered.registration;
            self.gateways.contains(&registration.gateway)
                && Destination::served_by(registration).contains(&self.destination)
                && local.is_live(registration)
        });
        let (mut takes, mut drains) = (None, None);
        if let Some(registered) = candidate {
            let member = Member { router: registered.router, weight: registered.registration.weight };
            let rtt = model.router_rtt(key).map(u64::from).filter(|_| self.policy == Policy::ClosestRouter);
            let group = if registered.registration.draining.is_some() { &mut drains } else { &mut takes };
            *group = Some((member, rtt));
        }
        let changed = self.takers.set(*key, takes);
        self.drainers.set(*key, drains) | changed
    }
}

/// Routers of which the closest are to be known.
#[derive(Debug, Default)]
struct Group {
    all: Members,
    /// The way from the gateway in µs, of those where it counts and is known.
    rtts: HashMap<RegistrationKey, u64>,
    by_rtt: BTreeSet<(u64, RegistrationKey)>,
    /// How far a member may be; `None` while no way is known, or none counts.
    limit: Option<u64>,
    /// Those within the limit.
    close: Members,
}

impl Group {
    fn members(&self) -> &Members {
        if self.limit.is_some() { &self.close } else { &self.all }
    }

    /// Returns whether the members may be others now.
    fn set(&mut self, key: RegistrationKey, new: Option<(Member, Option<u64>)>) -> bool {
        let (member, rtt) = (new.map(|(member, _)| member), new.and_then(|(_, rtt)| rtt));
        let mut changed = match member {
            Some(member) => self.all.insert(key, member),
            None => self.all.remove(&key),
        };
        let old = match rtt {
            Some(rtt) => self.rtts.insert(key, rtt),
            None => self.rtts.remove(&key),
        };
        if old != rtt {
            old.map(|old| self.by_rtt.remove(&(old, key)));
            rtt.map(|rtt| self.by_rtt.insert((rtt, key)));
            changed |= self.follow_limit();
        }
        let close = member.filter(|_| rtt.zip(self.limit).is_some_and(|(rtt, limit)| rtt <= limit));
        changed
            | match close {
                Some(member) => self.close.insert(key, member),
                None => self.close.remove(&key),
            }
    }

    /// The closest may be another: lets in or out what lies between the old limit and the new one.
    fn follow_limit(&mut self) -> bool {
        let new = self.by_rtt.first().map(|&(least, _)| least.saturating_add(hysteresis(least)));
        let old = std::mem::replace(&mut self.limit, new);
        let between = |above: Option<u64>, to: u64| {
            let from = above.map_or(0, |above| above.saturating_add(1));
            self.by_rtt.range((from, FIRST)..).take_while(move |(rtt, _)| *rtt <= to).map(|(_, key)| *key)
        };
        match (old, new) {
            (_, None) => self.close = Members::default(),
            (Some(old), Some(new)) if new < old => {
                let out: Vec<_> = between(Some(new), old).collect();
                out.iter().for_each(|key| {
                    self.close.remove(key);
                });
            }
            (old, Some(new)) => {
                let come: Vec<_> = between(old, new).filter_map(|key| Some((key, self.all.get(&key)?))).collect();
                come.into_iter().for_each(|(key, member)| {
                    self.close.insert(key, member);
                });
            }
        }
        old != new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::RouterIndex;

    fn key(n: u8) -> RegistrationKey {
        RegistrationKey { protocol: ProtocolId(41), router: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, n), 4000) }
    }

    proptest! {
        #[test]
        fn members_are_those_within_reach_of_the_closest(
            steps in prop::collection::vec((0..12_u8, prop::option::of((1..3_u16, prop::option::of(0..40_000_u64)))), 0..60),
        ) {
            let mut group = Group::default();
            let mut all = std::collections::BTreeMap::new();
            for (n, new) in steps {
                let before: Vec<_> = (0..12).map(|n| group.members().get(&key(n))).collect();
                let new = new.map(|(weight, rtt)| (Member { router: RouterIndex(n.into()), weight }, rtt));
                let changed = group.set(key(n), new);
                match new {
                    Some(new) => all.insert(n, new),
                    None => all.remove(&n),
                };
                let least = all.values().filter_map(|(_, rtt)| *rtt).min();
                let expected = |n: u8| {
                    let (member, rtt) = *all.get(&n)?;
                    let close = least.is_none_or(|least| rtt.is_some_and(|rtt| rtt <= least + hysteresis(least)));
                    close.then_some(member)
                };
                let after: Vec<_> = (0..12).map(|n| group.members().get(&key(n))).collect();
                prop_assert_eq!(&after, &(0..12).map(expected).collect::<Vec<_>>());
                prop_assert!(changed || before == after);
            }
        }
    }
}
