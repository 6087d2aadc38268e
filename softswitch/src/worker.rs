//! A thread that moves packets: it polls its ports and runs each frame to completion.
//!
//! ```text
//!  ports ──receive──▶ pipeline::Worker ──┬─▶ port ──(capture, emulated link)──▶ device
//!  packet-outs (CPU port) ──────────────▶│
//!                                        └─▶ CPU port ──▶ the primary's stream
//! ```
//!
//! Packets for a port with egress queues stop between ingress and egress; the first worker runs them on when their time has
//! come ([`pipeline::EgressQueues`]).
//!
//! Several workers share the tables and those queues, and nothing else. A flow stays with one of them: a port's frames are received by one
//! worker, or dealt out by addresses ([`crate::ports::fanout`] has the details). Each worker has a way of its own out of
//! every port, except where frames have to pass one by one (an emulated link, a capture, a file): such a port has a
//! home worker, to which the others hand their frames in order. So a frame never overtakes another of its flow.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use crate::pipeline;
use crate::ports::handoff::Handed;
use crate::ports::tx::{Now, PortCounters, TxPort};
use crate::ports::wake::Waker;
use crate::ports::{Deliver, PortId, RECEIVE_BUDGET, Receive};
use crate::server::config::ForwardingPipeline;
use crate::switch::Shared;

/// Packet-outs taken in one round: the control plane may not starve the ports.
const INJECT_BUDGET: usize = 64;

/// The longest wait, after which statistics are brought up to date.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Rounds without a frame before the worker sleeps: waking costs more than a few looks at the rings.
const IDLE_ROUNDS: u32 = 4;

/// Frames sent for other workers in one round.
const HANDOFF_BUDGET: usize = 256;

/// A port as it is given to one worker.
pub(crate) struct NewPort {
    pub(crate) number: PortId,
    /// What this worker receives of the port; nothing, if another one does.
    pub(crate) receive: Option<Box<dyn Receive>>,
    pub(crate) transmit: TxPort,
}

struct RxPort {
    number: PortId,
    /// Its index in `Ports::tx`.
    index: usize,
    device: Box<dyn Receive>,
    counters: Arc<PortCounters>,
}

/// No port has this index.
const NO_PORT: u16 = u16::MAX;

/// Ports by number, for what leaves.
struct Ports {
    tx: Vec<TxPort>,
    /// From port number to index in `tx`.
    index: Vec<u16>,
    /// Ports given to this worker.
    new: Receiver<NewPort>,
    /// The receiving halves of such as were taken up in the middle of a round.
    arrived: Vec<RxPort>,
}

impl Ports {
    /// The port that a frame leaves by. One that is not known was perhaps given to us since this round began, and the frame
    /// sent after that, or handed over by a worker that knew the port before us.
    #[inline]
    fn get(&mut self, number: PortId) -> Option<&mut TxPort> {
        if self.find(number).is_none() {
            self.take_up();
        }
        let index = self.find(number)?;
        self.tx.get_mut(index)
    }

    #[inline]
    fn find(&self, number: PortId) -> Option<usize> {
        self.index.get(usize::from(number)).filter(|&&index| index != NO_PORT).map(|&index| usize::from(index))
    }

    /// Takes up ports that were given to this worker.
    fn take_up(&mut self) {
        while let Ok(port) = self.new.try_recv() {
            let number = usize::from(port.number);
            if self.index.len() <= number {
                self.index.resize(number + 1, NO_PORT);
            }
            // Port numbers are 16 bits wide and distinct, 511 and the CPU port are refused: the index fits.
            self.index[number] = self.tx.len() as u16;
            let counters = Arc::clone(&port.transmit.counters);
            if let Some(device) = port.receive {
                self.arrived.push(RxPort { number: port.number, index: self.tx.len(), device, counters });
            }
            self.tx.push(port.transmit);
        }
    }
}

/// What comes to a worker other than by its ports.
pub(crate) struct Channels {
    /// Ports, before anybody can send a frame to them.
    pub(crate) new_ports: Receiver<NewPort>,
    /// Frames that other workers hand over.
    pub(crate) handed: Receiver<Handed>,
    /// Packet-outs, which one worker takes.
    pub(crate) injected: Option<Receiver<Vec<u8>>>,
}

pub(crate) struct PacketWorker {
    shared: Arc<Shared>,
    waker: Arc<Waker>,
    /// Frames that other workers hand over.
    handed: Receiver<Handed>,
    /// Packet-outs, which one worker takes.
    injected: Option<Receiver<Vec<u8>>>,
    /// Which of the switch's workers this is.
    number: usize,
    /// What pipelines did that are not run any more.
    before: pipeline::WorkerStats,
    rx: Vec<RxPort>,
    ports: Ports,
    poll: Vec<libc::pollfd>,
    /// Packets put into egress queues, as far as the worker was told that runs them on.
    queued: u64,
    /// The pipeline that `machine` runs.
    current: Option<(Arc<ForwardingPipeline>, pipeline::Worker)>,
}

impl PacketWorker {
    pub(crate) fn new(shared: Arc<Shared>, number: usize, channels: Channels) -> Self {
        let waker = Arc::clone(&shared.wakers[number]);
        let before = pipeline::WorkerStats::default();
        let Channels { new_ports, handed, injected } = channels;
        let ports = Ports { tx: Vec::new(), index: Vec::new(), new: new_ports, arrived: Vec::new() };
        Self {
            shared,
            waker,
            handed,
            injected,
            number,
            before,
            rx: Vec::new(),
            ports,
            poll: Vec::new(),
            queued: 0,
            current: None,
        }
    }

    /// Runs until the switch stops.
    pub(crate) fn run(mut self) {
        let mut idle = 0;
        while !self.shared.stopping.load(Ordering::Acquire) {
            if self.round() > 0 {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle < IDLE_ROUNDS {
                std::hint::spin_loop();
                continue;
            }
            idle = 0;
            for port in &mut self.ports.tx {
                port.idle();
            }
            self.waker.fall_asleep();
            // What arrived between the last look and the announcement would not wake us.
            if self.round() == 0 && !self.shared.stopping.load(Ordering::Acquire) {
                self.wait();
            }
            self.waker.woke_up();
        }
        for port in &mut self.ports.tx {
            port.idle();
        }
    }

    fn now(&self) -> Now {
        Now { nanoseconds: self.shared.nanoseconds(), wall: SystemTime::now() }
    }

    /// One look at everything; returns how many frames there were.
    fn round(&mut self) -> usize {
        self.adopt_new();
        self.follow_pipeline();
        let now = self.now();
        let mut frames = self.send_handed(now);
        if let Some(injected) = &self.injected {
            let mut forward = Forward::new(&self.shared, &mut self.ports, &mut self.current, now);
            for _ in 0..INJECT_BUDGET {
                let Ok(frame) = injected.try_recv() else { break };
                forward.process(self.shared.cpu_port, &frame);
                frames += 1;
            }
        }
        for port in &mut self.rx {
            let now = Now { nanoseconds: self.shared.nanoseconds(), wall: SystemTime::now() };
            let forward = Forward::new(&self.shared, &mut self.ports, &mut self.current, now);
            let mut intake = Intake { forward, port: port.number, index: port.index, bytes: 0 };
            let count = port.device.receive(RECEIVE_BUDGET, &mut intake);
            if count > 0 {
                port.counters.received(count as u64, intake.bytes);
                frames += count;
            }
        }
        let now = self.now();
        frames += self.queues(now);
        if let Some((pipeline, _)) = &self.current
            && pipeline.dataplane.digests().due().is_some_and(|due| due <= now.nanoseconds)
        {
            self.shared.send_digests(pipeline, now.nanoseconds);
        }
        for port in &mut self.ports.tx {
            port.drive(now);
        }
        if frames > 0 {
            self.publish();
        }
        frames
    }

    /// Runs what has waited in egress queues and may go, if this is the worker that does: the first. Returns 1 if there was
    /// something, else 0.
    fn queues(&mut self, now: Now) -> usize {
        if self.injected.is_none() {
            let queued = self.current.as_ref().map_or(0, |(_, machine)| machine.stats().queued);
            if queued != self.queued {
                self.queued = queued;
                self.shared.waker.wake();
            }
            return 0;
        }
        if self.shared.queues.due().is_none_or(|due| due > now.nanoseconds) {
            return 0;
        }
        // Other workers may have learnt of a pipeline before us, and put packets in that are for it.
        self.follow_pipeline();
        Forward::new(&self.shared, &mut self.ports, &mut self.current, now).serve_queues();
        1
    }

    /// Lets others see what the pipeline has done.
    fn publish(&self) {
        let mut stats = self.before;
        if let Some((_, machine)) = &self.current {
            stats += machine.stats();
        }
        if let Some(published) = self.shared.worker_stats.get(self.number) {
            *published.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        }
    }

    fn adopt_new(&mut self) {
        self.ports.take_up();
        for port in self.ports.arrived.drain(..) {
            if let Some(fd) = port.device.readiness() {
                self.poll.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
            }
            self.rx.push(port);
        }
    }

    /// Sends what other workers have handed over; returns how many frames there were.
    fn send_handed(&mut self, now: Now) -> usize {
        for count in 0..HANDOFF_BUDGET {
            let Ok(Handed { port, frame }) = self.handed.try_recv() else { return count };
            if let Some(port) = self.ports.get(port) {
                port.pass(now, &frame);
            }
        }
        HANDOFF_BUDGET
    }

    /// Changes to a newly committed pipeline between two packets.
    fn follow_pipeline(&mut self) {
        let live = self.shared.live.load();
        let same = match (&*live, &self.current) {
            (None, None) => true,
            (Some(live), Some((current, _))) => Arc::ptr_eq(live, current),
            _ => false,
        };
        if !same {
            if let Some((_, machine)) = &self.current {
                self.before += machine.stats();
            }
            self.queued = 0;
            self.current = live.clone().map(|live| {
                let machine = pipeline::Worker::new(&live.dataplane).with_queues(Arc::clone(&self.shared.queues));
                (live, machine)
            });
        }
    }

    /// Waits for a port, the waker, or the next frame on an emulated link.
    fn wait(&mut self) {
        let now = self.shared.nanoseconds();
        let digests = self.current.as_ref().and_then(|(pipeline, _)| pipeline.dataplane.digests().due());
        let queues = self.shared.queues.due().filter(|_| self.injected.is_some());
        let deadline = self.ports.tx.iter().filter_map(TxPort::next_deadline).chain(digests).chain(queues).min();
        let wait = deadline.map_or(LONGEST_WAIT, |d| Duration::from_nanos(d.saturating_sub(now)).min(LONGEST_WAIT));
        let timeout =
            libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: libc::c_long::from(wait.subsec_nanos()) };
        let ports = self.poll.len();
        self.poll.push(libc::pollfd { fd: self.waker.readiness(), events: libc::POLLIN, revents: 0 });
        // SAFETY: a live array of its own length, a live timeout, and no signal mask.
        unsafe {
            libc::ppoll(self.poll.as_mut_ptr(), self.poll.len() as libc::nfds_t, &timeout, std::ptr::null());
        }
        self.poll.truncate(ports);
        for poll in &self.poll {
            if poll.revents & (libc::POLLERR | libc::POLLNVAL) == 0 {
                continue;
            }
            if let Some(port) = self.rx.iter_mut().find(|p| p.device.readiness() == Some(poll.fd)) {
                port.device.clear_error();
            }
        }
        for port in &mut self.rx {
            let drops = port.device.take_kernel_drops();
            if drops > 0 {
                port.counters.kernel_dropped(drops);
            }
        }
    }
}

/// The frames of a port on their way in.
struct Intake<'a> {
    forward: Forward<'a>,
    port: PortId,
    /// The port's index in `Ports::tx`.
    index: usize,
    bytes: u64,
}

impl Deliver for Intake<'_> {
    #[inline]
    fn deliver(&mut self, frame: &[u8]) {
        self.bytes += frame.len() as u64;
        if let Some(observer) = self.forward.ports.tx.get_mut(self.index).and_then(|tx| tx.observer.as_mut()) {
            observer.received(self.forward.now.wall, frame);
        }
        self.forward.process(self.port, frame);
    }

    #[inline]
    fn coming(&mut self, frame: &[u8]) {
        if let Some((_, batch)) = &mut self.forward.pipeline {
            batch.coming(frame);
        }
    }
}

/// What a batch of frames needs on its way through.
struct Forward<'a> {
    shared: &'a Shared,
    ports: &'a mut Ports,
    /// The pipeline, with its tables held for the batch.
    pipeline: Option<(&'a ForwardingPipeline, pipeline::Batch<'a, 'a>)>,
    now: Now,
}

impl<'a> Forward<'a> {
    fn new(
        shared: &'a Shared,
        ports: &'a mut Ports,
        current: &'a mut Option<(Arc<ForwardingPipeline>, pipeline::Worker)>,
        now: Now,
    ) -> Self {
        let pipeline = current.as_mut().map(|(pipeline, machine)| (&**pipeline, machine.batch(&pipeline.dataplane)));
        Self { shared, ports, pipeline, now }
    }

    /// Runs a frame through the pipeline and sends what comes out.
    #[inline]
    fn process(&mut self, ingress: PortId, frame: &[u8]) {
        let Some((pipeline, batch)) = &mut self.pipeline else {
            self.shared.counters.no_pipeline.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let microseconds = self.now.nanoseconds / 1000;
        let mut out = |egress: u16, frame: &[u8]| send(self.shared, self.ports, pipeline, self.now, egress, frame);
        if let Some(tracer) = &self.shared.tracer {
            let mut tracer = tracer.lock().unwrap_or_else(PoisonError::into_inner);
            if tracer.wants(ingress, self.now.nanoseconds) {
                tracer.write(&batch.process_traced(ingress, frame, microseconds, &mut out));
                return;
            }
        }
        batch.process(ingress, frame, microseconds, &mut out);
    }

    /// Runs what has waited in egress queues and may go.
    fn serve_queues(&mut self) {
        // Without a pipeline, nothing waits that could be run.
        let Some((pipeline, batch)) = &mut self.pipeline else { return };
        let mut out = |egress: u16, frame: &[u8]| send(self.shared, self.ports, pipeline, self.now, egress, frame);
        let mut told = |text: String| {
            if let Some(tracer) = &self.shared.tracer {
                tracer.lock().unwrap_or_else(PoisonError::into_inner).write(&text);
            }
        };
        batch.serve_queues(self.now.nanoseconds, &mut out, &mut told);
    }
}

/// Sends a frame that the pipeline hands out.
#[inline]
fn send(shared: &Shared, ports: &mut Ports, pipeline: &ForwardingPipeline, now: Now, egress: PortId, frame: &[u8]) {
    if let Some(port) = ports.get(egress) {
        port.send(now, frame);
    } else if egress == shared.cpu_port {
        shared.packet_in(pipeline, frame);
    } else {
        shared.counters.no_such_port.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{LinkConfig, MemoryPort};

    #[test]
    fn a_port_is_known_as_soon_as_it_was_given_to_the_worker() {
        let (give, new) = std::sync::mpsc::sync_channel(1);
        let mut ports = Ports { tx: Vec::new(), index: Vec::new(), new, arrived: Vec::new() };
        assert!(ports.get(7).is_none());
        let (_outside, receive, transmit) = MemoryPort::pair(7, Arc::new(Waker::new().unwrap()));
        let transmit = TxPort::new(Box::new(transmit), &LinkConfig::default(), None, Arc::default());
        give.send(NewPort { number: 7, receive: Some(Box::new(receive)), transmit }).unwrap();
        // In the middle of a round, so before the worker looks for new ports again.
        assert!(ports.get(7).is_some());
        assert_eq!(ports.arrived.len(), 1, "frames from it come in from the next round on");
        assert!(ports.get(6).is_none(), "a lower number that is no port");
    }
}
