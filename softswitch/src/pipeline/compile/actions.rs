//! Actions and their primitives.

use super::super::error::LoadError;
use super::super::info::{ActionInfo, ParamInfo};
use super::super::json;
use super::super::layout::{Field, MAX_WIDTH, Slot, words};
use super::super::ops::{HashOp, Op};
use super::super::tree::{Expr, Place, Slow, Ty};
use super::Compiler;
use super::expr::{parse_bool, parse_number};
use serde_json::Value;

/// Rounds of all loops in actions together that one packet may run; then the loop is left.
const MAX_ROUNDS: u64 = 1 << 20;

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
                if width == 0 || width > u64::from(MAX_WIDTH) {
                    return Err(LoadError::unsupported(
                        format!("a parameter of {width} bits (1 to {MAX_WIDTH})"),
                        &ctx,
                    ));
                }
                let width = width as u32;
                params.push((self.b.layout.alloc(usize::from(words(width)), &ctx)?, width));
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
                let scope = self.scope(&src.params, &src.ctx);
                let to = super::expr::parse(target, &scope)?.constant().and_then(|n| usize::try_from(n).ok());
                let to = to.filter(|n| *n < labels.len());
                let to = to.ok_or_else(|| LoadError::invalid(format!("{op} to nowhere"), &src.ctx))?;
                let cond = cond.first().map(|c| super::expr::parse_bool(c, &scope)).transpose()?;
                let on = self.b.label();
                if let Some(c) = cond {
                    self.b.gen_branch(&c, on, true)?;
                }
                self.gen_jump(labels[to], to <= at)?;
                self.b.place(on);
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

    /// A jump inside an action. What goes back is counted, so that every packet ends.
    fn gen_jump(&mut self, to: super::builder::Label, back: bool) -> Result<(), LoadError> {
        if !back {
            self.b.emit(Op::Jmp { t: to.0 });
            return Ok(());
        }
        let (d, one, most) = (self.out.loop_slot, self.b.constant(1)?, self.b.constant(MAX_ROUNDS)?);
        self.b.emit(Op::Add { d, a: d, b: one, w: 64 });
        self.b.emit(Op::BrLtU { a: d, b: most, t: to.0 });
        Ok(())
    }

    /// Code of one primitive other than the jumps.
    pub(super) fn gen_primitive(&mut self, p: &Value, params: &[(Slot, u32)], ctx: &str) -> Result<(), LoadError> {
        let op = json::text(p, "op", ctx)?;
        let args = json::list(p, "parameters", ctx)?;
        let number = |c: &Self, v: &Value| parse_number(v, &c.scope(params, ctx));
        if self.gen_header_primitive(op, args, params, ctx)? {
            return Ok(());
        }
        match (op, args) {
            ("assign" | "modify_field", [dst, src]) => {
                let (dst, e) = (self.place(dst, params, ctx)?, number(self, src)?);
                self.gen_put(dst, e)?;
            }
            ("mark_to_drop" | "drop", _) => {
                let spec = self.b.layout.field("standard_metadata", "egress_spec", ctx)?;
                self.b.gen_assign(spec, &Expr::Const(false, u128::from(self.out.target.drop_port)))?;
                if let Some(f) = self.b.layout.find("intrinsic_metadata", "mcast_grp") {
                    self.b.gen_assign(f, &Expr::Const(false, 0))?;
                }
            }
            ("modify_field_with_hash_based_offset", [dst, base, calc, size]) => {
                let (dst, then) = {
                    let to = self.place(dst, params, ctx)?;
                    self.result(to)?
                };
                let calc = self.calculation(json::text(calc, "value", ctx)?, ctx)?;
                let (base, size) = (number(self, base)?, number(self, size)?);
                let (base, size) = (self.b.gen_u64(&base)?, self.b.gen_u64(&size)?);
                let ix = self.index(self.out.hashes.len(), "hash calls")?;
                self.out.hashes.push(HashOp { calc, base, size, dst });
                self.b.emit(Op::Hash { ix });
                if let Some(to) = then {
                    self.gen_put(to, Expr::Field(dst))?;
                }
            }
            ("count", [counter, index]) => {
                let counter = named(&self.counter_names, counter, "counter", ctx)?;
                let index = number(self, index)?;
                let index = self.b.gen_u64(&index)?;
                self.b.emit(Op::Count { counter, index });
            }
            ("execute_meter", [meter, index, dst]) => {
                let meter = named(&self.meter_names, meter, "meter", ctx)?;
                let to = self.place(dst, params, ctx)?;
                let index = number(self, index)?;
                let index = self.b.gen_u64(&index)?;
                match to {
                    Place::Field(f) if !f.wide() && !f.signed => {
                        self.b.emit(Op::Meter { meter, index, d: f.slot, w: f.width as u8 });
                    }
                    to => {
                        // Beyond the array the destination keeps its value, so it starts with that.
                        let d = self.b.temp()?;
                        let kept = self.kept(&to);
                        self.b.gen_slow(Slow::Assign { to: Place::Slots { slot: d, words: 1 }, value: kept })?;
                        self.b.emit(Op::Meter { meter, index, d, w: 64 });
                        self.gen_put(
                            to,
                            Expr::Field(Field { slot: d, width: 64, signed: false, valid: None, bit_offset: 0 }),
                        )?;
                    }
                }
            }
            ("register_read", [dst, reg, index]) => {
                let to = self.place(dst, params, ctx)?;
                let name = json::text(reg, "value", ctx)?;
                let (reg, width) =
                    *self.register_names.get(name).ok_or_else(|| LoadError::unknown("register", name, ctx))?;
                let index = number(self, index)?;
                match to {
                    Place::Field(dst) if width <= 64 && !dst.wide() => {
                        let index = self.b.gen_u64(&index)?;
                        // Beyond the array the destination keeps its value, so the cell is read in place and then cut.
                        self.b.emit(Op::RegRead { reg, index, d: dst.slot });
                        self.b.emit(if dst.signed {
                            Op::Sext { d: dst.slot, a: dst.slot, w: dst.width as u8 }
                        } else {
                            Op::Mov { d: dst.slot, a: dst.slot, w: dst.width as u8 }
                        });
                    }
                    to => self.b.gen_slow(Slow::RegRead { to, reg, index, width })?,
                }
            }
            ("register_write", [reg, index, src]) => {
                let name = json::text(reg, "value", ctx)?;
                let (reg, width) =
                    *self.register_names.get(name).ok_or_else(|| LoadError::unknown("register", name, ctx))?;
                let (index, src) = (number(self, index)?, number(self, src)?);
                if width > 64 {
                    self.b.gen_slow(Slow::Assign { to: Place::Register { reg, index }, value: src })?;
                } else {
                    let (index, a) = (self.b.gen_u64(&index)?, self.b.gen_u64(&src)?);
                    self.b.emit(Op::RegWrite { reg, index, a });
                }
            }
            ("truncate", [len]) => {
                let len = number(self, len)?;
                let a = self.b.gen_u64(&len)?;
                self.b.emit(Op::Truncate { a });
            }
            ("assert" | "assume", [cond]) => {
                let holds = Expr::FromBool(Box::new(parse_bool(cond, &self.scope(params, ctx))?));
                let a = self.b.gen_u64(&holds)?;
                self.b.emit(Op::Assert { a });
            }
            (
                "clone_ingress_pkt_to_egress"
                | "clone_egress_pkt_to_egress"
                | "generate_digest"
                | "resubmit"
                | "recirculate",
                args,
            ) => self.gen_ask(op, args, params, ctx)?,
            ("exit", _) => {
                let a = self.b.constant(1)?;
                self.b.emit(Op::Mov { d: self.exit_slot, a, w: 1 });
            }
            ("no_op", _) => {}
            (other, args) => {
                if self.gen_more(other, args, params, ctx)? {
                    return Ok(());
                }
                return Err(LoadError::unsupported(
                    format!("the primitive {other} with {} parameters", args.len()),
                    ctx,
                ));
            }
        }
        Ok(())
    }

    /// The value that is in a place.
    fn kept(&self, at: &Place) -> Expr {
        match at {
            Place::Field(f) => Expr::Field(*f),
            Place::At { header, field } => Expr::At { header: header.clone(), field: *field, ty: Ty::u(64) },
            Place::Register { reg, index } => Expr::Register { reg: *reg, index: Box::new(index.clone()), width: 64 },
            Place::Slots { .. } => Expr::Const(false, 0),
        }
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
