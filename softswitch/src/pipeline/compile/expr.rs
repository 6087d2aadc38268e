//! Expressions of the JSON as a tree, with the range of values that each node can take.
//!
//! BMv2 evaluates expressions in integers of any size and cuts only where the program says so. We know from the tree
//! how large each intermediate value can get, so the generator can pick 64 or 128 bits and still give the same result.

use super::super::error::LoadError;
use super::super::json;
use super::super::layout::{Field, Layout, Slot};
use serde_json::Value;

/// Deepest nesting of an expression that is accepted (the compiler recurses).
const MAX_DEPTH: usize = 512;

/// The values of an expression: `-(2^bits)..2^bits` if `neg`, else `0..2^bits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ty {
    pub neg: bool,
    pub bits: u32,
}

impl Ty {
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

/// An expression. The boolean variants are those that [`Expr::is_bool`] tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Field(Field),
    /// Sign and magnitude.
    Const(bool, u128),
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
            Self::Field(f) if f.signed => Ty::s(f.width - 1),
            Self::Field(f) => Ty::u(f.width),
            Self::Param(_, w) => Ty::u(*w),
            Self::Const(false, m) => Ty::u(128 - m.leading_zeros()),
            // -(2^k) fits k bits
            Self::Const(true, m) => Ty::s(128 - (m - 1).leading_zeros()),
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

/// What names mean inside an expression.
pub(crate) struct Scope<'a> {
    pub layout: &'a Layout,
    /// Slot and width of each parameter of the action.
    pub params: &'a [(Slot, u32)],
    /// The object of the JSON, for errors.
    pub ctx: &'a str,
}

/// Reads an operand: a field, a constant, a parameter or an expression.
pub(crate) fn parse(v: &Value, scope: &Scope<'_>) -> Result<Expr, LoadError> {
    parse_at(v, scope, 0)
}

/// Like [`parse`], for what must be a truth value.
pub(crate) fn parse_bool(v: &Value, scope: &Scope<'_>) -> Result<Expr, LoadError> {
    let e = parse(v, scope)?;
    // Older compilers leave a one-bit field where a condition is meant.
    Ok(if e.is_bool() { e } else { Expr::NonZero(Box::new(e)) })
}

/// Like [`parse`], for what must be a number.
pub(crate) fn parse_number(v: &Value, scope: &Scope<'_>) -> Result<Expr, LoadError> {
    let e = parse(v, scope)?;
    Ok(number(e))
}

fn number(e: Expr) -> Expr {
    if e.is_bool() { Expr::FromBool(Box::new(e)) } else { e }
}

fn parse_at(v: &Value, scope: &Scope<'_>, depth: usize) -> Result<Expr, LoadError> {
    let ctx = scope.ctx;
    if depth > MAX_DEPTH {
        return Err(LoadError::unsupported(format!("an expression nested deeper than {MAX_DEPTH}"), ctx));
    }
    // An expression is wrapped in {"type": "expression", "value": …}, sometimes twice; the innermost has "op".
    if v.get("op").is_some() {
        return operation(v, scope, depth);
    }
    let value = json::get(v, "value", ctx)?;
    match json::text(v, "type", ctx)? {
        "expression" => parse_at(value, scope, depth + 1),
        "field" => {
            let (h, f) = json::pair(value, ctx)?;
            Ok(Expr::Field(scope.layout.field(h, f, ctx)?))
        }
        "hexstr" => {
            let (neg, mag) = json::hex(value, ctx)?;
            Ok(Expr::Const(neg, mag))
        }
        "bool" => Ok(Expr::Bool(value.as_bool().ok_or_else(|| LoadError::invalid("a bool that is none", ctx))?)),
        "local" | "runtime_data" => {
            let ix = value.as_u64().and_then(|n| usize::try_from(n).ok());
            let found = ix.and_then(|n| scope.params.get(n));
            let (slot, width) = found.ok_or_else(|| LoadError::unknown("action parameter", value, ctx))?;
            Ok(Expr::Param(*slot, *width))
        }
        "header" => {
            let h = scope.layout.header(json::as_text(value, "header", ctx)?, ctx)?;
            Ok(Expr::Valid(scope.layout.headers[h].valid))
        }
        other => Err(LoadError::unsupported(format!("an operand of type {other}"), ctx)),
    }
}

fn operation(v: &Value, scope: &Scope<'_>, depth: usize) -> Result<Expr, LoadError> {
    let ctx = scope.ctx;
    let op = json::text(v, "op", ctx)?;
    let right = || parse_at(json::get(v, "right", ctx)?, scope, depth + 1);
    let left = || parse_at(json::get(v, "left", ctx)?, scope, depth + 1);
    let num = |e: Result<Expr, LoadError>| e.map(|e| Box::new(number(e)));
    let boolean = |e: Result<Expr, LoadError>| match e {
        Ok(e) if e.is_bool() => Ok(Box::new(e)),
        Ok(_) => Err(LoadError::invalid(format!("operator {op} needs a truth value"), ctx)),
        Err(e) => Err(e),
    };
    let width = || match parse_at(json::get(v, "right", ctx)?, scope, depth + 1)?.constant() {
        Some(w) if (1..=128).contains(&w) => Ok(w as u32),
        _ => Err(LoadError::unsupported(format!("{op} to a width that is not 1 to 128"), ctx)),
    };
    let bin = |b| Ok(simplify(b, num(left())?, num(right())?));
    let rel = |r| Ok(Expr::Rel(r, num(left())?, num(right())?));
    match op {
        "+" => bin(Bin::Add),
        "-" if v.get("left").is_none_or(Value::is_null) => {
            Ok(Expr::Bin(Bin::Sub, Box::new(Expr::Const(false, 0)), num(right())?))
        }
        "-" => bin(Bin::Sub),
        "*" => bin(Bin::Mul),
        "/" => bin(Bin::Div),
        "%" => bin(Bin::Rem),
        "&" => bin(Bin::And),
        "|" => bin(Bin::Or),
        "^" => bin(Bin::Xor),
        "<<" => bin(Bin::Shl),
        ">>" => bin(Bin::Shr),
        "~" => Ok(Expr::Not(num(right())?)),
        "two_comp_mod" => Ok(Expr::TwoComp(num(left())?, width()?)),
        "usat_cast" => Ok(Expr::Sat(num(left())?, width()?, false)),
        "sat_cast" => Ok(Expr::Sat(num(left())?, width()?, true)),
        "d2b" => Ok(Expr::NonZero(num(right())?)),
        "b2d" => Ok(Expr::FromBool(boolean(right())?)),
        "valid" => match right()? {
            e @ Expr::Valid(_) => Ok(e),
            _ => Err(LoadError::invalid("\"valid\" of something that is no header", ctx)),
        },
        "not" => Ok(Expr::Negate(boolean(right())?)),
        "and" => Ok(Expr::AndAlso(boolean(left())?, boolean(right())?)),
        "or" => Ok(Expr::OrElse(boolean(left())?, boolean(right())?)),
        "==" | "!=" => {
            if is_header(v, "left") || is_header(v, "right") {
                return Err(LoadError::unsupported("a comparison of whole headers", ctx));
            }
            let (a, b) = (left()?, right()?);
            if a.is_bool() && b.is_bool() {
                return Ok(Expr::BoolEq(Box::new(a), Box::new(b), op == "=="));
            }
            let r = if op == "==" { Rel::Eq } else { Rel::Ne };
            Ok(Expr::Rel(r, Box::new(number(a)), Box::new(number(b))))
        }
        "<" => rel(Rel::Lt),
        "<=" => rel(Rel::Le),
        ">" => rel(Rel::Gt),
        ">=" => rel(Rel::Ge),
        "?" => {
            let cond = boolean(parse_at(json::get(v, "cond", ctx)?, scope, depth + 1))?;
            let (a, b) = (left()?, right()?);
            if a.is_bool() != b.is_bool() {
                return Ok(Expr::Choose(cond, Box::new(number(a)), Box::new(number(b))));
            }
            Ok(Expr::Choose(cond, Box::new(a), Box::new(b)))
        }
        other => Err(LoadError::unsupported(format!("operator {other}"), ctx)),
    }
}

fn is_header(v: &Value, side: &str) -> bool {
    v.get(side).and_then(|s| s.get("type")).and_then(Value::as_str) == Some("header")
}

/// Drops masks that cannot change anything: p4c emits one around nearly every node.
fn simplify(op: Bin, a: Box<Expr>, b: Box<Expr>) -> Expr {
    if op == Bin::And {
        for (x, mask) in [(&a, &b), (&b, &a)] {
            let Some(m) = mask.constant() else { continue };
            let t = x.ty();
            let low_ones = m.trailing_ones();
            if m != 0 && 128 - m.leading_zeros() == low_ones && !t.neg && t.bits <= low_ones {
                return x.as_ref().clone();
            }
        }
    }
    Expr::Bin(op, a, b)
}
