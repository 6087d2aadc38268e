//! Batches that are done entirely or not at all (specification §12.2).
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::update::Type;
use dmux_p4rt::p4::v1::write_request::Atomicity;
use p4runtime_support::holdings::*;
use p4runtime_support::*;
use prost::Message;
use tonic::Code;

const BOTH: [Atomicity; 2] = [Atomicity::RollbackOnError, Atomicity::DataplaneAtomic];

/// Writes a batch and returns the code of each update.
async fn write(controller: &mut Controller, atomicity: Atomicity, updates: Vec<v1::Update>) -> Vec<Code> {
    let count = updates.len();
    let request = v1::WriteRequest {
        device_id: DEVICE,
        election_id: controller.election_id,
        updates,
        atomicity: atomicity as i32,
        ..Default::default()
    };
    match controller.client.write(request).await {
        Ok(_) => vec![Code::Ok; count],
        Err(status) if status.code() == Code::Unknown => codes(&status),
        Err(status) => vec![status.code()],
    }
}

fn acl(priority: i32) -> v1::TableEntry {
    v1::TableEntry { priority, ..entry("acl", vec![], action("drop", &[])) }
}

/// A switch that holds something of each kind.
async fn rig() -> (Rig, Controller) {
    let (rig, mut controller) = Rig::loaded().await;
    let given =
        vec![insert(counted()), insert(acl(5)), insert(metered(10)), modify(default_route(b"\x01")), limit(2, 20)];
    assert_eq!(controller.write(given).await, [Code::Ok; 5]);
    (rig, controller)
}

#[tokio::test]
async fn a_batch_in_which_all_succeed_is_done() {
    for atomicity in BOTH {
        let (_rig, mut controller) = rig().await;
        let updates = vec![
            insert(wire_entry(2, 1)),
            delete(acl(5)),
            insert(acl(6)),
            modify(wire_entry(1, 3)),
            modify(default_route(b"\x02")),
        ];
        assert_eq!(write(&mut controller, atomicity, updates).await, [Code::Ok; 5], "{atomicity:?}");
        let all = v1::TableEntry { table_id: table_id("wire"), ..Default::default() };
        let mut wires = controller.entries(all).await;
        wires.sort_by_key(|e| e.encode_to_vec());
        assert_eq!(wires, [wire_entry(1, 3), wire_entry(2, 1)]);
        let acls = controller.entries(v1::TableEntry { table_id: table_id("acl"), ..Default::default() }).await;
        assert_eq!(acls, [acl(6)]);
    }
}

#[tokio::test]
async fn a_batch_in_which_one_fails_changes_nothing_and_names_the_one() {
    for atomicity in BOTH {
        let (rig, mut controller) = rig().await;
        let before = everything(&mut controller).await;
        // Entries that come and go, change twice, and default entries: the last update is refused.
        let updates = vec![
            insert(wire_entry(2, 1)),
            modify(wire_entry(2, 2)),
            delete(wire_entry(1, 2)),
            insert(wire_entry(1, 1)),
            delete(acl(5)),
            modify(default_route(b"\x02")),
            insert(acl(6)),
            delete(acl(6)),
            insert(wire_entry(2, 1)),
        ];
        let codes = write(&mut controller, atomicity, updates).await;
        assert_eq!(codes[..8], [Code::Aborted; 8], "{atomicity:?}");
        assert_eq!(codes[8], Code::AlreadyExists, "{atomicity:?}");
        assert_eq!(everything(&mut controller).await, before, "{atomicity:?}");
        // And packets see what they saw before.
        let sent = frame(1, 0x88b5, b"x");
        assert_eq!(controller.write_one(delete(acl(5))).await, Code::Ok);
        rig.port1.send(&sent);
        assert_eq!(rig.port2.receive(PATIENCE).unwrap()[6..12], [0, 0, 0, 0, 0, 1]);
    }
}

/// What is undone needs the room that was taken meanwhile, so it goes back the way it came.
#[tokio::test]
async fn a_full_table_is_whole_again_after_a_batch_that_fails() {
    let route = |byte: u8| entry("route", vec![(1, lpm(&[byte, 0, 0, 0, 0, 0], 8))], action("set_src", &[b"\x07"]));
    for atomicity in BOTH {
        let (_rig, mut controller) = rig().await;
        assert_eq!(controller.write((1..=4).map(|n| insert(route(n))).collect()).await, [Code::Ok; 4]);
        assert_eq!(controller.write_one(insert(route(5))).await, Code::ResourceExhausted);
        let before = everything(&mut controller).await;
        let taken = (1..=4).map(|n| delete(route(n)));
        let given = (5..=8).map(|n| insert(route(n)));
        let updates: Vec<_> = taken.chain(given).chain([insert(route(5))]).collect();
        let codes = write(&mut controller, atomicity, updates).await;
        assert_eq!((&codes[..8], codes[8]), (&[Code::Aborted; 8][..], Code::AlreadyExists), "{atomicity:?}");
        assert_eq!(everything(&mut controller).await, before, "{atomicity:?}");
    }
}

#[tokio::test]
async fn a_rollback_takes_every_kind_of_entity() {
    let (_rig, mut controller) = rig().await;
    let before = everything(&mut controller).await;
    let data = Some(v1::CounterData { byte_count: 9, packet_count: 9 });
    // Without an index, all cells.
    let frames = v1::CounterEntry { counter_id: counter_id("frames"), index: None, data };
    let entry = Some(wire_entry(1, 2));
    let updates = vec![
        update(Type::Modify, Entity::CounterEntry(frames)),
        limit(2, 25),
        limit(3, 25),
        update(Type::Modify, Entity::DirectCounterEntry(v1::DirectCounterEntry { table_entry: entry, data })),
        modify(metered(11)),
        delete(metered(11)),
        insert(metered(12)),
        delete(wire_entry(9, 1)),
    ];
    let codes = write(&mut controller, Atomicity::RollbackOnError, updates).await;
    assert_eq!((codes[0], codes[7]), (Code::Aborted, Code::NotFound));
    assert_eq!(everything(&mut controller).await, before);
}

#[tokio::test]
async fn what_cannot_be_seen_at_once_is_unimplemented_and_nothing_is_done() {
    let (_rig, mut controller) = rig().await;
    let before = everything(&mut controller).await;
    let meter = limit(2, 25);
    for odd in [meter, modify(metered(11))] {
        let updates = vec![insert(wire_entry(2, 1)), odd];
        let codes = write(&mut controller, Atomicity::DataplaneAtomic, updates).await;
        assert_eq!(codes, [Code::Unimplemented]);
        assert_eq!(everything(&mut controller).await, before);
    }
}
