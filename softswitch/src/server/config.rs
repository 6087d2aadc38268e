//! The forwarding pipeline configuration: P4Info, program and the state of its tables.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use dmux_p4rt::p4::config::v1::P4Info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::get_forwarding_pipeline_config_request::ResponseType;

use super::binding::Binding;
use super::error::Refused;
use super::key::EntryKey;
use super::replication::ReplicationEntries;
use crate::pipeline::{Clock, Dataplane, Outcome, Program, TableIx, Target};

/// The longest metadata of an entry: it is kept for the controller and never looked at.
pub const MAX_METADATA_BYTES: usize = 1024;

/// What a controller attached to an entry, opaque to the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) metadata: Vec<u8>,
    pub(crate) controller_metadata: u64,
}

impl Attached {
    /// What a written entry carries.
    #[expect(deprecated, reason = "controller_metadata is deprecated, but must still be returned as it was written")]
    pub(crate) fn of(entry: &v1::TableEntry) -> Result<Self, Refused> {
        if entry.metadata.len() > MAX_METADATA_BYTES {
            return Err(Refused::new(
                tonic::Code::ResourceExhausted,
                format!(
                    "the entry's metadata has {} bytes; {MAX_METADATA_BYTES} are kept at most",
                    entry.metadata.len()
                ),
            ));
        }
        Ok(Self { metadata: entry.metadata.clone(), controller_metadata: entry.controller_metadata })
    }

    /// Puts it on an entry that is read.
    #[expect(deprecated, reason = "controller_metadata is deprecated, but must still be returned as it was written")]
    pub(crate) fn attach(&self, entry: &mut v1::TableEntry) {
        entry.metadata.clone_from(&self.metadata);
        entry.controller_metadata = self.controller_metadata;
    }

    /// Whether a read's filter selects an entry that carries this.
    #[expect(deprecated, reason = "controller_metadata is deprecated, but is still a filter")]
    pub(crate) fn selected_by(&self, filter: &v1::TableEntry) -> bool {
        (filter.metadata.is_empty() || filter.metadata == self.metadata)
            && (filter.controller_metadata == 0 || filter.controller_metadata == self.controller_metadata)
    }
}

/// A table and an entry of it; no key is the default entry.
type EntryId = (TableIx, Option<EntryKey>);

/// A configuration that this switch can run, with everything that was written since it was loaded.
pub struct ForwardingPipeline {
    /// Tables, counters, meters and the program over them.
    pub dataplane: Dataplane,
    /// The P4Info's ids.
    pub binding: Binding,
    /// Some table supports idle timeouts.
    pub(crate) has_idle_timeouts: bool,
    config: RwLock<v1::ForwardingPipelineConfig>,
    /// Only entries to which something is attached: most have nothing.
    attached: Mutex<HashMap<EntryId, Attached>>,
    /// Multicast groups and clone sessions.
    pub(crate) replication: ReplicationEntries,
    /// Digests that a controller wants, by P4Info id.
    digests: Mutex<BTreeMap<u32, v1::digest_entry::Config>>,
}

impl ForwardingPipeline {
    /// Compiles the program and ties the P4Info to it.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the reason: no P4Info, no program, a program that is not BMv2 JSON or uses what this
    /// switch does not support, or a P4Info that does not fit it.
    pub fn new(config: v1::ForwardingPipelineConfig, clock: Arc<dyn Clock>, target: Target) -> Result<Self, Refused> {
        let p4info = config.p4info.as_ref().ok_or_else(|| Refused::invalid("the configuration has no P4Info"))?;
        if config.p4_device_config.is_empty() {
            return Err(Refused::invalid(
                "the configuration has no p4_device_config: send the BMv2 JSON of the program",
            ));
        }
        let program = Program::compile_for(&config.p4_device_config, target)
            .map_err(|e| Refused::invalid(format!("the p4_device_config cannot be loaded: {e}")))?;
        let binding = Binding::new(p4info, &program)?;
        let dataplane = Dataplane::new(program, clock);
        for profile in &binding.profiles {
            dataplane.set_profile_limits(profile.ix, profile.limits);
        }
        let has_idle_timeouts = binding.tables().iter().any(|t| t.idle_timeouts);
        Ok(Self {
            dataplane,
            binding,
            has_idle_timeouts,
            config: RwLock::new(config),
            attached: Mutex::default(),
            replication: ReplicationEntries::default(),
            digests: Mutex::default(),
        })
    }

    /// The configuration, or the parts of it that were asked for (§15).
    #[must_use]
    pub fn config(&self, parts: ResponseType) -> v1::ForwardingPipelineConfig {
        let info = matches!(parts, ResponseType::All | ResponseType::P4infoAndCookie);
        let device = matches!(parts, ResponseType::All | ResponseType::DeviceConfigAndCookie);
        let config = self.read_config();
        v1::ForwardingPipelineConfig {
            p4info: config.p4info.clone().filter(|_| info),
            p4_device_config: if device { config.p4_device_config.clone() } else { Default::default() },
            cookie: config.cookie,
        }
    }

    fn read_config(&self) -> RwLockReadGuard<'_, v1::ForwardingPipelineConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the controller sees of the program.
    pub(crate) fn p4info(&self) -> P4Info {
        self.read_config().p4info.clone().unwrap_or_default()
    }

    /// Takes a configuration over whose program and P4Info are those that run already: everything stays as it is, and
    /// only the cookie can differ. False for any other one.
    pub(crate) fn adopt(&self, config: &v1::ForwardingPipelineConfig) -> bool {
        let mut own = self.config.write().unwrap_or_else(PoisonError::into_inner);
        let same = own.p4_device_config == config.p4_device_config && own.p4info == config.p4info;
        if same {
            own.cookie = config.cookie;
        }
        same
    }

    /// Whether a table's default entry is not the program's any more.
    pub(crate) fn default_was_changed(&self, table: TableIx) -> bool {
        let program = self.dataplane.program();
        let initial = program.defaults.get(table.0).and_then(|d| d.call.as_ref());
        let now = self.dataplane.default_entry(table).ok().flatten();
        now != initial.cloned().map(Outcome::Call) || self.attached(table, None) != Attached::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EntryId, Attached>> {
        // Whole after any panic: each change is one insertion or removal.
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Digests that a controller wants, by P4Info id.
    pub(crate) fn digests(&self) -> MutexGuard<'_, BTreeMap<u32, v1::digest_entry::Config>> {
        // Whole after any panic, as above.
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is attached to an entry, replacing what was.
    pub(crate) fn attach(&self, table: TableIx, key: Option<EntryKey>, attached: Attached) {
        let mut all = self.lock();
        if attached != Attached::default() {
            all.insert((table, key), attached);
        } else if !all.is_empty() {
            all.remove(&(table, key));
        }
    }

    /// What is attached to an entry.
    pub(crate) fn attached(&self, table: TableIx, key: Option<EntryKey>) -> Attached {
        let all = self.lock();
        if all.is_empty() { Attached::default() } else { all.get(&(table, key)).cloned().unwrap_or_default() }
    }
}
