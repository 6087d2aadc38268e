//! `dmux controller`

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use dmux_controller::config::ControllerConfig;
use dmux_controller::runtime::Controller;
use dmux_raft_store::Start;

/// `dmux controller`
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// Configuration file (docs/configuration.md).
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// First start of a new cluster with the members that the file lists. Harmless later.
    #[arg(long, conflicts_with = "join")]
    bootstrap: bool,
    /// Join a running cluster through any of its controllers.
    #[arg(long, value_name = "HOST:PORT")]
    join: Vec<String>,
    /// With --join: the node that is lost for good and leaves in exchange.
    #[arg(long, value_name = "NODE", requires = "join")]
    replaces: Option<u64>,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    let config = ControllerConfig::read(&args.config)?;
    let start = if args.bootstrap {
        let members = config.members().map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            members.contains_key(&config.node),
            "--bootstrap: cluster.members of {} does not list node {} itself",
            args.config.display(),
            config.node
        );
        Start::Bootstrap { members }
    } else if args.join.is_empty() {
        Start::Existing
    } else {
        Start::Join { seeds: args.join, replaces: args.replaces }
    };
    let controller = Controller::start(config, start).await.context("the controller cannot start")?;
    tracing::info!(api = %controller.api(), gateway = controller.name(), "controller started");
    controller.run(crate::signals::terminated()?).await?;
    Ok(())
}
