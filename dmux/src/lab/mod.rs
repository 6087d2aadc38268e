//! `dmux lab`: the whole system on one machine, in one go: three gateways with a switch and a controller each, IPvN
//! routers and clients, as processes and links of this machine, without root.

mod client;
mod explained;
mod metalinks;
mod operator;
mod process;
mod report;
mod setup;
mod steps;
mod topology;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use report::Report;
use setup::Lab;
use topology::Topology;

/// A lab that takes longer than this is stuck.
const LIMIT: Duration = Duration::from_secs(120);
/// Lines of each process's output that a failure shows.
const TAIL: usize = 12;

/// `dmux lab`
#[derive(Debug, Args)]
pub struct LabArgs {
    /// Print one JSON document instead of lines for people.
    #[arg(long)]
    json: bool,
    /// Write what crosses each link to pcap files in this folder.
    #[arg(long, value_name = "DIR")]
    pcap: Option<PathBuf>,
    /// Keep everything up afterwards, for `dmux get … --api …`, until Ctrl-C.
    #[arg(long)]
    hold: bool,
    /// Instead: two provisioned metalinks and legacy traffic on one access link of 100 Mb/s, drawn (a minute).
    #[arg(long, conflicts_with_all = ["pcap", "hold"])]
    metalinks: bool,
    /// With --metalinks: a fifth of the time.
    #[arg(long, requires = "metalinks")]
    quick: bool,
    /// With --metalinks: where the drawing goes.
    #[arg(long, value_name = "FILE", requires = "metalinks", default_value = "metalinks.svg")]
    svg: PathBuf,
    /// Work in this new or empty folder and leave it (certificates, configurations, logs) instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Runs the lab. An error if any step did not hold.
pub async fn run(args: LabArgs) -> anyhow::Result<()> {
    let temporary = tempfile::Builder::new().prefix("dmux-lab-").tempdir().context("a folder for the lab")?;
    let dir = match &args.keep {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("--keep {}", dir.display()))?;
            let empty = std::fs::read_dir(dir).with_context(|| format!("--keep {}", dir.display()))?.next().is_none();
            anyhow::ensure!(empty, "--keep {}: the folder is not empty; give a new one", dir.display());
            std::fs::canonicalize(dir)?
        }
        None => temporary.path().to_owned(),
    };
    let mut report = Report::new(args.json);
    if args.metalinks {
        metalinks::run(&mut report, &dir, &args.svg, args.quick).await?;
        if args.json {
            println!("{}", report.json()?);
        }
        let (held, all) = report.tally();
        anyhow::ensure!(report.ok(), "{} of {all} figures are off", all - held);
        return Ok(());
    }
    let mut lab = Lab::prepare(Topology::new()?, &dir, args.pcap.clone())?;

    let interrupted = crate::signals::terminated()?;
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(LIMIT, steps::all(&mut lab, &mut report)) => {
            outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("the lab did not finish within {} s", LIMIT.as_secs())))
        }
        () = interrupted => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = &outcome {
        report.step("error", false, vec![format!("{error:#}")], serde_json::json!({ "error": format!("{error:#}") }));
    }
    let (held, all) = report.tally();
    report.say("");
    report.say(&format!("{held} of {all} steps held, {:.1} s", report.elapsed().as_secs_f64()));
    if !report.ok() {
        for line in lab.tails(TAIL) {
            eprintln!("{line}");
        }
    }
    if let Some(pcap) = &args.pcap {
        report.say(&format!("captures of every link: {}", pcap.display()));
    }
    if args.json {
        println!("{}", report.json()?);
    }
    if args.hold && outcome.is_ok() {
        hold(&lab, &report).await?;
    }
    anyhow::ensure!(report.ok(), "{} of {all} steps did not hold", all - held);
    Ok(())
}

async fn hold(lab: &Lab, report: &Report) -> anyhow::Result<()> {
    report.say("\nThe lab stays up until Ctrl-C. In another terminal:");
    for gateway in &lab.topology.gateways {
        report.say(&format!("  dmux get switches --api {}    # the controller of {}", gateway.api, gateway.name));
    }
    crate::signals::terminated()?.await;
    Ok(())
}
