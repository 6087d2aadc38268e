//! Updates of what is neither a table entry nor a counter or meter.

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::p4_data::Data;
use dmux_p4rt::p4::v1::packet_replication_engine_entry::Type as Kind;
use dmux_p4rt::p4::v1::replica::PortKind;
use dmux_p4rt::p4::v1::table_action;
use dmux_p4rt::p4::v1::update::Type;

use super::{Generator, id, register_bits, update};
use crate::model::no_watch;

impl Generator<'_> {
    /// INSERT, MODIFY or DELETE.
    fn kind(&mut self) -> Type {
        *self.random.pick(&[Type::Insert, Type::Insert, Type::Modify, Type::Delete])
    }

    /// MODIFY, mostly.
    fn modify(&mut self) -> Type {
        if self.random.one_in(12) { self.kind() } else { Type::Modify }
    }

    pub(super) fn register(&mut self) -> v1::Update {
        let register = self.random.pick(&self.p4info.registers);
        let bits = register_bits(register);
        let mut bytes = self.bytes(bits);
        // Wider than the numbers that are drawn.
        if bits > 128 && self.random.one_in(3) {
            bytes = vec![0xff; (bits as usize).div_ceil(8)];
            bytes[0] = 0xff >> (8 - (bits - 1) % 8 - 1) as u8;
        }
        let data = match self.random.below(20) {
            0 => None,
            1 => Some(v1::P4Data { data: Some(Data::Bool(true)) }),
            _ => Some(v1::P4Data { data: Some(Data::Bitstring(bytes)) }),
        };
        let register_id = if self.random.one_in(20) { 5 } else { id(&register.preamble) };
        // A bool is fine for one bit, which no register of the tests' programs is written with.
        let data = data.filter(|d| bits > 1 || !matches!(d.data, Some(Data::Bool(_))));
        let index = self.index(register.size.into());
        update(self.modify(), Entity::RegisterEntry(v1::RegisterEntry { register_id, index, data }))
    }

    pub(super) fn value_set(&mut self) -> v1::Update {
        let set = self.random.pick(&self.p4info.value_sets);
        let mut members = Vec::new();
        for _ in 0..self.random.below(set.size as usize + 2) {
            let mut r#match = Vec::new();
            for field in &set.r#match {
                if let Some(kind) = self.field(field) {
                    r#match.push(v1::FieldMatch { field_id: field.id, field_match_type: Some(kind) });
                }
            }
            match self.random.below(30) {
                0 => r#match.clear(),
                1 => r#match.extend(r#match.first().cloned()),
                2 => r#match.iter_mut().for_each(|m| m.field_id += 7),
                3 => r#match.reverse(),
                _ => {}
            }
            members.push(v1::ValueSetMember { r#match });
        }
        let value_set_id = if self.random.one_in(20) { 5 } else { id(&set.preamble) };
        update(self.modify(), Entity::ValueSetEntry(v1::ValueSetEntry { value_set_id, members }))
    }

    pub(super) fn digest(&mut self) -> v1::Update {
        let digest = self.random.pick(&self.p4info.digests);
        let digest_id = if self.random.one_in(20) { 5 } else { id(&digest.preamble) };
        let config = v1::digest_entry::Config {
            max_timeout_ns: self.number(),
            max_list_size: if self.random.one_in(20) { -1 } else { self.random.below(100) as i32 },
            ack_timeout_ns: self.number(),
        };
        let config = (!self.random.one_in(6)).then_some(config);
        update(self.kind(), Entity::DigestEntry(v1::DigestEntry { digest_id, config }))
    }

    pub(super) fn replication(&mut self) -> v1::Update {
        let number = match self.random.below(24) {
            0 => 0,
            1 => 0x7fff,
            2 => 0xffff,
            3 => 0x1_0000,
            _ => 1 + self.random.below(4) as u32,
        };
        let mut replicas = Vec::new();
        for _ in 0..self.random.below(5) {
            replicas.push(self.replica());
        }
        let entry = if self.random.one_in(2) {
            let metadata = match self.random.below(12) {
                0 => vec![3; 1020 + self.random.below(10)],
                1..=3 => vec![8; 3],
                _ => Vec::new(),
            };
            let group = v1::MulticastGroupEntry { multicast_group_id: number, replicas, metadata };
            Kind::MulticastGroupEntry(group)
        } else {
            let packet_length_bytes = if self.random.one_in(12) { -1 } else { self.random.below(3) as i32 * 64 };
            let classes = if self.random.one_in(6) { 12 } else { 8 };
            let class_of_service = self.random.below(classes) as u32;
            let session = v1::CloneSessionEntry { session_id: number, replicas, class_of_service, packet_length_bytes };
            Kind::CloneSessionEntry(session)
        };
        let r#type = (!self.random.one_in(40)).then_some(entry);
        let entry = v1::PacketReplicationEngineEntry { r#type };
        update(self.kind(), Entity::PacketReplicationEngineEntry(entry))
    }

    #[expect(deprecated, reason = "controllers of P4Runtime 1.3 and before give the port as a number")]
    fn replica(&mut self) -> v1::Replica {
        let port = self.random.value(9);
        let port_kind = match self.random.below(40) {
            0 => None,
            1 => Some(PortKind::EgressPort(512)),
            2..=20 => Some(PortKind::EgressPort(port as u32)),
            _ => Some(PortKind::Port(self.spell(port, 9))),
        };
        let mut backup_replicas = Vec::new();
        while self.random.one_in(4) {
            let port = self.bytes(9);
            backup_replicas.push(v1::BackupReplica { port, instance: self.instance() });
        }
        v1::Replica { port_kind, instance: self.instance(), backup_replicas }
    }

    fn instance(&mut self) -> u32 {
        if self.random.one_in(40) { 0x1_0000 } else { self.random.value(16) as u32 }
    }

    fn profile(&mut self) -> &info::ActionProfile {
        self.random.pick(&self.p4info.action_profiles)
    }

    fn member_id(&mut self) -> u32 {
        let ids = if self.random.one_in(12) { 9 } else { 5 };
        self.random.below(ids) as u32 + u32::from(!self.random.one_in(20))
    }

    /// An action that a member of a profile could have.
    fn action_of(&mut self, profile_id: u32) -> Option<v1::Action> {
        let table = self.p4info.tables.iter().find(|t| t.implementation_id == profile_id)?;
        if self.random.one_in(30) {
            return None;
        }
        let mut action = self.call(table)?;
        match self.random.below(40) {
            0 => action.action_id = 1,
            1 => action.params.push(v1::action::Param { param_id: 1, value: vec![1] }),
            2 => drop(action.params.pop()),
            _ => {}
        }
        Some(action)
    }

    pub(super) fn member(&mut self) -> v1::Update {
        let profile_id = id(&self.profile().preamble);
        let member = v1::ActionProfileMember {
            action_profile_id: if self.random.one_in(30) { 5 } else { profile_id },
            member_id: self.member_id(),
            action: self.action_of(profile_id),
        };
        update(self.kind(), Entity::ActionProfileMember(member))
    }

    fn weight(&mut self) -> i32 {
        match self.random.below(30) {
            0 => 0,
            1 => -1,
            2 => 1000,
            3..=6 => 2,
            7 => 3,
            _ => 1,
        }
    }

    pub(super) fn group(&mut self) -> v1::Update {
        let profile_id = id(&self.profile().preamble);
        let mut members = Vec::new();
        for _ in 0..self.random.below(4) {
            members.push(v1::action_profile_group::Member {
                member_id: self.member_id(),
                weight: self.weight(),
                watch_kind: no_watch(self.random.below(8)).0,
            });
        }
        let group = v1::ActionProfileGroup {
            action_profile_id: if self.random.one_in(30) { 5 } else { profile_id },
            group_id: self.member_id() / 2,
            members,
            max_size: match self.random.below(12) {
                0 => -1,
                1 => 100,
                2 => 3,
                _ => 0,
            },
        };
        update(self.kind(), Entity::ActionProfileGroup(group))
    }

    /// What an entry of an indirect table names.
    pub(super) fn indirect(&mut self, table: &info::Table) -> table_action::Type {
        match self.random.below(4) {
            0 => table_action::Type::ActionProfileMemberId(self.member_id()),
            1 => table_action::Type::ActionProfileGroupId(self.member_id() / 2),
            _ => {
                let mut actions = Vec::new();
                for _ in 0..self.random.below(4) {
                    actions.push(v1::ActionProfileAction {
                        action: self.action_of(table.implementation_id),
                        weight: self.weight(),
                        watch_kind: no_watch(self.random.below(8)).1,
                    });
                }
                let mut some = || match self.random.below(20) {
                    0 => 7,
                    1..=4 => 1,
                    5..=8 => 2,
                    _ => 0,
                };
                table_action::Type::ActionProfileActionSet(v1::ActionProfileActionSet {
                    action_profile_actions: actions,
                    action_selection_mode: some(),
                    size_semantics: some(),
                    ..v1::ActionProfileActionSet::default()
                })
            }
        }
    }
}
