//! What a simulated cluster puts in place of disk and network; everything else is as in production.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::transport::Wire;

/// How long the next sync takes.
pub type SyncTime = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A node's simulated surroundings: no thread, no socket and no file is used with them, so that a whole cluster runs
/// on one thread, on tokio's paused clock.
#[derive(Clone)]
pub struct Simulated {
    /// The disk.
    pub engine: Arc<dyn Engine>,
    /// How slow the disk is.
    pub sync_time: SyncTime,
    /// The network.
    pub wire: Arc<dyn Wire>,
}
