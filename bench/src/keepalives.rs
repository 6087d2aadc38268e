//! What keepalives cost a gateway: the registrar alone, on one core, beside 100,000 registrations that it holds.
//!
//! Signed keepalives of live routers go into `Registrar::handle`, as they come out of a datagram; acknowledgements come out.
//! Neither the switch nor Raft has a part in it: keepalives are not replicated.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command as Process;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use dmux_controller::model::{Command, Gateway, Model, Registration, RegistrationKey};
use dmux_controller::registration::{Authorities, Effect, Now, Registrar, RegistrarConfig};
use dmux_wire::control::{self, Domain, Keepalive, Kind, SessionBody};
use dmux_wire::{DMUX_PORT, GatewayId, ProtocolId, ProviderId};
use ed25519_dalek::{Signer, SigningKey};

use crate::process::dmux_binary;
use crate::table::{Better, Cell, Row};

/// Registrations that the gateway holds.
const HELD: u32 = 100_000;
/// Those of them whose keepalives are sent; the others only take room.
pub const SENDERS: u32 = 2_000;
/// Keepalives of each sender in one sample.
const EACH: u64 = 5;
/// Where they are sent.
pub const REGISTRATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), DMUX_PORT);

/// A live router.
pub struct Sender {
    /// What it signs with.
    pub key: SigningKey,
    /// Its address.
    pub router: SocketAddrV4,
    /// Of its last message.
    pub sequence: u64,
}

impl Sender {
    /// Its next keepalive.
    pub fn keepalive(&mut self, cookie: Vec<u8>) -> Result<Vec<u8>> {
        self.sequence += 1;
        let body =
            SessionBody { protocol: ProtocolId(41), router: self.router, sequence: self.sequence, cookie, rtt_us: 0 };
        let body = body.encode();
        let signature = self.key.sign(&Domain::Keepalive.signed_bytes(&body)).to_bytes().to_vec();
        Ok(control::encode(self.sequence, Kind::Keepalive(Keepalive { body, signature }))?)
    }
}

/// Keepalives a second.
pub fn measure(repetitions: u32, dir: &Path) -> Result<Row> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let began = Instant::now();
    let now = || Now { mono: began.elapsed(), unix: unix + began.elapsed() };
    let mut registrar =
        Registrar::new(RegistrarConfig { gateway: GatewayId(1), authorities: authorities(dir)?, secret: [7; 32] });
    let sequence = u64::try_from(unix.as_micros())?;
    let mut senders: Vec<_> = (0..SENDERS).map(|n| sender(n, sequence)).collect();
    let model = model(&senders)?;
    registrar.tick(now(), &model);
    for sender in &mut senders {
        let first = sender.keepalive(Vec::new())?;
        let Kind::Challenge(challenge) = ask(&mut registrar, now(), &model, sender.router, &first)? else {
            bail!("a router that was not heard yet is not challenged");
        };
        let proven = sender.keepalive(challenge.cookie)?;
        ensure!(matches!(ask(&mut registrar, now(), &model, sender.router, &proven)?, Kind::KeepaliveAck(_)));
    }

    let mut samples = Vec::new();
    for _ in 0..repetitions {
        let mut messages = Vec::new();
        for _ in 0..EACH {
            for sender in &mut senders {
                messages.push((sender.router, sender.keepalive(Vec::new())?));
            }
        }
        let from = Instant::now();
        let mut acknowledged = 0;
        for (router, message) in &messages {
            let effects = registrar.handle(now(), &model, *router, REGISTRATION, message);
            acknowledged += effects.iter().filter(|e| matches!(e, Effect::Reply { .. })).count();
        }
        let took = from.elapsed();
        ensure!(acknowledged == messages.len(), "{acknowledged} of {} keepalives were answered", messages.len());
        samples.push(messages.len() as f64 / took.as_secs_f64());
    }
    let what = format!("keepalives taken on one core, {HELD} registrations held");
    Ok(Row::alone(what, "/s", Better::Higher, Cell::samples(samples)))
}

fn ask(registrar: &mut Registrar, now: Now, model: &Model, router: SocketAddrV4, message: &[u8]) -> Result<Kind> {
    let effects = registrar.handle(now, model, router, REGISTRATION, message);
    let reply = effects.iter().find_map(|e| if let Effect::Reply { bytes, .. } = e { Some(bytes) } else { None });
    Ok(control::decode(reply.context("no answer")?)?.1)
}

/// The `n`th of those that [`model`] has.
pub fn sender(n: u32, sequence: u64) -> Sender {
    let mut seed = [1; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    Sender { key: SigningKey::from_bytes(&seed), router: router(n), sequence }
}

fn router(n: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0a00_0001 + n), 4000)
}

/// The replicated state with [`HELD`] registrations, the senders' first.
pub fn model(senders: &[Sender]) -> Result<Model> {
    let mut model = Model::new();
    let gateway = Gateway {
        id: GatewayId(1),
        name: "site-1".into(),
        unicast: Ipv4Addr::new(192, 0, 2, 1),
        api: String::new(),
        node: 1,
    };
    let mut apply = |command: &Command| match model.apply(model.applied() + 1, command).refusal() {
        Some(refusal) => bail!("{refusal}"),
        None => Ok(()),
    };
    apply(&Command::PutGateway { at: 0, gateway })?;
    for n in 0..HELD {
        let public_key = senders.get(n as usize).map_or([0; 32], |s| s.key.verifying_key().to_bytes());
        let registration = Registration {
            key: RegistrationKey { protocol: ProtocolId(41), router: router(n) },
            provider: ProviderId(7),
            weight: 1,
            gateway: GatewayId(1),
            public_key,
            sequence: 1,
            name: format!("router-{n}.example"),
            registered_at: 0,
            not_after: u64::from(u32::MAX),
            chain: Vec::new(),
            draining: None,
        };
        apply(&Command::Register { at: 0, registration })?;
    }
    Ok(model)
}

/// A registrar wants somebody to trust, though no certificate is shown to it here.
fn authorities(dir: &Path) -> Result<Authorities> {
    let out = dir.join("keepalives-authority");
    let status = Process::new(dmux_binary()?)
        .args(["ca", "init", "--out"])
        .arg(&out)
        .stdout(std::process::Stdio::null())
        .status()?;
    ensure!(status.success(), "dmux ca init failed");
    Ok(Authorities::from_pem(&std::fs::read_to_string(out.join("ca.crt"))?)?)
}
