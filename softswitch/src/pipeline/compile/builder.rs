//! The code under construction: instructions, labels, constants and temporaries.

use super::super::error::LoadError;
use super::super::layout::{Layout, Slot};
use super::super::ops::Op;
use super::super::tree::Slow;
use std::collections::HashMap;

/// Most instructions that a program may compile to.
const MAX_CODE: usize = 1 << 24;

/// A place in the code that may not be known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Label(pub u32);

/// Code under construction. Jump targets are labels until [`finish`](Self::finish).
pub(crate) struct Builder {
    pub layout: Layout,
    pub code: Vec<Op>,
    /// Trees that instructions refer to.
    pub slow: Vec<Slow>,
    labels: Vec<Option<u32>>,
    consts: HashMap<u64, Slot>,
    wide_consts: HashMap<u128, Slot>,
    free: Vec<Slot>,
    free_wide: Vec<Slot>,
    used: Vec<Slot>,
    used_wide: Vec<Slot>,
    /// Position after the last label that was placed: what is before it must not be patched.
    barrier: usize,
    /// Temporaries of the expression being generated start here; see [`retarget`](Self::retarget).
    is_temp: Vec<bool>,
    /// Name of the object being compiled, for errors.
    pub ctx: String,
    /// Slot of `egress_global_timestamp` while egress code is generated.
    pub egress_ts: Option<Slot>,
}

impl Builder {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            code: Vec::new(),
            slow: Vec::new(),
            labels: Vec::new(),
            consts: HashMap::new(),
            wide_consts: HashMap::new(),
            free: Vec::new(),
            free_wide: Vec::new(),
            used: Vec::new(),
            used_wide: Vec::new(),
            barrier: 0,
            is_temp: Vec::new(),
            ctx: "program".to_owned(),
            egress_ts: None,
        }
    }

    pub(crate) fn emit(&mut self, op: Op) {
        self.code.push(op);
    }

    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label((self.labels.len() - 1) as u32)
    }

    /// The label stands for the next instruction.
    pub(crate) fn place(&mut self, l: Label) {
        self.labels[l.0 as usize] = Some(self.code.len() as u32);
        self.barrier = self.code.len();
    }

    /// A slot that always holds `v`.
    pub(crate) fn constant(&mut self, v: u64) -> Result<Slot, LoadError> {
        if let Some(s) = self.consts.get(&v) {
            return Ok(*s);
        }
        let s = self.layout.alloc(1, &self.ctx)?;
        self.consts.insert(v, s);
        Ok(s)
    }

    /// Two slots that always hold `v`.
    pub(crate) fn wide_constant(&mut self, v: u128) -> Result<Slot, LoadError> {
        if let Some(s) = self.wide_consts.get(&v) {
            return Ok(*s);
        }
        let s = self.layout.alloc(2, &self.ctx)?;
        self.wide_consts.insert(v, s);
        Ok(s)
    }

    /// A slot for an intermediate value, until [`release`](Self::release).
    pub(crate) fn temp(&mut self) -> Result<Slot, LoadError> {
        let s = match self.free.pop() {
            Some(s) => s,
            None => self.layout.alloc(1, &self.ctx)?,
        };
        self.mark_temp(s);
        self.used.push(s);
        Ok(s)
    }

    /// Two slots for an intermediate value.
    pub(crate) fn wide_temp(&mut self) -> Result<Slot, LoadError> {
        let s = match self.free_wide.pop() {
            Some(s) => s,
            None => self.layout.alloc(2, &self.ctx)?,
        };
        self.mark_temp(s);
        self.used_wide.push(s);
        Ok(s)
    }

    fn mark_temp(&mut self, s: Slot) {
        if self.is_temp.len() <= usize::from(s) {
            self.is_temp.resize(usize::from(s) + 1, false);
        }
        self.is_temp[usize::from(s)] = true;
    }

    /// Intermediate values so far are no longer needed.
    pub(crate) fn release(&mut self) {
        self.free.append(&mut self.used);
        self.free_wide.append(&mut self.used_wide);
    }

    /// Makes the last instruction write `d`, cut to `w` bits, instead of the temporary `from`. False if it cannot.
    pub(crate) fn retarget(&mut self, from: Slot, to: Slot, width: u32) -> bool {
        if self.barrier == self.code.len() || !self.is_temp.get(usize::from(from)).copied().unwrap_or(false) {
            return false;
        }
        let Some(last) = self.code.last_mut() else { return false };
        match last {
            Op::Mov { d, w, .. }
            | Op::Add { d, w, .. }
            | Op::Sub { d, w, .. }
            | Op::Mul { d, w, .. }
            | Op::And { d, w, .. }
            | Op::Or { d, w, .. }
            | Op::Xor { d, w, .. }
            | Op::Not { d, w, .. }
            | Op::Shl { d, w, .. }
            | Op::Shr { d, w, .. }
            | Op::Sar { d, w, .. }
            | Op::ShlI { d, w, .. }
            | Op::ShrI { d, w, .. }
            | Op::SarI { d, w, .. }
                if *d == from && width <= 64 =>
            {
                *d = to;
                *w = (u32::from(*w)).min(width) as u8;
                true
            }
            Op::Set { d, .. } if *d == from => {
                *d = to;
                true
            }
            _ => false,
        }
    }

    /// Resolves labels. Returns the code and the slots that hold constants.
    pub(crate) fn finish(&mut self) -> Result<Vec<(Slot, u64)>, LoadError> {
        if self.code.len() > MAX_CODE {
            return Err(LoadError::unsupported(format!("a program of more than {MAX_CODE} instructions"), "program"));
        }
        for op in &mut self.code {
            if let Some(t) = op.target() {
                *t = resolve(&self.labels, Label(*t))?;
            }
        }
        self.shorten();
        let mut consts: Vec<(Slot, u64)> = self.consts.iter().map(|(v, s)| (*s, *v)).collect();
        for (v, s) in &self.wide_consts {
            consts.push((*s, *v as u64));
            consts.push((*s + 1, (*v >> 64) as u64));
        }
        Ok(consts)
    }

    /// Leads jumps to jumps straight to their end, and removes jumps to the next instruction.
    fn shorten(&mut self) {
        let code = &self.code;
        let follow = |mut t: u32| {
            // Jumps only go forward or to a block that ends, but for parser loops: hence the bound.
            for _ in 0..64 {
                match code.get(t as usize) {
                    Some(Op::Jmp { t: on }) => t = *on,
                    _ => break,
                }
            }
            t
        };
        let threaded: Vec<Op> = code
            .iter()
            .map(|op| {
                let mut op = *op;
                if let Some(t) = op.target() {
                    *t = follow(*t);
                }
                op
            })
            .collect();
        for l in self.labels.iter_mut().flatten() {
            *l = follow(*l);
        }
        // The first instruction from each place on that stays.
        let mut kept: Vec<u32> = vec![threaded.len() as u32; threaded.len() + 1];
        for (at, op) in threaded.iter().enumerate().rev() {
            let next = kept[at + 1];
            let idle = matches!(op, Op::Jmp { t } if *t as usize > at && kept[*t as usize] == next);
            kept[at] = if idle { next } else { at as u32 };
        }
        let mut moved = vec![0u32; threaded.len() + 1];
        let mut count = 0;
        for at in 0..threaded.len() {
            moved[at] = count;
            count += u32::from(kept[at] == at as u32);
        }
        moved[threaded.len()] = count;
        let place = |t: u32| moved[kept[t as usize] as usize];
        self.code = threaded
            .iter()
            .enumerate()
            .filter(|(at, _)| kept[*at] == *at as u32)
            .map(|(_, op)| {
                let mut op = *op;
                if let Some(t) = op.target() {
                    *t = place(*t);
                }
                op
            })
            .collect();
        for l in self.labels.iter_mut().flatten() {
            *l = place(*l);
        }
    }

    /// Where a label is, after all code was emitted.
    pub(crate) fn at(&self, l: Label) -> Result<u32, LoadError> {
        resolve(&self.labels, l)
    }
}

fn resolve(labels: &[Option<u32>], l: Label) -> Result<u32, LoadError> {
    labels.get(l.0 as usize).copied().flatten().ok_or_else(|| LoadError::invalid("a jump to nowhere", "program"))
}
