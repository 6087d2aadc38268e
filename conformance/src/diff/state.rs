//! Counters and digests, compared.

use std::collections::BTreeMap;

use anyhow::Result;
use dmux_p4rt::p4::config::v1::P4Info;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::{CounterData, CounterEntry, TableEntry};

use crate::stf::digests;
use crate::target::Target;

/// How counters and digests of the two differ.
pub(super) async fn differences(info: &P4Info, bmv2: &mut Target, ours: &mut Target) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let (theirs, mine) = (counters(info, bmv2).await?, counters(info, ours).await?);
    for (cell, value) in &theirs {
        match mine.get(cell) {
            Some(other) if other == value => {}
            other => found.push(format!("{cell}: BMv2 counts {value:?}, dmux {other:?}")),
        }
    }
    found.extend(mine.keys().filter(|c| !theirs.contains_key(*c)).map(|c| format!("{c}: BMv2 does not have it")));
    let (theirs, mine) = (digests(info, &bmv2.digests), digests(info, &ours.digests));
    if theirs != mine {
        found.push(format!("BMv2 sends the digests {theirs:?}, dmux {mine:?}"));
    }
    Ok(found)
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
