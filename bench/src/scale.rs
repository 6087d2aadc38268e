//! Tables of many entries: time of a lookup, and memory.
//!
//! One program (`softswitch/tests/programs/match_kinds.p4`) with a table of each kind, whose sizes are raised for this.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dmux_softswitch::pipeline::{ActionCall, Dataplane, EntrySpec, MatchValue, Program, TableIx, Worker};
use serde_json::Value;

use crate::Options;
use crate::gateway::Pipeline;
use crate::pipeline::{Still, nanoseconds};
use crate::table::{Better, Cell, Row, Section, number};

/// Entries that each table is given room for.
const ROOM: u64 = 1 << 21;
/// Frames of a round: enough to find no entry in a cache that could hold it by chance.
const FRAMES: usize = 1 << 17;

/// A kind of match, and the table of the program that has it.
struct Kind {
    name: &'static str,
    table: &'static str,
    /// The number by which a frame asks for the table.
    which: u8,
    sizes: &'static [u32],
    /// Key and priority of the entry with this number.
    entry: fn(u32) -> (Vec<MatchValue>, i32),
    /// Values of `a` and `b` that it matches.
    hit: fn(u32) -> (u32, u16),
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "exact",
        table: "exact_one",
        which: 1,
        sizes: &[1_000, 10_000, 100_000, 1_000_000],
        entry: |n| (vec![MatchValue::Exact(scatter(n).into())], 0),
        hit: |n| (scatter(n), 0),
    },
    Kind {
        name: "longest prefix",
        table: "longest",
        which: 3,
        sizes: &[1_000, 10_000, 100_000],
        entry: |n| {
            let (value, prefix_len) = prefix(n);
            (vec![MatchValue::Lpm { value: value.into(), prefix_len }], 0)
        },
        hit: |n| (prefix(n).0, 0),
    },
    Kind {
        name: "ternary, 64 masks",
        table: "masked",
        which: 5,
        sizes: &[100, 1_000, 10_000],
        entry: |n| {
            let (value, mask) = masked(n);
            let b = MatchValue::Ternary { value: u128::from(n % 4), mask: 3 };
            (vec![MatchValue::Ternary { value: value.into(), mask: mask.into() }, b], 1 + n as i32)
        },
        hit: |n| (masked(n).0, (n % 4) as u16),
    },
    Kind {
        name: "range",
        table: "ranged",
        which: 6,
        sizes: &[100, 1_000, 10_000],
        entry: |n| {
            let low = u128::from(n * 6);
            let range = |low, high| MatchValue::Range { low, high };
            (vec![range(low, low + 8), range(0, 0xffff)], 1 + n as i32)
        },
        hit: |n| (0, (n * 6 + 3) as u16),
    },
];

/// Values in no order, all different.
fn scatter(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1)
}

/// Prefixes of 20, 22, 24 and 28 bits, all different and none within another one.
fn prefix(n: u32) -> (u32, u32) {
    let len = [24, 24, 24, 20, 22, 28][(n % 6) as usize];
    let space = [1 << 28, 2 << 28, 3 << 28, 4 << 28, 8 << 28, 12 << 28][(n % 6) as usize];
    (space | (scatter(n / 6) & 0xffff) << (32 - len).min(12), len)
}

/// A value under one of 64 masks, as a list of access rules has them.
fn masked(n: u32) -> (u32, u32) {
    let (upper, lower) = (8 + n % 8 * 3, n / 8 % 8);
    let mask = (u32::MAX << (32 - upper)) | ((1 << lower) - 1);
    (scatter(n) & mask, mask)
}

/// Measures the section.
pub fn measure(options: &Options) -> Result<Section> {
    let mut section = Section::new("tables of many entries", "");
    let pipeline = Pipeline::load(&crate::programs().join("match_kinds"))?;
    let json = with_room(&pipeline.json)?;
    let length = Duration::from_millis(if options.quick { 50 } else { 300 });
    let repetitions = if options.quick { 1 } else { 5 };
    for kind in &KINDS {
        for size in kind.sizes {
            let dataplane = Dataplane::new(Program::compile(&json)?, Arc::new(Still));
            let empty = resident()?;
            fill(&dataplane, kind, *size)?;
            let bytes = resident()?.saturating_sub(empty);
            let frames = frames(&dataplane, kind, *size)?;
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            let mut samples = Vec::new();
            for _ in 0..repetitions {
                samples.push(nanoseconds(&dataplane, 1, &frames, length)?);
            }
            let what = format!("{}, {} entries", kind.name, number(f64::from(*size)));
            section.rows.push(Row::alone(&what, "ns/packet", Better::Lower, Cell::samples(samples)));
            // Below that, a page more or less is most of the figure.
            if *size >= 100_000 {
                let per_entry = bytes as f64 / f64::from(*size);
                let what = format!("{what}: memory");
                section.rows.push(Row::alone(&what, "bytes/entry", Better::Lower, Cell::samples(vec![per_entry])));
            }
        }
    }
    section.notes.push(format!(
        "`match_kinds.p4`: a header of ten bytes, one table looked up for each packet (the time is that of the whole pipeline, \
         parser to deparser); {FRAMES} frames that hit entries in no order, which are checked to hit. Memory is what the \
         process's resident set grew by while the entries were installed: both sides of the table, keys, actions and arguments."
    ));
    Ok(section)
}

/// The program with room for many entries in each table.
fn with_room(json: &[u8]) -> Result<Vec<u8>> {
    let mut program: Value = serde_json::from_slice(json)?;
    let pipelines = program["pipelines"].as_array_mut().context("a program without pipelines")?;
    for pipeline in pipelines {
        for table in pipeline["tables"].as_array_mut().into_iter().flatten() {
            table["max_size"] = ROOM.into();
        }
    }
    Ok(serde_json::to_vec(&program)?)
}

fn fill(dataplane: &Dataplane, kind: &Kind, size: u32) -> Result<()> {
    let program = dataplane.program();
    let last = |name: &str, wanted: &str| name.rsplit('.').next() == Some(wanted);
    let at = program.tables().iter().position(|t| last(&t.name, kind.table));
    let table = TableIx(at.with_context(|| format!("no table {}", kind.table))?);
    let actions = &program.tables()[table.0].actions;
    let action = actions.iter().find(|a| last(&program.actions()[a.0].name, "set_result"));
    let action = *action.context("no action set_result")?;
    let numbers: Vec<u32> = (0..size).collect();
    for batch in numbers.chunks(1000) {
        dataplane.write(|txn| {
            batch.iter().try_for_each(|n| {
                let (key, priority) = (kind.entry)(*n);
                let call = ActionCall { action, args: vec![1] };
                txn.insert(table, &EntrySpec { key, priority, action: call })
            })
        })?;
    }
    Ok(())
}

/// Frames that hit; each is checked to.
fn frames(dataplane: &Dataplane, kind: &Kind, size: u32) -> Result<Vec<Vec<u8>>> {
    let which = kind.which;
    let mut worker = Worker::new(dataplane);
    let mut frames = Vec::with_capacity(FRAMES);
    for n in 0..FRAMES as u32 {
        let (a, b) = (kind.hit)(scatter(n) % size);
        let mut frame = vec![which, 0];
        frame.extend_from_slice(&a.to_be_bytes());
        frame.extend_from_slice(&b.to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        let mut result = None;
        worker.process(dataplane, 1, &frame, 1, &mut |_, out| result = out.get(1).copied());
        ensure!(result == Some(1), "{}: no entry is hit for {a:#x} and {b:#x}", kind.name);
        frames.push(frame);
    }
    Ok(frames)
}

/// Bytes of this process that are in memory.
pub fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).context("no resident set in statm")?.parse()?;
    Ok(pages * 4096)
}
