//! What is said on MLI 0: offers, and attachments.

use std::ops::Bound;

use dmux_wire::control::{Domain, RefusalCode};
use dmux_wire::metalink::{self, Attach, AttachBody, Attached, Discover, Kind, Offer, OfferedMetanet};
use dmux_wire::{CONTROL_MLI, MacAddr};

use super::answers::{Asker, Refusal, destination, metanet_id, millis};
use super::attached::{IDLE, Proof};
use super::{Attachments, Dropped, Effect};
use crate::model::{Endpoint, Model};
use crate::registration::{Now, is_signed};

impl Attachments {
    /// Nothing is kept of whoever asks.
    pub(super) fn discover(
        &mut self,
        now: Now,
        model: &Model,
        asker: &Asker,
        discover: &Discover,
    ) -> Result<Vec<Effect>, Dropped> {
        let place = &asker.place;
        let mut offer = Offer {
            gateway: self.gateway,
            gateway_mac: place.mac,
            provisioned_vid: place.provisioned_vid,
            provisioned_pcp: place.pcp,
            multipoint_vid: Some(place.multipoint_vid),
            control_mli: CONTROL_MLI,
            mtu: place.mtu,
            metanets: Vec::new(),
            // As long as it may become.
            more: true,
            authenticate: model.access_link(&place.link).is_some_and(|link| link.authenticate),
            cookie: self.cookies.make(now.mono, &source(asker.endpoint)).to_vec(),
        };
        let bare = metalink::encode(asker.nonce, &Kind::Offer(offer.clone())).map_or(usize::MAX, |bytes| bytes.len());
        // The offer's own length takes another byte once it is long.
        let mut room = asker.limit().min(metalink::LENGTH_LEN + metalink::MAX_METALINK).saturating_sub(bare + 1);
        let after = discover.after.map_or(Bound::Unbounded, |id| Bound::Excluded(destination(id)));
        let mut metanets = model.metanets_from(after).map(|metanet| OfferedMetanet {
            id: metanet_id(metanet.id),
            name: metanet.name.clone(),
            shared_mli: model.shared_mli(metanet.id).map(|mli| mli.0),
        });
        offer.more = loop {
            let Some(metanet) = metanets.next() else { break false };
            let Some(left) = room.checked_sub(metanet.offer_len()) else { break true };
            room = left;
            offer.metanets.push(metanet);
        };
        let effect = asker.answer(&Kind::Offer(offer)).ok_or(Dropped::TooShort)?;
        self.counts.offers += 1;
        Ok(vec![effect])
    }

    pub(super) fn attach(
        &mut self,
        now: Now,
        model: &Model,
        asker: &Asker,
        attach: &Attach,
    ) -> Result<Vec<Effect>, Dropped> {
        let body = match AttachBody::decode(&attach.body) {
            Ok(body) => body,
            Err(bad) => return self.refuse(asker, Refusal::new(bad.code(), bad.to_string())),
        };
        if !self.cookies.check(now.mono, &source(asker.endpoint), &body.cookie) {
            let text = "the cookie is not one that this gateway gave you here lately; discover again";
            return self.refuse(asker, Refusal::new(RefusalCode::BadCookie, text));
        }
        let asker = asker.clone().proven();
        if !self.attachments.admit(now.mono, asker.endpoint.port) {
            return self.refuse(&asker, Refusal::busy());
        }
        match self.attachable(now, model, &asker, &body, attach) {
            Ok(proof) => {
                self.members.add(now.mono, asker.endpoint, proof);
                self.counts.attached += 1;
                let attached = Kind::Attached(Attached { idle_after_ms: millis(IDLE) });
                let welcome = |frame| Effect::Welcome { endpoint: asker.endpoint, frame };
                Ok(asker.frame(&attached).map(welcome).into_iter().collect())
            }
            Err(refusal) => self.refuse(&asker, refusal),
        }
    }

    /// What the endpoint has proven, if it may be attached.
    fn attachable(
        &mut self,
        now: Now,
        model: &Model,
        asker: &Asker,
        body: &AttachBody,
        attach: &Attach,
    ) -> Result<Option<Proof>, Refusal> {
        let endpoint = asker.endpoint;
        if body.gateway != self.gateway || body.mac != endpoint.mac {
            let text = format!(
                "{} attaches to gateway {}, but the frame is from {} and this is gateway {}",
                body.mac, body.gateway, endpoint.mac, self.gateway
            );
            return Err(Refusal::new(RefusalCode::AddressMismatch, text));
        }
        if !self.members.has_room(endpoint) {
            let text = "as many endpoints as there may be are attached at this port, or gateway; try again later";
            return Err(Refusal::retry(RefusalCode::Limit, text));
        }
        if !model.access_link(&asker.place.link).is_some_and(|link| link.authenticate) {
            return Ok(None);
        }
        if attach.chain.is_empty() {
            return Err(authentication_required());
        }
        if !self.verifications.admit(now.mono, endpoint.port) {
            return Err(Refusal::busy());
        }
        let identity = self
            .authorities
            .verify_endpoint(now.unix, &attach.chain, endpoint.mac)
            .map_err(|error| Refusal::of_chain(&error))?;
        if !is_signed(&identity.public_key, Domain::Attach, &attach.body, &attach.signature) {
            let text = "the signature does not verify: another key, or another message was signed";
            return Err(Refusal::new(RefusalCode::BadSignature, text));
        }
        let proof = Proof { name: identity.name, keys: identity.chain, not_after: identity.not_after };
        check(now, model, &proof)?;
        Ok(Some(proof))
    }

    /// Whether an endpoint may ask for metalinks: it is attached, and what it has proven still counts.
    pub(super) fn is_attached(&mut self, now: Now, model: &Model, asker: &Asker) -> Result<(), Refusal> {
        let endpoint = asker.endpoint;
        let Some(proof) = self.members.heard(now.mono, &endpoint) else {
            let text = "the gateway does not know the endpoint (any more); discover and attach";
            return Err(Refusal::new(RefusalCode::NotAttached, text));
        };
        let holds = match proof {
            Some(proof) => check(now, model, proof),
            None if model.access_link(&asker.place.link).is_some_and(|link| link.authenticate) => {
                Err(authentication_required())
            }
            None => Ok(()),
        };
        holds.inspect_err(|_| self.members.remove(&endpoint))
    }
}

/// What a cookie is bound to.
fn source(Endpoint { port, mac: MacAddr(mac) }: Endpoint) -> Vec<u8> {
    [&port.to_be_bytes()[..], &mac].concat()
}

fn authentication_required() -> Refusal {
    let text =
        "this access link takes endpoints with certificates only; get one (`dmux ca endpoint`) and attach with it";
    Refusal::new(RefusalCode::AuthenticationRequired, text)
}

/// Whether what was proven once still counts.
fn check(now: Now, model: &Model, proof: &Proof) -> Result<(), Refusal> {
    if let Some(key) = model.revoked(&proof.keys) {
        let text = format!("key {key} of the endpoint's certificate is revoked; get one with another key");
        return Err(Refusal::new(RefusalCode::Revoked, text));
    }
    if proof.not_after <= now.unix.as_secs() {
        return Err(Refusal::new(RefusalCode::ChainExpired, "the endpoint's certificate has expired; renew it"));
    }
    Ok(())
}
