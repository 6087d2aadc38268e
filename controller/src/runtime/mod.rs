//! The running controller: every input becomes an [`Input`], one task handles one at a time, and everything slow is done
//! elsewhere and comes back as an input.
//!
//! ```text
//!   announce ──epoch──▶ switch task ◀──actions── actor ──proposals──▶ Raft (spawned, each with a deadline)
//!                          │  ▲                    ▲ │                        │
//!                          └──┼─── events ─────────┘ └── snapshot (watch) ─▶ operator API
//!                             └─ packet-outs         ◀── outcomes ────────────┘
//! ```

mod access_api;
mod actor;
mod announce;
mod api;
mod bare;
mod clock;
mod config_api;
mod explain;
mod fixtures;
mod io;
mod latencies;
mod leases;
mod metalink_use;
mod metanet_api;
mod packets;
mod pipeline;
mod probe;
mod registry;
mod renewals;
mod replicated;
mod switch;
mod use_api;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dmux_p4rt::client::{Session, Target};
use dmux_raft_store::{Listen, Start, Store, StoreConfig, StoreError, Timing, TlsConfig};
use dmux_wire::GatewayId;
use dmux_wire::control::Kind;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::attachment;
use crate::config::ControllerConfig;
use crate::model::{Endpoint, MetalinkId, Reply};
use crate::plan;
use crate::probing::PeerView;
use crate::programming::Violations;
use crate::registration::{Authorities, AuthorityError, Token, Unavailable};

pub use access_api::{FITS_KEY, RETRY_AT_KEY};
pub use bare::{Bare, Inside, Parts, SwitchInputs};
pub use clock::Wall;
pub use io::{read_back, write};
pub use pipeline::{Pipeline, PipelineError};
pub use registry::{REFUSAL_KEY, RETRY_AFTER_KEY};
pub use replicated::Replicated;
pub use switch::{Frames, SwitchAction, SwitchEvent, SwitchInput};

/// Inputs that may wait for the actor.
const INPUT_QUEUE: usize = 4096;
/// Actions that may wait for the switch task; the reconciler has two under way at most.
const ACTION_QUEUE: usize = 4;

/// Something that happened.
#[derive(Debug)]
enum Input {
    /// The switch did something.
    Switch(switch::SwitchInput),
    /// A registration's proposal has an outcome.
    Proposed(Token, Result<Reply, Unavailable>),
    /// An endpoint's request that was proposed has an outcome.
    Claimed(attachment::Token, Result<Reply, Unavailable>),
    /// The operator API wants to know who is attached, and who sent too much.
    Endpoints(oneshot::Sender<(Arc<BTreeSet<Endpoint>>, Violations)>),
    /// Endpoints' leases were renewed, or not.
    Renewed(Vec<(attachment::Token, Result<Reply, Unavailable>)>),
    /// Somebody waits until the switch has the entries of a metalink that was claimed under this log index.
    Await(MetalinkId, u64, oneshot::Sender<Result<(), attachment::NotProgrammed>>),
    /// An operator of metanets says something.
    Operator(metanet_api::OperatorId, metanet_api::Said),
    /// A request through the operators' API, and where its answer goes.
    Call(Box<Kind>, oneshot::Sender<Kind>),
    /// A latency report has an outcome: the peers in it, and whether it was taken.
    Reported(Vec<GatewayId>, bool),
    /// A network coordinate's publication has an outcome: whether it was taken.
    Published(bool),
    /// Somebody wants to look inside.
    Look(bare::Look),
    /// The operator API wants to know what the plan has.
    Explain(explain::Ask),
}

/// What the operator API shows of the actor.
#[derive(Debug, Clone)]
struct Snapshot {
    pub switch: plan::Status,
    pub planned: usize,
    pub applied: u64,
    pub peers: Arc<BTreeMap<GatewayId, PeerView>>,
    pub tables: Vec<crate::api::v1::TableUse>,
    pub packet_ins: u64,
    pub packet_outs: u64,
    /// Endpoints that are attached.
    pub attached: usize,
    pub endpoints: Arc<Vec<crate::api::v1::EndpointCount>>,
    /// What the switch's clock said when it was last heard in this session.
    pub switch_clock: Option<SwitchClock>,
}

/// A reading of the switch's clock.
#[derive(Debug, Clone, Copy)]
struct SwitchClock {
    /// µs, 48 bits, since some time of the switch's.
    us: u64,
    /// When it was heard.
    heard: tokio::time::Instant,
}

impl SwitchClock {
    /// What it says now, as far as this machine's clock goes with it.
    fn now_us(&self) -> u64 {
        self.us.wrapping_add(self.heard.elapsed().as_micros() as u64)
    }
}

/// Why a controller cannot start, or had to stop.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// The program files.
    #[error("switch.pipeline: {0}")]
    Pipeline(#[from] PipelineError),
    /// A file that the configuration names.
    #[error("{key}: {path}: {source}")]
    File {
        /// Which key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The authority's certificates.
    #[error("authority: {0}")]
    Authority(#[from] AuthorityError),
    /// The replicated state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operator API cannot listen.
    #[error("api.listen: {address}: {source}")]
    Api {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no random numbers, and cookies would be guessable without")]
    Random,
    /// A task ended that must not.
    #[error("the controller's {0} ended unexpectedly; this is a bug in dmux")]
    Ended(&'static str),
}

/// A controller that is being started.
pub struct Controller {
    config: Arc<ControllerConfig>,
    store: Store<Replicated>,
    tasks: JoinSet<&'static str>,
    api: SocketAddr,
}

impl Controller {
    /// Opens the store, listens, and starts all tasks. Returns once everything listens; whether the cluster and the
    /// switch are there is then a matter of time.
    pub async fn start(config: ControllerConfig, start: Start) -> Result<Self, ControllerError> {
        let config = Arc::new(config);
        let pipeline = Arc::new(Pipeline::read(&config.switch.pipeline)?);
        let authorities = Authorities::from_pem(&String::from_utf8_lossy(&read_file("authority", &config.authority)?))?;
        let secret = random_bytes().ok_or(ControllerError::Random)?;
        let api_error = |source| ControllerError::Api { address: config.api.listen, source };
        let listener = TcpListener::bind(config.api.listen).await.map_err(api_error)?;
        let api = listener.local_addr().map_err(api_error)?;
        let store = Store::open(store_config(&config, start)?, Replicated::default()).await?;

        let wall = Wall::system();
        let (epoch_tx, epoch) = watch::channel(None);
        let (session_tx, session) = watch::channel::<Option<Session>>(None);
        let (inputs, input_rx) = mpsc::channel(INPUT_QUEUE);
        let (actions, action_rx) = mpsc::channel(ACTION_QUEUE);
        let target = Target::new(format!("http://{}", config.switch.p4runtime), config.switch.device_id);
        let switch = switch::SwitchTask {
            target,
            node: config.node,
            pipeline,
            epoch: epoch.clone(),
            actions: action_rx,
            inputs: inputs.clone(),
            session: session_tx,
        };
        let within = Duration::from_millis(config.timers.propose_ms);
        let (renewals, renewing) = renewals::Renewals::new(store.clone(), wall.clone(), within, inputs.clone());
        let access = access_api::AccessService {
            gateway: config.gateway_id(),
            config: config.clone(),
            session: session.clone(),
            store: store.clone(),
            wall: wall.clone(),
            renewals: renewals.clone(),
            inputs: inputs.clone(),
            within,
        };
        let registry = registry::RegistryService::new(config.clone(), store.clone(), inputs.clone(), wall.clone());
        let hub = watchers::Hub::new(config.gateway.id.into(), wall.clone());
        let (follow, door) = watchers::Follow::new(store.clone(), hub.clone());
        let probes = probe::Probes::default();
        let links = actor::Links {
            actions,
            inputs: inputs.clone(),
            frames: Arc::new(session.clone()),
            wall: wall.clone(),
            hub,
            probes: probes.clone(),
            renewals: renewals.clone(),
        };
        let actor = actor::Actor::new(config.clone(), store.clone(), authorities, secret, links);
        let service = api::Api {
            config: config.clone(),
            store: store.clone(),
            session,
            epoch,
            snapshot: actor.snapshot(),
            inputs,
            door,
            probes,
            wall: wall.clone(),
        };

        let mut tasks = JoinSet::new();
        tasks.spawn(named("switch session", switch.run()));
        tasks.spawn(named("actor", actor.run(input_rx)));
        tasks.spawn(named("operator API", service.serve(listener, registry, access)));
        tasks.spawn(named("watchers' task", follow.run()));
        let leases = leases::end(config.gateway_id(), store.clone(), wall.clone(), within);
        tasks.spawn(named("leases' task", leases));
        tasks.spawn(named("renewals' task", renewing));
        let announced = announce::announce(config.clone(), store.clone(), epoch_tx, wall);
        // It ends when the cluster has taken note, which is no reason to stop.
        tokio::spawn(announced);
        Ok(Self { config, store, tasks, api })
    }

    /// Where the operator API listens.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// The gateway's name, for messages.
    pub fn name(&self) -> &str {
        &self.config.gateway.name
    }

    /// Runs until `shutdown` is ready or something that must not end has ended.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ControllerError> {
        let mut watchdog = tokio::time::interval(Duration::from_millis(250));
        tokio::pin!(shutdown);
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                ended = self.tasks.join_next() => {
                    let name = ended.and_then(Result::ok).unwrap_or("task");
                    break Err(ControllerError::Ended(name));
                }
                _ = watchdog.tick() => if let Some(error) = self.store.failure() {
                    break Err(error.into());
                }
            }
        };
        self.tasks.shutdown().await;
        self.store.shutdown().await;
        outcome
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

fn store_config(config: &ControllerConfig, start: Start) -> Result<StoreConfig, ControllerError> {
    let mut store = StoreConfig::new(config.node, &config.data, Listen::Addr(config.cluster.listen), start);
    store.timing = Timing { heartbeat: Duration::from_millis(config.cluster.heartbeat_ms), ..Timing::default() };
    store.advertise = config.cluster.members.get(&config.node.to_string()).cloned();
    if let Some(tls) = &config.cluster.tls {
        store.tls = Some(TlsConfig {
            cert_pem: read_file("cluster.tls.cert", &tls.cert)?,
            key_pem: read_file("cluster.tls.key", &tls.key)?,
            ca_pem: read_file("cluster.tls.ca", &tls.ca)?,
            server_name: tls.name.clone(),
        });
    }
    Ok(store)
}

fn read_file(key: &'static str, path: &std::path::Path) -> Result<Vec<u8>, ControllerError> {
    std::fs::read(path).map_err(|source| ControllerError::File { key, path: path.to_owned(), source })
}

fn random_bytes() -> Option<[u8; 32]> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 32];
    ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

/// For numbers whose only job is to differ between processes.
fn random_u64() -> u64 {
    let bytes = random_bytes().unwrap_or_default();
    u64::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}
