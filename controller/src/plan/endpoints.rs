//! The numbers of endpoints at their gateway. Nobody but the switch knows them, so they are not replicated: a controller that
//! starts takes them from its switch, and its restart touches no metalink.

use std::collections::{BTreeMap, BTreeSet};

use dmux_tables::{EndpointIndex, EndpointTable, Table};

use crate::model::{Endpoint, Free, METALINK_CELLS};

/// Endpoints of a gateway at most: the size of the table `endpoint`.
pub const MAX_ENDPOINTS: u32 = EndpointTable::SIZE as u32;

/// Who has which number, 1 to [`MAX_ENDPOINTS`]. One that was given back is the last to be used again, so that no entry of
/// its last owner is left in the switch when it has a new one.
#[derive(Debug, Clone)]
pub(super) struct Numbering {
    numbers: BTreeMap<Endpoint, u32>,
    owners: BTreeMap<u32, Endpoint>,
    free: Free,
    last: u32,
}

impl Default for Numbering {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), owners: BTreeMap::new(), free: Free::new(MAX_ENDPOINTS), last: 0 }
    }
}

impl Numbering {
    /// What a switch was found to hold. A number that it has twice is nobody's.
    pub(super) fn of(held: impl Iterator<Item = (Endpoint, EndpointIndex)>) -> Self {
        let mut numbering = Self::default();
        for (endpoint, EndpointIndex(number)) in held {
            let valid = (1..=MAX_ENDPOINTS).contains(&number) && numbering.free.is_free(number);
            if valid {
                numbering.last = numbering.last.max(number);
                numbering.assign(endpoint, number);
            }
        }
        numbering
    }

    /// The endpoint's number, if it has one.
    pub(super) fn number(&self, endpoint: &Endpoint) -> Option<EndpointIndex> {
        self.numbers.get(endpoint).copied().map(EndpointIndex)
    }

    /// The endpoint's number; `None` when all are in use.
    pub(super) fn take(&mut self, endpoint: Endpoint) -> Option<EndpointIndex> {
        if let Some(&number) = self.numbers.get(&endpoint) {
            return Some(EndpointIndex(number));
        }
        let number = self.free.after(self.last)?;
        self.last = number;
        self.assign(endpoint, number);
        Some(EndpointIndex(number))
    }

    fn assign(&mut self, endpoint: Endpoint, number: u32) {
        self.free.take(number);
        self.numbers.insert(endpoint, number);
        self.owners.insert(number, endpoint);
    }

    /// The endpoint needs none any more.
    pub(super) fn give(&mut self, endpoint: &Endpoint) {
        if let Some(number) = self.numbers.remove(endpoint) {
            self.owners.remove(&number);
            self.free.give(number);
        }
    }

    /// Whose [`control_cell`] this is.
    pub(super) fn endpoint_of_cell(&self, cell: u32) -> Option<Endpoint> {
        let number = cell.checked_sub(METALINK_CELLS.into())? + 1;
        self.owners.get(&number).copied()
    }

    /// Gives back those of all others.
    pub(super) fn keep(&mut self, endpoints: &BTreeSet<Endpoint>) {
        let others: Vec<_> = self.numbers.keys().filter(|endpoint| !endpoints.contains(endpoint)).copied().collect();
        for endpoint in others {
            self.give(&endpoint);
        }
    }
}

/// Where the switch counts what an endpoint sends beyond [`CONTROL_RATE`](super::CONTROL_RATE): behind the cells of metalinks.
pub(super) fn control_cell(EndpointIndex(number): EndpointIndex) -> u32 {
    u32::from(METALINK_CELLS) + number.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use dmux_wire::MacAddr;

    use super::*;

    fn endpoint(n: u32) -> Endpoint {
        let [_, a, b, c] = n.to_be_bytes();
        Endpoint { port: 3, mac: MacAddr([2, 0, 0, a, b, c]) }
    }

    #[test]
    fn numbers_are_stable_and_the_last_to_be_used_again() {
        let mut numbering = Numbering::default();
        let taken: Vec<_> = (0..3).map(|n| numbering.take(endpoint(n)).unwrap().0).collect();
        assert_eq!(taken, [1, 2, 3]);
        numbering.give(&endpoint(1));
        assert_eq!(numbering.take(endpoint(9)), Some(EndpointIndex(4)));
        assert_eq!(numbering.take(endpoint(2)), Some(EndpointIndex(3)), "it has one");
        for n in 100..100 + MAX_ENDPOINTS - 4 {
            assert!(numbering.take(endpoint(n)).is_some());
        }
        assert_eq!(numbering.take(endpoint(7)), Some(EndpointIndex(2)), "all the way round");
        assert_eq!(numbering.take(endpoint(8)), None);
        numbering.keep(&[endpoint(0)].into());
        assert_eq!(numbering.take(endpoint(8)), Some(EndpointIndex(3)));
        assert_eq!(numbering.take(endpoint(0)), Some(EndpointIndex(1)));
    }

    #[test]
    fn a_switch_tells_who_has_which() {
        let held = [(0, 7), (1, 9), (2, 7), (3, 0), (4, MAX_ENDPOINTS + 1)];
        let mut numbering = Numbering::of(held.into_iter().map(|(n, number)| (endpoint(n), EndpointIndex(number))));
        assert_eq!(numbering.take(endpoint(1)), Some(EndpointIndex(9)));
        assert_eq!(numbering.take(endpoint(0)), Some(EndpointIndex(7)));
        assert_eq!(numbering.take(endpoint(2)), Some(EndpointIndex(10)));
    }

    #[test]
    fn every_endpoint_has_a_cell_of_its_own() {
        let cells = dmux_tables::counters::METALINK_RX_RED.size;
        assert_eq!(control_cell(EndpointIndex(1)), 16_384);
        let mut numbering = Numbering::default();
        let number = numbering.take(endpoint(7)).unwrap();
        assert_eq!(numbering.endpoint_of_cell(control_cell(number)), Some(endpoint(7)));
        assert_eq!(numbering.endpoint_of_cell(16_383), None, "a metalink's");
        numbering.give(&endpoint(7));
        assert_eq!(numbering.endpoint_of_cell(control_cell(number)), None);
        assert_eq!(u64::from(control_cell(EndpointIndex(MAX_ENDPOINTS))) + 1, cells);
    }
}
