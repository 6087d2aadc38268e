//! Durable replicated writes: three of our Raft nodes, and three etcd members, in turn on one disk.
//!
//! ```text
//!   clients ─▶ leader ─┬▶ follower      "at the leader": as a controller that leads proposes
//!                      └▶ follower
//!   clients ─▶ follower ─gRPC─▶ leader  "over gRPC": one hop to the leader, which is what an etcd client has
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Options;
use crate::etcd;
use crate::load::LoadResult;
use crate::machine;
use crate::process::{Daemon, version};
use crate::raft_node::{Answer, Ask};
use crate::table::{Better, Cell, Figure, Row, Section, number};

const NODES: u64 = 3;
const VALUE_BYTES: usize = 100;
const CLIENTS: [usize; 2] = [1, 64];
const LEADER_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Before samples are taken, each side writes this long: connections, files and caches are there then.
const WARM_UP: Duration = Duration::from_millis(300);

/// Measures the section; `dir` is on the disk that is to be measured.
pub fn measure(options: &Options, dir: &Path) -> Result<Section> {
    let program = etcd::Cluster::program();
    let peer = program.as_deref().map_or_else(|| "etcd".to_owned(), |p| format!("{}, three members", version(p)));
    let mut section = Section::new("durable Raft writes, three nodes", peer);
    let sync = machine::disk_sync(dir)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut ours = Ours::start(dir)?;
    let theirs = match &program {
        Some(program) => Some(runtime.block_on(etcd::Cluster::start(program, dir))?),
        None => None,
    };
    let length = Duration::from_secs_f64(if options.quick { 0.5 } else { 3.0 });
    let repetitions = if options.quick { 1 } else { 5 };
    let mut run = 0;
    for clients in CLIENTS {
        let mut samples = [const { Vec::new() }; 3];
        for repetition in 0..=repetitions {
            // Repetition 0 only warms up.
            let length = if repetition == 0 { WARM_UP } else { length };
            let mut results =
                vec![ours.write(true, run, clients, length)?, ours.write(false, run + 1, clients, length)?];
            if let Some(theirs) = &theirs {
                results.push(runtime.block_on(theirs.writes(run, clients, length, VALUE_BYTES))?);
            }
            run += 2;
            if repetition > 0 {
                for (samples, result) in samples.iter_mut().zip(results) {
                    samples.push(result);
                }
            }
        }
        let [leader, grpc, theirs] = samples;
        rows(&mut section, clients, &leader, &grpc, program.is_some().then_some(&theirs));
    }
    ours.check_equal()?;
    section.notes.push(format!(
        "{repetitions} repetitions of {} s each, our cluster and etcd in turn; values of {VALUE_BYTES} bytes under new keys; each \
         client has one write in flight. Every acknowledged write is on the disk of a majority (fdatasync) on both sides.",
        number(length.as_secs_f64())
    ));
    section.notes.push(
        "Over gRPC: our clients are at a follower, which forwards to the leader; etcd's are tonic clients of its gRPC interface \
         (KV/Put) on 8 open connections straight to its leader. At the leader: no hop, as when the proposing controller leads."
            .to_owned(),
    );
    section.notes.push(format!(
        "4 KiB append and fdatasync on the same disk just before: p50 {} µs, p99 {} µs. All six processes share one disk and the \
         processors.",
        number(sync.0),
        number(sync.1)
    ));
    Ok(section)
}

fn rows(
    section: &mut Section,
    clients: usize,
    leader: &[LoadResult],
    grpc: &[LoadResult],
    theirs: Option<&Vec<LoadResult>>,
) {
    let cell = |results: &[LoadResult], f: fn(&LoadResult) -> f64| Cell::samples(results.iter().map(f).collect());
    let figures: [Figure<'_, LoadResult, f64>; 3] = [
        ("writes", "1/s", Better::Higher, |r| r.per_second),
        ("latency p50", "ms", Better::Lower, |r| r.p50_ms),
        ("latency p99", "ms", Better::Lower, |r| r.p99_ms),
    ];
    let plural = if clients == 1 { "client" } else { "clients" };
    for (what, unit, better, figure) in figures {
        section.rows.push(Row {
            what: format!("{what}, {clients} {plural}, over gRPC"),
            unit: unit.to_owned(),
            better,
            ours: cell(grpc, figure),
            peer: theirs.map_or_else(|| Cell::Absent("not on PATH".to_owned()), |t| cell(t, figure)),
        });
    }
    for (what, unit, better, figure) in figures {
        section.rows.push(Row::alone(
            format!("{what}, {clients} {plural}, at the leader"),
            unit,
            better,
            cell(leader, figure),
        ));
    }
}

/// Our three nodes, each a process.
struct Ours {
    nodes: Vec<Remote>,
}

impl Ours {
    fn start(dir: &Path) -> Result<Self> {
        let mut nodes = Vec::new();
        for id in 1..=NODES {
            nodes.push(Remote::start(id, dir)?);
        }
        let members: BTreeMap<u64, String> = (1..).zip(nodes.iter().map(|n| n.address.clone())).collect();
        // A node is ready only with the others, so all are asked before any answer is awaited.
        for node in &mut nodes {
            node.ask(&Ask::Open { members: members.clone() })?;
        }
        for node in &mut nodes {
            match node.answer()? {
                Answer::Ready => {}
                other => bail!("a Raft node did not start: {other:?}"),
            }
        }
        Ok(Self { nodes })
    }

    /// Runs clients at the leader, or at a follower.
    fn write(&mut self, at_leader: bool, run: u64, clients: usize, length: Duration) -> Result<LoadResult> {
        let node = self.find(at_leader)?;
        node.ask(&Ask::Write { run, clients, seconds: length.as_secs_f64(), bytes: VALUE_BYTES })?;
        match node.answer()? {
            Answer::Wrote(result) => Ok(result),
            other => bail!("clients of our Raft nodes failed: {other:?}"),
        }
    }

    fn find(&mut self, leader: bool) -> Result<&mut Remote> {
        let deadline = Instant::now() + LEADER_WITHIN;
        loop {
            let mut leads = Vec::new();
            for node in &mut self.nodes {
                node.ask(&Ask::Leads)?;
                leads.push(matches!(node.answer()?, Answer::Leads(true)));
            }
            if leads.iter().filter(|l| **l).count() == 1
                && let Some(at) = leads.iter().position(|l| *l == leader)
            {
                return self.nodes.get_mut(at).context("no such node");
            }
            if Instant::now() >= deadline {
                bail!("our Raft nodes have had no single leader for {} s", LEADER_WITHIN.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// All nodes come to hold the same number of keys: what was counted was replicated.
    fn check_equal(&mut self) -> Result<()> {
        let deadline = Instant::now() + LEADER_WITHIN;
        loop {
            let mut keys = Vec::new();
            for node in &mut self.nodes {
                node.ask(&Ask::Keys)?;
                match node.answer()? {
                    Answer::Keys(n) => keys.push(n),
                    other => bail!("a Raft node does not count its keys: {other:?}"),
                }
            }
            if keys.windows(2).all(|pair| pair[0] == pair[1] && pair[0] > 0) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("our Raft nodes hold different numbers of keys: {keys:?}");
            }
            std::thread::sleep(POLL);
        }
    }
}

/// A node process and its pipes.
struct Remote {
    daemon: Daemon,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Remote {
    fn start(id: u64, dir: &Path) -> Result<Self> {
        let own = std::env::current_exe().context("this program cannot find its own file")?;
        let mut command = Command::new(own);
        command.args(["internal", "raft-node", "--id", &id.to_string(), "--dir"]).arg(dir.join(format!("raft-{id}")));
        let mut daemon = Daemon::spawn_piped(&format!("raft-{id}"), &mut command, dir)?;
        let input = daemon.child().stdin.take().context("no pipe to the node")?;
        let output = BufReader::new(daemon.child().stdout.take().context("no pipe from the node")?);
        let mut node = Self { daemon, input, output, address: String::new() };
        match node.answer()? {
            Answer::Listening(address) => node.address = address,
            other => bail!("a Raft node did not start: {other:?}"),
        }
        Ok(node)
    }

    fn ask(&mut self, ask: &Ask) -> Result<()> {
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        if self.input.write_all(&line).is_err() {
            self.daemon.check()?;
            bail!("a Raft node does not read its input");
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            self.daemon.child().wait()?;
            self.daemon.check()?;
        }
        serde_json::from_str(&line).with_context(|| format!("a Raft node said {line:?}"))
    }
}
