//! Parser value sets: specification 1.4, section 9.6. BMv2 answers these with UNIMPLEMENTED.

use dmux_p4rt::p4::v1;

use super::binding::{FieldBinding, TableBinding};
use super::config::ForwardingPipeline;
use super::error::Refused;
use super::value;
use crate::pipeline::{MatchKind, MatchValue};

/// Replaces all members.
pub(super) fn set_value_set(pipeline: &ForwardingPipeline, entry: &v1::ValueSetEntry) -> Result<(), Refused> {
    let set = pipeline.binding.value_set(entry.value_set_id)?;
    let mut members = Vec::with_capacity(entry.members.len());
    for member in &entry.members {
        let given = v1::TableEntry { r#match: member.r#match.clone(), ..v1::TableEntry::default() };
        let fields = set.decode_key(&given)?.fields;
        members.push(fields.into_iter().zip(&set.fields).map(|(v, f)| compile(v, f)).collect());
    }
    Ok(pipeline.dataplane.set_value_set(set.ix.0, members)?)
}

/// The members of one value set, or of each for id 0.
pub(super) fn read_value_sets(
    pipeline: &ForwardingPipeline,
    filter: &v1::ValueSetEntry,
    found: &mut dyn FnMut(v1::ValueSetEntry),
) -> Result<(), Refused> {
    if filter.value_set_id == 0 {
        return pipeline.binding.value_sets.iter().try_for_each(|set| read_one(pipeline, set, found));
    }
    read_one(pipeline, pipeline.binding.value_set(filter.value_set_id)?, found)
}

fn read_one(
    pipeline: &ForwardingPipeline,
    set: &TableBinding,
    found: &mut dyn FnMut(v1::ValueSetEntry),
) -> Result<(), Refused> {
    let members = pipeline.dataplane.value_set(set.ix.0)?.into_iter().map(|m| {
        let key: Vec<MatchValue> = m.into_iter().zip(&set.fields).map(|(v, f)| original(v, f)).collect();
        v1::ValueSetMember { r#match: set.encode_key(&key) }
    });
    found(v1::ValueSetEntry { value_set_id: set.id, members: members.collect() });
    Ok(())
}

/// The parser compares under masks, and knows no prefixes.
fn compile(v: MatchValue, f: &FieldBinding) -> MatchValue {
    match v {
        MatchValue::Lpm { value, prefix_len } => {
            let mask = value::all_ones(f.width) & !value::all_ones(f.width - prefix_len);
            MatchValue::Ternary { value, mask }
        }
        v => v,
    }
}

/// What was given.
fn original(v: MatchValue, f: &FieldBinding) -> MatchValue {
    match v {
        MatchValue::Ternary { value, mask } if f.kind == MatchKind::Lpm => {
            MatchValue::Lpm { value, prefix_len: mask.count_ones() }
        }
        v => v,
    }
}
