//! The oracle: what a switch holds after updates, and what may be wrong with one, by the specification and the P4Info.

mod arrays;
mod compare;
mod keys;
mod profiles;
mod replication;

use std::collections::BTreeMap;

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::table::IdleTimeoutBehavior;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::update::Type;
use dmux_softswitch::server::config::ForwardingPipeline;
use prost::Message;
use tonic::Code;

use crate::generate::id;
use arrays::{Direct, check_config, check_data};
use compare::{everything, read_entries};
pub use keys::shortest;
use keys::{canonical_key, find_table};
use profiles::Profile;
pub use profiles::no_watch;

/// The longest metadata that the switch keeps.
const MAX_METADATA: usize = 1024;

/// What identifies an entry: table, match fields in canonical form and order, priority.
type Key = (u32, Vec<u8>, i32);

#[derive(Clone)]
pub struct Model {
    p4info: std::sync::Arc<info::P4Info>,
    /// Entries as they are read with their direct resources.
    entries: BTreeMap<Key, v1::TableEntry>,
    /// Default entries, and what they are reset to: a table may have none.
    defaults: BTreeMap<u32, (Option<v1::TableEntry>, Option<v1::TableEntry>)>,
    counters: BTreeMap<(u32, i64), v1::CounterData>,
    meters: BTreeMap<(u32, i64), v1::MeterConfig>,
    registers: BTreeMap<(u32, i64), Vec<u8>>,
    value_sets: BTreeMap<u32, Vec<v1::ValueSetMember>>,
    digests: BTreeMap<u32, v1::digest_entry::Config>,
    multicast: BTreeMap<u32, v1::MulticastGroupEntry>,
    sessions: BTreeMap<u32, v1::CloneSessionEntry>,
    profiles: BTreeMap<u32, Profile>,
}

/// Something with an id is inserted once, and can be modified and deleted when it is there.
fn admit(kind: Type, there: bool, wrong: &mut Vec<Code>) {
    match (kind, there) {
        (Type::Unspecified, _) => wrong.push(Code::InvalidArgument),
        (Type::Insert, true) => wrong.push(Code::AlreadyExists),
        (Type::Modify | Type::Delete, false) => wrong.push(Code::NotFound),
        _ => {}
    }
}

fn key_of(entry: &v1::TableEntry) -> Key {
    let matches = v1::TableEntry { r#match: entry.r#match.clone(), ..v1::TableEntry::default() };
    (entry.table_id, matches.encode_to_vec(), entry.priority)
}

impl Model {
    /// What a pipeline holds to which nothing was written: constant entries and default actions.
    pub fn new(p4info: &info::P4Info, pipeline: &ForwardingPipeline) -> Self {
        let entries = read_entries(pipeline, everything()).into_iter().map(|e| (key_of(&e), e)).collect();
        let default = |table: &info::Table| {
            let filter = v1::TableEntry { table_id: id(&table.preamble), is_default_action: true, ..everything() };
            let entry = read_entries(pipeline, filter).pop();
            (id(&table.preamble), (entry.clone(), entry))
        };
        Self {
            p4info: std::sync::Arc::new(p4info.clone()),
            entries,
            defaults: p4info.tables.iter().map(default).collect(),
            counters: BTreeMap::new(),
            meters: BTreeMap::new(),
            registers: BTreeMap::new(),
            value_sets: BTreeMap::new(),
            digests: BTreeMap::new(),
            multicast: BTreeMap::new(),
            sessions: BTreeMap::new(),
            profiles: BTreeMap::new(),
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = &v1::TableEntry> {
        self.entries.values()
    }

    /// Applies an update if nothing is wrong with it; else says what is, in any order.
    pub fn apply(&mut self, update: &v1::Update) -> Vec<Code> {
        let kind = update.r#type();
        let mut wrong = Vec::new();
        match update.entity.as_ref().and_then(|e| e.entity.as_ref()) {
            Some(Entity::TableEntry(entry)) if entry.is_default_action => self.default(kind, entry, &mut wrong),
            Some(Entity::TableEntry(entry)) => self.entry(kind, entry, &mut wrong),
            Some(Entity::CounterEntry(entry)) => self.counter(kind, entry, &mut wrong),
            Some(Entity::MeterEntry(entry)) => self.meter(kind, entry, &mut wrong),
            Some(Entity::DirectCounterEntry(entry)) => self.direct_counter(kind, entry, &mut wrong),
            Some(Entity::DirectMeterEntry(entry)) => self.direct_meter(kind, entry, &mut wrong),
            Some(Entity::RegisterEntry(entry)) => self.register(kind, entry, &mut wrong),
            Some(Entity::ValueSetEntry(entry)) => self.value_set(kind, entry, &mut wrong),
            Some(Entity::DigestEntry(entry)) => self.digest(kind, entry, &mut wrong),
            Some(Entity::PacketReplicationEngineEntry(entry)) => self.replication(kind, entry, &mut wrong),
            Some(Entity::ActionProfileMember(entry)) => self.member(kind, entry, &mut wrong),
            Some(Entity::ActionProfileGroup(entry)) => self.profile_group(kind, entry, &mut wrong),
            other => panic!("the generator makes no {other:?}"),
        }
        wrong
    }

    fn default(&mut self, kind: Type, entry: &v1::TableEntry, wrong: &mut Vec<Code>) {
        let p4info = self.p4info.clone();
        let Some(table) = find_table(&p4info, entry.table_id, wrong) else { return };
        if kind != Type::Modify || !entry.r#match.is_empty() || entry.priority != 0 {
            wrong.push(Code::InvalidArgument);
        }
        if table.const_default_action_id != 0 {
            wrong.push(Code::PermissionDenied);
        }
        let action = entry.action.as_ref().and_then(|a| self.outcome(table, a, true, wrong));
        if !wrong.is_empty() {
            return;
        }
        let Some((now, initial)) = self.defaults.get_mut(&entry.table_id) else { return };
        *now = match action {
            None => initial.clone(),
            action => Some(v1::TableEntry {
                table_id: entry.table_id,
                action,
                metadata: entry.metadata.clone(),
                is_default_action: true,
                ..v1::TableEntry::default()
            }),
        };
    }

    fn entry(&mut self, kind: Type, entry: &v1::TableEntry, wrong: &mut Vec<Code>) {
        let p4info = self.p4info.clone();
        let Some(table) = find_table(&p4info, entry.table_id, wrong) else { return };
        if kind == Type::Unspecified {
            wrong.push(Code::InvalidArgument);
        }
        let key = canonical_key(table, entry, wrong);
        let held = key.as_ref().and_then(|key| self.entries.get(&key_of(key)));
        if table.is_const_table && (kind != Type::Modify || entry.action.is_some()) {
            wrong.push(Code::PermissionDenied);
        }
        match (kind, held.is_some()) {
            (Type::Insert, true) => wrong.push(Code::AlreadyExists),
            (Type::Modify | Type::Delete, false) if key.is_some() => wrong.push(Code::NotFound),
            (Type::Insert, false) => {
                let held = self.entries.keys().filter(|(table, ..)| *table == entry.table_id).count();
                if held as i64 >= table.size {
                    wrong.push(Code::ResourceExhausted);
                }
            }
            _ => {}
        }
        let direct = Direct::of(&p4info, table);
        let mut action = None;
        if kind != Type::Delete {
            if entry.is_const {
                wrong.push(Code::InvalidArgument);
            }
            if entry.metadata.len() > MAX_METADATA {
                wrong.push(Code::ResourceExhausted);
            }
            let aging = table.idle_timeout_behavior() == IdleTimeoutBehavior::NotifyControl && !table.is_const_table;
            if entry.idle_timeout_ns < 0 || (entry.idle_timeout_ns != 0 && !aging) {
                wrong.push(Code::InvalidArgument);
            }
            match &entry.action {
                Some(given) => action = self.outcome(table, given, false, wrong),
                None if kind == Type::Insert => wrong.push(Code::InvalidArgument),
                None => {}
            }
            if let Some(data) = &entry.counter_data {
                check_data(data, wrong);
                if !direct.counter {
                    wrong.push(Code::InvalidArgument);
                }
            }
            if let Some(config) = &entry.meter_config {
                check_config(config, wrong);
                if !direct.meter {
                    wrong.push(Code::InvalidArgument);
                }
            }
        }
        let Some(key) = key.filter(|_| wrong.is_empty()) else { return };
        if kind == Type::Delete {
            self.entries.remove(&key_of(&key));
            return;
        }
        let before = held.cloned().unwrap_or_default();
        let counter = direct.counter.then(|| entry.counter_data.or(before.counter_data).unwrap_or_default());
        let after = v1::TableEntry {
            action: action.or(before.action),
            metadata: entry.metadata.clone(),
            counter_data: counter,
            meter_config: entry.meter_config,
            idle_timeout_ns: entry.idle_timeout_ns,
            is_const: before.is_const,
            ..key
        };
        self.entries.insert(key_of(&after), after);
    }
}
