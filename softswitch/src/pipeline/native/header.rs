//! Headers: out of the frame, and what is sent.

use super::super::layout::{Field, Header};
use super::super::ops::Op;
use super::super::program::Program;
use super::flow::{Gen, NONE, bytes, ours};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Type, Value, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::JITModule;
use cranelift_module::{FuncId, Linkage, Module, ModuleError};

/// A run of bits of a header that is read as one number.
#[derive(Clone, Copy)]
struct Run {
    bit: u32,
    width: u32,
}

impl Gen<'_, '_> {
    /// Translates the instruction if it is one of those here; the result says whether the next one is reached.
    pub(super) fn header(&mut self, op: &Op) -> Option<bool> {
        match *op {
            Op::Extract { h, t } => self.extract(op, h, t),
            _ => return None,
        }
        Some(true)
    }

    fn extract(&mut self, op: &Op, h: u16, t: u32) {
        let h = &self.p.headers[usize::from(h)];
        let at = self.parsed();
        let end = self.b.ins().iadd_imm_u(at, i64::from(h.bytes));
        let (short, fits) = (self.cold(), self.b.create_block());
        let beyond = self.b.ins().icmp(IntCC::UnsignedGreaterThan, end, self.frame_len);
        self.b.ins().brif(beyond, short, NONE, fits, NONE);
        // The interpreter says what a packet that is too short means.
        let (known, parsed) = (self.known(), at);
        self.b.switch_to_block(short);
        self.call_step();
        self.forget(op);
        self.jump(t);
        self.b.switch_to_block(fits);
        self.restore(known, parsed);
        let base = self.b.ins().iadd(self.frame, at);
        match &h.wire {
            Some(wire) => {
                for w in &wire.read {
                    let v = self.load_be(types::I64, base, i32::from(w.at));
                    let v = self.shift_right(v, w.shift);
                    // What is left of the shift may be all there is.
                    let v = if w.shift + w.width == 64 { v } else { self.cut(v, w.width) };
                    self.set(w.slot, v);
                }
            }
            None => {
                for f in &h.fields {
                    self.field(base, h, f);
                }
            }
        }
        let (one, origin) = (self.number(1), self.b.ins().iadd_imm_u(at, 1));
        self.set(h.valid, one);
        self.set(h.origin, origin);
        self.set_parsed(end);
    }

    fn field(&mut self, base: Value, h: &Header, f: &Field) {
        let mut left = f.width;
        for slot in f.slots() {
            let width = left.min(64);
            left -= width;
            let mut v = self.run(base, h.bytes, Run { bit: f.bit_offset + left, width });
            if f.signed && left == 0 {
                let up = i64::from(64 - width);
                v = self.b.ins().ishl_imm_u(v, up);
                v = self.b.ins().sshr_imm_u(v, up);
            }
            self.set(slot, v);
        }
    }

    /// At most 64 bits of a header of so many bytes that is at `base`.
    fn run(&mut self, base: Value, header: u32, r: Run) -> Value {
        let first = r.bit / 8;
        let last = (r.bit + r.width - 1) / 8;
        let count = last - first + 1;
        if count > 8 {
            // A ninth byte: in two parts.
            let low = r.width / 2;
            let upper = self.run(base, header, Run { bit: r.bit, width: r.width - low });
            let lower = self.run(base, header, Run { bit: r.bit + r.width - low, width: low });
            let upper = self.shift_left(upper, low as u8);
            return self.b.ins().bor(upper, lower);
        }
        let (v, end) = if header >= 8 {
            let at = first.min(header - 8);
            (self.load_be(types::I64, base, at as i32), (at + 8) * 8)
        } else {
            (self.pieces(base, first, count), (last + 1) * 8)
        };
        let v = self.shift_right(v, (end - r.bit - r.width) as u8);
        self.cut(v, r.width as u8)
    }

    /// So many bytes, big-endian, where no eight may be read at once.
    fn pieces(&mut self, base: Value, mut at: u32, mut count: u32) -> Value {
        let mut all: Option<Value> = None;
        while count > 0 {
            let size = 1 << count.ilog2().min(2);
            let t = [types::I8, types::I16, types::I32][(size as u32).ilog2() as usize];
            let v = self.load_be(t, base, at as i32);
            all = Some(match all {
                Some(upper) => {
                    let upper = self.shift_left(upper, 8 * size as u8);
                    self.b.ins().bor(upper, v)
                }
                None => v,
            });
            at += size as u32;
            count -= size as u32;
        }
        match all {
            Some(v) => v,
            None => self.number(0),
        }
    }
}

/// Translates what the deparser does. The function returns how many bytes it has written.
pub(super) fn emit(p: &Program, module: &mut JITModule) -> Result<FuncId, ModuleError> {
    let mut context = module.make_context();
    let pointer = module.target_config().pointer_type();
    for t in [pointer, pointer, types::I64, pointer] {
        context.func.signature.params.push(AbiParam::new(t));
    }
    context.func.signature.returns.push(AbiParam::new(types::I64));
    let id = module.declare_function("emit", Linkage::Local, &context.func.signature)?;
    let mut scratch = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut context.func, &mut scratch);
    let start = b.create_block();
    b.append_block_params_for_function_params(start);
    b.switch_to_block(start);
    let params = b.block_params(start);
    let (slots, frame, out) = (params[0], params[1], params[3]);
    let mut e = Emitter { b, slots, frame, out };
    let mut at = e.b.ins().iconst(types::I64, 0);
    for h in &p.deparse {
        at = e.one(&p.headers[*h], at);
    }
    e.b.ins().return_(&[at]);
    e.b.seal_all_blocks();
    e.b.finalize(module.target_config());
    module.define_function(id, &mut context)?;
    module.clear_context(&mut context);
    Ok(id)
}

struct Emitter<'f> {
    b: FunctionBuilder<'f>,
    slots: Value,
    frame: Value,
    out: Value,
}

/// Collects fields into whole words.
struct Word {
    value: Option<Value>,
    /// Bits that are filled, from the top.
    used: u32,
    at: i32,
}

impl Emitter<'_> {
    /// A header at an offset of what is sent. Returns the offset behind it.
    fn one(&mut self, h: &Header, at: Value) -> Value {
        let (valid, next) = (self.b.create_block(), self.b.create_block());
        let after = self.b.append_block_param(next, types::I64);
        let is = self.slot(h.valid);
        self.b.ins().brif(is, valid, NONE, next, &[at.into()]);
        self.b.switch_to_block(valid);
        let to = self.b.ins().iadd(self.out, at);
        let end = self.b.ins().iadd_imm_u(at, i64::from(h.bytes));
        if let Some(wire) = &h.wire {
            let (came, made) = (self.b.create_block(), self.b.create_block());
            let origin = self.slot(h.origin);
            self.b.ins().brif(origin, came, NONE, made, NONE);
            self.b.switch_to_block(came);
            // An origin is one more than where the header was, and was within the frame when it was written.
            let from = self.b.ins().iadd(self.frame, origin);
            // A patch that shares bytes with one before it goes over what that one wrote.
            let alone = |n: usize| n == 0 || wire.patches[n - 1].at + 8 <= wire.patches[n].at;
            let whole: Vec<u32> =
                (0..wire.patches.len()).filter(|n| alone(*n)).map(|n| u32::from(wire.patches[n].at)).collect();
            self.copy(from, to, h.bytes, &whole);
            for (n, p) in wire.patches.iter().enumerate() {
                let word = if alone(n) {
                    self.b.ins().load(types::I64, bytes(), from, i32::from(p.at) - 1)
                } else {
                    self.b.ins().load(types::I64, bytes(), to, i32::from(p.at))
                };
                let word = self.b.ins().bswap(word);
                let mut word = self.b.ins().band_imm_u(word, p.keep as i64);
                for (slot, mask, shift) in &p.fields {
                    let v = self.slot(*slot);
                    let v = if *mask == u64::MAX { v } else { self.b.ins().band_imm_u(v, *mask as i64) };
                    let v = self.b.ins().ishl_imm_u(v, i64::from(*shift));
                    word = self.b.ins().bor(word, v);
                }
                self.store(types::I64, word, to, i32::from(p.at));
            }
            self.b.ins().jump(next, &[end.into()]);
            self.b.switch_to_block(made);
        }
        self.fields(h, to);
        self.b.ins().jump(next, &[end.into()]);
        self.b.switch_to_block(next);
        after
    }

    fn slot(&mut self, s: u16) -> Value {
        self.b.ins().load(types::I64, ours(), self.slots, i32::from(s) * 8)
    }

    fn store(&mut self, t: Type, v: Value, to: Value, at: i32) {
        let v = if t == types::I64 { v } else { self.b.ins().ireduce(t, v) };
        let v = if t == types::I8 { v } else { self.b.ins().bswap(v) };
        self.b.ins().store(bytes(), v, to, at);
    }

    /// Copies a header of at least eight bytes, less the eight at each of the places that are written anyway. `from` is one
    /// byte behind the header's start.
    fn copy(&mut self, from: Value, to: Value, len: u32, patched: &[u32]) {
        let mut at = 0;
        while at < len {
            let place = at.min(len - 8);
            at = place + 8;
            if patched.contains(&place) {
                continue;
            }
            let v = self.b.ins().load(types::I64, bytes(), from, place as i32 - 1);
            self.b.ins().store(bytes(), v, to, place as i32);
        }
    }

    /// All fields, from their slots.
    fn fields(&mut self, h: &Header, to: Value) {
        let mut word = Word { value: None, used: 0, at: 0 };
        for f in &h.fields {
            let mut width = (f.width - 1) % 64 + 1;
            for slot in f.slots().rev() {
                let v = self.slot(slot);
                self.put(&mut word, v, width, to);
                width = 64;
            }
        }
        self.rest(word, to);
    }

    fn put(&mut self, word: &mut Word, v: Value, width: u32, to: Value) {
        let v = if width < 64 { self.b.ins().band_imm_u(v, ((1u64 << width) - 1) as i64) } else { v };
        let free = 64 - word.used;
        if width < free {
            self.or(word, v, free - width);
            word.used += width;
            return;
        }
        let over = width - free;
        let upper = if over == 0 { v } else { self.b.ins().ushr_imm_u(v, i64::from(over)) };
        self.or(word, upper, 0);
        if let Some(full) = word.value.take() {
            self.store(types::I64, full, to, word.at);
        }
        word.at += 8;
        word.used = 0;
        if over > 0 {
            self.or(word, v, 64 - over);
            word.used = over;
        }
    }

    fn or(&mut self, word: &mut Word, v: Value, up: u32) {
        let v = if up == 0 { v } else { self.b.ins().ishl_imm_u(v, i64::from(up)) };
        word.value = Some(match word.value {
            Some(o) => self.b.ins().bor(o, v),
            None => v,
        });
    }

    /// The last bytes, fewer than eight.
    fn rest(&mut self, word: Word, to: Value) {
        let Some(mut v) = word.value else { return };
        let mut left = word.used / 8;
        let mut at = word.at;
        while left > 0 {
            let size = 1u32 << left.ilog2();
            let t = [types::I8, types::I16, types::I32][size.ilog2() as usize];
            let top = self.b.ins().ushr_imm_u(v, i64::from(64 - 8 * size));
            self.store(t, top, to, at);
            v = self.b.ins().ishl_imm_u(v, i64::from(8 * size));
            at += size as i32;
            left -= size;
        }
    }
}
