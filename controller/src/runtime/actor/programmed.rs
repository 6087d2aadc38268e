//! Endpoints that wait until the switch forwards by their metalinks, or takes their frames on the control MLI.

use std::time::Duration;

use super::Actor;
use crate::attachment::{NotProgrammed, PROGRAM_DEADLINE, Token};
use crate::model::{Endpoint, MetalinkId, Model, Owner};
use crate::punted::Outgoing;

/// Somebody who waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub(super) token: Token,
    pub(super) metalink: MetalinkId,
    pub(super) owner: Owner,
    /// The number of the claim.
    pub(super) request: u64,
    /// When it is waited for no longer.
    pub(super) until: Duration,
}

/// An endpoint that is attached, but not in the switch yet.
#[derive(Debug)]
pub(super) struct Welcome {
    endpoint: Endpoint,
    frame: Outgoing,
    until: Duration,
}

/// Welcomes that wait at most: what comes on top is not sent, and the endpoint attaches again.
const MAX_WELCOMES: usize = 1_024;

impl Actor {
    pub(super) fn welcome(&mut self, endpoint: Endpoint, frame: Outgoing) {
        if self.welcomes.len() < MAX_WELCOMES {
            self.welcomes.push(Welcome { endpoint, frame, until: self.clock.mono() + PROGRAM_DEADLINE });
            self.recheck = true;
        }
    }

    fn settle_welcomes(&mut self, now: Duration) {
        for welcome in std::mem::take(&mut self.welcomes) {
            let keys = self.planner.endpoint_keys(&welcome.endpoint);
            if !keys.is_empty() && self.reconciler.holds(self.planner.plan(), &keys) {
                self.send(&welcome.frame);
            } else if welcome.until > now {
                self.welcomes.push(welcome);
            }
        }
    }

    pub(super) fn await_programmed(&mut self, token: Token, metalink: MetalinkId, owner: Owner, request: u64) {
        let until = self.clock.mono() + PROGRAM_DEADLINE;
        // No more than there may be requests under way.
        self.awaited.push(Awaited { token, metalink, owner, request, until });
        self.recheck = true;
    }

    /// Answers those whose entries are in the switch, or will not be.
    pub(super) fn settle_awaited(&mut self) {
        if !std::mem::take(&mut self.recheck) {
            return;
        }
        let now = self.now();
        self.settle_welcomes(now.mono);
        if self.awaited.is_empty() {
            return;
        }
        let mut effects = Vec::new();
        for awaited in std::mem::take(&mut self.awaited) {
            match self.store.read(|r| self.outcome(&r.0, &awaited)) {
                Some(outcome) => {
                    let settled = |model: &Model| self.attachments.programmed(now, model, awaited.token, outcome);
                    effects.extend(self.store.read(|r| settled(&r.0)));
                }
                None if awaited.until > now.mono => self.awaited.push(awaited),
                None => {}
            }
        }
        self.perform_for_endpoints(effects);
    }

    /// `None` while that is open.
    fn outcome(&self, model: &Model, awaited: &Awaited) -> Option<Result<(), NotProgrammed>> {
        if let Some(why) = model.given_back(&awaited.owner, awaited.request) {
            return Some(Err(NotProgrammed(why.to_owned())));
        }
        // This controller may not have applied the claim yet.
        model.metalink(awaited.metalink).filter(|metalink| metalink.request >= awaited.request)?;
        let keys = self.planner.metalink_keys(awaited.metalink.mli);
        let planned = !keys.is_empty() && self.planner.plan().applied() >= model.applied();
        (planned && self.reconciler.holds(self.planner.plan(), &keys)).then_some(Ok(()))
    }
}
