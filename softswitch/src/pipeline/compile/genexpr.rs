//! Instructions for an expression.
//!
//! A value is generated either *exactly* (all of it, in 64 or 128 bits as its type needs) or in its *low n bits* only,
//! where the consumer cuts it anyway; then sums and products may wrap and everything stays in one word. What 128 bits
//! cannot hold, and what is known only when a packet runs, is left as a tree that is walked then ([`Op::Slow`]).

use super::super::error::LoadError;
use super::super::layout::{Field, Slot};
use super::super::ops::{Cc, Op, WideOp, WideShift};
use super::super::tree::{Bin, Expr, Place, Slow, Ty};
use super::builder::Builder;

/// What of a value its consumer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// All of it.
    Exact,
    /// The low bits (1..=128); what is above them is arbitrary.
    Low(u32),
}

/// A generated value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Val {
    pub slot: Slot,
    pub wide: bool,
    /// The value is exact and of this type; `None`: only the low bits that were asked for are right.
    pub exact: Option<Ty>,
}

impl Builder {
    /// A number that does not fit 64 bits where the program indexes or sizes something is cut as BMv2 cuts it.
    pub(crate) fn gen_u64(&mut self, e: &Expr) -> Result<Slot, LoadError> {
        let v = self.gen_value(e, Need::Low(64))?;
        Ok(v.slot)
    }

    /// `field = e`, with the wrap-around that the field's width gives.
    pub(crate) fn gen_assign(&mut self, dst: Field, e: &Expr) -> Result<(), LoadError> {
        if self.layout.saturating.contains(&dst.slot)
            && !matches!(e, Expr::Sat(_, w, s) if (*w, *s) == (dst.width, dst.signed))
        {
            return self.gen_assign(dst, &Expr::Sat(Box::new(e.clone()), dst.width, dst.signed));
        }
        if dst.width > 128 {
            return self.gen_slow(Slow::Assign { to: Place::Field(dst), value: e.clone() });
        }
        let v = self.gen_value(e, Need::Low(dst.width))?;
        self.store(dst, v)
    }

    fn store(&mut self, dst: Field, v: Val) -> Result<(), LoadError> {
        let w = dst.width as u8;
        let d = dst.slot;
        if dst.wide() {
            let v = self.widen(v)?;
            let a = v.slot;
            self.emit(if dst.signed { Op::WSext { d, a, w } } else { Op::WMov { d, a, w } });
            return Ok(());
        }
        let a = v.slot;
        if dst.signed {
            self.emit(Op::Sext { d, a, w });
        } else if v.wide || !self.retarget(a, d, dst.width) {
            self.emit(Op::Mov { d, a, w });
        }
        Ok(())
    }

    /// The value in two slots. Bits above those that were asked for stay arbitrary.
    fn widen(&mut self, v: Val) -> Result<Val, LoadError> {
        if v.wide {
            return Ok(v);
        }
        let d = self.wide_temp()?;
        let a = v.slot;
        self.emit(if v.exact.is_some_and(|t| t.neg) { Op::SExt { d, a } } else { Op::ZExt { d, a } });
        Ok(Val { slot: d, wide: true, exact: v.exact })
    }

    /// An exact value in one slot or two.
    pub(super) fn fit(&mut self, v: Val, wide: bool) -> Result<Slot, LoadError> {
        // The low slot of a wide value that is known to be narrow is its narrow form.
        if wide { Ok(self.widen(v)?.slot) } else { Ok(v.slot) }
    }

    /// An instruction that walks a tree.
    pub(crate) fn gen_slow(&mut self, slow: Slow) -> Result<(), LoadError> {
        let clock = self.egress_ts;
        if clock.is_some_and(|ts| slow.reads(ts)) {
            self.emit(Op::EgressClock);
        }
        let ix =
            u32::try_from(self.slow.len()).map_err(|_| LoadError::unsupported("a program of this size", &self.ctx))?;
        self.slow.push(slow);
        self.emit(Op::Slow { ix });
        Ok(())
    }

    /// The value of a tree that is walked when the packet runs, in one slot or two.
    fn gen_tree(&mut self, e: &Expr, ty: Ty, need: Need) -> Result<Val, LoadError> {
        let wide = match need {
            Need::Low(n) => n > 64,
            Need::Exact if !ty.wide() => return Err(self.too_wide(ty)),
            Need::Exact => !ty.narrow(),
        };
        let slot = if wide { self.wide_temp()? } else { self.temp()? };
        let to = Place::Slots { slot, words: if wide { 2 } else { 1 } };
        self.gen_slow(Slow::Assign { to, value: e.clone() })?;
        Ok(Val { slot, wide, exact: (need == Need::Exact).then_some(ty) })
    }

    fn too_wide(&self, t: Ty) -> LoadError {
        LoadError::unsupported(format!("an intermediate value of {} bits (at most 128)", t.bits), &self.ctx)
    }

    /// Instructions that compute `e`.
    pub(crate) fn gen_value(&mut self, e: &Expr, need: Need) -> Result<Val, LoadError> {
        let ty = e.ty();
        // What is needed in more bits than the value has is the exact value.
        let need = match need {
            Need::Low(n) if !ty.neg && ty.bits <= n && ty.wide() => Need::Exact,
            n => n,
        };
        if walks(e, ty, need) {
            return self.gen_tree(e, ty, need);
        }
        match e {
            Expr::Field(f) => {
                if self.egress_ts == Some(f.slot) {
                    self.emit(Op::EgressClock);
                }
                Ok(leaf(f.slot, f.wide(), ty, need))
            }
            Expr::Param(s, w) => Ok(leaf(*s, *w > 64, ty, need)),
            Expr::Const(neg, mag) => self.gen_const(*neg, *mag, ty, need),
            Expr::Bin(op, a, b) => self.gen_bin(*op, a, b, ty, need),
            Expr::Not(a) => match need {
                Need::Low(n) => {
                    let a = self.gen_value(a, need)?;
                    self.unary(a, n > 64, None, |d, a| Op::Not { d, a, w: 64 }, |d, a| Op::WNot { d, a, w: 128 })
                }
                Need::Exact => {
                    self.check(ty)?;
                    let a = self.gen_value(a, Need::Exact)?;
                    self.unary(
                        a,
                        !ty.narrow(),
                        Some(ty),
                        |d, a| Op::Not { d, a, w: 64 },
                        |d, a| Op::WNot { d, a, w: 128 },
                    )
                }
            },
            Expr::TwoComp(a, w) => {
                let v = self.gen_value(a, Need::Low(*w))?;
                let width = *w as u8;
                self.unary(
                    v,
                    *w > 64,
                    Some(ty),
                    |d, a| Op::Sext { d, a, w: width },
                    |d, a| Op::WSext { d, a, w: width },
                )
            }
            Expr::Sat(a, w, signed) => {
                let from = a.ty();
                self.check(from)?;
                let v = self.gen_value(a, Need::Exact)?;
                let (v, d) = (self.widen(v)?, self.wide_temp()?);
                let (a, w, signed) = (v.slot, *w as u8, *signed);
                if from.neg || from.bits <= 127 {
                    self.emit(Op::WSat { d, a, w, signed });
                } else {
                    self.emit(Op::WSatU { d, a, w: if signed { w - 1 } else { w } });
                }
                Ok(Val { slot: d, wide: !ty.narrow(), exact: Some(ty) })
            }
            Expr::Choose(c, a, b) => self.gen_choose(c, a, b, ty, need),
            Expr::FromBool(b) => self.gen_bool(b),
            _ => self.gen_bool(e),
        }
    }

    pub(super) fn check(&self, ty: Ty) -> Result<(), LoadError> {
        if ty.wide() { Ok(()) } else { Err(self.too_wide(ty)) }
    }

    fn unary(
        &mut self,
        v: Val,
        wide: bool,
        exact: Option<Ty>,
        narrow_op: impl Fn(Slot, Slot) -> Op,
        wide_op: impl Fn(Slot, Slot) -> Op,
    ) -> Result<Val, LoadError> {
        if wide {
            let a = self.widen(v)?.slot;
            let d = self.wide_temp()?;
            self.emit(wide_op(d, a));
            return Ok(Val { slot: d, wide, exact });
        }
        let d = self.temp()?;
        self.emit(narrow_op(d, v.slot));
        Ok(Val { slot: d, wide, exact })
    }

    fn gen_const(&mut self, neg: bool, mag: u128, ty: Ty, need: Need) -> Result<Val, LoadError> {
        let bits = if neg { mag.wrapping_neg() } else { mag };
        let wide = match need {
            Need::Exact => {
                self.check(ty)?;
                !ty.narrow()
            }
            Need::Low(n) => n > 64,
        };
        let exact = (need == Need::Exact).then_some(ty);
        let slot = if wide { self.wide_constant(bits)? } else { self.constant(bits as u64)? };
        Ok(Val { slot, wide, exact })
    }

    fn gen_bin(&mut self, op: Bin, a: &Expr, b: &Expr, ty: Ty, need: Need) -> Result<Val, LoadError> {
        match op {
            Bin::Shl | Bin::Shr => self.gen_shift(op, a, b, ty, need),
            Bin::Div | Bin::Rem => {
                let wide = !a.ty().join(b.ty()).narrow();
                self.check(a.ty().join(b.ty()))?;
                let (x, y) = (self.gen_value(a, Need::Exact)?, self.gen_value(b, Need::Exact)?);
                let (x, y) = (self.fit(x, wide)?, self.fit(y, wide)?);
                self.binary(op, x, y, wide, Some(ty))
            }
            Bin::And if !ty.neg && (need == Need::Exact || ty.bits <= low_bits(need)) => {
                // One operand bounds the result; of the other only the bits below that bound matter.
                self.check(ty)?;
                let (x, y) = (a.ty(), b.ty());
                let (tight_expr, loose) = if !x.neg && (y.neg || x.bits <= y.bits) { (a, b) } else { (b, a) };
                let n = ty.bits.max(1);
                let tight = self.gen_value(tight_expr, Need::Exact)?;
                let mask = tight_mask(tight_expr);
                let loose = self.gen_value(loose, Need::Low(n))?;
                let wide = !ty.narrow();
                if !wide && !loose.wide && mask == Some(n) && self.retarget(loose.slot, loose.slot, n) {
                    // The instruction that made the operand cuts it, too.
                    return Ok(Val { slot: loose.slot, wide, exact: Some(ty) });
                }
                let (x, y) = (self.fit(tight, wide)?, self.fit(loose, wide)?);
                self.binary(op, x, y, wide, Some(ty))
            }
            _ => {
                let wide = match need {
                    Need::Low(n) => n > 64,
                    Need::Exact => {
                        self.check(ty)?;
                        !ty.narrow()
                    }
                };
                let x = self.gen_value(a, need)?;
                let y = self.gen_value(b, need)?;
                let (x, y) = (self.fit(x, wide)?, self.fit(y, wide)?);
                let exact = (need == Need::Exact).then_some(ty);
                self.binary(op, x, y, wide, exact)
            }
        }
    }

    fn binary(&mut self, op: Bin, a: Slot, b: Slot, wide: bool, exact: Option<Ty>) -> Result<Val, LoadError> {
        if wide {
            let d = self.wide_temp()?;
            let op = match op {
                Bin::Add => WideOp::Add,
                Bin::Sub => WideOp::Sub,
                Bin::Mul => WideOp::Mul,
                Bin::And => WideOp::And,
                Bin::Or => WideOp::Or,
                Bin::Xor => WideOp::Xor,
                Bin::Div => WideOp::Div,
                _ => WideOp::Rem,
            };
            self.emit(Op::WBin { op, d, a, b, w: 128 });
            // A result that is known to be narrow is in the low slot.
            let wide = exact.is_none_or(|t| !t.narrow());
            return Ok(Val { slot: d, wide, exact });
        }
        let d = self.temp()?;
        let w = 64;
        self.emit(match op {
            Bin::Add => Op::Add { d, a, b, w },
            Bin::Sub => Op::Sub { d, a, b, w },
            Bin::Mul => Op::Mul { d, a, b, w },
            Bin::And => Op::And { d, a, b, w },
            Bin::Or => Op::Or { d, a, b, w },
            Bin::Xor => Op::Xor { d, a, b, w },
            Bin::Div => Op::Div { d, a, b },
            _ => Op::Rem { d, a, b },
        });
        Ok(Val { slot: d, wide, exact })
    }

    fn gen_shift(&mut self, op: Bin, a: &Expr, b: &Expr, ty: Ty, need: Need) -> Result<Val, LoadError> {
        let by = b.constant();
        if op == Bin::Shl {
            let wide = match need {
                Need::Low(n) => n > 64,
                Need::Exact => {
                    self.check(ty)?;
                    !ty.narrow()
                }
            };
            if let (Some(k), n) = (by, low_bits(need))
                && k >= u128::from(n)
            {
                return self.gen_const(false, 0, Ty::u(0), need);
            }
            let x = self.gen_value(a, need)?;
            let x = self.fit(x, wide)?;
            let exact = (need == Need::Exact).then_some(ty);
            return self.shift(WideShift::Shl, x, by, b, wide, exact);
        }
        // A right shift brings upper bits down: the operand is needed whole.
        let from = a.ty();
        self.check(from)?;
        let wide = !from.narrow();
        let x = self.gen_value(a, Need::Exact)?;
        let x = self.fit(x, wide)?;
        let kind = if from.neg { WideShift::Sar } else { WideShift::Shr };
        let v = self.shift(kind, x, by, b, wide, Some(ty))?;
        Ok(Val { wide: !ty.narrow() && v.wide, ..v })
    }

    fn shift(
        &mut self,
        kind: WideShift,
        a: Slot,
        by: Option<u128>,
        amount: &Expr,
        wide: bool,
        exact: Option<Ty>,
    ) -> Result<Val, LoadError> {
        if !wide && let Some(k) = by {
            let d = self.temp()?;
            let w = 64;
            let k = k.min(64) as u8;
            self.emit(match kind {
                WideShift::Shl => Op::ShlI { d, a, k, w },
                WideShift::Shr => Op::ShrI { d, a, k, w },
                WideShift::Sar => Op::SarI { d, a, k, w },
            });
            return Ok(Val { slot: d, wide, exact });
        }
        self.check(amount.ty())?;
        let amount = self.gen_value(amount, Need::Exact)?;
        let b = if amount.wide {
            // Only 128-bit operands can be shifted by so much; all that counts is that it is large.
            let limit = self.wide_constant(1 << 20)?;
            let (flag, big, small) = (self.temp()?, self.temp()?, self.temp()?);
            self.emit(Op::WSet { d: flag, a: amount.slot, b: limit, cc: Cc::LtU });
            let one = self.constant(1)?;
            // flag - 1 is all ones where the amount was too large, else 0.
            self.emit(Op::Sub { d: big, a: flag, b: one, w: 64 });
            self.emit(Op::Or { d: small, a: amount.slot, b: big, w: 64 });
            small
        } else {
            amount.slot
        };
        if wide {
            let d = self.wide_temp()?;
            self.emit(Op::WShift { op: kind, d, a, b, w: 128 });
            return Ok(Val { slot: d, wide, exact });
        }
        let (d, w) = (self.temp()?, 64);
        self.emit(match kind {
            WideShift::Shl => Op::Shl { d, a, b, w },
            WideShift::Shr => Op::Shr { d, a, b, w },
            WideShift::Sar => Op::Sar { d, a, b, w },
        });
        Ok(Val { slot: d, wide, exact })
    }

    fn gen_choose(&mut self, c: &Expr, a: &Expr, b: &Expr, ty: Ty, need: Need) -> Result<Val, LoadError> {
        let wide = match need {
            Need::Low(n) => n > 64,
            Need::Exact => {
                self.check(ty)?;
                !ty.narrow()
            }
        };
        let d = if wide { self.wide_temp()? } else { self.temp()? };
        let (other, done) = (self.label(), self.label());
        self.gen_branch(c, other, false)?;
        for (e, first) in [(a, true), (b, false)] {
            let v = self.gen_value(e, need)?;
            let a = self.fit(v, wide)?;
            self.emit(if wide { Op::WMov { d, a, w: 128 } } else { Op::Mov { d, a, w: 64 } });
            if first {
                self.emit(Op::Jmp { t: done.0 });
                self.place(other);
            }
        }
        self.place(done);
        Ok(Val { slot: d, wide, exact: (need == Need::Exact).then_some(ty) })
    }
}

/// A number that is found by walking the tree. Where it says no, all operands are such that what the instructions need of
/// them fits 128 bits.
fn walks(e: &Expr, ty: Ty, need: Need) -> bool {
    let exact = need == Need::Exact && !ty.wide();
    match e {
        Expr::At { .. } | Expr::Varbit(..) | Expr::Lookahead { .. } | Expr::Register { .. } | Expr::Big(_) => true,
        Expr::TwoComp(_, w) => *w > 128,
        Expr::Sat(a, w, _) => *w > 128 || !a.ty().wide(),
        Expr::Bin(Bin::Div | Bin::Rem, a, b) => a.ty().neg || b.ty().neg || !a.ty().join(b.ty()).wide(),
        Expr::Bin(Bin::Shl, _, b) => exact || b.ty().neg || !b.ty().wide(),
        Expr::Bin(Bin::Shr, a, b) => !a.ty().wide() || b.ty().neg || !b.ty().wide(),
        Expr::Field(_) | Expr::Param(..) | Expr::Const(..) | Expr::Bin(..) | Expr::Not(_) | Expr::Choose(..) => exact,
        _ => false,
    }
}

/// How many low ones a constant consists of, if that is all it is.
fn tight_mask(e: &Expr) -> Option<u32> {
    e.constant().filter(|m| 128 - m.leading_zeros() == m.trailing_ones()).map(u128::trailing_ones)
}

fn low_bits(need: Need) -> u32 {
    match need {
        Need::Exact => u32::MAX,
        Need::Low(n) => n,
    }
}

fn leaf(slot: Slot, wide: bool, ty: Ty, need: Need) -> Val {
    // The low slot of a wide leaf serves a consumer of at most 64 bits.
    match need {
        Need::Low(n) if n <= 64 => Val { slot, wide: false, exact: (!wide).then_some(ty) },
        _ => Val { slot, wide, exact: ty.wide().then_some(ty) },
    }
}
