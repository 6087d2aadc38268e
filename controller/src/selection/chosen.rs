//! What was chosen, and is remembered: the memory of hysteresis, and of who has which clients.

use std::collections::BTreeMap;

use dmux_wire::GatewayId;

use super::{Choice, Owners};
use crate::model::{Destination, RegistrationKey};

/// Which of a destination's two sets: one is served, the other holds what comes next, ready to be switched to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Side {
    /// The first.
    #[default]
    A,
    /// The second.
    B,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// 0 or 1.
    pub fn number(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// What is chosen for a destination, and what comes next if that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Whose routers are served.
    pub choice: Choice,
    /// Whose routers are ready to be.
    pub backup: Option<Choice>,
    /// The side that is served.
    pub side: Side,
    /// Who has the buckets, of the served side and of the other, by the side's number.
    pub owners: [Owners; 2],
    /// The routers that drain and still have clients in these buckets of the served side, besides the owners.
    pub leaving: BTreeMap<usize, RegistrationKey>,
}

/// How a router that had a bucket stands to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes clients.
    Serves,
    /// It drains: it keeps the clients that it has.
    Leaves,
    /// It is not there, or not certainly.
    Gone,
}

impl Chosen {
    /// The next choice after `before`. What `owners` deals for some gateways is given the owners to remember.
    ///
    /// Another gateway is never served from the side that is served now: its buckets are made ready beside it, if they
    /// are not already, and then the destination is switched over as a whole.
    pub fn next(
        before: Option<&Self>,
        choice: Choice,
        backup: Option<Choice>,
        mut owners: impl FnMut(&[GatewayId], &Owners) -> Owners,
        standing: impl Fn(&RegistrationKey) -> Standing,
    ) -> Self {
        let nothing = Owners::default();
        let side = match before {
            Some(before) if choice.pool.contains(&before.choice.gateway) => before.side,
            Some(before) => before.side.other(),
            None => Side::default(),
        };
        let memory = |choice: &Choice| before.map_or(&nothing, |before| before.memory(&choice.pool));
        // One that takes clients again gets back what it had.
        let back = |(_, key): &(&usize, &RegistrationKey)| standing(key) == Standing::Serves;
        let back: Vec<_> = before.iter().flat_map(|before| &before.leaving).filter(back).collect();
        let mut both = <[Owners; 2]>::default();
        both[side.number()] = if back.is_empty() {
            owners(&choice.pool, memory(&choice))
        } else {
            owners(&choice.pool, &memory(&choice).with(back))
        };
        if let Some(backup) = &backup {
            both[side.other().number()] = owners(&backup.pool, memory(backup));
        }
        let leaving = before.map_or_else(BTreeMap::new, |before| {
            let had = |bucket: usize| before.served_by(bucket).filter(|key| standing(key) == Standing::Leaves);
            let served = both[side.number()].buckets().iter().enumerate();
            served.filter_map(|(bucket, now)| Some((bucket, had(bucket).filter(|had| Some(*had) != *now)?))).collect()
        });
        Self { choice, backup, side, owners: both, leaving }
    }

    /// Who has clients in a bucket of the served side: the router that leaves it, if there is one.
    fn served_by(&self, bucket: usize) -> Option<RegistrationKey> {
        let served = &self.owners[self.side.number()];
        let leaving = self.leaving.get(&bucket.checked_rem(served.buckets().len())?);
        leaving.copied().or_else(|| served.of(bucket))
    }

    /// The owners from which those of a set of some gateways follow: its own if it had a side, else those that were
    /// served, since routers that moved to another gateway keep their clients.
    pub fn memory(&self, pool: &[GatewayId]) -> &Owners {
        let was_backup = self.backup.as_ref().is_some_and(|backup| pool.contains(&backup.gateway));
        let side = if was_backup && !pool.contains(&self.choice.gateway) { self.side.other() } else { self.side };
        &self.owners[side.number()]
    }

    /// The choice that a side holds.
    pub fn at(&self, side: Side) -> Option<&Choice> {
        if side == self.side { Some(&self.choice) } else { self.backup.as_ref() }
    }
}

/// What is chosen for each destination that has live routers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    chosen: BTreeMap<Destination, Chosen>,
}

impl Selection {
    /// Whose routers serve a destination.
    pub fn get(&self, destination: Destination) -> Option<&Choice> {
        self.chosen(destination).map(|chosen| &chosen.choice)
    }

    /// All that is remembered of a destination.
    pub fn chosen(&self, destination: Destination) -> Option<&Chosen> {
        self.chosen.get(&destination)
    }

    /// All that is remembered.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Destination, &Chosen)> {
        self.chosen.iter().map(|(&destination, chosen)| (destination, chosen))
    }

    /// Records what is chosen; `None` forgets the destination. Returns what was remembered.
    pub fn set(&mut self, destination: Destination, chosen: Option<Chosen>) -> Option<Chosen> {
        match chosen {
            Some(chosen) => self.chosen.insert(destination, chosen),
            None => self.chosen.remove(&destination),
        }
    }
}

impl FromIterator<(Destination, Chosen)> for Selection {
    fn from_iter<T: IntoIterator<Item = (Destination, Chosen)>>(chosen: T) -> Self {
        Self { chosen: chosen.into_iter().collect() }
    }
}
