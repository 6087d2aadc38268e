//! `dmux-conformance`: packet tests, the differential harness and the fuzzers. docs/conformance.md says how to use it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use dmux_conformance::program::on_path;

mod commands;

/// Whether the embedded switch does what BMv2 does.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run packet tests: `.stf` files beside `.p4` (or `.json` and `.p4info.txtpb`) of the same name.
    Stf(commands::stf::Options),
    /// Run generated entries and frames on ours and on BMv2, and compare all that comes out.
    Diff(commands::diff::Options),
    /// Run a fuzzer.
    Fuzz(commands::fuzz::Options),
}

/// BMv2, as the commands ask for it.
#[derive(Debug, clap::Args)]
struct Bmv2 {
    /// Run BMv2, too: simple_switch_grpc at this path, or on PATH when no path follows.
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    bmv2: Option<Option<PathBuf>>,
}

impl Bmv2 {
    /// Where it is; `None` when it was not asked for.
    fn path(&self) -> Result<Option<PathBuf>> {
        match &self.bmv2 {
            None => Ok(None),
            Some(Some(path)) => Ok(Some(path.clone())),
            Some(None) => {
                on_path("simple_switch_grpc").map(Some).context("simple_switch_grpc is not on PATH: give its path")
            }
        }
    }
}

fn main() -> Result<std::process::ExitCode> {
    let options = Options::parse();
    // One thread: what BMv2 does ends with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fine = match options.command {
        Command::Stf(options) => runtime.block_on(commands::stf::run(&options))?,
        Command::Diff(options) => runtime.block_on(commands::diff::run(&options))?,
        Command::Fuzz(options) => commands::fuzz::run(&options)?,
    };
    Ok(if fine { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE })
}
