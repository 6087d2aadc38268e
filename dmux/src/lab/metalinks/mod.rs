//! `dmux lab --metalinks`: two provisioned metalinks and legacy traffic on one access link of 100 Mb/s, as in figure 3b of
//! "Network Access in a Diversified Internet" (Wilson, Kuhns, Turner, §5.3).
//!
//! ```text
//!   IPvN router, metanet 41 ─ port 1 ─┐
//!   IPvN router, metanet 42 ─ port 5 ─┤ dmux switch ─ port 2, 100 Mb/s ─▶ the endpoint
//!   first sender, legacy ──── port 3 ─┤      │
//!   second sender, legacy ─── port 4 ─┘ dmux controller
//! ```
//! All are processes: the routers register, the endpoint discovers, attaches and connects, the controller writes the switch.
//! The lab is the cables between them, where it puts more packets in than may pass, and counts what arrives by flow and time.

mod cable;
mod figure;
mod flows;
mod site;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use self::figure::Figure;
use self::flows::Flow;
use self::site::Site;
use super::report::Report;

/// Bits a second of the access link.
const LINK: u64 = 100_000_000;
/// The paper's interval between two events, and that of a quick run.
const INTERVALS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(2)];
/// Intervals of a whole run.
const WINDOWS: u32 = 6;

/// Runs the experiment and draws it. `svg`: where to write the figure.
pub async fn run(report: &mut Report, dir: &Path, svg: &Path, quick: bool) -> anyhow::Result<()> {
    let mut site = Site::start(dir, LINK)?;
    let interval = INTERVALS[usize::from(quick)];
    let outcome = experiment(report, &mut site, interval, svg).await;
    if outcome.is_err() {
        site.tails(super::TAIL).iter().for_each(|line| eprintln!("{line}"));
    }
    outcome
}

async fn experiment(report: &mut Report, site: &mut Site, interval: Duration, svg: &Path) -> anyhow::Result<()> {
    site.ready(LINK).await?;
    let mlis = site.connect().await?;
    let flows = Flow::all(interval, &mlis)?;
    report.say(&format!("{} s with {} flows…", (interval * WINDOWS).as_secs(), flows.len()));
    let counts = tokio::task::block_in_place(|| flows::run(site, &flows, interval * WINDOWS))?;
    let drops = site.out_of_profile().await?;
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
