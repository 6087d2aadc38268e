//! A lab client: real IPv6 packets in shim packets, from as many IPv4 addresses as it has, over one link.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use dmux_host::client::{ClientConfig, ClientEvent, ClientLink};
use dmux_host::link::LinkSpec;
use dmux_wire::ipv6::{self, Echo, udp_packet};
use dmux_wire::{DMUX_PORT, Ipv6, ProviderId, Udp};
use tokio::sync::oneshot;

use super::topology::{Host, PROTOCOL, Role, SERVICE, Topology};

/// "All routers on this link" (RFC 4291 §2.7.1): whichever IPvN router gets the packet answers, in its own name.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The UDP port that a lab client sends tunnelled packets from.
const CLIENT_PORT: u16 = 5555;
/// The UDP echo service (RFC 862), inside the tunnel.
const ECHO_PORT: u16 = 7;
/// The service address and port.
const SERVICE_SOCKET: SocketAddrV4 = SocketAddrV4::new(SERVICE, DMUX_PORT);

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Who answered.
    pub router: Ipv6Addr,
    /// How long it took.
    pub rtt: Duration,
}

/// What pairs an answer with its request: the client address and the echo's sequence number or UDP port.
type RequestId = (Ipv4Addr, u16);
/// Who waits for which answer.
type Waiting = Arc<Mutex<HashMap<RequestId, oneshot::Sender<(Ipv6Addr, Instant)>>>>;

/// A client with one or more IPv4 addresses.
#[derive(Debug, Clone)]
pub struct Client {
    link: Arc<ClientLink>,
    addresses: Vec<Ipv4Addr>,
    waiting: Waiting,
    serial: Arc<AtomicU16>,
}

impl Client {
    /// Attaches to the lab. Must be called within a tokio runtime.
    pub fn attach(topology: &Topology, host: &Host) -> anyhow::Result<Self> {
        let Role::Client(count) = host.role else { anyhow::bail!("{} is no client", host.name) };
        let link = ClientLink::open(&ClientConfig {
            link: LinkSpec { local: host.local, remote: host.remote },
            mac: host.mac(),
            gateway_mac: topology.gateway(host.gateway).mac(),
            address: host.address,
            addresses: count,
            service: SERVICE_SOCKET,
        })
        .with_context(|| format!("attaching {}", host.name))?;
        let link = Arc::new(link);
        let addresses = (0..count).map(|n| link.address(n)).collect();
        let waiting = Waiting::default();
        tokio::spawn(receive(link.clone(), waiting.clone()));
        Ok(Self { link, addresses, waiting, serial: Arc::default() })
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    /// ICMPv6 echo from one of its addresses to the closest IPvN router of a provider. `None`: no answer in time.
    pub async fn ping(&self, from: Ipv4Addr, provider: ProviderId, within: Duration) -> anyhow::Result<Option<Answer>> {
        let sequence = self.serial.fetch_add(1, Ordering::Relaxed);
        let echo = Echo { reply: false, identifier: 41, sequence, data: b"dmux lab" };
        let packet = echo.packet(ipv6_of(from), ALL_ROUTERS)?;
        self.ask((from, sequence), provider, &packet, within).await
    }

    /// A UDP datagram to the router's own address, which echoes it.
    pub async fn udp_echo(&self, from: Ipv4Addr, to: Ipv6Addr, within: Duration) -> anyhow::Result<Option<Answer>> {
        // Ports of the dynamic range: the answer comes back to the one that asked.
        let port = 0xc000 | self.serial.fetch_add(1, Ordering::Relaxed);
        let udp = Udp { src_port: port, dst_port: ECHO_PORT };
        let packet = udp_packet(ipv6_of(from), to, udp, b"dmux lab")?;
        self.ask((from, port), ProviderId::ANY, &packet, within).await
    }

    async fn ask(
        &self,
        id: RequestId,
        provider: ProviderId,
        packet: &[u8],
        within: Duration,
    ) -> anyhow::Result<Option<Answer>> {
        let (answered, answer) = oneshot::channel();
        lock(&self.waiting).insert(id, answered);
        let sent = Instant::now();
        self.link.send(SocketAddrV4::new(id.0, CLIENT_PORT), PROTOCOL, provider, packet).await?;
        let answer = tokio::time::timeout(within, answer).await;
        lock(&self.waiting).remove(&id);
        Ok(answer.ok().and_then(Result::ok).map(|(router, at)| Answer { router, rtt: at.duration_since(sent) }))
    }
}

/// The IPv6 address of a lab client: its IPv4 address inside 2001:db8:c::/96.
pub fn ipv6_of(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

async fn receive(link: Arc<ClientLink>, waiting: Waiting) {
    loop {
        let event = match link.receive().await {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "a lab client hears nothing any more");
                return;
            }
        };
        let at = Instant::now();
        if let ClientEvent::Delivered { to, from, packet, .. } = event
            && let Some((id, router)) = understand(to, from, &packet)
            && let Some(waiter) = lock(&waiting).remove(&id)
        {
            // Whoever asked may have given up.
            let _ = waiter.send((router, at));
        }
    }
}

/// Which request a delivered packet answers, and who answered. Everything is checked as a host would.
fn understand(to: SocketAddrV4, from: SocketAddrV4, packet: &[u8]) -> Option<(RequestId, Ipv6Addr)> {
    let client = *to.ip();
    let (header, payload) = Ipv6::parse(packet).ok()?;
    if from != SERVICE_SOCKET || to.port() != CLIENT_PORT || header.dst != ipv6_of(client) {
        return None;
    }
    let id = match header.next_header {
        ipv6::ICMPV6 => {
            let echo = Echo::parse(payload, header.src, header.dst).ok()?;
            echo.reply.then_some(echo.sequence)?
        }
        ipv6::UDP => Udp::parse_v6(payload, header.src, header.dst).ok()?.0.dst_port,
        _ => return None,
    };
    Some(((client, id), header.src))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
