//! Frames: whatever they are, nothing panics, and the program as it is used does what it does without the optimizer.

use std::sync::Arc;

use dmux_softswitch::pipeline::{
    ActionCall, Dataplane, EntrySpec, MatchKind, MatchValue, Program, TableIx, Worker, pieces,
};
use serde_json::Value;

use super::json::Still;
use super::without_panic;
use crate::dice::Dice;
use crate::generate::{Frames, PORTS, Pool, ones};
use crate::stf::expect::hex;

/// Frames that one set of entries sees.
const FRAMES: usize = 24;
/// The longest frame of arbitrary bytes.
const MOST_BYTES: usize = 300;
/// Width of v1model's port numbers.
const PORT_BITS: u32 = 9;

/// A program that is fuzzed.
#[derive(Debug)]
pub struct Subject {
    name: String,
    json: Vec<u8>,
    pool: Pool,
    frames: Frames,
}

impl Subject {
    /// From a program's JSON. `None` for one that draws random numbers: two runs of it need not agree.
    pub fn new(name: &str, json: &[u8], tree: Value) -> Option<Self> {
        let random = String::from_utf8_lossy(json).contains("modify_field_rng_uniform");
        let mut frames = Frames::new(tree.clone());
        frames.short = true;
        (!random).then(|| Self { name: name.to_owned(), json: json.to_vec(), pool: Pool::new(&tree), frames })
    }
}

/// One round: entries, then frames, through both forms of a program.
///
/// # Errors
/// How they differ, or what panicked, and the frame.
pub fn round(subjects: &[Subject], dice: &mut Dice) -> Result<(), (String, Vec<u8>)> {
    let Some(subject) = dice.pick(subjects) else { return Ok(()) };
    let fail = |what: String| (format!("{}: {what}", subject.name), Vec::new());
    let load = |p: Result<Arc<Program>, _>| match p {
        Ok(p) => Ok(Dataplane::new(p, Arc::new(Still))),
        Err(e) => Err(fail(format!("it does not load: {e}"))),
    };
    let fast = load(Program::compile(&subject.json))?;
    let plain = load(Program::compile_plainly(&subject.json))?;
    fill(&[&fast, &plain], &subject.pool, 6, dice).map_err(fail)?;
    let mut workers = [Worker::new(&fast), Worker::new(&plain)];
    for _ in 0..FRAMES {
        let (port, frame) = frame(subject, dice);
        let mut outs = [Vec::new(), Vec::new()];
        for ((worker, dp), out) in workers.iter_mut().zip([&fast, &plain]).zip(&mut outs) {
            let run = || worker.process(dp, port, &frame, 1_000_000, &mut |p, f: &[u8]| out.push((p, f.to_vec())));
            without_panic("a frame", run)
                .map_err(|what| (format!("{}, port {port}: {what}", subject.name), frame.clone()))?;
        }
        if outs[0] != outs[1] {
            let shown =
                |out: &[(u16, Vec<u8>)]| out.iter().map(|(p, f)| format!("{p}:{} ", hex(f))).collect::<String>();
            let what = format!(
                "{}, port {port}: it sends {}and without the optimizer {}",
                subject.name,
                shown(&outs[0]),
                shown(&outs[1])
            );
            return Err((what, frame));
        }
    }
    if workers[0].stats() != workers[1].stats() {
        return Err(fail(format!("the workers count {:?} and {:?}", workers[0].stats(), workers[1].stats())));
    }
    Ok(())
}

/// A frame that the parser knows, or any bytes.
fn frame(subject: &Subject, dice: &mut Dice) -> (u16, Vec<u8>) {
    if dice.one_in(8) {
        let length = dice.below(MOST_BYTES);
        return (dice.pick(&PORTS).copied().unwrap_or(0), dice.bytes(length));
    }
    let (port, mut frame) = subject.frames.frame(dice);
    if dice.one_in(4) && !frame.is_empty() {
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(frame.len());
            frame[at] = dice.roll() as u8;
        }
    }
    (port, frame)
}

/// Draws entries for every table and writes them to each data plane, which must all answer alike.
///
/// # Errors
/// Answers that differ.
pub(super) fn fill(dps: &[&Dataplane], pool: &Pool, per_table: usize, dice: &mut Dice) -> Result<(), String> {
    let Some(first) = dps.first() else { return Ok(()) };
    let program = Arc::clone(first.program());
    for table in 0..program.tables().len() {
        for _ in 0..per_table {
            let Some(spec) = entry(&program, table, pool, dice) else { break };
            let answers: Vec<_> = dps.iter().map(|dp| dp.insert(TableIx(table), &spec)).collect();
            if answers.iter().any(|a| *a != answers[0]) {
                return Err(format!("{spec:?} is answered in different ways: {answers:?}"));
            }
        }
    }
    Ok(())
}

fn entry(program: &Program, table: usize, pool: &Pool, dice: &mut Dice) -> Option<EntrySpec> {
    let info = &program.tables()[table];
    let mut key = Vec::new();
    for field in &info.key {
        let mut left = dice.below(field.width as usize + 1) as u32;
        let anything = dice.one_in(3);
        // Fields of more than 128 bits come in pieces.
        for width in pieces(field.width) {
            let all = ones(width);
            let value = pool.value(width, dice);
            key.push(match field.kind {
                MatchKind::Exact => MatchValue::Exact(value),
                MatchKind::Lpm => {
                    let prefix_len = left.min(width);
                    left -= prefix_len;
                    let mask = if prefix_len == 0 { 0 } else { all << (width - prefix_len) & all };
                    MatchValue::Lpm { value: value & mask, prefix_len }
                }
                MatchKind::Ternary => {
                    let mask = if dice.one_in(2) { all } else { pool.value(width, dice) };
                    MatchValue::Ternary { value: value & mask, mask }
                }
                MatchKind::Range => {
                    let other = pool.value(width, dice);
                    MatchValue::Range { low: value.min(other), high: value.max(other) }
                }
                MatchKind::Optional => MatchValue::Optional((!anything).then_some(value)),
            });
        }
    }
    let action = *dice.pick(&info.actions)?;
    let params = &program.actions().get(action.0)?.params;
    let args = params.iter().flat_map(|p| pieces(p.width)).map(|width| match width {
        PORT_BITS if !dice.one_in(8) => dice.pick(&PORTS).copied().unwrap_or(0).into(),
        width => pool.value(width, dice),
    });
    let args = args.collect();
    // All different: between equal ones the order is free.
    let priority = if info.needs_priority { 1 + dice.below(1 << 20) as i32 } else { 0 };
    Some(EntrySpec { key, priority, action: ActionCall { action, args } })
}
