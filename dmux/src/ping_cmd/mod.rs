//! `dmux ping`: packets of a new protocol through the data plane, to whichever router they reach: from this host, or from a
//! gateway's controller through its own switch.

mod from_gateway;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use dmux_controller::api::v1::dmux_client::DmuxClient;
use dmux_controller::api::v1::{ExplainRequest, Explanation};
use dmux_host::client::{ClientConfig, ClientEvent, ClientLink};
use dmux_host::link::{LinkSpec, MAX_FRAME};
use dmux_host::ping::{Pings, Reply, Summary, ipv6_of};
use dmux_wire::frame::Datagram;
use dmux_wire::{DMUX_PORT, MacAddr, ProtocolId, ProviderId, Shim, ShimKind};
use serde_json::json;
use tokio::net::UdpSocket;
use tonic::transport::Channel;

use crate::api_client::{ApiArgs, Format, refused};
use crate::explain_cmd;

/// Requests of a run at most.
const MAX_COUNT: u32 = 10_000;

/// `dmux ping`
#[derive(Debug, Args)]
pub struct PingArgs {
    /// The protocol, whose routers must answer IPv6 echo requests (`dmux router --echo` does).
    #[arg(long, value_name = "ID")]
    protocol: ProtocolId,
    /// The provider whose routers are asked; without it, any.
    #[arg(long, value_name = "ID", default_value_t = ProviderId::ANY)]
    provider: ProviderId,
    /// The service address to send to.
    #[arg(long, value_name = "A.B.C.D", default_value = "198.51.100.1")]
    service: Ipv4Addr,
    /// API address of the controller of the gateway that this host's packets reach: shows the path that they take there.
    #[arg(long, value_name = "HOST:PORT")]
    via: Option<String>,
    /// API address of a controller that sends the requests through its own switch's tables, instead of this host: shows the
    /// path, and which registered router answers.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["via", "client", "link"])]
    from_gateway: Option<String>,
    /// How many requests.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_COUNT)))]
    count: u32,
    /// Between two requests, ms.
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    interval_ms: u64,
    /// How long the answer to the last request is waited for, ms.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
    /// Send from this address of the host; without it, the one that the kernel takes.
    #[arg(long, value_name = "A.B.C.D")]
    client: Option<Ipv4Addr>,
    /// Attach to a switch by frames in UDP datagrams instead of the kernel's network: udp:LOCAL>REMOTE.
    #[arg(long, value_name = "LINK", requires_all = ["mac", "gateway_mac", "client"])]
    link: Option<LinkSpec>,
    /// This host's Ethernet address on --link.
    #[arg(long, requires = "link")]
    mac: Option<MacAddr>,
    /// The gateway's Ethernet address on --link.
    #[arg(long, requires = "link")]
    gateway_mac: Option<MacAddr>,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// How this host reaches the service address.
enum Transport {
    /// By the kernel.
    Kernel(UdpSocket),
    /// By frames.
    Frames(Box<ClientLink>, SocketAddrV4),
}

/// An answer, and what a gateway's controller knows of it besides.
struct Heard {
    reply: Reply,
    by: Option<By>,
}

/// Who sent an answer, as the tunnel has it.
struct By {
    /// Address and UDP port, as registered.
    router: String,
    /// What was left of the TTL of its datagram.
    ttl: u32,
}

/// What came back.
enum Received {
    Packet(Vec<u8>),
    /// What was sent did not get through; why.
    Undelivered(String),
}

impl Transport {
    async fn open(args: &PingArgs) -> anyhow::Result<Self> {
        let service = SocketAddrV4::new(args.service, DMUX_PORT);
        if let (Some(link), Some(mac), Some(gateway_mac), Some(address)) =
            (args.link, args.mac, args.gateway_mac, args.client)
        {
            let config = ClientConfig { link, mac, gateway_mac, address, addresses: 1, service };
            let opened = ClientLink::open(&config)
                .with_context(|| format!("--link {link}: is the local address this machine's, and its port free?"))?;
            // Of the dynamic range, another for each run, so that late answers to an earlier one are not taken for ours.
            let port = 0xc000 | (rand::random::<u16>() & 0x3fff);
            return Ok(Self::Frames(Box::new(opened), SocketAddrV4::new(address, port)));
        }
        let from = args.client.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let socket = UdpSocket::bind((from, 0)).await.with_context(|| {
            format!("--client {from}: must be an address of this machine (or attach to a switch with --link)")
        })?;
        socket.connect(service).await.with_context(|| format!("this machine has no route to {}", args.service))?;
        Ok(Self::Kernel(socket))
    }

    fn client(&self) -> anyhow::Result<SocketAddrV4> {
        match self {
            Self::Frames(_, client) => Ok(*client),
            Self::Kernel(socket) => match socket.local_addr()? {
                SocketAddr::V4(client) => Ok(client),
                SocketAddr::V6(other) => anyhow::bail!("the kernel sends from {other}, which is no IPv4 address"),
            },
        }
    }

    async fn send(&self, protocol: ProtocolId, provider: ProviderId, packet: &[u8]) -> io::Result<Option<String>> {
        let sent = match self {
            Self::Frames(link, client) => link.send(*client, protocol, provider, packet).await,
            Self::Kernel(socket) => {
                let shim = Shim::new(ShimKind::Data, protocol, provider);
                socket.send(&Datagram { shim, origin: None, payload: packet }.to_vec()).await.map(drop)
            }
        };
        match sent {
            // The kernel reports an ICMP error about an earlier datagram at the next call.
            Err(error) if matches!(self, Self::Kernel(_)) => Ok(Some(error.to_string())),
            sent => sent.map(|()| None),
        }
    }

    async fn receive(&self, protocol: ProtocolId) -> io::Result<Received> {
        match self {
            Self::Frames(link, client) => loop {
                match link.receive().await? {
                    ClientEvent::Delivered { to, shim, packet, .. } if to == *client && shim.protocol == protocol => {
                        return Ok(Received::Packet(packet));
                    }
                    ClientEvent::Undelivered { by, from, error } if from == *client => {
                        return Ok(Received::Undelivered(format!("{by} says: {error:?}")));
                    }
                    _ => {}
                }
            },
            Self::Kernel(socket) => {
                let mut buffer = vec![0; MAX_FRAME];
                loop {
                    let length = match socket.recv(&mut buffer).await {
                        Ok(length) => length,
                        Err(error) => return Ok(Received::Undelivered(error.to_string())),
                    };
                    if let Ok(Datagram { shim, payload, .. }) = Datagram::parse(&buffer[..length])
                        && shim.kind == ShimKind::Deliver
                        && shim.protocol == protocol
                    {
                        return Ok(Received::Packet(payload.to_vec()));
                    }
                }
            }
        }
    }
}

/// Sends, waits and prints. An error when nothing was answered.
pub async fn run(args: PingArgs) -> anyhow::Result<()> {
    ensure!(args.protocol.0 != 0, "--protocol 0: protocol numbers start at 1");
    if let Some(api) = &args.from_gateway {
        return from_gateway::run(&args, api.clone()).await;
    }
    let transport = Transport::open(&args).await?;
    let client = transport.client()?;
    let path = match &args.via {
        Some(api) => {
            let mut controller = ApiArgs { api: api.clone() }.connect().await?;
            Some(explain(&args, &mut controller, Some(client)).await?)
        }
        None => None,
    };
    begin(&args, client, path.as_ref());
    let (replies, summary, undelivered) = ping(&args, &transport, *client.ip()).await?;
    end(&args, client, &replies, &summary, &undelivered, path)
}

/// What is told before the first request.
fn begin(args: &PingArgs, client: SocketAddrV4, path: Option<&Explanation>) {
    if args.output == Format::Table {
        if let Some(path) = path {
            println!("{}\n", explain_cmd::text(path));
        }
        println!("{} requests from {client} to {}, protocol {}", args.count, args.service, args.protocol);
    }
}

/// What is told after the last one. An error when none was answered.
fn end(
    args: &PingArgs,
    client: SocketAddrV4,
    replies: &[Heard],
    summary: &Summary,
    undelivered: &[String],
    path: Option<Explanation>,
) -> anyhow::Result<()> {
    if args.output == Format::Table {
        println!("{}", totals(summary));
    } else {
        println!("{}", serde_json::to_string_pretty(&document(args, client, replies, summary, undelivered, path))?);
    }
    let why = undelivered.last().map_or_else(String::new, |why| format!(": {why}"));
    ensure!(summary.received > 0, "none of {} requests to {} was answered{why}", summary.sent, args.service);
    Ok(())
}

/// Of a client, or without one of the gateway itself.
async fn explain(
    args: &PingArgs,
    controller: &mut DmuxClient<Channel>,
    client: Option<SocketAddrV4>,
) -> anyhow::Result<Explanation> {
    let request = ExplainRequest {
        client: client.map_or_else(String::new, |client| client.ip().to_string()),
        client_port: client.map_or(0, |client| client.port()).into(),
        protocol: args.protocol.0.into(),
        provider: args.provider.0,
        service: args.service.to_string(),
        ..ExplainRequest::default()
    };
    Ok(controller.explain(request).await.map_err(refused)?.into_inner())
}

/// The run itself. Returns the answers, the totals, and what the network said of requests that did not get through.
async fn ping(
    args: &PingArgs,
    transport: &Transport,
    client: Ipv4Addr,
) -> anyhow::Result<(Vec<Heard>, Summary, Vec<String>)> {
    let tell = args.output == Format::Table;
    let began = Instant::now();
    let mut pings = Pings::new(ipv6_of(client), rand::random());
    let (mut replies, mut undelivered) = (Vec::new(), Vec::new());
    let mut interval = tokio::time::interval(Duration::from_millis(args.interval_ms));
    let mut left = args.count;
    let timeout = tokio::time::sleep(Duration::MAX);
    tokio::pin!(timeout);
    while left > 0 || !pings.all_answered() {
        tokio::select! {
            _ = interval.tick(), if left > 0 => {
                left -= 1;
                let packet = pings.request(began.elapsed()).context("a request cannot be built")?;
                undelivered.extend(transport.send(args.protocol, args.provider, &packet).await?);
                timeout.set(tokio::time::sleep(Duration::from_millis(args.timeout_ms)));
            }
            received = transport.receive(args.protocol) => match received? {
                Received::Packet(packet) => if let Some(reply) = pings.reply(began.elapsed(), &packet) {
                    let heard = Heard { reply, by: None };
                    if tell {
                        println!("{}", line(&heard));
                    }
                    replies.push(heard);
                },
                Received::Undelivered(why) => {
                    if tell {
                        println!("a request did not get through: {why}");
                    }
                    undelivered.push(why);
                    // A kernel that knows of no way says so at once, over and over.
                    if undelivered.len() > args.count as usize {
                        break;
                    }
                }
            },
            () = &mut timeout, if left == 0 => break,
        }
    }
    Ok((replies, pings.summary(), undelivered))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn line(heard: &Heard) -> String {
    let Reply { sequence, router, hop_limit, rtt } = heard.reply;
    let by = heard.by.as_ref().map_or_else(String::new, |by| format!(", by {} with TTL {}", by.router, by.ttl));
    format!("from {router}{by}: request {sequence}, {:.3} ms, hop limit {hop_limit}", ms(rtt))
}

fn totals(summary: &Summary) -> String {
    let mut text =
        format!("{} sent, {} answered, {:.0} % lost", summary.sent, summary.received, summary.loss_percent());
    if summary.duplicates > 0 {
        text += &format!(", {} answered again", summary.duplicates);
    }
    if let (Some(min), Some(mean), Some(max)) = (summary.min, summary.mean, summary.max) {
        text += &format!("; round trip least {:.3}, mean {:.3}, most {:.3} ms", ms(min), ms(mean), ms(max));
    }
    for (router, answers) in &summary.routers {
        text += &format!("\n{answers} by router {router}");
    }
    text
}

fn document(
    args: &PingArgs,
    client: SocketAddrV4,
    replies: &[Heard],
    summary: &Summary,
    undelivered: &[String],
    path: Option<Explanation>,
) -> serde_json::Value {
    let reply = |heard: &Heard| {
        let Reply { sequence, router, hop_limit, rtt } = heard.reply;
        let (by, ttl) = (heard.by.as_ref().map(|by| &by.router), heard.by.as_ref().map(|by| by.ttl));
        json!({
            "sequence": sequence, "router": router, "hop_limit": hop_limit, "rtt_ms": ms(rtt), "registered": by, "ttl": ttl,
        })
    };
    let replies: Vec<_> = replies.iter().map(reply).collect();
    json!({
        "client": client,
        "service": args.service,
        "protocol": args.protocol.0,
        "provider": args.provider.0,
        "sent": summary.sent,
        "received": summary.received,
        "duplicates": summary.duplicates,
        "loss_percent": summary.loss_percent(),
        "rtt_ms": { "min": summary.min.map(ms), "mean": summary.mean.map(ms), "max": summary.max.map(ms) },
        "routers": summary.routers,
        "replies": replies,
        "undelivered": undelivered,
        "path": path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: PingArgs,
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let parse = |line: &str| Cli::try_parse_from(std::iter::once("ping").chain(line.split_whitespace()));
        assert!(parse("--protocol 41 --count 3 --via 127.0.0.1:1").is_ok());
        let link =
            "--protocol 41 --link udp:127.0.0.1:1>127.0.0.1:2 --mac 02:00:00:00:00:01 --gateway-mac 02:00:00:00:00:02";
        assert!(parse(link).is_err(), "frames need an address to come from");
        assert!(parse(&format!("{link} --client 203.0.113.9")).is_ok());
        assert!(parse("--protocol 41 --from-gateway 127.0.0.1:1").is_ok());
        assert!(parse("--protocol 41 --from-gateway 127.0.0.1:1 --via 127.0.0.1:1").is_err());
        for bad in
            ["", "--protocol 41 --count 0", "--protocol 41 --count 10001", "--protocol 41 --mac 02:00:00:00:00:01"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
