//! A compiled program: what [`Program::compile`] makes and everything else reads.

use super::calc::Calc;
use super::compile;
use super::entry::{ActionCall, EntrySpec};
use super::error::LoadError;
use super::info::{
    ActionInfo, CounterInfo, LearnList, MeterInfo, ProfileInfo, RegisterInfo, TableInfo, TableIx, ValueSetInfo,
};
use super::layout::{Field, Header, Slot};
use super::marks::{Mark, Marking, Named};
use super::ops::{ChecksumOp, HashOp, KeyPart, Lookahead, Op, Select, TableRt, Ways};
use super::stacks::Stack;
use super::target::Target;
use super::tree::{Slow, SlowExtract};
use std::sync::Arc;

/// The default action of a table, as the program has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct DefaultAction {
    pub call: Option<ActionCall>,
    /// Neither the action nor its arguments can change.
    pub fixed: bool,
}

/// Fields that the target itself reads and writes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StdMeta {
    pub ingress_port: Option<Field>,
    pub egress_spec: Option<Field>,
    pub egress_port: Option<Field>,
    pub packet_length: Option<Field>,
    pub parser_error: Option<Field>,
    pub checksum_error: Option<Field>,
    pub ingress_ts: Option<Field>,
    pub egress_ts: Option<Field>,
    pub mcast_grp: Option<Field>,
    pub egress_rid: Option<Field>,
    pub instance_type: Option<Field>,
    pub priority: Option<Field>,
    pub qid: Option<Field>,
    /// The next four are there all or none, as in BMv2.
    pub enq_timestamp: Option<Field>,
    pub enq_qdepth: Option<Field>,
    pub deq_timedelta: Option<Field>,
    pub deq_qdepth: Option<Field>,
}

impl StdMeta {
    /// What is written whenever a packet enters egress.
    pub(crate) fn of_egress(&self) -> impl Iterator<Item = Field> {
        [self.egress_port, self.egress_spec, self.packet_length, self.enq_timestamp].into_iter().flatten()
    }

    /// What a packet is told about the queue that it has waited in, if it has.
    pub(crate) fn of_queue(&self) -> impl Iterator<Item = Field> {
        [self.enq_qdepth, self.deq_timedelta, self.deq_qdepth, self.qid].into_iter().flatten()
    }
}

/// Slots through which the program asks the target to do something with the packet; 0 is nothing. A program has those
/// that it uses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    /// Index of a field list in the upper bits, [`CLONE`](super::replication::CLONE), the session in the lower 15.
    pub clone: Option<Slot>,
    /// Index of a learn list, plus 1.
    pub learn: Option<Slot>,
    /// Index of a field list, plus 1.
    pub resubmit: Option<Slot>,
    /// Index of a field list, plus 1.
    pub recirculate: Option<Slot>,
    /// 1 while a copy is parsed again.
    pub cloned: Option<Slot>,
}

impl Asked {
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        [self.clone, self.learn, self.resubmit, self.recirculate, self.cloned].into_iter().flatten()
    }
}

/// The numbers of the parser errors that the target itself raises.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ParserErrors {
    pub packet_too_short: u64,
    pub stack_out_of_bounds: u64,
    pub header_too_short: u64,
    pub timeout: u64,
    pub invalid_argument: u64,
}

/// A program, compiled from BMv2 JSON. Immutable; any number of [`Dataplane`](super::Dataplane)s may run it.
#[derive(Debug, Default)]
pub struct Program {
    pub(crate) tables: Vec<TableInfo>,
    pub(crate) actions: Vec<ActionInfo>,
    pub(crate) counters: Vec<CounterInfo>,
    pub(crate) meters: Vec<MeterInfo>,
    /// For each register: packets both read and write it.
    pub(crate) shared_registers: Box<[bool]>,
    pub(crate) registers: Vec<RegisterInfo>,
    pub(crate) value_sets: Vec<ValueSetInfo>,
    pub(crate) profiles: Vec<ProfileInfo>,
    pub(crate) keys: Vec<(Vec<KeyPart>, u32)>,
    pub(crate) defaults: Vec<DefaultAction>,
    pub(crate) const_entries: Vec<Vec<EntrySpec>>,

    pub(crate) code: Vec<Op>,
    /// Where a packet starts.
    pub(crate) start: u32,
    /// Where it starts after `Resubmit` and `Recirculate`: fields that are preserved are not 0 then.
    pub(crate) restart: u32,
    /// Where a copy starts that `CloneIngress` asked for.
    pub(crate) reparse: u32,
    /// Fields that a copy, or a packet that starts again, keeps.
    pub(crate) field_lists: Vec<Vec<Field>>,
    pub(crate) learn_lists: Vec<LearnList>,
    pub(crate) asked: Asked,
    pub(crate) headers: Vec<Header>,
    /// Headers in the order in which they are sent.
    pub(crate) deparse: Vec<usize>,
    pub(crate) selects: Vec<Select>,
    pub(crate) ways: Vec<Ways>,
    pub(crate) lookaheads: Vec<Lookahead>,
    pub(crate) stacks: Vec<Stack>,
    pub(crate) slow: Vec<Slow>,
    pub(crate) slow_extracts: Vec<SlowExtract>,
    pub(crate) calcs: Vec<Calc>,
    /// The calculations' names.
    pub(crate) calc_names: Vec<String>,
    pub(crate) hashes: Vec<HashOp>,
    pub(crate) checksums: Vec<ChecksumOp>,
    pub(crate) table_rt: Vec<TableRt>,
    pub(crate) std: StdMeta,
    pub(crate) errors: ParserErrors,
    /// Slots of fields and validity bits; they come first and are 0 when a packet starts.
    pub(crate) field_slots: usize,
    pub(crate) slots: usize,
    /// 1 once the program has called `exit`.
    pub(crate) exit_slot: Slot,
    /// Rounds of loops in actions so far.
    pub(crate) loop_slot: Slot,
    /// What stopped the parser; 0 if nothing did.
    pub(crate) error_slot: Slot,
    /// 1 if a checksum was wrong.
    pub(crate) checksum_slot: Slot,
    /// Slots that hold constants.
    pub(crate) consts: Vec<(Slot, u64)>,
    /// The code as machine code, where that could be made.
    pub(crate) native: Option<super::native::Native>,
    /// What it was compiled for.
    pub(crate) target: Target,
    pub(crate) marks: Vec<Mark>,
    /// What a trace shows when it changes.
    pub(crate) names: Vec<Named>,
}

impl Program {
    /// Compiles what `p4c-bm2-ss` writes for v1model (BMv2 JSON 2.x).
    ///
    /// # Errors
    /// [`LoadError`] names what is malformed or not implemented; nothing is ever loaded in part.
    pub fn compile(json: &[u8]) -> Result<Arc<Self>, LoadError> {
        compile::compile(json, true, Target::default())
    }

    /// Like [`compile`](Self::compile), but does nothing to make the program fast: what the fast one is compared with.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compile_plainly(json: &[u8]) -> Result<Arc<Self>, LoadError> {
        compile::compile(json, false, Target::default())
    }

    /// Like [`compile`](Self::compile), for a target that is not the default one. A program that tells every step of its
    /// packets is slow.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compile_for(json: &[u8], target: Target) -> Result<Arc<Self>, LoadError> {
        compile::compile(json, target.marking != Marking::Steps, target)
    }

    /// What it was compiled for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The instructions at which packets start or go on.
    pub(crate) fn entries(&self) -> Vec<u32> {
        let mut all = vec![self.start, self.restart, self.reparse];
        // Where copies go on. Packets that have waited go on behind a `ToEgress`: they are rare, and interpreted.
        all.extend(self.code.iter().filter_map(|op| match op {
            Op::Multicast { t } | Op::Cloned { t } | Op::CloneEgress { t } => Some(*t),
            _ => None,
        }));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The tables, those included that p4c makes of plain statements (they have no key and nothing can change them).
    pub fn tables(&self) -> &[TableInfo] {
        &self.tables
    }

    /// The actions.
    pub fn actions(&self) -> &[ActionInfo] {
        &self.actions
    }

    /// The counters, direct ones included.
    pub fn counters(&self) -> &[CounterInfo] {
        &self.counters
    }

    /// The meters, direct ones included.
    pub fn meters(&self) -> &[MeterInfo] {
        &self.meters
    }

    /// The registers.
    pub fn registers(&self) -> &[RegisterInfo] {
        &self.registers
    }

    /// The parser's value sets.
    pub fn value_sets(&self) -> &[ValueSetInfo] {
        &self.value_sets
    }

    /// The action profiles and selectors.
    pub fn profiles(&self) -> &[ProfileInfo] {
        &self.profiles
    }

    /// The digests that packets may send, in the order of the JSON.
    pub fn learn_lists(&self) -> &[LearnList] {
        &self.learn_lists
    }

    /// Width in bits of the fields that name an egress port, a multicast group and a priority; 0 for one that the
    /// program does not have.
    pub(crate) fn replication_widths(&self) -> [u32; 3] {
        [self.std.egress_port, self.std.mcast_grp, self.std.priority].map(|f| f.map_or(0, |f| f.width))
    }

    /// The table of this name.
    pub fn table_by_name(&self, name: &str) -> Option<TableIx> {
        self.tables.iter().position(|t| t.name == name).map(TableIx)
    }
}
