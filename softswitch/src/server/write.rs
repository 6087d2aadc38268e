//! The Write RPC's updates: specification 1.4, sections 9 and 12.

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::update::Type;

use super::binding::TableBinding;
use super::config::{Attached, ForwardingPipeline};
use super::entry::{EntryKey, decode_counter, decode_meter};
use super::error::Refused;
use super::register::set_register;
use super::value_set::set_value_set;
use crate::pipeline::{ActionCall, CounterValue, EntrySpec, MeterConfig, TableIx, Txn};

/// An update of a table, decoded and checked against the P4Info.
pub(crate) struct TableUpdate {
    table: TableIx,
    attached: Attached,
    change: Change,
    direct: Direct,
}

enum Change {
    Insert(EntrySpec),
    Modify(EntryKey, Option<ActionCall>),
    Delete(EntryKey),
    Default(Option<ActionCall>),
}

/// What an update does to an entry's direct resources, after the entry itself.
#[derive(Default)]
struct Direct {
    counter: Option<CounterValue>,
    /// `Some(None)` resets the meter.
    meter: Option<Option<MeterConfig>>,
}

impl TableUpdate {
    /// Which entry it changes; no key is the default entry.
    pub(crate) fn place(&self) -> (TableIx, Option<EntryKey>) {
        let key = match &self.change {
            Change::Insert(spec) => Some(EntryKey { fields: spec.key.clone(), priority: spec.priority }),
            Change::Modify(key, _) | Change::Delete(key) => Some(key.clone()),
            Change::Default(_) => None,
        };
        (self.table, key)
    }

    /// Whether the entry is gone after it.
    pub(crate) fn is_delete(&self) -> bool {
        matches!(self.change, Change::Delete(_))
    }

    /// Whether it is more than one change of a table, and so cannot be part of a run.
    fn stands_alone(&self) -> bool {
        self.direct.counter.is_some() || self.direct.meter.is_some() || matches!(self.change, Change::Modify(_, None))
    }
}

/// Applies a batch in its order, each update for itself (CONTINUE_ON_ERROR). Runs of plain table updates become
/// visible to packets together.
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

/// What a run of plain table updates ended with.
enum After<'a> {
    End,
    /// A table update that is more than one change.
    Alone(Box<TableUpdate>),
    /// Another entity.
    Other(&'a v1::Update),
}

/// Performs plain table updates, as many as there are in sequence, in one step of the data plane.
fn run<'a>(
    pipeline: &ForwardingPipeline,
    rest: &mut std::slice::Iter<'a, v1::Update>,
    results: &mut Vec<Result<(), Refused>>,
) -> After<'a> {
    pipeline.dataplane.write(|txn| {
        for update in rest.by_ref() {
            let Some((kind, entry)) = table_entry(update) else { return After::Other(update) };
            match decode(pipeline, kind, entry) {
                Ok(update) if update.stands_alone() => return After::Alone(Box::new(update)),
                Ok(update) => results.push(perform(pipeline, txn, update)),
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
    let Some((kind, entry)) = table_entry(update) else { return Ok(None) };
    let update = decode(pipeline, kind, entry)?;
    Ok(Some((update, entry)).filter(|(update, _)| !update.stands_alone()))
}

/// An entry's key alone, as a delete needs it; `None` for a default entry.
pub(crate) fn bare_entry(
    pipeline: &ForwardingPipeline,
    (table, key): &(TableIx, Option<EntryKey>),
) -> Option<v1::TableEntry> {
    let table = pipeline.binding.tables().iter().find(|t| t.ix == *table)?;
    let key = key.as_ref()?;
    let (table_id, r#match) = (table.id, table.encode_key(&key.fields));
    Some(v1::TableEntry { table_id, r#match, priority: key.priority, ..v1::TableEntry::default() })
}

fn table_entry(update: &v1::Update) -> Option<(Type, &v1::TableEntry)> {
    match update.entity.as_ref()?.entity.as_ref()? {
        Entity::TableEntry(entry) => Some((update.r#type(), entry)),
        _ => None,
    }
}

pub(crate) fn perform(pipeline: &ForwardingPipeline, txn: &mut Txn<'_>, update: TableUpdate) -> Result<(), Refused> {
    let TableUpdate { table, attached, change, .. } = update;
    let key = match change {
        Change::Insert(spec) => {
            txn.insert(table, &spec)?;
            Some(EntryKey { fields: spec.key, priority: spec.priority })
        }
        Change::Modify(key, action) => {
            if let Some(action) = action {
                txn.modify(table, &key.fields, key.priority, &action)?;
            }
            Some(key)
        }
        Change::Delete(key) => {
            txn.delete(table, &key.fields, key.priority)?;
            Some(key)
        }
        Change::Default(action) => {
            txn.set_default(table, action.as_ref())?;
            None
        }
    };
    pipeline.attach(table, key, attached);
    Ok(())
}

/// An entry first, then its direct resources.
fn perform_alone(pipeline: &ForwardingPipeline, mut update: TableUpdate) -> Result<(), Refused> {
    let (table, direct) = (update.table, std::mem::take(&mut update.direct));
    let key = match &update.change {
        Change::Insert(spec) => Some(EntryKey { fields: spec.key.clone(), priority: spec.priority }),
        Change::Modify(key, action) => {
            if action.is_none() {
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
        return Ok(TableUpdate { table: table.ix, attached: Attached::default(), change, direct });
    }
    refuse_unsupported(table, entry)?;
    if table.is_const && (kind == Type::Insert || entry.action.is_some()) {
        return Err(Refused::new(
            tonic::Code::PermissionDenied,
            format!("table {}: its entries are part of the program and cannot be changed", table.name),
        ));
    }
    let action = entry.action.as_ref().map(|action| table.decode_action(action, false)).transpose()?;
    let change = match (kind, action) {
        (Type::Insert, Some(action)) => Change::Insert(EntrySpec { key: key.fields, priority: key.priority, action }),
        (Type::Insert, None) => return Err(table.refuse("an entry that is inserted needs an action")),
        (_, action) => Change::Modify(key, action),
    };
    let direct = decode_direct(table, kind, entry)?;
    Ok(TableUpdate { table: table.ix, attached: Attached::of(entry)?, change, direct })
}

/// The default entry is always there: it can only be modified, or reset by leaving its action unset (§9.1.3).
fn decode_default(table: &TableBinding, kind: Type, entry: &v1::TableEntry) -> Result<TableUpdate, Refused> {
    if kind != Type::Modify {
        return Err(table.refuse("the default entry can only be modified, not inserted or deleted"));
    }
    if !entry.r#match.is_empty() || entry.priority != 0 {
        return Err(table.refuse("the default entry has no match fields and no priority"));
    }
    refuse_unsupported(table, entry)?;
    if entry.meter_config.is_some() || entry.counter_data.is_some() {
        return Err(Refused::unimplemented(format!(
            "table {}: the default entry has no direct counter or meter on this switch",
            table.name
        )));
    }
    let action = entry.action.as_ref().map(|action| table.decode_action(action, true)).transpose()?;
    let attached = if action.is_some() { Attached::of(entry)? } else { Attached::default() };
    Ok(TableUpdate { table: table.ix, attached, change: Change::Default(action), direct: Direct::default() })
}

fn refuse_unsupported(table: &TableBinding, entry: &v1::TableEntry) -> Result<(), Refused> {
    if entry.is_const {
        return Err(table.refuse("is_const is set by the switch only"));
    }
    if entry.idle_timeout_ns != 0 || entry.time_since_last_hit.is_some() {
        return Err(
            table.refuse("idle timeouts are not supported: leave idle_timeout_ns and time_since_last_hit unset")
        );
    }
    if entry.meter_counter_data.is_some() {
        return Err(Refused::unimplemented(format!(
            "table {}: meters do not count per colour on this switch",
            table.name
        )));
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
    Ok(Direct { counter, meter })
}

/// Counters and meters: MODIFY only (§9.3, §9.4).
fn apply_other(pipeline: &ForwardingPipeline, update: &v1::Update) -> Result<(), Refused> {
    let entity = update.entity.as_ref().and_then(|e| e.entity.as_ref());
    let Some(entity) = entity else {
        return Err(Refused::invalid("the update has no entity"));
    };
    let unsupported = |what: &str| Err(Refused::unimplemented(format!("{what} are not supported by this switch")));
    match entity {
        Entity::TableEntry(_) => Err(Refused::new(tonic::Code::Internal, "a table entry was not applied as one")),
        Entity::CounterEntry(entry) => modify_only(update, "counter").and_then(|()| set_counter(pipeline, entry)),
        Entity::MeterEntry(entry) => modify_only(update, "meter").and_then(|()| set_meter(pipeline, entry)),
        Entity::DirectCounterEntry(entry) => {
            modify_only(update, "direct counter").and_then(|()| set_direct_counter(pipeline, entry))
        }
        Entity::DirectMeterEntry(entry) => {
            modify_only(update, "direct meter").and_then(|()| set_direct_meter(pipeline, entry))
        }
        Entity::ActionProfileMember(_) | Entity::ActionProfileGroup(_) => unsupported("action profiles"),
        Entity::PacketReplicationEngineEntry(_) => unsupported("multicast groups and clone sessions"),
        Entity::ValueSetEntry(entry) => modify_only(update, "value set").and_then(|()| set_value_set(pipeline, entry)),
        Entity::RegisterEntry(entry) => modify_only(update, "register").and_then(|()| set_register(pipeline, entry)),
        Entity::DigestEntry(_) => unsupported("digests"),
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
    refuse_colour_counters(entry.counter_data.is_some())?;
    let cells = cells(&meter.name, meter.size, entry.index.as_ref())?;
    let config = entry.config.as_ref().map(|c| decode_meter(&meter.name, meter.meter_type, c)).transpose()?;
    for cell in cells {
        pipeline.dataplane.set_meter(meter.ix, cell, config)?;
    }
    Ok(())
}

pub(crate) fn refuse_colour_counters(asked: bool) -> Result<(), Refused> {
    if asked {
        return Err(Refused::unimplemented("meters do not count per colour on this switch: leave counter_data unset"));
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
    refuse_colour_counters(entry.counter_data.is_some())?;
    let Some(meter_type) = table.direct_meter else {
        return Err(table.refuse("it has no direct meter"));
    };
    let config = entry.config.as_ref().map(|c| decode_meter(&table.name, meter_type, c)).transpose()?;
    Ok(pipeline.dataplane.set_direct_meter(table.ix, &key.fields, key.priority, config)?)
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
