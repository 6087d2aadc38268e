//! What the controllers of a role may do: specification 1.4, section 5.2.
//!
//! Without a configuration that is everything. The one kind of configuration that is understood is Stratum's
//! [`RoleConfig`]: it names P4Info ids, so what has none (multicast groups and clone sessions) is open to every role.

use std::sync::Arc;

use dmux_p4rt::RoleConfig;
use dmux_p4rt::bytestring;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use tonic::Code;

use super::error::Refused;

/// The most P4Info ids that a role configuration may list.
pub const MAX_ROLE_IDS: usize = 4096;

/// What one role may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(Option<Arc<RoleConfig>>);

impl Access {
    /// What a role with this configuration may do; without one, everything.
    #[must_use]
    pub fn of(config: Option<&Arc<RoleConfig>>) -> Self {
        Self(config.cloned())
    }

    /// Whether it is everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it includes the object with this P4Info id: writes of it, reads with this role, and its notifications.
    #[must_use]
    pub fn covers(&self, id: u32) -> bool {
        self.0.as_ref().is_none_or(|config| config.covers(id))
    }

    /// Whether it includes the object that an entity belongs to.
    #[must_use]
    pub fn covers_entity(&self, entity: &v1::Entity) -> bool {
        match (self.is_full(), entity.entity.as_ref().and_then(id_of)) {
            (true, _) | (_, None) => true,
            (false, Some(id)) => self.covers(id),
        }
    }

    /// Whether a packet-in with this metadata goes to the role's primary.
    #[must_use]
    pub fn receives(&self, metadata: &[v1::PacketMetadata]) -> bool {
        let Some(config) = &self.0 else { return true };
        let passes = config.packet_in_filter.as_ref().is_none_or(|filter| {
            metadata.iter().any(|m| {
                m.metadata_id == filter.metadata_id
                    && bytestring::canonical(&m.value) == bytestring::canonical(&filter.value)
            })
        });
        config.receives_packet_ins && passes
    }

    /// Whether it includes setting the forwarding pipeline configuration.
    #[must_use]
    pub fn may_set_pipeline(&self) -> bool {
        self.0.as_ref().is_none_or(|config| config.can_push_pipeline)
    }

    /// Refuses an update of what the role does not include (§12: PERMISSION_DENIED for this update).
    pub(crate) fn check(&self, entity: Option<&v1::Entity>) -> Result<(), Refused> {
        match entity {
            Some(entity) if !self.covers_entity(entity) => {
                let id = entity.entity.as_ref().and_then(id_of).unwrap_or_default();
                Err(Refused::new(
                    Code::PermissionDenied,
                    format!("the object with id {id} (0x{id:08x}) is not in this role's configuration"),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The P4Info id of the object that an entity belongs to; entities of the packet replication engine have none.
fn id_of(entity: &Entity) -> Option<u32> {
    let table = |entry: &Option<v1::TableEntry>| entry.as_ref().map_or(0, |e| e.table_id);
    Some(match entity {
        Entity::TableEntry(e) => e.table_id,
        Entity::ActionProfileMember(e) => e.action_profile_id,
        Entity::ActionProfileGroup(e) => e.action_profile_id,
        Entity::MeterEntry(e) => e.meter_id,
        Entity::DirectMeterEntry(e) => table(&e.table_entry),
        Entity::CounterEntry(e) => e.counter_id,
        Entity::DirectCounterEntry(e) => table(&e.table_entry),
        Entity::PacketReplicationEngineEntry(_) => return None,
        Entity::ValueSetEntry(e) => e.value_set_id,
        Entity::RegisterEntry(e) => e.register_id,
        Entity::DigestEntry(e) => e.digest_id,
        Entity::ExternEntry(e) => e.extern_id,
    })
}

/// Reads the `role.config` of an arbitration message. `Err` is why it is refused.
pub(crate) fn parse(any: &prost_types::Any) -> Result<Arc<RoleConfig>, String> {
    let config = RoleConfig::from_any(any)?;
    if config.exclusive_p4_ids.len() + config.shared_p4_ids.len() > MAX_ROLE_IDS {
        return Err(format!("the role configuration lists more than {MAX_ROLE_IDS} P4 ids"));
    }
    match &config.packet_in_filter {
        Some(_) if !config.receives_packet_ins => {
            Err("the role configuration filters packet-ins, but receives none: set receives_packet_ins".to_owned())
        }
        Some(filter) if filter.value.is_empty() => {
            Err("the role configuration's packet_in_filter has an empty value".to_owned())
        }
        _ => Ok(Arc::new(config)),
    }
}

/// A P4Info id that two roles cannot both have, since one of them has it exclusively.
pub(crate) fn conflict(one: &RoleConfig, other: &RoleConfig) -> Option<u32> {
    let mine = one.exclusive_p4_ids.iter().find(|id| other.covers(**id));
    mine.or_else(|| other.exclusive_p4_ids.iter().find(|id| one.covers(**id))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmux_p4rt::role::PacketFilter;

    fn access(config: RoleConfig) -> Access {
        Access::of(Some(&Arc::new(config)))
    }

    fn metadata(id: u32, value: &[u8]) -> v1::PacketMetadata {
        v1::PacketMetadata { metadata_id: id, value: value.to_vec() }
    }

    #[test]
    fn without_a_configuration_everything_is_allowed() {
        let full = Access::default();
        assert!(full.is_full() && full.covers(7) && full.receives(&[]) && full.may_set_pipeline());
    }

    #[test]
    fn a_configuration_allows_what_it_names_and_what_has_no_id() {
        let some = access(RoleConfig { exclusive_p4_ids: vec![1], shared_p4_ids: vec![2], ..RoleConfig::default() });
        let table = |table_id| v1::Entity {
            entity: Some(Entity::TableEntry(v1::TableEntry { table_id, ..v1::TableEntry::default() })),
        };
        assert!(some.covers_entity(&table(1)) && some.covers_entity(&table(2)));
        assert_eq!(some.check(Some(&table(3))).unwrap_err().code, Code::PermissionDenied);
        let group = Entity::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry::default());
        assert!(some.covers_entity(&v1::Entity { entity: Some(group) }));
        assert!(!some.may_set_pipeline() && !some.receives(&[]));
    }

    #[test]
    fn a_filter_lets_packet_ins_with_its_value_through_however_padded() {
        let filter = PacketFilter { metadata_id: 1, value: b"\0\x05".to_vec() };
        let some =
            access(RoleConfig { packet_in_filter: Some(filter), receives_packet_ins: true, ..RoleConfig::default() });
        assert!(some.receives(&[metadata(2, b"\x01"), metadata(1, b"\x05")]));
        assert!(!some.receives(&[metadata(2, b"\x05"), metadata(1, b"\x01")]));
        assert!(!some.receives(&[]));
    }

    #[test]
    fn configurations_that_contradict_themselves_are_refused() {
        let filter = PacketFilter { metadata_id: 1, value: b"\x05".to_vec() };
        let deaf = RoleConfig { packet_in_filter: Some(filter), ..RoleConfig::default() };
        assert!(parse(&deaf.to_any()).unwrap_err().contains("receives_packet_ins"));
        let empty = RoleConfig {
            packet_in_filter: Some(PacketFilter::default()),
            receives_packet_ins: true,
            ..RoleConfig::default()
        };
        assert!(parse(&empty.to_any()).unwrap_err().contains("empty"));
        let many = RoleConfig { shared_p4_ids: vec![1; MAX_ROLE_IDS + 1], ..RoleConfig::default() };
        assert!(parse(&many.to_any()).is_err());
    }

    #[test]
    fn what_is_exclusive_to_one_conflicts_with_any_claim_of_another() {
        let exclusive = |ids: &[u32]| RoleConfig { exclusive_p4_ids: ids.to_vec(), ..RoleConfig::default() };
        let shared = |ids: &[u32]| RoleConfig { shared_p4_ids: ids.to_vec(), ..RoleConfig::default() };
        assert_eq!(conflict(&exclusive(&[1, 2]), &exclusive(&[2])), Some(2));
        assert_eq!(conflict(&exclusive(&[1]), &shared(&[1])), Some(1));
        assert_eq!(conflict(&shared(&[1]), &exclusive(&[1])), Some(1));
        assert_eq!(conflict(&shared(&[1]), &shared(&[1])), None);
    }
}
