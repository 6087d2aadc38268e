//! `Watch` of the operator API: events to whoever watches, and no more than a full queue's worth to whoever is slow.
//!
//! ```text
//!   actor ──tell──▶ Hub ──(one bounded ring; each reader has a place in it)──▶ streams of the operator API
//!   store.changed() ─▶ Follow ──tell──▲
//! ```
//!
//! Telling never waits: a reader that falls behind the ring loses events, is told how many, and goes on.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use dmux_raft_store::Store;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::clock::Wall;
use super::explain::considered;
use super::replicated::Replicated;
use crate::api::v1::event::What;
use crate::api::v1::{self, Event};
use crate::model::{Endpoint, MetalinkId, Registered};
use crate::selection::Choice;
use crate::watching::{Follower, Happening};

/// Events that may wait for a reader; a slower one misses the oldest.
pub(super) const WATCH_QUEUE: usize = 1024;
/// Readers at a time.
pub(super) const MAX_WATCHERS: usize = 64;
/// Readers that may wait to be let in.
const ARRIVALS: usize = 16;

/// A stream of the API.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

/// Where happenings are told.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    gateway: u32,
    wall: Wall,
    events: broadcast::Sender<Arc<Event>>,
    /// The number of the last event. Held while one is sent, so that readers get them in order.
    sequence: Arc<Mutex<u64>>,
}

impl Hub {
    pub(super) fn new(gateway: u32, wall: Wall) -> Self {
        Self { gateway, wall, events: broadcast::Sender::new(WATCH_QUEUE), sequence: Arc::default() }
    }

    /// Whether anybody would hear.
    pub(super) fn is_watched(&self) -> bool {
        self.events.receiver_count() > 0
    }

    /// Tells all readers. Costs next to nothing while there are none, and never waits.
    pub(super) fn tell(&self, happened: impl IntoIterator<Item = Happening>) {
        if !self.is_watched() {
            return;
        }
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        for happening in happened {
            *sequence += 1;
            // An error means that the last reader has just left.
            let _ = self.events.send(Arc::new(self.event(*sequence, to_message(happening))));
        }
    }

    fn event(&self, sequence: u64, what: What) -> Event {
        Event { sequence, at_ms: self.wall.unix_ms(), gateway: self.gateway, what: Some(what) }
    }

    /// A new reader, which hears everything from now on.
    fn subscribe(&self, follower: &Follower) -> Events {
        let sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.events.subscribe();
        let (registrations, gateways) = follower.counts();
        let marker = v1::SnapshotMarker {
            applied: follower.applied(),
            registrations: registrations as u64,
            gateways: gateways as u64,
        };
        let first = self.event(*sequence, What::Snapshot(marker));
        drop(sequence);
        let hub = self.clone();
        let rest = BroadcastStream::new(receiver).map(move |event| match event {
            Ok(event) => Ok(Event::clone(&event)),
            // The number of an event that was missed for certain; the next one shows how many.
            Err(BroadcastStreamRecvError::Lagged(missed)) => Ok(hub.event(0, What::Missed(missed))),
        });
        Box::pin(tokio_stream::once(Ok(first)).chain(rest))
    }
}

/// Lets readers in, and tells them what changes in the replicated state.
pub(super) struct Follow {
    store: Store<Replicated>,
    hub: Hub,
    arrivals: mpsc::Receiver<oneshot::Sender<Result<Events, Status>>>,
}

/// Where readers knock.
#[derive(Debug, Clone)]
pub(super) struct Door(mpsc::Sender<oneshot::Sender<Result<Events, Status>>>);

impl Door {
    /// Lets a reader in.
    pub(super) async fn enter(&self) -> Result<Events, Status> {
        let stopped = || Status::unavailable("the controller stops");
        let (answer, events) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| stopped())?;
        events.await.map_err(|_| stopped())?
    }
}

impl Follow {
    pub(super) fn new(store: Store<Replicated>, hub: Hub) -> (Self, Door) {
        let (door, arrivals) = mpsc::channel(ARRIVALS);
        (Self { store, hub, arrivals }, Door(door))
    }

    /// Runs until the API is gone.
    pub(super) async fn run(mut self) {
        let mut changed = self.store.changed();
        // Only while there are readers: it is a copy of what it follows.
        let mut follower: Option<Follower> = None;
        loop {
            tokio::select! {
                arrival = self.arrivals.recv() => {
                    let Some(answer) = arrival else { return };
                    // Whoever is there hears what was before the new one; and the new one does not.
                    self.catch_up(&mut follower);
                    let follower = follower.get_or_insert_with(|| self.store.read(|r| Follower::new(&r.0)));
                    let events = if self.hub.events.receiver_count() < MAX_WATCHERS {
                        Ok(self.hub.subscribe(follower))
                    } else {
                        Err(Status::resource_exhausted(format!("{MAX_WATCHERS} readers watch already; stop one")))
                    };
                    // The caller may have given up, which ends its subscription.
                    let _ = answer.send(events);
                }
                alive = changed.changed(), if follower.is_some() => {
                    if alive.is_err() {
                        return;
                    }
                    changed.mark_unchanged();
                    self.catch_up(&mut follower);
                }
            }
        }
    }

    fn catch_up(&self, follower: &mut Option<Follower>) {
        if !self.hub.is_watched() {
            *follower = None;
        }
        if let Some(follower) = follower {
            self.hub.tell(self.store.read(|r| follower.follow(&r.0)));
        }
    }
}

fn to_message(happening: Happening) -> What {
    let gateway = |kind: &str, id: dmux_wire::GatewayId, name: String| {
        What::GatewayEvent(v1::GatewayEvent { kind: kind.into(), id: id.0.into(), name })
    };
    match happening {
        Happening::Registered(now) => registration("registered", &now, String::new()),
        Happening::Changed(now, detail) => registration("changed", &now, detail),
        Happening::Adopted { from, now } => registration("adopted", &now, format!("gateway {from} heard it before")),
        Happening::Renewed(now) => registration("renewed", &now, String::new()),
        Happening::Gone(last) => registration("gone", &last, String::new()),
        Happening::GatewayAdded(g) => gateway("added", g.id, g.name),
        Happening::GatewayChanged(g) => gateway("changed", g.id, g.name),
        Happening::GatewayRemoved(g) => gateway("removed", g.id, g.name),
        Happening::Reachable(id, true) => gateway("reachable", id, String::new()),
        Happening::Reachable(id, false) => gateway("unreachable", id, String::new()),
        Happening::Choice { destination, before, now } => {
            let at = |choice: &Option<Choice>| choice.as_ref().map(|choice| choice.gateway.0.into());
            What::Choice(v1::ChoiceEvent {
                protocol: destination.protocol.0.into(),
                provider: destination.provider.0,
                before: at(&before),
                now: at(&now),
                suspect: now.as_ref().is_some_and(|choice| choice.suspect),
            })
        }
        Happening::Switch { before, now, detail } => {
            What::Switch(v1::SwitchEvent { before: before.to_string(), now: now.to_string(), detail })
        }
        Happening::Liveness(key, heard) => What::Liveness(v1::LivenessEvent {
            protocol: key.protocol.0.into(),
            address: key.router.to_string(),
            heard,
        }),
        Happening::Dampened(key, held_out) => What::Dampening(v1::DampeningEvent {
            protocol: key.protocol.0.into(),
            address: key.router.to_string(),
            held_out,
        }),
        Happening::Config(version) => What::Config(v1::ConfigEvent { version }),
        Happening::GivenBack { metalink, endpoint, why } => metalink_event("given back", Some(metalink), endpoint, why),
        Happening::Violation { metalink, endpoint, times } => {
            metalink_event("violation", metalink, endpoint, format!("{times} times since this controller started"))
        }
    }
}

fn metalink_event(kind: &str, metalink: Option<MetalinkId>, endpoint: Endpoint, detail: String) -> What {
    What::Metalink(v1::MetalinkEvent {
        kind: kind.into(),
        mli: metalink.map_or(0, |metalink| metalink.mli.0),
        port: endpoint.port.into(),
        mac: endpoint.mac.to_string(),
        detail,
    })
}

fn registration(kind: &str, registered: &Registered, detail: String) -> What {
    What::Registration(v1::RegistrationEvent {
        kind: kind.into(),
        protocol: registered.registration.key.protocol.0.into(),
        router: Some(considered(registered)),
        detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(happened: u64) -> impl Iterator<Item = Happening> {
        (1..=happened).map(Happening::Config)
    }

    async fn next(events: &mut Events) -> Event {
        events.next().await.expect("a stream without end").expect("an event")
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_much_it_missed_and_nobody_waits_for_it() {
        let hub = Hub::new(3, Wall::system());
        let follower = Follower::new(&crate::model::Model::new());
        hub.tell(numbers(5));
        let (mut slow, mut quick) = (hub.subscribe(&follower), hub.subscribe(&follower));
        for events in [&mut slow, &mut quick] {
            let first = next(events).await;
            assert!(matches!(first.what, Some(What::Snapshot(_))), "{first:?}");
            assert_eq!((first.gateway, first.sequence), (3, 0), "nobody watched the first five");
        }
        let more = WATCH_QUEUE as u64 + 10;
        for version in 1..=more {
            hub.tell([Happening::Config(version)]);
            let event = next(&mut quick).await;
            assert_eq!((event.sequence, event.what), (version, Some(What::Config(v1::ConfigEvent { version }))));
        }
        assert_eq!(next(&mut slow).await.what, Some(What::Missed(10)));
        for sequence in 11..=more {
            assert_eq!(next(&mut slow).await.sequence, sequence, "the newest are still there");
        }
        drop((slow, quick));
        assert!(!hub.is_watched());
    }
}
