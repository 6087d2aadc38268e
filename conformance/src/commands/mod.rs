//! The subcommands.

pub mod diff;
pub mod fuzz;
pub mod stf;
