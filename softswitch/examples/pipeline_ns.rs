//! Nanoseconds a packet spends in the pipeline, in memory, on one core: the gateway's forward path.
//!
//! `cargo run --release --example pipeline_ns [ROUTERS] [SECONDS]`

#[path = "../tests/pipeline_support/mod.rs"]
mod support;

use dmux_softswitch::pipeline::{ActionCall, EntrySpec, MatchValue, Worker};
use std::time::Instant;
use support::gateway;

/// Frames that share one lock of the tables, as in the switch's own loop.
const BATCH: usize = 32;

fn main() {
    let mut args = std::env::args().skip(1);
    let routers: u32 = args.next().and_then(|a| a.parse().ok()).unwrap_or(10_000);
    let seconds: f64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(1.0);
    let dp = gateway::gateway(routers);
    for len in [40, 104, 1376] {
        let frames: Vec<Vec<u8>> = (0..routers.min(4096))
            .map(|i| gateway::client_frame(41, gateway::provider(i.wrapping_mul(2_654_435_761) % routers), len))
            .collect();
        let mut worker = Worker::new(&dp);
        let (mut packets, mut bytes) = (0u64, 0u64);
        let (start, cpu) = (Instant::now(), cpu_ns());
        while start.elapsed().as_secs_f64() < seconds {
            for chunk in frames.chunks(BATCH) {
                let mut batch = worker.batch(&dp);
                for f in chunk {
                    batch.process(1, f, 1_000_000, &mut |_, out| bytes += out.len() as u64);
                }
                packets += chunk.len() as u64;
            }
        }
        let wall = start.elapsed().as_nanos() as f64;
        // On a machine that does other things, too, only the time on the processor tells.
        let ns = cpu_ns().zip(cpu).map_or(wall, |(now, then)| (now - then) as f64) / packets as f64;
        let stats = worker.stats();
        println!(
            "forward path, {routers} routers, {} byte frames: {ns:.0} ns/packet ({} of {} sent, {bytes} bytes)",
            frames[0].len(),
            stats.sent,
            stats.received
        );
    }
    writes(&dp);
}

/// Nanoseconds that this process has spent on a processor, where the system tells.
fn cpu_ns() -> Option<u64> {
    std::fs::read_to_string("/proc/self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

/// Entries written a second, alone and in batches.
fn writes(dp: &dmux_softswitch::pipeline::Dataplane) {
    let t = support::table(dp, "bucket");
    let action = support::call(dp, t, "to_router", &[1]);
    let spec = |n: u128, action: &ActionCall| EntrySpec {
        key: vec![MatchValue::Exact(n >> 8), MatchValue::Exact(n & 0xff)],
        priority: 0,
        action: action.clone(),
    };
    let size = 100_000u128;
    for batch in [1usize, 100, 1000] {
        let specs: Vec<EntrySpec> = (0..size).map(|n| spec(n, &action)).collect();
        let start = Instant::now();
        for chunk in specs.chunks(batch) {
            dp.write(|txn| chunk.iter().for_each(|s| drop(txn.insert(t, s))));
        }
        let per_second = specs.len() as f64 / start.elapsed().as_secs_f64();
        println!("inserts in batches of {batch}: {per_second:.0} entries/s ({} in the table)", dp.entry_count(t));
        dp.write(|txn| specs.iter().for_each(|s| drop(txn.delete(t, &s.key, 0))));
    }
}
