//! The embedded switch as a guide: a program with its entries, and what the trace of a frame says of its way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use dmux_p4rt::client::insert;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::write_request::Atomicity;
use dmux_p4rt::p4::v1::{ForwardingPipelineConfig, Update};
use dmux_softswitch::pipeline::{Clock, Marking, Target, Worker};
use dmux_softswitch::server::config::ForwardingPipeline;
use dmux_softswitch::server::role::Access;

use num_bigint::BigUint;
use serde_json::Value;

use super::hexstr;
use crate::program::Program;
use crate::target::Frame;

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now_us(&self) -> u64 {
        NOW_US
    }
}

const NOW_US: u64 = 1_000_000;

/// How lines of a trace begin that say where a packet has come by, and not what it was.
const POINTS: [&str; 6] = ["parser state ", "if ", "statement ", "egress", "deparser", "dropped"];

/// A program that tells every step.
pub(super) struct Watched {
    pipeline: ForwardingPipeline,
    worker: Worker,
    indices: Indices,
}

/// Fields that are indices of arrays, with the smallest size of those arrays.
type Indices = BTreeMap<String, u128>;

/// A table that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    /// Its full name.
    pub table: String,
    /// Values of its key, in order.
    pub key: Vec<BigUint>,
    /// Whether an entry matched.
    pub hit: bool,
    /// What ran.
    pub action: Option<String>,
}

/// What one frame has come by.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Everything that can be counted as reached: parser states, outcomes of conditions, tables with what they ran, and two such
    /// one behind the other.
    pub points: BTreeSet<String>,
    /// Tables in order.
    pub lookups: Vec<Lookup>,
    /// A field that is an index of an array was given a value beyond it. BMv2 may die of it.
    pub beyond: bool,
}

impl Watched {
    /// Loads a program.
    ///
    /// # Errors
    /// A program that the embedded switch refuses.
    pub(super) fn new(program: &Program, seed: u64) -> Result<Self> {
        let config = ForwardingPipelineConfig {
            p4info: Some(program.info.clone()),
            p4_device_config: program.json.clone(),
            cookie: None,
        };
        let target = Target { marking: Marking::Steps, ..Target::default() };
        let pipeline = ForwardingPipeline::new(config, Arc::new(Still), target)
            .context("the embedded switch refuses the program")?;
        let mut worker = Worker::new(&pipeline.dataplane);
        worker.seed(seed);
        Ok(Self { pipeline, worker, indices: indices(&program.tree()?) })
    }

    /// Writes an update; whether it was accepted.
    pub(super) fn write(&self, update: Update) -> bool {
        let done = self.pipeline.write(&Access::default(), &[update], Atomicity::ContinueOnError);
        done.is_ok_and(|results| results.iter().all(Result::is_ok))
    }

    /// Inserts an entity; whether it was accepted.
    pub(super) fn insert(&self, entity: Entity) -> bool {
        self.write(insert(entity))
    }

    /// Runs a frame.
    pub(super) fn run(&mut self, port: u16, frame: &[u8]) -> Way {
        let mut batch = self.worker.batch(&self.pipeline.dataplane);
        Way::read(&batch.process_traced(port, frame, NOW_US, &mut |_, _: &[u8]| {}), &self.indices)
    }

    /// What a frame that comes at a time leads to.
    pub(super) fn sends(&mut self, port: u16, frame: &[u8], now_us: u64) -> Vec<Frame> {
        let mut out = Vec::new();
        self.worker.process(&self.pipeline.dataplane, port, frame, now_us, &mut |port, frame: &[u8]| {
            out.push((port, frame.to_vec()));
        });
        out
    }
}

impl Way {
    /// Reads a trace. Its lines are indented by what they belong to: parts by two, steps and outcomes of tables by four, changed
    /// values by six.
    fn read(trace: &str, indices: &Indices) -> Self {
        let mut way = Self::default();
        let mut before = String::new();
        let mut applied: Option<(String, Vec<BigUint>)> = None;
        for line in trace.lines() {
            let indent = line.len() - line.trim_start().len();
            let text = line.trim_start();
            if indent == 2 {
                if let Some((table, key)) = text.strip_prefix("table ").and_then(|t| t.split_once(": ")) {
                    let values = key
                        .split(", ")
                        .filter_map(|part| BigUint::parse_bytes(part.rsplit_once("=0x")?.1.as_bytes(), 16));
                    applied = Some((table.to_owned(), values.collect()));
                } else if POINTS.iter().any(|point| text.starts_with(point)) {
                    way.points.insert(text.to_owned());
                }
            } else if indent == 6 {
                let change = text
                    .split_once(" = ")
                    .and_then(|(name, rest)| Some((indices.get(name)?, hexstr(rest.split_whitespace().next()?)?)));
                way.beyond |= change.is_some_and(|(size, value)| value >= *size);
            } else if indent == 4
                && let Some((outcome, action)) = text.split_once(": ")
                && matches!(outcome, "hit" | "miss")
                && let Some((table, key)) = applied.take()
            {
                let action = action.split_once('(').map(|(name, _)| name.to_owned());
                let point = format!("{table} {outcome} {}", action.as_deref().unwrap_or(""));
                way.points.insert(format!("{before} > {point}"));
                way.points.insert(point.clone());
                before = point;
                way.lookups.push(Lookup { table, key, hit: outcome == "hit", action });
            }
        }
        way
    }
}

/// The fields that a program (BMv2 JSON) takes for indices as they are.
fn indices(tree: &Value) -> Indices {
    let mut sizes = BTreeMap::new();
    for kind in ["counter_arrays", "meter_arrays", "register_arrays"] {
        for array in tree.get(kind).and_then(Value::as_array).into_iter().flatten() {
            if let (Some(name), Some(size)) = (array["name"].as_str(), array["size"].as_u64()) {
                sizes.insert(name, u128::from(size));
            }
        }
    }
    let mut found = Indices::new();
    for action in tree.get("actions").and_then(Value::as_array).into_iter().flatten() {
        for primitive in action["primitives"].as_array().into_iter().flatten() {
            let parameters = primitive["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            // The array comes first, then its index.
            for two in parameters.windows(2) {
                let array = two[0]["type"].as_str().filter(|t| t.ends_with("_array"));
                let size = array.and_then(|_| sizes.get(two[0]["value"].as_str()?));
                let index = two[1]["value"].as_array().filter(|_| two[1]["type"] == "field");
                if let (Some(size), Some([header, field])) = (size, index.map(Vec::as_slice)) {
                    let name = format!("{}.{}", header.as_str().unwrap_or(""), field.as_str().unwrap_or(""));
                    found.entry(name).and_modify(|least| *least = (*least).min(*size)).or_insert(*size);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_found_with_the_smallest_array() {
        let tree = serde_json::json!({
            "meter_arrays": [{"name": "m", "size": 16}], "counter_arrays": [{"name": "c", "size": 4}, {"name": "d"}],
            "actions": [{"primitives": [
                {"op": "execute_meter", "parameters": [{"type": "meter_array", "value": "m"},
                    {"type": "field", "value": ["h", "a"]}, {"type": "field", "value": ["h", "b"]}]},
                {"op": "count", "parameters": [{"type": "counter_array", "value": "c"}, {"type": "field", "value": ["h", "a"]}]},
                {"op": "count", "parameters": [{"type": "counter_array", "value": "c"}, {"type": "hexstr", "value": "0x1"}]},
            ]}],
        });
        assert_eq!(indices(&tree), Indices::from([("h.a".to_owned(), 4)]));
    }

    #[test]
    fn a_trace_is_read() {
        let way = Way::read(
            "received at port 1, 2 bytes: 0102\n  parser state start\n    extract h\n      h.a = 0x1 (was 0x0)\n  \
             table c.t: h.a=0x1, h.b=0xff\n    hit: c.go(port=0x2)\n  table c.u: h.a=0x1\n    miss: no action\n  sent to port 2, 2 bytes: 0102\n",
            &Indices::from([("h.a".to_owned(), 1)]),
        );
        assert!(way.beyond);
        let lookup = |table: &str, key: &[u8], hit, action: Option<&str>| Lookup {
            table: table.to_owned(),
            key: key.iter().map(|n| BigUint::from(*n)).collect(),
            hit,
            action: action.map(str::to_owned),
        };
        assert_eq!(way.lookups, [lookup("c.t", &[1, 255], true, Some("c.go")), lookup("c.u", &[1], false, None)]);
        let points: Vec<_> = way.points.iter().map(String::as_str).collect();
        assert_eq!(
            points,
            [" > c.t hit c.go", "c.t hit c.go", "c.t hit c.go > c.u miss ", "c.u miss ", "parser state start"]
        );
    }
}
