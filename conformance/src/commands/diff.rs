//! `diff`: the differential harness.

use std::path::PathBuf;

use anyhow::{Context, Result};
use dmux_conformance::diff::{Case, compare};
use dmux_conformance::generate::Coverage;
use dmux_conformance::program::{Program, on_path};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Programs: file names without `.json`, or directories of them.
    #[arg(default_values_os_t = [PathBuf::from("bmv2-configs"), PathBuf::from("softswitch/tests/programs")])]
    programs: Vec<PathBuf>,
    /// simple_switch_grpc [default: on PATH].
    #[arg(long, value_name = "PATH")]
    bmv2: Option<PathBuf>,
    /// The first seed. The same seed is the same entries and frames.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds for each program, one after the other.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Frames for each seed.
    #[arg(long, default_value_t = 200)]
    frames: usize,
    /// Only programs whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Say which tables were never hit and which actions never run.
    #[arg(long)]
    missing: bool,
}

/// Runs the harness; true if nothing differs.
pub async fn run(options: &Options) -> Result<bool> {
    let bmv2 = options.bmv2.clone().or_else(|| on_path("simple_switch_grpc"));
    let bmv2 = bmv2.context("simple_switch_grpc is not on PATH: give its path with --bmv2")?;
    let mut programs = Vec::new();
    for path in &options.programs {
        if path.is_dir() {
            programs.extend(Program::load_all(path)?);
        } else {
            programs.push(Program::load(path)?);
        }
    }
    programs.retain(|p| options.only.as_ref().is_none_or(|only| p.name.contains(only.as_str())));
    let (mut failed, mut stopped, mut sent, mut came, mut written) = (0, 0, 0, 0, 0);
    for program in &programs {
        let mut coverage = Coverage::default();
        for seed in options.seed..options.seed + options.rounds {
            let name = format!("{:20} seed {seed}", program.name);
            let case = match Case::new(program, seed, options.frames) {
                Ok(case) => case,
                Err(error) => {
                    println!("{name}: FAILED: {error:#}");
                    failed += 1;
                    continue;
                }
            };
            coverage.join(&case.coverage);
            match compare(&bmv2, program, &case).await {
                Ok(report) => {
                    let verdict = match (report.differences.is_empty(), report.stopped.is_empty()) {
                        (false, _) => "DIFFERENT",
                        (true, false) => "BMv2 stopped",
                        (true, true) => "same",
                    };
                    println!(
                        "{name}: {verdict}: {} entries, {} frames in, {} out",
                        report.written, report.sent, report.came
                    );
                    report.differences.iter().for_each(|d| println!("    {d}"));
                    report.stopped.iter().for_each(|why| println!("    BMv2 stopped: {why}"));
                    failed += usize::from(!report.differences.is_empty());
                    stopped += usize::from(!report.stopped.is_empty());
                    (sent, came, written) = (sent + report.sent, came + report.came, written + report.written);
                }
                Err(error) => {
                    println!("{name}: FAILED: {error:#}");
                    failed += 1;
                }
            }
        }
        println!("{:20} {coverage}", program.name);
        if options.missing {
            coverage.missing().iter().for_each(|what| println!("    {what}"));
        }
    }
    println!(
        "\n{} programs, {written} entries, {sent} frames in, {came} out: {failed} cases of {} differ; BMv2 stopped in {stopped}",
        programs.len(),
        programs.len() as u64 * options.rounds
    );
    Ok(failed == 0)
}
