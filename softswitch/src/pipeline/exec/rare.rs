//! Instructions that a packet meets few of, and those on 128 bits.

use super::super::hashes::State;
use super::super::marks::Mark;
use super::super::ops::{Cc, Op, WideOp, WideShift};
use super::bytes::sign128;
use super::machine::Machine;
use super::{ASSERT_FAILED, mask, wide_mask};
use std::sync::atomic::Ordering;

impl Machine<'_, '_> {
    /// What the program has few of on a packet's way.
    #[inline(never)]
    pub(super) fn rare(&mut self, op: &Op) {
        let p = self.p;
        match *op {
            Op::AddHeader { h } => self.add_header(&p.headers[usize::from(h)]),
            Op::RemoveHeader { h } => self.remove_header(&p.headers[usize::from(h)]),
            Op::CopyHeader { d, s } => self.copy_header(&p.headers[usize::from(d)], &p.headers[usize::from(s)]),
            Op::Slow { ix } => self.slow(ix),
            Op::Hash { ix } => {
                let h = &p.hashes[usize::from(ix)];
                // BMv2's rule: a size of 0 counts as 1.
                let size = self.s.get(h.size).max(1);
                let base = self.s.get(h.base);
                let v = self.calculate(h.calc) % size;
                self.s.store(h.dst, u128::from(v.wrapping_add(base)));
            }
            Op::Count { counter, index } => {
                let index = self.s.get(index) as usize;
                if let Some(c) = self.dp.counters[usize::from(counter)].get(index) {
                    c.count(self.pkt.frame.len() as u64);
                }
            }
            Op::Meter { meter, index, d, w } => {
                let (unit, cells) = &self.dp.meters[usize::from(meter)];
                // Beyond the array, the result is undefined (v1model.p4): green, whatever the field was before.
                let colour = cells
                    .get(self.s.get(index) as usize)
                    .map_or(0, |m| m.execute(*unit, self.pkt.frame.len() as u64, self.pkt.now_us));
                self.s.set(d, colour & mask(w));
            }
            Op::RegRead { reg, index, d } => {
                self.take_turn(reg);
                // As for meters: 0.
                let cell = self.dp.registers[usize::from(reg)].get(self.s.get(index) as usize);
                self.s.set(d, cell.map_or(0, |r| r.load(Ordering::Relaxed)));
            }
            Op::RegWrite { reg, index, a } => {
                self.take_turn(reg);
                if let Some(r) = self.dp.registers[usize::from(reg)].get(self.s.get(index) as usize) {
                    let width = p.registers[usize::from(reg)].width as u8;
                    r.store(self.s.get(a) & mask(width), Ordering::Relaxed);
                }
            }
            Op::Truncate { a } => {
                let len = usize::try_from(self.s.get(a)).unwrap_or(usize::MAX);
                self.pkt.truncate = self.pkt.truncate.min(len);
            }
            Op::Assert { a } => {
                if self.s.get(a) == 0 {
                    self.pkt.flags |= ASSERT_FAILED;
                }
            }
            Op::CloneIngress => self.clone_ingress(),
            Op::CloneEgress { t } => self.clone_egress(t),
            Op::Learn => self.learn(),
            Op::Recirculate => self.recirculate(),
            Op::EgressClock => {
                if !self.pkt.egress_stamped {
                    self.pkt.egress_stamped = true;
                    self.s.set_field(p.std.egress_ts, self.dp.clock().now_us());
                }
            }
            Op::VerifyChecksum { ix } => {
                let c = &p.checksums[usize::from(ix)];
                let v = self.calculate(c.calc);
                if v != self.s.get(c.target.slot) {
                    self.s.set(p.checksum_slot, 1);
                }
            }
            Op::UpdateChecksum { ix } => {
                let c = &p.checksums[usize::from(ix)];
                let v = self.calculate(c.calc);
                self.s.store(c.target, u128::from(v));
            }
            Op::Mark { ix } => {
                if let Some(mark) = p.marks.get(ix as usize) {
                    if let Mark::Way { table, hit, .. } = mark {
                        self.dp.tally(*table, *hit);
                    }
                    self.trace.note(self.dp, self.side, self.s.all(), mark);
                }
            }
            ref wide_op => self.wide_op(wide_op),
        }
    }

    pub(super) fn calculate(&mut self, calc: u16) -> u64 {
        let s = self.s;
        let payload = &self.pkt.frame[self.pkt.parsed..];
        let payload = &payload[..payload.len().min(self.pkt.truncate)];
        let (calc, state) = (&self.p.calcs[usize::from(calc)], &self.dp.hash_states[usize::from(calc)]);
        if let State::None = state {
            return calc.value(|i| s.get(i), self.pkt.frame, payload, &mut self.scratch.calc);
        }
        calc.fill(&|i| s.get(i), self.pkt.frame, payload, &mut self.scratch.calc);
        state.over(&self.scratch.calc).unwrap_or(0)
    }

    fn wide_op(&mut self, op: &Op) {
        match *op {
            Op::WMov { d, a, w } => self.s.set_wide(d, self.s.wide(a) & wide_mask(w)),
            Op::WBin { op, d, a, b, w } => {
                let (a, b) = (self.s.wide(a), self.s.wide(b));
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
                self.s.set_wide(d, v & wide_mask(w));
            }
            Op::WShift { op, d, a, b, w } => {
                let (a, k) = (self.s.wide(a), self.s.get(b).min(128) as u32);
                let v = match op {
                    WideShift::Shl => a.checked_shl(k).unwrap_or(0),
                    WideShift::Shr => a.checked_shr(k).unwrap_or(0),
                    WideShift::Sar => (a as i128 >> k.min(127)) as u128,
                };
                self.s.set_wide(d, v & wide_mask(w));
            }
            Op::WNot { d, a, w } => self.s.set_wide(d, !self.s.wide(a) & wide_mask(w)),
            Op::WSext { d, a, w } => self.s.set_wide(d, sign128(self.s.wide(a), u32::from(w))),
            Op::WSet { d, a, b, cc } => {
                let (a, b) = (self.s.wide(a), self.s.wide(b));
                self.s.set(
                    d,
                    u64::from(match cc {
                        Cc::Eq => a == b,
                        Cc::Ne => a != b,
                        Cc::LtU => a < b,
                        Cc::LeU => a <= b,
                        Cc::LtS => (a as i128) < b as i128,
                        Cc::LeS => a as i128 <= b as i128,
                    }),
                );
            }
            Op::ZExt { d, a } => self.s.set_wide(d, u128::from(self.s.get(a))),
            Op::SExt { d, a } => self.s.set_wide(d, i128::from(self.s.get(a) as i64) as u128),
            Op::WSat { d, a, w, signed } => {
                let v = self.s.wide(a) as i128;
                let (lo, hi) = if signed {
                    (-1i128 << (w - 1), !(-1i128 << (w - 1)))
                } else {
                    (0, if w >= 127 { i128::MAX } else { (1 << w) - 1 })
                };
                self.s.set_wide(d, v.clamp(lo, hi) as u128);
            }
            Op::WSatU { d, a, w } => self.s.set_wide(d, self.s.wide(a).min(if w == 0 { 0 } else { wide_mask(w) })),
            // All others are run by the callers of this function.
            _ => {}
        }
    }
}
