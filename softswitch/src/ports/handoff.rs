//! The way to a port that another worker sends for: one with an emulated link, a capture, or a file.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::wake::Waker;
use super::{PortId, Transmit};

/// Frames that may wait for a worker to send them; further ones are dropped and counted as send failures.
pub const HANDOFF_QUEUE: usize = 4096;

/// A frame for a port, handed to the worker that sends for it. Frames that one worker hands over stay in order.
pub(crate) struct Handed {
    pub(crate) port: PortId,
    pub(crate) frame: Vec<u8>,
}

/// The transmitting half that every other worker has.
pub(crate) struct HandoffTransmit {
    port: PortId,
    queue: SyncSender<Handed>,
    waker: Arc<Waker>,
    failed: u64,
}

impl HandoffTransmit {
    pub(crate) fn new(port: PortId, queue: SyncSender<Handed>, waker: Arc<Waker>) -> Self {
        Self { port, queue, waker, failed: 0 }
    }
}

impl Transmit for HandoffTransmit {
    fn transmit(&mut self, frame: &[u8]) {
        let handed = Handed { port: self.port, frame: frame.to_vec() };
        // Full, or the switch is stopping: lost as on a wire.
        if self.queue.try_send(handed).is_err() {
            self.failed += 1;
        }
    }

    fn flush(&mut self) -> u64 {
        self.waker.wake();
        std::mem::take(&mut self.failed)
    }
}
