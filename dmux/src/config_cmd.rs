//! `dmux config …`: the configuration that all gateways share.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use dmux_controller::api::v1::dmux_client::DmuxClient;
use dmux_controller::api::v1::{Config, GetRequest, ProtocolConfig};
use dmux_controller::model::{Policy, ProtocolConfig as Defaults};

/// How long a controller may take to have the cluster decide.
const DEADLINE: Duration = Duration::from_secs(10);

/// `dmux config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
    /// API address of any controller.
    #[arg(long, env = "DMUX_API", default_value = "127.0.0.1:51710", value_name = "HOST:PORT", global = true)]
    api: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it.
    Get {
        /// The whole of it, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Change how the routers of a protocol are chosen; what is not given stays as it is.
    Set(SetArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The protocol id.
    #[arg(long, value_name = "ID")]
    protocol: u16,
    /// By what they are chosen: closest, closest-router or weighted.
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// Buckets that clients are spread over by their address: a power of two, 16 to 4096.
    #[arg(long, value_name = "N")]
    buckets: Option<u16>,
    /// By `weighted`, how much farther than the closest a gateway may be.
    #[arg(long, value_name = "MS")]
    margin_ms: Option<u32>,
    /// Back to the defaults.
    #[arg(long, conflicts_with_all = ["policy", "buckets", "margin_ms"])]
    default: bool,
}

/// Asks, changes, prints.
pub async fn run(args: ConfigArgs) -> anyhow::Result<()> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", args.api))
        .with_context(|| format!("--api {}: give HOST:PORT of a controller's API", args.api))?
        .connect_timeout(DEADLINE)
        .timeout(DEADLINE)
        .connect()
        .await
        .with_context(|| format!("no controller answers at {}: give another address with --api", args.api))?;
    let mut client = DmuxClient::new(channel);
    let current = client.get_config(GetRequest::default()).await?.into_inner();
    let text = match args.command {
        Command::Get { json: true } => serde_json::to_string_pretty(&current).context("encoding the answer as JSON")?,
        Command::Get { json: false } => shown(&current),
        Command::Set(wanted) => {
            let next = changed(current, &wanted);
            shown(
                &client.put_config(next).await.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner(),
            )
        }
    };
    println!("{text}");
    Ok(())
}

fn changed(mut config: Config, wanted: &SetArgs) -> Config {
    let protocol = u32::from(wanted.protocol);
    let at = config.protocols.iter().position(|known| known.protocol == protocol);
    if wanted.default {
        config.protocols.retain(|known| known.protocol != protocol);
        return config;
    }
    let mut new = at.map(|at| config.protocols.remove(at)).unwrap_or_else(|| {
        let Defaults { policy, buckets, margin_ms, .. } = Defaults::default();
        ProtocolConfig { protocol, policy: policy.to_string(), buckets: buckets.into(), margin_ms }
    });
    new.policy = wanted.policy.map_or(new.policy, |policy| policy.to_string());
    new.buckets = wanted.buckets.map_or(new.buckets, u32::from);
    new.margin_ms = wanted.margin_ms.unwrap_or(new.margin_ms);
    config.protocols.push(new);
    config
}

fn shown(config: &Config) -> String {
    let mut services: Vec<_> = config.services.iter().map(|(index, address)| format!("{index} = {address}")).collect();
    services.sort();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["PROTOCOL", "POLICY", "BUCKETS", "MARGIN"]);
    let Defaults { policy, buckets, margin_ms, .. } = Defaults::default();
    table.add_row(["others".into(), policy.to_string(), buckets.to_string(), format!("{margin_ms} ms")]);
    for p in &config.protocols {
        let row = [p.protocol.to_string(), p.policy.clone(), p.buckets.to_string(), format!("{} ms", p.margin_ms)];
        table.add_row(row);
    }
    format!(
        "version       {}\ndmux-prefix   {}\nregistration  {}\nservices      {}\nkeepalive     {} ms\nexpire after  {} ms\n\n{}",
        config.version,
        config.dmux_prefix,
        config.registration,
        services.join(", "),
        config.keepalive_ms,
        config.expire_after_ms,
        table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(protocol: u16) -> SetArgs {
        SetArgs { protocol, policy: None, buckets: None, margin_ms: None, default: false }
    }

    #[test]
    fn a_change_keeps_what_is_not_named() {
        let weighted = SetArgs { policy: Some(Policy::Weighted), buckets: Some(1024), ..set(41) };
        let once = changed(Config::default(), &weighted);
        let twice = changed(once, &SetArgs { margin_ms: Some(3), ..set(41) });
        let expected = ProtocolConfig { protocol: 41, policy: "weighted".into(), buckets: 1024, margin_ms: 3 };
        assert_eq!(twice.protocols, [expected]);
        assert!(shown(&twice).contains("weighted"));
        assert!(changed(twice, &SetArgs { default: true, ..set(41) }).protocols.is_empty());
    }
}
