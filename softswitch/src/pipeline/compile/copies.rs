//! What makes more than one packet of one: clones, multicast, resubmit and recirculate; and digests.
//!
//! ```text
//!  start ─▶ parser ─▶ checksums ─▶ ingress ─▶ [clone] [learn] [resubmit] [multicast] ─▶ ToEgress
//!  reparse ─▶ parser ─▶ Cloned ──────────────────────────────┐               │             │
//!                                                            ▼               ▼             ▼
//!                            [recirculate] ◀─ checksums ◀─ Leave ◀─ [clone] ◀─ egress ◀────┘
//! ```
//! Each `[…]` is a branch over one instruction, taken while its slot is 0. A program has those that it uses, and the
//! optimizer leaves them out wherever it knows that nothing was asked for.

use super::super::error::LoadError;
use super::super::info::{LearnList, Member};
use super::super::json;
use super::super::layout::{Field, Slot};
use super::super::ops::Op;
use super::super::program::Asked;
use super::super::replication::{CLONE, MAX_SESSION};
use super::Compiler;
use super::builder::Label;
use super::expr::parse_number;
use serde_json::Value;

/// `standard_metadata.instance_type` of what is not a packet from outside (v1model's numbers are BMv2's).
pub(crate) mod instance {
    pub(crate) const NORMAL: u64 = 0;
    pub(crate) const INGRESS_CLONE: u64 = 1;
    pub(crate) const EGRESS_CLONE: u64 = 2;
    pub(crate) const RECIRCULATED: u64 = 4;
    pub(crate) const REPLICATION: u64 = 5;
    pub(crate) const RESUBMITTED: u64 = 6;
}

/// The most field lists and learn lists, each: their numbers share a slot with a session's.
const MAX_LISTS: usize = u16::MAX as usize;

/// The slots that the program's primitives need.
pub(super) fn asked(root: &Value, alloc: &mut dyn FnMut() -> Result<Slot, LoadError>) -> Result<Asked, LoadError> {
    let actions = json::list_or_empty(root, "actions", "program")?;
    let primitives = actions.iter().filter_map(|a| a.get("primitives").and_then(Value::as_array)).flatten();
    let ops: Vec<&str> = primitives.filter_map(|p| p.get("op").and_then(Value::as_str)).collect();
    let mut slot = |names: &[&str]| ops.iter().any(|op| names.contains(op)).then(&mut *alloc).transpose();
    const CLONES: [&str; 2] = ["clone_ingress_pkt_to_egress", "clone_egress_pkt_to_egress"];
    Ok(Asked {
        clone: slot(&CLONES)?,
        cloned: slot(&CLONES)?,
        learn: slot(&["generate_digest"])?,
        resubmit: slot(&["resubmit"])?,
        recirculate: slot(&["recirculate"])?,
    })
}

impl Compiler<'_> {
    pub(super) fn read_lists(&mut self) -> Result<(), LoadError> {
        for l in json::list_or_empty(self.root, "field_lists", "program")? {
            let ctx = format!("field list {}", json::number(l, "id", "field list")?);
            let mut fields = Vec::new();
            for e in json::list(l, "elements", &ctx)? {
                match json::text(e, "type", &ctx)? {
                    "field" => fields.push(self.element(e, &ctx)?),
                    // Constants are for calculations; they preserve nothing.
                    "hexstr" => {}
                    other => return Err(LoadError::unsupported(format!("a {other} in a field list"), &ctx)),
                }
            }
            self.field_list_ids.insert(json::number(l, "id", &ctx)?, self.out.field_lists.len());
            self.out.field_lists.push(fields);
        }
        for l in json::list_or_empty(self.root, "learn_lists", "program")? {
            let ctx = format!("learn list {}", json::number(l, "id", "learn list")?);
            let mut list =
                LearnList { name: json::text(l, "name", &ctx)?.to_owned(), widths: Vec::new(), members: Vec::new() };
            for e in json::list(l, "elements", &ctx)? {
                let (member, width) = match json::text(e, "type", &ctx)? {
                    "field" => {
                        let f = self.element(e, &ctx)?;
                        (Member::Field(f), f.width)
                    }
                    "hexstr" => {
                        let width = json::number(e, "bitwidth", &ctx)?;
                        let width = u32::try_from(width).ok().filter(|w| (1..=128).contains(w));
                        let width = width.ok_or_else(|| LoadError::unsupported("a constant of that width", &ctx))?;
                        (Member::Constant(json::unsigned(json::get(e, "value", &ctx)?, &ctx)?), width)
                    }
                    other => return Err(LoadError::unsupported(format!("a {other} in a learn list"), &ctx)),
                };
                list.members.push(member);
                list.widths.push(width);
            }
            self.learn_list_ids.insert(json::number(l, "id", &ctx)?, self.out.learn_lists.len());
            self.out.learn_lists.push(list);
        }
        if self.out.field_lists.len() > MAX_LISTS || self.out.learn_lists.len() > MAX_LISTS {
            return Err(LoadError::unsupported(format!("more than {MAX_LISTS} field lists or learn lists"), "program"));
        }
        Ok(())
    }

    fn element(&self, e: &Value, ctx: &str) -> Result<Field, LoadError> {
        let (h, f) = json::pair(json::get(e, "value", ctx)?, ctx)?;
        if self.b.layout.varbit(h, f).is_some() {
            return Err(LoadError::unsupported(format!("the varbit {h}.{f} in a list of fields"), ctx));
        }
        self.b.layout.field(h, f, ctx)
    }

    /// Code of a primitive that asks for something. The last one of a kind counts, as in BMv2.
    pub(super) fn gen_ask(
        &mut self,
        op: &str,
        args: &[Value],
        params: &[(Slot, u32)],
        ctx: &str,
    ) -> Result<(), LoadError> {
        let asked = self.out.asked;
        let number = |c: &Self, v: &Value| parse_number(v, &c.scope(params, ctx));
        let Some((list, rest)) = args.split_last() else {
            return Err(LoadError::invalid(format!("{op} without a list"), ctx));
        };
        let list = number(self, list)?;
        let Some(list) = list.constant().and_then(|l| u64::try_from(l).ok()) else {
            return Err(LoadError::unsupported(format!("{op} with a list that is not constant"), ctx));
        };
        let (slot, ids, kind) = match op {
            "generate_digest" => (asked.learn, &self.learn_list_ids, "learn list"),
            "resubmit" => (asked.resubmit, &self.field_list_ids, "field list"),
            "recirculate" => (asked.recirculate, &self.field_list_ids, "field list"),
            _ => (asked.clone, &self.field_list_ids, "field list"),
        };
        let Some(slot) = slot else {
            return Err(LoadError::unsupported(format!("{op} outside of an action"), ctx));
        };
        let found = ids.get(&list).map(|ix| *ix as u64);
        let unknown = || LoadError::unknown(kind, list, ctx);
        match (op, rest) {
            ("clone_ingress_pkt_to_egress" | "clone_egress_pkt_to_egress", [session]) => {
                let bits = found.ok_or_else(unknown)? << 16 | CLONE;
                let session = number(self, session)?;
                let session = self.b.gen_u64(&session)?;
                let (mask, bits) = (self.b.constant(u64::from(MAX_SESSION))?, self.b.constant(bits)?);
                self.b.emit(Op::And { d: slot, a: session, b: mask, w: 64 });
                self.b.emit(Op::Or { d: slot, a: slot, b: bits, w: 64 });
            }
            // The first argument is a receiver, which BMv2 does not look at either. List 0 asks for nothing.
            ("generate_digest", [_]) | ("resubmit" | "recirculate", []) => {
                let v = if list == 0 { 0 } else { found.ok_or_else(unknown)? + 1 };
                let a = self.b.constant(v)?;
                self.b.emit(Op::Mov { d: slot, a, w: 64 });
            }
            _ => {
                return Err(LoadError::unsupported(format!("the primitive {op} with {} parameters", args.len()), ctx));
            }
        }
        Ok(())
    }

    /// `op`, if its slot is not 0; then the slot is 0 again.
    fn gen_asked(&mut self, slot: Option<Slot>, op: Op) -> Result<(), LoadError> {
        let Some(slot) = slot else { return Ok(()) };
        let next = self.b.label();
        self.b.emit(Op::BrZ { a: slot, t: next.0 });
        self.b.emit(op);
        if !op.ends() {
            self.gen_set(Some(slot), 0)?;
        }
        self.b.place(next);
        Ok(())
    }

    fn gen_set(&mut self, slot: Option<Slot>, v: u64) -> Result<(), LoadError> {
        let Some(d) = slot else { return Ok(()) };
        let a = self.b.constant(v)?;
        self.b.emit(Op::Mov { d, a, w: 64 });
        Ok(())
    }

    /// Behind the parser: a copy goes no further.
    pub(super) fn gen_after_parser(&mut self, cloned: Label) {
        if let Some(a) = self.out.asked.cloned {
            self.b.emit(Op::BrNz { a, t: cloned.0 });
        }
    }

    /// Between ingress and egress, in BMv2's order.
    pub(super) fn gen_after_ingress(&mut self, egress: Label) -> Result<(), LoadError> {
        let (asked, std) = (self.out.asked, self.out.std);
        self.gen_asked(asked.clone, Op::CloneIngress)?;
        self.gen_asked(asked.learn, Op::Learn)?;
        self.gen_asked(asked.resubmit, Op::Resubmit)?;
        let slot = |f: Option<Field>| f.map(|f| f.slot);
        if let Some(group) = std.mcast_grp {
            let one = self.b.label();
            self.b.emit(Op::BrZ { a: group.slot, t: one.0 });
            self.gen_set(slot(std.instance_type), instance::REPLICATION)?;
            self.b.emit(Op::Multicast { t: egress.0 });
            self.b.place(one);
        }
        self.gen_set(slot(std.instance_type), instance::NORMAL)?;
        let queues = u64::from(self.out.target.priority_queues);
        if let Some(priority) = std.priority.filter(|f| f.width > 63 || queues >> f.width == 0) {
            let (has_queue, most) = (self.b.label(), self.b.constant(queues)?);
            self.b.emit(Op::BrLtU { a: priority.slot, b: most, t: has_queue.0 });
            self.b.emit(Op::NoQueue);
            self.b.place(has_queue);
        }
        // What holds for a packet that does not wait.
        for f in [std.enq_qdepth, std.deq_timedelta, std.deq_qdepth] {
            self.gen_set(slot(f), 0)?;
        }
        if let (Some(q), Some(priority)) = (std.qid, std.priority) {
            self.b.emit(Op::Mov { d: q.slot, a: priority.slot, w: q.width as u8 });
        }
        self.b.emit(Op::ToEgress);
        Ok(())
    }

    /// Between egress and the deparser.
    pub(super) fn gen_after_egress(&mut self, egress: Label) -> Result<(), LoadError> {
        self.gen_asked(self.out.asked.clone, Op::CloneEgress { t: egress.0 })
    }

    /// Behind the checksums, up to the end of the code.
    pub(super) fn gen_end(&mut self, egress: Label, cloned: Label) -> Result<(), LoadError> {
        self.gen_asked(self.out.asked.recirculate, Op::Recirculate)?;
        self.b.emit(Op::End);
        if self.out.asked.cloned.is_some() {
            self.b.place(cloned);
            self.b.emit(Op::Cloned { t: egress.0 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_the_slots_that_it_uses() {
        let root = serde_json::json!({"actions": [{"primitives": [{"op": "resubmit"}, {"op": "assign"}]}]});
        let mut next = 0;
        let asked = asked(&root, &mut || {
            next += 1;
            Ok(next)
        });
        let asked = asked.unwrap();
        assert!(asked.resubmit.is_some());
        assert_eq!(asked.slots().count(), 1);
    }
}
