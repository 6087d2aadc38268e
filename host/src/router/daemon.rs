use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dmux_wire::ProtocolId;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Action, Event, Now, RouterCore, Sink, Transport};
use crate::link::MAX_FRAME;

/// What a router has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Packets de-tunnelled.
    pub delivered: u64,
    /// Packets sent back.
    pub returned: u64,
}

/// One address's [`RouterCore`]s, a protocol each, with their edges: transport, clock, sink.
#[derive(Debug)]
pub struct RouterDaemon<T, S> {
    cores: Vec<RouterCore>,
    transport: T,
    sink: S,
    stats: Stats,
    started: Instant,
}

impl<T: Transport, S: Sink> RouterDaemon<T, S> {
    /// The cores register one address and port, each its own protocol. Nothing is sent before [`run`](Self::run).
    pub fn new(cores: Vec<RouterCore>, transport: T, sink: S) -> Self {
        Self { cores, transport, sink, stats: Stats::default(), started: Instant::now() }
    }

    /// Registers and serves until `stop`, then says farewell; registers as draining while `drain` is true. Every event is
    /// told, with its protocol. Ends early only when the transport fails for good.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        mut drain: watch::Receiver<bool>,
        mut tell: impl FnMut(ProtocolId, &Event),
    ) -> io::Result<Stats> {
        let mut stop = pin!(stop);
        let mut stopping = false;
        let mut buffer = vec![0; MAX_FRAME];
        let draining = *drain.borrow_and_update();
        let mut may_drain = true;
        self.each(&mut tell, |core, now| {
            let mut actions = core.set_draining(now, draining);
            actions.extend(core.start(now));
            actions
        })
        .await?;
        while !self.cores.iter().all(RouterCore::is_stopped) {
            let due = self.cores.iter().filter_map(RouterCore::deadline).min();
            let wait = due.map_or(Duration::MAX, |at| at.saturating_sub(self.started.elapsed()));
            tokio::select! {
                received = self.transport.receive(&mut buffer) => {
                    let (from, at) = received?;
                    let payload = &buffer[at];
                    if let Some(delivery) = self.cores.iter().find_map(|core| core.delivery(from, payload)) {
                        self.stats.delivered += 1;
                        if let Some(answer) = self.sink.packet(&delivery) {
                            self.stats.returned += 1;
                            self.transport.send(from, &delivery.answer(&answer)).await?;
                        }
                        // A deadline that has passed must not wait for a pause in the traffic.
                        self.each(&mut tell, RouterCore::tick).await?;
                    } else {
                        // An answer is to one core's request: the others do not know its nonce.
                        self.each(&mut tell, |core, now| core.datagram(now, from, payload)).await?;
                    }
                }
                () = sleep(wait) => self.each(&mut tell, RouterCore::tick).await?,
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.each(&mut tell, RouterCore::stop).await?;
                }
                changed = drain.changed(), if may_drain && !stopping => {
                    may_drain = changed.is_ok();
                    let draining = *drain.borrow_and_update();
                    self.each(&mut tell, |core, now| core.set_draining(now, draining)).await?;
                }
            }
        }
        Ok(self.stats)
    }

    /// Lets each core do something, and performs what comes of it.
    async fn each(
        &mut self,
        tell: &mut impl FnMut(ProtocolId, &Event),
        mut step: impl FnMut(&mut RouterCore, Now) -> Vec<Action>,
    ) -> io::Result<()> {
        let now = self.now();
        for core in &mut self.cores {
            for action in step(core, now) {
                match action {
                    Action::Send { to, bytes } => self.transport.send(to, &bytes).await?,
                    Action::Tell(event) => tell(core.protocol(), &event),
                }
            }
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.started.elapsed(), unix }
    }
}
