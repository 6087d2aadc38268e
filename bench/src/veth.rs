//! Packets per second over veth: our switch and BMv2 with the same program, entries and frames.
//!
//! ```text
//!   dmux-bench ── `dmux-bench internal veth` in a network namespace of its own
//!                    generator ─▶ g0 ═ s0 ─▶ switch ─▶ s1 ═ k0   counted by the kernel
//!                                            (one pair of pairs a switch; the one not measured is stopped)
//! ```
//!
//! The sink is the interface's own counter, so it costs nothing; that the right frames come out is checked, byte by byte,
//! before and after. Frames are whole and have their checksums: no offload of the kernel has anything to do.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dmux_p4rt::p4::v1::TableEntry;
use serde::{Deserialize, Serialize};

use crate::Options;
use crate::churn::{self, Churn};
use crate::gateway::{Exchange, PORTS, Pipeline, Way, entries, exchange};
use crate::generator::{Generator, Rate, Sink};
use crate::netns;
use crate::process::cpu_time;
use crate::router;
use crate::search::{Ask, Found, TOLERATED_LOSS, Trial, search};
use crate::switches::{Kind, Switch};
use crate::table::{Better, Cell, Figure, Row, Section, number};

const SIZES: [usize; 3] = [64, 128, 1400];
/// Size of the frames that are sent while entries are written; one of [`SIZES`].
const CHURN_BYTES: usize = 128;
/// Flows of the frames that are sent, each to a router or a prefix of its own.
const FLOWS: u32 = 1024;
/// Frames whose every byte is compared.
const CHECKED_FRAMES: u32 = 64;
/// After the last frame was sent, frames still on their way are waited for until none has come for this long.
const DRAIN_QUIET: Duration = Duration::from_millis(40);
const DRAIN_AT_MOST: Duration = Duration::from_secs(2);
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Subject {
    /// The gateway's forward path.
    Gateway,
    /// The plain IPv4 router.
    Router,
}

impl Subject {
    fn title(self) -> &'static str {
        match self {
            Self::Gateway => "packets over veth, gateway's forward path",
            Self::Router => "packets over veth, IPv4 router",
        }
    }

    fn entries(self, pipeline: &Pipeline) -> Result<Vec<TableEntry>> {
        match self {
            Self::Gateway => entries(),
            Self::Router => router::entries(&pipeline.info, router::ROUTES),
        }
    }

    fn exchange(self, flow: u32, bytes: usize) -> Result<Exchange> {
        match self {
            Self::Gateway => exchange(Way::Named, flow, bytes),
            Self::Router => router::exchange(router::ROUTES, flow, bytes),
        }
    }
}

/// What is printed by the child that measures.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    /// Per size: ours, BMv2's.
    sizes: Vec<(usize, [Side; 2])>,
    /// Ours and BMv2's, of the gateway.
    churn: Option<[Result<Churn, String>; 2]>,
    entries: usize,
}

/// One switch at one size.
#[derive(Debug, Serialize, Deserialize)]
enum Side {
    Absent(String),
    Found { pps: Vec<f64>, cpu_ns: Vec<f64>, flood: Vec<f64>, sender_limited: bool },
}

/// Measures the section in a child process, since entering a namespace changes a whole process.
pub fn measure(options: &Options, subject: Subject, pipeline: &Path) -> Result<Section> {
    let own = std::env::current_exe().context("this program cannot find its own file")?;
    let mut command = Command::new(own);
    command.args(["internal", "veth", "--pipeline"]).arg(pipeline);
    if subject == Subject::Router {
        command.args(["--subject", "router"]);
    }
    if options.quick {
        command.arg("--quick");
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stdout).trim());
    }
    let measured: Measured = serde_json::from_slice(&output.stdout).context("the child's answer")?;
    Ok(section(subject, &measured, options.quick))
}

fn section(subject: Subject, measured: &Measured, quick: bool) -> Section {
    let mut section = Section::new(subject.title(), Kind::Bmv2.title());
    let mut limited = Vec::new();
    for (bytes, sides) in &measured.sizes {
        let cell = |side: &Side, what: fn(&Side) -> Vec<f64>| match side {
            Side::Absent(why) => Cell::Absent(why.clone()),
            found => match what(found) {
                none if none.is_empty() => Cell::Absent("none: every rate loses more".to_owned()),
                samples => Cell::samples(samples),
            },
        };
        let lossless = format!("loss < {} %", TOLERATED_LOSS * 100.0);
        let figures: [Figure<'_, Side, Vec<f64>>; 3] = [
            (&lossless, "packets/s", Better::Higher, Side::pps),
            ("under a flood", "packets/s", Better::Higher, Side::flood),
            ("CPU of the switch", "ns/packet", Better::Lower, Side::cpu_ns),
        ];
        for (what, unit, better, figure) in figures {
            let [ours, peer] = [cell(&sides[0], figure), cell(&sides[1], figure)];
            let what = format!("{bytes} bytes, {what}");
            section.rows.push(Row { what, unit: unit.to_owned(), better, ours, peer });
        }
        if matches!(sides[0], Side::Found { sender_limited: true, .. }) {
            limited.push(bytes.to_string());
        }
    }
    if let Some(churn) = &measured.churn {
        let figures: [Figure<'_, Churn, f64>; 3] = [
            ("frames lost", "of a million", Better::Lower, Churn::lost_of_a_million),
            ("frames sent", "packets/s", Better::Higher, |c| c.rate),
            ("entries written", "entries/s", Better::Higher, |c| c.writes),
        ];
        for (what, unit, better, figure) in figures {
            let [ours, peer] = churn.each_ref().map(|c| match c {
                Ok(churn) => Cell::samples(vec![figure(churn)]),
                Err(why) => Cell::Absent(why.clone()),
            });
            let what =
                format!("{CHURN_BYTES} bytes, while {} entries are written: {what}", number(Churn::WRITTEN.into()));
            section.rows.push(Row { what, unit: unit.to_owned(), better, ours, peer });
        }
        section.notes.push(format!(
            "While entries are written (half of them inserts, then all deleted again, batches of 100), frames come at {} % of the rate \
             that was just found for that switch; generator, client and server share the processors with it.",
            churn::SHARE * 100.0
        ));
    }
    section.notes.push(format!(
        "{} entries on both switches; {FLOWS} flows, each to a router or prefix of its own; sizes without frame check sequence (what \
         leaves the gateway is 8 bytes longer). {CHECKED_FRAMES} frames of each size are compared byte by byte with what must come out.",
        measured.entries
    ));
    section.notes.push(format!(
        "{} repetitions, the switches in turn, the other one stopped; a rate counts when a trial of {} s loses less than {} % \
         (bisection). CPU is user and system time of the whole process at that rate (under the flood where there is none). The kernel's work of putting a frame into the \
         switch's socket is in the sender's time, that of bringing it out is in the switch's.",
        repetitions(quick),
        number(long(quick).as_secs_f64()),
        TOLERATED_LOSS * 100.0
    ));
    if !limited.is_empty() {
        section.notes.push(format!(
            "At {} bytes the sender offered all that one core could, and our switch lost none: it could do more.",
            limited.join(" and ")
        ));
    }
    section
}

impl Side {
    fn of(found: Vec<Found>) -> Self {
        let of = |f: fn(&Found) -> f64| found.iter().map(f).collect();
        Self::Found {
            pps: found.iter().filter_map(|f| f.at).map(|at| at.delivered).collect(),
            cpu_ns: of(Found::cpu_ns),
            flood: of(|f| f.flood.delivered),
            sender_limited: found.iter().any(|f| f.sender_limited),
        }
    }

    fn pps(&self) -> Vec<f64> {
        if let Self::Found { pps, .. } = self { pps.clone() } else { Vec::new() }
    }

    fn flood(&self) -> Vec<f64> {
        if let Self::Found { flood, .. } = self { flood.clone() } else { Vec::new() }
    }

    fn cpu_ns(&self) -> Vec<f64> {
        if let Self::Found { cpu_ns, .. } = self { cpu_ns.clone() } else { Vec::new() }
    }
}

const fn repetitions(quick: bool) -> usize {
    if quick { 1 } else { 3 }
}

const fn short(quick: bool) -> Duration {
    Duration::from_millis(if quick { 200 } else { 500 })
}

const fn long(quick: bool) -> Duration {
    Duration::from_millis(if quick { 500 } else { 2000 })
}

/// The child: prints [`Measured`], or why nothing could be measured and fails.
pub fn run(subject: Subject, pipeline: &Path, quick: bool) -> Result<()> {
    let measured = netns::enter().and_then(|()| measure_here(subject, &Pipeline::load(pipeline)?, quick));
    match measured {
        Ok(measured) => println!("{}", serde_json::to_string(&measured)?),
        Err(error) => {
            println!("{error:#}");
            std::process::exit(1);
        }
    }
    Ok(())
}

fn measure_here(subject: Subject, pipeline: &Pipeline, quick: bool) -> Result<Measured> {
    let dir = tempfile::tempdir()?;
    let entries = subject.entries(pipeline)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut sides = Vec::new();
    for (n, kind) in [Kind::Dmux, Kind::Bmv2].into_iter().enumerate() {
        let side = match kind.program() {
            Err(why) => Err(why.to_string()),
            Ok(_) => {
                eprintln!("{}: installing {} entries", kind.title(), entries.len());
                let bench = Bench::start(&runtime, kind, n, pipeline, dir.path())?;
                runtime.block_on(bench.switch.install(&entries))?;
                bench.pause()?;
                Ok(bench)
            }
        };
        sides.push(side);
    }

    let mut sizes = Vec::new();
    for bytes in SIZES {
        let mut found = [Vec::new(), Vec::new()];
        for _ in 0..repetitions(quick) {
            for (found, side) in found.iter_mut().zip(&mut sides) {
                if let Ok(bench) = side {
                    bench.resume()?;
                    found.push(bench.rate(subject, bytes, quick)?);
                    bench.pause()?;
                }
            }
        }
        let [ours, theirs] = found;
        let side = |n: usize, found| match &sides[n] {
            Ok(_) => Side::of(found),
            Err(why) => Side::Absent(why.clone()),
        };
        sizes.push((bytes, [side(0, ours), side(1, theirs)]));
    }
    let mut churn = None;
    if subject == Subject::Gateway {
        let mut measured = [const { None }; 2];
        for (n, (side, measured)) in sides.iter_mut().zip(&mut measured).enumerate() {
            let rate =
                sizes.iter().find(|(bytes, _)| *bytes == CHURN_BYTES).and_then(|(_, s)| s[n].pps().first().copied());
            *measured = Some(match (side, rate) {
                (Err(why), _) => Err(why.clone()),
                (Ok(_), None) => Err("no rate without loss".to_owned()),
                (Ok(bench), Some(rate)) => {
                    bench.resume()?;
                    let churn = bench.churn(&runtime, subject, rate * churn::SHARE)?;
                    bench.pause()?;
                    Ok(churn)
                }
            });
        }
        churn = Some(measured.map(|m| m.unwrap_or_else(|| Err("not measured".to_owned()))));
    }
    for bench in sides.iter().flatten() {
        bench.resume()?;
    }
    Ok(Measured { sizes, churn, entries: entries.len() })
}

/// A switch between a generator and a sink.
struct Bench {
    switch: Switch,
    generator: Generator,
    sink: String,
}

impl Bench {
    fn start(runtime: &tokio::runtime::Runtime, kind: Kind, n: usize, pipeline: &Pipeline, dir: &Path) -> Result<Self> {
        let name = |role: &str| format!("{role}{n}");
        let (near, sink) = (name("gen"), name("sink"));
        let ports = [(PORTS[0], name("in")), (PORTS[1], name("out"))];
        netns::veth(&near, &ports[0].1)?;
        netns::veth(&ports[1].1, &sink)?;
        let switch = runtime.block_on(Switch::start(kind, &ports, pipeline, dir))?;
        Ok(Self { switch, generator: Generator::open(&near)?, sink })
    }

    /// Searches for the rate without loss of frames of one size.
    fn rate(&mut self, subject: Subject, bytes: usize, quick: bool) -> Result<Found> {
        let exchanges = (0..FLOWS).map(|flow| subject.exchange(flow, bytes)).collect::<Result<Vec<_>>>()?;
        self.verify(&exchanges)?;
        let frames: Vec<_> = exchanges.iter().map(|e| e.sent.clone()).collect();
        let found = search(|ask| {
            let (rate, length) = match ask {
                Ask::Flood => (Rate::Flood, short(quick)),
                Ask::Short(rate) => (Rate::Paced(rate), short(quick)),
                Ask::Long(rate) => (Rate::Paced(rate), long(quick)),
            };
            self.trial(&frames, rate, length)
        })?;
        self.verify(&exchanges)?;
        let rate = found
            .at
            .map_or_else(|| "no rate without loss".to_owned(), |at| format!("{} packets/s", number(at.delivered)));
        eprintln!(
            "{}: {bytes} bytes: {rate}, {} under a flood, {} ns CPU",
            self.switch.kind.title(),
            number(found.flood.delivered),
            number(found.cpu_ns())
        );
        Ok(found)
    }

    /// Sends frames while entries are written, and counts those that are lost.
    fn churn(&mut self, runtime: &tokio::runtime::Runtime, subject: Subject, rate: f64) -> Result<Churn> {
        let exchanges = (0..FLOWS).map(|flow| subject.exchange(flow, CHURN_BYTES)).collect::<Result<Vec<_>>>()?;
        let frames: Vec<_> = exchanges.iter().map(|e| e.sent.clone()).collect();
        let before = netns::received(&self.sink)?;
        let Self { switch, generator, .. } = self;
        let send = |length| Ok(generator.send(&frames, Rate::Paced(rate), length)?.frames);
        let churn = churn::write_while(runtime, &switch.session, send)?;
        let delivered = self.drain()? - before;
        self.switch.check()?;
        self.verify(&exchanges)?;
        Ok(Churn { lost: churn.sent.saturating_sub(delivered), ..churn })
    }

    fn trial(&mut self, frames: &[Vec<u8>], rate: Rate, length: Duration) -> Result<Trial> {
        let (before, cpu_before) = (netns::received(&self.sink)?, cpu_time(self.switch.pid())?);
        let sent = self.generator.send(frames, rate, length)?;
        let after = self.drain()?;
        self.switch.check()?;
        let cpu = cpu_time(self.switch.pid())?.saturating_sub(cpu_before);
        let delivered = (after - before) as f64;
        let seconds = sent.took.as_secs_f64();
        Ok(Trial {
            offered: sent.frames as f64 / seconds,
            delivered: delivered / seconds,
            loss: 1.0 - delivered / sent.frames as f64,
            cpu_ns: cpu.as_nanos() as f64 / delivered,
        })
    }

    /// Waits until nothing more comes out, and returns the sink's counter.
    fn drain(&self) -> Result<u64> {
        let deadline = Instant::now() + DRAIN_AT_MOST;
        let mut last = (netns::received(&self.sink)?, Instant::now());
        while last.1.elapsed() < DRAIN_QUIET && Instant::now() < deadline {
            std::thread::sleep(DRAIN_POLL);
            let now = netns::received(&self.sink)?;
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        Ok(last.0)
    }

    /// Sends some frames one by one and compares what comes out with what must.
    fn verify(&self, exchanges: &[Exchange]) -> Result<()> {
        let sink = Sink::open(&self.sink)?;
        for exchange in exchanges.iter().take(CHECKED_FRAMES as usize) {
            self.generator.send_one(&exchange.sent)?;
            let got = sink.receive()?.with_context(|| format!("{}: nothing came out", self.switch.kind.title()))?;
            let expected = exchange.expected.as_ref().context("a way without expectation")?;
            ensure!(
                &got == expected,
                "{}: wrong frame\n  sent     {}\n  expected {}\n  got      {}",
                self.switch.kind.title(),
                hex(&exchange.sent),
                hex(expected),
                hex(&got)
            );
        }
        Ok(())
    }

    /// Stops the switch, so that it uses no CPU while another one is measured.
    fn pause(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    fn resume(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = libc::pid_t::try_from(self.switch.pid())?;
        // SAFETY: a plain system call; the process is our child and not waited for, so the id is its own.
        if unsafe { libc::kill(pid, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).context("the switch cannot be stopped or continued");
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
