//! Roles over the wire (specification §5.1, §5.2): separate primaries, what a role configuration lets each do.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use dmux_p4rt::RoleConfig;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::stream_message_request::Update as RequestUpdate;
use dmux_p4rt::p4::v1::stream_message_response::Update as ResponseUpdate;
use dmux_p4rt::role::PacketFilter;
use p4runtime_support::*;
use tonic::{Code, Status};

fn role(name: &str, config: Option<&RoleConfig>) -> v1::Role {
    v1::Role { name: name.to_owned(), config: config.map(RoleConfig::to_any), ..Default::default() }
}

async fn claim(controller: &mut Controller, role: v1::Role, id: u64) -> Result<v1::MasterArbitrationUpdate, Status> {
    controller.election_id = Some(v1::Uint128 { high: 0, low: id });
    let election_id = controller.election_id;
    let update = v1::MasterArbitrationUpdate { device_id: DEVICE, role: Some(role), election_id, ..Default::default() };
    controller.send(RequestUpdate::Arbitration(update)).await;
    match controller.next().await? {
        ResponseUpdate::Arbitration(update) => Ok(update),
        other => panic!("not about arbitration: {other:?}"),
    }
}

fn code(update: &v1::MasterArbitrationUpdate) -> Code {
    Code::from_i32(update.status.as_ref().unwrap().code)
}

fn on(tables: &[&str]) -> RoleConfig {
    RoleConfig { exclusive_p4_ids: tables.iter().map(|t| table_id(t)).collect(), ..RoleConfig::default() }
}

#[tokio::test]
async fn controllers_of_different_roles_are_primary_side_by_side_with_the_same_election_id() {
    let (rig, mut default) = Rig::loaded().await;
    let mut other = rig.connect().await;
    let answer = claim(&mut other, role("sdn", None), 1).await.unwrap();
    assert_eq!((code(&answer), answer.role), (Code::Ok, Some(role("sdn", None))));
    other.role = "sdn".to_owned();
    assert_eq!(default.write_one(insert(wire_entry(1, 2))).await, Code::Ok);
    assert_eq!(other.write_one(insert(wire_entry(2, 1))).await, Code::Ok, "without a configuration it may all");
    // Without its role, the same id is that of the default role's primary; with one that nobody plays, nobody's.
    other.role = "unheard of".to_owned();
    assert_eq!(other.try_write(vec![]).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_role_may_write_what_its_configuration_names_and_each_other_update_is_denied() {
    let (rig, mut default) = Rig::loaded().await;
    let mut wirer = rig.player("wirer", &on(&["wire"])).await;
    let route = entry("route", vec![(1, lpm(b"\x02\0\0\0\0\0", 8))], action("drop", &[]));
    let codes = wirer.write(vec![insert(wire_entry(1, 2)), insert(route.clone()), insert(wire_entry(1, 2))]).await;
    assert_eq!(codes, [Code::Ok, Code::PermissionDenied, Code::AlreadyExists]);
    assert_eq!(default.write_one(insert(route)).await, Code::Ok);
}

#[tokio::test]
async fn a_read_with_a_role_reports_what_belongs_to_the_role() {
    let (rig, mut default) = Rig::loaded().await;
    let route = entry("route", vec![(1, lpm(b"\x02\0\0\0\0\0", 8))], action("drop", &[]));
    default.write(vec![insert(wire_entry(1, 2)), insert(route)]).await;
    let wirer = rig.player("wirer", &on(&["wire"])).await;
    let everything = || v1::Entity { entity: Some(Entity::TableEntry(v1::TableEntry::default())) };
    let read = async |role: &str| -> Result<Vec<v1::Entity>, Status> {
        let request = v1::ReadRequest { device_id: DEVICE, entities: vec![everything()], role: role.to_owned() };
        let mut stream = wirer.client.clone().read(request).await?.into_inner();
        let mut found = Vec::new();
        while let Some(message) = stream.message().await? {
            found.extend(message.entities);
        }
        Ok(found)
    };
    assert_eq!(read("wirer").await.unwrap(), [v1::Entity { entity: Some(Entity::TableEntry(wire_entry(1, 2))) }]);
    // Both entries and the two of the constant table.
    assert_eq!(read("").await.unwrap().len(), 4);
    assert_eq!(read("unheard of").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn only_a_role_that_may_sets_a_pipeline() {
    let (rig, _default) = Rig::loaded().await;
    let mut wirer = rig.player("wirer", &on(&["wire"])).await;
    assert_eq!(wirer.commit(portal(2)).await.unwrap_err().code(), Code::PermissionDenied);
    let config = RoleConfig { can_push_pipeline: true, ..RoleConfig::default() };
    let mut loader = rig.player("loader", &config).await;
    loader.commit(portal(2)).await.unwrap();
}

#[tokio::test]
async fn packet_ins_go_to_the_primary_of_each_role_that_receives_them() {
    let (rig, mut default) = Rig::loaded().await;
    let mut punt = entry("acl", vec![], action("punt", &[b"\x2a"]));
    punt.priority = 1;
    default.write(vec![insert(wire_entry(1, 2)), insert(wire_entry(2, 1)), insert(punt)]).await;
    let mut deaf = rig.player("deaf", &RoleConfig::default()).await;
    let filter = PacketFilter { metadata_id: 1, value: b"\x02".to_vec() };
    let config = RoleConfig { receives_packet_ins: true, packet_in_filter: Some(filter), ..RoleConfig::default() };
    let mut filtering = rig.player("filtering", &config).await;

    let (one, two) = (frame(1, 0x88b5, b"from port 1"), frame(1, 0x88b5, b"from port 2"));
    rig.port1.send(&one);
    assert_eq!(default.packet_in().await.payload, one);
    rig.port2.send(&two);
    assert_eq!(default.packet_in().await.payload, two);
    assert_eq!(filtering.packet_in().await.payload, two, "the first was filtered out");
    assert!(tokio::time::timeout(MOMENT, deaf.responses.message()).await.is_err());

    // The primary of any role sends packets.
    let metadata = |id, value: &[u8]| v1::PacketMetadata { metadata_id: id, value: value.to_vec() };
    let out = v1::PacketOut { payload: one.clone().into(), metadata: vec![metadata(1, b"\x02"), metadata(2, b"\0")] };
    deaf.send(RequestUpdate::Packet(out)).await;
    let port = rig.port2.clone();
    assert_eq!(tokio::task::spawn_blocking(move || port.receive(PATIENCE)).await.unwrap(), Some(one));
}

#[tokio::test]
async fn a_wrong_role_or_configuration_ends_the_stream_with_the_specifications_code() {
    let (rig, _default) = Rig::loaded().await;
    let _wirer = rig.player("wirer", &on(&["wire"])).await;
    let unknown = prost_types::Any { type_url: "type.googleapis.com/acme.Role".to_owned(), value: Vec::new() };
    let acme = v1::Role { name: "acme".to_owned(), config: Some(unknown), ..Default::default() };
    for (role, about) in [
        (acme, "acme.Role"),
        (role("greedy", Some(&on(&["route", "wire"]))), "wirer"),
        (role("", Some(&on(&["route"]))), "default role"),
    ] {
        let mut controller = rig.connect().await;
        let status = claim(&mut controller, role, 9).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(about), "{about}: {}", status.message());
    }
    let mut turncoat = rig.connect().await;
    claim(&mut turncoat, role("one", None), 1).await.unwrap();
    let status = claim(&mut turncoat, role("two", None), 1).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_client_of_the_first_version_names_its_role_by_number() {
    let (rig, _default) = Rig::loaded().await;
    let mut old = rig.connect().await;
    #[expect(deprecated, reason = "that is what an old client does")]
    let numbered = v1::Role { id: 5, ..Default::default() };
    let answer = claim(&mut old, numbered.clone(), 1).await.unwrap();
    assert_eq!((code(&answer), answer.role), (Code::Ok, Some(numbered)));
    #[expect(deprecated, reason = "that is what an old client does")]
    let request = v1::WriteRequest {
        device_id: DEVICE,
        role_id: 5,
        election_id: old.election_id,
        updates: vec![insert(wire_entry(1, 2))],
        ..Default::default()
    };
    old.client.write(request).await.unwrap();
}

#[tokio::test]
async fn capabilities_of_another_device_are_not_found() {
    let (_rig, mut controller) = Rig::loaded().await;
    for (device_id, code) in [(0, None), (DEVICE, None), (DEVICE + 1, Some(Code::NotFound))] {
        let answer = controller.client.capabilities(v1::CapabilitiesRequest { device_id }).await;
        assert_eq!(answer.err().map(|s| s.code()), code, "device {device_id}");
    }
}
