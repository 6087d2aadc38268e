//! Clones, multicast, resubmit and recirculate, as BMv2's simple_switch has them. Every case runs with the optimizer and
//! without it.

mod pipeline_support;

use dmux_softswitch::pipeline::replication::{CloneSession, Replica};
use dmux_softswitch::pipeline::{Dataplane, MAX_PASSES, Program, Worker, WorkerStats};
use pipeline_support::Still;
use pipeline_support::v1model::{EGRESS, INGRESS, V1Model, both, eq, h, meta, num, op, set, std};
use serde_json::Value;
use std::sync::Arc;

/// What the header tells the program to do.
mod what {
    pub const FORWARD: u8 = 0;
    pub const CLONE: u8 = 1;
    pub const MULTICAST: u8 = 2;
    pub const RESUBMIT: u8 = 3;
    pub const RECIRCULATE: u8 = 4;
    pub const CLONE_EGRESS: u8 = 5;
    pub const CLONE_AND_DROP: u8 = 6;
    pub const CLONE_AND_MULTICAST: u8 = 7;
    pub const CLONE_EGRESS_AND_DROP: u8 = 8;
    pub const FOREVER: u8 = 9;
    pub const TRUNCATE_AND_MULTICAST: u8 = 10;
    pub const RESUBMIT_FOREVER: u8 = 11;
    pub const RECIRCULATE_TRUNCATED: u8 = 12;
}

const FIELDS: [(&str, u32); 10] = [
    ("what", 8),
    ("arg", 16),
    ("passes", 8),
    ("kept", 16),
    ("lost", 16),
    ("instance", 8),
    ("rid", 16),
    ("port", 16),
    ("length", 16),
    ("from", 16),
];

fn is(w: u8) -> Value {
    eq(h("what"), num(w.into()))
}

fn instance(i: u64) -> Value {
    eq(std("instance_type"), num(i))
}

fn program() -> Vec<u8> {
    let clone = |w: u8| op("clone_ingress_pkt_to_egress", &[h(if w == 0 { "what" } else { "arg" }), num(1)]);
    let to = |p: u64| set(std("egress_spec"), num(p));
    let fresh = |w: u8| both(instance(0), is(w));
    let egress_clone = op("clone_egress_pkt_to_egress", &[h("arg"), num(1)]);
    V1Model::new(&FIELDS, &[("kept", 16), ("lost", 16), ("seen", 8)])
        .field_list(&[meta("kept")])
        .when(INGRESS, instance(0), &[set(meta("kept"), h("arg")), set(meta("lost"), num(7)), to(1)])
        // What the headers are changed to in ingress, a clone does not see.
        .when(INGRESS, fresh(what::CLONE), &[clone(1), set(h("passes"), num(99))])
        .when(INGRESS, fresh(what::CLONE_AND_DROP), &[clone(1), op("mark_to_drop", &[])])
        .when(INGRESS, fresh(what::CLONE_AND_MULTICAST), &[clone(1), set(std("mcast_grp"), num(9))])
        .when(INGRESS, fresh(what::MULTICAST), &[set(std("mcast_grp"), h("arg")), set(h("passes"), num(55))])
        .when(
            INGRESS,
            fresh(what::TRUNCATE_AND_MULTICAST),
            &[op("truncate", &[num(20)]), set(std("mcast_grp"), h("arg"))],
        )
        .when(INGRESS, fresh(what::RESUBMIT), &[op("resubmit", &[num(1)]), set(h("passes"), num(1))])
        .when(INGRESS, is(what::RESUBMIT_FOREVER), &[op("resubmit", &[num(1)])])
        .when(INGRESS, instance(6), &[to(2), set(h("from"), std("ingress_port"))])
        .when(INGRESS, instance(4), &[to(3), set(h("from"), std("ingress_port")), set(meta("seen"), num(1))])
        .when(EGRESS, both(is(what::RECIRCULATE), eq(h("passes"), num(0))), &[op("recirculate", &[num(1)])])
        .when(
            EGRESS,
            both(is(what::RECIRCULATE_TRUNCATED), eq(h("passes"), num(0))),
            &[op("truncate", &[num(18)]), op("recirculate", &[num(1)])],
        )
        .when(EGRESS, is(what::FOREVER), &[op("recirculate", &[num(1)])])
        .when(EGRESS, fresh(what::CLONE_EGRESS), &[set(h("passes"), num(77)), egress_clone.clone()])
        .when(EGRESS, fresh(what::CLONE_EGRESS_AND_DROP), &[egress_clone, op("mark_to_drop", &[])])
        .when(EGRESS, both(instance(0), eq(meta("seen"), num(0))), &[set(h("passes"), num(1))])
        .when(
            EGRESS,
            eq(num(0), num(0)),
            &[
                set(h("kept"), meta("kept")),
                set(h("lost"), meta("lost")),
                set(h("instance"), std("instance_type")),
                set(h("rid"), std("egress_rid")),
                set(h("port"), std("egress_port")),
                set(h("length"), std("packet_length")),
            ],
        )
        .json()
}

/// A frame as it leaves.
#[derive(Debug, PartialEq, Eq, Clone, Default)]
struct Out {
    port: u16,
    passes: u8,
    kept: u16,
    lost: u16,
    instance: u8,
    rid: u16,
    egress_port: u16,
    length: u16,
    from: u16,
    bytes: usize,
}

const PAYLOAD: usize = 40;
const BYTES: usize = 18 + PAYLOAD;

fn frame(what: u8, arg: u16) -> Vec<u8> {
    let mut f = vec![what, (arg >> 8) as u8, arg as u8];
    f.resize(18, 0);
    f.extend(0..PAYLOAD as u8);
    f
}

struct Rig(Vec<Dataplane>);

impl Rig {
    fn new() -> Self {
        let json = program();
        let dp = [Program::compile(&json), Program::compile_plainly(&json)].map(|p| match p {
            Ok(p) => Dataplane::new(p, Arc::new(Still(5))),
            Err(e) => panic!("the program does not load: {e}"),
        });
        Self(dp.into())
    }

    fn group(self, id: u16, replicas: &[(u16, u16)]) -> Self {
        let replicas: Vec<Replica> =
            replicas.iter().map(|(port, instance)| Replica { port: *port, instance: *instance }).collect();
        self.0.iter().for_each(|dp| dp.replication().set_group(id, Some(replicas.clone())));
        self
    }

    fn session(self, id: u16, replicas: &[(u16, u16)], max_bytes: Option<usize>) -> Self {
        let replicas = replicas.iter().map(|(port, instance)| Replica { port: *port, instance: *instance }).collect();
        let session = CloneSession { replicas, max_bytes, class_of_service: 0 };
        self.0.iter().for_each(|dp| dp.replication().set_session(id, Some(session.clone())));
        self
    }

    fn stats(&self, what: u8, arg: u16) -> (Vec<Out>, WorkerStats) {
        let runs = self.0.iter().map(|dp| {
            let mut out = Vec::new();
            let mut worker = Worker::new(dp);
            worker.process(dp, 4, &frame(what, arg), 1_000, &mut |port, f| {
                let word = |at: usize| u16::from(f[at]) << 8 | u16::from(f[at + 1]);
                out.push(Out {
                    port,
                    passes: f[3],
                    kept: word(4),
                    lost: word(6),
                    instance: f[8],
                    rid: word(9),
                    egress_port: word(11),
                    length: word(13),
                    from: word(15),
                    bytes: f.len(),
                });
            });
            (out, worker.stats())
        });
        let runs: Vec<_> = runs.collect();
        assert_eq!(runs[0], runs[1], "optimized and plain");
        runs[0].clone()
    }

    fn run(&self, what: u8, arg: u16) -> Vec<Out> {
        self.stats(what, arg).0
    }
}

/// What a packet becomes that is only forwarded.
fn forwarded(arg: u16) -> Out {
    let length = BYTES as u16;
    Out { port: 1, passes: 1, kept: arg, lost: 7, egress_port: 1, length, bytes: BYTES, ..Out::default() }
}

#[test]
fn a_packet_for_which_nothing_is_asked_is_forwarded() {
    assert_eq!(Rig::new().run(what::FORWARD, 3), [forwarded(3)]);
}

#[test]
fn an_ingress_clone_is_the_frame_as_it_came_with_what_is_preserved_and_leaves_first() {
    let rig = Rig::new().session(3, &[(6, 21)], None);
    let clone = Out { port: 6, passes: 0, lost: 0, instance: 1, rid: 21, egress_port: 6, ..forwarded(3) };
    // The packet's own `passes` is set to 1 by egress after ingress has made it 99.
    assert_eq!(rig.run(what::CLONE, 3), [clone, forwarded(3)]);
}

#[test]
fn a_clone_session_may_have_several_replicas_and_be_cut() {
    let rig = Rig::new().session(3, &[(6, 1), (6, 2), (8, 1)], Some(30));
    let out = rig.run(what::CLONE, 3);
    let seen: Vec<_> = out.iter().map(|o| (o.port, o.rid, o.bytes, o.length)).collect();
    let length = BYTES as u16;
    assert_eq!(seen, [(6, 1, 30, length), (6, 2, 30, length), (8, 1, 30, length), (1, 0, BYTES, length)]);
}

#[test]
fn a_clone_for_no_session_is_counted_and_the_packet_goes_on() {
    let (out, stats) = Rig::new().stats(what::CLONE, 3);
    assert_eq!(out, [forwarded(3)]);
    assert_eq!((stats.no_session, stats.copies), (1, 0));
}

#[test]
fn a_session_number_beyond_15_bits_wraps() {
    let out = Rig::new().session(3, &[(6, 0)], None).run(what::CLONE, 0x8003);
    assert_eq!(out[0].port, 6);
}

#[test]
fn a_packet_that_is_dropped_is_cloned_all_the_same() {
    let rig = Rig::new().session(3, &[(6, 0)], None);
    let (out, stats) = rig.stats(what::CLONE_AND_DROP, 3);
    assert_eq!(out.iter().map(|o| (o.port, o.instance)).collect::<Vec<_>>(), [(6, 1)]);
    assert_eq!((stats.received, stats.sent, stats.dropped, stats.copies), (1, 1, 1, 1));
}

#[test]
fn multicast_copies_have_the_headers_and_metadata_of_ingress() {
    let rig = Rig::new().group(258, &[(1, 1), (2, 1), (2, 9)]);
    let copy = |port: u16, rid: u16| Out { port, passes: 55, instance: 5, rid, egress_port: port, ..forwarded(258) };
    assert_eq!(rig.run(what::MULTICAST, 258), [copy(1, 1), copy(2, 1), copy(2, 9)]);
}

#[test]
fn a_packet_for_a_group_that_is_not_there_is_dropped() {
    let (out, stats) = Rig::new().stats(what::MULTICAST, 258);
    assert_eq!((out, stats.no_group), (vec![], 1));
}

#[test]
fn clones_leave_before_multicast_copies() {
    let rig = Rig::new().session(3, &[(2, 0)], None).group(9, &[(2, 5), (3, 6)]);
    let out = rig.run(what::CLONE_AND_MULTICAST, 3);
    let seen: Vec<_> = out.iter().map(|o| (o.port, o.instance, o.rid, o.lost)).collect();
    assert_eq!(seen, [(2, 1, 0, 0), (2, 5, 5, 7), (3, 5, 6, 7)]);
}

#[test]
fn multicast_copies_are_not_truncated_by_ingress() {
    let out = Rig::new().group(4, &[(1, 1)]).run(what::TRUNCATE_AND_MULTICAST, 4);
    assert_eq!(out[0].bytes, BYTES);
}

#[test]
fn a_resubmitted_packet_starts_again_as_it_came_but_for_what_is_preserved() {
    // The instance type is that of a normal packet again from egress on; metadata is 0, the port of arrival included.
    let (out, stats) = Rig::new().stats(what::RESUBMIT, 300);
    assert_eq!(out, [Out { port: 2, lost: 0, egress_port: 2, ..forwarded(300) }]);
    assert_eq!((stats.again, stats.received, stats.sent), (1, 1, 1));
}

#[test]
fn a_recirculated_packet_starts_again_as_it_was_deparsed() {
    let out = Rig::new().run(what::RECIRCULATE, 300);
    assert_eq!(out, [Out { port: 3, lost: 0, egress_port: 3, ..forwarded(300) }]);
}

#[test]
fn a_recirculated_packet_is_whole_again() {
    assert_eq!(Rig::new().run(what::RECIRCULATE_TRUNCATED, 300)[0].bytes, BYTES);
}

#[test]
fn an_egress_clone_has_the_headers_as_egress_left_them_and_no_metadata() {
    let rig = Rig::new().session(3, &[(6, 21)], None);
    // Egress has set what it always sets before the clone was made: the header says what the packet was.
    let clone = Out { port: 6, passes: 1, lost: 0, instance: 2, rid: 21, egress_port: 6, ..forwarded(3) };
    assert_eq!(rig.run(what::CLONE_EGRESS, 3), [forwarded(3), clone]);
}

#[test]
fn a_packet_that_egress_drops_is_cloned_all_the_same() {
    let (out, stats) = Rig::new().session(3, &[(6, 0)], None).stats(what::CLONE_EGRESS_AND_DROP, 3);
    assert_eq!(out.iter().map(|o| (o.port, o.instance)).collect::<Vec<_>>(), [(6, 2)]);
    assert_eq!((stats.dropped, stats.sent), (1, 1));
}

#[test]
fn a_packet_that_never_leaves_is_cut_off() {
    for what in [what::FOREVER, what::RESUBMIT_FOREVER] {
        let (out, stats) = Rig::new().stats(what, 1);
        assert_eq!((out, stats.cut_off, stats.again), (vec![], 1, u64::from(MAX_PASSES)));
    }
}

#[test]
fn an_unknown_list_is_refused_by_name() {
    let json =
        V1Model::new(&[("a", 8)], &[("m", 8)]).when(INGRESS, eq(h("a"), num(1)), &[op("resubmit", &[num(3)])]).json();
    let error = Program::compile(&json).unwrap_err().to_string();
    assert!(error.contains("field list 3"), "{error}");
}
