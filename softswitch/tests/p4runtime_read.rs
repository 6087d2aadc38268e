//! Read: symmetry with Write, wildcards and filters, counters and meters, errors.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::update::Type;
use p4runtime_support::*;
use prost::Message;
use tonic::Code;

fn all(table: &str) -> v1::TableEntry {
    v1::TableEntry { table_id: table_id(table), ..Default::default() }
}

fn acl(priority: i32, fields: Vec<(u32, v1::field_match::FieldMatchType)>) -> v1::TableEntry {
    v1::TableEntry { priority, ..entry("acl", fields, action("punt", &[b"\x05"])) }
}

fn sorted(mut entries: Vec<v1::TableEntry>) -> Vec<v1::TableEntry> {
    entries.sort_by_key(|e| e.encode_to_vec());
    entries
}

async fn counters(controller: &mut Controller, filter: Entity) -> Vec<v1::CounterEntry> {
    let entities = controller.read(vec![v1::Entity { entity: Some(filter) }]).await.unwrap();
    let one = |e| match e {
        Entity::CounterEntry(counter) => counter,
        other => panic!("not a counter: {other:?}"),
    };
    entities.into_iter().map(one).collect()
}

#[tokio::test]
async fn what_is_read_is_what_was_written_for_every_match_kind() {
    let (_rig, mut controller) = Rig::loaded().await;
    let written = vec![
        wire_entry(1, 2),
        entry("route", vec![(1, lpm(b"\x02\0\0\0\0\0", 8))], action("set_src", &[b"\x01\x02"])),
        entry("route", vec![], action("drop", &[])),
        acl(1, vec![]),
        acl(2, vec![(1, ternary(b"\x01", b"\xff\x01"))]),
        acl(3, vec![(2, range(b"\0", b"\x05"))]),
        acl(4, vec![(3, optional(b"\0"))]),
        acl(4, vec![(1, ternary(b"\x10", b"\x10")), (2, range(b"\x01", b"\xff\xff")), (3, optional(b"\x01\xff"))]),
        v1::TableEntry { metadata: b"mine".to_vec(), ..wire_entry(2, 1) },
    ];
    let codes = controller.write(written.iter().cloned().map(insert).collect()).await;
    assert!(codes.iter().all(|c| *c == Code::Ok), "{codes:?}");
    let mut read = Vec::new();
    for table in ["wire", "route", "acl"] {
        read.extend(controller.entries(all(table)).await);
    }
    assert_eq!(sorted(read), sorted(written.clone()));
    // All tables at once: the constant entries come too.
    let everything = controller.entries(v1::TableEntry::default()).await;
    assert_eq!(everything.len(), written.len() + 2);
    assert_eq!(everything.iter().filter(|e| e.is_const).count(), 2);
}

#[tokio::test]
async fn each_filter_selects_what_it_names() {
    let (_rig, mut controller) = Rig::loaded().await;
    let entries = [
        acl(1, vec![]),
        acl(2, vec![(3, optional(b"\x01"))]),
        v1::TableEntry { action: action("drop", &[]), ..acl(2, vec![(3, optional(b"\x02"))]) },
        v1::TableEntry { metadata: b"m".to_vec(), ..acl(7, vec![]) },
    ];
    controller.write(entries.iter().cloned().map(insert).collect()).await;
    let by_key = v1::TableEntry { action: None, ..entries[1].clone() };
    assert_eq!(controller.entries(by_key).await, [entries[1].clone()]);
    let by_priority = v1::TableEntry { priority: 2, ..all("acl") };
    assert_eq!(controller.entries(by_priority).await.len(), 2);
    let by_action = v1::TableEntry { action: action("drop", &[]), ..all("acl") };
    assert_eq!(controller.entries(by_action).await, [entries[2].clone()]);
    let by_metadata = v1::TableEntry { metadata: b"m".to_vec(), ..all("acl") };
    assert_eq!(controller.entries(by_metadata).await, [entries[3].clone()]);
    let nobody = v1::TableEntry { priority: 3, ..by_key_of(&entries[1]) };
    assert!(controller.entries(nobody).await.is_empty());
}

fn by_key_of(entry: &v1::TableEntry) -> v1::TableEntry {
    v1::TableEntry { action: None, ..entry.clone() }
}

#[tokio::test]
async fn metadata_follows_its_entry() {
    let (_rig, mut controller) = Rig::loaded().await;
    let with = |metadata: &[u8]| v1::TableEntry { metadata: metadata.to_vec(), ..wire_entry(1, 2) };
    controller.write_one(insert(with(b"first"))).await;
    assert_eq!(controller.entries(all("wire")).await, [with(b"first")]);
    controller.write_one(modify(with(b"second"))).await;
    assert_eq!(controller.entries(all("wire")).await, [with(b"second")]);
    controller.write_one(delete(with(b""))).await;
    controller.write_one(insert(with(b""))).await;
    assert_eq!(controller.entries(all("wire")).await, [with(b"")]);
    assert_eq!(controller.write_one(modify(with(&[0; 5000]))).await, Code::ResourceExhausted);
}

#[tokio::test]
async fn direct_counters_count_and_can_be_set() {
    let (rig, mut controller) = Rig::loaded().await;
    controller.write_one(insert(wire_entry(1, 2))).await;
    let frame = frame(1, 0x88b5, b"sixteen bytes...");
    for _ in 0..3 {
        rig.port1.send(&frame);
        assert!(rig.port2.receive(PATIENCE).is_some());
    }
    let asked = v1::TableEntry { counter_data: Some(Default::default()), ..all("wire") };
    let data = |packets: i64| v1::CounterData { packet_count: packets, byte_count: packets * frame.len() as i64 };
    assert_eq!(controller.entries(asked.clone()).await[0].counter_data, Some(data(3)));
    assert_eq!(controller.entries(all("wire")).await[0].counter_data, None, "only when asked");

    let direct = |data| v1::DirectCounterEntry { table_entry: Some(by_key_of(&wire_entry(1, 2))), data };
    let read =
        controller.read(vec![v1::Entity { entity: Some(Entity::DirectCounterEntry(direct(None))) }]).await.unwrap();
    assert_eq!(read, [Entity::DirectCounterEntry(direct(Some(data(3))))]);
    let set = update(Type::Modify, Entity::DirectCounterEntry(direct(Some(data(7)))));
    assert_eq!(controller.write_one(set).await, Code::Ok);
    assert_eq!(controller.entries(asked.clone()).await[0].counter_data, Some(data(7)));
    // A modified entry keeps its count unless the write says otherwise (§9.1.7).
    controller.write_one(modify(wire_entry(1, 1))).await;
    assert_eq!(controller.entries(asked.clone()).await[0].counter_data, Some(data(7)));
    controller.write_one(modify(v1::TableEntry { counter_data: Some(data(1)), ..wire_entry(1, 1) })).await;
    assert_eq!(controller.entries(asked.clone()).await[0].counter_data, Some(data(1)));
    // Without an action, only the counter changes.
    let only_counter = v1::TableEntry { counter_data: Some(data(0)), action: None, ..wire_entry(1, 1) };
    assert_eq!(controller.write_one(modify(only_counter)).await, Code::Ok);
    let left = controller.entries(asked).await;
    assert_eq!(left, [v1::TableEntry { counter_data: Some(data(0)), ..wire_entry(1, 1) }]);
}

#[tokio::test]
async fn direct_meters_go_with_their_entry() {
    let (_rig, mut controller) = Rig::loaded().await;
    let config = v1::MeterConfig { cir: 10, cburst: 20, pir: 30, pburst: 40, eburst: 0 };
    let metered = entry("metered", vec![(1, exact(b"\x01"))], action("mark", &[]));
    let with = v1::TableEntry { meter_config: Some(config), ..metered.clone() };
    let asked = v1::TableEntry { meter_config: Some(Default::default()), ..all("metered") };
    assert_eq!(controller.write_one(insert(with.clone())).await, Code::Ok);
    assert_eq!(controller.entries(asked.clone()).await, std::slice::from_ref(&with));
    assert_eq!(controller.entries(all("metered")).await, std::slice::from_ref(&metered));
    // An unset configuration in MODIFY resets the meter (§9.1.7).
    assert_eq!(controller.write_one(modify(metered.clone())).await, Code::Ok);
    assert_eq!(controller.entries(asked.clone()).await, std::slice::from_ref(&metered));
    let direct =
        v1::DirectMeterEntry { table_entry: Some(by_key_of(&metered)), config: Some(config), counter_data: None };
    assert_eq!(controller.write_one(update(Type::Modify, Entity::DirectMeterEntry(direct.clone()))).await, Code::Ok);
    let filter = Entity::DirectMeterEntry(v1::DirectMeterEntry::default());
    let read = controller.read(vec![v1::Entity { entity: Some(filter) }]).await.unwrap();
    assert_eq!(read, [Entity::DirectMeterEntry(direct)]);
    let stranger = v1::TableEntry { meter_config: Some(config), ..wire_entry(1, 2) };
    assert_eq!(controller.write_one(insert(stranger)).await, Code::InvalidArgument);
}

#[tokio::test]
async fn indirect_counters_are_read_one_or_all() {
    let (rig, mut controller) = Rig::loaded().await;
    controller.write_one(insert(wire_entry(1, 2))).await;
    let ipv6 = frame(1, 0x86dd, b"payload");
    rig.port1.send(&ipv6);
    assert!(rig.port2.receive(PATIENCE).is_some());
    let at = |index: Option<i64>| v1::CounterEntry {
        counter_id: counter_id("frames"),
        index: index.map(|index| v1::Index { index }),
        data: None,
    };
    let one = counters(&mut controller, Entity::CounterEntry(at(Some(2)))).await;
    let data = v1::CounterData { packet_count: 1, byte_count: ipv6.len() as i64 };
    assert_eq!(one, [v1::CounterEntry { data: Some(data), ..at(Some(2)) }]);
    assert_eq!(counters(&mut controller, Entity::CounterEntry(at(None))).await.len(), 16);
    assert_eq!(counters(&mut controller, Entity::CounterEntry(Default::default())).await.len(), 16);
    // A write without an index sets every cell.
    let set = v1::CounterEntry { data: Some(v1::CounterData { packet_count: 9, byte_count: 8 }), ..at(None) };
    assert_eq!(controller.write_one(update(Type::Modify, Entity::CounterEntry(set))).await, Code::Ok);
    let all = counters(&mut controller, Entity::CounterEntry(at(None))).await;
    assert!(all.iter().all(|c| c.data == Some(v1::CounterData { packet_count: 9, byte_count: 8 })));
}

#[tokio::test]
async fn a_meter_reads_as_it_was_written_and_unset_when_it_was_not() {
    let (_rig, mut controller) = Rig::loaded().await;
    let at = |index, config| v1::MeterEntry {
        meter_id: meter_id("limit"),
        index: Some(v1::Index { index }),
        config,
        counter_data: None,
    };
    let config = v1::MeterConfig { cir: 1, cburst: 2, pir: 3, pburst: 4, eburst: 0 };
    controller.write_one(update(Type::Modify, Entity::MeterEntry(at(2, Some(config))))).await;
    let filter = Entity::MeterEntry(v1::MeterEntry { meter_id: meter_id("limit"), ..Default::default() });
    let read = controller.read(vec![v1::Entity { entity: Some(filter) }]).await.unwrap();
    let expected = [at(0, None), at(1, None), at(2, Some(config)), at(3, None)].map(Entity::MeterEntry);
    assert_eq!(read, expected);
}

#[tokio::test]
async fn a_read_of_everything_works_and_of_what_cannot_be_there_finds_nothing() {
    let (_rig, mut controller) = Rig::loaded().await;
    let wildcards = vec![
        Entity::TableEntry(Default::default()),
        Entity::CounterEntry(Default::default()),
        Entity::MeterEntry(Default::default()),
        Entity::DirectCounterEntry(Default::default()),
        Entity::DirectMeterEntry(Default::default()),
        Entity::ActionProfileMember(Default::default()),
        Entity::ActionProfileGroup(Default::default()),
        Entity::PacketReplicationEngineEntry(Default::default()),
        Entity::ValueSetEntry(Default::default()),
        Entity::RegisterEntry(Default::default()),
        Entity::DigestEntry(Default::default()),
        Entity::ExternEntry(Default::default()),
    ];
    let entities = wildcards.into_iter().map(|entity| v1::Entity { entity: Some(entity) }).collect();
    // Two constant entries, 16 counters, 4 meters.
    assert_eq!(controller.read(entities).await.unwrap().len(), 2 + 16 + 4);
}

#[tokio::test]
async fn a_read_returns_what_it_can_and_an_error_for_each_request_that_failed() {
    let (_rig, mut controller) = Rig::loaded().await;
    controller.write_one(insert(wire_entry(1, 2))).await;
    let request = v1::ReadRequest {
        device_id: DEVICE,
        entities: vec![
            v1::Entity { entity: Some(Entity::TableEntry(all("wire"))) },
            v1::Entity { entity: Some(Entity::TableEntry(v1::TableEntry { table_id: 42, ..Default::default() })) },
            v1::Entity { entity: None },
        ],
        ..Default::default()
    };
    let mut stream = controller.client.read(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.entities, [v1::Entity { entity: Some(Entity::TableEntry(wire_entry(1, 2))) }]);
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    let rich = tonic_types::pb::Status::decode(status.details()).unwrap();
    let code = |d: &prost_types::Any| v1::Error::decode(d.value.as_slice()).unwrap().canonical_code;
    let invalid = Code::InvalidArgument as i32;
    assert_eq!(rich.details.iter().map(code).collect::<Vec<_>>(), [0, invalid, invalid]);
}

#[tokio::test]
async fn a_large_table_comes_in_several_messages_and_whole() {
    let (_rig, mut controller) = Rig::loaded().await;
    let port = |i: u16| entry("wire", vec![(1, exact(&i.to_be_bytes()))], action("send", &[b"\x01"]));
    // Bit<9> has 512 values; the table holds 1024.
    let codes = controller.write((0..512).map(|i| insert(port(i))).collect()).await;
    assert!(codes.iter().all(|c| *c == Code::Ok));
    let priorities: Vec<_> = (0..60u8).map(|i| insert(acl(i32::from(i) + 1, vec![]))).collect();
    controller.write(priorities).await;
    assert_eq!(controller.entries(v1::TableEntry::default()).await.len(), 512 + 60 + 2);
}

#[tokio::test]
async fn reading_needs_neither_a_stream_nor_an_election_id() {
    let (rig, mut controller) = Rig::loaded().await;
    controller.write_one(insert(wire_entry(1, 2))).await;
    let mut reader = rig.connect().await;
    assert_eq!(reader.entries(all("wire")).await.len(), 1);
    let wrong = v1::ReadRequest { device_id: 99, ..Default::default() };
    assert_eq!(reader.client.read(wrong).await.unwrap_err().code(), Code::NotFound);
}
