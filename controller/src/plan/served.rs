//! The entries of one destination: `demux`, and the buckets of its two sides.

use std::collections::BTreeSet;

use dmux_wire::GatewayId;

use super::entries::Leaving;
use super::{Planner, entries};
use crate::model::{Destination, Model, RegistrationKey, RouterIndex, SetId};
use crate::selection::{Choice, Chosen, Owners, Pool, Side, Standing, choose, standing};

/// A destination that has live routers.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// The routers of the gateways that share a side, by the side's number.
    pools: [Option<Pool>; 2],
    /// A router that serves it drained.
    drained: bool,
    shown: Shown,
}

/// What a destination's entries are.
#[derive(Debug, Default)]
struct Shown {
    demux: Option<Demux>,
    /// The sets that are in the switch: those of more than one router.
    sets: [Option<Set>; 2],
}

/// What `demux` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demux {
    /// There is one router.
    Router(RouterIndex),
    /// There are several: the side has them.
    Set(dmux_tables::SetId, usize),
}

/// A set and what each of its buckets leads to.
#[derive(Debug, PartialEq, Eq)]
struct Set {
    id: dmux_tables::SetId,
    buckets: Vec<Option<Bucket>>,
}

/// The router of a bucket, and the one that drains and keeps the clients that it has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    router: RouterIndex,
    leaving: Option<Leaving>,
}

impl Planner {
    /// Chooses for a destination and brings its entries up; `keys` are the registrations that may have changed.
    pub(super) fn plan_destination(
        &mut self,
        model: &Model,
        destination: Destination,
        keys: &BTreeSet<RegistrationKey>,
    ) {
        let previous = self.selection.set(destination, None);
        let before = self.served.remove(&destination).unwrap_or_default();
        let both = choose(model, &self.local, &self.distances, destination, previous.as_ref());
        let Some(((choice, backup), set)) = both.zip(model.set(destination)) else {
            self.show(destination, before.shown, &Shown::default());
            return;
        };
        let buckets = model.config().buckets(destination.protocol);
        let drains = model.drains(destination);
        let left = previous.as_ref().is_some_and(|chosen| !chosen.leaving.is_empty());
        let leaving = drains || before.drained || left;
        let policy = model.config().protocol(destination.protocol).policy;
        let mut found: Vec<_> = before.pools.into_iter().flatten().collect();
        // The routers of a choice, and whether they may be others than its gateways had before.
        let mut take = |choice: &Choice| match found.iter().position(|pool| pool.is_of(&choice.pool, policy)) {
            Some(at) => {
                let mut pool = found.swap_remove(at);
                let changes = keys.iter().filter(|key| pool.look_at(model, &self.local, key)).count();
                (pool, changes > 0)
            }
            None => (Pool::new(model, &self.local, destination, &choice.pool), true),
        };
        let mut of_sides = [Some(take(&choice)), backup.as_ref().map(take)];
        let owners = |gateways: &[GatewayId], memory: &Owners| match of_sides
            .iter()
            .flatten()
            .find(|(pool, _)| pool.gateways() == gateways)
        {
            Some((_, false)) if !leaving && memory.buckets().len() == buckets => memory.clone(),
            Some((pool, _)) => pool.members().deal(memory, buckets),
            None => memory.clone(),
        };
        let standing =
            |key: &_| if leaving { standing(model, &self.local, destination, key) } else { Standing::Serves };
        let chosen = Chosen::next(previous.as_ref(), choice, backup, owners, standing);
        if chosen.side == Side::B {
            of_sides.swap(0, 1);
        }
        let pools = of_sides.map(|side| side.map(|(pool, _)| pool));
        let shown = self.shown(model, set, &chosen, &pools);
        self.show(destination, before.shown, &shown);
        self.selection.set(destination, Some(chosen));
        self.served.insert(destination, Served { pools, drained: drains, shown });
    }

    /// Gives up a destination's sets where its set id is another's now.
    pub(super) fn hide_moved(&mut self, destination: Destination, set: Option<SetId>) {
        let Some(served) = self.served.get_mut(&destination) else { return };
        let moved = served.shown.sets.iter().flatten().any(|shown| Some(entries::set_and_side(shown.id).0) != set);
        if moved {
            let before = std::mem::take(&mut served.shown);
            self.show(destination, before, &Shown::default());
        }
    }

    fn shown(&self, model: &Model, set: SetId, chosen: &Chosen, pools: &[Option<Pool>; 2]) -> Shown {
        let mut shown = Shown::default();
        for side in Side::ALL {
            let Some(members) = pools[side.number()].as_ref().map(Pool::members) else { continue };
            let served = side == chosen.side;
            let leaving = |bucket| chosen.leaving.get(&bucket).filter(|_| served);
            if let Some(only) = members.only().filter(|_| !served || chosen.leaving.is_empty()) {
                if served {
                    shown.demux = Some(Demux::Router(only.router));
                }
                continue;
            }
            let id = entries::set(set, side);
            let bucket = |(bucket, owner): (usize, &Option<RegistrationKey>)| {
                let router = members.get(owner.as_ref()?)?.router;
                Some(Bucket { router, leaving: leaving(bucket).and_then(|key| self.leaving(model, key)) })
            };
            let buckets: Vec<_> = chosen.owners[side.number()].buckets().iter().enumerate().map(bucket).collect();
            if served {
                shown.demux = Some(Demux::Set(id, buckets.len()));
            }
            shown.sets[side.number()] = Some(Set { id, buckets });
        }
        shown
    }

    fn leaving(&self, model: &Model, key: &RegistrationKey) -> Option<Leaving> {
        let router = model.registration(key)?.router;
        let idle = entries::ticks(model.config().draining.idle_ms);
        Some(Leaving { router, idle, learning: !self.local.learned.contains(key) })
    }

    fn show(&mut self, destination: Destination, before: Shown, now: &Shown) {
        for side in Side::ALL.map(Side::number) {
            let (before, now) = (before.sets[side].as_ref(), now.sets[side].as_ref());
            if before == now {
                continue;
            }
            if let Some(before) = before {
                let kept = now.filter(|now| now.id == before.id).map_or(0, |now| now.buckets.len());
                for bucket in (0..before.buckets.len()).skip(kept) {
                    self.remove(&entries::bucket_key(before.id, number(bucket)));
                }
                self.plan.backups.remove(&before.id);
            }
            let Some(now) = now else { continue };
            let known = before.filter(|before| before.id == now.id).map_or(&[][..], |before| &before.buckets);
            for (bucket, leads) in now.buckets.iter().enumerate() {
                if known.get(bucket) == Some(leads) {
                    continue;
                }
                let bucket = number(bucket);
                match *leads {
                    Some(Bucket { router, leaving: None }) => self.put(entries::bucket(now.id, bucket, router)),
                    Some(Bucket { router, leaving: Some(leaving) }) => {
                        self.put(entries::draining(now.id, bucket, leaving, router));
                    }
                    None => self.remove(&entries::bucket_key(now.id, bucket)),
                }
            }
        }
        match now.demux {
            None => self.remove(&entries::demux_key(destination)),
            Some(Demux::Router(router)) => self.put(entries::demux_router(destination, router)),
            Some(Demux::Set(set, buckets)) => self.put(entries::demux_set(destination, set, buckets)),
        }
        for set in now.sets.iter().flatten() {
            if matches!(now.demux, Some(Demux::Set(served, _)) if served == set.id) {
                self.plan.backups.remove(&set.id);
            } else {
                self.plan.backups.insert(set.id);
            }
        }
    }
}

/// A set has at most `MAX_BUCKETS_PER_SET` buckets.
fn number(bucket: usize) -> u16 {
    u16::try_from(bucket).unwrap_or(u16::MAX)
}
