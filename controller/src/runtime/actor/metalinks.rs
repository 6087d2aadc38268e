//! Metalinks on their way into the switch.

use std::time::Duration;

use dmux_p4rt::p4::v1::DigestList;
use dmux_tables::ViolationDigest;
use tokio::sync::oneshot;

use super::Actor;
use crate::attachment::{NotProgrammed, PROGRAM_DEADLINE};
use crate::model::{MetalinkId, Mli};
use crate::programming::{GivenBack, Waiter};
use crate::registration::Now;
use crate::watching::Happening;

/// Where the answer goes that a metalink is in the switch.
pub(super) type Caller = oneshot::Sender<Result<(), NotProgrammed>>;

impl Actor {
    pub(super) fn await_metalink(&mut self, now: Now, metalink: MetalinkId, applied: u64, who: Caller) {
        let until = now.mono + PROGRAM_DEADLINE;
        // Whoever finds no room is told by the channel's end.
        let _ = self.programming.wait(Waiter { metalink, applied, until, who });
        self.recheck = true;
    }

    /// Tells who waits, and gives back what cannot be programmed. `moved`: the plan, the switch or the replicated
    /// state has. Returns when to look again.
    pub(super) fn follow_metalinks(&mut self, now: Now, moved: bool) -> Option<Duration> {
        let due = self.programming.next_deadline().is_some_and(|due| due <= now.mono);
        if moved || due {
            let answers =
                self.store.read(|r| self.programming.answers(now.mono, &r.0, &self.planner, &self.reconciler));
            for (who, outcome) in answers {
                // It may have stopped waiting.
                let _ = who.send(outcome);
            }
            let given_back = self.store.read(|r| {
                // Of a later state the plan will know soon.
                let current = self.planner.plan().applied() == r.0.applied();
                current.then(|| self.programming.give_back(now, &r.0, &self.planner, &self.reconciler))
            });
            given_back.into_iter().flatten().for_each(|given_back| self.give_back(given_back));
        }
        self.programming.next_deadline()
    }

    /// Who sends more than it may. The switch says so once a second a metalink.
    pub(super) fn on_violations(&mut self, list: &DigestList) {
        for message in &list.data {
            let ViolationDigest { cell, mli, port } = match ViolationDigest::decode(message) {
                Ok(violation) => violation,
                Err(error) => {
                    tracing::debug!(%error, "a digest was not understood");
                    continue;
                }
            };
            let id = MetalinkId { gateway: self.config.gateway_id(), mli: Mli(mli.get()) };
            let metalink = (mli != dmux_tables::Mli::CONTROL).then_some(id);
            let endpoint = match metalink {
                Some(id) => self.store.read(|r| r.0.metalink(id).map(|metalink| metalink.endpoint)),
                None => self.planner.endpoint_of_control_cell(cell),
            };
            // Told of what is gone by now, or of an entry of another hand.
            let Some(endpoint) = endpoint.filter(|endpoint| endpoint.port == port.get()) else { continue };
            let times = self.violations.count(endpoint, metalink);
            tracing::debug!(%endpoint, mli = mli.get(), times, "an endpoint sends more than it may");
            self.hub.tell([Happening::Violation { metalink, endpoint, times }]);
        }
    }

    fn give_back(&self, given_back: GivenBack) {
        let GivenBack { metalink, owner, why, command } = given_back;
        tracing::warn!(mli = metalink.mli.0, endpoint = %owner.endpoint, %why, "a metalink cannot be programmed: the claim is given back");
        self.hub.tell([Happening::GivenBack { metalink, endpoint: owner.endpoint, why }]);
        let (store, within) = (self.store.clone(), self.propose_within());
        tokio::spawn(async move {
            if let Err(error) = store.propose(command, within).await {
                tracing::debug!(%error, "a claim is not given back yet; it is tried again");
            }
        });
    }
}
