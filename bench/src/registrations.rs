//! 100,000 registrations: what they take of a node's memory, what one more costs, and how long a plan and a wiped switch
//! take to be whole.
//!
//! The controller's own state machines, driven as its runtime drives them, without Raft: the model applies commands, the
//! planner follows it, the reconciler writes what differs, to a `dmux switch` process over P4Runtime.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use dmux_controller::model::{Command, Config, Gateway, Model, Policy, ProtocolConfig, Registration, RegistrationKey};
use dmux_controller::plan::{Action, Event, Planner, ReadBack, Reconciler, ReconcilerOptions, SiteConfig};
use dmux_controller::runtime::{read_back, write};
use dmux_controller::selection::{Local, Selection};
use dmux_wire::{GatewayId, ProtocolId, ProviderId};

use crate::gateway::Pipeline;
use crate::scale::resident;
use crate::switches::{Kind, Switch};
use crate::table::{Better, Cell, Row, Section};
use crate::{Options, flood, keepalives};

/// Registrations, of which half are at the gateway itself and half at another.
const MANY: u32 = 100_000;
/// What one more is compared with.
const FEW: u32 = 1_000;
/// One more, that many times.
const MORE: u32 = 1_000;
const OWN: GatewayId = GatewayId(1);

const SITE: &str = r#"
[[ports]]
number = 1
role = "wan"
mac = "02:00:00:00:01:01"

[next_hops.upstream]
port = 1
mac = "02:00:00:00:ff:01"
mtu = 1500

[[routes]]
prefix = "0.0.0.0/0"
next_hops = ["upstream"]
"#;

/// How the registrations are spread over protocols.
#[derive(Clone, Copy)]
struct Spread {
    name: &'static str,
    protocols: u16,
    policy: Policy,
    /// One router in a hundred drains.
    drains: bool,
}

const PLAIN: Spread = Spread { name: "one protocol", protocols: 1, policy: Policy::Closest, drains: false };
const SPREADS: [Spread; 2] = [PLAIN, Spread { name: "200 protocols", protocols: 200, ..PLAIN }];
/// Further ones, of which only one more is measured: what a change costs depends on these, the rest does not.
const CHANGES: [Spread; 2] = [
    Spread { name: "some of which drain", drains: true, ..PLAIN },
    Spread { name: "closest-router", policy: Policy::ClosestRouter, ..PLAIN },
];

/// Measures the section.
pub fn measure(options: &Options, pipeline: &Pipeline, dir: &Path) -> Result<Section> {
    let mut section = Section::new("100 000 registrations", "");
    let repetitions = if options.quick { 1 } else { 5 };
    let alone = |what: String, unit: &str, samples| Row::alone(what, unit, Better::Lower, Cell::samples(samples));
    for spread in SPREADS {
        let before = resident()?;
        let node = Node::new(spread, MANY)?;
        let bytes = resident()?.saturating_sub(before);
        let what = format!("memory of a node: model, plan, and what the switch holds, {}", spread.name);
        section.rows.push(alone(what, "MB", vec![bytes as f64 / 1e6]));
        drop(node);

        one_more_rows(spread, repetitions, &mut section)?;

        let model = model(spread, MANY)?;
        let mut samples = Vec::new();
        for _ in 0..repetitions {
            let began = Instant::now();
            let planner = Planner::new(site()?, &model, Local::new(OWN), &Selection::default());
            samples.push(began.elapsed().as_secs_f64());
            ensure!(planner.plan().entries().len() > 2 * MANY as usize, "the plan is too small");
        }
        section.rows.push(alone(format!("plan from nothing, {}", spread.name), "s", samples));
    }

    for spread in CHANGES {
        one_more_rows(spread, repetitions, &mut section)?;
    }

    section.rows.push(keepalives::measure(repetitions, dir)?);
    section.rows.extend(flood::measure(dir)?);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for spread in SPREADS {
        let planner = Planner::new(site()?, &model(spread, MANY)?, Local::new(OWN), &Selection::default());
        let entries = planner.plan().entries().len();
        let mut samples = Vec::new();
        for _ in 0..repetitions {
            samples.push(runtime.block_on(fill(pipeline, dir, &planner))?.as_secs_f64());
        }
        let what = format!("a wiped switch filled and read back, {} ({entries} entries)", spread.name);
        section.rows.push(alone(what, "s", samples));
    }
    section.notes.push(format!(
        "{MANY} registrations of one provider in one protocol or in 200, half at the gateway itself and half at another, so \
         that each destination has a set and a backup. One more: the model applies a command, the planner follows, the \
         reconciler asks for the write and is told that it was done; mean of {MORE}. Memory is what the process's resident set \
         grew by, with the reconciler holding what the switch was filled with; Raft's log and the sessions of the routers that \
         the gateway hears are not in it. Filling is from `Connected` to `Synced`: read back empty, written in batches, read \
         back whole, with controller and switch on the same processors. Keepalives: signed ones of 2,000 of the routers go into \
         the registrar and acknowledgements come out; neither the switch nor Raft has a part in it."
    ));
    section.notes.push(
        "Taken by the registrar: 500 keepalives a second of 2,000 routers, and ten times a second the registration of a router \
         that restarts, with its chain and from its first message on; alone, or among 100,000 bad messages in ten seconds: forged, \
         replayed, dated ahead and signed for another purpose in the names of live routers, truncated, oversized, without cookie and \
         of unknown routers from as many sources, and from one proven source with a chain that does not certify it. Arrivals follow \
         a clock of the benchmark's, the CPU time that the registrar takes is measured, and who comes meanwhile waits; a challenge and the \
         answer to it are in the figure. The switch is not in it: its meter lets 5,000 control messages a second pass, good or bad."
            .to_owned(),
    );
    Ok(section)
}

fn one_more_rows(spread: Spread, repetitions: u32, section: &mut Section) -> Result<()> {
    for count in [FEW, MANY] {
        let mut samples = Vec::new();
        for _ in 0..repetitions {
            samples.push(one_more(spread, count)?.as_secs_f64() * 1e6);
        }
        let what = format!("one more than {count}, {}", spread.name);
        section.rows.push(Row::alone(what, "µs", Better::Lower, Cell::samples(samples)));
    }
    Ok(())
}

fn site() -> Result<SiteConfig> {
    Ok(SiteConfig::parse(SITE)?)
}

/// The `n`th router; numbers in turn go to the two gateways and round the protocols.
fn registration(spread: Spread, n: u32) -> Registration {
    let address = Ipv4Addr::from(0x0a00_0000 + n);
    let protocol = ProtocolId(1 + (n / 2 % u32::from(spread.protocols)) as u16);
    Registration {
        key: RegistrationKey { protocol, router: SocketAddrV4::new(address, 4000) },
        provider: ProviderId(7),
        weight: 1,
        gateway: GatewayId(1 + (n % 2) as u16),
        public_key: [0; 32],
        sequence: 1,
        name: format!("router-{n}.example"),
        registered_at: 0,
        not_after: 0,
        chain: Vec::new(),
        draining: (spread.drains && n % 100 < 2).then_some(1),
    }
}

fn apply(model: &mut Model, command: &Command) -> Result<()> {
    match model.apply(model.applied() + 1, command).refusal() {
        Some(refusal) => bail!("{refusal}"),
        None => Ok(()),
    }
}

fn register(model: &mut Model, spread: Spread, n: u32) -> Result<()> {
    let registration = registration(spread, n);
    let (key, gateway) = (registration.key, registration.gateway);
    apply(model, &Command::Register { at: 0, registration })?;
    if spread.policy == Policy::ClosestRouter {
        // Half of them are within the hysteresis of the closest.
        let samples = vec![(key, 5_000 + n % 1_000 * 2)];
        apply(model, &Command::RecordRouterRtts { at: 0, gateway, samples })?;
    }
    Ok(())
}

fn model(spread: Spread, count: u32) -> Result<Model> {
    let mut model = Model::new();
    for id in 1..=2 {
        let gateway = Gateway {
            id: GatewayId(id),
            name: format!("site-{id}"),
            unicast: Ipv4Addr::new(192, 0, 2, id as u8),
            api: String::new(),
            node: id.into(),
        };
        apply(&mut model, &Command::PutGateway { at: 0, gateway })?;
    }
    let protocols = [(ProtocolId(1), ProtocolConfig { policy: spread.policy, ..ProtocolConfig::default() })];
    if spread.policy != Policy::default() {
        let config = model.config().clone();
        let config = Config { version: config.version + 1, protocols: protocols.into(), ..config };
        apply(&mut model, &Command::PutConfig { at: 0, config })?;
    }
    for n in 0..count {
        register(&mut model, spread, n)?;
    }
    Ok(model)
}

/// A controller whose switch holds the plan.
struct Node {
    model: Model,
    planner: Planner,
    reconciler: Reconciler,
}

impl Node {
    fn new(spread: Spread, count: u32) -> Result<Self> {
        let model = model(spread, count)?;
        let planner = Planner::new(site()?, &model, Local::new(OWN), &Selection::default());
        let mut node = Self { model, planner, reconciler: Reconciler::new(ReconcilerOptions::default()) };
        node.reconciler.on(Duration::ZERO, node.planner.plan(), Event::Connected);
        node.settle();
        Ok(node)
    }

    /// Plays a switch that takes everything. Returns the updates that it was asked for.
    fn settle(&mut self) -> usize {
        let plan = self.planner.plan();
        let mut written = 0;
        loop {
            let event = match self.reconciler.next(Duration::ZERO, plan) {
                Action::Wait { .. } => return written,
                Action::CheckPipeline => Event::Pipeline(Ok(true)),
                Action::SetPipeline => Event::PipelineSet(Ok(())),
                Action::ReadBack => Event::ReadBack(Ok(ReadBack {
                    entries: plan.entries().clone(),
                    meters: plan.meters().clone(),
                    punt_rates: plan.punt_rates().clone(),
                    ..ReadBack::default()
                })),
                Action::Write(updates) => {
                    written += updates.len();
                    Event::Written(Ok(updates.iter().map(|_| Ok(())).collect()))
                }
            };
            self.reconciler.on(Duration::ZERO, plan, event);
        }
    }
}

fn one_more(spread: Spread, count: u32) -> Result<Duration> {
    let mut node = Node::new(spread, count)?;
    let mut spent = Duration::ZERO;
    for n in count..count + MORE {
        let began = Instant::now();
        register(&mut node.model, spread, n)?;
        let delta = node.planner.update(&node.model);
        node.reconciler.planned(&delta);
        let written = node.settle();
        spent += began.elapsed();
        ensure!(written >= 2, "a registration has two entries at least");
    }
    Ok(spent / MORE)
}

/// Makes an empty switch whole.
async fn fill(pipeline: &Pipeline, dir: &Path, planner: &Planner) -> Result<Duration> {
    let mut switch = Switch::start(Kind::Dmux, &[], pipeline, dir).await?;
    let plan = planner.plan();
    let mut reconciler = Reconciler::new(ReconcilerOptions::default());
    let began = Instant::now();
    reconciler.on(began.elapsed(), plan, Event::Connected);
    loop {
        let event = match reconciler.next(began.elapsed(), plan) {
            Action::CheckPipeline => Event::Pipeline(Ok(true)),
            Action::SetPipeline => bail!("the program is there"),
            Action::ReadBack => Event::ReadBack(read_back(&switch.session).await.map_err(|e| e.to_string())),
            Action::Write(updates) => Event::Written(write(&switch.session, updates).await),
            Action::Wait { .. } => break,
        };
        reconciler.on(began.elapsed(), plan, event);
    }
    let took = began.elapsed();
    switch.check()?;
    let status = reconciler.status();
    ensure!(status.resyncs == 1 && status.refused == 0, "the switch is not whole: {} {}", status.state, status.detail);
    ensure!(status.entries == plan.entries().len(), "the switch holds {} entries", status.entries);
    Ok(took)
}
