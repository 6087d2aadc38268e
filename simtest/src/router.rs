//! An IPvN router: the real state machine of the router daemon, on a simulated socket.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmux_controller::model::RegistrationKey;
use dmux_host::router::{Action, Event, Now, RouterConfig, RouterCore, Timers};
use dmux_wire::{GatewayId, ProtocolId, ProviderId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use crate::certs;
use crate::net::Site;
use crate::world::{Clock, Port, REGISTRATION, World};

/// Routers at most.
pub const MAX_ROUTERS: usize = 6;

/// Where the `n`th router is.
pub fn address(n: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 100 + u8::try_from(n).unwrap_or(0)), 4000)
}

/// What the `n`th router speaks.
pub fn protocol(n: usize) -> ProtocolId {
    ProtocolId(if n % 3 == 2 { 42 } else { 41 })
}

/// Whose the `n`th router is.
pub fn provider(n: usize) -> ProviderId {
    ProviderId(if n.is_multiple_of(2) { 7 } else { 8 })
}

/// What the `n`th router registers.
pub fn key(n: usize) -> RegistrationKey {
    RegistrationKey { protocol: protocol(n), router: address(n) }
}

/// What a router believes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Belief {
    /// Who hears it, while it is registered.
    pub gateway: Option<GatewayId>,
    /// When it was last told that its registration is accepted.
    pub accepted: Option<Duration>,
}

/// A router's machine.
pub struct Router {
    world: Arc<World>,
    n: usize,
    belief: Arc<Mutex<Belief>>,
    running: Option<(AbortHandle, Arc<Notify>)>,
    /// Whether it wants no new clients.
    drains: watch::Sender<bool>,
    /// When it stopped last.
    stopped: Duration,
}

impl Router {
    /// A machine that is off.
    pub fn new(world: Arc<World>, n: usize, home: Site) -> Self {
        world.set_port(address(n), Port { home, path: home, inbox: None });
        Self {
            world,
            n,
            belief: Arc::default(),
            running: None,
            drains: watch::channel(false).0,
            stopped: Duration::ZERO,
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// When it stopped last.
    pub fn stopped(&self) -> Duration {
        self.stopped
    }

    /// What it believes.
    pub fn belief(&self) -> Belief {
        *lock(&self.belief)
    }

    /// Whether it wants no new clients.
    pub fn drains(&self) -> bool {
        *self.drains.borrow()
    }

    /// From now on it wants no new clients, or wants them again.
    pub fn drain(&self, drains: bool) {
        self.drains.send_replace(drains);
    }

    /// Starts it, if it does not run.
    pub fn start(&mut self) -> Result<(), String> {
        if self.running.is_some() {
            return Ok(());
        }
        let config = RouterConfig {
            registration: REGISTRATION,
            router: address(self.n),
            protocol: protocol(self.n),
            provider: provider(self.n),
            weight: 1,
            keepalive: None,
            timers: Timers {
                max_retry: Duration::from_secs(4),
                refused_retry: Duration::from_secs(4),
                ..Timers::default()
            },
        };
        let core = RouterCore::new(config, certs::router(self.n)?, self.world.net.bytes());
        let (inbox, datagrams) = mpsc::unbounded_channel();
        if let Some(port) = self.world.port(address(self.n)) {
            self.world.set_port(address(self.n), Port { inbox: Some(inbox), ..port });
        }
        let stop = Arc::new(Notify::new());
        let daemon = Daemon {
            world: self.world.clone(),
            n: self.n,
            core,
            belief: self.belief.clone(),
            drains: self.drains.subscribe(),
        };
        let task = tokio::spawn(daemon.run(datagrams, stop.clone())).abort_handle();
        self.running = Some((task, stop));
        Ok(())
    }

    /// Stops it: with a farewell, or as if its plug was pulled.
    pub fn stop(&mut self, farewell: bool) {
        let Some((task, stop)) = self.running.take() else { return };
        self.stopped = self.world.now();
        lock(&self.belief).accepted = None;
        if farewell {
            stop.notify_one();
            return;
        }
        task.abort();
        lock(&self.belief).gateway = None;
        if let Some(port) = self.world.port(address(self.n)) {
            self.world.set_port(address(self.n), Port { inbox: None, ..port });
        }
    }

    /// Anycast takes its datagrams to another gateway.
    pub fn route(&self, path: Site) {
        if let Some(port) = self.world.port(address(self.n)) {
            self.world.set_port(address(self.n), Port { path, ..port });
        }
    }
}

fn lock(belief: &Mutex<Belief>) -> MutexGuard<'_, Belief> {
    belief.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Daemon {
    world: Arc<World>,
    n: usize,
    core: RouterCore,
    belief: Arc<Mutex<Belief>>,
    drains: watch::Receiver<bool>,
}

impl Daemon {
    async fn run(mut self, mut datagrams: mpsc::UnboundedReceiver<(SocketAddrV4, Vec<u8>)>, stop: Arc<Notify>) {
        let (now, drains) = (self.now(), *self.drains.borrow_and_update());
        self.core.set_draining(now, drains);
        let actions = self.core.start(now);
        self.perform(actions);
        while !self.core.is_stopped() {
            let due = self.core.deadline().unwrap_or(self.world.now() + Duration::from_secs(3600));
            let actions = tokio::select! {
                () = stop.notified() => {
                    let now = self.now();
                    self.core.stop(now)
                }
                Ok(()) = self.drains.changed() => {
                    let (now, drains) = (self.now(), *self.drains.borrow_and_update());
                    self.core.set_draining(now, drains)
                }
                datagram = datagrams.recv() => {
                    let Some((from, payload)) = datagram else { return };
                    let now = self.now();
                    self.core.datagram(now, from, &payload)
                }
                () = tokio::time::sleep_until(self.world.at(due)) => {
                    let now = self.now();
                    self.core.tick(now)
                }
            };
            self.perform(actions);
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.world.now(), unix: self.world.wall(Clock::Router(self.n)) }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, bytes } => self.world.from_router(address(self.n), to, &bytes),
                Action::Tell(event) => {
                    if let Event::Registered { .. } = event {
                        lock(&self.belief).accepted = Some(self.world.now());
                    }
                    self.world.tell(|| format!("router {}: {event:?}", self.n));
                }
            }
        }
        lock(&self.belief).gateway = self.core.gateway();
    }
}
