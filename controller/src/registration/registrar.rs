use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::time::Duration;

use dmux_wire::GatewayId;
use dmux_wire::control::{
    self, Accepted, Challenge, DeregisterAck, KeepaliveAck, Kind, RefusalCode, RegisterBody, SessionBody,
};

use super::chain::Authorities;
use super::changes::LOOK_EVERY;
use super::cookie::Cookies;
use super::pending::{Asker, Pending, Purpose, Room, Via};
use super::refusal::{Refusal, Throttle};
use super::requests::{bad_body, busy};
use super::rtts::Rtts;
use super::sessions::Sessions;
use super::strangers::Strangers;
use super::work::Work;
use super::{
    CallId, EXPIRE_RETRY, Effect, Ignored, Level, Now, PROPOSAL_DEADLINE, RegistrarConfig, RegistrationView, Token,
};
use super::{Unavailable, describe};
use crate::model::{self, Command, RegistrationKey, Reply};

/// After one of these a proven source gets no further signature check for an interval.
const COSTLY: [RefusalCode; 11] = [
    RefusalCode::BadChain,
    RefusalCode::UnknownAuthority,
    RefusalCode::ChainExpired,
    RefusalCode::ChainNotYetValid,
    RefusalCode::ChainInvalid,
    RefusalCode::AddressNotCertified,
    RefusalCode::ProviderNotCertified,
    RefusalCode::ProtocolNotCertified,
    RefusalCode::BadKey,
    RefusalCode::BadSignature,
    RefusalCode::Revoked,
];

/// The registrations of one gateway. See the [module](super).
#[derive(Debug)]
pub struct Registrar {
    pub(super) gateway: GatewayId,
    pub(super) authorities: Authorities,
    pub(super) cookies: Cookies,
    pub(super) sessions: Sessions,
    pub(super) pending: Pending,
    pub(super) throttle: Throttle,
    pub(super) rtts: Rtts,
    pub(super) work: Work,
    pub(super) strangers: Strangers,
    /// The gateways that do not answer this one.
    pub(super) unreachable: BTreeSet<GatewayId>,
}

impl Registrar {
    /// Nothing heard yet.
    pub fn new(config: RegistrarConfig) -> Self {
        Self {
            gateway: config.gateway,
            authorities: config.authorities,
            cookies: Cookies::new(&config.secret),
            sessions: Sessions::default(),
            pending: Pending::default(),
            throttle: Throttle::default(),
            rtts: Rtts::default(),
            work: Work::default(),
            strangers: Strangers::default(),
            unreachable: BTreeSet::new(),
        }
    }

    /// Trusts others from now on; what is registered stays until its certificates expire.
    pub fn set_authorities(&mut self, authorities: Authorities) {
        self.authorities = authorities;
    }

    /// The registrations of this gateway that were silent for too long: to be planned without, whether or not the
    /// cluster has taken note.
    pub fn silent(&self) -> &BTreeSet<RegistrationKey> {
        self.sessions.silent()
    }

    /// When this gateway last heard the router, on the clock of [`Now::mono`]; `None` if it never did.
    pub fn last_heard(&self, key: &RegistrationKey) -> Option<Duration> {
        self.sessions.get(key)?.heard
    }

    /// Takes a control message (what follows the shim) that came in a datagram from `from` to `to`.
    pub fn handle(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        from: SocketAddrV4,
        to: SocketAddrV4,
        message: &[u8],
    ) -> Vec<Effect> {
        self.sync(now, view);
        let ignored = match control::decode(message) {
            Ok((nonce, kind)) => {
                let asker = Asker { from, via: Via::Datagram { to, nonce, length: message.len() } };
                match self.request(now, view, asker, &kind) {
                    Some(effects) => return effects,
                    None => Ignored::NotARequest,
                }
            }
            Err(error) => Ignored::Unreadable(error),
        };
        self.note(now, from, RefusalCode::Unspecified, &ignored.to_string())
    }

    /// Takes a request that came through the operators' API: signed as in a datagram, by the router that it names, but
    /// without a cookie. One [`Effect::Answer`] comes of it, now or with the outcome of a proposal.
    pub fn call(&mut self, now: Now, view: &dyn RegistrationView, call: CallId, kind: &Kind) -> Vec<Effect> {
        self.sync(now, view);
        let router = match kind {
            Kind::Register(request) => RegisterBody::decode(&request.body).map(|body| body.router),
            Kind::Keepalive(request) => SessionBody::decode(&request.body).map(|body| body.router),
            Kind::Deregister(request) => SessionBody::decode(&request.body).map(|body| body.router),
            _ => {
                let refusal = Refusal::new(RefusalCode::Malformed, Ignored::NotARequest.to_string());
                return vec![Effect::Answer { call, kind: Box::new(refusal.message()) }];
            }
        };
        let from = match router {
            Ok(router) => router,
            Err(error) => return vec![Effect::Answer { call, kind: Box::new(bad_body(&error).message()) }],
        };
        let asker = Asker { from, via: Via::Call(call) };
        let mut effects = self.request(now, view, asker, kind).unwrap_or_default();
        // Where a datagram is not answered, because its like is under way.
        if !effects.iter().any(|e| matches!(e, Effect::Answer { .. } | Effect::Propose { .. })) {
            effects.push(Effect::Answer { call, kind: Box::new(busy().message()) });
        }
        effects
    }

    /// `None`: only gateways send such a message.
    fn request(&mut self, now: Now, view: &dyn RegistrationView, asker: Asker, kind: &Kind) -> Option<Vec<Effect>> {
        match kind {
            Kind::Register(request) => Some(self.register(now, view, asker, request)),
            Kind::Keepalive(request) => Some(self.keepalive(now, view, asker, request)),
            Kind::Deregister(request) => Some(self.deregister(now, view, asker, request)),
            _ => None,
        }
    }

    /// Signatures that were verified so far: what requests cost.
    pub fn verifications(&self) -> u64 {
        self.work.total()
    }

    /// What time brings, and when to call again. To be called after each change of the replicated state, too.
    pub fn tick(&mut self, now: Now, view: &dyn RegistrationView) -> (Vec<Effect>, Option<Duration>) {
        self.sync(now, view);
        let mut effects = Vec::new();
        while let Some(purpose) = self.pending.pop_overdue(now.mono) {
            let unknown = Unavailable(format!("no answer within {} s", PROPOSAL_DEADLINE.as_secs()));
            effects.extend(self.finished(now, purpose, Err(unknown)));
        }
        for key in self.sessions.due(now.mono) {
            effects.extend(self.expire(now, key));
        }
        for key in self.sessions.releasable(now.mono) {
            effects.extend(self.release(now, view, key));
        }
        let deadlines = [self.sessions.next_deadline(), self.pending.next_deadline(), self.rtts.next()];
        let next = deadlines.into_iter().flatten().min();
        (effects, next)
    }

    /// The round trips between routers and this gateway that the cluster should take note of now. What does not get
    /// through is reported again, as the routers go on telling it.
    pub fn report_rtts(&mut self, now: Duration) -> Vec<(RegistrationKey, u32)> {
        self.rtts.report(now)
    }

    /// The outcome of an [`Effect::Propose`].
    pub fn committed(&mut self, now: Now, token: Token, outcome: Result<Reply, Unavailable>) -> Vec<Effect> {
        match self.pending.remove(token) {
            Some(purpose) => self.finished(now, purpose, outcome),
            // Given up before; the replicated state tells what became of it.
            None => Vec::new(),
        }
    }

    fn sync(&mut self, now: Now, view: &dyn RegistrationView) {
        let expire = Duration::from_millis(view.config().timers.expire_after_ms.into());
        self.sessions.sync(now, view, self.gateway, expire);
    }

    fn expire(&mut self, now: Now, key: RegistrationKey) -> Vec<Effect> {
        let Some(session) = self.sessions.get(&key) else { return Vec::new() };
        // A restart as it was is not written: nothing that was heard may be said again.
        let sequence = session.last_sequence;
        let lapsed = session.current().not_after <= now.unix.as_secs();
        let mut effects = Vec::new();
        if self.sessions.mark_silent(key) {
            effects.push(Effect::Liveness { key, alive: false });
        }
        if self.pending.room(&key, 0) != Room::Yes {
            self.sessions.set_deadline(&key, now.mono + EXPIRE_RETRY);
            return effects;
        }
        let why = if lapsed { "its certificates expired" } else { "it fell silent" };
        let token = self.pending.insert(now.mono, Purpose::Expire { key, why });
        self.sessions.set_deadline(&key, now.mono + PROPOSAL_DEADLINE + EXPIRE_RETRY);
        let command = Command::Expire { at: now.unix_ms(), key, gateway: self.gateway, sequence };
        effects.push(Effect::Propose { token, command });
        effects
    }

    fn finished(&mut self, now: Now, purpose: Purpose, outcome: Result<Reply, Unavailable>) -> Vec<Effect> {
        let purpose = match purpose {
            Purpose::Release { registration } => {
                return self.released(now, *registration, outcome).into_iter().collect();
            }
            purpose => purpose,
        };
        let refusal = match &outcome {
            Err(unavailable) => Some(Refusal::retry(
                RefusalCode::ClusterUnavailable,
                format!("{unavailable}; the registration is tried again by itself"),
            )),
            Ok(Reply::Refused(why)) => Some(cluster_refusal(why)),
            Ok(_) => None,
        };
        let gateway = self.gateway;
        let mut effects = Vec::new();
        if let (Err(_), Purpose::Expire { key, .. } | Purpose::Deregister { key, .. }) = (&outcome, &purpose) {
            self.sessions.doubt(key);
        }
        match purpose {
            Purpose::Expire { key, why } => {
                if let Some(refusal) = refusal {
                    // It may have been heard again meanwhile, and has a later deadline then.
                    if self.sessions.silent().contains(&key) {
                        self.sessions.set_deadline(&key, now.mono + EXPIRE_RETRY);
                    }
                    let text = format!("router {} could not be expired yet: {}", key.router, refusal.text);
                    effects.extend(self.throttle.log(now.mono, Level::Warn, text));
                } else if let Some(session) = self.sessions.remove(&key) {
                    let text = format!("router {} is no longer registered: {why}", describe(&session.registration));
                    effects.push(Effect::Log { level: Level::Warn, text });
                }
            }
            Purpose::Register { asker, registration, keepalive_ms, expire_ms } => {
                if let Some(refusal) = refusal {
                    return self.refuse(now, asker, &refusal, Proven::Yes);
                }
                let accepted = Accepted {
                    keepalive_interval_ms: keepalive_ms,
                    expires_after_ms: expire_ms,
                    gateway: gateway.0.into(),
                    sequence: registration.sequence,
                    held_ms: 0,
                };
                let text = format!("registered router {}", describe(&registration));
                self.sessions.committed(now, *registration, Duration::from_millis(expire_ms.into()));
                effects.extend(answer(asker, Kind::Accepted(accepted), Proven::Yes));
                effects.push(Effect::Log { level: Level::Info, text });
            }
            Purpose::Adopt { asker, registration, sequence, expire_ms } => {
                if let Some(refusal) = refusal {
                    return self.refuse(now, asker, &refusal, Proven::Yes);
                }
                let text = format!("adopted router {} from gateway {}", describe(&registration), registration.gateway);
                let adopted = model::Registration { gateway, sequence, ..*registration };
                self.strangers.forget(&adopted.key);
                self.sessions.committed(now, adopted, Duration::from_millis(expire_ms.into()));
                let ack = KeepaliveAck { sequence, gateway: gateway.0.into() };
                effects.extend(answer(asker, Kind::KeepaliveAck(ack), Proven::Yes));
                effects.push(Effect::Log { level: Level::Info, text });
            }
            Purpose::Move { asker, registration, wanted, due, keepalive_ms, expire_ms } => {
                if let Some(refusal) = refusal {
                    return self.refuse(now, asker, &refusal, Proven::Yes);
                }
                let text = format!("adopted router {} from gateway {}", describe(&registration), registration.gateway);
                let (key, sequence) = (wanted.key, wanted.sequence);
                let adopted = model::Registration { gateway, sequence, ..*registration };
                let held_ms = u32::try_from(due.saturating_sub(now.mono).as_millis()).unwrap_or(u32::MAX);
                self.sessions.committed(now, adopted, Duration::from_millis(expire_ms.into()));
                self.sessions.hold(&key, Some((*wanted, due.min(now.mono + LOOK_EVERY))));
                let accepted = Accepted {
                    keepalive_interval_ms: keepalive_ms,
                    expires_after_ms: expire_ms,
                    gateway: gateway.0.into(),
                    sequence,
                    held_ms,
                };
                effects.extend(answer(asker, Kind::Accepted(accepted), Proven::Yes));
                effects.push(Effect::Log { level: Level::Info, text });
            }
            // Seen to above.
            Purpose::Release { .. } => {}
            Purpose::Deregister { asker, key, sequence } => {
                if let Some(refusal) = refusal {
                    return self.refuse(now, asker, &refusal, Proven::Yes);
                }
                self.sessions.remove(&key);
                effects.extend(answer(asker, Kind::DeregisterAck(DeregisterAck { sequence }), Proven::Yes));
                let text = format!("router {} of protocol {} said farewell", key.router, key.protocol);
                effects.push(Effect::Log { level: Level::Info, text });
            }
        }
        effects
    }

    /// Tells the sender and the log, once an interval each.
    pub(super) fn refuse(&mut self, now: Now, asker: Asker, refusal: &Refusal, proven: Proven) -> Vec<Effect> {
        let mut effects = Vec::new();
        match asker.via {
            Via::Call(call) => effects.push(Effect::Answer { call, kind: Box::new(refusal.message()) }),
            Via::Datagram { to, nonce, length } => {
                if proven == Proven::Yes && COSTLY.contains(&refusal.code) {
                    self.throttle.put_on_probation(now.mono, asker.from);
                }
                if !self.throttle.admit(now.mono, asker.from, refusal.code) {
                    return Vec::new();
                }
                let limit = if proven == Proven::Yes { control::MAX_CONTROL } else { length };
                let bytes = refusal.encode(nonce, limit);
                effects.extend(bytes.map(|bytes| Effect::Reply { from: to, to: asker.from, bytes }));
            }
        }
        let text = format!("refused router {}: {}", asker.from, refusal.text);
        effects.extend(self.throttle.log(now.mono, Level::Warn, text));
        effects
    }

    /// Tells the log only, once an interval.
    pub(super) fn note(&mut self, now: Now, from: SocketAddrV4, code: RefusalCode, text: &str) -> Vec<Effect> {
        if !self.throttle.admit(now.mono, from, code) {
            return Vec::new();
        }
        let text = format!("ignored a message from {from}: {text}");
        self.throttle.log(now.mono, Level::Info, text).into_iter().collect()
    }

    /// A cookie for the source, for which nothing is kept.
    pub(super) fn challenge(&self, now: Now, asker: Asker) -> Vec<Effect> {
        let cookie = self.cookies.make(now.mono, &source(asker.from)).to_vec();
        answer(asker, Kind::Challenge(Challenge { cookie }), Proven::No)
    }

    /// How many registrations this gateway hears, or should.
    #[cfg(test)]
    pub(super) fn load(&self) -> (usize, usize, usize) {
        (self.sessions.len(), self.pending.len(), self.throttle.len())
    }
}

/// What a router's cookie is bound to.
pub(super) fn source(from: SocketAddrV4) -> Vec<u8> {
    [&from.ip().octets()[..], &from.port().to_be_bytes()].concat()
}

/// Whether the source address of a request is known to be real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proven {
    Yes,
    No,
}

/// A reply; none where it would be longer than an unproven request.
pub(super) fn answer(asker: Asker, kind: Kind, proven: Proven) -> Vec<Effect> {
    match asker.via {
        Via::Call(call) => vec![Effect::Answer { call, kind: Box::new(kind) }],
        Via::Datagram { to, nonce, length } => match control::encode(nonce, kind) {
            Ok(bytes) if proven == Proven::Yes || bytes.len() <= length => {
                vec![Effect::Reply { from: to, to: asker.from, bytes }]
            }
            _ => Vec::new(),
        },
    }
}

/// What the replicated state's refusal means to a router.
pub(super) fn cluster_refusal(why: &model::Refusal) -> Refusal {
    use model::Refusal as R;
    let text = why.to_string();
    match why {
        R::StaleSequence { .. } => Refusal::new(RefusalCode::Replayed, text),
        R::NoSuchRegistration => Refusal::new(RefusalCode::NotRegistered, text),
        R::TooManyRegistrations(_) | R::TooManyDestinations(_) | R::TooManyBuckets(_) => {
            Refusal::new(RefusalCode::Limit, text)
        }
        R::Revoked(_) => Refusal::new(RefusalCode::Revoked, text),
        R::BadRegistration(_) => Refusal::new(RefusalCode::Malformed, text),
        _ => Refusal::retry(RefusalCode::ClusterUnavailable, text),
    }
}
