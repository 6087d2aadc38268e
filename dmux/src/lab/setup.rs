//! Makes the lab's files and starts its processes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::process::Process;
use super::topology::{
    Gateway, Host, MTU, PREFIX, PROTOCOL, PROVIDERS, REGISTRATION, Role, SERVICE, SERVICE_INDEX, Topology,
};
use crate::ca_cmd;

/// The program that every switch of the lab runs.
pub const PROGRAM_JSON: &str = include_str!("../../../bmv2-configs/gateway.json");
/// And its P4Info.
pub const PROGRAM_P4INFO: &str = include_str!("../../../bmv2-configs/gateway.p4info.txtpb");

/// Everything is quick in the lab, so that what takes minutes in the world takes a second here.
const HEARTBEAT_MS: u64 = 50;
const KEEPALIVE_MS: u64 = 200;
const EXPIRE_AFTER_MS: u64 = 700;
const PROBE_MS: u64 = 100;

/// The processes of the lab and the folder that they live in.
pub struct Lab {
    /// Who is where.
    pub topology: Topology,
    dir: PathBuf,
    pcap: Option<PathBuf>,
    processes: BTreeMap<String, Process>,
}

impl Lab {
    /// Makes certificates and configurations in `dir`; starts nothing yet.
    pub fn prepare(topology: Topology, dir: &Path, pcap: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(pcap) = &pcap {
            fs::create_dir_all(pcap).with_context(|| format!("--pcap {}: cannot be created", pcap.display()))?;
        }
        fs::create_dir_all(dir.join("log"))?;
        fs::write(dir.join("gateway.json"), PROGRAM_JSON)?;
        fs::write(dir.join("gateway.p4info.txtpb"), PROGRAM_P4INFO)?;
        issue_certificates(&topology, dir)?;
        for gateway in &topology.gateways {
            let text = controller_config(&topology, gateway);
            fs::write(dir.join(format!("controller{}.toml", gateway.id)), text)?;
        }
        Ok(Self { topology, dir: dir.to_owned(), pcap, processes: BTreeMap::new() })
    }

    /// Starts the switch of a gateway, without a program: its controller brings it.
    pub fn start_switch(&mut self, gateway: u16) -> anyhow::Result<()> {
        let g = self.topology.gateway(gateway);
        let mut arguments = words(&["switch", "--device-id", "1", "--cpu-port", "510", "--p4runtime"]);
        arguments.push(g.p4runtime.to_string());
        for port in self.topology.ports(gateway, self.pcap.as_deref()) {
            arguments.extend(["--port".into(), port]);
        }
        self.start(format!("switch{gateway}"), arguments)
    }

    /// Starts the controller of a gateway.
    pub fn start_controller(&mut self, gateway: u16) -> anyhow::Result<()> {
        let config = self.dir.join(format!("controller{gateway}.toml"));
        let mut arguments = words(&["controller", "--bootstrap", "--config"]);
        arguments.push(config.display().to_string());
        self.start(format!("controller{gateway}"), arguments)
    }

    /// Starts an IPvN router that answers echo requests itself.
    pub fn start_router(&mut self, name: &str) -> anyhow::Result<()> {
        let host = self.topology.host(name).clone();
        let Role::Router(provider, ipv6) = host.role else {
            anyhow::bail!("{name} is no router");
        };
        let gateway = self.topology.gateway(host.gateway);
        let arguments = [
            ("--address", host.address.to_string()),
            ("--port", ROUTER_PORT.to_string()),
            ("--protocol", PROTOCOL.to_string()),
            ("--provider", provider.to_string()),
            ("--credentials", self.dir.join(name).display().to_string()),
            ("--registration", format!("{REGISTRATION}:51700")),
            ("--link", format!("udp:{}>{}", host.local, host.remote)),
            ("--mac", host.mac().to_string()),
            ("--gateway-mac", gateway.mac().to_string()),
            ("--echo-address", ipv6.to_string()),
        ];
        let mut all = words(&["router", "--echo"]);
        all.extend(arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        self.start(name.to_owned(), all)
    }

    /// A process by its name: `switch1`, `controller2`, `r3`.
    pub fn process(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.processes.get_mut(name).with_context(|| format!("the lab started no {name}"))
    }

    /// The last lines of every process's output.
    pub fn tails(&self, lines: usize) -> Vec<String> {
        self.processes.values().flat_map(|p| p.tail(lines)).collect()
    }

    fn start(&mut self, name: String, arguments: Vec<String>) -> anyhow::Result<()> {
        let process = Process::start(&name, arguments, &self.dir.join("log"))?;
        self.processes.insert(name, process);
        Ok(())
    }
}

/// UDP port of the lab's routers.
pub const ROUTER_PORT: u16 = 4000;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&w| w.to_owned()).collect()
}

fn issue_certificates(topology: &Topology, dir: &Path) -> anyhow::Result<()> {
    let authority = dir.join("authority");
    ca_cmd::make_authority(&authority, "dmux lab authority")?;
    let provider_dir = |id| dir.join(format!("provider{id}"));
    for id in PROVIDERS {
        ca_cmd::issue_provider(&authority, &provider_dir(id), id, &[PROTOCOL], &format!("provider {id}"))?;
    }
    for host in &topology.hosts {
        if let Role::Router(provider, _) = host.role {
            ca_cmd::issue_router(&provider_dir(provider), &dir.join(host.name), host.address, host.name)?;
        }
    }
    Ok(())
}

/// The configuration file of a gateway's controller.
fn controller_config(topology: &Topology, gateway: &Gateway) -> String {
    let Gateway { id, name, raft, api, p4runtime } = gateway;
    let members: String = topology.gateways.iter().map(|g| format!("{} = \"{}\"\n", g.id, g.raft)).collect();
    let mut text = format!(
        r#"node = {id}
data = "controller{id}"
authority = "authority/ca.crt"

[gateway]
id = {id}
name = "{name}"
address = "{address}"

[switch]
p4runtime = "{p4runtime}"
device_id = 1
pipeline = "gateway"

[cluster]
listen = "{raft}"
heartbeat_ms = {HEARTBEAT_MS}

[cluster.members]
{members}
[api]
listen = "{api}"

[dmux]
prefix = "{PREFIX}"
registration = "{REGISTRATION}"
services = {{ {SERVICE_INDEX} = "{SERVICE}" }}
keepalive_ms = {KEEPALIVE_MS}
expire_after_ms = {EXPIRE_AFTER_MS}

[timers]
probe_ms = {PROBE_MS}
"#,
        address = gateway.address(),
    );
    site(topology, gateway, &mut text);
    text
}

/// Ports, neighbours and routes: hosts directly, everything at another gateway over the link to it.
fn site(topology: &Topology, gateway: &Gateway, text: &mut String) {
    let mut hop = |name: &str, port: u16, mac: dmux_wire::MacAddr, prefixes: &[String]| {
        let own = gateway.mac();
        let _ = write!(
            text,
            "\n[[site.ports]]\nnumber = {port}\nrole = \"wan\"\nmac = \"{own}\"\n\n\
             [site.next_hops.{name}]\nport = {port}\nmac = \"{mac}\"\nmtu = {MTU}\n"
        );
        for prefix in prefixes {
            let _ = write!(text, "\n[[site.routes]]\nprefix = \"{prefix}\"\nnext_hops = [\"{name}\"]\n");
        }
    };
    let hosts_of = |id: u16| -> Vec<&Host> { topology.hosts.iter().filter(|h| h.gateway == id).collect() };
    for host in hosts_of(gateway.id) {
        hop(host.name, host.port, host.mac(), &[host.prefix()]);
    }
    for peer in topology.gateways.iter().filter(|g| g.id != gateway.id) {
        let mut prefixes = vec![format!("{}/32", peer.address())];
        prefixes.extend(hosts_of(peer.id).iter().map(|h| h.prefix()));
        hop(peer.name, 10 + peer.id, peer.mac(), &prefixes);
    }
}
