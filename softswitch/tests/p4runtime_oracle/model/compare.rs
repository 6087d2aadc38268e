//! Whether a switch holds what the model holds.

use std::collections::BTreeMap;

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::p4_data::Data;
use dmux_softswitch::server::config::ForwardingPipeline;

use super::replication::sorted;
use super::{Key, Model, key_of};
use crate::generate::id;

pub(super) fn everything() -> v1::TableEntry {
    v1::TableEntry {
        counter_data: Some(v1::CounterData::default()),
        meter_config: Some(v1::MeterConfig::default()),
        ..v1::TableEntry::default()
    }
}

pub(super) fn read_entries(pipeline: &ForwardingPipeline, filter: v1::TableEntry) -> Vec<v1::TableEntry> {
    let found = pipeline.read(&v1::Entity { entity: Some(Entity::TableEntry(filter)) }).unwrap();
    let entry = |e: v1::Entity| match e.entity {
        Some(Entity::TableEntry(mut entry)) => {
            entry.r#match.sort_by_key(|m| m.field_id);
            entry
        }
        other => panic!("not a table entry: {other:?}"),
    };
    found.into_iter().map(entry).collect()
}

impl Model {
    /// The tables of a switch are the model's, entry by entry.
    pub fn compare_entries(&self, pipeline: &ForwardingPipeline, place: &str) {
        let found: Vec<_> = read_entries(pipeline, everything());
        let count = found.len();
        let found: BTreeMap<Key, v1::TableEntry> = found.into_iter().map(|e| (key_of(&e), e)).collect();
        assert_eq!(found.len(), count, "{place}: an entry was read twice");
        for (key, entry) in &self.entries {
            assert_eq!(found.get(key), Some(entry), "{place}: an entry is missing or differs (left: read)");
        }
        let extra = found.keys().find(|key| !self.entries.contains_key(*key)).map(|key| &found[key]);
        assert_eq!(extra, None, "{place}: an entry too many");
        for (table_id, (entry, _)) in &self.defaults {
            let filter = v1::TableEntry { table_id: *table_id, is_default_action: true, ..everything() };
            assert_eq!(read_entries(pipeline, filter).first(), entry.as_ref(), "{place}: a default entry (left: read)");
        }
    }

    /// As [`Self::compare_entries`], with everything else.
    pub fn compare_all(&self, pipeline: &ForwardingPipeline, place: &str) {
        self.compare_entries(pipeline, place);
        self.compare_arrays(pipeline, place);
        self.compare_profiles(pipeline, place);
        self.compare_replication(pipeline, place);
        let mut sets = BTreeMap::new();
        for found in read(pipeline, Entity::ValueSetEntry(v1::ValueSetEntry::default())) {
            let Entity::ValueSetEntry(mut found) = found else { panic!("{place}: not a value set") };
            found.members.iter_mut().for_each(|m| m.r#match.sort_by_key(|f| f.field_id));
            sets.insert(found.value_set_id, found.members);
        }
        for set in self.p4info.value_sets.iter().map(|s| id(&s.preamble)) {
            let held = self.value_sets.get(&set).cloned().unwrap_or_default();
            assert_eq!(sets.get(&set), Some(&held), "{place}: value set {set:#x} (left: read)");
        }
        let mut digests = BTreeMap::new();
        for found in read(pipeline, Entity::DigestEntry(v1::DigestEntry::default())) {
            let Entity::DigestEntry(found) = found else { panic!("{place}: not a digest") };
            digests.insert(found.digest_id, found.config.unwrap());
        }
        assert_eq!(digests, self.digests, "{place}: digests (left: read)");
    }

    fn compare_arrays(&self, pipeline: &ForwardingPipeline, place: &str) {
        for found in read(pipeline, Entity::CounterEntry(v1::CounterEntry::default())) {
            let Entity::CounterEntry(found) = found else { panic!("{place}: not a counter") };
            let cell = (found.counter_id, found.index.unwrap().index);
            assert_eq!(found.data, Some(self.counters.get(&cell).copied().unwrap_or_default()), "{place}: {cell:?}");
        }
        for found in read(pipeline, Entity::MeterEntry(v1::MeterEntry::default())) {
            let Entity::MeterEntry(found) = found else { panic!("{place}: not a meter") };
            let cell = (found.meter_id, found.index.unwrap().index);
            assert_eq!(found.config.as_ref(), self.meters.get(&cell), "{place}: {cell:?}");
        }
        let mut cells = 0;
        for found in read(pipeline, Entity::RegisterEntry(v1::RegisterEntry::default())) {
            let Entity::RegisterEntry(found) = found else { panic!("{place}: not a register") };
            let cell = (found.register_id, found.index.unwrap().index);
            let value = self.registers.get(&cell).cloned().unwrap_or_else(|| vec![0]);
            let read = found.data.and_then(|d| d.data);
            assert_eq!(read, Some(Data::Bitstring(value)), "{place}: register cell {cell:?} (left: read)");
            cells += 1;
        }
        let expected: i32 = self.p4info.registers.iter().map(|r| r.size).sum();
        assert_eq!(cells, expected, "{place}: cells of registers");
    }

    fn compare_profiles(&self, pipeline: &ForwardingPipeline, place: &str) {
        let (mut members, mut groups) = (BTreeMap::new(), BTreeMap::new());
        for found in read(pipeline, Entity::ActionProfileMember(v1::ActionProfileMember::default())) {
            let Entity::ActionProfileMember(found) = found else { panic!("{place}: not a member") };
            members.insert((found.action_profile_id, found.member_id), found);
        }
        for found in read(pipeline, Entity::ActionProfileGroup(v1::ActionProfileGroup::default())) {
            let Entity::ActionProfileGroup(found) = found else { panic!("{place}: not a group") };
            groups.insert((found.action_profile_id, found.group_id), found);
        }
        let held = self
            .profiles
            .iter()
            .flat_map(|(p, held)| held.members.values().map(move |m| ((*p, m.member_id), m.clone())));
        assert_eq!(members, held.collect(), "{place}: members (left: read)");
        let held =
            self.profiles.iter().flat_map(|(p, held)| held.groups.values().map(move |g| ((*p, g.group_id), g.clone())));
        assert_eq!(groups, held.collect(), "{place}: groups (left: read)");
    }

    fn compare_replication(&self, pipeline: &ForwardingPipeline, place: &str) {
        use v1::packet_replication_engine_entry::Type as Kind;
        let (mut groups, mut sessions) = (BTreeMap::new(), BTreeMap::new());
        let all = v1::PacketReplicationEngineEntry::default();
        for found in read(pipeline, Entity::PacketReplicationEngineEntry(all)) {
            let Entity::PacketReplicationEngineEntry(found) = found else { panic!("{place}: not of replication") };
            match found.r#type.unwrap() {
                Kind::MulticastGroupEntry(mut group) => {
                    group.replicas = sorted(group.replicas);
                    groups.insert(group.multicast_group_id, group);
                }
                Kind::CloneSessionEntry(mut session) => {
                    session.replicas = sorted(session.replicas);
                    sessions.insert(session.session_id, session);
                }
            }
        }
        assert_eq!(groups, self.multicast, "{place}: multicast groups (left: read)");
        assert_eq!(sessions, self.sessions, "{place}: clone sessions (left: read)");
    }
}

fn read(pipeline: &ForwardingPipeline, entity: Entity) -> Vec<Entity> {
    let found = pipeline.read(&v1::Entity { entity: Some(entity) }).unwrap();
    found.into_iter().filter_map(|e| e.entity).collect()
}
