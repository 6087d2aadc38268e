//! The egress queues of a switch: one [`PortQueues`] for each port that has any, between ingress and egress.
//!
//! All workers put packets in, and one of them (always the same, or packets of a flow could overtake each other) runs those
//! whose turn has come. A packet for a port without queues goes on at once.

use super::exec::Later;
use super::program::Program;
use super::queue::{Dequeued, PortQueues, QueueConfig, QueueStatistics};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Packets of one port that are run in one go, before the other ports have their turn.
const SERVE_BUDGET: usize = 64;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// A packet between ingress and egress, with the program whose slots it has.
pub(crate) struct Parked {
    pub program: Arc<Program>,
    pub later: Later,
    /// Its way is told.
    pub traced: bool,
}

type Port = Arc<Mutex<PortQueues<Parked>>>;

/// The queues of a switch's ports.
pub struct EgressQueues {
    priorities: u8,
    ports: ArcSwap<BTreeMap<u16, Port>>,
    /// Held while a port is added.
    changing: Mutex<()>,
    /// Whether there are any.
    any: AtomicBool,
    /// When the next packet's turn comes, or before that.
    due: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole after any panic: each change is one packet in or out.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EgressQueues {
    /// No queues yet; a port that gets some has one for each of so many priorities.
    #[must_use]
    pub fn new(priorities: u8) -> Self {
        Self {
            priorities,
            ports: ArcSwap::default(),
            changing: Mutex::default(),
            any: AtomicBool::new(false),
            due: AtomicU64::new(NEVER),
        }
    }

    /// Gives a port queues, or changes the depth and rate of those that it has, as BMv2's `set_queue_depth` and
    /// `set_queue_rate` do for all priorities of a port.
    pub fn configure(&self, port: u16, config: QueueConfig) {
        let _one = lock(&self.changing);
        let ports = self.ports.load_full();
        if let Some(queues) = ports.get(&port) {
            lock(queues).configure(config);
            return;
        }
        let mut ports = BTreeMap::clone(&ports);
        ports.insert(port, Arc::new(Mutex::new(PortQueues::new(config, self.priorities))));
        self.ports.store(Arc::new(ports));
        self.any.store(true, Ordering::Release);
    }

    /// What is in the queues of each port, and what they have done; by port and then by priority.
    #[must_use]
    pub fn statistics(&self) -> BTreeMap<u16, Vec<QueueStatistics>> {
        self.ports.load().iter().map(|(port, queues)| (*port, lock(queues).statistics())).collect()
    }

    /// When there is something to run, in nanoseconds of the clock that packets come by; the time may have come before
    /// the packet's.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        Some(self.due.load(Ordering::Acquire)).filter(|due| *due != NEVER)
    }

    /// Whether any port has queues.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether this port has queues.
    pub(crate) fn has(&self, port: u16) -> bool {
        self.ports.load().contains_key(&port)
    }

    /// Puts a packet into a queue of its port; false if that was full.
    pub(crate) fn push(&self, port: u16, priority: u8, parked: Parked, now: u64) -> bool {
        let ports = self.ports.load();
        let Some(queues) = ports.get(&port) else { return false };
        let mut queues = lock(queues);
        let taken = queues.push(parked, priority, now);
        // Under the lock, so that whoever serves sees the deadline there or here.
        self.due.fetch_min(queues.deadline().unwrap_or(NEVER), Ordering::AcqRel);
        taken
    }

    /// Hands out packets whose turn it is, some of each port. They may put others in. `out` returns how many bytes of the
    /// packet were sent by its port.
    pub(crate) fn serve(&self, now: u64, out: &mut dyn FnMut(u16, Dequeued<Parked>) -> u64) {
        self.due.store(NEVER, Ordering::Release);
        let ports = self.ports.load_full();
        for (port, queues) in ports.iter() {
            for _ in 0..SERVE_BUDGET {
                // Not held while the packet runs, which may come back here.
                let Some(dequeued) = lock(queues).pop(now) else { break };
                let sent = out(*port, dequeued);
                lock(queues).sent(sent);
            }
            let queues = lock(queues);
            self.due.fetch_min(queues.deadline().unwrap_or(NEVER), Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_queues_once_it_was_given_some() {
        let queues = EgressQueues::new(2);
        assert!(!queues.any() && !queues.has(1) && queues.due().is_none());
        queues.configure(1, QueueConfig::default());
        assert!(queues.any() && queues.has(1) && !queues.has(2));
        assert_eq!(queues.statistics(), [(1, vec![QueueStatistics::default(); 2])].into());
    }
}
