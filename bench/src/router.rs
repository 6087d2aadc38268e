//! The second program that is measured: a plain IPv4 router (`softswitch/tests/programs/router.p4`).
//!
//! ```text
//!   198.18.0.1 ── port 1 ── router: longest prefix ─▶ next hop ── port 2 ── 10.0.0.0/8, one prefix a flow
//! ```

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use dmux_p4rt::P4Info;
use dmux_p4rt::bytestring::encode;
use dmux_p4rt::p4::v1::field_match::{Exact, FieldMatchType, Lpm};
use dmux_p4rt::p4::v1::table_action::Type as ActionType;
use dmux_p4rt::p4::v1::{Action, FieldMatch, TableAction, TableEntry, action};
use dmux_wire::{Ethernet, Ipv4, MacAddr, ethernet, ipv4};

use crate::gateway::{Exchange, PORTS};

/// Routes that the router is measured with.
pub const ROUTES: u32 = 10_000;
/// Next hops; the routes share them.
const NEXTHOPS: u32 = 256;
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x10]);
const SENDER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x20]);
const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Below this number every route has a prefix of its own.
const MOST_ROUTES: u32 = 1 << 18;

/// The prefix of a route, and its length: mostly /24, as in a table of the Internet, with shorter and longer ones between.
/// None lies within another one.
fn prefix(route: u32) -> (u32, i32) {
    match route % 16 {
        0 => (10 << 24 | route << 4, 28),
        1 => (11 << 24 | route << 6, 26),
        2 | 3 => (128 << 24 | route << 10, 22),
        // An odd factor: neighbours are not neighbours in memory.
        _ => ((16 << 24) + ((route.wrapping_mul(0x9e37_79b1) & 0x3f_ffff) << 8), 24),
    }
}

/// The routes, all different, and their next hops.
pub fn entries(info: &P4Info, routes: u32) -> Result<Vec<TableEntry>> {
    let mut all = Vec::new();
    for hop in 0..NEXTHOPS {
        let args = [("port", u128::from(PORTS[1])), ("dmac", number(hop_mac(hop))), ("smac", number(ROUTER_MAC))];
        let key = FieldMatchType::Exact(Exact { value: encode(u128::from(hop)) });
        all.push(entry(info, "nexthop", key, "forward", &args)?);
    }
    ensure!(routes <= MOST_ROUTES, "{routes} routes would not all be different");
    for route in 0..routes {
        let (value, prefix_len) = prefix(route);
        let key = FieldMatchType::Lpm(Lpm { value: encode(u128::from(value)), prefix_len });
        all.push(entry(info, "ipv4_lpm", key, "set_nexthop", &[("nexthop", u128::from(route % NEXTHOPS))])?);
    }
    Ok(all)
}

fn hop_mac(hop: u32) -> MacAddr {
    let [_, _, high, low] = hop.to_be_bytes();
    MacAddr([2, 0, 0, 1, high, low])
}

fn number(mac: MacAddr) -> u128 {
    mac.0.iter().fold(0, |n, b| n << 8 | u128::from(*b))
}

/// An entry by the last parts of the names of table and action.
fn entry(info: &P4Info, table: &str, key: FieldMatchType, act: &str, args: &[(&str, u128)]) -> Result<TableEntry> {
    let last = |name: &str, wanted: &str| name.rsplit('.').next() == Some(wanted);
    let table = info.tables().iter().find(|t| last(&t.name, table)).with_context(|| format!("no table {table}"))?;
    let found = info.actions().iter().find(|a| last(&a.name, act)).with_context(|| format!("no action {act}"))?;
    let params = args.iter().map(|(name, value)| {
        let param = found.params.iter().find(|p| p.name == *name).with_context(|| format!("no parameter {name}"))?;
        Ok(action::Param { param_id: param.id, value: encode(*value) })
    });
    let action = Action { action_id: found.id, params: params.collect::<Result<_>>()? };
    let field_id = table.fields.first().context("a table without a key")?.id;
    Ok(TableEntry {
        table_id: table.id,
        r#match: vec![FieldMatch { field_id, field_match_type: Some(key) }],
        action: Some(TableAction { r#type: Some(ActionType::Action(action)) }),
        ..TableEntry::default()
    })
}

/// A frame of `bytes` bytes to a host of the flow's route, and what must come out.
pub fn exchange(routes: u32, flow: u32, bytes: usize) -> Result<Exchange> {
    // A prime stride, as in `gateway`.
    let route = flow.wrapping_mul(7919) % routes;
    let (network, _) = prefix(route);
    let to = Ipv4Addr::from(network | 1);
    let payload_len = bytes.checked_sub(14 + ipv4::IPV4_LEN).context("no room for the headers")?;
    let payload: Vec<u8> = (0u8..=255).cycle().take(payload_len).collect();
    let frame = |src, dst, ttl| -> Result<Vec<u8>> {
        let mut out = Vec::new();
        Ethernet { dst, src, vlan: None, ether_type: ethernet::IPV4 }.emit(&mut out);
        Ipv4 { ttl, ..Ipv4::new(SOURCE, to, 253) }.emit(payload.len(), &mut out)?;
        out.extend_from_slice(&payload);
        Ok(out)
    };
    let sent = frame(SENDER_MAC, ROUTER_MAC, ipv4::DEFAULT_TTL)?;
    let expected = frame(ROUTER_MAC, hop_mac(route % NEXTHOPS), ipv4::DEFAULT_TTL - 1)?;
    Ok(Exchange { sent, expected: Some(expected) })
}
