//! Keys and actions of a control plane: checked, packed, and unpacked again.

use super::super::compile::ones;
use super::super::entry::{ActionCall, MatchValue};
use super::super::error::TableError;
use super::super::info::{ActionIx, MatchKind, TableInfo};
use super::super::ops::KeyPart;
use super::super::program::Program;
use super::bits::{put_wide, take};
use super::record::FullKey;

/// Checks a key against the table and packs it; `parts` tell where its fields go.
pub(super) fn encode(
    program: &Program,
    t: usize,
    parts: &[KeyPart],
    key: &[MatchValue],
    priority: i32,
) -> Result<FullKey, TableError> {
    let info = &program.tables[t];
    let bad = |what: String| TableError::BadKey { table: info.name.clone(), what };
    if key.len() != info.key.len() {
        return Err(bad(format!("{} match fields where the key has {}", key.len(), info.key.len())));
    }
    if info.key.is_empty() {
        return Err(bad("it has no key, so it can have no entries; set its default action".to_owned()));
    }
    if info.needs_priority != (priority > 0) {
        let what = if info.needs_priority {
            format!("its entries need a priority of at least 1, not {priority}")
        } else {
            format!("its entries have no priority, but {priority} was given")
        };
        return Err(TableError::BadPriority { table: info.name.clone(), what });
    }
    let mut full = FullKey { value: [0; 8], mask: [0; 8], prefix: 0, priority, ranges: Vec::new() };
    for ((v, f), part) in key.iter().zip(&info.key).zip(parts) {
        let all = ones(f.width);
        let fits = |what: &str, n: u128| {
            if n & !all == 0 {
                Ok(n)
            } else {
                Err(bad(format!("the {what} {n:#x} of {} does not fit {} bits", f.name, f.width)))
            }
        };
        let mut prefix = f.width;
        let (value, mask) = match (*v, f.kind) {
            (MatchValue::Exact(n), MatchKind::Exact) => (fits("value", n)?, all),
            (MatchValue::Lpm { value, prefix_len }, MatchKind::Lpm) => {
                if prefix_len > f.width {
                    return Err(bad(format!("a prefix of {prefix_len} bits for {}, which has {}", f.name, f.width)));
                }
                let mask = all & !ones_or_none(f.width - prefix_len);
                if fits("value", value)? & !mask != 0 {
                    return Err(bad(format!("bits of {} are set behind its prefix of {prefix_len} bits", f.name)));
                }
                prefix = prefix_len;
                (value, mask)
            }
            (MatchValue::Ternary { value, mask }, MatchKind::Ternary) => {
                if fits("value", value)? & !fits("mask", mask)? != 0 {
                    return Err(bad(format!("bits of {} are set outside its mask", f.name)));
                }
                (value, mask)
            }
            // p4c turns an optional field into a ternary one.
            (MatchValue::Optional(o), MatchKind::Optional | MatchKind::Ternary) => match o {
                Some(n) => (fits("value", n)?, all),
                None => (0, 0),
            },
            (MatchValue::Range { low, high }, MatchKind::Range) => {
                if fits("lower bound", low)? > fits("upper bound", high)? {
                    return Err(bad(format!("the range of {} ends before it starts", f.name)));
                }
                full.ranges.push((low, high));
                continue;
            }
            (v, kind) => return Err(bad(format!("{} is matched as {kind:?}, not as {v:?}", f.name))),
        };
        // The program's own mask, where it has one, hides bits of both sides.
        put_wide(&mut full.value, part.pos, value & part.mask);
        put_wide(&mut full.mask, part.pos, mask & part.mask);
        full.prefix += prefix;
    }
    Ok(full)
}

fn ones_or_none(width: u32) -> u128 {
    if width == 0 { 0 } else { ones(width) }
}

/// The key as it was given.
pub(super) fn decode(program: &Program, t: usize, parts: &[KeyPart], full: &FullKey) -> Vec<MatchValue> {
    let mut ranges = full.ranges.iter();
    let key = &program.tables[t].key;
    let exact: u32 = key.iter().filter(|f| f.kind == MatchKind::Exact).map(|f| f.width).sum();
    key.iter()
        .zip(parts)
        .map(|(f, part)| {
            let value = take(&full.value, part.pos, f.width);
            let mask = take(&full.mask, part.pos, f.width);
            match f.kind {
                MatchKind::Exact => MatchValue::Exact(value),
                MatchKind::Lpm => MatchValue::Lpm {
                    value,
                    prefix_len: if program.tables[t].needs_priority { mask.count_ones() } else { full.prefix - exact },
                },
                MatchKind::Ternary => MatchValue::Ternary { value, mask },
                MatchKind::Optional => MatchValue::Optional((mask != 0).then_some(value)),
                MatchKind::Range => {
                    let (low, high) = ranges.next().copied().unwrap_or((0, ones(f.width)));
                    MatchValue::Range { low, high }
                }
            }
        })
        .collect()
}

/// Checks an action against the table. Returns its place among the table's actions.
pub(super) fn check_action(program: &Program, info: &TableInfo, call: &ActionCall) -> Result<usize, TableError> {
    let bad = |what: String| TableError::BadAction { table: info.name.clone(), what };
    if info.profile.is_some() {
        return Err(bad("it is an indirect table: its entries name members or groups, not actions".to_owned()));
    }
    let Some(local) = info.actions.iter().position(|a| *a == call.action) else {
        let name = program.actions.get(call.action.0).map_or("of that number", |a| a.name.as_str());
        return Err(bad(format!("it has no action {name}")));
    };
    check_args(program, call.action, &call.args).map_err(bad)?;
    Ok(local)
}

/// Checks the arguments of an action.
pub(super) fn check_args(program: &Program, ActionIx(ix): ActionIx, args: &[u128]) -> Result<(), String> {
    let action = &program.actions[ix];
    if args.len() != action.params.len() {
        return Err(format!("{} takes {} arguments, not {}", action.name, action.params.len(), args.len()));
    }
    for (v, p) in args.iter().zip(&action.params) {
        if v & !ones(p.width) != 0 {
            return Err(format!("{:#x} does not fit the {} bits of {} of {}", v, p.width, p.name, action.name));
        }
    }
    Ok(())
}
