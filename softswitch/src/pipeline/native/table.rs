//! Lookups and selects.

use super::super::ops::Op;
use super::super::tables::Packing;
use super::calls;
use super::flow::{Gen, NONE, ours};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, JumpTableData, Value, types};

/// Up to so many actions are compared one after the other.
const FEW: usize = 3;

impl Gen<'_, '_> {
    /// Translates the instruction if it is one of those here; the next one is never reached from it.
    pub(super) fn table(&mut self, op: &Op) -> Option<bool> {
        match *op {
            Op::Apply { t, ways } | Op::ApplyVia { t, ways } => self.apply(op, t, ways),
            Op::Select { ix } if self.p.selects[ix as usize].narrow.is_some() => self.select(ix),
            _ => return None,
        }
        Some(false)
    }

    fn select(&mut self, ix: u32) {
        let p = self.p;
        let select = &p.selects[ix as usize];
        let Some(narrow) = &select.narrow else { return };
        let mut key: Option<Value> = None;
        for (slot, mask, shift) in &narrow.parts {
            let v = self.get(*slot);
            let v = if *mask == u64::MAX { v } else { self.b.ins().band_imm_u(v, *mask as i64) };
            let v = self.shift_left(v, *shift);
            key = Some(match key {
                Some(k) => self.b.ins().bor(k, v),
                None => v,
            });
        }
        let key = match key {
            Some(k) => k,
            None => self.number(0),
        };
        for (value, mask, t) in &narrow.cases {
            let masked = if *mask == u64::MAX { key } else { self.b.ins().band_imm_u(key, *mask as i64) };
            let value = self.number(*value);
            let is = self.b.ins().icmp(IntCC::Equal, masked, value);
            self.branch(is, *t);
        }
        self.jump(select.default);
    }

    fn apply(&mut self, op: &Op, t: u16, ways: u32) {
        let p = self.p;
        let (rt, ways) = (&p.table_rt[usize::from(t)], &p.ways[ways as usize]);
        let number = self.b.ins().iconst(types::I32, i64::from(t));
        let m = self.m;
        let packing = Packing::of(&p.tables[usize::from(t)], &rt.key);
        let found = if rt.via.is_some() {
            let signature = self.find;
            self.call(signature, calls::find_via as *const () as usize, &[m, number])
        } else if (1..=2).contains(&packing.words) {
            let [low, high] = self.pack(&packing);
            let signature = self.find_packed;
            self.call(signature, calls::find_packed as *const () as usize, &[m, number, low, high])
        } else {
            let signature = self.find;
            self.call(signature, calls::find as *const () as usize, &[m, number])
        };
        let args = found[0];
        self.forget(op);
        let hit = self.b.ins().band_imm_u(found[1], 1);
        let action = self.b.ins().ushr_imm_u(found[1], 1);
        // One block for each action, and then for hit and miss.
        let blocks: Vec<_> = ways.actions.iter().map(|_| self.b.create_block()).collect();
        let none = self.target(ways.none);
        if blocks.len() <= FEW {
            for (n, block) in blocks.iter().enumerate() {
                let on = self.b.create_block();
                let is = self.b.ins().icmp_imm_u(IntCC::Equal, action, n as i64);
                self.b.ins().brif(is, *block, NONE, on, NONE);
                self.b.switch_to_block(on);
            }
            self.b.ins().jump(none, NONE);
        } else {
            // No action is the largest number: it must not wrap round when it is cut to 32 bits.
            let (few, most) = (self.b.create_block(), blocks.len() as i64);
            let beyond = self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, action, most);
            self.b.ins().brif(beyond, none, NONE, few, NONE);
            self.b.switch_to_block(few);
            let number = self.b.ins().ireduce(types::I32, action);
            let default = self.b.func.dfg.block_call(blocks[0], NONE);
            let all: Vec<_> = blocks.iter().map(|b| self.b.func.dfg.block_call(*b, NONE)).collect();
            let table = self.b.create_jump_table(JumpTableData::new(default, &all));
            self.b.ins().br_table(number, table);
        }
        let (known, parsed) = (self.known(), self.parsed_if_known());
        for ((block, (on_hit, on_miss)), action) in blocks.into_iter().zip(ways.actions.iter()).zip(&rt.actions) {
            self.b.switch_to_block(block);
            self.resume(known.clone(), parsed);
            for n in 0..action.param_words {
                let v = self.b.ins().load(types::I64, ours(), args, 8 * i32::from(n));
                self.set(action.param_base + n, v);
            }
            let on_hit = self.target(*on_hit);
            let on_miss = self.target(*on_miss);
            if on_hit == on_miss {
                self.b.ins().jump(on_hit, NONE);
            } else {
                self.b.ins().brif(hit, on_hit, NONE, on_miss, NONE);
            }
        }
    }

    /// The key of the packet, of at most two words.
    fn pack(&mut self, packing: &Packing) -> [Value; 2] {
        let mut words: [Option<Value>; 2] = [None; 2];
        for part in &packing.packed {
            let mut pieces = vec![(part.slot, part.mask as u64, part.pos)];
            if part.width > 64 {
                pieces.push((part.slot + 1, (part.mask >> 64) as u64, part.pos + 64));
            }
            let valid = part.valid.map(|v| {
                let v = self.get(v);
                self.b.ins().icmp_imm_u(IntCC::NotEqual, v, 0)
            });
            for (slot, mask, pos) in pieces {
                let mut v = self.get(slot);
                if mask != u64::MAX {
                    v = self.b.ins().band_imm_u(v, mask as i64);
                }
                if let Some(valid) = valid {
                    let zero = self.number(0);
                    v = self.b.ins().select(valid, v, zero);
                }
                let (word, up) = ((pos / 64) as usize, (pos % 64) as u8);
                let low = self.shift_left(v, up);
                self.or_into(&mut words, word, low);
                // What is shifted out at the top goes on in the next word.
                let over = mask.leading_zeros() < u32::from(up);
                if over {
                    let high = self.shift_right(v, 64 - up);
                    self.or_into(&mut words, word + 1, high);
                }
            }
        }
        words.map(|w| match w {
            Some(w) => w,
            None => self.number(0),
        })
    }

    fn or_into(&mut self, words: &mut [Option<Value>; 2], at: usize, v: Value) {
        if let Some(word) = words.get_mut(at) {
            *word = Some(match *word {
                Some(o) => self.b.ins().bor(o, v),
                None => v,
            });
        }
    }
}
