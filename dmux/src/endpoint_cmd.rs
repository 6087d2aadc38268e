//! `dmux endpoint`: an endpoint on an access LAN, with metalinks to metanets.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use dmux_controller::model::LeaseKind;
use dmux_host::credentials::{Credentials, ENDPOINT_CERTIFICATE_FILE, ENDPOINT_KEY_FILE};
use dmux_host::endpoint::{
    AccessPort, Carried, EndpointConfig, EndpointCore, EndpointDaemon, Event, Held, MAX_CONNECTIONS, Timers, Tunnel,
    Wanted, shown,
};
use dmux_host::interface::Interface;
use dmux_host::link::{FrameLink, LinkSpec};
use dmux_wire::metalink::{Lease, MetanetId, Offer};
use dmux_wire::{MacAddr, ProtocolId, ProviderId};
use serde_json::{Value, json};

use crate::api_client::Format;
use crate::rate::Rate;
use crate::signals;

/// Be an endpoint on an access LAN: discover the gateway, attach, connect to metanets, keep the metalinks alive.
///
/// Prints what happens, one line each. Metaframes come and go as UDP datagrams on this machine (--carry), and are sent no
/// faster than was granted. Without --connect it shows what the gateway offers, and ends. SIGTERM and SIGINT give
/// everything back and stop.
#[derive(Debug, Args)]
pub struct EndpointArgs {
    /// Network interface on the access LAN; takes root, or CAP_NET_RAW.
    #[arg(long, value_name = "NAME", required_unless_present = "link", conflicts_with = "link")]
    interface: Option<String>,
    /// Attach to a switch by frames in UDP datagrams instead of an interface: udp:LOCAL>REMOTE.
    #[arg(long, value_name = "LINK", requires = "mac")]
    link: Option<LinkSpec>,
    /// The endpoint's Ethernet address; without it, the interface's.
    #[arg(long)]
    mac: Option<MacAddr>,
    /// A metanet, a rate and how it is leased (short, if nothing is said): 41@15M or 41:7@15M:long. Repeat for more.
    #[arg(long, value_name = "PROTOCOL[:PROVIDER]@RATE[:LEASE]")]
    connect: Vec<Connect>,
    /// Where the metaframes of a metanet come from and go to, one in each datagram: 41=udp:LOCAL>REMOTE.
    #[arg(long, value_name = "PROTOCOL[:PROVIDER]=LINK", requires = "connect")]
    carry: Vec<Carry>,
    /// While there is no metalink, tunnel metaframes to this service address and port.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "connect")]
    tunnel: Option<SocketAddrV4>,
    /// Folder with endpoint.crt and endpoint.key, as `dmux ca endpoint` writes it, for access links that ask for certificates.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["certificate", "key"])]
    credentials: Option<PathBuf>,
    /// PEM file with the endpoint's certificate, instead of --credentials.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM file with its private key, instead of --credentials.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// How to print what happens.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// A metanet, as it is written.
fn metanet_of(text: &str) -> Option<MetanetId> {
    let (protocol, provider) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
    let protocol = ProtocolId(protocol.parse().ok().filter(|&p| p > 0)?);
    let provider = match provider {
        Some(provider) => ProviderId(provider.parse().ok().filter(|&p| p > 0)?),
        None => ProviderId::ANY,
    };
    Some(MetanetId { protocol, provider })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connect(Wanted);

impl FromStr for Connect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?}: write PROTOCOL[:PROVIDER]@RATE[:LEASE], as in 41@15M or 41:7@15M:long");
        let (metanet, rest) = text.split_once('@').ok_or_else(bad)?;
        let (rate, lease) = rest.split_once(':').unwrap_or((rest, "short"));
        let metanet = metanet_of(metanet).ok_or_else(bad)?;
        let Rate(rate) = rate.parse()?;
        if rate == 0 {
            return Err("a rate of 0 bit/s carries nothing".into());
        }
        let lease = match lease.parse()? {
            LeaseKind::Short => Lease::Short,
            LeaseKind::Long => Lease::Long,
        };
        Ok(Self(Wanted { metanet, rate, lease }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Carry {
    metanet: MetanetId,
    link: LinkSpec,
}

impl FromStr for Carry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?}: write PROTOCOL[:PROVIDER]=LINK, as in 41=udp:127.0.0.1:6001>127.0.0.1:6002");
        let (metanet, link) = text.split_once('=').ok_or_else(bad)?;
        Ok(Self { metanet: metanet_of(metanet).ok_or_else(bad)?, link: link.parse().map_err(|_| bad())? })
    }
}

impl EndpointArgs {
    fn wanted(&self) -> anyhow::Result<Vec<Wanted>> {
        let wanted: Vec<_> = self.connect.iter().map(|c| c.0).collect();
        let distinct: BTreeSet<_> = wanted.iter().map(|w| w.metanet).collect();
        ensure!(distinct.len() == wanted.len(), "--connect: an endpoint has one metalink to a metanet; give each once");
        ensure!(wanted.len() <= MAX_CONNECTIONS, "--connect: at most {MAX_CONNECTIONS} metanets");
        Ok(wanted)
    }

    /// By connection, where its metaframes come from and go to.
    fn carriers(&self, wanted: &[Wanted]) -> anyhow::Result<Vec<Option<LinkSpec>>> {
        let mut links = vec![None; wanted.len()];
        for carry in &self.carry {
            let Some(n) = wanted.iter().position(|w| w.metanet == carry.metanet) else {
                bail!("--carry {}: this metanet is not among --connect", shown(carry.metanet));
            };
            ensure!(links[n].is_none(), "--carry {}: give each metanet once", shown(carry.metanet));
            links[n] = Some(carry.link);
        }
        Ok(links)
    }

    fn load_credentials(&self) -> anyhow::Result<Option<Credentials>> {
        Ok(match (&self.credentials, &self.certificate, &self.key) {
            (Some(dir), _, _) => {
                Some(Credentials::load_files(&dir.join(ENDPOINT_CERTIFICATE_FILE), &dir.join(ENDPOINT_KEY_FILE))?)
            }
            (None, Some(certificate), Some(key)) => Some(Credentials::load_files(certificate, key)?),
            _ => None,
        })
    }

    fn port(&self) -> anyhow::Result<(AccessPort, MacAddr)> {
        match (&self.interface, self.link, self.mac) {
            (Some(name), _, mac) => {
                let interface = Interface::open(name).context("--interface")?;
                let mac = mac.unwrap_or(interface.mac());
                Ok((AccessPort::Interface(interface), mac))
            }
            (None, Some(link), Some(mac)) => Ok((AccessPort::Link(FrameLink::open(link).context("--link")?), mac)),
            _ => bail!("give --interface, or --link and --mac"),
        }
    }
}

/// Runs `dmux endpoint` until it is told to stop.
pub async fn run(args: EndpointArgs) -> anyhow::Result<()> {
    let wanted = args.wanted()?;
    let carriers = args.carriers(&wanted)?;
    let credentials = args.load_credentials()?;
    let mut users = Vec::new();
    for link in carriers {
        users.push(link.map(FrameLink::open).transpose().context("--carry")?);
    }
    let tunnel = match args.tunnel {
        Some(service) => Some(Tunnel::open(service).await.context("--tunnel")?),
        None => None,
    };
    let (port, mac) = args.port()?;
    ensure!(!mac.is_multicast() && mac != MacAddr::ZERO, "--mac {mac}: this is not the address of one station");
    let looks_only = wanted.is_empty();
    let config = EndpointConfig { mac, wanted: wanted.clone(), timers: Timers::default() };
    let core = EndpointCore::new(config, credentials, rand::random());
    let told = signals::terminated().context("signals cannot be waited for")?;
    let seen = tokio::sync::Notify::new();
    let stop = async {
        tokio::select! {
            () = told => {}
            () = seen.notified() => {}
        }
    };
    let daemon = EndpointDaemon::new(core, port, users, tunnel);
    let carried = daemon
        .run(stop, |now, event| {
            say(&line(now, event, args.output));
            if looks_only && matches!(event, Event::Found(_)) {
                seen.notify_one();
            }
        })
        .await
        .context("the access LAN failed; start the endpoint again")?;
    for (wanted, carried) in wanted.iter().zip(carried) {
        let metanet = shown(wanted.metanet);
        let Carried { sent, received, tunnelled, dropped } = carried;
        let sums = match args.output {
            Format::Table => format!(
                "metanet {metanet}: {sent} metaframes sent, {received} received, {tunnelled} tunnelled, {dropped} dropped"
            ),
            Format::Json => json!({
                "event": "carried", "metanet": metanet, "sent": sent, "received": received, "tunnelled": tunnelled,
                "dropped": dropped,
            })
            .to_string(),
        };
        say(&sums);
    }
    Ok(())
}

/// Prints a line. Nobody who has stopped reading stops the endpoint.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// An event as a line.
fn line(now: Duration, event: &Event, format: Format) -> String {
    match format {
        Format::Table => text(now, event),
        Format::Json => json(now, event).to_string(),
    }
}

fn lease(lease: Lease) -> LeaseKind {
    match lease {
        Lease::Short => LeaseKind::Short,
        Lease::Long => LeaseKind::Long,
    }
}

fn text(now: Duration, event: &Event) -> String {
    let about = |held: &Held| {
        let left = held.until.saturating_sub(now).as_secs_f64();
        let ends = if held.yields { ", which is not renewed any more" } else { "" };
        format!("{}, {}-term lease of {left:.1} s{ends}", Rate(held.rate), lease(held.lease))
    };
    let metalink = |held: &Held| format!("metanet {}: metalink {}", shown(held.metanet), held.mli);
    match event {
        Event::Found(offer) => found(offer),
        Event::Attached { gateway } => format!("attached to gateway {gateway}"),
        Event::Connected(held) => format!("{}, {}", metalink(held), about(held)),
        Event::Adjusted(held) => format!("{} is now {}", metalink(held), about(held)),
        Event::Renewed(held) => format!("{} is renewed: {}", metalink(held), about(held)),
        Event::Gone { held, why } => format!("{} is gone: {why}", metalink(held)),
        Event::Pending { metanet, retry_after } => format!(
            "metanet {}: its operator has to decide; asking again in {:.1} s",
            shown(*metanet),
            retry_after.as_secs_f64()
        ),
        Event::Refused { metanet, code, text, fits, retry_after } => {
            let what = metanet.map_or("attachment".into(), |metanet| format!("metanet {}", shown(metanet)));
            let text = if text.is_empty() { format!("{code:?}") } else { text.clone() };
            let fits = fits.map_or(String::new(), |fits| format!(" ({} would fit)", Rate(fits)));
            format!("{what}: refused: {text}{fits}; asking again in {:.1} s", retry_after.as_secs_f64())
        }
        Event::NoCertificate => {
            "the gateway asks for a certificate: get one from `dmux ca endpoint`, and give it with --credentials".into()
        }
        Event::Lost => "the gateway does not answer; discovering again".into(),
    }
}

fn found(offer: &Offer) -> String {
    let Offer { gateway, gateway_mac, provisioned_vid, provisioned_pcp, mtu, .. } = offer;
    let mut text = format!(
        "gateway {gateway} at {gateway_mac}: VLAN {provisioned_vid} with priority {provisioned_pcp}, metaframes up to {mtu} bytes"
    );
    if let Some(vid) = offer.multipoint_vid {
        text += &format!(", multipoint VLAN {vid}");
    }
    let names: Vec<String> =
        offer.metanets.iter().map(|m| format!("{} ({})", shown(m.id), printable(&m.name))).collect();
    match names[..] {
        [] => text += "; no metanets",
        _ => text += &format!("; metanets {}{}", names.join(", "), if offer.more { ", …" } else { "" }),
    }
    text
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn json(now: Duration, event: &Event) -> Value {
    let of = |event: &str, held: &Held| {
        json!({
            "event": event, "metanet": shown(held.metanet), "mli": held.mli, "rate": held.rate,
            "lease": lease(held.lease).to_string(), "lease_ms": held.until.saturating_sub(now).as_millis() as u64,
            "yields": held.yields,
        })
    };
    match event {
        Event::Found(offer) => json!({
            "event": "found", "gateway": offer.gateway.0, "gateway_mac": offer.gateway_mac.to_string(),
            "provisioned_vid": offer.provisioned_vid, "provisioned_pcp": offer.provisioned_pcp,
            "multipoint_vid": offer.multipoint_vid, "mtu": offer.mtu, "authenticate": offer.authenticate,
            "metanets": offer.metanets.iter().map(|m| json!({
                "metanet": shown(m.id), "name": m.name, "shared_mli": m.shared_mli,
            })).collect::<Vec<_>>(),
            "more": offer.more,
        }),
        Event::Attached { gateway } => json!({ "event": "attached", "gateway": gateway.0 }),
        Event::Connected(held) => of("connected", held),
        Event::Adjusted(held) => of("adjusted", held),
        Event::Renewed(held) => of("renewed", held),
        Event::Gone { held, why } => {
            json!({ "event": "gone", "metanet": shown(held.metanet), "mli": held.mli, "why": why.to_string() })
        }
        Event::Pending { metanet, retry_after } => json!({
            "event": "pending", "metanet": shown(*metanet), "retry_after_ms": retry_after.as_millis() as u64,
        }),
        Event::Refused { metanet, code, text, fits, retry_after } => json!({
            "event": "refused", "metanet": metanet.map(shown), "code": code.as_str_name(), "text": text, "fits": fits,
            "retry_after_ms": retry_after.as_millis() as u64,
        }),
        Event::NoCertificate => json!({ "event": "no_certificate" }),
        Event::Lost => json!({ "event": "lost" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: EndpointArgs,
    }

    fn parse(line: &str) -> Result<EndpointArgs, clap::Error> {
        Cli::try_parse_from(std::iter::once("endpoint").chain(line.split_whitespace())).map(|cli| cli.args)
    }

    fn metanet(protocol: u16, provider: u32) -> MetanetId {
        MetanetId { protocol: ProtocolId(protocol), provider: ProviderId(provider) }
    }

    #[test]
    fn metanets_rates_and_leases_are_understood() {
        let args = parse("--interface eth0 --connect 41@15M --connect 41:7@15000001:long").unwrap();
        let expected = [
            Wanted { metanet: metanet(41, 1), rate: 15_000_000, lease: Lease::Short },
            Wanted { metanet: metanet(41, 7), rate: 15_000_001, lease: Lease::Long },
        ];
        assert_eq!(args.wanted().unwrap(), expected);
        for bad in ["41", "@1M", "0@1M", "41@0", "41@1X", "41@1M:forever", "41:0@1M", "70000@1M", "41:x@1M"] {
            assert!(parse(&format!("--interface eth0 --connect {bad}")).is_err(), "{bad}");
        }
        let twice = parse("--interface eth0 --connect 41@1M --connect 41@2M").unwrap().wanted().unwrap_err();
        assert!(twice.to_string().contains("once"), "{twice}");
    }

    #[test]
    fn metaframes_are_carried_where_they_are_connected() {
        let line = "--link udp:127.0.0.1:1>127.0.0.1:2 --mac 02:00:00:00:00:01 --connect 41@1M --connect 42@1M";
        let args = parse(&format!("{line} --carry 42=udp:127.0.0.1:3>127.0.0.1:4")).unwrap();
        let links = args.carriers(&args.wanted().unwrap()).unwrap();
        assert_eq!(links, [None, Some("udp:127.0.0.1:3>127.0.0.1:4".parse().unwrap())]);
        for (bad, word) in [
            ("--carry 43=udp:127.0.0.1:3>127.0.0.1:4", "not among"),
            ("--carry 41=udp:127.0.0.1:3>127.0.0.1:4 --carry 41=udp:127.0.0.1:5>127.0.0.1:6", "once"),
        ] {
            let args = parse(&format!("{line} {bad}")).unwrap();
            let error = args.carriers(&args.wanted().unwrap()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for bad in [
            "--connect 41@1M",
            "--interface eth0 --link udp:127.0.0.1:1>127.0.0.1:2 --mac 02:00:00:00:00:01",
            "--link udp:127.0.0.1:1>127.0.0.1:2",
            "--interface eth0 --certificate a",
            "--interface eth0 --credentials a --certificate b --key c",
            "--interface eth0 --carry 41=udp:127.0.0.1:3>127.0.0.1:4",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn events_read_as_sentences() {
        let now = Duration::from_secs(10);
        let held = Held {
            metanet: metanet(41, 7),
            mli: 3,
            rate: 15_000_000,
            lease: Lease::Long,
            until: Duration::from_secs(40),
            yields: false,
        };
        let said = text(now, &Event::Connected(held));
        assert_eq!(said, "metanet 41:7: metalink 3, 15 Mbit/s, long-term lease of 30.0 s");
        let value = json(now, &Event::Connected(held));
        assert_eq!((&value["rate"], &value["lease_ms"]), (&15_000_000.into(), &30_000.into()));
    }
}
