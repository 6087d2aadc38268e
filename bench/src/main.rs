//! `make bench`: the speed of dmux, beside its peers, in one run on one machine.
//!
//! ```text
//!   main ── sections in turn ──▶ one table on the terminal, docs/benchmarks.md
//!             pipeline      the programs in memory, no IO
//!             scale         tables of up to a million entries
//!             meters        accepted bytes against the configured rate
//!             veth          packets through a switch process, of the gateway and of a router: beside BMv2
//!             writes        table writes over P4Runtime            beside BMv2
//!             raft          durable replicated writes              beside etcd
//!             registration  router accepted → all switches know
//!             registrations 100,000 of them: memory, one more, planning, filling a switch
//!             metalinks     10,000 on one gateway: connecting, and what their leases cost
//!             failover      a site, a gateway, a router die: what clients notice
//! ```
//!
//! Nothing here passes or fails by a time: figures are medians with their spread, and ratios to a peer that was measured in
//! the same run. What cannot be measured says why in its row.

mod churn;
mod etcd;
mod failover;
mod flood;
mod gateway;
mod generator;
mod keepalives;
mod load;
mod machine;
mod metalinks;
mod meters;
mod meters_live;
mod netns;
mod pipeline;
mod process;
mod raft;
mod raft_node;
mod registration;
mod registrations;
mod rocketfuel;
mod router;
mod scale;
mod search;
mod site;
mod switches;
mod table;
mod veth;
mod writes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::gateway::Pipeline;
use crate::table::Section;
use crate::veth::Subject;

/// The one that dmux runs with: the client of table writes is part of their measurement.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(version, about = "The speed of dmux, beside BMv2 and etcd where they are on PATH")]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to measure, and how long.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Measure only these sections; docs/benchmarks.md is then left alone unless --out is given
    #[arg(long, value_enum, value_name = "SECTION", value_delimiter = ',')]
    only: Vec<Name>,
    /// Short runs, one repetition: to see that it works; docs/benchmarks.md is left alone unless --out is given
    #[arg(long)]
    quick: bool,
    /// The gateway program: the files without .json and .p4info.txtpb [default: bmv2-configs/gateway]
    #[arg(long, value_name = "PREFIX", default_value_os_t = root().join("bmv2-configs/gateway"), hide_default_value = true)]
    pipeline: PathBuf,
    /// Where to write the table [default: docs/benchmarks.md]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How far off network coordinates are on the Rocketfuel maps
    Rocketfuel {
        /// Folder with ASN.latencies files
        maps: PathBuf,
    },
    /// Keep the machine busy and see that no controller takes a living gateway for dead
    Quiet {
        /// For how long
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Threads that do nothing but count
        #[arg(long, default_value_t = 4)]
        load: usize,
    },
    /// Parts of a run that are processes of their own.
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

#[derive(Debug, Subcommand)]
enum Internal {
    /// The section veth, inside a network namespace.
    Veth {
        #[arg(long, value_enum, default_value = "gateway")]
        subject: Subject,
        #[arg(long)]
        pipeline: PathBuf,
        #[arg(long)]
        quick: bool,
    },
    /// A Raft node.
    RaftNode {
        #[arg(long)]
        id: u64,
        #[arg(long)]
        dir: PathBuf,
    },
}

/// The sections, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The program in memory, without IO
    Pipeline,
    /// Lookups among up to a million entries, and the memory that they take
    Scale,
    /// How exactly meters keep a rate
    Meters,
    /// Packets of the gateway through a switch process, over veth
    Veth,
    /// Packets of the router through a switch process, over veth
    VethRouter,
    /// Table writes over P4Runtime
    Writes,
    /// Durable replicated writes
    Raft,
    /// A router's registration, until all switches have it
    Registration,
    /// What 100,000 registrations take: memory, one more, planning, filling a switch
    Registrations,
    /// 10,000 metalinks on one gateway: connecting, and what their leases cost
    Metalinks,
    /// A site, a gateway, a router die: what clients notice
    Failover,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        None => bench(&cli.options),
        Some(Command::Internal(Internal::Veth { subject, pipeline, quick })) => veth::run(subject, &pipeline, quick),
        Some(Command::Internal(Internal::RaftNode { id, dir })) => raft_node::run(id, dir),
        Some(Command::Rocketfuel { maps }) => rocketfuel::run(&maps),
        Some(Command::Quiet { minutes, load }) => failover::quiet(&cli.options.pipeline, minutes, load),
    }
}

/// The workspace, as cargo tells it at run time, or where we are.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package.and_then(|p| p.parent().map(Path::to_path_buf)).unwrap_or_else(|| PathBuf::from("."))
}

/// Where the small programs are that are measured beside the gateway.
fn programs() -> PathBuf {
    root().join("softswitch/tests/programs")
}

/// What follows this line of the old file is kept.
const BY_HAND: &str = "\n## By hand\n";

fn bench(options: &Options) -> Result<()> {
    let root = root();
    let pipeline = Pipeline::load(&options.pipeline)?;
    let plain = Pipeline::load(&programs().join("router"))?;
    // Beside our own binary: on the disk that the project is on, which /tmp may not be.
    let own = std::env::current_exe().context("this program cannot find its own file")?;
    let beside = own.parent().context("this program has no folder")?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(beside)?;

    let mut about = machine::describe(&root);
    let disturbed = machine::wait_until_calm();
    let mut sections = Vec::new();
    for name in Name::value_variants() {
        if !options.only.is_empty() && !options.only.contains(name) {
            continue;
        }
        let veth = |subject, pipeline: &Path| veth::measure(options, subject, pipeline);
        let (title, measured) = match name {
            Name::Pipeline => ("pipeline in memory", pipeline::measure(options, &pipeline, &plain)),
            Name::Scale => ("tables of many entries", scale::measure(options)),
            Name::Meters => ("meters", meters::measure(options)),
            Name::Veth => ("packets over veth, gateway", veth(Subject::Gateway, &options.pipeline)),
            Name::VethRouter => ("packets over veth, router", veth(Subject::Router, &programs().join("router"))),
            Name::Writes => ("table writes over P4Runtime", writes::measure(options, &pipeline, dir.path())),
            Name::Raft => ("durable Raft writes", raft::measure(options, dir.path())),
            Name::Registrations => ("100 000 registrations", registrations::measure(options, &pipeline, dir.path())),
            Name::Metalinks => ("10 000 metalinks", metalinks::measure(options, dir.path())),
            Name::Failover => ("something dies, three sites", failover::measure(options, dir.path())),
            Name::Registration => ("registration, three gateways", registration::measure(options, dir.path())),
        };
        // One section that fails must not cost the others their figures.
        sections.push(measured.unwrap_or_else(|error| Section::absent(title, format!("{error:#}"))));
    }
    if let Some(load) = machine::load() {
        about.push(("load after".to_owned(), table::number(load)));
    }

    println!("{}", table::terminal(&sections));
    for (name, value) in &about {
        println!("{name}: {value}");
    }
    if let Some(note) = &disturbed {
        println!("{note}");
    }
    let out = match &options.out {
        Some(out) => out.clone(),
        None if options.only.is_empty() && !options.quick => root.join("docs/benchmarks.md"),
        None => return Ok(()),
    };
    let by_hand = std::fs::read_to_string(&out).ok().and_then(|old| old.find(BY_HAND).map(|at| old[at..].to_owned()));
    let written = document(&about, disturbed.as_deref(), &sections) + by_hand.as_deref().unwrap_or_default();
    std::fs::write(&out, written).with_context(|| format!("{} cannot be written", out.display()))?;
    println!("written to {}", out.display());
    Ok(())
}

fn document(about: &[(String, String)], disturbed: Option<&str>, sections: &[Section]) -> String {
    let mut out = String::from(
        "# Benchmarks\n\n\
         Written by `make bench`; do not edit but below *By hand*. Medians, with (lowest–highest) of the repetitions. Absolute figures are this \
         machine's; compare the ratios, which come from one run of both sides on the same machine. Ways and limits: \
         [ARCHITECTURE.md](../ARCHITECTURE.md).\n\n",
    );
    for (name, value) in about {
        out += &format!("- {name}: {value}\n");
    }
    if let Some(note) = disturbed {
        out += &format!("- {note}\n");
    }
    out.push('\n');
    out + &table::markdown(sections)
}
