//! The P4Runtime server: specification 1.4, with the byte strings and fields of 1.5 (backup replicas, modes of action sets,
//! groups without weights).
//!
//! | part | what it does |
//! | --- | --- |
//! | [`arbitration`], [`role`] | who may write what: a primary for each role (§5) |
//! | [`listener`] | connections, with or without TLS |
//! | [`config`], [`binding`] | a program with its P4Info, and everything that requests can name |
//! | `read`, `answer` | reads, as snapshots that hold up neither packets nor, once made, writers (§13) |
//! | `write`, `atomic`, `batch` | updates, each for itself or all or none (§12) |
//! | [`profiles`] | action profiles and selectors, by hand and one-shot (§9.2) |
//! | [`reconcile`] | what a new program takes over from the one before (§14) |
//! | [`control`], [`stream`], [`packet_io`], `idle` | streams: notices, packets, idle entries, errors (§16) |
//!
//! What is not supported answers UNIMPLEMENTED with a sentence: DATAPLANE_ATOMIC for anything but table entries; externs
//! that v1model does not have; `group_action` of action sets, as no p4c writes a P4Info with an action that may be one,
//! nor BMv2 JSON that runs two actions for one hit. Nothing is accepted and ignored.

mod answer;
pub mod arbitration;
mod atomic;
mod batch;
pub mod binding;
pub mod config;
pub mod control;
pub mod digest;
pub mod entry;
pub mod error;
mod idle;
pub mod key;
pub mod listener;
pub mod packet_io;
pub mod profiles;
mod read;
pub mod reconcile;
mod register;
pub(crate) mod replication;
pub mod role;
mod service;
pub mod stream;
mod tally;
mod value;
mod value_set;
mod write;

pub use answer::{MAX_READS, MAX_WAITING_BYTES};
pub(crate) use service::serve;
pub use service::{MAX_MESSAGE_BYTES, ServeError};
