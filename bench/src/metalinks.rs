//! Ten thousand metalinks on one gateway, through the real thing: three switches, three controllers, and endpoints that
//! discover, attach, connect and renew as `dmux endpoint` does.
//!
//! ```text
//!   endpoints (here), many a port ── Connect ─▶ switch ── punt ─▶ controller ─▶ Raft ─▶ switch ─▶ Connected
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use dmux_controller::api::v1::access_client::AccessClient;
use dmux_controller::api::v1::dmux_client::DmuxClient;
use dmux_controller::api::v1::{AccessLink, AccessLinkName, GetRequest, Metanet, MetanetName};
use dmux_host::endpoint::{Action, EndpointConfig, EndpointCore, Event, Now, Timers, Wanted};
use dmux_host::link::{FrameLink, LinkSpec, MAX_FRAME};
use dmux_wire::metalink::{Lease, MetanetId};
use dmux_wire::{MacAddr, ProtocolId, ProviderId};
use tokio::task::JoinSet;

use crate::Options;
use crate::process::{cpu_time, dmux_binary};
use crate::site::{LAN, LAN_GATEWAY, Site};
use crate::table::{Better, Cell, Row, Section, percentile};

/// Ports of the access LAN.
const PORTS: u8 = 4;
/// Endpoints; each connects to all [`METANETS`].
const ENDPOINTS: u16 = 5_000;
const QUICK_ENDPOINTS: u16 = 100;
const METANETS: [ProtocolId; 2] = [ProtocolId(41), ProtocolId(43)];
/// Connects a second.
const CONNECTS_PER_SECOND: u32 = 500;
/// Of each metalink, bit/s.
const RATE: u64 = 1_000_000;
/// How long renewing is watched: longer than a short-term lease, so that each is renewed twice.
const WATCHED: Duration = Duration::from_secs(70);
const QUICK_WATCHED: Duration = Duration::from_secs(25);
/// For what the controllers use without metalinks.
const IDLE: Duration = Duration::from_secs(10);
const READY_WITHIN: Duration = Duration::from_secs(60);
/// After the last endpoint has begun.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// Frames that wait for the task with the endpoints.
const QUEUE: usize = 4096;

/// Measures the section.
pub fn measure(options: &Options, dir: &Path) -> Result<Section> {
    let dmux = dmux_binary()?;
    let site = Site::start(&dmux, &options.pipeline, &dir.join("lan"), PORTS)?;
    // The site's processes end with this thread, so the runtime must not move them to another.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (endpoints, watched) = if options.quick { (QUICK_ENDPOINTS, QUICK_WATCHED) } else { (ENDPOINTS, WATCHED) };
    runtime.block_on(run(site, endpoints, watched))
}

async fn run(mut site: Site, endpoints: u16, watched: Duration) -> Result<Section> {
    promise(&mut site, endpoints).await?;
    let pid = *site.controllers.get(&LAN_GATEWAY).context("no controller at the LAN")?;
    let idle = {
        let before = cpu_time(pid)?;
        tokio::time::sleep(IDLE).await;
        share(cpu_time(pid)?.saturating_sub(before), IDLE)
    };

    let mut lan = Lan::open(&site, endpoints)?;
    let metalinks = usize::from(endpoints) * METANETS.len();
    lan.connect().await?;
    ensure!(lan.connected.len() == metalinks, "{} of {metalinks} are connected", lan.connected.len());
    let in_switch = entries(&site, "metalink_rx").await?;
    ensure!(in_switch >= metalinks as u64, "metalink_rx has {in_switch} entries for {metalinks} metalinks");

    let (before, began) = (cpu_time(pid)?, Instant::now());
    let renewed = lan.renewed;
    lan.until(began + watched).await?;
    let busy = share(cpu_time(pid)?.saturating_sub(before), began.elapsed());
    let renewals = f64::from(lan.renewed - renewed) / began.elapsed().as_secs_f64();
    site.check()?;
    ensure!(lan.gone == 0, "{} metalinks went, though they were renewed", lan.gone);
    ensure!(lan.renewed > renewed, "nothing was renewed");

    let mut section = Section::new("10 000 metalinks on one gateway", "");
    let mut row = |what: String, unit: &str, value| {
        section.rows.push(Row::alone(what, unit, Better::Lower, Cell::samples(vec![value])));
    };
    for p in [50.0, 99.0] {
        let value = percentile(&mut lan.connected, p).context("nothing was connected")?;
        row(format!("Connect → Connected, {CONNECTS_PER_SECOND}/s until {metalinks} are there, p{p}"), "ms", value);
    }
    row("controller of the gateway, nothing to do".to_owned(), "% of a core", idle);
    row(format!("the same with {metalinks} short-term leases of 60 s, {renewals:.0} renewals/s"), "% of a core", busy);
    section.notes.push(format!(
        "{endpoints} endpoints on {PORTS} ports discover, attach and ask for {} metalinks each; three `dmux switch` and three \
         `dmux controller` processes with default timers, sled on the same disk, sharing the processors with the endpoints. A \
         Connect is counted from when its endpoint is attached; {} requests were refused and repeated. Connected says that the claim is \
         replicated and the switch has its entries. None of the leases ended in {} s.",
        METANETS.len(),
        lan.refused,
        watched.as_secs()
    ));
    Ok(section)
}

/// Waits for the cluster, and puts the metanets and the access link.
async fn promise(site: &mut Site, endpoints: u16) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let why = match try_promise(site, endpoints).await {
            Ok(()) => break,
            Err(why) => why,
        };
        site.check()?;
        ensure!(Instant::now() < deadline, "the cluster is not ready: {why:#}");
        tokio::time::sleep(POLL).await;
    }
    while entries(site, "access_vlan").await? == 0 {
        site.check()?;
        ensure!(Instant::now() < deadline, "the switch does not have the access link");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

async fn try_promise(site: &Site, endpoints: u16) -> Result<()> {
    let mut access = AccessClient::connect(api(site)?).await?;
    for protocol in METANETS {
        let id = MetanetName { protocol: protocol.0.into(), provider: 0 };
        let metanet =
            Metanet { id: Some(id), name: format!("net {protocol}"), admit_up_to: Some(RATE), ..Metanet::default() };
        access.put_metanet(metanet).await?;
    }
    let capacity = RATE * u64::from(endpoints) * METANETS.len() as u64;
    let id = AccessLinkName { gateway: LAN_GATEWAY.into(), name: LAN.to_owned() };
    access.put_access_link(AccessLink { id: Some(id), capacity, ..AccessLink::default() }).await?;
    Ok(())
}

fn api(site: &Site) -> Result<String> {
    Ok(format!("http://{}", site.sockets.get(&LAN_GATEWAY).context("no gateway at the LAN")?.api))
}

/// Entries that the controller has in a table of the LAN's switch.
async fn entries(site: &Site, table: &str) -> Result<u64> {
    let mut client = DmuxClient::connect(api(site)?).await?;
    let switches =
        client.get_switches(GetRequest { local: true, ..GetRequest::default() }).await?.into_inner().switches;
    let tables = switches.iter().flat_map(|switch| &switch.tables);
    Ok(tables.filter(|t| t.table == table).map(|t| t.entries).sum())
}

fn share(cpu: Duration, of: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / of.as_secs_f64()
}

/// The endpoints, and their links.
struct Lan {
    began: Instant,
    unix: Duration,
    links: Vec<std::sync::Arc<FrameLink>>,
    frames: tokio::sync::mpsc::Receiver<Vec<u8>>,
    _receivers: JoinSet<()>,
    endpoints: Vec<Endpoint>,
    /// When which endpoint has something to do; others may be here, too.
    due: BinaryHeap<Reverse<(Duration, usize)>>,
    /// Of each metalink, ms.
    connected: Vec<f64>,
    renewed: u32,
    gone: u32,
    refused: u32,
}

struct Endpoint {
    core: EndpointCore,
    /// When it was attached first.
    attached: Option<Duration>,
}

const fn mac(n: u16) -> MacAddr {
    let [high, low] = n.to_be_bytes();
    MacAddr([2, 1, 0, 0, high, low])
}

/// Which endpoint a frame is for.
fn receiver(frame: &[u8]) -> Option<usize> {
    match frame.first_chunk()? {
        [2, 1, 0, 0, high, low] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

impl Lan {
    fn open(site: &Site, endpoints: u16) -> Result<Self> {
        let sockets = site.sockets.get(&LAN_GATEWAY).context("no gateway at the LAN")?;
        let (incoming, frames) = tokio::sync::mpsc::channel(QUEUE);
        let (mut links, mut receivers) = (Vec::new(), JoinSet::new());
        for [remote, local] in &sockets.lan {
            let link = std::sync::Arc::new(FrameLink::open(LinkSpec { local: *local, remote: *remote })?);
            let (from, to) = (link.clone(), incoming.clone());
            receivers.spawn(async move {
                let mut buffer = vec![0; MAX_FRAME];
                while let Ok(length) = from.receive(&mut buffer).await {
                    if to.send(buffer[..length].to_vec()).await.is_err() {
                        return;
                    }
                }
            });
            links.push(link);
        }
        let wanted = METANETS.map(|protocol| Wanted {
            metanet: MetanetId { protocol, provider: ProviderId::ANY },
            rate: RATE,
            lease: Lease::Short,
        });
        let endpoint = |n: u16| {
            let config = EndpointConfig { mac: mac(n), wanted: wanted.to_vec(), timers: Timers::default() };
            let mut seed = [3; 32];
            seed[..2].copy_from_slice(&n.to_be_bytes());
            Endpoint { core: EndpointCore::new(config, None, seed), attached: None }
        };
        Ok(Self {
            began: Instant::now(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH)?,
            links,
            frames,
            _receivers: receivers,
            endpoints: (0..endpoints).map(endpoint).collect(),
            due: BinaryHeap::new(),
            connected: Vec::new(),
            renewed: 0,
            gone: 0,
            refused: 0,
        })
    }

    fn now(&self) -> Now {
        let mono = self.began.elapsed();
        Now { mono, unix: self.unix + mono }
    }

    /// Starts the endpoints at their rate, and waits for all their metalinks.
    async fn connect(&mut self) -> Result<()> {
        let every = Duration::from_secs(METANETS.len() as u64) / CONNECTS_PER_SECOND;
        let began = Instant::now();
        for n in 0..self.endpoints.len() {
            self.until(began + every * u32::try_from(n)?).await?;
            let now = self.now();
            let actions = self.endpoints[n].core.start(now);
            self.perform(n, actions).await?;
        }
        let deadline = Instant::now() + CONNECTED_WITHIN;
        while self.connected.len() < self.endpoints.len() * METANETS.len() && Instant::now() < deadline {
            self.until(Instant::now() + POLL).await?;
        }
        Ok(())
    }

    /// Lets the endpoints go on until then.
    async fn until(&mut self, end: Instant) -> Result<()> {
        loop {
            let now = Instant::now();
            let due = self.due.peek().map(|Reverse((at, _))| self.began + *at);
            if let Some(due) = due.filter(|due| *due <= now)
                && due < end
            {
                let Some(Reverse((_, n))) = self.due.pop() else { bail!("the heap is empty") };
                let at = self.now();
                let actions = self.endpoints[n].core.tick(at);
                self.perform(n, actions).await?;
                continue;
            }
            let wake = due.map_or(end, |due| due.min(end));
            match tokio::time::timeout_at(wake.into(), self.frames.recv()).await {
                Ok(Some(frame)) => {
                    let Some(n) = receiver(&frame).filter(|n| *n < self.endpoints.len()) else { continue };
                    let at = self.now();
                    let actions = self.endpoints[n].core.frame(at, &frame);
                    self.perform(n, actions).await?;
                }
                Ok(None) => bail!("the links are gone"),
                Err(_) if Instant::now() >= end => return Ok(()),
                Err(_) => {}
            }
        }
    }

    async fn perform(&mut self, n: usize, actions: Vec<Action>) -> Result<()> {
        let now = self.began.elapsed();
        for action in actions {
            match action {
                Action::Send(frame) => self.links[n % self.links.len()].send(&frame).await?,
                Action::Tell(Event::Attached { .. }) => {
                    self.endpoints[n].attached.get_or_insert(now);
                }
                Action::Tell(Event::Connected(_)) => {
                    let since = self.endpoints[n].attached.context("connected before it was attached")?;
                    self.connected.push((now - since).as_secs_f64() * 1e3);
                }
                Action::Tell(Event::Renewed(_)) => self.renewed += 1,
                Action::Tell(Event::Gone { .. }) => self.gone += 1,
                Action::Tell(Event::Refused { code, text, .. }) => {
                    // A controller that has no leader yet says so; the endpoint asks again by itself.
                    eprintln!("endpoint {n} is refused: {code:?}: {text}");
                    self.refused += 1;
                }
                Action::Tell(_) => {}
            }
        }
        if let Some(at) = self.endpoints[n].core.deadline() {
            self.due.push(Reverse((at, n)));
        }
        Ok(())
    }
}
