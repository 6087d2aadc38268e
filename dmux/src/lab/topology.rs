//! The lab's network as data: who is attached where, with which addresses, over which delay.
//!
//! ```text
//!   c1 ─┐                5 ms                ┌─ c2 (32 client addresses)
//!   r1 ─┤ gateway 1 ─────────────── gateway 2 ├─ r2
//!       └────┬──────                ──────┬──└─ r3
//!            │ 20 ms               12 ms  │
//!            └─────────── gateway 3 ──────┘
//!                             └─ r4 (registers later)
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context;
use dmux_wire::{MacAddr, ProtocolId, ProviderId};

/// IPv6 in its own right: IP protocol number 41 names it, and so does the lab.
pub const PROTOCOL: ProtocolId = ProtocolId(41);
/// The two providers.
pub const PROVIDERS: [ProviderId; 2] = [ProviderId(7), ProviderId(8)];
/// The dmux-prefix and what is in it (DESIGN §11).
pub const PREFIX: &str = "198.51.100.0/24";
/// Where clients tunnel to.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Its index in origin headers.
pub const SERVICE_INDEX: u16 = 1;
/// Where routers register.
pub const REGISTRATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Client addresses behind `c2`.
pub const MANY: usize = 32;
/// MTU of every link, as IPv4 length.
pub const MTU: u16 = 1500;

/// One-way delays between gateways: (a, b, delay).
pub const LINKS: [(u16, u16, Duration); 3] =
    [(1, 2, Duration::from_millis(5)), (1, 3, Duration::from_millis(20)), (2, 3, Duration::from_millis(12))];

/// A gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// 1, 2, 3.
    pub id: u16,
    /// For people.
    pub name: &'static str,
    /// Its controller's addresses and its switch's P4Runtime address.
    pub raft: SocketAddr,
    /// Operator API.
    pub api: SocketAddr,
    /// P4Runtime.
    pub p4runtime: SocketAddr,
}

impl Gateway {
    /// Unicast address.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.id as u8)
    }

    /// MAC address of all its ports.
    pub fn mac(&self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, self.id as u8])
    }
}

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends from these many consecutive addresses.
    Client(usize),
    /// Registers with this provider's credentials and answers at this IPv6 address.
    Router(ProviderId, Ipv6Addr),
}

/// A client or a router, on a port of its own at a gateway.
#[derive(Debug, Clone)]
pub struct Host {
    /// `c1`, `r1`, …
    pub name: &'static str,
    /// Which gateway.
    pub gateway: u16,
    /// Which port of the switch there.
    pub port: u16,
    /// (First) IPv4 address.
    pub address: Ipv4Addr,
    /// Client or router.
    pub role: Role,
    /// Its end of the link.
    pub local: SocketAddr,
    /// The switch's end of the link.
    pub remote: SocketAddr,
}

impl Host {
    /// Its MAC address, from its IPv4 address.
    pub fn mac(&self) -> MacAddr {
        let [_, _, c, d] = self.address.octets();
        MacAddr([2, 0, 0, 1, c, d])
    }

    /// The prefix that its gateway routes to it.
    pub fn prefix(&self) -> String {
        match self.role {
            Role::Client(n) if n > 1 => format!("{}/{}", self.address, 32 - n.ilog2()),
            _ => format!("{}/32", self.address),
        }
    }
}

/// A link between two gateways; port numbers are 10 + the other's id.
#[derive(Debug, Clone)]
pub struct Link {
    /// One end: gateway id and socket.
    pub a: (u16, SocketAddr),
    /// The other.
    pub b: (u16, SocketAddr),
    /// One way.
    pub delay: Duration,
}

/// The whole lab.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Three of them.
    pub gateways: Vec<Gateway>,
    /// Clients and routers.
    pub hosts: Vec<Host>,
    /// Between gateways.
    pub links: Vec<Link>,
}

impl Topology {
    /// The lab, on loopback ports that are free now.
    pub fn new() -> anyhow::Result<Self> {
        let mut free = FreePorts::default();
        let mut gateways = Vec::new();
        for (id, name) in [(1, "berlin"), (2, "paris"), (3, "oslo")] {
            gateways.push(Gateway { id, name, raft: free.take()?, api: free.take()?, p4runtime: free.take()? });
        }
        let v6 = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
        let router = |n: u16, provider: usize| Role::Router(PROVIDERS[provider], v6(n));
        let mut hosts = Vec::new();
        for (name, gateway, port, last, role) in [
            ("r1", 1, 1, 11, router(0x11, 0)),
            ("c1", 1, 2, 12, Role::Client(1)),
            ("r2", 2, 1, 71, router(0x21, 1)),
            ("r3", 2, 2, 72, router(0x22, 0)),
            ("c2", 2, 3, 96, Role::Client(MANY)),
            ("r4", 3, 1, 201, router(0x31, 1)),
        ] {
            let address = Ipv4Addr::new(203, 0, 113, last);
            hosts.push(Host { name, gateway, port, address, role, local: free.take()?, remote: free.take()? });
        }
        let mut links = Vec::new();
        for (a, b, delay) in LINKS {
            links.push(Link { a: (a, free.take()?), b: (b, free.take()?), delay });
        }
        Ok(Self { gateways, hosts, links })
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|h| h.name == name).unwrap_or_else(|| panic!("the lab has no host {name}"))
    }

    /// The gateway of that id.
    pub fn gateway(&self, id: u16) -> &Gateway {
        self.gateways.iter().find(|g| g.id == id).unwrap_or_else(|| panic!("the lab has no gateway {id}"))
    }

    /// `--port` arguments of a gateway's switch. With `pcap`, each link is written once, by its first end.
    pub fn ports(&self, gateway: u16, pcap: Option<&std::path::Path>) -> Vec<String> {
        let capture = |name: String| pcap.map_or_else(String::new, |d| format!(",pcap={}", d.join(name).display()));
        let mut ports = Vec::new();
        for h in self.hosts.iter().filter(|h| h.gateway == gateway) {
            let file = capture(format!("{}-{}.pcap", self.gateway(gateway).name, h.name));
            ports.push(format!("{}@udp:{}>{}{file}", h.port, h.remote, h.local));
        }
        for l in &self.links {
            let delay = format!("delay={}us", l.delay.as_micros());
            if l.a.0 == gateway {
                let file = capture(format!("{}-{}.pcap", self.gateway(l.a.0).name, self.gateway(l.b.0).name));
                ports.push(format!("{}@udp:{}>{},{delay}{file}", 10 + l.b.0, l.a.1, l.b.1));
            } else if l.b.0 == gateway {
                ports.push(format!("{}@udp:{}>{},{delay}", 10 + l.a.0, l.b.1, l.a.1));
            }
        }
        ports
    }
}

/// Hands out loopback addresses whose UDP and TCP ports are free, each once: the sockets are held until all are
/// chosen.
#[derive(Default)]
pub struct FreePorts {
    held: Vec<(UdpSocket, std::net::TcpListener)>,
}

impl FreePorts {
    pub fn take(&mut self) -> anyhow::Result<SocketAddr> {
        const TRIES: usize = 32;
        for _ in 0..TRIES {
            let udp = UdpSocket::bind("127.0.0.1:0").context("no free UDP port on 127.0.0.1")?;
            let address = udp.local_addr()?;
            if let Ok(tcp) = std::net::TcpListener::bind(address) {
                self.held.push((udp, tcp));
                return Ok(address);
            }
        }
        anyhow::bail!("no port of 127.0.0.1 is free for both UDP and TCP after {TRIES} tries")
    }
}
