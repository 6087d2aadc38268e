//! The one binary of dmux.

mod access_cmd;
mod api_client;
mod ca_cmd;
mod config_cmd;
mod controller_cmd;
mod endpoint_cmd;
mod explain_cmd;
mod get_cmd;
mod lab;
mod ping_cmd;
mod rate;
mod registry_cmd;
mod router_cmd;
mod serve_cmd;
mod signals;
mod switch_cmd;
mod watch_cmd;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Brings a new network protocol to hosts whose networks do not support it.
///
/// Clients tunnel packets of a new protocol to an anycast address; the nearest gateway's P4 switch passes them on to
/// the closest registered router of that protocol.
#[derive(Debug, Parser)]
#[command(name = "dmux", version, about, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an authority, and issue certificates to providers and their routers.
    Ca(ca_cmd::CaArgs),
    /// Run a gateway's controller, beside its switch.
    Controller(controller_cmd::ControllerArgs),
    /// Run the embedded switch: BMv2 JSON, P4Runtime.
    Switch(switch_cmd::SwitchArgs),
    /// Run an IPvN router: register, keep alive, de-tunnel.
    Router(router_cmd::RouterArgs),
    /// Be an endpoint on an access LAN: discover the gateway, attach, connect to metanets, keep the metalinks alive.
    Endpoint(endpoint_cmd::EndpointArgs),
    /// Show or change the configuration that all gateways share.
    Config(config_cmd::ConfigArgs),
    /// Show what a controller knows.
    Get(get_cmd::GetArgs),
    /// Show which router a client's packets reach, why no other, and the switch's entries that take them there.
    Explain(explain_cmd::ExplainArgs),
    /// Show what happens on a controller as it happens, one line an event.
    Watch(watch_cmd::WatchArgs),
    /// Send packets through the data plane to whichever router they reach, and show who answers and how long it takes.
    Ping(ping_cmd::PingArgs),
    Revoke(registry_cmd::RevokeArgs),
    Drain(registry_cmd::DrainArgs),
    Metanet(access_cmd::MetanetArgs),
    AccessLink(access_cmd::AccessLinkArgs),
    Metalink(access_cmd::MetalinkArgs),
    /// Three gateways, three routers and two clients on this machine: see it work, without root or configuration.
    Lab(lab::LabArgs),
}

/// Messages of P4Runtime are thousands of small allocations each, which this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What daemons tell if nobody asks for something else.
const DAEMON_LEVEL: &str = "info,openraft=warn,cranelift_jit=warn,cranelift_codegen=warn";

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What other commands print is for people; only what goes wrong belongs beside it.
    // openraft tells every vote at "info", cranelift all that it translates; we say what an operator has to know.
    let daemon = matches!(cli.command, Command::Controller(_) | Command::Switch(_) | Command::Router(_));
    let default_level = if daemon { DAEMON_LEVEL } else { "warn" };
    let log = if let Command::Switch(args) = &cli.command { Some(&args.log) } else { None };
    let filter = match log.and_then(switch_cmd::LogArgs::filter) {
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    match log.map_or(Ok(None), switch_cmd::LogArgs::open) {
        Ok(Some(file)) => subscriber.with_ansi(false).with_writer(std::sync::Mutex::new(file)).init(),
        Ok(None) => subscriber.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init(),
        Err(error) => {
            eprintln!("dmux: the log file cannot be opened: {error}");
            return ExitCode::FAILURE;
        }
    }

    // A switch's control plane is one thread beside those that move packets: what a write needs is little, and waking
    // another thread for it would take longer than all the rest.
    let mut runtime = match &cli.command {
        Command::Switch(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("dmux: the system refuses the threads that are needed: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Ca(args) => ca_cmd::run(args).await,
            Command::Controller(args) => controller_cmd::run(args).await,
            Command::Switch(args) => switch_cmd::run(args).await,
            Command::Router(args) => router_cmd::run(args).await,
            Command::Endpoint(args) => endpoint_cmd::run(args).await,
            Command::Config(args) => config_cmd::run(args).await,
            Command::Get(args) => get_cmd::run(args).await,
            Command::Explain(args) => explain_cmd::run(args).await,
            Command::Watch(args) => watch_cmd::run(args).await,
            Command::Ping(args) => ping_cmd::run(args).await,
            Command::Revoke(args) => registry_cmd::revoke(args).await,
            Command::Drain(args) => registry_cmd::drain(args).await,
            Command::Metanet(args) => access_cmd::metanet(args).await,
            Command::AccessLink(args) => access_cmd::access_link(args).await,
            Command::Metalink(args) => access_cmd::metalink(args).await,
            Command::Lab(args) => lab::run(args).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dmux: {error:#}");
            ExitCode::FAILURE
        }
    }
}
