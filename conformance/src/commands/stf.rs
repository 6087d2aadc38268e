//! `stf`: packet tests, side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use dmux_conformance::program::{Compiler, Program, on_path};
use dmux_conformance::stf::expect::hex;
use dmux_conformance::stf::{self, Outcome, parse};
use dmux_conformance::target::Kind;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Directories and `.stf` files.
    #[arg(required = true)]
    tests: Vec<PathBuf>,
    /// p4c-bm2-ss [default: on PATH].
    #[arg(long, value_name = "PATH")]
    p4c: Option<PathBuf>,
    /// Where compiled programs are kept.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir().join("dmux-conformance"))]
    cache: PathBuf,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Show every frame that came out, as a test would expect it.
    #[arg(long)]
    frames: bool,
    /// List only tests that ours fails.
    #[arg(long)]
    failed: bool,
    #[command(flatten)]
    bmv2: crate::Bmv2,
}

/// What a switch made of a test.
enum Verdict {
    Passed(Outcome),
    Failed(String, Vec<(u16, Vec<u8>)>),
}

impl Verdict {
    fn of(result: Result<Outcome>) -> Self {
        match result {
            Ok(outcome) if outcome.passed() => Self::Passed(outcome),
            Ok(outcome) => {
                let refused = outcome.refused.first().map(|r| format!("; refused: {r}")).unwrap_or_default();
                Self::Failed(format!("{}{refused}", outcome.wrong.join("; ")), outcome.frames)
            }
            Err(error) => Self::Failed(format!("{error:#}"), Vec::new()),
        }
    }

    fn passed(&self) -> bool {
        matches!(self, Self::Passed(_))
    }

    fn frames(&self) -> &[(u16, Vec<u8>)] {
        match self {
            Self::Passed(outcome) => &outcome.frames,
            Self::Failed(_, frames) => frames,
        }
    }

    fn cell(&self) -> &str {
        if self.passed() { "pass" } else { "FAIL" }
    }

    fn why(&self) -> &str {
        match self {
            Self::Passed(_) => "",
            Self::Failed(why, _) => why,
        }
    }
}

/// Runs the tests and prints the table; true if ours passes all that BMv2 passes (or all, without BMv2).
pub async fn run(options: &Options) -> Result<bool> {
    let bmv2 = options.bmv2.path()?.map(Kind::Bmv2);
    let tests = find(&options.tests, options.only.as_deref())?;
    std::fs::create_dir_all(&options.cache).with_context(|| format!("{} cannot be made", options.cache.display()))?;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["test", "BMv2", "dmux", "why not"]);
    let (mut ours_passed, mut bmv2_passed, mut both, mut run) = (0, 0, 0, 0);
    for test in &tests {
        let name = test.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let program = match program(options, test) {
            Ok(Some(program)) => program,
            Ok(None) => continue,
            Err(error) => {
                table.add_row([name, "–".to_owned(), "–".to_owned(), format!("{error:#}")]);
                continue;
            }
        };
        run += 1;
        let theirs = match &bmv2 {
            Some(kind) => Some(Verdict::of(one(kind, &program, test).await)),
            None => None,
        };
        let ours = Verdict::of(one(&Kind::Ours, &program, test).await);
        if options.frames {
            for (who, verdict) in [("BMv2", theirs.as_ref()), ("dmux", Some(&ours))] {
                for (port, frame) in verdict.map_or(&[][..], Verdict::frames) {
                    println!("{name}: {who}: expect {port} {}$", hex(frame));
                }
            }
        }
        ours_passed += usize::from(ours.passed());
        bmv2_passed += usize::from(theirs.as_ref().is_some_and(Verdict::passed));
        both += usize::from(ours.passed() && theirs.as_ref().is_some_and(Verdict::passed));
        if !options.failed || !ours.passed() {
            let cell = theirs.as_ref().map_or("", Verdict::cell);
            let why = match theirs.as_ref().map_or("", Verdict::why) {
                "" => ours.why().to_owned(),
                theirs => format!("{} (BMv2: {theirs})", ours.why()),
            };
            table.add_row([name, cell.to_owned(), ours.cell().to_owned(), why]);
        }
    }
    println!("{table}\n");
    match &bmv2 {
        Some(_) => {
            println!(
                "{run} tests: BMv2 passes {bmv2_passed}, dmux passes {ours_passed}, {both} of those that BMv2 passes"
            );
        }
        None => println!("{run} tests: dmux passes {ours_passed}"),
    }
    Ok(if bmv2.is_some() { both == bmv2_passed } else { ours_passed == run })
}

async fn one(kind: &Kind, program: &Program, test: &Path) -> Result<Outcome> {
    let text = std::fs::read_to_string(test).with_context(|| format!("{} cannot be read", test.display()))?;
    stf::run(kind, program, &parse::parse(&text)?).await
}

/// The test files, in order.
fn find(given: &[PathBuf], only: Option<&str>) -> Result<Vec<PathBuf>> {
    let mut tests = Vec::new();
    for path in given {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| format!("{} cannot be read", path.display()))?;
            tests
                .extend(entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension() == Some("stf".as_ref())));
        } else {
            tests.push(path.clone());
        }
    }
    tests.sort();
    tests.retain(|t| only.is_none_or(|only| t.file_stem().is_some_and(|n| n.to_string_lossy().contains(only))));
    Ok(tests)
}

/// The program of a test: compiled beside it, or to be compiled. `None` if it is for another architecture than v1model.
fn program(options: &Options, test: &Path) -> Result<Option<Program>> {
    let prefix = test.with_extension("");
    if prefix.with_extension("json").is_file() {
        return Program::load(&prefix).map(Some);
    }
    let source = test.with_extension("p4");
    let Ok(text) = std::fs::read_to_string(&source) else { bail!("there is no program {}", source.display()) };
    if !text.contains("v1model.p4") {
        return Ok(None);
    }
    let p4c = options.p4c.clone().or_else(|| on_path("p4c-bm2-ss"));
    let program = p4c.context("p4c-bm2-ss is not on PATH: give its path with --p4c")?;
    Compiler { program, cache: options.cache.clone() }.compile(&source).map(Some)
}
