//! Metanets, endpoints, metalinks and access links as tables.

use std::collections::BTreeMap;

use dmux_controller::api::v1::access_client::AccessClient;
use dmux_controller::api::v1::{
    AccessLink, DirectionUse, EndpointUse, ListMetalinksRequest, Metalink, MetalinkUse, Metanet, Uses,
};
use tonic::transport::Channel;

use super::{Columns, age, in_time};
use crate::access_cmd::shown;
use crate::api_client::refused;
use crate::rate::Rate;

/// All pages.
pub async fn all_metalinks(client: &mut AccessClient<Channel>, gateway: u32) -> anyhow::Result<Vec<Metalink>> {
    let mut all = Vec::new();
    let mut request = ListMetalinksRequest { gateway, ..ListMetalinksRequest::default() };
    loop {
        let page = client.list_metalinks(request).await.map_err(refused)?.into_inner();
        all.extend(page.metalinks);
        if page.next.is_none() {
            return Ok(all);
        }
        request.after = page.next;
    }
}

pub fn metanets(list: &[Metanet], wide: bool) -> String {
    let mut t =
        Columns::new(&["METANET", "NAME", "ADMITS", "METALINKS", "PROMISED"], &["SHARED-MLI", "ALLOW", "DENY"], wide);
    let macs = |list: &[String]| if list.is_empty() { "-".into() } else { list.join(", ") };
    for m in list {
        t.row([
            m.id.as_ref().map_or_else(String::new, shown),
            m.name.clone(),
            m.admit_up_to.map_or_else(|| "by operator".into(), |rate| format!("up to {}", Rate(rate))),
            m.metalinks.to_string(),
            Rate(m.promised).to_string(),
            if m.shared_mli == 0 { "-".into() } else { format!("{:#x}", m.shared_mli) },
            macs(&m.allow),
            macs(&m.deny),
        ]);
    }
    t.text()
}

const METALINK: [&str; 9] = ["GATEWAY", "MLI", "LINK", "PORT", "ENDPOINT", "METANET", "RATE", "LEASE", "ENDS"];

fn metalink(m: &Metalink) -> [String; 9] {
    let id = m.id.unwrap_or_default();
    [
        id.gateway.to_string(),
        id.mli.to_string(),
        m.link.clone(),
        m.port.to_string(),
        m.mac.clone(),
        m.metanet.as_ref().map_or_else(String::new, shown),
        Rate(m.rate).to_string(),
        if m.yields { format!("{}, yields", m.lease) } else { m.lease.clone() },
        in_time(m.until_ms),
    ]
}

pub fn metalinks(list: &[Metalink]) -> String {
    let mut t = Columns::new(&METALINK, &[], false);
    for m in list {
        t.row(metalink(m));
    }
    t.text()
}

/// With what the switches have: their rates, and by how much these differ from what is promised; bytes; frames beyond the promise.
pub fn metalinks_in_use(list: &[Metalink], uses: &Uses) -> String {
    let more = ["PROGRAMMED", "OFF-BY", "SENT", "RECEIVED", "OUT-OF-PROFILE", "VIOLATIONS", "CELL", "AGE", "REQUEST"];
    let by_id = |u: &'_ MetalinkUse| u.id.map(|id| (id.gateway, id.mli));
    let uses: BTreeMap<_, _> = uses.metalinks.iter().filter_map(|u| Some((by_id(u)?, u))).collect();
    let mut t = Columns::new(&METALINK, &more, true);
    for m in list {
        let found = m.id.and_then(|id| uses.get(&(id.gateway, id.mli)));
        let (rx, tx) = found.map_or((None, None), |u| (u.rx, u.tx));
        let of = |direction: Option<DirectionUse>, what: fn(DirectionUse) -> String| direction.map_or("?".into(), what);
        let programmed = match (rx, tx) {
            (Some(rx), Some(tx)) if rx.rate == tx.rate => Rate(rx.rate).to_string(),
            (None, None) => "not in the switch".into(),
            _ => format!(
                "{} from it, {} to it",
                of(rx, |d| Rate(d.rate).to_string()),
                of(tx, |d| Rate(d.rate).to_string())
            ),
        };
        let red = |direction: Option<DirectionUse>| of(direction, |d| d.out_of_profile.to_string());
        t.row(metalink(m).into_iter().chain([
            programmed,
            off_by(m.rate, [rx, tx]),
            of(rx, |d| format!("{} B", d.bytes)),
            of(tx, |d| format!("{} B", d.bytes)),
            format!("{} from it, {} to it", red(rx), red(tx)),
            found.map_or("?".into(), |u| u.violations.to_string()),
            m.cell.to_string(),
            age(m.granted_at_ms),
            m.request.to_string(),
        ]));
    }
    t.text()
}

/// By how much the rates that are programmed differ from the one that is promised, at most, bit/s.
fn off_by(promised: u64, directions: [Option<DirectionUse>; 2]) -> String {
    let off = directions.into_iter().flatten().map(|d| i128::from(d.rate) - i128::from(promised));
    match off.max_by_key(|off| off.abs()) {
        Some(0) => "-".into(),
        Some(off) => format!("{off:+} bit/s"),
        None => "?".into(),
    }
}

/// The next to end first.
pub fn leases(list: &[Metalink], wide: bool) -> String {
    let header = ["ENDS", "GATEWAY", "MLI", "ENDPOINT", "METANET", "LEASE", "RATE", "RENEWABLE"];
    let mut t = Columns::new(&header, &["LINK", "PORT", "AGE", "REQUEST"], wide);
    for m in list {
        let [gateway, mli, link, port, endpoint, metanet, rate, _, ends] = metalink(m);
        let renewable = if m.yields { "no: it yields to a long-term claim" } else { "yes" };
        let (age, request) = (age(m.granted_at_ms), m.request.to_string());
        let lease = m.lease.clone();
        t.row([ends, gateway, mli, endpoint, metanet, lease, rate, renewable.into(), link, port, age, request]);
    }
    t.text()
}

pub fn endpoints(list: &[EndpointUse], wide: bool) -> String {
    let header = ["GATEWAY", "LINK", "PORT", "ENDPOINT", "ATTACHED", "METALINKS", "PROMISED", "VIOLATIONS"];
    let mut t = Columns::new(&header, &["SENT", "RECEIVED", "OUT-OF-PROFILE"], wide);
    for e in list {
        t.row([
            e.gateway.to_string(),
            if e.link.is_empty() { "-".into() } else { e.link.clone() },
            e.port.to_string(),
            e.mac.clone(),
            if e.attached { "yes" } else { "by its metalinks" }.into(),
            e.metalinks.to_string(),
            Rate(e.promised).to_string(),
            e.violations.to_string(),
            format!("{} B", e.rx_bytes),
            format!("{} B", e.tx_bytes),
            e.out_of_profile.to_string(),
        ]);
    }
    t.text()
}

/// What is missing in an answer belongs beside it.
pub fn say_who_is_silent(uses: &Uses) {
    uses.silent.iter().for_each(|why| eprintln!("{why}"));
}

/// What is promised where there is nothing to promise.
pub fn say_what_is_in_no_site(links: &[AccessLink]) {
    for link in links.iter().filter(|link| link.in_site == "no") {
        let id = link.id.clone().unwrap_or_default();
        eprintln!(
            "gateway {}: its site configuration has no access link {:?}; claims on it are given back",
            id.gateway, id.name
        );
    }
}

pub fn capacity(list: &[AccessLink], wide: bool) -> String {
    let header = ["GATEWAY", "LINK", "CAPACITY", "LONG-TERM", "SHORT-TERM", "FREE", "METALINKS"];
    let more =
        ["ENDPOINT-MAXIMUM", "YIELDING", "WAITING", "SHORT-LEASE", "LONG-LEASE", "CERTIFICATES", "OUT-OF-PROFILE"];
    let mut t = Columns::new(&header, &more, wide);
    for l in list {
        let id = l.id.clone().unwrap_or_default();
        let free = l.capacity.saturating_sub(l.long_promised).saturating_sub(l.short_promised);
        let rates = [l.capacity, l.long_promised, l.short_promised, free].map(|rate| Rate(rate).to_string());
        let [capacity, long, short, free] = rates;
        t.row([
            id.gateway.to_string(),
            id.name,
            capacity,
            long,
            short,
            free,
            l.metalinks.to_string(),
            Rate(l.endpoint_maximum).to_string(),
            Rate(l.yielding).to_string(),
            Rate(l.waiting).to_string(),
            format!("{} s", l.short_lease_ms / 1000),
            format!("{} s", l.long_lease_ms / 1000),
            if l.authenticate { "asked for".into() } else { "-".into() },
            l.out_of_profile.clone(),
        ]);
    }
    t.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_in_the_switch_is_shown_with_its_difference() {
        let id = Some(dmux_controller::api::v1::MetalinkName { gateway: 1, mli: 7 });
        let promised = Metalink { id, rate: 15_000_001, ..Metalink::default() };
        let direction = |rate| Some(DirectionUse { packets: 3, bytes: 300, out_of_profile: 1, rate });
        let used = MetalinkUse { id, rx: direction(15_000_008), tx: direction(15_000_008), violations: 2 };
        let uses = |used| Uses { metalinks: vec![used], ..Uses::default() };
        let text = metalinks_in_use(std::slice::from_ref(&promised), &uses(used));
        for word in ["15000001 bit/s", "15000008 bit/s", "+7 bit/s", "300 B", "1 from it, 1 to it"] {
            assert!(text.contains(word), "{text}");
        }
        let text = metalinks_in_use(&[promised], &Uses::default());
        assert!(text.contains("not in the switch"), "{text}");
    }
}
