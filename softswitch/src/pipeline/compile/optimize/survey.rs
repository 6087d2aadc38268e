//! What is found out about a program before its code is specialized.

use super::super::super::effects::Access;
use super::super::super::layout::words;
use super::super::super::ops::Op;
use super::super::super::program::Program;
use super::super::super::tree::{Place, Slow};
use super::facts::condition;

/// How many branches and selects look at each slot, or other instructions that can be left out when it is known.
pub(super) fn decides(p: &Program) -> Vec<u32> {
    let mut out = vec![0; p.slots];
    for op in &p.code {
        if condition(op).is_some()
            || matches!(op, Op::Select { .. } | Op::AddHeader { .. } | Op::RemoveHeader { .. } | Op::ToIngress)
        {
            p.touches(op, &mut |s, a| out[usize::from(s)] += u32::from(a == Access::Read));
        }
    }
    out
}

/// Places that something other than the instruction before them leads to.
pub(super) fn leaders(p: &Program) -> Vec<bool> {
    let mut out = vec![false; p.code.len() + 1];
    [p.start, p.restart, p.reparse].into_iter().for_each(|pc| out[pc as usize] = true);
    for op in &p.code {
        let mut op = *op;
        if let Some(t) = op.target() {
            out[*t as usize] = true;
        }
    }
    for w in &p.ways {
        out[w.none as usize] = true;
        w.actions.iter().for_each(|(hit, miss)| {
            out[*hit as usize] = true;
            out[*miss as usize] = true;
        });
    }
    for s in &p.selects {
        out[s.default as usize] = true;
        s.cases.iter().for_each(|(_, _, t)| out[*t as usize] = true);
    }
    out
}

/// An upper bound of the bits of each slot's values, from what writes it.
pub(super) fn bits(p: &Program) -> Vec<u8> {
    let mut bits = vec![0u8; p.slots];
    for (s, v) in &p.consts {
        bits[usize::from(*s)] = (64 - v.leading_zeros()) as u8;
    }
    for h in &p.headers {
        bits[usize::from(h.valid)] = 1;
        bits[usize::from(h.origin)] = 64;
        for f in &h.fields {
            let most = if f.wide() || f.signed { 64 } else { f.width as u8 };
            f.slots().for_each(|s| bits[usize::from(s)] = most);
        }
    }
    for (t, rt) in p.tables.iter().zip(&p.table_rt) {
        for (a, rt) in t.actions.iter().zip(&rt.actions) {
            // Arguments fit the width of their parameter; a wide one has several slots.
            let widths = p.actions[a.0].params.iter();
            let widths =
                widths.flat_map(|p| if p.width > 64 { vec![64; words(p.width).into()] } else { vec![p.width as u8] });
            widths.zip(rt.param_base..).for_each(|(w, s)| bits[usize::from(s)] = w);
        }
    }
    for v in p.headers.iter().filter_map(|h| h.varbit) {
        bits[usize::from(v.at)] = 64;
        bits[usize::from(v.bits)] = 64;
    }
    p.stacks.iter().for_each(|s| bits[usize::from(s.next.slot)] = 64);
    bits[usize::from(p.error_slot)] = 64;
    for op in &p.code {
        let at_most = match *op {
            Op::Mov { w, .. }
            | Op::Add { w, .. }
            | Op::Sub { w, .. }
            | Op::Mul { w, .. }
            | Op::And { w, .. }
            | Op::Or { w, .. }
            | Op::Xor { w, .. }
            | Op::Not { w, .. }
            | Op::Shl { w, .. }
            | Op::Shr { w, .. }
            | Op::Sar { w, .. }
            | Op::ShlI { w, .. }
            | Op::ShrI { w, .. }
            | Op::SarI { w, .. }
            | Op::Meter { w, .. } => w,
            Op::Set { .. } | Op::WSet { .. } => 1,
            // These cut what they write to the field's width, or write the validity bit.
            Op::Extract { .. }
            | Op::AddHeader { .. }
            | Op::RemoveHeader { .. }
            | Op::CopyHeader { .. }
            | Op::Hash { .. }
            | Op::Lookahead { .. }
            | Op::UpdateChecksum { .. }
            | Op::EgressClock
            | Op::Apply { .. }
            | Op::ApplyVia { .. }
            | Op::ToIngress
            | Op::SlowExtract { .. }
            | Op::ToEgress
            | Op::Multicast { .. }
            | Op::Cloned { .. }
            | Op::CloneEgress { .. } => 0,
            Op::Slow { ix } => match &p.slow[ix as usize] {
                Slow::Assign { to: Place::Slots { .. }, .. } => 64,
                _ => 0,
            },
            _ => 64,
        };
        p.touches(op, &mut |s, a| {
            if a != Access::Read {
                let b = &mut bits[usize::from(s)];
                *b = (*b).max(at_most);
            }
        });
    }
    bits
}
