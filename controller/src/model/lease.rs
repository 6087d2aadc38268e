//! Leases, and which of them give way.
//!
//! Every promise ends unless it is renewed. Short-term leases may use what long-term ones leave. The rules:
//!
//! 1. No lease ends before its time, whatever else is claimed.
//! 2. A long-term claim that would fit but for short-term leases is refused, and waits: so much of the access link is kept
//!    for it that the youngest short-term leases, as many as it takes, *yield*. A lease that yields is not renewed any
//!    more, and gets no higher rate.
//! 3. The refusal says when the last of them has ended. The claimant asks again then, and has [`WAIT_GRACE_MS`] for it;
//!    meanwhile nobody else gets what is kept. Claims that wait come in the order in which they came.
//! 4. A lease that yields does so to its end, even if the long-term claim is never repeated. Long-term leases never yield,
//!    and raising the rate of a metalink makes nobody yield.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::access::AccessLink;
use super::metalink::{Claim, Metalink, MetalinkId, Owner};
use super::{LinkKey, Model};

/// How long what is kept for a long-term claim is kept after the leases that yield to it have ended, ms.
pub const WAIT_GRACE_MS: u64 = 10_000;
/// Long-term claims that wait on an access link at most; others are just refused.
pub const MAX_WAITING: usize = 16;

/// For how long a metalink is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaseKind {
    /// So that bandwidth can move between metanets quickly; may have to yield.
    Short,
    /// Renewed for as long as somebody asks for it.
    Long,
}

impl fmt::Display for LeaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Short => "short",
            Self::Long => "long",
        })
    }
}

impl FromStr for LeaseKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "short" => Ok(Self::Short),
            "long" => Ok(Self::Long),
            _ => Err(format!("{text:?} is no kind of lease; there are short and long")),
        }
    }
}

/// A long-term claim for which short-term leases yield.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) owner: Owner,
    /// What is kept for it, beyond what its owner has already, bit/s.
    pub(super) rate: u64,
    /// When the leases that yield to it have ended, ms since the Unix epoch; [`WAIT_GRACE_MS`] later it is forgotten.
    pub(super) from: u64,
}

impl Model {
    /// What is kept on an access link for claims that come before this owner's.
    pub(super) fn kept_before(&self, link: &LinkKey, owner: &Owner) -> u64 {
        let waiting = self.state.access.waiting.get(link).into_iter().flatten();
        waiting.take_while(|w| w.owner != *owner).map(|w| w.rate).sum()
    }

    /// Forgets claims that were not repeated in time.
    pub(super) fn forget_waiting(&mut self, at: u64, link: &LinkKey) {
        self.retain_waiting(link, |w| at <= w.from.saturating_add(WAIT_GRACE_MS));
    }

    /// The owner waits no more: it has what it claimed.
    pub(super) fn waits_no_more(&mut self, link: &LinkKey, owner: &Owner) {
        self.retain_waiting(link, |w| w.owner != *owner);
    }

    fn retain_waiting(&mut self, link: &LinkKey, keep: impl Fn(&Waiting) -> bool) {
        if let Some(waiting) = self.state.access.waiting.get_mut(link) {
            waiting.retain(keep);
            if waiting.is_empty() {
                self.state.access.waiting.remove(link);
            }
        }
    }

    /// Has a long-term claim that does not fit wait, and as many short-term leases yield as it takes. Returns when they
    /// have ended, ms since the Unix epoch; `None` if it could not be met then either.
    pub(super) fn wait(&mut self, at: u64, link: &AccessLink, claim: &Claim) -> Option<u64> {
        let owner = claim.owner();
        let own = self.metalink_of(&owner).filter(|own| own.link == link.key).cloned();
        let own_long = own.as_ref().filter(|own| own.lease == LeaseKind::Long).map_or(0, |own| own.rate);
        let long = self.books.link(&link.key).map_or(0, |book| book.long) - own_long;
        let before = self.kept_before(&link.key, &owner);
        if long.saturating_add(before).saturating_add(claim.rate) > link.capacity {
            return None;
        }
        let rate = claim.rate.saturating_sub(own.as_ref().map_or(0, Metalink::firm_rate));
        let from = at.saturating_add(link.short_lease_ms);
        let waiting = self.state.access.waiting.entry(link.key.clone()).or_default();
        let room = waiting.len() < MAX_WAITING;
        let from = match waiting.iter_mut().find(|w| w.owner == owner) {
            Some(known) => {
                if rate > known.rate {
                    known.from = known.from.max(from);
                }
                known.rate = rate;
                known.from
            }
            None if room => {
                waiting.push(Waiting { owner, rate, from });
                from
            }
            None => return None,
        };
        let kept: u64 = waiting.iter().map(|w| w.rate).sum();
        let book = self.books.link(&link.key);
        let free = link.capacity - book.map_or(0, |book| book.promised());
        let mut missing = kept.saturating_sub(free + book.map_or(0, |book| book.yielding));
        while missing > 0 {
            let own = own.as_ref().map(|own| own.mli);
            let youngest = self
                .books
                .link(&link.key)
                .and_then(|book| book.unyielding.iter().rev().map(|(_, mli)| *mli).find(|mli| Some(*mli) != own));
            let Some(mli) = youngest else { break };
            let id = MetalinkId { gateway: link.key.gateway, mli };
            let Some(mut yielding) = self.metalink(id).cloned() else { break };
            yielding.yields = true;
            missing = missing.saturating_sub(yielding.rate);
            self.put_metalink(yielding);
        }
        Some(from)
    }
}
