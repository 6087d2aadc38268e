//! Numbers, moves and branches.

use super::super::layout::Slot;
use super::super::ops::{Cc, Op, WideOp};
use super::flow::Gen;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl Gen<'_, '_> {
    /// Translates the instruction if it is one of those here; the result is true.
    pub(super) fn arithmetic(&mut self, op: &Op) -> Option<bool> {
        match *op {
            Op::Copy { d, a } => {
                let v = self.get(a);
                self.set(d, v);
            }
            Op::Mov { d, a, w } => self.unary(d, a, w, |_, v| v),
            Op::Not { d, a, w } => self.unary(d, a, w, |g, v| g.b.ins().bnot(v)),
            Op::Add { d, a, b, w } => self.binary(d, a, b, w, |g, a, b| g.b.ins().iadd(a, b)),
            Op::Sub { d, a, b, w } => self.binary(d, a, b, w, |g, a, b| g.b.ins().isub(a, b)),
            Op::Mul { d, a, b, w } => self.binary(d, a, b, w, |g, a, b| g.b.ins().imul(a, b)),
            Op::And { d, a, b, w } => self.binary(d, a, b, w, |g, a, b| g.b.ins().band(a, b)),
            Op::Or { d, a, b, w } => self.binary(d, a, b, w, |g, a, b| g.b.ins().bor(a, b)),
            Op::Xor { d, a, b, w } => self.binary(d, a, b, w, |g, a, b| g.b.ins().bxor(a, b)),
            Op::ShlI { d, a, k, w } => self.unary(d, a, w, |g, v| g.shift_left(v, k)),
            Op::ShrI { d, a, k, w } => self.unary(d, a, w, |g, v| g.shift_right(v, k)),
            Op::SarI { d, a, k, w } => self.unary(d, a, w, |g, v| g.b.ins().sshr_imm_u(v, i64::from(k.min(63)))),
            Op::Shl { d, a, b, w } => self.binary(d, a, b, w, |g, a, k| {
                let v = g.b.ins().ishl(a, k);
                g.unless_beyond_word(k, v)
            }),
            Op::Shr { d, a, b, w } => self.binary(d, a, b, w, |g, a, k| {
                let v = g.b.ins().ushr(a, k);
                g.unless_beyond_word(k, v)
            }),
            Op::Sext { d, a, w } => {
                let v = self.get(a);
                let up = i64::from(64 - w);
                let v = self.b.ins().ishl_imm_u(v, up);
                let v = self.b.ins().sshr_imm_u(v, up);
                self.set(d, v);
            }
            Op::Set { d, a, b, cc } => {
                let v = self.compare(cc, a, b);
                let v = self.b.ins().uextend(types::I64, v);
                self.set(d, v);
            }
            Op::ZExt { d, a } => {
                let (v, zero) = (self.get(a), self.number(0));
                self.set(d, v);
                self.set(d + 1, zero);
            }
            Op::WMov { d, a, w } => self.wide(d, w, |g| (g.get(a), g.get(a + 1))),
            Op::WNot { d, a, w } => self.wide(d, w, |g| {
                let (low, high) = (g.get(a), g.get(a + 1));
                (g.b.ins().bnot(low), g.b.ins().bnot(high))
            }),
            Op::WBin { op: op @ (WideOp::And | WideOp::Or | WideOp::Xor), d, a, b, w } => self.wide(d, w, |g| {
                let (x, y) = ((g.get(a), g.get(a + 1)), (g.get(b), g.get(b + 1)));
                let mut each = |x, y| match op {
                    WideOp::And => g.b.ins().band(x, y),
                    WideOp::Or => g.b.ins().bor(x, y),
                    _ => g.b.ins().bxor(x, y),
                };
                (each(x.0, y.0), each(x.1, y.1))
            }),
            Op::WSet { d, a, b, cc: cc @ (Cc::Eq | Cc::Ne) } => {
                let (x, y) = ((self.get(a), self.get(a + 1)), (self.get(b), self.get(b + 1)));
                let (low, high) = (self.b.ins().bxor(x.0, y.0), self.b.ins().bxor(x.1, y.1));
                let differ = self.b.ins().bor(low, high);
                let v = self.b.ins().icmp_imm_u(if cc == Cc::Eq { IntCC::Equal } else { IntCC::NotEqual }, differ, 0);
                let v = self.b.ins().uextend(types::I64, v);
                self.set(d, v);
            }
            Op::BrZ { a, t } => self.branch_if(IntCC::Equal, a, t),
            Op::BrNz { a, t } => self.branch_if(IntCC::NotEqual, a, t),
            Op::BrEq { a, b, t } => self.branch_on(Cc::Eq, a, b, t),
            Op::BrNe { a, b, t } => self.branch_on(Cc::Ne, a, b, t),
            Op::BrLtU { a, b, t } => self.branch_on(Cc::LtU, a, b, t),
            Op::BrLeU { a, b, t } => self.branch_on(Cc::LeU, a, b, t),
            Op::BrLtS { a, b, t } => self.branch_on(Cc::LtS, a, b, t),
            Op::BrLeS { a, b, t } => self.branch_on(Cc::LeS, a, b, t),
            _ => return None,
        }
        Some(true)
    }

    fn unary(&mut self, d: Slot, a: Slot, w: u8, f: impl FnOnce(&mut Self, Value) -> Value) {
        let a = self.get(a);
        let v = f(self, a);
        let v = self.cut(v, w);
        self.set(d, v);
    }

    fn binary(&mut self, d: Slot, a: Slot, b: Slot, w: u8, f: impl FnOnce(&mut Self, Value, Value) -> Value) {
        let (a, b) = (self.get(a), self.get(b));
        let v = f(self, a, b);
        let v = self.cut(v, w);
        self.set(d, v);
    }

    /// Two slots, cut to `w` bits (1..=128).
    fn wide(&mut self, d: Slot, w: u8, f: impl FnOnce(&mut Self) -> (Value, Value)) {
        let (low, high) = f(self);
        let low = self.cut(low, w.min(64));
        let high = if w > 64 { self.cut(high, w - 64) } else { self.number(0) };
        self.set(d, low);
        self.set(d + 1, high);
    }

    pub(super) fn shift_left(&mut self, v: Value, k: u8) -> Value {
        if k >= 64 { self.number(0) } else { self.b.ins().ishl_imm_u(v, i64::from(k)) }
    }

    pub(super) fn shift_right(&mut self, v: Value, k: u8) -> Value {
        if k >= 64 { self.number(0) } else { self.b.ins().ushr_imm_u(v, i64::from(k)) }
    }

    /// The machine shifts by the amount modulo 64; P4 does not.
    fn unless_beyond_word(&mut self, amount: Value, v: Value) -> Value {
        let zero = self.number(0);
        let within = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, amount, 64);
        self.b.ins().select(within, v, zero)
    }

    fn compare(&mut self, cc: Cc, a: Slot, b: Slot) -> Value {
        let (a, b) = (self.get(a), self.get(b));
        let cc = match cc {
            Cc::Eq => IntCC::Equal,
            Cc::Ne => IntCC::NotEqual,
            Cc::LtU => IntCC::UnsignedLessThan,
            Cc::LeU => IntCC::UnsignedLessThanOrEqual,
            Cc::LtS => IntCC::SignedLessThan,
            Cc::LeS => IntCC::SignedLessThanOrEqual,
        };
        self.b.ins().icmp(cc, a, b)
    }

    fn branch_on(&mut self, cc: Cc, a: Slot, b: Slot, t: u32) {
        let condition = self.compare(cc, a, b);
        self.branch(condition, t);
    }

    fn branch_if(&mut self, cc: IntCC, a: Slot, t: u32) {
        let a = self.get(a);
        let condition = self.b.ins().icmp_imm_u(cc, a, 0);
        self.branch(condition, t);
    }
}
