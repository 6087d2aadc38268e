//! How the commands for operators reach a controller's API.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use dmux_controller::api::v1::access_client::AccessClient;
use dmux_controller::api::v1::dmux_client::DmuxClient;
use dmux_controller::api::v1::metanet_service_client::MetanetServiceClient;
use dmux_controller::api::v1::registry_client::RegistryClient;
use tonic::transport::{Channel, Endpoint};

/// How long a controller may take to answer; it asks its peers within that time.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How to show an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// The whole answer, for programs.
    Json,
}

/// Which controller is asked.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// API address of any controller.
    #[arg(long, env = "DMUX_API", default_value = "127.0.0.1:51710", value_name = "HOST:PORT")]
    pub api: String,
}

impl ApiArgs {
    /// Connects. Every call must be answered within [`DEADLINE`]; a stream must have begun by then.
    pub async fn connect(&self) -> anyhow::Result<DmuxClient<Channel>> {
        Ok(DmuxClient::new(self.channel().await?))
    }

    /// Likewise, to the service for registrations.
    pub async fn registry(&self) -> anyhow::Result<RegistryClient<Channel>> {
        Ok(RegistryClient::new(self.channel().await?))
    }

    /// Likewise, to the service for access LANs.
    pub async fn access(&self) -> anyhow::Result<AccessClient<Channel>> {
        Ok(AccessClient::new(self.channel().await?))
    }

    /// Likewise, to the service for operators of metanets.
    pub async fn metanets(&self) -> anyhow::Result<MetanetServiceClient<Channel>> {
        Ok(MetanetServiceClient::new(self.channel().await?))
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.api))
            .with_context(|| format!("--api {}: give HOST:PORT of a controller's API", self.api))?;
        endpoint.connect_timeout(DEADLINE).timeout(DEADLINE).connect().await.with_context(|| {
            format!(
                "no controller answers at {}: start one (`dmux controller --config …`, or `dmux lab --hold`) or give \
                 another address with --api",
                self.api
            )
        })
    }
}

/// What a controller refused, as it says it: the rest of a status is for programs.
pub fn refused(status: tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::Unimplemented => anyhow::anyhow!("the controller is of an older version: {}", status.message()),
        tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => {
            anyhow::anyhow!("the controller did not answer within {} s", DEADLINE.as_secs())
        }
        _ if status.message().is_empty() => anyhow::anyhow!("the controller answers: {}", status.code()),
        _ => anyhow::anyhow!("{}", status.message()),
    }
}

/// An answer as JSON.
pub fn to_json<T: serde::Serialize>(value: &T) -> anyhow::Result<String> {
    serde_json::to_string_pretty(value).context("encoding the answer as JSON")
}

/// A table as all commands show it.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// A time in µs, as people read it.
pub fn micros(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1000.0)
}
