//! An entry in words.

use super::super::entry::{ActionCall, EntryView, MatchValue, Outcome, PIECE, Via, pieces};
use super::super::info::TableInfo;
use super::super::program::Program;
use num_bigint::BigUint;

/// Actions of a one-shot set that are named; there may be hundreds.
const NAMED_ACTIONS: usize = 8;

/// `key=value, …; priority N -> action(…)`: each field as its match kind has it, the priority where the table has them.
pub(super) fn describe(p: &Program, table: &TableInfo, entry: &EntryView) -> String {
    let mut rest = entry.key.as_slice();
    let mut fields = Vec::new();
    for field in &table.key {
        let (own, after) = rest.split_at(pieces(field.width).count().min(rest.len()));
        fields.push(format!("{}={}", field.name, value(own, field.width)));
        rest = after;
    }
    let priority = if table.needs_priority { format!("; priority {}", entry.priority) } else { String::new() };
    format!("{}{priority} -> {}", fields.join(", "), outcome(p, &entry.action))
}

/// A number of which these are the [`pieces`].
fn number(all: impl Iterator<Item = u128>) -> BigUint {
    all.fold(BigUint::ZERO, |n, piece| (n << PIECE) | BigUint::from(piece))
}

/// What a field matches; `all` are its pieces, which are of one kind.
fn value(all: &[MatchValue], width: u32) -> String {
    let part = |f: fn(&MatchValue) -> u128| number(all.iter().map(f));
    let values = part(|v| match *v {
        MatchValue::Exact(v) | MatchValue::Optional(Some(v)) => v,
        MatchValue::Lpm { value, .. } | MatchValue::Ternary { value, .. } => value,
        MatchValue::Range { low, .. } => low,
        MatchValue::Optional(None) => 0,
    });
    let ends = part(|v| match *v {
        MatchValue::Ternary { mask, .. } => mask,
        MatchValue::Range { high, .. } => high,
        _ => 0,
    });
    let ones = (BigUint::from(1u8) << width) - 1u8;
    let prefix = |v: &MatchValue| if let MatchValue::Lpm { prefix_len, .. } = v { *prefix_len } else { 0 };
    match all.first() {
        None | Some(MatchValue::Optional(None)) => "any".to_owned(),
        Some(MatchValue::Exact(_) | MatchValue::Optional(Some(_))) => format!("{values:#x}"),
        Some(MatchValue::Lpm { .. }) => format!("{values:#x}/{}", all.iter().map(prefix).sum::<u32>()),
        Some(MatchValue::Ternary { .. }) if ends == BigUint::ZERO => "any".to_owned(),
        Some(MatchValue::Ternary { .. }) if ends == ones => format!("{values:#x}"),
        Some(MatchValue::Ternary { .. }) => format!("{values:#x} &&& {ends:#x}"),
        Some(MatchValue::Range { .. }) if values == BigUint::ZERO && ends == ones => "any".to_owned(),
        Some(MatchValue::Range { .. }) => format!("{values:#x}..{ends:#x}"),
    }
}

fn outcome(p: &Program, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Call(c) => call(p, c),
        Outcome::Via(Via::Member(id)) => format!("member {id}"),
        Outcome::Via(Via::Group(id)) => format!("group {id}"),
        Outcome::Via(Via::Set(set)) => {
            let one = |a: &super::super::entry::WeightedCall| format!("{} x {}", a.weight, call(p, &a.call));
            let mut all: Vec<_> = set.actions.iter().take(NAMED_ACTIONS).map(one).collect();
            if set.actions.len() > NAMED_ACTIONS {
                all.push("…".to_owned());
            }
            format!("one of {}", all.join(", "))
        }
    }
}

fn call(p: &Program, call: &ActionCall) -> String {
    let Some(action) = p.actions.get(call.action.0) else { return "?".to_owned() };
    let mut rest = call.args.as_slice();
    let mut args = Vec::new();
    for param in &action.params {
        let (own, after) = rest.split_at(pieces(param.width).count().min(rest.len()));
        args.push(format!("{}={:#x}", param.name, number(own.iter().copied())));
        rest = after;
    }
    format!("{}({})", action.name, args.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_match_reads_as_it_does_in_p4() {
        for (v, text) in [
            (MatchValue::Exact(10), "0xa"),
            (MatchValue::Lpm { value: 0x0a00_0000, prefix_len: 8 }, "0xa000000/8"),
            (MatchValue::Ternary { value: 0x10, mask: 0xf0 }, "0x10 &&& 0xf0"),
            (MatchValue::Ternary { value: 0x10, mask: 0xffff_ffff }, "0x10"),
            (MatchValue::Ternary { value: 0, mask: 0 }, "any"),
            (MatchValue::Range { low: 1, high: 15 }, "0x1..0xf"),
            (MatchValue::Range { low: 0, high: 0xffff_ffff }, "any"),
            (MatchValue::Optional(Some(3)), "0x3"),
            (MatchValue::Optional(None), "any"),
        ] {
            assert_eq!(value(&[v], 32), text);
        }
    }

    #[test]
    fn a_wide_field_is_one_number() {
        assert_eq!(value(&[MatchValue::Exact(0xab), MatchValue::Exact(1)], 136), format!("0xab{:032x}", 1));
        let prefix = |value, prefix_len| MatchValue::Lpm { value, prefix_len };
        assert_eq!(value(&[prefix(0xab, 8), prefix(1 << 127, 1)], 136), format!("0xab8{:031x}/9", 0));
    }
}
