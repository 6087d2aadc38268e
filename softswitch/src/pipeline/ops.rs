//! The flat program: instructions over slots, and the tables that they refer to by index.
//!
//! Narrow instructions work on one slot (64 bits), `W…` ones on two (128 bits). `w` is a width: the result is cut to
//! that many bits, which is how a P4 field wraps.

use super::layout::Slot;

/// An instruction. Jump targets are indices into the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Mov {
        d: Slot,
        a: Slot,
        w: u8,
    },
    Add {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    Sub {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    Mul {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    And {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    Or {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    Xor {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    Not {
        d: Slot,
        a: Slot,
        w: u8,
    },
    /// A shift by 64 or more gives 0 (or the sign, for `Sar`).
    Shl {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    Shr {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    Sar {
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    ShlI {
        d: Slot,
        a: Slot,
        k: u8,
        w: u8,
    },
    ShrI {
        d: Slot,
        a: Slot,
        k: u8,
        w: u8,
    },
    SarI {
        d: Slot,
        a: Slot,
        k: u8,
        w: u8,
    },
    /// Division by 0 gives 0 (BMv2 leaves it undefined).
    Div {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Rem {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    /// Sign-extends the low `w` bits to 64.
    Sext {
        d: Slot,
        a: Slot,
        w: u8,
    },
    /// `d = a <cc> b`
    Set {
        d: Slot,
        a: Slot,
        b: Slot,
        cc: Cc,
    },

    WMov {
        d: Slot,
        a: Slot,
        w: u8,
    },
    WBin {
        op: WideOp,
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    /// Shift by the narrow slot `b`.
    WShift {
        op: WideShift,
        d: Slot,
        a: Slot,
        b: Slot,
        w: u8,
    },
    WNot {
        d: Slot,
        a: Slot,
        w: u8,
    },
    WSext {
        d: Slot,
        a: Slot,
        w: u8,
    },
    WSet {
        d: Slot,
        a: Slot,
        b: Slot,
        cc: Cc,
    },
    /// Narrow to wide, unsigned and signed.
    ZExt {
        d: Slot,
        a: Slot,
    },
    SExt {
        d: Slot,
        a: Slot,
    },
    /// Clamps a signed 128-bit value to an unsigned (`w` bits) or signed range.
    WSat {
        d: Slot,
        a: Slot,
        w: u8,
        signed: bool,
    },
    /// Clamps an unsigned 128-bit value to `w` bits.
    WSatU {
        d: Slot,
        a: Slot,
        w: u8,
    },

    Jmp {
        t: u32,
    },
    BrZ {
        a: Slot,
        t: u32,
    },
    BrNz {
        a: Slot,
        t: u32,
    },
    BrEq {
        a: Slot,
        b: Slot,
        t: u32,
    },
    BrNe {
        a: Slot,
        b: Slot,
        t: u32,
    },
    BrLtU {
        a: Slot,
        b: Slot,
        t: u32,
    },
    BrLeU {
        a: Slot,
        b: Slot,
        t: u32,
    },
    BrLtS {
        a: Slot,
        b: Slot,
        t: u32,
    },
    BrLeS {
        a: Slot,
        b: Slot,
        t: u32,
    },

    AddHeader {
        h: u16,
    },
    RemoveHeader {
        h: u16,
    },
    CopyHeader {
        d: u16,
        s: u16,
    },
    Hash {
        ix: u16,
    },
    Count {
        counter: u16,
        index: Slot,
    },
    Meter {
        meter: u16,
        index: Slot,
        d: Slot,
        w: u8,
    },
    RegRead {
        reg: u16,
        index: Slot,
        d: Slot,
    },
    RegWrite {
        reg: u16,
        index: Slot,
        a: Slot,
    },
    Truncate {
        a: Slot,
    },
    Assert {
        a: Slot,
    },
    /// Stamps the egress time, once a packet, at its first use.
    EgressClock,

    /// A copy that needs no cut: the source is known to fit.
    Copy {
        d: Slot,
        a: Slot,
    },

    /// Looks up a table and goes on at the code of the action, as the [`Ways`] say.
    Apply {
        t: u16,
        ways: u32,
    },
    /// Like `Apply`, for an indirect table: what its entry names is looked up in the table's profile, and its ways have
    /// one action more, which does nothing: where an empty group leads.
    ApplyVia {
        t: u16,
        ways: u32,
    },
    /// From the parser and the checks to ingress.
    ToIngress,
    /// From ingress to egress; a packet may be dropped here.
    ToEgress,
    /// From egress to the deparser; a packet may be dropped here.
    Leave,
    /// The packet is through.
    End,
    /// Tells that the packet is here (see `Program::marks`); changes nothing of it.
    Mark {
        ix: u32,
    },

    /// Asks for the copies of the clone session in its slot, from the frame as it came: they are parsed again, up to
    /// `Cloned`. The packet goes on, but takes its turn in egress behind them.
    CloneIngress,
    /// Hands the sample of the digest in its slot to the control plane.
    Learn,
    /// The packet starts again as it came; this run of it is over.
    Resubmit,
    /// A copy for each replica of the multicast group goes on at `t`; the packet itself is over.
    Multicast {
        t: u32,
    },
    /// What `CloneIngress` asked for has been parsed: a copy for each replica goes on at `t`.
    Cloned {
        t: u32,
    },
    /// A copy for each replica of the clone session in its slot goes on at `t`; the packet goes on here.
    CloneEgress {
        t: u32,
    },
    /// What `End` makes of the packet is not sent but starts again at the parser.
    Recirculate,

    /// The parser's own instructions go to `t` if they fail.
    Extract {
        h: u16,
        t: u32,
    },
    Lookahead {
        ix: u16,
        t: u32,
    },
    /// Skips as many bits as the slot says.
    Advance {
        a: Slot,
        t: u32,
    },
    ParseFail {
        a: Slot,
        t: u32,
    },
    Select {
        ix: u32,
    },
    /// Entry of a parser state.
    State {
        t: u32,
    },
    /// Compares the checksum `ix` with its field.
    VerifyChecksum {
        ix: u16,
    },
    UpdateChecksum {
        ix: u16,
    },

    /// Walks `Program::slow[ix]`.
    Slow {
        ix: u32,
    },
    /// Extracts as `Program::slow_extracts[ix]` says; goes to `t` if it fails.
    SlowExtract {
        ix: u32,
        t: u32,
    },
}

impl Op {
    /// Where it may go other than to the next instruction (those of `Apply` and `Select` are in `Program::ways` and `Program::selects`).
    pub(crate) fn target(&mut self) -> Option<&mut u32> {
        match self {
            Self::Jmp { t }
            | Self::BrZ { t, .. }
            | Self::BrNz { t, .. }
            | Self::BrEq { t, .. }
            | Self::BrNe { t, .. }
            | Self::BrLtU { t, .. }
            | Self::BrLeU { t, .. }
            | Self::BrLtS { t, .. }
            | Self::BrLeS { t, .. }
            | Self::Extract { t, .. }
            | Self::Lookahead { t, .. }
            | Self::Advance { t, .. }
            | Self::SlowExtract { t, .. }
            | Self::ParseFail { t, .. }
            | Self::State { t }
            | Self::Multicast { t }
            | Self::Cloned { t }
            | Self::CloneEgress { t } => Some(t),
            _ => None,
        }
    }

    /// The next instruction is never reached from it.
    pub(crate) fn ends(&self) -> bool {
        matches!(
            self,
            Self::Jmp { .. }
                | Self::Apply { .. }
                | Self::ApplyVia { .. }
                | Self::Select { .. }
                | Self::ParseFail { .. }
                | Self::End
                | Self::Resubmit
                | Self::Multicast { .. }
                | Self::Cloned { .. }
        )
    }
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cc {
    Eq,
    Ne,
    LtU,
    LeU,
    LtS,
    LeS,
}

impl Cc {
    #[inline]
    pub(crate) fn holds(self, a: u64, b: u64) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Ne => a != b,
            Self::LtU => a < b,
            Self::LeU => a <= b,
            Self::LtS => (a as i64) < b as i64,
            Self::LeS => a as i64 <= b as i64,
        }
    }
}

/// A 128-bit operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WideOp {
    Add,
    Sub,
    Mul,
    And,
    Or,
    Xor,
    Div,
    Rem,
}

/// A 128-bit shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WideShift {
    Shl,
    Shr,
    Sar,
}

/// The key of a `select`, and its cases in order.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub parts: Vec<SelectPart>,
    /// (value, mask, target); the first that matches is taken.
    pub cases: Vec<(u128, u128, u32)>,
    pub default: u32,
    /// The same for a key of at most 64 bits that is made of fields only.
    pub narrow: Option<NarrowSelect>,
}

impl Select {
    /// Calls `f` with every target of the wide form, from which the narrow one is made.
    pub(crate) fn targets(&mut self, f: &mut dyn FnMut(&mut u32)) {
        f(&mut self.default);
        self.cases.iter_mut().for_each(|(_, _, t)| f(t));
    }
}

/// A select whose key fits a word.
#[derive(Debug, Clone)]
pub(crate) struct NarrowSelect {
    /// (slot, mask of the field, shift)
    pub parts: Box<[(Slot, u64, u8)]>,
    pub cases: Box<[(u64, u64, u32)]>,
}

/// A part of a select's key; each is padded to whole bytes, as in BMv2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SelectPart {
    pub from: SelectFrom,
    /// Padded width.
    pub bits: u32,
}

/// Where a part of a select's key comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SelectFrom {
    Slot { slot: Slot, width: u32 },
    Lookahead { bit_offset: u32, width: u32 },
}

/// `field = packet.lookahead`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookahead {
    pub bit_offset: u32,
    pub width: u32,
    pub dst: super::layout::Field,
}

/// `dst = base + hash(calc) % size`
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashOp {
    pub calc: u16,
    pub base: Slot,
    pub size: Slot,
    pub dst: super::layout::Field,
}

/// A checksum: where it is kept and how it is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChecksumOp {
    pub calc: u16,
    pub target: super::layout::Field,
}

/// One field of a table's key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyPart {
    pub slot: Slot,
    pub width: u32,
    /// The key reads 0 while this slot is 0 (BMv2's rule for fields of invalid headers).
    pub valid: Option<Slot>,
    /// Bit position in the packed key.
    pub pos: u32,
    /// Constant mask of the program over the field.
    pub mask: u128,
}

/// An action that a table may run.
#[derive(Debug, Clone)]
pub(crate) struct TableAction {
    /// First slot of the parameters, and how many words they take.
    pub param_base: Slot,
    pub param_words: u16,
}

/// Where a lookup leads.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    /// Where the code of each of the table's actions starts after a hit, and after a miss.
    pub actions: Box<[(u32, u32)]>,
    /// Where a miss goes that runs no action.
    pub none: u32,
}

impl Ways {
    pub(crate) fn targets(&mut self) -> impl Iterator<Item = &mut u32> {
        self.actions.iter_mut().flat_map(|(hit, miss)| [hit, miss]).chain([&mut self.none])
    }
}

/// What a packet needs of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableRt {
    pub key: Vec<KeyPart>,
    pub actions: Vec<TableAction>,
    /// Slot and width of the colour of the direct meter.
    pub meter: Option<(Slot, u8)>,
    /// Where its entries lead, if it is indirect.
    pub via: Option<ViaRt>,
}

/// What a packet needs of an indirect table.
#[derive(Debug, Clone)]
pub(crate) struct ViaRt {
    pub profile: usize,
    /// The hash that selects a group's member; none in a profile without selector.
    pub hash: Option<u16>,
    /// Index among the table's actions, by index among the profile's; `empty` where the table does not have it.
    pub local: Box<[u16]>,
    /// Index of the action that does nothing.
    pub empty: u16,
}
