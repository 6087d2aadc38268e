//! One node of our Raft cluster as a process of its own, driven by lines of JSON on its standard input.
//!
//! The state machine is a map from key to value: as much as etcd does for a put, without its history.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use dmux_raft_store::{Application, Listen, RestoreError, Role, Start, Store, StoreConfig};
use serde::{Deserialize, Serialize};

use crate::load::{LoadResult, closed_loop, new_key};

const READY_WITHIN: Duration = Duration::from_secs(30);
const PROPOSE_WITHIN: Duration = Duration::from_secs(10);

/// What the parent asks of a node, one a line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Open the store with these first voters, and wait until there is a leader.
    Open {
        /// Id to address.
        members: BTreeMap<u64, String>,
    },
    /// Say whether this node leads.
    Leads,
    /// Run clients inside this process.
    Write {
        /// Differs from request to request, and so do the keys.
        run: u64,
        /// How many.
        clients: usize,
        /// For how long.
        seconds: f64,
        /// Size of the values.
        bytes: usize,
    },
    /// Count the keys in the local state.
    Keys,
}

/// What a node answers, one a line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// First line: where the node will listen.
    Listening(String),
    /// The store is open and knows a leader.
    Ready,
    /// Whether it leads.
    Leads(bool),
    /// How the clients fared.
    Wrote(LoadResult),
    /// Number of keys.
    Keys(usize),
    /// The request failed.
    Failed(String),
}

/// A put.
#[derive(Debug, Serialize, Deserialize)]
struct Put {
    key: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Map(HashMap<Vec<u8>, Vec<u8>>);

impl Application for Map {
    type Command = Put;
    type Reply = ();
    const SNAPSHOT_VERSION: u16 = 1;

    fn apply(&mut self, _index: u64, put: Put) {
        self.0.insert(put.key, put.value);
    }

    fn snapshot(&self) -> Vec<u8> {
        // A map of byte strings always encodes; an empty snapshot would be refused by `restore`.
        serde_json::to_vec(&self.0.iter().collect::<Vec<_>>()).unwrap_or_default()
    }

    fn restore(_version: u16, bytes: &[u8]) -> Result<Self, RestoreError> {
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = serde_json::from_slice(bytes).map_err(|e| RestoreError(e.to_string()))?;
        Ok(Self(pairs.into_iter().collect()))
    }
}

/// Runs a node until its standard input ends.
pub fn run(id: u64, dir: PathBuf) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("no free TCP port")?;
    say(&Answer::Listening(listener.local_addr()?.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut node = Node { id, dir, listener: Some(listener), store: None };
    for line in std::io::stdin().lock().lines() {
        let ask = serde_json::from_str(&line?).context("a line that is no request")?;
        let answer = runtime.block_on(node.answer(ask)).unwrap_or_else(|e| Answer::Failed(format!("{e:#}")));
        say(&answer)?;
    }
    if let Some(store) = node.store {
        runtime.block_on(store.shutdown());
    }
    Ok(())
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    out.flush().context("nobody listens any more")
}

struct Node {
    id: u64,
    dir: PathBuf,
    listener: Option<TcpListener>,
    store: Option<Store<Map>>,
}

impl Node {
    async fn answer(&mut self, ask: Ask) -> Result<Answer> {
        if let Ask::Open { members } = ask {
            let listener = self.listener.take().context("the store is open already")?;
            let start = Start::Bootstrap { members };
            let config = StoreConfig::new(self.id, &self.dir, Listen::Bound(listener), start);
            let store = Store::open(config, Map::default()).await?;
            store.wait_ready(READY_WITHIN).await?;
            self.store = Some(store);
            return Ok(Answer::Ready);
        }
        let store = self.store.as_ref().context("the store is not open")?;
        match ask {
            Ask::Open { .. } => bail!("the store is open already"),
            Ask::Leads => Ok(Answer::Leads(store.status().role == Role::Leader)),
            Ask::Keys => Ok(Answer::Keys(store.read(|map| map.0.len()))),
            Ask::Write { run, clients, seconds, bytes } => {
                let store = store.clone();
                let length = Duration::try_from_secs_f64(seconds)?;
                let result = closed_loop(clients, length, move |client, n| {
                    let store = store.clone();
                    let put = Put { key: new_key(run, client, n), value: vec![b'x'; bytes] };
                    async move {
                        store.propose(put, PROPOSE_WITHIN).await.map(|_| ()).map_err(|e| anyhow!("a write failed: {e}"))
                    }
                });
                Ok(Answer::Wrote(result.await?))
            }
        }
    }
}
