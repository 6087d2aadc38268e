//! One constructor for each kind of entry that a plan has: the vocabulary between the planner and the tables.

use std::net::{Ipv4Addr, SocketAddrV4};

use dmux_tables::{
    AccessLinkIndex, AccessPortAction, AccessPortKey, AccessVlanAction, AccessVlanKey, BucketAction, BucketKey,
    DemuxAction, DemuxKey, DiscoveryPortAction, DiscoveryPortKey, EndpointAction, EndpointIndex, EndpointKey,
    Ipv4RouteAction, Ipv4RouteKey, LanForwardAction, LanForwardKey, LanSourceAction, LanSourceKey, LocalServiceAction,
    LocalServiceKey, MetalinkRxAction, MetalinkRxKey, MetalinkTxAction, MetalinkTxKey, Mli, MulticastGroup,
    NexthopAction, NexthopIndex, NexthopKey, OutOfProfile, PortId, PortRole, PortRoleAction, PortRoleKey, Prefix,
    Priority, ProbePeerAction, ProbePeerKey, PuntAction, PuntKey, ReturnSourceAction, ReturnSourceKey, RouterAction,
    RouterKey, ServiceSourceAction, ServiceSourceKey, SharedMliAction, SharedMliKey, SourceGuardAction, SourceGuardKey,
    Ternary, VlanId,
};
use dmux_wire::{DMUX_PORT, GatewayId, MacAddr, ProbeType, PuntReason, ServiceIndex, ShimKind};

use super::metalinks::Place;
use super::next_hops::Target;
use super::{Entry, Key};
use crate::model::{Destination, Ipv4Prefix, Metalink, RegistrationKey, RouterIndex, SetId};
use crate::selection::Side;
use crate::stations::Station;

const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_ARP: u16 = 0x0806;
const IP_PROTOCOL_UDP: u8 = 17;
/// Punt entries never match the same packet, so one priority is enough.
const PUNT_PRIORITY: Priority = Priority::of::<10>();

/// `None` for a number that is no port; `SiteConfig::check` refuses those.
pub(super) fn port_role(port: u16, role: PortRole, mac: MacAddr) -> Option<Entry> {
    Some((PortRoleKey { port: PortId::new(port)? }, PortRoleAction::SetRole { role, mac }).into())
}

/// A port of an access link, whose gateway metaframes get as their origin.
pub(super) fn access_port(port: PortId, link: AccessLinkIndex, gateway: GatewayId, gateway_addr: Ipv4Addr) -> Entry {
    let flood_group = flood_group(link);
    (AccessPortKey { port }, AccessPortAction::SetAccessLink { link, flood_group, gateway, gateway_addr }).into()
}

/// What a port of an access link may ask for by substrate discovery, which the entry's meter says.
pub(super) fn discovery_port(port: PortId) -> Entry {
    (DiscoveryPortKey { port }, DiscoveryPortAction::Discover).into()
}

/// The multicast group of an access link: all its ports.
pub(super) fn flood_group(link: AccessLinkIndex) -> MulticastGroup {
    MulticastGroup(link.0)
}

pub(super) fn access_vlan(link: AccessLinkIndex, vid: VlanId, action: AccessVlanAction) -> Entry {
    (AccessVlanKey { link, vid }, action).into()
}

/// An MLI of the multipoint VLAN.
pub(super) fn shared_mli(link: AccessLinkIndex, mli: Mli) -> Entry {
    (SharedMliKey { link, mli }, SharedMliAction::Shared).into()
}

/// Where a station sends from, and where frames to it go.
pub(super) fn station(station: &Station, port: PortId) -> [Entry; 2] {
    let &Station { link, vid, mac } = station;
    [
        (LanSourceKey { port, vid, src: mac }, LanSourceAction::KnownSource).into(),
        (LanForwardKey { link, vid, dst: mac }, LanForwardAction::ToPort { port }).into(),
    ]
}

/// Whose MLIs count of what an endpoint sends.
pub(super) fn endpoint(port: PortId, mac: MacAddr, endpoint: EndpointIndex) -> Entry {
    (EndpointKey { port, src: mac }, EndpointAction::SetEndpoint { endpoint }).into()
}

pub(super) fn endpoint_key(port: PortId, mac: MacAddr) -> Key {
    EndpointKey { port, src: mac }.into()
}

/// The control MLI of an endpoint.
pub(super) fn metalink_control(endpoint: EndpointIndex, cell: u32) -> Entry {
    (MetalinkRxKey { endpoint, mli: Mli::CONTROL }, MetalinkRxAction::MetalinkControl { cell }).into()
}

/// A metalink in both directions; `None` for a number that no MLI has.
pub(super) fn metalink(
    metalink: &Metalink,
    endpoint: EndpointIndex,
    place: &Place,
    police: OutOfProfile,
) -> Option<[Entry; 2]> {
    let (mli, cell) = (Mli::new(metalink.mli.0)?, u32::from(metalink.cell.0));
    let Destination { protocol, provider } = metalink.metanet;
    let tx = MetalinkTxAction::SendMetalink {
        port: place.port,
        src_mac: place.mac,
        dst_mac: metalink.endpoint.mac,
        vid: place.vid,
        pcp: place.pcp,
        queue: place.queue,
        mtu: place.mtu,
        cell,
    };
    Some([
        (MetalinkRxKey { endpoint, mli }, MetalinkRxAction::Metalink { protocol, provider, cell, police }).into(),
        (MetalinkTxKey { gateway: metalink.link.gateway, mli, protocol }, tx).into(),
    ])
}

pub(super) fn deny_source(prefix: Ipv4Prefix) -> Entry {
    (SourceGuardKey { src: lpm(prefix) }, SourceGuardAction::Deny).into()
}

pub(super) fn punt_arp() -> Entry {
    let key = PuntKey { ether_type: Ternary::exact(ETHER_TYPE_ARP), ..punt_nothing() };
    (key, PuntAction::Punt { reason: PuntReason::Arp }).into()
}

pub(super) fn punt_control(dst: Ipv4Addr) -> Entry {
    let key = PuntKey { shim_kind: Ternary::exact(ShimKind::Control as u8), ..punt_dmux(dst) };
    (key, PuntAction::Punt { reason: PuntReason::Control }).into()
}

pub(super) fn punt_probe_reply(dst: Ipv4Addr) -> Entry {
    let key = PuntKey {
        shim_kind: Ternary::exact(ShimKind::Probe as u8),
        probe_type: Ternary::exact(ProbeType::Reply as u8),
        ..punt_dmux(dst)
    };
    (key, PuntAction::Punt { reason: PuntReason::ProbeReply }).into()
}

/// Any frame: to be narrowed.
fn punt_nothing() -> PuntKey {
    PuntKey {
        priority: PUNT_PRIORITY,
        ether_type: Ternary::<u16>::ANY,
        dst: Ternary::<Ipv4Addr>::ANY,
        protocol: Ternary::<u8>::ANY,
        dst_port: Ternary::<u16>::ANY,
        shim_kind: Ternary::<u8>::ANY,
        probe_type: Ternary::<u8>::ANY,
    }
}

/// Anything of dmux to an address.
fn punt_dmux(dst: Ipv4Addr) -> PuntKey {
    PuntKey {
        ether_type: Ternary::exact(ETHER_TYPE_IPV4),
        dst: Ternary::exact(dst),
        protocol: Ternary::exact(IP_PROTOCOL_UDP),
        dst_port: Ternary::exact(DMUX_PORT),
        ..punt_nothing()
    }
}

pub(super) fn shim_service(dst: Ipv4Addr, service_index: ServiceIndex, gateway_addr: Ipv4Addr) -> Entry {
    (local_service(dst), LocalServiceAction::ShimService { service_index, gateway_addr }).into()
}

pub(super) fn gateway_service(dst: Ipv4Addr) -> Entry {
    (local_service(dst), LocalServiceAction::GatewayService).into()
}

fn local_service(dst: Ipv4Addr) -> LocalServiceKey {
    LocalServiceKey { dst, protocol: IP_PROTOCOL_UDP, dst_port: DMUX_PORT }
}

pub(super) fn service_source(service_index: ServiceIndex, src: Ipv4Addr) -> Entry {
    let action = ServiceSourceAction::SetServiceSource { src, src_port: DMUX_PORT };
    (ServiceSourceKey { service_index }, action).into()
}

pub(super) fn probe_peer(src: Ipv4Addr) -> Entry {
    (ProbePeerKey { src }, ProbePeerAction::KnownPeer).into()
}

pub(super) fn demux_key(destination: Destination) -> Key {
    demux(destination).into()
}

pub(super) fn demux_router(destination: Destination, router: RouterIndex) -> Entry {
    (demux(destination), DemuxAction::ToRouter { router: index(router) }).into()
}

pub(super) fn demux_set(destination: Destination, set: dmux_tables::SetId, buckets: usize) -> Entry {
    // A set has at most `MAX_BUCKETS_PER_SET` buckets.
    let mask = u16::try_from(buckets.saturating_sub(1)).unwrap_or(u16::MAX);
    (demux(destination), DemuxAction::ToSet { set, mask }).into()
}

/// A destination has two sets in the switch: the one that is served and the one that comes next.
pub(super) fn set(set: SetId, side: Side) -> dmux_tables::SetId {
    dmux_tables::SetId(2 * set.0 + side.number() as u32)
}

/// What [`set`] was given.
pub(super) fn set_and_side(set: dmux_tables::SetId) -> (SetId, Side) {
    (SetId(set.0 / 2), if set.0.is_multiple_of(2) { Side::A } else { Side::B })
}

fn demux(Destination { protocol, provider }: Destination) -> DemuxKey {
    DemuxKey { protocol, provider }
}

pub(super) fn bucket_key(set: dmux_tables::SetId, bucket: u16) -> Key {
    BucketKey { set, bucket }.into()
}

pub(super) fn bucket(set: dmux_tables::SetId, bucket: u16, router: RouterIndex) -> Entry {
    (BucketKey { set, bucket }, BucketAction::ToRouter { router: index(router) }).into()
}

/// A bucket that a draining router leaves to another.
pub(super) fn draining(set: dmux_tables::SetId, bucket: u16, leaving: Leaving, router: RouterIndex) -> Entry {
    let action = BucketAction::ToDraining {
        leaving: index(leaving.router),
        router: index(router),
        idle: leaving.idle,
        learning: u8::from(leaving.learning),
    };
    (BucketKey { set, bucket }, action).into()
}

/// A router that leaves a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) router: RouterIndex,
    /// Silence after which a client is none of its any more, in ticks of 2^20 µs.
    pub(super) idle: u32,
    /// Everybody still counts as a client of its.
    pub(super) learning: bool,
}

/// A time in ms as ticks of 2^20 µs, rounded up.
pub(super) fn ticks(ms: u32) -> u32 {
    let us = u64::from(ms) * 1_000;
    u32::try_from(us.div_ceil(1 << 20)).unwrap_or(u32::MAX)
}

pub(super) fn router_key(router: RouterIndex) -> Key {
    RouterKey { router: index(router) }.into()
}

pub(super) fn router(router: RouterIndex, to: SocketAddrV4) -> Entry {
    let action = RouterAction::Tunnel { dst: *to.ip(), dst_port: to.port() };
    (RouterKey { router: index(router) }, action).into()
}

pub(super) fn return_source_key(key: &RegistrationKey) -> Key {
    returner(key).into()
}

pub(super) fn return_source(key: &RegistrationKey) -> Entry {
    (returner(key), ReturnSourceAction::AcceptReturn).into()
}

fn returner(key: &RegistrationKey) -> ReturnSourceKey {
    ReturnSourceKey { src: *key.router.ip(), src_port: key.router.port(), protocol: key.protocol }
}

pub(super) fn route(prefix: Ipv4Prefix, target: Target) -> Entry {
    let action = match target {
        Target::One(cell) => Ipv4RouteAction::Via { nexthop: NexthopIndex(cell) },
        Target::Group { first, mask } => Ipv4RouteAction::ViaGroup { first: NexthopIndex(first), mask },
    };
    (Ipv4RouteKey { dst: lpm(prefix) }, action).into()
}

pub(super) fn drop_local(prefix: Ipv4Prefix) -> Entry {
    (Ipv4RouteKey { dst: lpm(prefix) }, Ipv4RouteAction::DropLocal).into()
}

/// `None` for a number that is no port; `SiteConfig::check` refuses those.
pub(super) fn next_hop(cell: u16, port: u16, src_mac: MacAddr, dst_mac: MacAddr, mtu: u16) -> Option<Entry> {
    let action = NexthopAction::SetNexthop { port: PortId::new(port)?, src_mac, dst_mac, mtu };
    Some((NexthopKey { nexthop: NexthopIndex(cell) }, action).into())
}

fn index(router: RouterIndex) -> dmux_tables::RouterIndex {
    dmux_tables::RouterIndex(router.0)
}

fn lpm(prefix: Ipv4Prefix) -> Prefix<Ipv4Addr> {
    // A prefix of ours is never longer than 32 bits, so the alternative is never taken.
    Prefix::new(prefix.address(), prefix.length()).unwrap_or(Prefix::host(prefix.address()))
}
