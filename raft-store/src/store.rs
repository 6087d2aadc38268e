//! The handle that the rest of dmux holds.

mod view;

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::Config;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::app::Application;
use crate::batcher::{Batcher, MAX_COMMAND_BYTES};
use crate::config::{Listen, Start, StoreConfig};
use crate::engine::{Engine, SledEngine};
use crate::error::{MemberError, ProposeError, ReadError, StoreError};
use crate::flusher::Flusher;
use crate::log_store::LogStore;
use crate::members::Members;
use crate::open::open;
use crate::simulated::Simulated;
use crate::start;
use crate::state::{Shared, StateMachine, restore_failed};
use crate::transport::proto::membership_reply::Outcome as MemberOutcome;
use crate::transport::{Dialer, Network, Outcome, Peers, Remote, Service, bind, check_addr, serve, serve_on};
use crate::types::Raft;

/// Pause before a leader is looked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Longest deadline of a call; longer ones are cut to it.
const MAX_WITHIN: Duration = Duration::from_secs(60);
/// Log entries that a lagging peer gets in one message (and at most 1 MiB).
const MAX_PAYLOAD_ENTRIES: u64 = 300;
/// Milliseconds for a whole snapshot to travel and be installed.
const SNAPSHOT_TIMEOUT_MS: u64 = 30_000;
/// Entries purged at once at least, so that purging is rare.
const PURGE_BATCH: u64 = 64;

/// A member of the cluster, running in this process.
pub struct Store<A: Application> {
    inner: Arc<Inner<A>>,
}

impl<A: Application> Clone for Store<A> {
    fn clone(&self) -> Self {
        Store { inner: self.inner.clone() }
    }
}

struct Inner<A> {
    raft: Raft,
    shared: Arc<Shared<A>>,
    batcher: Batcher,
    members: Members,
    remote: Remote,
    engine: Arc<dyn Engine>,
    addr: SocketAddr,
    failure: watch::Sender<Option<StoreError>>,
    stopped: AtomicBool,
    /// Dropping it stops the transport.
    serving: Mutex<Option<oneshot::Sender<()>>>,
    starting: Mutex<Option<AbortHandle>>,
    _app: PhantomData<A>,
}

impl<A> Drop for Inner<A> {
    fn drop(&mut self) {
        // Everything else ends as its channels close; the start task would go on knocking for ever.
        if let Some(task) = self.starting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl<A: Application> Store<A> {
    /// Opens the directory, starts the transport, and returns; bootstrapping and joining go on in the background
    /// ([`Store::wait_ready`]). `initial` is the state of a cluster that has no history, the same on every node.
    /// Call it inside a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// [`StoreError`]; nothing on disk is changed by a refusal.
    pub async fn open(config: StoreConfig, initial: A) -> Result<Store<A>, StoreError> {
        start::check(&config)?;
        let dir = config.dir.clone();
        if config.start == Start::Existing && !dir.join("sled").exists() {
            return Err(StoreError::Empty { dir });
        }
        let opened = tokio::task::spawn_blocking(move || SledEngine::open(&dir)).await;
        let engine = opened.map_err(|e| StoreError::Raft(e.to_string()))??;
        Store::open_on(Arc::new(engine), config, initial).await
    }

    /// The same on another engine; `config.dir` only names it in errors.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_on(engine: Arc<dyn Engine>, config: StoreConfig, initial: A) -> Result<Store<A>, StoreError> {
        Store::open_or_close(engine, None, config, initial).await
    }

    /// The same in simulated surroundings. `config.listen` only names the node: an address, not a listener.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_simulated(simulated: Simulated, config: StoreConfig, initial: A) -> Result<Store<A>, StoreError> {
        Store::open_or_close(simulated.engine.clone(), Some(simulated), config, initial).await
    }

    async fn open_or_close(
        engine: Arc<dyn Engine>,
        simulated: Option<Simulated>,
        config: StoreConfig,
        initial: A,
    ) -> Result<Store<A>, StoreError> {
        let opened = Store::open_inner(engine.clone(), simulated, config, initial).await;
        if opened.is_err() {
            // Lets go of the directory, so that a second attempt meets its real error.
            engine.close();
        }
        opened
    }

    async fn open_inner(
        engine: Arc<dyn Engine>,
        simulated: Option<Simulated>,
        config: StoreConfig,
        initial: A,
    ) -> Result<Store<A>, StoreError> {
        start::check(&config)?;
        let (election_min, election_max) = config.timing.election_range(config.node_id)?;
        let draw = || rand::random::<u64>() | 1;
        let create: Option<&dyn Fn() -> u64> = if config.start == Start::Existing { None } else { Some(&draw) };
        let opened = open(&engine, &config.dir, config.node_id, create)?;
        let has_history = opened.has_history();
        if config.start == Start::Existing && !has_history {
            return Err(StoreError::NeverStarted { dir: config.dir });
        }
        let (listener, addr) = match (&simulated, config.listen) {
            (None, listen) => {
                let (listener, addr) = bind(listen, config.tls.is_some())?;
                (Some(listener), addr)
            }
            (Some(_), Listen::Addr(addr)) => (None, addr),
            (Some(_), Listen::Bound(_)) => {
                return Err(StoreError::Config("a simulated member has no listener of its own".to_owned()));
            }
        };
        let advertise = config.advertise.unwrap_or_else(|| addr.to_string());
        check_addr(&advertise, config.tls.is_some())?;

        let flusher = match &simulated {
            Some(simulated) => Flusher::simulated(engine.clone(), simulated.sync_time.clone()),
            None => {
                let started = Flusher::start(engine.clone());
                started.map_err(|e| StoreError::Config(format!("the flusher thread does not start: {e}")))?.0
            }
        };
        let dialer = Dialer::new(config.tls.as_ref(), simulated.as_ref().map(|s| s.wire.clone()));
        let peers = Arc::new(Peers::new(opened.identity, engine.clone(), flusher.clone(), dialer, opened.peers));
        peers.set_ready(has_history || !start::must_introduce(&config.start, &peers));
        let log = LogStore::new(engine.clone(), flusher, opened.bounds);
        let machine =
            StateMachine::new(engine.clone(), initial, opened.snapshot).map_err(|e| restore_failed(&config.dir, &e))?;
        let shared = machine.shared();
        let raft_config = Config {
            cluster_name: "dmux".to_owned(),
            heartbeat_interval: u64::try_from(config.timing.heartbeat.as_millis()).unwrap_or(u64::MAX),
            election_timeout_min: election_min,
            election_timeout_max: election_max,
            install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
            max_payload_entries: MAX_PAYLOAD_ENTRIES,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(config.snapshots.every),
            max_in_snapshot_log_to_keep: config.snapshots.keep,
            purge_batch_size: PURGE_BATCH.min(config.snapshots.every),
            ..Config::default()
        };
        let raft_config = raft_config.validate().map_err(|e| StoreError::Config(e.to_string()))?;
        let network = Network { peers: peers.clone() };
        let raft = Raft::new(config.node_id, Arc::new(raft_config), network, log, machine)
            .await
            .map_err(|e| StoreError::Raft(e.to_string()))?;

        let batcher = Batcher::start(raft.clone());
        let members = Members::new(raft.clone(), peers.clone());
        let service = Service {
            raft: raft.clone(),
            peers: peers.clone(),
            batcher: batcher.clone(),
            members: members.clone(),
            is_command: |bytes| postcard::from_bytes::<A::Command>(bytes).map(drop).map_err(|e| e.to_string()),
            receiving: Semaphore::new(1),
        };
        let (stop, stopped) = oneshot::channel();
        match (listener, &simulated) {
            (Some(listener), _) => {
                if let Err(e) = serve(listener, service, config.tls.as_ref(), stopped) {
                    let _ = raft.shutdown().await;
                    return Err(e);
                }
            }
            (None, Some(simulated)) => serve_on(&*simulated.wire, &advertise, service),
            (None, None) => {}
        }
        let (failure, _) = watch::channel(None);
        let store = Store {
            inner: Arc::new(Inner {
                raft,
                shared,
                batcher,
                members,
                remote: Remote { peers },
                engine,
                addr,
                failure,
                stopped: AtomicBool::new(false),
                serving: Mutex::new(Some(stop)),
                starting: Mutex::new(None),
                _app: PhantomData,
            }),
        };
        store.begin(config.start, has_history, advertise);
        Ok(store)
    }

    /// Starts what is left to do before this node is a member.
    fn begin(&self, start: Start, has_history: bool, advertise: String) {
        let inner = &self.inner;
        let peers = inner.remote.peers.clone();
        let is_voter = self.status().voters.contains_key(&self.id());
        let is_learner = self.status().learners.contains_key(&self.id());
        let (raft, failure) = (inner.raft.clone(), inner.failure.clone());
        let task = async move {
            let result = match start {
                Start::Bootstrap { members } if !has_history => start::bootstrap(members, raft.clone(), peers).await,
                Start::Join { seeds, replaces } if !is_voter => {
                    start::join(seeds, true, replaces, advertise, peers).await
                }
                Start::Learn { seeds } if !is_voter && !is_learner => {
                    start::join(seeds, false, None, advertise, peers).await
                }
                _ => Ok(()),
            };
            if let Err(error) = result {
                tracing::error!(%error, "this node cannot become a member");
                failure.send_replace(Some(error));
                // A node that is not wanted must not vote either.
                let _ = raft.shutdown().await;
            }
        };
        let handle = tokio::spawn(task).abort_handle();
        *inner.starting.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    /// This node's id.
    pub fn id(&self) -> u64 {
        self.inner.remote.peers.me().node_id
    }

    /// The address that the transport listens on.
    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// Replicates and applies a command; works on any node, by way of the leader.
    ///
    /// Returns the command's log index and the application's reply, after a majority has it on disk and the leader
    /// has applied it. This node's own copy may lag: wait on [`Store::changed`] for the index if that matters.
    ///
    /// A command is applied at most once. It is proposed again only when it certainly is in no log (no leader, or the
    /// connection could not be made). When its fate is not known, because a leader was lost with it, the answer is
    /// [`ProposeError::Unknown`] at once; a command that may be applied twice can simply be proposed again.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose(&self, command: A::Command, within: Duration) -> Result<(u64, A::Reply), ProposeError> {
        let bytes = postcard::to_stdvec(&command).map_err(|e| ProposeError::Codec(e.to_string()))?;
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge { size: bytes.len(), max: MAX_COMMAND_BYTES });
        }
        let bytes = Bytes::from(bytes);
        let deadline = Instant::now() + within.min(MAX_WITHIN);
        let mut last = "no leader is known".to_owned();
        loop {
            if let Some(why) = self.stop_reason() {
                return Err(ProposeError::Stopped(why));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ProposeError::NoLeader { within, last });
            }
            let outcome = match self.leader() {
                Some((id, _)) if id == self.id() => self.inner.batcher.submit(bytes.clone(), deadline).await,
                Some((id, addr)) => self.inner.remote.propose(id, &addr, bytes.clone(), left).await,
                None => Outcome::NotTaken("no leader is known".to_owned()),
            };
            match outcome {
                Outcome::Applied { index, reply } => {
                    let reply = postcard::from_bytes(&reply).map_err(|e| ProposeError::Codec(e.to_string()))?;
                    return Ok((index, reply));
                }
                Outcome::Unknown(last) => return Err(ProposeError::Unknown { within, last }),
                Outcome::Refused(why) => return Err(ProposeError::Codec(why)),
                Outcome::NotTaken(why) => last = why,
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Looks at this node's copy of the state. Holds a lock that applying waits for: keep `f` short.
    pub fn read<T>(&self, f: impl FnOnce(&A) -> T) -> T {
        self.inner.shared.read(f)
    }

    /// The last index applied to this node's copy; 0 at first.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.shared.changed()
    }

    /// Waits until this node's copy has everything that was acknowledged anywhere before the call, and returns the
    /// index that it has reached.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn linearizable(&self, within: Duration) -> Result<u64, ReadError> {
        let deadline = Instant::now() + within.min(MAX_WITHIN);
        let mut last = "no leader is known".to_owned();
        let index = loop {
            if let Some(why) = self.stop_reason() {
                return Err(ReadError::Stopped(why));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReadError::NoQuorum { within, last });
            }
            let index = match self.leader() {
                Some((id, _)) if id == self.id() => self.inner.members.read_index(left).await,
                Some((id, addr)) => self.inner.remote.read_index(id, &addr, left).await,
                None => Err("no leader is known".to_owned()),
            };
            match index {
                Ok(index) => break index,
                Err(why) => last = why,
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        };
        let mut changed = self.changed();
        match timeout_at(deadline, changed.wait_for(|&applied| applied >= index)).await {
            Ok(Ok(applied)) => Ok(*applied),
            Ok(Err(_)) => Err(ReadError::Stopped("the state machine has ended".to_owned())),
            Err(_) => Err(ReadError::NoQuorum { within, last: format!("index {index} has not arrived here") }),
        }
    }

    /// Removes a voter or a learner from the cluster, by way of the leader. A member that is gone already is fine.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn remove_member(&self, id: u64, within: Duration) -> Result<(), MemberError> {
        let deadline = Instant::now() + within.min(MAX_WITHIN);
        let mut last = "no leader is known".to_owned();
        loop {
            if let Some(why) = self.stop_reason() {
                return Err(MemberError::Stopped(why));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(MemberError::Timeout { within, last });
            }
            let reply = match self.leader() {
                Some((leader, _)) if leader == self.id() => Ok(self.inner.members.remove(id, left).await),
                Some((leader, addr)) => self.inner.remote.remove(leader, &addr, id, left).await,
                None => Err("no leader is known".to_owned()),
            };
            last = match reply.map(|r| r.outcome) {
                Ok(Some(MemberOutcome::Changed(_))) => return Ok(()),
                Ok(Some(MemberOutcome::Refused(why))) => return Err(MemberError::Refused(why)),
                Ok(Some(MemberOutcome::Retry(why))) | Err(why) => why,
                Ok(Some(MemberOutcome::Ask(_))) | Ok(None) => "the leader has changed".to_owned(),
            };
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Stops everything and lets go of the directory. May be called again.
    pub async fn shutdown(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        if let Some(task) = self.inner.starting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        drop(self.inner.serving.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop in order");
        }
        let engine = self.inner.engine.clone();
        if engine.is_in_memory() {
            engine.close();
            return;
        }
        if tokio::task::spawn_blocking(move || engine.close()).await.is_err() {
            tracing::warn!("closing the directory was interrupted");
        }
    }
}
