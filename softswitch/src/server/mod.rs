//! The P4Runtime server: specification 1.4, with the byte strings and fields of 1.5.
//!
//! What is not supported answers UNIMPLEMENTED with a sentence: action profiles, multicast and clone sessions, registers, value sets, digests, idle timeouts,
//! counters per meter colour. Nothing is accepted and ignored.

mod answer;
pub mod arbitration;
mod atomic;
mod batch;
pub mod binding;
pub mod config;
pub mod control;
pub mod entry;
pub mod error;
pub mod listener;
pub mod packet_io;
mod read;
pub mod reconcile;
pub mod role;
mod service;
pub mod stream;
mod value;
mod write;

pub use answer::MAX_READS;
pub(crate) use service::serve;
pub use service::{MAX_MESSAGE_BYTES, ServeError};
