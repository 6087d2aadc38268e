//! What must hold at every moment of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_controller::model::{Registration, RegistrationKey, RouterIndex};
use dmux_controller::registration::APPLY_GRACE;

use super::leads::Leads;
use super::{CERTAIN, Histories, gateway};
use crate::net::Site;
use crate::node::Node;
use crate::router::{self, Router};
use crate::world::{Clock, World};

/// How long an actor may take to act upon what it knows: between two looks something may have happened just now.
const PROMPT: Duration = Duration::from_millis(400);
/// Silence after which a router is dead to the gateway that owns it, and what two looks may add to that.
const SILENT: Duration = Duration::from_millis(2_900 + 500);

/// What is remembered between two looks at a running cluster.
#[derive(Default)]
pub struct Checks {
    /// Since when something is as it must not be for long.
    wrong: BTreeMap<String, Duration>,
    /// When each gateway heard each of its routers last, by its clock, and since when we know that.
    heard: BTreeMap<(Process, RegistrationKey), Last>,
}

/// A node's id, and how often it has started.
type Process = (u64, u64);
/// A time by a gateway's clock, and since when we know that it is this one.
type Last = (Option<Duration>, Duration);
/// Something that may be so for a moment, and how long that is.
type Wrong = (String, Duration);

/// What one actor was found to have.
struct Found {
    /// When it heard each router last, by its own clock.
    heard: Vec<Option<Duration>>,
    leads: Leads,
}

/// One registration in a gateway's own copy of the state.
struct Own {
    index: RouterIndex,
    registration: Registration,
    suppressed: bool,
}

impl Checks {
    /// What must hold at any moment.
    ///
    /// # Errors
    /// What does not.
    pub async fn during(
        &mut self,
        world: &World,
        histories: &Histories,
        nodes: &[Node],
        routers: &[Router],
    ) -> Result<(), String> {
        histories.broken()?;
        for site in 0..world.sites() {
            if let Some(epoch) = world.switch(site).written_by_two() {
                return Err(format!("two controllers wrote the switch of site {} in epoch {epoch}", site + 1));
            }
        }
        let mut wrong = Vec::new();
        for (site, node) in nodes.iter().enumerate() {
            self.gateway(world, site, node, routers.len(), &mut wrong).await;
        }
        self.none_for_long(world, wrong)?;
        acknowledged_are_there(world, histories, nodes, routers)
    }

    /// What is wrong now must not have been for longer than it may be.
    fn none_for_long(&mut self, world: &World, wrong: Vec<Wrong>) -> Result<(), String> {
        let before = std::mem::take(&mut self.wrong);
        for (what, allowed) in wrong {
            let since = before.get(&what).copied().unwrap_or(world.now());
            if world.now().saturating_sub(since) > allowed {
                return Err(format!("{what} since {since:?}"));
            }
            self.wrong.insert(what, since);
        }
        Ok(())
    }

    /// One gateway against its own copy of the state: what it hears and plans follows from what it knows.
    async fn gateway(&mut self, world: &World, site: Site, node: &Node, routers: usize, wrong: &mut Vec<Wrong>) {
        let Some(store) = node.store() else { return };
        let keys: Vec<_> = (0..routers).map(router::key).collect();
        let asked = keys.clone();
        let found = node.look(move |inside| Found {
            heard: asked.iter().map(|key| inside.registrar.last_heard(key)).collect(),
            leads: Leads::of(inside.planner.plan().entries().values()),
        });
        let Some(found) = found.await else { return };
        let now = u64::try_from(world.wall(Clock::Site(site)).as_millis()).unwrap_or(u64::MAX);
        let me = gateway(site);
        let known: BTreeMap<_, _> = store.read(|r| {
            let registered = keys.iter().filter_map(|key| {
                let suppressed = r.0.suppressed_until(key, now).is_some();
                r.0.registration(key)
                    .map(|r| (*key, Own { index: r.router, registration: r.registration.clone(), suppressed }))
            });
            registered.collect()
        });
        let indices: BTreeSet<_> = known.values().map(|own| own.index.0).collect();
        for (key, heard) in keys.into_iter().zip(found.heard) {
            let own = known.get(&key);
            let is_owner = own.is_some_and(|own| own.registration.gateway == me);
            if heard.is_some() && !is_owner {
                // A session that its own copy of the state contradicts is one that was just committed.
                let owner = own.map(|own| own.registration.gateway);
                let text = format!("{me} believes that it owns {} of gateway {owner:?}", key.router);
                wrong.push((text, APPLY_GRACE + CERTAIN));
            }
            if own.is_none() && found.leads.has(&key, None) {
                wrong.push((format!("{me} plans for {}, which is not registered", key.router), PROMPT));
            }
            let Some(own) = own else {
                self.heard.remove(&(node.process(), key));
                continue;
            };
            let planned = found.leads.to.contains(&own.index.0);
            if own.suppressed && planned {
                wrong.push((format!("{me} sends clients to {}, which is held out", key.router), PROMPT));
            }
            // Whatever the cluster can or cannot agree upon, the owner's own ears are enough (DESIGN §5.4).
            let last = (heard, world.now());
            let last = self
                .heard
                .entry((node.process(), key))
                .and_modify(|l| {
                    if l.0 != heard {
                        *l = last
                    }
                })
                .or_insert(last);
            if !is_owner {
                *last = (heard, world.now());
            } else if planned && world.now().saturating_sub(last.1) > SILENT {
                wrong.push((format!("{me} has not heard {} and sends clients to it", key.router), PROMPT));
            }
        }
        for stray in found.leads.to.difference(&indices) {
            wrong.push((format!("{me} sends clients to router {stray}, which is none"), PROMPT));
        }
    }
}

/// What a router was told is registered is in the newest state, if it is nobody's turn yet to expire it.
fn acknowledged_are_there(
    world: &World,
    histories: &Histories,
    nodes: &[Node],
    routers: &[Router],
) -> Result<(), String> {
    let stores = nodes.iter().filter_map(Node::store);
    let Some(newest) = stores.max_by_key(|store| store.read(|r| r.0.applied())) else { return Ok(()) };
    if newest.read(|r| r.0.applied()) < histories.top() {
        // Whoever had applied more is down.
        return Ok(());
    }
    for (n, router) in routers.iter().enumerate() {
        let Some(accepted) = router.belief().accepted.filter(|_| router.is_running()) else { continue };
        let recently = world.now().saturating_sub(accepted) < CERTAIN;
        let chain = histories.chain(&router::key(n));
        if recently && newest.read(|r| r.0.registration(&router::key(n)).is_none() && r.0.revoked(&chain).is_none()) {
            return Err(format!("router {n} was told at {accepted:?} that it is registered, and is not"));
        }
    }
    Ok(())
}
