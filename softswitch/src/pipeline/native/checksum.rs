//! Internet checksums over fields.

use super::super::calc::Fast;
use super::super::ops::Op;
use super::flow::{Gen, NONE};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl Gen<'_, '_> {
    /// Translates the checksum if it is one over fields without a payload. False if the interpreter has to do it.
    pub(super) fn checksum(&mut self, op: &Op) -> bool {
        let (ix, verify) = match *op {
            Op::VerifyChecksum { ix } => (ix, true),
            Op::UpdateChecksum { ix } => (ix, false),
            _ => return false,
        };
        let p = self.p;
        let c = &p.checksums[usize::from(ix)];
        let calc = &p.calcs[usize::from(c.calc)];
        let Some(fast) = calc.fast().filter(|_| !calc.payload) else { return false };
        if c.target.wide() || c.target.signed {
            return false;
        }
        let (slow, done) = (self.cold(), self.b.create_block());
        // Read before any branch: what is known behind both ways must have been read on both.
        let valid: Vec<Value> = fast.valid().iter().map(|v| self.get(*v)).collect();
        for v in valid {
            let on = self.b.create_block();
            self.b.ins().brif(v, on, NONE, slow, NONE);
            self.b.switch_to_block(on);
        }
        let (known, parsed) = (self.known(), self.parsed_if_known());
        let sum = self.sum(fast);
        if verify {
            let kept = self.get(c.target.slot);
            let (wrong, one) = (self.cold(), self.number(1));
            let same = self.b.ins().icmp(IntCC::Equal, sum, kept);
            self.b.ins().brif(same, done, NONE, wrong, NONE);
            self.b.switch_to_block(wrong);
            self.set(p.checksum_slot, one);
        } else {
            let v = self.cut(sum, c.target.width as u8);
            self.set(c.target.slot, v);
        }
        self.b.ins().jump(done, NONE);
        self.b.switch_to_block(slow);
        self.call_step();
        self.b.ins().jump(done, NONE);
        self.b.switch_to_block(done);
        self.resume(known, parsed);
        self.forget(op);
        true
    }

    /// The complement of the sum of 16-bit words, folded.
    fn sum(&mut self, fast: &Fast) -> Value {
        let mut sum: Option<Value> = None;
        let mut add = |g: &mut Self, v: Value| {
            sum = Some(match sum {
                Some(s) => g.b.ins().iadd(s, v),
                None => v,
            });
        };
        for (slot, down, mask, up) in fast.terms() {
            let v = self.get(*slot);
            let v = self.shift_right(v, *down);
            let v = self.b.ins().band_imm_u(v, i64::from(*mask));
            let v = self.shift_left(v, *up);
            add(self, v);
        }
        for (slot, up) in fast.plain() {
            let v = self.get(*slot);
            let v = self.shift_left(v, *up);
            add(self, v);
        }
        // The constant may have all 64 bits.
        let constant = self.number(fast.constant());
        let sum = match sum {
            Some(s) => {
                let all = self.b.ins().iadd(s, constant);
                let carry = self.b.ins().icmp(IntCC::UnsignedLessThan, all, constant);
                let carry = self.b.ins().uextend(types::I64, carry);
                self.b.ins().iadd(all, carry)
            }
            None => constant,
        };
        let s = self.halves(sum, 32, 0xffff_ffff);
        let low = self.b.ins().band_imm_u(s, 0xffff);
        let middle = self.b.ins().ushr_imm_u(s, 16);
        let middle = self.b.ins().band_imm_u(middle, 0xffff);
        let high = self.b.ins().ushr_imm_u(s, 32);
        let s = self.b.ins().iadd(low, middle);
        let s = self.b.ins().iadd(s, high);
        let s = self.halves(s, 16, 0xffff);
        let s = self.halves(s, 16, 0xffff);
        let s = self.b.ins().bnot(s);
        self.b.ins().band_imm_u(s, 0xffff)
    }

    /// The lower part plus the upper part.
    fn halves(&mut self, v: Value, shift: i64, mask: i64) -> Value {
        let low = self.b.ins().band_imm_u(v, mask);
        let high = self.b.ins().ushr_imm_u(v, shift);
        self.b.ins().iadd(low, high)
    }
}
