//! Which slots an instruction reads and writes: what the checks at load and the optimizer go by.

use super::calc::Input;
use super::info::Member;
use super::layout::{Field, Header, Part, Slot, words};
use super::ops::{KeyPart, Op, SelectFrom};
use super::program::Program;
use super::tree::{Expr, ExtractTo, HeaderAt, Place, Slow};

/// What happens to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Always written.
    Write,
    /// Written in some cases.
    MayWrite,
}
use Access::{MayWrite, Read, Write};

impl Program {
    /// Calls `f` with every place where the instruction at `pc` may lead; one may come more than once.
    pub(crate) fn successors(&self, pc: usize, f: &mut dyn FnMut(u32)) {
        let mut op = self.code[pc];
        if let Some(t) = op.target() {
            f(*t);
        }
        match op {
            Op::Apply { ways, .. } | Op::ApplyVia { ways, .. } => {
                let ways = &self.ways[ways as usize];
                f(ways.none);
                ways.actions.iter().for_each(|(hit, miss)| {
                    f(*hit);
                    f(*miss);
                });
            }
            Op::Select { ix } => {
                let s = &self.selects[ix as usize];
                f(s.default);
                s.cases.iter().for_each(|(_, _, t)| f(*t));
            }
            _ => {}
        }
        if !op.ends() {
            f(pc as u32 + 1);
        }
    }

    /// Calls `f` with every slot that the instruction touches; reads come before writes.
    pub(crate) fn touches(&self, op: &Op, f: &mut dyn FnMut(Slot, Access)) {
        match *op {
            Op::Mov { d, a, .. }
            | Op::Copy { d, a }
            | Op::Not { d, a, .. }
            | Op::ShlI { d, a, .. }
            | Op::ShrI { d, a, .. }
            | Op::SarI { d, a, .. }
            | Op::Sext { d, a, .. } => {
                f(a, Read);
                f(d, Write);
            }
            Op::Add { d, a, b, .. }
            | Op::Sub { d, a, b, .. }
            | Op::Mul { d, a, b, .. }
            | Op::And { d, a, b, .. }
            | Op::Or { d, a, b, .. }
            | Op::Xor { d, a, b, .. }
            | Op::Shl { d, a, b, .. }
            | Op::Shr { d, a, b, .. }
            | Op::Sar { d, a, b, .. }
            | Op::Div { d, a, b }
            | Op::Rem { d, a, b }
            | Op::Set { d, a, b, .. } => {
                f(a, Read);
                f(b, Read);
                f(d, Write);
            }
            Op::WMov { d, a, .. }
            | Op::WNot { d, a, .. }
            | Op::WSext { d, a, .. }
            | Op::WSat { d, a, .. }
            | Op::WSatU { d, a, .. } => {
                pair(a, Read, f);
                pair(d, Write, f);
            }
            Op::WBin { d, a, b, .. } => {
                pair(a, Read, f);
                pair(b, Read, f);
                pair(d, Write, f);
            }
            Op::WShift { d, a, b, .. } => {
                pair(a, Read, f);
                f(b, Read);
                pair(d, Write, f);
            }
            Op::WSet { d, a, b, .. } => {
                pair(a, Read, f);
                pair(b, Read, f);
                f(d, Write);
            }
            Op::ZExt { d, a } | Op::SExt { d, a } => {
                f(a, Read);
                pair(d, Write, f);
            }
            Op::Advance { a, .. } => {
                f(a, Read);
                f(self.error_slot, MayWrite);
            }
            Op::ParseFail { a, .. } => {
                f(a, Read);
                f(self.error_slot, Write);
            }
            Op::State { .. } => f(self.error_slot, MayWrite),
            Op::BrZ { a, .. } | Op::BrNz { a, .. } | Op::Truncate { a } | Op::Assert { a } => f(a, Read),
            Op::BrEq { a, b, .. }
            | Op::BrNe { a, b, .. }
            | Op::BrLtU { a, b, .. }
            | Op::BrLeU { a, b, .. }
            | Op::BrLtS { a, b, .. }
            | Op::BrLeS { a, b, .. } => {
                f(a, Read);
                f(b, Read);
            }
            Op::Count { index, .. } => f(index, Read),
            Op::Meter { index, d, .. } | Op::RegRead { index, d, .. } => {
                f(index, Read);
                f(d, MayWrite);
            }
            Op::RegWrite { index, a, .. } => {
                f(index, Read);
                f(a, Read);
            }
            Op::EgressClock => opt(self.std.egress_ts, MayWrite, f),
            // A trace looks at every slot, but programs that are traced are not optimised.
            Op::Jmp { .. } | Op::Mark { .. } => {}
            _ => self.touches_more(op, f),
        }
    }

    /// Those that refer to tables of the program.
    fn touches_more(&self, op: &Op, f: &mut dyn FnMut(Slot, Access)) {
        match *op {
            Op::AddHeader { h } => {
                let h = &self.headers[usize::from(h)];
                f(h.valid, Read);
                header(h, MayWrite, f);
                h.others.iter().for_each(|v| f(*v, MayWrite));
                f(h.valid, Write);
            }
            Op::RemoveHeader { h } => {
                let h = &self.headers[usize::from(h)];
                h.varbit.iter().for_each(|v| f(v.bits, Read));
                f(h.valid, Read);
                f(h.valid, Write);
            }
            Op::CopyHeader { d, s } => {
                let (d, s) = (&self.headers[usize::from(d)], &self.headers[usize::from(s)]);
                f(s.valid, Read);
                header(s, Read, f);
                header(d, MayWrite, f);
                d.others.iter().for_each(|v| f(*v, MayWrite));
                f(d.valid, Write);
            }
            Op::Extract { h, .. } => {
                let h = &self.headers[usize::from(h)];
                header(h, MayWrite, f);
                f(h.valid, MayWrite);
                f(self.error_slot, MayWrite);
            }
            Op::Lookahead { ix, .. } => {
                field(self.lookaheads[usize::from(ix)].dst, MayWrite, f);
                f(self.error_slot, MayWrite);
            }
            Op::Select { ix } => {
                for p in &self.selects[ix as usize].parts {
                    if let SelectFrom::Slot { slot, width } = p.from {
                        (slot..slot + words(width)).for_each(|s| f(s, Read));
                    }
                }
            }
            Op::Hash { ix } => {
                let h = &self.hashes[usize::from(ix)];
                f(h.base, Read);
                f(h.size, Read);
                self.calc(h.calc, f);
                field(h.dst, Write, f);
            }
            Op::VerifyChecksum { ix } => {
                let c = &self.checksums[usize::from(ix)];
                self.calc(c.calc, f);
                f(c.target.slot, Read);
                f(self.checksum_slot, MayWrite);
            }
            Op::UpdateChecksum { ix } => {
                let c = &self.checksums[usize::from(ix)];
                self.calc(c.calc, f);
                field(c.target, Write, f);
            }
            Op::Apply { t, .. } | Op::ApplyVia { t, .. } => {
                let rt = &self.table_rt[usize::from(t)];
                rt.via.iter().filter_map(|v| v.hash).for_each(|h| self.calc(h, f));
                rt.key.iter().for_each(|k| key_part(k, f));
                for a in &rt.actions {
                    (a.param_base..a.param_base + a.param_words).for_each(|s| f(s, MayWrite));
                }
                rt.meter.iter().for_each(|(d, _)| f(*d, MayWrite));
            }
            Op::ToIngress => {
                f(self.error_slot, Read);
                f(self.checksum_slot, Read);
                opt(self.std.parser_error, Write, f);
                opt(self.std.checksum_error, Write, f);
                f(self.exit_slot, Write);
            }
            Op::ToEgress => {
                // The priority decides about the queue that it may wait in.
                opt(self.std.egress_spec, Read, f);
                opt(self.std.priority, Read, f);
                self.std.of_egress().for_each(|d| f(d.slot, Write));
                self.std.of_queue().for_each(|d| f(d.slot, MayWrite));
                f(self.exit_slot, Write);
            }
            Op::Leave | Op::NoQueue => opt(self.std.egress_spec, Read, f),
            Op::End => {
                for h in &self.deparse {
                    f(self.headers[*h].valid, Read);
                    header(&self.headers[*h], Read, f);
                }
            }
            Op::Slow { ix } => self.slow(&self.slow[ix as usize], f),
            Op::SlowExtract { ix, .. } => {
                let e = &self.slow_extracts[ix as usize];
                e.length.iter().for_each(|e| self.expr(e, f));
                let mut extracted = |h: usize| {
                    header(&self.headers[h], MayWrite, f);
                    f(self.headers[h].valid, MayWrite);
                    self.headers[h].others.iter().for_each(|v| f(*v, MayWrite));
                };
                match e.to {
                    ExtractTo::One(h) => extracted(h),
                    ExtractTo::Next { stack, member } => {
                        let stack = &self.stacks[stack];
                        stack.elements.iter().for_each(|e| extracted(e[member]));
                        f(stack.next.slot, Read);
                        f(stack.next.slot, MayWrite);
                    }
                }
                f(self.error_slot, MayWrite);
            }
            _ => self.touches_copies(op, f),
        }
    }

    /// Those that make a packet start again, or more than one of it.
    fn touches_copies(&self, op: &Op, f: &mut dyn FnMut(Slot, Access)) {
        let asked = |s: Option<Slot>, f: &mut dyn FnMut(Slot, Access)| s.iter().for_each(|s| f(*s, Read));
        match *op {
            Op::CloneIngress => {
                asked(self.asked.clone, f);
                self.preserved(Read, f);
            }
            Op::Learn => {
                asked(self.asked.learn, f);
                for m in self.learn_lists.iter().flat_map(|l| &l.members) {
                    if let Member::Field(x) = m {
                        field(*x, Read, f);
                        x.valid.iter().for_each(|v| f(*v, Read));
                    }
                }
            }
            Op::Resubmit => {
                asked(self.asked.resubmit, f);
                self.preserved(Read, f);
            }
            Op::Recirculate => {
                asked(self.asked.recirculate, f);
                self.preserved(Read, f);
            }
            Op::Multicast { .. } => {
                opt(self.std.mcast_grp, Read, f);
                opt(self.std.priority, Read, f);
                opt(self.std.egress_rid, Write, f);
                self.starts_egress(f);
            }
            Op::Cloned { .. } | Op::CloneEgress { .. } => {
                asked(self.asked.clone, f);
                self.preserved(Read, f);
                // The copies' metadata is 0 but for what is preserved, which may be fields of headers, too.
                for h in self.headers.iter().filter(|h| h.metadata) {
                    h.fields.iter().for_each(|x| field(*x, MayWrite, f));
                }
                self.preserved(MayWrite, f);
                self.starts_egress(f);
            }
            _ => {}
        }
    }

    /// All reads come before all writes.
    fn slow(&self, slow: &Slow, f: &mut dyn FnMut(Slot, Access)) {
        slow.exprs().into_iter().for_each(|e| self.expr(e, f));
        match slow {
            Slow::Assign { to, .. } => self.place(to, Write, f),
            Slow::RegRead { to, .. } | Slow::Random { to, .. } => self.place(to, MayWrite, f),
            Slow::Log { .. } => {}
            Slow::Copy { to, from } => {
                for h in self.candidates(from) {
                    f(h.valid, Read);
                    header(h, Read, f);
                }
                self.candidates(to).for_each(|h| made(h, f));
            }
            Slow::Add(h) => {
                self.candidates(h).for_each(|h| f(h.valid, Read));
                self.candidates(h).for_each(|h| made(h, f));
            }
            Slow::Remove(h) => {
                for h in self.candidates(h) {
                    f(h.valid, Read);
                    h.varbit.iter().for_each(|v| f(v.bits, Read));
                }
                self.candidates(h).for_each(|h| f(h.valid, MayWrite));
            }
            Slow::CopyVarbit { to, from } => {
                self.candidates(from).for_each(|h| varbit(h, Read, f));
                for h in self.candidates(to) {
                    varbit(h, MayWrite, f);
                    f(h.origin, MayWrite);
                }
            }
            Slow::Shift { stack, .. } => {
                let stack = &self.stacks[*stack];
                let headers = || stack.elements.iter().flat_map(|e| e.iter()).map(|h| &self.headers[*h]);
                f(stack.next.slot, Read);
                headers().for_each(|h| {
                    f(h.valid, Read);
                    header(h, Read, f);
                });
                headers().for_each(|h| made(h, f));
                f(stack.next.slot, MayWrite);
            }
        }
    }

    /// The headers that one may turn out to be.
    fn candidates<'p>(&'p self, at: &HeaderAt) -> Box<dyn Iterator<Item = &'p Header> + 'p> {
        match *at {
            HeaderAt::One(h) => Box::new(std::iter::once(&self.headers[h])),
            HeaderAt::Elem { stack, member, .. } => {
                Box::new(self.stacks[stack].elements.iter().map(move |e| &self.headers[e[member]]))
            }
        }
    }

    fn place(&self, to: &Place, a: Access, f: &mut dyn FnMut(Slot, Access)) {
        match to {
            Place::Field(x) => field(*x, a, f),
            Place::Slots { slot, words } => (*slot..slot + words).for_each(|s| f(s, a)),
            Place::At { header, field: n } => {
                self.candidates(header).for_each(|h| part(h, *n, MayWrite, f));
            }
            Place::Register { .. } => {}
        }
    }

    /// What the evaluation of a tree reads.
    fn expr(&self, e: &Expr, f: &mut dyn FnMut(Slot, Access)) {
        e.walk(&mut |e| match e {
            Expr::Field(x) => field(*x, Read, f),
            Expr::Param(slot, width) => (*slot..slot + words(*width)).for_each(|s| f(s, Read)),
            Expr::Valid(s) => f(*s, Read),
            Expr::At { header, field, .. } => self.candidates(header).for_each(|h| part(h, *field, Read, f)),
            Expr::Varbit(h, _) => self.candidates(h).for_each(|h| varbit(h, Read, f)),
            Expr::ValidAt(h) => self.candidates(h).for_each(|h| f(h.valid, Read)),
            Expr::Same(a, b) => self.candidates(a).chain(self.candidates(b)).for_each(|h| {
                f(h.valid, Read);
                header(h, Read, f);
            }),
            _ => {}
        });
    }

    /// Fields of all field lists.
    fn preserved(&self, a: Access, f: &mut dyn FnMut(Slot, Access)) {
        self.field_lists.iter().flatten().for_each(|x| field(*x, a, f));
    }

    /// What is written in a copy that enters egress.
    fn starts_egress(&self, f: &mut dyn FnMut(Slot, Access)) {
        self.std.of_egress().chain(self.std.of_queue()).for_each(|d| f(d.slot, MayWrite));
        opt(self.std.priority, MayWrite, f);
        self.asked.slots().for_each(|s| f(s, MayWrite));
        f(self.exit_slot, MayWrite);
    }

    fn calc(&self, ix: u16, f: &mut dyn FnMut(Slot, Access)) {
        for i in &self.calcs[usize::from(ix)].inputs {
            match i {
                Input::Field(i) => {
                    i.valid.iter().for_each(|v| f(*v, Read));
                    field(*i, Read, f);
                }
                Input::Varbit(v, valid) => [v.at, v.bits, *valid].into_iter().for_each(|s| f(s, Read)),
                Input::Const { .. } => {}
            }
        }
    }
}

fn pair(s: Slot, a: Access, f: &mut dyn FnMut(Slot, Access)) {
    f(s, a);
    f(s + 1, a);
}

fn field(s: Field, a: Access, f: &mut dyn FnMut(Slot, Access)) {
    s.slots().for_each(|s| f(s, a));
}

fn varbit(h: &Header, a: Access, f: &mut dyn FnMut(Slot, Access)) {
    h.varbit.iter().for_each(|v| [v.at, v.bits].into_iter().for_each(|s| f(s, a)));
}

/// A numbered part of a header.
fn part(h: &Header, n: usize, a: Access, f: &mut dyn FnMut(Slot, Access)) {
    match h.numbered(n) {
        Some(Part::Field(x)) => field(x, a, f),
        Some(Part::Varbit(_)) => varbit(h, a, f),
        None => {}
    }
}

/// A header may have been made valid or invalid, and filled.
fn made(h: &Header, f: &mut dyn FnMut(Slot, Access)) {
    header(h, MayWrite, f);
    f(h.valid, MayWrite);
    h.others.iter().for_each(|v| f(*v, MayWrite));
}

fn opt(s: Option<Field>, a: Access, f: &mut dyn FnMut(Slot, Access)) {
    if let Some(s) = s {
        f(s.slot, a);
    }
}

/// The fields of a header, and where it came from.
pub(crate) fn header(h: &Header, a: Access, f: &mut dyn FnMut(Slot, Access)) {
    h.fields.iter().for_each(|x| field(*x, a, f));
    varbit(h, a, f);
    f(h.origin, a);
}

fn key_part(k: &KeyPart, f: &mut dyn FnMut(Slot, Access)) {
    k.valid.iter().for_each(|v| f(*v, Read));
    f(k.slot, Read);
    if k.width > 64 {
        f(k.slot + 1, Read);
    }
}
