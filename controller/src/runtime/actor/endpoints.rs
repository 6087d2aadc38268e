//! Endpoints of the access links: their frames, and what comes of them.

use std::time::Duration;

use dmux_tables::PortId;
use dmux_wire::PuntReason;
use dmux_wire::control::RefusalCode;

use super::Actor;
use crate::api::v1::EndpointCount;
use crate::attachment::{Counts, Effect, Token};
use crate::model::Reply;
use crate::registration::{Now, Unavailable};
use crate::runtime::Input;
use crate::runtime::metanet_api::{OperatorId, Said};

impl Actor {
    /// A frame on MLI 0 or a control MLI.
    pub(super) fn on_endpoint(&mut self, now: Now, reason: PuntReason, port: PortId, frame: &[u8]) {
        let heard = self.store.read(|r| self.attachments.handle(now, &r.0, reason, port, frame));
        match heard {
            Ok(effects) => self.perform_for_endpoints(effects),
            Err(why) => tracing::debug!(%why, %port, "an endpoint's frame is not answered"),
        }
    }

    /// A request of an endpoint's has an outcome.
    pub(super) fn on_claimed(&mut self, now: Now, token: Token, outcome: Result<Reply, Unavailable>) {
        let effects = self.store.read(|r| self.attachments.committed(now, &r.0, token, outcome));
        self.perform_for_endpoints(effects);
    }

    /// Returns when to call again.
    pub(super) fn tick_endpoints(&mut self, now: Now) -> Option<Duration> {
        let (effects, due) = self.store.read(|r| self.attachments.tick(now, &r.0));
        self.perform_for_endpoints(effects);
        self.settle_awaited();
        due
    }

    /// What an operator of metanets says.
    pub(super) fn on_operator(&mut self, now: Now, operator: OperatorId, said: Said) {
        match said {
            Said::Hello { metanets, to } => {
                let open = self.attachments.wishes(|metanet| metanets.contains(&metanet));
                self.operators.enter(operator, metanets, to, &open);
            }
            Said::Verdict(wish, verdict) => {
                let operators = &self.operators;
                let mine = |metanet| operators.serves(operator, metanet);
                match self.attachments.decided(now, wish, mine, verdict) {
                    Ok(effects) => self.perform_for_endpoints(effects),
                    Err(why) => self.operators.not_decided(operator, wish, why),
                }
            }
            Said::Goodbye => self.operators.leave(operator),
        }
    }

    /// Plans who is attached now, and who is not any more.
    pub(super) fn plan_endpoints(&mut self) {
        let changes = self.attachments.take_changes();
        if !changes.is_empty() {
            let delta = self.planner.attach(changes);
            self.reconciler.planned(&delta);
        }
    }

    pub(super) fn perform_for_endpoints(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(outgoing) => self.send(&outgoing),
                Effect::Welcome { endpoint, frame } => self.welcome(endpoint, frame),
                Effect::Propose { token, command } => {
                    let (store, inputs, within) = (self.store.clone(), self.inputs.clone(), self.propose_within());
                    tokio::spawn(async move {
                        let outcome = store.propose(command, within).await;
                        let outcome = outcome.map(|(_, reply)| reply).map_err(|e| Unavailable(e.to_string()));
                        // The actor is gone only when the controller stops.
                        let _ = inputs.send(Input::Claimed(token, outcome)).await;
                    });
                }
                Effect::Renew { token, metalink } => {
                    if let Err(why) = self.renewals.ask(token, metalink) {
                        self.on_claimed(self.now(), token, Err(why));
                    }
                }
                Effect::Await { token, metalink, owner, request } => {
                    self.await_programmed(token, metalink, owner, request);
                }
                Effect::Ask(wish) => self.operators.ask(&wish),
                Effect::Close(wish, closing) => self.operators.close(&wish, &closing),
            }
        }
    }
}

/// What endpoints were told, as operators read it.
pub(super) fn counted(counts: &Counts) -> Vec<EndpointCount> {
    let told = [("offer", counts.offers), ("attached", counts.attached), ("connected", counts.connected)];
    let told = told.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| (what.to_owned(), count));
    let refused = counts.refused.iter().map(|(&code, &count)| {
        let name = RefusalCode::try_from(code).unwrap_or_default().as_str_name();
        (format!("refused {}", name.trim_start_matches("REFUSAL_CODE_")), count)
    });
    let dropped = counts.dropped.iter().map(|(name, &count)| (format!("dropped {name}"), count));
    told.chain(refused).chain(dropped).map(|(what, count)| EndpointCount { what, count }).collect()
}
