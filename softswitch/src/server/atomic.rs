//! All or nothing: batches with ROLLBACK_ON_ERROR and DATAPLANE_ATOMIC (specification 1.4, section 12.2).
//!
//! ROLLBACK_ON_ERROR takes every kind of entity. Each update is done for itself, after what it changes has been read;
//! the first one that fails has those before it undone by writing back what was read. DATAPLANE_ATOMIC takes updates of
//! table entries that are one change of the tables each: they are made on the side that packets do not read.

use std::collections::{HashMap, HashSet};
use std::slice;

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::update::Type;
use tonic::Code;

use super::config::ForwardingPipeline;
use super::error::Refused;
use super::key::EntryKey;
use super::role::Access;
use super::{read, write};
use crate::pipeline::TableIx;

type Results = Vec<Result<(), Refused>>;

/// Every result of a batch of which nothing was done, since one update failed.
fn all_refused(count: usize, index: usize, refused: Refused) -> Results {
    let mut results = Vec::with_capacity(count);
    for other in 0..count {
        results.push(Err(match other == index {
            true => refused.clone(),
            false => Refused::new(Code::Aborted, format!("not done, since update {index} of its batch failed")),
        }));
    }
    results
}

fn update(kind: Type, entity: v1::Entity) -> v1::Update {
    v1::Update { r#type: kind.into(), entity: Some(entity) }
}

fn write_one(pipeline: &ForwardingPipeline, update: &v1::Update) -> Result<(), Refused> {
    write::apply(pipeline, slice::from_ref(update)).pop().unwrap_or(Ok(()))
}

/// ROLLBACK_ON_ERROR. Packets may see updates that are undone afterwards.
pub(crate) fn rollback_on_error(pipeline: &ForwardingPipeline, access: &Access, updates: &[v1::Update]) -> Results {
    let mut undo = Vec::new();
    for (index, update) in updates.iter().enumerate() {
        let outcome = access.check(update.entity.as_ref()).and_then(|()| {
            let inverse = inverse(pipeline, update);
            write_one(pipeline, update)?;
            undo.extend(inverse.into_iter().rev());
            Ok(())
        });
        if let Err(refused) = outcome {
            for update in undo.iter().rev() {
                if let Err(error) = write_one(pipeline, update) {
                    tracing::error!(%error, "an update of a batch that failed could not be undone");
                }
            }
            return all_refused(updates.len(), index, refused);
        }
    }
    vec![Ok(()); updates.len()]
}

/// What undoes an update that is yet to be done.
fn inverse(pipeline: &ForwardingPipeline, wanted: &v1::Update) -> Vec<v1::Update> {
    let kind = wanted.r#type();
    let Some(entity) = &wanted.entity else { return Vec::new() };
    let back = match kind {
        Type::Unspecified => return Vec::new(),
        Type::Insert => return vec![update(Type::Delete, entity.clone())],
        Type::Modify => Type::Modify,
        Type::Delete => Type::Insert,
    };
    before(pipeline, entity, kind).into_iter().map(|entity| update(back, entity)).collect()
}

/// What an entity is now: nothing, one entity, or many for a wildcard.
fn before(pipeline: &ForwardingPipeline, entity: &v1::Entity, kind: Type) -> Vec<v1::Entity> {
    if let Some(Entity::TableEntry(entry)) = &entity.entity {
        // A count goes on meanwhile: it is put back only where the update sets it.
        let counted = kind == Type::Delete || entry.counter_data.is_some();
        let mut found = entry_before(pipeline, entry, counted);
        // What is not changed is not written back: an action set would need room beside itself.
        if kind == Type::Modify
            && entry.action.is_none()
            && !entry.is_default_action
            && let Some(found) = &mut found
        {
            found.action = None;
        }
        return found.into_iter().map(table_entity).collect();
    }
    let mut found = Vec::new();
    // What cannot be read cannot be written either.
    let _ = read::read(pipeline, entity, &mut |e| found.push(e));
    let direct = |e: &Entity| match e {
        Entity::DirectCounterEntry(e) => e.table_entry.clone(),
        Entity::DirectMeterEntry(e) => e.table_entry.clone(),
        _ => None,
    };
    // A key that matches everything reads like a wildcard, but means one entry.
    if let Some(one) = entity.entity.as_ref().and_then(direct)
        && let Ok(table) = pipeline.binding.table(one.table_id)
        && let Ok(key) = table.decode_key(&one)
    {
        found.retain(|e| {
            let other = e.entity.as_ref().and_then(direct);
            other.is_some_and(|other| table.decode_key(&other).is_ok_and(|other| other == key))
        });
    }
    found
}

fn table_entity(entry: v1::TableEntry) -> v1::Entity {
    v1::Entity { entity: Some(Entity::TableEntry(entry)) }
}

/// A table entry, as it can be written again.
fn entry_before(pipeline: &ForwardingPipeline, entry: &v1::TableEntry, counted: bool) -> Option<v1::TableEntry> {
    let filter = v1::TableEntry {
        table_id: entry.table_id,
        r#match: entry.r#match.clone(),
        priority: entry.priority,
        is_default_action: entry.is_default_action,
        meter_config: Some(v1::MeterConfig::default()),
        counter_data: counted.then(v1::CounterData::default),
        ..v1::TableEntry::default()
    };
    let Some(found) = read::one_entry(pipeline, &filter).ok()? else {
        // An indirect table may have no default entry: resetting it takes away what it has been given.
        let none = v1::TableEntry { table_id: entry.table_id, is_default_action: true, ..v1::TableEntry::default() };
        return entry.is_default_action.then_some(none);
    };
    // The action of a constant entry is part of the program and cannot be written.
    let action = found.action.filter(|_| !found.is_const);
    Some(v1::TableEntry { action, is_const: false, time_since_last_hit: None, meter_counter_data: None, ..found })
}

/// An entry of a table; without a key, its default entry.
type Place = (TableIx, Option<EntryKey>);

/// DATAPLANE_ATOMIC: packets see all of the batch or none of it.
///
/// # Errors
/// UNIMPLEMENTED for a batch that is more than changes of table entries.
pub(crate) fn dataplane_atomic(
    pipeline: &ForwardingPipeline,
    access: &Access,
    updates: &[v1::Update],
) -> Result<Results, Refused> {
    let mut decoded = Vec::with_capacity(updates.len());
    let mut before: HashMap<Place, Option<v1::TableEntry>> = HashMap::new();
    for (index, update) in updates.iter().enumerate() {
        let checked = access.check(update.entity.as_ref()).and_then(|()| write::decode_plain(pipeline, update));
        match checked {
            Ok(Some((plain, entry))) => {
                before.entry(plain.place()).or_insert_with(|| entry_before(pipeline, entry, true));
                decoded.push((update.r#type(), plain, entry));
            }
            Ok(None) => {
                return Err(Refused::unimplemented(format!(
                    "DATAPLANE_ATOMIC is for table entries without changes of direct counters and meters: update \
                     {index} is something else; use ROLLBACK_ON_ERROR"
                )));
            }
            Err(refused) => return Ok(all_refused(updates.len(), index, refused)),
        }
    }
    let mut failure = None;
    // Entries that were there before the batch, and were gone meanwhile.
    let mut gone = HashSet::new();
    pipeline.dataplane.write(|txn| {
        // Backwards, step by step: every state on the way back is one that there was on the way there, and so has room.
        let mut undo = Vec::new();
        let mut present = before.clone();
        for (index, (kind, plain, entry)) in decoded.into_iter().enumerate() {
            let place = plain.place();
            if let Err(refused) = write::perform(pipeline, txn, plain) {
                failure = Some((index, refused));
                break;
            }
            let stays = (kind != Type::Delete).then(|| entry.clone());
            match (kind, present.insert(place.clone(), stays).flatten()) {
                (Type::Insert, _) => undo.push((Type::Delete, entry.clone())),
                (Type::Delete, Some(was)) => {
                    undo.push((Type::Insert, was));
                    gone.insert(place);
                }
                (_, Some(was)) => undo.push((Type::Modify, was)),
                (_, None) => {}
            }
        }
        if failure.is_none() {
            return;
        }
        for (kind, entry) in undo.iter().rev() {
            let undone = write::decode(pipeline, *kind, entry).and_then(|u| write::perform(pipeline, txn, u));
            if let Err(error) = undone {
                tracing::error!(%error, "an update of a batch that failed could not be undone");
            }
        }
    });
    let Some((index, refused)) = failure else { return Ok(vec![Ok(()); updates.len()]) };
    // An entry that was taken and came back has its counter and meter set anew.
    let was_there = |(place, entry): (Place, Option<v1::TableEntry>)| entry.filter(|_| gone.contains(&place));
    let restored: Vec<_> =
        before.into_iter().filter_map(was_there).map(|e| update(Type::Modify, table_entity(e))).collect();
    write::apply(pipeline, &restored);
    Ok(all_refused(updates.len(), index, refused))
}
