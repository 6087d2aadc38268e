//! Cables between the switch's ports and the processes behind them: where the lab puts its own traffic in, and counts.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::flows::{BIN, Flow, Mark};

/// How soon a cable that is taken away is noticed.
const LOOK: Duration = Duration::from_millis(100);
const LONGEST_FRAME: usize = 2048;

/// The addresses of a cable's two ends, each with the address across from it.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The switch's port, and the cable's end there.
    pub switch: (SocketAddr, SocketAddr),
    /// The process, and the cable's end there.
    pub device: (SocketAddr, SocketAddr),
}

/// A cable. It is taken away when dropped.
pub struct Cable {
    /// The end at the switch: what is sent here goes into the switch's port.
    pub port: Arc<UdpSocket>,
    counting: Arc<Mutex<Option<Counting>>>,
    gone: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct Counting {
    flows: Vec<Flow>,
    begin: Instant,
    /// Bits by flow and [`BIN`].
    counts: Vec<Vec<u64>>,
}

impl Counting {
    fn count(&mut self, frame: &[u8]) {
        let bin = (self.begin.elapsed().as_nanos() / BIN.as_nanos()) as usize;
        let Some(mark) = Mark::of(frame) else { return };
        if let Some(n) = self.flows.iter().position(|flow| flow.mark == mark)
            && let Some(cell) = self.counts[n].get_mut(bin)
        {
            *cell += self.flows[n].bits(frame.len());
        }
    }
}

impl Cable {
    /// Joins a port and a process. Frames of the experiment are counted and end here; all others get through.
    pub fn join(ends: Ends) -> anyhow::Result<Self> {
        let open = |(far, own): (SocketAddr, SocketAddr)| -> anyhow::Result<Arc<UdpSocket>> {
            let socket = UdpSocket::bind(own).with_context(|| format!("binding {own}"))?;
            socket.connect(far)?;
            socket.set_read_timeout(Some(LOOK))?;
            Ok(Arc::new(socket))
        };
        let (port, device) = (open(ends.switch)?, open(ends.device)?);
        let (counting, gone) = (Arc::<Mutex<Option<Counting>>>::default(), Arc::<AtomicBool>::default());
        let up = std::thread::spawn({
            let (port, device, gone) = (port.clone(), device.clone(), gone.clone());
            move || carry(&device, &gone, |frame| drop(port.send(frame)))
        });
        let down = std::thread::spawn({
            let (port, counting, gone) = (port.clone(), counting.clone(), gone.clone());
            move || {
                carry(&port, &gone, |frame| {
                    match &mut *counting.lock().unwrap_or_else(PoisonError::into_inner) {
                        Some(counting) if Mark::of(frame).is_some() => counting.count(frame),
                        // A process that is not there loses it.
                        _ => drop(device.send(frame)),
                    }
                });
            }
        });
        Ok(Self { port, counting, gone, threads: vec![up, down] })
    }

    /// Counts what comes out of the switch's port from now on, for so long.
    pub fn count(&self, flows: &[Flow], begin: Instant, length: Duration) {
        let bins = (length.as_nanos() / BIN.as_nanos()) as usize;
        let counting = Counting { flows: flows.to_vec(), begin, counts: vec![vec![0; bins]; flows.len()] };
        *self.counting.lock().unwrap_or_else(PoisonError::into_inner) = Some(counting);
    }

    /// What was counted: bits by flow and [`BIN`].
    pub fn counted(&self) -> Vec<Vec<u64>> {
        let counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner).take();
        counting.map_or_else(Vec::new, |counting| counting.counts)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn carry(from: &UdpSocket, gone: &AtomicBool, mut to: impl FnMut(&[u8])) {
    let mut buffer = [0; LONGEST_FRAME];
    while !gone.load(Ordering::Relaxed) {
        match from.recv(&mut buffer) {
            Ok(length) => to(&buffer[..length]),
            // Nothing for a while, or a process that is not there yet.
            Err(e)
                if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused) => {}
            Err(error) => {
                tracing::warn!(%error, "a cable of the lab is broken");
                return;
            }
        }
    }
}
