//! Primitives that few programs use: random numbers, messages, and the arithmetic that older compilers write.

use super::super::error::LoadError;
use super::super::json;
use super::super::layout::Slot;
use super::super::tree::{Bin, Expr, Place, Slow};
use super::Compiler;
use super::expr::parse_number;
use serde_json::Value;

impl Compiler<'_> {
    /// Code of a primitive that few programs use. False if it is none.
    pub(super) fn gen_more(
        &mut self,
        op: &str,
        args: &[Value],
        params: &[(Slot, u32)],
        ctx: &str,
    ) -> Result<bool, LoadError> {
        let number = |c: &Self, v: &Value| parse_number(v, &c.scope(params, ctx));
        match (op, args) {
            ("modify_field_rng_uniform", [dst, low, high]) => {
                let to = self.place(dst, params, ctx)?;
                let (low, high) = (number(self, low)?, number(self, high)?);
                self.b.gen_slow(Slow::Random { to, low, high })?;
            }
            ("log_msg", [format, rest @ ..]) => {
                let texts = pieces(json::text(format, "value", ctx)?);
                let mut args = Vec::new();
                for list in rest {
                    // Without arguments p4c writes an object, where a list is meant.
                    let none = list.get("value").is_some_and(|v| v.as_object().is_some_and(serde_json::Map::is_empty));
                    for v in if none { &[] } else { json::list(list, "value", ctx)? } {
                        args.push(number(self, v)?);
                    }
                }
                self.b.gen_slow(Slow::Log { texts, args })?;
            }
            ("add_to_field" | "subtract_from_field", [dst, by]) => {
                let (to, old, by) = (self.place(dst, params, ctx)?, number(self, dst)?, number(self, by)?);
                let op = if op == "add_to_field" { Bin::Add } else { Bin::Sub };
                self.gen_put(to, Expr::Bin(op, Box::new(old), Box::new(by)))?;
            }
            (_, [dst, a, b]) => {
                let Some(op) = arithmetic(op) else { return Ok(false) };
                let to: Place = self.place(dst, params, ctx)?;
                let (a, b) = (number(self, a)?, number(self, b)?);
                self.gen_put(to, Expr::Bin(op, Box::new(a), Box::new(b)))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn arithmetic(op: &str) -> Option<Bin> {
    Some(match op {
        "add" => Bin::Add,
        "subtract" => Bin::Sub,
        "bit_xor" => Bin::Xor,
        "bit_or" => Bin::Or,
        "bit_and" => Bin::And,
        "shift_left" => Bin::Shl,
        "shift_right" => Bin::Shr,
        _ => return None,
    })
}

/// The texts around the `{}` of a format; a brace behind a backslash is one.
fn pieces(format: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut chars = format.chars();
    let mut inside = false;
    while let Some(c) = chars.next() {
        let (c, plain) = match c {
            '\\' if chars.as_str().starts_with(['{', '}']) => (chars.next().unwrap_or(c), true),
            c => (c, false),
        };
        match c {
            '{' if !plain && !inside => inside = true,
            '}' if !plain && inside => {
                inside = false;
                out.push(String::new());
            }
            _ if inside => {}
            c => out.last_mut().into_iter().for_each(|s| s.push(c)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn a_format_is_cut_at_its_braces() {
        assert_eq!(pieces("a {} b {x}"), ["a ", " b ", ""]);
        assert_eq!(pieces(r"\{{}\}"), ["{", "}"]);
        assert_eq!(pieces("none"), ["none"]);
    }
}
