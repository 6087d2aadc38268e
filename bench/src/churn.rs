//! What packets notice of a control plane that writes without pause.

use std::time::{Duration, Instant};

use anyhow::Result;
use dmux_p4rt::client::{Session, delete, insert};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::gateway::{ROUTERS, router_entry};
use crate::switches::write_all;

/// Entries that are inserted, and deleted again: together what the rows call written.
const ENTRIES: u32 = 50_000;
/// Updates in a request.
const BATCH: usize = 100;
/// Share of the rate without loss at which frames are sent meanwhile: client and server need processors, too.
pub const SHARE: f64 = 0.5;
/// Frames are sent in stretches of this length until all is written.
const STRETCH: Duration = Duration::from_millis(100);

/// What was seen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Churn {
    /// Frames a second that were sent.
    pub rate: f64,
    /// Frames sent, and those that did not come out.
    pub sent: u64,
    pub lost: u64,
    /// Entries written a second.
    pub writes: f64,
}

impl Churn {
    /// Entries written.
    pub const WRITTEN: u32 = 2 * ENTRIES;

    /// Frames of a million that were lost.
    pub fn lost_of_a_million(&self) -> f64 {
        self.lost as f64 / self.sent as f64 * 1e6
    }
}

/// Writes [`Churn::WRITTEN`] entries while `send` sends frames for the time that it is given, and returns how many it sent.
/// The caller fills in what was lost.
pub fn write_while(
    runtime: &Runtime,
    session: &Session,
    mut send: impl FnMut(Duration) -> Result<u64>,
) -> Result<Churn> {
    let session = session.clone();
    let began = Instant::now();
    let writing = runtime.spawn(async move {
        let entries: Vec<_> = (ROUTERS..ROUTERS + ENTRIES).map(|n| router_entry(n).encode()).collect();
        for batch in entries.chunks(BATCH) {
            write_all(&session, batch.iter().cloned().map(insert).collect()).await?;
        }
        for batch in entries.chunks(BATCH) {
            write_all(&session, batch.iter().cloned().map(delete).collect()).await?;
        }
        Ok::<_, anyhow::Error>(began.elapsed())
    });
    let mut sent = 0;
    while !writing.is_finished() {
        sent += send(STRETCH)?;
    }
    let sending = began.elapsed();
    let took = runtime.block_on(writing)??;
    let rate = sent as f64 / sending.as_secs_f64();
    Ok(Churn { rate, sent, lost: 0, writes: f64::from(Churn::WRITTEN) / took.as_secs_f64() })
}
