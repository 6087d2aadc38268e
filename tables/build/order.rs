//! In which order tables are written, so that no entry refers to one that is not there.

use std::collections::BTreeMap;

use crate::Error;
use crate::p4info::P4Info;
use crate::rules::refers_to;

/// The stage of each table, by its name: 0 for one that refers to nothing, else one more than the last it refers to.
pub fn stages(info: &P4Info) -> Result<BTreeMap<String, u8>, Error> {
    let mut refers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for table in &info.tables {
        let targets = refers.entry(&table.preamble.name).or_default();
        for field in &table.fields {
            targets.extend(refers_to(&field.annotations)?.map(|t| t.table));
        }
        for action in table.actions.iter().filter(|a| a.in_entries()) {
            for param in &info.action(action.id)?.params {
                targets.extend(refers_to(&param.annotations)?.map(|t| t.table));
            }
        }
    }

    let mut stages = BTreeMap::new();
    while stages.len() < refers.len() {
        let before = stages.len();
        for (table, targets) in &refers {
            let known: Option<Vec<u8>> = targets.iter().map(|t| stages.get(t).copied()).collect();
            if let (Some(known), false) = (known, stages.contains_key(*table)) {
                let stage = known.iter().max().map_or(0, |last| last + 1);
                stages.insert(table.to_string(), stage);
            }
        }
        if stages.len() == before {
            let stuck: Vec<_> = refers.keys().filter(|t| !stages.contains_key(**t)).collect();
            return Err(format!(
                "@refers_to of the tables {stuck:?} goes round in a circle or to a table that is not there"
            )
            .into());
        }
    }
    Ok(stages)
}
