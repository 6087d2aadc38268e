//! StreamChannel: arbitration over the wire, packet-in, packet-out, stream errors, shutdown.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::stream_message_request::Update as RequestUpdate;
use dmux_p4rt::p4::v1::stream_message_response::Update as ResponseUpdate;
use p4runtime_support::*;
use tonic::Code;

fn metadata(id: u32, value: &[u8]) -> v1::PacketMetadata {
    v1::PacketMetadata { metadata_id: id, value: value.to_vec() }
}

fn packet_out(egress: &[u8], payload: &[u8]) -> RequestUpdate {
    RequestUpdate::Packet(v1::PacketOut {
        payload: payload.to_vec().into(),
        metadata: vec![metadata(1, egress), metadata(2, b"\0")],
    })
}

#[tokio::test]
async fn a_higher_election_id_takes_over_and_both_hear_it() {
    let rig = Rig::start().await;
    let (mut first, mut second) = (rig.connect().await, rig.connect().await);
    assert_eq!(first.arbitrate(1).await.unwrap(), (Code::Ok, Some(1)));
    assert_eq!(second.arbitrate(2).await.unwrap(), (Code::Ok, Some(2)));
    assert_eq!(first.notice().await.unwrap(), (Code::AlreadyExists, Some(2)));
    assert_eq!(first.try_write(vec![]).await.unwrap_err().code(), Code::PermissionDenied);
    // No pipeline yet: the primary gets further than the backup.
    assert_eq!(second.try_write(vec![]).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn when_the_primary_goes_the_backup_hears_that_there_is_none() {
    let rig = Rig::start().await;
    let (mut primary, mut backup) = (rig.connect().await, rig.connect().await);
    primary.arbitrate(5).await.unwrap();
    assert_eq!(backup.arbitrate(4).await.unwrap(), (Code::AlreadyExists, Some(5)));
    drop(primary);
    assert_eq!(backup.notice().await.unwrap(), (Code::NotFound, Some(5)));
    assert_eq!(backup.arbitrate(4).await.unwrap(), (Code::NotFound, Some(5)));
    assert_eq!(backup.arbitrate(5).await.unwrap(), (Code::Ok, Some(5)));
}

#[tokio::test]
async fn a_primary_that_half_closes_its_stream_is_gone() {
    let rig = Rig::start().await;
    let (mut primary, mut backup) = (rig.connect().await, rig.connect().await);
    primary.arbitrate(5).await.unwrap();
    backup.arbitrate(4).await.unwrap();
    let Controller { requests, responses: _kept, .. } = primary;
    drop(requests);
    assert_eq!(backup.notice().await.unwrap(), (Code::NotFound, Some(5)));
}

#[tokio::test]
async fn wrong_arbitration_ends_the_stream_with_the_specifications_code() {
    let rig = Rig::start().await;
    let mut primary = rig.connect().await;
    primary.arbitrate(1).await.unwrap();
    let mut duplicate = rig.connect().await;
    assert_eq!(duplicate.arbitrate(1).await.unwrap_err().code(), Code::InvalidArgument);

    let mut other = rig.connect().await;
    let elsewhere = v1::MasterArbitrationUpdate {
        device_id: DEVICE + 1,
        election_id: Some(v1::Uint128 { high: 0, low: 9 }),
        ..Default::default()
    };
    other.send(RequestUpdate::Arbitration(elsewhere)).await;
    assert_eq!(other.next().await.unwrap_err().code(), Code::NotFound);
    // None of them disturbed the primary.
    assert_eq!(primary.try_write(vec![]).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_packet_out_leaves_at_the_port_that_its_metadata_names() {
    let (rig, controller) = Rig::loaded().await;
    let frame = frame(0x0200_0000_0001, 0x88b5, b"from the controller");
    controller.send(packet_out(b"\x02", &frame)).await;
    let port = rig.port2.clone();
    let received = tokio::task::spawn_blocking(move || port.receive(PATIENCE)).await.unwrap();
    assert_eq!(received, Some(frame));
    assert_eq!(rig.port1.receive(MOMENT), None);
}

#[tokio::test]
async fn a_punted_frame_reaches_the_primary_with_its_metadata_and_nobody_else() {
    let (rig, mut primary) = Rig::loaded().await;
    let mut backup = rig.connect().await;
    backup.arbitrate(None).await.unwrap();
    let mut punt = entry("acl", vec![(3, optional(b"\x01"))], action("punt", &[b"\x2a"]));
    punt.priority = 1;
    assert_eq!(primary.write(vec![insert(wire_entry(1, 2)), insert(punt)]).await, [Code::Ok, Code::Ok]);
    let frame = frame(0x0200_0000_0001, 0x88b5, b"to the controller");
    rig.port1.send(&frame);
    let packet = primary.packet_in().await;
    assert_eq!(packet.payload, frame);
    assert_eq!(packet.metadata, [metadata(1, b"\x01"), metadata(2, b"\x2a")]);
    assert!(tokio::time::timeout(MOMENT, backup.responses.message()).await.is_err());
    assert_eq!(rig.switch.statistics().packet_ins, 1);
}

#[tokio::test]
async fn a_wrong_packet_out_is_reported_and_the_stream_goes_on() {
    let (rig, mut controller) = Rig::loaded().await;
    let one_field = v1::PacketOut { payload: b"x".to_vec().into(), metadata: vec![metadata(1, b"\x02")] };
    controller.send(RequestUpdate::Packet(one_field)).await;
    match controller.next().await.unwrap() {
        ResponseUpdate::Error(error) => {
            assert_eq!(error.canonical_code, Code::InvalidArgument as i32);
            assert!(error.message.contains("pad"), "{}", error.message);
            assert!(matches!(error.details, Some(v1::stream_error::Details::PacketOut(_))));
        }
        other => panic!("not an error: {other:?}"),
    }
    let mut backup = rig.connect().await;
    backup.arbitrate(None).await.unwrap();
    backup.send(packet_out(b"\x02", b"x")).await;
    match backup.next().await.unwrap() {
        ResponseUpdate::Error(error) => assert_eq!(error.canonical_code, Code::PermissionDenied as i32),
        other => panic!("not an error: {other:?}"),
    }
    controller.send(RequestUpdate::DigestAck(v1::DigestListAck { digest_id: 3, list_id: 1 })).await;
    match controller.next().await.unwrap() {
        ResponseUpdate::Error(error) => {
            assert!(matches!(error.details, Some(v1::stream_error::Details::DigestListAck(_))));
        }
        other => panic!("not an error: {other:?}"),
    }
    assert_eq!(rig.port2.receive(MOMENT), None);
}

#[tokio::test]
async fn a_flood_of_packet_ins_is_dropped_and_counted_while_the_controller_sleeps() {
    let (rig, mut controller) = Rig::loaded().await;
    let mut punt = entry("acl", vec![], action("punt", &[b"\x01"]));
    punt.priority = 1;
    controller.write(vec![insert(wire_entry(1, 2)), insert(punt)]).await;
    let payload = vec![0; 4000];
    let flood = frame(1, 0x88b5, &payload);
    // HTTP/2 windows hold some, our queue holds 1024; the rest must go.
    let deadline = std::time::Instant::now() + PATIENCE;
    while rig.switch.statistics().packet_ins_overflowed == 0 {
        assert!(std::time::Instant::now() < deadline, "nothing was dropped: {:?}", rig.switch.statistics());
        rig.port1.send(&flood);
        tokio::task::yield_now().await;
    }
    // The notices still get through, and the stream still works.
    assert_eq!(controller.packet_in().await.payload.len(), flood.len());
}

#[tokio::test]
async fn shutting_down_ends_the_streams_and_does_not_wait_for_clients() {
    let (rig, mut controller) = Rig::loaded().await;
    rig.stop().await;
    assert_eq!(controller.next().await.unwrap_err().code(), Code::Unavailable);
}
