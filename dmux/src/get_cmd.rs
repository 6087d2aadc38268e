//! `dmux get …`: what a controller knows, as a table or as JSON.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use dmux_controller::api::v1::dmux_client::DmuxClient;
use dmux_controller::api::v1::{GetRequest, Switch};

/// How long a controller may take to answer; it asks its peers within that time.
const DEADLINE: Duration = Duration::from_secs(5);

/// What to show.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Resource {
    /// The gateways of the cluster.
    Gateways,
    /// The registered IPvN routers.
    Routers,
    /// Round trips between gateways, measured by their switches.
    Latencies,
    /// The switches: whole or not, table use, drops per reason, what was refused.
    Switches,
}

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// The whole answer, for programs.
    Json,
}

/// `dmux get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// What to show.
    resource: Resource,
    /// API address of any controller.
    #[arg(long, env = "DMUX_API", default_value = "127.0.0.1:51710", value_name = "HOST:PORT")]
    api: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Only what the asked controller has itself (switches: its own).
    #[arg(long)]
    local: bool,
}

/// Asks and prints.
pub async fn run(args: GetArgs) -> anyhow::Result<()> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", args.api))
        .with_context(|| format!("--api {}: give HOST:PORT of a controller's API", args.api))?
        .connect_timeout(DEADLINE)
        .timeout(DEADLINE)
        .connect()
        .await
        .with_context(|| {
            format!(
                "no controller answers at {}: start one (`dmux controller --config …`, or `dmux lab --hold`) or give \
                 another address with --api",
                args.api
            )
        })?;
    let mut client = DmuxClient::new(channel);
    let request = GetRequest { local: args.local };
    let json = args.output == Output::Json;
    let text = match args.resource {
        Resource::Gateways => {
            let answer = client.get_gateways(request).await?.into_inner();
            if json { to_json(&answer.gateways)? } else { gateways(&answer.gateways) }
        }
        Resource::Routers => {
            let answer = client.get_routers(request).await?.into_inner();
            if json { to_json(&answer.routers)? } else { routers(&answer.routers) }
        }
        Resource::Latencies => {
            let answer = client.get_latencies(request).await?.into_inner();
            if json { to_json(&answer.latencies)? } else { latencies(&answer.latencies) }
        }
        Resource::Switches => {
            let answer = client.get_switches(request).await?.into_inner();
            if json { to_json(&answer.switches)? } else { switches(&answer.switches) }
        }
    };
    println!("{text}");
    Ok(())
}

fn to_json<T: serde::Serialize>(value: &T) -> anyhow::Result<String> {
    serde_json::to_string_pretty(value).context("encoding the answer as JSON")
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

fn micros(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1000.0)
}

fn age(at_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    format!("{} s", now.saturating_sub(at_ms) / 1000)
}

fn gateways(list: &[dmux_controller::api::v1::Gateway]) -> String {
    let mut t = table(&["ID", "NAME", "ADDRESS", "NODE", "ROLE", "EPOCH", "RTT", "REACHABLE", "API"]);
    for g in list {
        t.add_row([
            g.id.to_string(),
            g.name.clone(),
            g.address.clone(),
            g.node.to_string(),
            g.role.clone(),
            g.epoch.to_string(),
            g.rtt_us.map_or_else(|| "-".into(), micros),
            if g.reachable { "yes" } else { "no" }.into(),
            g.api.clone(),
        ]);
    }
    t.to_string()
}

fn routers(list: &[dmux_controller::api::v1::Router]) -> String {
    let mut t =
        table(&["PROTOCOL", "PROVIDER", "ROUTER", "NAME", "GATEWAY", "WEIGHT", "STATE", "INDEX", "AGE", "PACKETS"]);
    for r in list {
        t.add_row([
            r.protocol.to_string(),
            r.provider.to_string(),
            r.address.clone(),
            r.name.clone(),
            r.gateway.to_string(),
            r.weight.to_string(),
            r.state.clone(),
            r.index.to_string(),
            age(r.registered_at_ms),
            r.packets.map_or_else(|| "-".into(), |n| n.to_string()),
        ]);
    }
    t.to_string()
}

fn latencies(list: &[dmux_controller::api::v1::Latency]) -> String {
    let mut t = table(&["FROM", "TO", "RTT", "AGE"]);
    for l in list {
        t.add_row([l.from.to_string(), l.to.to_string(), micros(l.rtt_us), age(l.measured_at_ms)]);
    }
    t.to_string()
}

fn switches(list: &[Switch]) -> String {
    let mut t = table(&[
        "GATEWAY",
        "SWITCH",
        "STATE",
        "EPOCH",
        "ENTRIES",
        "REFUSED",
        "RESYNCS",
        "LAST RESYNC",
        "FULLEST",
        "DROPS",
    ]);
    for s in list {
        let fullest = s
            .tables
            .iter()
            .filter(|u| u.size > 0)
            .max_by(|a, b| (a.entries * b.size).cmp(&(b.entries * a.size)))
            .map_or_else(|| "-".into(), |u| format!("{} {}/{}", u.table, u.entries, u.size));
        let drops = s.drops.iter().map(|d| format!("{} {}", d.reason, d.packets)).collect::<Vec<_>>().join(", ");
        t.add_row([
            s.gateway.to_string(),
            if s.endpoint.is_empty() { "-".into() } else { format!("{} #{}", s.endpoint, s.device_id) },
            if s.detail.is_empty() { s.state.clone() } else { format!("{}: {}", s.state, s.detail) },
            s.epoch.to_string(),
            s.planned.to_string(),
            s.refused.to_string(),
            s.resyncs.to_string(),
            format!("{:.1} ms", s.resync_us as f64 / 1000.0),
            fullest,
            if drops.is_empty() { "none".into() } else { drops },
        ]);
    }
    t.to_string()
}
