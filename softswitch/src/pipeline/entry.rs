//! Values that cross the boundary between a control plane and the [`Dataplane`](super::Dataplane).

use super::info::ActionIx;

/// Most bits of one value.
pub const PIECE: u32 = 128;

/// The widths of the values as which a number crosses the boundary: one value if it has at most [`PIECE`] bits; a wider one
/// is cut into pieces of as many bits from its low end, and comes as several values, the high piece first.
pub fn pieces(width: u32) -> impl Iterator<Item = u32> {
    let n = width.div_ceil(PIECE).max(1);
    (0..n).map(move |i| if i == 0 { width - PIECE * (n - 1) } else { PIECE })
}

/// What one key field of an entry matches, or one of its [`pieces`]. Values are right-aligned in the 128 bits and must fit
/// the width. A range and a prefix are those of the whole field: of a prefix, the pieces before its end have their whole
/// width, and those behind it none; the bounds of a range are cut as numbers are. All pieces of an optional field have a
/// value, or none has.
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
    /// One value for each of [`ActionInfo::params`](super::ActionInfo::params), each fitting its width ([`pieces`]).
    pub args: Vec<u128>,
}

/// What an entry of an indirect table names instead of an action (P4Runtime 1.4 §9.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// A member of the table's profile.
    Member(u32),
    /// A group of the table's selector.
    Group(u32),
    /// A group of its own (one-shot).
    Set(ActionSet),
}

/// The group that a one-shot entry brings (P4Runtime 1.5 §9.2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionSet {
    /// Its members.
    pub actions: Vec<WeightedCall>,
    /// How a packet selects one.
    pub selection: Selection,
    /// What its size is.
    pub size: SizeBy,
}

impl From<Vec<WeightedCall>> for ActionSet {
    /// With what the selector says of everything else.
    fn from(actions: Vec<WeightedCall>) -> Self {
        Self { actions, selection: Selection::default(), size: SizeBy::default() }
    }
}

/// How a packet selects a member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Selection {
    /// As the selector says, and that is by its hash.
    #[default]
    Selector,
    /// By the selector's hash.
    Hash,
    /// By chance.
    Random,
}

/// What the size of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SizeBy {
    /// What the selector says: [`ProfileLimits::by_members`].
    #[default]
    Selector,
    /// The sum of its weights.
    Weights,
    /// The number of its members.
    Members,
}

/// An action of a one-shot group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedCall {
    /// What it runs.
    pub call: ActionCall,
    /// Its share: how often it is in the group. At least 1.
    pub weight: u32,
    /// It is left out while this port is down.
    pub watch: Option<Watch>,
}

/// A port that a member depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// The port's number.
    pub port: u16,
    /// It was given by the deprecated number (`watch`), and not by the bytes of `watch_port`.
    pub by_number: bool,
}

/// A member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupMember {
    /// The member's id.
    pub member: u32,
    /// Its share: how often it is in the group. At least 1.
    pub weight: u32,
    /// It is left out while this port is down.
    pub watch: Option<Watch>,
}

/// A group of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// Its id, not 0.
    pub id: u32,
    /// The largest size that it may ever have (the sum of its weights, or the number of its members); 0 for the selector's.
    pub max_size: u32,
    /// Its members, none twice.
    pub members: Vec<GroupMember>,
}

/// How large a selector and its groups may be, by its P4Info (P4Runtime 1.4 §6.4.3). 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProfileLimits {
    /// Members, and the sizes of all groups together.
    pub size: u64,
    /// The size of one group.
    pub max_group_size: u32,
    /// A group's size is the number of its members, and not the sum of their weights.
    pub by_members: bool,
    /// The weight of one member, where a size is a number of members.
    pub max_member_weight: u32,
}

/// What an entry leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An action, in a direct table.
    Call(ActionCall),
    /// A member or group, in an indirect table.
    Via(Via),
}

/// How long an entry may rest, and how long it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleState {
    /// Its idle timeout in nanoseconds; 0 for none.
    pub timeout_ns: u64,
    /// When it was hit last, or inserted: microseconds on the data plane's clock.
    pub last_hit_us: u64,
}

/// An entry as a control plane gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySpec {
    /// One value for each field of the table's key ([`pieces`]).
    pub key: Vec<MatchValue>,
    /// Higher wins; at least 1 where the table has priorities, 0 elsewhere.
    pub priority: i32,
    /// What a match runs.
    pub action: ActionCall,
}

/// An entry as it is read back.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryView {
    /// One value for each field of the table's key ([`pieces`]).
    pub key: Vec<MatchValue>,
    /// As given (0 where the table has none). Constant entries get the priorities that keep their order.
    pub priority: i32,
    /// What a match leads to.
    pub action: Outcome,
    /// The direct counter, where the table has one.
    pub counter: Option<CounterValue>,
    /// The configuration of the direct meter, where the table has one and it was configured.
    pub meter: Option<MeterConfig>,
    /// What the direct meter has marked, by colour, where the table has one.
    pub colours: Option<ColourCounts>,
    /// How long it rests, where the table supports idle timeouts.
    pub idle: Option<IdleState>,
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

/// What a meter cell has marked: frames and their bytes, by colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColourCounts {
    /// Marked green.
    pub green: CounterValue,
    /// Marked yellow.
    pub yellow: CounterValue,
    /// Marked red.
    pub red: CounterValue,
}

/// How a meter cell marks; rates are per second, in bytes or packets (P4Runtime 1.4 §9.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterConfig {
    /// Two rates and three colours (RFC 2698).
    TwoRates {
        /// Committed rate.
        cir: u64,
        /// Committed burst.
        cburst: u64,
        /// Peak rate, not below `cir`.
        pir: u64,
        /// Peak burst.
        pburst: u64,
    },
    /// One rate and three colours (RFC 2697); without an excess burst, two.
    OneRate {
        /// The rate.
        cir: u64,
        /// Committed burst.
        cburst: u64,
        /// Excess burst: filled by what the committed one has no room for.
        eburst: u64,
    },
}
