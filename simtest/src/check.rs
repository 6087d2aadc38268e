//! What must hold: at every moment of a run, and once everything has healed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmux_controller::model::{Destination, Model, RegistrationKey};
use dmux_controller::plan::{Planner, State};
use dmux_controller::registration::APPLY_GRACE;
use dmux_controller::runtime::Replicated;
use dmux_raft_store::Store;
use dmux_wire::{GatewayId, ServiceIndex};

use crate::net::Site;
use crate::node::Node;
use crate::router::{self, Router};
use crate::world::World;

/// The service that commands of the test itself move about.
pub const MOVED_SERVICE: ServiceIndex = ServiceIndex(2);
/// Less than any registration lives without a keepalive.
const CERTAIN: Duration = Duration::from_secs(2);
/// How long a router that is gone may still be registered: it expires, and the expiry may have to be repeated.
const GONE: Duration = Duration::from_secs(12);

/// What every node has ever applied.
#[derive(Default)]
pub struct Histories(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Log index → digest of the state after it, and who saw it first.
    digests: BTreeMap<u64, (u32, Site)>,
    /// Version of the configuration → where it put the moved service.
    configs: BTreeMap<u64, u8>,
    /// The same, of those that were acknowledged.
    acknowledged: BTreeMap<u64, u8>,
    /// The last sequence number of each registration: it never falls, or somebody has taken what was old for new.
    sequences: BTreeMap<RegistrationKey, u64>,
    /// The highest index that any node ever applied.
    top: u64,
    broken: Option<String>,
}

/// Where a configuration has the moved service.
fn moved_to(model: &Model) -> u8 {
    model.config().services.get(&MOVED_SERVICE).map_or(0, |address| address.octets()[3])
}

/// Who is registered where, briefly.
fn registered(model: &Model) -> String {
    let each = model.registrations().map(|r| {
        let registration = &r.registration;
        format!(
            "{}@{} #{}",
            registration.key.router.ip().octets()[3] - 100,
            registration.gateway,
            registration.sequence
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

impl Histories {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a node's copy has come to: the same at the same index as everybody's, for ever.
    pub fn note(&self, world: &World, site: Site, store: &Store<Replicated>) {
        let (index, digest, version, moved) = store.read(|r| {
            let bytes = r.0.snapshot().unwrap_or_default();
            (r.0.applied(), crc32fast::hash(&bytes), r.0.config().version, moved_to(&r.0))
        });
        let mut seen = self.seen();
        if index > seen.top {
            seen.top = index;
            let now =
                store.read(|r| r.0.registrations().map(|r| (r.registration.key, r.registration.sequence)).collect());
            seen.follow(index, now);
            world.tell(|| format!("index {index}: {}", store.read(|r| registered(&r.0))));
        }
        let (before, first) = *seen.digests.entry(index).or_insert((digest, site));
        if before != digest {
            seen.broken.get_or_insert(format!(
                "at log index {index} node {} has another state than node {} had",
                site + 1,
                first + 1
            ));
        }
        if *seen.configs.entry(version).or_insert(moved) != moved {
            seen.broken.get_or_insert(format!("configuration {version} was two different ones"));
        }
        seen.compare(version);
    }

    /// A configuration was acknowledged.
    pub fn acknowledged(&self, version: u64, moved: u8) {
        let mut seen = self.seen();
        if *seen.acknowledged.entry(version).or_insert(moved) != moved {
            seen.broken.get_or_insert(format!("two different configurations {version} were acknowledged"));
        }
        seen.compare(version);
    }

    fn top(&self) -> u64 {
        self.seen().top
    }

    fn broken(&self) -> Result<(), String> {
        self.seen().broken.clone().map_or(Ok(()), Err)
    }

    /// The newest configuration that was acknowledged.
    fn newest(&self) -> u64 {
        self.seen().acknowledged.keys().next_back().copied().unwrap_or(0)
    }
}

impl Seen {
    fn follow(&mut self, index: u64, now: Vec<(RegistrationKey, u64)>) {
        for (key, sequence) in now {
            let before = self.sequences.insert(key, sequence);
            if before.is_some_and(|before| before > sequence) {
                self.broken.get_or_insert(format!("at log index {index} the sequence of {} falls", key.router));
            }
        }
    }

    fn compare(&mut self, version: u64) {
        if let (Some(acknowledged), Some(seen)) = (self.acknowledged.get(&version), self.configs.get(&version))
            && acknowledged != seen
        {
            self.broken.get_or_insert(format!("configuration {version} was acknowledged and is another now"));
        }
    }
}

/// What is remembered between two looks at a running cluster.
#[derive(Default)]
pub struct Checks {
    /// Gateways that hear a router which their own copy says is another's, and since when.
    squatters: BTreeMap<(Site, RegistrationKey), Duration>,
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
        self.sessions(world, nodes, routers).await?;
        acknowledged_are_there(world, histories, nodes, routers)
    }

    /// A session that its own copy of the state contradicts is one that was just committed, and not for long.
    async fn sessions(&mut self, world: &World, nodes: &[Node], routers: &[Router]) -> Result<(), String> {
        let mut squatters = BTreeMap::new();
        for (site, node) in nodes.iter().enumerate() {
            let Some(store) = node.store() else { continue };
            let keys: Vec<_> = (0..routers.len()).map(router::key).collect();
            let heard = node.look(move |inside| {
                keys.into_iter().filter(|key| inside.registrar.last_heard(key).is_some()).collect::<Vec<_>>()
            });
            for key in heard.await.unwrap_or_default() {
                let owner = store.read(|r| r.0.registration(&key).map(|r| r.registration.gateway));
                if owner != Some(gateway(site)) {
                    let since = self.squatters.get(&(site, key)).copied().unwrap_or(world.now());
                    if world.now().saturating_sub(since) > APPLY_GRACE + CERTAIN {
                        return Err(format!(
                            "gateway {} believes that it owns {} of gateway {owner:?} since {since:?}",
                            site + 1,
                            key.router
                        ));
                    }
                    squatters.insert((site, key), since);
                }
            }
        }
        self.squatters = squatters;
        Ok(())
    }
}

fn gateway(site: Site) -> GatewayId {
    GatewayId(u16::try_from(site + 1).unwrap_or(0))
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
        if recently && newest.read(|r| r.0.registration(&router::key(n)).is_none()) {
            return Err(format!("router {n} was told at {accepted:?} that it is registered, and is not"));
        }
    }
    Ok(())
}

/// What must hold once everything has healed and time has passed.
///
/// # Errors
/// What does not yet.
pub async fn settled(world: &World, histories: &Histories, nodes: &[Node], routers: &[Router]) -> Result<(), String> {
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
    for (n, router) in routers.iter().enumerate() {
        let registered = model.registration(&router::key(n));
        if router.is_running() && registered.is_none() {
            return Err(format!("router {n} is alive and not registered ({:?})", router.belief()));
        }
        if !router.is_running() && registered.is_some() && world.now().saturating_sub(router.stopped()) > GONE {
            return Err(format!("router {n} is gone since {:?} and still registered", router.stopped()));
        }
    }
    one_owner(model, nodes, routers).await?;
    for (site, node) in nodes.iter().enumerate() {
        gateway_follows(world, site, node, model, routers).await?;
    }
    Ok(())
}

/// Each living router is heard by exactly the gateway that the state says.
async fn one_owner(model: &Model, nodes: &[Node], routers: &[Router]) -> Result<(), String> {
    for (n, router) in routers.iter().enumerate() {
        let key = router::key(n);
        let mut heard = Vec::new();
        for (site, node) in nodes.iter().enumerate() {
            if node.look(move |inside| inside.registrar.last_heard(&key).is_some()).await == Some(true) {
                heard.push(gateway(site));
            }
        }
        let owner = model.registration(&key).map(|r| r.registration.gateway);
        if router.is_running() && heard != owner.into_iter().collect::<Vec<_>>() {
            return Err(format!("router {n} is owned by {owner:?} and heard by {heard:?}"));
        }
    }
    Ok(())
}

/// A gateway's plan is what state and observations imply, serves every living router, and is what its switch holds.
async fn gateway_follows(
    world: &World,
    site: Site,
    node: &Node,
    model: &Model,
    routers: &[Router],
) -> Result<(), String> {
    let site_config = crate::node::site_config(site)?;
    let model = model.clone();
    let served: Vec<_> = (0..routers.len()).filter(|&n| routers[n].is_running()).map(router::key).collect();
    let look = node.look(move |inside| {
        let planner = inside.planner;
        let implied = Planner::new(site_config, &model, planner.local().clone(), planner.selection());
        let same = implied.plan().entries() == planner.plan().entries()
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
