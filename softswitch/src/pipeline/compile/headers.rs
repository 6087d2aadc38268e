//! Primitives that move headers, stacks, unions and varbits, and those whose operands are chosen when the packet runs.

use super::super::error::LoadError;
use super::super::json;
use super::super::layout::{Field, Slot};
use super::super::ops::Op;
use super::super::tree::{Expr, HeaderAt, Place, Slow};
use super::Compiler;
use super::refs;
use serde_json::Value;

impl Compiler<'_> {
    /// Code of a primitive on headers, stacks or unions. False if it is none.
    pub(super) fn gen_header_primitive(
        &mut self,
        op: &str,
        args: &[Value],
        params: &[(Slot, u32)],
        ctx: &str,
    ) -> Result<bool, LoadError> {
        match (op, args) {
            ("add_header" | "add_header_fast", [h]) => match refs::header(h, &self.scope(params, ctx), 0)? {
                HeaderAt::One(h) => self.b.emit(Op::AddHeader { h: h as u16 }),
                elem => self.b.gen_slow(Slow::Add(elem))?,
            },
            ("remove_header", [h]) => match refs::header(h, &self.scope(params, ctx), 0)? {
                HeaderAt::One(h) => self.b.emit(Op::RemoveHeader { h: h as u16 }),
                elem => self.b.gen_slow(Slow::Remove(elem))?,
            },
            ("assign_header" | "copy_header", [d, s]) => {
                let scope = self.scope(params, ctx);
                let (d, s) = (refs::header(d, &scope, 0)?, refs::header(s, &scope, 0)?);
                self.gen_copy_header(d, s, ctx)?;
            }
            ("assign_union", [d, s]) => {
                let scope = self.scope(params, ctx);
                let (d, s) = (refs::union_members(d, &scope, 0)?, refs::union_members(s, &scope, 0)?);
                if d.len() != s.len() {
                    return Err(LoadError::invalid("an assignment between unions of different types", ctx));
                }
                for (d, s) in d.into_iter().zip(s) {
                    self.gen_copy_header(d, s, ctx)?;
                }
            }
            ("assign_header_stack" | "assign_union_stack", [d, s]) => {
                let scope = self.scope(params, ctx);
                let (d, s) = (refs::stack(d, &scope)?, refs::stack(s, &scope)?);
                let [d, s] = [d, s].map(|i| self.b.layout.stacks[i].clone());
                let members = |e: &[Box<[usize]>]| e.iter().map(|m| m.len()).collect::<Vec<_>>();
                if members(&d.elements) != members(&s.elements) {
                    return Err(LoadError::invalid("an assignment between stacks of different types", ctx));
                }
                for (d, s) in d.elements.iter().zip(&s.elements).flat_map(|(d, s)| d.iter().zip(s.iter())) {
                    self.gen_copy_header(HeaderAt::One(*d), HeaderAt::One(*s), ctx)?;
                }
                self.b.emit(Op::Mov { d: d.next.slot, a: s.next.slot, w: 32 });
            }
            ("push" | "pop", [stack, by]) => {
                let scope = self.scope(params, ctx);
                let stack = refs::stack(stack, &scope)?;
                let by = super::expr::parse_number(by, &scope)?;
                self.b.gen_slow(Slow::Shift { stack, by, push: op == "push" })?;
            }
            ("assign_VL", [d, s]) => {
                let scope = self.scope(params, ctx);
                let at = |v| match super::expr::parse(v, &scope)? {
                    Expr::Varbit(h, _) => Ok(h),
                    _ => Err(LoadError::invalid("assign_VL of a field that is no varbit", ctx)),
                };
                let (to, from) = (at(d)?, at(s)?);
                self.b.gen_slow(Slow::CopyVarbit { to, from })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn gen_copy_header(&mut self, d: HeaderAt, s: HeaderAt, ctx: &str) -> Result<(), LoadError> {
        let type_of = |h: &HeaderAt| match h {
            HeaderAt::One(h) => self.b.layout.headers[*h].type_id,
            HeaderAt::Elem { stack, member, .. } => {
                self.b.layout.headers[self.b.layout.stacks[*stack].elements[0][*member]].type_id
            }
        };
        if type_of(&d) != type_of(&s) {
            return Err(LoadError::invalid("an assignment between headers of different types", ctx));
        }
        match (d, s) {
            (HeaderAt::One(d), HeaderAt::One(s)) => self.b.emit(Op::CopyHeader { d: d as u16, s: s as u16 }),
            (to, from) => self.b.gen_slow(Slow::Copy { to, from })?,
        }
        Ok(())
    }

    /// Where a primitive puts its result.
    pub(super) fn place(&self, v: &Value, params: &[(Slot, u32)], ctx: &str) -> Result<Place, LoadError> {
        let scope = self.scope(params, ctx);
        match super::expr::parse(v, &scope)? {
            Expr::Field(f) => Ok(Place::Field(f)),
            Expr::At { header, field, .. } => Ok(Place::At { header, field }),
            Expr::Register { reg, index, .. } => Ok(Place::Register { reg, index: *index }),
            _ => Err(LoadError::unsupported(
                format!("an assignment to a {}", json::text(v, "type", ctx).unwrap_or("?")),
                ctx,
            )),
        }
    }

    /// `place = value`
    pub(super) fn gen_put(&mut self, to: Place, value: Expr) -> Result<(), LoadError> {
        match to {
            Place::Field(f) => self.b.gen_assign(f, &value),
            to => self.b.gen_slow(Slow::Assign { to, value }),
        }
    }

    /// A field for a result, and what puts it where it belongs if that is no plain field.
    pub(super) fn result(&mut self, to: Place) -> Result<(Field, Option<Place>), LoadError> {
        match to {
            Place::Field(f) => Ok((f, None)),
            to => {
                let slot = self.b.temp()?;
                Ok((Field { slot, width: 64, signed: false, valid: None, bit_offset: 0 }, Some(to)))
            }
        }
    }

    /// Code that keeps what a header's extraction implies: the other members of its union are no longer valid.
    pub(super) fn gen_alone(&mut self, h: usize) -> Result<(), LoadError> {
        let others = self.b.layout.headers[h].others.clone();
        for d in others {
            let a = self.b.constant(0)?;
            self.b.emit(Op::Mov { d, a, w: 1 });
        }
        Ok(())
    }
}
