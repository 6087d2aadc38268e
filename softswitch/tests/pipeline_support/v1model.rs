//! Whole v1model programs, made on the spot: nodes in a chain, and the metadata that p4c gives every program.

use serde_json::{Value, json};

/// `standard_metadata` as p4c lays it out, and the aliases that BMv2 knows parts of it by.
fn standard() -> (Value, Value) {
    let fields = [
        ("ingress_port", 9),
        ("egress_spec", 9),
        ("egress_port", 9),
        ("clone_spec", 32),
        ("instance_type", 32),
        ("drop", 1),
        ("recirculate_port", 16),
        ("packet_length", 32),
        ("enq_timestamp", 32),
        ("enq_qdepth", 19),
        ("deq_timedelta", 32),
        ("deq_qdepth", 19),
        ("ingress_global_timestamp", 48),
        ("egress_global_timestamp", 48),
        ("lf_field_list", 32),
        ("mcast_grp", 16),
        ("resubmit_flag", 32),
        ("egress_rid", 16),
        ("recirculate_flag", 32),
        ("checksum_error", 1),
        ("parser_error", 32),
        ("priority", 3),
        ("_padding", 3),
    ];
    let alias = |group: &str, names: &[&str]| -> Vec<Value> {
        names.iter().map(|f| json!([format!("{group}.{f}"), ["standard_metadata", f]])).collect()
    };
    let mut aliases = alias("queueing_metadata", &["enq_timestamp", "enq_qdepth", "deq_timedelta", "deq_qdepth"]);
    aliases.extend(alias(
        "intrinsic_metadata",
        &["ingress_global_timestamp", "egress_global_timestamp", "mcast_grp", "egress_rid", "priority"],
    ));
    (fields.iter().map(|(n, w)| json!([n, w, false])).collect(), json!(aliases))
}

/// A program: one header `h`, metadata `meta`, and a chain of nodes for each pipeline.
#[derive(Default)]
pub struct V1Model {
    h: Vec<Value>,
    meta: Vec<Value>,
    actions: Vec<Value>,
    field_lists: Vec<Value>,
    learn_lists: Vec<Value>,
    pipelines: [Vec<(Value, Value)>; 2],
}

pub const INGRESS: usize = 0;
pub const EGRESS: usize = 1;

pub fn f(h: &str, name: &str) -> Value {
    json!({"type": "field", "value": [h, name]})
}

pub fn h(name: &str) -> Value {
    f("h", name)
}

pub fn meta(name: &str) -> Value {
    f("meta", name)
}

pub fn std(name: &str) -> Value {
    f("standard_metadata", name)
}

pub fn num(v: u64) -> Value {
    json!({"type": "hexstr", "value": format!("{v:#x}")})
}

pub fn op(name: &str, args: &[Value]) -> Value {
    json!({"op": name, "parameters": args})
}

pub fn set(to: Value, from: Value) -> Value {
    op("assign", &[to, from])
}

pub fn eq(a: Value, b: Value) -> Value {
    json!({"type": "expression", "value": {"op": "==", "left": a, "right": b}})
}

pub fn both(a: Value, b: Value) -> Value {
    json!({"type": "expression", "value": {"op": "and", "left": a, "right": b}})
}

impl V1Model {
    /// Fields of the header and of the metadata, with their widths.
    pub fn new(h: &[(&str, u32)], meta: &[(&str, u32)]) -> Self {
        let fields = |l: &[(&str, u32)]| l.iter().map(|(n, w)| json!([n, w, false])).collect();
        Self { h: fields(h), meta: fields(meta), ..Self::default() }
    }

    /// A field list of metadata; its id is the next number from 1 on.
    pub fn field_list(mut self, fields: &[Value]) -> Self {
        let id = self.field_lists.len() + 1;
        self.field_lists.push(json!({"id": id, "name": format!("field_list{id}"), "elements": fields}));
        self
    }

    /// A learn list, numbered likewise.
    pub fn learn_list(mut self, name: &str, fields: &[Value]) -> Self {
        let id = self.learn_lists.len() + 1;
        self.learn_lists.push(json!({"id": id, "name": name, "elements": fields}));
        self
    }

    /// Appends `if (cond) { primitives }` to a pipeline.
    pub fn when(mut self, pipeline: usize, cond: Value, primitives: &[Value]) -> Self {
        let id = self.actions.len();
        self.actions.push(json!({"name": format!("act_{id}"), "id": id, "runtime_data": [], "primitives": primitives}));
        let at = self.pipelines[pipeline].len();
        let (cond_name, call_name) = (format!("c{pipeline}_{at}"), format!("a{pipeline}_{at}"));
        let next = format!("c{pipeline}_{}", at + 1);
        self.pipelines[pipeline].push((
            json!({"name": cond_name, "expression": cond, "true_next": call_name, "false_next": next}),
            json!({"name": call_name, "action_id": id, "next_node": next}),
        ));
        self
    }

    /// The JSON.
    pub fn json(mut self) -> Vec<u8> {
        let (standard, aliases) = standard();
        let mut pipelines = Vec::new();
        for (id, name) in ["ingress", "egress"].into_iter().enumerate() {
            let nodes = &mut self.pipelines[id];
            if let Some((cond, call)) = nodes.last_mut() {
                cond["false_next"] = Value::Null;
                call["next_node"] = Value::Null;
            }
            let init = nodes.first().map(|(c, _)| c["name"].clone());
            let (conditionals, calls): (Vec<Value>, Vec<Value>) = nodes.iter().cloned().unzip();
            pipelines.push(json!({"name": name, "id": id, "init_table": init, "tables": [],
                "conditionals": conditionals, "action_calls": calls}));
        }
        json!({
            "header_types": [
                {"name": "standard_metadata", "id": 0, "fields": standard},
                {"name": "h_t", "id": 1, "fields": self.h},
                {"name": "meta_t", "id": 2, "fields": self.meta},
            ],
            "headers": [
                {"name": "standard_metadata", "id": 0, "header_type": "standard_metadata", "metadata": true},
                {"name": "h", "id": 1, "header_type": "h_t", "metadata": false},
                {"name": "meta", "id": 2, "header_type": "meta_t", "metadata": true},
            ],
            "field_aliases": aliases,
            "parsers": [{"name": "parser", "id": 0, "init_state": "start", "parse_states": [{
                "name": "start", "id": 0,
                "parser_ops": [{"op": "extract", "parameters": [{"type": "regular", "value": "h"}]}],
                "transitions": [{"type": "default", "value": null, "mask": null, "next_state": null}],
                "transition_key": [],
            }]}],
            "deparsers": [{"name": "deparser", "id": 0, "order": ["h"]}],
            "actions": self.actions,
            "field_lists": self.field_lists,
            "learn_lists": self.learn_lists,
            "pipelines": pipelines,
        })
        .to_string()
        .into_bytes()
    }
}
