//! The one task that owns the controller's state machines and feeds them.

mod endpoints;
mod lan;
mod metalinks;
mod observations;
mod programmed;
mod punts;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dmux_raft_store::Store;
use dmux_wire::GatewayId;
use dmux_wire::control::Kind;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::metalinks::Caller;
use self::programmed::{Awaited, Welcome};
use super::bare::Inside;
use super::clock::{Clock, Wall};
use super::metanet_api::Operators;
use super::packets::Punt;
use super::probe::Probes;
use super::renewals::Renewals;
use super::replicated::Replicated;
use super::switch::{Frames, SwitchAction, SwitchEvent, SwitchInput};
use super::watchers::Hub;
use super::{Input, Snapshot, SwitchClock, io, packets};
use crate::api::v1::{EndpointCount, TableUse};
use crate::attachment::{Attachments, AttachmentsConfig, Counts};
use crate::config::ControllerConfig;
use crate::coordinates::Mapper;
use crate::model::RegistrationKey;
use crate::plan::{Action, Event, Planner, Reconciler, ReconcilerOptions, State};
use crate::probing::{PeerView, Prober};
use crate::programming::{Programming, Violations};
use crate::punted::Outgoing;
use crate::registration::{Authorities, CallId, Effect, Level, Now, Registrar, RegistrarConfig, Unavailable};
use crate::selection::{Local, Selection};
use crate::stations::Stations;
use crate::watching::{self, Happening};

/// Inputs that are handled before the state machines are driven again: bounds how late a deadline can be noticed.
const BURST: usize = 256;
/// At least this long between two log lines about packets without a route.
const NO_ROUTE_LOG: Duration = Duration::from_secs(10);
/// Between two looks at which gateways are to be watched: they look at every destination.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Between two copies of the peers' and endpoints' figures for the operator API.
const PEERS_EVERY: Duration = Duration::from_millis(200);
/// Calls of the `Registry` service that may wait for an answer; each waits for one proposal at most.
const MAX_CALLS: usize = 1024;
/// Longest sleep; a deadline further away is looked at again.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// The actor's ends of what joins it to the other tasks.
pub(super) struct Links {
    pub actions: mpsc::Sender<SwitchAction>,
    /// For outcomes of what the actor spawns.
    pub inputs: mpsc::Sender<Input>,
    /// Where frames for the switch go.
    pub frames: Arc<dyn Frames>,
    pub wall: Wall,
    /// Where who watches hears.
    pub hub: Hub,
    /// Who waits for the answer to a packet of the operator's.
    pub probes: Probes,
    /// Where leases are renewed.
    pub renewals: Renewals,
}

pub(super) struct Actor {
    config: Arc<ControllerConfig>,
    store: Store<Replicated>,
    clock: Clock,
    registrar: Registrar,
    prober: Prober,
    planner: Planner,
    reconciler: Reconciler,
    stations: Stations,
    attachments: Attachments,
    /// Operators of metanets who listen.
    operators: Operators,
    renewals: Renewals,
    /// Endpoints that wait for the switch.
    awaited: Vec<Awaited>,
    /// Endpoints that are to be told that they are attached.
    welcomes: Vec<Welcome>,
    /// The plan, the switch or the replicated state moved since they were looked at.
    recheck: bool,
    /// Callers of the operator API that wait for the switch, and claims that are given back.
    programming: Programming<Caller>,
    violations: Violations,
    /// The planner knows what the switch was found to hold when this controller started.
    adopted: bool,
    /// Since when this controller knows of the routers that drain.
    draining: BTreeMap<RegistrationKey, Duration>,
    /// The session that answers and packets belong to.
    generation: u64,
    actions: mpsc::Sender<SwitchAction>,
    /// For outcomes of what the actor spawns.
    inputs: mpsc::Sender<Input>,
    frames: Arc<dyn Frames>,
    snapshot: watch::Sender<Snapshot>,
    packet_ins: u64,
    packet_outs: u64,
    /// What the switch's clock said in the last packet from it.
    switch_clock: Option<SwitchClock>,
    next_no_route_log: Duration,
    /// Whoever waits for the registrar's answer.
    calls: BTreeMap<CallId, oneshot::Sender<Kind>>,
    last_call: u64,
    tables: Vec<TableUse>,
    /// What `endpoints` was made of.
    counted: Counts,
    /// The switch was written or read since `tables` was filled in.
    recount: bool,
    mapper: Mapper,
    /// Gateways that nobody need be able to reach at once are probed as the mapper says, these beside.
    watched: BTreeSet<GatewayId>,
    /// The plan or a distance moved since it was decided whom to watch.
    rewatch: bool,
    next_watch: Duration,
    /// The prober's version that was planned with.
    observed: u64,
    peers: Arc<BTreeMap<GatewayId, PeerView>>,
    /// What endpoints were told.
    endpoints: Arc<Vec<EndpointCount>>,
    next_peers: Duration,
    /// Where who watches hears.
    hub: Hub,
    /// Who waits for the answer to a packet of the operator's.
    probes: Probes,
    /// The switch's state as it was told last.
    told_switch: State,
}

impl Actor {
    #[allow(clippy::too_many_arguments, reason = "each is a different part, named where it is passed")]
    pub(super) fn new(
        config: Arc<ControllerConfig>,
        store: Store<Replicated>,
        authorities: Authorities,
        secret: [u8; 32],
        Links { actions, inputs, frames, wall, hub, probes, renewals }: Links,
    ) -> Self {
        let gateway = config.gateway_id();
        let options = ReconcilerOptions {
            audit_every: Duration::from_secs(config.timers.audit_s),
            ..ReconcilerOptions::default()
        };
        let planner =
            store.read(|r| Planner::new(config.site.clone(), &r.0, Local::new(gateway), &Selection::default()));
        let reconciler = Reconciler::new(options);
        let snapshot = Snapshot {
            switch: reconciler.status(),
            planned: 0,
            applied: 0,
            peers: Arc::default(),
            tables: Vec::new(),
            packet_ins: 0,
            packet_outs: 0,
            attached: 0,
            endpoints: Arc::default(),
            switch_clock: None,
        };
        Self {
            attachments: Attachments::new(
                AttachmentsConfig { gateway, authorities: authorities.clone(), secret },
                &config.site,
            ),
            operators: Operators::default(),
            renewals,
            awaited: Vec::new(),
            welcomes: Vec::new(),
            recheck: false,
            programming: Programming::default(),
            violations: Violations::default(),
            registrar: Registrar::new(RegistrarConfig { gateway, authorities, secret }),
            prober: Prober::new(config.timers.probes(), super::random_u64()),
            stations: Stations::new(&config.site),
            planner,
            reconciler,
            adopted: false,
            draining: BTreeMap::new(),
            config,
            store,
            clock: Clock::start(wall),
            generation: 0,
            actions,
            inputs,
            frames,
            snapshot: watch::channel(snapshot).0,
            packet_ins: 0,
            packet_outs: 0,
            switch_clock: None,
            next_no_route_log: Duration::ZERO,
            calls: BTreeMap::new(),
            last_call: 0,
            tables: Vec::new(),
            counted: Counts::default(),
            recount: true,
            mapper: Mapper::new(gateway, super::random_u64()),
            watched: BTreeSet::new(),
            rewatch: true,
            next_watch: Duration::ZERO,
            observed: 0,
            peers: Arc::default(),
            endpoints: Arc::default(),
            next_peers: Duration::ZERO,
            hub,
            probes,
            told_switch: State::Disconnected,
        }
    }

    /// What the operator API may show, from now on.
    pub(super) fn snapshot(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.subscribe()
    }

    /// Runs until every sender of inputs is gone.
    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut changed = self.store.changed();
        self.replicated_changed();
        loop {
            let wake = self.drive();
            let wake = self.clock.at(wake);
            tokio::select! {
                input = inputs.recv() => {
                    let Some(input) = input else { return };
                    self.on(input);
                    for _ in 1..BURST {
                        match inputs.try_recv() {
                            Ok(input) => self.on(input),
                            Err(_) => break,
                        }
                    }
                }
                alive = changed.changed() => {
                    if alive.is_err() {
                        return;
                    }
                    changed.mark_unchanged();
                    self.replicated_changed();
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// Lets every state machine do what is due. Returns when the next thing is.
    fn drive(&mut self) -> Duration {
        let now = self.now();
        let mut wake = now.mono + MAX_SLEEP;

        let (effects, due) = self.store.read(|r| self.registrar.tick(now, &r.0));
        wake = due.map_or(wake, |due| wake.min(due));
        self.perform(effects);

        // Without a switch no probe leaves, and silence would say nothing of the peers.
        let connected = self.frames.is_connected();
        let (probes, due) = if connected { self.prober.tick(now.mono) } else { Default::default() };
        wake = due.map_or(wake, |due| wake.min(due));
        for probe in probes {
            match packets::probe_request(self.config.gateway_id(), self.config.gateway.address, &probe) {
                Ok(outgoing) => self.send(&outgoing),
                Err(error) => tracing::error!(%error, "a probe cannot be built"),
            }
        }
        self.report_latencies(now.mono);
        self.report_router_rtts(now.mono);
        wake = self.observe(now.mono).map_or(wake, |due| wake.min(due));
        wake = self.watch(now.mono).map_or(wake, |due| wake.min(due));

        let moved = self.recheck;
        wake = self.tick_endpoints(now).map_or(wake, |due| wake.min(due));
        self.plan_stations();
        self.plan_endpoints();
        wake = self.follow_metalinks(now, moved).map_or(wake, |due| wake.min(due));
        if let Action::Wait { until } = self.reconcile(now.mono) {
            wake = until.map_or(wake, |until| wake.min(until));
        }
        self.publish(now.mono);
        wake
    }

    /// Gives the switch task the reconciler's next action, if there is one.
    fn reconcile(&mut self, now: Duration) -> Action {
        let action = self.reconciler.next(now, self.planner.plan());
        if !matches!(action, Action::Wait { .. }) {
            let action = SwitchAction { generation: self.generation, action: action.clone() };
            if self.actions.try_send(action).is_err() {
                // The reconciler has few actions under way at a time, so there is room unless the task is gone.
                let why = "the switch session does not take actions".to_owned();
                self.reconciler.on(now, self.planner.plan(), Event::Disconnected { why });
            }
        }
        action
    }

    fn on(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Switch(SwitchInput { generation, event }) => self.on_switch(now, generation, event),
            Input::Proposed(token, outcome) => {
                let effects = self.registrar.committed(now, token, outcome);
                self.perform(effects);
            }
            Input::Explain(ask) => ask.answer(&self.planner, self.reconciler.status().state),
            Input::Call(kind, reply) => {
                if self.calls.len() >= MAX_CALLS {
                    // Dropping `reply` tells the caller.
                    return;
                }
                self.last_call += 1;
                let call = CallId(self.last_call);
                self.calls.insert(call, reply);
                let effects = self.store.read(|r| self.registrar.call(now, &r.0, call, &kind));
                self.perform(effects);
            }
            Input::Claimed(token, outcome) => self.on_claimed(now, token, outcome),
            Input::Renewed(outcomes) => {
                for (token, outcome) in outcomes {
                    self.on_claimed(now, token, outcome);
                }
            }
            Input::Await(metalink, applied, reply) => self.await_metalink(now, metalink, applied, reply),
            Input::Endpoints(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send((self.planner.local().attached.clone(), self.violations.clone()));
            }
            Input::Operator(operator, said) => self.on_operator(now, operator, said),
            Input::Reported(peers, taken) => {
                if !taken {
                    self.prober.report_failed(peers);
                }
            }
            Input::Published(taken) => {
                if !taken {
                    self.mapper.publish_failed();
                }
            }
            Input::Look(look) => {
                look.at(Inside { registrar: &self.registrar, planner: &self.planner, reconciler: &self.reconciler })
            }
        }
    }

    fn on_switch(&mut self, now: Now, generation: u64, event: SwitchEvent) {
        match event {
            SwitchEvent::Reconcile(event) => {
                match &event {
                    Event::Connected => {
                        self.generation = generation;
                        tracing::info!(switch = self.config.switch.p4runtime, "primary controller of the switch");
                    }
                    Event::Disconnected { why } => {
                        if self.generation == generation || self.generation == 0 {
                            tracing::warn!(switch = self.config.switch.p4runtime, %why, "not in control of the switch");
                        }
                        self.generation = generation;
                    }
                    _ if generation != self.generation => return,
                    _ => {}
                }
                (self.recount, self.recheck) = (true, true);
                if matches!(event, Event::Connected | Event::Disconnected { .. }) {
                    // It may be another switch, or have started anew.
                    self.switch_clock = None;
                }
                if let Event::ReadBack(Ok(read)) = &event
                    && !self.adopted
                {
                    self.adopted = true;
                    let delta = self.store.read(|r| self.planner.adopt(&r.0, read.entries.values()));
                    self.reconciler.planned(&delta);
                    self.stations.adopt(now.mono, read.entries.values());
                    self.plan_stations();
                }
                self.reconciler.on(now.mono, self.planner.plan(), event);
            }
            SwitchEvent::Digest(list) => self.on_digest(now.mono, &list),
            SwitchEvent::Idle(idle) => self.on_idle(&idle),
            SwitchEvent::PacketIn(packet) => {
                self.packet_ins = self.packet_ins.saturating_add(1);
                match Punt::decode(&packet) {
                    Ok(punt) => {
                        self.switch_clock = Some(SwitchClock { us: punt.t_in_us, heard: Instant::now() });
                        self.on_punt(now, punt);
                    }
                    Err(error) => tracing::debug!(%error, "a punted frame was not understood"),
                }
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { from, to, bytes } => match packets::control(from, to, &bytes) {
                    Ok(outgoing) => self.send(&outgoing),
                    Err(error) => tracing::error!(%error, "a control message cannot be built"),
                },
                Effect::Answer { call, kind } => {
                    if let Some(reply) = self.calls.remove(&call) {
                        // Nobody waits any more if this fails.
                        let _ = reply.send(*kind);
                    }
                }
                Effect::Propose { token, command } => {
                    let (store, inputs, within) = (self.store.clone(), self.inputs.clone(), self.propose_within());
                    tokio::spawn(async move {
                        let outcome = store.propose(command, within).await;
                        let outcome = outcome.map(|(_, reply)| reply).map_err(|e| Unavailable(e.to_string()));
                        // The actor is gone only when the controller stops.
                        let _ = inputs.send(Input::Proposed(token, outcome)).await;
                    });
                }
                // The registrar keeps the set of silent routers; `observe` compares it with what was planned.
                Effect::Liveness { key, alive } => {
                    tracing::info!(router = %key.router, alive, "liveness");
                    self.hub.tell([Happening::Liveness(key, alive)]);
                }
                Effect::Log { level: Level::Info, text } => tracing::info!("{text}"),
                Effect::Log { level: Level::Warn, text } => tracing::warn!("{text}"),
            }
        }
    }

    fn propose_within(&self) -> Duration {
        Duration::from_millis(self.config.timers.propose_ms)
    }

    /// The replicated state moved: plan what changed.
    fn replicated_changed(&mut self) {
        let chosen = self.hub.is_watched().then(|| watching::choices(self.planner.selection()));
        let delta = self.store.read(|r| self.planner.update(&r.0));
        self.reconciler.planned(&delta);
        self.tell_choices(chosen);
        self.set_peers(self.clock.mono());
        (self.rewatch, self.recheck) = (true, true);
        let now = self.now();
        let notices = self.store.read(|r| self.attachments.replicated_changed(now, &r.0));
        self.perform_for_endpoints(notices);
    }

    fn send(&mut self, outgoing: &Outgoing) {
        if !self.frames.is_connected() {
            return;
        }
        match self.frames.send(packets::packet_out(outgoing)) {
            Ok(()) => self.packet_outs = self.packet_outs.saturating_add(1),
            Err(error) => tracing::debug!(%error, "a frame for the switch was dropped"),
        }
    }

    fn publish(&mut self, now: Duration) {
        if std::mem::take(&mut self.recount) {
            self.tables = io::table_use(self.reconciler.table_use());
        }
        if now >= self.next_peers {
            self.next_peers = now + PEERS_EVERY;
            self.peers = Arc::new(self.prober.view());
        }
        // Nothing may happen for long after this, so what is shown cannot wait for a later call.
        if *self.attachments.counts() != self.counted {
            self.counted = self.attachments.counts().clone();
            self.endpoints = Arc::new(endpoints::counted(&self.counted));
        }
        let plan = self.planner.plan();
        let switch = self.reconciler.status();
        let before = std::mem::replace(&mut self.told_switch, switch.state);
        if before != switch.state {
            self.hub.tell([Happening::Switch { before, now: switch.state, detail: switch.detail.clone() }]);
        }
        self.snapshot.send_replace(Snapshot {
            switch,
            planned: plan.entries().len(),
            applied: plan.applied(),
            peers: self.peers.clone(),
            tables: self.tables.clone(),
            packet_ins: self.packet_ins,
            packet_outs: self.packet_outs,
            attached: self.attachments.len(),
            endpoints: self.endpoints.clone(),
            switch_clock: self.switch_clock,
        });
    }
}
