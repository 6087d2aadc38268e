//! Multicast groups and clone sessions.

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::packet_replication_engine_entry::Type as Kind;
use dmux_p4rt::p4::v1::replica::PortKind;
use dmux_p4rt::p4::v1::update::Type;
use tonic::Code;

use super::keys::{number, shortest};
use super::{MAX_METADATA, Model, admit};

/// v1model's ports, instances, groups, and classes of service; BMv2's sessions.
const PORT_BITS: u32 = 9;
const MAX_PORT: u32 = (1 << PORT_BITS) - 1;
const MAX_INSTANCE: u32 = 0xffff;
const MAX_GROUP: u32 = 0xffff;
const MAX_SESSION: u32 = 0x7fff;
const MAX_CLASS: u32 = 7;

impl Model {
    pub(super) fn replication(&mut self, kind: Type, entry: &v1::PacketReplicationEngineEntry, wrong: &mut Vec<Code>) {
        match &entry.r#type {
            None => wrong.push(Code::InvalidArgument),
            Some(Kind::MulticastGroupEntry(group)) => self.group(kind, group, wrong),
            Some(Kind::CloneSessionEntry(session)) => self.session(kind, session, wrong),
        }
    }

    fn group(&mut self, kind: Type, entry: &v1::MulticastGroupEntry, wrong: &mut Vec<Code>) {
        let id = entry.multicast_group_id;
        if !(1..=MAX_GROUP).contains(&id) {
            wrong.push(Code::InvalidArgument);
        }
        admit(kind, self.multicast.contains_key(&id), wrong);
        if kind == Type::Delete {
            if wrong.is_empty() {
                self.multicast.remove(&id);
            }
            return;
        }
        if entry.metadata.len() > MAX_METADATA {
            wrong.push(Code::ResourceExhausted);
        }
        let replicas = replicas(&entry.replicas, wrong);
        if wrong.is_empty() {
            self.multicast.insert(id, v1::MulticastGroupEntry { replicas, ..entry.clone() });
        }
    }

    fn session(&mut self, kind: Type, entry: &v1::CloneSessionEntry, wrong: &mut Vec<Code>) {
        let id = entry.session_id;
        if !(1..=MAX_SESSION).contains(&id) {
            wrong.push(Code::InvalidArgument);
        }
        admit(kind, self.sessions.contains_key(&id), wrong);
        if kind == Type::Delete {
            if wrong.is_empty() {
                self.sessions.remove(&id);
            }
            return;
        }
        if entry.class_of_service > MAX_CLASS {
            wrong.push(Code::OutOfRange);
        }
        if entry.packet_length_bytes < 0 {
            wrong.push(Code::InvalidArgument);
        }
        let replicas = replicas(&entry.replicas, wrong);
        if wrong.is_empty() {
            self.sessions.insert(id, v1::CloneSessionEntry { replicas, ..entry.clone() });
        }
    }
}

/// Replicas in canonical form, in an order of their own: what a switch makes of the order is its business.
#[expect(deprecated, reason = "controllers of P4Runtime 1.3 and before give the port as a number")]
fn replicas(given: &[v1::Replica], wrong: &mut Vec<Code>) -> Vec<v1::Replica> {
    let (mut canonical, mut seen) = (Vec::new(), Vec::new());
    for replica in given {
        let port = match &replica.port_kind {
            None => {
                wrong.push(Code::InvalidArgument);
                continue;
            }
            Some(PortKind::EgressPort(port)) => Some(*port).filter(|p| *p <= MAX_PORT),
            Some(PortKind::Port(bytes)) => number(bytes, PORT_BITS).map(|p| p as u32),
        };
        if replica.instance > MAX_INSTANCE {
            wrong.push(Code::InvalidArgument);
        }
        let Some(port) = port else {
            wrong.push(Code::OutOfRange);
            continue;
        };
        let mut places = vec![(port, replica.instance)];
        let mut backup_replicas = Vec::new();
        for backup in &replica.backup_replicas {
            let other = number(&backup.port, PORT_BITS).map(|p| p as u32);
            if other.is_none() {
                wrong.push(Code::OutOfRange);
            }
            if other == Some(port) || backup.instance > MAX_INSTANCE {
                wrong.push(Code::InvalidArgument);
            }
            places.extend(other.map(|other| (other, backup.instance)));
            let port = shortest(other.unwrap_or_default().into());
            backup_replicas.push(v1::BackupReplica { port, instance: backup.instance });
        }
        for place in places {
            if seen.contains(&place) {
                wrong.push(Code::InvalidArgument);
            }
            seen.push(place);
        }
        let port_kind = match &replica.port_kind {
            Some(PortKind::Port(_)) => Some(PortKind::Port(shortest(port.into()))),
            other => other.clone(),
        };
        canonical.push(v1::Replica { port_kind, instance: replica.instance, backup_replicas });
    }
    sorted(canonical)
}

/// Replicas in one order.
pub(super) fn sorted(mut replicas: Vec<v1::Replica>) -> Vec<v1::Replica> {
    replicas.sort_by_key(|r| (r.instance, format!("{:?}", r.port_kind)));
    replicas
}
