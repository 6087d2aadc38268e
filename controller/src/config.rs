//! The controller's configuration file (TOML). Every key is documented in docs/configuration.md.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dmux_wire::{GatewayId, ProtocolId, ServiceIndex};
use serde::Deserialize;
use thiserror::Error;

use crate::model::{Config, DEFAULT_ALL_PAIRS, Dampening, DrainTimers, Ipv4Prefix, ProtocolConfig, Timers};
use crate::plan::SiteConfig;
use crate::probing::ProbeTimers;

/// Largest configuration file that is read.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Why a configuration cannot be used; the text says what to change.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file, or one that it names, cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is too large to be one.
    #[error("{path} has {size} bytes; a configuration has at most {MAX_CONFIG_BYTES}. Is it the right file?")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// Not TOML, an unknown key, a value of the wrong kind.
    #[error("{path}: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and what, with the line.
        source: Box<toml::de::Error>,
    },
    /// The values contradict each other or a limit.
    #[error("{path}: {text}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key, and what to do.
        text: String,
    },
}

/// Everything that one controller needs to know to start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerConfig {
    /// Raft node id of this controller, unique for ever: a lost node is replaced under a new id.
    pub node: u64,
    /// Directory of the replicated log and state.
    pub data: PathBuf,
    /// PEM file with the authority's certificate(s): who may issue certificates to providers.
    pub authority: PathBuf,
    /// This gateway.
    pub gateway: GatewayConfig,
    /// The switch beside this controller.
    pub switch: SwitchConfig,
    /// The other controllers.
    pub cluster: ClusterConfig,
    /// The operator API.
    pub api: ApiConfig,
    /// What a new cluster starts with.
    pub dmux: DmuxConfig,
    /// Intervals.
    #[serde(default)]
    pub timers: TimerConfig,
    /// Ports, next hops and routes of this site.
    pub site: SiteConfig,
}

/// `[gateway]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Its id, unique in the cluster.
    pub id: u16,
    /// Its name, for people.
    pub name: String,
    /// Its unicast address.
    pub address: Ipv4Addr,
}

/// `[switch]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchConfig {
    /// `HOST:PORT` of its P4Runtime server.
    pub p4runtime: String,
    /// P4Runtime device id.
    #[serde(default = "one")]
    pub device_id: u64,
    /// The program: the common prefix of `.json` and `.p4info.txtpb`.
    pub pipeline: PathBuf,
}

/// `[cluster]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Where this controller listens for its peers. Loopback only, unless TLS is configured.
    pub listen: SocketAddr,
    /// The first members: node id → `HOST:PORT`. Read only when the cluster is bootstrapped.
    #[serde(default)]
    pub members: BTreeMap<String, String>,
    /// Mutual TLS between controllers.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Time between the leader's heartbeats; elections take a few of these.
    #[serde(default = "heartbeat_ms")]
    pub heartbeat_ms: u64,
}

/// `[cluster.tls]`: PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// This controller's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the controllers.
    pub ca: PathBuf,
    /// DNS name that every controller's certificate carries.
    pub name: String,
}

/// `[api]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Where `dmux get` asks. Loopback only: the API has no authentication of its own.
    pub listen: SocketAddr,
}

/// `[dmux]`: what the cluster starts with. Once it has a configuration, that one counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DmuxConfig {
    /// The anycast prefix, `A.B.C.D/LEN`.
    pub prefix: Ipv4Prefix,
    /// The registration address inside it.
    pub registration: Ipv4Addr,
    /// Service index → service address inside it.
    pub services: BTreeMap<String, Ipv4Addr>,
    /// How often a registered router is told to send a keepalive.
    #[serde(default = "keepalive_ms")]
    pub keepalive_ms: u32,
    /// Silence after which a registration expires; at least two and a half times `keepalive_ms`.
    #[serde(default = "expire_after_ms")]
    pub expire_after_ms: u32,
    /// How long a gateway takes everybody for a client of a router that begins to drain.
    #[serde(default = "drain_learn_ms")]
    pub drain_learn_ms: u32,
    /// Silence after which a client is none of a draining router's any more.
    #[serde(default = "drain_idle_ms")]
    pub drain_idle_ms: u32,
    /// Protocol id → how its routers are chosen.
    #[serde(default)]
    pub protocols: BTreeMap<String, ProtocolConfig>,
    /// Up to so many gateways, each probes all others; beyond, each probes a few.
    #[serde(default = "all_pairs_up_to")]
    pub all_pairs_up_to: u16,
    /// How routers that come and go are held out (RFC 2439).
    #[serde(default)]
    pub dampening: Dampening,
}

impl DmuxConfig {
    /// The first configuration of a cluster.
    pub fn to_cluster(&self) -> Result<Config, String> {
        let mut services = BTreeMap::new();
        for (index, &address) in &self.services {
            let index = index.parse().map_err(|_| {
                format!("dmux.services: {index:?} is no service index; write e.g. 1 = \"198.51.100.1\", 0 to 65535")
            })?;
            services.insert(ServiceIndex(index), address);
        }
        let timers = Timers { keepalive_ms: self.keepalive_ms, expire_after_ms: self.expire_after_ms };
        let mut protocols = BTreeMap::new();
        for (id, config) in &self.protocols {
            let id = id.parse().map_err(|_| {
                format!("dmux.protocols: {id:?} is no protocol id; write e.g. [dmux.protocols.41], 0 to 65535")
            })?;
            protocols.insert(ProtocolId(id), config.clone());
        }
        let draining = DrainTimers { learn_ms: self.drain_learn_ms, idle_ms: self.drain_idle_ms };
        let (dmux_prefix, registration) = (self.prefix, self.registration);
        let (all_pairs_up_to, dampening) = (self.all_pairs_up_to, self.dampening);
        let config = Config {
            version: 1,
            dmux_prefix,
            services,
            registration,
            timers,
            protocols,
            all_pairs_up_to,
            draining,
            dampening,
        };
        config.check().map_err(|why| format!("dmux: {why}"))?;
        Ok(config)
    }
}

/// `[timers]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimerConfig {
    /// Between two probes to the same gateway, if it is not watched.
    pub probe_ms: u64,
    /// Probes in a row without an answer until such a gateway counts as unreachable.
    pub probe_misses: u32,
    /// Between two probes to the same watched gateway: one whose routers are chosen, or would be next.
    pub watch_ms: u64,
    /// Probes in a row without an answer until a watched gateway counts as unreachable.
    pub watch_misses: u32,
    /// Probes a second at most, to all gateways together: all intervals stretch alike when they would need more.
    pub probes_per_second: u32,
    /// Deadline of one write to the replicated state.
    pub propose_ms: u64,
    /// How often the switch is read back in full although nothing seems wrong.
    pub audit_s: u64,
}

impl Default for TimerConfig {
    fn default() -> Self {
        let probes = ProbeTimers::default();
        Self {
            probe_ms: probes.interval.as_millis() as u64,
            probe_misses: probes.misses,
            watch_ms: probes.watch_interval.as_millis() as u64,
            watch_misses: probes.watch_misses,
            probes_per_second: probes.per_second,
            propose_ms: 5000,
            audit_s: 60,
        }
    }
}

impl TimerConfig {
    /// What the prober is told.
    pub fn probes(&self) -> ProbeTimers {
        ProbeTimers {
            interval: Duration::from_millis(self.probe_ms),
            misses: self.probe_misses,
            watch_interval: Duration::from_millis(self.watch_ms),
            watch_misses: self.watch_misses,
            per_second: self.probes_per_second,
            ..ProbeTimers::default()
        }
    }
}

fn drain_learn_ms() -> u32 {
    DrainTimers::default().learn_ms
}

fn drain_idle_ms() -> u32 {
    DrainTimers::default().idle_ms
}

fn keepalive_ms() -> u32 {
    Timers::default().keepalive_ms
}

fn expire_after_ms() -> u32 {
    Timers::default().expire_after_ms
}

fn all_pairs_up_to() -> u16 {
    DEFAULT_ALL_PAIRS
}

fn one() -> u64 {
    1
}

fn heartbeat_ms() -> u64 {
    200
}

/// The smallest interval that makes sense for any timer.
const MIN_TIMER: Duration = Duration::from_millis(10);

impl ControllerConfig {
    /// Reads and checks a file. Relative paths in it are relative to the file's folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
        let size = fs::metadata(path).map_err(read_error)?.len();
        if size > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned(), size });
        }
        let text = fs::read_to_string(path).map_err(read_error)?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` is for messages and as the base of relative paths.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self =
            toml::from_str(text).map_err(|e| ConfigError::Parse { path: path.to_owned(), source: Box::new(e) })?;
        let base = path.parent().unwrap_or(Path::new("."));
        for file in [&mut config.data, &mut config.authority, &mut config.switch.pipeline] {
            *file = base.join(&*file);
        }
        if let Some(tls) = &mut config.cluster.tls {
            for file in [&mut tls.cert, &mut tls.key, &mut tls.ca] {
                *file = base.join(&*file);
            }
        }
        config.check().map_err(|text| ConfigError::Value { path: path.to_owned(), text })?;
        Ok(config)
    }

    /// This gateway's id.
    pub fn gateway_id(&self) -> GatewayId {
        GatewayId(self.gateway.id)
    }

    /// The first members, by node id.
    pub fn members(&self) -> Result<BTreeMap<u64, String>, String> {
        self.cluster
            .members
            .iter()
            .map(|(id, address)| match id.parse() {
                Ok(id) => Ok((id, address.clone())),
                Err(_) => Err(format!("cluster.members: {id:?} is no node id; write e.g. 1 = \"127.0.0.1:51720\"")),
            })
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        if self.node == 0 {
            return Err("node: 0 is not a node id; give a number from 1".into());
        }
        if self.gateway.id == 0 {
            return Err("gateway.id: 0 is not a gateway id; give a number from 1".into());
        }
        if self.gateway.name.is_empty() || self.gateway.name.len() > 64 {
            return Err("gateway.name: give a name of 1 to 64 bytes".into());
        }
        self.members()?;
        self.dmux.to_cluster()?;
        self.site.check().map_err(|e| format!("site.{e}"))?;
        if !self.api.listen.ip().is_loopback() {
            return Err(format!(
                "api.listen: {} is not a loopback address, and the API has no authentication; listen on 127.0.0.1 and \
                 forward it through something that has",
                self.api.listen
            ));
        }
        let t = &self.timers;
        for (key, ms) in [
            ("timers.probe_ms", t.probe_ms),
            ("timers.watch_ms", t.watch_ms),
            ("timers.propose_ms", t.propose_ms),
            ("cluster.heartbeat_ms", self.cluster.heartbeat_ms),
        ] {
            if Duration::from_millis(ms) < MIN_TIMER {
                return Err(format!("{key}: {ms} ms is too short; give at least {} ms", MIN_TIMER.as_millis()));
            }
        }
        for (key, count) in [
            ("timers.probe_misses", t.probe_misses),
            ("timers.watch_misses", t.watch_misses),
            ("timers.probes_per_second", t.probes_per_second),
        ] {
            if count == 0 {
                return Err(format!("{key}: 0 would make every gateway unreachable; give at least 1"));
            }
        }
        Ok(())
    }
}
