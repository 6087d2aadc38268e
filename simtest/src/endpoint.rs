//! An endpoint on a site's access LAN: the real state machine, on a simulated port of the switch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmux_host::endpoint::{Action, EndpointConfig, EndpointCore, Event, Held, Now, Timers, Wanted};
use dmux_wire::MacAddr;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use crate::net::Site;
use crate::world::{Clock, World};

/// What an endpoint has, and what it was told.
#[derive(Debug, Clone, Default)]
pub struct Belief {
    /// Its metalink.
    pub held: Option<Held>,
    /// Everything that happened to it.
    pub events: Vec<Event>,
    /// It has given everything back, or waited long enough for that.
    pub stopped: bool,
}

/// An endpoint's machine.
pub struct Endpoint {
    world: Arc<World>,
    site: Site,
    mac: MacAddr,
    belief: Arc<Mutex<Belief>>,
    running: Option<(AbortHandle, Arc<Notify>)>,
}

fn lock(belief: &Mutex<Belief>) -> MutexGuard<'_, Belief> {
    belief.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    /// A machine that is off.
    pub fn new(world: Arc<World>, site: Site, mac: MacAddr) -> Self {
        Self { world, site, mac, belief: Arc::default(), running: None }
    }

    /// What it believes.
    pub fn belief(&self) -> Belief {
        lock(&self.belief).clone()
    }

    /// Whether it runs, and means to stay.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Where it is.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Starts it, if it does not run; it wants one metalink.
    pub fn start(&mut self, wanted: Wanted) {
        if self.is_running() {
            return;
        }
        let timers = Timers {
            max_retry: Duration::from_secs(4),
            refused_retry: Duration::from_secs(4),
            farewell: Duration::from_secs(60),
            ..Timers::default()
        };
        let config = EndpointConfig { mac: self.mac, wanted: vec![wanted], timers };
        let core = EndpointCore::new(config, None, self.world.net.bytes());
        let (inbox, frames) = mpsc::unbounded_channel();
        self.world.join_lan(self.site, self.mac, inbox);
        let stop = Arc::new(Notify::new());
        // One that is still leaving believes for itself.
        self.belief = Arc::default();
        let machine = Machine { world: self.world.clone(), site: self.site, core, belief: self.belief.clone() };
        let task = tokio::spawn(machine.run(frames, stop.clone())).abort_handle();
        self.running = Some((task, stop));
    }

    /// It gives everything back and ends.
    pub fn leave(&mut self) {
        if let Some((_, stop)) = self.running.take() {
            stop.notify_one();
        }
    }

    /// Its plug is pulled.
    pub fn pull(&mut self) {
        if let Some((task, _)) = self.running.take() {
            task.abort();
            lock(&self.belief).held = None;
        }
    }
}

struct Machine {
    world: Arc<World>,
    site: Site,
    core: EndpointCore,
    belief: Arc<Mutex<Belief>>,
}

impl Machine {
    async fn run(mut self, mut frames: mpsc::UnboundedReceiver<Vec<u8>>, stop: Arc<Notify>) {
        let actions = self.core.start(self.now());
        self.perform(actions);
        while !self.core.is_stopped() {
            let due = self.core.deadline().unwrap_or(self.world.now() + Duration::from_secs(3600));
            let actions = tokio::select! {
                // What arrives with a deadline comes before it. Tokio would draw lots, and not by the seed alone: it counts runtimes.
                biased;
                () = stop.notified() => {
                    let now = self.now();
                    self.core.stop(now)
                }
                frame = frames.recv() => {
                    let Some(frame) = frame else { return };
                    let now = self.now();
                    self.core.frame(now, &frame)
                }
                () = tokio::time::sleep_until(self.world.at(due)) => {
                    let now = self.now();
                    self.core.tick(now)
                }
            };
            self.perform(actions);
        }
        lock(&self.belief).stopped = true;
    }

    fn now(&self) -> Now {
        Now { mono: self.world.now(), unix: self.world.wall(Clock::Router(0)) }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(frame) => self.world.from_endpoint(self.site, frame),
                Action::Tell(event) => {
                    self.world.tell(|| format!("endpoint: {event:?}"));
                    lock(&self.belief).events.push(event);
                }
            }
        }
        lock(&self.belief).held = self.core.held(0).copied();
    }
}
