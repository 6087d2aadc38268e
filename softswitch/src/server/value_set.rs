//! Parser value sets: specification 1.4, section 9.6. BMv2 answers these with UNIMPLEMENTED.

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::match_field::{Match, MatchType};
use dmux_p4rt::p4::v1;

use super::binding::{FieldBinding, TableBinding, bind_fields, preamble};
use super::config::ForwardingPipeline;
use super::error::Refused;
use super::value;
use crate::pipeline::{KeyField, MatchKind, MatchValue, Program, TableIx, pieces};

/// A value set as a table without actions, whose entries are the members.
pub(super) fn bind(described: &info::ValueSet, program: &Program) -> Result<TableBinding, Refused> {
    let (id, name) = preamble(described.preamble.as_ref(), "value set")?;
    let found = program.value_sets().iter().enumerate().find(|(_, s)| s.name == name);
    let Some((ix, set)) = found else {
        return Err(Refused::invalid(format!("the P4Info's value set \"{name}\" is not in the program")));
    };
    let key = described.r#match.iter().zip(&set.widths).map(|(d, width)| {
        let kind = match &d.r#match {
            Some(Match::MatchType(kind)) => MatchType::try_from(*kind).unwrap_or(MatchType::Unspecified),
            _ => MatchType::Unspecified,
        };
        let kind = match kind {
            MatchType::Lpm => MatchKind::Lpm,
            MatchType::Ternary => MatchKind::Ternary,
            MatchType::Range => MatchKind::Range,
            MatchType::Optional => MatchKind::Optional,
            MatchType::Exact | MatchType::Unspecified => MatchKind::Exact,
        };
        KeyField { name: d.name.clone(), kind, width: *width }
    });
    let key: Vec<KeyField> = key.collect();
    if key.len() != set.widths.len() {
        return Err(Refused::invalid(format!(
            "the value set \"{name}\" has {} fields in the P4Info and {} in the program",
            described.r#match.len(),
            set.widths.len()
        )));
    }
    Ok(TableBinding {
        id,
        name: name.to_owned(),
        ix: TableIx(ix),
        fields: bind_fields(name, &described.r#match, &key)?,
        actions: Vec::new(),
        needs_priority: false,
        direct_counter: false,
        direct_meter: None,
        is_const: false,
        profile: None,
        weightless: false,
        idle_timeouts: false,
    })
}

/// Replaces all members.
pub(super) fn set_value_set(pipeline: &ForwardingPipeline, entry: &v1::ValueSetEntry) -> Result<(), Refused> {
    let set = pipeline.binding.value_set(entry.value_set_id)?;
    let mut members = Vec::with_capacity(entry.members.len());
    for member in &entry.members {
        let given = v1::TableEntry { r#match: member.r#match.clone(), ..v1::TableEntry::default() };
        let fields = set.decode_key(&given)?.fields;
        members.push(fields.into_iter().zip(by_piece(set)).map(|(v, (width, _))| compile(v, width)).collect());
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
        let key: Vec<MatchValue> = m.into_iter().zip(by_piece(set)).map(|(v, (_, f))| original(v, f)).collect();
        v1::ValueSetMember { r#match: set.encode_key(&key) }
    });
    found(v1::ValueSetEntry { value_set_id: set.id, members: members.collect() });
    Ok(())
}

/// The widths of a member's values, and the field of each.
fn by_piece(set: &TableBinding) -> impl Iterator<Item = (u32, &FieldBinding)> {
    set.fields.iter().flat_map(|f| pieces(f.width).map(move |w| (w, f)))
}

/// The parser compares under masks, and knows no prefixes.
fn compile(v: MatchValue, width: u32) -> MatchValue {
    match v {
        MatchValue::Lpm { value, prefix_len } => {
            let mask = value::all_ones(width) & !value::all_ones(width - prefix_len);
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
