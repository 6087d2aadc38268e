//! `dmux router`: an IPvN router that registers, keeps alive and de-tunnels.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use dmux_host::credentials::Credentials;
use dmux_host::link::LinkSpec;
use dmux_host::router::{
    Count, Echo, Event, FrameTransport, RouterConfig, RouterCore, RouterDaemon, Sink, Stats, Timers, Transport,
    UdpTransport,
};
use dmux_wire::{DMUX_PORT, MacAddr, ProtocolId, ProviderId};

use crate::signals;

/// Run an IPvN router: register, keep alive, de-tunnel.
///
/// SIGUSR1 drains it: it keeps the clients that it has and gets no new ones. A second one ends that. SIGTERM and SIGINT
/// say farewell and stop.
#[derive(Debug, Args)]
pub struct RouterArgs {
    /// IPv4 address of the router: registered, and named in its certificate.
    #[arg(long)]
    address: Ipv4Addr,
    /// UDP port of the router.
    #[arg(long, default_value_t = DMUX_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Protocol that it speaks; repeat for more, each a registration of its own.
    #[arg(long = "protocol", value_name = "ID", required = true)]
    protocols: Vec<ProtocolId>,
    /// Provider that it belongs to.
    #[arg(long, value_name = "ID")]
    provider: ProviderId,
    /// Its share of clients relative to its equals.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    weight: u16,
    /// Folder with router.crt and router.key, as `dmux ca router` writes it.
    #[arg(long, value_name = "DIR", required_unless_present_all = ["cert", "key"], conflicts_with_all = ["cert", "key"])]
    credentials: Option<PathBuf>,
    /// PEM file with the router's certificate and its issuers', instead of --credentials.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file with the router's private key, instead of --credentials.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Registration address and port of the dmux network.
    #[arg(long, default_value = "198.51.100.2:51700", value_name = "ADDRESS:PORT")]
    registration: SocketAddrV4,
    /// Send keepalives at least this often, if the gateway agrees.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    keepalive_ms: Option<u32>,
    /// Attach to a switch by frames in UDP datagrams instead of the kernel's network: udp:LOCAL>REMOTE.
    #[arg(long, value_name = "LINK", requires_all = ["mac", "gateway_mac"])]
    link: Option<LinkSpec>,
    /// The router's Ethernet address on --link.
    #[arg(long, requires = "link")]
    mac: Option<MacAddr>,
    /// The gateway's Ethernet address on --link.
    #[arg(long, requires = "link")]
    gateway_mac: Option<MacAddr>,
    /// Answer ICMPv6 echo requests and echo UDP datagrams over IPv6. Without it, packets are only counted.
    #[arg(long)]
    echo: bool,
    /// IPv6 address that --echo answers at (and to all nodes and all routers); without it, at every address.
    #[arg(long, value_name = "ADDRESS", requires = "echo")]
    echo_address: Option<Ipv6Addr>,
}

impl RouterArgs {
    fn configs(&self) -> anyhow::Result<Vec<RouterConfig>> {
        let distinct: BTreeSet<_> = self.protocols.iter().collect();
        ensure!(distinct.len() == self.protocols.len(), "--protocol: give each protocol once");
        self.protocols.iter().map(|&protocol| self.config(protocol)).collect()
    }

    fn config(&self, protocol: ProtocolId) -> anyhow::Result<RouterConfig> {
        ensure!(protocol.0 != 0, "--protocol 0: protocol numbers start at 1");
        ensure!(
            self.provider.0 > 1,
            "--provider {}: give the number in the provider's certificate, at least 2",
            self.provider
        );
        Ok(RouterConfig {
            registration: self.registration,
            router: SocketAddrV4::new(self.address, self.port),
            protocol,
            provider: self.provider,
            weight: self.weight,
            keepalive: self.keepalive_ms.map(|ms| Duration::from_millis(ms.into())),
            timers: Timers::default(),
        })
    }

    fn load_credentials(&self) -> anyhow::Result<Credentials> {
        Ok(match (&self.credentials, &self.cert, &self.key) {
            (Some(dir), _, _) => Credentials::load(dir)?,
            (None, Some(cert), Some(key)) => Credentials::load_files(cert, key)?,
            _ => anyhow::bail!("give --credentials DIR, as `dmux ca router` writes it"),
        })
    }
}

/// Runs `dmux router` until it is told to stop.
pub async fn run(args: RouterArgs) -> anyhow::Result<()> {
    let configs = args.configs()?;
    let credentials = args.load_credentials()?;
    let cores = configs.iter().map(|&config| RouterCore::new(config, credentials.clone(), rand::random())).collect();
    let router = SocketAddrV4::new(args.address, args.port);
    if let (Some(link), Some(mac), Some(gateway_mac)) = (args.link, args.mac, args.gateway_mac) {
        let transport = FrameTransport::open(link, mac, gateway_mac, router)
            .with_context(|| format!("--link {link}: is the local address this machine's, and its port free?"))?;
        serve(&args, cores, transport).await
    } else {
        let transport = UdpTransport::bind(router).await.with_context(|| {
            format!(
                "{router} cannot be bound: --address must be an address of this machine and --port free on it (or attach to a \
                 switch with --link)"
            )
        })?;
        serve(&args, cores, transport).await
    }
}

async fn serve(args: &RouterArgs, cores: Vec<RouterCore>, transport: impl Transport) -> anyhow::Result<()> {
    for protocol in &args.protocols {
        let router = SocketAddrV4::new(args.address, args.port);
        tracing::info!(%router, %protocol, registration = %args.registration, "registering");
    }
    let stats = if args.echo {
        let echo = Echo { address: args.echo_address };
        until_stopped(cores, transport, echo).await?
    } else {
        until_stopped(cores, transport, Count).await?
    };
    tracing::info!(delivered = stats.delivered, returned = stats.returned, "stopped");
    Ok(())
}

async fn until_stopped(cores: Vec<RouterCore>, transport: impl Transport, sink: impl Sink) -> anyhow::Result<Stats> {
    let stop = signals::terminated().context("signals cannot be waited for")?;
    let drain = signals::toggled().context("signals cannot be waited for")?;
    let daemon = RouterDaemon::new(cores, transport, sink);
    daemon.run(stop, drain, tell).await.context("the network failed; start the router again")
}

/// For whoever reads the log.
fn tell(protocol: ProtocolId, event: &Event) {
    match event {
        Event::Registered { gateway, keepalive, expires_after } => {
            tracing::info!(%protocol, %gateway, ?keepalive, ?expires_after, "registered");
        }
        Event::Held { remaining } => {
            tracing::warn!(%protocol, ?remaining, "held out, as it came and went, or changed, too often: no clients come meanwhile");
        }
        Event::Moved { from, to } => tracing::info!(%protocol, %from, %to, "another gateway hears the keepalives now"),
        Event::Refused { code, text, retry_after } => {
            tracing::warn!(%protocol, ?code, ?retry_after, "refused: {text}");
        }
        Event::Silence => tracing::warn!(%protocol, "no gateway answers; registering anew"),
        Event::Forgotten => {
            tracing::warn!(%protocol, "the gateway does not know this router any more; registering anew")
        }
        Event::Left { confirmed: true } => tracing::info!(%protocol, "said farewell"),
        Event::Left { confirmed: false } => {
            tracing::warn!(%protocol, "no gateway answered the farewell; the registration will expire by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: RouterArgs,
    }

    fn parse(line: &str) -> Result<RouterArgs, clap::Error> {
        Cli::try_parse_from(std::iter::once("router").chain(line.split_whitespace())).map(|cli| cli.args)
    }

    const GOOD: &str = "--address 203.0.113.11 --protocol 41 --provider 7 --credentials r1";

    #[test]
    fn the_lab_line_is_understood() {
        let line = format!(
            "{GOOD} --echo --port 4000 --registration 198.51.100.2:51700 --link udp:127.0.0.1:1>127.0.0.1:2 \
             --mac 02:00:00:01:71:0b --gateway-mac 02:00:00:00:00:01 --echo-address 2001:db8::11"
        );
        let configs = parse(&line).unwrap().configs().unwrap();
        let [config] = configs[..] else { panic!("one protocol") };
        assert_eq!(config.router, "203.0.113.11:4000".parse().unwrap());
        assert_eq!((config.protocol, config.provider, config.weight), (ProtocolId(41), ProviderId(7), 1));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for bad in [
            "--address 203.0.113.11 --protocol 41 --provider 7",
            &format!("{GOOD} --cert a --key b"),
            "--address 203.0.113.11 --protocol 41 --provider 7 --cert a",
            &format!("{GOOD} --link udp:127.0.0.1:1>127.0.0.1:2"),
            &format!("{GOOD} --link tcp:127.0.0.1:1 --mac 02:00:00:00:00:01 --gateway-mac 02:00:00:00:00:02"),
            &format!("{GOOD} --echo-address 2001:db8::1"),
            &format!("{GOOD} --weight 0"),
            &format!("{GOOD} --port 0"),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let any = parse("--address 203.0.113.11 --protocol 41 --provider 1 --credentials r1").unwrap();
        assert!(any.configs().unwrap_err().to_string().contains("at least 2"));
        let both = parse(&format!("{GOOD} --protocol 42")).unwrap().configs().unwrap();
        assert_eq!(both.iter().map(|c| c.protocol.0).collect::<Vec<_>>(), [41, 42]);
        let twice = parse(&format!("{GOOD} --protocol 41")).unwrap().configs().unwrap_err();
        assert!(twice.to_string().contains("once"), "{twice}");
        let missing = parse(GOOD).unwrap().load_credentials().unwrap_err();
        assert!(missing.to_string().contains("dmux ca router"), "{missing}");
    }
}
