//! A registrar with a real model behind it, real certificates, and a router's half of the conversation.

mod adoption;
mod calls;
mod changes;
mod dampening;
mod hostile;
mod refusals;
mod revocation;
mod transitions;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dmux_wire::control::{
    Deregister, Domain, Keepalive, Kind, RefusalCode, Refused, Register, RegisterBody, SessionBody, decode, encode,
};
use dmux_wire::{GatewayId, ProtocolId, ProviderId};
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::{Signer, SigningKey};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, SanType, date_time_ymd};

use super::*;
use crate::model::{Gateway, Model, Refusal as ModelRefusal, Reply};

pub(super) const HERE: GatewayId = GatewayId(1);
pub(super) const THERE: GatewayId = GatewayId(2);
pub(super) const PROTOCOL: ProtocolId = ProtocolId(41);
pub(super) const PROVIDER: ProviderId = ProviderId(7);
pub(super) const ROUTER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 100), 4000);
pub(super) const REGISTRATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 51700);
/// 2027-01-15.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

pub(crate) fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn rcgen_key(key: &SigningKey) -> KeyPair {
    let der = key.to_pkcs8_der().unwrap();
    KeyPair::from_pkcs8_der_and_sign_algo(&der.as_bytes().into(), &PKCS_ED25519).unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2028, 1, 1);
    params
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// An issuer of certificates.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
    /// How far below the authority; each level has its own name and key.
    level: u8,
}

impl Ca {
    pub(crate) fn authority(seed: u8) -> Self {
        let mut params = params(&format!("authority {seed}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen_key(&signing_key(seed));
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der, level: 0 }
    }

    /// A provider of protocol 41, unless changed.
    pub(crate) fn provider(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let level = self.level + 1;
        let mut params = params(&format!("provider {level}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.subject_alt_names = vec![uri("urn:dmux:provider:7"), uri("urn:dmux:protocol:41")];
        change(&mut params);
        let key = rcgen_key(&signing_key(50 + level));
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der, level }
    }

    /// The certificate of a router at [`ROUTER`], unless changed.
    pub(crate) fn router(&self, key: &SigningKey, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        self.router_with(&rcgen_key(key), change)
    }

    pub(super) fn router_with(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = params("r1");
        params.subject_alt_names = vec![SanType::IpAddress((*ROUTER.ip()).into())];
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }
}

/// A router's half.
pub(super) struct Router {
    pub(super) key: SigningKey,
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) body: RegisterBody,
    nonce: u64,
}

impl Router {
    pub(super) fn new(authority: &Ca) -> Self {
        let key = signing_key(100);
        let provider = authority.provider(|_| ());
        let chain = vec![provider.router(&key, |_| ()), provider.der];
        let body = RegisterBody {
            protocol: PROTOCOL,
            provider: PROVIDER,
            router: ROUTER,
            weight: 1,
            sequence: u64::try_from(EPOCH.as_micros()).unwrap(),
            cookie: Vec::new(),
            keepalive_interval_ms: 0,
            draining: false,
        };
        Self { key, chain, body, nonce: 0 }
    }

    fn pack(&mut self, kind: Kind) -> Vec<u8> {
        self.nonce += 1;
        encode(self.nonce, kind).unwrap()
    }

    pub(super) fn hello(&mut self) -> Vec<u8> {
        let body = RegisterBody { cookie: Vec::new(), ..self.body.clone() }.encode();
        self.pack(Kind::Register(Register { body, chain: Vec::new(), signature: Vec::new() }))
    }

    pub(super) fn register(&mut self) -> Vec<u8> {
        let body = self.body.encode();
        let signature = self.sign(Domain::Register, &body);
        let chain = self.chain.clone();
        self.pack(Kind::Register(Register { body, chain, signature }))
    }

    fn session_body(&mut self) -> Vec<u8> {
        self.body.sequence += 1;
        let RegisterBody { protocol, router, sequence, cookie, .. } = self.body.clone();
        SessionBody { protocol, router, sequence, cookie, rtt_us: 0 }.encode()
    }

    pub(super) fn keepalive(&mut self) -> Vec<u8> {
        let body = self.session_body();
        let signature = self.sign(Domain::Keepalive, &body);
        self.pack(Kind::Keepalive(Keepalive { body, signature }))
    }

    pub(super) fn farewell(&mut self) -> Vec<u8> {
        let body = self.session_body();
        let signature = self.sign(Domain::Deregister, &body);
        self.pack(Kind::Deregister(Deregister { body, signature }))
    }

    pub(super) fn sign(&self, domain: Domain, body: &[u8]) -> Vec<u8> {
        self.key.sign(&domain.signed_bytes(body)).to_bytes().to_vec()
    }
}

/// A gateway: its registrar, and the replicated state.
pub(super) struct Site {
    pub(super) registrar: Registrar,
    pub(super) model: Model,
    pub(super) now: Now,
    pub(super) effects: Vec<Effect>,
}

impl Site {
    pub(super) fn new(authority: &Ca) -> Self {
        let mut model = Model::new();
        for id in [HERE, THERE] {
            let unicast = Ipv4Addr::new(192, 0, 2, id.0 as u8);
            let gateway = Gateway { id, name: format!("g{id}"), unicast, api: String::new(), node: id.0.into() };
            let reply = model.apply(model.applied() + 1, &Command::PutGateway { at: 0, gateway });
            assert_eq!(reply, Reply::Done);
        }
        let now = Now { mono: Duration::from_secs(1000), unix: EPOCH };
        Self { registrar: registrar(HERE, authority), model, now, effects: Vec::new() }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.unix += time;
    }

    /// Delivers a datagram and carries out what comes of it; returns the replies.
    pub(super) fn send(&mut self, message: &[u8]) -> Vec<Kind> {
        self.send_from(ROUTER, message)
    }

    pub(super) fn send_from(&mut self, from: SocketAddrV4, message: &[u8]) -> Vec<Kind> {
        let effects = self.registrar.handle(self.now, &self.model, from, REGISTRATION, message);
        self.carry_out(effects)
    }

    pub(super) fn tick(&mut self) -> Option<Duration> {
        let (effects, next) = self.registrar.tick(self.now, &self.model);
        self.carry_out(effects);
        next
    }

    /// Proposals are applied at once.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Kind> {
        let mut replies = Vec::new();
        let mut queue: std::collections::VecDeque<_> = effects.into();
        while let Some(effect) = queue.pop_front() {
            self.effects.push(effect.clone());
            match effect {
                Effect::Reply { from, bytes, .. } => {
                    assert_eq!(from, REGISTRATION, "answers come from where the question went");
                    replies.push(decode(&bytes).unwrap().1);
                }
                Effect::Propose { token, command } => {
                    let reply = self.apply(&command);
                    queue.extend(self.registrar.committed(self.now, token, Ok(reply)));
                }
                Effect::Answer { kind, .. } => replies.push(*kind),
                Effect::Liveness { .. } | Effect::Log { .. } => {}
            }
        }
        replies
    }

    pub(super) fn apply(&mut self, command: &Command) -> Reply {
        self.model.apply(self.model.applied() + 1, command)
    }

    /// Asks for a cookie and puts it into the router's next messages.
    pub(super) fn prove(&mut self, router: &mut Router) {
        let hello = router.hello();
        let from = router.body.router;
        let [Kind::Challenge(challenge)] = &self.send_from(from, &hello)[..] else { panic!("no challenge") };
        router.body.cookie = challenge.cookie.clone();
    }

    /// The whole of a registration; returns the last reply.
    pub(super) fn register(&mut self, router: &mut Router) -> Kind {
        self.prove(router);
        let from = router.body.router;
        let replies = self.send_from(from, &router.register());
        let [reply] = &replies[..] else { panic!("one reply, not {replies:?}") };
        reply.clone()
    }

    pub(super) fn registered(&self) -> Option<&Registration> {
        RegistrationView::registration(&self.model, &RegistrationKey { protocol: PROTOCOL, router: ROUTER })
    }
}

pub(super) fn registrar(gateway: GatewayId, authority: &Ca) -> Registrar {
    let authorities = Authorities::from_der(std::slice::from_ref(&authority.der)).unwrap();
    Registrar::new(RegistrarConfig { gateway, authorities, secret: [gateway.0 as u8; 32] })
}

pub(super) fn setup() -> (Site, Router, Ca) {
    let authority = Ca::authority(10);
    (Site::new(&authority), Router::new(&authority), authority)
}

pub(super) fn refusal(reply: &Kind) -> (RefusalCode, &str) {
    let Kind::Refused(Refused { text, .. }) = reply else { panic!("refused, not {reply:?}") };
    let Kind::Refused(refused) = reply else { unreachable!() };
    (refused.code(), text)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn key() -> RegistrationKey {
    RegistrationKey { protocol: PROTOCOL, router: ROUTER }
}

fn proposals(site: &Site) -> usize {
    site.effects.iter().filter(|e| matches!(e, Effect::Propose { .. })).count()
}

fn suppressed(site: &Site) -> bool {
    site.model.suppressed_until(&key(), site.now.unix_ms()).is_some()
}
