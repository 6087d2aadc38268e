//! The Read RPC: specification 1.4, sections 9 and 13.

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;

use super::binding::{ArrayBinding, TableBinding};
use super::config::ForwardingPipeline;
use super::digest;
use super::entry::{encode_colours, encode_counter, encode_meter};
use super::error::Refused;
use super::key::EntryKey;
use super::profiles::{read_groups, read_members};
use super::register::read_registers;
use super::value_set::read_value_sets;
use super::write::{cells, direct_key};
use crate::pipeline::{EntryView, IdleState, Outcome, TableError};

/// Calls `found` with what one element of a request selects.
pub(crate) fn read(
    pipeline: &ForwardingPipeline,
    request: &v1::Entity,
    found: &mut dyn FnMut(v1::Entity),
) -> Result<(), Refused> {
    let Some(request) = &request.entity else {
        return Err(Refused::invalid("the entity is empty: name the kind of entity to read"));
    };
    let mut add = |entity| found(v1::Entity { entity: Some(entity) });
    match request {
        Entity::TableEntry(filter) => {
            read_entries(pipeline, filter, &mut |entry| add(Entity::TableEntry(entry)))?;
        }
        Entity::CounterEntry(filter) => read_counters(pipeline, filter, &mut |e| add(Entity::CounterEntry(e)))?,
        Entity::MeterEntry(filter) => read_meters(pipeline, filter, &mut |e| add(Entity::MeterEntry(e)))?,
        Entity::DirectCounterEntry(filter) => {
            read_direct_counters(pipeline, filter, &mut |e| add(Entity::DirectCounterEntry(e)))?;
        }
        Entity::DirectMeterEntry(filter) => {
            read_direct_meters(pipeline, filter, &mut |e| add(Entity::DirectMeterEntry(e)))?;
        }
        Entity::ActionProfileMember(m) => read_members(pipeline, m, &mut |m| add(Entity::ActionProfileMember(m)))?,
        Entity::ActionProfileGroup(g) => read_groups(pipeline, g, &mut |g| add(Entity::ActionProfileGroup(g)))?,
        // Of these there can be none, so reading all of them finds nothing.
        Entity::ValueSetEntry(filter) => read_value_sets(pipeline, filter, &mut |e| add(Entity::ValueSetEntry(e)))?,
        Entity::RegisterEntry(filter) => read_registers(pipeline, filter, &mut |e| add(Entity::RegisterEntry(e)))?,
        Entity::DigestEntry(filter) => {
            digest::read(pipeline, filter)?.into_iter().for_each(|e| add(Entity::DigestEntry(e)));
        }
        Entity::ExternEntry(e) => nothing(e.extern_type_id == 0, "externs")?,
        Entity::PacketReplicationEngineEntry(filter) => {
            pipeline.replication.read(filter)?.into_iter().for_each(|e| add(Entity::PacketReplicationEngineEntry(e)));
        }
    }
    Ok(())
}

fn nothing(wildcard: bool, what: &str) -> Result<(), Refused> {
    if wildcard { Ok(()) } else { Err(Refused::unimplemented(format!("{what} are not supported by this switch"))) }
}

/// Table entries by the filter of §9.1.6.
fn read_entries(
    pipeline: &ForwardingPipeline,
    filter: &v1::TableEntry,
    found: &mut dyn FnMut(v1::TableEntry),
) -> Result<(), Refused> {
    if filter.table_id == 0 {
        if !filter.r#match.is_empty() || filter.priority != 0 || filter.action.is_some() {
            return Err(Refused::invalid("a read of all tables (table_id 0) takes no match, priority or action"));
        }
        return pipeline.binding.tables().iter().try_for_each(|table| read_table(pipeline, table, filter, found));
    }
    let table = pipeline.binding.table(filter.table_id)?;
    if filter.time_since_last_hit.is_some() && (!table.idle_timeouts || filter.is_default_action) {
        return Err(table.refuse("it does not support idle timeouts: leave time_since_last_hit unset"));
    }
    read_table(pipeline, table, filter, found)
}

fn read_table(
    pipeline: &ForwardingPipeline,
    table: &TableBinding,
    filter: &v1::TableEntry,
    found: &mut dyn FnMut(v1::TableEntry),
) -> Result<(), Refused> {
    let runs = |outcome: &Outcome, wanted| matches!(outcome, Outcome::Call(call) if call.action == wanted);
    let action = match filter.action.as_ref().and_then(|a| a.r#type.as_ref()) {
        None => None,
        Some(_) if table.profile.is_some() => {
            return Err(table.refuse("the entries of an indirect table cannot be filtered by what they name"));
        }
        Some(v1::table_action::Type::Action(action)) => Some(
            table
                .action(action.action_id)
                .ok_or_else(|| table.refuse("the filter's action is not one of the table's"))?
                .ix,
        ),
        Some(_) => return Err(table.refuse("the table is direct: filter by an action")),
    };
    if filter.is_default_action {
        if !filter.r#match.is_empty() || filter.priority != 0 {
            return Err(table.refuse("the default entry has no match fields and no priority"));
        }
        if let Some(outcome) = pipeline.dataplane.default_entry(table.ix)?
            && action.is_none_or(|wanted| runs(&outcome, wanted))
            && let Some(encoded) = table.encode_outcome(&outcome)
        {
            let attached = pipeline.attached(table.ix, None);
            let mut entry = v1::TableEntry {
                table_id: table.id,
                action: Some(encoded),
                is_default_action: true,
                ..v1::TableEntry::default()
            };
            attached.attach(&mut entry);
            if attached.selected_by(filter) {
                found(entry);
            }
        }
        return Ok(());
    }
    let mut select = |view: EntryView| {
        let selected = action.is_none_or(|wanted| runs(&view.action, wanted))
            && (filter.priority == 0 || filter.priority == view.priority);
        if selected && let Some(entry) = encode_entry(pipeline, table, filter, view) {
            found(entry);
        }
    };
    if filter.r#match.is_empty() {
        pipeline.dataplane.for_each_entry(table.ix, &mut select)?;
        return Ok(());
    }
    if table.needs_priority && filter.priority == 0 {
        // Entries with this match, whatever their priority.
        let key = table.decode_key(&v1::TableEntry { priority: 1, ..filter.clone() })?;
        pipeline.dataplane.for_each_entry(table.ix, &mut |view| {
            if view.key == key.fields {
                select(view);
            }
        })?;
        return Ok(());
    }
    let key = table.decode_key(filter)?;
    match pipeline.dataplane.get(table.ix, &key.fields, key.priority) {
        Ok(view) => select(view),
        // A filter that selects nothing is no error.
        Err(TableError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The one entry with exactly this key, or the default entry; `None` if it is not there. A filter of the same match may
/// select more: a key that matches everything is a wildcard there.
pub(crate) fn one_entry(
    pipeline: &ForwardingPipeline,
    filter: &v1::TableEntry,
) -> Result<Option<v1::TableEntry>, Refused> {
    let table = pipeline.binding.table(filter.table_id)?;
    if filter.is_default_action {
        let mut default = None;
        read_table(pipeline, table, filter, &mut |entry| default = Some(entry))?;
        return Ok(default);
    }
    let key = table.decode_key(filter)?;
    match pipeline.dataplane.get(table.ix, &key.fields, key.priority) {
        Ok(view) => Ok(encode_entry(pipeline, table, filter, view)),
        Err(TableError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An entry as it was written, with the direct resources that were asked for.
fn encode_entry(
    pipeline: &ForwardingPipeline,
    table: &TableBinding,
    filter: &v1::TableEntry,
    view: EntryView,
) -> Option<v1::TableEntry> {
    let mut entry = v1::TableEntry {
        table_id: table.id,
        r#match: table.encode_key(&view.key),
        action: Some(table.encode_outcome(&view.action)?),
        priority: view.priority,
        counter_data: view
            .counter
            .filter(|_| filter.counter_data.is_some() && table.direct_counter)
            .map(encode_counter),
        meter_config: view.meter.filter(|_| filter.meter_config.is_some()).map(encode_meter),
        meter_counter_data: view
            .colours
            .filter(|_| filter.meter_counter_data.is_some() && table.direct_meter.is_some())
            .map(encode_colours),
        is_const: view.is_const,
        ..v1::TableEntry::default()
    };
    if let Some(idle) = view.idle.filter(|_| table.idle_timeouts) {
        attach_idle(pipeline, idle, filter, &mut entry);
    }
    let attached = pipeline.attached(table.ix, Some(EntryKey { fields: view.key, priority: view.priority }));
    attached.attach(&mut entry);
    attached.selected_by(filter).then_some(entry)
}

/// The idle timeout as it was written, and how long the entry rests, where that was asked for (§9.1.8).
fn attach_idle(pipeline: &ForwardingPipeline, idle: IdleState, filter: &v1::TableEntry, entry: &mut v1::TableEntry) {
    let ns = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    entry.idle_timeout_ns = ns(idle.timeout_ns);
    entry.time_since_last_hit = filter.time_since_last_hit.as_ref().map(|_| {
        let rests_us = pipeline.dataplane.clock().now_us().saturating_sub(idle.last_hit_us);
        v1::table_entry::IdleTimeout { elapsed_ns: ns(rests_us.saturating_mul(1000)) }
    });
}

/// Indirect arrays that a read means: one, or all for id 0.
pub(super) fn arrays<'a>(
    id: u32,
    all: &'a [ArrayBinding],
    one: impl FnOnce(u32) -> Result<&'a ArrayBinding, Refused>,
) -> Result<&'a [ArrayBinding], Refused> {
    if id == 0 { Ok(all) } else { one(id).map(std::slice::from_ref) }
}

/// An index below a size that P4Info gives as i64.
pub(super) fn index(cell: usize) -> Option<v1::Index> {
    Some(v1::Index { index: i64::try_from(cell).unwrap_or(i64::MAX) })
}

fn read_counters(
    pipeline: &ForwardingPipeline,
    filter: &v1::CounterEntry,
    found: &mut dyn FnMut(v1::CounterEntry),
) -> Result<(), Refused> {
    let binding = &pipeline.binding;
    for counter in arrays(filter.counter_id, &binding.counters, |id| binding.counter(id))? {
        for cell in cells(&counter.name, counter.size, filter.index.as_ref())? {
            let value = pipeline.dataplane.counter(counter.ix, cell)?;
            found(v1::CounterEntry { counter_id: counter.id, index: index(cell), data: Some(encode_counter(value)) });
        }
    }
    Ok(())
}

fn read_meters(
    pipeline: &ForwardingPipeline,
    filter: &v1::MeterEntry,
    found: &mut dyn FnMut(v1::MeterEntry),
) -> Result<(), Refused> {
    let binding = &pipeline.binding;
    for meter in arrays(filter.meter_id, &binding.meters, |id| binding.meter(id))? {
        for cell in cells(&meter.name, meter.size, filter.index.as_ref())? {
            let config = pipeline.dataplane.meter(meter.ix, cell)?.map(encode_meter);
            let counter_data = match &filter.counter_data {
                Some(_) => Some(encode_colours(pipeline.dataplane.meter_colours(meter.ix, cell)?)),
                None => None,
            };
            found(v1::MeterEntry { meter_id: meter.id, index: index(cell), config, counter_data });
        }
    }
    Ok(())
}

/// The entries that a read of direct resources means: one, a table's, or all tables'.
fn direct_entries(
    pipeline: &ForwardingPipeline,
    entry: Option<&v1::TableEntry>,
    what: &str,
    has: impl Fn(&TableBinding) -> bool,
    found: &mut dyn FnMut(&TableBinding, EntryView),
) -> Result<(), Refused> {
    let table_id = entry.map_or(0, |e| e.table_id);
    if table_id == 0 {
        for table in pipeline.binding.tables().iter().filter(|t| has(t)) {
            pipeline.dataplane.for_each_entry(table.ix, &mut |view| found(table, view))?;
        }
        return Ok(());
    }
    let table = pipeline.binding.table(table_id)?;
    if !has(table) {
        return Err(table.refuse(format!("it has no {what}")));
    }
    match entry {
        Some(e) if !e.r#match.is_empty() || e.is_default_action => {
            let (table, key) = direct_key(pipeline, entry, what)?;
            found(table, pipeline.dataplane.get(table.ix, &key.fields, key.priority)?);
        }
        _ => pipeline.dataplane.for_each_entry(table.ix, &mut |view| found(table, view))?,
    }
    Ok(())
}

/// The part of an entry that identifies it.
fn reference(table: &TableBinding, view: &EntryView) -> v1::TableEntry {
    v1::TableEntry {
        table_id: table.id,
        r#match: table.encode_key(&view.key),
        priority: view.priority,
        ..v1::TableEntry::default()
    }
}

fn read_direct_counters(
    pipeline: &ForwardingPipeline,
    filter: &v1::DirectCounterEntry,
    found: &mut dyn FnMut(v1::DirectCounterEntry),
) -> Result<(), Refused> {
    let entry = filter.table_entry.as_ref();
    direct_entries(pipeline, entry, "direct counter", |t| t.direct_counter, &mut |table, view| {
        let data = Some(encode_counter(view.counter.unwrap_or_default()));
        found(v1::DirectCounterEntry { table_entry: Some(reference(table, &view)), data });
    })
}

fn read_direct_meters(
    pipeline: &ForwardingPipeline,
    filter: &v1::DirectMeterEntry,
    found: &mut dyn FnMut(v1::DirectMeterEntry),
) -> Result<(), Refused> {
    let entry = filter.table_entry.as_ref();
    direct_entries(pipeline, entry, "direct meter", |t| t.direct_meter.is_some(), &mut |table, view| {
        let config = view.meter.map(encode_meter);
        let counter_data = view.colours.filter(|_| filter.counter_data.is_some()).map(encode_colours);
        found(v1::DirectMeterEntry { table_entry: Some(reference(table, &view)), config, counter_data });
    })
}
