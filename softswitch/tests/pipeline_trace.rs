//! What a trace tells: the entry that each table has found, and the way of every copy.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod pipeline_support;

use std::sync::Arc;

use dmux_softswitch::pipeline::replication::{CloneSession, Replica};
use dmux_softswitch::pipeline::{Dataplane, Marking, MatchValue, Program, Target, Worker};
use pipeline_support::{Still, insert};

fn traced(json: &[u8]) -> Dataplane {
    let target = Target { marking: Marking::Steps, ..Target::default() };
    Dataplane::new(Program::compile_for(json, target).unwrap(), Arc::new(Still(5)))
}

fn trace(dp: &Dataplane, frame: &[u8]) -> String {
    Worker::new(dp).batch(dp).process_traced(4, frame, 5, &mut |_, _| ())
}

/// Sees that these pieces are there, one after the other.
fn in_order(text: &str, pieces: &[&str]) {
    let mut rest = text;
    for piece in pieces {
        let at = rest.find(piece).unwrap_or_else(|| panic!("{piece:?} is missing, or not in its place, in\n{text}"));
        rest = &rest[at + piece.len()..];
    }
}

#[test]
fn a_hit_tells_the_entry_with_masks_prefixes_ranges_and_priority() {
    let dp = traced(include_bytes!("programs/match_kinds.json"));
    let (a, b, c) = (0x0a01_0203u32, 0x1234u16, 0x0007u16);
    let lpm = |value: u128, prefix_len| MatchValue::Lpm { value, prefix_len };
    let ternary = |value: u128, mask: u128| MatchValue::Ternary { value, mask };
    let set = |table: &str, key: &[MatchValue], priority, result| {
        insert(&dp, &format!("IngressPipe.{table}"), key, priority, "IngressPipe.set_result", &[result]);
    };
    set("longest", &[lpm(0x0a00_0000, 8)], 0, 3);
    set("longest", &[lpm(0x0a01_0000, 16)], 0, 4);
    let range = MatchValue::Range { low: 0x1000, high: 0x1fff };
    set("mixed", &[ternary(0, 0), range, MatchValue::Exact(7)], 5, 5);
    set("mixed", &[ternary(0x0a00_0000, 0xff00_0000), range, MatchValue::Exact(7)], 9, 6);
    let ways = [
        (3, "entry a=0xa010000/16 -> IngressPipe.set_result(result=0x4)\n    hit: IngressPipe.set_result(result=0x4)"),
        (
            8,
            "entry a=0xa000000 &&& 0xff000000, b=0x1000..0x1fff, c=0x7; priority 9 -> IngressPipe.set_result(result=0x6)\n\
             \x20   hit: IngressPipe.set_result(result=0x6)",
        ),
    ];
    for (which, entry) in ways {
        let frame: Vec<u8> = [&[which, 0][..], &a.to_be_bytes(), &b.to_be_bytes(), &c.to_be_bytes()].concat();
        in_order(&trace(&dp, &frame), &["  table IngressPipe.", "a=0xa010203", entry, "sent to port 2, 10 bytes"]);
        // To tell is not to count.
        let missed = [&frame[..2], &[9; 8]].concat();
        let text = trace(&dp, &missed);
        in_order(&text, &["  table IngressPipe.", "miss: IngressPipe.missed()"]);
        assert!(!text.contains("entry"), "{text}");
    }
}

#[test]
fn every_copy_is_told_from_where_it_goes_on_to_where_it_leaves() {
    let dp = traced(include_bytes!("p4runtime_programs/queues.json"));
    let replicas = |all: &[(u16, u16)]| -> Vec<_> {
        all.iter().map(|(port, instance)| Replica { port: *port, instance: *instance }).collect()
    };
    let session = CloneSession { replicas: replicas(&[(6, 1)]), max_bytes: None, class_of_service: 3 };
    // What a frame asks for: 1 a clone from ingress, 2 one from egress, 4 the group, 8 recirculates.
    let no_session = trace(&dp, &[1, 0, 1, 0]);
    in_order(&no_session, &["  not cloned: the session has no replicas, or is not there\n", "  sent to port 1, "]);
    in_order(&trace(&dp, &[1, 0, 4, 0]), &["  dropped: the multicast group has no replicas, or is not there\n"]);
    in_order(&trace(&dp, &[1, 5, 0, 0]), &["  dropped: no queue for its priority\n"]);
    dp.replication().set_session(1, Some(session));
    dp.replication().set_group(1, Some(replicas(&[(7, 1), (8, 2)])));

    let clone = trace(&dp, &[1, 0, 1, 0]);
    in_order(
        &clone,
        &[
            "  clone of the frame as it came: parsed again\n",
            "  parser state start\n",
            "  copy to port 6, instance 1, class of service 3\n",
            "      standard_metadata.egress_port = 0x6 (was 0x0)\n",
            "  egress\n",
            "  sent to port 6, 33 bytes: 01000100",
            "  the packet itself goes on to port 1\n",
            "  egress\n",
            "  sent to port 1, 33 bytes: 01000100",
        ],
    );
    // A copy is compared with what it was made of, not with the packet that was told of before it.
    let (_, copy) = clone.split_once("  copy to port 6").unwrap();
    assert!(!copy[..copy.find("  sent").unwrap()].contains("told is not valid"), "{clone}");

    in_order(
        &trace(&dp, &[1, 0, 2, 0]),
        &[
            "  sent to port 1, 33 bytes",
            "  copy to port 6, instance 1, class of service 3\n",
            "  sent to port 6, 33 bytes",
        ],
    );
    in_order(
        &trace(&dp, &[1, 0, 4, 0]),
        &[
            "  copy to port 7, instance 1\n",
            "  sent to port 7, 33 bytes",
            "  copy to port 8, instance 2\n",
            "  sent to port 8, 33 bytes",
        ],
    );
    in_order(
        &trace(&dp, &[1, 0, 8, 0]),
        &[
            "  recirculates, 4 bytes: 01000800\n",
            "  recirculated: parsed again\n",
            "  parser state start\n",
            "  sent to port 1, 33 bytes",
        ],
    );
}
