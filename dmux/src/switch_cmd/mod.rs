//! `dmux switch`

mod log;
mod program;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use dmux_softswitch::pipeline::{DEFAULT_DROP_PORT, MAX_PRIORITIES};
use dmux_softswitch::ports::{Device, Observe, PortSpec};
use dmux_softswitch::switch::Switch;
use dmux_softswitch::trace::TraceConfig;
use dmux_softswitch::{MAX_WORKERS, PortError};
use tokio::net::TcpListener;

pub use log::LogArgs;
use program::ProgramArgs;
use tls::TlsArgs;

/// Workers at most, if nothing is said.
const MOST_DEFAULT_WORKERS: usize = 4;

/// `egress_spec` has nine bits.
const MAX_DROP_PORT: i64 = 511;

/// `dmux switch`
#[derive(Debug, Args)]
pub struct SwitchArgs {
    #[command(flatten)]
    program: ProgramArgs,
    /// Where to serve P4Runtime.
    ///
    /// Without --tls-cert and --tls-ca there is no authentication: whoever reaches this address controls the switch.
    #[arg(long, visible_alias = "grpc-server-addr", value_name = "IP:PORT", default_value = "127.0.0.1:9559")]
    p4runtime: SocketAddr,
    #[command(flatten)]
    tls: TlsArgs,
    /// The device id that P4Runtime clients name.
    #[arg(long, value_name = "ID", default_value_t = 1)]
    device_id: u64,
    /// The port number by which the program reaches its controller (packet-in, packet-out).
    #[arg(long, value_name = "NUMBER", default_value_t = 510)]
    cpu_port: u16,
    /// The egress_spec of a packet that is dropped; no port may have the number.
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_DROP_PORT,
        value_parser = clap::value_parser!(u16).range(..=MAX_DROP_PORT))]
    drop_port: u16,
    /// Priorities of each port's egress queues, from 0, the lowest.
    ///
    /// A packet whose priority (standard_metadata) is not below N is dropped.
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_PRIORITIES)))]
    priority_queues: u8,
    /// A port: NUMBER@INTERFACE, NUMBER@tap:NAME, NUMBER@udp:LOCAL>REMOTE or NUMBER@pcap:IN>OUT, with options after
    /// commas.
    ///
    /// An interface is opened with AF_PACKET (needs CAP_NET_RAW), a TAP interface is made if it is missing (needs
    /// CAP_NET_ADMIN), pcap reads frames from one file and writes to another. Options: delay=5ms, loss=0.1%,
    /// rate=10mbit, queue=1000, seed=7 (an emulated link, for what is sent), egress-rate=1000, egress-depth=64 (packets
    /// a second that enter egress, and packets that may wait for it, of each priority), egress-link=100mbit (a link
    /// behind these queues, which the highest priority gets first), and pcap=FILE (a capture of both directions). Give
    /// --port once for each port.
    #[arg(long = "port", short = 'i', visible_alias = "interface", value_name = "PORT")]
    ports: Vec<PortSpec>,
    /// How many threads move packets (default: half the processors, 1 to 4).
    ///
    /// A packet never overtakes another of its flow (the same pair of IP addresses, at one port). With more than one,
    /// packets of different flows read and write the same registers at once. Ports of files run with one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS as i64))]
    workers: Option<u16>,
    /// Capture what every port receives and sends: DIR/NAME_in.pcap and DIR/NAME_out.pcap.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pcap: Option<PathBuf>,
    /// Run from capture files: port NUMBER@NAME reads NAME_in.pcap and writes NAME_out.pcap, starting after SECONDS.
    ///
    /// The files of all ports are read as one sequence by time stamp, as fast as the switch takes them. The switch
    /// runs on after their end.
    #[arg(long, value_name = "SECONDS")]
    use_files: Option<u64>,
    /// Show the first N bytes of every frame that is received or sent in the log (level info).
    #[arg(long, value_name = "N", default_value_t = 0)]
    dump_packet_data: usize,
    /// Tell the ways of up to N packets a second, step by step (default: 10).
    ///
    /// Each packet's way through parser, tables (key, hit or miss, action with its arguments), conditionals, statements
    /// with what they change, and deparser is one block in the log. The whole switch becomes slower by far.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
    trace: Option<u32>,
    /// Tell the ways of packets that arrive at this port only. Can be given several times.
    #[arg(long, value_name = "NUMBER", requires = "trace")]
    trace_port: Vec<u16>,
    /// Write the ways of packets to a file, which is replaced, instead of the log.
    #[arg(long, value_name = "FILE", requires = "trace")]
    trace_file: Option<PathBuf>,
    /// Serve statistics for Prometheus at http://IP:PORT/metrics.
    ///
    /// Per port, per table (with hits and misses, which costs some nanoseconds a lookup), and drops by reason. There is
    /// no authentication: use a loopback address.
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: SwitchArgs) -> anyhow::Result<()> {
    let stop = crate::signals::terminated()?;
    let program = args.program.read()?;
    let has_program = program.is_some();
    let tls = args.tls.read()?;
    let listener = TcpListener::bind(args.p4runtime).await.with_context(|| {
        format!(
            "--p4runtime {}: cannot listen there (is the port in use, or the address another machine's?)",
            args.p4runtime
        )
    })?;
    let mut builder = Switch::builder(args.device_id, args.cpu_port)
        .drop_port(args.drop_port)
        .priority_queues(args.priority_queues)
        .workers(workers(args.workers, args.use_files.is_some()))
        .observe(Observe { capture_dir: args.pcap, dump_bytes: args.dump_packet_data });
    let ports = args.ports.len();
    for port in args.ports {
        builder = builder.port(if args.use_files.is_some() { port_of_files(port)? } else { port });
    }
    if let Some(per_second) = args.trace {
        builder = builder.trace(TraceConfig { per_second, ports: args.trace_port, file: args.trace_file });
    }
    let mut metrics = None;
    if let Some(address) = args.metrics {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("--metrics {address}: cannot listen there (is the port in use?)"))?;
        metrics = Some(listener);
        builder = builder.count_tables();
    }
    let switch = Arc::new(builder.start()?);
    // Ends with the process.
    let _scrapes = metrics.map(|listener| {
        tokio::spawn(dmux_softswitch::metrics::serve(Arc::clone(&switch), listener, std::future::pending()))
    });
    if let Some((p4info, json)) = program {
        switch.load_pipeline(p4info, json)?;
    }
    switch.replay_after(Duration::from_secs(args.use_files.unwrap_or(0)));
    tracing::info!(
        p4runtime = %listener.local_addr()?,
        device_id = args.device_id,
        cpu_port = args.cpu_port,
        ports,
        pipeline = has_program,
        "switch started"
    );
    match &tls {
        Some(tls) => switch.serve_tls(listener, tls, stop).await?,
        None => switch.serve(listener, stop).await?,
    }
    for (number, port) in switch.port_statistics() {
        tracing::info!(
            port = number,
            received = port.received_frames,
            sent = port.sent_frames,
            receive_drops = port.receive_drops,
            send_failures = port.send_failures,
            "port"
        );
    }
    tracing::info!("switch stopped");
    Ok(())
}

/// What `--workers` says, or what leaves the machine room for whoever else moves packets on it.
fn workers(asked: Option<u16>, use_files: bool) -> usize {
    if use_files {
        // One sequence of frames is for one worker.
        return 1;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    asked.map_or((processors / 2).clamp(1, MOST_DEFAULT_WORKERS), usize::from)
}

/// The port as `--use-files` means it.
fn port_of_files(mut port: PortSpec) -> anyhow::Result<PortSpec> {
    let Device::Interface(name) = &port.device else {
        return Err(PortError::Grammar {
            text: port.to_string(),
            reason: "with --use-files a port is NUMBER@NAME, for the files NAME_in.pcap and NAME_out.pcap".to_owned(),
        }
        .into());
    };
    let (input, output) = (PathBuf::from(format!("{name}_in.pcap")), PathBuf::from(format!("{name}_out.pcap")));
    ensure!(input.is_file(), "--use-files: port {port} reads {}, which is not there", input.display());
    port.device = Device::Files { input, output };
    Ok(port)
}
