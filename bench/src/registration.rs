//! From a router's registration to the entries in all switches, through the real thing: three switches, three controllers.
//!
//! ```text
//!   router (here) ── register ─▶ switch ── punt ─▶ controller ─▶ Raft ─▶ accepted ─▶ router      t = 0
//!                                                                  └▶ each controller ─▶ its switch
//!   watchers (here), one a switch ── P4Runtime Read of the two entries, again and again ─▶ t of the last switch
//! ```
//!
//! A router's entry in `demux` is written after the entry in `router` that it refers to, so a switch that has `demux` and
//! `return_source` forwards to the router and takes its returns.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use dmux_controller::api::v1::registry_client::RegistryClient;
use dmux_controller::api::v1::revoke_request::Key;
use dmux_controller::api::v1::{RevokeRequest, UnrevokeRequest};
use dmux_host::credentials::Credentials;
use dmux_host::link::{FrameLink, LinkSpec, MAX_FRAME};
use dmux_host::router::{Action, Event, Now, RouterConfig, RouterCore, Timers};
use dmux_host::station::{Incoming, Station};
use dmux_p4rt::client::{Events, Session, Target};
use dmux_p4rt::p4::v1::Entity;
use dmux_tables::{AnyKey, DemuxKey, ReturnSourceKey};
use dmux_wire::DMUX_PORT;
use tokio::task::JoinSet;

use crate::Options;
use crate::process::dmux_binary;
use crate::site::{DEVICE_ID, GATEWAYS, PROTOCOL, PROVIDER, REGISTRATION, Site, gateway_mac, host_address, host_mac};
use crate::table::{Better, Cell, Row, Section, number, percentile};

const REGISTRATIONS: u16 = 240;
const QUICK_REGISTRATIONS: u16 = 12;
/// Routers whose key is revoked.
const REVOCATIONS: u16 = 120;
const QUICK_REVOCATIONS: u16 = 6;
/// Registrations before the first that counts.
const WARM_UP: u16 = 6;
const FIRST_PORT: u16 = 4000;
/// Certificates, elections and the first reconciliation take a while on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A registration that has not arrived everywhere by then never will.
const ARRIVES_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);
/// Between two reads of a watcher: the resolution of the figures. Shorter ones take the processors from what is measured.
const WATCH_POLL: Duration = Duration::from_micros(500);

/// Measures the section.
pub fn measure(options: &Options, dir: &Path) -> Result<Section> {
    let dmux = dmux_binary()?;
    let site = Site::start(&dmux, &options.pipeline, &dir.join("site"), 0)?;
    // The site's processes end with this thread, so the runtime must not move them to another.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (count, revocations) =
        if options.quick { (QUICK_REGISTRATIONS, QUICK_REVOCATIONS) } else { (REGISTRATIONS, REVOCATIONS) };
    runtime.block_on(run(site, count, revocations))
}

async fn run(mut site: Site, count: u16, revocations: u16) -> Result<Section> {
    let watchers = watchers(&mut site).await?;
    let mut hosts = BTreeMap::new();
    for gateway in 1..=GATEWAYS {
        hosts.insert(gateway, Host::open(&site, gateway)?);
    }
    let (mut answered, mut everywhere, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..WARM_UP + count {
        let gateway = 1 + (n % u16::from(GATEWAYS)) as u8;
        let host = hosts.get_mut(&gateway).context("no host at the gateway")?;
        let times = once(host, &watchers, FIRST_PORT + n).await;
        site.check()?;
        let times = times.with_context(|| format!("registration {n}, at gateway {gateway}"))?;
        if n >= WARM_UP {
            answered.push(milliseconds(times.answered));
            everywhere.push(milliseconds(times.everywhere));
            gone.push(milliseconds(times.gone));
        }
    }
    let mut revoked = Vec::new();
    for n in 0..revocations {
        let gateway = 1 + (n % u16::from(GATEWAYS)) as u8;
        let host = hosts.get_mut(&gateway).context("no host at the gateway")?;
        // Asked of a gateway that does not hear the router.
        let asked = site.sockets.get(&(1 + gateway % GATEWAYS)).context("no such gateway")?.api;
        let took = revoke(host, &watchers, FIRST_PORT + WARM_UP + count + n, asked).await;
        site.check()?;
        revoked.push(milliseconds(took.with_context(|| format!("revocation {n}, of a router at gateway {gateway}"))?));
    }

    let mut section = Section::new("registration, three gateways", "");
    let figures = [
        ("accepted → entries in all three switches", &mut everywhere),
        ("first datagram → accepted (cookie, signature, Raft)", &mut answered),
        ("farewell sent → entries gone from all three switches", &mut gone),
        ("key revoked by an operator → entries gone from all three switches", &mut revoked),
    ];
    for (what, samples) in figures {
        for p in [50.0, 99.0] {
            let value = percentile(samples, p).context("no registrations")?;
            section.rows.push(Row::alone(format!("{what}, p{p}"), "ms", Better::Lower, Cell::samples(vec![value])));
        }
    }
    section.notes.push(format!(
        "{count} registrations one after the other, at the three gateways in turn; each leaves again before the next. Three `dmux \
         switch` and three `dmux controller` processes with default timers, links without delay, sled on the same disk."
    ));
    section.notes.push(format!(
        "{revocations} revocations, each asked of a controller that does not hear the router, by gRPC; counted from the call. It is \
         taken back before the next."
    ));
    section.notes.push(format!(
        "A watcher a switch reads the router's entries of `demux` and `return_source` by P4Runtime, with {} ms between two reads, so \
         that is the resolution; watchers, router and the six processes share the processors.",
        number(milliseconds(WATCH_POLL))
    ));
    Ok(section)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Read-only sessions with all switches, once every controller has brought its switch to life.
async fn watchers(site: &mut Site) -> Result<Vec<(Session, Events)>> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut sessions = Vec::new();
    for gateway in 1..=GATEWAYS {
        let address = site.sockets.get(&gateway).context("no such gateway")?.p4runtime;
        loop {
            let target = Target::new(format!("http://{address}"), DEVICE_ID);
            if let Ok((session, events)) = Session::connect(target, None).await
                && session.read_table(0).await.is_ok_and(|entries| !entries.is_empty())
            {
                sessions.push((session, events));
                break;
            }
            site.check()?;
            if Instant::now() >= deadline {
                bail!("switch {gateway} has no entries after {} s", READY_WITHIN.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(sessions)
}

/// How long one registration took.
struct Times {
    answered: Duration,
    everywhere: Duration,
    gone: Duration,
}

async fn once(host: &mut Host, watchers: &[(Session, Events)], port: u16) -> Result<Times> {
    let router = SocketAddrV4::new(host.address, port);
    let mut core = host.router(router);
    let appear = Watch::start(watchers, router, true);
    let began = Instant::now();
    host.perform(core.start(host.now()), router).await?;
    host.until(&mut core, router, |event| matches!(event, Event::Registered { .. }))
        .await
        .context("it was not accepted")?;
    let accepted = Instant::now();
    let arrived = appear.last().await.context("its entries did not arrive everywhere")?;

    let vanish = Watch::start(watchers, router, false);
    let left = Instant::now();
    host.perform(core.stop(host.now()), router).await?;
    host.until(&mut core, router, |event| matches!(event, Event::Left { .. }))
        .await
        .context("its farewell was not answered")?;
    let vanished = vanish.last().await.context("its entries did not go everywhere")?;
    Ok(Times {
        answered: accepted - began,
        // Some switches have the entries before the router has its answer.
        everywhere: arrived.saturating_duration_since(accepted),
        gone: vanished - left,
    })
}

/// Registers a router, and revokes its certificate's key. Returns how long its entries stayed after the call.
async fn revoke(host: &mut Host, watchers: &[(Session, Events)], port: u16, asked: SocketAddr) -> Result<Duration> {
    let router = SocketAddrV4::new(host.address, port);
    let mut core = host.router(router);
    let appear = Watch::start(watchers, router, true);
    host.perform(core.start(host.now()), router).await?;
    host.until(&mut core, router, |event| matches!(event, Event::Registered { .. }))
        .await
        .context("it was not accepted")?;
    appear.last().await.context("its entries did not arrive everywhere")?;

    let mut registry = RegistryClient::connect(format!("http://{asked}")).await?;
    let certificate = host.credentials.chain.first().context("a router without certificates")?.clone();
    let vanish = Watch::start(watchers, router, false);
    let began = Instant::now();
    let request = RevokeRequest { note: String::new(), key: Some(Key::Certificate(certificate)) };
    let reply = registry.revoke(request).await?.into_inner();
    ensure!(reply.registrations == 1, "{} registrations went with the key", reply.registrations);
    let vanished = vanish.last().await.context("its entries did not go everywhere")?;
    registry.unrevoke(UnrevokeRequest { fingerprint: reply.fingerprint }).await?;
    Ok(vanished - began)
}

/// One reader a switch, each until the router's entries are there (or gone).
struct Watch(JoinSet<Result<Instant>>);

impl Watch {
    fn start(watchers: &[(Session, Events)], router: SocketAddrV4, wanted: bool) -> Self {
        let mut tasks = JoinSet::new();
        for (session, _) in watchers {
            tasks.spawn(until_seen(session.clone(), router, wanted));
        }
        Self(tasks)
    }

    /// When the last switch was done.
    async fn last(mut self) -> Result<Instant> {
        let mut last = None;
        while let Some(seen) = self.0.join_next().await {
            last = last.max(Some(seen??));
        }
        last.context("nobody watches")
    }
}

async fn until_seen(session: Session, router: SocketAddrV4, wanted: bool) -> Result<Instant> {
    let demux = AnyKey::from(DemuxKey { protocol: PROTOCOL, provider: PROVIDER });
    let source = AnyKey::from(ReturnSourceKey { src: *router.ip(), src_port: router.port(), protocol: PROTOCOL });
    let request: Vec<Entity> = [demux, source].iter().map(|key| key.encode().into()).collect();
    let deadline = Instant::now() + ARRIVES_WITHIN;
    loop {
        let found = session.read(request.clone()).await?.len();
        let now = Instant::now();
        if found == if wanted { request.len() } else { 0 } {
            return Ok(now);
        }
        ensure!(
            now < deadline,
            "a switch has {found} of {} entries after {} s",
            request.len(),
            ARRIVES_WITHIN.as_secs()
        );
        tokio::time::sleep(WATCH_POLL).await;
    }
}

/// A host at a gateway, without an interface of the kernel's: its link carries frames in UDP datagrams.
struct Host {
    link: FrameLink,
    station: Station,
    credentials: Credentials,
    address: Ipv4Addr,
    began: Instant,
    buffer: Vec<u8>,
    registered: u32,
}

impl Host {
    fn open(site: &Site, gateway: u8) -> Result<Self> {
        let sockets = site.sockets.get(&gateway).context("no such gateway")?;
        let address = host_address(gateway);
        Ok(Self {
            link: FrameLink::open(LinkSpec { local: sockets.host, remote: sockets.host_far })?,
            station: Station::new(host_mac(gateway), gateway_mac(gateway), address, 1),
            credentials: Credentials::load(&site.dir.join(format!("router{gateway}")))?,
            address,
            began: Instant::now(),
            buffer: vec![0; MAX_FRAME],
            registered: 0,
        })
    }

    /// A router at this host. Nonces need to differ from each other only: nobody attacks a benchmark.
    fn router(&mut self, router: SocketAddrV4) -> RouterCore {
        let config = RouterConfig {
            registration: SocketAddrV4::new(REGISTRATION, DMUX_PORT),
            router,
            protocol: PROTOCOL,
            provider: PROVIDER,
            weight: 1,
            keepalive: None,
            timers: Timers { refused_retry: Duration::from_millis(500), ..Timers::default() },
        };
        self.registered += 1;
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&self.registered.to_be_bytes());
        seed[4..8].copy_from_slice(&self.address.octets());
        RouterCore::new(config, self.credentials.clone(), seed)
    }

    fn now(&self) -> Now {
        Now { mono: self.began.elapsed(), unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    /// Sends what the core wants sent; returns what it tells.
    async fn perform(&self, actions: Vec<Action>, router: SocketAddrV4) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for action in actions {
            match action {
                Action::Send { to, bytes } => self.link.send(&self.station.datagram(router, to, &bytes)?).await?,
                Action::Tell(event) => events.push(event),
            }
        }
        Ok(events)
    }

    /// Lets the router run until it tells the event.
    async fn until(
        &mut self,
        core: &mut RouterCore,
        router: SocketAddrV4,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + ARRIVES_WITHIN;
        loop {
            let due = core.deadline().map_or(ARRIVES_WITHIN, |at| at.saturating_sub(self.began.elapsed()));
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = tokio::time::timeout(due, self.link.receive(&mut buffer)).await;
            let mut actions = match received {
                Ok(length) => match self.station.incoming(&buffer[..length?]) {
                    Incoming::Datagram { from, to, payload } if to == router => {
                        core.datagram(self.now(), from, payload)
                    }
                    Incoming::Answer(frame) => {
                        self.link.send(&frame).await?;
                        Vec::new()
                    }
                    _ => Vec::new(),
                },
                Err(_) => Vec::new(),
            };
            self.buffer = buffer;
            actions.extend(core.tick(self.now()));
            for event in self.perform(actions, router).await? {
                if wanted(&event) {
                    return Ok(());
                }
                if let Event::Refused { code, text, .. } = event {
                    // A controller that has no leader yet says so; the core tries again by itself.
                    eprintln!("registration refused, trying again: {code:?}: {text}");
                }
            }
            ensure!(Instant::now() < deadline, "nothing for {} s", ARRIVES_WITHIN.as_secs());
        }
    }
}
