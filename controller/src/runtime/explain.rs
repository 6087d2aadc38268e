//! `Explain` of the operator API: walks through what the switch holds, then has the actor put its plan beside it.

use std::net::Ipv4Addr;
use std::time::Duration;

use dmux_p4rt::client::Session;
use dmux_wire::{DMUX_PORT, GatewayId, ProtocolId, ProviderId};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::replicated::Replicated;
use super::{Input, Snapshot, io};
use crate::api::v1::dmux_client::DmuxClient;
use crate::api::v1::{self, ExplainRequest};
use crate::config::ControllerConfig;
use crate::explain::{self, Hop, Lookup, Presence, Question, Walk};
use crate::model::{Destination, Model, Registered};
use crate::plan::{Entry, Planner, State};
use crate::selection::{Choice, Local, client_hash};

/// How long another gateway's controller may take to explain.
const PEER_DEADLINE: Duration = Duration::from_secs(3);
/// How long the actor may take to answer.
const ACTOR_DEADLINE: Duration = Duration::from_secs(2);
/// Times that a difference between switch and plan is looked at again: it may be a change that was being written.
const SECOND_LOOKS: u32 = 3;
/// Before each of these.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(50);
/// Protocols that an error lists at most.
const MAX_LISTED: usize = 8;

/// What the actor is asked.
#[derive(Debug)]
pub(super) struct Ask {
    question: Question,
    /// What the switch knows of the client at a draining router.
    presence: Presence,
    /// What was looked up in the switch.
    lookups: Vec<Lookup>,
    answer: oneshot::Sender<Decision>,
}

/// What the actor answers: a consistent view of what it planned, and from what.
#[derive(Debug)]
pub(super) struct Decision {
    local: Local,
    choice: Option<Choice>,
    /// What comes next, should the choice fail.
    backup: Option<Choice>,
    planned: Walk,
    /// What the plan has for each of [`Ask::lookups`].
    beside: Vec<Option<Entry>>,
    applied: u64,
    switch: State,
}

impl Ask {
    /// Answers from the planner. Cheap: some lookups.
    pub(super) fn answer(self, planner: &Planner, switch: State) {
        let plan = planner.plan();
        let entry = |key: &_| plan.entries().get(key).copied();
        let chosen = planner.selection().chosen(self.question.destination);
        let decision = Decision {
            local: planner.local().clone(),
            choice: chosen.map(|chosen| chosen.choice.clone()),
            backup: chosen.and_then(|chosen| chosen.backup.clone()),
            planned: Walk::through(self.question, self.presence, entry),
            beside: self.lookups.iter().map(|lookup| lookup.best(entry)).collect(),
            applied: plan.applied(),
            switch,
        };
        // Whoever asked may have given up.
        let _ = self.answer.send(decision);
    }
}

/// What an explanation is made from.
pub(super) struct Explainer<'a> {
    pub config: &'a ControllerConfig,
    pub store: &'a dmux_raft_store::Store<Replicated>,
    pub inputs: &'a mpsc::Sender<Input>,
    pub session: Option<Session>,
    pub snapshot: Snapshot,
}

impl Explainer<'_> {
    /// Answers, or has the gateway's own controller answer.
    pub(super) async fn explain(&self, request: ExplainRequest) -> Result<v1::Explanation, Status> {
        let own = self.config.gateway_id();
        if request.gateway != 0 && request.gateway != u32::from(own.0) {
            return self.forward(request).await;
        }
        let question = self.store.read(|r| question(&r.0, self.config.gateway.address, &request))?;
        let mut looks = 0;
        loop {
            let walked = self.walk_switch(question).await;
            let decision = self.ask(question, walked.as_ref().ok()).await?;
            let proof = proof(walked.as_ref().map_or(&[], Walk::hops), &decision);
            let differs = proof.iter().any(|entry| entry.differs);
            if differs && looks < SECOND_LOOKS {
                looks += 1;
                tokio::time::sleep(SECOND_LOOK_AFTER).await;
                continue;
            }
            let outcome = |walk: &Walk| walk.outcome().map_or_else(String::new, |outcome| outcome.to_string());
            let mut answer = self.store.read(|r| explanation(&r.0, own, question, &decision));
            answer.proof = proof;
            answer.differs = differs;
            match &walked {
                Ok(walked) => {
                    answer.outcome = outcome(walked);
                    if let Some((draining, leaving)) = answer.draining.as_mut().zip(walked.leaving()) {
                        draining.cell_read = leaving.presence != Presence::Learning;
                    }
                }
                Err(why) => answer.no_proof.clone_from(why),
            }
            return Ok(answer);
        }
    }

    async fn walk_switch(&self, question: Question) -> Result<Walk, String> {
        let Some(session) = &self.session else {
            let detail = &self.snapshot.switch.detail;
            return Err(format!("the switch is not connected: {detail}"));
        };
        let mut walk = Walk::new(question);
        let unreadable = |why| format!("the switch cannot be read: {why}");
        loop {
            if let Some(leaving) = walk.asks() {
                let cell = io::client_seen(session, leaving.cell).await.map_err(unreadable)?;
                let now_us = self.snapshot.switch_clock.map(|clock| clock.now_us());
                walk.told(Presence::of(cell, leaving.idle, now_us));
            }
            let Some(lookup) = walk.next() else { return Ok(walk) };
            let hit = io::best_entry(session, &lookup).await.map_err(unreadable)?;
            walk.found(lookup, hit);
        }
    }

    async fn ask(&self, question: Question, walked: Option<&Walk>) -> Result<Decision, Status> {
        let (answer, decision) = oneshot::channel();
        let lookups = walked.map_or(&[][..], Walk::hops).iter().map(|hop| hop.lookup.clone()).collect();
        let presence = walked.and_then(Walk::leaving).map_or(Presence::Unknown, |leaving| leaving.presence);
        let ask = Input::Explain(Ask { question, presence, lookups, answer });
        let asked = async {
            self.inputs.send(ask).await.ok()?;
            decision.await.ok()
        };
        match tokio::time::timeout(ACTOR_DEADLINE, asked).await {
            Ok(Some(decision)) => Ok(decision),
            Ok(None) => Err(Status::unavailable("the controller stops")),
            Err(_) => Err(Status::unavailable("the controller is too busy to answer; ask again")),
        }
    }

    async fn forward(&self, request: ExplainRequest) -> Result<v1::Explanation, Status> {
        let known = self.store.read(|r| {
            let asked = u16::try_from(request.gateway).ok().and_then(|id| r.0.gateway(GatewayId(id)));
            asked.cloned().ok_or_else(|| {
                let ids: Vec<_> = r.0.gateways().map(|g| format!("{} ({})", g.id, g.name)).take(MAX_LISTED).collect();
                ids.join(", ")
            })
        });
        let gateway = known.map_err(|known| {
            Status::not_found(format!("there is no gateway {}; there are {known}", request.gateway))
        })?;
        if request.local {
            let (own, asked) = (self.config.gateway.id, request.gateway);
            return Err(Status::failed_precondition(format!(
                "this is the controller of gateway {own}, not of {asked}"
            )));
        }
        let unavailable = |why: String| {
            let (id, name, api) = (gateway.id, &gateway.name, &gateway.api);
            Status::unavailable(format!("the controller of gateway {id} ({name}) does not answer at {api}: {why}"))
        };
        let asked = async {
            let endpoint =
                tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.api)).map_err(|e| e.to_string());
            let channel =
                endpoint.map_err(unavailable)?.connect().await.map_err(|_| unavailable("no connection".into()))?;
            DmuxClient::new(channel).explain(ExplainRequest { local: true, ..request.clone() }).await
        };
        match tokio::time::timeout(PEER_DEADLINE, asked).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(unavailable(format!("nothing within {} s", PEER_DEADLINE.as_secs()))),
        }
    }
}

/// Checks a request against the replicated state and fills in its defaults. A request without a client is about `own`, the
/// gateway's unicast address.
pub(super) fn question(model: &Model, own: Ipv4Addr, request: &ExplainRequest) -> Result<Question, Status> {
    let invalid = |what: String| Err(Status::invalid_argument(what));
    let config = model.config();
    let guarded = !request.client.is_empty();
    let client = if guarded { request.client.parse() } else { Ok(own) };
    let Ok(client): Result<Ipv4Addr, _> = client else {
        let given: String = request.client.chars().take(64).collect();
        return invalid(format!("client {given:?} is no IPv4 address; write it as 203.0.113.9"));
    };
    if config.dmux_prefix.contains(client) {
        let prefix = config.dmux_prefix;
        return invalid(format!("client {client} lies in the dmux-prefix {prefix}: no client has such an address"));
    }
    let Some(protocol) = u16::try_from(request.protocol).ok().filter(|&p| p != 0).map(ProtocolId) else {
        return invalid(format!("protocol {} is no protocol id; use 1 to 65535", request.protocol));
    };
    let Ok(client_port) = u16::try_from(request.client_port) else {
        return invalid(format!("client port {} is no UDP port", request.client_port));
    };
    let provider = if request.provider == 0 { ProviderId::ANY } else { ProviderId(request.provider) };
    let service = if request.service.is_empty() {
        config.services.values().next().copied()
    } else {
        let given = request.service.parse::<Ipv4Addr>().ok();
        given.filter(|service| config.services.values().any(|known| known == service))
    };
    let Some(service) = service else {
        let known: Vec<_> = config.services.values().take(MAX_LISTED).map(Ipv4Addr::to_string).collect();
        return invalid(format!("{:?} is no service address; there are {}", request.service, known.join(", ")));
    };
    let none_left = model.gateways_serving(Destination::any(protocol)).next().is_none();
    if none_left && model.revoked_routers(protocol).next().is_none() {
        let mut known: Vec<_> = model.destinations().map(|(destination, _)| destination.protocol.to_string()).collect();
        known.dedup();
        known.truncate(MAX_LISTED);
        let known = if known.is_empty() {
            "there are none at all".into()
        } else {
            format!("there are of {}", known.join(", "))
        };
        return Err(Status::not_found(format!(
            "protocol {protocol} is unknown: no router of it is registered; {known}"
        )));
    }
    let client_port = if client_port == 0 { DMUX_PORT } else { client_port };
    Ok(Question { client, client_port, service, destination: Destination { protocol, provider }, guarded })
}

fn explanation(model: &Model, own: GatewayId, question: Question, decision: &Decision) -> v1::Explanation {
    let Question { client, client_port, service, destination, .. } = question;
    let Decision { local, choice, planned, .. } = decision;
    let bucket = planned.bucket();
    let explained = explain::explain(model, local, destination, choice.as_ref(), planned);
    let rejected = |r: explain::Rejected| v1::Rejected {
        router: Some(considered(&r.registered)),
        reason: r.reason.code().into(),
        detail: r.reason.to_string(),
    };
    let held_out = explained.held_out.into_iter().map(|key| v1::Rejected {
        router: Some(v1::Considered { address: key.router.to_string(), ..Default::default() }),
        reason: explain::Reason::Dampened.code().into(),
        detail: "it came and went too often, and may not register yet".into(),
    });
    let revoked = explained.revoked.into_iter().map(|(router, key)| {
        let reason = explain::Reason::Revoked { key };
        v1::Rejected {
            router: Some(v1::Considered {
                address: router.key.router.to_string(),
                name: router.name,
                provider: router.provider.0,
                gateway: router.gateway.0.into(),
                ..Default::default()
            }),
            reason: reason.code().into(),
            detail: reason.to_string(),
        }
    });
    let at = |index| model.registrations().find(|registered| registered.router == index).map(considered);
    let draining = planned.leaving().map(|leaving| {
        let silent = match leaving.presence {
            Presence::Present { silent } | Presence::Idle { silent } => Some(silent),
            Presence::Learning | Presence::New | Presence::Unknown => None,
        };
        v1::Draining {
            router: at(leaving.router),
            heir: at(leaving.heir),
            client: leaving.presence.code().into(),
            silent_ms: silent.map(|silent| silent.as_millis() as u64),
            idle_ms: (u64::from(leaving.idle) << 20) / 1000,
            cell: leaving.cell,
            cell_read: false,
        }
    });
    v1::Explanation {
        gateway: own.0.into(),
        gateway_name: model.gateway(own).map(|g| g.name.clone()).unwrap_or_default(),
        client: client.to_string(),
        client_port: client_port.into(),
        protocol: destination.protocol.0.into(),
        provider: destination.provider.0,
        service: service.to_string(),
        client_hash: client_hash(client).into(),
        bucket: bucket.map(Into::into),
        chosen: explained.chosen.as_ref().map(considered),
        distance_us: explained.distance.and_then(|d| u32::try_from(d.as_micros()).ok()),
        policy: explained.policy.to_string(),
        suspect: choice.as_ref().is_some_and(|choice| choice.suspect),
        rejected: explained.rejected.into_iter().map(rejected).chain(held_out).chain(revoked).collect(),
        draining,
        left_out: explained.left_out as u64,
        planned_outcome: planned.outcome().map_or_else(String::new, |outcome| outcome.to_string()),
        switch_state: decision.switch.to_string(),
        applied: decision.applied,
        next_gateway: decision.backup.as_ref().map(|backup| backup.gateway.0.into()),
        ..Default::default()
    }
}

pub(super) fn considered(registered: &Registered) -> v1::Considered {
    let registration = &registered.registration;
    v1::Considered {
        address: registration.key.router.to_string(),
        name: registration.name.clone(),
        provider: registration.provider.0,
        gateway: registration.gateway.0.into(),
        weight: registration.weight.into(),
        index: registered.router.0,
    }
}

/// The stages of the switch's walk, with what the plan has beside each.
fn proof(hops: &[Hop], decision: &Decision) -> Vec<v1::Proof> {
    hops.iter()
        .zip(&decision.beside)
        .map(|(Hop { lookup, hit }, planned)| {
            let key = hit.as_ref().or(planned.as_ref()).map(Entry::key);
            // Without an entry on either side: the key itself, or that no prefix matches.
            let key = key.or(match lookup.keys() {
                [key] => Some(*key),
                _ => None,
            });
            v1::Proof {
                table: lookup.table().into(),
                key: key.map_or_else(|| format!("{}[no prefix matches]", lookup.table()), |key| key.to_string()),
                in_switch: action(hit.as_ref()),
                in_plan: action(planned.as_ref()),
                differs: hit != planned,
            }
        })
        .collect()
}

/// The part of an entry's text behind its key.
fn action(entry: Option<&Entry>) -> String {
    let text = entry.map(Entry::to_string).unwrap_or_default();
    text.split_once(" -> ").map(|(_, action)| action.to_owned()).unwrap_or(text)
}
