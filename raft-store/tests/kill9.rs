//! Three real processes, real directories, SIGKILL: no acknowledged write is ever lost.
//!
//! The nodes are this test binary again, started with an environment variable; they take commands on stdin.
//! The seed is printed; `DMUX_SEED=n` replays it (which nodes die, and after how many writes).
#![allow(clippy::unwrap_used)] // helpers of tests: a failed unwrap is a failed test

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Kv, SOON, put, timing};
use dmux_raft_store::{Listen, SnapshotPolicy, Start, Store, StoreConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const ROUNDS: u32 = 12;
const NODE_ENV: &str = "DMUX_KILL9_NODE";
/// How long a node tries before it says that it does not know.
const WITHIN: Duration = Duration::from_secs(5);

/// Not a test of its own: the body of a node's process.
#[test]
fn node_process() {
    let Ok(spec) = std::env::var(NODE_ENV) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run_node(&spec));
}

/// `spec` is `id|directory|1=addr,2=addr,3=addr`.
async fn run_node(spec: &str) {
    let mut parts = spec.split('|');
    let id: u64 = parts.next().unwrap().parse().unwrap();
    let dir = PathBuf::from(parts.next().unwrap());
    let members: BTreeMap<u64, String> = parts
        .next()
        .unwrap()
        .split(',')
        .map(|m| m.split_once('=').unwrap())
        .map(|(id, addr)| (id.parse().unwrap(), addr.to_owned()))
        .collect();
    let listen = Listen::Addr(members[&id].parse().unwrap());
    let mut config = StoreConfig::new(id, dir, listen, Start::Bootstrap { members });
    config.timing = timing();
    // Small, so that kills fall into snapshots and purges too.
    config.snapshots = SnapshotPolicy { every: 25, keep: 5 };
    let store = match Store::open(config, Kv::default()).await {
        Ok(store) => store,
        Err(e) => {
            println!("failed {e}");
            return;
        }
    };
    println!("up");
    let (lines, mut commands) = tokio::sync::mpsc::channel::<String>(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    while let Some(line) = commands.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["put", key, value] => match store.propose(put(key, value), WITHIN).await {
                Ok((index, _)) => println!("ok {key} {index}"),
                Err(e) => println!("unknown {e}"),
            },
            ["dump"] => {
                let read = store.linearizable(SOON).await;
                let s = store.status();
                let state =
                    store.read(|kv| kv.map.iter().map(|(k, (_, v))| format!("{k}={v}")).collect::<Vec<_>>().join(","));
                println!(
                    "state read:{read:?},{:?},leader:{:?},term:{},log:{:?},applied:{:?} {state}",
                    s.role, s.leader, s.term, s.last_log, s.applied
                );
            }
            _ => println!("failed what is {line:?}"),
        }
    }
}

struct Node {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(id: u64, dir: &Path, members: &str) -> Node {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node_process", "--nocapture"])
            .env(NODE_ENV, format!("{id}|{}|{members}", dir.join(format!("node{id}")).display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    break;
                }
            }
        });
        let node = Node { child, stdin, lines };
        node.answer("up").unwrap_or_else(|why| panic!("node {id} did not start: {why}"));
        node
    }

    /// The next line that starts with `word`; other lines are the test harness's own.
    fn answer(&self, word: &str) -> Result<String, String> {
        let deadline = Instant::now() + 2 * SOON;
        loop {
            let line = self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .map_err(|_| "no answer".to_owned())?;
            // The harness prints "test node_process ... " without an end of line before our first.
            let line = line.rsplit(" ... ").next().unwrap_or_default();
            match line.split_once(' ').unwrap_or((line, "")) {
                (first, rest) if first == word => return Ok(rest.to_owned()),
                ("failed" | "unknown", rest) => return Err(rest.to_owned()),
                _ => {}
            }
        }
    }

    fn send(&mut self, line: &str) -> std::io::Result<()> {
        writeln!(self.stdin, "{line}")
    }
}

fn acknowledge(acknowledged: &mut BTreeMap<String, String>, key: String, value: String, answer: &str) {
    assert_eq!(answer.split(' ').next(), Some(key.as_str()), "an answer to another write");
    acknowledged.insert(key, value);
}

#[test]
fn kill_9_in_a_loop_loses_no_acknowledged_write() {
    let seed = std::env::var("DMUX_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    // An address of 127/8 of this process's own: nothing else takes the ports while a node is down.
    let pid = std::process::id();
    let ip = Ipv4Addr::new(127, 1 + u8::try_from(pid % 199).unwrap(), u8::try_from(pid / 199 % 250).unwrap(), 1);
    let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind(SocketAddr::from((ip, 0))).unwrap()).collect();
    let addrs: Vec<String> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    let members = addrs.iter().zip(1..).map(|(addr, id)| format!("{id}={addr}")).collect::<Vec<_>>().join(",");
    drop(listeners);

    let mut nodes: BTreeMap<u64, Node> = (1..=3).map(|id| (id, Node::start(id, dir.path(), &members))).collect();
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut written = 0_u64;
    let mut unknown = 0_u64;
    for round in 0..ROUNDS {
        let victim = random.random_range(1..=3_u64);
        for _ in 0..random.random_range(3..25) {
            let id = random.random_range(1..=3_u64);
            let (key, value) = (format!("k{written}"), format!("r{round}"));
            written += 1;
            let node = nodes.get_mut(&id).unwrap();
            node.send(&format!("put {key} {value}")).unwrap();
            match node.answer("ok") {
                Ok(answer) => acknowledge(&mut acknowledged, key, value, &answer),
                Err(_) => unknown += 1,
            }
        }
        // The kill falls while every node has a write under way; only answers that came count.
        for (id, node) in &mut nodes {
            node.send(&format!("put k{} r{round}", written + id)).unwrap();
        }
        let dead = nodes.get_mut(&victim).unwrap();
        dead.child.kill().unwrap();
        dead.child.wait().unwrap();
        for (id, node) in &nodes {
            let key = format!("k{}", written + id);
            match node.answer("ok") {
                Ok(answer) => acknowledge(&mut acknowledged, key, format!("r{round}"), &answer),
                Err(_) => unknown += 1,
            }
        }
        written += 4;
        nodes.remove(&victim);
        // In every other round the others go on without it first, with an election when it was the leader; in the
        // rest it is back before anybody notices, and a leader resumes its term.
        if round % 2 == 0 {
            let survivor = nodes.values_mut().next().unwrap();
            let deadline = Instant::now() + SOON;
            loop {
                let (key, value) = (format!("k{written}"), format!("r{round}"));
                written += 1;
                survivor.send(&format!("put {key} {value}")).unwrap();
                if let Ok(answer) = survivor.answer("ok") {
                    acknowledge(&mut acknowledged, key, value, &answer);
                    break;
                }
                assert!(Instant::now() < deadline, "no new leader (seed {seed})");
                unknown += 1;
            }
        }
        nodes.insert(victim, Node::start(victim, dir.path(), &members));
    }
    println!("{} writes acknowledged, {unknown} unknown, over {ROUNDS} kills", acknowledged.len());
    assert!(acknowledged.len() > usize::try_from(ROUNDS).unwrap(), "the cluster worked in between");
    let mut lost = Vec::new();
    for (id, node) in &mut nodes {
        node.send("dump").unwrap();
        let state = node.answer("state").unwrap();
        let (status, state) = state.split_once(' ').unwrap_or((&state, ""));
        let state: BTreeMap<&str, &str> = state.split(',').filter_map(|pair| pair.split_once('=')).collect();
        println!("node {id}: {} keys, {status}", state.len());
        for (key, value) in &acknowledged {
            if state.get(key.as_str()) != Some(&value.as_str()) {
                lost.push(format!("{key} on node {id}"));
            }
        }
    }
    assert!(lost.is_empty(), "lost {lost:?} (seed {seed})");
}
