//! The Prometheus endpoint, scraped as Prometheus does; and traces of packets, read as a person does.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use std::sync::Arc;
use std::time::Instant;

use dmux_softswitch::ports::LinkConfig;
use dmux_softswitch::trace::TraceConfig;
use dmux_softswitch::{Switch, metrics};
use p4runtime_support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tonic::Code;

async fn request(address: std::net::SocketAddr, text: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, connection.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_what_ports_tables_and_the_switch_have_done() {
    let switch = Switch::builder(DEVICE, CPU_PORT).workers(2).count_tables().start().unwrap();
    switch.load_pipeline(p4info(), portal(0).p4_device_config).unwrap();
    let a = switch.add_memory_port(1, &LinkConfig::default()).unwrap();
    let b = switch.add_memory_port(2, &LinkConfig::default()).unwrap();
    wire(&switch, 1, 2);
    wire(&switch, 2, 9);
    for n in 0..7u8 {
        assert!(a.send(&frame(1, 0x88b5, &[n])));
        assert!(b.receive(PATIENCE).is_some());
    }
    assert!(b.send(&frame(1, 0x88b5, b"to a port that is not there")));
    let deadline = Instant::now() + PATIENCE;
    while switch.statistics().no_such_port == 0 || switch.pipeline_statistics().received < 8 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }

    let switch = Arc::new(switch);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(metrics::serve(Arc::clone(&switch), listener, async { drop(stopped.await) }));

    let scraped = request(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(scraped.starts_with("HTTP/1.1 200 OK\r\n"), "{scraped}");
    assert!(scraped.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    for line in [
        "dmux_port_up{port=\"1\"} 1",
        "dmux_port_received_frames_total{port=\"1\"} 7",
        "dmux_port_received_bytes_total{port=\"1\"} 105",
        "dmux_port_sent_frames_total{port=\"2\"} 7",
        "dmux_table_entries{table=\"PortalIngress.wire\"} 2",
        "dmux_table_lookups_total{table=\"PortalIngress.wire\",result=\"hit\"} 8",
        "dmux_table_lookups_total{table=\"PortalIngress.wire\",result=\"miss\"} 0",
        "dmux_packets_total{direction=\"in\"} 8",
        "dmux_drops_total{reason=\"no such port\"} 1",
        "dmux_packet_ins_total{result=\"sent\"} 0",
        "dmux_p4runtime_streams 0",
        "dmux_pipeline_loaded 1",
    ] {
        assert!(scraped.lines().any(|l| l == line), "{line} is missing in\n{scraped}");
    }
    // Every sample belongs to a family that was announced before it.
    let body = scraped.split_once("\r\n\r\n").unwrap().1;
    let mut family = "";
    for line in body.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(kind) => family = kind.split(' ').next().unwrap(),
            None if line.starts_with("# HELP ") => {}
            None => assert!(line.starts_with(family) && line.rsplit_once(' ').unwrap().1.parse::<u64>().is_ok()),
        }
    }

    assert!(request(address, "GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.1 404 "));
    assert!(request(address, "POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9000));
    assert!(request(address, &long).await.starts_with("HTTP/1.1 431 "));
    stop.send(()).unwrap();
    server.await.unwrap();
}

#[test]
fn a_trace_tells_a_packets_way_and_leaves_it_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let config = TraceConfig { per_second: u32::MAX, ports: vec![1], file: Some(file.clone()) };
    let traced = Switch::builder(DEVICE, CPU_PORT).trace(config).start().unwrap();
    traced.load_pipeline(p4info(), portal(0).p4_device_config).unwrap();
    let plain = portal_switch();
    let sent = frame(0x0a0b_0c0d_0e0f, 0x88b5, b"look at me");
    let mut received = Vec::new();
    for switch in [&traced, &plain] {
        let a = switch.add_memory_port(1, &LinkConfig::default()).unwrap();
        let b = switch.add_memory_port(2, &LinkConfig::default()).unwrap();
        wire(switch, 1, 2);
        wire(switch, 2, 1);
        a.send(&sent);
        received.push(b.receive(PATIENCE).unwrap());
        // Port 2 is not traced.
        b.send(&sent);
        assert!(a.receive(PATIENCE).is_some());
    }
    assert_eq!(received[0], received[1]);
    drop(traced);
    let text = std::fs::read_to_string(file).unwrap();
    let mut rest = text.as_str();
    for step in [
        "packet 1 received at port 1, 24 bytes: 0a0b0c0d0e0f",
        "parser state start",
        "parser state frame",
        "ethernet is valid",
        "ethernet.ether_type = 0x88b5 (was 0x0)",
        "ingress",
        "table PortalIngress.wire: ",
        "=0x1",
        "hit: PortalIngress.send(port=0x2)",
        "standard_metadata.egress_spec = 0x2",
        "egress",
        "deparser",
        "sent to port 2, 24 bytes: 0a0b0c0d0e0f",
    ] {
        let at = rest.find(step).unwrap_or_else(|| panic!("{step:?} is missing, or not in its place, in\n{text}"));
        rest = &rest[at + step.len()..];
    }
    assert!(!text.contains("packet 2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_controllers_write_is_counted_by_what_became_of_it() {
    let (rig, mut controller) = Rig::loaded().await;
    let mut backup = rig.connect().await;
    assert_ne!(backup.arbitrate(0).await.unwrap().0, Code::Ok);
    let wire = |port: u8| insert(entry("wire", vec![(1, exact(&[port]))], action("send", &[b"\x02"])));
    assert_eq!(controller.write(vec![wire(1), wire(2)]).await, [Code::Ok, Code::Ok]);
    assert_eq!(controller.write(vec![wire(3), wire(1)]).await, [Code::Ok, Code::AlreadyExists]);
    assert_eq!(backup.try_write(vec![wire(4), wire(5)]).await.unwrap_err().code(), Code::PermissionDenied);
    drop(backup);
    let deadline = Instant::now() + PATIENCE;
    while rig.switch.server_statistics().open_streams != 1 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let text = metrics::render(&rig.switch);
    for line in [
        "dmux_p4runtime_updates_total{code=\"OK\"} 3",
        "dmux_p4runtime_updates_total{code=\"ALREADY_EXISTS\"} 1",
        "dmux_p4runtime_writes_total{code=\"OK\"} 1",
        "dmux_p4runtime_writes_total{code=\"UNKNOWN\"} 1",
        "dmux_p4runtime_writes_total{code=\"PERMISSION_DENIED\"} 1",
        "dmux_p4runtime_streams 1",
        "dmux_p4runtime_streams_opened_total 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert_eq!(text.lines().filter(|l| l.starts_with("dmux_p4runtime_updates_total")).count(), 2, "{text}");
    rig.stop().await;
}
