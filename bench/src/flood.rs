//! What a flood of bad messages does to good ones: the registrar alone, on one core, with real signatures and certificates.
//!
//! ```text
//!   2,000 live routers: keepalives, 500/s ─┐
//!   one that restarts, 10/s ───────────────┼──▶ a queue ──▶ Registrar::handle ──▶ acknowledged, accepted
//!   100,000 bad messages in ten seconds ───┘
//! ```
//!
//! Arrivals are on a clock of the benchmark's own, the CPU time that each message takes is measured, and who comes meanwhile waits: a
//! message's latency is from its arrival to the end of its handling, that of a challenge and of the repetition with the cookie
//! included. So other processes disturb the figures as little as can be. Making and signing messages is in no figure.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use dmux_controller::model::Model;
use dmux_controller::registration::{Authorities, Effect, Now, Registrar, RegistrarConfig};
use dmux_host::credentials::Credentials;
use dmux_wire::control::{self, Deregister, Domain, Kind, Register, RegisterBody, SessionBody};
use dmux_wire::{GatewayId, ProtocolId, ProviderId};
use ed25519_dalek::Signer;

use crate::keepalives::{REGISTRATION, SENDERS, Sender, model, sender};
use crate::process::{dmux_binary, run, thread_cpu_time};
use crate::table::{Better, Cell, Row, percentile};

/// Messages that nobody should have sent.
const BAD: u32 = 100_000;
const LASTS: Duration = Duration::from_secs(10);
/// Between two keepalives of whichever routers.
const KEEPALIVE_EVERY: Duration = Duration::from_millis(2);
/// Between two registrations with a whole chain.
const REGISTER_EVERY: Duration = Duration::from_millis(100);
/// The one router with certificates.
const CERTIFIED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 4000);
/// Where the bad ones of a proven source come from.
const KNOWN_BAD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 2), 4000);

/// Rows: keepalives and registrations, alone and in the flood.
pub fn measure(dir: &Path) -> Result<Vec<Row>> {
    let dir = dir.join("flood");
    std::fs::create_dir_all(&dir)?;
    let credentials = issue(&dir)?;
    let mut rows = Vec::new();
    for (flood, when) in [(0, "no others"), (BAD, "100 000 bad ones in 10 s")] {
        let Latencies { mut keepalives, mut registrations } = World::new(&dir, &credentials)?.play(flood)?;
        for (what, samples) in [("keepalive", &mut keepalives), ("registration", &mut registrations)] {
            for p in [50.0, 99.0] {
                let value = percentile(samples, p).context("no messages")?;
                let what = format!("{what} taken by the registrar, p{p}, {when}");
                rows.push(Row::alone(what, "µs", Better::Lower, Cell::samples(vec![value])));
            }
        }
    }
    Ok(rows)
}

/// An authority, and a router's key and chain.
fn issue(dir: &Path) -> Result<Credentials> {
    let dmux = dmux_binary()?;
    let dmux = dmux.to_str().context("the path of dmux is no UTF-8")?;
    let path = |name: &str| dir.join(name).display().to_string();
    let (authority, provider, router) = (path("authority"), path("provider"), path("router"));
    run(dmux, &["ca", "init", "--out", &authority])?;
    let of_provider = ["--ca", &authority, "--id", "7", "--protocol", "41", "--name", "bench", "--out", &provider];
    run(dmux, &[&["ca", "provider"], &of_provider[..]].concat())?;
    let address = CERTIFIED.ip().to_string();
    let of_router = ["--issuer", &provider, "--address", &address, "--name", "router", "--out", &router];
    run(dmux, &[&["ca", "router"], &of_router[..]].concat())?;
    Credentials::load(Path::new(&router)).context("the certificates just made cannot be read")
}

/// In µs.
struct Latencies {
    keepalives: Vec<f64>,
    registrations: Vec<f64>,
}

struct World<'a> {
    registrar: Registrar,
    model: Model,
    senders: Vec<Sender>,
    credentials: &'a Credentials,
    /// When everything begins, by the wall clock.
    unix: Duration,
    /// When the registrar is done with what came so far, since then.
    free: Duration,
    sequence: u64,
    nonce: u64,
    /// Messages of routers that fell victim to the flood: a keepalive that was heard, one that is forged.
    heard: Vec<(SocketAddrV4, Vec<u8>)>,
    bad_cookie: Vec<u8>,
}

impl<'a> World<'a> {
    fn new(dir: &Path, credentials: &'a Credentials) -> Result<Self> {
        let authorities = Authorities::from_pem(&std::fs::read_to_string(dir.join("authority/ca.crt"))?)?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let sequence = u64::try_from(unix.as_micros())?;
        let senders: Vec<_> = (0..SENDERS).map(|n| sender(n, sequence)).collect();
        let model = model(&senders)?;
        let registrar = Registrar::new(RegistrarConfig { gateway: GatewayId(1), authorities, secret: [7; 32] });
        let (free, heard, bad_cookie) = (Duration::ZERO, Vec::new(), Vec::new());
        let mut world =
            Self { registrar, model, senders, credentials, unix, free, sequence, nonce: 0, heard, bad_cookie };
        world.begin()?;
        Ok(world)
    }

    fn now(&self, at: Duration) -> Now {
        Now { mono: Duration::from_secs(1_000) + at, unix: self.unix + at }
    }

    /// Everybody is heard once before it counts.
    fn begin(&mut self) -> Result<()> {
        let now = self.now(Duration::ZERO);
        self.registrar.tick(now, &self.model);
        for n in 0..self.senders.len() {
            self.keepalive(Duration::ZERO, n)?;
        }
        self.registration(Duration::ZERO)?;
        let cookie = self.hello(Duration::ZERO, KNOWN_BAD)?;
        self.bad_cookie = cookie;
        self.free = Duration::ZERO;
        Ok(())
    }

    fn play(mut self, flood: u32) -> Result<Latencies> {
        let mut latencies = Latencies { keepalives: Vec::new(), registrations: Vec::new() };
        let (mut at, mut turn, mut bad) = (Duration::ZERO, 0, 0);
        let (mut keepalive, mut registration) = (KEEPALIVE_EVERY, REGISTER_EVERY / 2);
        let before = self.model.applied();
        while at < LASTS {
            let next_bad = if flood == 0 { LASTS } else { LASTS * bad / flood };
            at = next_bad.min(keepalive).min(registration);
            if at >= LASTS {
                break;
            }
            if at == next_bad {
                let (from, message) = self.bad_one(bad)?;
                let effects = self.handle(at, from, &message)?;
                let good = answer(&effects)?.is_some_and(|k| matches!(k, Kind::Accepted(_) | Kind::KeepaliveAck(_)));
                ensure!(!good, "bad message {bad} was taken for a good one");
                bad += 1;
            } else if at == keepalive {
                latencies.keepalives.push(micros(self.keepalive(at, turn % SENDERS as usize)?));
                (keepalive, turn) = (keepalive + KEEPALIVE_EVERY, turn + 1);
            } else {
                latencies.registrations.push(micros(self.registration(at)?));
                registration += REGISTER_EVERY;
            }
        }
        ensure!(bad == flood, "{bad} of {flood} bad messages were sent");
        ensure!(self.model.applied() == before, "something was written");
        Ok(latencies)
    }

    /// Waits for its turn, and takes as long as it takes.
    fn handle(&mut self, at: Duration, from: SocketAddrV4, message: &[u8]) -> Result<Vec<Effect>> {
        let start = self.free.max(at);
        let now = self.now(start);
        let began = thread_cpu_time()?;
        let effects = self.registrar.handle(now, &self.model, from, REGISTRATION, message);
        self.free = start + thread_cpu_time()?.saturating_sub(began);
        Ok(effects)
    }

    /// A router's keepalive, until it is acknowledged.
    fn keepalive(&mut self, at: Duration, n: usize) -> Result<Duration> {
        let mut cookie = Vec::new();
        loop {
            let sender = self.senders.get_mut(n).context("no such router")?;
            let (router, message) = (sender.router, sender.keepalive(std::mem::take(&mut cookie))?);
            let effects = self.handle(at, router, &message)?;
            match answer(&effects)? {
                Some(Kind::KeepaliveAck(_)) => {
                    if self.heard.len() < 1_000 {
                        self.heard.push((router, message));
                    }
                    return Ok(self.free - at);
                }
                Some(Kind::Challenge(challenge)) => cookie = challenge.cookie,
                other => bail!("a keepalive was answered with {other:?}"),
            }
        }
    }

    /// The router with certificates starts again, as it was; the first time it is new. From its first message on.
    fn registration(&mut self, at: Duration) -> Result<Duration> {
        let cookie = self.hello(at, CERTIFIED)?;
        let message = self.register(CERTIFIED, cookie, |_| ())?;
        let effects = self.handle(at, CERTIFIED, &message)?;
        for effect in &effects {
            if let Effect::Propose { token, command } = effect {
                let reply = self.model.apply(self.model.applied() + 1, command);
                let effects = self.registrar.committed(self.now(self.free), *token, Ok(reply));
                ensure!(matches!(answer(&effects)?, Some(Kind::Accepted(_))), "not accepted: {effects:?}");
                return Ok(self.free - at);
            }
        }
        match answer(&effects)? {
            Some(Kind::Accepted(_)) => Ok(self.free - at),
            other => bail!("a registration was answered with {other:?}"),
        }
    }

    fn hello(&mut self, at: Duration, from: SocketAddrV4) -> Result<Vec<u8>> {
        let message = self.register(from, Vec::new(), |request| request.chain.clear())?;
        match answer(&self.handle(at, from, &message)?)? {
            Some(Kind::Challenge(challenge)) => Ok(challenge.cookie),
            other => bail!("a first message was answered with {other:?}"),
        }
    }

    fn register(
        &mut self,
        router: SocketAddrV4,
        cookie: Vec<u8>,
        change: impl FnOnce(&mut Register),
    ) -> Result<Vec<u8>> {
        self.sequence += 1;
        self.nonce += 1;
        let body = RegisterBody {
            protocol: ProtocolId(41),
            provider: ProviderId(7),
            router,
            weight: 1,
            sequence: self.sequence,
            cookie,
            keepalive_interval_ms: 0,
            draining: false,
        };
        let body = body.encode();
        let signature = self.credentials.key.sign(&Domain::Register.signed_bytes(&body)).to_bytes().to_vec();
        let mut request = Register { body, chain: self.credentials.chain.clone(), signature };
        change(&mut request);
        Ok(control::encode(self.nonce, Kind::Register(request))?)
    }

    /// The `n`th of the flood: nine kinds in turn.
    fn bad_one(&mut self, n: u32) -> Result<(SocketAddrV4, Vec<u8>)> {
        let anywhere = SocketAddrV4::new(Ipv4Addr::from(0x0b00_0000 + n), 4000);
        let victim = n as usize % self.senders.len();
        let sender = self.senders.get(victim).context("no such router")?;
        let (router, protocol) = (sender.router, ProtocolId(41));
        let signed = |sequence, cookie: Vec<u8>, domain: Domain| {
            let body = SessionBody { protocol, router, sequence, cookie, rtt_us: 0 }.encode();
            let signature = sender.key.sign(&domain.signed_bytes(&body)).to_bytes().to_vec();
            (body, signature)
        };
        let nonce = u64::from(n);
        Ok(match n % 9 {
            // In the name of a live router: forged, heard before, signed for another purpose, dated far ahead.
            0 => {
                let (body, mut signature) = signed(sender.sequence + 1, Vec::new(), Domain::Keepalive);
                signature[0] ^= 1;
                (router, control::encode(nonce, Kind::Keepalive(control::Keepalive { body, signature }))?)
            }
            1 => self.heard.get(n as usize % self.heard.len().max(1)).context("nobody was heard")?.clone(),
            2 => {
                let (body, signature) = signed(sender.sequence + 1, Vec::new(), Domain::Keepalive);
                (router, control::encode(nonce, Kind::Deregister(Deregister { body, signature }))?)
            }
            3 => {
                let (body, signature) = signed(sender.sequence + 3_600_000_000, Vec::new(), Domain::Keepalive);
                (router, control::encode(nonce, Kind::Keepalive(control::Keepalive { body, signature }))?)
            }
            // From anywhere: cut off, too long, without a cookie, of nobody.
            4 => {
                let mut message = self.register(anywhere, vec![0; 16], |_| ())?;
                message.truncate(message.len() / 2);
                (anywhere, message)
            }
            5 => (anywhere, vec![0xff; control::MAX_CONTROL + 100]),
            6 => (anywhere, self.register(anywhere, vec![9; 16], |_| ())?),
            7 => {
                let body =
                    SessionBody { protocol, router: anywhere, sequence: self.sequence, cookie: Vec::new(), rtt_us: 0 };
                let (body, signature) = (body.encode(), vec![1; 64]);
                (anywhere, control::encode(nonce, Kind::Keepalive(control::Keepalive { body, signature }))?)
            }
            // From one source that is proven: a chain that does not certify its address.
            _ => {
                // Its cookie holds for longer than all this lasts.
                let cookie = self.bad_cookie.clone();
                let message = self.register(KNOWN_BAD, cookie, |_| ())?;
                (KNOWN_BAD, message)
            }
        })
    }
}

fn answer(effects: &[Effect]) -> Result<Option<Kind>> {
    let bytes = effects.iter().find_map(|e| if let Effect::Reply { bytes, .. } = e { Some(bytes) } else { None });
    bytes.map(|bytes| Ok(control::decode(bytes)?.1)).transpose()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
