//! A switch: ports, one pipeline, and the P4Runtime server over it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use dmux_p4rt::p4::config::v1::P4Info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::stream_message_response::Update;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Code;

use crate::pipeline::{Clock, Marking, WorkerStats};
use crate::ports::carrier::LinkWatch;
use crate::ports::files::Replay;
use crate::ports::observer::Observer;
use crate::ports::tx::PortCounters;
use crate::ports::wake::Waker;
use crate::ports::{
    self, DROP_PORT, LinkConfig, MAX_FRAME, MemoryPort, Observe, PortError, PortId, PortSpec, PortStates,
    PortStatistics, Receive, Transmit,
};
use crate::server::config::ForwardingPipeline;
use crate::server::control::Control;
use crate::server::digest;
use crate::server::error::Refused;
use crate::server::listener::Tls;
use crate::server::role::Access;
use crate::server::stream::StreamSender;
use crate::server::{self, ServeError};
use crate::trace::{TraceConfig, Tracer};
use crate::workers::{MAX_WORKERS, Workers};

/// Packet-outs that may wait for the worker; further ones are refused.
pub const INJECT_QUEUE: usize = 1024;

/// Frames that the switch as a whole could not put anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchStatistics {
    /// Frames that arrived while no pipeline was loaded.
    pub no_pipeline: u64,
    /// Frames that the program sent to a port that does not exist.
    pub no_such_port: u64,
    /// Packet-ins sent to a primary; one that goes to those of two roles counts twice.
    pub packet_ins: u64,
    /// Packet-ins dropped because there was no primary whose role receives them.
    pub packet_ins_without_primary: u64,
    /// Packet-ins dropped because a primary did not read fast enough.
    pub packet_ins_overflowed: u64,
    /// Packet-ins dropped because they were shorter than the program's own packet-in header.
    pub packet_ins_too_short: u64,
    /// Lists of digests sent to the primary.
    pub digest_lists: u64,
    /// Lists of digests dropped because there was no primary, or it did not read fast enough. Their samples may be sent
    /// again.
    pub digest_lists_dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct SwitchCounters {
    pub(crate) no_pipeline: AtomicU64,
    pub(crate) no_such_port: AtomicU64,
    packet_ins: AtomicU64,
    packet_ins_without_primary: AtomicU64,
    packet_ins_overflowed: AtomicU64,
    packet_ins_too_short: AtomicU64,
    digest_lists: AtomicU64,
    digest_lists_dropped: AtomicU64,
}

/// What the worker, the server and the owner of a switch share.
pub(crate) struct Shared {
    started: Instant,
    pub(crate) cpu_port: PortId,
    /// The pipeline that packets run through.
    pub(crate) live: ArcSwapOption<ForwardingPipeline>,
    /// The primaries: where packet-ins and notifications go.
    pub(crate) listeners: ArcSwap<Vec<Listener>>,
    /// What programs tell about their packets.
    pub(crate) marking: Marking,
    /// Takes down the ways of packets, if any are traced.
    pub(crate) tracer: Option<Mutex<Tracer>>,
    /// What each worker's pipeline has done.
    pub(crate) worker_stats: Vec<Mutex<WorkerStats>>,
    /// Of the worker that takes packet-outs.
    pub(crate) waker: Arc<Waker>,
    /// Of all workers.
    pub(crate) wakers: Vec<Arc<Waker>>,
    /// Which ports are up.
    pub(crate) port_states: Arc<PortStates>,
    /// Held while a pipeline is told of port states, so that it hears of them in order.
    telling: Mutex<()>,
    pub(crate) counters: SwitchCounters,
    pub(crate) stopping: AtomicBool,
    injected: SyncSender<Vec<u8>>,
    /// Turns true when a worker has ended, however it did.
    pub(crate) worker_ended: watch::Sender<bool>,
}

/// The stream of one role's primary.
pub(crate) struct Listener {
    pub(crate) sender: StreamSender,
    /// What its role includes: only of that it hears.
    pub(crate) access: Access,
}

impl Shared {
    /// Completes when a worker has ended.
    pub(crate) async fn packet_thread_ended(&self) {
        // The sender is in `self`, so it cannot be gone.
        let _ = self.worker_ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Nanoseconds since the switch started: the clock of everything in it.
    pub(crate) fn nanoseconds(&self) -> u64 {
        // Wraps after 584 years.
        self.started.elapsed().as_nanos() as u64
    }

    /// The clock that a pipeline's meters go by.
    pub(crate) fn clock(self: &Arc<Self>) -> Arc<dyn Clock> {
        Arc::new(SwitchClock(self.started))
    }

    /// Makes a pipeline the one that packets run through.
    pub(crate) fn commit(&self, pipeline: Arc<ForwardingPipeline>) {
        let telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        pipeline.dataplane.set_ports(self.port_states.all());
        self.live.store(Some(pipeline));
        drop(telling);
        self.wake_all();
    }

    /// Tells the pipeline which ports are up, for groups whose members watch one.
    fn tell_ports(&self) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = self.live.load_full() {
            pipeline.dataplane.set_ports(self.port_states.all());
        }
    }

    fn wake_all(&self) {
        self.wakers.iter().for_each(|waker| waker.wake());
    }

    /// Queues a frame that enters at the CPU port.
    pub(crate) fn inject(&self, frame: Vec<u8>) -> Result<(), Refused> {
        if frame.len() > MAX_FRAME {
            return Err(Refused::invalid(format!(
                "the packet with its header has {} bytes; {MAX_FRAME} is the most",
                frame.len()
            )));
        }
        self.injected.try_send(frame).map_err(|e| match e {
            TrySendError::Full(_) => Refused::new(
                Code::ResourceExhausted,
                format!("{INJECT_QUEUE} packet-outs wait already: send more slowly"),
            ),
            TrySendError::Disconnected(_) => Refused::new(Code::Unavailable, "the switch is shutting down"),
        })?;
        self.waker.wake();
        Ok(())
    }

    /// Sends a frame that left at the CPU port to the primary of each role that receives it.
    pub(crate) fn packet_in(&self, pipeline: &ForwardingPipeline, frame: &[u8]) {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let listeners = self.listeners.load();
        if listeners.is_empty() {
            count(&self.counters.packet_ins_without_primary);
            return;
        }
        let Some((metadata, payload)) = pipeline.binding.packet_in.split(Bytes::copy_from_slice(frame)) else {
            count(&self.counters.packet_ins_too_short);
            return;
        };
        let mut wanted = false;
        for listener in listeners.iter().filter(|l| l.access.receives(&metadata)) {
            wanted = true;
            let packet = v1::PacketIn { payload: payload.clone(), metadata: metadata.clone() };
            let sent = listener.sender.offer(Update::Packet(packet));
            count(if sent { &self.counters.packet_ins } else { &self.counters.packet_ins_overflowed });
        }
        if !wanted {
            count(&self.counters.packet_ins_without_primary);
        }
    }
}

impl Shared {
    /// Sends the lists of digests whose time has come to the primary of each role that hears of them.
    #[cold]
    pub(crate) fn send_digests(&self, pipeline: &ForwardingPipeline, now: u64) {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Beyond the year 2262 there is no time stamp.
        let timestamp = i64::try_from(since_epoch.as_nanos()).unwrap_or(0);
        let listeners = self.listeners.load();
        for list in pipeline.dataplane.digests().take(now) {
            let mut sent = false;
            if let Some(message) = digest::encode(pipeline, &list, timestamp) {
                for listener in listeners.iter().filter(|l| l.access.covers(message.digest_id)) {
                    sent |= listener.sender.offer(Update::Digest(message.clone()));
                }
            }
            if sent {
                count(&self.counters.digest_lists);
            } else {
                count(&self.counters.digest_lists_dropped);
                pipeline.dataplane.digests().forget(list.digest, list.id);
            }
        }
    }
}

/// The switch's own time, in microseconds since it started.
struct SwitchClock(Instant);

impl Clock for SwitchClock {
    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// Why a switch could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The CPU port's number is v1model's drop port.
    #[error("the CPU port cannot be {DROP_PORT}, which is v1model's drop port: choose another number, such as 510")]
    CpuPortIsDropPort,
    /// The operating system refused something.
    #[error("the switch cannot start: {0}")]
    System(#[from] std::io::Error),
    /// A port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The pipeline.
    #[error("the pipeline cannot be loaded: {0}")]
    Pipeline(#[from] Refused),
}

/// Describes a switch before it starts.
#[derive(Debug)]
pub struct SwitchBuilder {
    device_id: u64,
    cpu_port: PortId,
    ports: Vec<PortSpec>,
    observe: Observe,
    workers: usize,
    count_tables: bool,
    trace: Option<TraceConfig>,
}

impl SwitchBuilder {
    /// Adds a port.
    #[must_use]
    pub fn port(mut self, port: PortSpec) -> Self {
        self.ports.push(port);
        self
    }

    /// Captures and shows the frames of all ports, in memory excepted.
    #[must_use]
    pub fn observe(mut self, observe: Observe) -> Self {
        self.observe = observe;
        self
    }

    /// How many threads move packets: 1 if nothing is said, [`MAX_WORKERS`] at most. A packet never overtakes another of
    /// its flow, but with more than one, registers are no longer read and written by one packet at a time.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Counts the hits and misses of each table, which costs some nanoseconds a lookup.
    #[must_use]
    pub fn count_tables(mut self) -> Self {
        self.count_tables = true;
        self
    }

    /// Traces packets. All of them become slow, not only those that are traced.
    #[must_use]
    pub fn trace(mut self, trace: TraceConfig) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Opens the ports and starts the workers. Frames are dropped (and counted) until a pipeline is loaded.
    ///
    /// # Errors
    /// A port that cannot be opened, or no resources for a thread.
    pub fn start(self) -> Result<Switch, SwitchError> {
        if self.cpu_port == DROP_PORT {
            return Err(SwitchError::CpuPortIsDropPort);
        }
        self.observe.check()?;
        let workers = self.workers.clamp(1, MAX_WORKERS);
        let (injected, injected_out) = mpsc::sync_channel(INJECT_QUEUE);
        let wakers = (0..workers).map(|_| Waker::new().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            started: Instant::now(),
            cpu_port: self.cpu_port,
            live: ArcSwapOption::empty(),
            listeners: ArcSwap::default(),
            marking: match (&self.trace, self.count_tables) {
                (Some(_), _) => Marking::Steps,
                (None, true) => Marking::Tables,
                (None, false) => Marking::None,
            },
            tracer: self.trace.map(Tracer::new).transpose()?.map(Mutex::new),
            worker_stats: (0..workers).map(|_| Mutex::default()).collect(),
            waker: Arc::clone(&wakers[0]),
            wakers,
            port_states: Arc::default(),
            telling: Mutex::default(),
            counters: SwitchCounters::default(),
            stopping: AtomicBool::new(false),
            injected,
            worker_ended: watch::channel(false).0,
        });
        let listener = Arc::downgrade(&shared);
        shared.port_states.on_change(move || {
            if let Some(shared) = listener.upgrade() {
                shared.tell_ports();
            }
        });
        let switch = Switch {
            control: Arc::new(Control::new(self.device_id, Arc::clone(&shared))),
            workers: Workers::start(&shared, injected_out)?,
            shared,
            ports: Mutex::default(),
            links: LinkWatch::default(),
            observe: self.observe,
            replay: Replay::default(),
        };
        for port in self.ports {
            switch.add_port(&port)?;
        }
        Ok(switch)
    }
}

/// A running switch. Dropping it stops the workers and closes the ports.
pub struct Switch {
    shared: Arc<Shared>,
    control: Arc<Control>,
    workers: Workers,
    /// The counters of each worker.
    ports: Mutex<BTreeMap<PortId, Vec<Arc<PortCounters>>>>,
    links: LinkWatch,
    observe: Observe,
    replay: Replay,
}

impl Switch {
    /// A switch with this P4Runtime device id, whose program reaches the controller through `cpu_port`.
    #[must_use]
    pub fn builder(device_id: u64, cpu_port: PortId) -> SwitchBuilder {
        SwitchBuilder {
            device_id,
            cpu_port,
            ports: Vec::new(),
            observe: Observe::default(),
            workers: 1,
            count_tables: false,
            trace: None,
        }
    }

    /// The P4Runtime device id.
    #[must_use]
    pub fn device_id(&self) -> u64 {
        self.control.device_id
    }

    /// Opens a port while the switch runs. Returns the local address of a UDP port, which tells the port number that
    /// the system chose for port 0.
    ///
    /// # Errors
    /// A number that is taken, or a device that cannot be opened.
    pub fn add_port(&self, spec: &PortSpec) -> Result<Option<SocketAddr>, PortError> {
        // Opened on this thread: an interface is one of the network namespace of the thread that opens it.
        let observer = Observer::new(spec, &self.observe)?;
        // A capture sees the frames one by one.
        let receive = if observer.is_none() { self.workers.count() } else { 1 };
        let opened = ports::open(&spec.device, &self.replay, receive, self.workers.count())?;
        let (address, carrier) = (opened.address, opened.carrier);
        self.attach(spec.number, opened.receive, opened.transmit, &spec.link, observer)?;
        match carrier {
            Some(carrier) => {
                self.links.add(&self.shared.port_states, spec.number, carrier).map_err(PortError::no_thread)?
            }
            None => drop(self.shared.port_states.set(spec.number, true)),
        }
        Ok(address)
    }

    /// Adds a port in memory and returns its outside end.
    ///
    /// # Errors
    /// A number that is taken.
    pub fn add_memory_port(&self, number: PortId, link: &LinkConfig) -> Result<MemoryPort, PortError> {
        let (outside, receive, half) = MemoryPort::pair(number, self.workers.home_waker(number));
        let transmit = ports::transmitting(vec![half; self.workers.count()]);
        self.attach(number, vec![Box::new(receive)], transmit, link, None)?;
        self.shared.port_states.set(number, true);
        Ok(outside)
    }

    fn attach(
        &self,
        number: PortId,
        receive: Vec<Box<dyn Receive>>,
        transmit: Vec<Box<dyn Transmit>>,
        link: &LinkConfig,
        observer: Option<Box<Observer>>,
    ) -> Result<(), PortError> {
        if number == DROP_PORT {
            return Err(PortError::DropPort);
        }
        if number == self.shared.cpu_port {
            return Err(PortError::CpuPort(number));
        }
        let mut ports = self.ports();
        if ports.contains_key(&number) {
            return Err(PortError::Duplicate(number));
        }
        ports.insert(number, self.workers.attach(number, receive, transmit, link, observer)?);
        Ok(())
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<PortId, Vec<Arc<PortCounters>>>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each port has carried.
    #[must_use]
    pub fn port_statistics(&self) -> BTreeMap<PortId, PortStatistics> {
        let sum = |counters: &Vec<Arc<PortCounters>>| {
            let mut sum = PortStatistics::default();
            counters.iter().for_each(|worker| sum += worker.read());
            sum
        };
        self.ports().iter().map(|(number, counters)| (*number, sum(counters))).collect()
    }

    /// What the pipeline has done with packets: all workers, all programs since the start.
    #[must_use]
    pub fn pipeline_statistics(&self) -> WorkerStats {
        let mut sum = WorkerStats::default();
        for worker in &self.shared.worker_stats {
            sum += *worker.lock().unwrap_or_else(PoisonError::into_inner);
        }
        sum
    }

    /// How many streams controllers have open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.control.open_streams()
    }

    /// How many frames each worker has received.
    #[must_use]
    pub fn worker_received(&self) -> Vec<u64> {
        let mut received = vec![0; self.workers.count()];
        for counters in self.ports().values() {
            received.iter_mut().zip(counters).for_each(|(n, worker)| *n += worker.read().received_frames);
        }
        received
    }

    /// Lets the frames of ports that are capture files come in, that long from now; before the call they wait.
    pub fn replay_after(&self, wait: Duration) {
        self.replay.begin_after(wait);
        self.shared.wake_all();
    }

    /// Sets the link of a port up or down, as members of action profile groups see it that watch the port. Says
    /// nothing about a port that does not exist; a port over an interface is asked again soon after.
    pub fn set_port_up(&self, number: PortId, up: bool) {
        if self.ports().contains_key(&number) {
            self.shared.port_states.set(number, up);
        }
    }

    /// Which ports are up, now and later.
    #[must_use]
    pub fn port_states(&self) -> &Arc<PortStates> {
        &self.shared.port_states
    }

    /// What the switch as a whole has dropped or sent to its controller.
    #[must_use]
    pub fn statistics(&self) -> SwitchStatistics {
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SwitchStatistics {
            no_pipeline: get(&counters.no_pipeline),
            no_such_port: get(&counters.no_such_port),
            packet_ins: get(&counters.packet_ins),
            packet_ins_without_primary: get(&counters.packet_ins_without_primary),
            packet_ins_overflowed: get(&counters.packet_ins_overflowed),
            packet_ins_too_short: get(&counters.packet_ins_too_short),
            digest_lists: get(&counters.digest_lists),
            digest_lists_dropped: get(&counters.digest_lists_dropped),
        }
    }

    /// Loads a program (BMv2 JSON) with its P4Info, as a controller's VERIFY_AND_COMMIT would, but without a cookie.
    ///
    /// # Errors
    /// A program that this switch cannot run, or a P4Info that does not fit it.
    pub fn load_pipeline(&self, p4info: P4Info, json: Vec<u8>) -> Result<(), SwitchError> {
        let config = v1::ForwardingPipelineConfig { p4info: Some(p4info), p4_device_config: json, cookie: None };
        let pipeline = ForwardingPipeline::new(config, self.shared.clock(), self.shared.marking)?;
        self.shared.commit(Arc::new(pipeline));
        Ok(())
    }

    /// The pipeline that packets run through now.
    #[must_use]
    pub fn pipeline(&self) -> Option<Arc<ForwardingPipeline>> {
        self.shared.live.load_full()
    }

    /// Serves P4Runtime on a listener until `shutdown` completes. The packet thread goes on until the switch is
    /// dropped.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        server::serve(Arc::clone(&self.control), listener, None, shutdown).await
    }

    /// Serves P4Runtime as [`Switch::serve`] does, with TLS.
    ///
    /// # Errors
    /// A certificate or key that cannot be used, or when the server fails.
    pub async fn serve_tls(
        &self,
        listener: TcpListener,
        tls: &Tls,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        server::serve(Arc::clone(&self.control), listener, Some(tls), shutdown).await
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake_all();
        self.workers.join();
    }
}
