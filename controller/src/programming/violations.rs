//! Which endpoints send more than they may, as often as their switch says so.

use std::collections::BTreeMap;

use crate::model::{Endpoint, MetalinkId};

/// Endpoints and their metalinks that are remembered; beyond, who was told of longest ago is forgotten.
pub const MAX_VIOLATORS: usize = 32_768;

/// Counts, since the controller started. One is of a second in which the endpoint sent too much by this metalink.
#[derive(Debug, Clone, Default)]
pub struct Violations {
    times: BTreeMap<(Endpoint, Option<MetalinkId>), (u64, u64)>,
    by_age: BTreeMap<u64, (Endpoint, Option<MetalinkId>)>,
    total: u64,
}

impl Violations {
    /// Once more, by a metalink or (`None`) by the control MLI. Returns how often by now.
    pub fn count(&mut self, endpoint: Endpoint, metalink: Option<MetalinkId>) -> u64 {
        self.total += 1;
        let key = (endpoint, metalink);
        let (times, last) = self.times.get(&key).copied().unwrap_or_default();
        self.by_age.remove(&last);
        if self.times.len() >= MAX_VIOLATORS
            && times == 0
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.times.remove(&oldest);
        }
        self.times.insert(key, (times + 1, self.total));
        self.by_age.insert(self.total, key);
        times + 1
    }

    /// How often by this metalink, or control MLI.
    pub fn of(&self, endpoint: Endpoint, metalink: Option<MetalinkId>) -> u64 {
        self.times.get(&(endpoint, metalink)).map_or(0, |(times, _)| *times)
    }

    /// How often by anybody.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use dmux_wire::MacAddr;

    use super::*;

    #[test]
    fn the_one_of_longest_ago_is_forgotten() {
        let endpoint = |n: u32| {
            let [_, a, b, c] = n.to_be_bytes();
            Endpoint { port: 3, mac: MacAddr([2, 0, 0, a, b, c]) }
        };
        let mut violations = Violations::default();
        for n in 0..MAX_VIOLATORS as u32 {
            assert_eq!(violations.count(endpoint(n), None), 1);
        }
        assert_eq!(violations.count(endpoint(0), None), 2);
        assert_eq!(violations.count(endpoint(1_000_000), None), 1);
        assert_eq!([0, 1, 2].map(|n| violations.of(endpoint(n), None)), [2, 0, 1]);
        assert_eq!(violations.total(), MAX_VIOLATORS as u64 + 2);
    }
}
