//! The two clocks of a controller: one that never goes back, for timers, and the wall clock, for time stamps.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::registration::Now;

/// A wall clock: the time since the Unix epoch, as far as this machine knows.
#[derive(Clone)]
pub struct Wall(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Wall {
    /// The operating system's.
    pub fn system() -> Self {
        Self::of(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Another one: a simulated machine's.
    pub fn of(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(clock))
    }

    /// The time.
    pub fn now(&self) -> Duration {
        (self.0)()
    }

    /// The time stamp of a command: ms since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wall")
    }
}

/// The clocks of the actor's state machines.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// tokio's, which a simulation can pause.
    start: Instant,
    wall: Wall,
}

impl Clock {
    /// The first clock starts at 0.
    pub(super) fn start(wall: Wall) -> Self {
        Self { start: Instant::now(), wall }
    }

    /// Since the start.
    pub(super) fn mono(&self) -> Duration {
        self.start.elapsed()
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        Now { mono: self.mono(), unix: self.wall.now() }
    }

    /// The time stamp of a command.
    pub(super) fn unix_ms(&self) -> u64 {
        self.wall.unix_ms()
    }

    /// A moment of the first clock as one to sleep until.
    pub(super) fn at(&self, moment: Duration) -> Instant {
        self.start + moment
    }
}
