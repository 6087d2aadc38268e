//! A thousand simulated clusters.
//!
//! `DMUX_SIM_SEEDS=FROM..TO` runs others, `DMUX_SIM_SEED=N` one of them aloud:
//! `DMUX_SIM_SEED=17 cargo test -p dmux-simtest --test seeds -- --nocapture`

mod common;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dmux_simtest::{Failure, Report, run};

const SEEDS: Range<u64> = 0..1_000;
/// Failures that are told in full.
const MAX_TOLD: usize = 3;

fn one(seed: u64, aloud: bool) -> Result<Report, Failure> {
    let panicked = || Err(Failure { seed, what: "it panicked".into(), story: Vec::new() });
    common::simulated(seed, move || run(seed, aloud)).unwrap_or_else(panicked)
}

fn wanted() -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("DMUX_SIM_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("DMUX_SIM_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("DMUX_SIM_SEEDS=FROM..TO");
            number(from)..number(to)
        }
        Err(_) => SEEDS,
    }
}

#[test]
fn whatever_happens_the_cluster_heals() {
    let seeds = wanted();
    let aloud = std::env::var("DMUX_SIM_SEED").is_ok();
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let failures: Mutex<Vec<Failure>> = Mutex::default();
    let reports: Mutex<Vec<Report>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match one(seed, aloud) {
                        Ok(report) => reports.lock().unwrap().push(report),
                        Err(failure) => failures.lock().unwrap().push(failure),
                    }
                }
            });
        }
    });
    let (mut failures, reports) = (failures.into_inner().unwrap(), reports.into_inner().unwrap());
    let simulated: f64 = reports.iter().map(|r| r.simulated.as_secs_f64()).sum();
    let slowest = reports.iter().map(|r| r.settled_after).max().unwrap_or_default();
    println!(
        "{} seeds, {simulated:.0} s simulated in {:.1} s; the slowest to settle took {slowest:?}",
        seeds.end - seeds.start,
        began.elapsed().as_secs_f64()
    );
    failures.sort_by_key(|f| f.seed);
    for failure in failures.iter().take(MAX_TOLD) {
        println!("{failure}\n");
    }
    let lines: Vec<_> = failures.iter().map(|f| format!("seed {}: {}", f.seed, f.what)).collect();
    assert!(
        failures.is_empty(),
        "{} of {} seeds failed; DMUX_SIM_SEED=N replays one:\n{}",
        failures.len(),
        seeds.end - seeds.start,
        lines.join("\n")
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 5] {
        let first = one(seed, false).map_err(|f| f.what);
        assert_eq!(first, one(seed, false).map_err(|f| f.what), "seed {seed}");
    }
}
