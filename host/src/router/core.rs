use std::net::SocketAddrV4;
use std::time::Duration;

use dmux_wire::control::{
    self, Accepted, Deregister, Domain, Keepalive, KeepaliveAck, Kind, RefusalCode, Refused, Register, RegisterBody,
    SessionBody,
};
use dmux_wire::frame::Datagram;
use dmux_wire::{GatewayId, ProtocolId, ProviderId, Shim, ShimKind};
use ed25519_dalek::Signer;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Action, Delivery, Event, Now, RouterConfig};
use crate::credentials::Credentials;
use crate::patience::{backed_off, printable};

/// Repetitions of a signed registration before a new conversation is begun.
const RESENDS: u32 = 2;
/// New cookies taken in one conversation, so that nobody makes the router sign without end.
const MAX_CHALLENGES: u32 = 3;
/// The bounds within which a gateway's keepalive interval is believed.
const KEEPALIVE_BOUNDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3600));
/// The longest that a gateway is believed when it says that the router is held out for flapping.
const MAX_DAMPENED: Duration = Duration::from_secs(3600);
/// How long a registration is taken to live that was asked for, before a gateway has ever said how long they do.
const MAY_LIVE: Duration = Duration::from_secs(60);

/// The router's half of registration: pure. Datagrams and time go in, [`Action`]s come out.
#[derive(Debug)]
pub struct RouterCore {
    config: RouterConfig,
    credentials: Credentials,
    random: StdRng,
    state: State,
    /// The nonce of the request whose answer is awaited; an answer spends it.
    nonce: Option<u64>,
    /// The last sequence number that was signed.
    sequence: u64,
    /// Conversations in a row that led to nothing.
    failures: u32,
    /// Registrations say that the router wants no new clients.
    draining: bool,
    /// Until when a registration lives that a gateway confirmed, even if nobody is heard of since.
    confirmed: Option<Duration>,
    /// Likewise, of one that was asked for and whose answer may be lost.
    asked: Option<Duration>,
    /// How long registrations live, as it was told last.
    lifetime: Duration,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Between conversations.
    Waiting {
        until: Duration,
    },
    /// The first message is sent.
    Greeting {
        until: Duration,
    },
    /// The signed message is sent.
    Registering {
        until: Duration,
        bytes: Vec<u8>,
        sent: u32,
        challenges: u32,
    },
    Registered(Session),
    /// The farewell is sent.
    Leaving {
        until: Duration,
        resend: Duration,
        challenges: u32,
    },
    Stopped,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    gateway: GatewayId,
    keepalive: Duration,
    expires_after: Duration,
    /// When the next keepalive goes out.
    next: Duration,
    /// When a gateway last answered.
    heard: Duration,
    /// The last keepalive was answered with a challenge already.
    challenged: bool,
    /// When the last keepalive went out.
    sent: Option<Duration>,
    /// Smoothed time from a keepalive to its answer.
    rtt: Option<Duration>,
    /// Until when only the gateway that accepted it knows all that the router said: the router is held out.
    held: Option<Duration>,
}

impl Session {
    /// An answer came. A gateway that has not answered before may have had to ask the others first, which says nothing
    /// of the way.
    fn measure(&mut self, now: Duration, moved: bool) {
        let sample = self.sent.take().map(|sent| now.saturating_sub(sent));
        self.rtt = match (self.rtt, sample) {
            _ if moved => None,
            // RFC 6298 §2.
            (Some(rtt), Some(sample)) => Some((rtt * 7 + sample) / 8),
            (rtt, sample) => rtt.or(sample),
        };
    }
}

impl RouterCore {
    /// A router that has not begun. `seed` must be random: nonces and jitter are drawn from it.
    pub fn new(config: RouterConfig, credentials: Credentials, seed: [u8; 32]) -> Self {
        let random = StdRng::from_seed(seed);
        Self {
            config,
            credentials,
            random,
            state: State::Idle,
            nonce: None,
            sequence: 0,
            failures: 0,
            draining: false,
            confirmed: None,
            asked: None,
            lifetime: MAY_LIVE,
        }
    }

    /// Begins to register.
    pub fn start(&mut self, now: Now) -> Vec<Action> {
        self.greet(now)
    }

    /// Says farewell if a registration may be alive: also between two registrations, and where the answer to the first has
    /// not come yet. [`is_stopped`](Self::is_stopped) tells when that is done.
    pub fn stop(&mut self, now: Now) -> Vec<Action> {
        match self.state {
            State::Leaving { .. } | State::Stopped => Vec::new(),
            _ if self.may_be_registered(now.mono) => {
                let until = now.mono + self.config.timers.farewell;
                let resend = now.mono + self.config.timers.first_retry;
                self.state = State::Leaving { until, resend, challenges: 0 };
                self.send_farewell(now, Vec::new())
            }
            _ => {
                self.state = State::Stopped;
                Vec::new()
            }
        }
    }

    fn may_be_registered(&self, now: Duration) -> bool {
        self.confirmed.max(self.asked).is_some_and(|until| now < until)
    }

    /// Keeps the clients that the router has and asks for no new ones; or for new ones again. Tells the gateway at once
    /// if registered, else with the next registration.
    pub fn set_draining(&mut self, now: Now, draining: bool) -> Vec<Action> {
        if self.draining == draining {
            return Vec::new();
        }
        self.draining = draining;
        match self.state {
            State::Registered(_) | State::Greeting { .. } | State::Registering { .. } => self.greet(now),
            State::Idle | State::Waiting { .. } | State::Leaving { .. } | State::Stopped => Vec::new(),
        }
    }

    /// The protocol that it speaks.
    pub fn protocol(&self) -> ProtocolId {
        self.config.protocol
    }

    /// Whether the router asks for no new clients.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether there is nothing more to do.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// The gateway that hears the keepalives, while registered.
    pub fn gateway(&self) -> Option<GatewayId> {
        if let State::Registered(session) = &self.state { Some(session.gateway) } else { None }
    }

    /// When [`tick`](Self::tick) is due.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Idle | State::Stopped => None,
            State::Waiting { until } | State::Greeting { until } | State::Registering { until, .. } => Some(*until),
            State::Registered(session) => Some(session.next),
            State::Leaving { until, resend, .. } => Some(*until.min(resend)),
        }
    }

    /// The packet for this router in the payload of a datagram; `None` if it is none, or of another protocol or provider.
    pub fn delivery<'a>(&self, from: SocketAddrV4, payload: &'a [u8]) -> Option<Delivery<'a>> {
        let Datagram { shim, origin, payload } = Datagram::parse(payload).ok()?;
        let provider = shim.provider == ProviderId::ANY || shim.provider == self.config.provider;
        let ours = shim.kind == ShimKind::Forward && shim.protocol == self.config.protocol && provider;
        ours.then_some(Delivery { gateway: from, shim, origin: origin?, packet: payload })
    }

    /// Takes the payload of any other datagram: answers to requests are acted upon, the rest is ignored.
    pub fn datagram(&mut self, now: Now, from: SocketAddrV4, payload: &[u8]) -> Vec<Action> {
        if from != self.config.registration {
            return Vec::new();
        }
        let Ok((Shim { kind: ShimKind::Control, .. }, message)) = Shim::parse(payload) else { return Vec::new() };
        match control::decode(message) {
            // The nonce is what an attacker who does not see the request cannot know.
            Ok((nonce, kind)) if self.nonce == Some(nonce) => {
                self.nonce = None;
                self.answered(now, kind)
            }
            _ => Vec::new(),
        }
    }

    /// What time brings.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        if self.deadline().is_none_or(|at| now.mono < at) {
            return Vec::new();
        }
        match &mut self.state {
            State::Waiting { .. } => self.greet(now),
            State::Greeting { .. } => {
                self.failures = self.failures.saturating_add(1);
                self.greet(now)
            }
            State::Registering { bytes, sent, .. } if *sent <= RESENDS => {
                *sent += 1;
                let bytes = bytes.clone();
                self.asked = Some(now.mono + self.lifetime);
                let pause = self.pause();
                if let State::Registering { until, .. } = &mut self.state {
                    *until = now.mono + pause;
                }
                vec![Action::Send { to: self.config.registration, bytes }]
            }
            State::Registering { .. } => {
                self.failures = self.failures.saturating_add(1);
                self.greet(now)
            }
            State::Registered(session) => {
                if now.mono.saturating_sub(session.heard) >= session.expires_after {
                    let mut actions = vec![Action::Tell(Event::Silence)];
                    actions.extend(self.greet(now));
                    return actions;
                }
                let keepalive = session.keepalive;
                session.challenged = false;
                let pause = self.jittered(keepalive);
                if let State::Registered(session) = &mut self.state {
                    session.next = now.mono + pause;
                }
                self.send_keepalive(now, Vec::new())
            }
            State::Leaving { until, .. } if now.mono >= *until => {
                self.state = State::Stopped;
                vec![Action::Tell(Event::Left { confirmed: false })]
            }
            State::Leaving { resend, .. } => {
                *resend = now.mono + self.config.timers.first_retry;
                self.send_farewell(now, Vec::new())
            }
            State::Idle | State::Stopped => Vec::new(),
        }
    }

    /// An answer to the last request, whose nonce only those on its path know.
    fn answered(&mut self, now: Now, kind: Kind) -> Vec<Action> {
        match kind {
            Kind::Challenge(challenge) if challenge.cookie.len() <= control::MAX_COOKIE => {
                self.challenged(now, challenge.cookie)
            }
            Kind::Accepted(accepted) => self.accepted(now, &accepted),
            Kind::Refused(refused) => self.refused(now, &refused),
            Kind::KeepaliveAck(ack) => self.acknowledged(now, &ack),
            Kind::DeregisterAck(_) if matches!(self.state, State::Leaving { .. }) => {
                self.state = State::Stopped;
                vec![Action::Tell(Event::Left { confirmed: true })]
            }
            _ => Vec::new(),
        }
    }

    fn challenged(&mut self, now: Now, cookie: Vec<u8>) -> Vec<Action> {
        match &mut self.state {
            State::Greeting { .. } => self.send_registration(now, cookie, 1),
            State::Registering { challenges, .. } if *challenges < MAX_CHALLENGES => {
                let challenges = *challenges + 1;
                self.send_registration(now, cookie, challenges)
            }
            // A gateway that did not hear the router yet: it does not know what another holds.
            State::Registered(session) if session.held.is_some_and(|until| now.mono < until) => {
                self.send_registration(now, cookie, 1)
            }
            State::Registered(session) if !session.challenged => {
                session.challenged = true;
                self.send_keepalive(now, cookie)
            }
            State::Leaving { challenges, .. } if *challenges < MAX_CHALLENGES => {
                *challenges += 1;
                self.send_farewell(now, cookie)
            }
            _ => Vec::new(),
        }
    }

    fn accepted(&mut self, now: Now, accepted: &Accepted) -> Vec<Action> {
        if !matches!(self.state, State::Registering { .. }) {
            return Vec::new();
        }
        let (least, most) = KEEPALIVE_BOUNDS;
        let keepalive = Duration::from_millis(accepted.keepalive_interval_ms.into()).clamp(least, most);
        let expires_after = Duration::from_millis(accepted.expires_after_ms.into()).clamp(keepalive * 2, most * 4);
        let gateway = GatewayId(u16::try_from(accepted.gateway).unwrap_or(0));
        self.failures = 0;
        let next = now.mono + self.jittered(keepalive);
        let heard = now.mono;
        let challenged = false;
        let held = Some(Duration::from_millis(accepted.held_ms.into())).filter(|held| !held.is_zero());
        let (sent, rtt, held_until) = (None, None, held.map(|held| now.mono + held));
        let session =
            Session { gateway, keepalive, expires_after, next, heard, challenged, sent, rtt, held: held_until };
        self.state = State::Registered(session);
        (self.confirmed, self.asked, self.lifetime) = (Some(heard + expires_after), None, expires_after);
        let mut actions = vec![Action::Tell(Event::Registered { gateway, keepalive, expires_after })];
        actions.extend(held.map(|remaining| Action::Tell(Event::Held { remaining })));
        actions
    }

    fn acknowledged(&mut self, now: Now, ack: &KeepaliveAck) -> Vec<Action> {
        let State::Registered(session) = &mut self.state else { return Vec::new() };
        session.heard = now.mono;
        let to = GatewayId(u16::try_from(ack.gateway).unwrap_or(0));
        let from = std::mem::replace(&mut session.gateway, to);
        session.measure(now.mono, from != to);
        self.confirmed = Some(now.mono + session.expires_after);
        if from == to { Vec::new() } else { vec![Action::Tell(Event::Moved { from, to })] }
    }

    fn refused(&mut self, now: Now, refused: &Refused) -> Vec<Action> {
        let code = refused.code();
        let passing = matches!(
            code,
            RefusalCode::Busy | RefusalCode::ClusterUnavailable | RefusalCode::Limit | RefusalCode::NotRegistered
        );
        let text = printable(&refused.text);
        if code == RefusalCode::NotRegistered {
            (self.confirmed, self.asked) = (None, None);
        } else if !passing && matches!(self.state, State::Greeting { .. } | State::Registering { .. }) {
            // An earlier registration may live on.
            self.asked = None;
        }
        match self.state {
            State::Registered(_) if code == RefusalCode::NotRegistered => {
                let mut actions = vec![Action::Tell(Event::Forgotten)];
                actions.extend(self.greet(now));
                actions
            }
            // The next keepalive is the next try.
            State::Registered(session) if passing => {
                let retry_after = session.next.saturating_sub(now.mono);
                vec![Action::Tell(Event::Refused { code, text, retry_after })]
            }
            // Asking earlier is of no use, and nobody's fault that somebody must do something about.
            State::Greeting { .. } | State::Registering { .. } if code == RefusalCode::Dampened => {
                let asked = Duration::from_millis(refused.retry_after_ms.into());
                let retry_after = asked.clamp(self.config.timers.first_retry, MAX_DAMPENED);
                self.failures = 0;
                self.state = State::Waiting { until: now.mono + retry_after };
                vec![Action::Tell(Event::Refused { code, text, retry_after })]
            }
            State::Greeting { .. } | State::Registering { .. } | State::Registered(_) => {
                self.failures = self.failures.saturating_add(1);
                let pause = self.pause();
                let retry_after = if passing {
                    let asked = Duration::from_millis(refused.retry_after_ms.into());
                    pause.max(asked.min(self.config.timers.refused_retry))
                } else {
                    pause.max(self.config.timers.refused_retry)
                };
                self.state = State::Waiting { until: now.mono + retry_after };
                vec![Action::Tell(Event::Refused { code, text, retry_after })]
            }
            State::Leaving { .. } if code == RefusalCode::NotRegistered => {
                self.state = State::Stopped;
                vec![Action::Tell(Event::Left { confirmed: true })]
            }
            _ => Vec::new(),
        }
    }

    fn greet(&mut self, now: Now) -> Vec<Action> {
        let body = self.register_body(now, Vec::new()).encode();
        let until = now.mono + self.pause();
        self.state = State::Greeting { until };
        self.send(Kind::Register(Register { body, chain: Vec::new(), signature: Vec::new() }))
    }

    fn send_registration(&mut self, now: Now, cookie: Vec<u8>, challenges: u32) -> Vec<Action> {
        let body = self.register_body(now, cookie).encode();
        let signature = self.sign(Domain::Register, &body);
        let chain = self.credentials.chain.clone();
        let actions = self.send(Kind::Register(Register { body, chain, signature }));
        self.asked = Some(now.mono + self.lifetime);
        let bytes = match actions.first() {
            Some(Action::Send { bytes, .. }) => bytes.clone(),
            _ => Vec::new(),
        };
        let until = now.mono + self.pause();
        self.state = State::Registering { until, bytes, sent: 1, challenges };
        actions
    }

    fn send_keepalive(&mut self, now: Now, cookie: Vec<u8>) -> Vec<Action> {
        let body = self.session_body(now, cookie);
        let signature = self.sign(Domain::Keepalive, &body);
        if let State::Registered(session) = &mut self.state {
            session.sent = Some(now.mono);
        }
        self.send(Kind::Keepalive(Keepalive { body, signature }))
    }

    fn send_farewell(&mut self, now: Now, cookie: Vec<u8>) -> Vec<Action> {
        let body = self.session_body(now, cookie);
        let signature = self.sign(Domain::Deregister, &body);
        self.send(Kind::Deregister(Deregister { body, signature }))
    }

    fn register_body(&mut self, now: Now, cookie: Vec<u8>) -> RegisterBody {
        let wish = self.config.keepalive.map_or(0, |d| u32::try_from(d.as_millis()).unwrap_or(u32::MAX));
        RegisterBody {
            protocol: self.config.protocol,
            provider: self.config.provider,
            router: self.config.router,
            weight: self.config.weight,
            sequence: self.next_sequence(now),
            cookie,
            keepalive_interval_ms: wish,
            draining: self.draining,
        }
    }

    fn session_body(&mut self, now: Now, cookie: Vec<u8>) -> Vec<u8> {
        let sequence = self.next_sequence(now);
        let rtt = if let State::Registered(session) = &self.state { session.rtt } else { None };
        let rtt_us = rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1));
        let (protocol, router) = (self.config.protocol, self.config.router);
        SessionBody { protocol, router, sequence, cookie, rtt_us }.encode()
    }

    /// The time in µs, or one more than the last where the clock did not advance.
    fn next_sequence(&mut self, now: Now) -> u64 {
        let time = u64::try_from(now.unix.as_micros()).unwrap_or(u64::MAX);
        self.sequence = time.max(self.sequence.saturating_add(1));
        self.sequence
    }

    fn sign(&self, domain: Domain, body: &[u8]) -> Vec<u8> {
        self.credentials.key.sign(&domain.signed_bytes(body)).to_bytes().to_vec()
    }

    /// A message that does not fit (its chain was checked when it was loaded) is not sent.
    fn send(&mut self, kind: Kind) -> Vec<Action> {
        let nonce = self.random.random();
        self.nonce = Some(nonce);
        let Ok(message) = control::encode(nonce, kind) else { return Vec::new() };
        let shim = Shim::of_no_protocol(ShimKind::Control);
        let bytes = Datagram { shim, origin: None, payload: &message }.to_vec();
        vec![Action::Send { to: self.config.registration, bytes }]
    }

    /// Until the next repetition: doubled with every failure, and spread so that routers do not march in step.
    fn pause(&mut self) -> Duration {
        self.jittered(backed_off(&self.config.timers, self.failures))
    }

    /// Between three quarters of a time and all of it.
    fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.random.random_range(0.75..=1.0))
    }
}
