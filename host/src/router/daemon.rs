use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// A [`RouterCore`] with its edges: transport, clock, sink.
#[derive(Debug)]
pub struct RouterDaemon<T, S> {
    core: RouterCore,
    transport: T,
    sink: S,
    stats: Stats,
    started: Instant,
}

impl<T: Transport, S: Sink> RouterDaemon<T, S> {
    /// Nothing is sent before [`run`](Self::run).
    pub fn new(core: RouterCore, transport: T, sink: S) -> Self {
        Self { core, transport, sink, stats: Stats::default(), started: Instant::now() }
    }

    /// Registers and serves until `stop`, then says farewell. Every event is told. Ends early only when the transport
    /// fails for good.
    pub async fn run(mut self, stop: impl Future<Output = ()>, mut tell: impl FnMut(&Event)) -> io::Result<Stats> {
        let mut stop = pin!(stop);
        let mut stopping = false;
        let mut buffer = vec![0; MAX_FRAME];
        let actions = self.core.start(self.now());
        self.perform(actions, &mut tell).await?;
        while !self.core.is_stopped() {
            let wait = self.core.deadline().map_or(Duration::MAX, |at| at.saturating_sub(self.started.elapsed()));
            let actions = tokio::select! {
                received = self.transport.receive(&mut buffer) => {
                    let (from, at) = received?;
                    let payload = &buffer[at];
                    if let Some(delivery) = self.core.delivery(from, payload) {
                        self.stats.delivered += 1;
                        if let Some(answer) = self.sink.packet(&delivery) {
                            self.stats.returned += 1;
                            self.transport.send(from, &delivery.answer(&answer)).await?;
                        }
                        // A deadline that has passed must not wait for a pause in the traffic.
                        self.core.tick(self.now())
                    } else {
                        self.core.datagram(self.now(), from, payload)
                    }
                }
                () = sleep(wait) => self.core.tick(self.now()),
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.core.stop(self.now())
                }
            };
            self.perform(actions, &mut tell).await?;
        }
        Ok(self.stats)
    }

    async fn perform(&self, actions: Vec<Action>, tell: &mut impl FnMut(&Event)) -> io::Result<()> {
        for action in actions {
            match action {
                Action::Send { to, bytes } => self.transport.send(to, &bytes).await?,
                Action::Tell(event) => tell(&event),
            }
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.started.elapsed(), unix }
    }
}
