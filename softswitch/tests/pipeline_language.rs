//! Header stacks, unions, varbits, value sets and parser errors, in small programs; each as it is optimized and as it is not.

mod pipeline_support;

use dmux_softswitch::pipeline::{Dataplane, MatchValue, Program, Worker};
use pipeline_support::{Still, checksum};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

/// A program with these headers that runs `primitives` and sends what comes of it to port 1.
struct Source {
    types: Vec<Value>,
    headers: Vec<Value>,
    rest: Value,
    states: Vec<Value>,
    order: Vec<&'static str>,
    primitives: Vec<Value>,
}

impl Source {
    fn json(&self) -> Vec<u8> {
        let std = json!([
            ["ingress_port", 9, false],
            ["egress_spec", 9, false],
            ["egress_port", 9, false],
            ["packet_length", 32, false],
            ["parser_error", 32, false],
            ["checksum_error", 1, false],
            ["_padding", 4, false]
        ]);
        let mut types = vec![json!({"name": "standard_metadata", "id": 0, "fields": std})];
        types.extend(self.types.iter().cloned());
        let mut headers =
            vec![json!({"name": "standard_metadata", "id": 0, "header_type": "standard_metadata", "metadata": true})];
        headers.extend(self.headers.iter().cloned());
        let mut primitives = vec![assign(&field("standard_metadata", "egress_spec"), &hex(1))];
        primitives.extend(self.primitives.iter().cloned());
        let mut root = json!({
            "header_types": types, "headers": headers,
            "errors": [["NoError", 0], ["Odd", 1], ["PacketTooShort", 7], ["StackOutOfBounds", 8], ["HeaderTooShort", 9],
                ["ParserInvalidArgument", 10]],
            "parsers": [{"name": "parser", "id": 0, "init_state": "start", "parse_states": self.states}],
            "deparsers": [{"name": "deparser", "id": 0, "order": self.order}],
            "actions": [{"name": "go", "id": 0, "runtime_data": [], "primitives": primitives}],
            "pipelines": [
                {"name": "ingress", "id": 0, "init_table": "t", "tables": [pipeline_support::build::always("t", "go", 0)],
                 "conditionals": []},
                {"name": "egress", "id": 1, "init_table": null, "tables": [], "conditionals": []},
            ],
        });
        if let (Some(root), Some(rest)) = (root.as_object_mut(), self.rest.as_object()) {
            root.extend(rest.clone());
        }
        root.to_string().into_bytes()
    }

    /// The program, compiled for use and plainly.
    fn both(&self) -> [Dataplane; 2] {
        let json = self.json();
        [Program::compile(&json), Program::compile_plainly(&json)].map(|p| match p {
            Ok(p) => Dataplane::new(p, Arc::new(Still(1_000_000))),
            Err(e) => panic!("the program does not load: {e}"),
        })
    }

    /// What comes out for a frame.
    fn run(&self, frame: &[u8]) -> Vec<u8> {
        run(&self.both(), frame)
    }
}

fn run(dps: &[Dataplane; 2], frame: &[u8]) -> Vec<u8> {
    let [a, b] = dps.each_ref().map(|dp| pipeline_support::run(dp, 0, frame));
    assert_eq!(a, b, "the optimizer changed what the program does with {frame:02x?}");
    a.into_iter().next().map(|(_, f)| f).unwrap_or_default()
}

fn field(h: &str, f: &str) -> Value {
    json!({"type": "field", "value": [h, f]})
}

fn hex(n: u64) -> Value {
    json!({"type": "hexstr", "value": format!("{n:#x}")})
}

fn expr(v: Value) -> Value {
    json!({"type": "expression", "value": v})
}

fn op(op: &str, left: Value, right: Value) -> Value {
    expr(json!({"op": op, "left": left, "right": right}))
}

fn assign(d: &Value, s: &Value) -> Value {
    json!({"op": "assign", "parameters": [d, s]})
}

fn header(name: &str, id: u32, t: &str) -> Value {
    json!({"name": name, "id": id, "header_type": t, "metadata": false})
}

fn default(next: Option<&str>) -> Value {
    json!({"type": "default", "value": null, "mask": null, "next_state": next})
}

fn case(value: &str, next: Option<&str>) -> Value {
    json!({"type": "hexstr", "value": value, "mask": null, "next_state": next})
}

fn state(name: &str, ops: Vec<Value>, key: Value, transitions: Vec<Value>) -> Value {
    json!({"name": name, "id": 0, "parser_ops": ops, "transition_key": key, "transitions": transitions})
}

fn extract(kind: &str, value: Value) -> Value {
    json!({"op": "extract", "parameters": [{"type": kind, "value": value}]})
}

/// A header `out` of 32 bits that results go to, and a stack of four labels: value (7 bits) and "last" (1 bit).
fn labels(primitives: Vec<Value>) -> Source {
    let element = |n: u32| header(&format!("l[{n}]"), 2 + n, "l_t");
    let mut headers = vec![header("out", 1, "out_t")];
    headers.extend((0..4).map(element));
    let mut all = vec![
        json!({"op": "add_header", "parameters": [{"type": "header", "value": "out"}]}),
        assign(&field("out", "error"), &field("standard_metadata", "parser_error")),
    ];
    all.extend(primitives);
    Source {
        types: vec![
            json!({"name": "out_t", "id": 1, "fields": [["error", 8, false], ["a", 8, false], ["b", 16, false]]}),
            json!({"name": "l_t", "id": 2, "fields": [["value", 7, false], ["last", 1, false]]}),
        ],
        headers,
        rest: json!({"header_stacks": [{"name": "l", "id": 0, "header_type": "l_t", "size": 4, "header_ids": [2, 3, 4, 5]}]}),
        states: vec![state(
            "start",
            vec![extract("stack", json!("l"))],
            json!([{"type": "stack_field", "value": ["l", "last"]}]),
            vec![case("0x00", Some("start")), default(None)],
        )],
        order: vec!["out", "l[0]", "l[1]", "l[2]", "l[3]"],
        primitives: all,
    }
}

fn stack() -> Value {
    json!({"type": "header_stack", "value": "l"})
}

fn element(index: Value) -> Value {
    expr(json!({"op": "dereference_header_stack", "left": stack(), "right": index}))
}

fn element_value(index: Value) -> Value {
    expr(json!({"op": "access_field", "left": element(index), "right": 0}))
}

#[test]
fn a_stack_is_filled_until_its_last_label_and_sent_in_order() {
    assert_eq!(labels(vec![]).run(&[2, 4, 7, 0xaa]), [0, 0, 0, 0, 2, 4, 7, 0xaa]);
}

#[test]
fn a_fifth_label_is_out_of_bounds_under_the_programs_own_number() {
    assert_eq!(labels(vec![]).run(&[2, 4, 6, 8, 10, 13]), [8, 0, 0, 0, 2, 4, 6, 8, 10, 13]);
    // So is a packet that ends before its last label.
    assert_eq!(labels(vec![]).run(&[2, 4]), [7, 0, 0, 0, 2, 4]);
}

#[test]
fn push_and_pop_shift_the_elements() {
    let shift = |op: &str, n| json!({"op": op, "parameters": [stack(), hex(n)]});
    assert_eq!(labels(vec![shift("pop", 1)]).run(&[2, 4, 7, 0xaa]), [0, 0, 0, 0, 4, 7, 0xaa]);
    assert_eq!(labels(vec![shift("pop", 9)]).run(&[2, 4, 7, 0xaa]), [0, 0, 0, 0, 0xaa]);
    // The new first element is not valid until it is added; the last one falls off.
    let add = json!({"op": "add_header", "parameters": [{"type": "header", "value": "l[0]"}]});
    let set = assign(&field("l[0]", "value"), &hex(0x3f));
    assert_eq!(
        labels(vec![shift("push", 1), add.clone(), set.clone()]).run(&[2, 4, 6, 9, 0xaa]),
        [0, 0, 0, 0, 0x7e, 2, 4, 6, 0xaa]
    );
    let next = assign(&field("out", "a"), &op("size_stack", Value::Null, stack()));
    assert_eq!(labels(vec![shift("push", 2), next]).run(&[2, 5, 0xaa]), [0, 4, 0, 0, 2, 5, 0xaa]);
}

#[test]
fn the_last_index_of_an_empty_stack_is_all_ones() {
    let pop = json!({"op": "pop", "parameters": [stack(), hex(4)]});
    let last = assign(&field("out", "b"), &op("last_stack_index", Value::Null, stack()));
    assert_eq!(labels(vec![last.clone()]).run(&[2, 4, 7]), [0, 0, 0, 2, 2, 4, 7]);
    assert_eq!(labels(vec![pop, last]).run(&[2, 4, 7]), [0, 0, 0xff, 0xff]);
}

#[test]
fn an_index_may_come_from_the_packet() {
    // out.a = l[l[0].value].value; l[l[0].value].value = 0x55; beyond the stack 0 is read and nothing written.
    let index = || field("l[0]", "value");
    let get = assign(&field("out", "a"), &element_value(index()));
    let set = assign(&element_value(index()), &hex(0x55));
    let valid = assign(
        &field("out", "b"),
        &op("b2d", Value::Null, expr(json!({"op": "valid", "left": null, "right": element(index())}))),
    );
    let program = labels(vec![get, valid, set]);
    assert_eq!(program.run(&[2 << 1, 4, 7]), [0, 3, 0, 1, 4, 4, 0xab]);
    assert_eq!(program.run(&[3 << 1, 4, 7]), [0, 0, 0, 0, 6, 4, 7]);
    assert_eq!(program.run(&[9 << 1, 4, 7]), [0, 0, 0, 0, 18, 4, 7]);
    let remove = json!({"op": "remove_header", "parameters": [element(index())]});
    assert_eq!(labels(vec![remove]).run(&[1 << 1, 4, 7]), [0, 0, 0, 0, 2, 7]);
    let copy = json!({"op": "assign_header", "parameters": [element(index()), {"type": "header", "value": "l[0]"}]});
    assert_eq!(labels(vec![copy]).run(&[3 << 1, 5]), [0, 0, 0, 0, 6, 5, 6]);
}

#[test]
fn headers_and_stacks_are_compared_whole() {
    let same = |a: Value, b: Value| assign(&field("out", "a"), &op("b2d", Value::Null, op("==", a, b)));
    let h = |n: &str| json!({"type": "header", "value": n});
    let program = labels(vec![same(h("l[0]"), h("l[1]"))]);
    assert_eq!(program.run(&[2, 2, 3]), [0, 1, 0, 0, 2, 2, 3]);
    assert_eq!(program.run(&[2, 4, 3]), [0, 0, 0, 0, 2, 4, 3]);
    // Two that are not valid are not the same, as in BMv2.
    let program = labels(vec![same(h("l[2]"), element(op("+", field("l[0]", "value"), hex(2))))]);
    assert_eq!(program.run(&[0, 3]), [0, 0, 0, 0, 0, 3]);
    assert_eq!(program.run(&[0, 2, 5]), [0, 1, 0, 0, 0, 2, 5]);
    assert_eq!(labels(vec![same(stack(), stack())]).run(&[2, 3]), [0, 1, 0, 0, 2, 3]);
}

/// A kind, then a union of a short and a long header.
fn union(primitives: Vec<Value>) -> Source {
    let fields = |n: u32| json!([["x", n, false]]);
    Source {
        types: vec![
            json!({"name": "kind_t", "id": 1, "fields": fields(8)}),
            json!({"name": "short_t", "id": 2, "fields": fields(8)}),
            json!({"name": "long_t", "id": 3, "fields": fields(16)}),
        ],
        headers: vec![header("kind", 1, "kind_t"), header("u.short", 2, "short_t"), header("u.long", 3, "long_t")],
        rest: json!({
            "header_union_types": [{"name": "u_t", "id": 0, "headers": [["short", "short_t"], ["long", "long_t"]]}],
            "header_unions": [{"name": "u", "id": 0, "union_type": "u_t", "header_ids": [2, 3]}],
        }),
        states: vec![
            state(
                "start",
                vec![extract("regular", json!("kind"))],
                json!([{"type": "field", "value": ["kind", "x"]}]),
                vec![
                    case("0x01", Some("short")),
                    case("0x02", Some("long")),
                    case("0x03", Some("both")),
                    default(None),
                ],
            ),
            state("short", vec![extract("regular", json!("u.short"))], json!([]), vec![default(None)]),
            state("long", vec![extract("regular", json!("u.long"))], json!([]), vec![default(None)]),
            state("both", vec![extract("regular", json!("u.short"))], json!([]), vec![default(Some("long"))]),
        ],
        order: vec!["kind", "u.short", "u.long"],
        primitives,
    }
}

#[test]
fn of_a_union_one_member_is_valid_at_most() {
    let add = |h: &str| json!({"op": "add_header", "parameters": [{"type": "header", "value": h}]});
    assert_eq!(union(vec![]).run(&[1, 0xaa, 0xbb]), [1, 0xaa, 0xbb]);
    assert_eq!(union(vec![add("u.long")]).run(&[1, 0xaa, 0xbb]), [1, 0, 0, 0xbb]);
    // The second extraction takes over.
    assert_eq!(union(vec![]).run(&[3, 0xaa, 0xbb, 0xcc, 0xdd]), [3, 0xbb, 0xcc, 0xdd]);
    let u = json!({"type": "header_union", "value": "u"});
    let valid = assign(&field("kind", "x"), &op("b2d", Value::Null, op("valid_union", Value::Null, u)));
    assert_eq!(union(vec![valid.clone()]).run(&[2, 0xaa, 0xbb]), [1, 0xaa, 0xbb]);
    assert_eq!(union(vec![valid]).run(&[9, 0xaa]), [0, 0xaa]);
}

/// A length in bytes, then a header with two bits, a varbit of that length (at most 6 bytes) and six bits.
fn varbit(primitives: Vec<Value>, rest: Value) -> Source {
    let fields = json!([["head", 2, false], ["body", "*"], ["tail", 6, false]]);
    let bits = op("<<", field("n", "x"), hex(3));
    let extract_vl = json!({"op": "extract_VL", "parameters": [{"type": "regular", "value": "v"}, bits]});
    Source {
        types: vec![
            json!({"name": "n_t", "id": 1, "fields": [["x", 8, false], ["error", 8, false], ["sum", 16, false]]}),
            json!({"name": "v_t", "id": 2, "fields": fields, "max_length": 7}),
        ],
        headers: vec![header("n", 1, "n_t"), header("v", 2, "v_t"), header("w", 3, "v_t")],
        rest,
        states: vec![state("start", vec![extract("regular", json!("n")), extract_vl], json!([]), vec![default(None)])],
        order: vec!["n", "v", "w"],
        primitives: [vec![assign(&field("n", "error"), &field("standard_metadata", "parser_error"))], primitives]
            .concat(),
    }
}

#[test]
fn a_varbit_is_extracted_copied_and_sent() {
    let v = |h: &str| json!({"type": "header", "value": h});
    let copy = json!({"op": "assign_header", "parameters": [v("w"), v("v")]});
    let frame = [2, 0, 0, 0, 0b1010_1010, 0xc3, 0x0f, 0xee, 0xdd];
    assert_eq!(varbit(vec![], json!({})).run(&frame), frame);
    let twice = [2, 0, 0, 0, 0b1010_1010, 0xc3, 0x0f, 0b1010_1010, 0xc3, 0x0f, 0xee, 0xdd];
    assert_eq!(varbit(vec![copy.clone()], json!({})).run(&frame), twice);
    // Changed around its varbit.
    let set = assign(&field("w", "tail"), &hex(0));
    let changed = [2, 0, 0, 0, 0b1010_1010, 0xc3, 0x0f, 0b1010_1010, 0xc3, 0x00, 0xee, 0xdd];
    assert_eq!(varbit(vec![copy, set], json!({})).run(&frame), changed);
    // Of no length, and without one.
    assert_eq!(varbit(vec![], json!({})).run(&[0, 0, 0, 0, 0x55, 1]), [0, 0, 0, 0, 0x55, 1]);
    let anew = ["remove_header", "add_header"].map(|op| json!({"op": op, "parameters": [v("v")]}));
    assert_eq!(varbit(anew.to_vec(), json!({})).run(&frame), [2, 0, 0, 0, 0, 0xee, 0xdd]);
}

#[test]
fn a_varbit_too_long_or_cut_short_is_a_parser_error() {
    assert_eq!(
        varbit(vec![], json!({})).run(&[7, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        [7, 9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    );
    assert_eq!(varbit(vec![], json!({})).run(&[3, 0, 0, 0, 1, 2]), [3, 7, 0, 0, 1, 2]);
    let mut odd = varbit(vec![], json!({}));
    odd.states[0]["parser_ops"][1]["parameters"][1] = op("+", field("n", "x"), hex(0));
    assert_eq!(odd.run(&[3, 0, 0, 0, 1, 2]), [3, 10, 0, 0, 1, 2]);
}

proptest! {
    #[test]
    fn a_checksum_takes_a_varbit_as_it_is(body in proptest::collection::vec(any::<u8>(), 0..6), payload in proptest::collection::vec(any::<u8>(), 0..9)) {
        let sum = |input: Value| json!({
            "calculations": [{"name": "c", "id": 0, "algo": "csum16", "input": input}],
            "checksums": [{"name": "s", "id": 0, "type": "generic", "target": ["n", "sum"], "calculation": "c", "verify": false,
                "update": true, "if_cond": null}],
        });
        let header = sum(json!([{"type": "header", "value": "v"}, {"type": "payload"}]));
        let fields = sum(json!([{"type": "field", "value": ["v", "head"]}, {"type": "field", "value": ["v", "body"]},
            {"type": "field", "value": ["v", "tail"]}, {"type": "payload"}]));
        let mut frame = vec![body.len() as u8, 0, 0, 0];
        frame.extend(&body);
        frame.push(0x5a);
        frame.extend(&payload);
        let mut expected = frame.clone();
        expected[2..4].copy_from_slice(&checksum(&frame[4..]).to_be_bytes());
        prop_assert_eq!(&varbit(vec![], header).run(&frame), &expected);
        prop_assert_eq!(&varbit(vec![], fields).run(&frame), &expected);
    }
}

/// A two-part key that is looked up in a value set; `out` tells which way was taken.
fn value_set() -> Source {
    let mark = |n: u64| json!({"op": "set", "parameters": [field("k", "way"), hex(n)]});
    Source {
        types: vec![json!({"name": "k_t", "id": 1, "fields": [["a", 4, false], ["b", 12, false], ["way", 8, false]]})],
        headers: vec![header("k", 1, "k_t")],
        rest: json!({"parse_vsets": [{"name": "set", "id": 0, "compressed_bitwidth": 16, "max_size": 3}]}),
        states: vec![
            state(
                "start",
                vec![extract("regular", json!("k"))],
                json!([{"type": "field", "value": ["k", "a"]}, {"type": "field", "value": ["k", "b"]}]),
                vec![
                    case("0x010002", Some("one")),
                    json!({"type": "parse_vset", "value": "set", "mask": null, "next_state": "two"}),
                    json!({"type": "hexstr", "value": "0x000005", "mask": "0x000fff", "next_state": "three"}),
                    default(None),
                ],
            ),
            state("one", vec![mark(1)], json!([]), vec![default(None)]),
            state("two", vec![mark(2)], json!([]), vec![default(None)]),
            state("three", vec![mark(3)], json!([]), vec![default(None)]),
        ],
        order: vec!["k"],
        primitives: vec![],
    }
}

#[test]
fn a_value_set_is_matched_in_its_place_among_the_cases() {
    let dps = value_set().both();
    let way = |a: u8, b: u8| run(&dps, &[a << 4, b, 0])[2];
    assert_eq!([way(1, 2), way(3, 4), way(3, 5)], [1, 0, 3]);
    let exact = |a: u128, b: u128| vec![MatchValue::Exact(a), MatchValue::Exact(b)];
    for dp in &dps {
        dp.set_value_set(
            0,
            vec![exact(1, 2), exact(3, 5), vec![MatchValue::Exact(3), MatchValue::Range { low: 3, high: 4 }]],
        )
        .unwrap_or_else(|e| panic!("{e}"));
        assert!(dp.set_value_set(0, vec![exact(1, 2); 4]).is_err(), "more members than it has room for");
        assert!(dp.set_value_set(0, vec![exact(16, 2)]).is_err(), "a value of five bits where there are four");
        assert_eq!(dp.value_set(0).map(|m| m.len()), Ok(3));
    }
    assert_eq!([way(1, 2), way(3, 4), way(3, 5), way(9, 5)], [1, 2, 2, 3]);
}

#[test]
fn a_select_may_be_wider_than_128_bits() {
    let mut source = union(vec![]);
    source.types[0] = json!({"name": "kind_t", "id": 1, "fields": [["x", 8, false], ["y", 200, false]]});
    let key = json!([{"type": "field", "value": ["kind", "x"]}, {"type": "field", "value": ["kind", "y"]}]);
    let value = |x: &str, y: &str| format!("0x{x}{y:0>50}");
    source.states[0] = state(
        "start",
        vec![extract("regular", json!("kind"))],
        key,
        vec![
            case(&value("01", "abc"), Some("short")),
            json!({"type": "hexstr", "value": value("02", "8"), "mask": value("ff", "8"), "next_state": "long"}),
            default(None),
        ],
    );
    source.primitives = vec![
        assign(&field("kind", "x"), &hex(0)),
        json!({"op": "remove_header", "parameters": [{"type": "header", "value": "kind"}]}),
    ];
    let frame = |x: u8, last: [u8; 2]| [&[x][..], &[0; 23], &last, &[0x11, 0x22, 0x33]].concat();
    let add = json!({"op": "add_header", "parameters": [{"type": "header", "value": "u.short"}]});
    source.primitives.push(add);
    // A short one stays as it is, a long one gives way to a new one, and where there was neither one comes in front.
    assert_eq!(source.run(&frame(1, [0x0a, 0xbc])), [0x11, 0x22, 0x33]);
    assert_eq!(source.run(&frame(2, [0x77, 0x0f])), [0, 0x33]);
    assert_eq!(source.run(&frame(2, [0x77, 0x07])), [0, 0x11, 0x22, 0x33]);
}

#[test]
fn registers_of_any_width_keep_what_is_written() {
    let mut source = union(vec![]);
    source.types[0] = json!({"name": "kind_t", "id": 1, "fields": [["x", 8, false], ["y", 200, false]]});
    source.rest["register_arrays"] = json!([{"name": "r", "id": 0, "size": 2, "bitwidth": 196}]);
    let reg = json!({"type": "register_array", "value": "r"});
    source.primitives = vec![
        json!({"op": "register_write", "parameters": [reg, hex(1), field("kind", "y")]}),
        json!({"op": "register_write", "parameters": [reg, hex(7), field("kind", "y")]}),
        assign(&field("kind", "y"), &hex(0xff)),
        json!({"op": "register_read", "parameters": [field("kind", "y"), reg, field("kind", "x")]}),
    ];
    let frame = |x: u8, y: u8| [&[x][..], &[y; 25], &[0xee]].concat();
    let mut cut = frame(1, 0xab);
    cut[1] = 0x0b;
    assert_eq!(source.run(&frame(1, 0xab)), cut);
    assert_eq!(source.run(&frame(0, 0xab)), frame(0, 0));
    // Beyond the register there is nothing, and what the field was before does not stay.
    assert_eq!(source.run(&frame(9, 0xab)), frame(9, 0));
}

#[test]
fn random_numbers_are_in_their_range_and_can_be_replayed() {
    let mut source = union(vec![]);
    source.primitives =
        vec![json!({"op": "modify_field_rng_uniform", "parameters": [field("kind", "x"), hex(5), hex(8)]})];
    let dps = source.both();
    let draw = |seed: u64| {
        let mut worker = Worker::new(&dps[0]);
        worker.seed(seed);
        let mut drawn = Vec::new();
        for _ in 0..64 {
            worker.process(&dps[0], 0, &[9, 0xaa], 0, &mut |_, f| drawn.push(f[0]));
        }
        drawn
    };
    let drawn = draw(1);
    assert_eq!(drawn, draw(1));
    assert_ne!(drawn, draw(2));
    for n in 5..=8 {
        assert!(drawn.contains(&n), "{n} is never drawn: {drawn:?}");
    }
    assert!(drawn.iter().all(|n| (5..=8).contains(n)), "{drawn:?}");
}
