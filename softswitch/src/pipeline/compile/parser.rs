//! The parser: states become blocks of code that end in a `select`.

use super::super::error::LoadError;
use super::super::json;
use super::super::ops::{Lookahead, Op, Select, SelectFrom, SelectPart};
use super::Compiler;
use super::builder::Label;
use super::expr::{Scope, parse_bool, parse_number};
use serde_json::Value;
use std::collections::HashMap;

impl Compiler<'_> {
    /// Code of the parser named "parser" (the one that simple_switch runs).
    pub(super) fn gen_parser(&mut self) -> Result<(), LoadError> {
        let parsers = json::list(self.root, "parsers", "program")?;
        let parser = parsers
            .iter()
            .find(|p| p.get("name").and_then(Value::as_str) == Some("parser"))
            .ok_or_else(|| LoadError::unknown("parser", "parser", "program"))?;
        if !json::list_or_empty(self.root, "parse_vsets", "program")?.is_empty() {
            return Err(LoadError::unsupported("a parser value set", "program"));
        }
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
            ("extract", [p]) => {
                if json::text(p, "type", ctx)? != "regular" {
                    return Err(LoadError::unsupported(format!("extract of a {}", json::text(p, "type", ctx)?), ctx));
                }
                let h = self.b.layout.header(json::text(p, "value", ctx)?, ctx)?;
                if self.b.layout.headers[h].metadata {
                    return Err(LoadError::invalid("extract of metadata", ctx));
                }
                self.b.emit(Op::Extract { h: h as u16, t: self.end.0 });
            }
            ("set", [dst, src]) => {
                let (h, f) = json::pair(json::get(dst, "value", ctx)?, ctx)?;
                let dst = self.b.layout.field(h, f, ctx)?;
                if json::text(src, "type", ctx)? == "lookahead" {
                    let (bit_offset, width) = lookahead(json::get(src, "value", ctx)?, ctx)?;
                    let ix = self.index(self.out.lookaheads.len(), "lookaheads")?;
                    self.out.lookaheads.push(Lookahead { bit_offset, width, dst });
                    self.b.emit(Op::Lookahead { ix, t: self.end.0 });
                } else {
                    let e = parse_number(src, &self.scope(ctx))?;
                    self.b.gen_assign(dst, &e)?;
                }
            }
            ("verify", [cond, error]) => {
                let ok = self.b.label();
                let cond = parse_bool(cond, &self.scope(ctx))?;
                let error = parse_number(error, &self.scope(ctx))?;
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
                let e = parse_number(p, &self.scope(ctx))?;
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

    fn scope<'s>(&'s self, ctx: &'s str) -> Scope<'s> {
        Scope { layout: &self.b.layout, params: &[], ctx }
    }

    fn gen_transition(
        &mut self,
        s: &Value,
        find: &impl Fn(&Value, &str) -> Result<Label, LoadError>,
        ctx: &str,
    ) -> Result<(), LoadError> {
        let mut parts = Vec::new();
        let mut bits = 0;
        for k in json::list_or_empty(s, "transition_key", ctx)? {
            let value = json::get(k, "value", ctx)?;
            let (from, width) = match json::text(k, "type", ctx)? {
                "field" => {
                    let (h, f) = json::pair(value, ctx)?;
                    let f = self.b.layout.field(h, f, ctx)?;
                    (SelectFrom::Slot { slot: f.slot, width: f.width }, f.width)
                }
                "lookahead" => {
                    let (bit_offset, width) = lookahead(value, ctx)?;
                    (SelectFrom::Lookahead { bit_offset, width }, width)
                }
                other => return Err(LoadError::unsupported(format!("a select on a {other}"), ctx)),
            };
            let padded = width.div_ceil(8) * 8;
            bits += padded;
            parts.push(SelectPart { from, bits: padded });
        }
        if bits > 128 {
            return Err(LoadError::unsupported(format!("a select on {bits} bits (at most 128)"), ctx));
        }
        let mut select = Select { parts, cases: Vec::new(), default: self.end.0, narrow: None };
        for t in json::list(s, "transitions", ctx)? {
            let next = find(json::get(t, "next_state", ctx)?, ctx)?;
            let mask = t.get("mask").filter(|m| !m.is_null());
            match t.get("type").and_then(Value::as_str).unwrap_or("hexstr") {
                "default" => select.default = next.0,
                // Older versions write the default as a value of its own.
                "hexstr" if json::get(t, "value", ctx)?.as_str() == Some("default") => select.default = next.0,
                "hexstr" => {
                    let value = json::unsigned(json::get(t, "value", ctx)?, ctx)?;
                    let mask = mask.map_or(Ok(u128::MAX), |m| json::unsigned(m, ctx))?;
                    select.cases.push((value & mask, mask, next.0));
                }
                other => return Err(LoadError::unsupported(format!("a transition of type {other}"), ctx)),
            }
        }
        if select.parts.is_empty() {
            // A state without a key takes its default, whatever cases it has.
            self.b.emit(Op::Jmp { t: select.default });
            return Ok(());
        }
        let ix = u32::from(self.index(self.out.selects.len(), "selects")?);
        self.out.selects.push(select);
        self.b.emit(Op::Select { ix });
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

fn lookahead(v: &Value, ctx: &str) -> Result<(u32, u32), LoadError> {
    let pair = json::as_list(v, "lookahead", ctx)?;
    match (pair.first().and_then(Value::as_u64), pair.get(1).and_then(Value::as_u64)) {
        (Some(offset), Some(width)) if offset <= 1 << 19 && (1..=128).contains(&width) => {
            Ok((offset as u32, width as u32))
        }
        _ => Err(LoadError::unsupported(format!("the lookahead {v} (offset up to 65536 bytes, width 1 to 128)"), ctx)),
    }
}
