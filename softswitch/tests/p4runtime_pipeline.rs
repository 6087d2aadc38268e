//! SetForwardingPipelineConfig, GetForwardingPipelineConfig and Capabilities.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::get_forwarding_pipeline_config_request::ResponseType;
use dmux_p4rt::p4::v1::set_forwarding_pipeline_config_request::Action;
use p4runtime_support::*;
use tonic::Code;

async fn get(controller: &mut Controller, parts: ResponseType) -> Option<v1::ForwardingPipelineConfig> {
    let request = v1::GetForwardingPipelineConfigRequest { device_id: DEVICE, response_type: parts as i32 };
    controller.client.get_forwarding_pipeline_config(request).await.unwrap().into_inner().config
}

async fn primary() -> (Rig, Controller) {
    let rig = Rig::start().await;
    let mut controller = rig.connect().await;
    controller.arbitrate(1).await.unwrap();
    (rig, controller)
}

#[tokio::test]
async fn a_switch_without_a_pipeline_says_so() {
    let (_rig, mut controller) = primary().await;
    assert_eq!(get(&mut controller, ResponseType::All).await, None);
    assert_eq!(controller.try_write(vec![]).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(controller.read(vec![]).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn what_was_set_is_got_in_the_parts_that_were_asked_for() {
    let (_rig, mut controller) = primary().await;
    let config = portal(0xc00c1e);
    controller.commit(config.clone()).await.unwrap();
    assert_eq!(get(&mut controller, ResponseType::All).await, Some(config.clone()));
    let cookie = v1::ForwardingPipelineConfig { cookie: config.cookie, ..Default::default() };
    assert_eq!(get(&mut controller, ResponseType::CookieOnly).await, Some(cookie.clone()));
    let p4info = v1::ForwardingPipelineConfig { p4info: config.p4info, ..cookie.clone() };
    assert_eq!(get(&mut controller, ResponseType::P4infoAndCookie).await, Some(p4info));
    let device = v1::ForwardingPipelineConfig { p4_device_config: config.p4_device_config, ..cookie };
    assert_eq!(get(&mut controller, ResponseType::DeviceConfigAndCookie).await, Some(device));
}

#[tokio::test]
async fn only_the_primary_sets_a_pipeline() {
    let (rig, mut primary) = primary().await;
    let mut other = rig.connect().await;
    other.election_id = Some(v1::Uint128 { high: 0, low: 2 });
    assert_eq!(other.commit(portal(1)).await.unwrap_err().code(), Code::PermissionDenied);
    let wrong_device = v1::SetForwardingPipelineConfigRequest { device_id: 99, ..Default::default() };
    let status = primary.client.set_forwarding_pipeline_config(wrong_device).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let role =
        v1::SetForwardingPipelineConfigRequest { device_id: DEVICE, role: "sdn".to_owned(), ..Default::default() };
    assert_eq!(primary.client.set_forwarding_pipeline_config(role).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn verify_changes_nothing_and_finds_what_is_wrong() {
    let (_rig, mut controller) = primary().await;
    controller.set_pipeline(Action::Verify, Some(portal(1))).await.unwrap();
    assert_eq!(get(&mut controller, ResponseType::All).await, None);

    let no_p4info = v1::ForwardingPipelineConfig { p4info: None, ..portal(1) };
    let no_program = v1::ForwardingPipelineConfig { p4_device_config: Vec::new(), ..portal(1) };
    let no_json = v1::ForwardingPipelineConfig { p4_device_config: b"\x7fELF".to_vec(), ..portal(1) };
    let mut renamed = portal(1);
    // A table that the program lacks is as good as not described, but an action of a table that it has must be there.
    let sends = |a: &&mut dmux_p4rt::p4::config::v1::Action| {
        a.preamble.as_ref().is_some_and(|p| p.name == "PortalIngress.send")
    };
    if let Some(send) = renamed.p4info.as_mut().unwrap().actions.iter_mut().find(sends) {
        send.preamble.as_mut().unwrap().name = "PortalIngress.sent".to_owned();
    }
    let mut widened = portal(1);
    widened.p4info.as_mut().unwrap().tables[0].match_fields[0].bitwidth = 10;
    for (config, about) in [
        (None, "configuration"),
        (Some(no_p4info), "P4Info"),
        (Some(no_program), "p4_device_config"),
        (Some(no_json), "p4_device_config"),
        (Some(renamed), "PortalIngress.sent"),
        (Some(widened), "10 bits"),
    ] {
        let status = controller.set_pipeline(Action::Verify, config).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(about), "{about}: {}", status.message());
    }
}

#[tokio::test]
async fn committing_again_clears_the_tables() {
    let (_rig, mut controller) = Rig::loaded().await;
    assert_eq!(controller.write_one(insert(wire_entry(1, 2))).await, Code::Ok);
    controller.commit(portal(2)).await.unwrap();
    let filter = v1::TableEntry { table_id: table_id("wire"), ..Default::default() };
    assert!(controller.entries(filter).await.is_empty());
}

#[tokio::test]
async fn a_refused_pipeline_leaves_the_old_one_at_work() {
    let (rig, mut controller) = Rig::loaded().await;
    controller.write_one(insert(wire_entry(1, 2))).await;
    let broken = v1::ForwardingPipelineConfig { p4_device_config: b"{".to_vec(), ..portal(9) };
    assert_eq!(controller.commit(broken).await.unwrap_err().code(), Code::InvalidArgument);
    let frame = frame(1, 0x88b5, b"still here");
    rig.port1.send(&frame);
    assert_eq!(rig.port2.receive(PATIENCE), Some(frame));
}

#[tokio::test]
async fn what_is_saved_is_written_to_but_runs_only_after_commit() {
    let (rig, mut controller) = Rig::loaded().await;
    assert_eq!(
        controller.set_pipeline(Action::Commit, None).await.unwrap_err().code(),
        Code::NotFound,
        "nothing is saved"
    );
    controller.set_pipeline(Action::VerifyAndSave, Some(portal(2))).await.unwrap();
    assert_eq!(controller.write_one(insert(wire_entry(1, 2))).await, Code::Ok);
    let frame = frame(1, 0x88b5, b"x");
    rig.port1.send(&frame);
    assert_eq!(rig.port2.receive(MOMENT), None, "the old pipeline still runs");
    let with_config = controller.set_pipeline(Action::Commit, Some(portal(2))).await.unwrap_err();
    assert_eq!(with_config.code(), Code::InvalidArgument);
    controller.set_pipeline(Action::Commit, None).await.unwrap();
    rig.port1.send(&frame);
    assert_eq!(rig.port2.receive(PATIENCE), Some(frame));
    assert_eq!(controller.set_pipeline(Action::Commit, None).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_request_without_an_action_is_invalid() {
    let (_rig, mut controller) = primary().await;
    let unspecified = controller.set_pipeline(Action::Unspecified, Some(portal(1))).await.unwrap_err();
    assert_eq!(unspecified.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn capabilities_tell_a_semantic_version() {
    let (_rig, mut controller) = primary().await;
    let version = controller.client.capabilities(v1::CapabilitiesRequest::default()).await.unwrap().into_inner();
    assert!(version.p4runtime_api_version.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3);
}
