//! The numbers that a gateway gives its metalinks: MLIs, which rest after use, and cells.

use std::collections::BTreeMap;

use dmux_wire::{GatewayId, PROVISIONED_MLI_MAX};
use serde::{Deserialize, Serialize};

use super::metalink::Owner;
use super::{Model, Refusal};

/// Cells of each gateway, hence its metalinks: METALINK_CELLS of the gateway program.
pub const METALINK_CELLS: u16 = 16_384;
/// How long the MLI of a metalink that is gone is nobody's, ms: longer than a router's answers are under way, and than a
/// claim is repeated. Clocks of proposers that differ shorten it by what they differ.
pub const MLI_REST_MS: u64 = 120_000;
/// MLIs of a gateway that may rest when another metalink is claimed: those of a thousand that go each second.
pub const MAX_RESTING: usize = 131_072;
/// Numbers that are looked at for whether they have rested, by a claim: more than one claim makes rest, so that no
/// claim pays for many.
const WOKEN_AT_ONCE: usize = 16;

/// Metalink identifier: unique at a gateway, 1 to [`PROVISIONED_MLI_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mli(pub u32);

/// Where the switch counts a metalink: unique at a gateway, below [`METALINK_CELLS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell(pub u16);

/// What a gateway remembers of the numbers that it gave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Numbers {
    /// The last ones given: the search for free ones starts after them.
    pub(super) last_mli: u32,
    pub(super) last_cell: u32,
    /// MLIs that rest, by when they have (ms since the Unix epoch), and whose they were.
    pub(super) resting: BTreeMap<(u64, Mli), Owner>,
    /// What was last of owners whose MLIs rest: a claim that was overtaken by the end of its metalink makes no new one.
    pub(super) gone: BTreeMap<Owner, Gone>,
}

/// A metalink that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    /// The last claim's number.
    pub(super) request: u64,
    /// Until when it counts, ms since the Unix epoch.
    until: u64,
    /// Why its gateway gave it back, if it could not be programmed.
    pub(super) why: Option<String>,
}

impl Numbers {
    /// The owner's metalink that went lately.
    pub(super) fn lately_gone(&self, owner: &Owner, now: u64) -> Option<&Gone> {
        self.gone.get(owner).filter(|gone| now < gone.until)
    }

    /// Lets the MLI of a metalink that is gone rest.
    pub(super) fn rest(&mut self, now: u64, mli: Mli, owner: Owner, request: u64, why: Option<String>) {
        let until = now.saturating_add(MLI_REST_MS);
        self.resting.insert((until, mli), owner);
        self.gone.insert(owner, Gone { request, until, why });
    }

    /// An MLI that has rested.
    fn wake(&mut self, now: u64) -> Option<Mli> {
        let (&(until, mli), &owner) = self.resting.first_key_value().filter(|((until, _), _)| *until <= now)?;
        self.resting.remove(&(until, mli));
        if self.gone.get(&owner).is_some_and(|gone| gone.until <= now) {
            self.gone.remove(&owner);
        }
        Some(mli)
    }
}

impl Model {
    /// An MLI and a cell for a new metalink. Nothing is taken if either has run out.
    pub(super) fn take_numbers(&mut self, at: u64, gateway: GatewayId) -> Result<(Mli, Cell), Refusal> {
        let numbers = self.state.access.numbers.entry(gateway).or_default();
        let free = self.books.numbers(gateway);
        for _ in 0..WOKEN_AT_ONCE {
            let Some(mli) = numbers.wake(at) else { break };
            free.mlis.give(mli.0);
        }
        if let Some((&(until, _), _)) = numbers.resting.first_key_value()
            && numbers.resting.len() >= MAX_RESTING
        {
            return Err(Refusal::MlisRest { retry_at: until });
        }
        let cell = free.cells.after(numbers.last_cell).ok_or(Refusal::TooManyMetalinks(METALINK_CELLS.into()))?;
        let mli = free.mlis.after(numbers.last_mli).ok_or(Refusal::TooManyMetalinks(PROVISIONED_MLI_MAX as usize))?;
        numbers.last_mli = mli;
        numbers.last_cell = cell;
        // Free numbers begin at 1, cells at 0.
        Ok((Mli(mli), Cell((cell - 1) as u16)))
    }
}
