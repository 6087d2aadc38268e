//! Reading expressions of the JSON.

use super::super::error::LoadError;
use super::super::json;
use super::super::layout::{Layout, MAX_WIDTH, Slot};
use super::super::tree::{Bin, Expr, HeaderAt, Rel};
use super::refs::{any, field_of, header, last, named_field, plain_index, same, stack, union_members, valid, varbit};
use num_bigint::{BigInt, Sign};
use serde_json::Value;
use std::collections::HashMap;

/// Deepest nesting of an expression that is accepted (the compiler recurses).
const MAX_DEPTH: usize = 512;

/// What names mean inside an expression.
pub(crate) struct Scope<'a> {
    pub layout: &'a Layout,
    /// Slot and width of each parameter of the action.
    pub params: &'a [(Slot, u32)],
    /// Number and width of each register.
    pub registers: &'a HashMap<String, (u16, u32)>,
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

pub(super) fn number(e: Expr) -> Expr {
    if e.is_bool() { Expr::FromBool(Box::new(e)) } else { e }
}

pub(super) fn parse_at(v: &Value, scope: &Scope<'_>, depth: usize) -> Result<Expr, LoadError> {
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
            if let [at, f] = json::as_list(value, "field", ctx)?
                && at.is_object()
            {
                let (at, f) = (header(at, scope, depth)?, json::as_text(f, "field", ctx)?);
                return named_field(at, f, scope);
            }
            let (h, f) = json::pair(value, ctx)?;
            if let Some(h) = scope.layout.varbit(h, f) {
                return Ok(varbit(HeaderAt::One(h), scope));
            }
            Ok(Expr::Field(scope.layout.field(h, f, ctx)?))
        }
        "hexstr" => Ok(constant(json::big(value, ctx)?)),
        "bool" => Ok(Expr::Bool(value.as_bool().ok_or_else(|| LoadError::invalid("a bool that is none", ctx))?)),
        "local" | "runtime_data" => {
            let ix = value.as_u64().and_then(|n| usize::try_from(n).ok());
            let found = ix.and_then(|n| scope.params.get(n));
            let (slot, width) = found.ok_or_else(|| LoadError::unknown("action parameter", value, ctx))?;
            Ok(Expr::Param(*slot, *width))
        }
        "stack_field" => {
            let (stack, f) = json::pair(value, ctx)?;
            let stack = scope.layout.header_stack(stack, ctx)?;
            let number = scope.layout.field_number(scope.layout.stacks[stack].elements[0][0], f, ctx)?;
            field_of(last(stack, 0, scope), number, scope)
        }
        "union_stack_field" => {
            let [stack, member, f] = json::as_list(value, "union_stack_field", ctx)? else {
                return Err(LoadError::invalid("expected [stack, member, field]", ctx));
            };
            let name = json::as_text(stack, "stack", ctx)?;
            let stack = scope.layout.union_stack(name, ctx)?;
            let member = scope.layout.union_member(name, json::as_text(member, "member", ctx)?, ctx)?;
            let first = scope.layout.stacks[stack].elements[0].get(member).copied();
            let first = first.ok_or_else(|| LoadError::unknown("member of the union", member, ctx))?;
            let number = scope.layout.field_number(first, json::as_text(f, "field", ctx)?, ctx)?;
            field_of(last(stack, member, scope), number, scope)
        }
        "lookahead" => {
            let (bit_offset, width) = lookahead(value, ctx)?;
            Ok(Expr::Lookahead { bit_offset, width })
        }
        "register" => {
            let [name, index] = json::as_list(value, "register", ctx)? else {
                return Err(LoadError::invalid("expected [register, index]", ctx));
            };
            let name = json::as_text(name, "register", ctx)?;
            let (reg, width) = *scope.registers.get(name).ok_or_else(|| LoadError::unknown("register", name, ctx))?;
            let index = Box::new(number(parse_at(index, scope, depth + 1)?));
            Ok(Expr::Register { reg, index, width })
        }
        other => Err(LoadError::unsupported(format!("an operand of type {other}"), ctx)),
    }
}

/// A constant of any size.
pub(super) fn constant(v: BigInt) -> Expr {
    match u128::try_from(v.magnitude()) {
        Ok(m) => Expr::Const(v.sign() == Sign::Minus, m),
        Err(_) => Expr::Big(v),
    }
}

/// The offset and width of a lookahead.
pub(super) fn lookahead(v: &Value, ctx: &str) -> Result<(u32, u32), LoadError> {
    let pair = json::as_list(v, "lookahead", ctx)?;
    match (pair.first().and_then(Value::as_u64), pair.get(1).and_then(Value::as_u64)) {
        (Some(offset), Some(width)) if offset <= 1 << 19 && (1..=u64::from(MAX_WIDTH)).contains(&width) => {
            Ok((offset as u32, width as u32))
        }
        _ => {
            let what = format!("the lookahead {v} (offset up to 65536 bytes, width 1 to {MAX_WIDTH})");
            Err(LoadError::unsupported(what, ctx))
        }
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
        Some(w) if (1..=u128::from(MAX_WIDTH)).contains(&w) => Ok(w as u32),
        _ => Err(LoadError::unsupported(format!("{op} to a width that is not 1 to {MAX_WIDTH}"), ctx)),
    };
    let bin = |b| Ok(simplify(b, num(left())?, num(right())?));
    let rel = |r| Ok(Expr::Rel(r, num(left())?, num(right())?));
    match op {
        "+" if v.get("left").is_none_or(Value::is_null) => Ok(number(right()?)),
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
        "valid" => Ok(valid(header(json::get(v, "right", ctx)?, scope, depth)?, scope)),
        "valid_union" => {
            let members = union_members(json::get(v, "right", ctx)?, scope, depth)?;
            Ok(any(members.into_iter().map(|m| valid(m, scope))))
        }
        "access_field" => {
            let h = header(json::get(v, "left", ctx)?, scope, depth)?;
            field_of(h, plain_index(json::get(v, "right", ctx)?, ctx)?, scope)
        }
        "last_stack_index" | "size_stack" => {
            let next = scope.layout.stacks[stack(json::get(v, "right", ctx)?, scope)?].next;
            let size = Expr::Field(next);
            if op == "size_stack" {
                return Ok(size);
            }
            // BMv2 computes this in 64 bits: of an empty stack it is 2^64 - 1.
            let last = Expr::Bin(Bin::Sub, Box::new(size), Box::new(Expr::Const(false, 1)));
            Ok(Expr::Bin(Bin::And, Box::new(last), Box::new(Expr::Const(false, u128::from(u64::MAX)))))
        }
        "not" => Ok(Expr::Negate(boolean(right())?)),
        "and" => Ok(Expr::AndAlso(boolean(left())?, boolean(right())?)),
        "or" => Ok(Expr::OrElse(boolean(left())?, boolean(right())?)),
        "==" | "!=" => {
            if let Some(same) = same(v, scope, depth)? {
                return Ok(if op == "==" { same } else { Expr::Negate(Box::new(same)) });
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
