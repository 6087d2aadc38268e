//! What must hold once everything has healed.

use std::ops::Bound;
use std::time::Duration;

use dmux_controller::model::{Destination, Metalink, Model};
use dmux_controller::plan::{Planner, State};

use super::leads::new_clients;
use super::{Histories, gateway};
use crate::endpoint::Endpoint;
use crate::net::Site;
use crate::node::Node;
use crate::router::{self, Router};
use crate::world::{Clock, World};

/// How long a router that is gone may still be registered: it expires, and the expiry may have to be repeated.
const GONE: Duration = Duration::from_secs(12);

/// What must hold once everything has healed and time has passed.
///
/// # Errors
/// What does not yet.
pub async fn settled(
    world: &World,
    histories: &Histories,
    nodes: &[Node],
    routers: &[Router],
    endpoints: &[Endpoint],
) -> Result<(), String> {
    let mut models: Vec<Model> = Vec::new();
    for (site, node) in nodes.iter().enumerate() {
        let store = node.store().ok_or(format!("node {} is off", site + 1))?;
        if !node.has_announced() {
            return Err(format!("node {} does not own its switch yet: {:?}", site + 1, store.status()));
        }
        models.push(store.read(|r| r.0.clone()));
    }
    let Some(model) = models.first() else { return Ok(()) };
    for (site, other) in models.iter().enumerate() {
        if other != model {
            return Err(format!(
                "nodes 1 and {} hold different states ({} and {})",
                site + 1,
                model.applied(),
                other.applied()
            ));
        }
    }
    if model.config().version < histories.newest() {
        return Err(format!(
            "configuration {} was acknowledged and {} is in force",
            histories.newest(),
            model.config().version
        ));
    }
    // Once the coordinates have settled; they are published when they move.
    if world.setup().coordinates && model.gateways().any(|g| model.coordinate(g.id).is_none()) {
        return Err("some gateway has no coordinate yet".into());
    }
    for (n, router) in routers.iter().enumerate() {
        let key = router::key(n);
        let registered = model.registration(&key);
        if model.revoked(&histories.chain(&key)).is_some() {
            // That nobody is registered with a revoked key is looked at all the time.
            continue;
        }
        let unix_ms = u64::try_from(world.wall(Clock::Router(n)).as_millis()).unwrap_or(u64::MAX);
        if router.is_running() && model.suppressed_until(&key, unix_ms).is_some() {
            return Err(format!("router {n} is still held out for flapping"));
        }
        let drains = registered.is_some_and(|r| r.registration.draining.is_some());
        if router.is_running() && registered.is_some() && drains != (router.drains() || model.is_drained(&key)) {
            return Err(format!("router {n} wants to drain: {}; it counts as draining: {drains}", router.drains()));
        }
        if router.is_running() && registered.is_none() {
            return Err(format!("router {n} is alive and not registered ({:?})", router.belief()));
        }
        if !router.is_running() && registered.is_some() && world.now().saturating_sub(router.stopped()) > GONE {
            return Err(format!("router {n} is gone since {:?} and still registered", router.stopped()));
        }
    }
    for (site, endpoint) in endpoints.iter().enumerate() {
        has_its_metalink(world, model, site, endpoint)?;
    }
    let alive = |n: &usize| routers[*n].is_running() && model.revoked(&histories.chain(&router::key(*n))).is_none();
    let alive: Vec<usize> = (0..routers.len()).filter(alive).collect();
    one_owner(model, nodes, &alive).await?;
    for (site, node) in nodes.iter().enumerate() {
        gateway_follows(world, site, node, model, &alive).await?;
    }
    Ok(())
}

/// A living endpoint has the metalink that it believes to have, and a dead one none but until its lease ends.
fn has_its_metalink(world: &World, model: &Model, site: Site, endpoint: &Endpoint) -> Result<(), String> {
    let own = |m: &&Metalink| m.link.gateway == gateway(site) && m.endpoint.mac == endpoint.mac();
    let has = model.metalinks_from(Bound::Unbounded).find(own);
    let held = endpoint.belief().held;
    if endpoint.is_running() {
        let same = has.zip(held).is_some_and(|(has, held)| (has.mli.0, has.rate) == (held.mli, held.rate));
        return if same { Ok(()) } else { Err(format!("endpoint {site} believes {held:?}; it has {has:?}")) };
    }
    let now = u64::try_from(world.wall(Clock::Site(site)).as_millis()).unwrap_or(u64::MAX);
    match has.filter(|has| has.until.saturating_add(GONE.as_millis() as u64) < now) {
        Some(has) => Err(format!("endpoint {site} is gone, and {has:?} has outlived its lease")),
        None => Ok(()),
    }
}

/// Each living router is heard by exactly the gateway that the state says.
async fn one_owner(model: &Model, nodes: &[Node], alive: &[usize]) -> Result<(), String> {
    for &n in alive {
        let key = router::key(n);
        let mut heard = Vec::new();
        for (site, node) in nodes.iter().enumerate() {
            if node.look(move |inside| inside.registrar.last_heard(&key).is_some()).await == Some(true) {
                heard.push(gateway(site));
            }
        }
        let owner = model.registration(&key).map(|r| r.registration.gateway);
        if heard != owner.into_iter().collect::<Vec<_>>() {
            return Err(format!("router {n} is owned by {owner:?} and heard by {heard:?}"));
        }
    }
    Ok(())
}

/// A gateway's plan is what state and observations imply, serves every living router, and is what its switch holds.
async fn gateway_follows(world: &World, site: Site, node: &Node, model: &Model, alive: &[usize]) -> Result<(), String> {
    let model = model.clone();
    let served: Vec<_> = alive.iter().copied().map(router::key).collect();
    let look = node.look(move |inside| {
        let planner = inside.planner;
        let implied = planner.afresh(&model);
        let same = implied.plan().entries() == planner.plan().entries()
            && implied.plan().meters() == planner.plan().meters()
            && implied.plan().punt_rates() == planner.plan().punt_rates()
            && implied.selection() == planner.selection();
        let mut unserved = Vec::new();
        for key in served {
            let Some(registered) = model.registration(&key) else { continue };
            if !planner.local().is_live(&registered.registration) {
                unserved.push(format!("{} counts as dead", key.router));
            }
            for destination in Destination::served_by(&registered.registration) {
                if planner.selection().get(destination).is_none() {
                    unserved.push(format!("{destination:?} has no choice"));
                }
                unserved.extend(wrongly_sent(&model, planner, destination));
            }
        }
        (same, unserved, inside.reconciler.status(), planner.plan().clone())
    });
    let (same, unserved, status, plan) = look.await.ok_or(format!("the actor of node {} has ended", site + 1))?;
    if !same {
        return Err(format!("the plan of gateway {} is not what state and observations imply", site + 1));
    }
    if let Some(unserved) = unserved.first() {
        return Err(format!("gateway {} does not serve a living router: {unserved}", site + 1));
    }
    if status.state != State::Synced {
        return Err(format!("the switch of gateway {} is {}: {}", site + 1, status.state, status.detail));
    }
    if !world.switch(site).holds(&plan) {
        return Err(format!("the switch of gateway {} does not hold the plan, and counts as synced", site + 1));
    }
    Ok(())
}

/// New clients of a destination go to routers that serve it, all of them registered where the choice says, and to none
/// that drains unless all do.
fn wrongly_sent(model: &Model, planner: &Planner, destination: Destination) -> Option<String> {
    let taken = new_clients(planner.plan().entries(), destination);
    let serving = || {
        let all = model.registrations();
        all.filter(move |r| Destination::served_by(&r.registration).contains(&destination))
    };
    let ready = serving().any(|r| r.registration.draining.is_none());
    let allowed = |r: &dmux_controller::model::Registered| !ready || r.registration.draining.is_none();
    let good: Vec<u32> = serving().filter(|r| allowed(r)).map(|r| r.router.0).collect();
    if taken.is_empty() {
        return Some(format!("{destination:?} leads nowhere"));
    }
    let bad = taken.iter().find(|router| !good.contains(router))?;
    Some(format!("new clients of {destination:?} are sent to router {bad}; {good:?} are there"))
}
