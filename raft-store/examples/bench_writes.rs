//! Durable writes per second of three nodes on loopback: `cargo run --release --example bench_writes [-- --json]`.
//!
//! Each node has its own directory and its own fdatasync, on the disk of the current directory (or of `DMUX_BENCH_DIR`).
//! A write counts when it is on a majority of the disks and applied. Values have 100 bytes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use dmux_raft_store::{Application, Listen, RestoreError, Start, Store, StoreConfig};

type Error = Box<dyn std::error::Error>;

const VALUE_BYTES: usize = 100;
/// Keys are written over and over, as registrations are.
const KEYS: u64 = 10_000;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURE: Duration = Duration::from_secs(5);
const WITHIN: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Map(BTreeMap<u64, Vec<u8>>);

impl Application for Map {
    type Command = (u64, Vec<u8>);
    type Reply = bool;
    const SNAPSHOT_VERSION: u16 = 1;

    fn apply(&mut self, _index: u64, (key, value): (u64, Vec<u8>)) -> bool {
        self.0.insert(key, value).is_none()
    }

    fn snapshot(&self) -> Vec<u8> {
        postcard::to_stdvec(&self.0).unwrap_or_default()
    }

    fn restore(_version: u16, bytes: &[u8]) -> Result<Self, RestoreError> {
        postcard::from_bytes(bytes).map(Map).map_err(|e| RestoreError(e.to_string()))
    }
}

/// One measurement.
struct Figure {
    clients: u64,
    at: &'static str,
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let json = std::env::args().any(|a| a == "--json");
    let base = std::env::var_os("DMUX_BENCH_DIR").map_or_else(|| ".".into(), std::path::PathBuf::from);
    let dir = tempfile::tempdir_in(base)?;
    let mut listeners = BTreeMap::new();
    for id in 1..=3_u64 {
        listeners.insert(id, TcpListener::bind("127.0.0.1:0")?);
    }
    let mut members = BTreeMap::new();
    for (&id, listener) in &listeners {
        members.insert(id, listener.local_addr()?.to_string());
    }
    let mut stores = Vec::new();
    for (id, listener) in listeners {
        let start = Start::Bootstrap { members: members.clone() };
        let config = StoreConfig::new(id, dir.path().join(id.to_string()), Listen::Bound(listener), start);
        stores.push(Store::open(config, Map::default()).await?);
    }
    for store in &stores {
        store.wait_ready(WITHIN).await?;
    }
    let mut figures = Vec::new();
    for clients in [1, 64] {
        for at in ["leader", "follower"] {
            let store =
                stores.iter().find(|s| s.is_leader() == (at == "leader")).ok_or("the cluster lost its leader")?;
            run(store, clients, WARM_UP).await?;
            let mut latencies = run(store, clients, MEASURE).await?;
            latencies.sort_unstable();
            let at_rank = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
            figures.push(Figure {
                clients,
                at,
                per_second: latencies.len() as f64 / MEASURE.as_secs_f64(),
                p50: at_rank(50),
                p99: at_rank(99),
            });
        }
    }
    for store in &stores {
        store.shutdown().await;
    }
    for f in figures {
        let (p50, p99) = (f.p50.as_secs_f64() * 1e3, f.p99.as_secs_f64() * 1e3);
        if json {
            println!(
                r#"{{"clients":{},"at":"{}","writes_per_second":{:.0},"p50_ms":{p50:.3},"p99_ms":{p99:.3}}}"#,
                f.clients, f.at, f.per_second
            );
        } else {
            println!(
                "{:>3} clients at the {:<8} {:>8.0} writes/s   p50 {p50:.2} ms   p99 {p99:.2} ms",
                f.clients, f.at, f.per_second
            );
        }
    }
    Ok(())
}

/// Writes with `clients` clients for `time`; the latency of each write.
async fn run(store: &Store<Map>, clients: u64, time: Duration) -> Result<Vec<Duration>, Error> {
    let end = Instant::now() + time;
    let mut tasks = Vec::new();
    for client in 0..clients {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut key = client;
            while Instant::now() < end {
                key = (key + clients) % KEYS;
                let start = Instant::now();
                store.propose((key, vec![0x42; VALUE_BYTES]), WITHIN).await?;
                latencies.push(start.elapsed());
            }
            Ok::<_, dmux_raft_store::ProposeError>(latencies)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    if all.is_empty() { Err("nothing was written".into()) } else { Ok(all) }
}
