//! Multicast groups and subscriptions to digests, as P4Runtime has them (§9.5.1, §9.8).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_p4rt::bytestring;
use dmux_p4rt::client::{Session, SessionError};
use dmux_p4rt::p4::v1::entity::Entity as Kind;
use dmux_p4rt::p4::v1::packet_replication_engine_entry::Type;
use dmux_p4rt::p4::v1::replica::PortKind;
use dmux_p4rt::p4::v1::{
    DigestEntry, Entity, MulticastGroupEntry, PacketReplicationEngineEntry, Replica, digest_entry,
};
use dmux_tables::{MulticastGroup, PortId, Value};

use crate::plan::{DIGESTS, DigestRate, Fixture, FixtureKey};

/// Of all replicas: the program does not look at it.
const INSTANCE: u32 = 1;

/// What a switch has: all its multicast groups, and those digests that a controller ever asks for.
pub(super) async fn read(session: &Session) -> Result<BTreeMap<FixtureKey, Fixture>, SessionError> {
    let mut fixtures = Vec::new();
    for entity in session.read(vec![group(MulticastGroupEntry::default())]).await? {
        if let Some(Kind::PacketReplicationEngineEntry(entry)) = entity.entity
            && let Some(Type::MulticastGroupEntry(group)) = entry.r#type
        {
            fixtures.extend(read_group(&group));
        }
    }
    for digest_id in DIGESTS {
        // One by one: PI has no wildcard for digests.
        let configured = session.read_digest(digest_id).await?;
        fixtures.extend(configured.map(|config| Fixture::Digest(digest_id, rate(config))));
    }
    Ok(fixtures.into_iter().map(|fixture| (fixture.key(), fixture)).collect())
}

/// As an update names it.
pub(super) fn encode(fixture: &Fixture) -> Entity {
    match fixture {
        Fixture::Group(id, ports) => group(MulticastGroupEntry {
            multicast_group_id: id.0.into(),
            replicas: ports.iter().map(|&port| replica(port)).collect(),
            ..Default::default()
        }),
        Fixture::Digest(digest_id, rate) => {
            Kind::DigestEntry(DigestEntry { digest_id: *digest_id, config: rate.map(config) }).into()
        }
    }
}

fn group(entry: MulticastGroupEntry) -> Entity {
    let r#type = Some(Type::MulticastGroupEntry(entry));
    Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry { r#type }).into()
}

#[expect(deprecated, reason = "switches of P4Runtime 1.3 and before know a port as a number only")]
fn replica(port: PortId) -> Replica {
    let port_kind = Some(PortKind::EgressPort(port.get().into()));
    Replica { port_kind, instance: INSTANCE, backup_replicas: Vec::new() }
}

/// `None` for a group beyond the 16 bits that entries can name: nothing ever sends to it.
fn read_group(entry: &MulticastGroupEntry) -> Option<Fixture> {
    let id = MulticastGroup(u16::try_from(entry.multicast_group_id).ok()?);
    let ports: Option<BTreeSet<_>> = entry.replicas.iter().map(port_of).collect();
    let ports = ports.filter(|ports| ports.len() == entry.replicas.len());
    Some(Fixture::Group(id, ports.unwrap_or_default()))
}

/// `None` for a replica that is not as we make them.
#[expect(deprecated, reason = "a switch returns the port as it was written")]
fn port_of(replica: &Replica) -> Option<PortId> {
    let number = match replica.port_kind.as_ref()? {
        PortKind::EgressPort(port) => u128::from(*port),
        PortKind::Port(bytes) => bytestring::decode(bytes, PortId::BITS).ok()?,
    };
    let ours = replica.instance == INSTANCE && replica.backup_replicas.is_empty();
    PortId::from_bits(number).filter(|_| ours)
}

fn config(rate: DigestRate) -> digest_entry::Config {
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    digest_entry::Config {
        max_timeout_ns: nanos(rate.wait),
        max_list_size: rate.list.into(),
        ack_timeout_ns: nanos(rate.ack),
    }
}

/// `None` for a configuration that none of ours is.
fn rate(config: digest_entry::Config) -> Option<DigestRate> {
    let time = |nanos| u64::try_from(nanos).ok().map(Duration::from_nanos);
    Some(DigestRate {
        list: u16::try_from(config.max_list_size).ok()?,
        wait: time(config.max_timeout_ns)?,
        ack: time(config.ack_timeout_ns)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::STATION_DIGESTS;

    fn entry_of(entity: Entity) -> MulticastGroupEntry {
        match entity.entity {
            Some(Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry {
                r#type: Some(Type::MulticastGroupEntry(entry)),
            })) => entry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn groups_read_back_as_they_were_written() {
        let ours = Fixture::Group(MulticastGroup(7), [PortId::of::<3>(), PortId::of::<300>()].into());
        let entry = entry_of(encode(&ours));
        assert_eq!(read_group(&entry), Some(ours.clone()));
        let mut as_bytes = entry.clone();
        as_bytes.replicas[1].port_kind = Some(PortKind::Port(vec![1, 44]));
        assert_eq!(read_group(&as_bytes), Some(ours));
    }

    #[test]
    fn a_group_of_another_hand_differs_from_every_plan() {
        let entry = entry_of(encode(&Fixture::Group(MulticastGroup(7), [PortId::of::<3>()].into())));
        let unlike = Some(Fixture::Group(MulticastGroup(7), BTreeSet::new()));
        let mut other = entry.clone();
        other.replicas[0].instance = 2;
        assert_eq!(read_group(&other), unlike);
        let mut twice = entry.clone();
        twice.replicas.push(twice.replicas[0].clone());
        assert_eq!(read_group(&twice), unlike);
        let mut portless = entry.clone();
        portless.replicas[0].port_kind = None;
        assert_eq!(read_group(&portless), unlike);
        assert_eq!(read_group(&MulticastGroupEntry { multicast_group_id: 1 << 16, ..entry }), None);
    }

    #[test]
    fn what_is_asked_of_a_digest_reads_back() {
        assert_eq!(rate(config(STATION_DIGESTS)), Some(STATION_DIGESTS));
        assert_eq!(rate(digest_entry::Config { max_list_size: -1, ..config(STATION_DIGESTS) }), None);
    }
}
