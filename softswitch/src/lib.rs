//! The embedded switch: runs BMv2 JSON for v1model and speaks P4Runtime, without knowing any program.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`pipeline`] | BMv2 JSON compiled to a flat program, and the machine that runs packets through it |
//! | [`ports`] | where frames enter and leave: AF_PACKET, TAP, UDP, memory; emulated links; captures |
//! | [`metrics`] | statistics for Prometheus |
//! | [`trace`] | which packets' ways are told, and where |
//! | [`server`] | the P4Runtime service |
//! | [`switch`] | the three put together |
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use dmux_softswitch::Switch;
//! let switch = Switch::builder(1, 510).port("1@veth0".parse()?).start()?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9559").await?;
//! switch.serve(listener, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```

pub mod metrics;
pub mod pipeline;
pub mod ports;
mod prefetch;
pub mod server;
pub mod switch;
pub mod trace;
mod worker;
mod workers;

pub use ports::{MemoryPort, PortError, PortId, PortSpec};
pub use switch::{Switch, SwitchBuilder, SwitchError};
pub use workers::MAX_WORKERS;
