//! The flat program: instructions over slots, and the tables that they refer to by index.
//!
//! Narrow instructions work on one slot (64 bits), `W…` ones on two (128 bits). `w` is a width: the result is cut to
//! that many bits, which is how a P4 field wraps.

mod operands;

use super::layout::Slot;
pub(crate) use operands::{
    ChecksumOp, HashOp, KeyPart, Lookahead, NarrowSelect, Select, SelectFrom, SelectPart, TableAction, TableRt, ViaRt,
    Ways,
};

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
    /// The packet has a priority that no queue has: it is dropped instead of entering egress.
    NoQueue,
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
                | Self::NoQueue
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
