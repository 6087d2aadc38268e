//! Frames onto an interface at a chosen rate, and frames from one, by AF_PACKET.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Frames in one `sendmmsg` at most.
const MAX_BURST: usize = 64;
/// Bursts are at least this far apart, so that the sender sleeps between them instead of spinning: it shares the
/// processors with the switch. A burst at 100 000 frames a second is then 10 frames.
const BURST_INTERVAL: Duration = Duration::from_micros(100);
const SEND_BUFFER: libc::c_int = 8 << 20;
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(500);
const MAX_FRAME: usize = 2048;

/// How fast to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// As fast as the sender can.
    Flood,
    /// Frames a second.
    Paced(f64),
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Frames that the kernel took.
    pub frames: u64,
    /// From the first to the last.
    pub took: Duration,
}

/// Sends frames to one interface.
pub struct Generator {
    socket: OwnedFd,
}

impl Generator {
    /// Opens the interface. What arrives there is not looked at.
    pub fn open(interface: &str) -> Result<Self> {
        let socket = open_socket(interface, 0)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1, "PACKET_QDISC_BYPASS")?;
        set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER, "SO_SNDBUF")?;
        Ok(Self { socket })
    }

    /// Sends one frame.
    pub fn send_one(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: `frame` is live and its length is given.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("a frame cannot be sent");
        }
        Ok(())
    }

    /// Sends `frames` round and round for `length`.
    pub fn send(&self, frames: &[Vec<u8>], rate: Rate, length: Duration) -> Result<Sent> {
        if frames.is_empty() {
            bail!("no frames to send");
        }
        tight_timers();
        let vectors: Vec<libc::iovec> =
            frames.iter().map(|f| libc::iovec { iov_base: f.as_ptr().cast_mut().cast(), iov_len: f.len() }).collect();
        // One message a frame, and the first MAX_BURST of them again, so that every burst is contiguous.
        let mut messages: Vec<libc::mmsghdr> =
            vectors.iter().cycle().take(vectors.len() + MAX_BURST).map(message).collect();
        let per_second = match rate {
            Rate::Flood => f64::INFINITY,
            Rate::Paced(per_second) => per_second,
        };
        let burst = (per_second * BURST_INTERVAL.as_secs_f64()).clamp(1.0, MAX_BURST as f64) as usize;

        let began = Instant::now();
        let (mut next, mut total) = (0, 0_u64);
        loop {
            let now = began.elapsed();
            if now >= length {
                break;
            }
            if let Rate::Paced(per_second) = rate {
                // Behind schedule nothing sleeps, so the mean rate holds whatever delayed a burst.
                let due = Duration::from_secs_f64(total as f64 / per_second);
                if due > now {
                    std::thread::sleep(due - now);
                }
            }
            let sent = self.send_burst(&mut messages[next..next + burst])?;
            total += sent as u64;
            next = (next + sent) % frames.len();
        }
        Ok(Sent { frames: total, took: began.elapsed() })
    }

    fn send_burst(&self, messages: &mut [libc::mmsghdr]) -> Result<usize> {
        let count = libc::c_uint::try_from(messages.len())?;
        // SAFETY: the messages and what they point to are live; the kernel writes only their lengths.
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        if sent >= 0 {
            return Ok(sent.unsigned_abs() as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // The device has no room now: nothing was sent.
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => Ok(0),
            _ => Err(error).context("frames cannot be sent"),
        }
    }
}

fn message(vector: &libc::iovec) -> libc::mmsghdr {
    // SAFETY: a plain C structure for which all-zero bytes are valid.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = std::ptr::from_ref(vector).cast_mut();
    message.msg_hdr.msg_iovlen = 1;
    message
}

/// Sleeps of this thread end on time, instead of up to 50 µs late.
fn tight_timers() {
    // SAFETY: no pointers. It cannot fail for a valid option; if it did, bursts would only be a little uneven.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_usize) };
}

/// Receives frames from one interface, slowly: for looking at them.
pub struct Sink {
    socket: OwnedFd,
}

impl Sink {
    /// Opens the interface.
    pub fn open(interface: &str) -> Result<Self> {
        let socket = open_socket(interface, libc::ETH_P_ALL as u16)?;
        let timeout = libc::timeval { tv_sec: 0, tv_usec: libc::suseconds_t::from(RECEIVE_TIMEOUT.subsec_micros()) };
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout, "SO_RCVTIMEO")?;
        Ok(Self { socket })
    }

    /// The next frame; `None` when none comes for a while.
    pub fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; MAX_FRAME];
        // SAFETY: at most the buffer's length is written to it.
        let got = unsafe { libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        if let Ok(got) = usize::try_from(got) {
            frame.truncate(got);
            return Ok(Some(frame));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(None),
            _ => Err(error).context("no frames can be received"),
        }
    }
}

/// A raw socket on an interface; `protocol` 0 receives nothing.
fn open_socket(interface: &str, protocol: u16) -> Result<OwnedFd> {
    let name = CString::new(interface)?;
    // SAFETY: `name` is a live, terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let Some(index) = i32::try_from(index).ok().filter(|i| *i > 0) else { bail!("no interface {interface}") };
    // SAFETY: no pointers; a non-negative result is a descriptor that nobody else owns.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("a raw socket cannot be opened");
    }
    // SAFETY: just opened, and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a plain C structure for which all-zero bytes are valid.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index;
    let size = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is live and its size is given.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) } != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("the raw socket cannot be bound to {interface}"));
    }
    Ok(socket)
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T, name: &str) -> Result<()> {
    let size = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is live and its size is given; the kernel only reads it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), size) };
    if result != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("the socket option {name} cannot be set"));
    }
    Ok(())
}
