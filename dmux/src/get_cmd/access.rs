//! Metanets, metalinks and access links as tables.

use dmux_controller::api::v1::access_client::AccessClient;
use dmux_controller::api::v1::{AccessLink, ListMetalinksRequest, Metalink, Metanet};
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

pub fn metalinks(list: &[Metalink], wide: bool) -> String {
    let header = ["GATEWAY", "MLI", "LINK", "PORT", "ENDPOINT", "METANET", "RATE", "LEASE", "ENDS"];
    let mut t = Columns::new(&header, &["CELL", "AGE", "REQUEST"], wide);
    for m in list {
        let id = m.id.unwrap_or_default();
        t.row([
            id.gateway.to_string(),
            id.mli.to_string(),
            m.link.clone(),
            m.port.to_string(),
            m.mac.clone(),
            m.metanet.as_ref().map_or_else(String::new, shown),
            Rate(m.rate).to_string(),
            if m.yields { format!("{}, yields", m.lease) } else { m.lease.clone() },
            in_time(m.until_ms),
            m.cell.to_string(),
            age(m.granted_at_ms),
            m.request.to_string(),
        ]);
    }
    t.text()
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
