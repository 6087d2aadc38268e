//! RECONCILE_AND_COMMIT: what one pipeline holds, carried over into the one that replaces it (specification 1.4, §14).
//!
//! The new pipeline is filled beside the old one, through the same reads and writes that a controller would use, with
//! ids translated by name. Only when all of it fits does the caller commit it, so packets never see less. What a
//! controller wrote (entries, default entries, members, groups, meters, multicast groups, clone sessions, digests, value
//! sets) must fit, or nothing is changed. What packets wrote (counters, registers) is kept where there is still a place
//! for it; what they write while the copy is made is not in it.

use std::collections::HashMap;

use dmux_p4rt::p4::config::v1::{P4Info, Preamble};
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::packet_replication_engine_entry::Type as Replication;
use dmux_p4rt::p4::v1::update::Type;

use super::config::ForwardingPipeline;
use super::error::Refused;
use super::{read, write};

/// Entities that are carried over at once: the copy takes no more memory than so many.
const BATCH: usize = 1024;

/// How many of each kind were carried over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Table entries, default entries that differ from the program's included.
    pub entries: usize,
    /// Everything else.
    pub others: usize,
}

/// Fills `new`, which nothing was written to yet.
///
/// # Errors
/// INVALID_ARGUMENT with the first thing that a controller wrote and that `new` has no place for.
pub(crate) fn carry_over(old: &ForwardingPipeline, new: &ForwardingPipeline) -> Result<Kept, Refused> {
    let names = Names::between(&old.p4info(), &new.p4info());
    // Entries that the new program starts with give way to what the tables hold.
    clear_initial_entries(new)?;
    let mut copy = Copy { names, new, batch: Vec::new(), kept: Kept::default(), failure: None };
    // In the order in which one may refer to another.
    for wildcard in wildcards() {
        let outcome = read::read(old, &v1::Entity { entity: Some(wildcard) }, &mut |entity| copy.take(entity));
        // A kind that this switch does not know has nothing to carry over.
        if let Err(refused) = outcome
            && refused.code != tonic::Code::Unimplemented
        {
            return Err(refused);
        }
        copy.flush();
    }
    for table in old.binding.tables().iter().filter(|t| old.default_was_changed(t.ix)) {
        let filter = v1::TableEntry {
            table_id: table.id,
            is_default_action: true,
            meter_config: Some(v1::MeterConfig::default()),
            counter_data: Some(v1::CounterData::default()),
            ..v1::TableEntry::default()
        };
        let filter = v1::Entity { entity: Some(Entity::TableEntry(filter)) };
        read::read(old, &filter, &mut |entity| copy.take(entity))?;
    }
    copy.flush();
    match copy.failure {
        Some(why) => Err(Refused::invalid(format!("the present state does not fit the new configuration: {why}"))),
        None => Ok(copy.kept),
    }
}

/// Reads of everything, but for the default entries.
fn wildcards() -> Vec<Entity> {
    let replication =
        |r#type| Entity::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry { r#type: Some(r#type) });
    vec![
        Entity::CounterEntry(v1::CounterEntry::default()),
        Entity::MeterEntry(v1::MeterEntry::default()),
        Entity::RegisterEntry(v1::RegisterEntry::default()),
        Entity::ValueSetEntry(v1::ValueSetEntry::default()),
        Entity::DigestEntry(v1::DigestEntry::default()),
        replication(Replication::MulticastGroupEntry(v1::MulticastGroupEntry::default())),
        replication(Replication::CloneSessionEntry(v1::CloneSessionEntry::default())),
        Entity::ActionProfileMember(v1::ActionProfileMember::default()),
        Entity::ActionProfileGroup(v1::ActionProfileGroup::default()),
        Entity::TableEntry(v1::TableEntry {
            meter_config: Some(v1::MeterConfig::default()),
            counter_data: Some(v1::CounterData::default()),
            ..v1::TableEntry::default()
        }),
    ]
}

fn clear_initial_entries(new: &ForwardingPipeline) -> Result<(), Refused> {
    let mut initial = Vec::new();
    let all = v1::Entity { entity: Some(Entity::TableEntry(v1::TableEntry::default())) };
    read::read(new, &all, &mut |entity| {
        if !matches!(&entity.entity, Some(Entity::TableEntry(e)) if e.is_const) {
            initial.push(v1::Update { r#type: Type::Delete.into(), entity: Some(entity) });
        }
    })?;
    write::apply(new, &initial).into_iter().collect()
}

struct Copy<'a> {
    names: Names,
    new: &'a ForwardingPipeline,
    batch: Vec<v1::Update>,
    kept: Kept,
    failure: Option<String>,
}

impl Copy<'_> {
    fn take(&mut self, entity: v1::Entity) {
        if self.failure.is_some() {
            return;
        }
        match entity.entity.map(|entity| self.names.translate(entity)) {
            Some(Ok(Some((kind, entity)))) => {
                let entity = Some(v1::Entity { entity: Some(entity) });
                self.batch.push(v1::Update { r#type: kind.into(), entity });
                if self.batch.len() >= BATCH {
                    self.flush();
                }
            }
            Some(Err(why)) => self.failure = Some(why),
            Some(Ok(None)) | None => {}
        }
    }

    fn flush(&mut self) {
        let results = write::apply(self.new, &self.batch);
        for (update, result) in self.batch.drain(..).zip(results) {
            let entity = update.entity.and_then(|e| e.entity);
            let from_packets = match &entity {
                Some(Entity::CounterEntry(_) | Entity::RegisterEntry(_)) => true,
                Some(Entity::TableEntry(entry)) => is_count(entry),
                _ => false,
            };
            match result {
                Err(_) if from_packets => {}
                Err(refused) => drop(self.failure.get_or_insert(refused.message)),
                Ok(()) if matches!(entity, Some(Entity::TableEntry(_))) && !from_packets => self.kept.entries += 1,
                Ok(()) => self.kept.others += 1,
            }
        }
    }
}

/// Whether an update of an entry only sets its counter: that of a constant one is all that packets write.
fn is_count(entry: &v1::TableEntry) -> bool {
    #[expect(deprecated, reason = "controller_metadata is deprecated, but must still be kept")]
    let attached = entry.controller_metadata != 0 || !entry.metadata.is_empty();
    entry.action.is_none() && entry.meter_config.is_none() && !entry.is_default_action && !attached
}

/// Ids of one P4Info by those of another: what has the same name is the same thing.
struct Names {
    tables: Ids,
    actions: Ids,
    profiles: Ids,
    counters: Ids,
    meters: Ids,
    registers: Ids,
    value_sets: Ids,
    digests: Ids,
    /// Match fields, by table and field.
    fields: HashMap<(u32, u32), Id>,
    /// Parameters, by action and parameter.
    params: HashMap<(u32, u32), Id>,
}

type Ids = HashMap<u32, Id>;

/// An old id's name, and the new id if there is one.
struct Id {
    name: String,
    new: Option<u32>,
}

fn ids<'a>(old: impl Iterator<Item = Option<&'a Preamble>>, new: impl Iterator<Item = Option<&'a Preamble>>) -> Ids {
    let new: HashMap<&str, u32> = new.flatten().map(|p| (p.name.as_str(), p.id)).collect();
    let id = |p: &Preamble| (p.id, Id { name: p.name.clone(), new: new.get(p.name.as_str()).copied() });
    old.flatten().map(id).collect()
}

macro_rules! ids {
    ($old:expr, $new:expr, $kind:ident) => {
        ids($old.$kind.iter().map(|o| o.preamble.as_ref()), $new.$kind.iter().map(|o| o.preamble.as_ref()))
    };
}

/// Parts (match fields, parameters) of objects that both P4Infos have.
macro_rules! part_ids {
    ($old:expr, $new:expr, $kind:ident, $parts:ident) => {{
        let mut found = HashMap::new();
        for object in &$old.$kind {
            let Some(preamble) = &object.preamble else { continue };
            let same = $new.$kind.iter().find(|n| n.preamble.as_ref().is_some_and(|p| p.name == preamble.name));
            for part in &object.$parts {
                let new = same.and_then(|s| s.$parts.iter().find(|p| p.name == part.name)).map(|p| p.id);
                found.insert((preamble.id, part.id), Id { name: part.name.clone(), new });
            }
        }
        found
    }};
}

impl Names {
    fn between(old: &P4Info, new: &P4Info) -> Self {
        Self {
            tables: ids!(old, new, tables),
            actions: ids!(old, new, actions),
            profiles: ids!(old, new, action_profiles),
            counters: ids!(old, new, counters),
            meters: ids!(old, new, meters),
            registers: ids!(old, new, registers),
            value_sets: ids!(old, new, value_sets),
            digests: ids!(old, new, digests),
            fields: part_ids!(old, new, tables, match_fields),
            params: part_ids!(old, new, actions, params),
        }
    }

    /// The update that makes an entity of the old pipeline in the new one; `None` where there is nothing to do, `Err`
    /// says what the new one has no place for.
    fn translate(&self, entity: Entity) -> Result<Option<(Type, Entity)>, String> {
        Ok(Some(match entity {
            Entity::TableEntry(entry) if entry.is_const => {
                return Ok(self.constant_entry(entry)?.map(|entry| (Type::Modify, Entity::TableEntry(entry))));
            }
            Entity::TableEntry(entry) => {
                let kind = if entry.is_default_action { Type::Modify } else { Type::Insert };
                (kind, Entity::TableEntry(self.table_entry(entry)?))
            }
            // They went with their entries.
            Entity::DirectMeterEntry(_) | Entity::DirectCounterEntry(_) => return Ok(None),
            Entity::ActionProfileMember(mut member) => {
                member.action_profile_id = known(&self.profiles, member.action_profile_id, "action profile")?;
                member.action = member.action.map(|action| self.action(action)).transpose()?;
                (Type::Insert, Entity::ActionProfileMember(member))
            }
            Entity::ActionProfileGroup(mut group) => {
                group.action_profile_id = known(&self.profiles, group.action_profile_id, "action profile")?;
                (Type::Insert, Entity::ActionProfileGroup(group))
            }
            Entity::MeterEntry(mut meter) => {
                if meter.config.is_none() {
                    return Ok(None);
                }
                meter.meter_id = known(&self.meters, meter.meter_id, "meter")?;
                meter.counter_data = None;
                (Type::Modify, Entity::MeterEntry(meter))
            }
            Entity::CounterEntry(mut counter) => {
                if counter.data == Some(v1::CounterData::default()) {
                    return Ok(None);
                }
                let Ok(id) = known(&self.counters, counter.counter_id, "counter") else { return Ok(None) };
                counter.counter_id = id;
                (Type::Modify, Entity::CounterEntry(counter))
            }
            Entity::RegisterEntry(mut register) => {
                let Ok(id) = known(&self.registers, register.register_id, "register") else { return Ok(None) };
                register.register_id = id;
                (Type::Modify, Entity::RegisterEntry(register))
            }
            Entity::ValueSetEntry(mut set) => {
                if set.members.is_empty() {
                    return Ok(None);
                }
                set.value_set_id = known(&self.value_sets, set.value_set_id, "value set")?;
                (Type::Modify, Entity::ValueSetEntry(set))
            }
            Entity::DigestEntry(mut digest) => {
                digest.digest_id = known(&self.digests, digest.digest_id, "digest")?;
                (Type::Insert, Entity::DigestEntry(digest))
            }
            entity @ Entity::PacketReplicationEngineEntry(_) => (Type::Insert, entity),
            Entity::ExternEntry(_) => return Ok(None),
        }))
    }

    /// What a constant entry has been given: the entry itself is part of the program.
    fn constant_entry(&self, entry: v1::TableEntry) -> Result<Option<v1::TableEntry>, String> {
        let entry = v1::TableEntry { action: None, is_const: false, ..entry };
        let counted = entry.counter_data.is_some_and(|c| c != v1::CounterData::default());
        if is_count(&entry) && !counted {
            return Ok(None);
        }
        match self.table_entry(entry.clone()) {
            Err(_) if is_count(&entry) => Ok(None),
            entry => entry.map(Some),
        }
    }

    fn table_entry(&self, mut entry: v1::TableEntry) -> Result<v1::TableEntry, String> {
        let table = entry.table_id;
        entry.table_id = known(&self.tables, table, "table")?;
        for field in &mut entry.r#match {
            let id = self.fields.get(&(table, field.field_id));
            field.field_id = id.and_then(|id| id.new).ok_or_else(|| {
                let name = id.map_or("", |id| id.name.as_str());
                format!(
                    "table {} has entries that match \"{name}\", which is gone from its key",
                    self.table_name(table)
                )
            })?;
        }
        entry.action = entry.action.map(|action| self.table_action(action)).transpose()?;
        // Set by the switch; it starts anew.
        entry.time_since_last_hit = None;
        entry.meter_counter_data = None;
        Ok(entry)
    }

    fn table_name(&self, id: u32) -> &str {
        self.tables.get(&id).map_or("", |id| &id.name)
    }

    fn table_action(&self, action: v1::TableAction) -> Result<v1::TableAction, String> {
        use v1::table_action::Type as Kind;
        let r#type = match action.r#type {
            Some(Kind::Action(action)) => Some(Kind::Action(self.action(action)?)),
            Some(Kind::ActionProfileActionSet(mut set)) => {
                for one in &mut set.action_profile_actions {
                    one.action = one.action.take().map(|action| self.action(action)).transpose()?;
                }
                Some(Kind::ActionProfileActionSet(set))
            }
            // Members and groups keep their numbers.
            other => other,
        };
        Ok(v1::TableAction { r#type })
    }

    fn action(&self, mut action: v1::Action) -> Result<v1::Action, String> {
        let old = action.action_id;
        action.action_id = known(&self.actions, old, "action")?;
        for param in &mut action.params {
            let id = self.params.get(&(old, param.param_id));
            param.param_id = id.and_then(|id| id.new).ok_or_else(|| {
                let of = |ids: &Ids| ids.get(&old).map_or(String::new(), |id| id.name.clone());
                let name = id.map_or("", |id| id.name.as_str());
                format!("action {} is in use and has lost its parameter \"{name}\"", of(&self.actions))
            })?;
        }
        Ok(action)
    }
}

/// The new id of an object.
fn known(ids: &Ids, old: u32, kind: &str) -> Result<u32, String> {
    match ids.get(&old) {
        Some(Id { new: Some(new), .. }) => Ok(*new),
        Some(Id { name, .. }) => Err(format!("the {kind} \"{name}\" is in use and is gone")),
        None => Err(format!("a {kind} with id {old} is in use and was never described")),
    }
}
