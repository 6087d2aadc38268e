//! One controller: the real store over a disk that can lose its power, the real actor, and a session with the model
//! switch of its site.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dmux_controller::config::ControllerConfig;
use dmux_controller::plan::{Action, Event, Update};
use dmux_controller::runtime::{
    Bare, Frames, Inside, Parts, Replicated, SwitchAction, SwitchEvent, SwitchInput, SwitchInputs,
};
use dmux_p4rt::ElectionId;
use dmux_p4rt::p4::v1::PacketOut;
use dmux_raft_store::engine::CrashEngine;
use dmux_raft_store::{Listen, Simulated, SnapshotPolicy, Start, Store, StoreConfig, Timing};
use dmux_tables::{AnyEntry, MetalinkRxAction};
use dmux_wire::{CONTROL_MLI, Ethernet, Substrate, ethernet};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::certs;
use crate::check::Histories;
use crate::net::{Plug, Site};
use crate::traps::FaultPoint;
use crate::world::{ACCESS_LINK, ACCESS_PORT, World, unicast};

/// So few entries between snapshots that runs of half a minute see them travel.
const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy { every: 40, keep: 10 };
/// Of each site's access link.
pub const ACCESS_PORTS: [u16; 4] = [ACCESS_PORT, 3, 4, 5];
const HEARTBEAT: Duration = Duration::from_millis(200);

/// A controller's machine.
pub struct Node {
    world: Arc<World>,
    histories: Arc<Histories>,
    site: Site,
    /// In the Raft cluster.
    id: u64,
    /// Whom it joins the cluster in place of; the first members bootstrap it.
    replaces: Option<u64>,
    boot: u64,
    disk: CrashEngine,
    running: Option<Running>,
}

struct Running {
    store: Store<Replicated>,
    bare: Bare,
    tasks: Vec<AbortHandle>,
}

/// A node's address in the Raft cluster.
fn address(id: u64) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 7000 + u16::try_from(id).unwrap_or(0)))
}

fn config(world: &World, site: Site, id: u64) -> Result<ControllerConfig, String> {
    let (number, audit_s) = (site + 1, world.audits());
    let port = |n| format!("[[site.ports]]\nnumber = {n}\nrole = \"access\"\nmac = \"02:00:00:00:02:{n:02x}\"\n");
    let access: String = ACCESS_PORTS.map(port).concat();
    let text = format!(
        r#"
node = {id}
data = "data"
authority = "ca.crt"
[gateway]
id = {number}
name = "site-{number}"
address = "{}"
[switch]
p4runtime = "127.0.0.1:1"
pipeline = "gateway"
[cluster]
listen = "{}"
[api]
listen = "127.0.0.1:1"
[dmux]
prefix = "198.51.100.0/24"
registration = "198.51.100.2"
services = {{ 1 = "198.51.100.1" }}
{}[timers]
audit_s = {audit_s}
[[site.ports]]
number = 1
role = "wan"
mac = "02:00:00:00:01:{number:02x}"
[site.next_hops.upstream]
port = 1
mac = "02:00:00:00:ff:01"
mtu = 1500
[[site.routes]]
prefix = "0.0.0.0/0"
next_hops = ["upstream"]
[[site.access_links]]
name = "{ACCESS_LINK}"
ports = {ACCESS_PORTS:?}
provisioned_vid = 100
multipoint_vid = 200
pcp = 5
queue = 7
{access}"#,
        unicast(site),
        address(id),
        world.setup().dmux()
    );
    ControllerConfig::parse(&text, Path::new("simulated.toml")).map_err(|e| e.to_string())
}

impl Node {
    /// A machine that is off, with an empty disk.
    pub fn new(world: Arc<World>, histories: Arc<Histories>, site: Site) -> Self {
        let id = site as u64 + 1;
        Self { world, histories, site, id, replaces: None, boot: 0, disk: CrashEngine::new(), running: None }
    }

    /// A new machine for the same gateway, under a node id that was never used.
    pub fn successor(&self, id: u64) -> Self {
        let mut new = Self::new(self.world.clone(), self.histories.clone(), self.site);
        (new.id, new.replaces) = (id, Some(self.id));
        new
    }

    /// Its id, and how often it has started.
    pub fn process(&self) -> (u64, u64) {
        (self.id, self.boot)
    }

    /// Takes its disk away: to be called while it is off.
    pub fn wipe(&mut self) {
        self.disk = CrashEngine::new();
        self.histories.wiped(self.id);
    }

    /// The other controllers hear nothing of it any more, while it goes on.
    pub fn unplug(&self) {
        self.world.net.unplug(&address(self.id).to_string());
    }

    /// The store, while it runs.
    pub fn store(&self) -> Option<&Store<Replicated>> {
        self.running.as_ref().map(|r| &r.store)
    }

    /// Whether it has the switch's epoch.
    pub fn has_announced(&self) -> bool {
        self.running.as_ref().is_some_and(|r| r.bare.epoch().borrow().is_some())
    }

    /// Looks inside its actor.
    pub async fn look<T: Send + 'static>(&self, f: impl FnOnce(Inside<'_>) -> T + Send + 'static) -> Option<T> {
        self.running.as_ref()?.bare.look(f).await
    }

    /// Starts the process, if it does not run.
    pub async fn start(&mut self) -> Result<(), String> {
        if self.running.is_some() {
            return Ok(());
        }
        self.boot += 1;
        let (world, site, boot, id) = (self.world.clone(), self.site, self.boot, self.id);
        let members = (1..=world.sites() as u64).map(|n| (n, address(n).to_string()));
        let start = match self.replaces {
            None => Start::Bootstrap { members: members.collect() },
            replaces => Start::Join { seeds: members.map(|(_, addr)| addr).collect(), replaces },
        };
        let mut store_config = StoreConfig::new(id, "disk", Listen::Addr(address(id)), start);
        store_config.timing = Timing { heartbeat: HEARTBEAT, ..Timing::default() };
        store_config.snapshots = SNAPSHOTS;
        let net = world.net.clone();
        let simulated = Simulated {
            engine: Arc::new(self.disk.clone()),
            sync_time: Arc::new(move || net.sync_time(site)),
            wire: Arc::new(Plug {
                net: world.net.clone(),
                site,
                boot,
                addr: address(id).to_string(),
                traps: world.traps.clone(),
            }),
        };
        let store = Store::open_simulated(simulated, store_config, Replicated::default())
            .await
            .map_err(|e| format!("node {id} does not start: {e}"))?;
        let connected = Arc::new(AtomicBool::new(false));
        let (bare, actions) = Bare::start(Parts {
            config: config(&world, site, id)?,
            store: store.clone(),
            authorities: certs::authorities()?,
            secret: world.net.bytes(),
            wall: world.wall_of(site),
            frames: Arc::new(ToSwitch { world: world.clone(), site, connected: connected.clone() }),
        });
        let session = Session {
            world: world.clone(),
            site,
            who: (id, boot),
            epoch: bare.epoch(),
            actions,
            inputs: bare.switch(),
            connected,
        };
        let session: JoinHandle<()> = tokio::spawn(session.run());
        let (histories, fresh) = (self.histories.clone(), store.clone());
        tokio::spawn(async move {
            // A store tells term 0 until it has looked at its disk.
            if let Some(status) = fresh.wait_for(Duration::from_secs(1), |status| status.term > 0).await {
                histories.in_term(id, status.term);
            }
        });
        let follow: JoinHandle<()> = tokio::spawn(follow(world.clone(), store.clone(), self.histories.clone(), site));
        let tasks = vec![session.abort_handle(), follow.abort_handle()];
        self.running = Some(Running { store, bare, tasks });
        Ok(())
    }

    /// Cuts the power: what the disk had not synced may be lost, and nothing that was under way goes on.
    pub fn crash(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.unplug();
        self.histories.in_term(self.id, running.store.status().term);
        for task in running.tasks {
            task.abort();
        }
        drop(running.bare);
        let who = (self.id, self.boot);
        self.world.switch(self.site).hang_up(who);
        let mut disks = self.disk.after_crash();
        let survivor = self.world.net.pick(0..disks.len() as u64);
        let left = disks.swap_remove(usize::try_from(survivor).unwrap_or(0));
        let dead = std::mem::replace(&mut self.disk, left);
        dead.cut_after(0);
        // Its tasks end by themselves; nobody hears of them any more.
        tokio::spawn(async move { running.store.shutdown().await });
    }
}

/// Notes what a store has applied.
async fn follow(world: Arc<World>, store: Store<Replicated>, histories: Arc<Histories>, site: Site) {
    let mut changed = store.changed();
    loop {
        histories.note(&world, site, &store);
        store.read(|r| world.traps.applied(site, &r.0));
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Frames for a switch.
struct ToSwitch {
    world: Arc<World>,
    site: Site,
    connected: Arc<AtomicBool>,
}

impl Frames for ToSwitch {
    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    fn send(&self, packet: PacketOut) -> Result<(), String> {
        if self.world.switch(self.site).boot() == 0 {
            return Err("the switch is off".into());
        }
        let answers = is_answer(&packet.payload);
        let traps = &self.world.traps;
        if traps.is_dead(self.site) || answers && traps.reached(self.site, FaultPoint::Answering) {
            return Err("it is dead".into());
        }
        self.world.from_switch(self.site, &packet.payload);
        if answers {
            traps.reached(self.site, FaultPoint::Answered);
        }
        Ok(())
    }
}

/// Whether a frame answers a request of an endpoint's.
fn is_answer(frame: &[u8]) -> bool {
    let Ok((header, rest)) = Ethernet::parse(frame) else { return false };
    let substrate = Substrate::parse(rest).map(|(substrate, _)| substrate);
    header.ether_type == ethernet::SUBSTRATE && substrate.is_ok_and(|substrate| substrate.mli == CONTROL_MLI)
}

/// Whether an action changes whether there is a metalink.
fn writes_metalink(action: &Action) -> bool {
    let Action::Write(updates) = action else { return false };
    updates.iter().any(|update| match update {
        Update::Insert(entry, _) | Update::Delete(entry) => {
            matches!(entry, AnyEntry::MetalinkRx(_, MetalinkRxAction::Metalink { .. }))
        }
        _ => false,
    })
}

/// Stands in for the switch task: the same events, from the model switch.
struct Session {
    world: Arc<World>,
    site: Site,
    who: (u64, u64),
    epoch: watch::Receiver<Option<u64>>,
    actions: mpsc::Receiver<SwitchAction>,
    inputs: SwitchInputs,
    connected: Arc<AtomicBool>,
}

impl Session {
    async fn run(mut self) {
        let mut generation = 0;
        loop {
            let Ok(epoch) = self.epoch.wait_for(Option::is_some).await.map(|e| *e) else { return };
            let id = ElectionId::of_epoch(epoch.unwrap_or(0), self.who.0);
            generation += 1;
            let Some(why) = self.serve(generation, id).await else { return };
            self.connected.store(false, Ordering::Relaxed);
            if !self.tell(generation, Event::Disconnected { why }).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(self.world.net.pick(50..500))).await;
        }
    }

    async fn tell(&self, generation: u64, event: Event) -> bool {
        self.inputs.send(SwitchInput { generation, event: SwitchEvent::Reconcile(event) }).await
    }

    /// One session, to its end; `None` when the controller has ended.
    async fn serve(&mut self, generation: u64, id: ElectionId) -> Option<String> {
        let (cpu, mut packets) = mpsc::unbounded_channel();
        let mut turns = self.world.turns(self.site);
        let boot = self.world.switch(self.site).boot();
        if boot == 0 {
            return Some("connection refused".into());
        }
        if let Err(primary) = self.world.switch(self.site).claim(id, self.who, cpu) {
            return Some(format!("another controller, with election id {primary}, is its primary"));
        }
        self.world.turn(self.site);
        self.connected.store(true, Ordering::Relaxed);
        self.tell(generation, Event::Connected).await;
        loop {
            tokio::select! {
                turned = turns.changed() => {
                    let switch = self.world.switch(self.site);
                    if turned.is_err() || switch.boot() != boot {
                        return Some("the switch closed the stream".into());
                    }
                    if !switch.is_primary(id, self.who) {
                        return Some("another controller is its primary".into());
                    }
                }
                packet = packets.recv() => {
                    let Some(packet) = packet else { return Some("the switch closed the stream".into()) };
                    let event = SwitchEvent::PacketIn(packet);
                    if !self.inputs.send(SwitchInput { generation, event }).await {
                        return None;
                    }
                }
                action = self.actions.recv() => {
                    let action = action?;
                    if action.generation == generation {
                        self.start(boot, id, action);
                    }
                }
                changed = self.epoch.changed() => {
                    changed.ok()?;
                    return Some("another epoch".into());
                }
            }
        }
    }

    fn start(&self, boot: u64, id: ElectionId, action: SwitchAction) {
        let (world, site, who, inputs) = (self.world.clone(), self.site, self.who, self.inputs.clone());
        tokio::spawn(async move {
            let pause = || Duration::from_millis(world.net.pick(1..5));
            tokio::time::sleep(pause()).await;
            let (traps, writes) = (&world.traps, writes_metalink(&action.action));
            if traps.is_dead(site) || writes && traps.reached(site, FaultPoint::Writing) {
                return;
            }
            let event = {
                let mut switch = world.switch(site);
                if switch.boot() != boot {
                    return;
                }
                switch.perform(id, who, &action.action)
            };
            if writes && traps.reached(site, FaultPoint::Written) {
                return;
            }
            tokio::time::sleep(pause()).await;
            if let Some(event) = event {
                let event = SwitchEvent::Reconcile(event);
                inputs.send(SwitchInput { generation: action.generation, event }).await;
            }
        });
    }
}
