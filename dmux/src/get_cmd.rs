//! `dmux get …`: what a controller knows, as a table or as JSON.

mod access;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use dmux_controller::api::v1::{Coordinate, Gateway, GetRequest, Latencies, Revocation, Router, Switch, TableUse};

use crate::api_client::{ApiArgs, micros, refused, table, to_json};

/// What to show.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Resource {
    /// The gateways of the cluster.
    Gateways,
    /// The registered IPvN routers.
    Routers,
    /// Round trips between gateways: measured by their switches, or reckoned from network coordinates.
    Latencies,
    /// Network coordinates, from which distances are reckoned that nobody measures.
    Coordinates,
    /// The switches: whole or not, table use, drops per reason, what was refused.
    Switches,
    /// Keys of certificates that are revoked.
    Revocations,
    /// The metanets that endpoints of access LANs may have metalinks to, and their policies.
    Metanets,
    /// The endpoints that are attached or have metalinks, and what they use.
    Endpoints,
    /// The metalinks; wide: what of them is used, and their rates as the switch has them.
    Metalinks,
    /// The leases of metalinks, the next to end first.
    Leases,
    /// The access links: what may be promised on each, and what is.
    Capacity,
}

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// A table with more columns.
    Wide,
    /// The whole answer, for programs.
    Json,
}

/// `dmux get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// What to show.
    resource: Resource,
    #[command(flatten)]
    api: ApiArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Only what the asked controller has itself (switches, endpoints, use of metalinks: its own).
    #[arg(long)]
    local: bool,
    /// Latencies, endpoints, metalinks, leases, capacity: only those of this gateway.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    gateway: Option<u16>,
}

/// Asks and prints.
pub async fn run(args: GetArgs) -> anyhow::Result<()> {
    let mut client = args.api.connect().await?;
    let request = GetRequest { local: args.local, gateway: args.gateway.unwrap_or(0).into() };
    let (json, wide) = (args.output == Output::Json, args.output == Output::Wide);
    let text = match args.resource {
        Resource::Gateways => {
            let answer = client.get_gateways(request).await.map_err(refused)?.into_inner();
            if json { to_json(&answer.gateways)? } else { gateways(&answer.gateways, wide) }
        }
        Resource::Routers => {
            let answer = client.get_routers(request).await.map_err(refused)?.into_inner();
            if json { to_json(&answer.routers)? } else { routers(&answer.routers, wide) }
        }
        Resource::Latencies => {
            let answer = client.get_latencies(request).await.map_err(refused)?.into_inner();
            if json { to_json(&answer.latencies)? } else { latencies(&answer, wide) }
        }
        Resource::Coordinates => {
            let answer = client.get_latencies(request).await.map_err(refused)?.into_inner();
            if json { to_json(&answer.coordinates)? } else { coordinates(&answer.coordinates, wide) }
        }
        Resource::Switches => {
            let answer = client.get_switches(request).await.map_err(refused)?.into_inner();
            if json { to_json(&answer.switches)? } else { switches(&answer.switches, wide) }
        }
        Resource::Revocations => {
            let answer = args.api.registry().await?.get_revocations(request).await.map_err(refused)?.into_inner();
            if json { to_json(&answer.revocations)? } else { revocations(&answer.revocations, wide) }
        }
        Resource::Metanets => {
            let answer = args.api.access().await?.get_metanets(request).await.map_err(refused)?.into_inner();
            if json { to_json(&answer.metanets)? } else { access::metanets(&answer.metanets, wide) }
        }
        Resource::Metalinks => {
            let mut client = args.api.access().await?;
            let all = access::all_metalinks(&mut client, request.gateway).await?;
            if json {
                to_json(&all)?
            } else if wide {
                let uses = client.get_use(request).await.map_err(refused)?.into_inner();
                access::say_who_is_silent(&uses);
                access::metalinks_in_use(&all, &uses)
            } else {
                access::metalinks(&all)
            }
        }
        Resource::Leases => {
            let mut all = access::all_metalinks(&mut args.api.access().await?, request.gateway).await?;
            all.sort_by_key(|metalink| metalink.until_ms);
            if json { to_json(&all)? } else { access::leases(&all, wide) }
        }
        Resource::Endpoints => {
            let uses = args.api.access().await?.get_use(request).await.map_err(refused)?.into_inner();
            access::say_who_is_silent(&uses);
            if json { to_json(&uses.endpoints)? } else { access::endpoints(&uses.endpoints, wide) }
        }
        Resource::Capacity => {
            let answer = args.api.access().await?.get_capacity(request).await.map_err(refused)?.into_inner();
            access::say_what_is_in_no_site(&answer.links);
            if json { to_json(&answer.links)? } else { access::capacity(&answer.links, wide) }
        }
    };
    println!("{text}");
    Ok(())
}

/// A table, some columns of which are there only if it is wide.
struct Columns {
    table: Table,
    narrow: usize,
    wide: bool,
}

impl Columns {
    fn new(header: &[&str], more: &[&str], wide: bool) -> Self {
        let shown: Vec<_> = header.iter().chain(more.iter().filter(|_| wide)).copied().collect();
        Self { table: table(&shown), narrow: header.len(), wide }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = if self.wide { usize::MAX } else { self.narrow };
        self.table.add_row(cells.into_iter().take(shown));
    }

    fn text(self) -> String {
        self.table.to_string()
    }
}

fn age(at_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    format!("{} s", now.saturating_sub(at_ms) / 1000)
}

fn gateways(list: &[Gateway], wide: bool) -> String {
    let header = ["ID", "NAME", "ADDRESS", "ROLE", "RTT", "REACHABLE"];
    let mut t = Columns::new(&header, &["NODE", "EPOCH", "API"], wide);
    for g in list {
        t.row([
            g.id.to_string(),
            g.name.clone(),
            g.address.clone(),
            g.role.clone(),
            g.rtt_us.map_or_else(|| "-".into(), micros),
            if g.reachable { "yes" } else { "no" }.into(),
            g.node.to_string(),
            g.epoch.to_string(),
            g.api.clone(),
        ]);
    }
    t.text()
}

fn routers(list: &[Router], wide: bool) -> String {
    let header = ["PROTOCOL", "PROVIDER", "ROUTER", "NAME", "GATEWAY", "WEIGHT", "STATE", "AGE", "PACKETS"];
    let mut t = Columns::new(&header, &["BYTES", "INDEX", "REGISTERED", "DRAINING", "PENALTY", "REUSED"], wide);
    let count = |n: Option<u64>| n.map_or_else(|| "-".into(), |n| n.to_string());
    for r in list {
        t.row([
            r.protocol.to_string(),
            r.provider.to_string(),
            r.address.clone(),
            r.name.clone(),
            r.gateway.to_string(),
            r.weight.to_string(),
            // Nobody should have to ask for more columns to learn how long.
            r.reuse_at_ms.map_or_else(|| r.state.clone(), |at| format!("{}, back {}", r.state, in_time(at))),
            if r.registered_at_ms == 0 { "-".into() } else { age(r.registered_at_ms) },
            count(r.packets),
            count(r.bytes),
            r.index.to_string(),
            format!("{} ms", r.registered_at_ms),
            r.draining_since_ms.map_or_else(|| "-".into(), |since| format!("for {}", age(since))),
            r.penalty.to_string(),
            r.reuse_at_ms.map_or_else(|| "-".into(), in_time),
        ]);
    }
    t.text()
}

fn revocations(list: &[Revocation], wide: bool) -> String {
    let mut t = Columns::new(&["FINGERPRINT", "AGE", "NOTE"], &["REVOKED"], wide);
    for r in list {
        t.row([r.fingerprint.clone(), age(r.revoked_at_ms), r.note.clone(), format!("{} ms", r.revoked_at_ms)]);
    }
    t.text()
}

/// In how long from now.
pub fn in_time(at_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    format!("in {} s", at_ms.saturating_sub(now).div_ceil(1000))
}

fn latencies(all: &Latencies, wide: bool) -> String {
    let or = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let mut t = Columns::new(&["FROM", "TO", "RTT", "KNOWN", "LOSS", "AGE"], &["RECKONED", "ERROR", "MEASURED"], wide);
    for l in &all.latencies {
        let measured = (l.measured_at_ms > 0).then_some(l.measured_at_ms);
        t.row([
            l.from.to_string(),
            l.to.to_string(),
            micros(l.rtt_us),
            l.source.clone(),
            or(measured.map(|_| percent(l.loss_permille))),
            or(measured.map(age)),
            or(l.reckoned_us.map(micros)),
            or(l.error_permille.map(percent)),
            or(measured.map(|at| format!("{at} ms"))),
        ]);
    }
    let mut text = t.text();
    if all.left_out > 0 {
        text += &format!("\nand {} more: ask for one gateway's with --gateway", all.left_out);
    }
    if wide && !all.coordinates.is_empty() {
        text += &format!("\n\n{}", coordinates(&all.coordinates, wide));
    }
    text
}

fn percent(permille: u32) -> String {
    format!("{:.1} %", f64::from(permille) / 10.0)
}

fn coordinates(list: &[Coordinate], wide: bool) -> String {
    let mut t = Columns::new(&["GATEWAY", "POSITION/µs", "HEIGHT", "ERROR"], &["TRUSTED"], wide);
    for c in list {
        let position: Vec<_> = c.position_us.iter().map(i32::to_string).collect();
        t.row([
            c.gateway.to_string(),
            position.join(", "),
            micros(c.height_us),
            percent(c.error_permille),
            if c.trusted { "yes" } else { "no" }.into(),
        ]);
    }
    t.text()
}

fn switches(list: &[Switch], wide: bool) -> String {
    let header = ["GATEWAY", "SWITCH", "STATE", "ENTRIES", "REFUSED", "RESYNCS", "LAST RESYNC", "FULLEST", "DROPS"];
    let more = ["EPOCH", "APPLIED", "PACKET-INS", "PACKET-OUTS", "ATTACHED", "ENDPOINTS", "TABLES"];
    let mut t = Columns::new(&header, &more, wide);
    let usage = |u: &TableUse| format!("{} {}/{}", u.table, u.entries, u.size);
    for s in list {
        let fuller = |a: &&TableUse, b: &&TableUse| (a.entries * b.size).cmp(&(b.entries * a.size));
        let fullest = s.tables.iter().filter(|u| u.size > 0).max_by(fuller).map_or_else(|| "-".into(), usage);
        let drops = s.drops.iter().map(|d| format!("{} {}", d.reason, d.packets)).collect::<Vec<_>>().join(", ");
        let told = s.endpoints.iter().map(|e| format!("{} {}", e.what, e.count)).collect::<Vec<_>>().join(", ");
        t.row([
            s.gateway.to_string(),
            if s.endpoint.is_empty() { "-".into() } else { format!("{} #{}", s.endpoint, s.device_id) },
            if s.detail.is_empty() { s.state.clone() } else { format!("{}: {}", s.state, s.detail) },
            s.planned.to_string(),
            s.refused.to_string(),
            s.resyncs.to_string(),
            format!("{:.1} ms", s.resync_us as f64 / 1000.0),
            fullest,
            if drops.is_empty() { "none".into() } else { drops },
            s.epoch.to_string(),
            s.applied.to_string(),
            s.packet_ins.to_string(),
            s.packet_outs.to_string(),
            s.attached.to_string(),
            if told.is_empty() { "-".into() } else { told },
            s.tables.iter().filter(|u| u.entries > 0).map(usage).collect::<Vec<_>>().join(", "),
        ]);
    }
    t.text()
}

#[cfg(test)]
mod tests {
    use dmux_controller::api::v1::Latency;

    use super::*;

    #[test]
    fn a_wide_table_is_the_narrow_one_with_more_to_the_right() {
        let router = Router {
            protocol: 41,
            address: "203.0.113.1:4000".into(),
            packets: Some(12),
            bytes: Some(3456),
            index: 77,
            ..Router::default()
        };
        let [narrow, wide] = [false, true].map(|wide| routers(std::slice::from_ref(&router), wide));
        assert!(narrow.contains("PACKETS") && narrow.contains("203.0.113.1:4000"), "{narrow}");
        assert!(!narrow.contains("BYTES") && !narrow.contains("3456"), "{narrow}");
        assert!(wide.contains("BYTES") && wide.contains("3456") && wide.contains("77"), "{wide}");
        for (narrow, wide) in narrow.lines().zip(wide.lines()) {
            assert!(wide.starts_with(narrow.trim_end()), "{narrow}\n{wide}");
        }
    }

    #[test]
    fn distances_say_how_they_are_known_and_a_wide_table_from_what_they_are_reckoned() {
        let measured = Latency { from: 1, to: 2, rtt_us: 11_500, source: "measured".into(), ..Latency::default() };
        let reckoned = Latency {
            from: 2,
            to: 3,
            rtt_us: 12_000,
            source: "reckoned".into(),
            reckoned_us: Some(12_000),
            error_permille: Some(123),
            ..Latency::default()
        };
        let coordinate = Coordinate {
            gateway: 3,
            position_us: vec![-20_000, 5],
            height_us: 1_000,
            error_permille: 9,
            trusted: true,
        };
        let all = Latencies { latencies: vec![measured, reckoned], coordinates: vec![coordinate], left_out: 4 };
        let line = |text: &str, word: &str| text.lines().find(|l| l.contains(word)).unwrap_or_default().to_owned();
        let [narrow, wide] = [false, true].map(|wide| latencies(&all, wide));
        assert!(line(&narrow, "reckoned").contains("12.0 ms") && narrow.contains("and 4 more"), "{narrow}");
        assert!(!narrow.contains("12.3 %") && !narrow.contains("-20000"), "{narrow}");
        assert!(line(&wide, "reckoned").contains("12.3 %"), "{wide}");
        assert!(line(&wide, "-20000").contains("-20000, 5") && line(&wide, "-20000").contains("0.9 %"), "{wide}");
    }

    #[test]
    fn a_wide_table_of_switches_names_all_tables_in_use() {
        let table = |table: &str, entries, size| TableUse { table: table.into(), entries, size };
        let switch = Switch {
            tables: vec![table("router", 3, 10), table("bucket", 0, 5), table("demux", 1, 9)],
            ..Switch::default()
        };
        let wide = switches(&[switch], true);
        assert!(wide.contains("router 3/10, demux 1/9") && !wide.contains("bucket"), "{wide}");
    }
}
