//! From instructions to blocks: where code goes on, and what is known to be in which slot.

use super::super::effects::Access;
use super::super::exec::Packet;
use super::super::exec::machine::{Machine, STOP};
use super::super::layout::Slot;
use super::super::ops::Op;
use super::super::program::Program;
use super::calls;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, InstBuilder, JumpTableData, MemFlagsData, SigRef, Signature, Type, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::JITModule;
use cranelift_module::{FuncId, Linkage, Module, ModuleError};
use std::collections::{BTreeMap, HashMap};
use std::mem::offset_of;

/// No arguments for a block.
pub(super) const NONE: &[BlockArg] = &[];
/// Memory of ours: it is there and aligned.
pub(super) fn ours() -> MemFlagsData {
    MemFlagsData::trusted()
}
/// Bytes of a frame: they are there.
pub(super) fn bytes() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Where `Machine` keeps how much of the frame was parsed.
const PARSED: i32 = (offset_of!(Machine<'static, 'static>, pkt) + offset_of!(Packet<'static>, parsed)) as i32;

/// The function under construction.
pub(super) struct Gen<'a, 'f> {
    pub p: &'a Program,
    pub b: FunctionBuilder<'f>,
    pub m: Value,
    pub slots: Value,
    pub frame: Value,
    pub frame_len: Value,
    entry: Value,
    /// Slots that hold constants.
    consts: HashMap<Slot, u64>,
    /// What is in a slot, as far as it is known in this block.
    known: HashMap<Slot, Value>,
    parsed: Option<Value>,
    /// Blocks of the instructions that something other than the one before leads to.
    blocks: Vec<Option<Block>>,
    /// How many ways lead to an instruction.
    ways: Vec<u32>,
    /// What is known where a block starts that only one way leads to.
    carried: HashMap<u32, (HashMap<Slot, Value>, Option<Value>)>,
    step: SigRef,
    pub find: SigRef,
    pub find_packed: SigRef,
    pub pc: u32,
}

/// Translates the program's code. Returns the function, and the number of each instruction where packets may start.
pub(super) fn run(p: &Program, module: &mut JITModule) -> Result<(FuncId, HashMap<u32, u32>), ModuleError> {
    let mut context = module.make_context();
    let pointer = module.target_config().pointer_type();
    for t in [pointer, pointer, pointer, types::I64, types::I32] {
        context.func.signature.params.push(AbiParam::new(t));
    }
    let id = module.declare_function("run", Linkage::Local, &context.func.signature)?;
    let mut step = module.make_signature();
    step.params.extend([AbiParam::new(pointer), AbiParam::new(types::I32)]);
    step.returns.push(AbiParam::new(types::I32));
    let mut find = module.make_signature();
    find.params.extend([AbiParam::new(pointer), AbiParam::new(types::I32)]);
    find.returns.extend([AbiParam::new(pointer), AbiParam::new(types::I64)]);
    let mut scratch = FunctionBuilderContext::new();
    let entries: BTreeMap<u32, u32> = p.entries().into_iter().zip(0..).collect();
    let mut find_packed = find.clone();
    find_packed.params.extend([AbiParam::new(types::I64), AbiParam::new(types::I64)]);
    let b = FunctionBuilder::new(&mut context.func, &mut scratch);
    Gen::new(p, b, [step, find, find_packed]).all(&entries).finalize(module.target_config());
    module.define_function(id, &mut context)?;
    module.clear_context(&mut context);
    Ok((id, entries.into_iter().collect()))
}

impl<'a, 'f> Gen<'a, 'f> {
    fn new(p: &'a Program, mut b: FunctionBuilder<'f>, calls: [Signature; 3]) -> Self {
        let start = b.create_block();
        b.append_block_params_for_function_params(start);
        b.switch_to_block(start);
        let [step, find, find_packed] = calls.map(|s| b.import_signature(s));
        let params = b.block_params(start);
        let (m, slots, frame, frame_len, entry) = (params[0], params[1], params[2], params[3], params[4]);
        Self {
            p,
            m,
            slots,
            frame,
            frame_len,
            entry,
            consts: p.consts.iter().copied().collect(),
            known: HashMap::new(),
            parsed: None,
            blocks: vec![None; p.code.len()],
            ways: vec![0; p.code.len()],
            carried: HashMap::new(),
            step,
            find,
            find_packed,
            pc: 0,
            b,
        }
    }

    fn all(mut self, entries: &BTreeMap<u32, u32>) -> FunctionBuilder<'f> {
        let p = self.p;
        let mut leader = vec![false; p.code.len()];
        for pc in 0..p.code.len() {
            p.successors(pc, &mut |t| {
                self.ways[t as usize] += 1;
                // Whoever only goes on to the next instruction needs no block for it.
                leader[t as usize] |= t as usize != pc + 1 || p.code[pc].ends();
            });
            let mut op = p.code[pc];
            if let Some(t) = op.target() {
                leader[*t as usize] = true;
            }
        }
        for pc in entries.keys() {
            leader[*pc as usize] = true;
            // It is entered from outside, where nothing is known.
            self.ways[*pc as usize] += 2;
        }
        for (pc, is) in leader.iter().enumerate() {
            if *is {
                self.blocks[pc] = Some(self.b.create_block());
            }
        }
        self.dispatch(entries);
        let mut open = false;
        for pc in 0..p.code.len() {
            self.pc = pc as u32;
            if let Some(block) = self.blocks[pc] {
                if open {
                    self.jump(pc as u32);
                }
                self.b.switch_to_block(block);
                (self.known, self.parsed) = self.carried.remove(&(pc as u32)).unwrap_or_default();
                open = true;
            }
            // Code that nothing leads to is left out.
            if open {
                open = self.op(p.code[pc]);
            }
        }
        self.b.seal_all_blocks();
        self.b
    }

    /// From the number of an entry to its block.
    fn dispatch(&mut self, entries: &BTreeMap<u32, u32>) {
        let mut blocks: Vec<Block> = Vec::new();
        for pc in entries.keys() {
            blocks.extend(self.blocks[*pc as usize]);
        }
        let Some(first) = blocks.first().copied() else { return };
        let entry = self.entry;
        if blocks.len() == 1 {
            self.b.ins().jump(first, NONE);
            return;
        }
        let call = |b: &mut FunctionBuilder<'f>, t: Block| b.func.dfg.block_call(t, NONE);
        let default = call(&mut self.b, first);
        let all: Vec<_> = blocks.iter().map(|t| call(&mut self.b, *t)).collect();
        let table = self.b.create_jump_table(JumpTableData::new(default, &all));
        self.b.ins().br_table(entry, table);
    }

    /// Translates one instruction. False if the next one is not reached from it.
    fn op(&mut self, op: Op) -> bool {
        if let Some(goes_on) = self.arithmetic(&op).or_else(|| self.header(&op)).or_else(|| self.table(&op)) {
            return goes_on;
        }
        if let Op::VerifyChecksum { .. } | Op::UpdateChecksum { .. } = op
            && self.checksum(&op)
        {
            return true;
        }
        match op {
            Op::Jmp { t } => {
                self.jump(t);
                false
            }
            Op::End => {
                self.stop();
                false
            }
            _ => self.interpret(&op),
        }
    }

    /// The interpreter runs the instruction.
    pub(super) fn interpret(&mut self, op: &Op) -> bool {
        let next = self.call_step();
        self.forget(op);
        let mut ways = Vec::new();
        self.p.successors(self.pc as usize, &mut |t| ways.push(t));
        ways.sort_unstable();
        ways.dedup();
        let falls = !op.ends();
        let others = ways.iter().filter(|t| !falls || **t != self.pc + 1).copied().collect::<Vec<_>>();
        self.unless_stopped(next);
        for t in &others {
            let is = self.b.ins().icmp_imm_u(IntCC::Equal, next, i64::from(*t));
            self.branch(is, *t);
        }
        if !falls {
            // One of those it was.
            self.stop();
        }
        falls
    }

    /// Calls the interpreter for this instruction.
    pub(super) fn call_step(&mut self) -> Value {
        let pc = self.b.ins().iconst(types::I32, i64::from(self.pc));
        let (signature, m) = (self.step, self.m);
        self.call(signature, calls::step as *const () as usize, &[m, pc])[0]
    }

    /// Calls a function of ours.
    pub(super) fn call(&mut self, signature: SigRef, address: usize, args: &[Value]) -> Vec<Value> {
        let callee = self.b.ins().iconst(types::I64, address as i64);
        let call = self.b.ins().call_indirect(signature, callee, args);
        self.b.inst_results(call).to_vec()
    }

    fn unless_stopped(&mut self, next: Value) {
        let (end, on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(end);
        let stopped = self.b.ins().icmp_imm_u(IntCC::Equal, next, i64::from(STOP));
        self.b.ins().brif(stopped, end, NONE, on, NONE);
        self.b.switch_to_block(end);
        self.b.ins().return_(&[]);
        self.b.switch_to_block(on);
    }

    /// The packet is through.
    pub(super) fn stop(&mut self) {
        self.b.ins().return_(&[]);
    }

    /// Goes on at an instruction. Every target has a block.
    pub(super) fn jump(&mut self, t: u32) {
        let block = self.target(t);
        self.b.ins().jump(block, NONE);
    }

    /// Goes on at an instruction if the condition is not 0, else behind this.
    pub(super) fn branch(&mut self, condition: Value, t: u32) {
        let (block, on) = (self.target(t), self.b.create_block());
        self.b.ins().brif(condition, block, NONE, on, NONE);
        self.b.switch_to_block(on);
    }

    /// The block of an instruction that is jumped to from here.
    pub(super) fn target(&mut self, t: u32) -> Block {
        if self.ways[t as usize] == 1 {
            self.carried.insert(t, (self.known.clone(), self.parsed));
        }
        match self.blocks[t as usize] {
            Some(block) => block,
            // `all` gives every target one; an empty block would be refused by cranelift, not run.
            None => self.b.create_block(),
        }
    }

    /// Like [`target`](Self::target), in a block of its own that first does something that only holds there.
    pub(super) fn cold(&mut self) -> Block {
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        block
    }

    /// Forgets what an instruction may have changed that was run elsewhere.
    pub(super) fn forget(&mut self, op: &Op) {
        self.parsed = None;
        let known = &mut self.known;
        self.p.touches(op, &mut |s, access| {
            if access != Access::Read {
                known.remove(&s);
            }
        });
    }

    /// What is known here, to be known again in another block that this one leads to.
    pub(super) fn known(&self) -> HashMap<Slot, Value> {
        self.known.clone()
    }

    pub(super) fn parsed_if_known(&self) -> Option<Value> {
        self.parsed
    }

    pub(super) fn resume(&mut self, known: HashMap<Slot, Value>, parsed: Option<Value>) {
        (self.known, self.parsed) = (known, parsed);
    }

    pub(super) fn restore(&mut self, known: HashMap<Slot, Value>, parsed: Value) {
        (self.known, self.parsed) = (known, Some(parsed));
    }

    /// What is in a slot.
    pub(super) fn get(&mut self, s: Slot) -> Value {
        if let Some(v) = self.consts.get(&s) {
            return self.b.ins().iconst(types::I64, *v as i64);
        }
        if let Some(v) = self.known.get(&s) {
            return *v;
        }
        let v = self.b.ins().load(types::I64, ours(), self.slots, i32::from(s) * 8);
        self.known.insert(s, v);
        v
    }

    pub(super) fn set(&mut self, s: Slot, v: Value) {
        self.b.ins().store(ours(), v, self.slots, i32::from(s) * 8);
        self.known.insert(s, v);
    }

    /// A value in this block and in those that it leads to.
    pub(super) fn number(&mut self, v: u64) -> Value {
        self.b.ins().iconst(types::I64, v as i64)
    }

    /// The low `w` bits.
    pub(super) fn cut(&mut self, v: Value, w: u8) -> Value {
        if w >= 64 { v } else { self.b.ins().band_imm_u(v, ((1u64 << w) - 1) as i64) }
    }

    /// How many bytes of the frame were parsed.
    pub(super) fn parsed(&mut self) -> Value {
        match self.parsed {
            Some(v) => v,
            None => {
                let v = self.b.ins().load(types::I64, ours(), self.m, PARSED);
                self.parsed = Some(v);
                v
            }
        }
    }

    pub(super) fn set_parsed(&mut self, v: Value) {
        self.b.ins().store(ours(), v, self.m, PARSED);
        self.parsed = Some(v);
    }

    /// Bytes of the frame from an address on, big-endian.
    pub(super) fn load_be(&mut self, t: Type, base: Value, at: i32) -> Value {
        let v = self.b.ins().load(t, bytes(), base, at);
        let v = if t == types::I8 { v } else { self.b.ins().bswap(v) };
        if t == types::I64 { v } else { self.b.ins().uextend(types::I64, v) }
    }
}
