//! TAP ports: the far end is this machine's own network stack, on an interface that the port makes if it is missing.
//!
//! One system call a frame in each direction. No offloads are announced to the kernel, so frames come whole, with
//! their sums and VLAN tags.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::carrier::{interface_request, set_up};
use super::{Deliver, MAX_FRAME, PortError, Receive, Transmit};

const CONTROL: &str = "/dev/net/tun";

/// Opens both halves on the TAP interface of this name, which is created if there is none, and sets it up.
pub(crate) fn open(name: &str) -> Result<(TapReceive, TapTransmit), PortError> {
    let refused = |what: &str, source: io::Error| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PortError::TapNotPermitted { interface: name.to_owned() },
        _ => PortError::io(format!("the TAP interface {name}: {what}"), source),
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CONTROL)
        .map_err(|e| refused(&format!("{CONTROL} cannot be opened (is the tun module loaded?)"), e))?;
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is live and has a terminated name and flags, which is what the call reads.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        let what = "it cannot be opened (is it another kind of interface, or open in another process?)";
        return Err(refused(what, io::Error::last_os_error()));
    }
    set_up(name).map_err(|e| refused("it cannot be set up", e))?;
    let file = Arc::new(file);
    let receive = TapReceive { file: Arc::clone(&file), buffer: vec![0; MAX_FRAME].into_boxed_slice() };
    Ok((receive, TapTransmit { file, failed: 0 }))
}

/// The receiving half: what the machine sends out of the interface.
pub(crate) struct TapReceive {
    file: Arc<File>,
    buffer: Box<[u8]>,
}

impl Receive for TapReceive {
    fn receive(&mut self, budget: usize, deliver: &mut dyn Deliver) -> usize {
        for count in 0..budget {
            match (&*self.file).read(&mut self.buffer) {
                Ok(length @ 1..) => deliver.deliver(&self.buffer[..length]),
                // Nothing there, or the interface is down: no frames now.
                _ => return count,
            }
        }
        budget
    }

    fn readiness(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}

/// The transmitting half: what the machine receives on the interface.
#[derive(Clone)]
pub(crate) struct TapTransmit {
    file: Arc<File>,
    failed: u64,
}

impl Transmit for TapTransmit {
    fn transmit(&mut self, frame: &[u8]) {
        // Down, no memory, or shorter than an Ethernet header: lost as on a wire.
        if (&*self.file).write(frame).is_err() {
            self.failed += 1;
        }
    }

    fn flush(&mut self) -> u64 {
        mem::take(&mut self.failed)
    }
}
