//! Three sites, each a switch, a controller and perhaps a router, as processes around one [`internet`](super::internet).
//!
//! ```text
//!   client ─ site 1 (no router) ──5 ms── site 2: r2 (provider 7)
//!                     └────────15 ms──── site 3: r3 (provider 8)          2 ↔ 3: 12 ms
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dmux_host::client::{ClientConfig, ClientLink};
use dmux_host::link::LinkSpec;
use dmux_wire::{DMUX_PORT, MacAddr, ProtocolId, ProviderId};

use super::internet::{self, Attachment, Withdrawn};
use crate::process::{Daemon, run};

/// The sites, in the order of their distance from the client's.
pub const SITES: [u8; 3] = [1, 2, 3];
/// What the routers speak.
pub const PROTOCOL: ProtocolId = ProtocolId(41);
const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const REGISTRATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const ROUTER_PORT: u16 = 4000;
const TRIES: usize = 32;

/// The provider of the router at a site.
pub fn provider(site: u8) -> ProviderId {
    ProviderId(5 + u32::from(site))
}

/// The IPv6 address that the router at a site answers with.
pub fn router_ipv6(site: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, site.into())
}

fn delay(a: u8, b: u8) -> Duration {
    let ms = match (a.min(b), a.max(b)) {
        (1, 2) => 5,
        (1, 3) => 15,
        (2, 3) => 12,
        _ => 0,
    };
    Duration::from_millis(ms)
}

fn anycast(address: Ipv4Addr) -> bool {
    address.octets()[..3] == SERVICE.octets()[..3]
}

fn gateway_address(site: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, site)
}

fn host_address(site: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, site)
}

#[derive(Debug, Clone, Copy)]
struct Sockets {
    raft: SocketAddr,
    api: SocketAddr,
    p4runtime: SocketAddr,
    /// Switch's end and the Internet's end.
    gateway: [SocketAddr; 2],
    /// Host's end and the Internet's end: the client at site 1, routers elsewhere.
    host: [SocketAddr; 2],
}

/// The running sites.
pub struct World {
    dmux: PathBuf,
    dir: PathBuf,
    sockets: BTreeMap<u8, Sockets>,
    /// By name: `switch2`, `controller2`, `router2`.
    daemons: BTreeMap<String, Daemon>,
    /// What routing has lost.
    pub withdrawn: Withdrawn,
}

impl World {
    /// Makes certificates and configurations in `dir`, and starts everything. `timers` are lines for `[timers]`.
    pub fn start(dmux: &Path, pipeline: &Path, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let sockets = free_sockets()?;
        issue_certificates(dmux, dir)?;
        let pipeline = pipeline.to_str().context("the path of the pipeline is no UTF-8")?;
        for site in SITES {
            fs::write(dir.join(format!("controller{site}.toml")), controller_config(&sockets, site, pipeline)?)?;
        }
        let withdrawn = Withdrawn::default();
        let attachments = attachments(&sockets);
        let lost = withdrawn.clone();
        std::thread::Builder::new().name("internet".into()).spawn(move || {
            if let Err(error) = internet::run(attachments, anycast, delay, lost) {
                eprintln!("the Internet is down: {error:#}");
            }
        })?;
        let (dmux, dir) = (dmux.to_owned(), dir.to_owned());
        let mut world = Self { dmux, dir, sockets, daemons: BTreeMap::new(), withdrawn };
        for site in SITES {
            world.start_gateway(site)?;
        }
        for site in [2, 3] {
            world.start_router(site)?;
        }
        Ok(world)
    }

    /// Starts the switch and the controller of a site.
    pub fn start_gateway(&mut self, site: u8) -> Result<()> {
        let own = self.sockets(site)?;
        let mut switch = Command::new(&self.dmux);
        switch.args(["switch", "--device-id", "1", "--cpu-port", "510", "--p4runtime", &own.p4runtime.to_string()]);
        switch.args(["--port", &format!("1@udp:{}>{}", own.gateway[0], own.gateway[1])]);
        self.spawn(format!("switch{site}"), switch)?;
        let mut controller = Command::new(&self.dmux);
        controller.args(["controller", "--bootstrap", "--config"]).arg(self.dir.join(format!("controller{site}.toml")));
        self.spawn(format!("controller{site}"), controller)
    }

    /// Starts the router of a site.
    pub fn start_router(&mut self, site: u8) -> Result<()> {
        let own = self.sockets(site)?;
        let mut router = Command::new(&self.dmux);
        router.args(["router", "--echo"]);
        for (flag, value) in [
            ("--address", host_address(site).to_string()),
            ("--port", ROUTER_PORT.to_string()),
            ("--protocol", PROTOCOL.to_string()),
            ("--provider", provider(site).to_string()),
            ("--credentials", self.dir.join(format!("router{site}")).display().to_string()),
            ("--registration", format!("{REGISTRATION}:{DMUX_PORT}")),
            ("--link", format!("udp:{}>{}", own.host[0], own.host[1])),
            ("--mac", host_mac(site).to_string()),
            ("--gateway-mac", internet::MAC.to_string()),
            ("--echo-address", router_ipv6(site).to_string()),
        ] {
            router.args([flag, &value]);
        }
        self.spawn(format!("router{site}"), router)
    }

    /// SIGKILL to all of these at once; returns when they are gone.
    pub fn kill(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            self.daemons.get_mut(*name).with_context(|| format!("no process {name}"))?.strike()?;
        }
        for name in names {
            self.daemons.remove(*name).map_or(Ok(()), Daemon::bury)?;
        }
        Ok(())
    }

    /// The client, at site 1. Call it within a runtime.
    pub fn client(&self) -> Result<ClientLink> {
        let own = self.sockets(1)?;
        Ok(ClientLink::open(&ClientConfig {
            link: LinkSpec { local: own.host[0], remote: own.host[1] },
            mac: host_mac(1),
            gateway_mac: internet::MAC,
            address: host_address(1),
            addresses: 1,
            service: (SERVICE, DMUX_PORT).to_socket(),
        })?)
    }

    /// Where a site's controller answers `dmux get`.
    pub fn api(&self, site: u8) -> Result<SocketAddr> {
        Ok(self.sockets(site)?.api)
    }

    /// The log of a process so far.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default()
    }

    fn sockets(&self, site: u8) -> Result<Sockets> {
        self.sockets.get(&site).copied().context("no such site")
    }

    fn spawn(&mut self, name: String, mut command: Command) -> Result<()> {
        let daemon = Daemon::spawn(&name, &mut command, &self.dir)?;
        self.daemons.insert(name, daemon);
        Ok(())
    }
}

trait ToSocket {
    fn to_socket(self) -> std::net::SocketAddrV4;
}

impl ToSocket for (Ipv4Addr, u16) {
    fn to_socket(self) -> std::net::SocketAddrV4 {
        std::net::SocketAddrV4::new(self.0, self.1)
    }
}

fn gateway_mac(site: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, site])
}

fn host_mac(site: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, site])
}

fn attachments(sockets: &BTreeMap<u8, Sockets>) -> Vec<Attachment> {
    let mut all = Vec::new();
    for (&site, s) in sockets {
        let [far, near] = s.gateway;
        all.push(Attachment {
            address: gateway_address(site),
            mac: gateway_mac(site),
            site,
            is_gateway: true,
            near,
            far,
        });
        let [far, near] = s.host;
        all.push(Attachment { address: host_address(site), mac: host_mac(site), site, is_gateway: false, near, far });
    }
    all
}

/// Loopback addresses that are free for both UDP and TCP; all are held until the last is chosen, so they differ.
fn free_sockets() -> Result<BTreeMap<u8, Sockets>> {
    let mut held = Vec::new();
    let mut take = || -> Result<SocketAddr> {
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
    for site in SITES {
        let (raft, api, p4runtime) = (take()?, take()?, take()?);
        let (gateway, host) = ([take()?, take()?], [take()?, take()?]);
        all.insert(site, Sockets { raft, api, p4runtime, gateway, host });
    }
    Ok(all)
}

fn issue_certificates(dmux: &Path, dir: &Path) -> Result<()> {
    let dmux = dmux.to_str().context("the path of dmux is no UTF-8")?;
    let at = |name: String| dir.join(name).display().to_string();
    let authority = at("authority".into());
    run(dmux, &["ca", "init", "--out", &authority])?;
    for site in [2, 3] {
        let (id, protocol, whose) = (provider(site).to_string(), PROTOCOL.to_string(), at(format!("provider{site}")));
        let name = format!("provider {site}");
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
                &name,
                "--out",
                &whose,
            ],
        )?;
        let (address, name) = (host_address(site).to_string(), format!("r{site}"));
        let out = at(format!("router{site}"));
        run(dmux, &["ca", "router", "--issuer", &whose, "--address", &address, "--name", &name, "--out", &out])?;
    }
    Ok(())
}

/// Default timers throughout.
fn controller_config(sockets: &BTreeMap<u8, Sockets>, site: u8, pipeline: &str) -> Result<String> {
    let own = sockets.get(&site).context("no such site")?;
    let mut text = format!(
        r#"node = {site}
data = "controller{site}"
authority = "authority/ca.crt"

[gateway]
id = {site}
name = "site{site}"
address = "{address}"

[switch]
p4runtime = "{p4runtime}"
device_id = 1
pipeline = "{pipeline}"

[cluster]
listen = "{raft}"

[cluster.members]
"#,
        address = gateway_address(site),
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
services = {{ 1 = "{SERVICE}" }}

# The same routers are killed again and again.
[dmux.dampening]
suppress = 0

[[site.ports]]
number = 1
role = "wan"
mac = "{own_mac}"

[site.next_hops.internet]
port = 1
mac = "{internet}"
mtu = 1500

[[site.routes]]
prefix = "0.0.0.0/0"
next_hops = ["internet"]
"#,
        api = own.api,
        own_mac = gateway_mac(site),
        internet = internet::MAC,
    )?;
    Ok(text)
}
