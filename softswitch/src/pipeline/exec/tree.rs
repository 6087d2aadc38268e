//! Expressions that are evaluated from their trees, in integers of any size, as BMv2 evaluates all.
//!
//! Only what no instruction can hold or name comes here: values of more than 128 bits, and headers that are chosen when
//! the packet runs.

use super::super::json::cut_number;
use super::super::layout::{Field, Part, Slot, Varbit, words};
use super::super::tree::{Bin, Expr, HeaderAt, Place, Rel};
use super::bytes::{big, sign64};
use super::machine::Machine;
use super::mask;
use num_bigint::{BigInt, Sign};

/// A shift to the left by more gives 0: no value is so wide, and what comes of a shift is cut.
const MAX_SHIFT: u64 = 1 << 16;

impl Machine<'_, '_> {
    /// The value of a number.
    pub(super) fn number(&self, e: &Expr) -> BigInt {
        if let Some(v) = self.small(e) {
            return v.into();
        }
        match e {
            Expr::Field(f) => self.field(*f),
            Expr::Param(slot, width) => self.words(*slot, *width, false),
            Expr::Const(neg, mag) => {
                if *neg {
                    -BigInt::from(*mag)
                } else {
                    BigInt::from(*mag)
                }
            }
            Expr::Big(v) => v.clone(),
            Expr::At { header, field, .. } => {
                match self.header(header).and_then(|h| self.p.headers[h].numbered(*field)) {
                    Some(Part::Field(f)) => self.field(f),
                    _ => BigInt::ZERO,
                }
            }
            Expr::Varbit(header, _) => match self.header(header).and_then(|h| self.p.headers[h].varbit) {
                Some(v) => self.contents(v),
                None => BigInt::ZERO,
            },
            Expr::Lookahead { bit_offset, width } => {
                big(self.pkt.frame, self.pkt.parsed * 8 + *bit_offset as usize, *width).into()
            }
            Expr::Register { reg, index, .. } => {
                let cell = self.index(index).and_then(|i| self.dp.registers[usize::from(*reg)].read(i));
                cell.map_or(BigInt::ZERO, |v| v.into())
            }
            Expr::Bin(op, a, b) => binary(*op, self.number(a), self.number(b)),
            Expr::Not(a) => -self.number(a) - 1,
            Expr::TwoComp(a, w) => signed(self.number(a), *w),
            Expr::Sat(a, w, signed) => {
                let one = BigInt::from(1);
                let (low, high) = if *signed {
                    (-(&one << (w - 1)), (&one << (w - 1)) - 1)
                } else {
                    (BigInt::ZERO, (&one << *w) - 1)
                };
                self.number(a).clamp(low, high)
            }
            Expr::Choose(c, a, b) => self.number(if self.truth(c) { a } else { b }),
            Expr::FromBool(b) => BigInt::from(u8::from(self.truth(b))),
            _ => BigInt::from(u8::from(self.truth(e))),
        }
    }

    /// The value, if it and all on the way to it are small. Most indices are.
    fn small(&self, e: &Expr) -> Option<i128> {
        match e {
            Expr::Field(f) if f.width <= 64 => Some(self.narrow(*f)),
            Expr::Param(slot, width) if *width <= 64 => Some(i128::from(self.s.get(*slot))),
            Expr::Const(neg, mag) => {
                let v = i128::try_from(*mag).ok()?;
                Some(if *neg { -v } else { v })
            }
            Expr::At { header, field, .. } => {
                match self.header(header).and_then(|h| self.p.headers[h].numbered(*field)) {
                    Some(Part::Field(f)) if f.width <= 64 => Some(self.narrow(f)),
                    None => Some(0),
                    _ => None,
                }
            }
            Expr::Bin(op, a, b) => {
                let (a, b) = (self.small(a)?, self.small(b)?);
                match op {
                    Bin::Add => a.checked_add(b),
                    Bin::Sub => a.checked_sub(b),
                    Bin::Mul => a.checked_mul(b),
                    Bin::And => Some(a & b),
                    Bin::Or => Some(a | b),
                    Bin::Xor => Some(a ^ b),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn narrow(&self, f: Field) -> i128 {
        let v = self.s.get(f.slot);
        if f.signed { i128::from(v as i64) } else { i128::from(v) }
    }

    /// The value as an index, if it can be one.
    pub(super) fn index(&self, e: &Expr) -> Option<usize> {
        match self.small(e) {
            Some(v) => usize::try_from(v).ok(),
            None => usize::try_from(self.number(e)).ok(),
        }
    }

    /// Whether a condition holds.
    pub(super) fn truth(&self, e: &Expr) -> bool {
        match e {
            Expr::Bool(b) => *b,
            Expr::Valid(s) => self.s.get(*s) != 0,
            Expr::ValidAt(h) => self.header(h).is_some_and(|h| self.s.get(self.p.headers[h].valid) != 0),
            Expr::Same(a, b) => match (self.header(a), self.header(b)) {
                (Some(a), Some(b)) => self.same(a, b),
                _ => false,
            },
            Expr::Member(set, key) => {
                let widths = &self.p.value_sets[*set].widths;
                let mut values = Vec::with_capacity(key.len());
                for (e, w) in key.iter().zip(widths) {
                    let v = self.number(e);
                    // A signed field is compared as the bits that it has.
                    let v = if v.sign() == Sign::Minus { v + (BigInt::from(1) << *w) } else { v };
                    values.extend(cut_number(v.magnitude(), *w));
                }
                self.dp.value_sets[*set].contains(widths, &values)
            }
            Expr::Rel(rel, a, b) => {
                let (a, b) = (self.number(a), self.number(b));
                match rel {
                    Rel::Eq => a == b,
                    Rel::Ne => a != b,
                    Rel::Lt => a < b,
                    Rel::Le => a <= b,
                    Rel::Gt => a > b,
                    Rel::Ge => a >= b,
                }
            }
            Expr::BoolEq(a, b, equal) => (self.truth(a) == self.truth(b)) == *equal,
            Expr::AndAlso(a, b) => self.truth(a) && self.truth(b),
            Expr::OrElse(a, b) => self.truth(a) || self.truth(b),
            Expr::Negate(a) => !self.truth(a),
            Expr::Choose(c, a, b) if e.is_bool() => self.truth(if self.truth(c) { a } else { b }),
            Expr::NonZero(a) => self.number(a) != BigInt::ZERO,
            number => self.number(number) != BigInt::ZERO,
        }
    }

    /// The header, if there is one.
    pub(super) fn header(&self, at: &HeaderAt) -> Option<usize> {
        match at {
            HeaderAt::One(h) => Some(*h),
            HeaderAt::Elem { stack, member, index } => {
                self.p.stacks[*stack].elements.get(self.index(index)?).and_then(|e| e.get(*member)).copied()
            }
        }
    }

    fn same(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.p.headers[a], &self.p.headers[b]);
        let valid = |slot: Slot| self.s.get(slot) != 0;
        let slots = |f: &Field| f.slots();
        let equal = |(f, g): (&Field, &Field)| slots(f).zip(slots(g)).all(|(x, y)| self.s.get(x) == self.s.get(y));
        let varbits = match (a.varbit, b.varbit) {
            (Some(x), Some(y)) => self.s.get(x.bits) == self.s.get(y.bits) && self.contents(x) == self.contents(y),
            _ => true,
        };
        valid(a.valid) && valid(b.valid) && a.fields.iter().zip(&b.fields).all(equal) && varbits
    }

    fn contents(&self, v: Varbit) -> BigInt {
        match self.s.get(v.at) {
            0 => BigInt::ZERO,
            at => big(self.pkt.frame, at as usize - 1, self.s.get(v.bits) as u32).into(),
        }
    }

    fn field(&self, f: Field) -> BigInt {
        self.words(f.slot, f.width, f.signed)
    }

    fn words(&self, slot: Slot, width: u32, signed: bool) -> BigInt {
        let bytes: Vec<u8> = (slot..slot + words(width)).flat_map(|s| self.s.get(s).to_le_bytes()).collect();
        if signed { BigInt::from_signed_bytes_le(&bytes) } else { BigInt::from_bytes_le(Sign::Plus, &bytes) }
    }

    /// Puts a value where it belongs, cut to what there is room for.
    pub(super) fn put(&self, to: &Place, value: &BigInt) {
        match to {
            Place::Field(f) => self.put_field(*f, value),
            Place::At { header, field } => {
                if let Some(Part::Field(f)) = self.header(header).and_then(|h| self.p.headers[h].numbered(*field)) {
                    self.put_field(f, value);
                }
            }
            Place::Slots { slot, words } => {
                for (s, v) in (*slot..slot + words).zip(low_words(value)) {
                    self.s.set(s, v);
                }
            }
            Place::Register { reg, index } => {
                if let Some(i) = self.index(index) {
                    let reg = &self.dp.registers[usize::from(*reg)];
                    reg.write(i, &signed_to_unsigned(value, reg.width()));
                }
            }
        }
    }

    fn put_field(&self, f: Field, value: &BigInt) {
        let top = ((f.width - 1) % 64 + 1) as u8;
        let last = f.slot + words(f.width) - 1;
        for (s, v) in f.slots().zip(low_words(value)) {
            self.s.set(
                s,
                match (s == last, f.signed) {
                    (false, _) => v,
                    (true, false) => v & mask(top),
                    (true, true) => sign64(v, u32::from(top)),
                },
            );
        }
    }
}

/// The words of a value in two's complement, low one first; they do not end.
fn low_words(v: &BigInt) -> impl Iterator<Item = u64> {
    let bytes = v.to_signed_bytes_le();
    let fill = if v.sign() == Sign::Minus { 0xff } else { 0 };
    (0..).map(move |w| {
        let byte = |i: usize| bytes.get(w * 8 + i).copied().unwrap_or(fill);
        u64::from_le_bytes(std::array::from_fn(byte))
    })
}

/// The low `width` bits as a signed number.
fn signed(v: BigInt, width: u32) -> BigInt {
    let one = BigInt::from(1);
    let low: BigInt = v & ((&one << width) - 1u8);
    if low.bit(u64::from(width) - 1) { low - (one << width) } else { low }
}

/// The low `width` bits.
fn signed_to_unsigned(v: &BigInt, width: u32) -> num_bigint::BigUint {
    let low: BigInt = v & ((BigInt::from(1) << width) - 1u8);
    low.magnitude().clone()
}

fn binary(op: Bin, a: BigInt, b: BigInt) -> BigInt {
    match op {
        Bin::Add => a + b,
        Bin::Sub => a - b,
        Bin::Mul => a * b,
        // BMv2 stops at these.
        Bin::Div | Bin::Rem if b == BigInt::ZERO => BigInt::ZERO,
        Bin::Div => a / b,
        Bin::Rem => a % b,
        Bin::And => a & b,
        Bin::Or => a | b,
        Bin::Xor => a ^ b,
        Bin::Shl => match u64::try_from(b) {
            Ok(k) if k <= MAX_SHIFT => a << k,
            _ => BigInt::ZERO,
        },
        Bin::Shr => match u64::try_from(&b) {
            Ok(k) => a >> k,
            // A shift by less than nothing is left undefined by the language.
            Err(_) if b.sign() == Sign::Minus => BigInt::ZERO,
            Err(_) if a.sign() == Sign::Minus => BigInt::from(-1),
            Err(_) => BigInt::ZERO,
        },
    }
}
