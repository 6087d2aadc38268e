//! Keys and actions of a control plane: checked, packed, and unpacked again.

use super::super::compile::ones;
use super::super::entry::{ActionCall, MatchValue, pieces};
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
    if key.len() != parts.len() {
        return Err(bad(format!("{} match fields where the key has {}", key.len(), parts.len())));
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
    // The field before, and what of it binds the next piece of the same field.
    let mut before: Option<(u16, Bound)> = None;
    for (v, part) in key.iter().zip(parts) {
        let (f, width) = (&info.key[usize::from(part.field)], part.width);
        let all = ones(width);
        let bound = before.take().filter(|(field, _)| *field == part.field).map(|(_, bound)| bound);
        let fits = |what: &str, n: u128| {
            if n & !all == 0 {
                Ok(n)
            } else {
                Err(bad(format!("the {what} {n:#x} of {} does not fit {width} bits", f.name)))
            }
        };
        let mut prefix = width;
        let mut next = Bound::None;
        let (value, mask) = match (*v, f.kind) {
            (MatchValue::Exact(n), MatchKind::Exact) => (fits("value", n)?, all),
            (MatchValue::Lpm { value, prefix_len }, MatchKind::Lpm) => {
                if prefix_len > width {
                    return Err(bad(format!("a prefix of {prefix_len} bits for {}, which has {width}", f.name)));
                }
                if prefix_len > 0 && bound == Some(Bound::PrefixEnded) {
                    return Err(bad(format!("the prefix of {} has ended in a piece before", f.name)));
                }
                if prefix_len < width {
                    next = Bound::PrefixEnded;
                }
                let mask = all & !ones_or_none(width - prefix_len);
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
            (MatchValue::Optional(o), MatchKind::Optional | MatchKind::Ternary) => {
                next = Bound::Given(o.is_some());
                if bound.is_some_and(|b| b != next) {
                    return Err(bad(format!("only some pieces of {} have a value", f.name)));
                }
                match o {
                    Some(n) => (fits("value", n)?, all),
                    None => (0, 0),
                }
            }
            (MatchValue::Range { low, high }, MatchKind::Range) => {
                let (low, high) = (fits("lower bound", low)?, fits("upper bound", high)?);
                // The first piece in which the bounds differ decides.
                let differ = bound == Some(Bound::RangeDiffers);
                if low > high && !differ {
                    return Err(bad(format!("the range of {} ends before it starts", f.name)));
                }
                if low != high || differ {
                    next = Bound::RangeDiffers;
                }
                full.ranges.push((low, high));
                before = Some((part.field, next));
                continue;
            }
            (v, kind) => return Err(bad(format!("{} is matched as {kind:?}, not as {v:?}", f.name))),
        };
        before = Some((part.field, next));
        // The program's own mask, where it has one, hides bits of both sides.
        put_wide(&mut full.value, part.pos, value & part.mask);
        put_wide(&mut full.mask, part.pos, mask & part.mask);
        full.prefix += prefix;
    }
    Ok(full)
}

/// What a piece of a field says about the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    None,
    /// A prefix has ended in it, or before.
    PrefixEnded,
    /// An optional field has a value, or none.
    Given(bool),
    /// The bounds of a range differ in it, or before.
    RangeDiffers,
}

fn ones_or_none(width: u32) -> u128 {
    if width == 0 { 0 } else { ones(width) }
}

/// The key as it was given.
pub(super) fn decode(program: &Program, t: usize, parts: &[KeyPart], full: &FullKey) -> Vec<MatchValue> {
    let mut ranges = full.ranges.iter();
    let (key, ternary) = (&program.tables[t].key, program.tables[t].needs_priority);
    let exact: u32 = key.iter().filter(|f| f.kind == MatchKind::Exact).map(|f| f.width).sum();
    // What of the prefix is in the pieces that are still to come.
    let mut prefix = full.prefix.saturating_sub(exact);
    parts
        .iter()
        .map(|part| {
            let value = take(&full.value, part.pos, part.width);
            let mask = take(&full.mask, part.pos, part.width);
            match key[usize::from(part.field)].kind {
                MatchKind::Exact => MatchValue::Exact(value),
                MatchKind::Lpm if ternary => MatchValue::Lpm { value, prefix_len: mask.count_ones() },
                MatchKind::Lpm => {
                    let prefix_len = prefix.min(part.width);
                    prefix -= prefix_len;
                    MatchValue::Lpm { value, prefix_len }
                }
                MatchKind::Ternary => MatchValue::Ternary { value, mask },
                MatchKind::Optional => MatchValue::Optional((mask != 0).then_some(value)),
                MatchKind::Range => {
                    let (low, high) = ranges.next().copied().unwrap_or((0, ones(part.width)));
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
    let values = action.params.iter().map(|p| pieces(p.width).count()).sum::<usize>();
    if args.len() != values {
        return Err(format!("{} takes {values} arguments, not {}", action.name, args.len()));
    }
    let widths = action.params.iter().flat_map(|p| pieces(p.width).map(move |w| (p, w)));
    for (v, (p, width)) in args.iter().zip(widths) {
        if v & !ones(width) != 0 {
            return Err(format!("{v:#x} does not fit the {width} bits of {} of {}", p.name, action.name));
        }
    }
    Ok(())
}
