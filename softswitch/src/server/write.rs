//! The Write RPC's updates: specification 1.4, sections 9 and 12.

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::update::Type;

use super::binding::TableBinding;
use super::config::{Attached, ForwardingPipeline};
use super::digest;
use super::entry::{decode_counter, decode_meter, resets_colours};
use super::error::Refused;
use super::key::EntryKey;
use super::profiles::{self, ProfileUpdate};
use super::register::set_register;
use super::value_set::set_value_set;
use crate::pipeline::{CounterValue, EntrySpec, MeterConfig, Outcome, TableIx, Txn, Via};

/// An update of what packets are matched by: those next to each other become visible to packets together.
enum Step {
    Table(TableUpdate),
    Profile(ProfileUpdate),
}

/// An update of a table, decoded and checked against the P4Info.
pub(crate) struct TableUpdate {
    table: TableIx,
    attached: Attached,
    change: Change,
    /// The idle timeout to set; none in tables that have no such thing.
    idle_ns: Option<u64>,
    direct: Direct,
}

enum Change {
    Insert(EntrySpec),
    InsertVia(EntryKey, Via),
    Modify(EntryKey, Option<Outcome>),
    Delete(EntryKey),
    Default(Option<Outcome>),
}

/// What an update does to an entry's direct resources, after the entry itself.
#[derive(Default)]
struct Direct {
    counter: Option<CounterValue>,
    /// `Some(None)` resets the meter.
    meter: Option<Option<MeterConfig>>,
    /// The meter's counters per colour start again.
    resets_colours: bool,
}

impl TableUpdate {
    /// Which entry it changes; no key is the default entry.
    pub(crate) fn place(&self) -> (TableIx, Option<EntryKey>) {
        let key = match &self.change {
            Change::Insert(spec) => Some(EntryKey { fields: spec.key.clone(), priority: spec.priority }),
            Change::InsertVia(key, _) | Change::Modify(key, _) | Change::Delete(key) => Some(key.clone()),
            Change::Default(_) => None,
        };
        (self.table, key)
    }

    /// Whether it is more than one change of a table, and so cannot be part of a run.
    fn stands_alone(&self) -> bool {
        self.direct.counter.is_some()
            || self.direct.meter.is_some()
            || self.direct.resets_colours
            || matches!(self.change, Change::Modify(_, None))
    }
}

/// Applies a batch in its order, each update for itself (CONTINUE_ON_ERROR). Runs of plain updates of tables and action
/// profiles become visible to packets together.
pub(crate) fn apply(pipeline: &ForwardingPipeline, updates: &[v1::Update]) -> Vec<Result<(), Refused>> {
    let mut results = Vec::with_capacity(updates.len());
    let mut rest = updates.iter();
    loop {
        match run(pipeline, &mut rest, &mut results) {
            After::End => return results,
            After::Alone(update) => results.push(perform_alone(pipeline, *update)),
            After::Other(update) => results.push(apply_other(pipeline, update)),
        }
    }
}

/// What a run of plain updates ended with.
enum After<'a> {
    End,
    /// A table update that is more than one change.
    Alone(Box<TableUpdate>),
    /// Another entity.
    Other(&'a v1::Update),
}

/// Performs plain updates of tables and action profiles, as many as there are in sequence, in one step of the data plane.
fn run<'a>(
    pipeline: &ForwardingPipeline,
    rest: &mut std::slice::Iter<'a, v1::Update>,
    results: &mut Vec<Result<(), Refused>>,
) -> After<'a> {
    pipeline.dataplane.write(|txn| {
        for update in rest.by_ref() {
            let Some(step) = step(pipeline, update) else { return After::Other(update) };
            match step {
                Ok(Step::Table(update)) if update.stands_alone() => return After::Alone(Box::new(update)),
                Ok(Step::Table(update)) => results.push(perform(pipeline, txn, update)),
                Ok(Step::Profile(update)) => results.push(profiles::perform(txn, &update)),
                Err(refused) => results.push(Err(refused)),
            }
        }
        After::End
    })
}

/// An update that is one change of a table, with its entry; `None` for any other one.
pub(crate) fn decode_plain<'a>(
    pipeline: &ForwardingPipeline,
    update: &'a v1::Update,
) -> Result<Option<(TableUpdate, &'a v1::TableEntry)>, Refused> {
    let Some(Entity::TableEntry(entry)) = update.entity.as_ref().and_then(|e| e.entity.as_ref()) else {
        return Ok(None);
    };
    let update = decode(pipeline, update.r#type(), entry)?;
    Ok(Some((update, entry)).filter(|(update, _)| !update.stands_alone()))
}

/// An update of a table or an action profile, decoded; none for one of anything else.
fn step(pipeline: &ForwardingPipeline, update: &v1::Update) -> Option<Result<Step, Refused>> {
    let kind = update.r#type();
    Some(match update.entity.as_ref()?.entity.as_ref()? {
        Entity::TableEntry(entry) => decode(pipeline, kind, entry).map(Step::Table),
        Entity::ActionProfileMember(member) => profiles::decode_member(pipeline, kind, member).map(Step::Profile),
        Entity::ActionProfileGroup(group) => profiles::decode_group(pipeline, kind, group).map(Step::Profile),
        _ => return None,
    })
}

pub(crate) fn perform(pipeline: &ForwardingPipeline, txn: &mut Txn<'_>, update: TableUpdate) -> Result<(), Refused> {
    let TableUpdate { table, attached, change, idle_ns, .. } = update;
    let key = match change {
        Change::Insert(spec) => {
            txn.insert(table, &spec)?;
            Some(EntryKey { fields: spec.key, priority: spec.priority })
        }
        Change::InsertVia(key, via) => {
            txn.insert_via(table, &key.fields, key.priority, &via)?;
            Some(key)
        }
        Change::Modify(key, outcome) => {
            match outcome {
                Some(Outcome::Call(action)) => txn.modify(table, &key.fields, key.priority, &action)?,
                Some(Outcome::Via(via)) => txn.modify_via(table, &key.fields, key.priority, &via)?,
                None => {}
            }
            Some(key)
        }
        Change::Delete(key) => {
            txn.delete(table, &key.fields, key.priority)?;
            Some(key)
        }
        Change::Default(outcome) => {
            match outcome {
                Some(Outcome::Call(action)) => txn.set_default(table, Some(&action))?,
                Some(Outcome::Via(via)) => txn.set_default_via(table, &via)?,
                None => txn.set_default(table, None)?,
            }
            None
        }
    };
    if let (Some(timeout), Some(key)) = (idle_ns, &key) {
        txn.set_idle_timeout(table, &key.fields, key.priority, timeout)?;
    }
    pipeline.attach(table, key, attached);
    Ok(())
}

/// An entry first, then its direct resources.
fn perform_alone(pipeline: &ForwardingPipeline, mut update: TableUpdate) -> Result<(), Refused> {
    let (table, direct) = (update.table, std::mem::take(&mut update.direct));
    let key = match &update.change {
        Change::Insert(spec) => Some(EntryKey { fields: spec.key.clone(), priority: spec.priority }),
        Change::InsertVia(key, _) => Some(key.clone()),
        Change::Modify(key, outcome) => {
            if outcome.is_none() {
                pipeline.dataplane.get(table, &key.fields, key.priority)?;
            }
            Some(key.clone())
        }
        Change::Delete(_) | Change::Default(_) => None,
    };
    pipeline.dataplane.write(|txn| perform(pipeline, txn, update))?;
    let Some(key) = key else { return Ok(()) };
    if let Some(value) = direct.counter {
        pipeline.dataplane.set_direct_counter(table, &key.fields, key.priority, value)?;
    }
    if let Some(config) = direct.meter {
        pipeline.dataplane.set_direct_meter(table, &key.fields, key.priority, config)?;
    }
    if direct.resets_colours {
        pipeline.dataplane.reset_direct_colours(table, &key.fields, key.priority)?;
    }
    Ok(())
}

pub(crate) fn decode(
    pipeline: &ForwardingPipeline,
    kind: Type,
    entry: &v1::TableEntry,
) -> Result<TableUpdate, Refused> {
    let table = pipeline.binding.table(entry.table_id)?;
    if entry.is_default_action {
        return decode_default(table, kind, entry);
    }
    if kind == Type::Unspecified {
        return Err(table.refuse("the update has no type: INSERT, MODIFY or DELETE"));
    }
    let key = table.decode_key(entry)?;
    if kind == Type::Delete {
        // Everything but the key is ignored, however nonsensical (§9.1).
        let (change, direct) = (Change::Delete(key), Direct::default());
        return Ok(TableUpdate { table: table.ix, attached: Attached::default(), change, idle_ns: None, direct });
    }
    refuse_read_only(table, entry)?;
    let idle_ns = decode_idle(table, kind, entry)?;
    if table.is_const && (kind == Type::Insert || entry.action.is_some()) {
        return Err(Refused::new(
            tonic::Code::PermissionDenied,
            format!("table {}: its entries are part of the program and cannot be changed", table.name),
        ));
    }
    let outcome = entry.action.as_ref().map(|action| table.decode_outcome(action, false)).transpose()?;
    let change = match (kind, outcome) {
        (Type::Insert, Some(Outcome::Call(action))) => {
            Change::Insert(EntrySpec { key: key.fields, priority: key.priority, action })
        }
        (Type::Insert, Some(Outcome::Via(via))) => Change::InsertVia(key, via),
        (Type::Insert, None) => return Err(table.refuse("an entry that is inserted needs an action")),
        (_, outcome) => Change::Modify(key, outcome),
    };
    let direct = decode_direct(table, kind, entry)?;
    Ok(TableUpdate { table: table.ix, attached: Attached::of(entry)?, change, idle_ns, direct })
}

/// The default entry is always there: it can only be modified, or reset by leaving its action unset (§9.1.3).
fn decode_default(table: &TableBinding, kind: Type, entry: &v1::TableEntry) -> Result<TableUpdate, Refused> {
    if kind != Type::Modify {
        return Err(table.refuse("the default entry can only be modified, not inserted or deleted"));
    }
    if !entry.r#match.is_empty() || entry.priority != 0 {
        return Err(table.refuse("the default entry has no match fields and no priority"));
    }
    refuse_read_only(table, entry)?;
    if entry.idle_timeout_ns != 0 {
        return Err(table.refuse("the default entry has no idle timeout"));
    }
    // BMv2 counts and meters hits only.
    if entry.meter_config.is_some() || entry.counter_data.is_some() || entry.meter_counter_data.is_some() {
        return Err(Refused::unimplemented(format!(
            "table {}: the default entry has no direct counter or meter on this switch",
            table.name
        )));
    }
    let outcome = entry.action.as_ref().map(|action| table.decode_outcome(action, true)).transpose()?;
    let attached = if outcome.is_some() { Attached::of(entry)? } else { Attached::default() };
    let (change, direct) = (Change::Default(outcome), Direct::default());
    Ok(TableUpdate { table: table.ix, attached, change, idle_ns: None, direct })
}

/// The idle timeout to set (§9.1.8): what an entry has is what was written last, so unset is none.
fn decode_idle(table: &TableBinding, kind: Type, entry: &v1::TableEntry) -> Result<Option<u64>, Refused> {
    let timeout = u64::try_from(entry.idle_timeout_ns)
        .map_err(|_| table.refuse(format!("an idle timeout of {} ns", entry.idle_timeout_ns)))?;
    if timeout != 0 && (!table.idle_timeouts || table.is_const) {
        return Err(table.refuse("it does not support idle timeouts: leave idle_timeout_ns 0"));
    }
    Ok(Some(timeout).filter(|t| table.idle_timeouts && !table.is_const && (kind == Type::Modify || *t != 0)))
}

fn refuse_read_only(table: &TableBinding, entry: &v1::TableEntry) -> Result<(), Refused> {
    if entry.is_const {
        return Err(table.refuse("is_const is set by the switch only"));
    }
    if entry.time_since_last_hit.is_some() {
        return Err(table.refuse("time_since_last_hit is set by the switch only"));
    }
    Ok(())
}

/// §9.1.7: an unset counter keeps its value, an unset meter goes back to the default.
fn decode_direct(table: &TableBinding, kind: Type, entry: &v1::TableEntry) -> Result<Direct, Refused> {
    let counter = match &entry.counter_data {
        Some(_) if !table.direct_counter => return Err(table.refuse("it has no direct counter")),
        data => data.as_ref().map(decode_counter).transpose()?,
    };
    let meter = match (&entry.meter_config, table.direct_meter) {
        (Some(_), None) => return Err(table.refuse("it has no direct meter")),
        (Some(config), Some(meter_type)) => Some(Some(decode_meter(&table.name, meter_type, config)?)),
        (None, Some(_)) if kind == Type::Modify => Some(None),
        (None, _) => None,
    };
    if entry.meter_counter_data.is_some() && table.direct_meter.is_none() {
        return Err(table.refuse("it has no direct meter"));
    }
    Ok(Direct { counter, meter, resets_colours: resets_colours(entry.meter_counter_data.as_ref())? })
}

/// All but table entries. Counters and meters: MODIFY only (§9.3, §9.4).
fn apply_other(pipeline: &ForwardingPipeline, update: &v1::Update) -> Result<(), Refused> {
    let entity = update.entity.as_ref().and_then(|e| e.entity.as_ref());
    let Some(entity) = entity else {
        return Err(Refused::invalid("the update has no entity"));
    };
    let unsupported = |what: &str| Err(Refused::unimplemented(format!("{what} are not supported by this switch")));
    match entity {
        Entity::TableEntry(_) | Entity::ActionProfileMember(_) | Entity::ActionProfileGroup(_) => {
            Err(Refused::new(tonic::Code::Internal, "an entry was not applied as one"))
        }
        Entity::CounterEntry(entry) => modify_only(update, "counter").and_then(|()| set_counter(pipeline, entry)),
        Entity::MeterEntry(entry) => modify_only(update, "meter").and_then(|()| set_meter(pipeline, entry)),
        Entity::DirectCounterEntry(entry) => {
            modify_only(update, "direct counter").and_then(|()| set_direct_counter(pipeline, entry))
        }
        Entity::DirectMeterEntry(entry) => {
            modify_only(update, "direct meter").and_then(|()| set_direct_meter(pipeline, entry))
        }
        Entity::PacketReplicationEngineEntry(entry) => {
            pipeline.replication.write(&pipeline.dataplane, update.r#type(), entry)
        }
        Entity::ValueSetEntry(entry) => modify_only(update, "value set").and_then(|()| set_value_set(pipeline, entry)),
        Entity::RegisterEntry(entry) => modify_only(update, "register").and_then(|()| set_register(pipeline, entry)),
        Entity::DigestEntry(entry) => digest::write(pipeline, update.r#type(), entry),
        Entity::ExternEntry(_) => unsupported("externs"),
    }
}

fn modify_only(update: &v1::Update, what: &str) -> Result<(), Refused> {
    if update.r#type() == Type::Modify {
        return Ok(());
    }
    Err(Refused::invalid(format!("a {what} can only be modified, not inserted or deleted")))
}

/// The cells that a write means: one, or all when the index is unset.
pub(crate) fn cells(name: &str, size: usize, index: Option<&v1::Index>) -> Result<std::ops::Range<usize>, Refused> {
    let Some(v1::Index { index }) = index else { return Ok(0..size) };
    match usize::try_from(*index) {
        Err(_) if *index < 0 => Err(Refused::invalid(format!("{name}: the index {index} is negative"))),
        Ok(index) if index < size => Ok(index..index + 1),
        _ => Err(Refused::new(
            tonic::Code::OutOfRange,
            format!("{name} has {size} cells; the index {index} is out of range"),
        )),
    }
}

fn set_counter(pipeline: &ForwardingPipeline, entry: &v1::CounterEntry) -> Result<(), Refused> {
    let counter = pipeline.binding.counter(entry.counter_id)?;
    let cells = cells(&counter.name, counter.size, entry.index.as_ref())?;
    let Some(data) = &entry.data else { return Ok(()) };
    let value = decode_counter(data)?;
    for cell in cells {
        pipeline.dataplane.set_counter(counter.ix, cell, value)?;
    }
    Ok(())
}

fn set_meter(pipeline: &ForwardingPipeline, entry: &v1::MeterEntry) -> Result<(), Refused> {
    let meter = pipeline.binding.meter(entry.meter_id)?;
    let resets = resets_colours(entry.counter_data.as_ref())?;
    let cells = cells(&meter.name, meter.size, entry.index.as_ref())?;
    let config = entry.config.as_ref().map(|c| decode_meter(&meter.name, meter.meter_type, c)).transpose()?;
    for cell in cells {
        pipeline.dataplane.set_meter(meter.ix, cell, config)?;
        if resets {
            pipeline.dataplane.reset_meter_colours(meter.ix, cell)?;
        }
    }
    Ok(())
}

fn set_direct_counter(pipeline: &ForwardingPipeline, entry: &v1::DirectCounterEntry) -> Result<(), Refused> {
    let (table, key) = direct_key(pipeline, entry.table_entry.as_ref(), "direct counter")?;
    if !table.direct_counter {
        return Err(table.refuse("it has no direct counter"));
    }
    match &entry.data {
        Some(data) => {
            let value = decode_counter(data)?;
            Ok(pipeline.dataplane.set_direct_counter(table.ix, &key.fields, key.priority, value)?)
        }
        // Nothing to set, but the entry must be there.
        None => Ok(pipeline.dataplane.direct_counter(table.ix, &key.fields, key.priority).map(drop)?),
    }
}

fn set_direct_meter(pipeline: &ForwardingPipeline, entry: &v1::DirectMeterEntry) -> Result<(), Refused> {
    let (table, key) = direct_key(pipeline, entry.table_entry.as_ref(), "direct meter")?;
    let resets = resets_colours(entry.counter_data.as_ref())?;
    let Some(meter_type) = table.direct_meter else {
        return Err(table.refuse("it has no direct meter"));
    };
    let config = entry.config.as_ref().map(|c| decode_meter(&table.name, meter_type, c)).transpose()?;
    pipeline.dataplane.set_direct_meter(table.ix, &key.fields, key.priority, config)?;
    if resets {
        pipeline.dataplane.reset_direct_colours(table.ix, &key.fields, key.priority)?;
    }
    Ok(())
}

/// The entry that a direct resource belongs to.
pub(crate) fn direct_key<'a>(
    pipeline: &'a ForwardingPipeline,
    entry: Option<&v1::TableEntry>,
    what: &str,
) -> Result<(&'a TableBinding, EntryKey), Refused> {
    let Some(entry) = entry else {
        return Err(Refused::invalid(format!("the {what} names no table entry")));
    };
    let table = pipeline.binding.table(entry.table_id)?;
    if entry.is_default_action {
        return Err(Refused::unimplemented(format!(
            "table {}: the default entry has no {what} on this switch",
            table.name
        )));
    }
    Ok((table, table.decode_key(entry)?))
}
