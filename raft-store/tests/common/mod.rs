//! A key-value application and three nodes of it.
#![allow(dead_code)] // each test binary uses its own part

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use dmux_raft_store::{Application, Listen, RestoreError, SnapshotPolicy, Start, Status, Store, StoreConfig, Timing};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Upper bound of every wait; reached only when something is wrong.
pub const SOON: Duration = Duration::from_secs(20);

/// A map that also counts how often each key was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kv {
    pub map: BTreeMap<String, (u64, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    Put(String, String),
}

impl Application for Kv {
    type Command = Command;
    type Reply = u64;
    const SNAPSHOT_VERSION: u16 = 1;

    fn apply(&mut self, _index: u64, command: Command) -> u64 {
        let Command::Put(key, value) = command;
        let slot = self.map.entry(key).or_default();
        slot.0 += 1;
        slot.1 = value;
        slot.0
    }

    fn snapshot(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    fn restore(_version: u16, bytes: &[u8]) -> Result<Self, RestoreError> {
        postcard::from_bytes(bytes).map_err(|e| RestoreError(e.to_string()))
    }
}

pub fn put(key: &str, value: &str) -> Command {
    Command::Put(key.to_owned(), value.to_owned())
}

pub fn timing() -> Timing {
    Timing { heartbeat: Duration::from_millis(50), election_slot: None }
}

pub struct Cluster {
    pub dir: TempDir,
    pub members: BTreeMap<u64, String>,
    pub nodes: BTreeMap<u64, Store<Kv>>,
    pub snapshots: SnapshotPolicy,
}

impl Cluster {
    /// Starts three nodes and waits until they know their leader.
    pub async fn start(snapshots: SnapshotPolicy) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut listeners = BTreeMap::new();
        for id in 1..=3 {
            listeners.insert(id, TcpListener::bind("127.0.0.1:0").unwrap());
        }
        let members: BTreeMap<u64, String> =
            listeners.iter().map(|(&id, l)| (id, l.local_addr().unwrap().to_string())).collect();
        let mut cluster = Cluster { dir, members, nodes: BTreeMap::new(), snapshots };
        for (id, listener) in listeners {
            let start = Start::Bootstrap { members: cluster.members.clone() };
            let config = cluster.config(id, Listen::Bound(listener), start);
            cluster.nodes.insert(id, Store::open(config, Kv::default()).await.unwrap());
        }
        for node in cluster.nodes.values() {
            node.wait_ready(SOON).await.unwrap();
        }
        cluster
    }

    pub fn path(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node{id}"))
    }

    pub fn config(&self, id: u64, listen: Listen, start: Start) -> StoreConfig {
        let mut config = StoreConfig::new(id, self.path(id), listen, start);
        config.timing = timing();
        config.snapshots = self.snapshots;
        config
    }

    /// Starts a stopped node again, from its directory and at its address.
    pub async fn restart(&mut self, id: u64) {
        let listen = Listen::Addr(self.members[&id].parse().unwrap());
        let store = Store::open(self.config(id, listen, Start::Existing), Kv::default()).await.unwrap();
        self.nodes.insert(id, store);
    }

    pub async fn stop(&mut self, id: u64) {
        self.nodes.remove(&id).unwrap().shutdown().await;
    }

    /// The leader that all running nodes agree on.
    pub async fn leader(&self) -> u64 {
        let any = self.nodes.values().next().unwrap();
        let running = |id: u64| self.nodes.contains_key(&id);
        let status = any.wait_for(SOON, |s| s.leader.is_some_and(running)).await;
        status.unwrap_or_else(|| panic!("no leader: {:?}", self.statuses())).leader.unwrap()
    }

    pub fn statuses(&self) -> Vec<Status> {
        self.nodes.values().map(Store::status).collect()
    }

    /// Waits until node `id` has applied `index`.
    pub async fn applied(&self, id: u64, index: u64) {
        let mut changed = self.nodes[&id].changed();
        let waited = tokio::time::timeout(SOON, changed.wait_for(|&applied| applied >= index)).await;
        assert!(matches!(waited, Ok(Ok(_))), "node {id} did not apply {index}: {:?}", self.statuses());
    }
}

/// A snapshot policy that never gets in the way.
pub fn rarely() -> SnapshotPolicy {
    SnapshotPolicy { every: 1_000_000, keep: 1000 }
}
