//! The interpreter.

use super::super::layout::Slot;
use super::super::ops::{Cc, Op, SelectFrom, WideOp, WideShift};
use super::super::program::Program;
use super::super::tables::{Dataplane, Side};
use super::bytes::{bits, extract, sign64, sign128};
use super::{MAX_PARSER_STATES, Packet, mask, set_wide, wide};
use std::sync::atomic::Ordering;

/// Parser errors that the target itself raises (core.p4's numbers).
const PACKET_TOO_SHORT: u64 = 1;
const PARSER_TIMEOUT: u64 = 5;
const PARSER_INVALID_ARGUMENT: u64 = 6;

pub(super) struct Machine<'a, 'f> {
    pub p: &'a Program,
    pub dp: &'a Dataplane,
    pub side: &'a Side,
    pub s: &'a mut [u64],
    pub pkt: &'a mut Packet<'f>,
    pub calc: &'a mut Vec<u8>,
}

fn at(i: Slot) -> usize {
    usize::from(i)
}

fn wide_mask(w: u8) -> u128 {
    u128::MAX >> (128 - u32::from(w))
}

impl Machine<'_, '_> {
    /// Runs from `pc` to the next `End`.
    #[inline]
    pub(super) fn run(&mut self, pc: u32) {
        let code = self.p.code.as_slice();
        let mut pc = pc as usize;
        // Where an action returns to.
        let mut back = 0usize;
        // Narrow instructions, written once.
        macro_rules! alu {
            ($d:expr, $w:expr, $v:expr) => {
                self.s[at($d)] = $v & mask($w)
            };
        }
        macro_rules! branch {
            ($cond:expr, $t:expr) => {
                if $cond {
                    pc = $t as usize;
                }
            };
        }
        while let Some(op) = code.get(pc) {
            pc += 1;
            match *op {
                Op::Mov { d, a, w } => alu!(d, w, self.s[at(a)]),
                Op::Add { d, a, b, w } => alu!(d, w, self.s[at(a)].wrapping_add(self.s[at(b)])),
                Op::Sub { d, a, b, w } => alu!(d, w, self.s[at(a)].wrapping_sub(self.s[at(b)])),
                Op::Mul { d, a, b, w } => alu!(d, w, self.s[at(a)].wrapping_mul(self.s[at(b)])),
                Op::And { d, a, b, w } => alu!(d, w, self.s[at(a)] & self.s[at(b)]),
                Op::Or { d, a, b, w } => alu!(d, w, self.s[at(a)] | self.s[at(b)]),
                Op::Xor { d, a, b, w } => alu!(d, w, self.s[at(a)] ^ self.s[at(b)]),
                Op::Not { d, a, w } => alu!(d, w, !self.s[at(a)]),
                Op::Shl { d, a, b, w } => {
                    let k = self.s[at(b)];
                    alu!(d, w, if k < 64 { self.s[at(a)] << k } else { 0 });
                }
                Op::Shr { d, a, b, w } => {
                    let k = self.s[at(b)];
                    alu!(d, w, if k < 64 { self.s[at(a)] >> k } else { 0 });
                }
                Op::Sar { d, a, b, w } => {
                    let k = self.s[at(b)].min(63);
                    alu!(d, w, (self.s[at(a)] as i64 >> k) as u64);
                }
                Op::ShlI { d, a, k, w } => alu!(d, w, self.s[at(a)].checked_shl(u32::from(k)).unwrap_or(0)),
                Op::ShrI { d, a, k, w } => alu!(d, w, self.s[at(a)].checked_shr(u32::from(k)).unwrap_or(0)),
                Op::SarI { d, a, k, w } => alu!(d, w, (self.s[at(a)] as i64 >> k.min(63)) as u64),
                Op::Div { d, a, b } => self.s[at(d)] = self.s[at(a)].checked_div(self.s[at(b)]).unwrap_or(0),
                Op::Rem { d, a, b } => self.s[at(d)] = self.s[at(a)].checked_rem(self.s[at(b)]).unwrap_or(0),
                Op::Sext { d, a, w } => self.s[at(d)] = sign64(self.s[at(a)], u32::from(w)),
                Op::Set { d, a, b, cc } => {
                    let (a, b) = (self.s[at(a)], self.s[at(b)]);
                    self.s[at(d)] = u64::from(match cc {
                        Cc::Eq => a == b,
                        Cc::Ne => a != b,
                        Cc::LtU => a < b,
                        Cc::LeU => a <= b,
                        Cc::LtS => (a as i64) < b as i64,
                        Cc::LeS => a as i64 <= b as i64,
                    });
                }

                Op::Jmp { t } => pc = t as usize,
                Op::BrZ { a, t } => branch!(self.s[at(a)] == 0, t),
                Op::BrNz { a, t } => branch!(self.s[at(a)] != 0, t),
                Op::BrEq { a, b, t } => branch!(self.s[at(a)] == self.s[at(b)], t),
                Op::BrNe { a, b, t } => branch!(self.s[at(a)] != self.s[at(b)], t),
                Op::BrLtU { a, b, t } => branch!(self.s[at(a)] < self.s[at(b)], t),
                Op::BrLeU { a, b, t } => branch!(self.s[at(a)] <= self.s[at(b)], t),
                Op::BrLtS { a, b, t } => branch!((self.s[at(a)] as i64) < self.s[at(b)] as i64, t),
                Op::BrLeS { a, b, t } => branch!(self.s[at(a)] as i64 <= self.s[at(b)] as i64, t),

                Op::Apply { t } => {
                    let t = usize::from(t);
                    let found = self.dp.apply(self.side, t, self.s, self.pkt.frame.len() as u64, self.pkt.now_us);
                    let rt = &self.p.table_rt[t];
                    if let (Some(colour), Some((d, w))) = (found.colour, rt.meter) {
                        self.s[at(d)] = colour & mask(w);
                    }
                    match found.action {
                        Some(a) => {
                            let a = &rt.actions[a];
                            pc = a.code as usize;
                            back = if found.hit { a.next_hit } else { a.next_miss } as usize;
                        }
                        None => pc = rt.next_none as usize,
                    }
                }
                Op::Ret => pc = back,
                Op::End => return,

                Op::State => {
                    self.pkt.states += 1;
                    if self.pkt.states > MAX_PARSER_STATES {
                        self.pkt.parser_error = PARSER_TIMEOUT;
                        return;
                    }
                }
                Op::Extract { h } => {
                    let h = &self.p.headers[usize::from(h)];
                    let rest = &self.pkt.frame[self.pkt.parsed..];
                    if rest.len() < h.bytes as usize {
                        self.pkt.parser_error = PACKET_TOO_SHORT;
                        return;
                    }
                    extract(h, rest, self.s);
                    self.s[at(h.valid)] = 1;
                    self.pkt.parsed += h.bytes as usize;
                }
                Op::Select { ix } => pc = self.select(ix) as usize,
                Op::ParseFail { a } => {
                    self.pkt.parser_error = self.s[at(a)];
                    return;
                }
                Op::Lookahead { ix } => {
                    if !self.lookahead(ix) {
                        return;
                    }
                }
                Op::Advance { a } => {
                    if !self.advance(self.s[at(a)]) {
                        return;
                    }
                }
                ref other => self.rare(other),
            }
        }
    }

    fn select(&mut self, ix: u16) -> u32 {
        let select = &self.p.selects[usize::from(ix)];
        let mut key = 0u128;
        for part in &select.parts {
            let v = match part.from {
                SelectFrom::Slot { slot, width } if width <= 64 => u128::from(self.s[at(slot)] & mask(width as u8)),
                SelectFrom::Slot { slot, width } => wide(self.s, slot) & wide_mask(width as u8),
                // BMv2 reads beyond a packet that is too short for the lookahead; here those bits are 0.
                SelectFrom::Lookahead { bit_offset, width } => {
                    bits(self.pkt.frame, self.pkt.parsed * 8 + bit_offset as usize, width)
                }
            };
            key = key.checked_shl(part.bits).unwrap_or(0) | v;
        }
        select.cases.iter().find(|(value, m, _)| key & m == *value).map_or(select.default, |(_, _, t)| *t)
    }

    fn lookahead(&mut self, ix: u16) -> bool {
        let l = &self.p.lookaheads[usize::from(ix)];
        let rest = self.pkt.frame.len() - self.pkt.parsed;
        if rest * 8 < (l.bit_offset + l.width) as usize {
            self.pkt.parser_error = PACKET_TOO_SHORT;
            return false;
        }
        let v = bits(self.pkt.frame, self.pkt.parsed * 8 + l.bit_offset as usize, l.width);
        self.store(l.dst, v);
        true
    }

    /// Writes a field of any kind.
    fn store(&mut self, f: super::super::layout::Field, v: u128) {
        match (f.wide(), f.signed) {
            (false, false) => self.s[at(f.slot)] = v as u64 & mask(f.width as u8),
            (false, true) => self.s[at(f.slot)] = sign64(v as u64, f.width),
            (true, false) => set_wide(self.s, f.slot, v & wide_mask(f.width as u8)),
            (true, true) => set_wide(self.s, f.slot, sign128(v, f.width)),
        }
    }

    fn advance(&mut self, bits: u64) -> bool {
        let rest = (self.pkt.frame.len() - self.pkt.parsed) as u64;
        if !bits.is_multiple_of(8) {
            self.pkt.parser_error = PARSER_INVALID_ARGUMENT;
        } else if bits / 8 > rest {
            self.pkt.parser_error = PACKET_TOO_SHORT;
        } else {
            self.pkt.parsed += (bits / 8) as usize;
            return true;
        }
        false
    }

    /// What the program has few of on a packet's way.
    fn rare(&mut self, op: &Op) {
        let p = self.p;
        match *op {
            Op::AddHeader { h } => {
                let h = &p.headers[usize::from(h)];
                if self.s[at(h.valid)] == 0 {
                    for f in &h.fields {
                        self.store(*f, 0);
                    }
                    self.s[at(h.valid)] = 1;
                    self.pkt.length = self.pkt.length.wrapping_add(u64::from(h.bytes));
                }
            }
            Op::RemoveHeader { h } => {
                let h = &p.headers[usize::from(h)];
                if self.s[at(h.valid)] != 0 {
                    self.s[at(h.valid)] = 0;
                    self.pkt.length = self.pkt.length.wrapping_sub(u64::from(h.bytes));
                }
            }
            Op::CopyHeader { d, s } => {
                let (d, s) = (&p.headers[usize::from(d)], &p.headers[usize::from(s)]);
                self.s[at(d.valid)] = self.s[at(s.valid)];
                if self.s[at(s.valid)] != 0 {
                    for (d, s) in d.fields.iter().zip(&s.fields) {
                        self.s[at(d.slot)] = self.s[at(s.slot)];
                        if d.wide() {
                            self.s[at(d.slot) + 1] = self.s[at(s.slot) + 1];
                        }
                    }
                }
            }
            Op::Hash { ix } => {
                let h = &p.hashes[usize::from(ix)];
                // BMv2's rule: a size of 0 counts as 1.
                let size = self.s[at(h.size)].max(1);
                let base = self.s[at(h.base)];
                let v = self.calculate(h.calc) % size;
                self.store(h.dst, u128::from(v.wrapping_add(base)));
            }
            Op::Count { counter, index } => {
                let index = self.s[at(index)] as usize;
                if let Some(c) = self.dp.counters[usize::from(counter)].get(index) {
                    c.count(self.pkt.frame.len() as u64);
                }
            }
            Op::Meter { meter, index, d, w } => {
                let (unit, cells) = &self.dp.meters[usize::from(meter)];
                if let Some(m) = cells.get(self.s[at(index)] as usize) {
                    self.s[at(d)] = m.execute(*unit, self.pkt.frame.len() as u64, self.pkt.now_us) & mask(w);
                }
            }
            Op::RegRead { reg, index, d } => {
                if let Some(r) = self.dp.registers[usize::from(reg)].get(self.s[at(index)] as usize) {
                    self.s[at(d)] = r.load(Ordering::Relaxed);
                }
            }
            Op::RegWrite { reg, index, a } => {
                if let Some(r) = self.dp.registers[usize::from(reg)].get(self.s[at(index)] as usize) {
                    let width = p.registers[usize::from(reg)].width as u8;
                    r.store(self.s[at(a)] & mask(width), Ordering::Relaxed);
                }
            }
            Op::Truncate { a } => {
                let len = usize::try_from(self.s[at(a)]).unwrap_or(usize::MAX);
                self.pkt.truncate = self.pkt.truncate.min(len);
            }
            Op::Assert { a } => self.pkt.assert_failed |= self.s[at(a)] == 0,
            Op::EgressClock => {
                if self.pkt.in_egress && !self.pkt.egress_stamped {
                    self.pkt.egress_stamped = true;
                    super::set(self.s, p.std.egress_ts, self.dp.clock().now_us());
                }
            }
            Op::VerifyChecksum { ix } => {
                let c = &p.checksums[usize::from(ix)];
                let v = self.calculate(c.calc);
                self.pkt.checksum_error |= v != self.s[at(c.target.slot)];
            }
            Op::UpdateChecksum { ix } => {
                let c = &p.checksums[usize::from(ix)];
                let v = self.calculate(c.calc);
                self.store(c.target, u128::from(v));
            }
            ref wide_op => self.wide_op(wide_op),
        }
    }

    fn calculate(&mut self, calc: u16) -> u64 {
        let payload = &self.pkt.frame[self.pkt.parsed..];
        let payload = &payload[..payload.len().min(self.pkt.truncate)];
        self.p.calcs[usize::from(calc)].value(self.s, payload, self.calc)
    }

    fn wide_op(&mut self, op: &Op) {
        match *op {
            Op::WMov { d, a, w } => set_wide(self.s, d, wide(self.s, a) & wide_mask(w)),
            Op::WBin { op, d, a, b, w } => {
                let (a, b) = (wide(self.s, a), wide(self.s, b));
                let v = match op {
                    WideOp::Add => a.wrapping_add(b),
                    WideOp::Sub => a.wrapping_sub(b),
                    WideOp::Mul => a.wrapping_mul(b),
                    WideOp::And => a & b,
                    WideOp::Or => a | b,
                    WideOp::Xor => a ^ b,
                    WideOp::Div => a.checked_div(b).unwrap_or(0),
                    WideOp::Rem => a.checked_rem(b).unwrap_or(0),
                };
                set_wide(self.s, d, v & wide_mask(w));
            }
            Op::WShift { op, d, a, b, w } => {
                let (a, k) = (wide(self.s, a), self.s[at(b)].min(128) as u32);
                let v = match op {
                    WideShift::Shl => a.checked_shl(k).unwrap_or(0),
                    WideShift::Shr => a.checked_shr(k).unwrap_or(0),
                    WideShift::Sar => (a as i128 >> k.min(127)) as u128,
                };
                set_wide(self.s, d, v & wide_mask(w));
            }
            Op::WNot { d, a, w } => set_wide(self.s, d, !wide(self.s, a) & wide_mask(w)),
            Op::WSext { d, a, w } => set_wide(self.s, d, sign128(wide(self.s, a), u32::from(w))),
            Op::WSet { d, a, b, cc } => {
                let (a, b) = (wide(self.s, a), wide(self.s, b));
                self.s[at(d)] = u64::from(match cc {
                    Cc::Eq => a == b,
                    Cc::Ne => a != b,
                    Cc::LtU => a < b,
                    Cc::LeU => a <= b,
                    Cc::LtS => (a as i128) < b as i128,
                    Cc::LeS => a as i128 <= b as i128,
                });
            }
            Op::ZExt { d, a } => set_wide(self.s, d, u128::from(self.s[at(a)])),
            Op::SExt { d, a } => set_wide(self.s, d, i128::from(self.s[at(a)] as i64) as u128),
            Op::WSat { d, a, w, signed } => {
                let v = wide(self.s, a) as i128;
                let (lo, hi) = if signed {
                    (-1i128 << (w - 1), !(-1i128 << (w - 1)))
                } else {
                    (0, if w >= 127 { i128::MAX } else { (1 << w) - 1 })
                };
                set_wide(self.s, d, v.clamp(lo, hi) as u128);
            }
            Op::WSatU { d, a, w } => set_wide(self.s, d, wide(self.s, a).min(if w == 0 { 0 } else { wide_mask(w) })),
            // All others are run by the callers of this function.
            _ => {}
        }
    }
}
