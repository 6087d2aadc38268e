//! One run: a cluster starts, things go wrong, everything heals, and what must hold is looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use dmux_controller::model::{Command, Reply};
use dmux_wire::metalink::Lease;

use crate::access;
use crate::check::{self, Checks, Histories, MOVED_SERVICE};
use crate::endpoint::Endpoint;
use crate::faults::{self, Fault};
use crate::net::Site;
use crate::node::Node;
use crate::router::{self, MAX_ROUTERS, Router};
use crate::setup::Setup;
use crate::world::{Clock, World};

/// Between two looks at a running cluster.
const LOOK: Duration = Duration::from_millis(250);
/// When operators promise what there is.
const PROMISES_AT: Duration = Duration::from_secs(2);
/// When the faults begin: the cluster has founded itself.
const FAULTS_FROM: Duration = Duration::from_secs(4);
/// When everything heals.
const HEAL: Duration = Duration::from_secs(20);
/// What a healed cluster may take to settle.
const SETTLE: Duration = Duration::from_secs(60);
/// How long an operator's command is tried.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it must then stay settled.
const REST: Duration = Duration::from_secs(2);

/// A run in which something did not hold.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What did not hold, and when.
    pub what: String,
    /// What happened until then.
    pub story: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// A run in which everything held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How long the cluster took to settle after it had healed.
    pub settled_after: Duration,
    /// The simulated time of the whole run.
    pub simulated: Duration,
    /// The log index that all nodes ended with.
    pub applied: u64,
    /// Digest of what happened: the same seed gives the same.
    pub digest: u32,
}

/// What is due.
pub enum Due {
    /// See [`Checks::during`].
    Look,
    /// Another configuration.
    Churn,
    /// What endpoints may have is promised.
    Promises,
    /// Something goes wrong, or right again.
    Fault(Fault),
}

/// A cluster that runs.
pub struct Run {
    /// Where.
    pub world: Arc<World>,
    /// What its nodes have applied.
    pub histories: Arc<Histories>,
    checks: Checks,
    /// By site.
    pub nodes: Vec<Node>,
    /// Controllers that were replaced and go on nevertheless.
    deposed: Vec<Node>,
    /// By number.
    pub routers: Vec<Router>,
    /// One at each site, or none.
    pub endpoints: Vec<Endpoint>,
    due: BTreeMap<(Duration, u64), Due>,
    /// Numbers what is due at one time.
    count: u64,
    /// The last configuration that was proposed.
    moved: u8,
}

/// Runs one seed, on a paused current-thread runtime whose thread has been given the seed too. `aloud`: tells what happens.
///
/// # Errors
/// What did not hold.
pub async fn run(seed: u64, aloud: bool) -> Result<Report, Failure> {
    let world = World::new(seed, 3, Setup::draw(seed), aloud);
    let mut run = Run::new(&world);
    world.tell(|| format!("{:?}", world.setup()));
    match run.all(seed).await {
        Ok(report) => Ok(report),
        Err(what) => Err(run.failure(seed, what).await),
    }
}

impl Run {
    /// Everything is off.
    pub fn new(world: &Arc<World>) -> Self {
        let histories = Arc::<Histories>::default();
        let nodes = (0..world.sites()).map(|site| Node::new(world.clone(), histories.clone(), site)).collect();
        Self {
            world: world.clone(),
            histories,
            checks: Checks::default(),
            nodes,
            deposed: Vec::new(),
            routers: Vec::new(),
            endpoints: Vec::new(),
            due: BTreeMap::new(),
            count: 0,
            moved: 0,
        }
    }

    /// What did not hold, and when, with what is known of the cluster.
    pub async fn failure(&self, seed: u64, what: String) -> Failure {
        let what = format!("{what} (at {:.3} s)", self.world.now().as_secs_f64());
        let mut story = self.world.story();
        for (site, node) in self.nodes.iter().enumerate() {
            let switch = node.look(|inside| (inside.reconciler.status(), inside.registrar.silent().clone())).await;
            let store = node.store().map(|store| (store.status().role, store.read(|r| r.0.applied())));
            story.push(format!("node {}: {store:?}, switch and silent routers: {switch:?}", site + 1));
        }
        Failure { seed, what, story }
    }

    async fn all(&mut self, seed: u64) -> Result<Report, String> {
        let routers = usize::try_from(self.world.net.pick(2..MAX_ROUTERS as u64 + 1)).unwrap_or(2);
        for n in 0..routers {
            let home = self.site();
            self.routers.push(Router::new(self.world.clone(), n, home));
            let at = Duration::from_millis(self.world.net.pick(500..3_500));
            self.plan(at, Due::Fault(Fault::RouterStart(n)));
        }
        if self.world.setup().endpoints {
            for site in 0..self.nodes.len() {
                self.endpoints.push(Endpoint::new(self.world.clone(), site, access::mac(site)));
                let at = Duration::from_millis(self.world.net.pick(500..3_500));
                self.plan(at, Due::Fault(Fault::EndpointStart(site)));
            }
            self.plan(PROMISES_AT, Due::Promises);
        }
        let drawn = faults::draw(seed, self.world.setup(), self.nodes.len(), routers, FAULTS_FROM, HEAL);
        if drawn.iter().any(|(_, fault)| matches!(fault, Fault::Forget(..))) {
            self.world.set_audits(4);
        }
        for (at, fault) in drawn {
            self.plan(at, Due::Fault(fault));
        }
        self.start().await?;
        self.plan(FAULTS_FROM, Due::Churn);
        self.until(HEAL).await?;
        self.heal().await?;
        let settled = self.settle().await?;
        self.until(settled + REST).await?;
        self.settle().await.map_err(|why| format!("it had settled, and then: {why}"))?;
        let applied = self.nodes[0].store().map_or(0, |store| store.read(|r| r.0.applied()));
        let digest = crc32fast::hash(self.world.story().join("\n").as_bytes());
        Ok(Report { settled_after: settled - HEAL, simulated: self.world.now(), applied, digest })
    }

    /// Turns all controllers on, and begins to look at them.
    pub async fn start(&mut self) -> Result<(), String> {
        for site in 0..self.nodes.len() {
            self.nodes[site].start().await?;
        }
        self.plan(LOOK, Due::Look);
        Ok(())
    }

    fn site(&self) -> Site {
        usize::try_from(self.world.net.pick(0..self.nodes.len() as u64)).unwrap_or(0)
    }

    /// Something is due at a time.
    pub fn plan(&mut self, at: Duration, due: Due) {
        self.count += 1;
        self.due.insert((at, self.count), due);
    }

    /// Lets time pass, with all that is due in it.
    pub async fn until(&mut self, end: Duration) -> Result<(), String> {
        while let Some(entry) = self.due.first_entry().filter(|e| e.key().0 <= end) {
            let ((at, _), due) = entry.remove_entry();
            tokio::time::sleep_until(self.world.at(at)).await;
            match due {
                Due::Look => {
                    self.checks.during(&self.world, &self.histories, &self.nodes, &self.routers).await?;
                    self.plan(at + LOOK, Due::Look);
                }
                Due::Churn => {
                    self.churn();
                    let pause = Duration::from_millis(self.world.net.pick(300..1_500));
                    self.plan(at + pause, Due::Churn);
                }
                Due::Promises => self.promise(),
                Due::Fault(fault) => {
                    self.world.tell(|| format!("{fault:?}"));
                    self.perform(fault).await?;
                }
            }
        }
        tokio::time::sleep_until(self.world.at(end)).await;
        Ok(())
    }

    /// Something goes wrong, or right again, now.
    pub async fn perform(&mut self, fault: Fault) -> Result<(), String> {
        let world = &self.world;
        match fault {
            Fault::Cut(pairs, cut) => pairs.into_iter().for_each(|(from, to)| world.net.cut(from, to, cut)),
            Fault::Crash(site) => self.nodes[site].crash(),
            Fault::Boot(site) => self.nodes[site].start().await?,
            // One a run: the others must be a majority of the members.
            Fault::Succeed(_) if !self.deposed.is_empty() => {}
            Fault::Succeed(site) => {
                let successor = self.nodes[site].successor(self.nodes.len() as u64 + 1);
                let deposed = std::mem::replace(&mut self.nodes[site], successor);
                deposed.unplug();
                self.deposed.push(deposed);
                self.nodes[site].start().await?;
            }
            Fault::SwitchOff(site) => {
                world.switch(site).stop();
                world.turn(site);
            }
            Fault::SwitchOn(site) => self.switch_on(site),
            Fault::Clock(whose, skew) => world.set_wall(whose, skew),
            Fault::Weather(weather) => world.net.weather(weather),
            Fault::Disk(site, time) => world.net.slow_disk(site, time),
            Fault::RouterStop(n, farewell) => self.routers[n].stop(farewell),
            Fault::RouterStart(n) => self.routers[n].start()?,
            Fault::RouterMove(n, site) => self.routers[n].route(site),
            Fault::Refuse(site, updates) => world.switch(site).refuses += updates,
            Fault::Forget(site, updates) => world.switch(site).forgets += updates,
            Fault::Sever(site, severed) => world.net.sever(site, severed),
            Fault::Stall(site, time) => world.net.stall(site, time),
            Fault::RouterDrain(n, drains) => self.routers[n].drain(drains),
            Fault::Drain(n, draining) => {
                self.propose(|at| Command::Drain { at, key: router::key(n), draining });
            }
            Fault::Revoke(n, providers) => {
                let chain = self.histories.chain(&router::key(n));
                // One that never got to register has no key that anybody knows.
                if let Some(&fingerprint) = chain.get(usize::from(providers)) {
                    self.propose(|at| Command::Revoke { at, fingerprint, note: format!("router {n}'s") });
                }
            }
            Fault::EndpointStart(n) => self.endpoints[n].start(access::wanted(Lease::Short)),
            Fault::EndpointStop(n, true) => self.endpoints[n].leave(),
            Fault::EndpointStop(n, false) => self.endpoints[n].pull(),
            Fault::Wipe(site) => {
                self.nodes[site].crash();
                self.nodes[site].wipe();
            }
        }
        Ok(())
    }

    /// Operators promise what endpoints may have. What is there already stays as it is.
    fn promise(&self) {
        for site in 0..if self.endpoints.is_empty() { 0 } else { self.nodes.len() } {
            self.propose(|at| Command::PutAccessLink { at, link: access::link(site, access::SHORT_LEASE_MS) });
        }
        if !self.endpoints.is_empty() {
            self.propose(|at| Command::PutMetanet { at, metanet: access::metanet() });
        }
    }

    /// An operator asks for something through some controller, and takes it as it comes.
    fn propose(&self, command: impl FnOnce(u64) -> Command) {
        let site = self.site();
        let Some(store) = self.nodes[site].store().cloned() else { return };
        let world = self.world.clone();
        let command = command(u64::try_from(world.wall(Clock::Site(site)).as_millis()).unwrap_or(u64::MAX));
        tokio::spawn(async move {
            let outcome = store.propose(command.clone(), PATIENCE).await;
            world.tell(|| format!("{command:?} through node {}: {outcome:?}", site + 1));
        });
    }

    fn switch_on(&self, site: Site) {
        let mut switch = self.world.switch(site);
        if switch.boot() == 0 {
            switch.start();
            drop(switch);
            self.world.turn(site);
        }
    }

    /// A change of the configuration from some node: each names the one before, so none can be lost unseen.
    fn churn(&mut self) {
        let site = self.site();
        let Some(store) = self.nodes[site].store().cloned() else { return };
        self.moved = self.moved.wrapping_add(1).clamp(16, 250);
        let moved = self.moved;
        let mut config = store.read(|r| r.0.config().clone());
        if config.version == 0 {
            return;
        }
        config.version += 1;
        config.services.insert(MOVED_SERVICE, Ipv4Addr::new(198, 51, 100, moved));
        let histories = self.histories.clone();
        let world = self.world.clone();
        tokio::spawn(async move {
            let version = config.version;
            let command = Command::PutConfig { at: 0, config };
            let outcome = store.propose(command, PATIENCE).await;
            world.tell(|| format!("configuration {version} with {moved} through node {}: {outcome:?}", site + 1));
            if let Ok((_, Reply::Done)) = outcome {
                histories.acknowledged(version, moved);
            }
        });
    }

    async fn heal(&mut self) -> Result<(), String> {
        self.world.tell(|| "everything heals".into());
        self.due.retain(|_, due| matches!(due, Due::Look));
        self.world.net.heal();
        self.world.set_walls_right();
        // Somebody turns it off at last.
        self.deposed.iter_mut().for_each(Node::crash);
        for site in 0..self.nodes.len() {
            {
                let mut switch = self.world.switch(site);
                switch.refuses = 0;
                switch.forgets = 0;
            }
            self.switch_on(site);
            self.nodes[site].start().await?;
        }
        // The first time may have been too early.
        let again = self.world.now() + PATIENCE;
        self.plan(again, Due::Promises);
        Ok(())
    }

    /// Waits until all is as it should be. Returns when that was.
    pub async fn settle(&mut self) -> Result<Duration, String> {
        let patience = self.world.now() + SETTLE;
        loop {
            let settled = check::settled(&self.world, &self.histories, &self.nodes, &self.routers, &self.endpoints);
            let settled = settled.await;
            match settled {
                Ok(()) => return Ok(self.world.now()),
                Err(why) if self.world.now() > patience => return Err(why),
                Err(_) => self.until(self.world.now() + LOOK).await?,
            }
        }
    }
}
