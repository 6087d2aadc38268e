//! The programs in memory: nanoseconds a frame spends in the pipeline, without any IO, on one core.

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
    AHEAD, ActionCall, Clock, Dataplane, EntrySpec, MatchKind, MatchValue, Program, TableInfo, TableIx, Worker,
};

use crate::Options;
use crate::gateway::{Exchange, PORTS, Pipeline, ROUTERS, Way, entries, exchange};
use crate::process::thread_cpu_time;
use crate::router;
use crate::table::{Better, Cell, Row, Section, number};

/// Frames that share one lock of the tables, about as many as a port hands over at once under load.
const BATCH: usize = 32;
/// Bytes of the frames; a pipeline does not look at the payload, so one size will do.
const FRAME_BYTES: usize = 128;
/// Frames that are processed between two looks at the clock.
const ROUND: usize = 8192;

/// Frames of one kind, and where they come in.
struct Case {
    what: String,
    ingress: u16,
    exchanges: Vec<Exchange>,
}

/// A program with its entries.
struct Subject {
    dataplane: Dataplane,
    cases: Vec<Case>,
}

/// One flow finds everything in the cache; as many flows as routers find nothing in it but the program.
const WAYS: [(&str, Way, u32); 6] = [
    ("gateway: forward, named provider, 1 flow", Way::Named, 1),
    ("gateway: forward, named provider, 10 000 flows", Way::Named, ROUTERS),
    ("gateway: forward, any provider (bucket), 10 000 flows", Way::Any, ROUTERS),
    ("gateway: return, 1 flow", Way::Return, 1),
    ("gateway: return, 10 000 flows", Way::Return, ROUTERS),
    ("gateway: transit, 10 000 flows", Way::Transit, ROUTERS),
];
const ROUTER_FLOWS: [(&str, u32); 2] = [("IPv4 router, 1 flow", 1), ("IPv4 router, 10 000 flows", router::ROUTES)];

/// A clock that stands still: the program only copies the time.
pub(crate) struct Still;

impl Clock for Still {
    fn now_us(&self) -> u64 {
        1
    }
}

/// Measures the section: the gateway and the router.
pub fn measure(options: &Options, gateway: &Pipeline, plain: &Pipeline) -> Result<Section> {
    let mut section = Section::new("pipeline in memory", "");
    let entries = entries()?;
    let routes = router::entries(&plain.info, router::ROUTES)?;
    let counts = (entries.len(), routes.len());
    let mut notes = Vec::new();
    let ways = WAYS.map(|(what, way, flows)| -> Result<Case> {
        let exchanges = (0..flows).map(|flow| exchange(way, flow, FRAME_BYTES)).collect::<Result<_>>()?;
        Ok(Case { what: what.to_owned(), ingress: way.ingress(), exchanges })
    });
    let routed = ROUTER_FLOWS.map(|(what, flows)| -> Result<Case> {
        let exchanges = (0..flows).map(|flow| router::exchange(router::ROUTES, flow, FRAME_BYTES));
        Ok(Case { what: what.to_owned(), ingress: PORTS[0], exchanges: exchanges.collect::<Result<_>>()? })
    });
    let subjects = [
        subject("the gateway", gateway, &entries, ways.into_iter().collect::<Result<_>>()?, &mut notes)?,
        subject("the router", plain, &routes, routed.into_iter().collect::<Result<_>>()?, &mut notes)?,
    ];

    let repetitions = if options.quick { 1 } else { 7 };
    let length = Duration::from_millis(if options.quick { 100 } else { 400 });
    let cases: Vec<(&Dataplane, &Case)> =
        subjects.iter().flat_map(|s| s.cases.iter().map(|c| (&s.dataplane, c))).collect();
    let mut samples = vec![Vec::new(); cases.len()];
    // Round robin, so that a disturbance of seconds falls on one repetition of each case.
    for _ in 0..repetitions {
        for ((dataplane, case), samples) in cases.iter().zip(&mut samples) {
            let frames: Vec<&[u8]> = case.exchanges.iter().map(|e| e.sent.as_slice()).collect();
            samples.push(nanoseconds(dataplane, case.ingress, &frames, length)?);
        }
    }
    for ((_, case), samples) in cases.iter().zip(samples) {
        section.rows.push(Row::alone(&case.what, "ns/packet", Better::Lower, Cell::samples(samples)));
    }
    section.notes.push(format!(
        "`Worker::batch` of `softswitch/`, {BATCH} frames a batch, frames of {FRAME_BYTES} bytes, one thread, its CPU time; \
         {} entries in the gateway ({ROUTERS} routers and registrations), {} in the router ({} prefixes of four lengths). Every \
         frame is first checked, byte by byte, against what must come out (for any provider, where the hash chooses, by length). \
         {repetitions} repetitions of {} s.",
        counts.0,
        counts.1,
        router::ROUTES,
        number(length.as_secs_f64())
    ));
    section.notes.append(&mut notes);
    Ok(section)
}

/// Loads a program, installs its entries and checks its frames.
fn subject(
    name: &str,
    pipeline: &Pipeline,
    entries: &[TableEntry],
    cases: Vec<Case>,
    notes: &mut Vec<String>,
) -> Result<Subject> {
    let began = Instant::now();
    let program = Program::compile(&pipeline.json)?;
    let compiled = began.elapsed();
    let dataplane = Dataplane::new(program, Arc::new(Still));
    let installed = install(&dataplane, &pipeline.info, entries)?;
    for case in &cases {
        verify(&dataplane, case)?;
    }
    notes.push(format!(
        "Compiling {name} took {} ms, installing all its entries in memory {} ms ({} entries/s).",
        number(compiled.as_secs_f64() * 1e3),
        number(installed.as_secs_f64() * 1e3),
        number(entries.len() as f64 / installed.as_secs_f64())
    ));
    Ok(Subject { dataplane, cases })
}

/// Sees the pipeline handle each frame of a case as it must.
fn verify(dataplane: &Dataplane, case: &Case) -> Result<()> {
    let mut worker = Worker::new(dataplane);
    for (flow, exchange) in case.exchanges.iter().enumerate() {
        let mut out = Vec::new();
        worker.process(dataplane, case.ingress, &exchange.sent, 1, &mut |_, frame| out.push(frame.to_vec()));
        let right = match &exchange.expected {
            Some(expected) => out.len() == 1 && out.first() == Some(expected),
            // The hash chooses the router, so only the length is known.
            None => out.len() == 1 && out.first().is_some_and(|o| o.len() > exchange.sent.len()),
        };
        ensure!(right, "{}: flow {flow}: the pipeline made {out:02x?} of {:02x?}", case.what, exchange.sent);
    }
    Ok(())
}

pub(crate) fn nanoseconds(dataplane: &Dataplane, ingress: u16, frames: &[&[u8]], length: Duration) -> Result<f64> {
    let round: Vec<&[u8]> = frames.iter().copied().cycle().take(frames.len().max(ROUND)).collect();
    let mut worker = Worker::new(dataplane);
    let (mut processed, mut bytes) = (0, 0);
    let cpu = thread_cpu_time()?;
    let began = Instant::now();
    while began.elapsed() < length {
        for frames in round.chunks(BATCH) {
            let mut batch = worker.batch(dataplane);
            // As a worker of the switch does.
            frames.iter().take(AHEAD).for_each(|frame| batch.coming(black_box(frame)));
            for (n, frame) in frames.iter().enumerate() {
                if let Some(frame) = frames.get(n + AHEAD) {
                    batch.coming(black_box(frame));
                }
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
