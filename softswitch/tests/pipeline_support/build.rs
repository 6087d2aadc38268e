//! Small BMv2 programs, made on the spot: one header in, one table or expression, one header out.

use serde_json::{Value, json};

/// A program with the header `h` (those fields: name, width, signed), whose ingress is `pipeline` with `actions`. It sends
/// everything to port 1.
pub fn program(fields: &[(String, u32, bool)], actions: Vec<Value>, tables: Vec<Value>, init: &str) -> Vec<u8> {
    let pad = (8 - fields.iter().map(|f| f.1).sum::<u32>() % 8) % 8;
    let mut h: Vec<Value> = fields.iter().map(|(n, w, s)| json!([n, w, s])).collect();
    if pad > 0 {
        h.push(json!(["pad", pad, false]));
    }
    let std = [
        ("ingress_port", 9),
        ("egress_spec", 9),
        ("egress_port", 9),
        ("packet_length", 32),
        ("parser_error", 32),
        ("checksum_error", 1),
        ("_padding", 4),
    ];
    let std: Vec<Value> = std.iter().map(|(n, w)| json!([n, w, false])).collect();
    let root = json!({
        "header_types": [
            {"name": "standard_metadata", "id": 0, "fields": std},
            {"name": "h_t", "id": 1, "fields": h},
        ],
        "headers": [
            {"name": "standard_metadata", "id": 0, "header_type": "standard_metadata", "metadata": true},
            {"name": "h", "id": 1, "header_type": "h_t", "metadata": false},
        ],
        "parsers": [{"name": "parser", "id": 0, "init_state": "start", "parse_states": [{
            "name": "start", "id": 0,
            "parser_ops": [{"op": "extract", "parameters": [{"type": "regular", "value": "h"}]}],
            "transitions": [{"type": "default", "value": null, "mask": null, "next_state": null}],
            "transition_key": [],
        }]}],
        "deparsers": [{"name": "deparser", "id": 0, "order": ["h"]}],
        "actions": actions,
        "pipelines": [
            {"name": "ingress", "id": 0, "init_table": init, "tables": tables, "conditionals": []},
            {"name": "egress", "id": 1, "init_table": null, "tables": [], "conditionals": []},
        ],
    });
    root.to_string().into_bytes()
}

/// The field `h.name` as an operand.
pub fn field(name: &str) -> Value {
    json!({"type": "field", "value": ["h", name]})
}

/// `field = value`
pub fn assign(name: &str, value: &Value) -> Value {
    json!({"op": "assign", "parameters": [field(name), value]})
}

/// An action.
pub fn action(name: &str, id: u32, params: &[(&str, u32)], primitives: Vec<Value>) -> Value {
    let params: Vec<Value> = params.iter().map(|(n, w)| json!({"name": n, "bitwidth": w})).collect();
    json!({"name": name, "id": id, "runtime_data": params, "primitives": primitives})
}

/// A table without a key that always runs an action.
pub fn always(name: &str, action: &str, id: u32) -> Value {
    json!({
        "name": name, "id": 0, "key": [], "match_type": "exact", "type": "simple", "max_size": 1,
        "action_ids": [id], "actions": [action], "base_default_next": null, "next_tables": {action: null},
        "default_entry": {"action_id": id, "action_const": true, "action_data": [], "action_entry_const": true},
    })
}

/// A table over fields of `h` (name, match kind) with the actions `set` (0) and `miss` (1).
pub fn lookup(name: &str, keys: &[(String, &str)], size: usize) -> Value {
    let kinds: Vec<&str> = keys.iter().map(|k| k.1).collect();
    let kind = ["range", "ternary", "lpm"].into_iter().find(|k| kinds.contains(k)).unwrap_or("exact");
    let key: Vec<Value> =
        keys.iter().map(|(f, k)| json!({"match_type": k, "name": f, "target": ["h", f], "mask": null})).collect();
    json!({
        "name": name, "id": 0, "key": key, "match_type": kind, "type": "simple", "max_size": size, "with_counters": true,
        "action_ids": [0, 1], "actions": ["set", "miss"], "base_default_next": null,
        "next_tables": {"set": null, "miss": null},
        "default_entry": {"action_id": 1, "action_const": false, "action_data": [], "action_entry_const": false},
    })
}
