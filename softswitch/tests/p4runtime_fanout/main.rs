//! Action profiles, selectors, idle timeouts and meters' colours, through the service.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod one_shot;
#[path = "../p4runtime_support/mod.rs"]
mod p4runtime_support;

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::action_profile_group::Member;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::table_action::Type as Named;
use dmux_p4rt::p4::v1::update::Type;
use dmux_p4rt::p4::v1::{action_profile_action, action_profile_group};
use dmux_p4rt::{P4Info, RoleConfig};
use dmux_softswitch::MemoryPort;
use p4runtime_support::*;
use std::time::Duration;
use tonic::Code;

const JSON: &[u8] = include_bytes!("../p4runtime_programs/fanout.json");
const P4INFO: &str = include_str!("../p4runtime_programs/fanout.p4info.txtpb");

fn fanout() -> info::P4Info {
    P4Info::from_text(P4INFO).unwrap().raw().clone()
}

/// The id of anything in the P4Info.
fn id(alias: &str) -> u32 {
    let p = fanout();
    let mut all = (p.tables.iter().map(|x| x.preamble.as_ref()))
        .chain(p.actions.iter().map(|x| x.preamble.as_ref()))
        .chain(p.action_profiles.iter().map(|x| x.preamble.as_ref()))
        .chain(p.meters.iter().map(|x| x.preamble.as_ref()));
    all.find_map(|p| p.filter(|p| p.alias == alias)).unwrap_or_else(|| panic!("no {alias}")).id
}

/// A rig that runs the program, with its primary.
async fn start() -> (Rig, Controller) {
    let p4info = Some(fanout());
    let config = v1::ForwardingPipelineConfig { p4info, p4_device_config: JSON.to_vec(), ..Default::default() };
    Rig::loaded_with(config).await
}

fn send_to(port: u8) -> v1::Action {
    let param = v1::action::Param { param_id: 1, value: vec![port] };
    v1::Action { action_id: id("send"), params: vec![param] }
}

fn member_of(profile: &str, member_id: u32, action: Option<v1::Action>) -> v1::ActionProfileMember {
    v1::ActionProfileMember { action_profile_id: id(profile), member_id, action }
}

fn member(kind: Type, member_id: u32, port: u8) -> v1::Update {
    update(kind, Entity::ActionProfileMember(member_of("paths", member_id, Some(send_to(port)))))
}

fn group_of(group_id: u32, members: &[(u32, i32)]) -> v1::ActionProfileGroup {
    let member = |&(member_id, weight): &(u32, i32)| Member { member_id, weight, watch_kind: None };
    let members = members.iter().map(member).collect();
    v1::ActionProfileGroup { action_profile_id: id("paths"), group_id, members, max_size: 0 }
}

fn group(kind: Type, group_id: u32, members: &[(u32, i32)]) -> v1::Update {
    update(kind, Entity::ActionProfileGroup(group_of(group_id, members)))
}

fn named(named: Named) -> Option<v1::TableAction> {
    Some(v1::TableAction { r#type: Some(named) })
}

/// An entry of `spread` for this destination.
fn spread(dst: u8, to: Named) -> v1::TableEntry {
    let m = v1::FieldMatch { field_id: 1, field_match_type: Some(exact(&[dst])) };
    v1::TableEntry { table_id: id("spread"), r#match: vec![m], action: named(to), ..Default::default() }
}

/// An entry of `flows` for this source.
fn flow(src: u8) -> v1::TableEntry {
    let m = v1::FieldMatch { field_id: 1, field_match_type: Some(exact(&[src])) };
    let action = v1::Action { action_id: id("note"), params: vec![] };
    v1::TableEntry {
        table_id: id("flows"),
        r#match: vec![m],
        action: named(Named::Action(action)),
        ..Default::default()
    }
}

async fn read(controller: &mut Controller, entity: Entity) -> Vec<Entity> {
    controller.read(vec![v1::Entity { entity: Some(entity) }]).await.unwrap()
}

fn ethernet(dst: u8, src: u64) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, 0, dst];
    frame.extend_from_slice(&src.to_be_bytes()[2..]);
    frame.extend_from_slice(&[0x08, 0, 1, 2, 3, 4, 5, 6]);
    frame
}

/// Which of the two ports a frame leaves at.
async fn leaves_at(rig: &Rig, frame: &[u8]) -> u8 {
    assert!(rig.port1.send(frame));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let took = |port: &MemoryPort| port.receive(Duration::from_millis(1)).is_some();
    loop {
        match (took(&rig.port1), took(&rig.port2)) {
            (true, _) => return 1,
            (_, true) => return 2,
            _ => assert!(tokio::time::Instant::now() < deadline, "the frame is lost"),
        }
        tokio::task::yield_now().await;
    }
}

/// CRC-16/ARC, which is BMv2's crc16.
fn crc16(data: &[u8]) -> u16 {
    data.iter()
        .fold(0, |crc, b| (0..8).fold(crc ^ u16::from(*b), |c, _| if c & 1 != 0 { c >> 1 ^ 0xa001 } else { c >> 1 }))
}

#[tokio::test]
async fn members_groups_and_entries_are_read_as_written_and_spread_frames() {
    let (rig, mut controller) = start().await;
    // One batch may build on itself: it is done in order.
    let codes = controller
        .write(vec![
            member(Type::Insert, 1, 1),
            member(Type::Insert, 2, 2),
            group(Type::Insert, 7, &[(2, 2), (1, 1)]),
            insert(spread(9, Named::ActionProfileGroupId(7))),
            insert(spread(8, Named::ActionProfileMemberId(2))),
        ])
        .await;
    assert_eq!(codes, [Code::Ok; 5]);
    let all = v1::ActionProfileMember::default();
    let members = [member_of("paths", 1, Some(send_to(1))), member_of("paths", 2, Some(send_to(2)))];
    let found = read(&mut controller, Entity::ActionProfileMember(all)).await;
    assert_eq!(found, members.clone().map(Entity::ActionProfileMember));
    let one = read(&mut controller, Entity::ActionProfileMember(member_of("paths", 2, None))).await;
    assert_eq!(one, [Entity::ActionProfileMember(members[1].clone())]);
    let of_hops = read(&mut controller, Entity::ActionProfileMember(member_of("hops", 0, None))).await;
    assert_eq!(of_hops, []);
    let groups = read(&mut controller, Entity::ActionProfileGroup(group_of(0, &[]))).await;
    assert_eq!(groups, [Entity::ActionProfileGroup(group_of(7, &[(2, 2), (1, 1)]))]);
    let all = v1::TableEntry { table_id: id("spread"), ..Default::default() };
    let mut entries = controller.entries(all).await;
    entries.sort_by_key(|e| e.r#match[0] == spread(9, Named::ActionProfileMemberId(0)).r#match[0]);
    let written = [spread(8, Named::ActionProfileMemberId(2)), spread(9, Named::ActionProfileGroupId(7))];
    assert_eq!(entries, written);

    // Handles: member 1 has 0, member 2 has 1, and 2 for its second weight.
    let ports = [1, 2, 2];
    for src in 0..20u64 {
        let frame = ethernet(9, src);
        let expected = ports[usize::from(crc16(&frame[6..12])) % 3];
        assert_eq!(leaves_at(&rig, &frame).await, expected, "source {src}");
    }
    assert_eq!(leaves_at(&rig, &ethernet(8, 1)).await, 2);
    rig.stop().await;
}

#[tokio::test]
async fn a_member_whose_port_is_down_gets_nothing() {
    let (rig, mut controller) = start().await;
    let watching = |member_id: u32, port: u8| Member {
        member_id,
        weight: 1,
        watch_kind: Some(action_profile_group::member::WatchKind::WatchPort(vec![port])),
    };
    let mut spec = group_of(1, &[]);
    spec.members = vec![watching(1, 1), watching(2, 2)];
    let codes = controller
        .write(vec![
            member(Type::Insert, 1, 1),
            member(Type::Insert, 2, 2),
            update(Type::Insert, Entity::ActionProfileGroup(spec.clone())),
            insert(spread(9, Named::ActionProfileGroupId(1))),
        ])
        .await;
    assert_eq!(codes, [Code::Ok; 4]);
    rig.switch.set_port_up(1, false);
    for src in 0..10 {
        assert_eq!(leaves_at(&rig, &ethernet(9, src)).await, 2);
    }
    rig.switch.set_port_up(1, true);
    rig.switch.set_port_up(2, false);
    for src in 0..10 {
        assert_eq!(leaves_at(&rig, &ethernet(9, src)).await, 1);
    }
    // A pipeline that is committed while a port is down knows of it.
    let config =
        v1::ForwardingPipelineConfig { p4info: Some(fanout()), p4_device_config: JSON.to_vec(), ..Default::default() };
    controller.commit(config).await.unwrap();
    let again = controller
        .write(vec![
            member(Type::Insert, 1, 1),
            member(Type::Insert, 2, 2),
            update(Type::Insert, Entity::ActionProfileGroup(spec.clone())),
            insert(spread(9, Named::ActionProfileGroupId(1))),
        ])
        .await;
    assert_eq!(again, [Code::Ok; 4]);
    for src in 0..10 {
        assert_eq!(leaves_at(&rig, &ethernet(9, src)).await, 1);
    }
    // There is no port 3.
    spec.members = vec![watching(1, 3)];
    assert_eq!(
        controller.write_one(update(Type::Modify, Entity::ActionProfileGroup(spec))).await,
        Code::InvalidArgument
    );
    rig.stop().await;
}

#[tokio::test]
async fn each_wrong_update_of_a_profile_gets_its_code() {
    let (rig, mut controller) = start().await;
    let setup = vec![
        member(Type::Insert, 1, 1),
        member(Type::Insert, 2, 2),
        group(Type::Insert, 1, &[(1, 1)]),
        insert(spread(9, Named::ActionProfileGroupId(1))),
        insert(spread(8, Named::ActionProfileMemberId(2))),
    ];
    assert_eq!(controller.write(setup).await, [Code::Ok; 5]);
    let of = |profile: &str, id, action| Entity::ActionProfileMember(member_of(profile, id, action));
    let large = v1::ActionProfileGroup { max_size: 9, ..group_of(2, &[]) };
    let resized = v1::ActionProfileGroup { max_size: 4, ..group_of(1, &[(1, 1)]) };
    let of_hops = v1::ActionProfileGroup { action_profile_id: id("hops"), ..group_of(2, &[]) };
    let steer = |to| v1::TableEntry {
        table_id: id("steer"),
        r#match: vec![v1::FieldMatch { field_id: 1, field_match_type: Some(exact(&[1])) }],
        action: named(to),
        ..Default::default()
    };
    let dropping = v1::Action { action_id: id("drop"), params: vec![] };
    let cases = [
        (member(Type::Insert, 1, 1), Code::AlreadyExists),
        (member(Type::Insert, 0, 1), Code::InvalidArgument),
        (member(Type::Modify, 3, 1), Code::NotFound),
        (member(Type::Delete, 3, 1), Code::NotFound),
        (member(Type::Delete, 1, 1), Code::FailedPrecondition),
        (member(Type::Delete, 2, 1), Code::FailedPrecondition),
        (member(Type::Unspecified, 1, 1), Code::InvalidArgument),
        (update(Type::Insert, of("paths", 3, None)), Code::InvalidArgument),
        (update(Type::Insert, of("hops", 3, Some(dropping))), Code::InvalidArgument),
        (group(Type::Insert, 1, &[]), Code::AlreadyExists),
        (group(Type::Insert, 2, &[(5, 1)]), Code::NotFound),
        (group(Type::Insert, 2, &[(1, 0)]), Code::InvalidArgument),
        (group(Type::Insert, 2, &[(1, -1)]), Code::InvalidArgument),
        (group(Type::Insert, 2, &[(1, 1), (1, 1)]), Code::InvalidArgument),
        (group(Type::Insert, 2, &[(1, 9)]), Code::ResourceExhausted),
        (update(Type::Insert, Entity::ActionProfileGroup(large)), Code::InvalidArgument),
        (update(Type::Modify, Entity::ActionProfileGroup(resized)), Code::InvalidArgument),
        (update(Type::Insert, Entity::ActionProfileGroup(of_hops)), Code::InvalidArgument),
        (group(Type::Modify, 2, &[]), Code::NotFound),
        (group(Type::Delete, 2, &[]), Code::NotFound),
        (group(Type::Delete, 1, &[]), Code::FailedPrecondition),
        (insert(spread(7, Named::ActionProfileMemberId(5))), Code::NotFound),
        (insert(spread(7, Named::ActionProfileGroupId(5))), Code::NotFound),
        (insert(spread(7, Named::Action(send_to(1)))), Code::InvalidArgument),
        (insert(spread(9, Named::ActionProfileMemberId(1))), Code::AlreadyExists),
        (insert(steer(Named::ActionProfileActionSet(Default::default()))), Code::InvalidArgument),
        (insert(steer(Named::ActionProfileGroupId(1))), Code::NotFound),
    ];
    let (updates, codes): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    assert_eq!(controller.write(updates).await, codes);
    // `hops` has room for four.
    let fill = (1..=5).map(|n| update(Type::Insert, of("hops", n, Some(send_to(1))))).collect();
    let full = [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::ResourceExhausted];
    assert_eq!(controller.write(fill).await, full);
    assert_eq!(controller.write_one(insert(steer(Named::ActionProfileMemberId(4)))).await, Code::Ok);
    let unknown = v1::ActionProfileMember { action_profile_id: 1, ..Default::default() };
    let entity = v1::Entity { entity: Some(Entity::ActionProfileMember(unknown)) };
    assert!(controller.read(vec![entity]).await.is_err());
    // In the other order, all of it can go.
    let teardown = vec![
        delete(spread(9, Named::ActionProfileGroupId(1))),
        delete(spread(8, Named::ActionProfileGroupId(1))),
        group(Type::Delete, 1, &[]),
        member(Type::Delete, 1, 1),
        member(Type::Delete, 2, 1),
    ];
    assert_eq!(controller.write(teardown).await, [Code::Ok; 5]);
    rig.stop().await;
}

#[tokio::test]
async fn an_entry_that_is_not_hit_is_reported_to_the_primary_again_and_again() {
    let (rig, mut controller) = start().await;
    let timeout = 20_000_000;
    let idle = v1::TableEntry { idle_timeout_ns: timeout, metadata: b"mine".to_vec(), ..flow(5) };
    assert_eq!(controller.write_one(insert(idle.clone())).await, Code::Ok);
    for _ in 0..3 {
        let notification = match controller.next().await.unwrap() {
            v1::stream_message_response::Update::IdleTimeoutNotification(n) => n,
            other => panic!("not about idle entries: {other:?}"),
        };
        assert!(notification.timestamp > 0);
        let [entry] = &notification.table_entry[..] else { panic!("one entry: {notification:?}") };
        assert_eq!((entry.table_id, &entry.r#match), (idle.table_id, &idle.r#match));
        assert_eq!((entry.idle_timeout_ns, &entry.metadata), (timeout, &idle.metadata));
    }
    let all = v1::TableEntry { table_id: id("flows"), ..Default::default() };
    assert_eq!(controller.entries(all.clone()).await, [idle], "time_since_last_hit only where it is asked for");
    let asks = v1::TableEntry { time_since_last_hit: Some(Default::default()), ..all.clone() };
    let rests = |entries: &[v1::TableEntry]| entries[0].time_since_last_hit.as_ref().unwrap().elapsed_ns;
    let before = rests(&controller.entries(asks.clone()).await);
    assert!(before >= 3 * timeout, "three timeouts have passed since it was inserted: {before} ns");
    // A hit begins the time anew.
    let codes =
        controller.write(vec![member(Type::Insert, 1, 1), insert(spread(9, Named::ActionProfileMemberId(1)))]).await;
    assert_eq!(codes, [Code::Ok; 2]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        leaves_at(&rig, &ethernet(9, 5)).await;
        if rests(&controller.entries(asks.clone()).await) < before {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "a hit does not begin the time anew");
    }
    // A MODIFY without an idle timeout takes it away.
    assert_eq!(controller.write_one(modify(flow(5))).await, Code::Ok);
    assert_eq!(controller.entries(all).await, [flow(5)]);
    rig.stop().await;
}

/// P4Runtime §5.2, §16.4: a role hears of idle entries of its own tables only.
#[tokio::test]
async fn idle_entries_are_told_to_the_primary_of_each_role_that_has_their_table() {
    let (rig, mut default) = start().await;
    let on = |table: &str| RoleConfig { shared_p4_ids: vec![id(table)], ..RoleConfig::default() };
    let (mut owner, mut other) = (rig.player("owner", &on("flows")).await, rig.player("other", &on("spread")).await);
    let idle = v1::TableEntry { idle_timeout_ns: 20_000_000, ..flow(5) };
    assert_eq!(owner.write_one(insert(idle.clone())).await, Code::Ok);
    for controller in [&mut default, &mut owner] {
        match controller.next().await.unwrap() {
            v1::stream_message_response::Update::IdleTimeoutNotification(told) => {
                assert_eq!(told.table_entry[0].table_id, idle.table_id)
            }
            other => panic!("not about idle entries: {other:?}"),
        }
    }
    assert!(tokio::time::timeout(MOMENT, other.responses.message()).await.is_err(), "it hears nothing");
    rig.stop().await;
}

#[tokio::test]
async fn idle_timeouts_are_refused_where_they_make_no_sense() {
    let (rig, mut controller) = start().await;
    assert_eq!(controller.write_one(member(Type::Insert, 1, 1)).await, Code::Ok);
    let rests = Some(v1::table_entry::IdleTimeout { elapsed_ns: 1 });
    let default = v1::TableEntry { table_id: id("flows"), is_default_action: true, ..Default::default() };
    let codes = controller
        .write(vec![
            insert(v1::TableEntry { idle_timeout_ns: 1, ..spread(9, Named::ActionProfileMemberId(1)) }),
            insert(v1::TableEntry { idle_timeout_ns: -1, ..flow(1) }),
            insert(v1::TableEntry { time_since_last_hit: rests, ..flow(1) }),
            modify(v1::TableEntry { idle_timeout_ns: 1, ..default }),
        ])
        .await;
    assert_eq!(codes, [Code::InvalidArgument; 4]);
    let filter = v1::TableEntry { table_id: id("spread"), time_since_last_hit: rests, ..Default::default() };
    let entity = v1::Entity { entity: Some(Entity::TableEntry(filter)) };
    assert!(controller.read(vec![entity]).await.is_err());
    rig.stop().await;
}

#[tokio::test]
async fn meters_count_what_they_mark() {
    let (rig, mut controller) = start().await;
    // Two frames of 20 bytes are green, one yellow, and the rest are red: a byte a second brings no more.
    let config = v1::MeterConfig { cir: 1, cburst: 45, pir: 1, pburst: 65, eburst: 0 };
    let metered = v1::TableEntry { meter_config: Some(config), ..flow(5) };
    let setup =
        vec![insert(metered.clone()), member(Type::Insert, 1, 2), insert(spread(9, Named::ActionProfileMemberId(1)))];
    assert_eq!(controller.write(setup).await, [Code::Ok; 3]);
    for _ in 0..5 {
        assert!(rig.port1.send(&ethernet(9, 5)));
    }
    assert!(rig.port1.send(&ethernet(9, 6)));
    let count = |n: i64| Some(v1::CounterData { byte_count: 20 * n, packet_count: n });
    let data =
        |green, yellow, red| v1::MeterCounterData { green: count(green), yellow: count(yellow), red: count(red) };
    let asks = v1::TableEntry {
        table_id: id("flows"),
        meter_counter_data: Some(Default::default()),
        meter_config: Some(Default::default()),
        ..Default::default()
    };
    // `limit` has no rates, so all that reached it was green. Frames of one port stay in order: behind the last one, all
    // others were metered.
    let limit = v1::MeterEntry {
        meter_id: id("limit"),
        index: Some(v1::Index { index: 1 }),
        config: None,
        counter_data: Some(Default::default()),
    };
    let filled = Entity::MeterEntry(v1::MeterEntry { counter_data: Some(data(6, 0, 0)), ..limit });
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = read(&mut controller, Entity::MeterEntry(limit)).await;
        if found == [filled.clone()] {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
    }
    let expected = v1::TableEntry { meter_counter_data: Some(data(2, 1, 2)), ..metered.clone() };
    assert_eq!(controller.entries(asks.clone()).await, [expected]);
    let direct = v1::DirectMeterEntry {
        table_entry: Some(v1::TableEntry { action: None, ..flow(5) }),
        config: None,
        counter_data: Some(Default::default()),
    };
    let found = read(&mut controller, Entity::DirectMeterEntry(direct.clone())).await;
    let filled = v1::DirectMeterEntry { config: Some(config), counter_data: Some(data(2, 1, 2)), ..direct.clone() };
    assert_eq!(found, [Entity::DirectMeterEntry(filled)]);
    // They can be set back, but not to anything else; the rates stay as they are asked to.
    let one = |data| v1::TableEntry { meter_counter_data: Some(data), ..metered.clone() };
    assert_eq!(controller.write_one(modify(one(data(0, 1, 0)))).await, Code::InvalidArgument);
    assert_eq!(controller.write_one(modify(one(data(0, 0, 0)))).await, Code::Ok);
    assert_eq!(controller.entries(asks).await, [one(data(0, 0, 0))]);
    assert_eq!(controller.write_one(update(Type::Modify, Entity::MeterEntry(limit))).await, Code::Ok);
    let found = read(&mut controller, Entity::MeterEntry(limit)).await;
    assert_eq!(found, [Entity::MeterEntry(v1::MeterEntry { counter_data: Some(data(0, 0, 0)), ..limit })]);
    rig.stop().await;
}
