//! Nanoseconds of a packet through a program of one table, and bytes of memory of an entry, by match kind and number of
//! entries.
//!
//! `cargo run --release --example table_ns [KIND [ENTRIES [SECONDS]]]`, where KIND is one of those in [`KINDS`].

#[path = "../tests/pipeline_support/mod.rs"]
mod support;

use dmux_softswitch::pipeline::{ActionCall, ActionIx, Dataplane, EntrySpec, MatchValue, TableIx, Worker};
use serde_json::json;
use std::time::Instant;
use support::build::{action, assign, lookup, program};

/// Frames that share one lock of the tables, as in the switch's own loop.
const BATCH: usize = 32;
/// Frames with different keys.
const FRAMES: usize = 1 << 16;

/// A match kind to measure: its key, and numbers of entries.
struct Kind {
    name: &'static str,
    key: &'static [(&'static str, u32)],
    sizes: &'static [usize],
}

const KINDS: [Kind; 9] = [
    Kind { name: "exact", key: &[("exact", 32)], sizes: &[1000, 10_000, 100_000, 1_000_000] },
    Kind { name: "exact128", key: &[("exact", 128)], sizes: &[1000, 10_000, 100_000, 1_000_000] },
    Kind { name: "lpm", key: &[("lpm", 32)], sizes: &[1000, 10_000, 100_000] },
    Kind { name: "lpm128", key: &[("lpm", 128)], sizes: &[1000, 10_000, 100_000] },
    Kind { name: "vrf", key: &[("exact", 16), ("lpm", 32)], sizes: &[1000, 10_000, 100_000] },
    Kind { name: "ternary", key: &[("ternary", 32)], sizes: &[1000, 10_000] },
    Kind {
        name: "acl",
        key: &[("ternary", 32), ("ternary", 32), ("ternary", 8), ("ternary", 16), ("ternary", 16)],
        sizes: &[100, 1000, 10_000],
    },
    Kind {
        name: "aclrange",
        key: &[("ternary", 32), ("ternary", 32), ("ternary", 8), ("range", 16), ("range", 16)],
        sizes: &[100, 1000, 10_000],
    },
    Kind { name: "range", key: &[("range", 32)], sizes: &[1000, 10_000] },
];

/// A number that looks like chance (splitmix64).
fn noise(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn ones(w: u32) -> u128 {
    if w >= 128 { u128::MAX } else { (1 << w) - 1 }
}

fn prefix(v: u128, len: u32, w: u32) -> (u128, u128) {
    let mask = ones(w) & !ones(w - len);
    (v & mask, mask)
}

/// A value of entry `n` in field `f`.
fn chance(n: u64, f: usize, w: u32) -> u128 {
    let r = noise(n * 8 + f as u64);
    (u128::from(noise(r)) << 64 | u128::from(r)) & ones(w)
}

/// The key of entry `n`.
fn key(kind: &Kind, n: u64) -> Vec<MatchValue> {
    // A filter's fields belong together: few shapes, as in ClassBench's sets.
    let shape = noise(n ^ 0x5eed);
    let field = |(f, (m, w)): (usize, &(&str, u32))| {
        let v = chance(n, f, *w);
        match (*m, kind.name) {
            ("exact", "vrf") => MatchValue::Exact(v % 16),
            ("exact", _) => MatchValue::Exact(v),
            ("lpm", _) => {
                // Mostly three quarters of the width, some shorter and longer, as in routing tables.
                let len = match noise(n ^ 77) % 10 {
                    0..6 => w * 3 / 4,
                    6..9 => w * 3 / 4 - 1 - (shape as u32 >> 8) % (w / 4),
                    _ => w * 3 / 4 + 1 + (shape as u32 >> 8) % (w / 4),
                };
                MatchValue::Lpm { value: prefix(v, len, *w).0, prefix_len: len }
            }
            ("ternary", _) => {
                let len = match (f, w) {
                    (0, _) => [32, 24, 28, 16, 0, 27, 29, 8][(shape & 7) as usize],
                    (1, _) => [32, 24, 30, 16, 0, 26, 20, 32][(shape >> 3 & 7) as usize],
                    (2, _) => [8, 8, 8, 0][(shape >> 6 & 3) as usize],
                    (3, _) => [0, 0, 0, 16][(shape >> 8 & 3) as usize],
                    _ => [16, 16, 0, 6][(shape >> 10 & 3) as usize],
                };
                let v = if *w == 8 { [6, 17, 1, 6][(shape >> 12 & 3) as usize] } else { v };
                let (value, mask) = prefix(v, len, *w);
                MatchValue::Ternary { value, mask }
            }
            (_, "aclrange") => match shape >> (8 + 8 * f) & 7 {
                0..3 => MatchValue::Range { low: 0, high: ones(*w) },
                3 => MatchValue::Range { low: 1024, high: ones(*w) },
                4 => MatchValue::Range { low: v.min(65000), high: v.min(65000) + 500 },
                _ => MatchValue::Range { low: v, high: v },
            },
            _ => {
                let low = v & !0x3ff;
                MatchValue::Range { low, high: low + (v & 0x3ff) }
            }
        }
    };
    kind.key.iter().enumerate().map(field).collect()
}

/// Field values of a packet that the entry matches.
fn matching(kind: &Kind, key: &[MatchValue], n: u64) -> Vec<u128> {
    let some = |(f, (m, (_, w))): (usize, (&MatchValue, &(&str, u32)))| {
        let r = chance(n ^ 0xdead, f, *w);
        match *m {
            MatchValue::Exact(v) => v,
            MatchValue::Lpm { value, prefix_len } => value | r & ones(w - prefix_len),
            MatchValue::Ternary { value, mask } => value | r & !mask,
            MatchValue::Range { low, high } => low + r % (high - low + 1),
            MatchValue::Optional(v) => v.unwrap_or(r),
        }
    };
    key.iter().zip(kind.key).enumerate().map(some).collect()
}

fn frame(values: &[u128], widths: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for (v, w) in values.iter().zip(widths) {
        bytes.extend_from_slice(&v.to_be_bytes()[16 - w as usize / 8..]);
    }
    bytes.resize(64, 0);
    bytes
}

fn setup(kind: &Kind, size: usize) -> Dataplane {
    let mut fields: Vec<(String, u32, bool)> = vec![("result".into(), 32, false)];
    fields.extend(kind.key.iter().enumerate().map(|(i, (_, w))| (format!("f{i}"), *w, false)));
    let keys: Vec<(String, &str)> = kind.key.iter().enumerate().map(|(i, (k, _))| (format!("f{i}"), *k)).collect();
    let param = json!({"type": "runtime_data", "value": 0});
    let port = |p: &str| json!({"op": "assign", "parameters": [{"type": "field", "value": ["standard_metadata", "egress_spec"]}, {"type": "hexstr", "value": p}]});
    let actions = vec![
        action("set", 0, &[("result", 32)], vec![assign("result", &param), port("0x1")]),
        action("miss", 1, &[], vec![port("0x2")]),
    ];
    support::dataplane(&program(&fields, actions, vec![lookup("t", &keys, size)], "t"))
}

const T: TableIx = TableIx(0);

fn main() {
    let mut args = std::env::args().skip(1);
    let (only, entries) = (args.next(), args.next().and_then(|a| a.parse().ok()));
    let seconds: f64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(0.5);
    for kind in KINDS.iter().filter(|k| only.as_ref().is_none_or(|o| o == "all" || o == k.name)) {
        for size in kind.sizes.iter().filter(|s| entries.is_none_or(|e: usize| e == **s)) {
            measure(kind, *size, seconds);
        }
    }
}

fn measure(kind: &Kind, size: usize, seconds: f64) {
    let specs: Vec<EntrySpec> = (0..size as u64)
        .map(|n| {
            let key = key(kind, n);
            let ternary = key.iter().any(|m| matches!(m, MatchValue::Ternary { .. } | MatchValue::Range { .. }));
            let priority = if ternary { 1 + (noise(n ^ 0xbeef) % size as u64) as i32 } else { 0 };
            EntrySpec { key, priority, action: ActionCall { action: ActionIx(0), args: vec![u128::from(n)] } }
        })
        .collect();
    let frames: Vec<Vec<u8>> = (0..FRAMES as u64)
        .map(|n| {
            let spec = &specs[noise(n ^ 0xf00d) as usize % size];
            frame(&matching(kind, &spec.key, n), kind.key.iter().map(|k| k.1))
        })
        .collect();
    let before = resident();
    let dp = setup(kind, size);
    let cpu = cpu_ns();
    for chunk in specs.chunks(1000) {
        dp.write(|txn| chunk.iter().for_each(|s| drop(txn.insert(T, s))));
    }
    let (written, count) = (cpu_ns() - cpu, dp.entry_count(T));
    let bytes = resident().saturating_sub(before);
    let mut worker = Worker::new(&dp);
    let (mut best, mut sum) = (f64::MAX, 0u64);
    let start = Instant::now();
    let mut hits = 0;
    while start.elapsed().as_secs_f64() < seconds {
        let cpu = cpu_ns();
        hits = 0;
        for chunk in frames.chunks(BATCH) {
            let mut batch = worker.batch(&dp);
            for f in chunk {
                batch.process(1, f, 1_000_000, &mut |p, out| {
                    hits += u64::from(p == 1);
                    sum = sum.wrapping_add(u64::from(out[3]));
                });
            }
        }
        best = best.min((cpu_ns() - cpu) as f64 / frames.len() as f64);
    }
    println!(
        "{:>9} {size:>8} entries: {best:6.1} ns/packet, {:5} bytes/entry, {:6.0} ns/insert ({count} in the table, {hits} of \
         {FRAMES} hit, {})",
        kind.name,
        bytes / size as u64,
        written as f64 / size as f64,
        sum & 1,
    );
}

/// Nanoseconds that this process has spent on a processor.
fn cpu_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    4096 * text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
}
