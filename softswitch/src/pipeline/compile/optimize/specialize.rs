//! Copies of the code for what is known where; see the parent module.

use super::super::super::effects::{Access, header};
use super::super::super::layout::{MAX_SLOTS, Slot};
use super::super::super::ops::{Op, Select, Ways};
use super::super::super::program::Program;
use super::facts::{Facts, Outcome, fold, learn, outcome};
use super::liveness::Liveness;
use super::survey::{bits, decides, leaders};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// While there are fewer copies of a place than the first number, knowledge counts of slots that at least as many
/// branches look at as the second says; after the last, only the copy is left for which nothing is known.
const COPIES: [(u32, u32); 3] = [(16, 1), (64, 3), (256, 6)];
/// The code may grow by this factor, and by this many instructions.
const MAX_GROWTH: (usize, usize) = (32, 4096);
/// A select of at most so many single values becomes as many comparisons.
const MAX_CHAIN: usize = 3;

struct Specializer<'a> {
    p: &'a Program,
    live: &'a Liveness,
    /// Places that are jumped to, or that something else leads to.
    leaders: Vec<bool>,
    /// How many branches look at each slot. To know others is not worth a copy.
    decides: Vec<u32>,
    /// Largest number of bits in each slot.
    bits: Vec<u8>,
    consts: HashMap<Slot, u64>,
    by_value: HashMap<u64, Slot>,
    new_consts: Vec<(Slot, u64)>,
    slots: usize,

    /// The label of each copy; a label is an index into `places`.
    labels: BTreeMap<(u32, Facts), u32>,
    copies: HashMap<u32, u32>,
    places: Vec<Option<u32>>,
    todo: VecDeque<(u32, Facts, u32)>,
    code: Vec<Op>,
    selects: Vec<Select>,
    ways: Vec<Ways>,
}

/// Replaces the program's code by specialized code.
pub(super) fn specialize(p: &mut Program, live: &Liveness) {
    let mut s = Specializer {
        leaders: leaders(p),
        decides: decides(p),
        bits: bits(p),
        consts: p.consts.iter().copied().collect(),
        by_value: p.consts.iter().map(|(s, v)| (*v, *s)).collect(),
        new_consts: Vec::new(),
        slots: p.slots,
        labels: BTreeMap::new(),
        copies: HashMap::new(),
        places: Vec::new(),
        todo: VecDeque::new(),
        code: Vec::new(),
        selects: Vec::new(),
        ways: Vec::new(),
        p,
        live,
    };
    // A packet starts with all fields 0 but those that the target sets.
    let mut start = Facts((0..p.field_slots as Slot).map(|s| (s, 0)).collect());
    for f in [p.std.ingress_port, p.std.packet_length, p.std.ingress_ts].into_iter().flatten() {
        start.0.remove(&f.slot);
    }
    let (fresh, again, copy) = (s.label(p.start, &start), restart(p, &start), reparse(p, &start));
    let [again, copy] = [(p.restart, again), (p.reparse, copy)].map(|(pc, facts)| facts.map(|f| s.label(pc, &f)));
    while let Some((pc, facts, label)) = s.todo.pop_front() {
        if s.places[label as usize].is_none() {
            s.block(pc, facts, label);
        }
    }
    let Specializer { mut code, mut selects, mut ways, places, new_consts, slots, .. } = s;
    // Every label was generated: what asks for one queues it.
    let place = |t: &mut u32| *t = places[*t as usize].unwrap_or(0);
    code.iter_mut().filter_map(Op::target).for_each(place);
    ways.iter_mut().flat_map(Ways::targets).for_each(place);
    for s in &mut selects {
        s.targets(&mut |t| place(t));
        s.narrow = super::super::narrow(s);
    }
    let [start, restart, reparse] =
        [Some(fresh), again, copy].map(|l| places[l.unwrap_or(fresh) as usize].unwrap_or(0));
    (p.start, p.restart, p.reparse) = (start, restart, reparse);
    (p.code, p.selects, p.ways, p.slots) = (code, selects, ways, slots);
    p.consts.extend(new_consts);
}

/// What is known where a packet starts again: preserved fields may be anything.
fn restart(p: &Program, start: &Facts) -> Option<Facts> {
    (p.asked.resubmit.is_some() || p.asked.recirculate.is_some()).then(|| {
        let mut facts = start.clone();
        for f in p.field_lists.iter().flatten().chain(&p.std.instance_type) {
            f.slots().for_each(|s| {
                facts.0.remove(&s);
            });
        }
        facts
    })
}

/// What is known where a copy is parsed again.
fn reparse(p: &Program, start: &Facts) -> Option<Facts> {
    let mut facts = start.clone();
    facts.0.insert(p.asked.cloned?, 1);
    Some(facts)
}

impl Specializer<'_> {
    /// The label of the code at `pc` for what is known; it is queued if it is new.
    fn label(&mut self, pc: u32, facts: &Facts) -> u32 {
        self.enter(pc, facts).0
    }

    /// The label, and what of the facts it stands for: others may come there, too.
    fn enter(&mut self, pc: u32, facts: &Facts) -> (u32, Facts) {
        // The more copies there are, the more a fact has to decide for another one.
        let full = self.code.len() > self.p.code.len() * MAX_GROWTH.0 + MAX_GROWTH.1;
        let copies = if full { u32::MAX } else { self.copies.get(&pc).copied().unwrap_or(0) };
        let least = COPIES.iter().find(|(n, _)| copies < *n).map_or(u32::MAX, |(_, least)| *least);
        let worth = |s: Slot| self.decides[usize::from(s)] >= least && self.live.before(pc, s);
        let known = Facts(facts.0.iter().filter(|(s, _)| worth(**s)).map(|(s, v)| (*s, *v)).collect());
        if let Some(l) = self.labels.get(&(pc, known.clone())) {
            return (*l, known);
        }
        let label = self.places.len() as u32;
        self.places.push(None);
        *self.copies.entry(pc).or_default() += 1;
        self.labels.insert((pc, known.clone()), label);
        self.todo.push_back((pc, known.clone(), label));
        (label, known)
    }

    /// Generates code from `pc` on until it ends or meets code that is there already.
    fn block(&mut self, mut pc: u32, mut facts: Facts, label: u32) {
        self.places[label as usize] = Some(self.code.len() as u32);
        loop {
            let op = self.p.code[pc as usize];
            let Some(next) = self.step(op, pc, &mut facts) else { return };
            pc = next;
            if self.leaders[pc as usize] {
                let (label, known) = self.enter(pc, &facts);
                if self.places[label as usize].is_some() {
                    self.code.push(Op::Jmp { t: label });
                    return;
                }
                self.places[label as usize] = Some(self.code.len() as u32);
                facts = known;
            }
        }
    }

    /// Generates one instruction. Returns where the code goes on, if it does.
    fn step(&mut self, op: Op, pc: u32, facts: &mut Facts) -> Option<u32> {
        let consts = &self.consts;
        let get = |s: Slot| facts.0.get(&s).or_else(|| consts.get(&s)).copied();
        let mut op = op;
        match op {
            Op::Jmp { t } => return Some(t),
            Op::Select { ix } => return self.select(ix, facts),
            Op::Apply { t, ways } | Op::ApplyVia { t, ways } => {
                self.kill(&op, facts);
                let old = self.p.ways[ways as usize].clone();
                let mut new = old;
                for t in new.targets() {
                    *t = self.label(*t, facts);
                }
                let ways = self.ways.len() as u32;
                self.ways.push(new);
                let via = matches!(op, Op::ApplyVia { .. });
                self.code.push(if via { Op::ApplyVia { t, ways } } else { Op::Apply { t, ways } });
                return None;
            }
            Op::ToIngress => {
                let [error, checksum] = [self.p.error_slot, self.p.checksum_slot].map(get);
                self.emit(op, facts);
                for (f, v) in [(self.p.std.parser_error, error), (self.p.std.checksum_error, checksum)] {
                    if let (Some(f), Some(0)) = (f, v) {
                        facts.0.insert(f.slot, 0);
                    }
                }
                facts.0.insert(self.p.exit_slot, 0);
                return Some(pc + 1);
            }
            Op::ToEgress => {
                self.emit(op, facts);
                facts.0.insert(self.p.exit_slot, 0);
                return Some(pc + 1);
            }
            Op::Multicast { .. } | Op::Cloned { .. } | Op::CloneEgress { .. } => {
                self.kill(&op, facts);
                // What the copies were asked for, they were not.
                let mut there = facts.clone();
                there.0.extend(self.p.asked.slots().chain([self.p.exit_slot]).map(|s| (s, 0)));
                if let Some(t) = op.target() {
                    *t = self.label(*t, &there);
                }
                self.code.push(op);
                return if op.ends() { None } else { Some(pc + 1) };
            }
            Op::AddHeader { h } => {
                let h = &self.p.headers[usize::from(h)];
                let valid = get(h.valid);
                if valid == Some(1) {
                    return Some(pc + 1);
                }
                self.emit(op, facts);
                facts.0.insert(h.valid, 1);
                if valid == Some(0) {
                    header(h, Access::Write, &mut |s, _| {
                        facts.0.insert(s, 0);
                    });
                }
                return Some(pc + 1);
            }
            Op::RemoveHeader { h } => {
                let valid = self.p.headers[usize::from(h)].valid;
                if get(valid) != Some(0) {
                    self.emit(op, facts);
                    facts.0.insert(valid, 0);
                }
                return Some(pc + 1);
            }
            Op::End => {
                self.code.push(op);
                return None;
            }
            _ => {}
        }
        if let Some((d, v)) = fold(&op, &get) {
            // What is there already need not be written.
            if get(d) != Some(v) {
                match self.constant(v) {
                    Some(a) => self.code.push(Op::Copy { d, a }),
                    None => self.code.push(op),
                }
                facts.0.insert(d, v);
            }
            return Some(pc + 1);
        }
        match outcome(&op, &get) {
            Outcome::Taken => return op.target().map(|t| *t),
            Outcome::Passed => return Some(pc + 1),
            Outcome::Open => {}
        }
        let Some(t) = op.target().copied() else {
            if let Op::Mov { d, a, w } = op
                && self.bits[usize::from(a)] <= w
            {
                op = Op::Copy { d, a };
            }
            self.emit(op, facts);
            return Some(pc + 1);
        };
        // A branch, or an instruction of the parser.
        let one_bit = super::facts::condition(&op).is_some_and(|(_, a, _)| self.bits[usize::from(a)] == 1);
        let (yes, no) = (learn(&op, true, &get, one_bit), learn(&op, false, &get, one_bit));
        let error = get(self.p.error_slot);
        let mut there = facts.clone();
        self.kill(&op, facts);
        match op {
            Op::Extract { h, .. } => {
                // It fails before it writes anything but the error.
                there.0.remove(&self.p.error_slot);
                facts.0.insert(self.p.headers[usize::from(h)].valid, 1);
            }
            _ => self.kill(&op, &mut there),
        }
        // Where nothing failed, the error is what it was.
        facts.0.extend(error.map(|v| (self.p.error_slot, v)));
        there.0.extend(yes);
        let t = self.label(t, &there);
        if let Some(to) = op.target() {
            *to = t;
        }
        self.code.push(op);
        facts.0.extend(no);
        if op.ends() { None } else { Some(pc + 1) }
    }

    fn emit(&mut self, op: Op, facts: &mut Facts) {
        self.kill(&op, facts);
        self.code.push(op);
    }

    /// Forgets what the instruction may change.
    fn kill(&self, op: &Op, facts: &mut Facts) {
        self.p.touches(op, &mut |s, a| {
            if a != Access::Read {
                facts.0.remove(&s);
            }
        });
    }

    /// A slot that always holds `v`, while there is room.
    fn constant(&mut self, v: u64) -> Option<Slot> {
        if let Some(s) = self.by_value.get(&v) {
            return Some(*s);
        }
        let s = Slot::try_from(self.slots).ok().filter(|_| self.slots < MAX_SLOTS)?;
        self.slots += 1;
        self.by_value.insert(v, s);
        self.consts.insert(s, v);
        self.new_consts.push((s, v));
        Some(s)
    }

    /// Leaves out the cases that cannot be, and goes on at the one that must be.
    fn select(&mut self, ix: u32, facts: &mut Facts) -> Option<u32> {
        let mut select = self.p.selects[ix as usize].clone();
        let Some(narrow) = &select.narrow else {
            select.targets(&mut |t| *t = self.label(*t, facts));
            self.push_select(select);
            return None;
        };
        // The bits of the key that are known, and their values.
        let (mut known, mut value) = (0, 0);
        for (slot, mask, shift) in &narrow.parts {
            // The bits between parts are always 0.
            known |= mask << shift;
            value |= facts.0.get(slot).map_or(0, |v| (v & mask) << shift);
        }
        known = !known;
        for (slot, mask, shift) in &narrow.parts {
            if facts.0.contains_key(slot) {
                known |= mask << shift;
            }
        }
        let (mut cases, mut default) = (Vec::new(), select.default);
        for (v, m, t) in &narrow.cases {
            if (v ^ value) & m & known != 0 {
                continue;
            }
            if m & !known == 0 {
                default = *t;
                break;
            }
            cases.push((*v, *m, *t));
        }
        if cases.is_empty() {
            return Some(default);
        }
        let parts = narrow.parts.clone();
        let fits: Vec<bool> =
            parts.iter().map(|(slot, mask, _)| u32::from(self.bits[usize::from(*slot)]) <= mask.count_ones()).collect();
        // What a case says about the fields that it compares whole.
        let told = |v: u64, m: u64| {
            let whole = parts
                .iter()
                .zip(&fits)
                .filter(|((_, mask, shift), fits)| **fits && m & (mask << shift) == mask << shift);
            whole.map(|((slot, mask, shift), _)| (*slot, v >> shift & mask)).collect::<Vec<_>>()
        };
        // Cases that compare one whole field and nothing else that is open.
        let single = |v: u64, m: u64| {
            let open = m & !known;
            let (part, fits) = parts.iter().zip(&fits).find(|((_, mask, shift), _)| mask << shift == open)?;
            fits.then_some((part.0, v >> part.2 & part.1))
        };
        let chain: Option<Vec<(Slot, u64)>> = cases.iter().map(|(v, m, _)| single(*v, *m)).collect();
        let mut labels = Vec::new();
        for (v, m, t) in &cases {
            let mut there = facts.clone();
            there.0.extend(told(*v, *m));
            labels.push(self.label(*t, &there));
        }
        if let Some(chain) = chain.filter(|c| c.len() <= MAX_CHAIN) {
            let consts: Option<Vec<Slot>> = chain.iter().map(|(_, v)| self.constant(*v)).collect();
            if let Some(consts) = consts {
                for (((a, _), b), t) in chain.iter().zip(consts).zip(&labels) {
                    self.code.push(Op::BrEq { a: *a, b, t: *t });
                }
                return Some(default);
            }
        }
        select.cases = cases.iter().zip(labels).map(|((v, m, _), l)| (u128::from(*v), u128::from(*m), l)).collect();
        select.default = self.label(default, facts);
        self.push_select(select);
        None
    }

    fn push_select(&mut self, select: Select) {
        let ix = self.selects.len() as u32;
        self.selects.push(select);
        self.code.push(Op::Select { ix });
    }
}
