//! Three gateways as processes, each a `dmux switch` and a `dmux controller`, with a place for a router at each.
//!
//! ```text
//!   host 1 ── gateway 1 ── gateway 2 ── host 2          every link a pair of UDP sockets on loopback, without delay
//!                  └── gateway 3 ──┘
//!                          └── host 3
//! ```
//!
//! Gateway 1 may have an access LAN besides, every port of it such a pair of sockets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use dmux_wire::{MacAddr, ProtocolId, ProviderId};

use crate::gateway::CPU_PORT;
use crate::process::{Daemon, run};

/// Gateways, numbered from 1.
pub const GATEWAYS: u8 = 3;
/// What the routers speak.
pub const PROTOCOL: ProtocolId = ProtocolId(41);
/// Whose they are.
pub const PROVIDER: ProviderId = ProviderId(7);
/// Where they register.
pub const REGISTRATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// P4Runtime device id of every switch.
pub const DEVICE_ID: u64 = 1;

/// The gateway with the access LAN.
pub const LAN_GATEWAY: u8 = 1;
/// The access link's name.
pub const LAN: &str = "lan";

const HOST_PORT: u8 = 1;
/// The first port of the access LAN.
const LAN_PORT: u8 = 101;
const MTU: u16 = 1500;
/// Frames a second of the access LAN that the switch may hand up, of either kind: far more than endpoints send.
const LAN_PUNTS: u32 = 10_000;
const TRIES: usize = 32;

/// Port of a gateway that leads to another.
const fn port_to(gateway: u8) -> u8 {
    10 + gateway
}

/// MAC address of all ports of a gateway.
pub const fn gateway_mac(gateway: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, gateway])
}

/// MAC address of the host there.
pub const fn host_mac(gateway: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, gateway])
}

/// IPv4 address of the host there.
pub const fn host_address(gateway: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, gateway)
}

/// Addresses of a gateway's sockets.
#[derive(Debug, Clone)]
pub struct Sockets {
    raft: SocketAddr,
    /// Operator API of its controller.
    pub api: SocketAddr,
    /// P4Runtime server of its switch.
    pub p4runtime: SocketAddr,
    /// The host's end of its link.
    pub host: SocketAddr,
    /// The switch's end of it.
    pub host_far: SocketAddr,
    /// This gateway's end of the link to another.
    to: BTreeMap<u8, SocketAddr>,
    /// Ports of the access LAN: the switch's end, and the endpoints' end.
    pub lan: Vec<[SocketAddr; 2]>,
}

/// The processes. All end when this is dropped.
pub struct Site {
    /// By gateway.
    pub sockets: BTreeMap<u8, Sockets>,
    /// Folder with the credentials of the host at each gateway (`router1`, …).
    pub dir: PathBuf,
    daemons: Vec<Daemon>,
    /// Process ids of the controllers, by gateway.
    pub controllers: BTreeMap<u8, u32>,
}

impl Site {
    /// Makes certificates and configurations in `dir` and starts everything, with so many ports of an access LAN.
    pub fn start(dmux: &Path, pipeline: &Path, dir: &Path, lan_ports: u8) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let sockets = free_sockets(lan_ports)?;
        issue_certificates(dmux, dir)?;
        let mut site = Self { sockets, dir: dir.to_owned(), daemons: Vec::new(), controllers: BTreeMap::new() };
        let pipeline = fs::canonicalize(with_extension(pipeline, ".json"))?;
        let pipeline = pipeline.to_str().and_then(|p| p.strip_suffix(".json")).context("--pipeline is no UTF-8")?;
        for gateway in 1..=GATEWAYS {
            let config = dir.join(format!("controller{gateway}.toml"));
            fs::write(&config, controller_config(&site.sockets, gateway, pipeline)?)?;
            let mut switch = Command::new(dmux);
            switch.args(switch_arguments(&site.sockets, gateway)?);
            site.daemons.push(Daemon::spawn(&format!("switch{gateway}"), &mut switch, dir)?);
            let mut controller = Command::new(dmux);
            controller.args(["controller", "--bootstrap", "--config"]).arg(&config);
            let controller = Daemon::spawn(&format!("controller{gateway}"), &mut controller, dir)?;
            site.controllers.insert(gateway, controller.pid());
            site.daemons.push(controller);
        }
        Ok(site)
    }

    /// Fails with the end of its log if a process has ended.
    pub fn check(&mut self) -> Result<()> {
        self.daemons.iter_mut().try_for_each(Daemon::check)
    }
}

fn with_extension(prefix: &Path, extension: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(extension);
    name.into()
}

/// Loopback addresses that are free for both UDP and TCP; all are held until the last is chosen, so they differ.
fn free_sockets(lan_ports: u8) -> Result<BTreeMap<u8, Sockets>> {
    let mut held = Vec::new();
    let mut take = || {
        for _ in 0..TRIES {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free UDP port on loopback")?;
            let address = udp.local_addr()?;
            if let Ok(tcp) = TcpListener::bind(address) {
                held.push((udp, tcp));
                return Ok(address);
            }
        }
        bail!("no port of loopback is free for both UDP and TCP after {TRIES} tries")
    };
    let mut all = BTreeMap::new();
    for gateway in 1..=GATEWAYS {
        let mut to = BTreeMap::new();
        for other in (1..=GATEWAYS).filter(|o| *o != gateway) {
            to.insert(other, take()?);
        }
        let mut lan = Vec::new();
        for _ in 0..if gateway == LAN_GATEWAY { lan_ports } else { 0 } {
            lan.push([take()?, take()?]);
        }
        let (raft, api, p4runtime) = (take()?, take()?, take()?);
        let sockets = Sockets { raft, api, p4runtime, host: take()?, host_far: take()?, to, lan };
        all.insert(gateway, sockets);
    }
    Ok(all)
}

fn issue_certificates(dmux: &Path, dir: &Path) -> Result<()> {
    let dmux = dmux.to_str().context("the path of dmux is no UTF-8")?;
    let in_dir = |name: &str| dir.join(name).display().to_string();
    let (authority, provider) = (in_dir("authority"), in_dir("provider"));
    run(dmux, &["ca", "init", "--out", &authority])?;
    let (id, protocol) = (PROVIDER.to_string(), PROTOCOL.to_string());
    run(
        dmux,
        &[
            "ca",
            "provider",
            "--ca",
            &authority,
            "--id",
            &id,
            "--protocol",
            &protocol,
            "--name",
            "bench",
            "--out",
            &provider,
        ],
    )?;
    for gateway in 1..=GATEWAYS {
        let (address, name) = (host_address(gateway).to_string(), format!("router{gateway}"));
        run(
            dmux,
            &["ca", "router", "--issuer", &provider, "--address", &address, "--name", &name, "--out", &in_dir(&name)],
        )?;
    }
    Ok(())
}

fn switch_arguments(sockets: &BTreeMap<u8, Sockets>, gateway: u8) -> Result<Vec<String>> {
    let own = sockets.get(&gateway).context("no such gateway")?;
    let mut arguments = ["switch", "--device-id", &DEVICE_ID.to_string(), "--cpu-port", &CPU_PORT.to_string()]
        .map(str::to_owned)
        .to_vec();
    arguments.extend(["--p4runtime".to_owned(), own.p4runtime.to_string()]);
    arguments.extend(["--port".to_owned(), format!("{HOST_PORT}@udp:{}>{}", own.host_far, own.host)]);
    for (other, near) in &own.to {
        let far = sockets.get(other).and_then(|s| s.to.get(&gateway)).context("a link with one end")?;
        arguments.extend(["--port".to_owned(), format!("{}@udp:{near}>{far}", port_to(*other))]);
    }
    for (port, [near, far]) in (LAN_PORT..).zip(&own.lan) {
        arguments.extend(["--port".to_owned(), format!("{port}@udp:{near}>{far}")]);
    }
    Ok(arguments)
}

/// The configuration file of a controller. Timers are a lab's where the default would only make the start slower.
fn controller_config(sockets: &BTreeMap<u8, Sockets>, gateway: u8, pipeline: &str) -> Result<String> {
    let own = sockets.get(&gateway).context("no such gateway")?;
    let mut text = format!(
        r#"node = {gateway}
data = "controller{gateway}"
authority = "authority/ca.crt"

[gateway]
id = {gateway}
name = "gateway{gateway}"
address = "192.0.2.{gateway}"

[switch]
p4runtime = "{p4runtime}"
device_id = {DEVICE_ID}
pipeline = "{pipeline}"

[cluster]
listen = "{raft}"

[cluster.members]
"#,
        p4runtime = own.p4runtime,
        raft = own.raft,
    );
    for (id, other) in sockets {
        writeln!(text, "{id} = \"{}\"", other.raft)?;
    }
    write!(
        text,
        r#"
[api]
listen = "{api}"

[dmux]
prefix = "198.51.100.0/24"
registration = "{REGISTRATION}"
services = {{ 1 = "198.51.100.1" }}

[timers]
probe_ms = 200
"#,
        api = own.api
    )?;
    let own_mac = gateway_mac(gateway);
    let mut hop = |name: String, port: u8, mac: MacAddr, prefixes: &[String]| -> Result<()> {
        write!(
            text,
            "\n[[site.ports]]\nnumber = {port}\nrole = \"wan\"\nmac = \"{own_mac}\"\n\n\
             [site.next_hops.{name}]\nport = {port}\nmac = \"{mac}\"\nmtu = {MTU}\n"
        )?;
        for prefix in prefixes {
            write!(text, "\n[[site.routes]]\nprefix = \"{prefix}\"\nnext_hops = [\"{name}\"]\n")?;
        }
        Ok(())
    };
    hop(format!("host{gateway}"), HOST_PORT, host_mac(gateway), &[format!("{}/32", host_address(gateway))])?;
    for other in (1..=GATEWAYS).filter(|o| *o != gateway) {
        let prefixes = [format!("192.0.2.{other}/32"), format!("{}/32", host_address(other))];
        hop(format!("gateway{other}"), port_to(other), gateway_mac(other), &prefixes)?;
    }
    let ports: Vec<u8> = (LAN_PORT..).zip(&own.lan).map(|(port, _)| port).collect();
    for port in &ports {
        write!(text, "\n[[site.ports]]\nnumber = {port}\nrole = \"access\"\nmac = \"{own_mac}\"\n")?;
    }
    if !ports.is_empty() {
        write!(
            text,
            r#"
[[site.access_links]]
name = "{LAN}"
ports = {ports:?}
provisioned_vid = 100
multipoint_vid = 200
pcp = 5
queue = 0

[site.punt_rates]
discovery = {{ per_second = {LAN_PUNTS}, burst = {LAN_PUNTS} }}
metalink_control = {{ per_second = {LAN_PUNTS}, burst = {LAN_PUNTS} }}
"#
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_has_two_ends_and_no_socket_is_used_twice() {
        let sockets = free_sockets(2).unwrap();
        let mut ends = Vec::new();
        for gateway in 1..=GATEWAYS {
            for argument in switch_arguments(&sockets, gateway).unwrap() {
                if let Some((_, link)) = argument.split_once("@udp:") {
                    let (near, far) = link.split_once('>').unwrap();
                    ends.push((near.to_owned(), far.to_owned()));
                }
            }
        }
        assert_eq!(ends.len(), 9 + 2);
        for (near, far) in &ends {
            assert_eq!(ends.iter().filter(|(n, _)| n == near).count(), 1);
            let back = ends.contains(&(far.clone(), near.clone()));
            let outside =
                |s: &Sockets| s.host.to_string() == *far || s.lan.iter().any(|[_, to]| to.to_string() == *far);
            assert!(back || sockets.values().any(outside), "{near} > {far}");
        }
    }

    #[test]
    fn the_configuration_names_all_members_and_neighbours() {
        let sockets = free_sockets(2).unwrap();
        let text = controller_config(&sockets, 2, "gateway").unwrap();
        for other in sockets.values() {
            assert!(text.contains(&other.raft.to_string()));
        }
        assert!(text.contains("[site.next_hops.gateway1]") && text.contains("[site.next_hops.gateway3]"));
        assert!(!text.contains("[site.next_hops.gateway2]") && !text.contains("access_links"));
        assert!(controller_config(&sockets, LAN_GATEWAY, "gateway").unwrap().contains("ports = [101, 102]"));
    }
}
