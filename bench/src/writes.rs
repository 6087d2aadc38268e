//! Table writes over gRPC: our switch and BMv2, the same entries through the same client.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use dmux_p4rt::client::{delete, insert};
use dmux_p4rt::p4::v1::TableEntry;
use tokio::task::JoinSet;

use crate::Options;
use crate::gateway::{Pipeline, router_entry};
use crate::process::cpu_time;
use crate::switches::{Kind, Switch, write_all};
use crate::table::{Better, Cell, Figure, Row, Section};

/// A way to write.
struct Pattern {
    what: &'static str,
    /// Updates in a request.
    batch: usize,
    /// Requests that are unanswered at a time.
    in_flight: usize,
    /// Entries of a run.
    entries: u32,
    /// Of a run with `--quick`.
    quick_entries: u32,
}

const PATTERNS: [Pattern; 4] = [
    Pattern { what: "one at a time", batch: 1, in_flight: 1, entries: 20_000, quick_entries: 2_000 },
    Pattern { what: "single, 16 in flight", batch: 1, in_flight: 16, entries: 40_000, quick_entries: 4_000 },
    Pattern { what: "batches of 100", batch: 100, in_flight: 1, entries: 50_000, quick_entries: 2_000 },
    Pattern { what: "batches of 1000", batch: 1000, in_flight: 1, entries: 50_000, quick_entries: 5_000 },
];

/// Measures the section.
pub fn measure(options: &Options, pipeline: &Pipeline, dir: &Path) -> Result<Section> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options, pipeline, dir))
}

async fn run(options: &Options, pipeline: &Pipeline, dir: &Path) -> Result<Section> {
    let mut section = Section::new("table writes over P4Runtime", Kind::Bmv2.title());
    let mut sides = Vec::new();
    for kind in [Kind::Dmux, Kind::Bmv2] {
        sides.push(match kind.program() {
            Ok(_) => Ok(Switch::start(kind, &[], pipeline, dir).await?),
            Err(error) => Err(error.to_string()),
        });
    }
    let repetitions = if options.quick { 1 } else { 3 };
    for pattern in &PATTERNS {
        let count = if options.quick { pattern.quick_entries } else { pattern.entries };
        let entries: Vec<_> = (0..count).map(|n| router_entry(n).encode()).collect();
        let mut runs: [Vec<Run>; 2] = [const { Vec::new() }; 2];
        for _ in 0..repetitions {
            for (runs, side) in runs.iter_mut().zip(&mut sides) {
                if let Ok(switch) = side {
                    runs.push(write(switch, pattern, &entries).await?);
                    switch.check()?;
                }
            }
        }
        let cell = |n: usize, figure: fn(&Run) -> f64| match &sides[n] {
            Ok(_) => Cell::samples(runs[n].iter().map(figure).collect()),
            Err(why) => Cell::Absent(why.clone()),
        };
        let figures: [Figure<'_, Run, f64>; 2] = [
            ("", "entries/s", Better::Higher, |run| run.rate),
            (", CPU of the switch", "µs/entry", Better::Lower, |run| run.cpu_us),
        ];
        for (what, unit, better, figure) in figures {
            section.rows.push(Row {
                what: format!("inserts, {}{what}", pattern.what),
                unit: unit.to_owned(),
                better,
                ours: cell(0, figure),
                peer: cell(1, figure),
            });
        }
    }
    section.notes.push(format!(
        "{repetitions} repetitions, the switches in turn; entries of the table `router` of the gateway program (exact key, one \
         action with two parameters, direct counter), through the client of `p4rt/`. After each run the entries are read back, \
         counted and deleted; neither is in the rate."
    ));
    section.notes.push(
        "The client and the switch share the processors; no packets meanwhile. CPU is user and system time of the \
         switch's whole process; the rest of a single write's time is the client's, and two wake-ups."
            .to_owned(),
    );
    Ok(section)
}

/// What one run came to.
struct Run {
    /// Entries a second.
    rate: f64,
    /// CPU time of the switch's process for each, in microseconds.
    cpu_us: f64,
}

/// Writes the entries, checks that all are there, and deletes them.
async fn write(switch: &Switch, pattern: &Pattern, entries: &[TableEntry]) -> Result<Run> {
    let session = &switch.session;
    let requests: Vec<Vec<_>> =
        entries.chunks(pattern.batch).map(|chunk| chunk.iter().cloned().map(insert).collect()).collect();
    // Round-robin shares, made before the clock starts.
    let mut shares: Vec<Vec<_>> = (0..pattern.in_flight).map(|_| Vec::new()).collect();
    for (n, request) in requests.into_iter().enumerate() {
        shares[n % pattern.in_flight].push(request);
    }
    let cpu = cpu_time(switch.pid())?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for share in shares {
        let session = session.clone();
        tasks.spawn(async move {
            for request in share {
                write_all(&session, request).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu_time(switch.pid())?.saturating_sub(cpu);

    let read = session.read_table(entries[0].table_id).await?.len();
    ensure!(
        read == entries.len(),
        "{}: {} entries were written and {read} read back",
        switch.kind.title(),
        entries.len()
    );
    write_all(session, entries.iter().cloned().map(delete).collect()).await?;
    let left = session.read_table(entries[0].table_id).await?.len();
    ensure!(left == 0, "{}: {left} entries are left after all were deleted", switch.kind.title());
    let count = entries.len() as f64;
    Ok(Run { rate: count / seconds, cpu_us: cpu.as_secs_f64() * 1e6 / count })
}
