//! `fuzz`: the fuzzers, for as long as one likes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use dmux_conformance::dice::Dice;
use dmux_conformance::fuzz::{Finding, Until, json, packets, rounds};
use dmux_conformance::program::Program;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// Loading of JSON: mutants of the programs.
    Json,
    /// Frames and entries: with and without the optimizer.
    Packets,
}

#[derive(Debug, clap::Args)]
pub struct Options {
    /// What is fuzzed.
    #[arg(value_enum)]
    what: What,
    /// Directories of programs.
    #[arg(default_values_os_t = [PathBuf::from("bmv2-configs"), PathBuf::from("softswitch/tests/programs")])]
    programs: Vec<PathBuf>,
    /// For how long.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first round: with --once, the number of a finding.
    #[arg(long, default_value_t = 0)]
    round: u64,
    /// Run one round only.
    #[arg(long)]
    once: bool,
    /// Where the input of a finding is kept.
    #[arg(long, value_name = "FILE", default_value = "fuzz-finding")]
    keep: PathBuf,
}

/// Runs a fuzzer; true if it found nothing.
pub fn run(options: &Options) -> Result<bool> {
    let mut programs = Vec::new();
    for path in &options.programs {
        programs.extend(Program::load_all(path)?);
    }
    let until = if options.once { Until::Rounds(1) } else { Until::Elapsed(Duration::from_secs(options.seconds)) };
    let dice = Dice::new(options.seed);
    // A panic is reported below; where it was is of interest once it is looked into.
    if !options.once {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let result = match options.what {
        What::Json => {
            let trees = programs.iter().map(Program::tree).collect::<Result<Vec<_>>>()?;
            rounds(&dice, options.round, until, |dice| json::round(&trees, dice))
        }
        What::Packets => {
            // What the switch does not know yet is refused by name; the others are fuzzed.
            programs.retain(|p| dmux_softswitch::pipeline::Program::compile(&p.json).is_ok());
            let subject = |p: &Program| Ok(packets::Subject::new(&p.name, &p.json, p.tree()?));
            let subjects: Vec<_> =
                programs.iter().map(subject).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
            rounds(&dice, options.round, until, |dice| packets::round(&subjects, dice))
        }
    };
    match result {
        Ok(rounds) => println!("{:?}: {rounds} rounds of seed {}: nothing found", options.what, options.seed),
        Err(Finding { round, what, input }) => {
            println!("{:?}: seed {}, round {round}: {what}", options.what, options.seed);
            std::fs::write(&options.keep, &input)
                .with_context(|| format!("{} cannot be written", options.keep.display()))?;
            println!(
                "its input is in {}; again: --seed {} --round {round} --once",
                options.keep.display(),
                options.seed
            );
            return Ok(false);
        }
    }
    Ok(true)
}
