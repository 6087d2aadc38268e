//! Packet tests in p4c's language, run on a switch through P4Runtime.
//!
//! A test passes when the program loads and, port by port, the expected frames came, in order and no others. That is p4c's
//! own rule: ports that the test does not name do not count. A write that the switch refuses is noted but fails nothing, as
//! in p4c's runner, where the switch's command line says so and goes on; checks of counters and registers are ours and fail.

pub mod expect;
pub mod names;
pub mod number;
pub mod parse;
pub mod replication;
mod run;
mod tokens;

pub use run::{Outcome, digest_configs, digests, run};
