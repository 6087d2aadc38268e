//! The parser: states become blocks of code that end in a `select`.

use super::super::error::LoadError;
use super::super::info::ValueSetInfo;
use super::super::json;
use super::super::layout::MAX_WIDTH;
use super::super::ops::{Lookahead, Op};
use super::super::program::ParserErrors;
use super::super::tree::{Expr, ExtractTo, SlowExtract};
use super::Compiler;
use super::builder::Label;
use super::expr::{lookahead, parse_bool, parse_number};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The errors of core.p4, in the order in which BMv2 numbers those that a program does not.
const CORE_ERRORS: [&str; 7] = [
    "NoError",
    "PacketTooShort",
    "NoMatch",
    "StackOutOfBounds",
    "HeaderTooShort",
    "ParserTimeout",
    "ParserInvalidArgument",
];
/// Most members that a value set is given room for, whatever the program says: they are tried one after the other.
const MAX_MEMBERS: u64 = 4096;

impl Compiler<'_> {
    /// Code of the parser named "parser" (the one that simple_switch runs).
    pub(super) fn gen_parser(&mut self) -> Result<(), LoadError> {
        let parsers = json::list(self.root, "parsers", "program")?;
        let parser = parsers
            .iter()
            .find(|p| p.get("name").and_then(Value::as_str) == Some("parser"))
            .ok_or_else(|| LoadError::unknown("parser", "parser", "program"))?;
        let states = json::list(parser, "parse_states", "parser")?;
        let done = self.end;
        let mut labels = HashMap::new();
        for s in states {
            labels.insert(json::text(s, "name", "parser state")?, self.b.label());
        }
        let find = |name: &Value, ctx: &str| -> Result<Label, LoadError> {
            match name.as_str() {
                None if name.is_null() => Ok(done),
                None => Err(LoadError::invalid("a state's name that is no string", ctx)),
                Some(n) => labels.get(n).copied().ok_or_else(|| LoadError::unknown("parser state", n, ctx)),
            }
        };
        let loops = can_loop(states)?;
        let init = find(json::get(parser, "init_state", "parser")?, "parser")?;
        self.b.emit(Op::Jmp { t: init.0 });
        for s in states {
            let name = json::text(s, "name", "parser state")?;
            self.b.ctx = format!("parser state {name}");
            let ctx = self.b.ctx.clone();
            self.b.place(find(json::get(s, "name", &ctx)?, &ctx)?);
            if loops {
                self.b.emit(Op::State { t: done.0 });
            }
            self.mark_part(|| format!("parser state {name}"));
            for op in json::list(s, "parser_ops", &ctx)? {
                self.mark_step(op);
                self.gen_parser_op(op, &ctx)?;
                self.b.release();
            }
            self.gen_transition(s, &find, &ctx)?;
        }
        Ok(())
    }

    fn gen_parser_op(&mut self, op: &Value, ctx: &str) -> Result<(), LoadError> {
        let name = json::text(op, "op", ctx)?;
        let params = json::list(op, "parameters", ctx)?;
        match (name, params) {
            ("extract", [p]) => self.gen_extract(p, None, ctx)?,
            ("extract_VL", [p, length]) => self.gen_extract(p, Some(length), ctx)?,
            ("set", [dst, src]) => {
                let (h, f) = json::pair(json::get(dst, "value", ctx)?, ctx)?;
                if self.b.layout.varbit(h, f).is_some() {
                    return self.gen_primitive(&json!({"op": "assign_VL", "parameters": [dst, src]}), &[], ctx);
                }
                let dst = self.b.layout.field(h, f, ctx)?;
                if json::text(src, "type", ctx)? == "lookahead" {
                    let (bit_offset, width) = lookahead(json::get(src, "value", ctx)?, ctx)?;
                    let ix = self.index(self.out.lookaheads.len(), "lookaheads")?;
                    self.out.lookaheads.push(Lookahead { bit_offset, width, dst });
                    self.b.emit(Op::Lookahead { ix, t: self.end.0 });
                } else {
                    let e = parse_number(src, &self.scope(&[], ctx))?;
                    self.b.gen_assign(dst, &e)?;
                }
            }
            ("verify", [cond, error]) => {
                let ok = self.b.label();
                let cond = parse_bool(cond, &self.scope(&[], ctx))?;
                let error = match error.as_u64() {
                    // Older versions write the number itself.
                    Some(n) => Expr::Const(false, u128::from(n)),
                    None => parse_number(error, &self.scope(&[], ctx))?,
                };
                self.b.gen_branch(&cond, ok, true)?;
                let a = self.b.gen_u64(&error)?;
                self.b.emit(Op::ParseFail { a, t: self.end.0 });
                self.b.place(ok);
            }
            ("shift", [p]) => {
                let bytes = p.get("value").unwrap_or(p).as_u64().filter(|n| *n <= 65535);
                let bytes = bytes.ok_or_else(|| LoadError::invalid("a shift that is not 0 to 65535 bytes", ctx))?;
                let a = self.b.constant(bytes * 8)?;
                self.b.emit(Op::Advance { a, t: self.end.0 });
            }
            ("advance", [p]) => {
                let e = parse_number(p, &self.scope(&[], ctx))?;
                let a = self.b.gen_u64(&e)?;
                self.b.emit(Op::Advance { a, t: self.end.0 });
            }
            ("primitive", [call]) => self.gen_primitive(call, &[], ctx)?,
            (other, _) => {
                return Err(LoadError::unsupported(
                    format!("the parser operation {other} with {} parameters", params.len()),
                    ctx,
                ));
            }
        }
        Ok(())
    }

    fn gen_extract(&mut self, p: &Value, length: Option<&Value>, ctx: &str) -> Result<(), LoadError> {
        let value = json::get(p, "value", ctx)?;
        let (to, h) = match json::text(p, "type", ctx)? {
            "regular" => {
                let h = self.b.layout.header(json::as_text(value, "value", ctx)?, ctx)?;
                (ExtractTo::One(h), h)
            }
            "stack" => {
                let stack = self.b.layout.header_stack(json::as_text(value, "value", ctx)?, ctx)?;
                (ExtractTo::Next { stack, member: 0 }, self.b.layout.stacks[stack].elements[0][0])
            }
            "union_stack" => {
                let (name, member) = json::pair(value, ctx)?;
                let stack = self.b.layout.union_stack(name, ctx)?;
                let member = self.b.layout.union_member(name, member, ctx)?;
                let first = self.b.layout.stacks[stack].elements[0].get(member).copied();
                let first = first.ok_or_else(|| LoadError::unknown("member of the union", member, ctx))?;
                (ExtractTo::Next { stack, member }, first)
            }
            other => return Err(LoadError::unsupported(format!("extract of a {other}"), ctx)),
        };
        let header = &self.b.layout.headers[h];
        if header.metadata {
            return Err(LoadError::invalid("extract of metadata", ctx));
        }
        if header.varbit.is_some() != length.is_some() {
            return Err(LoadError::invalid("a length of a header without a varbit, or the other way round", ctx));
        }
        if let (ExtractTo::One(h), None) = (to, length) {
            self.b.emit(Op::Extract { h: h as u16, t: self.end.0 });
            return self.gen_alone(h);
        }
        let length = length.map(|l| parse_number(l, &self.scope(&[], ctx))).transpose()?;
        let ix = u32::from(self.index(self.out.slow_extracts.len(), "extractions")?);
        self.out.slow_extracts.push(SlowExtract { to, length });
        self.b.emit(Op::SlowExtract { ix, t: self.end.0 });
        Ok(())
    }

    /// The parser errors have the numbers that the program gives them; what it does not name comes behind, as in BMv2.
    pub(super) fn read_errors(&mut self) -> Result<(), LoadError> {
        let mut numbers = HashMap::new();
        for e in json::list_or_empty(self.root, "errors", "program")? {
            match json::as_list(e, "error", "errors")? {
                [name, n] => {
                    let n = n.as_u64().ok_or_else(|| LoadError::invalid("an error without a number", "errors"))?;
                    numbers.insert(json::as_text(name, "error", "errors")?, n);
                }
                _ => return Err(LoadError::invalid("expected [name, number]", "errors")),
            }
        }
        let mut next = numbers.values().max().map_or(0, |n| n.saturating_add(1));
        for name in CORE_ERRORS {
            numbers.entry(name).or_insert_with(|| {
                next = next.saturating_add(1);
                next - 1
            });
        }
        let number = |name: &str| numbers.get(name).copied().unwrap_or(0);
        self.out.errors = ParserErrors {
            packet_too_short: number("PacketTooShort"),
            stack_out_of_bounds: number("StackOutOfBounds"),
            header_too_short: number("HeaderTooShort"),
            timeout: number("ParserTimeout"),
            invalid_argument: number("ParserInvalidArgument"),
        };
        Ok(())
    }

    /// The program's value sets; what their members look like is known from where they are used.
    pub(super) fn read_value_sets(&mut self) -> Result<(), LoadError> {
        for v in json::list_or_empty(self.root, "parse_vsets", "program")? {
            let name = json::text(v, "name", "value set")?;
            let ctx = format!("value set {name}");
            let width = json::number(v, "compressed_bitwidth", &ctx)?;
            if width == 0 || width > u64::from(MAX_WIDTH) {
                return Err(LoadError::unsupported(format!("members of {width} bits"), &ctx));
            }
            let max_size = v.get("max_size").and_then(Value::as_u64).unwrap_or(0).clamp(1, MAX_MEMBERS) as usize;
            self.vset_names.insert(name.to_owned(), self.out.value_sets.len());
            let widths = vec![width as u32];
            self.out.value_sets.push(ValueSetInfo { name: name.to_owned(), widths, max_size });
        }
        Ok(())
    }

    pub(super) fn index(&self, n: usize, what: &str) -> Result<u16, LoadError> {
        u16::try_from(n).map_err(|_| LoadError::unsupported(format!("more than 65535 {what}"), &self.b.ctx))
    }
}

/// Whether a packet can pass a state twice; then its states are counted.
fn can_loop(states: &[Value]) -> Result<bool, LoadError> {
    let mut edges = HashMap::new();
    for s in states {
        let to =
            json::list(s, "transitions", "parser")?.iter().filter_map(|t| t.get("next_state").and_then(Value::as_str));
        edges.insert(json::text(s, "name", "parser state")?, to.collect());
    }
    Ok(!super::control::acyclic(&edges))
}
