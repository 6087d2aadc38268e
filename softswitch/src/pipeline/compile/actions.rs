//! Actions and their primitives.

use super::super::error::LoadError;
use super::super::info::{ActionInfo, ParamInfo};
use super::super::json;
use super::super::layout::{DROP_PORT, Field, Slot};
use super::super::ops::{HashOp, Op};
use super::Compiler;
use super::expr::{Expr, Scope, parse_number};
use serde_json::Value;

/// An action as the JSON defines it, with the slots of its parameters.
#[derive(Debug, Clone)]
pub(super) struct ActionSrc<'a> {
    pub primitives: &'a [Value],
    /// Slot and width of each parameter; they are consecutive from the first on.
    pub params: Vec<(Slot, u32)>,
    pub base: Slot,
    pub words: u16,
    /// It can end the pipeline.
    pub exits: bool,
    pub ctx: String,
}

impl<'a> Compiler<'a> {
    pub(super) fn read_actions(&mut self) -> Result<(), LoadError> {
        for (ix, a) in json::list_or_empty(self.root, "actions", "program")?.iter().enumerate() {
            let name = json::text(a, "name", "action")?;
            let ctx = format!("action {name}");
            let id = u32::try_from(json::number(a, "id", &ctx)?)
                .map_err(|_| LoadError::invalid("an id beyond 32 bits", &ctx))?;
            let mut info = ActionInfo { name: name.to_owned(), json_id: id, params: Vec::new() };
            let mut params = Vec::new();
            let base = self.b.layout.slots as Slot;
            for p in json::list_or_empty(a, "runtime_data", &ctx)? {
                let width = json::number(p, "bitwidth", &ctx)?;
                if width == 0 || width > 128 {
                    return Err(LoadError::unsupported(format!("a parameter of {width} bits (1 to 128)"), &ctx));
                }
                let width = width as u32;
                params.push((self.b.layout.alloc(if width > 64 { 2 } else { 1 }, &ctx)?, width));
                info.params.push(ParamInfo { name: json::text(p, "name", &ctx)?.to_owned(), width });
            }
            let words = (self.b.layout.slots - usize::from(base)) as u16;
            let primitives = json::list_or_empty(a, "primitives", &ctx)?;
            let exits = primitives.iter().any(|p| p.get("op").and_then(Value::as_str) == Some("exit"));
            self.actions.push(ActionSrc { primitives, params, base, words, exits, ctx });
            if self.action_ids.insert(id, ix).is_some() {
                return Err(LoadError::invalid(format!("two actions have the id {id}"), "program"));
            }
            self.out.actions.push(info);
        }
        Ok(())
    }

    /// The index of the action with this id.
    pub(super) fn action_by_id(&self, id: u64, ctx: &str) -> Result<usize, LoadError> {
        let found = u32::try_from(id).ok().and_then(|id| self.action_ids.get(&id));
        found.copied().ok_or_else(|| LoadError::unknown("action", id, ctx))
    }

    /// Code of an action's body; the parameters are in their slots.
    pub(super) fn gen_body(&mut self, action: usize) -> Result<(), LoadError> {
        let src = self.actions[action].clone();
        self.b.ctx.clone_from(&src.ctx);
        let labels: Vec<_> = (0..=src.primitives.len()).map(|_| self.b.label()).collect();
        for (at, p) in src.primitives.iter().enumerate() {
            self.b.place(labels[at]);
            let op = json::text(p, "op", &src.ctx)?;
            if matches!(op, "_jump" | "_jump_if_zero") {
                let params = json::list(p, "parameters", &src.ctx)?;
                let Some((target, cond)) = params.split_last() else {
                    return Err(LoadError::invalid(format!("{op} without a target"), &src.ctx));
                };
                let scope = Scope { layout: &self.b.layout, params: &src.params, ctx: &src.ctx };
                // Only forward jumps, so that every action ends.
                let to = super::expr::parse(target, &scope)?.constant().and_then(|n| usize::try_from(n).ok());
                let to = to.filter(|n| *n > at && *n < labels.len());
                let to = to.ok_or_else(|| LoadError::invalid(format!("{op} that does not go forward"), &src.ctx))?;
                match cond.first() {
                    None => self.b.emit(Op::Jmp { t: labels[to].0 }),
                    Some(c) => {
                        let c = super::expr::parse_bool(c, &scope)?;
                        self.b.gen_branch(&c, labels[to], false)?;
                    }
                }
            } else {
                self.mark_step(p);
                self.gen_primitive(p, &src.params, &src.ctx)?;
            }
            self.b.release();
        }
        self.b.place(labels[src.primitives.len()]);
        if src.exits {
            self.b.emit(Op::BrNz { a: self.exit_slot, t: self.end.0 });
        }
        Ok(())
    }

    /// Code of one primitive other than the jumps.
    pub(super) fn gen_primitive(&mut self, p: &Value, params: &[(Slot, u32)], ctx: &str) -> Result<(), LoadError> {
        let op = json::text(p, "op", ctx)?;
        let args = json::list(p, "parameters", ctx)?;
        let number = |c: &Self, v: &Value| parse_number(v, &Scope { layout: &c.b.layout, params, ctx });
        match (op, args) {
            ("assign" | "modify_field", [dst, src]) => {
                let (dst, e) = (self.target(dst, ctx)?, number(self, src)?);
                self.b.gen_assign(dst, &e)?;
            }
            ("add_header", [h]) => {
                let h = self.header_arg(h, ctx)?;
                self.b.emit(Op::AddHeader { h });
            }
            ("remove_header", [h]) => {
                let h = self.header_arg(h, ctx)?;
                self.b.emit(Op::RemoveHeader { h });
            }
            ("assign_header" | "copy_header", [d, s]) => {
                let (d, s) = (self.header_arg(d, ctx)?, self.header_arg(s, ctx)?);
                if self.b.layout.headers[usize::from(d)].type_id != self.b.layout.headers[usize::from(s)].type_id {
                    return Err(LoadError::invalid("an assignment between headers of different types", ctx));
                }
                self.b.emit(Op::CopyHeader { d, s });
            }
            ("mark_to_drop" | "drop", _) => {
                let spec = self.b.layout.field("standard_metadata", "egress_spec", ctx)?;
                self.b.gen_assign(spec, &Expr::Const(false, u128::from(DROP_PORT)))?;
                if let Some(f) = self.b.layout.find("intrinsic_metadata", "mcast_grp") {
                    self.b.gen_assign(f, &Expr::Const(false, 0))?;
                }
            }
            ("modify_field_with_hash_based_offset", [dst, base, calc, size]) => {
                let dst = self.target(dst, ctx)?;
                let calc = self.calculation(json::text(calc, "value", ctx)?, ctx)?;
                let (base, size) = (number(self, base)?, number(self, size)?);
                let (base, size) = (self.b.gen_u64(&base)?, self.b.gen_u64(&size)?);
                let ix = self.index(self.out.hashes.len(), "hash calls")?;
                self.out.hashes.push(HashOp { calc, base, size, dst });
                self.b.emit(Op::Hash { ix });
            }
            ("count", [counter, index]) => {
                let counter = named(&self.counter_names, counter, "counter", ctx)?;
                let index = number(self, index)?;
                let index = self.b.gen_u64(&index)?;
                self.b.emit(Op::Count { counter, index });
            }
            ("execute_meter", [meter, index, dst]) => {
                let meter = named(&self.meter_names, meter, "meter", ctx)?;
                let dst = self.narrow_target(dst, ctx)?;
                let index = number(self, index)?;
                let index = self.b.gen_u64(&index)?;
                self.b.emit(Op::Meter { meter, index, d: dst.slot, w: dst.width as u8 });
            }
            ("register_read", [dst, reg, index]) => {
                let dst = self.target(dst, ctx)?;
                let reg = named(&self.register_names, reg, "register", ctx)?;
                let index = number(self, index)?;
                let index = self.b.gen_u64(&index)?;
                if dst.wide() {
                    return Err(LoadError::unsupported("a register read into a field wider than 64 bits", ctx));
                }
                // Beyond the array the destination keeps its value, so the cell is read in place and then cut.
                self.b.emit(Op::RegRead { reg, index, d: dst.slot });
                self.b.emit(if dst.signed {
                    Op::Sext { d: dst.slot, a: dst.slot, w: dst.width as u8 }
                } else {
                    Op::Mov { d: dst.slot, a: dst.slot, w: dst.width as u8 }
                });
            }
            ("register_write", [reg, index, src]) => {
                let reg = named(&self.register_names, reg, "register", ctx)?;
                let (index, src) = (number(self, index)?, number(self, src)?);
                let (index, a) = (self.b.gen_u64(&index)?, self.b.gen_u64(&src)?);
                self.b.emit(Op::RegWrite { reg, index, a });
            }
            ("truncate", [len]) => {
                let len = number(self, len)?;
                let a = self.b.gen_u64(&len)?;
                self.b.emit(Op::Truncate { a });
            }
            ("assert" | "assume", [cond]) => {
                let cond = number(self, cond)?;
                let v = self.b.gen_value(&cond, super::genexpr::Need::Exact)?;
                self.b.emit(Op::Assert { a: v.slot });
            }
            ("exit", _) => {
                let a = self.b.constant(1)?;
                self.b.emit(Op::Mov { d: self.exit_slot, a, w: 1 });
            }
            // Messages are for a person who debugs one packet; they change nothing.
            ("log_msg" | "no_op", _) => {}
            (other, args) => {
                return Err(LoadError::unsupported(
                    format!("the primitive {other} with {} parameters", args.len()),
                    ctx,
                ));
            }
        }
        Ok(())
    }

    fn target(&self, v: &Value, ctx: &str) -> Result<Field, LoadError> {
        match json::text(v, "type", ctx)? {
            "field" => {
                let (h, f) = json::pair(json::get(v, "value", ctx)?, ctx)?;
                self.b.layout.field(h, f, ctx)
            }
            other => Err(LoadError::unsupported(format!("an assignment to a {other}"), ctx)),
        }
    }

    fn narrow_target(&self, v: &Value, ctx: &str) -> Result<Field, LoadError> {
        let f = self.target(v, ctx)?;
        if f.wide() || f.signed {
            return Err(LoadError::unsupported("a result in a signed field or one wider than 64 bits", ctx));
        }
        Ok(f)
    }

    fn header_arg(&self, v: &Value, ctx: &str) -> Result<u16, LoadError> {
        let kind = json::text(v, "type", ctx)?;
        if kind != "header" {
            return Err(LoadError::unsupported(format!("a header operation on a {kind}"), ctx));
        }
        Ok(self.b.layout.header(json::text(v, "value", ctx)?, ctx)? as u16)
    }
}

fn named(
    names: &std::collections::HashMap<String, usize>,
    v: &Value,
    kind: &'static str,
    ctx: &str,
) -> Result<u16, LoadError> {
    let name = json::text(v, "value", ctx)?;
    let ix = names.get(name).ok_or_else(|| LoadError::unknown(kind, name, ctx))?;
    u16::try_from(*ix).map_err(|_| LoadError::unsupported(format!("more than 65535 {kind}s"), ctx))
}
