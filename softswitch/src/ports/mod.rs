//! Ports: where frames enter and leave the switch.
//!
//! A port is a receiving half and a transmitting half, so that a frame can be handed on to any port, the one it
//! came from included, straight out of the receive buffer. The kinds (in memory, AF_PACKET, TAP, UDP) know nothing of
//! delay, loss, rates, captures or counts: those belong to [`tx::TxPort`], which every frame leaves through, and
//! to the worker, which every frame enters through.

pub mod carrier;
pub mod error;
mod fanout;
pub mod files;
pub mod handoff;
pub mod link;
pub mod memory;
pub mod observer;
mod offload;
pub mod packet;
pub mod pcap;
pub mod spec;
pub mod tap;
pub mod tx;
pub mod udp;
pub mod wake;

use std::net::SocketAddr;
use std::os::fd::RawFd;

use carrier::Carrier;
use files::Replay;

pub use carrier::PortStates;
pub use error::PortError;
pub use link::LinkConfig;
pub use memory::MemoryPort;
pub use observer::Observe;
pub use spec::{Device, PortSpec};
pub use tx::PortStatistics;

/// A port of the switch, as the P4 program sees it (`standard_metadata.ingress_port`).
pub type PortId = u16;

/// Frames taken from one port before the worker turns to the next one: small enough that a flooded port does not
/// starve the others, large enough to pay for the round.
pub const RECEIVE_BUDGET: usize = 64;

/// The largest frame that any kind of port carries.
pub const MAX_FRAME: usize = 65_535;

/// Where received frames go.
pub trait Deliver {
    /// Takes a frame.
    fn deliver(&mut self, frame: &[u8]);

    /// Shows a frame that will be delivered after [`AHEAD`](crate::pipeline::AHEAD) others: what it needs can be fetched
    /// meanwhile. For speed alone: frames may come without, but not in another order.
    fn coming(&mut self, _frame: &[u8]) {}
}

impl<F: FnMut(&[u8])> Deliver for F {
    fn deliver(&mut self, frame: &[u8]) {
        self(frame);
    }
}

/// The receiving half of a port.
pub trait Receive: Send {
    /// Hands at most `budget` frames to `deliver` and returns how many there were. Never blocks.
    fn receive(&mut self, budget: usize, deliver: &mut dyn Deliver) -> usize;

    /// What becomes readable when a frame arrives; `None` when the port wakes the worker itself.
    fn readiness(&self) -> Option<RawFd>;

    /// Takes an asynchronous error off the descriptor, which would otherwise keep waking the worker.
    fn clear_error(&mut self) {}

    /// Frames that the operating system dropped before we saw them, since the last call.
    fn take_kernel_drops(&mut self) -> u64 {
        0
    }
}

/// The transmitting half of a port.
pub trait Transmit: Send {
    /// Takes one frame of at most [`MAX_FRAME`] bytes. May keep it until [`Transmit::flush`].
    fn transmit(&mut self, frame: &[u8]);

    /// Sends what is kept. Returns how many frames could not be sent since the last flush.
    fn flush(&mut self) -> u64;
}

/// A device, opened for several workers.
pub(crate) struct Opened {
    /// One half, or one for each worker with its share of the flows.
    pub(crate) receive: Vec<Box<dyn Receive>>,
    /// One half, or one for each worker.
    pub(crate) transmit: Vec<Box<dyn Transmit>>,
    /// Where a UDP port receives.
    pub(crate) address: Option<SocketAddr>,
    /// `None` for a device that is always up.
    pub(crate) carrier: Option<Carrier>,
}

fn receiving<T: Receive + 'static>(halves: Vec<T>) -> Vec<Box<dyn Receive>> {
    halves.into_iter().map(|half| Box::new(half) as Box<dyn Receive>).collect()
}

pub(crate) fn transmitting<T: Transmit + 'static>(halves: Vec<T>) -> Vec<Box<dyn Transmit>> {
    halves.into_iter().map(|half| Box::new(half) as Box<dyn Transmit>).collect()
}

/// Opens a device, with as many halves as are asked for, or as many as it can have. An interface is one of the network
/// namespace of the thread that calls this.
pub(crate) fn open(device: &Device, replay: &Replay, receive: usize, transmit: usize) -> Result<Opened, PortError> {
    let carrier = |name: &str| {
        let carrier = Carrier::of(name)
            .map_err(|e| PortError::io(format!("interface {name}: no socket to ask for its state"), e))?;
        if !carrier.is_up() {
            tracing::warn!("interface {name} is down or has no link: nothing passes until `ip link set {name} up`");
        }
        Ok(Some(carrier))
    };
    Ok(match device {
        Device::Interface(name) => {
            let (receive, transmit) = packet::open(name, receive, transmit)?;
            Opened {
                receive: receiving(receive),
                transmit: transmitting(transmit),
                address: None,
                carrier: carrier(name)?,
            }
        }
        Device::Tap(name) => {
            let (receive, half) = tap::open(name)?;
            Opened {
                receive: vec![Box::new(receive)],
                transmit: transmitting(vec![half; transmit]),
                address: None,
                carrier: carrier(name)?,
            }
        }
        Device::Files { input, output } => {
            let (receive, transmit) = replay.open(input, output)?;
            Opened {
                receive: vec![Box::new(receive)],
                transmit: vec![Box::new(transmit)],
                address: None,
                carrier: None,
            }
        }
        Device::Udp { local, remote } => {
            let (receive, half, address) = udp::open(*local, *remote)?;
            Opened {
                receive: vec![Box::new(receive)],
                transmit: transmitting(vec![half; transmit]),
                address: Some(address),
                carrier: None,
            }
        }
    })
}
