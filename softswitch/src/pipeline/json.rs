//! Reading a BMv2 JSON: accessors that turn what is missing or odd into a [`LoadError`] that names the object.

use super::entry::pieces;
use super::error::LoadError;
use super::layout::MAX_WIDTH;
use num_bigint::{BigInt, BigUint, Sign};
use serde_json::Value;

/// An empty list, for optional arrays.
const NONE: &[Value] = &[];

/// A member that must be there.
pub(crate) fn get<'a>(v: &'a Value, key: &str, ctx: &str) -> Result<&'a Value, LoadError> {
    v.get(key).ok_or_else(|| LoadError::invalid(format!("lacks \"{key}\""), ctx))
}

/// A string member.
pub(crate) fn text<'a>(v: &'a Value, key: &str, ctx: &str) -> Result<&'a str, LoadError> {
    as_text(get(v, key, ctx)?, key, ctx)
}

/// A value that must be a string.
pub(crate) fn as_text<'a>(v: &'a Value, what: &str, ctx: &str) -> Result<&'a str, LoadError> {
    v.as_str().ok_or_else(|| LoadError::invalid(format!("\"{what}\" is not a string"), ctx))
}

/// A non-negative number.
pub(crate) fn number(v: &Value, key: &str, ctx: &str) -> Result<u64, LoadError> {
    get(v, key, ctx)?.as_u64().ok_or_else(|| LoadError::invalid(format!("\"{key}\" is not a non-negative number"), ctx))
}

/// An array that must be there.
pub(crate) fn list<'a>(v: &'a Value, key: &str, ctx: &str) -> Result<&'a [Value], LoadError> {
    as_list(get(v, key, ctx)?, key, ctx)
}

/// A value that must be an array.
pub(crate) fn as_list<'a>(v: &'a Value, what: &str, ctx: &str) -> Result<&'a [Value], LoadError> {
    v.as_array().map(Vec::as_slice).ok_or_else(|| LoadError::invalid(format!("\"{what}\" is not a list"), ctx))
}

/// An array that may be absent or null.
pub(crate) fn list_or_empty<'a>(v: &'a Value, key: &str, ctx: &str) -> Result<&'a [Value], LoadError> {
    match v.get(key) {
        None | Some(Value::Null) => Ok(NONE),
        Some(l) => as_list(l, key, ctx),
    }
}

/// A boolean member that may be absent.
pub(crate) fn flag(v: &Value, key: &str) -> bool {
    v.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// A pair of strings such as `["header", "field"]`.
pub(crate) fn pair<'a>(v: &'a Value, ctx: &str) -> Result<(&'a str, &'a str), LoadError> {
    match v.as_array().map(Vec::as_slice) {
        Some([a, b]) => Ok((as_text(a, "header", ctx)?, as_text(b, "field", ctx)?)),
        _ => Err(LoadError::invalid("expected [header, field]", ctx)),
    }
}

/// A number written as "0x…", "-0x…" or with a JSON number: sign and magnitude. Beyond 128 bits it is refused.
pub(crate) fn hex(v: &Value, ctx: &str) -> Result<(bool, u128), LoadError> {
    if let Some(n) = v.as_i64() {
        return Ok((n < 0, u128::from(n.unsigned_abs())));
    }
    let s = as_text(v, "hexstr", ctx)?;
    let (neg, rest) = s.strip_prefix('-').map_or((false, s), |r| (true, r));
    let digits = rest.strip_prefix("0x").unwrap_or(rest).trim_start_matches('0');
    if digits.len() > 32 {
        return Err(LoadError::unsupported(format!("a constant wider than 128 bits ({s})"), ctx));
    }
    if digits.is_empty() {
        return Ok((false, 0));
    }
    let mag = u128::from_str_radix(digits, 16)
        .map_err(|_| LoadError::invalid(format!("{s:?} is not a hexadecimal number"), ctx))?;
    Ok((neg && mag != 0, mag))
}

/// A number written as [`hex`] reads it, of any size up to the widest field.
pub(crate) fn big(v: &Value, ctx: &str) -> Result<BigInt, LoadError> {
    if let Some(n) = v.as_i64() {
        return Ok(n.into());
    }
    let s = as_text(v, "hexstr", ctx)?;
    let (neg, rest) = s.strip_prefix('-').map_or((false, s), |r| (true, r));
    let digits = rest.strip_prefix("0x").unwrap_or(rest);
    if digits.len() > MAX_WIDTH as usize / 4 + 1 {
        return Err(LoadError::unsupported(format!("a constant of more than {MAX_WIDTH} bits"), ctx));
    }
    let bad = || LoadError::invalid(format!("{s:?} is not a hexadecimal number"), ctx);
    let mag = BigInt::parse_bytes(digits.as_bytes(), 16).filter(|m| m.sign() != Sign::Minus).ok_or_else(bad)?;
    Ok(if neg { -mag } else { mag })
}

/// A non-negative number, cut to `width` bits, as values of at most 128 bits each (see [`pieces`]).
pub(crate) fn cut(v: &Value, width: u32, ctx: &str) -> Result<Vec<u128>, LoadError> {
    let number = big(v, ctx)?.into_parts();
    if number.0 == Sign::Minus {
        return Err(LoadError::invalid("a negative number where none may be", ctx));
    }
    Ok(cut_number(&number.1, width))
}

/// The [`pieces`] of a number, whose bits beyond `width` are left out.
pub(crate) fn cut_number(number: &BigUint, width: u32) -> Vec<u128> {
    let mut below = width;
    let piece = |bits: u32| {
        below -= bits;
        let mut words = (number >> below).iter_u64_digits().map(u128::from).collect::<Vec<_>>().into_iter();
        let low = words.next().unwrap_or(0) | words.next().unwrap_or(0) << 64;
        low & super::compile::ones(bits)
    };
    pieces(width).map(piece).collect()
}

/// A non-negative number as [`hex`] reads it.
pub(crate) fn unsigned(v: &Value, ctx: &str) -> Result<u128, LoadError> {
    match hex(v, ctx)? {
        (false, m) => Ok(m),
        (true, _) => Err(LoadError::invalid("a negative number where none may be", ctx)),
    }
}
