//! RECONCILE_AND_COMMIT (specification §14): what is kept, and what makes it refuse.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::set_forwarding_pipeline_config_request::Action;
use dmux_p4rt::p4::v1::update::Type;
use p4runtime_support::holdings::*;
use p4runtime_support::*;
use serde_json::Value;
use tonic::{Code, Status};

async fn reconcile(controller: &mut Controller, config: v1::ForwardingPipelineConfig) -> Result<(), Status> {
    controller.set_pipeline(Action::ReconcileAndCommit, Some(config)).await
}

/// The portal program with something changed in its JSON.
fn portal_but(change: impl Fn(&mut Value)) -> v1::ForwardingPipelineConfig {
    let mut config = portal(2);
    let mut json: Value = serde_json::from_slice(&config.p4_device_config).unwrap();
    change(&mut json);
    config.p4_device_config = serde_json::to_vec(&json).unwrap();
    config
}

/// A table in the JSON.
fn table<'a>(json: &'a mut Value, name: &str) -> &'a mut Value {
    let pipelines = json["pipelines"].as_array_mut().unwrap();
    let mut tables = pipelines.iter_mut().flat_map(|p| p["tables"].as_array_mut().unwrap());
    tables.find(|t| t["name"] == name).unwrap()
}

/// A table in the P4Info.
fn described<'a>(config: &'a mut v1::ForwardingPipelineConfig, alias: &str) -> &'a mut info::Table {
    let p4info = config.p4info.as_mut().unwrap();
    p4info.tables.iter_mut().find(|t| t.preamble.as_ref().unwrap().alias == alias).unwrap()
}

fn route(byte: u8) -> v1::TableEntry {
    entry("route", vec![(1, lpm(&[byte, 0, 0, 0, 0, 0], 8))], action("set_src", &[b"\x07"]))
}

/// A switch that holds something of each kind.
async fn rig() -> (Rig, Controller) {
    let (rig, mut controller) = Rig::loaded().await;
    let acl = v1::TableEntry { priority: 5, ..entry("acl", vec![(3, optional(b"\x07"))], action("drop", &[])) };
    let index = Some(v1::Index { index: 2 });
    let data = Some(v1::CounterData { byte_count: 300, packet_count: 3 });
    let frames = v1::CounterEntry { counter_id: counter_id("frames"), index, data };
    let given = vec![
        insert(counted()),
        insert(metered(10)),
        insert(acl),
        insert(route(2)),
        insert(route(4)),
        modify(default_route(b"\x0a")),
        limit(2, 10),
        update(Type::Modify, Entity::CounterEntry(frames)),
    ];
    assert_eq!(controller.write(given).await, [Code::Ok; 8]);
    (rig, controller)
}

#[tokio::test]
async fn on_a_switch_without_a_pipeline_it_commits() {
    let rig = Rig::start().await;
    let mut controller = rig.connect().await;
    controller.arbitrate(1).await.unwrap();
    reconcile(&mut controller, portal(1)).await.unwrap();
    assert_eq!(controller.write_one(insert(wire_entry(1, 2))).await, Code::Ok);
}

#[tokio::test]
async fn the_same_program_with_another_cookie_keeps_everything() {
    let (rig, mut controller) = rig().await;
    let before = everything(&mut controller).await;
    let pipeline = rig.switch.pipeline().unwrap();
    reconcile(&mut controller, portal(77)).await.unwrap();
    assert_eq!(everything(&mut controller).await, before);
    assert!(std::sync::Arc::ptr_eq(&pipeline, &rig.switch.pipeline().unwrap()), "nothing was even copied");
    let request = v1::GetForwardingPipelineConfigRequest { device_id: DEVICE, response_type: 1 };
    let got = controller.client.get_forwarding_pipeline_config(request).await.unwrap().into_inner();
    assert_eq!(got.config.unwrap().cookie.unwrap().cookie, 77);
}

#[tokio::test]
async fn another_program_keeps_entries_defaults_meters_counters_and_metadata() {
    let (rig, mut controller) = rig().await;
    let before = everything(&mut controller).await;
    // A table with more room is another program.
    reconcile(&mut controller, portal_but(|json| table(json, "PortalIngress.route")["max_size"] = 8.into()))
        .await
        .unwrap();
    assert_eq!(everything(&mut controller).await, before);
    let codes = controller.write((6..12).map(|i| insert(route(i))).collect()).await;
    assert_eq!(codes, [Code::Ok; 6], "the new program is at work");
    let sent = frame(1, 0x88b5, b"x");
    rig.port1.send(&sent);
    assert_eq!(rig.port2.receive(PATIENCE).unwrap()[6..12], [0, 0, 0, 0, 0, 0x0a]);
}

#[tokio::test]
async fn ids_may_change_as_long_as_names_stay() {
    let (_rig, mut controller) = rig().await;
    let mut config = portal(2);
    let route = described(&mut config, "route");
    route.preamble.as_mut().unwrap().id = 0x0200_0999;
    route.match_fields[0].id = 9;
    reconcile(&mut controller, config).await.unwrap();
    let all = v1::TableEntry { table_id: 0x0200_0999, ..Default::default() };
    let found = controller.entries(all).await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|e| e.r#match[0].field_id == 9));
}

#[tokio::test]
async fn entries_that_do_not_fit_refuse_the_whole_request_with_the_reason() {
    let (rig, mut controller) = rig().await;
    let before = everything(&mut controller).await;
    let smaller = portal_but(|json| table(json, "PortalIngress.route")["max_size"] = 1.into());
    let mut renamed = portal_but(|json| table(json, "PortalIngress.acl")["name"] = "PortalIngress.list".into());
    described(&mut renamed, "acl").preamble.as_mut().unwrap().name = "PortalIngress.list".to_owned();
    for (config, about) in [(smaller, "route"), (renamed, "acl")] {
        let status = reconcile(&mut controller, config).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(about), "{about}: {}", status.message());
        assert_eq!(everything(&mut controller).await, before);
    }
    let sent = frame(1, 0x88b5, b"x");
    rig.port1.send(&sent);
    assert!(rig.port2.receive(PATIENCE).is_some(), "the old program still runs");
}

#[tokio::test]
async fn without_a_configuration_or_with_a_wrong_one_it_is_refused() {
    let (_rig, mut controller) = rig().await;
    let before = everything(&mut controller).await;
    let none = controller.set_pipeline(Action::ReconcileAndCommit, None).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    let broken = v1::ForwardingPipelineConfig { p4_device_config: b"{".to_vec(), ..portal(9) };
    assert_eq!(reconcile(&mut controller, broken).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(everything(&mut controller).await, before);
}
