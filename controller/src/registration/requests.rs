//! What routers ask for: registering, staying, leaving.

use std::time::Duration;

use dmux_wire::control::{
    Accepted, BodyError, Deregister, DeregisterAck, Domain, Keepalive, KeepaliveAck, Kind, RefusalCode, Register,
    RegisterBody, SessionBody,
};

use super::chain::{ChainError, Claim, MAX_CHAIN};
use super::changes::stays;
use super::pending::{Asker, Purpose, Room};
use super::refusal::Refusal;
use super::registrar::{Proven, Registrar, answer, source};
use super::sessions::is_signed;
use super::{Effect, MAX_CLOCK_LEAD, MIN_KEEPALIVE, Now, RegistrationView};
use crate::model::{Command, Fingerprint, Registration, RegistrationKey, Timers};

impl Registrar {
    pub(super) fn register(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        asker: Asker,
        request: &Register,
    ) -> Vec<Effect> {
        let body = match RegisterBody::decode(&request.body) {
            Ok(body) => body,
            Err(error) => return self.refuse(now, asker, &bad_body(&error), Proven::No),
        };
        if body.router != asker.from {
            return self.refuse(now, asker, &elsewhere(asker, body.router), Proven::No);
        }
        if !asker.is_call() && !self.cookies.check(now.mono, &source(asker.from), &body.cookie) {
            return self.challenge(now, asker);
        }
        match self.check_registration(now, view, asker, request, &body) {
            Ok(effects) => effects,
            Err(refusal) => self.refuse(now, asker, &refusal, Proven::Yes),
        }
    }

    /// The source is proven.
    fn check_registration(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        asker: Asker,
        request: &Register,
        body: &RegisterBody,
    ) -> Result<Vec<Effect>, Refusal> {
        let key = RegistrationKey { protocol: body.protocol, router: body.router };
        let config = view.config();
        if config.dmux_prefix.contains(*body.router.ip()) {
            let text = format!(
                "{} lies in the dmux-prefix {}, which belongs to the gateways; give the router's own address",
                body.router.ip(),
                config.dmux_prefix
            );
            return Err(Refusal::new(RefusalCode::BadAddress, text));
        }
        if request.chain.is_empty() || request.chain.len() > MAX_CHAIN {
            return Err(chain_refusal(&ChainError::Length(request.chain.len())));
        }
        check_clock(now, body.sequence)?;
        let keepalive_ms = keepalive_interval(body.keepalive_interval_ms, config.timers);
        let expire_ms = config.timers.expire_after_ms;
        let accepted = Accepted {
            keepalive_interval_ms: keepalive_ms,
            expires_after_ms: expire_ms,
            gateway: self.gateway.0.into(),
            sequence: body.sequence,
            held_ms: 0,
        };
        if !asker.is_call() && self.throttle.is_on_probation(now.mono, asker.from) {
            return Ok(Vec::new());
        }
        let session = self.sessions.get(&key);
        let known = session.map(|s| s.current()).or_else(|| view.registration(&key));
        if let Some(known) = known {
            // The latter if it said nothing new, so that nothing was written.
            let heard = known.sequence == body.sequence || session.is_some_and(|s| s.last_sequence == body.sequence);
            let repeated = heard && known.gateway == self.gateway && session.is_some();
            if repeated {
                if !self.work.admit(now.mono, asker.from, 1) {
                    return Err(busy());
                }
                if is_signed(&known.public_key, Domain::Register, &request.body, &request.signature) {
                    // The answer was lost. What is under way otherwise is its expiry, and then nobody knows whether it is
                    // still registered.
                    let doubtful = session.is_some_and(|s| s.doubtful);
                    if doubtful || self.pending.room(&key, body.sequence) == Room::Other {
                        return Err(busy());
                    }
                    // Whoever is told that it is registered must stay so for as long as it was told; a replay lengthens
                    // that by no more than the age that a cookie may have.
                    let expire = Duration::from_millis(expire_ms.into());
                    let accepted = Accepted { held_ms: self.held_ms(now, view, &key), ..accepted };
                    let revived = self.sessions.heard(now, &key, body.sequence, expire);
                    let mut effects = answer(asker, Kind::Accepted(accepted), Proven::Yes);
                    effects.extend(revived.then_some(Effect::Liveness { key, alive: true }));
                    return Ok(effects);
                }
            }
            let have = session.map_or(known.sequence, |s| s.last_sequence);
            check_sequence(have, body.sequence)?;
        }
        match self.pending.room(&key, body.sequence) {
            Room::Yes => {}
            Room::Same => return Ok(Vec::new()),
            Room::Other | Room::Full => return Err(busy()),
        }
        let cost = u32::try_from(request.chain.len()).unwrap_or(u32::MAX).saturating_add(1);
        if !self.work.admit(now.mono, asker.from, cost) {
            return Err(busy());
        }
        let claim = Claim { address: *body.router.ip(), provider: body.provider, protocol: body.protocol };
        let identity = self.authorities.verify(now.unix, &request.chain, claim).map_err(|e| chain_refusal(&e))?;
        if !is_signed(&identity.public_key, Domain::Register, &request.body, &request.signature) {
            return Err(bad_signature());
        }
        if let Some(key) = view.revoked(&identity.chain) {
            return Err(revoked_key(key));
        }
        let at = now.unix_ms();
        let registration = Registration {
            key,
            provider: body.provider,
            weight: body.weight,
            gateway: self.gateway,
            public_key: identity.public_key,
            sequence: body.sequence,
            name: identity.name,
            registered_at: at,
            not_after: identity.not_after,
            draining: (body.draining || view.is_drained(&key)).then_some(at),
            chain: identity.chain,
        };
        let expire = Duration::from_millis(expire_ms.into());
        let says_the_same = |session: &super::sessions::Session| {
            // With what is held, or with what the cluster knows, which takes back what is held.
            (session.current().says_the_same(&registration), session.registration.says_the_same(&registration))
        };
        let (same, unchanged) = self.sessions.get(&key).map_or((false, false), says_the_same);
        // Of one that was silent, an expiry of unknown fate may be under way: only a higher sequence stops that. So it is
        // with a farewell. And one that was never heard here may be from a copy that lags behind its farewell.
        let doubtful = self.sessions.get(&key).is_some_and(|session| session.doubtful || session.heard.is_none());
        if (same || unchanged) && !doubtful && !self.sessions.silent().contains(&key) {
            // The router has restarted: no news to anybody else.
            if unchanged {
                self.sessions.hold(&key, None);
            }
            let accepted = Accepted { held_ms: self.held_ms(now, view, &key), ..accepted };
            self.sessions.heard(now, &key, body.sequence, expire);
            return Ok(answer(asker, Kind::Accepted(accepted), Proven::Yes));
        }
        if let Some(until) = view.suppressed_until(&key, at)
            && let Some(effects) = self.register_suppressed(now, view, asker, &registration, accepted, until)?
        {
            return Ok(effects);
        }
        let command = Command::Register { at, registration: registration.clone() };
        let registration = Box::new(registration);
        let purpose = Purpose::Register { asker, registration, keepalive_ms, expire_ms };
        let token = self.pending.insert(now.mono, purpose);
        Ok(vec![Effect::Propose { token, command }])
    }

    pub(super) fn keepalive(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        asker: Asker,
        request: &Keepalive,
    ) -> Vec<Effect> {
        let (body, known) = match self.identify(now, view, asker, Domain::Keepalive, &request.body, &request.signature)
        {
            Ok(Some(identified)) => identified,
            Ok(None) => {
                let key = SessionBody::decode(&request.body)
                    .map(|body| RegistrationKey { protocol: body.protocol, router: body.router });
                let revoked = key.ok().and_then(|key| self.sessions.revoked(&key));
                // Unless that was taken back.
                if let Some(fingerprint) = revoked.and_then(|fingerprint| view.revoked(&[fingerprint])) {
                    return self.refuse(now, asker, &revoked_key(fingerprint), Proven::No);
                }
                let text = "this gateway knows no such registration; the router registers again by itself";
                let refusal = Refusal::new(RefusalCode::NotRegistered, text);
                return self.refuse(now, asker, &refusal, Proven::No);
            }
            Err(effects) => return effects,
        };
        let timers = view.config().timers;
        let key = known.key;
        let expire = Duration::from_millis(timers.expire_after_ms.into());
        if self.sessions.get(&key).is_some() {
            let revived = self.sessions.heard(now, &key, body.sequence, expire);
            self.rtts.heard(view, key, body.rtt_us);
            let ack = KeepaliveAck { sequence: body.sequence, gateway: self.gateway.0.into() };
            let mut effects = answer(asker, Kind::KeepaliveAck(ack), Proven::No);
            if revived {
                effects.push(Effect::Liveness { key, alive: true });
            }
            return effects;
        }
        match self.pending.room(&key, body.sequence) {
            Room::Yes => {}
            Room::Same => return Vec::new(),
            Room::Other | Room::Full => return self.refuse(now, asker, &busy(), Proven::Yes),
        }
        if !self.may_adopt(now, view, &known, body.sequence) {
            return self.refuse(now, asker, &stays(&known), Proven::Yes);
        }
        let (gateway, sequence) = (self.gateway, body.sequence);
        let expire_ms = timers.expire_after_ms;
        let purpose = Purpose::Adopt { asker, registration: Box::new(known), sequence, expire_ms };
        let token = self.pending.insert(now.mono, purpose);
        let command = Command::Adopt { at: now.unix_ms(), key, gateway, sequence };
        vec![Effect::Propose { token, command }]
    }

    pub(super) fn deregister(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        asker: Asker,
        request: &Deregister,
    ) -> Vec<Effect> {
        let (body, known) = match self.identify(now, view, asker, Domain::Deregister, &request.body, &request.signature)
        {
            Ok(Some(identified)) => identified,
            Ok(None) => {
                // It is so already; the answer to the first farewell was lost.
                let sequence = SessionBody::decode(&request.body).map_or(0, |b| b.sequence);
                return answer(asker, Kind::DeregisterAck(DeregisterAck { sequence }), Proven::No);
            }
            Err(effects) => return effects,
        };
        let (key, sequence) = (known.key, body.sequence);
        match self.pending.room(&key, sequence) {
            Room::Yes => {}
            Room::Same => return Vec::new(),
            Room::Other | Room::Full => return self.refuse(now, asker, &busy(), Proven::Yes),
        }
        let token = self.pending.insert(now.mono, Purpose::Deregister { asker, key, sequence });
        let command = Command::Deregister { at: now.unix_ms(), key, sequence };
        vec![Effect::Propose { token, command }]
    }

    /// The registration that a signed, fresh message is about. `Ok(None)`: there is none. `Err`: what to do instead.
    fn identify(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        asker: Asker,
        domain: Domain,
        bytes: &[u8],
        signature: &[u8],
    ) -> Result<Option<(SessionBody, Registration)>, Vec<Effect>> {
        let body = SessionBody::decode(bytes).map_err(|e| self.refuse(now, asker, &bad_body(&e), Proven::No))?;
        if body.router != asker.from {
            return Err(self.refuse(now, asker, &elsewhere(asker, body.router), Proven::No));
        }
        let key = RegistrationKey { protocol: body.protocol, router: body.router };
        let session = self.sessions.get(&key);
        let Some(known) = session.map(|s| s.current()).or_else(|| view.registration(&key)).cloned() else {
            return Ok(None);
        };
        if let Some(fingerprint) = view.revoked(&known.chain) {
            // A registration that the cluster has keeps its session: somebody has to expire it.
            if view.registration(&key).is_none() {
                self.sessions.revoke(key, fingerprint);
            } else {
                self.sessions.hold(&key, None);
            }
            return Err(self.refuse(now, asker, &revoked_key(fingerprint), Proven::No));
        }
        // Only who has heard the router itself knows which sequence numbers are spent.
        let live = session.filter(|s| s.heard.is_some());
        let fresh_since = live.map(|s| s.last_sequence);
        let trusted = live.is_some_and(|s| !s.is_suspect(now.mono)) && self.work.is_calm(now.mono);
        let proven = if asker.is_call() || !trusted { Proven::Yes } else { Proven::No };
        if proven == Proven::Yes && !asker.is_call() && !self.cookies.check(now.mono, &source(asker.from), &body.cookie)
        {
            return Err(self.challenge(now, asker));
        }
        // Not where the source may be forged: that would silence a router in its own name.
        if proven == Proven::Yes
            && live.is_none()
            && !asker.is_call()
            && self.throttle.is_on_probation(now.mono, asker.from)
        {
            return Err(Vec::new());
        }
        let fresh = check_sequence(fresh_since.unwrap_or(known.sequence), body.sequence)
            .and_then(|()| check_clock(now, body.sequence));
        match fresh {
            Ok(()) => {}
            // A datagram that the network doubled, or one that somebody repeats: the router itself would not
            // understand a refusal of what was acknowledged already.
            Err(refusal) if fresh_since.is_some() && !asker.is_call() => {
                return Err(self.note(now, asker.from, refusal.code, &refusal.text));
            }
            Err(refusal) => return Err(self.refuse(now, asker, &refusal, proven)),
        }
        if known.not_after <= now.unix.as_secs() {
            let late = now.unix.as_secs() - known.not_after;
            return Err(self.refuse(now, asker, &chain_refusal(&ChainError::Expired(late)), proven));
        }
        let admitted = match (fresh_since, proven) {
            (Some(_), Proven::No) => {
                self.work.count();
                true
            }
            (Some(_), Proven::Yes) => self.work.admit_live(now.mono, asker.from),
            (None, _) => self.work.admit(now.mono, asker.from, 1),
        };
        if !admitted {
            return Err(self.refuse(now, asker, &busy(), proven));
        }
        if !is_signed(&known.public_key, domain, bytes, signature) {
            if proven == Proven::No {
                self.sessions.forged(now.mono, &key);
                self.work.forged(now.mono);
            }
            // A live router is never put on probation: whoever sees its datagrams could silence it.
            let proven = if fresh_since.is_some() { Proven::No } else { proven };
            return Err(self.refuse(now, asker, &bad_signature(), proven));
        }
        Ok(Some((body, known)))
    }
}

pub(super) fn bad_body(error: &BodyError) -> Refusal {
    Refusal::new(error.code(), error.to_string())
}

fn chain_refusal(error: &ChainError) -> Refusal {
    Refusal::new(error.code(), error.to_string())
}

fn bad_signature() -> Refusal {
    Refusal::new(
        RefusalCode::BadSignature,
        "the signature does not verify under the router certificate's key; give `dmux router` the key that belongs to \
         the certificate",
    )
}

fn elsewhere(asker: Asker, claimed: std::net::SocketAddrV4) -> Refusal {
    let text = format!(
        "the message names {claimed} but came from {}; register from the address and port that serve, without NAT",
        asker.from
    );
    Refusal::new(RefusalCode::AddressMismatch, text)
}

pub(super) fn busy() -> Refusal {
    Refusal::retry(RefusalCode::Busy, "busy, retry")
}

fn revoked_key(key: Fingerprint) -> Refusal {
    let text = format!("key {key} of the router's certificates is revoked; get one with another key");
    Refusal::new(RefusalCode::Revoked, text)
}

fn check_sequence(have: u64, got: u64) -> Result<(), Refusal> {
    if got > have {
        return Ok(());
    }
    let text = format!(
        "sequence {got} does not exceed {have}, which was heard before: a replay, or the router's clock was set back; set \
         it right"
    );
    Err(Refusal::new(RefusalCode::Replayed, text))
}

/// A sequence number from the far future would lock the router out once its clock is set right.
fn check_clock(now: Now, sequence: u64) -> Result<(), Refusal> {
    let lead = Duration::from_micros(sequence.saturating_sub(now.unix_us()));
    if lead <= MAX_CLOCK_LEAD {
        return Ok(());
    }
    let text = format!("the router's clock is {} s ahead of the gateway's; set it right", lead.as_secs());
    Err(Refusal::new(RefusalCode::ClockSkew, text))
}

/// The router's wish, where it is more often than the cluster's interval and not a flood.
fn keepalive_interval(wish_ms: u32, timers: Timers) -> u32 {
    let usual = timers.keepalive_ms;
    let least = u32::try_from(MIN_KEEPALIVE.as_millis()).unwrap_or(usual).min(usual);
    if wish_ms == 0 { usual } else { wish_ms.clamp(least, usual) }
}
