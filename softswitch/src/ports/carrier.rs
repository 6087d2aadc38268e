//! Whether ports are up: an interface is when its administrator has set it up and its link is there.
//!
//! A port over an interface is asked some twenty times a second ([`LinkWatch`]), on a socket of the network
//! namespace that the port was opened in. UDP ports and ports in memory are always up.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use tokio::sync::watch;

use super::PortId;

/// How long a change of a link may go unnoticed.
pub const LINK_POLL: Duration = Duration::from_millis(50);

/// A request about the interface of this name.
pub(super) fn interface_request(interface: &str) -> libc::ifreq {
    // SAFETY: a plain C structure for which all-zero bytes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The zeroed rest terminates the name.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a non-negative result is a descriptor that nobody else owns.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

fn flags(socket: &OwnedFd, interface: &str) -> io::Result<libc::c_int> {
    let mut request = interface_request(interface);
    // SAFETY: the request is live and has a terminated name; the kernel fills in the flags, which are read after.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(libc::c_int::from(request.ifr_ifru.ifru_flags))
    }
}

/// Sets an interface up, as `ip link set … up` does.
pub(super) fn set_up(interface: &str) -> io::Result<()> {
    let socket = control_socket()?;
    let flags = flags(&socket, interface)?;
    if flags & libc::IFF_UP != 0 {
        return Ok(());
    }
    let mut request = interface_request(interface);
    request.ifr_ifru.ifru_flags = (flags | libc::IFF_UP) as libc::c_short;
    // SAFETY: the request is live and has a terminated name and flags, which is what the call reads.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Asks an interface of this network namespace for its state.
#[derive(Debug)]
pub(crate) struct Carrier {
    socket: OwnedFd,
    interface: String,
}

impl Carrier {
    pub(crate) fn of(interface: &str) -> io::Result<Self> {
        Ok(Self { socket: control_socket()?, interface: interface.to_owned() })
    }

    /// An interface that is gone is down.
    pub(crate) fn is_up(&self) -> bool {
        let wanted = libc::IFF_UP | libc::IFF_RUNNING;
        flags(&self.socket, &self.interface).is_ok_and(|flags| flags & wanted == wanted)
    }
}

/// Which ports of a switch are up. Anyone may ask at any time; asking costs one load.
#[derive(Debug)]
pub struct PortStates {
    /// A bit for each port number.
    up: Box<[AtomicU64]>,
    /// A bit for each port number that was ever set: those ports exist.
    known: Box<[AtomicU64]>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
    listener: Listener,
}

/// What is called after each change, by whom made it.
#[derive(Default)]
struct Listener(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Default for PortStates {
    fn default() -> Self {
        let words = (usize::from(PortId::MAX) + 1) / 64;
        let bits = || (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { up: bits(), known: bits(), changes: watch::Sender::new(0), listener: Listener::default() }
    }
}

impl PortStates {
    fn word(&self, port: PortId) -> (&AtomicU64, u64) {
        // There is a bit for each number that a port can have.
        (&self.up[usize::from(port) / 64], 1 << (port % 64))
    }

    /// Whether the port is there and can carry frames.
    #[must_use]
    pub fn is_up(&self, port: PortId) -> bool {
        let (word, bit) = self.word(port);
        word.load(Ordering::Acquire) & bit != 0
    }

    /// The ports that exist, and whether each is up.
    #[must_use]
    pub fn all(&self) -> BTreeMap<PortId, bool> {
        let exists =
            |port: &PortId| self.known[usize::from(*port) / 64].load(Ordering::Acquire) >> (port % 64) & 1 != 0;
        (0..=PortId::MAX).filter(exists).map(|port| (port, self.is_up(port))).collect()
    }

    /// Calls `f` after every change, on the thread that makes it. Only the first such call has an effect.
    pub(crate) fn on_change(&self, f: impl Fn() + Send + Sync + 'static) {
        let _ = self.listener.0.set(Box::new(f));
    }

    /// Completes its `changed()` whenever some port has gone up or down.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notes a port's state; true if it is news.
    pub(crate) fn set(&self, port: PortId, up: bool) -> bool {
        let (word, bit) = self.word(port);
        let before = if up { word.fetch_or(bit, Ordering::AcqRel) } else { word.fetch_and(!bit, Ordering::AcqRel) };
        let changed = (before & bit != 0) != up;
        let new = self.known[usize::from(port) / 64].fetch_or(bit, Ordering::AcqRel) & bit == 0;
        if changed {
            self.changes.send_modify(|n| *n = n.wrapping_add(1));
        }
        if (changed || new)
            && let Some(listener) = self.listener.0.get()
        {
            listener();
        }
        changed
    }
}

/// What the watching thread and the switch share.
#[derive(Default)]
struct Watched {
    ports: Mutex<Vec<(PortId, Carrier)>>,
    stopping: AtomicBool,
}

/// A thread that keeps [`PortStates`] true for ports over interfaces. Ends when this is dropped.
#[derive(Default)]
pub(crate) struct LinkWatch {
    watched: Arc<Watched>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LinkWatch {
    /// Watches a port from now on; the first one starts the thread.
    pub(crate) fn add(&self, states: &Arc<PortStates>, port: PortId, carrier: Carrier) -> io::Result<()> {
        states.set(port, carrier.is_up());
        self.watched.ports.lock().unwrap_or_else(PoisonError::into_inner).push((port, carrier));
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (watched, states) = (Arc::clone(&self.watched), Arc::clone(states));
            let run = move || watch(&watched, &states);
            *thread = Some(std::thread::Builder::new().name("dmux-links".to_owned()).spawn(run)?);
        }
        Ok(())
    }
}

fn watch(watched: &Watched, states: &PortStates) {
    while !watched.stopping.load(Ordering::Acquire) {
        for (port, carrier) in watched.ports.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let up = carrier.is_up();
            if states.set(*port, up) {
                tracing::info!(port, interface = carrier.interface, up, "link");
            }
        }
        std::thread::park_timeout(LINK_POLL);
    }
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        self.watched.stopping.store(true, Ordering::Release);
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            Thread::unpark(thread.thread());
            if thread.join().is_err() {
                tracing::error!("the thread that watches links ended in a panic");
            }
        }
    }
}
