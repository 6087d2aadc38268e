//! From a promise to the switch: who claimed a metalink is told when the switch forwards by it, and a claim that cannot be
//! programmed is given back.
//!
//! ```text
//! claimed ──▶ planned ──▶ written ──▶ programmed: whoever waits is told
//!               │            └─ refused for good ─┐
//!               └─ the site has no place for it ──┴─▶ GiveMetalinkBack ──▶ gone: whoever waits is told why
//! ```
//!
//! Pure: it looks at the model, the plan and what the switch is known to hold, and says what to propose and to whom to answer.
//! Nothing is remembered that a restart would miss: what cannot be programmed is found again.

mod violations;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::attachment::NotProgrammed;
use crate::model::{Command, MetalinkId, Mli, Model, Owner};
use crate::plan::{Planner, Reconciler};
use crate::registration::Now;

pub use violations::{MAX_VIOLATORS, Violations};

/// Who may wait at a time; more are told at once that nothing is known.
pub const MAX_WAITERS: usize = 4_096;
/// Claims that are given back at a time.
pub const GIVE_BACKS_AT_ONCE: usize = 64;
/// A claim that is still there so long after it was proposed to give it back is proposed again.
pub const GIVE_BACK_AGAIN: Duration = Duration::from_secs(5);
/// Reasons that are remembered for who asks late.
const MAX_REASONS: usize = 1_024;

/// Somebody who waits.
#[derive(Debug)]
pub struct Waiter<W> {
    /// For which metalink.
    pub metalink: MetalinkId,
    /// The log index of the claim, if it is known: before it, that there is no such metalink says nothing.
    pub applied: u64,
    /// Until when.
    pub until: Duration,
    /// Where the answer goes.
    pub who: W,
}

/// A metalink that is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenBack {
    /// Which.
    pub metalink: MetalinkId,
    /// Whose it was.
    pub owner: Owner,
    /// Why.
    pub why: String,
    /// To be proposed.
    pub command: Command,
}

/// The state machine. `W` is where an answer goes.
#[derive(Debug)]
pub struct Programming<W> {
    waiting: Vec<Waiter<W>>,
    /// When each may be proposed again.
    giving_back: BTreeMap<MetalinkId, Duration>,
    reasons: VecDeque<(MetalinkId, String)>,
}

impl<W> Default for Programming<W> {
    fn default() -> Self {
        Self { waiting: Vec::new(), giving_back: BTreeMap::new(), reasons: VecDeque::new() }
    }
}

impl<W> Programming<W> {
    /// Somebody waits from now on.
    ///
    /// # Errors
    /// The waiter, if there are [`MAX_WAITERS`] already.
    pub fn wait(&mut self, waiter: Waiter<W>) -> Result<(), W> {
        if self.waiting.len() >= MAX_WAITERS {
            return Err(waiter.who);
        }
        self.waiting.push(waiter);
        Ok(())
    }

    /// Who has an answer now. Whoever has waited too long is dropped without one.
    pub fn answers(
        &mut self,
        now: Duration,
        model: &Model,
        planner: &Planner,
        reconciler: &Reconciler,
    ) -> Vec<(W, Result<(), NotProgrammed>)> {
        let mut answers = Vec::new();
        for waiter in std::mem::take(&mut self.waiting) {
            match self.outcome(&waiter, model, planner, reconciler) {
                Some(outcome) => answers.push((waiter.who, outcome)),
                None if waiter.until > now => self.waiting.push(waiter),
                None => {}
            }
        }
        answers
    }

    fn outcome(
        &self,
        waiter: &Waiter<W>,
        model: &Model,
        planner: &Planner,
        reconciler: &Reconciler,
    ) -> Option<Result<(), NotProgrammed>> {
        let plan = planner.plan();
        if plan.applied() < waiter.applied {
            return None;
        }
        if model.metalink(waiter.metalink).is_none() {
            let known = self.reasons.iter().rev().find(|(metalink, _)| *metalink == waiter.metalink);
            let why = known.map_or("it was revoked, or its lease has ended", |(_, why)| why);
            return Some(Err(NotProgrammed(why.into())));
        }
        let keys = planner.metalink_keys(waiter.metalink.mli);
        (!keys.is_empty() && reconciler.holds(plan, &keys)).then_some(Ok(()))
    }

    /// What cannot be programmed, and is to be given back now. To be asked when the plan is of this model: a later claim may have
    /// put things right.
    pub fn give_back(&mut self, now: Now, model: &Model, planner: &Planner, reconciler: &Reconciler) -> Vec<GivenBack> {
        let hopeless = hopeless(planner, reconciler);
        let gateway = planner.local().gateway;
        let id = |mli| MetalinkId { gateway, mli };
        let still: BTreeSet<MetalinkId> = hopeless.keys().map(|&mli| id(mli)).collect();
        self.giving_back.retain(|metalink, _| still.contains(metalink));
        let under_way = self.giving_back.values().filter(|again| **again > now.mono).count();
        let mut given_back = Vec::new();
        for (mli, why) in hopeless {
            if under_way + given_back.len() >= GIVE_BACKS_AT_ONCE {
                break;
            }
            let metalink = id(mli);
            let Some(claimed) = model.metalink(metalink) else { continue };
            if self.giving_back.get(&metalink).is_some_and(|again| *again > now.mono) {
                continue;
            }
            self.giving_back.insert(metalink, now.mono + GIVE_BACK_AGAIN);
            if self.reasons.len() >= MAX_REASONS {
                self.reasons.pop_front();
            }
            self.reasons.push_back((metalink, why.clone()));
            let request = claimed.request;
            let command = Command::GiveMetalinkBack { at: now.unix_ms(), metalink, request, why: why.clone() };
            given_back.push(GivenBack { metalink, owner: claimed.owner(), why, command });
        }
        given_back
    }

    /// When to look again although nothing has happened.
    pub fn next_deadline(&self) -> Option<Duration> {
        let waiting = self.waiting.iter().map(|waiter| waiter.until);
        waiting.chain(self.giving_back.values().copied()).min()
    }
}

/// The metalinks that the switch cannot be programmed for, and why.
fn hopeless(planner: &Planner, reconciler: &Reconciler) -> BTreeMap<Mli, String> {
    let mut hopeless: BTreeMap<Mli, String> = planner.unfit().map(|(mli, why)| (mli, why.to_string())).collect();
    for (key, why) in reconciler.refused() {
        for mli in planner.metalinks_of(key) {
            hopeless
                .entry(mli)
                .or_insert_with(|| format!("the switch refuses an entry of {}: {why}", key.table_name()));
        }
    }
    hopeless
}
