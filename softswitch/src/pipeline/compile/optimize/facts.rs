//! What is known about the slots at a place in the code, and what follows from it.

use super::super::super::layout::Slot;
use super::super::super::ops::{Cc, Op};
use std::collections::BTreeMap;

/// Slots with known values, constants left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Facts(pub BTreeMap<Slot, u64>);

/// What a branch will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    Passed,
    Open,
}

fn cut(w: u8) -> u64 {
    u64::MAX >> (64 - w)
}

/// The value that an instruction writes, and where, if its operands are known to `get`.
pub(super) fn fold(op: &Op, get: &impl Fn(Slot) -> Option<u64>) -> Option<(Slot, u64)> {
    let two = |a: Slot, b: Slot| Some((get(a)?, get(b)?));
    Some(match *op {
        Op::Mov { d, a, w } => (d, get(a)? & cut(w)),
        Op::Copy { d, a } => (d, get(a)?),
        Op::Not { d, a, w } => (d, !get(a)? & cut(w)),
        Op::Add { d, a, b, w } => {
            let (a, b) = two(a, b)?;
            (d, a.wrapping_add(b) & cut(w))
        }
        Op::Sub { d, a, b, w } => {
            let (a, b) = two(a, b)?;
            (d, a.wrapping_sub(b) & cut(w))
        }
        Op::And { d, a, b, w } => {
            let (a, b) = two(a, b)?;
            (d, a & b & cut(w))
        }
        Op::Or { d, a, b, w } => {
            let (a, b) = two(a, b)?;
            (d, (a | b) & cut(w))
        }
        Op::Xor { d, a, b, w } => {
            let (a, b) = two(a, b)?;
            (d, (a ^ b) & cut(w))
        }
        Op::ShlI { d, a, k, w } => (d, get(a)?.checked_shl(u32::from(k)).unwrap_or(0) & cut(w)),
        Op::ShrI { d, a, k, w } => (d, get(a)?.checked_shr(u32::from(k)).unwrap_or(0) & cut(w)),
        Op::Set { d, a, b, cc } => {
            let (a, b) = two(a, b)?;
            (d, u64::from(cc.holds(a, b)))
        }
        _ => return None,
    })
}

/// The comparison that a branch makes, and its operands; `None` as the second stands for 0.
pub(super) fn condition(op: &Op) -> Option<(Cc, Slot, Option<Slot>)> {
    Some(match *op {
        Op::BrZ { a, .. } => (Cc::Eq, a, None),
        Op::BrNz { a, .. } => (Cc::Ne, a, None),
        Op::BrEq { a, b, .. } => (Cc::Eq, a, Some(b)),
        Op::BrNe { a, b, .. } => (Cc::Ne, a, Some(b)),
        Op::BrLtU { a, b, .. } => (Cc::LtU, a, Some(b)),
        Op::BrLeU { a, b, .. } => (Cc::LeU, a, Some(b)),
        Op::BrLtS { a, b, .. } => (Cc::LtS, a, Some(b)),
        Op::BrLeS { a, b, .. } => (Cc::LeS, a, Some(b)),
        _ => return None,
    })
}

/// What a branch will do, as far as its operands are known.
pub(super) fn outcome(op: &Op, get: &impl Fn(Slot) -> Option<u64>) -> Outcome {
    let Some((cc, a, b)) = condition(op) else { return Outcome::Open };
    match (get(a), b.map_or(Some(0), get)) {
        (Some(a), Some(b)) if cc.holds(a, b) => Outcome::Taken,
        (Some(_), Some(_)) => Outcome::Passed,
        _ => Outcome::Open,
    }
}

/// What is known on one way out of a branch that was not on the way in: a slot's value.
pub(super) fn learn(op: &Op, taken: bool, get: &impl Fn(Slot) -> Option<u64>, one_bit: bool) -> Option<(Slot, u64)> {
    let (cc, a, b) = condition(op)?;
    let (known_a, known_b) = (get(a), b.map_or(Some(0), get));
    let equal = match cc {
        Cc::Eq => taken,
        Cc::Ne => !taken,
        _ => return None,
    };
    match (known_a, known_b) {
        (None, Some(v)) if equal => Some((a, v)),
        (Some(v), None) if equal => b.map(|b| (b, v)),
        // A bit that is not 0 is 1, and the other way round.
        (None, Some(v)) if one_bit && v <= 1 => Some((a, 1 - v)),
        _ => None,
    }
}
