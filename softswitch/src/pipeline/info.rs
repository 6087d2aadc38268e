//! What a loaded program offers to its control plane: tables, actions, counters, meters, registers.

/// A table of the program; its index in [`Program::tables`](super::Program::tables) is its [`TableIx`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableIx(pub usize);

/// An action of the program; its index in [`Program::actions`](super::Program::actions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionIx(pub usize);

/// An action profile or selector of the program; its index in [`Program::profiles`](super::Program::profiles).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileIx(pub usize);

/// How one key field is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchKind {
    /// Equal.
    Exact,
    /// Longest prefix.
    Lpm,
    /// Value under a mask.
    Ternary,
    /// Between two bounds, both included.
    Range,
    /// Equal, or anything.
    Optional,
}

/// One field of a table's key, in the order of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyField {
    /// The name that P4Info uses, too.
    pub name: String,
    /// How it is matched.
    pub kind: MatchKind,
    /// Width in bits.
    pub width: u32,
}

/// One parameter of an action that an entry supplies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// The parameter's name.
    pub name: String,
    /// Width in bits.
    pub width: u32,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionInfo {
    /// The full name, for example "ingress.set_nexthop". Several actions may share a name (p4c specialises some).
    pub name: String,
    /// The id that the JSON gives it.
    pub json_id: u32,
    /// What an entry supplies, in order.
    pub params: Vec<ParamInfo>,
}

/// What a counter or meter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterUnit {
    /// Bytes of the frame as it arrived.
    Bytes,
    /// Packets.
    Packets,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// The full name.
    pub name: String,
    /// The key, in order. A table without a key only ever runs its default action.
    pub key: Vec<KeyField>,
    /// The actions that it may run.
    pub actions: Vec<ActionIx>,
    /// How many entries it holds at most.
    pub max_size: usize,
    /// Its entries are part of the program and cannot be changed.
    pub is_const: bool,
    /// Its default action cannot be changed.
    pub const_default: bool,
    /// Its entries carry a priority (it has a ternary, range or optional field). Higher wins.
    pub needs_priority: bool,
    /// It counts packets and bytes per entry.
    pub direct_counter: bool,
    /// It meters per entry, in this unit. The name is that of the meter.
    pub direct_meter: Option<(String, MeterUnit)>,
    /// The program asks for idle timeouts.
    pub support_timeout: bool,
    /// Its entries name members or groups of this profile instead of actions (an indirect table).
    pub profile: Option<ProfileIx>,
}

/// An action profile, or an action selector: a profile with groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileInfo {
    /// The full name.
    pub name: String,
    /// The size that the program gives it; 0 for none. BMv2 does not look at it.
    pub size: u64,
    /// It is a selector: it has groups, from which a hash of the packet selects a member.
    pub selector: bool,
    /// The actions that its members may have: those of its tables, each once (tables have copies of the same name).
    pub actions: Vec<ActionIx>,
}

/// An indirect counter array, or a direct one (then `direct_table` names its table and `size` is 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterInfo {
    /// The full name.
    pub name: String,
    /// Number of cells.
    pub size: usize,
    /// The table that it is attached to.
    pub direct_table: Option<TableIx>,
}

/// An indirect meter array, or a direct one (then `direct_table` names its table and `size` is 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterInfo {
    /// The full name.
    pub name: String,
    /// Number of cells.
    pub size: usize,
    /// What is metered.
    pub unit: MeterUnit,
    /// The table that it is attached to.
    pub direct_table: Option<TableIx>,
}

/// A register array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterInfo {
    /// The full name.
    pub name: String,
    /// Number of cells.
    pub size: usize,
    /// Width of a cell in bits.
    pub width: u32,
}

/// A parser value set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueSetInfo {
    /// The full name.
    pub name: String,
    /// Width in bits of each field of a member, in the order of the `select` that it is used in.
    pub widths: Vec<u32>,
    /// How many members it holds at most.
    pub max_size: usize,
}

/// What a packet tells in one kind of digest. Several lists may share a name: each place in the program that sends the
/// digest has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnList {
    /// The name, which is also the digest's in the P4Info.
    pub name: String,
    /// Width in bits of each member, in order.
    pub widths: Vec<u32>,
    pub(crate) members: Vec<Member>,
}

impl LearnList {
    /// Bytes of a sample: each member is padded to whole bytes, and a bit for each member says at the end whether its header
    /// is valid (the first member's is the lowest of the first of these bytes; what is in no header is valid).
    #[must_use]
    pub fn sample_bytes(&self) -> usize {
        let members = self.widths.iter().map(|w| w.div_ceil(8) as usize);
        members.sum::<usize>() + self.widths.len().div_ceil(8)
    }
}

/// Where a member of a digest comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    Field(super::layout::Field),
    Constant(u128),
}
