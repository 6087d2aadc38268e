//! The controller without its edges, for simulated clusters: the actor and the announcement run as in production, over
//! a store, a switch and a wall clock that somebody else provides.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dmux_raft_store::Store;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::actor::{Actor, Links};
use super::clock::Wall;
use super::probe::Probes;
use super::renewals::Renewals;
use super::replicated::Replicated;
use super::switch::{Frames, SwitchAction, SwitchInput};
use super::watchers::Hub;
use super::{ACTION_QUEUE, INPUT_QUEUE, Input, announce, leases};
use crate::config::ControllerConfig;
use crate::plan::{Planner, Reconciler};
use crate::registration::{Authorities, Registrar};

/// A question to the actor, answered between two inputs.
pub(super) struct Look(Box<dyn FnOnce(Inside<'_>) + Send>);

impl Look {
    pub(super) fn at(self, inside: Inside<'_>) {
        (self.0)(inside);
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

/// What the actor owns.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a> {
    /// Who is heard.
    pub registrar: &'a Registrar,
    /// What is planned.
    pub planner: &'a Planner,
    /// What the switch is believed to hold.
    pub reconciler: &'a Reconciler,
}

/// What a bare controller is made of.
pub struct Parts {
    /// As from the file; `switch`, `cluster` and `api` are not used.
    pub config: ControllerConfig,
    /// The replicated state.
    pub store: Store<Replicated>,
    /// Who may issue certificates to providers.
    pub authorities: Authorities,
    /// For cookies.
    pub secret: [u8; 32],
    /// The time.
    pub wall: Wall,
    /// Where frames go.
    pub frames: Arc<dyn Frames>,
}

/// A running controller. Dropping it is as good as killing its process.
pub struct Bare {
    inputs: mpsc::Sender<Input>,
    epoch: watch::Receiver<Option<u64>>,
    _tasks: JoinSet<()>,
}

impl Bare {
    /// Starts the tasks. The receiver yields what the switch should do.
    pub fn start(parts: Parts) -> (Self, mpsc::Receiver<SwitchAction>) {
        let Parts { config, store, authorities, secret, wall, frames } = parts;
        let config = Arc::new(config);
        let (epoch_tx, epoch) = watch::channel(None);
        let (inputs, input_rx) = mpsc::channel(INPUT_QUEUE);
        let (actions, action_rx) = mpsc::channel(ACTION_QUEUE);
        let within = Duration::from_millis(config.timers.propose_ms);
        let (renewals, renewing) = Renewals::new(store.clone(), wall.clone(), within, inputs.clone());
        let links = Links {
            actions,
            inputs: inputs.clone(),
            frames,
            wall: wall.clone(),
            hub: Hub::new(config.gateway.id.into(), wall.clone()),
            probes: Probes::default(),
            renewals,
        };
        let actor = Actor::new(config.clone(), store.clone(), authorities, secret, links);
        let mut tasks = JoinSet::new();
        tasks.spawn(actor.run(input_rx));
        tasks.spawn(renewing);
        tasks.spawn(leases::end(config.gateway_id(), store.clone(), wall.clone(), within));
        tasks.spawn(announce::announce(config, store, epoch_tx, wall));
        (Self { inputs, epoch, _tasks: tasks }, action_rx)
    }

    /// The epoch under which it owns its switch, once the cluster has said.
    pub fn epoch(&self) -> watch::Receiver<Option<u64>> {
        self.epoch.clone()
    }

    /// Where the switch's events go.
    pub fn switch(&self) -> SwitchInputs {
        SwitchInputs(self.inputs.clone())
    }

    /// Looks at what the actor owns; `None` when it has ended.
    pub async fn look<T: Send + 'static>(&self, f: impl FnOnce(Inside<'_>) -> T + Send + 'static) -> Option<T> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let look = Look(Box::new(move |inside| {
            // Whoever asked may have given up.
            let _ = tx.send(f(inside));
        }));
        self.inputs.send(Input::Look(look)).await.ok()?;
        rx.await.ok()
    }
}

/// Takes the events of a switch.
#[derive(Debug, Clone)]
pub struct SwitchInputs(mpsc::Sender<Input>);

impl SwitchInputs {
    /// Whether the controller is still there.
    pub async fn send(&self, input: SwitchInput) -> bool {
        self.0.send(Input::Switch(input)).await.is_ok()
    }
}
