//! A switch: ports, one pipeline, and the P4Runtime server over it.

mod builder;
mod shared;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmux_p4rt::p4::config::v1::P4Info;
use dmux_p4rt::p4::v1;
use tokio::net::TcpListener;

use crate::pipeline::queue::{QueueConfig, QueueStatistics};
use crate::pipeline::{MAX_PRIORITIES, WorkerStats};
use crate::ports::carrier::LinkWatch;
use crate::ports::files::Replay;
use crate::ports::observer::Observer;
use crate::ports::tx::PortCounters;
use crate::ports::{
    self, LinkConfig, MemoryPort, Observe, PortError, PortId, PortSpec, PortStates, PortStatistics, Receive, Transmit,
};
use crate::server::config::ForwardingPipeline;
use crate::server::control::Control;
use crate::server::error::Refused;
use crate::server::listener::Tls;
use crate::server::{self, ServeError};
use crate::workers::Workers;

pub use builder::SwitchBuilder;
pub(crate) use shared::{Listener, Shared};

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

/// What controllers have done over P4Runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatistics {
    /// Streams that are open.
    pub open_streams: usize,
    /// Streams that were ever opened.
    pub streams: u64,
    /// Write requests by the code of the answer; one with any failed update is UNKNOWN (§12.3).
    pub writes: Vec<(&'static str, u64)>,
    /// Updates by their own codes, in requests that were not refused as a whole.
    pub updates: Vec<(&'static str, u64)>,
}

/// Why a switch could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The CPU port's number is the drop port.
    #[error(
        "the CPU port cannot be {0}, which is the drop port (v1model's is 511): choose another number, such as 510"
    )]
    CpuPortIsDropPort(PortId),
    /// A number of priorities that no port can have.
    #[error("a port cannot have {0} priorities: give it 1 to {MAX_PRIORITIES}")]
    Priorities(u8),
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
        SwitchBuilder::new(device_id, cpu_port)
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
        if let Some(egress) = spec.egress {
            self.set_egress_queues(spec.number, egress);
        }
        self.attach(spec.number, opened.receive, opened.transmit, &spec.link, observer)?;
        match carrier {
            Some(carrier) => {
                self.links.add(&self.shared.port_states, spec.number, carrier).map_err(PortError::no_thread)?
            }
            None => drop(self.shared.port_states.set(spec.number, true)),
        }
        Ok(address)
    }

    /// Gives a port egress queues, one for each priority, or changes the depth and rate of those that it has. Nobody waits
    /// for a port that was never given any, and nothing can take them away again: without a rate, packets pass through
    /// them.
    pub fn set_egress_queues(&self, port: PortId, config: QueueConfig) {
        self.shared.queues.configure(port, config);
    }

    /// What is in the egress queues of each port that has any, and what they have done; the lowest priority first.
    #[must_use]
    pub fn egress_queues(&self) -> BTreeMap<PortId, Vec<QueueStatistics>> {
        self.shared.queues.statistics()
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
        if number == self.shared.target.drop_port {
            return Err(PortError::DropPort(number));
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

    /// What controllers have done.
    #[must_use]
    pub fn server_statistics(&self) -> ServerStatistics {
        let (open_streams, streams) = self.control.stream_counts();
        let (writes, updates) = (self.control.writes.read(), self.control.updates.read());
        ServerStatistics { open_streams, streams, writes, updates }
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
        self.shared.counters.read()
    }

    /// Loads a program (BMv2 JSON) with its P4Info, as a controller's VERIFY_AND_COMMIT would, but without a cookie.
    ///
    /// # Errors
    /// A program that this switch cannot run, or a P4Info that does not fit it.
    pub fn load_pipeline(&self, p4info: P4Info, json: Vec<u8>) -> Result<(), SwitchError> {
        let config = v1::ForwardingPipelineConfig { p4info: Some(p4info), p4_device_config: json, cookie: None };
        let pipeline = ForwardingPipeline::new(config, self.shared.clock(), self.shared.target)?;
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
