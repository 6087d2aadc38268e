//! Statistics for Prometheus: `GET /metrics` in the text exposition format 0.0.4.
//!
//! The endpoint answers that one request, over HTTP/1, one request a connection. There is no authentication: it belongs
//! on a loopback address, or behind a proxy.

use std::fmt::{Display, Write};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::pipeline::TableIx;
use crate::pipeline::queue::QueueStatistics;
use crate::ports::PortStatistics;
use crate::switch::Switch;

/// Requests answered at once; further connections wait.
const MAX_CONNECTIONS: usize = 8;
/// The longest head of a request.
const MAX_REQUEST_BYTES: usize = 8 << 10;
/// How long a client may take to send its request and read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to accept when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers scrapes until `shutdown` completes.
pub async fn serve(switch: Arc<Switch>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, connection) = tokio::select! {
            next = next => next,
            () = &mut shutdown => return,
        };
        match connection {
            Ok((connection, _)) => {
                let switch = Arc::clone(&switch);
                tokio::spawn(async move {
                    let _permit = permit;
                    // A client that is too slow, or gone, is no concern of ours.
                    let _ = tokio::time::timeout(PATIENCE, answer(&switch, connection)).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "no connection to the metrics could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(switch: &Switch, mut connection: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0u8; 1024];
    let response = loop {
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            break respond(switch, &head);
        }
        if head.len() > MAX_REQUEST_BYTES {
            break status("431 Request Header Fields Too Large", "the request's head is too long\n");
        }
        match connection.read(&mut chunk).await? {
            0 => return Ok(()),
            n => head.extend_from_slice(&chunk[..n]),
        }
    };
    connection.write_all(response.as_bytes()).await?;
    connection.shutdown().await
}

fn respond(switch: &Switch, head: &[u8]) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/metrics") => status("200 OK", &render(switch)),
        (_, b"/metrics") => status("405 Method Not Allowed", "only GET is answered here\n"),
        _ => status("404 Not Found", "statistics are at /metrics\n"),
    }
}

fn status(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The text under construction. Writing to a string does not fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: u64) {
        self.0.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            let escaped = text.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{escaped}\"", if n == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

/// Everything that the switch counts, as Prometheus reads it.
#[must_use]
pub fn render(switch: &Switch) -> String {
    let mut text = Text::default();
    ports(&mut text, switch);
    queues(&mut text, switch);
    tables(&mut text, switch);
    totals(&mut text, switch);
    text.0
}

fn ports(text: &mut Text, switch: &Switch) {
    let ports = switch.port_statistics();
    text.family("dmux_port_up", "gauge", "Whether the port can carry frames.");
    for port in ports.keys() {
        text.sample("dmux_port_up", &[("port", port)], u64::from(switch.port_states().is_up(*port)));
    }
    type Get = fn(&PortStatistics) -> u64;
    let families: [(&str, &str, Get); 8] = [
        ("received_frames", "Frames received.", |p| p.received_frames),
        ("received_bytes", "Bytes received, without frame check sequences.", |p| p.received_bytes),
        ("receive_drops", "Frames that the operating system dropped before the switch saw them.", |p| p.receive_drops),
        ("sent_frames", "Frames given to the port to send.", |p| p.sent_frames),
        ("sent_bytes", "Bytes given to the port to send.", |p| p.sent_bytes),
        ("link_losses", "Frames that the emulated link lost by chance.", |p| p.link_losses),
        ("queue_drops", "Frames that found the emulated link's queue full.", |p| p.queue_drops),
        ("send_failures", "Frames that the device did not take.", |p| p.send_failures),
    ];
    for (name, help, get) in families {
        let name = format!("dmux_port_{name}_total");
        text.family(&name, "counter", help);
        for (port, statistics) in &ports {
            text.sample(&name, &[("port", port)], get(statistics));
        }
    }
}

fn queues(text: &mut Text, switch: &Switch) {
    let queues = switch.egress_queues();
    type Get = fn(&QueueStatistics) -> u64;
    let families: [(&str, &str, &str, Get); 3] = [
        ("depth", "gauge", "Packets that wait in the egress queue.", |q| q.depth as u64),
        ("packets_total", "counter", "Packets that the egress queue took in.", |q| q.queued),
        ("drops_total", "counter", "Packets that found the egress queue full.", |q| q.dropped),
    ];
    for (name, kind, help, get) in families {
        let name = format!("dmux_egress_queue_{name}");
        text.family(&name, kind, help);
        for (port, priorities) in &queues {
            for (priority, statistics) in priorities.iter().enumerate() {
                text.sample(&name, &[("port", port), ("priority", &priority)], get(statistics));
            }
        }
    }
}

fn tables(text: &mut Text, switch: &Switch) {
    let pipeline = switch.pipeline();
    text.family("dmux_pipeline_loaded", "gauge", "Whether a program is loaded.");
    text.sample("dmux_pipeline_loaded", &[], u64::from(pipeline.is_some()));
    let Some(pipeline) = pipeline else { return };
    let dataplane = &pipeline.dataplane;
    // Those without a key have nothing to count; p4c makes them of statements.
    let tables = || dataplane.program().tables().iter().enumerate().filter(|(_, t)| !t.key.is_empty());
    text.family("dmux_table_entries", "gauge", "Entries in the table.");
    for (ix, table) in tables() {
        text.sample("dmux_table_entries", &[("table", &table.name)], dataplane.entry_count(TableIx(ix)) as u64);
    }
    text.family("dmux_table_capacity", "gauge", "Entries that the table holds at most.");
    for (_, table) in tables() {
        text.sample("dmux_table_capacity", &[("table", &table.name)], table.max_size as u64);
    }
    text.family("dmux_table_lookups_total", "counter", "Lookups since the program was loaded, by result.");
    for (ix, table) in tables() {
        if let Some((hits, misses)) = dataplane.hits_and_misses(TableIx(ix)) {
            for (result, n) in [("hit", hits), ("miss", misses)] {
                text.sample("dmux_table_lookups_total", &[("table", &table.name), ("result", &result)], n);
            }
        }
    }
}

fn totals(text: &mut Text, switch: &Switch) {
    let (switched, pipeline) = (switch.statistics(), switch.pipeline_statistics());
    text.family("dmux_packets_total", "counter", "Packets that the program took in and sent.");
    for (direction, n) in [("in", pipeline.received), ("out", pipeline.sent)] {
        text.sample("dmux_packets_total", &[("direction", &direction)], n);
    }
    text.family("dmux_drops_total", "counter", "Packets dropped, by reason.");
    let outside = [("no program is loaded", switched.no_pipeline), ("no such port", switched.no_such_port)];
    for (reason, n) in pipeline.drops().into_iter().chain(outside) {
        text.sample("dmux_drops_total", &[("reason", &reason)], n);
    }
    text.family("dmux_packet_ins_total", "counter", "Packets for the controller, by what became of them.");
    for (result, n) in [
        ("sent", switched.packet_ins),
        ("no primary", switched.packet_ins_without_primary),
        ("the primary reads too slowly", switched.packet_ins_overflowed),
        ("too short for the program's header", switched.packet_ins_too_short),
    ] {
        text.sample("dmux_packet_ins_total", &[("result", &result)], n);
    }
    let server = switch.server_statistics();
    text.family("dmux_p4runtime_streams", "gauge", "Streams that controllers have open.");
    text.sample("dmux_p4runtime_streams", &[], server.open_streams as u64);
    text.family("dmux_p4runtime_streams_opened_total", "counter", "Streams that controllers have ever opened.");
    text.sample("dmux_p4runtime_streams_opened_total", &[], server.streams);
    let codes = [
        ("dmux_p4runtime_writes_total", "Write requests, by the code of the answer.", &server.writes),
        ("dmux_p4runtime_updates_total", "Updates in requests not refused as a whole, by their code.", &server.updates),
    ];
    for (name, help, counts) in codes {
        text.family(name, "counter", help);
        for (code, n) in counts {
            text.sample(name, &[("code", code)], *n);
        }
    }
    text.family("dmux_worker_received_frames_total", "counter", "Frames received by each packet thread.");
    for (worker, n) in switch.worker_received().into_iter().enumerate() {
        text.sample("dmux_worker_received_frames_total", &[("worker", &worker)], n);
    }
}
