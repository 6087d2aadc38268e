//! UDP ports between a switch and plain sockets: every length, captures, delay, loss, rate, strangers.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use dmux_softswitch::Switch;
use dmux_softswitch::ports::{LinkConfig, MAX_FRAME, PortSpec, PortStatistics};
use p4runtime_support::*;

/// A host on a UDP port of the switch.
struct Host {
    socket: UdpSocket,
}

impl Host {
    /// Adds port `number` with options to the switch and stands at its far end.
    fn at(switch: &Switch, number: u16, options: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = socket.local_addr().unwrap();
        let spec: PortSpec = format!("{number}@udp:127.0.0.1:0>{here}{options}").parse().unwrap();
        let there = switch.add_port(&spec).unwrap().expect("a UDP port has an address");
        socket.connect(there).unwrap();
        Self { socket }
    }

    fn send(&self, frame: &[u8]) {
        self.socket.send(frame).unwrap();
    }

    fn receive(&self, timeout: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(timeout)).unwrap();
        let mut frame = vec![0; 65_536];
        let length = self.socket.recv(&mut frame).ok()?;
        frame.truncate(length);
        Some(frame)
    }
}

/// Waits until a port's counts are as wanted.
fn wait_for(switch: &Switch, port: u16, what: &str, wanted: impl Fn(&PortStatistics) -> bool) -> PortStatistics {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let statistics = switch.port_statistics()[&port];
        if wanted(&statistics) {
            return statistics;
        }
        assert!(Instant::now() < deadline, "{what}: {statistics:?}");
        std::thread::yield_now();
    }
}

#[test]
fn frames_of_every_length_cross_as_they_are() {
    let switch = portal_switch();
    let (a, b) = (Host::at(&switch, 1, ""), Host::at(&switch, 2, ""));
    wire(&switch, 1, 2);
    wire(&switch, 2, 1);
    for length in (14..=1600).step_by(61).chain([14, 15, 60, 1514, 9000, 65_507]) {
        let sent = frame(1, 0x88b5, &vec![length as u8; length - 14]);
        a.send(&sent);
        assert_eq!(b.receive(PATIENCE).map(|f| f == sent), Some(true), "{length} bytes");
        b.send(&sent);
        assert_eq!(a.receive(PATIENCE).map(|f| f == sent), Some(true), "{length} bytes back");
    }
}

#[test]
fn frames_too_short_for_a_header_cross_too() {
    let switch = portal_switch();
    let (a, b) = (Host::at(&switch, 1, ""), Host::at(&switch, 2, ""));
    wire(&switch, 1, 2);
    a.send(&[]);
    for length in 1..14 {
        // The parser fails, but this program forwards by port: the frame leaves as it came.
        let sent = vec![0xff; length];
        a.send(&sent);
        assert_eq!(b.receive(PATIENCE), Some(sent));
    }
    wait_for(&switch, 1, "13 frames of 1 to 13 bytes", |s| s.received_bytes == 91);
}

#[test]
fn ports_in_memory_carry_frames_of_one_byte_up_to_the_longest() {
    let switch = portal_switch();
    let a = switch.add_memory_port(1, &LinkConfig::default()).unwrap();
    let b = switch.add_memory_port(2, &LinkConfig::default()).unwrap();
    wire(&switch, 1, 2);
    assert!(!a.send(&[]) && !a.send(&[0; MAX_FRAME + 1]));
    for length in [1, 2, 13, 14, 15, 1514, 9000, 65_508, MAX_FRAME - 1, MAX_FRAME] {
        let sent: Vec<u8> = (0..length).map(|i| i as u8).collect();
        assert!(a.send(&sent));
        assert_eq!(b.receive(PATIENCE).map(|f| f == sent), Some(true), "{length} bytes");
    }
}

#[test]
fn a_delayed_link_delivers_late_and_in_order() {
    let switch = portal_switch();
    let (a, b) = (Host::at(&switch, 1, ""), Host::at(&switch, 2, ",delay=80ms"));
    wire(&switch, 1, 2);
    let start = Instant::now();
    for i in 0..20u8 {
        a.send(&frame(1, 0x88b5, &[i]));
    }
    for i in 0..20u8 {
        assert_eq!(b.receive(PATIENCE), Some(frame(1, 0x88b5, &[i])));
        // A frame can be late on a busy machine, but never early.
        assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
    }
}

#[test]
fn a_lossy_link_loses_the_same_frames_every_time() {
    let run = |seed: u64| {
        let switch = portal_switch();
        let a = switch.add_memory_port(1, &LinkConfig::default()).unwrap();
        let lossy = LinkConfig { loss: 0.3, seed, ..LinkConfig::default() };
        let b = switch.add_memory_port(2, &lossy).unwrap();
        wire(&switch, 1, 2);
        for i in 0..200u8 {
            assert!(a.send(&frame(1, 0x88b5, &[i])));
        }
        let statistics = wait_for(&switch, 2, "200 frames", |s| s.sent_frames == 200);
        let arrived = 200 - statistics.link_losses;
        let frames: Vec<u8> = (0..arrived).map(|_| b.receive(PATIENCE).unwrap()[14]).collect();
        assert_eq!(b.receive(MOMENT), None);
        frames
    };
    let once = run(5);
    assert!((100..180).contains(&once.len()), "{} of 200 arrived at 30% loss", once.len());
    assert_eq!(run(5), once);
    assert_ne!(run(6), once);
}

#[test]
fn a_slow_link_queues_within_its_bound_and_drops_the_rest() {
    let switch = portal_switch();
    let (a, b) = (Host::at(&switch, 1, ""), Host::at(&switch, 2, ",rate=1mbit,queue=5"));
    wire(&switch, 1, 2);
    let sent = frame(1, 0x88b5, &[0; 1486]);
    let start = Instant::now();
    for _ in 0..40 {
        a.send(&sent);
    }
    let statistics = wait_for(&switch, 2, "40 frames", |s| s.sent_frames == 40);
    assert!(statistics.queue_drops > 0, "{statistics:?}");
    let passed = 40 - statistics.queue_drops;
    for _ in 0..passed {
        assert!(b.receive(PATIENCE).is_some());
    }
    // Two frames leave with the burst, each further one takes 12 ms at 1 Mbit/s.
    assert!(start.elapsed() >= Duration::from_millis(12) * u32::try_from(passed - 3).unwrap());
}

#[test]
fn datagrams_of_strangers_are_not_taken() {
    let switch = portal_switch();
    let (a, b) = (Host::at(&switch, 1, ""), Host::at(&switch, 2, ""));
    wire(&switch, 1, 2);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&frame(1, 0x88b5, b"forged"), a.socket.peer_addr().unwrap()).unwrap();
    let honest = frame(1, 0x88b5, b"honest");
    a.send(&honest);
    assert_eq!(b.receive(PATIENCE), Some(honest));
}

#[test]
fn a_far_end_that_is_not_up_yet_costs_only_its_own_frames() {
    let switch = portal_switch();
    let a = Host::at(&switch, 1, "");
    let later = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = later.local_addr().unwrap();
    drop(later);
    let spec: PortSpec = format!("2@udp:127.0.0.1:0>{address}").parse().unwrap();
    let there = switch.add_port(&spec).unwrap().unwrap();
    wire(&switch, 1, 2);
    a.send(&frame(1, 0x88b5, b"into the void"));
    wait_for(&switch, 2, "the first frame is sent", |s| s.sent_frames == 1);
    let b = UdpSocket::bind(address).unwrap();
    b.connect(there).unwrap();
    let b = Host { socket: b };
    let deadline = Instant::now() + PATIENCE;
    let sent = frame(1, 0x88b5, b"now it is up");
    while b.receive(MOMENT) != Some(sent.clone()) {
        assert!(Instant::now() < deadline);
        a.send(&sent);
    }
}

#[test]
fn a_capture_holds_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("port2.pcap");
    let switch = portal_switch();
    let (a, b) = (Host::at(&switch, 1, ""), Host::at(&switch, 2, &format!(",pcap={}", path.display())));
    wire(&switch, 1, 2);
    wire(&switch, 2, 1);
    let (out, back) = (frame(1, 0x88b5, b"out"), frame(1, 0x88b5, b"and back"));
    a.send(&out);
    assert_eq!(b.receive(PATIENCE).as_ref(), Some(&out));
    b.send(&back);
    assert_eq!(a.receive(PATIENCE).as_ref(), Some(&back));
    // The capture is complete once the switch is gone.
    drop(switch);
    let capture = std::fs::read(&path).unwrap();
    let (mut at, mut frames) = (24, Vec::new());
    while at < capture.len() {
        let length = u32::from_ne_bytes(capture[at + 8..at + 12].try_into().unwrap()) as usize;
        frames.push(capture[at + 16..at + 16 + length].to_vec());
        at += 16 + length;
    }
    assert_eq!(frames, [out, back]);
}

#[test]
fn a_switch_without_a_pipeline_drops_and_counts() {
    let switch = Switch::builder(1, CPU_PORT).start().unwrap();
    let port = switch.add_memory_port(1, &LinkConfig::default()).unwrap();
    port.send(&frame(1, 0x88b5, b"x"));
    wait_for(&switch, 1, "one frame", |s| s.received_frames == 1);
    assert_eq!(switch.statistics().no_pipeline, 1);
}
