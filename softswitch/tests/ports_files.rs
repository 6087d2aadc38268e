//! Ports that are capture files, and captures of every port.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use dmux_softswitch::ports::files::PcapReader;
use dmux_softswitch::ports::{LinkConfig, Observe};
use dmux_softswitch::{PortError, Switch, SwitchError};
use p4runtime_support::*;

/// A capture file of frames with their time stamps in microseconds.
fn write_capture(path: &Path, frames: &[(u32, Vec<u8>)]) {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0];
    for (at, frame) in frames {
        for word in [0, *at, frame.len() as u32, frame.len() as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    std::fs::write(path, bytes).unwrap();
}

fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::open(path).unwrap();
    std::iter::from_fn(|| reader.next_frame().unwrap().map(|(_, frame)| frame)).collect()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_files_of_all_ports_are_one_sequence_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let numbered = |n: u32| frame(1, 0x88b5, &n.to_be_bytes());
    // Each port has the frames that the other lacks, in runs of different lengths.
    let is_first = |n: &u32| n % 7 < 3;
    let of = |first: bool| (0..500).filter(|n| is_first(n) == first).map(|n| (n, numbered(n))).collect::<Vec<_>>();
    write_capture(&path("a_in"), &of(true));
    write_capture(&path("b_in"), &of(false));

    let switch = portal_switch();
    for (number, name) in [(1, "a"), (2, "b")] {
        let dir = folder.path().display();
        let spec = format!("{number}@pcap:{dir}/{name}_in>{dir}/{name}_out").parse().unwrap();
        switch.add_port(&spec).unwrap();
    }
    let merged = switch.add_memory_port(3, &LinkConfig::default()).unwrap();
    wire(&switch, 1, 3);
    wire(&switch, 2, 3);
    wire(&switch, 3, 2);
    assert_eq!(merged.receive(MOMENT), None, "nothing comes before the start");
    switch.replay_after(Duration::ZERO);
    for n in 0..500 {
        assert_eq!(merged.receive(PATIENCE), Some(numbered(n)), "frame {n}");
    }
    merged.send(&numbered(1000));
    until("a frame is written", || switch.port_statistics()[&2].sent_frames == 1);
    drop(switch);
    assert_eq!(read_capture(&path("b_out")), [numbered(1000)]);
    assert_eq!(read_capture(&path("a_out")), [[0u8; 0]; 0]);
}

#[test]
fn a_capture_directory_holds_what_each_port_received_and_sent() {
    let folder = tempfile::tempdir().unwrap();
    let observe = Observe { capture_dir: Some(folder.path().to_owned()), dump_bytes: 4 };
    let switch = Switch::builder(DEVICE, CPU_PORT).observe(observe).start().unwrap();
    switch.load_pipeline(p4info(), portal(0).p4_device_config).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let spec = format!("1@udp:127.0.0.1:0>{}", socket.local_addr().unwrap()).parse().unwrap();
    let there = switch.add_port(&spec).unwrap().unwrap();
    let far = switch.add_memory_port(2, &LinkConfig::default()).unwrap();
    wire(&switch, 1, 2);
    wire(&switch, 2, 1);
    let (one, two) = (frame(1, 0x88b5, b"in"), frame(1, 0x88b5, b"out"));
    socket.send_to(&one, there).unwrap();
    assert_eq!(far.receive(PATIENCE).as_ref(), Some(&one));
    far.send(&two);
    until("a frame is sent", || switch.port_statistics()[&1].sent_frames == 1);
    drop(switch);
    assert_eq!(read_capture(&folder.path().join("port1_in.pcap")), [one]);
    assert_eq!(read_capture(&folder.path().join("port1_out.pcap")), [two]);

    let observe = Observe { capture_dir: Some(folder.path().join("nowhere")), dump_bytes: 0 };
    let refused = Switch::builder(DEVICE, CPU_PORT).observe(observe).start().map(drop);
    assert!(matches!(refused, Err(SwitchError::Port(PortError::Capture { .. }))), "{refused:?}");
}

#[test]
fn a_program_without_p4info_runs_on_what_it_says_itself() {
    let switch = Switch::builder(DEVICE, CPU_PORT).start().unwrap();
    switch.load_pipeline(Default::default(), portal(0).p4_device_config).unwrap();
    let a = switch.add_memory_port(1, &LinkConfig::default()).unwrap();
    let b = switch.add_memory_port(2, &LinkConfig::default()).unwrap();
    wire(&switch, 1, 2);
    a.send(&frame(1, 0x88b5, b"x"));
    assert_eq!(b.receive(PATIENCE), Some(frame(1, 0x88b5, b"x")));
}
