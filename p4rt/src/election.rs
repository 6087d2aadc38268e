use std::fmt;

use crate::p4::v1::Uint128;

/// What controllers compete with: the highest one of a device and role is primary (specification §5).
///
/// The order is that of the 128-bit number. 0 is not a valid id: a controller without one is a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElectionId(pub u128);

impl ElectionId {
    /// The id of a controller (by its Raft node) that owns the switch in an epoch: a later epoch always wins, so a
    /// deposed controller cannot write even if it does not know that it was deposed.
    pub const fn of_epoch(epoch: u64, node: u64) -> Self {
        Self(((epoch as u128) << 64) | node as u128)
    }
}

impl From<ElectionId> for Uint128 {
    fn from(id: ElectionId) -> Self {
        Self { high: (id.0 >> 64) as u64, low: id.0 as u64 }
    }
}

impl From<Uint128> for ElectionId {
    fn from(id: Uint128) -> Self {
        Self(((id.high as u128) << 64) | id.low as u128)
    }
}

/// `high.low`, which is `epoch.node` for ids made by [`ElectionId::of_epoch`].
impl fmt::Display for ElectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", (self.0 >> 64) as u64, self.0 as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_beats_every_node_of_an_earlier_one() {
        assert!(ElectionId::of_epoch(2, 1) > ElectionId::of_epoch(1, u64::MAX));
        assert!(ElectionId::of_epoch(2, 3) > ElectionId::of_epoch(2, 1));
    }

    #[test]
    fn survives_the_wire() {
        let id = ElectionId::of_epoch(7, u64::MAX - 1);
        assert_eq!(ElectionId::from(Uint128::from(id)), id);
        assert_eq!(id.to_string(), format!("7.{}", u64::MAX - 1));
    }
}
