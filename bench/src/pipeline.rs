//! The gateway program in memory: nanoseconds a frame spends in the pipeline, without any IO, on one core.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use dmux_p4rt::bytestring::decode;
use dmux_p4rt::p4::v1::TableEntry;
use dmux_p4rt::p4::v1::field_match::FieldMatchType;
use dmux_p4rt::p4::v1::table_action::Type as ActionType;
use dmux_p4rt::p4info::P4Info;
use dmux_softswitch::pipeline::{
    ActionCall, Clock, Dataplane, EntrySpec, MatchKind, MatchValue, Program, TableInfo, TableIx, Worker,
};

use crate::Options;
use crate::gateway::{Pipeline, ROUTERS, Way, entries, exchange};
use crate::process::thread_cpu_time;
use crate::table::{Better, Cell, Row, Section, number};

/// Frames that share one lock of the tables, about as many as a port hands over at once under load.
const BATCH: usize = 32;
/// Bytes of the frames; a pipeline does not look at the payload, so one size will do.
const FRAME_BYTES: usize = 128;
/// Frames that are processed between two looks at the clock.
const ROUND: usize = 8192;

struct Case {
    what: &'static str,
    way: Way,
    flows: u32,
}

/// One flow finds everything in the cache; as many flows as routers find nothing in it but the program.
const CASES: [Case; 6] = [
    Case { what: "forward, named provider, 1 flow", way: Way::Named, flows: 1 },
    Case { what: "forward, named provider, 10 000 flows", way: Way::Named, flows: ROUTERS },
    Case { what: "forward, any provider (bucket), 10 000 flows", way: Way::Any, flows: ROUTERS },
    Case { what: "return, 1 flow", way: Way::Return, flows: 1 },
    Case { what: "return, 10 000 flows", way: Way::Return, flows: ROUTERS },
    Case { what: "transit, 10 000 flows", way: Way::Transit, flows: ROUTERS },
];

/// A clock that stands still: the program only copies the time.
struct Still;

impl Clock for Still {
    fn now_us(&self) -> u64 {
        1
    }
}

/// Measures the section.
pub fn measure(options: &Options, pipeline: &Pipeline) -> Result<Section> {
    let mut section = Section::new("pipeline in memory", "");
    let began = Instant::now();
    let program = Program::compile(&pipeline.json)?;
    let compiled = began.elapsed();
    let dataplane = Dataplane::new(program, Arc::new(Still));
    let entries = entries()?;
    let installed = install(&dataplane, &pipeline.info, &entries)?;

    let repetitions = if options.quick { 1 } else { 7 };
    let length = Duration::from_millis(if options.quick { 100 } else { 400 });
    let mut samples = [const { Vec::new() }; CASES.len()];
    let frames = CASES.iter().map(|case| verified_frames(&dataplane, case)).collect::<Result<Vec<_>>>()?;
    // Round robin, so that a disturbance of seconds falls on one repetition of each case.
    for _ in 0..repetitions {
        for ((case, frames), samples) in CASES.iter().zip(&frames).zip(&mut samples) {
            samples.push(nanoseconds(&dataplane, case.way.ingress(), frames, length)?);
        }
    }
    for (case, samples) in CASES.iter().zip(samples) {
        section.rows.push(Row::alone(case.what, "ns/packet", Better::Lower, Cell::samples(samples)));
    }
    section.notes.push(format!(
        "`Worker::batch` of `softswitch/`, {BATCH} frames a batch, frames of {FRAME_BYTES} bytes, one thread, its CPU time; \
         {} entries ({ROUTERS} routers and registrations). Every frame is first checked, byte by byte, against what must come \
         out (for any provider, where the hash chooses, by length). {repetitions} repetitions of {} s.",
        entries.len(),
        number(length.as_secs_f64())
    ));
    section.notes.push(format!(
        "Compiling the program took {} ms, installing all entries in memory {} ms ({} entries/s).",
        number(compiled.as_secs_f64() * 1e3),
        number(installed.as_secs_f64() * 1e3),
        number(entries.len() as f64 / installed.as_secs_f64())
    ));
    Ok(section)
}

/// The frames of a case, each of which the pipeline has handled as it must.
fn verified_frames(dataplane: &Dataplane, case: &Case) -> Result<Vec<Vec<u8>>> {
    let mut worker = Worker::new(dataplane);
    let mut frames = Vec::new();
    for flow in 0..case.flows {
        let exchange = exchange(case.way, flow, FRAME_BYTES)?;
        let mut out = Vec::new();
        worker.process(dataplane, case.way.ingress(), &exchange.sent, 1, &mut |_, frame| out.push(frame.to_vec()));
        let right = match &exchange.expected {
            Some(expected) => out.len() == 1 && out.first() == Some(expected),
            // The hash chooses the router, so only the length is known.
            None => out.len() == 1 && out.first().is_some_and(|o| o.len() > exchange.sent.len()),
        };
        ensure!(right, "{}: flow {flow}: the pipeline made {out:02x?} of {:02x?}", case.what, exchange.sent);
        frames.push(exchange.sent);
    }
    Ok(frames)
}

fn nanoseconds(dataplane: &Dataplane, ingress: u16, frames: &[Vec<u8>], length: Duration) -> Result<f64> {
    let round: Vec<&[u8]> = frames.iter().map(Vec::as_slice).cycle().take(frames.len().max(ROUND)).collect();
    let mut worker = Worker::new(dataplane);
    let (mut processed, mut bytes) = (0, 0);
    let cpu = thread_cpu_time()?;
    let began = Instant::now();
    while began.elapsed() < length {
        for frames in round.chunks(BATCH) {
            let mut batch = worker.batch(dataplane);
            for frame in frames {
                batch.process(ingress, black_box(frame), 1, &mut |_, out| bytes += black_box(out).len());
            }
        }
        processed += round.len();
    }
    let took = thread_cpu_time()?.saturating_sub(cpu);
    let sent = worker.stats().sent;
    ensure!(sent == processed as u64 && bytes > 0, "{sent} of {processed} frames came out");
    Ok(took.as_nanos() as f64 / processed as f64)
}

/// Installs entries, each of which must be accepted, and tells how long that took.
fn install(dataplane: &Dataplane, info: &P4Info, entries: &[TableEntry]) -> Result<Duration> {
    let specs = entries.iter().map(|e| spec(dataplane.program(), info, e)).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    for batch in specs.chunks(1000) {
        dataplane.write(|batch_of| batch.iter().try_for_each(|(table, spec)| batch_of.insert(*table, spec)))?;
    }
    Ok(began.elapsed())
}

/// An entry of P4Runtime as the pipeline has it: ids become indices, by name.
fn spec(program: &Program, info: &P4Info, entry: &TableEntry) -> Result<(TableIx, EntrySpec)> {
    let described = info.table(entry.table_id).context("an entry of no table")?;
    let ix = program
        .table_by_name(&described.name)
        .with_context(|| format!("the program has no table {}", described.name))?;
    let table = program.tables().get(ix.0).context("an index of no table")?;
    let mut key = Vec::with_capacity(table.key.len());
    for field in &table.key {
        let id = described.fields.iter().find(|f| f.name == field.name).map(|f| f.id);
        let id = id.with_context(|| format!("the P4Info has no key {}", field.name))?;
        let given = entry.r#match.iter().find(|m| m.field_id == id).and_then(|m| m.field_match_type.as_ref());
        key.push(match (field.kind, given) {
            (MatchKind::Exact, Some(FieldMatchType::Exact(m))) => MatchValue::Exact(decode(&m.value, field.width)?),
            (MatchKind::Lpm, Some(FieldMatchType::Lpm(m))) => {
                MatchValue::Lpm { value: decode(&m.value, field.width)?, prefix_len: u32::try_from(m.prefix_len)? }
            }
            (MatchKind::Ternary, Some(FieldMatchType::Ternary(m))) => {
                MatchValue::Ternary { value: decode(&m.value, field.width)?, mask: decode(&m.mask, field.width)? }
            }
            (MatchKind::Lpm, None) => MatchValue::Lpm { value: 0, prefix_len: 0 },
            (MatchKind::Ternary, None) => MatchValue::Ternary { value: 0, mask: 0 },
            (kind, given) => bail!("{}.{} is {kind:?}, not {given:?}", table.name, field.name),
        });
    }
    Ok((ix, EntrySpec { key, priority: entry.priority, action: action(program, table, info, entry)? }))
}

fn action(program: &Program, table: &TableInfo, info: &P4Info, entry: &TableEntry) -> Result<ActionCall> {
    let Some(ActionType::Action(given)) = entry.action.as_ref().and_then(|a| a.r#type.as_ref()) else {
        bail!("an entry of {} without a plain action", table.name)
    };
    let described = info.action(given.action_id).context("an entry with no such action")?;
    let named = |ix: usize| program.actions().get(ix).filter(|a| a.name == described.name);
    let found = table.actions.iter().find_map(|ix| Some((*ix, named(ix.0)?)));
    let (ix, compiled) = found.with_context(|| format!("{} has no action {}", table.name, described.name))?;
    let arg = |name: &str, width| {
        let id = described.params.iter().find(|p| p.name == name).map(|p| p.id);
        let param = given.params.iter().find(|p| Some(p.param_id) == id);
        let param = param.ok_or_else(|| anyhow!("{} lacks its parameter {name}", described.name))?;
        Ok(decode(&param.value, width)?)
    };
    let args = compiled.params.iter().map(|p| arg(&p.name, p.width)).collect::<Result<_>>()?;
    Ok(ActionCall { action: ix, args })
}
