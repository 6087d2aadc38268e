//! Numbers, keys and actions: what is right, and their one canonical form.

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::action_ref::Scope;
use dmux_p4rt::p4::config::v1::match_field::MatchType;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::field_match::{self, FieldMatchType};
use tonic::Code;

use crate::generate::{id, kind_of};

/// A number in its shortest form.
pub fn shortest(value: u128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take(15).take_while(|b| **b == 0).count();
    bytes[zeros..].to_vec()
}

/// A byte string's value, unless it is empty or does not fit.
pub(super) fn number(bytes: &[u8], bits: u32) -> Option<u128> {
    if bytes.is_empty() {
        return None;
    }
    let significant: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
    if significant.len() > 16 {
        return None;
    }
    let value = significant.iter().fold(0u128, |v, b| v << 8 | u128::from(*b));
    (bits >= 128 || value >> bits == 0).then_some(value)
}

fn max(bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

pub(super) fn find_table<'a>(
    p4info: &'a info::P4Info,
    table_id: u32,
    wrong: &mut Vec<Code>,
) -> Option<&'a info::Table> {
    let found = p4info.tables.iter().find(|t| id(&t.preamble) == table_id);
    if found.is_none() {
        wrong.push(Code::InvalidArgument);
    }
    found
}

/// The part of an entry that identifies it, in canonical form; `None` when something is wrong with it.
pub(super) fn canonical_key(
    table: &info::Table,
    entry: &v1::TableEntry,
    wrong: &mut Vec<Code>,
) -> Option<v1::TableEntry> {
    let before = wrong.len();
    let ordered =
        |f: &info::MatchField| matches!(kind_of(f), MatchType::Ternary | MatchType::Range | MatchType::Optional);
    let needs_priority = table.match_fields.iter().any(ordered);
    if table.match_fields.is_empty()
        || (needs_priority && entry.priority <= 0)
        || (!needs_priority && entry.priority != 0)
    {
        wrong.push(Code::InvalidArgument);
    }
    let r#match = canonical_match(&table.match_fields, &entry.r#match, wrong);
    (wrong.len() == before).then(|| v1::TableEntry {
        table_id: entry.table_id,
        r#match,
        priority: entry.priority,
        ..v1::TableEntry::default()
    })
}

/// Match fields in canonical form and in the order of their ids.
pub(super) fn canonical_match(
    fields: &[info::MatchField],
    given: &[v1::FieldMatch],
    wrong: &mut Vec<Code>,
) -> Vec<v1::FieldMatch> {
    let mut seen = Vec::new();
    let mut canonical = Vec::new();
    for given in given {
        let field = fields.iter().find(|f| f.id == given.field_id);
        if seen.contains(&given.field_id) || field.is_none() || given.field_match_type.is_none() {
            wrong.push(Code::InvalidArgument);
        }
        seen.push(given.field_id);
        if let (Some(field), Some(kind)) = (field, &given.field_match_type) {
            let field_match_type = canonical_field(field, kind, wrong);
            canonical.push(v1::FieldMatch { field_id: given.field_id, field_match_type });
        }
    }
    if fields.iter().any(|f| kind_of(f) == MatchType::Exact && !seen.contains(&f.id)) {
        wrong.push(Code::InvalidArgument);
    }
    canonical.sort_by_key(|m| m.field_id);
    canonical
}

fn canonical_field(field: &info::MatchField, given: &FieldMatchType, wrong: &mut Vec<Code>) -> Option<FieldMatchType> {
    let bits = field.bitwidth as u32;
    let mut value = |bytes: &[u8]| {
        let value = number(bytes, bits);
        if value.is_none() {
            wrong.push(Code::OutOfRange);
        }
        value
    };
    let (fits, canonical) = match (kind_of(field), given) {
        (MatchType::Exact, FieldMatchType::Exact(m)) => {
            let value = shortest(value(&m.value)?);
            (true, FieldMatchType::Exact(field_match::Exact { value }))
        }
        (MatchType::Optional, FieldMatchType::Optional(m)) => {
            let value = shortest(value(&m.value)?);
            (true, FieldMatchType::Optional(field_match::Optional { value }))
        }
        (MatchType::Lpm, FieldMatchType::Lpm(m)) => {
            let value = value(&m.value);
            let prefix = u32::try_from(m.prefix_len).unwrap_or(0);
            let fits = (1..=bits).contains(&prefix) && value.is_none_or(|v| v & max(bits - prefix) == 0);
            let value = shortest(value.unwrap_or_default());
            (fits, FieldMatchType::Lpm(field_match::Lpm { value, prefix_len: m.prefix_len }))
        }
        (MatchType::Ternary, FieldMatchType::Ternary(m)) => {
            let (value, mask) = (value(&m.value), value(&m.mask));
            let fits = mask != Some(0) && value.zip(mask).is_none_or(|(v, m)| v & !m == 0);
            let (value, mask) = (shortest(value.unwrap_or_default()), shortest(mask.unwrap_or_default()));
            (fits, FieldMatchType::Ternary(field_match::Ternary { value, mask }))
        }
        (MatchType::Range, FieldMatchType::Range(m)) => {
            let (low, high) = (value(&m.low), value(&m.high));
            let fits = low.zip(high).is_none_or(|(l, h)| l <= h && (l, h) != (0, max(bits)));
            let (low, high) = (shortest(low.unwrap_or_default()), shortest(high.unwrap_or_default()));
            (fits, FieldMatchType::Range(field_match::Range { low, high }))
        }
        (_, other) => (false, other.clone()),
    };
    if !fits {
        wrong.push(Code::InvalidArgument);
    }
    Some(canonical)
}

/// An action in canonical form; `None` when something is wrong with it.
pub(super) fn check_action(
    p4info: &info::P4Info,
    table: &info::Table,
    given: &v1::Action,
    default: bool,
    wrong: &mut Vec<Code>,
) -> Option<v1::Action> {
    let before = wrong.len();
    let reference = table.action_refs.iter().find(|r| r.id == given.action_id);
    let action = p4info.actions.iter().find(|a| id(&a.preamble) == given.action_id);
    let (Some(reference), Some(action)) = (reference, action) else {
        wrong.push(Code::InvalidArgument);
        return None;
    };
    if reference.scope() == if default { Scope::TableOnly } else { Scope::DefaultOnly } {
        wrong.push(Code::PermissionDenied);
    }
    if given.params.iter().any(|g| action.params.iter().all(|p| p.id != g.param_id)) {
        wrong.push(Code::InvalidArgument);
    }
    let mut params = Vec::new();
    for param in &action.params {
        let values: Vec<_> = given.params.iter().filter(|g| g.param_id == param.id).collect();
        if values.len() != 1 {
            wrong.push(Code::InvalidArgument);
        }
        for one in values {
            match number(&one.value, param.bitwidth as u32) {
                Some(value) => params.push(v1::action::Param { param_id: param.id, value: shortest(value) }),
                None => wrong.push(Code::OutOfRange),
            }
        }
    }
    (wrong.len() == before).then_some(v1::Action { action_id: given.action_id, params })
}
