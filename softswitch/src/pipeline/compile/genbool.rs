//! Instructions for conditions: as jumps, or as 0 and 1.

use super::super::error::LoadError;
use super::super::layout::Slot;
use super::super::ops::{Cc, Op};
use super::super::tree::{Expr, Place, Rel, Slow, Ty};
use super::builder::{Builder, Label};
use super::genexpr::{Need, Val};

impl Builder {
    /// A truth value as 0 or 1.
    pub(super) fn gen_bool(&mut self, e: &Expr) -> Result<Val, LoadError> {
        let one_bit = |slot| Val { slot, wide: false, exact: Some(Ty::u(1)) };
        match e {
            Expr::Bool(b) => Ok(one_bit(self.constant(u64::from(*b))?)),
            Expr::Valid(s) => Ok(one_bit(*s)),
            _ if walked(e) => {
                let d = self.temp()?;
                self.gen_slow(Slow::Assign { to: Place::Slots { slot: d, words: 1 }, value: e.clone() })?;
                Ok(one_bit(d))
            }
            Expr::Rel(rel, a, b) => {
                let (cc, a, b, wide) = self.gen_operands(*rel, a, b)?;
                let d = self.temp()?;
                self.emit(if wide { Op::WSet { d, a, b, cc } } else { Op::Set { d, a, b, cc } });
                Ok(one_bit(d))
            }
            _ => {
                let d = self.temp()?;
                let (no, done) = (self.label(), self.label());
                self.gen_branch(e, no, false)?;
                let (one, zero) = (self.constant(1)?, self.constant(0)?);
                self.emit(Op::Mov { d, a: one, w: 64 });
                self.emit(Op::Jmp { t: done.0 });
                self.place(no);
                self.emit(Op::Mov { d, a: zero, w: 64 });
                self.place(done);
                Ok(one_bit(d))
            }
        }
    }

    /// Both operands of a comparison, and the comparison to apply to them.
    fn gen_operands(&mut self, rel: Rel, a: &Expr, b: &Expr) -> Result<(Cc, Slot, Slot, bool), LoadError> {
        let t = a.ty().join(b.ty());
        self.check(t)?;
        let wide = !t.narrow();
        let (x, y) = (self.gen_value(a, Need::Exact)?, self.gen_value(b, Need::Exact)?);
        let (x, y) = (self.fit(x, wide)?, self.fit(y, wide)?);
        let (lt, le) = if t.neg { (Cc::LtS, Cc::LeS) } else { (Cc::LtU, Cc::LeU) };
        Ok(match rel {
            Rel::Eq => (Cc::Eq, x, y, wide),
            Rel::Ne => (Cc::Ne, x, y, wide),
            Rel::Lt => (lt, x, y, wide),
            Rel::Le => (le, x, y, wide),
            Rel::Gt => (lt, y, x, wide),
            Rel::Ge => (le, y, x, wide),
        })
    }

    /// Jumps to `to` if the condition is `when`; goes on otherwise.
    pub(crate) fn gen_branch(&mut self, e: &Expr, to: Label, when: bool) -> Result<(), LoadError> {
        let t = to.0;
        match e {
            Expr::Bool(b) => {
                if *b == when {
                    self.emit(Op::Jmp { t });
                }
            }
            Expr::Negate(a) => self.gen_branch(a, to, !when)?,
            Expr::AndAlso(a, b) | Expr::OrElse(a, b) => {
                // `and` jumps on false as soon as one is false; `or` on true as soon as one is true.
                let eager = matches!(e, Expr::OrElse(..));
                if when == eager {
                    self.gen_branch(a, to, when)?;
                    self.gen_branch(b, to, when)?;
                } else {
                    let skip = self.label();
                    self.gen_branch(a, skip, !when)?;
                    self.gen_branch(b, to, when)?;
                    self.place(skip);
                }
            }
            _ if walked(e) => {
                let a = self.gen_bool(e)?.slot;
                self.emit(if when { Op::BrNz { a, t } } else { Op::BrZ { a, t } });
            }
            Expr::Valid(a) => self.emit(if when { Op::BrNz { a: *a, t } } else { Op::BrZ { a: *a, t } }),
            Expr::NonZero(n) => {
                if n.ty().narrow() {
                    let a = self.gen_value(n, Need::Exact)?.slot;
                    self.emit(if when { Op::BrNz { a, t } } else { Op::BrZ { a, t } });
                } else {
                    let rel = Expr::Rel(Rel::Ne, n.clone(), Box::new(Expr::Const(false, 0)));
                    self.gen_branch(&rel, to, when)?;
                }
            }
            Expr::Rel(rel, a, b) => {
                let (cc, x, y, wide) = self.gen_operands(*rel, a, b)?;
                if wide {
                    let d = self.temp()?;
                    self.emit(Op::WSet { d, a: x, b: y, cc });
                    self.emit(if when { Op::BrNz { a: d, t } } else { Op::BrZ { a: d, t } });
                } else {
                    self.emit(branch(cc, x, y, t, when));
                }
            }
            Expr::BoolEq(a, b, equal) => {
                let (x, y) = (self.gen_bool(a)?, self.gen_bool(b)?);
                let cc = if *equal { Cc::Eq } else { Cc::Ne };
                self.emit(branch(cc, x.slot, y.slot, t, when));
            }
            Expr::Choose(c, a, b) => {
                let (other, done) = (self.label(), self.label());
                self.gen_branch(c, other, false)?;
                self.gen_branch(a, to, when)?;
                self.emit(Op::Jmp { t: done.0 });
                self.place(other);
                self.gen_branch(b, to, when)?;
                self.place(done);
            }
            number => {
                let v = self.gen_value(number, Need::Exact)?;
                self.emit(if when { Op::BrNz { a: v.slot, t } } else { Op::BrZ { a: v.slot, t } });
            }
        }
        Ok(())
    }
}

/// A truth value that is found by walking the tree: no instruction compares so many bits.
fn walked(e: &Expr) -> bool {
    match e {
        Expr::ValidAt(_) | Expr::Same(..) | Expr::Member(..) => true,
        Expr::Rel(_, a, b) => !a.ty().join(b.ty()).wide(),
        _ => false,
    }
}

fn branch(cc: Cc, a: Slot, b: Slot, t: u32, when: bool) -> Op {
    match (cc, when) {
        (Cc::Eq, true) | (Cc::Ne, false) => Op::BrEq { a, b, t },
        (Cc::Ne, true) | (Cc::Eq, false) => Op::BrNe { a, b, t },
        (Cc::LtU, true) => Op::BrLtU { a, b, t },
        (Cc::LeU, true) => Op::BrLeU { a, b, t },
        (Cc::LtS, true) => Op::BrLtS { a, b, t },
        (Cc::LeS, true) => Op::BrLeS { a, b, t },
        (Cc::LtU, false) => Op::BrLeU { a: b, b: a, t },
        (Cc::LeU, false) => Op::BrLtU { a: b, b: a, t },
        (Cc::LtS, false) => Op::BrLeS { a: b, b: a, t },
        (Cc::LeS, false) => Op::BrLtS { a: b, b: a, t },
    }
}
