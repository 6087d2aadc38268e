//! What this controller sees itself: which gateways answer, which routers are silent, held out or draining.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Actor, WATCH_EVERY};
use crate::selection::{self, Local};
use crate::watching::{self, Choices};

impl Actor {
    /// Own observations moved: plan what that changes, without waiting for the cluster (DESIGN §5.4).
    /// Returns when a clock alone changes what is observed: a router that is held out returns, a draining one is learnt.
    pub(super) fn observe(&mut self, now: Duration) -> Option<Duration> {
        let mut due = None;
        let by_coordinates = self.mapper.is_active();
        let mut local = Local { dead: BTreeMap::new(), by_coordinates, ..self.planner.local().clone() };
        if self.observed != self.prober.version() {
            self.observed = self.prober.version();
            let view = self.prober.view();
            local.rtts = view.iter().filter_map(|(&id, peer)| Some((id, peer.distance?))).collect();
            let unreachable: BTreeSet<_> = view.iter().filter(|(_, p)| !p.reachable).map(|(&id, _)| id).collect();
            for gateway in unreachable.symmetric_difference(&local.unreachable) {
                tracing::info!(%gateway, answers = !unreachable.contains(gateway), "gateway");
            }
            self.registrar.set_unreachable(unreachable.clone());
            local.unreachable = unreachable;
        }
        let unix_ms = self.clock.unix_ms();
        let mut reuse_in = None;
        let delta = self.store.read(|r| {
            let suppressed: Vec<_> = r.0.suppressed(unix_ms).collect();
            reuse_in = suppressed.first().map(|(_, reuse_at)| Duration::from_millis(reuse_at.saturating_sub(unix_ms)));
            local.dampened = suppressed.into_iter().map(|(key, _)| key).collect();
            let registration = |key| r.0.registration(key).map(|r| r.registration.sequence);
            let silent = self.registrar.silent().iter();
            local.dead = silent.filter_map(|key| Some((*key, registration(key)?))).collect();
            let known = std::mem::take(&mut self.draining);
            for drains in r.0.draining() {
                let key = drains.registration.key;
                let since = known.get(&key).copied().unwrap_or(now);
                self.draining.insert(key, since);
            }
            let learn = Duration::from_millis(r.0.config().draining.learn_ms.into());
            let learned = |since: &Duration| since.saturating_add(learn) <= now;
            local.learned = self.draining.iter().filter(|(_, since)| learned(since)).map(|(key, _)| *key).collect();
            let learning = self.draining.values().filter(|since| !learned(since));
            due = learning.min().map(|since| since.saturating_add(learn));
            (local != *self.planner.local()).then(|| {
                self.hub.tell(watching::observations(self.planner.local(), &local));
                let chosen = self.hub.is_watched().then(|| watching::choices(self.planner.selection()));
                (self.planner.observe(&r.0, local), chosen)
            })
        });
        if let Some((delta, chosen)) = delta {
            self.reconciler.planned(&delta);
            self.rewatch = true;
            self.tell_choices(chosen);
        }
        let reuse = reuse_in.map(|reuse_in| now + reuse_in);
        due.into_iter().chain(reuse).min()
    }

    /// Tells the prober whose silence matters. Returns when it is to be looked at again.
    pub(super) fn watch(&mut self, now: Duration) -> Option<Duration> {
        if self.rewatch && now >= self.next_watch {
            (self.rewatch, self.next_watch) = (false, now + WATCH_EVERY);
            let watched = selection::watched(self.config.gateway_id(), self.planner.selection());
            self.watched = watched;
            self.set_peers(now);
        }
        self.rewatch.then_some(self.next_watch)
    }

    /// Whom to probe: all others, or where there are too many, some; the watched ones in any case, and who was found
    /// unreachable until it is not, as it would be taken for reachable again.
    pub(super) fn set_peers(&mut self, now: Duration) {
        let me = self.config.gateway_id();
        let mut peers = self.store.read(|r| {
            let gateways: Vec<_> = r.0.gateways().map(|g| (g.id, r.0.coordinate(g.id).copied())).collect();
            let chosen = self.mapper.neighbours(now, &gateways, r.0.config().all_pairs_up_to.into());
            let unreachable = &self.planner.local().unreachable;
            let wanted = |id| chosen.contains(id) || self.watched.contains(id) || unreachable.contains(id);
            r.0.gateways().filter(|g| g.id != me && wanted(&g.id)).map(|g| (g.id, g.unicast)).collect::<Vec<_>>()
        });
        peers.sort_unstable();
        self.prober.set_peers(now, peers);
        self.prober.watch(now, &self.watched);
    }

    /// Tells what is chosen anew since it was `before`, which is there only if somebody watched.
    pub(super) fn tell_choices(&self, before: Option<Choices>) {
        if let Some(before) = before {
            self.hub.tell(watching::chosen_anew(&before, &watching::choices(self.planner.selection())));
        }
    }
}
