//! The pipeline: a compiler from BMv2 JSON to a flat program and on to machine code, and the machine that runs it.
//!
//! ```text
//!  JSON ── Program::compile ──▶ Program (immutable, shared)
//!                                  │ Dataplane::new
//!   control plane ── write(|txn| …) ──▶ Dataplane (tables, counters, meters, registers; shared)
//!                                  ▲
//!   frame ── Worker::process ──────┘──▶ out(port, frame)      one Worker a thread
//! ```
//!
//! Nothing here knows a program of ours: tables, actions and fields are whatever the JSON defines. What is not
//! implemented is refused at load by a [`LoadError`] that names it.

mod calc;
mod compile;
pub mod digest;
mod effects;
mod entry;
mod error;
mod exec;
mod hashes;
mod info;
mod json;
mod layout;
mod marks;
mod native;
mod ops;
mod program;
pub mod queue;
mod queues;
pub mod replication;
mod stacks;
mod tables;
mod target;
mod tree;

pub use entry::{
    ActionCall, ActionSet, ColourCounts, CounterValue, EntrySpec, EntryView, GroupMember, GroupSpec, IdleState,
    MatchValue, MeterConfig, Outcome, PIECE, ProfileLimits, Selection, SizeBy, Via, Watch, WeightedCall, pieces,
};
pub use error::{LoadError, TableError};
pub use exec::{AHEAD, Batch, MAX_COPIES, MAX_FRAME, MAX_PASSES, MAX_TRACE_BYTES, Worker, WorkerStats};
pub use hashes::CrcParams;
pub use info::{
    ActionInfo, ActionIx, CounterInfo, KeyField, LearnList, MatchKind, MeterInfo, MeterUnit, ParamInfo, ProfileInfo,
    ProfileIx, RegisterInfo, TableInfo, TableIx, ValueSetInfo,
};
pub(crate) use json::cut_number;
pub use marks::Marking;
pub use program::Program;
pub use queues::EgressQueues;
pub use tables::{Clock, Dataplane, Idled, Txn};
pub use target::{DEFAULT_DROP_PORT, MAX_PRIORITIES, Target};
