//! The site of the experiment, as processes: a switch with its controller, two IPvN routers, and the endpoint.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dmux_controller::api::v1::access_client::AccessClient;
use dmux_controller::api::v1::{AccessLink, AccessLinkName, ListMetalinksRequest, Metanet, MetanetName};
use dmux_p4rt::P4Info;
use dmux_p4rt::client::{Session, Target};
use dmux_tables::P4INFO_TEXT;
use dmux_wire::{GatewayId, MacAddr, ProtocolId, ProviderId};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use super::cable::{Cable, Ends};
use crate::ca_cmd;
use crate::lab::operator::{Operator, until};
use crate::lab::process::Process;
use crate::lab::setup::{PROGRAM_JSON, PROGRAM_P4INFO, ROUTER_PORT};
use crate::lab::topology::{FreePorts, PREFIX, REGISTRATION, SERVICE, SERVICE_INDEX};

/// The gateway.
pub const GATEWAY: (GatewayId, Ipv4Addr) = (GatewayId(1), Ipv4Addr::new(192, 0, 2, 1));
/// MAC address of all its ports.
pub const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
/// The endpoint's address.
pub const ENDPOINT: MacAddr = MacAddr([2, 0, 0, 0, 3, 2]);
/// The ports of the legacy senders.
pub const SENDER_PORTS: [u16; 2] = [3, 4];
const ENDPOINT_PORT: u16 = 2;
const PORTS: u16 = 5;
const PROVIDER: ProviderId = ProviderId(7);
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A metanet with its router, and what the endpoint wants of it.
#[derive(Debug, Clone, Copy)]
pub struct Net {
    /// Its protocol.
    pub protocol: ProtocolId,
    /// Its router.
    pub router: SocketAddrV4,
    /// The router's port of the switch.
    pub port: u16,
    /// Bits a second.
    pub rate: u64,
}

/// Those of the paper.
pub const NETS: [Net; 2] = [
    Net { protocol: ProtocolId(41), router: router(1), port: 1, rate: 15_000_000 },
    Net { protocol: ProtocolId(42), router: router(2), port: 5, rate: 30_000_000 },
];

const fn router(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, last), ROUTER_PORT)
}

impl Net {
    /// Its router's Ethernet address.
    pub fn router_mac(&self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 2, self.port as u8])
    }
}

/// The address of a legacy sender.
pub fn sender_mac(port: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, 3, port as u8])
}

/// Everything that runs.
pub struct Site {
    dir: PathBuf,
    p4runtime: SocketAddr,
    api: SocketAddr,
    processes: Vec<Process>,
    /// By port, from 1.
    cables: Vec<Cable>,
    /// The processes' ends of the cables, each with the cable's.
    devices: Vec<(SocketAddr, SocketAddr)>,
}

impl Site {
    /// Starts switch, controller and routers.
    pub fn start(dir: &Path, link: u64) -> anyhow::Result<Self> {
        fs::write(dir.join("gateway.json"), PROGRAM_JSON)?;
        fs::write(dir.join("gateway.p4info.txtpb"), PROGRAM_P4INFO)?;
        let mut free = FreePorts::default();
        let (p4runtime, raft, api) = (free.take()?, free.take()?, free.take()?);
        let mut ends = Vec::new();
        for _ in 0..PORTS {
            let (switch, near, device, far) = (free.take()?, free.take()?, free.take()?, free.take()?);
            ends.push(Ends { switch: (switch, near), device: (device, far) });
        }
        drop(free);
        let switch = ["switch", "--device-id", "1", "--cpu-port", "510", "--priority-queues", "8", "--p4runtime"];
        let mut switch: Vec<String> = switch.map(String::from).into();
        switch.push(p4runtime.to_string());
        for (number, ends) in (1..).zip(&ends) {
            let queue = if number == ENDPOINT_PORT { format!(",egress-link={link}bit") } else { String::new() };
            let (near, far) = ends.switch;
            switch.extend(["--port".to_owned(), format!("{number}@udp:{near}>{far}{queue}")]);
        }
        let cables = ends.iter().copied().map(Cable::join).collect::<anyhow::Result<_>>()?;
        let devices = ends.iter().map(|ends| ends.device).collect();
        let mut site = Self { dir: dir.to_owned(), p4runtime, api, processes: Vec::new(), cables, devices };
        site.run("switch", switch)?;
        ca_cmd::make_authority(&dir.join("authority"), "dmux lab authority")?;
        let protocols = NETS.map(|net| net.protocol);
        ca_cmd::issue_provider(&dir.join("authority"), &dir.join("provider"), PROVIDER, &protocols, "provider")?;
        let config = dir.join("controller.toml");
        fs::write(&config, controller_config(p4runtime, raft, api))?;
        site.run("controller", words(&["controller", "--bootstrap", "--config", &config.display().to_string()]))?;
        for net in &NETS {
            site.start_router(net)?;
        }
        Ok(site)
    }

    /// Sets up the metanets, and waits until all is in the switch.
    pub async fn ready(&self, link: u64) -> anyhow::Result<()> {
        self.promise(link).await?;
        self.routers_are_there().await
    }

    fn run(&mut self, name: &str, arguments: Vec<String>) -> anyhow::Result<()> {
        let process = Process::start(name, arguments, &self.dir)?;
        self.processes.push(process);
        Ok(())
    }

    /// The last lines of every process's output.
    pub fn tails(&self, lines: usize) -> Vec<String> {
        self.processes.iter().flat_map(|p| p.tail(lines)).collect()
    }

    /// The cable of a port.
    pub fn cable(&self, port: u16) -> anyhow::Result<&Cable> {
        self.cables.get(usize::from(port).wrapping_sub(1)).context("no such port")
    }

    /// The cable of the endpoint.
    pub fn endpoint(&self) -> anyhow::Result<&Cable> {
        self.cable(ENDPOINT_PORT)
    }

    fn link(&self, port: u16) -> anyhow::Result<String> {
        let (own, cable) = self.devices.get(usize::from(port).wrapping_sub(1)).context("no such port")?;
        Ok(format!("udp:{own}>{cable}"))
    }

    fn start_router(&mut self, net: &Net) -> anyhow::Result<()> {
        let name = format!("router{}", net.protocol);
        let credentials = self.dir.join(&name);
        ca_cmd::issue_router(&self.dir.join("provider"), &credentials, *net.router.ip(), &name)?;
        let arguments = [
            ("--address", net.router.ip().to_string()),
            ("--port", net.router.port().to_string()),
            ("--protocol", net.protocol.to_string()),
            ("--provider", PROVIDER.to_string()),
            ("--credentials", credentials.display().to_string()),
            ("--registration", format!("{REGISTRATION}:51700")),
            ("--link", self.link(net.port)?),
            ("--mac", net.router_mac().to_string()),
            ("--gateway-mac", GATEWAY_MAC.to_string()),
        ];
        let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        self.run(&name, std::iter::once("router".to_owned()).chain(arguments).collect())
    }

    async fn access(&self) -> anyhow::Result<AccessClient<Channel>> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.api))?.timeout(PATIENCE);
        Ok(AccessClient::new(endpoint.connect_lazy()))
    }

    /// As much as the paper assigns: half of the link. Each metanet admits the endpoint by itself.
    async fn promise(&self, link: u64) -> anyhow::Result<()> {
        let capacity = link / 2;
        let wanted = AccessLink {
            id: Some(AccessLinkName { gateway: GATEWAY.0.0.into(), name: "lan".into() }),
            capacity,
            endpoint_maximum: capacity,
            ..AccessLink::default()
        };
        let put = || async {
            let mut client = self.access().await?;
            Ok(client.put_access_link(wanted.clone()).await.ok())
        };
        until(PATIENCE, "the controller takes commands", put).await?;
        for net in &NETS {
            let metanet = Metanet {
                id: Some(MetanetName { protocol: net.protocol.0.into(), provider: 0 }),
                name: format!("metanet {}", net.protocol),
                admit_up_to: Some(net.rate),
                ..Metanet::default()
            };
            self.access().await?.put_metanet(metanet).await?;
        }
        Ok(())
    }

    async fn routers_are_there(&self) -> anyhow::Result<()> {
        let operator = Operator::new(self.api)?;
        let look = || async {
            let registered = operator.routers().await?.len() == NETS.len();
            let switch = operator.own_switch().await?;
            Ok((registered && switch.state == "synced").then_some(()))
        };
        until(PATIENCE, "both routers are registered", look).await.map(drop)
    }

    /// Starts the endpoint. Returns the MLIs that it is given, in the order of [`NETS`].
    pub async fn connect(&mut self) -> anyhow::Result<Vec<u32>> {
        let mut arguments = words(&["endpoint", "--output", "json", "--link"]);
        arguments.extend([self.link(ENDPOINT_PORT)?, "--mac".into(), ENDPOINT.to_string()]);
        for net in &NETS {
            arguments.extend(["--connect".into(), format!("{}@{}:long", net.protocol, net.rate)]);
        }
        self.run("endpoint", arguments)?;
        let patience = Instant::now() + PATIENCE;
        loop {
            let output = self.processes.last().map(Process::output).unwrap_or_default();
            let events: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if let Some(refused) = events.iter().find(|e| e["event"] == "refused") {
                bail!("the endpoint is refused: {refused}");
            }
            let mli = |net: &Net| {
                let connected = |e: &&Value| e["event"] == "connected" && e["metanet"] == net.protocol.to_string();
                let event = events.iter().find(connected)?;
                (event["rate"] == net.rate).then(|| event["mli"].as_u64())?.and_then(|mli| u32::try_from(mli).ok())
            };
            if let Some(mlis) = NETS.iter().map(mli).collect() {
                return Ok(mlis);
            }
            if Instant::now() > patience {
                bail!("the endpoint is not connected within {} s: {events:?}", PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Frames towards the endpoint that the meters of its metalinks took for red, in the order of their MLIs.
    pub async fn out_of_profile(&self) -> anyhow::Result<Vec<i64>> {
        let metalinks = self.access().await?.list_metalinks(ListMetalinksRequest::default()).await?.into_inner();
        let (session, _events) = Session::connect(Target::new(format!("http://{}", self.p4runtime), 1), None).await?;
        let info = P4Info::from_text(P4INFO_TEXT)?;
        let id = info.counter_named("metalink_tx_red").context("the program has no counter metalink_tx_red")?.id;
        let mut counts = Vec::new();
        for metalink in metalinks.metalinks {
            let cells = session.read_counter(id, Some(metalink.cell)).await?;
            counts.push(cells.first().and_then(|c| c.data.as_ref()).map_or(0, |d| d.packet_count));
        }
        Ok(counts)
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&w| w.to_owned()).collect()
}

fn controller_config(p4runtime: SocketAddr, raft: SocketAddr, api: SocketAddr) -> String {
    let (id, address) = GATEWAY;
    let mut text = format!(
        r#"node = 1
data = "data"
authority = "authority/ca.crt"

[gateway]
id = {id}
name = "gateway"
address = "{address}"

[switch]
p4runtime = "{p4runtime}"
device_id = 1
pipeline = "gateway"

[cluster]
listen = "{raft}"
heartbeat_ms = 50

[cluster.members]
1 = "{raft}"

[api]
listen = "{api}"

[dmux]
prefix = "{PREFIX}"
registration = "{REGISTRATION}"
services = {{ {SERVICE_INDEX} = "{SERVICE}" }}

[[site.access_links]]
name = "lan"
ports = [2, 3, 4]
provisioned_vid = 100
multipoint_vid = 200
pcp = 5
queue = 7
"#
    );
    for number in 1..=PORTS {
        let net = NETS.iter().find(|net| net.port == number);
        let role = if net.is_some() { "wan" } else { "access" };
        let _ = write!(text, "\n[[site.ports]]\nnumber = {number}\nrole = \"{role}\"\nmac = \"{GATEWAY_MAC}\"\n");
        if let Some(net) = net {
            let (mac, router) = (net.router_mac(), net.router.ip());
            let _ = write!(
                text,
                "\n[site.next_hops.r{number}]\nport = {number}\nmac = \"{mac}\"\nmtu = 1500\n\
                 \n[[site.routes]]\nprefix = \"{router}/32\"\nnext_hops = [\"r{number}\"]\n"
            );
        }
    }
    text
}
