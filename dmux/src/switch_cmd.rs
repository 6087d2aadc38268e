//! `dmux switch`

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use dmux_p4rt::P4Info;
use dmux_softswitch::ports::PortSpec;
use dmux_softswitch::switch::Switch;
use tokio::net::TcpListener;

/// `dmux switch`
#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// Where to serve P4Runtime.
    ///
    /// There is no TLS and no authentication: whoever reaches this address controls the switch.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9559")]
    p4runtime: SocketAddr,
    /// The device id that P4Runtime clients name.
    #[arg(long, value_name = "ID", default_value_t = 1)]
    device_id: u64,
    /// The port number by which the program reaches its controller (packet-in, packet-out).
    #[arg(long, value_name = "NUMBER", default_value_t = 510)]
    cpu_port: u16,
    /// A port: NUMBER@INTERFACE or NUMBER@udp:LOCAL>REMOTE, with options after commas.
    ///
    /// Options: delay=5ms, loss=0.1%, rate=10mbit, queue=1000, seed=7 (all on what is sent), and pcap=FILE (a capture
    /// of both directions). Interfaces need CAP_NET_RAW. Give --port once for each port.
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<PortSpec>,
    /// A program to load at the start: PREFIX.json (BMv2 JSON) and PREFIX.p4info.txtpb. Without it the switch drops
    /// everything until a controller loads one.
    #[arg(long, value_name = "PREFIX")]
    pipeline: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: SwitchArgs) -> anyhow::Result<()> {
    let stop = crate::signals::terminated()?;
    let program = args.pipeline.as_deref().map(read_program).transpose()?;
    let listener = TcpListener::bind(args.p4runtime).await.with_context(|| {
        format!(
            "--p4runtime {}: cannot listen there (is the port in use, or the address another machine's?)",
            args.p4runtime
        )
    })?;
    let mut builder = Switch::builder(args.device_id, args.cpu_port);
    for port in &args.ports {
        builder = builder.port(port.clone());
    }
    let switch = builder.start()?;
    if let Some((p4info, json)) = program {
        switch.load_pipeline(p4info.raw().clone(), json)?;
    }
    tracing::info!(
        p4runtime = %listener.local_addr()?,
        device_id = args.device_id,
        cpu_port = args.cpu_port,
        ports = args.ports.len(),
        pipeline = args.pipeline.is_some(),
        "switch started"
    );
    switch.serve(listener, stop).await?;
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

/// Reads PREFIX.json and PREFIX.p4info.txtpb.
fn read_program(prefix: &Path) -> anyhow::Result<(P4Info, Vec<u8>)> {
    let with = |suffix: &str| {
        let mut name: OsString = prefix.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (json_path, p4info_path) = (with(".json"), with(".p4info.txtpb"));
    if !json_path.exists() && !p4info_path.exists() {
        bail!(
            "--pipeline {}: neither {} nor {} is there; give the path of both files without their endings, such as bmv2-configs/gateway",
            prefix.display(),
            json_path.display(),
            p4info_path.display()
        );
    }
    let json =
        std::fs::read(&json_path).with_context(|| format!("--pipeline: {} cannot be read", json_path.display()))?;
    let text = std::fs::read_to_string(&p4info_path)
        .with_context(|| format!("--pipeline: {} cannot be read", p4info_path.display()))?;
    let p4info = P4Info::from_text(&text).with_context(|| {
        format!(
            "--pipeline: {} is not a P4Info in text format (p4c writes it with --p4runtime-files)",
            p4info_path.display()
        )
    })?;
    Ok((p4info, json))
}
