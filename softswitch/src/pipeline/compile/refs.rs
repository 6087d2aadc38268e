//! Operands of the JSON that are headers, unions or stacks.

use super::super::error::LoadError;
use super::super::json;
use super::super::layout::Part;
use super::super::tree::{Bin, Expr, HeaderAt, Rel, Ty};
use super::expr::{Scope, number, parse_at};
use serde_json::Value;

/// Fields of a header that are compared one by one; of more, the whole header is walked.
const MAX_COMPARED: usize = 64;

/// The operand without the expressions that it may be wrapped in.
fn unwrap(mut v: &Value) -> &Value {
    while v.get("type").and_then(Value::as_str) == Some("expression") {
        match v.get("value") {
            Some(inner) => v = inner,
            None => break,
        }
    }
    v
}

fn op(v: &Value) -> Option<&str> {
    v.get("op").and_then(Value::as_str)
}

fn kind(v: &Value) -> Option<&str> {
    v.get("type").and_then(Value::as_str)
}

/// A header: by its name, as an element of a stack, or as a member of a union.
pub(super) fn header(v: &Value, scope: &Scope<'_>, depth: usize) -> Result<HeaderAt, LoadError> {
    let (v, ctx) = (unwrap(v), scope.ctx);
    match (op(v), kind(v)) {
        (Some("dereference_header_stack" | "dereference_stack"), _) => {
            let stack = stack(json::get(v, "left", ctx)?, scope)?;
            element(stack, 0, json::get(v, "right", ctx)?, scope, depth)
        }
        (Some("access_union_header"), _) => {
            let members = union_members(json::get(v, "left", ctx)?, scope, depth)?;
            let n = plain_index(json::get(v, "right", ctx)?, ctx)?;
            members.into_iter().nth(n).ok_or_else(|| LoadError::unknown("member of the union", n, ctx))
        }
        // The whole element, under the name that the language gives it.
        (_, Some("stack_field")) => match json::pair(json::get(v, "value", ctx)?, ctx)? {
            (name, "last") => Ok(last(scope.layout.header_stack(name, ctx)?, 0, scope)),
            (name, field) => Err(LoadError::invalid(format!("the field {name}.{field} where a header is needed"), ctx)),
        },
        (_, Some("header")) => Ok(HeaderAt::One(scope.layout.header(json::text(v, "value", ctx)?, ctx)?)),
        _ => Err(LoadError::unsupported(format!("{v} where a header is needed"), ctx)),
    }
}

/// The members of a union: by its name, or as an element of a stack.
pub(super) fn union_members(v: &Value, scope: &Scope<'_>, depth: usize) -> Result<Vec<HeaderAt>, LoadError> {
    let (v, ctx) = (unwrap(v), scope.ctx);
    match (op(v), kind(v)) {
        (Some("dereference_union_stack"), _) => {
            let stack = stack(json::get(v, "left", ctx)?, scope)?;
            let index = json::get(v, "right", ctx)?;
            let members = 0..scope.layout.stacks[stack].elements[0].len();
            members.map(|m| element(stack, m, index, scope, depth)).collect()
        }
        (_, Some("header_union")) => {
            let members = scope.layout.header_union(json::text(v, "value", ctx)?, ctx)?;
            Ok(members.iter().map(|h| HeaderAt::One(*h)).collect())
        }
        _ => Err(LoadError::unsupported(format!("{v} where a header union is needed"), ctx)),
    }
}

/// The number of a stack of headers or unions.
pub(super) fn stack(v: &Value, scope: &Scope<'_>) -> Result<usize, LoadError> {
    let (v, ctx) = (unwrap(v), scope.ctx);
    let name = || json::text(v, "value", ctx);
    match kind(v) {
        Some("header_stack") => scope.layout.header_stack(name()?, ctx),
        Some("header_union_stack") => scope.layout.union_stack(name()?, ctx),
        _ => Err(LoadError::unsupported(format!("{v} where a stack is needed"), ctx)),
    }
}

fn element(stack: usize, member: usize, index: &Value, scope: &Scope<'_>, depth: usize) -> Result<HeaderAt, LoadError> {
    let index = number(parse_at(index, scope, depth + 1)?);
    let elements = &scope.layout.stacks[stack].elements;
    let known = index.constant().and_then(|n| usize::try_from(n).ok()).and_then(|n| elements.get(n));
    Ok(match known.and_then(|e| e.get(member)) {
        Some(h) => HeaderAt::One(*h),
        None => HeaderAt::Elem { stack, member, index: Box::new(index) },
    })
}

/// The element of a stack that was extracted last.
pub(super) fn last(stack: usize, member: usize, scope: &Scope<'_>) -> HeaderAt {
    let next = Expr::Field(scope.layout.stacks[stack].next);
    let index = Box::new(Expr::Bin(Bin::Sub, Box::new(next), Box::new(Expr::Const(false, 1))));
    HeaderAt::Elem { stack, member, index }
}

/// A header of the type that `at` has, whichever it is.
fn example(at: &HeaderAt, scope: &Scope<'_>) -> usize {
    match at {
        HeaderAt::One(h) => *h,
        HeaderAt::Elem { stack, member, .. } => scope.layout.stacks[*stack].elements[0][*member],
    }
}

/// A header's field by its number in the type; behind the last one there is the validity.
pub(super) fn field_of(at: HeaderAt, n: usize, scope: &Scope<'_>) -> Result<Expr, LoadError> {
    let h = &scope.layout.headers[example(&at, scope)];
    let count = h.fields.len() + usize::from(h.varbit.is_some());
    match (h.numbered(n), &at) {
        (Some(Part::Field(f)), HeaderAt::One(_)) => Ok(Expr::Field(f)),
        (Some(Part::Field(f)), _) => Ok(Expr::At { header: at, field: n, ty: Ty::of(f.width, f.signed) }),
        (Some(Part::Varbit(_)), _) => Ok(varbit(at, scope)),
        (None, _) if n == count => Ok(Expr::FromBool(Box::new(valid(at, scope)))),
        (None, _) => Err(LoadError::unknown("field number", n, scope.ctx)),
    }
}

/// A header's field by its name.
pub(super) fn named_field(at: HeaderAt, name: &str, scope: &Scope<'_>) -> Result<Expr, LoadError> {
    if name == "$valid$" {
        return Ok(Expr::FromBool(Box::new(valid(at, scope))));
    }
    let n = scope.layout.field_number(example(&at, scope), name, scope.ctx)?;
    field_of(at, n, scope)
}

/// The contents of a header's varbit.
pub(super) fn varbit(at: HeaderAt, scope: &Scope<'_>) -> Expr {
    let max = scope.layout.headers[example(&at, scope)].varbit.map_or(0, |v| v.max_bits);
    Expr::Varbit(at, max)
}

/// Whether a header is valid.
pub(super) fn valid(at: HeaderAt, scope: &Scope<'_>) -> Expr {
    match at {
        HeaderAt::One(h) => Expr::Valid(scope.layout.headers[h].valid),
        elem => Expr::ValidAt(elem),
    }
}

/// Whether one of them is true.
pub(super) fn any(all: impl Iterator<Item = Expr>) -> Expr {
    all.reduce(|a, b| Expr::OrElse(Box::new(a), Box::new(b))).unwrap_or(Expr::Bool(false))
}

fn both(a: Expr, b: Expr) -> Expr {
    Expr::AndAlso(Box::new(a), Box::new(b))
}

/// A comparison of headers, unions or stacks; `None` if the operands are none of those.
pub(super) fn same(v: &Value, scope: &Scope<'_>, depth: usize) -> Result<Option<Expr>, LoadError> {
    let ctx = scope.ctx;
    let (left, right) = (json::get(v, "left", ctx)?, json::get(v, "right", ctx)?);
    let inner = unwrap(left);
    Ok(match (op(inner), kind(inner)) {
        (Some("dereference_header_stack" | "dereference_stack" | "access_union_header"), _) | (_, Some("header")) => {
            Some(same_headers(header(left, scope, depth)?, header(right, scope, depth)?, scope)?)
        }
        (Some("dereference_union_stack"), _) | (_, Some("header_union")) => {
            let (a, b) = (union_members(left, scope, depth)?, union_members(right, scope, depth)?);
            if a.len() != b.len() {
                return Err(LoadError::invalid("a comparison of unions of different types", ctx));
            }
            let members: Result<Vec<_>, _> = a.into_iter().zip(b).map(|(a, b)| same_headers(a, b, scope)).collect();
            Some(any(members?.into_iter()))
        }
        (_, Some("header_stack" | "header_union_stack")) => {
            let [a, b] = [stack(left, scope)?, stack(right, scope)?].map(|s| &scope.layout.stacks[s].elements);
            if a.len() != b.len() {
                return Err(LoadError::invalid("a comparison of stacks of different sizes", ctx));
            }
            let mut all = Expr::Bool(true);
            for (a, b) in a.iter().zip(b).flat_map(|(a, b)| a.iter().zip(b.iter())) {
                let (a, b) = (HeaderAt::One(*a), HeaderAt::One(*b));
                // Elements that are not there are alike, too.
                let no = |h: &HeaderAt| Expr::Negate(Box::new(valid(h.clone(), scope)));
                let neither = both(no(&a), no(&b));
                all = both(all, any([neither, same_headers(a, b, scope)?].into_iter()));
            }
            Some(all)
        }
        _ => None,
    })
}

/// Both are valid and hold the same, as BMv2 compares headers.
fn same_headers(a: HeaderAt, b: HeaderAt, scope: &Scope<'_>) -> Result<Expr, LoadError> {
    let [x, y] = [&a, &b].map(|h| &scope.layout.headers[example(h, scope)]);
    if x.type_id != y.type_id {
        return Err(LoadError::invalid("a comparison of headers of different types", scope.ctx));
    }
    if let (HeaderAt::One(_), HeaderAt::One(_), None) = (&a, &b, x.varbit)
        && x.fields.len() <= MAX_COMPARED
    {
        let mut all = both(Expr::Valid(x.valid), Expr::Valid(y.valid));
        for (f, g) in x.fields.iter().zip(&y.fields) {
            all = both(all, Expr::Rel(Rel::Eq, Box::new(Expr::Field(*f)), Box::new(Expr::Field(*g))));
        }
        return Ok(all);
    }
    Ok(Expr::Same(a, b))
}

/// A number that is written as such, or as a constant.
pub(super) fn plain_index(v: &Value, ctx: &str) -> Result<usize, LoadError> {
    let n = match v.as_u64() {
        Some(n) => Some(u128::from(n)),
        None => v.get("value").map(|n| json::unsigned(n, ctx)).transpose()?,
    };
    n.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| LoadError::invalid(format!("{v} is no index"), ctx))
}
