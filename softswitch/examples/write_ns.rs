//! What table writes over P4Runtime cost: entries a second, and processor time of the switch's thread and the client's, in
//! the four ways of `make bench`. Both run in this process, each on one thread, over TCP on the loopback.
//!
//! `cargo run --release --example write_ns [ENTRIES] [RUNS]`

use std::sync::Arc;

use dmux_p4rt::P4Info;
use dmux_p4rt::client::{Session, Target, delete, insert};
use dmux_p4rt::p4::v1::{self, TableEntry, Update};
use dmux_softswitch::Switch;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Updates of a request, requests in flight, and a divisor of the number of entries.
const PATTERNS: [(usize, usize, usize); 4] = [(1, 1, 20), (1, 16, 10), (100, 1, 2), (1000, 1, 1)];

/// The one that `dmux switch` runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let (entries, runs) = (args.next().unwrap_or(50_000), args.next().unwrap_or(3));
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../bmv2-configs");
    let json = std::fs::read(format!("{configs}/gateway.json"))?;
    let info = P4Info::from_text(&std::fs::read_to_string(format!("{configs}/gateway.p4info.txtpb"))?)?;
    let table =
        info.raw().tables.iter().find_map(|t| t.preamble.as_ref().filter(|p| p.alias == "router")).map(|p| p.id);
    let action =
        info.raw().actions.iter().find_map(|t| t.preamble.as_ref().filter(|p| p.alias == "tunnel")).map(|p| p.id);
    let entries: Vec<TableEntry> =
        (0..entries as u32).map(|n| entry(table.unwrap_or(0), action.unwrap_or(0), n)).collect();

    let switch = Arc::new(Switch::builder(1, 510).start()?);
    switch.load_pipeline(info.raw().clone(), json)?;
    let (told, address) = std::sync::mpsc::channel();
    let served = Arc::clone(&switch);
    std::thread::spawn(move || -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            told.send((listener.local_addr()?, clock_of_this_thread()))?;
            Ok(served.serve(listener, std::future::pending()).await?)
        })
    });
    let (address, server) = address.recv()?;
    codec(&entries)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (session, _events) = Session::connect(Target::new(format!("http://{address}"), 1), Some(dmux_p4rt::ElectionId(1))).await?;
        for (batch, in_flight, divisor) in PATTERNS {
            let some = &entries[..entries.len() / divisor];
            let mut best = [f64::MAX; 3];
            for _ in 0..runs {
                for (b, v) in best.iter_mut().zip(run(&session, server, some, batch, in_flight).await?) {
                    *b = b.min(v);
                }
                session.write(some.iter().cloned().map(delete).collect()).await?;
            }
            let [wall, ours, client] = best;
            println!(
                "batches of {batch}, {in_flight} in flight: {:7.0} entries/s; {wall:6.0} ns an entry: {ours:6.0} on the switch's \
                 thread, {client:6.0} on the client's",
                1e9 / wall
            );
        }
        Ok(())
    })
}

/// Messages alone.
fn codec(entries: &[TableEntry]) -> Result<(), Error> {
    let updates: Vec<Update> = entries.iter().take(1000).cloned().map(insert).collect();
    let request = v1::WriteRequest { device_id: 1, updates, ..Default::default() };
    let bytes = request.encode_to_vec();
    let each = |f: &mut dyn FnMut()| {
        let mut best = f64::MAX;
        for _ in 0..50 {
            let from = cpu(libc::CLOCK_THREAD_CPUTIME_ID);
            f();
            best = best.min((cpu(libc::CLOCK_THREAD_CPUTIME_ID) - from) / 1000.0);
        }
        best
    };
    let encode = each(&mut || drop(std::hint::black_box(request.encode_to_vec())));
    let decode = each(&mut || drop(std::hint::black_box(v1::WriteRequest::decode(&*bytes))));
    println!("{} bytes an entry; {encode:.0} ns to encode, {decode:.0} ns to decode", bytes.len() / 1000);
    Ok(())
}

/// Nanoseconds an entry: on the wall, on the switch's thread, on this one.
async fn run(
    session: &Session,
    server: libc::clockid_t,
    entries: &[TableEntry],
    batch: usize,
    in_flight: usize,
) -> Result<[f64; 3], Error> {
    let mut shares: Vec<Vec<Vec<Update>>> = vec![Vec::new(); in_flight];
    for (n, chunk) in entries.chunks(batch).enumerate() {
        shares[n % in_flight].push(chunk.iter().cloned().map(insert).collect());
    }
    let clocks = || [cpu(libc::CLOCK_MONOTONIC), cpu(server), cpu(libc::CLOCK_THREAD_CPUTIME_ID)];
    let before = clocks();
    let mut tasks = JoinSet::new();
    for share in shares {
        let session = session.clone();
        tasks.spawn(async move {
            for request in share {
                let results = session.write(request).await?;
                if let Some(Err(refused)) = results.into_iter().find(Result::is_err) {
                    return Err(Error::from(refused.to_string()));
                }
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let after = clocks();
    Ok(std::array::from_fn(|i| (after[i] - before[i]) / entries.len() as f64))
}

fn entry(table_id: u32, action_id: u32, n: u32) -> TableEntry {
    let bytes = |v: u32| {
        let bytes = v.to_be_bytes();
        bytes[bytes.iter().take(3).take_while(|b| **b == 0).count()..].to_vec()
    };
    let exact = v1::field_match::Exact { value: bytes(n) };
    let matched = v1::field_match::FieldMatchType::Exact(exact);
    let param = |param_id, v| v1::action::Param { param_id, value: bytes(v) };
    let action = v1::Action { action_id, params: vec![param(1, 0xcb00_7100 + n), param(2, 4000)] };
    TableEntry {
        table_id,
        r#match: vec![v1::FieldMatch { field_id: 1, field_match_type: Some(matched) }],
        action: Some(v1::TableAction { r#type: Some(v1::table_action::Type::Action(action)) }),
        ..Default::default()
    }
}

fn clock_of_this_thread() -> libc::clockid_t {
    let mut clock = libc::CLOCK_THREAD_CPUTIME_ID;
    // SAFETY: this thread, and a live place for its clock.
    unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
    clock
}

/// Nanoseconds on a clock.
fn cpu(clock: libc::clockid_t) -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live timespec.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}
