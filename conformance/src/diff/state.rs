//! Counters and digests, compared.

use std::collections::BTreeMap;

use anyhow::Result;
use dmux_p4rt::p4::config::v1::P4Info;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::{CounterData, CounterEntry, TableEntry};

use crate::stf::digests;
use crate::target::Target;

/// What a switch holds and has told at the end of a case.
pub(super) struct State {
    counters: BTreeMap<String, (i64, i64)>,
    digests: Vec<(String, Vec<String>)>,
}

/// Reads it.
pub(super) async fn read(info: &P4Info, target: &mut Target) -> Result<State> {
    Ok(State { counters: counters(info, target).await?, digests: digests(info, &target.digests) })
}

/// How two differ.
pub(super) fn differences(theirs: &State, ours: &State, any_order: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (cell, value) in &theirs.counters {
        match ours.counters.get(cell) {
            Some(other) if other == value => {}
            other => found.push(format!("{cell}: BMv2 counts {value:?}, dmux {other:?}")),
        }
    }
    let unknown = ours.counters.keys().filter(|c| !theirs.counters.contains_key(*c));
    found.extend(unknown.map(|c| format!("{c}: BMv2 does not have it")));
    let (mut theirs, mut ours) = (theirs.digests.clone(), ours.digests.clone());
    if any_order {
        theirs.sort();
        ours.sort();
    }
    if theirs != ours {
        found.push(format!("BMv2 sends the digests {theirs:?}, dmux {ours:?}"));
    }
    found
}

/// Every cell: (packets, bytes).
async fn counters(info: &P4Info, target: &Target) -> Result<BTreeMap<String, (i64, i64)>> {
    let mut cells = BTreeMap::new();
    let value = |data: Option<CounterData>| data.map_or((0, 0), |d| (d.packet_count, d.byte_count));
    for counter in &info.counters {
        let counter_id = counter.preamble.as_ref().map_or(0, |p| p.id);
        let wanted = CounterEntry { counter_id, ..Default::default() };
        for entity in target.session.read(vec![Entity::CounterEntry(wanted).into()]).await? {
            if let Some(Entity::CounterEntry(cell)) = entity.entity {
                let index = cell.index.map_or(0, |i| i.index);
                cells.insert(format!("counter {counter_id:#x}({index})"), value(cell.data));
            }
        }
    }
    for counter in &info.direct_counters {
        let wanted = TableEntry {
            table_id: counter.direct_table_id,
            counter_data: Some(CounterData::default()),
            ..Default::default()
        };
        for entity in target.session.read(vec![Entity::TableEntry(wanted).into()]).await? {
            if let Some(Entity::TableEntry(entry)) = entity.entity
                && !entry.is_default_action
            {
                let key = format!("{:?} {}", entry.r#match, entry.priority);
                cells.insert(format!("entry of {:#x} {key}", entry.table_id), value(entry.counter_data));
            }
        }
    }
    Ok(cells)
}
