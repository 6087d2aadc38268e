//! Write: table entries of every match kind, what is refused and with which code, direct and indirect resources.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::update::Type;
use p4runtime_support::*;
use tonic::Code;

fn acl(priority: i32, fields: Vec<(u32, v1::field_match::FieldMatchType)>) -> v1::TableEntry {
    v1::TableEntry { priority, ..entry("acl", fields, action("drop", &[])) }
}

fn route(fields: Vec<(u32, v1::field_match::FieldMatchType)>) -> v1::TableEntry {
    entry("route", fields, action("set_src", &[b"\x02"]))
}

#[tokio::test]
async fn entries_live_by_insert_modify_and_delete() {
    let (rig, mut controller) = Rig::loaded().await;
    let frame = frame(1, 0x88b5, b"x");
    assert_eq!(controller.write_one(modify(wire_entry(1, 2))).await, Code::NotFound);
    assert_eq!(controller.write_one(delete(wire_entry(1, 2))).await, Code::NotFound);
    assert_eq!(controller.write_one(insert(wire_entry(1, 2))).await, Code::Ok);
    assert_eq!(controller.write_one(insert(wire_entry(1, 1))).await, Code::AlreadyExists);
    rig.port1.send(&frame);
    assert_eq!(rig.port2.receive(PATIENCE).as_ref(), Some(&frame));
    assert_eq!(controller.write_one(modify(wire_entry(1, 1))).await, Code::Ok);
    rig.port1.send(&frame);
    assert_eq!(rig.port1.receive(PATIENCE).as_ref(), Some(&frame));
    // A delete looks at the key only, however nonsensical the rest (§9.1).
    let nonsense = v1::TableEntry { action: action("drop", &[b"\xff"]), idle_timeout_ns: 5, ..wire_entry(1, 9) };
    assert_eq!(controller.write_one(delete(nonsense)).await, Code::Ok);
    rig.port1.send(&frame);
    assert_eq!(rig.port1.receive(MOMENT), None);
    assert_eq!(rig.port2.receive(MOMENT), None);
}

#[tokio::test]
async fn each_update_of_a_batch_has_its_own_result_and_the_others_are_done() {
    let (_rig, mut controller) = Rig::loaded().await;
    let codes = controller
        .write(vec![
            insert(wire_entry(1, 2)),
            insert(wire_entry(1, 2)),
            insert(wire_entry(2, 1)),
            delete(wire_entry(3, 1)),
            insert(entry("wire", vec![(1, exact(b""))], action("send", &[b"\x01"]))),
        ])
        .await;
    assert_eq!(codes, [Code::Ok, Code::AlreadyExists, Code::Ok, Code::NotFound, Code::OutOfRange]);
    let filter = v1::TableEntry { table_id: table_id("wire"), ..Default::default() };
    assert_eq!(controller.entries(filter).await.len(), 2);
}

#[tokio::test]
async fn malformed_match_fields_are_refused() {
    let (_rig, mut controller) = Rig::loaded().await;
    let send = || action("send", &[b"\x02"]);
    for (what, wrong, code) in [
        ("missing exact field", entry("wire", vec![], send()), Code::InvalidArgument),
        ("unknown field", entry("wire", vec![(9, exact(b"\x01"))], send()), Code::InvalidArgument),
        (
            "repeated field",
            entry("wire", vec![(1, exact(b"\x01")), (1, exact(b"\x01"))], send()),
            Code::InvalidArgument,
        ),
        ("wrong kind", entry("wire", vec![(1, ternary(b"\x01", b"\x01"))], send()), Code::InvalidArgument),
        ("too wide", entry("wire", vec![(1, exact(b"\x02\x00"))], send()), Code::OutOfRange),
        ("empty value", entry("wire", vec![(1, exact(b""))], send()), Code::OutOfRange),
        ("priority where there is none", v1::TableEntry { priority: 1, ..wire_entry(1, 2) }, Code::InvalidArgument),
        ("prefix of zero", route(vec![(1, lpm(b"\0", 0))]), Code::InvalidArgument),
        ("prefix too long", route(vec![(1, lpm(b"\x01", 49))]), Code::InvalidArgument),
        ("bits beyond the prefix", route(vec![(1, lpm(b"\x01", 47))]), Code::InvalidArgument),
        ("no priority", acl(0, vec![]), Code::InvalidArgument),
        ("negative priority", acl(-1, vec![]), Code::InvalidArgument),
        ("mask of zero", acl(1, vec![(1, ternary(b"\0", b"\0"))]), Code::InvalidArgument),
        ("bits outside the mask", acl(1, vec![(1, ternary(b"\x03", b"\x01"))]), Code::InvalidArgument),
        ("empty range", acl(1, vec![(2, range(b"\x05", b"\x04"))]), Code::InvalidArgument),
        ("range of everything", acl(1, vec![(2, range(b"\0", b"\xff\xff"))]), Code::InvalidArgument),
        ("field without value", acl(1, vec![(3, optional(b""))]), Code::OutOfRange),
    ] {
        assert_eq!(controller.write_one(insert(wrong)).await, code, "{what}");
    }
    let unset =
        v1::TableEntry { r#match: vec![v1::FieldMatch { field_id: 1, field_match_type: None }], ..wire_entry(1, 2) };
    assert_eq!(controller.write_one(insert(unset)).await, Code::InvalidArgument);
    assert!(controller.entries(v1::TableEntry { table_id: table_id("acl"), ..Default::default() }).await.is_empty());
}

#[tokio::test]
async fn malformed_actions_are_refused() {
    let (_rig, mut controller) = Rig::loaded().await;
    let with = |action| entry("wire", vec![(1, exact(b"\x01"))], action);
    let extra = {
        let mut action = action("send", &[b"\x02"]);
        if let Some(v1::table_action::Type::Action(action)) = action.as_mut().and_then(|a| a.r#type.as_mut()) {
            action.params.push(v1::action::Param { param_id: 7, value: b"\x01".to_vec() });
        }
        action
    };
    let member = Some(v1::TableAction { r#type: Some(v1::table_action::Type::ActionProfileMemberId(1)) });
    for (what, wrong, code) in [
        ("no action", with(None), Code::InvalidArgument),
        ("empty action", with(Some(v1::TableAction::default())), Code::InvalidArgument),
        ("another table's action", with(action("set_src", &[b"\x01"])), Code::InvalidArgument),
        ("an action for the default only", with(action("wire_miss", &[])), Code::PermissionDenied),
        ("missing parameter", with(action("send", &[])), Code::InvalidArgument),
        ("extra parameter", with(extra), Code::InvalidArgument),
        ("parameter too wide", with(action("send", &[b"\x02\x00"])), Code::OutOfRange),
        ("member of an action profile", with(member), Code::InvalidArgument),
        ("is_const", v1::TableEntry { is_const: true, ..wire_entry(1, 2) }, Code::InvalidArgument),
        ("idle timeout", v1::TableEntry { idle_timeout_ns: 1, ..wire_entry(1, 2) }, Code::InvalidArgument),
        ("unknown table", v1::TableEntry { table_id: 42, ..wire_entry(1, 2) }, Code::InvalidArgument),
    ] {
        assert_eq!(controller.write_one(insert(wrong)).await, code, "{what}");
    }
    let unspecified = update(Type::Unspecified, Entity::TableEntry(wire_entry(1, 2)));
    assert_eq!(controller.write_one(unspecified).await, Code::InvalidArgument);
    assert_eq!(controller.write_one(v1::Update::default()).await, Code::InvalidArgument);
}

#[tokio::test]
async fn a_full_table_says_so_and_takes_entries_again_when_there_is_room() {
    let (_rig, mut controller) = Rig::loaded().await;
    let entries: Vec<_> = (0..5u8).map(|i| route(vec![(1, lpm(&[i + 1, 0], 40))])).collect();
    let codes = controller.write(entries.iter().cloned().map(insert).collect()).await;
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::ResourceExhausted]);
    assert_eq!(controller.write_one(delete(entries[0].clone())).await, Code::Ok);
    assert_eq!(controller.write_one(insert(entries[4].clone())).await, Code::Ok);
}

#[tokio::test]
async fn entries_of_a_constant_table_cannot_be_changed() {
    let (_rig, mut controller) = Rig::loaded().await;
    let classes = |ether_type: &[u8]| entry("classes", vec![(1, exact(ether_type))], action("classify", &[b"\x03"]));
    assert_eq!(controller.write_one(insert(classes(b"\x88\xb5"))).await, Code::PermissionDenied);
    assert_eq!(controller.write_one(modify(classes(b"\x08\x00"))).await, Code::PermissionDenied);
    assert_eq!(controller.write_one(delete(classes(b"\x08\x00"))).await, Code::PermissionDenied);
}

#[tokio::test]
async fn a_default_entry_can_be_modified_and_reset_and_nothing_else() {
    let (rig, mut controller) = Rig::loaded().await;
    let default = |table: &str, action| v1::TableEntry { is_default_action: true, ..entry(table, vec![], action) };
    let set = || default("route", action("set_src", &[b"\x0a\x0b\x0c\x0d\x0e\x0f"]));
    assert_eq!(controller.write_one(insert(set())).await, Code::InvalidArgument);
    assert_eq!(controller.write_one(delete(set())).await, Code::InvalidArgument);
    let with_match = v1::TableEntry { r#match: route(vec![(1, lpm(b"\x01", 48))]).r#match, ..set() };
    assert_eq!(controller.write_one(modify(with_match)).await, Code::InvalidArgument);
    assert_eq!(controller.write_one(modify(default("wire", action("wire_miss", &[])))).await, Code::PermissionDenied);
    assert_eq!(
        controller.write_one(modify(default("wire", action("send", &[b"\x01"])))).await,
        Code::PermissionDenied,
        "an action for entries only"
    );

    assert_eq!(controller.write_one(modify(set())).await, Code::Ok);
    let filter = || v1::TableEntry { table_id: table_id("route"), is_default_action: true, ..Default::default() };
    assert_eq!(controller.entries(filter()).await, [set()]);
    controller.write_one(insert(wire_entry(1, 2))).await;
    let sent = frame(1, 0x88b5, b"x");
    rig.port1.send(&sent);
    assert_eq!(rig.port2.receive(PATIENCE).unwrap()[6..12], [0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f]);

    assert_eq!(controller.write_one(modify(default("route", None))).await, Code::Ok);
    assert_eq!(controller.entries(filter()).await, [default("route", action("NoAction", &[]))]);
    rig.port1.send(&sent);
    assert_eq!(rig.port2.receive(PATIENCE), Some(sent));
}

#[tokio::test]
async fn padded_values_are_accepted_and_read_back_in_their_shortest_form() {
    let (_rig, mut controller) = Rig::loaded().await;
    let padded = entry("wire", vec![(1, exact(b"\0\0\0\x01"))], action("send", &[b"\0\0\0\0\x02"]));
    assert_eq!(controller.write_one(insert(padded)).await, Code::Ok);
    let filter = v1::TableEntry { table_id: table_id("wire"), ..Default::default() };
    assert_eq!(controller.entries(filter).await, [wire_entry(1, 2)]);
    assert_eq!(controller.write_one(insert(wire_entry(1, 2))).await, Code::AlreadyExists);
}

#[tokio::test]
async fn higher_priorities_win() {
    let (rig, mut controller) = Rig::loaded().await;
    let pass = v1::TableEntry {
        priority: 20,
        action: action("NoAction", &[]),
        ..acl(0, vec![(2, range(b"\x88\xb5", b"\x88\xb6"))])
    };
    let codes = controller.write(vec![insert(wire_entry(1, 2)), insert(acl(10, vec![])), insert(pass)]).await;
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::Ok]);
    rig.port1.send(&frame(1, 0x1234, b"dropped"));
    let passes = frame(1, 0x88b6, b"passes");
    rig.port1.send(&passes);
    assert_eq!(rig.port2.receive(PATIENCE), Some(passes));
}

#[tokio::test]
async fn only_modify_is_allowed_on_counters_and_meters_and_indices_are_checked() {
    let (_rig, mut controller) = Rig::loaded().await;
    let data = Some(v1::CounterData { byte_count: 3, packet_count: 2 });
    let counter = |index| v1::CounterEntry { counter_id: counter_id("frames"), index: Some(v1::Index { index }), data };
    let config = v1::MeterConfig { cir: 1, cburst: 2, pir: 3, pburst: 4, eburst: 0 };
    let meter = |index, config| v1::MeterEntry {
        meter_id: meter_id("limit"),
        index: Some(v1::Index { index }),
        config: Some(config),
        counter_data: None,
    };
    for (what, update, code) in [
        ("insert", update(Type::Insert, Entity::CounterEntry(counter(0))), Code::InvalidArgument),
        ("delete", update(Type::Delete, Entity::MeterEntry(meter(0, config))), Code::InvalidArgument),
        ("good", update(Type::Modify, Entity::CounterEntry(counter(15))), Code::Ok),
        ("too high", update(Type::Modify, Entity::CounterEntry(counter(16))), Code::OutOfRange),
        ("negative", update(Type::Modify, Entity::CounterEntry(counter(-1))), Code::InvalidArgument),
        ("good meter", update(Type::Modify, Entity::MeterEntry(meter(3, config))), Code::Ok),
        ("meter too high", update(Type::Modify, Entity::MeterEntry(meter(4, config))), Code::OutOfRange),
        (
            "two rates have no eburst",
            update(Type::Modify, Entity::MeterEntry(meter(0, v1::MeterConfig { eburst: 1, ..config }))),
            Code::InvalidArgument,
        ),
        (
            "negative rate",
            update(Type::Modify, Entity::MeterEntry(meter(0, v1::MeterConfig { cir: -1, ..config }))),
            Code::InvalidArgument,
        ),
        (
            "counters per colour",
            update(
                Type::Modify,
                Entity::MeterEntry(v1::MeterEntry { counter_data: Some(Default::default()), ..meter(0, config) }),
            ),
            Code::Ok,
        ),
    ] {
        assert_eq!(controller.write_one(update).await, code, "{what}");
    }
}

/// P4Runtime 1.4 §9.4: the type in the P4Info says how a meter marks, and which fields of its configuration mean anything.
#[tokio::test]
async fn a_meter_with_one_rate_takes_its_own_fields_and_reads_them_back() {
    use dmux_p4rt::p4::config::v1::meter_spec::Type as MeterType;
    let (_rig, mut controller) = Rig::loaded().await;
    let one = v1::MeterConfig { cir: 5, cburst: 20, pir: 5, pburst: 20, eburst: 0 };
    let excess = v1::MeterConfig { eburst: 40, ..one };
    let [other_rate, other_burst] = [v1::MeterConfig { pir: 6, ..one }, v1::MeterConfig { pburst: 21, ..one }];
    let negative = v1::MeterConfig { eburst: -1, ..one };
    let ([ok, wrong], mut cookie) = ([Code::Ok, Code::InvalidArgument], 1);
    for (meter_type, codes) in [
        (MeterType::TwoRateThreeColor, [ok, wrong, ok, ok, wrong]),
        (MeterType::SingleRateThreeColor, [ok, ok, wrong, wrong, wrong]),
        (MeterType::SingleRateTwoColor, [ok, wrong, wrong, wrong, wrong]),
    ] {
        cookie += 1;
        let mut config = portal(cookie);
        for m in config.p4info.iter_mut().flat_map(|i| &mut i.meters) {
            m.spec.as_mut().unwrap().r#type = meter_type.into();
        }
        controller.commit(config).await.unwrap();
        for (config, code) in [one, excess, other_rate, other_burst, negative].into_iter().zip(codes) {
            let meter = v1::MeterEntry {
                meter_id: meter_id("limit"),
                index: Some(v1::Index { index: 2 }),
                config: Some(config),
                counter_data: None,
            };
            let update = update(Type::Modify, Entity::MeterEntry(meter));
            assert_eq!(controller.write_one(update).await, code, "{meter_type:?} {config:?}");
            if code == Code::Ok {
                let read = controller.read(vec![v1::Entity { entity: Some(Entity::MeterEntry(meter)) }]);
                assert_eq!(read.await.unwrap(), [Entity::MeterEntry(meter)], "{meter_type:?}");
            }
        }
    }
}

#[tokio::test]
async fn entities_that_are_not_supported_say_so() {
    let (_rig, mut controller) = Rig::loaded().await;
    let codes = controller.write(vec![update(Type::Insert, Entity::ExternEntry(Default::default()))]).await;
    assert_eq!(codes, [Code::Unimplemented]);
}

#[tokio::test]
async fn a_write_names_device_role_and_primary_in_that_order() {
    let (_rig, mut controller) = Rig::loaded().await;
    let request = |device_id, role: &str, low| v1::WriteRequest {
        device_id,
        role: role.to_owned(),
        election_id: Some(v1::Uint128 { high: 0, low }),
        ..Default::default()
    };
    for (request, code) in [
        (request(99, "sdn", 9), Code::NotFound),
        (request(DEVICE, "sdn", 9), Code::NotFound),
        (request(DEVICE, "", 9), Code::PermissionDenied),
        (v1::WriteRequest { device_id: DEVICE, ..Default::default() }, Code::PermissionDenied),
    ] {
        assert_eq!(controller.client.write(request).await.unwrap_err().code(), code);
    }
    assert!(controller.client.write(request(DEVICE, "", 1)).await.is_ok());
}

#[tokio::test]
async fn a_meter_that_is_configured_drops_and_one_that_is_reset_does_not() {
    let (rig, mut controller) = Rig::loaded().await;
    // One packet a second at most, a burst of two.
    let config = v1::MeterConfig { cir: 1, cburst: 2, pir: 1, pburst: 2, eburst: 0 };
    let limit = |config| {
        update(
            Type::Modify,
            Entity::MeterEntry(v1::MeterEntry { meter_id: meter_id("limit"), config, ..Default::default() }),
        )
    };
    controller.write_one(insert(wire_entry(1, 2))).await;
    assert_eq!(controller.write_one(limit(Some(config))).await, Code::Ok);
    let frame = frame(1, 0x88b5, b"x");
    let passed = |rig: &Rig| {
        for _ in 0..50 {
            assert!(rig.port1.send(&frame));
        }
        std::iter::from_fn(|| rig.port2.receive(MOMENT)).count()
    };
    let limited = passed(&rig);
    assert!((1..20).contains(&limited), "{limited} of 50 passed");
    assert_eq!(controller.write_one(limit(None)).await, Code::Ok);
    assert_eq!(passed(&rig), 50);
}
