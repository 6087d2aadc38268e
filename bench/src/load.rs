//! Closed-loop load: so many clients, each with one request at a time, for so long.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::table::percentile;

/// How a run of clients went.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LoadResult {
    /// Requests a second, over all clients.
    pub per_second: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
}

/// A key of 16 bytes that no other run, client or request has.
pub fn new_key(run: u64, client: usize, n: u64) -> Vec<u8> {
    format!("{run:04}{client:04}{n:08}").into_bytes()
}

/// Runs `clients` closed loops for `length`. `request(client, n)` is the `n`-th request of a client.
///
/// # Errors
/// The first error of any request ends the run: a rate that leaves failures out would be no rate.
pub async fn closed_loop<F, R>(clients: usize, length: Duration, request: F) -> Result<LoadResult>
where
    F: Fn(usize, u64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<()>> + Send + 'static,
{
    let began = Instant::now();
    let end = began + length;
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let request = request.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut n = 0;
            while Instant::now() < end {
                let sent = Instant::now();
                request(client, n).await?;
                times.push(sent.elapsed().as_secs_f64() * 1e3);
                n += 1;
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.append(&mut done.context("a client panicked")??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let per_second = times.len() as f64 / seconds;
    let p50_ms = percentile(&mut times, 50.0).context("no request was answered in time")?;
    let p99_ms = percentile(&mut times, 99.0).context("no request was answered in time")?;
    Ok(LoadResult { per_second, p50_ms, p99_ms })
}
