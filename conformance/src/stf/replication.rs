//! Entries of the packet replication engine.

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;

/// A copy with this replication id, to this port.
#[expect(deprecated, reason = "BMv2's server understands only the number of a port")]
pub fn replica(rid: u32, port: u16) -> v1::Replica {
    let port_kind = v1::replica::PortKind::EgressPort(port.into());
    v1::Replica { instance: rid, port_kind: Some(port_kind), ..Default::default() }
}

/// A multicast group.
pub fn multicast(group: u32, replicas: Vec<v1::Replica>) -> Entity {
    let entry = v1::MulticastGroupEntry { multicast_group_id: group, replicas, ..Default::default() };
    packet_replication(v1::packet_replication_engine_entry::Type::MulticastGroupEntry(entry))
}

/// A clone session.
pub fn clone_session(session: u32, replicas: Vec<v1::Replica>) -> Entity {
    let entry = v1::CloneSessionEntry { session_id: session, replicas, ..Default::default() };
    packet_replication(v1::packet_replication_engine_entry::Type::CloneSessionEntry(entry))
}

fn packet_replication(r#type: v1::packet_replication_engine_entry::Type) -> Entity {
    Entity::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry { r#type: Some(r#type) })
}
