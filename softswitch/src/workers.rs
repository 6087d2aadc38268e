//! The threads that move packets, and what each of them has of a port.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use crate::ports::handoff::{HANDOFF_QUEUE, Handed, HandoffTransmit};
use crate::ports::observer::Observer;
use crate::ports::tx::{PortCounters, TxPort};
use crate::ports::wake::Waker;
use crate::ports::{LinkConfig, PortError, PortId, Receive, Transmit};
use crate::switch::Shared;
use crate::worker::{Channels, NewPort, PacketWorker};

/// Threads that move packets, at most.
pub const MAX_WORKERS: usize = 64;

/// Ports that may wait for a worker to take them up; it does so at once.
const PORT_QUEUE: usize = 64;

/// All workers of a switch.
pub(crate) struct Workers(Vec<Handle>);

/// The ways to one worker.
struct Handle {
    new_ports: SyncSender<NewPort>,
    handed: SyncSender<Handed>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// Says that a worker has ended when it is dropped: in order, or by a panic that unwinds its thread.
struct EndOfWorker(Arc<Shared>);

impl Drop for EndOfWorker {
    fn drop(&mut self) {
        self.0.worker_ended.send_replace(true);
    }
}

impl Workers {
    /// Starts a worker for each waker of the switch; the first one takes the packet-outs.
    pub(crate) fn start(shared: &Arc<Shared>, injected: Receiver<Vec<u8>>) -> io::Result<Self> {
        let mut injected = Some(injected);
        let start = |(number, waker): (usize, &Arc<Waker>)| {
            let (new_ports, new_ports_out) = mpsc::sync_channel(PORT_QUEUE);
            let (handed, handed_out) = mpsc::sync_channel(HANDOFF_QUEUE);
            let channels = Channels { new_ports: new_ports_out, handed: handed_out, injected: injected.take() };
            let end = EndOfWorker(Arc::clone(shared));
            let worker = PacketWorker::new(Arc::clone(shared), number, channels);
            let thread = std::thread::Builder::new().name(format!("dmux-packets-{number}")).spawn(move || {
                let _end = end;
                worker.run();
            })?;
            Ok(Handle { new_ports, handed, waker: Arc::clone(waker), thread: Some(thread) })
        };
        shared.wakers.iter().enumerate().map(start).collect::<io::Result<_>>().map(Self)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The worker that receives from a port of which there is one receiving half, and sends where order between all
    /// frames matters.
    fn home(&self, port: PortId) -> usize {
        // Spreads neighbouring numbers and even ones alike.
        (usize::from(port) + usize::from(port) / 2) % self.0.len()
    }

    /// Wakes a port's home worker.
    pub(crate) fn home_waker(&self, port: PortId) -> Arc<Waker> {
        Arc::clone(&self.0[self.home(port)].waker)
    }

    /// Gives each worker its part of a port, and returns the counters of each.
    pub(crate) fn attach(
        &self,
        number: PortId,
        receive: Vec<Box<dyn Receive>>,
        transmit: Vec<Box<dyn Transmit>>,
        link: &LinkConfig,
        mut observer: Option<Box<Observer>>,
    ) -> Result<Vec<Arc<PortCounters>>, PortError> {
        let (workers, home) = (self.0.len(), self.home(number));
        let everywhere = link.is_plain() && observer.is_none() && transmit.len() == workers;
        let dealt_out = receive.len() == workers;
        let (mut receive, mut transmit) = (receive.into_iter(), transmit.into_iter());
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(PortCounters::default())).collect();
        // Home comes first: it must know the port when others hand frames over.
        for worker in (0..workers).map(|n| (home + n) % workers) {
            let at_home = worker == home;
            let receive = if at_home || dealt_out { receive.next() } else { None };
            let half = if at_home || everywhere { transmit.next() } else { None };
            let counters = Arc::clone(&counters[worker]);
            let transmit = match half {
                Some(half) => TxPort::new(half, link, observer.take(), counters),
                None => {
                    let Handle { handed, waker, .. } = &self.0[home];
                    let half = HandoffTransmit::new(number, handed.clone(), Arc::clone(waker));
                    TxPort::new(Box::new(half), &LinkConfig::default(), None, counters)
                }
            };
            let Handle { new_ports, waker, .. } = &self.0[worker];
            new_ports.send(NewPort { number, receive, transmit }).map_err(|_| PortError::Stopped)?;
            waker.wake();
        }
        Ok(counters)
    }

    /// Waits for all of them, which have been told to stop.
    pub(crate) fn join(&mut self) {
        for thread in self.0.iter_mut().filter_map(|worker| worker.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("a packet thread ended in a panic");
            }
        }
    }
}
