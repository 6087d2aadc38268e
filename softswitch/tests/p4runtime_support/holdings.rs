//! Things that a switch with the portal program can hold, and all that any switch holds.

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::update::Type;
use prost::Message;

use super::*;

/// An entry that has a metadata and a count.
pub fn counted() -> v1::TableEntry {
    v1::TableEntry {
        metadata: b"mine".to_vec(),
        counter_data: Some(v1::CounterData { byte_count: 700, packet_count: 7 }),
        ..wire_entry(1, 2)
    }
}

/// A meter of this committed rate.
pub fn meter(cir: i64) -> v1::MeterConfig {
    v1::MeterConfig { cir, cburst: 2, pir: 30, pburst: 4, eburst: 0 }
}

/// An entry with such a meter.
pub fn metered(cir: i64) -> v1::TableEntry {
    let entry = entry("metered", vec![(1, exact(b"\x01"))], action("mark", &[]));
    v1::TableEntry { meter_config: Some(meter(cir)), ..entry }
}

/// Sets a cell of the meter `limit`.
pub fn limit(index: i64, cir: i64) -> v1::Update {
    let (index, config) = (Some(v1::Index { index }), Some(meter(cir)));
    let entry = v1::MeterEntry { meter_id: meter_id("limit"), index, config, counter_data: None };
    update(Type::Modify, Entity::MeterEntry(entry))
}

/// The default entry of `route`.
pub fn default_route(mac: &[u8]) -> v1::TableEntry {
    v1::TableEntry { is_default_action: true, ..entry("route", vec![], action("set_src", &[mac])) }
}

/// Everything that the switch holds, in an order that does not depend on how it came there.
pub async fn everything(controller: &mut Controller) -> Vec<Entity> {
    let entry = |is_default_action, table_id| {
        Entity::TableEntry(v1::TableEntry {
            table_id,
            is_default_action,
            counter_data: Some(Default::default()),
            meter_config: Some(Default::default()),
            ..Default::default()
        })
    };
    let requests = [
        entry(false, 0),
        entry(true, table_id("route")),
        Entity::CounterEntry(Default::default()),
        Entity::MeterEntry(Default::default()),
        Entity::RegisterEntry(Default::default()),
        Entity::ValueSetEntry(Default::default()),
        Entity::DigestEntry(Default::default()),
        Entity::PacketReplicationEngineEntry(Default::default()),
        Entity::ActionProfileMember(Default::default()),
        Entity::ActionProfileGroup(Default::default()),
    ];
    let requests = requests.map(|e| v1::Entity { entity: Some(e) }).to_vec();
    let mut found = controller.read(requests).await.unwrap();
    found.sort_by_key(|e| v1::Entity { entity: Some(e.clone()) }.encode_to_vec());
    found
}
