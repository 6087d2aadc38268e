//! AF_PACKET ports on veth pairs, and TAP ports, inside a network namespace that the test makes for itself.
//!
//! The outer test starts this binary again inside `unshare` and runs the rest of the test there: a namespace of
//! users needs a process of its own, and nothing of the machine is touched. Where neither root nor unprivileged user
//! namespaces are available the test fails and says so, rather than pass without having looked.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use dmux_softswitch::{PortSpec, Switch};
use p4runtime_support::*;

/// Set in the process that is inside the namespace.
const INSIDE: &str = "DMUX_TEST_INSIDE_NAMESPACE";
/// What that process prints when it has come through everything.
const THROUGH: &str = "all of it held";

#[test]
fn ports_over_interfaces_in_a_namespace_of_their_own() {
    if std::env::var_os(INSIDE).is_some() {
        frames_and_their_tags_cross_both_ways();
        long_frames_cross_whole();
        sums_left_to_the_hardware_are_completed();
        an_interface_that_goes_down_comes_back();
        a_port_is_up_while_its_link_is();
        a_tap_port_is_made_and_carries_what_the_host_sends();
        several_workers_share_an_interface_and_keep_each_flow_in_order();
        println!("{THROUGH}");
        return;
    }
    let inner = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--nocapture", "ports_over_interfaces_in_a_namespace_of_their_own"])
        .env(INSIDE, "1")
        .output()
        .expect("`unshare` (util-linux) is needed to test AF_PACKET ports");
    let text = format!("{}{}", String::from_utf8_lossy(&inner.stdout), String::from_utf8_lossy(&inner.stderr));
    assert!(
        !text.contains("unshare failed"),
        "no network namespace can be made here: run the tests as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1)\n{text}"
    );
    assert!(inner.status.success() && text.contains(THROUGH), "{text}");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("`ip` (iproute2) is needed");
    assert!(status.success(), "ip {arguments}");
}

/// TPID and TCI of an 802.1Q tag.
type Tag = (u16, u16);

/// The far end of a veth pair, as a host's raw socket.
struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Makes a veth pair `name`/`name`-far and a port on the near end.
    fn pair(switch: &Switch, number: u16, name: &str) -> Self {
        let far = format!("{name}-far");
        ip(&format!("link add {name} type veth peer name {far}"));
        // Without IPv6 the kernel sends nothing of its own accord.
        for interface in [name, &far] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1");
            ip(&format!("link set {interface} up"));
        }
        let spec: PortSpec = format!("{number}@{name}").parse().unwrap();
        switch.add_port(&spec).unwrap();
        Self::on(&far)
    }

    fn on(interface: &str) -> Self {
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: a live, terminated name; a fresh descriptor; a zeroed C structure filled in below.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            let socket = OwnedFd::from_raw_fd(fd);
            let on: libc::c_int = 1;
            let size = mem::size_of::<libc::c_int>() as u32;
            let set = libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, (&raw const on).cast(), size);
            assert_eq!(set, 0);
            let timeout = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
            let size = mem::size_of::<libc::timeval>() as u32;
            let set = libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const timeout).cast(), size);
            assert_eq!(set, 0);
            let mut address: libc::sockaddr_ll = mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let size = mem::size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(libc::bind(fd, (&raw const address).cast(), size), 0, "{}", io::Error::last_os_error());
            Self { socket }
        }
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: reads a live slice of the length given.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame that came in, with the tag that the kernel took out of it (TPID, TCI).
    fn receive(&self) -> Option<(Vec<u8>, Option<Tag>)> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut frame = vec![0u8; 70_000];
            let mut control = [0u64; 16];
            // SAFETY: every pointer is to a live buffer of the length beside it, and control messages are read by
            // the macros that know their layout.
            unsafe {
                let mut from: libc::sockaddr_ll = mem::zeroed();
                let mut vector = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
                let mut message: libc::msghdr = mem::zeroed();
                message.msg_name = (&raw mut from).cast();
                message.msg_namelen = mem::size_of::<libc::sockaddr_ll>() as u32;
                message.msg_iov = &raw mut vector;
                message.msg_iovlen = 1;
                message.msg_control = control.as_mut_ptr().cast();
                message.msg_controllen = mem::size_of_val(&control);
                let got = libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0);
                if got < 0 || from.sll_pkttype == libc::PACKET_OUTGOING {
                    continue;
                }
                let header = libc::CMSG_FIRSTHDR(&message);
                let mut tag = None;
                if !header.is_null() && (*header).cmsg_type == libc::PACKET_AUXDATA {
                    let data: libc::tpacket_auxdata = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                    if data.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        tag = Some((data.tp_vlan_tpid, data.tp_vlan_tci));
                    }
                }
                frame.truncate(got as usize);
                return Some((frame, tag));
            }
        }
        None
    }
}

/// A frame with tags between the addresses and the type.
fn tagged(tags: &[[u8; 4]], payload: &[u8]) -> Vec<u8> {
    let mut all = frame(0x0200_0000_0001, 0x88b5, payload);
    all.splice(12..12, tags.concat());
    all
}

fn frames_and_their_tags_cross_both_ways() {
    let switch = portal_switch();
    let (a, b) = (Wire::pair(&switch, 1, "v1"), Wire::pair(&switch, 2, "v2"));
    wire(&switch, 1, 2);
    wire(&switch, 2, 1);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let plain = tagged(&[], b"no tag at all, and long enough for Ethernet");
        from.send(&plain);
        assert_eq!(to.receive(), Some((plain, None)));

        // VLAN 7 with priority 3: what arrives is what was sent, the kernel's own untagging aside.
        let vlan = tagged(&[[0x81, 0x00, 0x60, 0x07]], b"one tag");
        from.send(&vlan);
        assert_eq!(to.receive(), Some((tagged(&[], b"one tag"), Some((0x8100, 0x6007)))));

        let double = tagged(&[[0x88, 0xa8, 0x00, 0x64], [0x81, 0x00, 0x00, 0x07]], b"two tags");
        from.send(&double);
        let inner = tagged(&[[0x81, 0x00, 0x00, 0x07]], b"two tags");
        assert_eq!(to.receive(), Some((inner, Some((0x88a8, 0x0064)))));
    }
    // The switch saw whole frames: the tag counts.
    let length = |tags: usize, payload: &[u8]| (14 + 4 * tags + payload.len()) as u64;
    let expected =
        length(0, b"no tag at all, and long enough for Ethernet") + length(1, b"one tag") + length(2, b"two tags");
    assert_eq!(switch.port_statistics()[&1].received_bytes, expected);
}

fn long_frames_cross_whole() {
    let switch = portal_switch();
    let (a, b) = (Wire::pair(&switch, 1, "w1"), Wire::pair(&switch, 2, "w2"));
    wire(&switch, 1, 2);
    for interface in ["w1", "w1-far", "w2", "w2-far"] {
        ip(&format!("link set {interface} mtu 9000"));
    }
    for length in [1500, 1900, 1948, 1949, 1950, 1951, 1962, 1963, 2034, 2048, 4000, 8990] {
        let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
        a.send(&tagged(&[[0x81, 0x00, 0x00, 0x07]], &payload));
        let (received, tag) = b.receive().unwrap();
        assert_eq!((received == tagged(&[], &payload), tag), (true, Some((0x8100, 7))), "{length} bytes");
    }
}

fn sums_left_to_the_hardware_are_completed() {
    let switch = portal_switch();
    let _a = Wire::pair(&switch, 1, "x1");
    let b = Wire::pair(&switch, 2, "x2");
    wire(&switch, 1, 2);
    ip("addr add 192.0.2.1/24 dev x1-far");
    ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev x1-far");
    let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
    for length in [0usize, 1, 2, 33, 1400] {
        socket.send_to(&vec![0x5a; length], "192.0.2.2:9").unwrap();
        let frame = loop {
            let (frame, _) = b.receive().expect("the datagram arrives");
            if frame[12..14] == [0x08, 0x00] {
                break frame;
            }
        };
        let (ip, udp) = frame[14..].split_at(20);
        assert_ne!(udp[6..8], [0, 0], "a sum was sent");
        let mut covered = ip[12..20].to_vec();
        covered.extend_from_slice(&[0, 17, udp[4], udp[5]]);
        covered.extend_from_slice(udp);
        if covered.len() % 2 == 1 {
            covered.push(0);
        }
        let mut sum: u32 = covered.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(sum, 0xffff, "{length} bytes");
    }
}

fn an_interface_that_goes_down_comes_back() {
    let switch = portal_switch();
    let (a, b) = (Wire::pair(&switch, 1, "y1"), Wire::pair(&switch, 2, "y2"));
    wire(&switch, 1, 2);
    let sent = tagged(&[], b"after the interface was down and up again");
    ip("link set y1 down");
    ip("link set y1 up");
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The carrier may take a moment, in which frames are lost as on a wire.
        // SAFETY: reads a live slice of the length given.
        unsafe { libc::send(a.socket.as_raw_fd(), sent.as_ptr().cast(), sent.len(), 0) };
        std::thread::sleep(Duration::from_millis(1));
        if switch.port_statistics()[&2].sent_frames > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", switch.port_statistics());
    }
    assert_eq!(b.receive(), Some((sent, None)));
}

/// Waits for a port to be up or down.
fn until(switch: &Switch, port: u16, up: bool) {
    let deadline = Instant::now() + PATIENCE;
    while switch.port_states().is_up(port) != up {
        assert!(Instant::now() < deadline, "port {port} is not {}", if up { "up" } else { "down" });
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn a_port_is_up_while_its_link_is() {
    let switch = portal_switch();
    assert!(!switch.port_states().is_up(1), "a port that is not there is down");
    let _wire = Wire::pair(&switch, 1, "z1");
    let _memory = switch.add_memory_port(2, &Default::default()).unwrap();
    let changes = switch.port_states().changes();
    until(&switch, 1, true);
    ip("link set z1 down");
    until(&switch, 1, false);
    ip("link set z1 up");
    until(&switch, 1, true);
    // The far end is down: the interface itself is up, but there is no link.
    ip("link set z1-far down");
    until(&switch, 1, false);
    assert!(changes.has_changed().unwrap());
    assert!(switch.port_states().is_up(2));
    ip("link del z1");
    until(&switch, 1, false);
}

fn a_tap_port_is_made_and_carries_what_the_host_sends() {
    let switch = portal_switch();
    switch.add_port(&"1@tap:tap1".parse().unwrap()).unwrap();
    let b = Wire::pair(&switch, 2, "t2");
    wire(&switch, 1, 2);
    wire(&switch, 2, 1);
    until(&switch, 1, true);
    // The host resolves an address behind the port: its ARP request leaves at port 2.
    ip("addr add 198.51.100.1/24 dev tap1");
    let host = std::net::UdpSocket::bind("198.51.100.1:0").unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    host.send_to(b"question", "198.51.100.2:7").unwrap();
    let arp = loop {
        let (frame, _) = b.receive().expect("an ARP request");
        if frame[12..14] == [0x08, 0x06] {
            break frame;
        }
    };
    let mut reply = arp.clone();
    reply[..6].copy_from_slice(&arp[6..12]);
    reply[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x42]);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 0x42]);
    reply[28..32].copy_from_slice(&arp[38..42]);
    reply[32..42].copy_from_slice(&arp[22..32]);
    b.send(&reply);
    // And then the datagram itself, whose sum is complete although nobody computed it in hardware.
    let datagram = loop {
        let (frame, _) = b.receive().expect("the datagram");
        if frame[12..14] == [0x08, 0x00] {
            break frame;
        }
    };
    assert_eq!((&datagram[..6], &datagram[42..]), (&[2, 0, 0, 0, 0, 0x42][..], &b"question"[..]));
    // Back to the host, with the addresses and ports turned round, which leaves the sum as it is.
    let mut answer = datagram.clone();
    answer[..6].copy_from_slice(&datagram[6..12]);
    answer[6..12].copy_from_slice(&datagram[..6]);
    for (at, length) in [(26, 4), (34, 2)] {
        answer[at..at + length].copy_from_slice(&datagram[at + length..at + 2 * length]);
        answer[at + length..at + 2 * length].copy_from_slice(&datagram[at..at + length]);
    }
    b.send(&answer);
    let mut buffer = [0; 64];
    let (length, from) = host.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from.to_string()), (&b"question"[..], "198.51.100.2:7".to_owned()));
    // It is gone with the switch.
    drop(switch);
    // SAFETY: a live, terminated name.
    assert_eq!(unsafe { libc::if_nametoindex(c"tap1".as_ptr()) }, 0);
}

/// The number of a flow and of a frame in it, which the frame carries at its end.
fn numbers(frame: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    (word(frame.len() - 8), word(frame.len() - 4))
}

fn several_workers_share_an_interface_and_keep_each_flow_in_order() {
    const FLOWS: u32 = 40;
    const FRAMES: u32 = 200;
    let switch = portal_switch_of(4);
    let (a, b) = (Wire::pair(&switch, 1, "q1"), Wire::pair(&switch, 2, "q2"));
    wire(&switch, 1, 2);
    // Flows of every kind: IPv4 with and without fragments, IPv6, neither, and each of them tagged.
    let of = |flow: u32, number: u32| {
        let numbers = [flow.to_be_bytes(), number.to_be_bytes()].concat();
        let (ether_type, mut payload) = match flow % 4 {
            kind @ (0 | 1) => {
                let mut ip = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, flow as u8, 10, 1, 1, 1];
                if kind == 1 {
                    // Now the first fragment, now a later one, now no fragment at all.
                    ip[6..8].copy_from_slice(&[[0x20, 0], [0x00, 1], [0, 0]][number as usize % 3]);
                }
                // The ports of a later fragment are just payload.
                ip.extend_from_slice(&[0, 1, number as u8, 2, 0, 16, 0, 0]);
                (0x0800, ip)
            }
            2 => {
                let mut ip = vec![0x60, 0, 0, 0, 0, 8, 59, 64];
                ip.extend_from_slice(&[flow as u8; 16]);
                ip.extend_from_slice(&[0xfd; 16]);
                (0x86dd, ip)
            }
            _ => (0x88b5, vec![0; 20]),
        };
        payload.extend_from_slice(&numbers);
        let mut all = frame(0x0200_0000_0000 | u64::from(flow), ether_type, &payload);
        if flow % 8 >= 4 {
            all.splice(12..12, [0x81, 0x00, 0x00, 0x07]);
        }
        all
    };
    let mut next = vec![0; FLOWS as usize];
    for number in 0..FRAMES {
        for flow in 0..FLOWS {
            a.send(&of(flow, number));
        }
        // Some frames are always under way, but never more than the far socket holds.
        if number >= 2 {
            for _ in 0..FLOWS {
                let (flow, number) = numbers(&b.receive().expect("no frame is lost").0);
                assert_eq!(number, next[flow as usize], "flow {flow}");
                next[flow as usize] += 1;
            }
        }
    }
    for _ in 0..2 * FLOWS {
        let (flow, number) = numbers(&b.receive().expect("no frame is lost").0);
        assert_eq!(number, next[flow as usize], "flow {flow}");
        next[flow as usize] += 1;
    }
    assert_eq!(next, vec![FRAMES; FLOWS as usize]);
    let statistics = switch.port_statistics();
    let all = u64::from(FLOWS * FRAMES);
    assert_eq!((statistics[&1].received_frames, statistics[&2].sent_frames), (all, all));
    // The kernel has dealt them out: no worker was alone.
    let busy = switch.worker_received().iter().filter(|n| **n > 0).count();
    assert!(busy > 1, "{:?}", switch.worker_received());
}
