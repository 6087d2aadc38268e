//! What a reconciler and its caller say to each other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use dmux_wire::PuntReason;
use thiserror::Error;

use super::work::Update;
use super::{Entry, Fixture, FixtureKey, Key, MeterRate, PuntRate};

/// How a reconciler works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconcilerOptions {
    /// Updates in one write at most: what fails over waits for one write, however many there are to come.
    pub batch: usize,
    /// Wait before the first retry of a refused update; doubles with each.
    pub retry_min: Duration,
    /// The longest wait.
    pub retry_max: Duration,
    /// Between two read-backs of a switch that is in step.
    pub audit_every: Duration,
}

impl Default for ReconcilerOptions {
    fn default() -> Self {
        Self {
            batch: 1_000,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
            audit_every: Duration::from_secs(60),
        }
    }
}

/// A table entry that a read-back returned and that our program's bindings do not decode.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// As it was read.
    pub entry: dmux_p4rt::p4::v1::TableEntry,
    /// Why it does not decode.
    pub why: String,
}

/// What a switch holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadBack {
    /// Entries of our tables, by key.
    pub entries: BTreeMap<Key, Entry>,
    /// The meters of those entries that have one, as the target programmed them; what is none of ours reads as all zeros.
    pub meters: BTreeMap<Key, MeterRate>,
    /// What we cannot have written.
    pub foreign: Vec<Foreign>,
    /// Meter cells that are configured.
    pub punt_rates: BTreeMap<PuntReason, PuntRate>,
    /// Multicast groups, whoever made them, and those of [`DIGESTS`](super::DIGESTS) that it sends.
    pub fixtures: BTreeMap<FixtureKey, Fixture>,
}

/// Why the switch refused an update.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} (code {code})")]
pub struct UpdateError {
    /// A google.rpc.Code.
    pub code: i32,
    /// What the switch says.
    pub message: String,
}

impl UpdateError {
    /// Whether the same update can be expected to be refused again, as there is no room for it or the switch has no use for it
    /// (INVALID_ARGUMENT, RESOURCE_EXHAUSTED, OUT_OF_RANGE, UNIMPLEMENTED).
    pub fn is_permanent(&self) -> bool {
        matches!(self.code, 3 | 8 | 11 | 12)
    }
}

/// What came of an action, or happened by itself.
#[derive(Debug, Clone)]
pub enum Event {
    /// The stream is up and this controller is the primary.
    Connected,
    /// The stream is down, or another controller is the primary.
    Disconnected {
        /// Why.
        why: String,
    },
    /// Whether the switch runs our pipeline.
    Pipeline(Result<bool, String>),
    /// The pipeline was set.
    PipelineSet(Result<(), String>),
    /// What the switch holds.
    ReadBack(Result<ReadBack, String>),
    /// The outcome of each update, in their order; or of the write as a whole, of which nothing is known then.
    Written(Result<Vec<Result<(), UpdateError>>, String>),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing until an event, a change of the plan, or this time.
    Wait {
        /// When to ask again.
        until: Option<Duration>,
    },
    /// Compare the switch's pipeline with ours.
    CheckPipeline,
    /// Set our pipeline.
    SetPipeline,
    /// Read all tables, meters and fixtures.
    ReadBack,
    /// Write these, in any order, and report each.
    Write(Vec<Update>),
}

/// How far a switch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not connected, or not primary.
    Disconnected,
    /// Finding out which pipeline it runs, or setting ours.
    Pipeline,
    /// Finding out what it holds.
    Reading,
    /// Writing what differs.
    Writing,
    /// Finding out whether it holds what was written.
    Verifying,
    /// It holds the plan, except for what it refuses (retried).
    Refused,
    /// It holds the plan.
    Synced,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Disconnected => "disconnected",
            Self::Pipeline => "pipeline",
            Self::Reading => "reading",
            Self::Writing => "writing",
            Self::Verifying => "verifying",
            Self::Refused => "refused",
            Self::Synced => "synced",
        })
    }
}

/// What an operator sees of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How far it is.
    pub state: State,
    /// Why it is not further, or what was refused; empty when all is well.
    pub detail: String,
    /// Entries that the switch is known to hold.
    pub entries: usize,
    /// Updates that wait to be written.
    pub pending: usize,
    /// Updates that the switch refused and that wait for their retry.
    pub refused: usize,
    /// Times that it was made whole after a connect.
    pub resyncs: u64,
    /// How long the last of these took, from `Connected` to a read-back that showed the plan.
    pub last_resync: Option<Duration>,
}
