//! The gateway that is measured: its program, its entries, the frames it gets and the frames it must make of them.
//!
//! ```text
//!   client 198.18.x.y ── port 1 ── gateway 192.0.2.1, service 198.51.100.1 ── port 2 ── routers 203.0.113.z:port
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use anyhow::{Context, Result};
use dmux_p4rt::P4Info;
use dmux_p4rt::p4::v1::TableEntry;
use dmux_tables::{
    AnyEntry, BucketAction, BucketKey, DemuxAction, DemuxKey, Ipv4RouteAction, Ipv4RouteKey, LocalServiceAction,
    LocalServiceKey, NexthopAction, NexthopIndex, NexthopKey, PortId, PortRole, PortRoleAction, PortRoleKey, Prefix,
    Priority, PuntAction, PuntKey, ReturnSourceAction, ReturnSourceKey, RouterAction, RouterIndex, RouterKey,
    ServiceSourceAction, ServiceSourceKey, SetId, SourceGuardAction, SourceGuardKey, Ternary,
};
use dmux_wire::frame::Datagram;
use dmux_wire::{
    DMUX_PORT, Ethernet, Ipv4, MacAddr, Origin, ProbeType, ProtocolId, ProviderId, PuntReason, ServiceIndex, Shim,
    ShimKind, Udp, ethernet, ipv4, udp,
};

/// Routers, and registrations, that the forward path is measured with.
pub const ROUTERS: u32 = 10_000;
/// Port of the clients, and port of the routers.
pub const PORTS: [u16; 2] = [1, 2];
/// The port of packet-in and packet-out.
pub const CPU_PORT: u16 = 510;

const PROTOCOL: ProtocolId = ProtocolId(41);
const SERVICE_INDEX: ServiceIndex = ServiceIndex(7);
const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const REGISTRATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const DMUX_PREFIX: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x10]);
const NEIGHBOUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x20]);
/// The set that ANY leads to.
const SET: SetId = SetId(1);
const MTU: u16 = 1500;
/// Registered routers share this many addresses and differ by port: more would not fit the documentation range.
const ROUTER_ADDRESSES: u32 = 250;
const FIRST_ROUTER_PORT: u16 = 4000;
/// Routers' providers count up from here (1 is ANY).
const FIRST_PROVIDER: u32 = 1000;

/// A compiled program with its description.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The BMv2 JSON.
    pub json: Vec<u8>,
    /// The P4Info.
    pub info: P4Info,
}

impl Pipeline {
    /// Reads `prefix.json` and `prefix.p4info.txtpb`.
    pub fn load(prefix: &Path) -> Result<Self> {
        let file = |extension: &str| {
            let mut name = prefix.as_os_str().to_owned();
            name.push(extension);
            std::path::PathBuf::from(name)
        };
        let missing =
            |path: &Path| format!("{} cannot be read; --pipeline names the files without ending", path.display());
        let (json, info) = (file(".json"), file(".p4info.txtpb"));
        let text = std::fs::read_to_string(&info).with_context(|| missing(&info))?;
        let info = P4Info::from_text(&text).with_context(|| format!("{} is no P4Info", info.display()))?;
        Ok(Self { json: std::fs::read(&json).with_context(|| missing(&json))?, info })
    }
}

/// Where a router listens, and returns from.
pub fn router_address(router: u32) -> SocketAddrV4 {
    let host = u8::try_from(1 + router % ROUTER_ADDRESSES).unwrap_or(u8::MAX);
    let port = FIRST_ROUTER_PORT + u16::try_from(router / ROUTER_ADDRESSES).unwrap_or(u16::MAX - FIRST_ROUTER_PORT);
    SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, host), port)
}

/// An entry of the table `router`: what the section "table writes" writes.
pub fn router_entry(router: u32) -> AnyEntry {
    let to = router_address(router % ROUTERS);
    let action = RouterAction::Tunnel { dst: *to.ip(), dst_port: to.port() };
    AnyEntry::from((RouterKey { router: RouterIndex(router) }, action))
}

/// All entries of the gateway, as its controller would install them, what is referred to first.
pub fn entries() -> Result<Vec<TableEntry>> {
    let mut all: Vec<AnyEntry> = Vec::new();
    network(&mut all)?;
    services(&mut all);
    registrations(&mut all);
    all.sort_by_key(AnyEntry::stage);
    Ok(all.iter().map(AnyEntry::encode).collect())
}

/// Ports, next hops, routes, and who may not be a source.
fn network(all: &mut Vec<AnyEntry>) -> Result<()> {
    let prefix = |address, len| Prefix::new(address, len).with_context(|| format!("{address}/{len} is no prefix"));
    for port in PORTS {
        let at = PortId::new(port).context("no such port")?;
        let nexthop = NexthopKey { nexthop: NexthopIndex(port) };
        let hop = NexthopAction::SetNexthop { port: at, src_mac: GATEWAY_MAC, dst_mac: NEIGHBOUR_MAC, mtu: MTU };
        all.push((nexthop, hop).into());
        all.push((PortRoleKey { port: at }, PortRoleAction::SetRole { role: PortRole::Wan, mac: GATEWAY_MAC }).into());
    }
    let cpu = PortRoleKey { port: PortId::of::<CPU_PORT>() };
    all.push((cpu, PortRoleAction::SetRole { role: PortRole::Cpu, mac: MacAddr::ZERO }).into());

    let route = |address, len, action| {
        Ok::<AnyEntry, anyhow::Error>((Ipv4RouteKey { dst: prefix(address, len)? }, action).into())
    };
    let [clients, routers] = PORTS.map(|port| Ipv4RouteAction::Via { nexthop: NexthopIndex(port) });
    all.push(route(Ipv4Addr::new(198, 18, 0, 0), 15, clients)?);
    all.push(route(Ipv4Addr::new(203, 0, 113, 0), 24, routers)?);
    all.push(route(DMUX_PREFIX, 24, Ipv4RouteAction::DropLocal)?);
    all.push(route(GATEWAY, 32, Ipv4RouteAction::DropLocal)?);

    // Ourselves, and RFC 6890's addresses that are nobody's on a wide-area network.
    let spoofed = [
        (DMUX_PREFIX, 24),
        (GATEWAY, 32),
        (Ipv4Addr::UNSPECIFIED, 8),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(224, 0, 0, 0), 4),
        (Ipv4Addr::new(240, 0, 0, 0), 4),
    ];
    for (address, len) in spoofed {
        all.push((SourceGuardKey { src: prefix(address, len)? }, SourceGuardAction::Deny).into());
    }
    Ok(())
}

/// What is addressed to the gateway, and what of it goes to the controller.
fn services(all: &mut Vec<AnyEntry>) {
    let any = PuntKey {
        priority: Priority::of::<10>(),
        ether_type: Ternary::<u16>::ANY,
        dst: Ternary::<Ipv4Addr>::ANY,
        protocol: Ternary::<u8>::ANY,
        dst_port: Ternary::<u16>::ANY,
        shim_kind: Ternary::<u8>::ANY,
        probe_type: Ternary::<u8>::ANY,
    };
    let mut punt = |key: PuntKey, reason| all.push((key, PuntAction::Punt { reason }).into());
    punt(PuntKey { ether_type: Ternary::exact(ethernet::ARP), ..any }, PuntReason::Arp);
    for address in [REGISTRATION, SERVICE, GATEWAY] {
        let shim_kind = Ternary::exact(ShimKind::Control as u8);
        punt(PuntKey { dst: Ternary::exact(address), shim_kind, ..any }, PuntReason::Control);
    }
    let shim_kind = Ternary::exact(ShimKind::Probe as u8);
    let probe_type = Ternary::exact(ProbeType::Reply as u8);
    punt(PuntKey { dst: Ternary::exact(GATEWAY), shim_kind, probe_type, ..any }, PuntReason::ProbeReply);

    let service = |dst| LocalServiceKey { dst, protocol: ipv4::UDP, dst_port: DMUX_PORT };
    let shim = LocalServiceAction::ShimService { service_index: SERVICE_INDEX, gateway_addr: GATEWAY };
    all.push((service(SERVICE), shim).into());
    all.push((service(GATEWAY), LocalServiceAction::GatewayService).into());
    let source = ServiceSourceAction::SetServiceSource { src: SERVICE, src_port: DMUX_PORT };
    all.push((ServiceSourceKey { service_index: SERVICE_INDEX }, source).into());
}

/// Each router of a provider of its own, and a set of some of them for any provider.
fn registrations(all: &mut Vec<AnyEntry>) {
    let demux = |provider| DemuxKey { protocol: PROTOCOL, provider };
    all.push((demux(ProviderId::ANY), DemuxAction::ToSet { set: SET, mask: 255 }).into());
    for bucket in 0..256 {
        let router = RouterIndex(u32::from(bucket) * (ROUTERS / 256));
        all.push((BucketKey { set: SET, bucket }, BucketAction::ToRouter { router }).into());
    }
    for router in 0..ROUTERS {
        all.push(router_entry(router));
        let action = DemuxAction::ToRouter { router: RouterIndex(router) };
        all.push((demux(ProviderId(FIRST_PROVIDER + router)), action).into());
        let at = router_address(router);
        let key = ReturnSourceKey { src: *at.ip(), src_port: at.port(), protocol: PROTOCOL };
        all.push((key, ReturnSourceAction::AcceptReturn).into());
    }
}

/// A way through the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Client to the router of a provider that it names.
    Named,
    /// Client to a router of any provider: set and bucket.
    Any,
    /// Router to client.
    Return,
    /// Neither: routed.
    Transit,
}

impl Way {
    /// The port that its frames come in at.
    pub fn ingress(self) -> u16 {
        if self == Self::Return { PORTS[1] } else { PORTS[0] }
    }
}

/// A frame for the gateway, and what it must make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What is sent.
    pub sent: Vec<u8>,
    /// What must come out; `None` where the router is the hash's choice.
    pub expected: Option<Vec<u8>>,
}

/// A frame of `bytes` bytes (without frame check sequence) of flow `flow`; flows use the routers evenly.
pub fn exchange(way: Way, flow: u32, bytes: usize) -> Result<Exchange> {
    // A prime stride: neighbouring flows are not neighbours in any table.
    let router = flow.wrapping_mul(7919) % ROUTERS;
    let [_, _, high, low] = flow.to_be_bytes();
    let client = SocketAddrV4::new(Ipv4Addr::new(198, 18, high, low), 5555);
    let service = SocketAddrV4::new(SERVICE, DMUX_PORT);
    let gateway = SocketAddrV4::new(GATEWAY, DMUX_PORT);
    let provider = if way == Way::Any { ProviderId::ANY } else { ProviderId(FIRST_PROVIDER + router) };
    let origin = Origin::Client { address: *client.ip(), port: client.port(), service: SERVICE_INDEX };
    let shim = |kind, origin, payload| Datagram { shim: Shim::new(kind, PROTOCOL, provider), origin, payload }.to_vec();

    let headers = ethernet_len() + ipv4::IPV4_LEN + udp::UDP_LEN;
    let inside = match way {
        Way::Named | Way::Any => dmux_wire::SHIM_LEN,
        Way::Return => dmux_wire::SHIM_LEN + dmux_wire::ORIGIN_LEN,
        Way::Transit => 0,
    };
    let payload_len =
        bytes.checked_sub(headers + inside).with_context(|| format!("no room for {way:?} in {bytes} bytes"))?;
    let payload: Vec<u8> = (0u8..=255).cycle().take(payload_len).collect();
    let to_router = router_address(router);
    let (from, to, sent, and_then) = match way {
        Way::Named | Way::Any => {
            let forward = shim(ShimKind::Forward, Some(origin), &payload);
            let expected = (way == Way::Named).then_some((gateway, to_router, forward));
            (client, service, shim(ShimKind::Data, None, &payload), expected)
        }
        Way::Return => {
            let deliver = shim(ShimKind::Deliver, None, &payload);
            (to_router, gateway, shim(ShimKind::Return, Some(origin), &payload), Some((service, client, deliver)))
        }
        Way::Transit => {
            let to = SocketAddrV4::new(*to_router.ip(), 9);
            (client, to, payload.clone(), Some((client, to, payload)))
        }
    };
    let sent = frame(NEIGHBOUR_MAC, GATEWAY_MAC, ipv4::DEFAULT_TTL, from, to, &sent)?;
    let expected = match and_then {
        Some((from, to, payload)) => {
            Some(frame(GATEWAY_MAC, NEIGHBOUR_MAC, ipv4::DEFAULT_TTL - 1, from, to, &payload)?)
        }
        None => None,
    };
    Ok(Exchange { sent, expected })
}

const fn ethernet_len() -> usize {
    14
}

fn frame(src: MacAddr, dst: MacAddr, ttl: u8, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    Ethernet { dst, src, vlan: None, ether_type: ethernet::IPV4 }.emit(&mut out);
    let header = Ipv4 { ttl, ..Ipv4::new(*from.ip(), *to.ip(), ipv4::UDP) };
    header.emit(udp::UDP_LEN + payload.len(), &mut out)?;
    Udp { src_port: from.port(), dst_port: to.port() }.emit_v4(*from.ip(), *to.ip(), payload, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn entries_differ_and_what_is_referred_to_comes_first() {
        let entries = entries().unwrap();
        assert!(entries.len() > 30_000);
        let keys: HashSet<_> =
            entries.iter().map(|e| format!("{} {:?} {}", e.table_id, e.r#match, e.priority)).collect();
        assert_eq!(keys.len(), entries.len());
        assert!(entries.is_sorted_by_key(|e| dmux_tables::write_order(e.table_id)));
    }

    #[test]
    fn frames_have_the_size_that_is_asked_for() {
        for way in [Way::Named, Way::Any, Way::Return, Way::Transit] {
            for bytes in [64, 128, 1400] {
                let exchange = exchange(way, 300, bytes).unwrap();
                assert_eq!(exchange.sent.len(), bytes);
                let growth: isize = match way {
                    Way::Named | Way::Any => 8,
                    Way::Return => -8,
                    Way::Transit => 0,
                };
                let expected = exchange.expected.map(|e| e.len());
                assert_eq!(expected, (way != Way::Any).then_some(bytes.strict_add_signed(growth)), "{way:?}");
            }
        }
        assert!(exchange(Way::Return, 0, 50).is_err());
    }

    #[test]
    fn routers_have_addresses_of_their_own() {
        let all: HashSet<_> = (0..ROUTERS).map(router_address).collect();
        assert_eq!(all.len(), ROUTERS as usize);
    }
}
