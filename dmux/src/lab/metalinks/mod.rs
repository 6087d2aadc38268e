//! `dmux lab --metalinks`: two provisioned metalinks and legacy traffic on one access link of 100 Mb/s, as in figure 3b of
//! "Network Access in a Diversified Internet" (Wilson, Kuhns, Turner, §5.3).
//!
//! ```text
//!   two IPvN routers ──── WAN port 1 ─┐
//!   first sender, legacy ──── port 3 ─┤ dmux switch ─ port 2, 100 Mb/s ─▶ the endpoint, which counts
//!   second sender, legacy ─── port 4 ─┘
//! ```
//! The switch is a process with the gateway's program; its entries are written by the lab, as a controller would. Each flow
//! is offered more than it may have, and what arrives is counted by flow and time.

mod figure;
mod flows;
mod gateway;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use self::figure::Figure;
use self::flows::Flow;
use super::process::Process;
use super::report::Report;
use super::topology::FreePorts;

/// Bits a second of the access link.
const LINK: u64 = 100_000_000;
/// The paper's interval between two events, and that of a quick run.
const INTERVALS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(2)];
/// Intervals of a whole run.
const WINDOWS: u32 = 6;

/// Runs the experiment and draws it. `svg`: where to write the figure.
pub async fn run(report: &mut Report, dir: &Path, svg: &Path, quick: bool) -> anyhow::Result<()> {
    let mut free = FreePorts::default();
    let p4runtime = free.take()?;
    let mut ports = Vec::new();
    for _ in 0..4 {
        ports.push((free.take()?, free.take()?));
    }
    drop(free);
    let mut arguments: Vec<String> =
        ["switch", "--device-id", "1", "--cpu-port", "510", "--priority-queues", "8", "--p4runtime"]
            .map(String::from)
            .into();
    arguments.push(p4runtime.to_string());
    for (number, (switch, outside)) in (1..).zip(&ports) {
        let link = if number == gateway::ENDPOINT_PORT { format!(",egress-link={LINK}bit") } else { String::new() };
        arguments.extend(["--port".to_owned(), format!("{number}@udp:{switch}>{outside}{link}")]);
    }
    let switch = Process::start("switch", arguments, dir)?;
    let interval = INTERVALS[usize::from(quick)];
    let outcome = experiment(report, p4runtime, &ports, interval, svg).await;
    if outcome.is_err() {
        switch.tail(super::TAIL).iter().for_each(|line| eprintln!("{line}"));
    }
    outcome
}

async fn experiment(
    report: &mut Report,
    p4runtime: std::net::SocketAddr,
    ports: &[(std::net::SocketAddr, std::net::SocketAddr)],
    interval: Duration,
    svg: &Path,
) -> anyhow::Result<()> {
    let (session, _events) = gateway::configure(p4runtime).await?;
    let flows = Flow::all(interval)?;
    let links = flows::Links::open(ports)?;
    report.say(&format!("{} s with {} flows…", (interval * WINDOWS).as_secs(), flows.len()));
    let (all, counted) = (flows.clone(), interval * WINDOWS);
    let counts = tokio::task::spawn_blocking(move || flows::run(&links, &all, counted)).await??;
    let drops = gateway::out_of_profile(&session).await?;
    let figure = Figure::new(&flows, &counts, interval);
    std::fs::write(svg, figure.svg()).with_context(|| format!("writing {}", svg.display()))?;
    for flow in flows.iter().filter(|f| f.provisioned.is_some()) {
        let (lowest, highest) = figure.extremes(flow.name);
        let provisioned = flow.provisioned.unwrap_or_default() as f64 / 1e6;
        let off = figure.deviation(flow.name, provisioned) * 100.0;
        report.step(
            flow.name,
            off <= 1.0,
            vec![format!(
                "{}: {lowest:.2} to {highest:.2} Mb/s in each interval of {provisioned:.0} Mb/s provisioned, {off:.2} % off at most",
                flow.name
            )],
            serde_json::json!({ "provisioned_mbps": provisioned, "lowest_mbps": lowest, "highest_mbps": highest, "off_percent": off }),
        );
    }
    let filled = figure.filled() / (LINK as f64 / 1e6) * 100.0;
    report.step(
        "link",
        filled > 97.0,
        figure.table(),
        serde_json::json!({ "windows": figure.windows, "filled_percent": filled, "out_of_profile_frames": drops }),
    );
    report.say(&format!("figure: {}", svg.display()));
    Ok(())
}
