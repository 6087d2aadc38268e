//! From names as tests write them (whole, or the end of one) to P4Runtime messages.

use anyhow::{Context, Result, bail, ensure};
use dmux_p4rt::bytestring::canonical;
use dmux_p4rt::p4::config::v1::match_field::{Match, MatchType};
use dmux_p4rt::p4::config::v1::{ActionProfile, MatchField, P4Info, Preamble, Table};
use dmux_p4rt::p4::v1::field_match::{Exact, FieldMatchType, Lpm, Optional, Range, Ternary};
use dmux_p4rt::p4::v1::table_action::Type;
use dmux_p4rt::p4::v1::{Action, FieldMatch, TableAction, TableEntry, action};

use super::number;
use super::parse::{Call, Does, Key, Value};

/// The object that a test means: one of this name, or the only one whose name ends so.
pub fn find<'a, T>(kind: &str, name: &str, all: &'a [T], preamble: impl Fn(&T) -> Option<&Preamble>) -> Result<&'a T> {
    let named = |t: &T, test: &dyn Fn(&str) -> bool| preamble(t).is_some_and(|p| test(&p.name));
    if let Some(one) = all.iter().find(|t| named(t, &|n| n == name)) {
        return Ok(one);
    }
    for ending in [format!(".{name}"), name.to_owned()] {
        let mut found = all.iter().filter(|t| named(t, &|n| n.ends_with(&ending)));
        match (found.next(), found.next()) {
            (Some(one), None) => return Ok(one),
            (None, _) => {}
            _ => bail!("the P4Info has several {kind}s whose name ends in {name}"),
        }
    }
    bail!("the P4Info has no {kind} {name}")
}

/// The id of an object.
pub fn id(preamble: Option<&Preamble>) -> u32 {
    preamble.map_or(0, |p| p.id)
}

/// The table of this name.
pub fn table<'a>(info: &'a P4Info, name: &str) -> Result<&'a Table> {
    find("table", name, &info.tables, |t| t.preamble.as_ref())
}

/// The action profile of this name.
pub fn profile<'a>(info: &'a P4Info, name: &str) -> Result<&'a ActionProfile> {
    find("action profile", name, &info.action_profiles, |p| p.preamble.as_ref())
}

/// An entry as `add` says it.
pub fn entry(info: &P4Info, name: &str, priority: Option<i32>, keys: &[Key], does: &Does) -> Result<TableEntry> {
    let table = table(info, name)?;
    let mut fields = Vec::new();
    let mut prioritised = false;
    let mut used = vec![false; keys.len()];
    for field in &table.match_fields {
        let key = keys.iter().position(|(key, _)| is_named(field, key, &table.match_fields));
        if let Some(key) = key {
            used[key] = true;
        }
        let given = key.map(|k| &keys[k].1);
        prioritised |= matches!(kind(field), MatchType::Ternary | MatchType::Range | MatchType::Optional);
        if let Some(value) = field_match(field, given).with_context(|| format!("key field {}", field.name))? {
            fields.push(FieldMatch { field_id: field.id, field_match_type: Some(value) });
        }
    }
    if let Some(stray) = used.iter().position(|used| !used) {
        bail!("table {name} has no key field {}", keys[stray].0);
    }
    let action = match does {
        Does::Action(call) => Type::Action(action(info, &table_actions(table), call)?),
        Does::Member(id) => Type::ActionProfileMemberId(*id),
        Does::Group(id) => Type::ActionProfileGroupId(*id),
    };
    Ok(TableEntry {
        table_id: id(table.preamble.as_ref()),
        r#match: fields,
        // P4Runtime's priorities begin at 1, those of the tests at 0.
        priority: if prioritised { priority.unwrap_or(0).saturating_add(1) } else { 0 },
        action: Some(TableAction { r#type: Some(action) }),
        ..Default::default()
    })
}

/// The default entry as `setdefault` says it.
pub fn default_entry(info: &P4Info, name: &str, call: &Call) -> Result<TableEntry> {
    let table = table(info, name)?;
    let action = action(info, &table_actions(table), call)?;
    Ok(TableEntry {
        table_id: id(table.preamble.as_ref()),
        action: Some(TableAction { r#type: Some(Type::Action(action)) }),
        is_default_action: true,
        ..Default::default()
    })
}

fn table_actions(table: &Table) -> Vec<u32> {
    table.action_refs.iter().map(|a| a.id).collect()
}

/// The actions that the tables of an action profile may have.
pub fn profile_actions(info: &P4Info, profile: &ActionProfile) -> Vec<u32> {
    let tables = info.tables.iter().filter(|t| profile.table_ids.contains(&id(t.preamble.as_ref())));
    tables.flat_map(|t| t.action_refs.iter().map(|a| a.id)).collect()
}

/// A call of one of these actions.
pub fn action(info: &P4Info, among: &[u32], call: &Call) -> Result<Action> {
    let actions: Vec<_> = info.actions.iter().filter(|a| among.contains(&id(a.preamble.as_ref()))).collect();
    let action = find("action", &call.name, &actions, |a| a.preamble.as_ref())?;
    if let Some((stray, _)) = call.args.iter().find(|(name, _)| action.params.iter().all(|p| p.name != *name)) {
        bail!("action {} has no parameter {stray}", call.name);
    }
    let param = |p: &dmux_p4rt::p4::config::v1::action::Param| {
        let given = call.args.iter().find(|(name, _)| *name == p.name);
        let (_, text) = given.with_context(|| format!("action {} needs the argument {}", call.name, p.name))?;
        Ok(action::Param { param_id: p.id, value: number::exact(text)? })
    };
    let params = action.params.iter().map(param).collect::<Result<_>>()?;
    Ok(Action { action_id: id(action.preamble.as_ref()), params })
}

fn kind(field: &MatchField) -> MatchType {
    match &field.r#match {
        Some(Match::MatchType(kind)) => MatchType::try_from(*kind).unwrap_or(MatchType::Unspecified),
        _ => MatchType::Unspecified,
    }
}

/// Whether `key` means this field, by p4c's rules: `h$1.f` is `h[1].f`; `valid` is `$valid$`; the end of a name is enough
/// where no field has it as a whole.
fn is_named(field: &MatchField, key: &str, all: &[MatchField]) -> bool {
    let key = unescape(key);
    let forms = [key.clone(), format!("{key}$"), format!("{key}.$valid$"), valid(&key)];
    if let Some(whole) = all.iter().find(|f| forms.contains(&f.name)) {
        return whole.id == field.id;
    }
    let ends = |f: &MatchField| {
        f.name.ends_with(&format!(".{key}"))
            || f.name.ends_with(&format!(".{key}$"))
            || (key == "valid" && f.name.ends_with("$valid$"))
    };
    // The last one, as p4c's runner has it.
    all.iter().rev().find(|f| ends(f)).is_some_and(|f| f.id == field.id)
}

fn valid(key: &str) -> String {
    key.strip_suffix(".valid").map_or_else(String::new, |header| format!("{header}.$valid$"))
}

/// `extra$0.h` stands for `extra[0].h`.
fn unescape(key: &str) -> String {
    let Some((before, after)) = key.rsplit_once('$') else { return key.to_owned() };
    let digits = after.chars().take_while(char::is_ascii_digit).count();
    if digits == 0 { key.to_owned() } else { format!("{before}[{}]{}", &after[..digits], &after[digits..]) }
}

/// What a field matches; `None` where it matches anything.
fn field_match(field: &MatchField, given: Option<&Value>) -> Result<Option<FieldMatchType>> {
    let width = field.bitwidth.unsigned_abs();
    let anything = |v: &&Value| matches!(v, Value::Number(text) if text == "*");
    let given = given.filter(|v| !anything(v));
    Ok(match (kind(field), given) {
        (MatchType::Exact, None) => Some(FieldMatchType::Exact(Exact { value: vec![0] })),
        (MatchType::Exact, Some(Value::Number(text))) => {
            Some(FieldMatchType::Exact(Exact { value: number::exact(text)? }))
        }
        (MatchType::Lpm | MatchType::Ternary | MatchType::Range | MatchType::Optional, None) => None,
        (MatchType::Lpm, Some(Value::Prefix(text, prefix))) => lpm(&number::exact(text)?, *prefix, width),
        (MatchType::Lpm, Some(Value::Number(text))) => {
            let masked = number::masked(text)?;
            lpm(&masked.value, if masked.decimal { width } else { masked.meant.min(width) }, width)
        }
        (MatchType::Ternary, Some(Value::Number(text))) => {
            let masked = number::masked(text)?;
            ternary(&masked.value, if masked.decimal { number::ones(width) } else { masked.mask })
        }
        (MatchType::Ternary, Some(Value::Mask(value, mask))) => ternary(&number::exact(value)?, number::exact(mask)?),
        (MatchType::Ternary, Some(Value::Prefix(value, prefix))) => {
            ternary(&number::exact(value)?, number::prefix_mask(*prefix, width))
        }
        (MatchType::Range, Some(Value::Range(low, high))) => {
            let (low, high) = (number::exact(low)?, number::exact(high)?);
            let whole = low == [0] && high == number::ones(width);
            (!whole).then_some(FieldMatchType::Range(Range { low, high }))
        }
        (MatchType::Range, Some(Value::Number(text))) => {
            let value = number::exact(text)?;
            Some(FieldMatchType::Range(Range { low: value.clone(), high: value }))
        }
        (MatchType::Optional, Some(Value::Number(text))) => {
            Some(FieldMatchType::Optional(Optional { value: number::exact(text)? }))
        }
        (MatchType::Unspecified, _) => bail!("a match kind that P4Runtime does not define"),
        (kind, Some(value)) => bail!("{value:?} is no value for a match of kind {kind:?}"),
    })
}

fn lpm(value: &[u8], prefix: u32, width: u32) -> Option<FieldMatchType> {
    // Bits beyond the prefix must be 0 (P4Runtime 1.4 §9.1.1); tests write them all the same.
    let value = number::and(value, &number::prefix_mask(prefix, width));
    (prefix > 0).then_some(FieldMatchType::Lpm(Lpm { value, prefix_len: prefix.cast_signed() }))
}

fn ternary(value: &[u8], mask: Vec<u8>) -> Option<FieldMatchType> {
    let mask = canonical(&mask).to_vec();
    let value = number::and(value, &mask);
    (mask != [0]).then_some(FieldMatchType::Ternary(Ternary { value, mask }))
}

/// One member of a value set.
pub fn value_set_member(fields: &[MatchField], value: &Value) -> Result<Vec<FieldMatch>> {
    ensure!(fields.len() == 1, "value sets of several fields cannot be written here");
    let matched = field_match(&fields[0], Some(value))?;
    Ok(matched.map(|m| FieldMatch { field_id: fields[0].id, field_match_type: Some(m) }).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(id: u32, name: &str, bits: i32, kind: MatchType) -> MatchField {
        MatchField {
            id,
            name: name.to_owned(),
            bitwidth: bits,
            r#match: Some(Match::MatchType(kind as i32)),
            ..Default::default()
        }
    }

    #[test]
    fn keys_are_named_as_p4c_names_them() {
        let all = [
            field(1, "hdr.a.f", 8, MatchType::Exact),
            field(2, "extra[0].h", 16, MatchType::Ternary),
            field(3, "hdr.b.$valid$", 1, MatchType::Exact),
            field(4, "f", 8, MatchType::Exact),
        ];
        let meant = |key: &str| all.iter().find(|f| is_named(f, key, &all)).map(|f| f.id);
        assert_eq!(meant("hdr.a.f"), Some(1));
        assert_eq!(meant("a.f"), Some(1));
        assert_eq!(meant("f"), Some(4), "a whole name comes before the end of one");
        assert_eq!(meant("extra$0.h"), Some(2));
        for key in ["hdr.b.valid", "hdr.b.$valid", "b.$valid", "hdr.b", "valid"] {
            assert_eq!(meant(key), Some(3), "{key}");
        }
        assert_eq!(meant("g"), None);
    }

    #[test]
    fn values_become_canonical_matches() {
        let number = |text: &str| Value::Number(text.to_owned());
        let lpm = field(1, "a", 32, MatchType::Lpm);
        let prefix = Value::Prefix("0x0a0102ff".to_owned(), 24);
        let want = FieldMatchType::Lpm(Lpm { value: vec![0x0a, 1, 2, 0], prefix_len: 24 });
        assert_eq!(field_match(&lpm, Some(&prefix)).unwrap(), Some(want.clone()));
        assert_eq!(field_match(&lpm, Some(&number("0x0a0102**"))).unwrap(), Some(want));
        assert_eq!(field_match(&lpm, None).unwrap(), None);
        let ternary = field(1, "a", 16, MatchType::Ternary);
        let want = |value: &[u8], mask: &[u8]| {
            Some(FieldMatchType::Ternary(Ternary { value: value.to_vec(), mask: mask.to_vec() }))
        };
        assert_eq!(field_match(&ternary, Some(&number("0x12**"))).unwrap(), want(&[0x12, 0], &[0xff, 0]));
        assert_eq!(field_match(&ternary, Some(&number("5"))).unwrap(), want(&[5], &[0xff, 0xff]));
        assert_eq!(field_match(&ternary, Some(&number("*"))).unwrap(), None);
        let range = field(1, "a", 8, MatchType::Range);
        let bounds = |low: &str, high: &str| Value::Range(low.to_owned(), high.to_owned());
        assert_eq!(field_match(&range, Some(&bounds("0", "255"))).unwrap(), None);
        assert!(field_match(&range, Some(&bounds("1", "255"))).unwrap().is_some());
        assert!(field_match(&range, Some(&prefix)).is_err());
    }
}
