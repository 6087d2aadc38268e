//! A network interface, for the frames of the substrate (AF_PACKET): what an endpoint has on a real access LAN.

use std::ffi::{CString, c_int};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::AsRawFd;
use std::ptr;

use dmux_wire::{MacAddr, ethernet};
use socket2::{Domain, MaybeUninitSlice, MsgHdrMut, SockAddr, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

/// Bytes of Ethernet's addresses: the VLAN tag follows them.
const ADDRESSES: usize = 12;
/// Where the kernel's `struct cmsghdr` ends and `struct tpacket_auxdata` begins.
const AUX: usize = mem::size_of::<libc::cmsghdr>();
/// Both, with room for nothing else, as nothing else is asked for.
const CONTROL: usize = AUX + mem::size_of::<libc::tpacket_auxdata>();
/// `PACKET_IGNORE_OUTGOING` (Linux 4.20).
const PACKET_IGNORE_OUTGOING: c_int = 23;

/// An interface whose substrate frames are sent and received; all others are the kernel's.
#[derive(Debug)]
pub struct Interface {
    socket: AsyncFd<Socket>,
    mac: MacAddr,
}

impl Interface {
    /// Opens it, which takes CAP_NET_RAW. Must be called within a tokio runtime.
    pub fn open(name: &str) -> io::Result<Self> {
        let fail = |what: &str, source: io::Error| {
            io::Error::new(source.kind(), format!("interface {name}: {what}: {source}"))
        };
        let none = || fail("there is none", io::ErrorKind::NotFound.into());
        let c_name = CString::new(name).map_err(|_| none())?;
        // SAFETY: a live, terminated string.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        let index = c_int::try_from(index).ok().filter(|&index| index > 0).ok_or_else(none)?;
        let socket = Socket::new_raw(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)
            .map_err(|e| fail("a raw socket takes root, or CAP_NET_RAW", e))?;
        let set = |option, what| set_packet_option(&socket, option).map_err(|e| fail(what, e));
        // The kernel takes VLAN tags out of frames, and tells them beside.
        set(libc::PACKET_AUXDATA, "VLAN tags cannot be asked for")?;
        set(PACKET_IGNORE_OUTGOING, "own frames cannot be ignored")?;
        socket.attach_filter(&substrate_only()).map_err(|e| fail("the filter is not taken", e))?;
        socket.bind(&address_of(index)?).map_err(|e| fail("it cannot be listened to", e))?;
        let mac = hardware_address(&socket)?.ok_or_else(|| fail("not Ethernet", io::ErrorKind::Unsupported.into()))?;
        // SAFETY: the socket is the descriptor's owner, and keeps it as long as it lives.
        let socket = unsafe { AsyncFd::register(socket) }
            .map_err(|e| fail("it cannot be waited for", io::Error::other(e.to_string())))?;
        Ok(Self { socket, mac })
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Sends a frame. One that an interface without a cable, or with a full queue, does not take is lost.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = self.socket.async_io(tokio::io::Interest::WRITABLE, |socket| socket.send(frame)).await;
        match sent {
            Err(error) if is_loss(&error) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The next frame, with its VLAN tag where it was; longer ones are cut to the buffer. Cancelling it loses nothing.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let received = self.socket.async_io(tokio::io::Interest::READABLE, |socket| receive(socket, buffer)).await;
            match received {
                Err(error) if is_loss(&error) => {}
                other => return other,
            }
        }
    }
}

/// The interface is down for now, or has no room: nothing that lasts.
fn is_loss(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS | libc::EMSGSIZE))
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    let size = buffer.len();
    // SAFETY: the layout is the same, and recvmsg writes nothing that is not initialised.
    let bytes = unsafe { &mut *(ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
    let mut control = [MaybeUninit::<u8>::zeroed(); CONTROL];
    let mut parts = [MaybeUninitSlice::new(bytes)];
    let mut message = MsgHdrMut::new().with_buffers(&mut parts).with_control(&mut control);
    let length = socket.recvmsg(&mut message, 0)?.min(size);
    let told = message.control_len();
    // SAFETY: zeroed before the kernel wrote any of it.
    let control = control.map(|byte| unsafe { byte.assume_init() });
    let tag = tag_of(control.get(..told).unwrap_or(&control));
    Ok(restore(buffer, length, tag))
}

/// The VLAN tag that the kernel took out of a frame, from its control message.
fn tag_of(control: &[u8]) -> Option<[u8; 4]> {
    let aux = control.get(AUX..CONTROL)?;
    let word = |at: usize| Some(u32::from_ne_bytes(aux.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(aux.get(at..at + 2)?.try_into().ok()?));
    let status = word(mem::offset_of!(libc::tpacket_auxdata, tp_status))?;
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let tci = half(mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tci))?;
    let tpid = half(mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tpid))?;
    let tpid = if status & libc::TP_STATUS_VLAN_TPID_VALID == 0 { ethernet::VLAN } else { tpid };
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), tci.to_be_bytes());
    Some([a, b, c, d])
}

/// Puts a tag back in its place. Returns the frame's length.
fn restore(buffer: &mut [u8], length: usize, tag: Option<[u8; 4]>) -> usize {
    let Some(tag) = tag.filter(|_| length >= ADDRESSES) else { return length };
    let end = (length + tag.len()).min(buffer.len());
    let Some(kept) = end.checked_sub(tag.len()).filter(|kept| *kept >= ADDRESSES) else { return length };
    buffer.copy_within(ADDRESSES..kept, ADDRESSES + tag.len());
    buffer[ADDRESSES..ADDRESSES + tag.len()].copy_from_slice(&tag);
    end
}

/// A filter that takes frames with the EtherType of the substrate behind their tag, which the kernel has taken out.
fn substrate_only() -> [SockFilter; 4] {
    let statement = |code: u32, k| SockFilter::new(code as u16, 0, 0, k);
    let jump = |code: u32, k, yes, no| SockFilter::new(code as u16, yes, no, k);
    [
        statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, ADDRESSES as u32),
        jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, ethernet::SUBSTRATE.into(), 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, u32::MAX),
        statement(libc::BPF_RET | libc::BPF_K, 0),
    ]
}

fn set_packet_option(socket: &Socket, option: c_int) -> io::Result<()> {
    let on: c_int = 1;
    let length = mem::size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `on` is live, and its size is given.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// All protocols of one interface: only among all is a tag told.
fn address_of(index: c_int) -> io::Result<SockAddr> {
    let init = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        let address = storage.cast::<libc::sockaddr_ll>();
        // SAFETY: the storage is zeroed, and large enough and aligned for every kind of address.
        unsafe {
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            (*address).sll_ifindex = index;
            *length = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        }
        Ok(())
    };
    // SAFETY: `init` writes a whole address of its family, and its length.
    let ((), address) = unsafe { SockAddr::try_init(init) }?;
    Ok(address)
}

/// The Ethernet address of the interface that a socket is bound to.
fn hardware_address(socket: &Socket) -> io::Result<Option<MacAddr>> {
    let address = socket.local_addr()?;
    // SAFETY: a packet socket's own address, in storage that is larger than this structure and aligned for all of them.
    let address = unsafe { *address.as_ptr().cast::<libc::sockaddr_ll>() };
    let [a, b, c, d, e, f, ..] = address.sll_addr;
    Ok((address.sll_halen == 6).then_some(MacAddr([a, b, c, d, e, f])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_returns_to_its_place_and_a_full_buffer_is_cut() {
        let tag = [0x81, 0, 0xa0, 100];
        let mut buffer = [0; 20];
        buffer[..14].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x88, 0xb5]);
        assert_eq!(restore(&mut buffer, 14, None), 14);
        assert_eq!(restore(&mut buffer, 14, Some(tag)), 18);
        assert_eq!(buffer[10..18], [11, 12, 0x81, 0, 0xa0, 100, 0x88, 0xb5]);
        assert_eq!(restore(&mut buffer, 18, Some(tag)), 20);
        assert_eq!(restore(&mut buffer, 5, Some(tag)), 5, "no frame at all");
    }

    #[test]
    fn only_a_valid_tag_is_one() {
        let mut control = [0; CONTROL];
        assert_eq!(tag_of(&control), None);
        let status = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        control[AUX..AUX + 4].copy_from_slice(&status.to_ne_bytes());
        let at = AUX + mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tci);
        control[at..at + 2].copy_from_slice(&0xa064_u16.to_ne_bytes());
        control[at + 2..at + 4].copy_from_slice(&0x88a8_u16.to_ne_bytes());
        assert_eq!(tag_of(&control), Some([0x88, 0xa8, 0xa0, 0x64]));
        assert_eq!(tag_of(&control[..8]), None);
    }
}
