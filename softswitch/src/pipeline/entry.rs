//! Values that cross the boundary between a control plane and the [`Dataplane`](super::Dataplane).

use super::info::ActionIx;

/// What one key field of an entry matches. Values are right-aligned in the 128 bits and must fit the field's width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchValue {
    /// Equal to the value.
    Exact(u128),
    /// The upper `prefix_len` bits equal those of the value; the lower ones of the value must be 0.
    Lpm {
        /// The prefix.
        value: u128,
        /// Its length in bits, 0..=width.
        prefix_len: u32,
    },
    /// Equal under the mask; bits of the value outside the mask must be 0.
    Ternary {
        /// The value.
        value: u128,
        /// 1 = this bit must be equal.
        mask: u128,
    },
    /// Between the bounds, both included.
    Range {
        /// Lower bound.
        low: u128,
        /// Upper bound.
        high: u128,
    },
    /// Equal to the value, or anything for `None`.
    Optional(Option<u128>),
}

/// An action with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ActionCall {
    /// Which action.
    pub action: ActionIx,
    /// One value for each of [`ActionInfo::params`](super::ActionInfo::params), each fitting its width.
    pub args: Vec<u128>,
}

/// An entry as a control plane gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySpec {
    /// One value for each field of the table's key.
    pub key: Vec<MatchValue>,
    /// Higher wins; at least 1 where the table has priorities, 0 elsewhere.
    pub priority: i32,
    /// What a match runs.
    pub action: ActionCall,
}

/// An entry as it is read back.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryView {
    /// One value for each field of the table's key.
    pub key: Vec<MatchValue>,
    /// As given (0 where the table has none). Constant entries get the priorities that keep their order.
    pub priority: i32,
    /// What a match runs.
    pub action: ActionCall,
    /// The direct counter, where the table has one.
    pub counter: Option<CounterValue>,
    /// The configuration of the direct meter, where the table has one and it was configured.
    pub meter: Option<MeterConfig>,
    /// The entry is part of the program.
    pub is_const: bool,
}

/// A counter cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CounterValue {
    /// Packets counted.
    pub packets: u64,
    /// Bytes counted: the length of the frames as they arrived (BMv2's rule).
    pub bytes: u64,
}

/// The two rates of a meter cell (RFC 2698): per second, in bytes or packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterConfig {
    /// Committed rate per second.
    pub cir: u64,
    /// Committed burst.
    pub cburst: u64,
    /// Peak rate per second, not below `cir`.
    pub pir: u64,
    /// Peak burst.
    pub pburst: u64,
}
