//! `dmux switch` as a person starts it: flags whose effect only packets show.

#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use support::{PATIENCE, Process, free_addresses, wait};

/// A program that sends a frame to the port in its first byte with the priority in its second one.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../softswitch/tests/p4runtime_programs/queues.json");

fn scrape(address: SocketAddr) -> String {
    let mut text = String::new();
    let Ok(mut connection) = TcpStream::connect(address) else { return text };
    let asked = connection.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
    asked.and_then(|()| connection.read_to_string(&mut text)).expect("an answer");
    text
}

#[test]
fn egress_queues_priorities_and_the_drop_port_are_what_the_flags_say() {
    let [p4runtime, metrics, in_port, out_port] = free_addresses(4)[..] else { panic!("four addresses") };
    let socket = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    };
    let (from, to) = (socket(), socket());
    let [from_address, to_address] = [&from, &to].map(|s| s.local_addr().expect("an address"));
    let dir = tempfile::tempdir().expect("a folder");
    let flags = [
        "switch".to_owned(),
        PROGRAM.to_owned(),
        format!("--p4runtime={p4runtime}"),
        format!("--metrics={metrics}"),
        "--priority-queues=2".to_owned(),
        "--drop-port=9".to_owned(),
        format!("--port=3@udp:{in_port}>{from_address}"),
        format!("--port=1@udp:{out_port}>{to_address},egress-rate=1000000,egress-depth=100"),
    ];
    let _switch = Process::start(dir.path(), "switch", &flags);
    wait("the switch is up", || Some(scrape(metrics)).filter(|text| text.contains("dmux_pipeline_loaded 1")));

    let send = |frame: &[u8; 4]| from.send_to(frame, in_port).expect("sent");
    // No queue has priority 2, port 9 drops, port 5 is not there.
    [[1, 2, 0, 0], [9, 0, 0, 1], [5, 0, 0, 2], [1, 1, 0, 3], [1, 0, 0, 4]].iter().for_each(|f| _ = send(f));
    let mut received = [0u8; 100];
    let mut numbers = [0, 0].map(|_| {
        let length = to.recv(&mut received).expect("a frame");
        assert_eq!(length, 33);
        (received[3], received[19])
    });
    numbers.sort_unstable();
    assert_eq!(numbers, [(3, 1), (4, 0)]);
    let text = wait("all is counted", || {
        Some(scrape(metrics)).filter(|t| t.contains("dmux_packets_total{direction=\"in\"} 5"))
    });
    for line in [
        "dmux_drops_total{reason=\"no queue for its priority\"} 1",
        "dmux_drops_total{reason=\"by the program\"} 1",
        "dmux_drops_total{reason=\"no such port\"} 1",
        "dmux_drops_total{reason=\"egress queue full\"} 0",
        "dmux_egress_queue_packets_total{port=\"1\",priority=\"0\"} 1",
        "dmux_egress_queue_packets_total{port=\"1\",priority=\"1\"} 1",
        "dmux_egress_queue_drops_total{port=\"1\",priority=\"1\"} 0",
        "dmux_egress_queue_depth{port=\"1\",priority=\"0\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}
