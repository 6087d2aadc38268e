//! Connect: from a wish to a metalink by which the switch forwards.

use std::time::Duration;

use dmux_wire::control::RefusalCode;
use dmux_wire::metalink::{Connect, Kind, Pending};

use super::answers::{Asker, Refusal, destination, lease_kind, millis};
use super::flight::{Flight, Purpose, Subject};
use super::{Attachments, Closing, Dropped, Effect, NotProgrammed};
use crate::model::{Claim, Command, Metalink, MetalinkId, Model, Owner, Reply};
use crate::registration::{Now, Unavailable};

/// When an endpoint is to repeat a request about which an operator decides.
pub const RETRY_PENDING: Duration = Duration::from_secs(1);

impl Attachments {
    pub(super) fn connect(
        &mut self,
        now: Now,
        model: &Model,
        asker: Asker,
        connect: Connect,
    ) -> Result<Vec<Effect>, Dropped> {
        let metanet = destination(connect.metanet);
        let subject = Subject::Metanet(metanet);
        if self.flights.joins(&asker, subject) {
            return Ok(Vec::new());
        }
        if connect.rate == 0 {
            let text = "a rate of 0 bit/s carries nothing; release the metalink instead";
            return self.refuse(&asker, Refusal::new(RefusalCode::BadRate, text));
        }
        let owner = Owner { gateway: self.gateway, endpoint: asker.endpoint, metanet };
        let in_time = |metalink: &&Metalink| metalink.request == connect.request && now.unix_ms() < metalink.until;
        if let Some(metalink) = model.metalink_of(&owner).filter(in_time).cloned() {
            // Somebody has claimed it for the endpoint, whatever its operators have not decided.
            let mut effects = self.program(now, Some(asker), metalink)?;
            effects.extend(self.wishes.forget(&owner).map(|wish| Effect::Close(wish, Closing::Withdrawn)));
            return Ok(effects);
        }
        let claim = Claim {
            link: asker.place.link.clone(),
            endpoint: asker.endpoint,
            metanet,
            rate: connect.rate,
            lease: lease_kind(connect.lease),
            request: connect.request,
            by_operator: false,
        };
        let Some(known) = model.metanet(metanet) else {
            return self.refuse(&asker, Refusal::of_cluster(now, &crate::model::Refusal::NoSuchMetanet));
        };
        if model.access_link(&claim.link).is_none() {
            let text = "nothing is assignable on this access link; its operator has to put its capacity";
            return self.refuse(&asker, Refusal::new(RefusalCode::NoMetalinks, text));
        }
        if known.admits(asker.endpoint.mac).is_err() {
            // No operator could grant what the cluster refuses.
            let have = model.metalink_of(&owner).map_or(0, |metalink| metalink.request);
            if claim.request <= have {
                let stale = crate::model::Refusal::StaleSequence { have, got: claim.request };
                return self.refuse(&asker, Refusal::of_cluster(now, &stale));
            }
            return self.ask_operator(now, &asker, claim);
        }
        let (endpoint, purpose) = (asker.endpoint, Purpose::Connect(connect));
        let token = self.flights.begin(now.mono, Flight { asker: Some(asker), endpoint, subject, purpose })?;
        let command = Command::ClaimMetalink { at: now.unix_ms(), claim };
        Ok(vec![Effect::Propose { token, command }])
    }

    /// The metanet does not admit the endpoint by itself.
    fn ask_operator(&mut self, now: Now, asker: &Asker, claim: Claim) -> Result<Vec<Effect>, Dropped> {
        let name = self.members.name(&asker.endpoint).unwrap_or_default().to_owned();
        match self.wishes.wish(now.mono, claim, name) {
            Ok(mut effects) => {
                let pending = Kind::Pending(Pending { retry_after_ms: millis(RETRY_PENDING) });
                effects.extend(asker.answer(&pending));
                Ok(effects)
            }
            Err(refusal) => self.refuse(asker, refusal),
        }
    }

    /// The metalink is claimed: it counts once the switch forwards by it.
    pub(super) fn program(
        &mut self,
        now: Now,
        asker: Option<Asker>,
        metalink: Metalink,
    ) -> Result<Vec<Effect>, Dropped> {
        let (endpoint, subject) = (metalink.endpoint, Subject::Metanet(metalink.metanet));
        let (id, owner, request) = (metalink.id(), metalink.owner(), metalink.request);
        let purpose = Purpose::Program(Box::new(metalink));
        let token = self.flights.begin(now.mono, Flight { asker, endpoint, subject, purpose })?;
        Ok(vec![Effect::Await { token, metalink: id, owner, request }])
    }

    /// What the cluster made of a proposal.
    pub(super) fn landed(
        &mut self,
        now: Now,
        model: &Model,
        flight: Flight,
        outcome: Result<Reply, Unavailable>,
    ) -> Vec<Effect> {
        let refusal = match &outcome {
            Err(unavailable) => Some(Refusal::retry(RefusalCode::ClusterUnavailable, unavailable.to_string())),
            Ok(Reply::Refused(why)) => Some(Refusal::of_cluster(now, why)),
            Ok(_) => None,
        };
        let Flight { asker, endpoint, purpose, .. } = flight;
        if let (Purpose::Grant(owner), Some(refusal)) = (&purpose, &refusal) {
            let closing = Closing::Failed(refusal.text.clone());
            let wish = self.wishes.failed(now.mono, owner, refusal.clone());
            return wish.map(|wish| Effect::Close(wish, closing)).into_iter().collect();
        }
        if let (Some(asker), Some(refusal)) = (&asker, refusal) {
            return self.refuse_late(asker, refusal);
        }
        let Ok(reply) = outcome else { return Vec::new() };
        match (purpose, reply) {
            (Purpose::Connect(connect), Reply::Metalink { mli, cell, rate, until }) => {
                let Some(asker) = asker else { return Vec::new() };
                // This controller may not have applied it yet.
                let metalink = Metalink {
                    mli,
                    cell,
                    link: asker.place.link.clone(),
                    endpoint,
                    metanet: destination(connect.metanet),
                    rate,
                    lease: lease_kind(connect.lease),
                    until,
                    granted_at: now.unix_ms(),
                    request: connect.request,
                    yields: false,
                };
                // What there is no room for, the endpoint asks for again.
                self.program(now, Some(asker), metalink).unwrap_or_default()
            }
            (Purpose::Renew(metalink), Reply::Metalink { rate, until, .. }) => {
                let metalink = Metalink { rate, until, ..*metalink };
                asker.map(|asker| self.tell_connected(now, &asker, &metalink)).unwrap_or_default()
            }
            (Purpose::Release(mli), Reply::Done) => {
                asker.map(|asker| self.tell_released(model, &asker, mli)).unwrap_or_default()
            }
            (Purpose::Grant(owner), Reply::Metalink { .. }) => {
                self.wishes.granted(&owner).map(|wish| Effect::Close(wish, Closing::Granted)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// What became of the switch's programming.
    pub(super) fn forwards(
        &mut self,
        now: Now,
        model: &Model,
        flight: Flight,
        outcome: Result<(), NotProgrammed>,
    ) -> Vec<Effect> {
        let Flight { asker: Some(asker), purpose: Purpose::Program(metalink), .. } = flight else {
            return Vec::new();
        };
        match outcome {
            Ok(()) => {
                // It may have been adjusted, or its lease renewed, meanwhile.
                let id = MetalinkId { gateway: self.gateway, mli: metalink.mli };
                let current = model.metalink(id).filter(|m| m.request == metalink.request).cloned();
                let metalink = current.unwrap_or(*metalink);
                self.tell_connected(now, &asker, &metalink)
            }
            Err(why) => self.refuse_late(&asker, Refusal::retry(RefusalCode::NotProgrammed, why.to_string())),
        }
    }
}
