//! AF_PACKET ports: any network interface, veth above all.
//!
//! Received through a memory-mapped ring (TPACKET_V2): no system call and no copy for a frame, and a frame is
//! there as soon as the kernel has written it. TPACKET_V3 packs frames a little tighter but hands over whole
//! blocks on a timer of at least a millisecond, which a round trip through several switches would pay at each
//! hop. Transmitted with `sendmmsg` past the queueing discipline.
//!
//! The kernel takes the outer VLAN tag out of a frame and leaves sums to the hardware; neither must show here.
//! The tag comes back from the ring's header, the sum is completed from the virtio header in front of the frame
//! (`csum_start`, `csum_offset`), which names the place exactly whatever the protocols are.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::pipeline::AHEAD;
use crate::prefetch::{CACHE_LINE, prefetch};

use super::offload::{VLAN_TAG, VNET_BYTES, restore};
use super::udp::send_frames;
use super::{Deliver, MAX_FRAME, PortError, Receive, Transmit, fanout};

/// Bytes of one slot: an Ethernet frame of 1500 bytes with tags and encapsulation, behind the kernel's headers.
/// Longer frames (segmentation offload) come through the socket's queue instead.
const SLOT_BYTES: usize = 2048;
/// Slots of a ring: 16 MiB, which at half a million frames a second bridges 16 ms in which the scheduler runs others.
const SLOTS: usize = 8192;
/// The ring is allocated in blocks of this size.
const BLOCK_BYTES: usize = 1 << 16;
/// Of a slot, the kernel's header and the headers of a frame are in these.
const SLOT_LINES: usize = 3;
const RING_BYTES: usize = SLOT_BYTES * SLOTS;
/// Of the queue for longer frames, and of the frames being sent.
const SOCKET_BUFFER: libc::c_int = 8 << 20;
/// Frames sent by one system call.
const SEND_BATCH: usize = 64;

const TPID_8021Q: u16 = 0x8100;

/// Opens an interface: so many receiving halves, each with its share of the frames (see [`super::fanout`]), and so
/// many transmitting ones.
pub(crate) fn open(
    interface: &str,
    receive: usize,
    transmit: usize,
) -> Result<(Vec<PacketReceive>, Vec<PacketTransmit>), PortError> {
    let index = interface_index(interface)?;
    let shared = receive > 1;
    let receive: Vec<_> =
        (0..receive).map(|_| PacketReceive::open(interface, index, shared)).collect::<Result<_, _>>()?;
    if shared {
        let sockets: Vec<&OwnedFd> = receive.iter().map(|half| &half.socket).collect();
        fanout::join(interface, &sockets)?;
    }
    let transmit = (0..transmit).map(|_| PacketTransmit::open(interface, index)).collect::<Result<_, _>>()?;
    Ok((receive, transmit))
}

/// Sets a socket option.
pub(super) fn set_option<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is live and its size is given; the kernel only reads it, and what it points to, if anything.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn interface_index(interface: &str) -> Result<libc::c_int, PortError> {
    let none = || PortError::NoInterface { interface: interface.to_owned() };
    let name = CString::new(interface).map_err(|_| none())?;
    // SAFETY: `name` is a live, terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    match libc::c_int::try_from(index) {
        Ok(index) if index > 0 => Ok(index),
        _ => Err(none()),
    }
}

/// A raw socket bound to an interface. `protocol` 0 receives nothing.
fn open_socket(interface: &str, index: libc::c_int, protocol: u16) -> Result<Unbound, PortError> {
    // SAFETY: no pointers; a non-negative result is a descriptor that nobody else owns.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        let source = io::Error::last_os_error();
        return Err(match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => PortError::NotPermitted { interface: interface.to_owned() },
            _ => PortError::io(format!("interface {interface}: a raw socket cannot be opened"), source),
        });
    }
    // SAFETY: just opened, and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Unbound { socket, interface: interface.to_owned(), index, protocol })
}

/// A socket whose options are still to be set: they must be in place before the first frame arrives.
struct Unbound {
    socket: OwnedFd,
    interface: String,
    index: libc::c_int,
    protocol: u16,
}

impl Unbound {
    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T, name: &str) -> Result<(), PortError> {
        set_option(&self.socket, level, option, value).map_err(|source| {
            let what = format!("interface {}: the socket option {name} cannot be set", self.interface);
            PortError::io(what, source)
        })
    }

    fn bind(self) -> Result<OwnedFd, PortError> {
        // SAFETY: a plain C structure for which all-zero bytes are valid.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = self.protocol.to_be();
        address.sll_ifindex = self.index;
        // SAFETY: `address` is live and its size is given.
        let result = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result < 0 {
            let what = format!("interface {}: the raw socket cannot be bound to it", self.interface);
            return Err(PortError::io(what, io::Error::last_os_error()));
        }
        Ok(self.socket)
    }
}

/// The receiving half: a ring shared with the kernel.
pub(crate) struct PacketReceive {
    socket: OwnedFd,
    ring: Ring,
    /// The slot that the kernel fills next.
    next: usize,
    /// For frames that are longer than a slot.
    long: Vec<u8>,
}

impl PacketReceive {
    /// Opens a half of its own, or one that takes nothing until it is part of a group.
    fn open(interface: &str, index: libc::c_int, shared: bool) -> Result<Self, PortError> {
        let socket = open_socket(interface, index, libc::ETH_P_ALL as u16)?;
        if shared {
            fanout::close(&socket.socket)
                .map_err(|e| PortError::io(format!("interface {interface}: a filter cannot be set"), e))?;
        }
        let on: libc::c_int = 1;
        let packet = libc::SOL_PACKET;
        let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        socket.set(packet, libc::PACKET_VERSION, &version, "PACKET_VERSION")?;
        socket.set(packet, libc::PACKET_VNET_HDR, &on, "PACKET_VNET_HDR")?;
        socket.set(packet, libc::PACKET_COPY_THRESH, &on, "PACKET_COPY_THRESH")?;
        // What we send must not come back to us.
        socket.set(packet, PACKET_IGNORE_OUTGOING, &on, "PACKET_IGNORE_OUTGOING")?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &SOCKET_BUFFER, "SO_RCVBUF")?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_BYTES as libc::c_uint,
            tp_block_nr: (RING_BYTES / BLOCK_BYTES) as libc::c_uint,
            tp_frame_size: SLOT_BYTES as libc::c_uint,
            tp_frame_nr: SLOTS as libc::c_uint,
        };
        socket.set(packet, libc::PACKET_RX_RING, &request, "PACKET_RX_RING")?;
        let membership = libc::packet_mreq {
            mr_ifindex: index,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        socket.set(packet, libc::PACKET_ADD_MEMBERSHIP, &membership, "PACKET_ADD_MEMBERSHIP")?;
        let ring = Ring::map(&socket.socket)
            .map_err(|e| PortError::io(format!("interface {interface}: the receive ring cannot be mapped"), e))?;
        Ok(Self { socket: socket.bind()?, ring, next: 0, long: Vec::new() })
    }

    /// Takes a frame that did not fit its slot from the socket's queue.
    fn receive_long(&mut self, tag: Option<[u8; VLAN_TAG]>, deliver: &mut dyn Deliver) {
        self.long.resize(VNET_BYTES + MAX_FRAME, 0);
        // With MSG_TRUNC the result is the frame's own length: one that is longer than any port carries is dropped.
        // SAFETY: at most the buffer's length is written to it.
        let got = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                self.long.as_mut_ptr().cast(),
                self.long.len(),
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            )
        };
        if let Ok(got) = usize::try_from(got)
            && let Some(bytes) = self.long.get_mut(..got)
            && let Some(frame) = restore(bytes, tag)
        {
            deliver.deliver(frame);
        }
    }
}

impl Receive for PacketReceive {
    fn receive(&mut self, budget: usize, deliver: &mut dyn Deliver) -> usize {
        let (mut count, mut shown) = (0, 0);
        while count < budget {
            // All shown frames are delivered by this call.
            while shown < budget.min(count + AHEAD + 1) {
                let slot = (self.next + shown) % SLOTS;
                self.ring.prefetch((slot + AHEAD) % SLOTS);
                let Some(slot) = self.ring.filled_slot(slot) else { break };
                deliver.coming(slot.bytes.get(VNET_BYTES..).unwrap_or(&[]));
                shown += 1;
            }
            let Some(slot) = self.ring.filled_slot(self.next) else { break };
            if slot.status & libc::TP_STATUS_COPY != 0 {
                let tag = slot.tag;
                self.receive_long(tag, deliver);
            } else if slot.whole
                && let Some(frame) = restore(slot.bytes, slot.tag)
            {
                deliver.deliver(frame);
            }
            self.ring.release(self.next);
            self.next = (self.next + 1) % SLOTS;
            count += 1;
        }
        count
    }

    fn readiness(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }

    fn clear_error(&mut self) {
        let mut error: libc::c_int = 0;
        let mut length = mem::size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: both point at live integers of the lengths given. Reading the error is what clears it.
        unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut error).cast(),
                &raw mut length,
            );
        }
    }

    fn take_kernel_drops(&mut self) -> u64 {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = mem::size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: both point at live values of the lengths given. The kernel resets its counts on reading.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if result == 0 { u64::from(stats.tp_drops) } else { 0 }
    }
}

/// `PACKET_IGNORE_OUTGOING` of linux/if_packet.h, which the libc crate does not have for every target.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// The mapped ring. A slot belongs to the kernel or to us, as its status says.
struct Ring {
    base: *mut u8,
}

// SAFETY: the mapping is the ring's own and is not tied to the thread that made it.
unsafe impl Send for Ring {}

/// A slot that is ours.
struct Slot<'a> {
    status: u32,
    /// The virtio header and the frame behind it.
    bytes: &'a mut [u8],
    /// Whether all of the frame is in `bytes`.
    whole: bool,
    tag: Option<[u8; VLAN_TAG]>,
}

impl Ring {
    fn map(socket: &OwnedFd) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping of the ring that was just set up on this socket.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                RING_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast() })
    }

    fn header(&self, index: usize) -> *mut libc::tpacket2_hdr {
        debug_assert!(index < SLOTS);
        // SAFETY: within the mapping, since index < SLOTS; slots are aligned far beyond the header's need.
        unsafe { self.base.add(index * SLOT_BYTES).cast() }
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: a live, aligned word that both sides access atomically, for as long as the mapping lives.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.header(index)).tp_status) }
    }

    /// Asks for the memory of a slot: its header, and the beginning of its frame.
    fn prefetch(&self, index: usize) {
        for line in 0..SLOT_LINES {
            // SAFETY: within the slot, which is within the mapping, and nothing is read or written.
            prefetch(unsafe { &*self.header(index).cast::<u8>().add(line * CACHE_LINE) });
        }
    }

    /// The slot, if the kernel has filled it.
    fn filled_slot(&mut self, index: usize) -> Option<Slot<'_>> {
        // Acquire: what the kernel wrote before it set the status is visible after this.
        let status = self.status(index).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let header = self.header(index);
        // SAFETY: the slot is ours now, and nobody writes it until we release it.
        let (length, captured, mac, tci, tpid) = unsafe {
            let h = &*header;
            (h.tp_len as usize, h.tp_snaplen as usize, usize::from(h.tp_mac), h.tp_vlan_tci, h.tp_vlan_tpid)
        };
        // The kernel keeps these within the slot; a bound here keeps us within the mapping whatever it does.
        let start = mac.clamp(VNET_BYTES, SLOT_BYTES) - VNET_BYTES;
        let end = (mac + captured).clamp(start, SLOT_BYTES);
        // SAFETY: within the slot, which is ours; the borrow of the ring keeps it from being released meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts_mut(header.cast::<u8>().add(start), end - start) };
        let tag = (status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let tpid = if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 { tpid } else { TPID_8021Q };
            let ([a, b], [c, d]) = (tpid.to_be_bytes(), tci.to_be_bytes());
            [a, b, c, d]
        });
        Some(Slot { status, bytes, whole: captured == length, tag })
    }

    /// Gives a slot back to the kernel.
    fn release(&mut self, index: usize) {
        // Release: our reads and writes of the slot happen before the kernel's next ones.
        self.status(index).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `map` mapped; no slot is borrowed any more.
        unsafe { libc::munmap(self.base.cast(), RING_BYTES) };
    }
}

/// The transmitting half.
pub(crate) struct PacketTransmit {
    socket: OwnedFd,
    /// Frames of the batch, one after the other.
    buffer: Vec<u8>,
    ends: Vec<usize>,
    failed: u64,
}

impl PacketTransmit {
    fn open(interface: &str, index: libc::c_int) -> Result<Self, PortError> {
        let socket = open_socket(interface, index, 0)?;
        let on: libc::c_int = 1;
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &on, "PACKET_QDISC_BYPASS")?;
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUF, &SOCKET_BUFFER, "SO_SNDBUF")?;
        Ok(Self { socket: socket.bind()?, buffer: Vec::new(), ends: Vec::new(), failed: 0 })
    }

    fn send_batch(&mut self) {
        self.failed += send_frames(self.socket.as_raw_fd(), &self.buffer, &self.ends);
        self.buffer.clear();
        self.ends.clear();
    }
}

impl Transmit for PacketTransmit {
    fn transmit(&mut self, frame: &[u8]) {
        self.buffer.extend_from_slice(frame);
        self.ends.push(self.buffer.len());
        if self.ends.len() == SEND_BATCH {
            self.send_batch();
        }
    }

    fn flush(&mut self) -> u64 {
        self.send_batch();
        mem::take(&mut self.failed)
    }
}
