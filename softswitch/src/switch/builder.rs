//! Describing a switch, and starting it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use super::shared::{Shared, SwitchCounters};
use super::{INJECT_QUEUE, Switch, SwitchError};
use crate::pipeline::{EgressQueues, MAX_PRIORITIES, Marking, Target};
use crate::ports::carrier::LinkWatch;
use crate::ports::files::Replay;
use crate::ports::wake::Waker;
use crate::ports::{Observe, PortId, PortSpec};
use crate::server::control::Control;
use crate::trace::{TraceConfig, Tracer};
use crate::workers::{MAX_WORKERS, Workers};

/// Describes a switch before it starts.
#[derive(Debug)]
pub struct SwitchBuilder {
    device_id: u64,
    cpu_port: PortId,
    ports: Vec<PortSpec>,
    observe: Observe,
    workers: usize,
    target: Target,
    count_tables: bool,
    trace: Option<TraceConfig>,
}

impl SwitchBuilder {
    pub(super) fn new(device_id: u64, cpu_port: PortId) -> Self {
        Self {
            device_id,
            cpu_port,
            ports: Vec::new(),
            observe: Observe::default(),
            workers: 1,
            target: Target::default(),
            count_tables: false,
            trace: None,
        }
    }

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

    /// The `egress_spec` of a packet that is dropped: 511 if nothing is said, as v1model has it. No port may have the
    /// number.
    #[must_use]
    pub fn drop_port(mut self, port: PortId) -> Self {
        self.target.drop_port = port;
        self
    }

    /// Priorities of each port's egress queues, 1 to [`MAX_PRIORITIES`]; 1 if nothing is said. A packet with any other
    /// `priority` is dropped.
    #[must_use]
    pub fn priority_queues(mut self, priorities: u8) -> Self {
        self.target.priority_queues = priorities;
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
        let target = self.target;
        if self.cpu_port == target.drop_port {
            return Err(SwitchError::CpuPortIsDropPort(self.cpu_port));
        }
        if !(1..=MAX_PRIORITIES).contains(&target.priority_queues) {
            return Err(SwitchError::Priorities(target.priority_queues));
        }
        let marking = match (&self.trace, self.count_tables) {
            (Some(_), _) => Marking::Steps,
            (None, true) => Marking::Tables,
            (None, false) => Marking::None,
        };
        self.observe.check()?;
        let workers = self.workers.clamp(1, MAX_WORKERS);
        let (injected, injected_out) = mpsc::sync_channel(INJECT_QUEUE);
        let wakers = (0..workers).map(|_| Waker::new().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            started: Instant::now(),
            cpu_port: self.cpu_port,
            live: ArcSwapOption::empty(),
            listeners: ArcSwap::default(),
            target: Target { marking, ..target },
            tracer: self.trace.map(Tracer::new).transpose()?.map(Mutex::new),
            worker_stats: (0..workers).map(|_| Mutex::default()).collect(),
            waker: Arc::clone(&wakers[0]),
            wakers,
            port_states: Arc::default(),
            telling: Mutex::default(),
            counters: SwitchCounters::default(),
            queues: Arc::new(EgressQueues::new(target.priority_queues)),
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
