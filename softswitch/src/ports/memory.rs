//! Ports in memory: for tests, benchmarks and anything that embeds the switch.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pipeline::AHEAD;

use super::wake::Waker;
use super::{Deliver, MAX_FRAME, PortId, Receive, Transmit};

/// Frames that may wait in each direction; the next one is dropped, as on a wire nobody reads.
pub const MEMORY_QUEUE_FRAMES: usize = 4096;

#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Shared {
    to_switch: Mutex<Queue>,
    from_switch: Mutex<Queue>,
    arrived: Condvar,
}

/// A queue is whole after any panic in between, since each change is one push or pop.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Adds a copy of a frame; false when the queue is full.
    fn push(&mut self, frame: &[u8]) -> bool {
        if self.frames.len() >= MEMORY_QUEUE_FRAMES {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.frames.push_back(buffer);
        true
    }
}

/// The outside end of a port in memory.
#[derive(Clone)]
pub struct MemoryPort {
    number: PortId,
    shared: Arc<Shared>,
    waker: Arc<Waker>,
}

impl MemoryPort {
    /// Both ends of a new port.
    pub(crate) fn pair(number: PortId, waker: Arc<Waker>) -> (Self, MemoryReceive, MemoryTransmit) {
        let shared = Arc::new(Shared::default());
        let receive = MemoryReceive { shared: Arc::clone(&shared), batch: VecDeque::new() };
        let transmit = MemoryTransmit { shared: Arc::clone(&shared), failed: 0 };
        (Self { number, shared, waker }, receive, transmit)
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> PortId {
        self.number
    }

    /// Sends a frame of 1 to [`MAX_FRAME`] bytes into the switch; false when it has another length, or when
    /// [`MEMORY_QUEUE_FRAMES`] are waiting already.
    pub fn send(&self, frame: &[u8]) -> bool {
        if frame.is_empty() || frame.len() > MAX_FRAME {
            return false;
        }
        let accepted = lock(&self.shared.to_switch).push(frame);
        self.waker.wake();
        accepted
    }

    /// The next frame that the switch sent out of this port, waiting at most `timeout` for it.
    #[must_use]
    pub fn receive(&self, timeout: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        let mut queue = lock(&self.shared.from_switch);
        loop {
            if let Some(frame) = queue.frames.pop_front() {
                return Some(frame);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            queue = self.shared.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The switch's receiving half.
pub(crate) struct MemoryReceive {
    shared: Arc<Shared>,
    batch: VecDeque<Vec<u8>>,
}

impl Receive for MemoryReceive {
    fn receive(&mut self, budget: usize, deliver: &mut dyn Deliver) -> usize {
        {
            let mut queue = lock(&self.shared.to_switch);
            let count = queue.frames.len().min(budget);
            self.batch.extend(queue.frames.drain(..count));
        }
        let mut coming = self.batch.iter();
        coming.by_ref().take(AHEAD).for_each(|frame| deliver.coming(frame));
        for frame in &self.batch {
            coming.by_ref().take(1).for_each(|frame| deliver.coming(frame));
            deliver.deliver(frame);
        }
        let count = self.batch.len();
        if count > 0 {
            let mut queue = lock(&self.shared.to_switch);
            let room = MEMORY_QUEUE_FRAMES.saturating_sub(queue.spare.len());
            queue.spare.extend(self.batch.drain(..).take(room));
        }
        count
    }

    fn readiness(&self) -> Option<RawFd> {
        None
    }
}

/// The switch's transmitting half.
#[derive(Clone)]
pub(crate) struct MemoryTransmit {
    shared: Arc<Shared>,
    failed: u64,
}

impl Transmit for MemoryTransmit {
    fn transmit(&mut self, frame: &[u8]) {
        if lock(&self.shared.from_switch).push(frame) {
            self.shared.arrived.notify_one();
        } else {
            self.failed += 1;
        }
    }

    fn flush(&mut self) -> u64 {
        std::mem::take(&mut self.failed)
    }
}
