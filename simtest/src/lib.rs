//! Whole clusters on one thread and one seed (DESIGN §5.5).
//!
//! Real: Raft and its log, the model, the controllers' actors with everything that they own, the routers' state
//! machines, certificates. Simulated: the network between them, disks that lose what was not synced, clocks, and the
//! switch, which is a table of entries. Time is tokio's paused clock; randomness is the thread's seed ([`entropy`]), so
//! the same seed is the same run, to the last message.
//!
//! ```text
//!   router ── datagrams ──▶ model switch ──▶ Bare (actor) ── proposals ──▶ Store ── calls ──▶ other stores
//!      ▲                        ▲   └ packet-ins   │ actions                 └ CrashEngine
//!      └──────── Net ───────────┴──────────────────┘
//!   faults ──▶ Net, disks, clocks, switches, nodes, routers        checks ──▶ during, settled
//! ```

mod access;
mod certs;
mod check;
mod claims;
mod crashes;
mod endpoint;
pub mod entropy;
mod faults;
mod net;
mod node;
mod router;
mod run;
mod setup;
mod stories;
mod switch;
mod traps;
mod world;

pub use claims::claims_are_exact;
pub use crashes::{Crash, Request, an_endpoint_dies, nothing_leaks};
pub use run::{Failure, Report, run};
pub use stories::{a_clock_is_set, a_controller_is_wiped, keys_are_revoked};
pub use traps::FaultPoint;
