//! Instructions that walk a tree: stacks and unions by an index, varbits, values of any width.

use num_bigint::BigInt;

use super::super::layout::Header;
use super::super::tree::{ExtractTo, HeaderAt, Place, Slow};
use super::bytes;
use super::machine::Machine;

/// Target of the events that `log_msg` emits.
const LOG: &str = "dmux_softswitch::log_msg";
/// Longest message of `log_msg`, in characters.
const MAX_MESSAGE: usize = 1024;

impl Machine<'_, '_> {
    /// Before an access to a register: if packets both read and write it, no other worker's packet comes in between. JSON does
    /// not say what was `@atomic`, so all is, from here to the end of the run; BMv2 runs ingress in one thread.
    pub(super) fn take_turn(&mut self, reg: u16) {
        if self.turn.is_none() && self.p.shared_registers[usize::from(reg)] {
            self.turn = Some(self.dp.turn());
        }
    }

    #[inline(never)]
    pub(super) fn slow(&mut self, ix: u32) {
        let p = self.p;
        match &p.slow[ix as usize] {
            Slow::Assign { to, value } => {
                if let Place::Register { reg, .. } = to {
                    self.take_turn(*reg);
                }
                let v = if value.is_bool() { u8::from(self.truth(value)).into() } else { self.number(value) };
                self.put(to, &v);
            }
            Slow::RegRead { to, reg, index, .. } => {
                self.take_turn(*reg);
                let cell = self.index(index).and_then(|i| self.dp.registers[usize::from(*reg)].read(i));
                self.put(to, &cell.map_or(BigInt::ZERO, Into::into));
            }
            Slow::Random { to, low, high } => {
                // BMv2 draws in 64 bits.
                let word = |e| u64::try_from(self.number(e)).unwrap_or(u64::MAX);
                let (low, high) = (word(low), word(high));
                if low <= high {
                    let v = self.scratch.random(low, high);
                    self.put(to, &v.into());
                }
            }
            Slow::Log { texts, args } => {
                if tracing::enabled!(target: LOG, tracing::Level::INFO) && self.scratch.may_log(self.pkt.now_us) {
                    let mut line = String::new();
                    let mut args = args.iter();
                    for text in texts {
                        line.push_str(text);
                        if let Some(e) = args.next() {
                            line.push_str(&self.number(e).to_string());
                        }
                    }
                    let end = line.char_indices().nth(MAX_MESSAGE).map_or(line.len(), |(i, _)| i);
                    tracing::info!(target: LOG, "{}", &line[..end]);
                }
            }
            Slow::Copy { to, from } => self.both(to, from, &mut |m, to, from| m.copy_header(to, from)),
            Slow::Add(h) => {
                if let Some(h) = self.header(h) {
                    self.add_header(&p.headers[h]);
                }
            }
            Slow::Remove(h) => {
                if let Some(h) = self.header(h) {
                    self.remove_header(&p.headers[h]);
                }
            }
            Slow::CopyVarbit { to, from } => self.both(to, from, &mut |m, to, from| m.copy_varbit(to, from)),
            Slow::Shift { stack, by, push } => {
                let stack = &p.stacks[*stack];
                let (len, by) = (stack.elements.len(), self.index(by).unwrap_or(usize::MAX));
                let by = by.min(len);
                let next = self.s.get(stack.next.slot) as usize;
                let next = if *push { (next + by).min(len) } else { next.saturating_sub(by) };
                self.s.set(stack.next.slot, next as u64);
                let mut element = |to: usize, from: Option<usize>| {
                    for (m, to) in stack.elements[to].iter().enumerate() {
                        match from.map(|f| stack.elements[f][m]) {
                            Some(from) => self.copy_header(&p.headers[*to], &p.headers[from]),
                            None => self.s.set(p.headers[*to].valid, 0),
                        }
                    }
                };
                if *push {
                    (by..len).rev().for_each(|i| element(i, Some(i - by)));
                    (0..by).for_each(|i| element(i, None));
                } else {
                    (0..len - by).for_each(|i| element(i, Some(i + by)));
                    (len - by..len).for_each(|i| element(i, None));
                }
            }
        }
    }

    fn both(&mut self, to: &HeaderAt, from: &HeaderAt, f: &mut dyn FnMut(&mut Self, &Header, &Header)) {
        let p = self.p;
        match (self.header(to), self.header(from)) {
            (Some(to), Some(from)) => f(self, &p.headers[to], &p.headers[from]),
            // What is not there is like a header that is not valid.
            (Some(to), None) => self.s.set(p.headers[to].valid, 0),
            (None, _) => {}
        }
    }

    /// Makes a header valid, all zero, unless it is valid already.
    pub(super) fn add_header(&mut self, h: &Header) {
        if self.s.get(h.valid) != 0 {
            return;
        }
        for f in &h.fields {
            self.s.store(*f, 0);
        }
        if let Some(v) = h.varbit {
            self.s.set(v.at, 0);
            self.s.set(v.bits, 0);
        }
        self.s.set(h.origin, 0);
        self.make_valid(h);
        self.pkt.length = self.pkt.length.wrapping_add(u64::from(h.bytes));
    }

    pub(super) fn remove_header(&mut self, h: &Header) {
        if self.s.get(h.valid) != 0 {
            self.s.set(h.valid, 0);
            let varbit = h.varbit.map_or(0, |v| self.s.get(v.bits) / 8);
            self.pkt.length = self.pkt.length.wrapping_sub(u64::from(h.bytes) + varbit);
        }
    }

    /// Copies a header with its validity.
    pub(super) fn copy_header(&mut self, d: &Header, s: &Header) {
        if self.s.get(s.valid) == 0 {
            self.s.set(d.valid, 0);
            return;
        }
        if d.valid == s.valid {
            return;
        }
        for (d, s) in d.fields.iter().zip(&s.fields) {
            for (d, s) in d.slots().zip(s.slots()) {
                self.s.set(d, self.s.get(s));
            }
        }
        self.copy_varbit(d, s);
        self.make_valid(d);
    }

    fn copy_varbit(&mut self, d: &Header, s: &Header) {
        self.s.set(d.origin, 0);
        if let (Some(d), Some(s)) = (d.varbit, s.varbit) {
            self.s.set(d.at, self.s.get(s.at));
            self.s.set(d.bits, self.s.get(s.bits));
        }
    }

    /// Of a union, one member at most is valid.
    fn make_valid(&mut self, h: &Header) {
        for other in &h.others {
            self.s.set(*other, 0);
        }
        self.s.set(h.valid, 1);
    }

    /// Extracts into a stack, or a header with a varbit. False if the packet cannot be parsed.
    #[inline(never)]
    pub(super) fn slow_extract(&mut self, ix: u32) -> bool {
        let p = self.p;
        let e = &p.slow_extracts[ix as usize];
        let h = match e.to {
            ExtractTo::One(h) => h,
            ExtractTo::Next { stack, member } => {
                let stack = &p.stacks[stack];
                match stack.elements.get(self.s.get(stack.next.slot) as usize) {
                    Some(element) => element[member],
                    None => return self.parse_error(p.errors.stack_out_of_bounds),
                }
            }
        };
        let h = &p.headers[h];
        let bits = match &e.length {
            Some(length) => self.number(length).try_into().unwrap_or(u64::MAX),
            None => 0,
        };
        if !bits.is_multiple_of(8) && bits != u64::MAX {
            return self.parse_error(p.errors.invalid_argument);
        }
        let bytes = usize::try_from(bits / 8).unwrap_or(usize::MAX).saturating_add(h.bytes as usize);
        let Some(buf) = self.pkt.frame[self.pkt.parsed..].get(..bytes) else {
            return self.parse_error(p.errors.packet_too_short);
        };
        match h.varbit {
            Some(v) => {
                if v.max_bytes != 0 && bytes > v.max_bytes as usize {
                    return self.parse_error(p.errors.header_too_short);
                }
                let start = bytes::extract_around(h, v, buf, bits as usize, self.s);
                self.s.set(v.at, (self.pkt.parsed * 8 + start) as u64 + 1);
                self.s.set(v.bits, bits);
            }
            None => bytes::extract(h, buf, self.s),
        }
        self.s.set(h.origin, self.pkt.parsed as u64 + 1);
        self.make_valid(h);
        self.pkt.parsed += bytes;
        if let ExtractTo::Next { stack, .. } = e.to {
            let next = p.stacks[stack].next.slot;
            self.s.set(next, self.s.get(next) + 1);
        }
        true
    }

    /// Notes why the packet cannot be parsed.
    pub(super) fn parse_error(&mut self, error: u64) -> bool {
        self.s.set(self.p.error_slot, error);
        false
    }
}
