//! Frames and entries for `bmv2-configs/gateway.json`.

use super::{checksum, dataplane, insert};
use dmux_softswitch::pipeline::{Dataplane, MatchValue};

pub const GATEWAY_MAC: u64 = 0x02_00_00_00_00_01;
pub const NEXT_MAC: u64 = 0x02_00_00_00_00_99;
pub const CLIENT: u32 = 0x0a00_0001;
pub const SERVICE: u32 = 0xc633_6401;
pub const GATEWAY: u32 = 0xc000_0201;
pub const ROUTER: u32 = 0xcb00_7164;
pub const DMUX_PORT: u16 = 51700;

pub fn json() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../bmv2-configs/gateway.json");
    std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// An IPv4/UDP frame with right checksums.
pub fn udp_frame(macs: (u64, u64), ips: (u32, u32), ports: (u16, u16), ttl: u8, data: &[u8]) -> Vec<u8> {
    let mut f = Vec::new();
    f.extend_from_slice(&macs.0.to_be_bytes()[2..]);
    f.extend_from_slice(&macs.1.to_be_bytes()[2..]);
    f.extend_from_slice(&[8, 0]);
    let udp_len = 8 + data.len() as u16;
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&(20 + udp_len).to_be_bytes());
    ip.extend_from_slice(&[0x12, 0x34, 0x40, 0, ttl, 17, 0, 0]);
    ip.extend_from_slice(&ips.0.to_be_bytes());
    ip.extend_from_slice(&ips.1.to_be_bytes());
    let c = checksum(&ip);
    ip[10..12].copy_from_slice(&c.to_be_bytes());
    let mut udp = Vec::new();
    udp.extend_from_slice(&ports.0.to_be_bytes());
    udp.extend_from_slice(&ports.1.to_be_bytes());
    udp.extend_from_slice(&udp_len.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(data);
    let c = match udp_checksum(ips, &udp) {
        0 => 0xffff,
        c => c,
    };
    udp[6..8].copy_from_slice(&c.to_be_bytes());
    f.extend(ip);
    f.extend(udp);
    f
}

/// The UDP checksum of a segment whose checksum field is 0 (or is right: then the result is 0).
pub fn udp_checksum(ips: (u32, u32), udp: &[u8]) -> u16 {
    let mut pseudo = Vec::new();
    pseudo.extend_from_slice(&ips.0.to_be_bytes());
    pseudo.extend_from_slice(&ips.1.to_be_bytes());
    pseudo.extend_from_slice(&[0, 17]);
    pseudo.extend_from_slice(&(udp.len() as u16).to_be_bytes());
    pseudo.extend_from_slice(udp);
    checksum(&pseudo)
}

/// A data shim and an IPvN packet of `len` bytes.
pub fn shim(kind: u8, protocol: u16, provider: u32, len: usize) -> Vec<u8> {
    let mut d = vec![0x10 | kind, 0];
    d.extend_from_slice(&protocol.to_be_bytes());
    d.extend_from_slice(&provider.to_be_bytes());
    d.extend((0..len).map(|i| i as u8));
    d
}

/// A client's packet for `protocol` and `provider`.
pub fn client_frame(protocol: u16, provider: u32, len: usize) -> Vec<u8> {
    udp_frame((GATEWAY_MAC, 0x0a), (CLIENT, SERVICE), (5555, DMUX_PORT), 64, &shim(0, protocol, provider, len))
}

/// The provider that leads to the router `n` (from 0).
pub fn provider(n: u32) -> u32 {
    2 + n
}

/// A gateway with `routers` routers of protocol 41; each is reached by a provider of its own.
pub fn gateway(routers: u32) -> Dataplane {
    let dp = dataplane(&json());
    fill(&dp, routers);
    dp
}

/// The entries of such a gateway.
pub fn fill(dp: &Dataplane, routers: u32) {
    let exact = |v: u64| MatchValue::Exact(u128::from(v));
    insert(dp, "port_role", &[exact(1)], 0, "set_role", &[1, u128::from(GATEWAY_MAC)]);
    insert(dp, "port_role", &[exact(510)], 0, "set_role", &[2, 0]);
    insert(
        dp,
        "source_guard",
        &[MatchValue::Lpm { value: u128::from(SERVICE & !0xff), prefix_len: 24 }],
        0,
        "deny",
        &[],
    );
    insert(
        dp,
        "local_service",
        &[exact(SERVICE.into()), exact(17), exact(DMUX_PORT.into())],
        0,
        "shim_service",
        &[7, GATEWAY.into()],
    );
    insert(
        dp,
        "local_service",
        &[exact(GATEWAY.into()), exact(17), exact(DMUX_PORT.into())],
        0,
        "gateway_service",
        &[],
    );
    for n in 0..routers {
        insert(dp, "demux", &[exact(41), exact(provider(n).into())], 0, "to_router", &[n.into()]);
        insert(dp, "router", &[exact(n.into())], 0, "tunnel", &[u128::from(ROUTER + n), 4000]);
    }
    insert(dp, "ipv4_route", &[MatchValue::Lpm { value: 0, prefix_len: 0 }], 0, "via", &[1]);
    insert(dp, "nexthop", &[exact(1)], 0, "set_nexthop", &[2, u128::from(GATEWAY_MAC), u128::from(NEXT_MAC), 1500]);
}
