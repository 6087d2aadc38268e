//! The way out of a port: capture, emulated link, device, counts.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::Transmit;
use super::link::{Link, LinkConfig, Verdict};
use super::observer::Observer;

/// What a port has carried since it was added. A consistent picture only of a port at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Frames received.
    pub received_frames: u64,
    /// Bytes received, as Ethernet frames without FCS.
    pub received_bytes: u64,
    /// Frames that the operating system dropped because we were too slow.
    pub receive_drops: u64,
    /// Frames given to the port to send.
    pub sent_frames: u64,
    /// Bytes given to the port to send.
    pub sent_bytes: u64,
    /// Frames that the emulated link lost by chance.
    pub link_losses: u64,
    /// Frames that found the emulated link's queue full.
    pub queue_drops: u64,
    /// Frames that the device did not take: too long, no room, or down.
    pub send_failures: u64,
}

impl AddAssign for PortStatistics {
    fn add_assign(&mut self, other: Self) {
        self.received_frames += other.received_frames;
        self.received_bytes += other.received_bytes;
        self.receive_drops += other.receive_drops;
        self.sent_frames += other.sent_frames;
        self.sent_bytes += other.sent_bytes;
        self.link_losses += other.link_losses;
        self.queue_drops += other.queue_drops;
        self.send_failures += other.send_failures;
    }
}

/// The counts of one worker behind [`PortStatistics`]; only that worker writes, anyone may read.
#[derive(Debug, Default)]
pub(crate) struct PortCounters {
    received_frames: AtomicU64,
    received_bytes: AtomicU64,
    receive_drops: AtomicU64,
    sent_frames: AtomicU64,
    sent_bytes: AtomicU64,
    link_losses: AtomicU64,
    queue_drops: AtomicU64,
    send_failures: AtomicU64,
}

/// Only one thread adds, so a load and a store do without a locked instruction.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl PortCounters {
    pub(crate) fn received(&self, frames: u64, bytes: u64) {
        add(&self.received_frames, frames);
        add(&self.received_bytes, bytes);
    }

    pub(crate) fn kernel_dropped(&self, frames: u64) {
        add(&self.receive_drops, frames);
    }

    pub(crate) fn read(&self) -> PortStatistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PortStatistics {
            received_frames: get(&self.received_frames),
            received_bytes: get(&self.received_bytes),
            receive_drops: get(&self.receive_drops),
            sent_frames: get(&self.sent_frames),
            sent_bytes: get(&self.sent_bytes),
            link_losses: get(&self.link_losses),
            queue_drops: get(&self.queue_drops),
            send_failures: get(&self.send_failures),
        }
    }
}

/// One clock read for a round of the worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Nanoseconds since the switch started.
    pub(crate) nanoseconds: u64,
    /// Wall-clock time, for captures.
    pub(crate) wall: SystemTime,
}

/// The transmitting side of one port.
pub(crate) struct TxPort {
    device: Box<dyn Transmit>,
    link: Option<Link>,
    pub(crate) observer: Option<Box<Observer>>,
    pub(crate) counters: Arc<PortCounters>,
    /// Whether the device may hold frames that are not flushed.
    dirty: bool,
}

impl TxPort {
    pub(crate) fn new(
        device: Box<dyn Transmit>,
        link: &LinkConfig,
        observer: Option<Box<Observer>>,
        counters: Arc<PortCounters>,
    ) -> Self {
        let link = (!link.is_plain()).then(|| Link::new(link));
        Self { device, link, observer, counters, dirty: false }
    }

    /// Sends a frame.
    #[inline]
    pub(crate) fn send(&mut self, now: Now, frame: &[u8]) {
        add(&self.counters.sent_frames, 1);
        add(&self.counters.sent_bytes, frame.len() as u64);
        self.pass(now, frame);
    }

    /// Sends a frame that has been counted already, through the emulated link where there is one. Captured before the
    /// link takes or delays it, as a capture on the sending interface would.
    #[inline]
    pub(crate) fn pass(&mut self, now: Now, frame: &[u8]) {
        if let Some(observer) = &mut self.observer {
            observer.sent(now.wall, frame);
        }
        match &mut self.link {
            None => {
                self.device.transmit(frame);
                self.dirty = true;
            }
            Some(link) => match link.push(now.nanoseconds, frame) {
                Verdict::Queued => {}
                Verdict::Lost => add(&self.counters.link_losses, 1),
                Verdict::QueueFull => add(&self.counters.queue_drops, 1),
            },
        }
    }

    /// Moves frames whose time has come off the emulated link and flushes the device.
    pub(crate) fn drive(&mut self, now: Now) {
        if let Some(link) = &mut self.link {
            let (device, dirty) = (&mut self.device, &mut self.dirty);
            link.deliver_due(now.nanoseconds, &mut |frame| {
                device.transmit(frame);
                *dirty = true;
            });
        }
        if self.dirty {
            self.dirty = false;
            let failures = self.device.flush();
            if failures > 0 {
                add(&self.counters.send_failures, failures);
            }
        }
    }

    /// When the emulated link next has something to deliver, in nanoseconds since the switch started.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.link.as_ref().and_then(Link::next_deadline)
    }

    /// Writes the capture out; called when the worker has nothing else to do.
    pub(crate) fn idle(&mut self) {
        if let Some(observer) = &mut self.observer {
            observer.flush();
        }
    }
}
