//! What clients notice when something dies: a whole site, a gateway beside its living router, a router.
//!
//! Everything is a process and dies by SIGKILL; a client at another site sends a packet a millisecond meanwhile. Timers are
//! the defaults. [`quiet`] is the opposite: nothing dies, the machine is kept busy, and nobody may be accused.

mod internet;
mod stream;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dmux_controller::api::v1::GetRequest;
use dmux_controller::api::v1::dmux_client::DmuxClient;
use dmux_host::client::ClientLink;
use dmux_wire::ProviderId;

use self::stream::{EVERY, Stream};
use self::world::{SITES, World, provider, router_ipv6};
use crate::Options;
use crate::process::dmux_binary;
use crate::table::{Better, Cell, Row, Section, percentile};

const REPETITIONS: usize = 40;
const QUICK_REPETITIONS: usize = 3;
/// Anything that takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// A router that answered for so long without a break is settled on.
const SETTLED: Duration = Duration::from_millis(1500);
/// Longest round trip in this world, and some for the machine: an answer that is not there by then is lost.
const ANSWERED_WITHIN: Duration = Duration::from_millis(300);

struct Stage {
    world: World,
    link: Arc<ClientLink>,
}

/// Measures the section.
pub fn measure(options: &Options, dir: &Path) -> Result<Section> {
    let world = World::start(&dmux_binary()?, &options.pipeline, &dir.join("failover"))?;
    // The processes end with this thread, so the runtime must not move them to another.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let repetitions = if options.quick { QUICK_REPETITIONS } else { REPETITIONS };
    runtime.block_on(async {
        let link = Arc::new(world.client()?);
        let mut stage = Stage { world, link };
        let (mut on_next, mut lost) = (Vec::new(), Vec::new());
        for n in 0..repetitions {
            let (time, packets) = stage.site_killed(n).await.with_context(|| format!("site killed, {n}"))?;
            on_next.push(time);
            lost.push(packets);
        }
        let (mut confirmed, mut lost_beside) = (Vec::new(), Vec::new());
        for n in 0..repetitions.div_ceil(2) {
            let (time, packets) = stage.gateway_killed(n).await.with_context(|| format!("gateway killed, {n}"))?;
            confirmed.push(time);
            lost_beside.push(packets);
        }
        let mut expired = Vec::new();
        for n in 0..repetitions.div_ceil(2) {
            expired.push(stage.router_killed(n).await.with_context(|| format!("router killed, {n}"))?);
        }
        Ok(section(&mut on_next, &mut lost, &mut confirmed, &mut lost_beside, &mut expired))
    })
}

fn section(
    on_next: &mut [f64],
    lost: &mut [f64],
    confirmed: &mut [f64],
    lost_beside: &mut [f64],
    expired: &mut [f64],
) -> Section {
    let mut section = Section::new("something dies, three sites", "");
    let counts = [on_next.len(), confirmed.len(), expired.len()];
    for (what, unit, samples) in [
        ("site killed → client at another gateway is on the next choice", "ms", on_next),
        ("… packets of a client lost, one sent a millisecond", "packets", lost),
        ("gateway killed beside its living router → router confirmed through another gateway", "ms", confirmed),
        ("… packets lost by a client that has no other router", "packets", lost_beside),
        ("router killed alone → its clients are on the next choice", "ms", expired),
    ] {
        for p in [50.0, 99.0, 100.0] {
            let value = percentile(samples, p).unwrap_or(f64::NAN);
            let cell = Cell::samples(vec![value]);
            section.rows.push(Row::alone(format!("{what}, p{p}"), unit, Better::Lower, cell));
        }
    }
    section.notes.push(format!(
        "{} sites, {} gateways and {} routers killed one after the other by SIGKILL, default timers (watch_ms 40, watch_misses 4, \
         keepalive_ms 1000, expire_after_ms 2900); three sites of real processes, 5 and 15 ms from the client's one way, \
         12 ms between them; the client, the delays and all processes share the processors.",
        counts[0], counts[1], counts[2]
    ));
    section.notes.push(format!(
        "Times count from the signal to the sending of the first packet that the other router answers, with a packet every {} ms. \
         Routing (which gateway an anycast packet reaches) follows a killed gateway at once: how long BGP takes is not in the figures.",
        EVERY.as_millis()
    ));
    section
}

impl Stage {
    /// Until the client's packets have been answered by a site's router, and nobody else, for [`SETTLED`].
    async fn settled(&self, stream: &Stream, site: u8) -> Result<()> {
        let router = router_ipv6(site);
        wait(&format!("the client is settled on the router of site {site}"), async || {
            let from = Instant::now().checked_sub(SETTLED + ANSWERED_WITHIN)?;
            let recent = stream.since(from);
            let due = recent.iter().filter(|sent| sent.at.elapsed() > ANSWERED_WITHIN);
            let (mut count, mut wrong) = (0_usize, 0_usize);
            for sent in due {
                count += 1;
                wrong += usize::from(sent.by != Some(router));
            }
            // Some of a busy machine's packets are late without anything having died.
            (count > 200 && wrong == 0).then_some(())
        })
        .await
    }

    /// Kills all of site 2 and brings it back. When the client was on site 3's router, ms; how many packets it lost.
    async fn site_killed(&mut self, n: usize) -> Result<(f64, f64)> {
        let stream = Stream::start(self.link.clone(), ProviderId::ANY);
        self.settled(&stream, 2).await?;
        // At any moment of the intervals of probes and keepalives.
        tokio::time::sleep(Duration::from_millis((n as u64 * 377) % 1000)).await;
        let killed = Instant::now();
        self.world.kill(&["switch2", "controller2", "router2"])?;
        let moved = wait("the client is on the next choice", async || stream.first_by(killed, router_ipv6(3))).await?;
        tokio::time::sleep(ANSWERED_WITHIN).await;
        let lost = stream.since(killed).iter().take_while(|s| s.at < moved).filter(|s| s.by.is_none()).count();
        self.world.start_gateway(2)?;
        self.world.start_router(2)?;
        Ok((ms(moved - killed), lost as f64))
    }

    /// Kills switch and controller of site 2. When its router was site 3's in the replicated state, ms; packets lost.
    async fn gateway_killed(&mut self, n: usize) -> Result<(f64, f64)> {
        let stream = Stream::start(self.link.clone(), provider(2));
        self.settled(&stream, 2).await?;
        tokio::time::sleep(Duration::from_millis((n as u64 * 377) % 1000)).await;
        let killed = Instant::now();
        self.world.withdrawn.set(2, true);
        self.world.kill(&["switch2", "controller2"])?;
        let api = format!("http://{}", self.world.api(1)?);
        let mut client = DmuxClient::connect(api).await?;
        let adopted = wait("the router is another gateway's", async || {
            let routers = client.get_routers(GetRequest::default()).await.ok()?.into_inner().routers;
            let own = routers.iter().find(|r| r.provider == provider(2).0)?;
            (own.gateway != 2).then(Instant::now)
        })
        .await?;
        tokio::time::sleep(ANSWERED_WITHIN).await;
        let until = Instant::now().checked_sub(ANSWERED_WITHIN).unwrap_or(adopted);
        let lost = stream.since(killed).iter().take_while(|s| s.at < until).filter(|s| s.by.is_none()).count();
        self.world.start_gateway(2)?;
        self.world.withdrawn.set(2, false);
        // The router goes home: anycast takes its keepalives to site 2 again.
        let mut client = DmuxClient::connect(format!("http://{}", self.world.api(1)?)).await?;
        wait("the router is back at site 2", async || {
            let routers = client.get_routers(GetRequest::default()).await.ok()?.into_inner().routers;
            routers.iter().any(|r| r.provider == provider(2).0 && r.gateway == 2).then_some(())
        })
        .await?;
        Ok((ms(adopted - killed), lost as f64))
    }

    /// Kills the router of site 2 and brings it back. When its client was on the next choice, ms.
    async fn router_killed(&mut self, n: usize) -> Result<f64> {
        let stream = Stream::start(self.link.clone(), ProviderId::ANY);
        self.settled(&stream, 2).await?;
        tokio::time::sleep(Duration::from_millis((n as u64 * 377) % 1000)).await;
        let killed = Instant::now();
        self.world.kill(&["router2"])?;
        let moved = wait("the client is on the next choice", async || stream.first_by(killed, router_ipv6(3))).await?;
        self.world.start_router(2)?;
        Ok(ms(moved - killed))
    }
}

/// Keeps the machine busy for so long with `load` threads that do nothing but count, while a client sends; fails when a
/// controller accuses a gateway, or the client is moved.
pub fn quiet(pipeline: &Path, minutes: u64, load: usize) -> Result<()> {
    let beside = std::env::current_exe()?.parent().context("this program has no folder")?.to_owned();
    let dir = tempfile::Builder::new().prefix("quiet-").tempdir_in(beside)?;
    let world = World::start(&dmux_binary()?, pipeline, dir.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let outcome = runtime.block_on(async {
        let link = Arc::new(world.client()?);
        let stage = Stage { world, link };
        let stream = Stream::start(stage.link.clone(), ProviderId::ANY);
        stage.settled(&stream, 2).await?;
        let accusations = |world: &World| -> usize {
            let logs = SITES.map(|site| world.log(&format!("controller{site}")));
            logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("answers=false")).count()
        };
        let before = accusations(&stage.world);
        for _ in 0..load {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut x = 1_u64;
                while !stop.load(Ordering::Relaxed) {
                    x = std::hint::black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                }
            });
        }
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
        let sent = stream.since(began);
        let moved = sent.iter().filter(|s| s.by.is_some_and(|by| by != router_ipv6(2))).count();
        let lost = sent.iter().filter(|s| s.by.is_none() && s.at.elapsed() > ANSWERED_WITHIN).count();
        let accused = accusations(&stage.world) - before;
        println!(
            "{minutes} min with {load} busy threads: {} packets, {lost} without an answer, {moved} answered by another router, \
             {accused} times a gateway was taken for dead",
            sent.len()
        );
        ensure!(accused == 0 && moved == 0, "somebody was accused who lives");
        Ok(())
    });
    stop.store(true, Ordering::Relaxed);
    outcome
}

async fn wait<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
