//! UDP ports: one frame in each datagram.
//!
//! What a lab without privileges links switches and hosts with. The socket is connected, so only the far end's
//! datagrams are taken. A datagram carries frames of one byte up to 65,507 (over IPv6: 65,527); longer ones count as
//! send failures.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::pipeline::AHEAD;

use super::{Deliver, MAX_FRAME, PortError, Receive, Transmit};

/// Datagrams received or sent by one system call.
const BATCH: usize = 32;

/// What is asked for as socket buffers; the system may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

/// Opens both halves on one socket and tells the local address.
pub(crate) fn open(local: SocketAddr, remote: SocketAddr) -> Result<(UdpReceive, UdpTransmit, SocketAddr), PortError> {
    let fail = |what: &str| {
        let what = format!("the UDP port {local}>{remote} cannot be opened ({what})");
        move |source| PortError::io(what, source)
    };
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP)).map_err(fail("socket"))?;
    // Larger buffers only make loss under load rarer, so a refusal is no error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true).map_err(fail("non-blocking"))?;
    socket.bind(&local.into()).map_err(fail("is the local address this machine's, and is its port free?"))?;
    socket.connect(&remote.into()).map_err(fail("is the remote address reachable from the local one?"))?;
    let socket = Arc::new(UdpSocket::from(socket));
    let local = socket.local_addr().map_err(fail("local address"))?;
    let receive = UdpReceive { socket: Arc::clone(&socket), buffers: vec![0; BATCH * MAX_FRAME] };
    let transmit = UdpTransmit { socket, buffer: Vec::new(), ends: Vec::new(), failed: 0 };
    Ok((receive, transmit, local))
}

/// The receiving half.
pub(crate) struct UdpReceive {
    socket: Arc<UdpSocket>,
    buffers: Vec<u8>,
}

impl Receive for UdpReceive {
    fn receive(&mut self, budget: usize, deliver: &mut dyn Deliver) -> usize {
        let mut total = 0;
        while total < budget {
            let want = BATCH.min(budget - total);
            // SAFETY: both are plain C structures for which all-zero bytes are valid.
            let mut iovecs: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
            // SAFETY: as above.
            let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
            for ((message, iovec), buffer) in
                messages.iter_mut().zip(&mut iovecs).zip(self.buffers.chunks_exact_mut(MAX_FRAME)).take(want)
            {
                iovec.iov_base = buffer.as_mut_ptr().cast();
                iovec.iov_len = MAX_FRAME;
                message.msg_hdr.msg_iov = iovec;
                message.msg_hdr.msg_iovlen = 1;
            }
            // SAFETY: `want` headers, each with one vector over its own live buffer of MAX_FRAME bytes.
            let got = unsafe {
                libc::recvmmsg(
                    self.socket.as_raw_fd(),
                    messages.as_mut_ptr(),
                    want as libc::c_uint,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            // An error is "nothing there", or the far end's "nobody listens here yet": both mean no frames now.
            let Ok(got) = usize::try_from(got) else { break };
            let filled = messages.iter().zip(self.buffers.chunks_exact(MAX_FRAME)).take(got);
            let frames = filled.map(|(message, buffer)| &buffer[..(message.msg_len as usize).min(MAX_FRAME)]);
            let frames = frames.filter(|frame| !frame.is_empty());
            let mut coming = frames.clone();
            coming.by_ref().take(AHEAD).for_each(|frame| deliver.coming(frame));
            for frame in frames {
                coming.by_ref().take(1).for_each(|frame| deliver.coming(frame));
                deliver.deliver(frame);
            }
            total += got;
            if got < want {
                break;
            }
        }
        total
    }

    fn readiness(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }

    fn clear_error(&mut self) {
        // Taking the error is all: it says that the far end is not up yet.
        let _ = self.socket.take_error();
    }
}

/// The transmitting half.
#[derive(Clone)]
pub(crate) struct UdpTransmit {
    socket: Arc<UdpSocket>,
    /// Frames of the batch, one after the other.
    buffer: Vec<u8>,
    ends: Vec<usize>,
    failed: u64,
}

impl Transmit for UdpTransmit {
    fn transmit(&mut self, frame: &[u8]) {
        self.buffer.extend_from_slice(frame);
        self.ends.push(self.buffer.len());
        if self.ends.len() == BATCH {
            self.send_batch();
        }
    }

    fn flush(&mut self) -> u64 {
        self.send_batch();
        mem::take(&mut self.failed)
    }
}

impl UdpTransmit {
    fn send_batch(&mut self) {
        self.failed += send_frames(self.socket.as_raw_fd(), &self.buffer, &self.ends);
        self.buffer.clear();
        self.ends.clear();
    }
}

/// Sends the frames that end at `ends` in `buffer`, in order; a frame that the socket refuses is skipped and
/// counted. At most 64 frames.
pub(super) fn send_frames(socket: RawFd, buffer: &[u8], ends: &[usize]) -> u64 {
    const MOST: usize = 64;
    debug_assert!(ends.len() <= MOST);
    // SAFETY: both are plain C structures for which all-zero bytes are valid.
    let mut iovecs: [libc::iovec; MOST] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; MOST] = unsafe { mem::zeroed() };
    let mut start = 0;
    for ((message, iovec), &end) in messages.iter_mut().zip(&mut iovecs).zip(ends) {
        let frame = &buffer[start..end];
        start = end;
        iovec.iov_base = frame.as_ptr().cast_mut().cast();
        iovec.iov_len = frame.len();
        message.msg_hdr.msg_iov = iovec;
        message.msg_hdr.msg_iovlen = 1;
    }
    let mut failed = 0;
    let mut done = 0;
    let mut retried = false;
    while done < ends.len().min(MOST) {
        // SAFETY: the remaining headers point at live frames in `buffer`, which the call only reads.
        let sent = unsafe {
            libc::sendmmsg(
                socket,
                messages[done..].as_mut_ptr(),
                (ends.len() - done) as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        if let Ok(sent @ 1..) = usize::try_from(sent) {
            done += sent;
            retried = false;
            continue;
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            // An error left by an earlier datagram (nobody listened): reported once, this frame is still to go.
            Some(libc::ECONNREFUSED | libc::ENETDOWN) if !retried => retried = true,
            // No room, too long, or down: the frame is lost as on a wire, the next may do better.
            _ => {
                failed += 1;
                done += 1;
                retried = false;
            }
        }
    }
    failed
}
