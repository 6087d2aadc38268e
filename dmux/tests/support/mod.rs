//! A gateway as processes: one embedded switch, one controller, UDP links to hosts that a test plays itself.

// Each test binary uses its part of this module.
#![allow(dead_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dmux_controller::api::v1::dmux_client::DmuxClient;
use dmux_controller::api::v1::registry_client::RegistryClient;
use dmux_controller::api::v1::{self, Event, ExplainRequest, Explanation, GetRequest, Router, Switch, WatchRequest};
use dmux_wire::MacAddr;
use tempfile::TempDir;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// How long anything may take that should happen by itself: far more than it takes, so that a busy machine passes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The gateway's own addresses.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// MAC address of all its ports.
pub const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// Hosts hang on ports 1, 2, … with these addresses.
pub fn host_address(port: u16) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, port as u8)
}

/// More addresses of the host on a port: the whole of 198.18.PORT.0/24 is routed to it.
pub fn client_address(port: u16, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, port as u8, last)
}

/// The MAC address of the host on a port.
pub fn host_mac(port: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, 9, port as u8])
}

/// A child process that does not outlive its test; its output is in a file.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `dmux ARGUMENTS…`.
    pub fn start(dir: &Path, name: &str, arguments: &[String]) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = std::fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let child = Command::new(env!("CARGO_BIN_EXE_dmux"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .spawn()
            .expect("dmux starts");
        Self { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: kill takes no pointers; the child has not been waited for, so the pid is still its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "signal {signal}");
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("killed");
    }

    /// Waits until it has ended by itself. Returns whether it succeeded.
    pub fn ended(&mut self) -> bool {
        let log = self.log.clone();
        let status = wait(&format!("{} ends", log.display()), || self.child.try_wait().expect("status"));
        status.success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Waits for something to be there.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Loopback addresses that were free a moment ago; all different.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> = (0..count)
        .map(|_| {
            // Free for UDP and TCP alike: a port may serve either.
            wait("a free port", || {
                let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
                let address = udp.local_addr().ok()?;
                let tcp = std::net::TcpListener::bind(address).ok()?;
                Some((udp, tcp, address))
            })
        })
        .collect();
    held.iter().map(|(_, _, address)| *address).collect()
}

/// A controller's API, without async.
pub struct Api {
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    channel: Channel,
    client: DmuxClient<Channel>,
}

impl Api {
    pub fn new(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = {
            let _guard = runtime.enter();
            endpoint.timeout(Duration::from_secs(5)).connect_lazy()
        };
        Self { address, runtime, channel: channel.clone(), client: DmuxClient::new(channel) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn switch(&self) -> Option<Switch> {
        let mut client = self.client.clone();
        let answer =
            self.runtime.block_on(client.get_switches(GetRequest { local: true, ..GetRequest::default() })).ok()?;
        answer.into_inner().switches.pop()
    }

    pub fn gateways(&self) -> Option<Vec<v1::Gateway>> {
        let mut client = self.client.clone();
        Some(self.runtime.block_on(client.get_gateways(GetRequest::default())).ok()?.into_inner().gateways)
    }

    pub fn routers(&self) -> Option<Vec<Router>> {
        let mut client = self.client.clone();
        Some(self.runtime.block_on(client.get_routers(GetRequest::default())).ok()?.into_inner().routers)
    }

    pub fn explain(&self, request: ExplainRequest) -> Result<Explanation, tonic::Status> {
        let mut client = self.client.clone();
        self.runtime.block_on(client.explain(request)).map(tonic::Response::into_inner)
    }

    pub fn watch(&self) -> Streaming<Event> {
        let mut client = self.client.clone();
        self.runtime.block_on(client.watch(WatchRequest {})).expect("a stream").into_inner()
    }

    /// The first of the next events that `take` makes something of.
    pub fn next<T>(&self, events: &mut Streaming<Event>, what: &str, mut take: impl FnMut(&Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = events.message().await.expect(what).unwrap_or_else(|| panic!("{what}: the stream ended"));
                if let Some(found) = take(&event) {
                    return found;
                }
            }
        };
        let found = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, found).await });
        found.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
    }

    /// Calls the `Registry` service.
    pub fn registry<T>(
        &self,
        call: impl AsyncFnOnce(&mut RegistryClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, tonic::Status> {
        let mut client = RegistryClient::new(self.channel.clone());
        self.runtime.block_on(call(&mut client)).map(tonic::Response::into_inner)
    }

    /// The services that it says it has, by reflection.
    pub fn services(&self) -> Vec<String> {
        let mut client = ServerReflectionClient::new(self.channel.clone());
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let answer = self.runtime.block_on(async {
            let answers = client.server_reflection_info(tokio_stream::once(ask)).await.expect("reflection");
            answers.into_inner().message().await.expect("an answer").expect("an answer before the end")
        });
        match answer.message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list.service.into_iter().map(|s| s.name).collect(),
            other => panic!("no list of services but {other:?}"),
        }
    }

    /// Waits until the switch holds its plan.
    pub fn synced(&self) -> Switch {
        wait("the switch holds its plan", || self.switch().filter(|s| s.state == "synced"))
    }
}

/// Runs dmux to its end, which must be a success. Returns what it printed.
pub fn succeed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dmux")).args(arguments).output().expect("dmux runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs dmux to its end, which must be exit status 1 with one sentence on stderr that has all of these words.
pub fn refused(arguments: &[&str], words: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_dmux")).args(arguments).output().expect("dmux runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
    }
}

/// A site's configuration of a port with a host that is routed to.
fn wan_port(port: u16) -> String {
    format!(
        "[[site.ports]]\nnumber = {port}\nrole = \"wan\"\nmac = \"{GATEWAY_MAC}\"\n\
         [site.next_hops.h{port}]\nport = {port}\nmac = \"{}\"\nmtu = 1500\n\
         [[site.routes]]\nprefix = \"{}/32\"\nnext_hops = [\"h{port}\"]\n\
         [[site.routes]]\nprefix = \"{}/24\"\nnext_hops = [\"h{port}\"]\n",
        host_mac(port),
        host_address(port),
        client_address(port, 0)
    )
}

/// And of one with a host on an access LAN.
fn access_port(port: u16) -> String {
    format!("[[site.ports]]\nnumber = {port}\nrole = \"access\"\nmac = \"{GATEWAY_MAC}\"\n")
}

/// A controller's configuration in the test's folder.
fn config_file(node: u32) -> String {
    if node == 1 { "controller.toml".into() } else { format!("controller{node}.toml") }
}

/// What a gateway is made of.
struct Site<'a> {
    /// How many hosts are on the access LAN, from port 1 on, and how many on WAN ports behind these.
    lan: u16,
    wan: u16,
    /// Keepalive timers, ms.
    keepalive: u32,
    expire_after: u32,
    /// Options of the switch's ports, as ",loss=1%".
    port_options: &'a str,
    /// An interface in place of port 1's link.
    interface: Option<&'a str>,
    /// Controllers of other gateways in its cluster; they have no switch.
    others: usize,
}

const SITE: Site<'_> =
    Site { lan: 0, wan: 0, keepalive: 200, expire_after: 1000, port_options: "", interface: None, others: 0 };
const ACCESS: Site<'_> = Site { lan: 2, wan: 1, ..SITE };

/// One gateway with hosts on its first ports.
pub struct Gateway {
    pub dir: TempDir,
    pub switch: Process,
    pub controller: Process,
    pub api: Api,
    /// The controllers of other gateways in its cluster, and their APIs.
    pub others: Vec<(Process, Api)>,
    switch_arguments: Vec<String>,
    /// The test's end of each host's link, the switch's, and the host's address, whoever has it now.
    links: Vec<(UdpSocket, SocketAddr, SocketAddr)>,
}

impl Gateway {
    /// Starts it and waits until its switch holds the plan.
    pub fn start(hosts: u16) -> Self {
        Self::start_with(hosts, 200, 1000)
    }

    /// Likewise, with other keepalive timers, ms.
    pub fn start_with(hosts: u16, keepalive: u32, expire_after: u32) -> Self {
        Self::start_site(&Site { wan: hosts, keepalive, expire_after, ..SITE })
    }

    /// With all hosts on one access LAN, whose provisioned VLAN is 100 and multipoint VLAN 200.
    pub fn start_lan(hosts: u16) -> Self {
        Self::start_site(&Site { lan: hosts, ..SITE })
    }

    /// With hosts on two ports of such an access LAN, and one on port 3, which leads elsewhere.
    pub fn start_access() -> Self {
        Self::start_site(&ACCESS)
    }

    /// Likewise, and of all frames to hosts a part is lost.
    pub fn start_lossy_access() -> Self {
        Self::start_site(&Site { port_options: ",loss=25%", ..ACCESS })
    }

    /// Likewise, without loss, and with an interface as port 1.
    pub fn start_access_on(interface: &str) -> Self {
        Self::start_site(&Site { interface: Some(interface), ..ACCESS })
    }

    /// Likewise, on links, and in one cluster with two other gateways' controllers.
    pub fn start_cluster_access() -> Self {
        Self::start_site(&Site { others: 2, ..ACCESS })
    }

    fn start_site(site: &Site<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        succeed(&["ca", "init", "--out", &path("authority")]);
        let hosts = site.wan + site.lan;
        // A switch that is not there, and for each controller two of its own.
        let nodes = 1 + site.others;
        let addresses = free_addresses(2 + usize::from(hosts) + 2 * nodes);
        let (p4runtime, absent) = (addresses[0], addresses[1]);
        let (ports, listeners) = addresses[2..].split_at(usize::from(hosts));
        let mut links = Vec::new();
        let mut switch_arguments =
            vec!["switch".into(), "--p4runtime".into(), p4runtime.to_string(), "--device-id".into(), "1".into()];
        let mut cabling = String::new();
        for (port, &remote) in (1..).zip(ports) {
            let host = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            host.connect(remote).expect("connect");
            host.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            let (local, options) = (host.local_addr().expect("address"), site.port_options);
            let device = match site.interface.filter(|_| port == 1) {
                Some(interface) => interface.to_owned(),
                None => format!("udp:{remote}>{local}"),
            };
            switch_arguments.extend(["--port".into(), format!("{port}@{device}{options}")]);
            links.push((host, remote, local));
            cabling += &if port <= site.lan { access_port(port) } else { wan_port(port) };
        }
        if site.lan > 0 {
            let ports: Vec<String> = (1..=site.lan).map(|port| port.to_string()).collect();
            cabling += &format!(
                "[[site.access_links]]\nname = \"lan\"\nports = [{}]\nprovisioned_vid = 100\nmultipoint_vid = 200\n\
                 pcp = 5\nqueue = 0\n",
                ports.join(", ")
            );
        }
        let members: Vec<String> =
            (1..).zip(listeners.chunks(2)).map(|(node, own)| format!("{node} = \"{}\"", own[0])).collect();
        for (node, own) in (1..).zip(listeners.chunks(2)) {
            let (switch, cabling) = if node == 1 { (p4runtime, &cabling) } else { (absent, &wan_port(1)) };
            let config = format!(
                "node = {node}\ndata = \"data{node}\"\nauthority = \"authority/ca.crt\"\n\
                 [gateway]\nid = {node}\nname = \"g{node}\"\naddress = \"{}\"\n\
                 [switch]\np4runtime = \"{switch}\"\npipeline = {:?}\n\
                 [cluster]\nlisten = \"{}\"\nheartbeat_ms = 50\nmembers = {{ {} }}\n\
                 [api]\nlisten = \"{}\"\n\
                 [dmux]\nprefix = \"198.51.100.0/24\"\nregistration = \"198.51.100.2\"\n\
                 services = {{ 1 = \"198.51.100.1\" }}\nkeepalive_ms = {}\nexpire_after_ms = {}\n{cabling}",
                Ipv4Addr::from_bits(GATEWAY.to_bits() + node - 1),
                concat!(env!("CARGO_MANIFEST_DIR"), "/../bmv2-configs/gateway"),
                own[0],
                members.join(", "),
                own[1],
                site.keepalive,
                site.expire_after,
            );
            std::fs::write(dir.path().join(config_file(node)), config).expect("written");
        }
        let switch = Process::start(dir.path(), "switch", &switch_arguments);
        let controller = Self::controller(dir.path(), 1);
        let others = (2..).zip(listeners.chunks(2).skip(1));
        let others = others.map(|(node, own)| (Self::controller(dir.path(), node), Api::new(own[1]))).collect();
        let api = Api::new(listeners[1]);
        api.synced();
        Self { dir, switch, controller, api, others, switch_arguments, links }
    }

    fn controller(dir: &Path, node: u32) -> Process {
        let config = dir.join(config_file(node)).display().to_string();
        let name = if node == 1 { "controller".into() } else { format!("controller{node}") };
        Process::start(dir, &name, &["controller".into(), "--bootstrap".into(), "--config".into(), config])
    }

    /// Starts the controller again, in the same directory.
    pub fn restart_controller(&mut self) {
        self.controller = Self::controller(self.dir.path(), 1);
    }

    /// Starts the switch again; its tables are empty.
    pub fn restart_switch(&mut self) {
        self.switch = Process::start(self.dir.path(), "switch", &self.switch_arguments);
    }

    /// Sends a frame from the host on a port.
    pub fn send(&self, port: u16, frame: &[u8]) {
        self.links[usize::from(port) - 1].0.send(frame).expect("sent");
    }

    /// The next frame to the host on a port, whatever it is.
    pub fn receive(&self, port: u16, what: &str) -> Vec<u8> {
        wait(what, || self.try_receive(port))
    }

    /// Likewise, if one comes within a moment.
    pub fn try_receive(&self, port: u16) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let length = self.links[usize::from(port) - 1].0.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    /// The next frame to the host on a port that `take` makes something of; sends `frame` again now and then until it
    /// comes, since the switch's meters and a busy machine may lose one.
    pub fn ask<T>(&self, port: u16, frame: &[u8], what: &str, take: impl Fn(&[u8]) -> Option<T>) -> T {
        let socket = &self.links[usize::from(port) - 1].0;
        let mut buffer = [0; 2048];
        wait(what, || {
            self.send(port, frame);
            while let Ok(length) = socket.recv(&mut buffer) {
                if let Some(found) = take(&buffer[..length]) {
                    return Some(found);
                }
            }
            None
        })
    }

    /// `--link`, `--mac` and `--gateway-mac` of a `dmux router` on a port. The test gives its end of the link up.
    pub fn link_arguments(&mut self, port: u16) -> Vec<String> {
        let (socket, remote, local) = &mut self.links[usize::from(port) - 1];
        // Replaced by one that nobody sends to, which frees the address.
        *socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        vec![
            "--link".into(),
            format!("udp:{local}>{remote}"),
            "--mac".into(),
            host_mac(port).to_string(),
            "--gateway-mac".into(),
            GATEWAY_MAC.to_string(),
        ]
    }

    /// Starts `dmux endpoint -o json` on a port of the access LAN. The test gives its end of the link up.
    pub fn endpoint(&mut self, port: u16, name: &str, more: &[&str]) -> Process {
        let mut arguments = vec!["endpoint".to_owned(), "--output".into(), "json".into()];
        arguments.extend(self.link_arguments(port).into_iter().take(4));
        arguments.extend(more.iter().map(|&s| s.to_owned()));
        Process::start(self.dir.path(), name, &arguments)
    }

    /// Starts `dmux router` on a port with a certificate for `certified`.
    pub fn router(&mut self, port: u16, certified: Ipv4Addr) -> Process {
        self.router_with(port, certified, &[])
    }

    /// Likewise, with more arguments.
    pub fn router_with(&mut self, port: u16, certified: Ipv4Addr, more: &[&str]) -> Process {
        self.start_router(port, "r", 7, certified, more)
    }

    /// Starts a router of a provider on a port, which answers at 2001:db8::PORT and to all routers.
    pub fn named_router(&mut self, port: u16, name: &str, provider: u32) -> Process {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, port).to_string();
        self.start_router(port, name, provider, host_address(port), &["--echo-address", &address])
    }

    fn start_router(&mut self, port: u16, name: &str, provider: u32, certified: Ipv4Addr, more: &[&str]) -> Process {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let (authority, credentials, id) = (path("authority"), path(name), provider.to_string());
        let issuer = path(&format!("p{provider}"));
        if !Path::new(&issuer).exists() {
            let what = ["--ca", &authority, "--id", &id, "--protocol", "41", "--name", "p", "--out", &issuer];
            succeed(&[&["ca", "provider"], &what[..]].concat());
        }
        let address = certified.to_string();
        succeed(&["ca", "router", "--issuer", &issuer, "--address", &address, "--name", name, "--out", &credentials]);
        let own = host_address(port).to_string();
        let arguments =
            ["router", "--protocol", "41", "--provider", &id, "--port", "4000", "--echo", "--address", &own];
        let mut arguments: Vec<String> = [&arguments[..], more].concat().into_iter().map(String::from).collect();
        arguments.extend(["--credentials".into(), credentials]);
        arguments.extend(self.link_arguments(port));
        let log = if name == "r" { "router".into() } else { format!("router-{name}") };
        Process::start(self.dir.path(), &log, &arguments)
    }
}
