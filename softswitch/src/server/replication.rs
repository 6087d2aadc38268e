//! Multicast groups and clone sessions: specification 1.4, section 9.5, with the backup replicas of 1.5.
//!
//! What a controller wrote is kept as it wrote it, for reads; the data plane has the same as ports and numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::packet_replication_engine_entry::Type as Kind;
use dmux_p4rt::p4::v1::replica::PortKind;
use dmux_p4rt::p4::v1::update::Type;
use tonic::Code;

use super::error::Refused;
use super::value::{all_ones, decode, encode};
use crate::pipeline::Dataplane;
use crate::pipeline::replication::{Choice, CloneSession, MAX_REPLICAS, MAX_SESSION, Replica};

/// Width of an instance: that of `egress_rid` in v1model.
const INSTANCE_BITS: u32 = 16;

/// The longest metadata of a multicast group: it is kept for the controller and never looked at.
const MAX_METADATA_BYTES: usize = 1024;

/// What was written.
#[derive(Debug, Default)]
struct Written {
    groups: BTreeMap<u32, v1::MulticastGroupEntry>,
    sessions: BTreeMap<u32, v1::CloneSessionEntry>,
}

/// The replication entries of one pipeline.
#[derive(Debug, Default)]
pub(crate) struct ReplicationEntries(Mutex<Written>);

impl ReplicationEntries {
    fn lock(&self) -> MutexGuard<'_, Written> {
        // Whole after any panic: each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs one update.
    pub(crate) fn write(
        &self,
        dataplane: &Dataplane,
        update: Type,
        entry: &v1::PacketReplicationEngineEntry,
    ) -> Result<(), Refused> {
        let mut written = self.lock();
        match &entry.r#type {
            None => Err(Refused::invalid("the entry is neither a multicast group nor a clone session")),
            Some(Kind::MulticastGroupEntry(group)) => write_group(&mut written.groups, dataplane, update, group),
            Some(Kind::CloneSessionEntry(session)) => write_session(&mut written.sessions, dataplane, update, session),
        }
    }

    /// What a read selects: one entry, all of a kind (id 0), or all.
    pub(crate) fn read(
        &self,
        filter: &v1::PacketReplicationEngineEntry,
    ) -> Result<Vec<v1::PacketReplicationEngineEntry>, Refused> {
        let written = self.lock();
        let groups = |id: u32| select(&written.groups, id, "multicast group", Kind::MulticastGroupEntry);
        let sessions = |id: u32| select(&written.sessions, id, "clone session", Kind::CloneSessionEntry);
        match &filter.r#type {
            None => Ok([groups(0)?, sessions(0)?].concat()),
            Some(Kind::MulticastGroupEntry(group)) => groups(group.multicast_group_id),
            Some(Kind::CloneSessionEntry(session)) => sessions(session.session_id),
        }
    }
}

fn select<E: Clone>(
    all: &BTreeMap<u32, E>,
    id: u32,
    what: &str,
    kind: fn(E) -> Kind,
) -> Result<Vec<v1::PacketReplicationEngineEntry>, Refused> {
    let entry = |e: &E| v1::PacketReplicationEngineEntry { r#type: Some(kind(e.clone())) };
    if id == 0 {
        return Ok(all.values().map(entry).collect());
    }
    all.get(&id).map(|e| vec![entry(e)]).ok_or_else(|| not_found(what, id))
}

fn not_found(what: &str, id: u32) -> Refused {
    Refused::new(Code::NotFound, format!("there is no {what} {id}"))
}

/// Whether an update of something that is there, or not, can be performed.
fn admit(update: Type, there: bool, what: &str, id: u32) -> Result<(), Refused> {
    match (update, there) {
        (Type::Unspecified, _) => Err(Refused::invalid("the update has no type: INSERT, MODIFY or DELETE")),
        (Type::Insert, true) => Err(Refused::new(
            Code::AlreadyExists,
            format!("the {what} {id} is there already: MODIFY replaces its replicas"),
        )),
        (Type::Modify | Type::Delete, false) => Err(not_found(what, id)),
        (Type::Insert, false) | (Type::Modify | Type::Delete, true) => Ok(()),
    }
}

fn write_group(
    all: &mut BTreeMap<u32, v1::MulticastGroupEntry>,
    dataplane: &Dataplane,
    update: Type,
    entry: &v1::MulticastGroupEntry,
) -> Result<(), Refused> {
    let id = entry.multicast_group_id;
    let [_, width, _] = dataplane.program().replication_widths();
    let most = all_ones(width.min(16));
    let group = match u16::try_from(id) {
        Ok(group) if group != 0 && u128::from(group) <= most => group,
        _ => return Err(Refused::invalid(format!("the multicast group {id} is not from 1 to {most}"))),
    };
    let old = all.get(&id);
    admit(update, old.is_some(), "multicast group", id)?;
    if update == Type::Delete {
        all.remove(&id);
        dataplane.replication().set_group(group, None);
        return Ok(());
    }
    if entry.metadata.len() > MAX_METADATA_BYTES {
        return Err(Refused::new(
            Code::ResourceExhausted,
            format!("the group's metadata has {} bytes; {MAX_METADATA_BYTES} are kept at most", entry.metadata.len()),
        ));
    }
    let old = old.map_or(&[][..], |e| &e.replicas);
    let (written, replicas) = replicas(dataplane, &entry.replicas, old, &format!("multicast group {id}"))?;
    dataplane.replication().choose_group(group, Some(replicas));
    all.insert(id, v1::MulticastGroupEntry { replicas: written, ..entry.clone() });
    Ok(())
}

fn write_session(
    all: &mut BTreeMap<u32, v1::CloneSessionEntry>,
    dataplane: &Dataplane,
    update: Type,
    entry: &v1::CloneSessionEntry,
) -> Result<(), Refused> {
    let id = entry.session_id;
    let session = match u16::try_from(id) {
        Ok(session) if (1..=MAX_SESSION).contains(&session) => session,
        _ => return Err(Refused::invalid(format!("the clone session {id} is not from 1 to {MAX_SESSION}"))),
    };
    let old = all.get(&id);
    admit(update, old.is_some(), "clone session", id)?;
    if update == Type::Delete {
        all.remove(&id);
        dataplane.replication().set_session(session, None);
        return Ok(());
    }
    let [_, _, width] = dataplane.program().replication_widths();
    let most = if width == 0 { 0 } else { all_ones(width.min(16)) };
    let class = u16::try_from(entry.class_of_service).ok().filter(|c| u128::from(*c) <= most);
    let class_of_service = class.ok_or_else(|| {
        Refused::new(
            Code::OutOfRange,
            format!("clone session {id}: the class of service {} is beyond {most}", entry.class_of_service),
        )
    })?;
    let max_bytes = match usize::try_from(entry.packet_length_bytes) {
        Ok(0) => None,
        Ok(n) => Some(n),
        Err(_) => return Err(Refused::invalid(format!("clone session {id}: packet_length_bytes is negative"))),
    };
    let old = old.map_or(&[][..], |e| &e.replicas);
    let (written, replicas) = replicas(dataplane, &entry.replicas, old, &format!("clone session {id}"))?;
    let set = CloneSession { replicas: Vec::new(), class_of_service, max_bytes };
    dataplane.replication().choose_session(session, Some((set, replicas)));
    all.insert(id, v1::CloneSessionEntry { replicas: written, ..entry.clone() });
    Ok(())
}

/// Checks replicas and puts them into the order in which BMv2 makes copies: by instance, those first (in their old
/// order) that were there before the change, and each one's by port. Backups stay as they are.
fn replicas(
    dataplane: &Dataplane,
    asked: &[v1::Replica],
    old: &[v1::Replica],
    what: &str,
) -> Result<(Vec<v1::Replica>, Vec<Choice>), Refused> {
    let count = asked.iter().map(|r| 1 + r.backup_replicas.len()).sum::<usize>();
    if count > MAX_REPLICAS {
        return Err(Refused::new(
            Code::ResourceExhausted,
            format!("{what}: {count} replicas, backups included; {MAX_REPLICAS} are possible"),
        ));
    }
    let place = |r: &v1::Replica| old.iter().position(|o| o.instance == r.instance).unwrap_or(usize::MAX);
    let (mut all, mut seen) = (Vec::with_capacity(asked.len()), BTreeSet::new());
    for r in asked {
        let (choice, written) = replica(dataplane, r, what)?;
        for r in std::iter::once(&choice.first).chain(&choice.backups) {
            if !seen.insert((r.port, r.instance)) {
                return Err(Refused::invalid(format!(
                    "{what}: port {} with instance {} is there twice",
                    r.port, r.instance
                )));
            }
        }
        all.push(((place(r), choice.first.instance, choice.first.port), choice, written));
    }
    all.sort_by_key(|(order, _, _)| *order);
    Ok(all.into_iter().map(|(_, choice, written)| (written, choice)).unzip())
}

fn replica(dataplane: &Dataplane, r: &v1::Replica, what: &str) -> Result<(Choice, v1::Replica), Refused> {
    let [width, _, _] = dataplane.program().replication_widths();
    let bytes = |given: &[u8]| decode(given, width, || format!("{what}: the port of a replica"));
    #[expect(deprecated, reason = "controllers of P4Runtime 1.3 and before give the port as a number")]
    let (port, port_kind) = match &r.port_kind {
        None => return Err(Refused::invalid(format!("{what}: a replica without a port"))),
        Some(PortKind::EgressPort(port)) => (u128::from(*port), PortKind::EgressPort(*port)),
        Some(PortKind::Port(given)) => {
            let port = bytes(given)?;
            (port, PortKind::Port(encode(port)))
        }
    };
    let most = all_ones(width.min(16));
    let copy = |port: u128, instance: u32| {
        let port = u16::try_from(port).ok().filter(|p| u128::from(*p) <= most);
        let port = port
            .ok_or_else(|| Refused::new(Code::OutOfRange, format!("{what}: the port of a replica is beyond {most}")))?;
        let instance = u16::try_from(instance).map_err(|_| {
            Refused::invalid(format!("{what}: the instance {instance} has more than {INSTANCE_BITS} bits"))
        })?;
        Ok::<_, Refused>(Replica { port, instance })
    };
    let mut choice = Choice::from(copy(port, r.instance)?);
    let mut written = v1::Replica { port_kind: Some(port_kind), instance: r.instance, backup_replicas: Vec::new() };
    for b in &r.backup_replicas {
        let port = bytes(&b.port)?;
        let backup = copy(port, b.instance)?;
        if backup.port == choice.first.port {
            return Err(Refused::invalid(format!("{what}: port {} is its own backup", backup.port)));
        }
        choice.backups.push(backup);
        written.backup_replicas.push(v1::BackupReplica { port: encode(port), instance: b.instance });
    }
    Ok((choice, written))
}
