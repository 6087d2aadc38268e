//! Multicast groups, clone sessions and digests over P4Runtime (specification 1.4 §9.5 and §9.8), with packets that
//! show what they do.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;
#[path = "pipeline_support/v1model.rs"]
#[allow(dead_code, reason = "the pipeline's tests use the rest")]
mod v1model;

use dmux_p4rt::RoleConfig;
use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::p4_data::Data;
use dmux_p4rt::p4::v1::packet_replication_engine_entry::Type as Kind;
use dmux_p4rt::p4::v1::replica::PortKind;
use dmux_p4rt::p4::v1::stream_message_request::Update as RequestUpdate;
use dmux_p4rt::p4::v1::stream_message_response::Update as ResponseUpdate;
use dmux_p4rt::p4::v1::update::Type;
use p4runtime_support::{Controller, MOMENT, PATIENCE, Rig, update};
use tonic::Code;
use v1model::{INGRESS, V1Model, eq, h, meta, num, op, set, std};

const DIGEST: u32 = 0x1700_0001;

/// What the first byte of a frame asks for.
const MULTICAST: u8 = 1;
const CLONE: u8 = 2;
const LEARN: u8 = 3;

/// Frames go to port 2, with one byte to say what else happens.
fn program() -> Vec<u8> {
    let when = |w: u8| eq(h("what"), num(w.into()));
    V1Model::new(&[("what", 8), ("arg", 16)], &[("wide", 12)])
        .field_list(&[meta("wide")])
        .learn_list("learn_t", &[h("arg"), meta("wide"), std("ingress_port")])
        .when(INGRESS, eq(num(0), num(0)), &[set(std("egress_spec"), num(2)), set(meta("wide"), h("what"))])
        .when(INGRESS, when(MULTICAST), &[set(std("mcast_grp"), h("arg"))])
        .when(INGRESS, when(CLONE), &[op("clone_ingress_pkt_to_egress", &[h("arg"), num(1)])])
        .when(INGRESS, when(LEARN), &[op("generate_digest", &[num(1), num(1)])])
        .json()
}

fn p4info() -> info::P4Info {
    let bits = |w: i32| info::P4DataTypeSpec {
        type_spec: Some(info::p4_data_type_spec::TypeSpec::Bitstring(info::P4BitstringLikeTypeSpec {
            type_spec: Some(info::p4_bitstring_like_type_spec::TypeSpec::Bit(info::P4BitTypeSpec { bitwidth: w })),
            ..Default::default()
        })),
    };
    let member =
        |name: &str, w: i32| info::p4_struct_type_spec::Member { name: name.to_owned(), type_spec: Some(bits(w)) };
    let learn = info::P4StructTypeSpec {
        members: vec![member("arg", 16), member("wide", 12), member("port", 9)],
        ..Default::default()
    };
    info::P4Info {
        digests: vec![info::Digest {
            preamble: Some(info::Preamble { id: DIGEST, name: "learn_t".to_owned(), ..Default::default() }),
            type_spec: Some(info::P4DataTypeSpec {
                type_spec: Some(info::p4_data_type_spec::TypeSpec::Struct(info::P4NamedType {
                    name: "learn_t".to_owned(),
                })),
            }),
        }],
        type_info: Some(info::P4TypeInfo {
            structs: [("learn_t".to_owned(), learn)].into_iter().collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn loaded() -> (Rig, Controller) {
    let p4info = Some(p4info());
    let config = v1::ForwardingPipelineConfig { p4info, p4_device_config: program(), ..Default::default() };
    Rig::loaded_with(config).await
}

fn replica(port: u8, instance: u32) -> v1::Replica {
    v1::Replica { port_kind: Some(PortKind::Port(vec![port])), instance, ..Default::default() }
}

/// With (port, instance) of each backup, best first.
fn backed(port: u8, instance: u32, backups: &[(u8, u32)]) -> v1::Replica {
    let backup = |&(port, instance): &(u8, u32)| v1::BackupReplica { port: vec![port], instance };
    v1::Replica { backup_replicas: backups.iter().map(backup).collect(), ..replica(port, instance) }
}

#[expect(deprecated, reason = "the older form is accepted, too")]
fn numbered(port: u32, instance: u32) -> v1::Replica {
    v1::Replica { port_kind: Some(PortKind::EgressPort(port)), instance, ..Default::default() }
}

fn group(id: u32, replicas: Vec<v1::Replica>) -> Entity {
    pre(Kind::MulticastGroupEntry(v1::MulticastGroupEntry { multicast_group_id: id, replicas, metadata: vec![] }))
}

fn session(id: u32, replicas: Vec<v1::Replica>, packet_length_bytes: i32) -> Entity {
    let session = v1::CloneSessionEntry { session_id: id, replicas, packet_length_bytes, class_of_service: 0 };
    pre(Kind::CloneSessionEntry(session))
}

fn pre(kind: Kind) -> Entity {
    Entity::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry { r#type: Some(kind) })
}

async fn read(controller: &mut Controller, filter: Entity) -> Vec<Entity> {
    controller.read(vec![v1::Entity { entity: Some(filter) }]).await.unwrap()
}

async fn codes(controller: &mut Controller, updates: &[(Type, Entity)]) -> Vec<Code> {
    controller.write(updates.iter().map(|(t, e)| update(*t, e.clone())).collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_inserted_modified_read_and_deleted_and_makes_copies() {
    let (rig, mut controller) = loaded().await;
    let frame = [MULTICAST, 0x01, 0x02, 9, 9];
    let first = group(0x0102, vec![replica(1, 5), numbered(2, 6)]);
    assert_eq!(codes(&mut controller, &[(Type::Insert, first.clone())]).await, [Code::Ok]);
    assert_eq!(read(&mut controller, group(0x0102, vec![])).await, std::slice::from_ref(&first));
    assert!(rig.port1.send(&frame));
    assert_eq!(rig.port1.receive(PATIENCE), Some(frame.to_vec()));
    assert_eq!(rig.port2.receive(PATIENCE), Some(frame.to_vec()));

    let second = group(0x0102, vec![replica(2, 1), replica(2, 6)]);
    assert_eq!(codes(&mut controller, &[(Type::Modify, second)]).await, [Code::Ok]);
    // Those that were there stay first, as in BMv2.
    assert_eq!(read(&mut controller, group(0, vec![])).await, [group(0x0102, vec![replica(2, 6), replica(2, 1)])]);
    assert!(rig.port1.send(&frame));
    assert_eq!(rig.port2.receive(PATIENCE), Some(frame.to_vec()));
    assert_eq!(rig.port2.receive(PATIENCE), Some(frame.to_vec()));

    assert_eq!(codes(&mut controller, &[(Type::Delete, group(0x0102, vec![]))]).await, [Code::Ok]);
    assert_eq!(read(&mut controller, group(0, vec![])).await, []);
    assert!(rig.port1.send(&frame));
    assert_eq!((rig.port1.receive(MOMENT), rig.port2.receive(MOMENT)), (None, None));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_session_copies_and_cuts() {
    let (rig, mut controller) = loaded().await;
    let (frame, first) = ([CLONE, 0, 7, 1, 2, 3, 4, 5], session(7, vec![replica(1, 0)], 4));
    assert_eq!(codes(&mut controller, &[(Type::Insert, first.clone())]).await, [Code::Ok]);
    assert_eq!(read(&mut controller, session(7, vec![], 0)).await, std::slice::from_ref(&first));
    assert!(rig.port1.send(&frame));
    assert_eq!(rig.port1.receive(PATIENCE), Some(frame[..4].to_vec()));
    assert_eq!(rig.port2.receive(PATIENCE), Some(frame.to_vec()));

    let second = session(7, vec![replica(1, 0), replica(1, 1)], 0);
    assert_eq!(codes(&mut controller, &[(Type::Modify, second.clone())]).await, [Code::Ok]);
    assert!(rig.port1.send(&frame));
    assert_eq!(rig.port1.receive(PATIENCE), Some(frame.to_vec()));
    assert_eq!(rig.port1.receive(PATIENCE), Some(frame.to_vec()));
    assert_eq!(rig.port2.receive(PATIENCE), Some(frame.to_vec()));

    // A read without a kind is of both.
    let group = group(1, vec![replica(1, 0)]);
    assert_eq!(codes(&mut controller, &[(Type::Insert, group.clone())]).await, [Code::Ok]);
    let all = Entity::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry::default());
    assert_eq!(read(&mut controller, all).await, [group, second]);
    assert_eq!(codes(&mut controller, &[(Type::Delete, session(7, vec![], 0))]).await, [Code::Ok]);
    assert_eq!(read(&mut controller, session(0, vec![], 0)).await, []);
    rig.stop().await;
}

/// P4Runtime 1.5 §9.5.1: while the port of a replica is down, the first of its backups whose port is up takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_the_place_of_a_replica_whose_port_is_down() {
    let (rig, mut controller) = loaded().await;
    let backups = [(3, 9), (2, 6)];
    let entities = [group(5, vec![backed(1, 7, &backups)]), session(6, vec![backed(1, 7, &backups)], 0)];
    let inserts = entities.each_ref().map(|e| (Type::Insert, e.clone()));
    assert_eq!(codes(&mut controller, &inserts).await, [Code::Ok; 2]);
    let all = Entity::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry::default());
    assert_eq!(read(&mut controller, all.clone()).await, entities, "backups are read in their order");
    // The frame that is cloned goes to port 2, the copy to where the session leads.
    let (copied, cloned) = ([MULTICAST, 0, 5], [CLONE, 0, 6]);
    let copies = |rig: &Rig| [copied, cloned].iter().for_each(|f| assert!(rig.port2.send(f)));
    copies(&rig);
    assert_eq!(rig.port1.receive(PATIENCE), Some(copied.to_vec()));
    assert_eq!(rig.port1.receive(PATIENCE), Some(cloned.to_vec()));
    assert_eq!(rig.port2.receive(PATIENCE), Some(cloned.to_vec()));
    // There is no port 3, so port 2 is next.
    rig.switch.set_port_up(1, false);
    copies(&rig);
    assert_eq!(rig.port2.receive(PATIENCE), Some(copied.to_vec()));
    assert_eq!(rig.port2.receive(PATIENCE), Some(cloned.to_vec()));
    assert_eq!(rig.port2.receive(PATIENCE), Some(cloned.to_vec()));
    rig.switch.set_port_up(1, true);
    copies(&rig);
    assert_eq!(rig.port1.receive(PATIENCE), Some(copied.to_vec()));
    assert_eq!(rig.port1.receive(PATIENCE), Some(cloned.to_vec()));
    // What is read is what was written, whatever the ports do.
    assert_eq!(read(&mut controller, all).await, entities);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_replication_entry_has_its_code_and_changes_nothing() {
    let (rig, mut controller) = loaded().await;
    let there = group(1, vec![replica(1, 1)]);
    assert_eq!(codes(&mut controller, &[(Type::Insert, there.clone())]).await, [Code::Ok]);
    let unported = v1::Replica { backup_replicas: vec![v1::BackupReplica::default()], ..replica(1, 1) };
    let wide = v1::Replica { port_kind: Some(PortKind::Port(vec![2, 0])), instance: 0, ..Default::default() };
    let empty = v1::Replica { port_kind: Some(PortKind::Port(vec![])), instance: 0, ..Default::default() };
    let mut class = v1::CloneSessionEntry { session_id: 3, class_of_service: 8, ..Default::default() };
    let classed = pre(Kind::CloneSessionEntry(class.clone()));
    class.session_id = 1 << 15;
    let cases = [
        (Type::Insert, there.clone(), Code::AlreadyExists),
        (Type::Modify, group(2, vec![]), Code::NotFound),
        (Type::Delete, group(2, vec![]), Code::NotFound),
        (Type::Unspecified, group(2, vec![]), Code::InvalidArgument),
        (Type::Insert, group(0, vec![]), Code::InvalidArgument),
        (Type::Insert, group(0x1_0000, vec![]), Code::InvalidArgument),
        (Type::Modify, group(1, vec![replica(3, 1), numbered(3, 1)]), Code::InvalidArgument),
        (Type::Modify, group(1, vec![v1::Replica::default()]), Code::InvalidArgument),
        (Type::Modify, group(1, vec![wide]), Code::OutOfRange),
        (Type::Modify, group(1, vec![empty]), Code::OutOfRange),
        (Type::Modify, group(1, vec![numbered(512, 1)]), Code::OutOfRange),
        (Type::Modify, group(1, vec![replica(1, 0x1_0000)]), Code::InvalidArgument),
        // A replica's own port is no backup, and no pair of port and instance is there twice.
        (Type::Modify, group(1, vec![backed(1, 1, &[(1, 2)])]), Code::InvalidArgument),
        (Type::Modify, group(1, vec![replica(2, 1), backed(1, 1, &[(2, 1)])]), Code::InvalidArgument),
        (Type::Modify, group(1, vec![backed(1, 1, &[(2, 1), (2, 1)])]), Code::InvalidArgument),
        (Type::Modify, group(1, vec![backed(1, 1, &[(2, 0x1_0000)])]), Code::InvalidArgument),
        (Type::Modify, group(1, vec![unported]), Code::OutOfRange),
        (Type::Modify, group(1, vec![backed(1, 1, &vec![(2, 1); 4096])]), Code::ResourceExhausted),
        (Type::Modify, session(1, vec![], 0), Code::NotFound),
        (Type::Insert, session(0, vec![], 0), Code::InvalidArgument),
        (Type::Insert, pre(Kind::CloneSessionEntry(class)), Code::InvalidArgument),
        (Type::Insert, session(1, vec![], -1), Code::InvalidArgument),
        (Type::Insert, classed, Code::OutOfRange),
        (Type::Insert, Entity::PacketReplicationEngineEntry(Default::default()), Code::InvalidArgument),
    ];
    for (kind, entity, code) in cases {
        assert_eq!(codes(&mut controller, &[(kind, entity.clone())]).await, [code], "{kind:?} {entity:?}");
    }
    let all = Entity::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry::default());
    assert_eq!(read(&mut controller, all).await, [there]);
    let missing = controller.read(vec![v1::Entity { entity: Some(group(2, vec![])) }]).await;
    assert_eq!(missing.unwrap_err().code(), Code::Unknown);
    rig.stop().await;
}

fn digest(max_timeout_ns: i64, max_list_size: i32, ack_timeout_ns: i64) -> Entity {
    let config = v1::digest_entry::Config { max_timeout_ns, max_list_size, ack_timeout_ns };
    Entity::DigestEntry(v1::DigestEntry { digest_id: DIGEST, config: Some(config) })
}

async fn next_list(controller: &mut Controller) -> v1::DigestList {
    match controller.next().await.unwrap() {
        ResponseUpdate::Digest(list) => list,
        other => panic!("not a digest: {other:?}"),
    }
}

/// Members of a sample: the argument, the metadata, the port.
fn sample(arg: &[u8]) -> v1::P4Data {
    let bits = |b: &[u8]| v1::P4Data { data: Some(Data::Bitstring(b.to_vec())) };
    let members = vec![bits(arg), bits(&[LEARN]), bits(&[1])];
    v1::P4Data { data: Some(Data::Struct(v1::P4StructLike { members })) }
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_are_sent_once_until_they_are_acknowledged() {
    let (rig, mut controller) = loaded().await;
    let learn = |arg: u8| assert!(rig.port1.send(&[LEARN, 0, arg]));
    // Nobody wants them yet.
    learn(1);
    assert!(rig.port2.receive(PATIENCE).is_some());
    let hour = 3_600_000_000_000;
    assert_eq!(codes(&mut controller, &[(Type::Insert, digest(0, 1, hour))]).await, [Code::Ok]);
    learn(2);
    let list = next_list(&mut controller).await;
    assert_eq!((list.digest_id, list.list_id, list.data), (DIGEST, 1, vec![sample(&[2])]));
    assert!(list.timestamp > 0);
    // The second is known, the third is not.
    learn(2);
    learn(3);
    let list = next_list(&mut controller).await;
    assert_eq!((list.list_id, list.data), (2, vec![sample(&[3])]));
    controller.send(RequestUpdate::DigestAck(v1::DigestListAck { digest_id: DIGEST, list_id: 1 })).await;
    // The acknowledgement has its effect at some time: until then the sample is known.
    let deadline = std::time::Instant::now() + PATIENCE;
    let list = loop {
        assert!(std::time::Instant::now() < deadline, "the acknowledgement has no effect");
        learn(2);
        if let Ok(message) = tokio::time::timeout(MOMENT, controller.next()).await {
            match message.unwrap() {
                ResponseUpdate::Digest(list) => break list,
                other => panic!("not a digest: {other:?}"),
            }
        }
    };
    assert_eq!((list.list_id, list.data), (3, vec![sample(&[2])]));
    assert_eq!(rig.switch.statistics().digest_lists, 3);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_wait_for_others_and_then_go_together() {
    let (rig, mut controller) = loaded().await;
    assert_eq!(codes(&mut controller, &[(Type::Insert, digest(3_600_000_000_000, 2, 0))]).await, [Code::Ok]);
    for arg in [4, 4] {
        assert!(rig.port1.send(&[LEARN, 0, arg]));
    }
    assert_eq!(next_list(&mut controller).await.data, [sample(&[4]), sample(&[4])]);
    // One alone goes when its time is over.
    assert_eq!(codes(&mut controller, &[(Type::Modify, digest(20_000_000, 2, 0))]).await, [Code::Ok]);
    assert!(rig.port1.send(&[LEARN, 1, 0]));
    assert_eq!(next_list(&mut controller).await.data, [sample(&[1, 0])]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digest_entries_are_read_as_they_were_written_and_have_their_codes() {
    let (rig, mut controller) = loaded().await;
    let one = |id: u32| Entity::DigestEntry(v1::DigestEntry { digest_id: id, config: None });
    assert_eq!(read(&mut controller, one(0)).await, []);
    for (kind, entity, code) in [
        (Type::Modify, digest(1, 2, 3), Code::NotFound),
        (Type::Delete, digest(1, 2, 3), Code::NotFound),
        (Type::Insert, one(DIGEST + 1), Code::InvalidArgument),
        (Type::Insert, digest(-1, 2, 3), Code::InvalidArgument),
        (Type::Unspecified, digest(1, 2, 3), Code::InvalidArgument),
        (Type::Insert, digest(1, 2, 3), Code::Ok),
        (Type::Insert, digest(1, 2, 3), Code::AlreadyExists),
        (Type::Modify, digest(4, 5, 6), Code::Ok),
    ] {
        assert_eq!(codes(&mut controller, &[(kind, entity.clone())]).await, [code], "{kind:?} {entity:?}");
    }
    assert_eq!(read(&mut controller, one(0)).await, [digest(4, 5, 6)]);
    assert_eq!(read(&mut controller, one(DIGEST)).await, [digest(4, 5, 6)]);
    assert_eq!(codes(&mut controller, &[(Type::Delete, one(DIGEST))]).await, [Code::Ok]);
    assert_eq!(read(&mut controller, one(0)).await, []);
    rig.stop().await;
}

/// P4Runtime §5.2, §16: what a role's configuration does not include, its primary does not hear of, and cannot change.
#[tokio::test(flavor = "multi_thread")]
async fn digests_go_to_the_primary_of_each_role_that_includes_them() {
    let (rig, mut default) = loaded().await;
    let config = RoleConfig { shared_p4_ids: vec![DIGEST], ..RoleConfig::default() };
    let (mut learner, mut deaf) =
        (rig.player("learner", &config).await, rig.player("deaf", &RoleConfig::default()).await);
    assert_eq!(codes(&mut deaf, &[(Type::Insert, digest(0, 1, 0))]).await, [Code::PermissionDenied]);
    assert_eq!(codes(&mut learner, &[(Type::Insert, digest(0, 1, 3_600_000_000_000))]).await, [Code::Ok]);
    for (n, arg) in [2u8, 3].into_iter().enumerate() {
        assert!(rig.port1.send(&[LEARN, 0, arg]));
        let lists = [next_list(&mut default).await, next_list(&mut learner).await];
        for list in lists {
            assert_eq!((list.list_id, list.data), (n as u64 + 1, vec![sample(&[arg])]));
        }
    }
    assert!(tokio::time::timeout(MOMENT, deaf.responses.message()).await.is_err(), "it hears nothing");
    // Nor does its acknowledgement count: the sample stays known.
    let ack = v1::DigestListAck { digest_id: DIGEST, list_id: 1 };
    deaf.send(RequestUpdate::DigestAck(ack)).await;
    match deaf.next().await.unwrap() {
        ResponseUpdate::Error(error) => {
            assert_eq!(Code::from_i32(error.canonical_code), Code::PermissionDenied, "{error:?}");
        }
        other => panic!("not an error: {other:?}"),
    }
    assert!(rig.port1.send(&[LEARN, 0, 2]));
    assert!(rig.port1.send(&[LEARN, 0, 4]));
    assert_eq!(next_list(&mut learner).await.data, [sample(&[4])]);
    rig.stop().await;
}
