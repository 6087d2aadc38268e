//! What changed lately, so that planning costs in proportion to the change.

use std::collections::VecDeque;

use dmux_wire::GatewayId;

use super::{MetalinkId, RegistrationKey};

/// Changes that are remembered; who has missed more plans in full.
pub const MAX_JOURNAL: usize = 8192;

/// Something that changed. It names what, not how: the new value is in the model, the old one is the reader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A registration came, went, moved or changed.
    Registration(RegistrationKey),
    /// A gateway was put or removed.
    Gateway(GatewayId),
    /// A switch has a new owner or epoch.
    Owner(GatewayId),
    /// A round trip from one gateway to another.
    Latency(GatewayId, GatewayId),
    /// The configuration.
    Config,
    /// A gateway is somewhere else on the map of network coordinates.
    Coordinate(GatewayId),
    /// A metanet has a shared MLI now, or none any more.
    SharedMlis,
    /// A metalink came, went, carries otherwise or yields; a renewal is no change.
    Metalink(MetalinkId),
    /// What becomes of frames out of profile on an access link of the gateway's.
    AccessLinks(GatewayId),
}

/// A bounded list of (log index, change). Not part of the state: two controllers with the same state may remember
/// different stretches of its past.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    /// Everything above this index is in `entries`.
    floor: u64,
    entries: VecDeque<(u64, Change)>,
}

impl Journal {
    /// A journal that begins after `floor`.
    pub(super) fn starting_at(floor: u64) -> Self {
        Self { floor, entries: VecDeque::new() }
    }

    pub(super) fn push(&mut self, index: u64, change: Change) {
        self.entries.push_back((index, change));
        while self.entries.len() > MAX_JOURNAL {
            if let Some((dropped, _)) = self.entries.pop_front() {
                // Other changes of the same index may remain; they are of no use without this one.
                self.floor = self.floor.max(dropped);
            }
        }
    }

    pub(super) fn since(&self, index: u64) -> Option<Vec<Change>> {
        if index < self.floor {
            return None;
        }
        let first = self.entries.partition_point(|&(at, _)| at <= index);
        Some(self.entries.range(first..).map(|&(_, change)| change).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_fell_behind_is_told_to_plan_in_full() {
        let mut journal = Journal::starting_at(10);
        assert_eq!(journal.since(9), None);
        assert_eq!(journal.since(10), Some(vec![]));
        journal.push(12, Change::Config);
        journal.push(12, Change::Owner(GatewayId(1)));
        assert_eq!(journal.since(11).unwrap().len(), 2);
        assert_eq!(journal.since(12), Some(vec![]));
        for index in 0..MAX_JOURNAL as u64 - 1 {
            journal.push(20 + index, Change::Config);
        }
        assert_eq!(journal.since(11), None, "one of the two changes of index 12 was dropped");
        assert_eq!(journal.since(12).unwrap().len(), MAX_JOURNAL - 1);
    }
}
