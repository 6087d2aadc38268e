//! What the workers, the server and the owner of a switch share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::stream_message_response::Update;
use tokio::sync::watch;
use tonic::Code;

use super::{INJECT_QUEUE, SwitchStatistics};
use crate::pipeline::{Clock, EgressQueues, Target, WorkerStats};
use crate::ports::wake::Waker;
use crate::ports::{MAX_FRAME, PortId, PortStates};
use crate::server::config::ForwardingPipeline;
use crate::server::digest;
use crate::server::error::Refused;
use crate::server::role::Access;
use crate::server::stream::StreamSender;
use crate::trace::Tracer;

/// The counts behind [`SwitchStatistics`].
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

impl SwitchCounters {
    pub(super) fn read(&self) -> SwitchStatistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SwitchStatistics {
            no_pipeline: get(&self.no_pipeline),
            no_such_port: get(&self.no_such_port),
            packet_ins: get(&self.packet_ins),
            packet_ins_without_primary: get(&self.packet_ins_without_primary),
            packet_ins_overflowed: get(&self.packet_ins_overflowed),
            packet_ins_too_short: get(&self.packet_ins_too_short),
            digest_lists: get(&self.digest_lists),
            digest_lists_dropped: get(&self.digest_lists_dropped),
        }
    }
}

/// What the worker, the server and the owner of a switch share.
pub(crate) struct Shared {
    pub(super) started: Instant,
    pub(crate) cpu_port: PortId,
    /// The pipeline that packets run through.
    pub(crate) live: ArcSwapOption<ForwardingPipeline>,
    /// The primaries: where packet-ins and notifications go.
    pub(crate) listeners: ArcSwap<Vec<Listener>>,
    /// What programs are compiled for.
    pub(crate) target: Target,
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
    pub(super) telling: Mutex<()>,
    pub(crate) counters: SwitchCounters,
    /// Where packets wait for ports that have egress queues.
    pub(crate) queues: Arc<EgressQueues>,
    pub(crate) stopping: AtomicBool,
    pub(super) injected: SyncSender<Vec<u8>>,
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
        pipeline.dataplane.set_ports(self.ports());
        self.live.store(Some(pipeline));
        drop(telling);
        self.wake_all();
    }

    /// Which ports there are, and whether they are up. The CPU port always is.
    pub(crate) fn ports(&self) -> BTreeMap<PortId, bool> {
        let mut all = self.port_states.all();
        all.insert(self.cpu_port, true);
        all
    }

    /// Tells the pipeline which ports are up, for groups whose members watch one, and replicas that have backups.
    pub(super) fn tell_ports(&self) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = self.live.load_full() {
            pipeline.dataplane.set_ports(self.ports());
        }
    }

    pub(super) fn wake_all(&self) {
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
