use std::time::Duration;

use dmux_wire::control::{Domain, RefusalCode};
use dmux_wire::metalink::{self, Attach, AttachBody, Discover, Kind, MetanetId, Offer, Refused};
use dmux_wire::{MLI_DISCOVERY, MacAddr};
use ed25519_dalek::Signer;

use super::connection::{Connection, Desk, Finding};
use super::frames::{self, Incoming};
use super::request::{Dice, Request, TRIES};
use super::{Action, EndpointConfig, Event, Held, MAX_CONNECTIONS, NotSent, Now};
use crate::credentials::Credentials;
use crate::patience::{backed_off, printable};

/// The longest refusal of an attachment that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// An endpoint's half of discovery, attachment and metalinks: pure. Frames and time go in, [`Action`]s come out.
#[derive(Debug)]
pub struct EndpointCore {
    config: EndpointConfig,
    credentials: Option<Credentials>,
    dice: Dice,
    state: State,
    /// The gateway that answered last.
    gateway: Option<Offer>,
    connections: Vec<Connection>,
    /// Discoveries in a row that led to nothing.
    failures: u32,
    /// When the gateway was last heard on the control MLI.
    heard: Duration,
    /// Silence after which it does not know an endpoint without metalinks any more.
    idle_after: Duration,
    /// Until when farewells are waited for.
    leaving: Option<Duration>,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Between two discoveries.
    Waiting {
        until: Duration,
    },
    Discovering(Request),
    Attaching(Request),
    Attached,
    Stopped,
}

impl EndpointCore {
    /// An endpoint that has not begun. Without `credentials` it attaches where nobody asks for any. `seed` must be
    /// random: nonces and jitter are drawn from it.
    pub fn new(config: EndpointConfig, credentials: Option<Credentials>, seed: [u8; 32]) -> Self {
        let connections = config.wanted.iter().take(MAX_CONNECTIONS).copied().map(Connection::new).collect();
        Self {
            config,
            credentials,
            dice: Dice::new(seed),
            state: State::Idle,
            gateway: None,
            connections,
            failures: 0,
            heard: Duration::ZERO,
            idle_after: Duration::ZERO,
            leaving: None,
        }
    }

    /// Begins to look for a gateway.
    pub fn start(&mut self, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        self.discover(now, &mut out);
        out
    }

    /// Gives all metalinks back. [`is_stopped`](Self::is_stopped) tells when that is done, or was waited for long enough.
    pub fn stop(&mut self, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if self.leaving.is_some() || self.is_stopped() {
            return out;
        }
        self.leaving = Some(now.mono + self.config.timers.farewell);
        let known = self.gateway.is_some() && self.connections.iter().any(Connection::may_have_metalink);
        if !known {
            self.state = State::Stopped;
            return out;
        }
        self.state = State::Attached;
        self.each(now, &mut out, |connection, desk| connection.leave(desk));
        self.finish(now);
        out
    }

    /// Whether there is nothing more to do.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// When [`tick`](Self::tick) is due.
    pub fn deadline(&self) -> Option<Duration> {
        let attached = matches!(self.state, State::Attached);
        let own = match &self.state {
            State::Idle | State::Stopped => return None,
            State::Waiting { until } => Some(*until),
            State::Discovering(request) | State::Attaching(request) => Some(request.due),
            State::Attached => None,
        };
        // Whoever has a metalink is attached, whatever the gateway has forgotten.
        let asks = self.connections.iter().filter(|c| attached || c.held().is_some()).filter_map(Connection::due);
        let ends = self.connections.iter().filter_map(|c| Some(c.held()?.until));
        own.into_iter().chain(self.leaving).chain(asks).chain(ends).min()
    }

    /// What time brings.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if self.deadline().is_none_or(|at| now.mono < at) {
            return out;
        }
        for connection in &mut self.connections {
            connection.expire(now, &self.config.timers, &mut self.dice, &mut out);
        }
        let idle = self.is_idle(now.mono);
        match &mut self.state {
            State::Waiting { until } if *until <= now.mono => self.discover(now, &mut out),
            State::Attaching(request) if request.due <= now.mono && request.sent >= TRIES => {
                self.failures = self.failures.saturating_add(1);
                self.discover(now, &mut out);
            }
            State::Discovering(request) | State::Attaching(request) if request.due <= now.mono => {
                request.repeat(now.mono, &self.config.timers, &mut self.dice, &mut out);
            }
            State::Attached if idle => self.discover(now, &mut out),
            _ => {}
        }
        let attached = matches!(self.state, State::Attached);
        let mut silent = false;
        self.each(now, &mut out, |connection, desk| {
            if attached || connection.held().is_some() {
                silent |= connection.tick(desk) == Finding::Silent;
            }
        });
        if attached && silent {
            out.push(Action::Tell(Event::Lost));
            self.discover(now, &mut out);
        }
        self.finish(now);
        out
    }

    /// Something is to be asked, and the gateway has heard nothing for so long that it does not know the endpoint.
    fn is_idle(&self, now: Duration) -> bool {
        let due = self.connections.iter().filter_map(Connection::due).any(|due| due <= now);
        let known = self.connections.iter().any(|c| c.held().is_some()) || self.leaving.is_some();
        due && !known && now.saturating_sub(self.heard) >= self.idle_after
    }

    /// Takes a frame: answers to requests, and notices, are acted upon; everything else is ignored.
    pub fn frame(&mut self, now: Now, frame: &[u8]) -> Vec<Action> {
        let mut out = Vec::new();
        self.understood(now, frame, &mut out);
        out
    }

    fn understood(&mut self, now: Now, frame: &[u8], out: &mut Vec<Action>) -> Option<()> {
        let incoming = Incoming::parse(frame, self.config.mac)?;
        if incoming.mli == MLI_DISCOVERY {
            let decoded = metalink::decode(incoming.payload).ok()?;
            self.greeted(now, incoming.src, decoded.nonce, decoded.kind.ok()?, out);
            return Some(());
        }
        let gateway = self.gateway.as_ref().filter(|gateway| is_from(gateway, &incoming))?;
        if incoming.mli != gateway.control_mli {
            return None;
        }
        let decoded = metalink::decode(incoming.payload).ok()?;
        let kind = decoded.kind.ok()?;
        if let Kind::Notice(notice) = &kind {
            self.connections.iter_mut().for_each(|c| c.noticed(now, notice, out));
            return Some(());
        }
        // The nonce is what an attacker who does not see the request cannot know.
        let mut finding = None;
        let stopped = self.is_stopped();
        self.each(now, out, |connection, desk| {
            if !stopped && connection.awaits(decoded.nonce) {
                finding = Some(connection.answered(desk, &kind));
            }
        });
        match finding? {
            // Also on the way out: only who is attached can give back what it has.
            Finding::Unknown if matches!(self.state, State::Attached) => {
                out.push(Action::Tell(Event::Lost));
                let pause = self.pause();
                self.wait(now, pause);
            }
            // It is being looked for already.
            Finding::Unknown => {}
            Finding::Fine | Finding::Silent => {
                self.failures = 0;
                self.heard = now.mono;
                // Who answers here need not be looked for.
                self.state = State::Attached;
            }
        }
        self.finish(now);
        Some(())
    }

    /// An answer on MLI 0.
    fn greeted(&mut self, now: Now, src: MacAddr, nonce: u64, kind: Kind, out: &mut Vec<Action>) {
        match (&self.state, kind) {
            (State::Discovering(request), Kind::Offer(offer)) if request.nonce == nonce && offer.gateway_mac == src => {
                self.found(now, offer, out);
            }
            (State::Attaching(request), Kind::Attached(attached)) if request.nonce == nonce => {
                self.idle_after = Duration::from_millis(attached.idle_after_ms.into());
                self.heard = now.mono;
                self.state = State::Attached;
                let gateway = self.gateway.as_ref().map(|offer| offer.gateway);
                out.extend(gateway.map(|gateway| Action::Tell(Event::Attached { gateway })));
                self.each(now, out, |connection, desk| {
                    connection.again(desk);
                    // What was due meanwhile is asked at once.
                    connection.tick(desk);
                });
            }
            (State::Attaching(request), Kind::Refused(refused)) if request.nonce == nonce => {
                self.turned_away(now, &refused, out);
            }
            _ => {}
        }
    }

    fn found(&mut self, now: Now, offer: Offer, out: &mut Vec<Action>) {
        let same = |old: &Offer| (old.gateway, old.gateway_mac) == (offer.gateway, offer.gateway_mac);
        if !self.gateway.as_ref().is_none_or(same) {
            self.connections.iter_mut().for_each(|connection| connection.moved(now, out));
        }
        out.push(Action::Tell(Event::Found(offer.clone())));
        let body = AttachBody { cookie: offer.cookie.clone(), gateway: offer.gateway, mac: self.config.mac }.encode();
        let (chain, signature) = match (offer.authenticate, &self.credentials) {
            (false, _) => (Vec::new(), Vec::new()),
            (true, Some(own)) => {
                let signature = own.key.sign(&Domain::Attach.signed_bytes(&body));
                (own.chain.clone(), signature.to_bytes().to_vec())
            }
            (true, None) => {
                out.push(Action::Tell(Event::NoCertificate));
                self.gateway = Some(offer);
                let pause = self.dice.spread(self.config.timers.refused_retry);
                return self.wait(now, pause);
            }
        };
        let nonce = self.dice.nonce();
        let kind = Kind::Attach(Attach { body, chain, signature });
        let frame = frames::discovery(self.config.mac, offer.gateway_mac, nonce, &kind);
        self.gateway = Some(offer);
        self.state = State::Attaching(self.request(nonce, frame, now, out));
    }

    /// The attachment is refused.
    fn turned_away(&mut self, now: Now, refused: &Refused, out: &mut Vec<Action>) {
        use RefusalCode as C;
        let pause = self.pause();
        let asked = Duration::from_millis(refused.retry_after_ms.into()).min(MAX_RETRY_AFTER);
        let passing = matches!(refused.code, C::Busy | C::ClusterUnavailable | C::Limit | C::BadCookie);
        let retry_after = match passing {
            true => pause.max(asked),
            false if asked.is_zero() => self.dice.spread(self.config.timers.refused_retry),
            false => asked.max(pause),
        };
        let text = printable(&refused.text);
        out.push(Action::Tell(Event::Refused { metanet: None, code: refused.code, text, fits: None, retry_after }));
        self.wait(now, retry_after);
    }

    fn discover(&mut self, now: Now, out: &mut Vec<Action>) {
        let nonce = self.dice.nonce();
        let frame = frames::discovery(self.config.mac, MacAddr::BROADCAST, nonce, &Kind::Discover(Discover::default()));
        self.state = State::Discovering(self.request(nonce, frame, now, out));
    }

    fn wait(&mut self, now: Now, pause: Duration) {
        self.state = State::Waiting { until: now.mono + pause };
    }

    /// Until the next try after one that led to nothing.
    fn pause(&mut self) -> Duration {
        let pause = backed_off(&self.config.timers, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.dice.spread(pause)
    }

    fn request(&mut self, nonce: u64, frame: Vec<u8>, now: Now, out: &mut Vec<Action>) -> Request {
        let timers = &self.config.timers;
        Request::send(nonce, frame, now.mono, timers.max_retry, (timers, &mut self.dice), out)
    }

    /// Lets each connection do something, once a gateway is known.
    fn each(&mut self, now: Now, out: &mut Vec<Action>, mut step: impl FnMut(&mut Connection, &mut Desk<'_>)) {
        let Some(gateway) = &self.gateway else { return };
        let (timers, mac) = (&self.config.timers, self.config.mac);
        for connection in &mut self.connections {
            step(connection, &mut Desk { now, timers, dice: &mut self.dice, gateway, mac, out });
        }
    }

    /// Stops, if everything is given back or has been waited for long enough.
    fn finish(&mut self, now: Now) {
        let over = self.connections.iter().all(Connection::is_over);
        if self.leaving.is_some_and(|until| over || until <= now.mono) {
            self.state = State::Stopped;
        }
    }

    /// Which gateway it is at, while attached.
    pub fn gateway(&self) -> Option<&Offer> {
        self.gateway.as_ref().filter(|_| matches!(self.state, State::Attached))
    }

    /// The metanets that it wants, in the order of the configuration: how connections are numbered.
    pub fn metanets(&self) -> impl ExactSizeIterator<Item = MetanetId> + '_ {
        self.connections.iter().map(Connection::metanet)
    }

    /// The metalink of connection `n`, if there is one and it is not being given back.
    pub fn held(&self, n: usize) -> Option<&Held> {
        self.connections.get(n)?.held().filter(|_| self.leaving.is_none())
    }

    /// The frame that carries a metaframe by connection `n`.
    ///
    /// # Errors
    /// There is no metalink now, or the metaframe is too long for it.
    pub fn metaframe(&self, n: usize, payload: &[u8]) -> Result<Vec<u8>, NotSent> {
        let (Some(held), Some(gateway)) = (self.held(n), &self.gateway) else { return Err(NotSent::NoMetalink) };
        let mtu = usize::from(gateway.mtu);
        if payload.len() > mtu {
            return Err(NotSent::TooLong { mtu });
        }
        Ok(frames::metaframe(gateway, self.config.mac, held.mli, payload))
    }

    /// The metaframe in a frame from the gateway, and the number of its connection.
    pub fn delivered<'a>(&self, frame: &'a [u8]) -> Option<(usize, &'a [u8])> {
        let incoming = Incoming::parse(frame, self.config.mac)?;
        self.gateway.as_ref().filter(|gateway| is_from(gateway, &incoming))?;
        let n = (0..self.connections.len()).find(|&n| self.held(n).is_some_and(|held| held.mli == incoming.mli))?;
        Some((n, incoming.payload))
    }
}

fn is_from(gateway: &Offer, incoming: &Incoming<'_>) -> bool {
    incoming.src == gateway.gateway_mac && incoming.vid == Some(gateway.provisioned_vid)
}
