//! Which slots are still read after each instruction.

use super::super::super::effects::Access;
use super::super::super::layout::Slot;
use super::super::super::ops::Op;
use super::super::super::program::Program;

/// For each instruction, the slots whose values matter before it.
pub(super) struct Liveness {
    words: usize,
    before: Vec<u64>,
}

impl Liveness {
    pub(super) fn of(p: &Program) -> Self {
        let words = p.slots.div_ceil(64);
        let mut live = Self { words, before: vec![0; words * p.code.len()] };
        let mut row = vec![0; words];
        // Code goes mostly forward, so that one pass from the end and one that finds nothing new are the rule.
        let mut changed = true;
        while changed {
            changed = false;
            for pc in (0..p.code.len()).rev() {
                live.after(p, pc, &mut row);
                // Writes first: what an instruction reads, it reads before.
                p.touches(&p.code[pc], &mut |s, a| {
                    if a == Access::Write {
                        row[usize::from(s) / 64] &= !(1 << (s % 64));
                    }
                });
                p.touches(&p.code[pc], &mut |s, a| {
                    if a == Access::Read {
                        row[usize::from(s) / 64] |= 1 << (s % 64);
                    }
                });
                let old = &mut live.before[pc * words..(pc + 1) * words];
                if *old != *row {
                    old.copy_from_slice(&row);
                    changed = true;
                }
            }
        }
        live
    }

    pub(super) fn before(&self, pc: u32, s: Slot) -> bool {
        self.before[pc as usize * self.words + usize::from(s) / 64] >> (s % 64) & 1 != 0
    }

    /// What matters behind an instruction, on any of its ways.
    fn after(&self, p: &Program, pc: usize, row: &mut [u64]) {
        row.fill(0);
        p.successors(pc, &mut |t| {
            let next = &self.before[t as usize * self.words..(t as usize + 1) * self.words];
            row.iter_mut().zip(next).for_each(|(r, n)| *r |= n);
        });
    }
}

/// Does nothing but write its result.
fn pure(op: &Op) -> bool {
    matches!(
        op,
        Op::Mov { .. }
            | Op::Copy { .. }
            | Op::Add { .. }
            | Op::Sub { .. }
            | Op::Mul { .. }
            | Op::And { .. }
            | Op::Or { .. }
            | Op::Xor { .. }
            | Op::Not { .. }
            | Op::Shl { .. }
            | Op::Shr { .. }
            | Op::Sar { .. }
            | Op::ShlI { .. }
            | Op::ShrI { .. }
            | Op::SarI { .. }
            | Op::Div { .. }
            | Op::Rem { .. }
            | Op::Sext { .. }
            | Op::Set { .. }
            | Op::WMov { .. }
            | Op::WBin { .. }
            | Op::WShift { .. }
            | Op::WNot { .. }
            | Op::WSext { .. }
            | Op::WSet { .. }
            | Op::ZExt { .. }
            | Op::SExt { .. }
            | Op::WSat { .. }
            | Op::WSatU { .. }
    )
}

/// Removes instructions whose results nothing reads.
pub(super) fn remove_dead(p: &mut Program) {
    loop {
        let live = Liveness::of(p);
        let mut row = vec![0; live.words];
        let keep: Vec<bool> = (0..p.code.len())
            .map(|pc| {
                let op = &p.code[pc];
                if !pure(op) {
                    return true;
                }
                live.after(p, pc, &mut row);
                let mut needed = false;
                p.touches(op, &mut |s, a| {
                    needed |= a != Access::Read && row[usize::from(s) / 64] >> (s % 64) & 1 != 0;
                });
                needed
            })
            .collect();
        if keep.iter().all(|k| *k) {
            return;
        }
        compact(p, &keep);
    }
}

/// Takes instructions out; what led to one leads to the next that stays. (The last one is never taken out.)
fn compact(p: &mut Program, keep: &[bool]) {
    let mut place = Vec::with_capacity(keep.len());
    let mut count = 0u32;
    for k in keep {
        place.push(count);
        count += u32::from(*k);
    }
    let mut n = 0;
    p.code.retain(|_| {
        n += 1;
        keep[n - 1]
    });
    let targets = p.code.iter_mut().filter_map(Op::target);
    let ways = p.ways.iter_mut().flat_map(|w| w.targets());
    for t in targets.chain(ways).chain([&mut p.start, &mut p.restart, &mut p.reparse]) {
        *t = place[*t as usize];
    }
    for s in &mut p.selects {
        s.targets(&mut |t| *t = place[*t as usize]);
        s.narrow = super::super::narrow(s);
    }
}
