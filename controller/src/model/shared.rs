//! Shared MLIs: the numbers by which metanets are known on multipoint VLANs ("shared mode"; "Network Access in a Diversified
//! Internet", §3.2), the same at every gateway and for every endpoint.

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::SHARED_MLIS;
use serde::{Deserialize, Serialize};

use super::{Change, Destination, MAX_METANETS, Mli, Model};

// There is one for each metanet that there may be.
const _: () = assert!(MAX_METANETS <= (*SHARED_MLIS.end() - *SHARED_MLIS.start()) as usize);

/// Which metanet has which.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct SharedMlis {
    of: BTreeMap<Destination, Mli>,
    /// The last one given: the search for a free one starts after it, so that a number is not another metanet's soon.
    last: u32,
}

impl SharedMlis {
    fn give(&mut self, metanet: Destination) {
        let taken: BTreeSet<u32> = self.of.values().map(|mli| mli.0).collect();
        let after = self.last.saturating_add(1).max(*SHARED_MLIS.start());
        let mut round = (after..=*SHARED_MLIS.end()).chain(SHARED_MLIS);
        if let Some(free) = round.find(|mli| !taken.contains(mli)) {
            self.last = free;
            self.of.insert(metanet, Mli(free));
        }
    }

    /// Whether the numbers are in their range and nobody shares one.
    pub(super) fn is_consistent(&self) -> bool {
        let distinct: BTreeSet<u32> = self.of.values().map(|mli| mli.0).collect();
        distinct.len() == self.of.len() && distinct.iter().all(|mli| SHARED_MLIS.contains(mli))
    }

    /// The metanets that have one, by protocol and provider.
    pub(super) fn metanets(&self) -> impl Iterator<Item = Destination> {
        self.of.keys().copied()
    }
}

impl Model {
    /// The MLI of a metanet on multipoint VLANs, if it has one.
    pub fn shared_mli(&self, metanet: Destination) -> Option<Mli> {
        self.state.access.shared.of.get(&metanet).copied()
    }

    /// All of them, by metanet.
    pub fn shared_mlis(&self) -> impl Iterator<Item = (Destination, Mli)> {
        self.state.access.shared.of.iter().map(|(&metanet, &mli)| (metanet, mli))
    }

    /// Gives a metanet a shared MLI, or takes the one that it has.
    pub(super) fn set_shared(&mut self, metanet: Destination, wanted: bool) {
        let shared = &mut self.state.access.shared;
        match (wanted, shared.of.contains_key(&metanet)) {
            (true, false) => shared.give(metanet),
            (false, true) => {
                shared.of.remove(&metanet);
            }
            (true, true) | (false, false) => return,
        }
        self.note(Change::SharedMlis);
    }
}
