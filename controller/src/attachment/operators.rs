//! Wishes about which metanets' operators decide: bounded in number and time.
//!
//! ```text
//!  Connect ──▶ asked ──┬─ granted ──▶ claimed ──▶ (the endpoint's repetition finds the metalink)
//!                      ├─ refused, or the claim was ──▶ refused ──▶ (the repetition is refused; forgotten after a while)
//!                      └─ nobody decided ─────────────▶ refused
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_wire::control::RefusalCode;
use thiserror::Error;

use super::answers::Refusal;
use super::flight::{Flight, Purpose, Subject};
use super::{Attachments, Effect};
use crate::model::{Claim, Command, Destination, LeaseKind, Owner};
use crate::registration::Now;

/// Wishes remembered at most.
pub const MAX_WISHES: usize = 4_096;
/// Likewise to one metanet.
pub const MAX_WISHES_PER_METANET: usize = 1_024;
/// Likewise of one endpoint.
pub const MAX_WISHES_PER_ENDPOINT: usize = 8;
/// How long an operator has to decide.
pub const OPERATOR_PATIENCE: Duration = Duration::from_secs(60);
/// An endpoint that wishes for something else of the same metanet has to wait for so long after its last wish: who changes its mind
/// all the time would keep operators from everybody else's wishes.
pub const REASK_AFTER: Duration = Duration::from_secs(5);
/// How long a refusal is remembered for the endpoint's repetition; and when the endpoint may ask again.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Names a wish, at one controller since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WishId(pub u64);

/// What an endpoint wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its name.
    pub id: WishId,
    /// What is wanted, and by whom.
    pub claim: Claim,
    /// The name in the endpoint's certificate; empty if it has shown none.
    pub name: String,
}

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This is what the endpoint gets.
    Grant {
        /// In either direction, bit/s.
        rate: u64,
        /// For how long.
        lease: LeaseKind,
    },
    /// It gets nothing.
    Refuse {
        /// For the endpoint's user.
        text: String,
        /// When it may ask again.
        retry_after: Duration,
    },
}

/// What came of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing {
    /// The endpoint has its metalink.
    Granted,
    /// An operator refused it.
    Refused,
    /// An operator granted it, and the cluster did not.
    Failed(String),
    /// The endpoint wants something else, or nobody decided in time.
    Withdrawn,
}

/// Why a verdict was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotDecided {
    /// The wish is decided, withdrawn, unknown, or another operator's.
    #[error("there is no such request (any more): it was decided, or its endpoint was told that nobody did")]
    NoSuchWish,
    /// As many claims as there may be are under way.
    #[error("the controller has too much to do; decide again")]
    Busy,
}

#[derive(Debug)]
enum State {
    Asked,
    /// Granted, and being claimed.
    Claimed,
    Refused(Refusal),
}

#[derive(Debug)]
struct Entry {
    wish: Wish,
    asked: Duration,
    until: Duration,
    state: State,
}

/// All wishes.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    entries: BTreeMap<Owner, Entry>,
    by_id: BTreeMap<WishId, Owner>,
    by_end: BTreeSet<(Duration, Owner)>,
    of_metanet: BTreeMap<Destination, usize>,
    last: u64,
}

impl Wishes {
    /// A wish, or its repetition. What comes of it beside an answer that it is pending.
    pub(super) fn wish(&mut self, now: Duration, claim: Claim, name: String) -> Result<Vec<Effect>, Refusal> {
        let owner = claim.owner();
        let mut effects = Vec::new();
        if let Some(entry) = self.entries.get(&owner) {
            let known = &entry.wish.claim;
            if claim.request < known.request {
                let text = format!("request {} was overtaken by request {}", claim.request, known.request);
                return Err(Refusal::new(RefusalCode::Replayed, text));
            }
            let is_new = claim.request > known.request;
            match &entry.state {
                State::Refused(refusal) if !is_new => return Err(refusal.clone()),
                // What is being claimed comes first.
                State::Claimed => return Ok(effects),
                State::Asked if !is_new => return Ok(effects),
                State::Asked | State::Refused(_) if now < entry.asked + REASK_AFTER => {
                    let text = "the metanet's operator was asked for something else just now; try again later";
                    let retry_after = entry.asked + REASK_AFTER - now;
                    return Err(Refusal { retry_after, ..Refusal::new(RefusalCode::Busy, text) });
                }
                State::Asked => effects.push(Effect::Close(entry.wish.clone(), Closing::Withdrawn)),
                State::Refused(_) => {}
            }
        }
        self.forget(&owner);
        let of_metanet = self.of_metanet.get(&owner.metanet).copied().unwrap_or(0);
        let of_endpoint = self.entries.range(least(&owner)..).take_while(|(o, _)| o.endpoint == owner.endpoint).count();
        if self.entries.len() >= MAX_WISHES
            || of_metanet >= MAX_WISHES_PER_METANET
            || of_endpoint >= MAX_WISHES_PER_ENDPOINT
        {
            let text = "as many requests as there may be wait for the metanet's operator; try again later";
            return Err(Refusal { retry_after: REMEMBERED, ..Refusal::new(RefusalCode::Limit, text) });
        }
        self.last += 1;
        let wish = Wish { id: WishId(self.last), claim, name };
        effects.push(Effect::Ask(wish.clone()));
        self.by_id.insert(wish.id, owner);
        *self.of_metanet.entry(owner.metanet).or_default() += 1;
        self.put(owner, Entry { wish, asked: now, until: now + OPERATOR_PATIENCE, state: State::Asked });
        Ok(effects)
    }

    fn put(&mut self, owner: Owner, entry: Entry) {
        self.by_end.insert((entry.until, owner));
        self.entries.insert(owner, entry);
    }

    pub(super) fn forget(&mut self, owner: &Owner) -> Option<Wish> {
        let Entry { wish, until, .. } = self.entries.remove(owner)?;
        self.by_id.remove(&wish.id);
        self.by_end.remove(&(until, *owner));
        if let Some(count) = self.of_metanet.get_mut(&owner.metanet) {
            *count -= 1;
            if *count == 0 {
                self.of_metanet.remove(&owner.metanet);
            }
        }
        Some(wish)
    }

    /// The claim that was granted is taken: the wish, about which there is nothing more to decide.
    pub(super) fn granted(&mut self, owner: &Owner) -> Option<Wish> {
        self.forget(owner)
    }

    /// The claim that was granted is not: the wish.
    pub(super) fn failed(&mut self, now: Duration, owner: &Owner, refusal: Refusal) -> Option<Wish> {
        self.settle(now, owner, State::Refused(refusal));
        self.entries.get(owner).map(|entry| entry.wish.clone())
    }

    fn settle(&mut self, now: Duration, owner: &Owner, state: State) {
        let Some(entry) = self.entries.get_mut(owner) else { return };
        self.by_end.remove(&(entry.until, *owner));
        entry.until = now + REMEMBERED;
        entry.state = state;
        self.by_end.insert((entry.until, *owner));
    }

    /// The wishes about which nobody decided in time. Refusals that were remembered for long enough go, too.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Wish> {
        let mut undecided = Vec::new();
        while let Some(&(_, owner)) = self.by_end.first().filter(|(until, _)| *until <= now) {
            match self.entries.get(&owner) {
                Some(Entry { wish, state: State::Asked, .. }) => {
                    undecided.push(wish.clone());
                    let text = "the metanet's operator has not decided in time; try again later";
                    let refusal = Refusal { retry_after: REMEMBERED, ..Refusal::new(RefusalCode::NotAdmitted, text) };
                    self.settle(now, &owner, State::Refused(refusal));
                }
                _ => {
                    self.forget(&owner);
                }
            }
        }
        undecided
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.by_end.first().map(|(until, _)| *until)
    }
}

/// The first of an endpoint's, in the order of owners.
fn least(owner: &Owner) -> Owner {
    let metanet = Destination { protocol: dmux_wire::ProtocolId(0), provider: dmux_wire::ProviderId(0) };
    Owner { metanet, ..*owner }
}

impl Attachments {
    /// The wishes about which the operators of these metanets still have to decide, by metanet and endpoint.
    pub fn wishes(&self, mine: impl Fn(Destination) -> bool) -> Vec<Wish> {
        let open = self.wishes.entries.values().filter(|entry| matches!(entry.state, State::Asked));
        open.filter(|entry| mine(entry.wish.claim.metanet)).map(|entry| entry.wish.clone()).collect()
    }

    /// An operator of the metanets that are `mine` has decided.
    ///
    /// # Errors
    /// There is nothing to decide, it is not theirs, or has to be decided again.
    pub fn decided(
        &mut self,
        now: Now,
        id: WishId,
        mine: impl Fn(Destination) -> bool,
        verdict: Verdict,
    ) -> Result<Vec<Effect>, NotDecided> {
        let owner = *self.wishes.by_id.get(&id).ok_or(NotDecided::NoSuchWish)?;
        let entry = self.wishes.entries.get(&owner).ok_or(NotDecided::NoSuchWish)?;
        if !matches!(entry.state, State::Asked) || !mine(owner.metanet) {
            return Err(NotDecided::NoSuchWish);
        }
        let wish = entry.wish.clone();
        match verdict {
            Verdict::Refuse { text, retry_after } => {
                let refusal = Refusal { retry_after, ..Refusal::new(RefusalCode::NotAdmitted, text) };
                self.wishes.settle(now.mono, &owner, State::Refused(refusal));
                Ok(vec![Effect::Close(wish, Closing::Refused)])
            }
            Verdict::Grant { rate, lease } => {
                let claim = Claim { rate, lease, by_operator: true, ..wish.claim };
                let (endpoint, subject) = (owner.endpoint, Subject::Metanet(owner.metanet));
                let flight = Flight { asker: None, endpoint, subject, purpose: Purpose::Grant(owner) };
                let token = self.flights.begin(now.mono, flight).map_err(|_| NotDecided::Busy)?;
                self.wishes.settle(now.mono, &owner, State::Claimed);
                let command = Command::ClaimMetalink { at: now.unix_ms(), claim };
                Ok(vec![Effect::Propose { token, command }])
            }
        }
    }
}
