//! Expressions as trees, with the range of values that each node can take.
//!
//! BMv2 evaluates expressions in integers of any size and cuts only where the program says so. We know from the tree
//! how large each intermediate value can get, so the compiler can pick 64 or 128 bits and still give the same result;
//! what fits neither, and what is only known when a packet runs (an element of a stack by an index), is evaluated from
//! the tree itself (see `exec::tree`).

use super::layout::{Field, Slot};
use num_bigint::{BigInt, Sign};

/// The values of an expression: `-(2^bits)..2^bits` if `neg`, else `0..2^bits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ty {
    pub neg: bool,
    pub bits: u32,
}

impl Ty {
    /// The values of a field.
    pub(crate) fn of(width: u32, signed: bool) -> Self {
        if signed { Self::s(width - 1) } else { Self::u(width) }
    }
    pub(crate) fn u(bits: u32) -> Self {
        Self { neg: false, bits }
    }
    pub(crate) fn s(bits: u32) -> Self {
        Self { neg: true, bits }
    }
    /// Fits one slot: as u64, or as i64.
    pub(crate) fn narrow(self) -> bool {
        self.bits <= if self.neg { 63 } else { 64 }
    }
    /// Fits two slots: as u128, or as i128.
    pub(crate) fn wide(self) -> bool {
        self.bits <= if self.neg { 127 } else { 128 }
    }
    pub(crate) fn join(self, o: Self) -> Self {
        Self { neg: self.neg || o.neg, bits: self.bits.max(o.bits) }
    }
}

/// Arithmetic with two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bin {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

/// A comparison of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rel {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A header, or which one it is of a stack: known only when a packet runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum HeaderAt {
    One(usize),
    /// The element of a stack (of a stack of unions: this member of the element). There is none beyond the stack.
    Elem {
        stack: usize,
        member: usize,
        index: Box<Expr>,
    },
}

/// An expression. The boolean variants are those that [`Expr::is_bool`] tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Field(Field),
    /// Sign and magnitude.
    Const(bool, u128),
    /// A constant of more than 128 bits.
    Big(BigInt),
    /// Field number `field` of a header that is chosen when the packet runs; 0 if there is none.
    At {
        header: HeaderAt,
        field: usize,
        ty: Ty,
    },
    /// The contents of a header's varbit, and how many bits they can have.
    Varbit(HeaderAt, u32),
    /// Bits of the packet behind what was parsed; those beyond its end read 0.
    Lookahead {
        bit_offset: u32,
        width: u32,
    },
    /// A cell of a register, and its width; 0 beyond the register.
    Register {
        reg: u16,
        index: Box<Expr>,
        width: u32,
    },
    /// A parameter of the action.
    Param(Slot, u32),
    Bin(Bin, Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    /// Cast to a signed number of so many bits.
    TwoComp(Box<Expr>, u32),
    /// Clamp to an unsigned (`false`) or signed number of so many bits.
    Sat(Box<Expr>, u32, bool),
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
    FromBool(Box<Expr>),

    Bool(bool),
    Valid(Slot),
    ValidAt(HeaderAt),
    /// Both are valid and hold the same.
    Same(HeaderAt, HeaderAt),
    /// These are a member of the value set.
    Member(usize, Vec<Expr>),
    Rel(Rel, Box<Expr>, Box<Expr>),
    BoolEq(Box<Expr>, Box<Expr>, bool),
    AndAlso(Box<Expr>, Box<Expr>),
    OrElse(Box<Expr>, Box<Expr>),
    Negate(Box<Expr>),
    NonZero(Box<Expr>),
}

impl Expr {
    /// It yields a truth value.
    pub(crate) fn is_bool(&self) -> bool {
        match self {
            Self::Choose(_, a, _) => a.is_bool(),
            Self::Bool(_)
            | Self::Valid(_)
            | Self::ValidAt(_)
            | Self::Same(..)
            | Self::Member(..)
            | Self::Rel(..)
            | Self::BoolEq(..)
            | Self::AndAlso(..)
            | Self::OrElse(..)
            | Self::Negate(_)
            | Self::NonZero(_) => true,
            _ => false,
        }
    }

    /// What values a number can take.
    pub(crate) fn ty(&self) -> Ty {
        match self {
            Self::Field(f) => Ty::of(f.width, f.signed),
            Self::Param(_, w) => Ty::u(*w),
            Self::Const(false, m) => Ty::u(128 - m.leading_zeros()),
            // -(2^k) fits k bits
            Self::Const(true, m) => Ty::s(128 - (m - 1).leading_zeros()),
            Self::Big(v) if v.sign() == Sign::Minus => Ty::s((v + 1u32).bits() as u32),
            Self::Big(v) => Ty::u(v.bits() as u32),
            Self::At { ty, .. } => *ty,
            Self::Varbit(_, bits) => Ty::u(*bits),
            Self::Lookahead { width, .. } | Self::Register { width, .. } => Ty::u(*width),
            Self::Bin(op, a, b) => bin_ty(*op, a, b),
            Self::Not(a) => Ty::s(a.ty().bits),
            Self::TwoComp(_, w) | Self::Sat(_, w, true) => Ty::s(w - 1),
            Self::Sat(_, w, false) => Ty::u(*w),
            Self::Choose(_, a, b) => a.ty().join(b.ty()),
            _ => Ty::u(1),
        }
    }

    /// The value of a non-negative constant.
    pub(crate) fn constant(&self) -> Option<u128> {
        match self {
            Self::Const(false, m) => Some(*m),
            _ => None,
        }
    }
}

fn bin_ty(op: Bin, a: &Expr, b: &Expr) -> Ty {
    let (x, y) = (a.ty(), b.ty());
    let j = x.join(y);
    match op {
        Bin::Add => Ty { neg: j.neg, bits: j.bits.saturating_add(1) },
        Bin::Sub => Ty::s(j.bits.saturating_add(1)),
        Bin::Mul => Ty { neg: j.neg, bits: x.bits.saturating_add(y.bits).saturating_add(u32::from(x.neg && y.neg)) },
        Bin::Div => x,
        Bin::Rem => Ty { neg: x.neg, bits: j.bits.min(x.bits) },
        Bin::And => match (x.neg, y.neg) {
            (false, false) => Ty::u(x.bits.min(y.bits)),
            (false, true) => Ty::u(x.bits),
            (true, false) => Ty::u(y.bits),
            (true, true) => j,
        },
        Bin::Or | Bin::Xor => j,
        Bin::Shl => {
            let most = b
                .constant()
                .map_or_else(|| 1u32.checked_shl(y.bits).unwrap_or(u32::MAX), |k| k.try_into().unwrap_or(u32::MAX));
            Ty { neg: x.neg, bits: x.bits.saturating_add(most) }
        }
        Bin::Shr => match b.constant() {
            Some(k) => Ty { neg: x.neg, bits: x.bits.saturating_sub(k.try_into().unwrap_or(u32::MAX)) },
            None => x,
        },
    }
}

/// Where a value goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    Field(Field),
    /// Field number `field` of a header that is chosen when the packet runs; nowhere if there is none.
    At {
        header: HeaderAt,
        field: usize,
    },
    /// The low words, two's complement, into so many slots.
    Slots {
        slot: Slot,
        words: u16,
    },
    /// A cell of a register; nowhere beyond it.
    Register {
        reg: u16,
        index: Expr,
    },
}

/// What is done by walking a tree while the packet waits: see `exec::tree`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Slow {
    Assign {
        to: Place,
        value: Expr,
    },
    /// Reads a register of any width into a field, which keeps its value if there is no such cell.
    RegRead {
        to: Place,
        reg: u16,
        index: Expr,
        width: u32,
    },
    /// Copies a header with its validity.
    Copy {
        to: HeaderAt,
        from: HeaderAt,
    },
    /// Makes a header valid, all zero, unless it is valid already.
    Add(HeaderAt),
    Remove(HeaderAt),
    /// Copies a varbit.
    CopyVarbit {
        to: HeaderAt,
        from: HeaderAt,
    },
    /// A random number from `low` to `high`, both included; none if there is none.
    Random {
        to: Place,
        low: Expr,
        high: Expr,
    },
    /// A message: text, argument, text, argument, …, text.
    Log {
        texts: Vec<String>,
        args: Vec<Expr>,
    },
    /// Shifts a stack's elements towards its end (`push`) or its start by so many.
    Shift {
        stack: usize,
        by: Expr,
        push: bool,
    },
}

/// An extraction into the next element of a stack, or of a header with a varbit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SlowExtract {
    pub to: ExtractTo,
    /// Bits of the varbit.
    pub length: Option<Expr>,
}

/// Which header is extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtractTo {
    One(usize),
    Next { stack: usize, member: usize },
}

impl Expr {
    /// The parts of this node that are expressions, those in the indices of its headers included.
    fn parts(&self) -> Vec<&Expr> {
        let mut parts: Vec<&Expr> = Vec::new();
        match self {
            Self::Bin(_, a, b)
            | Self::Rel(_, a, b)
            | Self::BoolEq(a, b, _)
            | Self::AndAlso(a, b)
            | Self::OrElse(a, b) => {
                parts.extend([&**a, b]);
            }
            Self::Choose(c, a, b) => parts.extend([&**c, a, b]),
            Self::Member(_, key) => parts.extend(key),
            Self::Not(a)
            | Self::TwoComp(a, _)
            | Self::Sat(a, _, _)
            | Self::FromBool(a)
            | Self::Negate(a)
            | Self::NonZero(a)
            | Self::Register { index: a, .. } => parts.push(a),
            Self::Field(_)
            | Self::Const(..)
            | Self::Big(_)
            | Self::Param(..)
            | Self::Bool(_)
            | Self::Valid(_)
            | Self::Lookahead { .. }
            | Self::At { .. }
            | Self::Varbit(..)
            | Self::ValidAt(_)
            | Self::Same(..) => {}
        }
        parts.extend(self.headers().filter_map(HeaderAt::index));
        parts
    }

    /// The headers that this node itself names.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &HeaderAt> {
        let (a, b) = match self {
            Self::At { header, .. } | Self::Varbit(header, _) | Self::ValidAt(header) => (Some(header), None),
            Self::Same(a, b) => (Some(a), Some(b)),
            _ => (None, None),
        };
        a.into_iter().chain(b)
    }

    /// Calls `f` with this node and all below it.
    pub(crate) fn walk<'e>(&'e self, f: &mut dyn FnMut(&'e Expr)) {
        let mut todo = vec![self];
        while let Some(e) = todo.pop() {
            f(e);
            todo.extend(e.parts());
        }
    }
}

impl HeaderAt {
    fn index(&self) -> Option<&Expr> {
        match self {
            Self::One(_) => None,
            Self::Elem { index, .. } => Some(index),
        }
    }
}

impl Slow {
    /// The expressions that are evaluated.
    pub(crate) fn exprs(&self) -> Vec<&Expr> {
        match self {
            Self::Assign { to, value } => to.index().into_iter().chain([value]).collect(),
            Self::RegRead { to, index, .. } => to.index().into_iter().chain([index]).collect(),
            Self::Copy { to, from } | Self::CopyVarbit { to, from } => {
                [to, from].into_iter().filter_map(|h| h.index()).collect()
            }
            Self::Add(h) | Self::Remove(h) => h.index().into_iter().collect(),
            Self::Random { to, low, high } => to.index().into_iter().chain([low, high]).collect(),
            Self::Log { args, .. } => args.iter().collect(),
            Self::Shift { by, .. } => vec![by],
        }
    }

    /// It reads this slot as a field.
    pub(crate) fn reads(&self, slot: Slot) -> bool {
        let mut found = false;
        for e in self.exprs() {
            e.walk(&mut |e| found |= matches!(e, Expr::Field(f) if f.slot == slot));
        }
        found
    }
}

impl Place {
    fn index(&self) -> Option<&Expr> {
        match self {
            Self::Field(_) | Self::Slots { .. } => None,
            Self::At { header, .. } => header.index(),
            Self::Register { index, .. } => Some(index),
        }
    }
}
