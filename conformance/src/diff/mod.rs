//! The differential harness: the same program, entries and frames on ours and on BMv2; whatever comes out must be the same.
//!
//! A seed determines a case. What is compared: whether each write is accepted; every frame that leaves, port by port;
//! every counter, direct ones included; every digest. A write that only one of them accepts is undone, so that the rest of
//! the case means something. When frames differ, the case is run again frame by frame to find the first that does.

mod state;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use dmux_p4rt::client::{delete, insert};
use dmux_p4rt::p4::v1::Update;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::status::UpdateResult;

use crate::dice::Dice;
use crate::generate::{Entries, Frames, PORTS, Pool, entries};
use crate::program::Program;
use crate::stf::digest_configs;
use crate::stf::expect::hex;
use crate::target::{Frame, Kind, Target};

/// Frames that are sent together: the fewer, the surer it is which one a difference comes of.
const TOGETHER: usize = 16;

/// Programs whose parser and controls look whether a header is there before they read it: for them, what becomes of a frame
/// that ends too early is defined.
const CHECKS_VALIDITY: [&str; 5] = ["gateway", "router", "parser_errors", "parser_stack", "parser_lookahead"];

/// Entries and frames for a program.
#[derive(Debug)]
pub struct Case {
    entries: Entries,
    frames: Vec<Frame>,
}

impl Case {
    /// What a seed determines.
    pub fn new(program: &Program, seed: u64, count: usize) -> Result<Self> {
        let tree = program.tree()?;
        let dice = Dice::new(seed);
        let replication = has(program, &["\"clone_", "standard_metadata\",\"mcast_grp\"]"]);
        let entries = entries(&program.info, &Pool::new(&tree), replication, &mut dice.part(0));
        let mut generator = Frames::new(tree);
        generator.short = CHECKS_VALIDITY.contains(&program.name.as_str());
        let frames = (1..=count as u64).map(|n| generator.frame(&mut dice.part(n))).collect();
        Ok(Self { entries, frames })
    }
}

/// What a case came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Writes that both accepted.
    pub written: usize,
    /// Frames sent.
    pub sent: usize,
    /// Frames that both sent on, alike.
    pub came: usize,
    /// What differs.
    pub differences: Vec<String>,
}

/// Runs a case on both.
///
/// # Errors
/// A switch that does not start, refuses the program, or dies.
pub async fn compare(bmv2: &Path, program: &Program, case: &Case) -> Result<Report> {
    let mut report = Report::default();
    let mut both = Both::start(bmv2, program).await?;
    report.written = both.fill(program, &case.entries, &mut report.differences).await?;
    let rules = Rules::of(program);
    for frames in case.frames.chunks(rules.together) {
        report.sent += frames.len();
        match both.exchange(frames, rules).await? {
            Ok(came) => report.came += came,
            Err(_) => {
                report.differences.push(first_difference(bmv2, program, case, rules).await?);
                return Ok(report);
            }
        }
    }
    report.differences.extend(state::differences(&program.info, &mut both.bmv2, &mut both.ours).await?);
    Ok(report)
}

/// Whether the program's JSON has one of these words: primitives and fields that it uses (every program has their aliases).
fn has(program: &Program, words: &[&str]) -> bool {
    let text = String::from_utf8_lossy(&program.json);
    words.iter().any(|w| text.contains(w))
}

/// How frames of a program are compared.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// Frames sent at a time.
    together: usize,
    /// Copies and second rounds overtake: BMv2 has several threads.
    any_order: bool,
}

impl Rules {
    fn of(program: &Program) -> Self {
        // How full a queue is depends on what else is on its way.
        let queues = has(
            program,
            &[
                "standard_metadata\",\"enq_qdepth\"]",
                "standard_metadata\",\"deq_qdepth\"]",
                "standard_metadata\",\"deq_timedelta\"]",
            ],
        );
        let any_order =
            has(program, &["\"resubmit\"", "\"recirculate\"", "\"clone_", "standard_metadata\",\"mcast_grp\"]"]);
        Self { together: if queues { 1 } else { TOGETHER }, any_order }
    }
}

struct Both {
    bmv2: Target,
    ours: Target,
}

impl Both {
    async fn start(bmv2: &Path, program: &Program) -> Result<Self> {
        let bmv2 = Target::start(&Kind::Bmv2(bmv2.to_owned()), program, &PORTS).await.context("BMv2")?;
        let ours = Target::start(&Kind::Ours, program, &PORTS).await.context("dmux")?;
        Ok(Self { bmv2, ours })
    }

    /// Writes the entries; gives the number that both accepted.
    async fn fill(&self, program: &Program, entries: &Entries, differences: &mut Vec<String>) -> Result<usize> {
        let mut written = 0;
        self.bmv2.write(digest_configs(&program.info)).await?;
        self.ours.write(digest_configs(&program.info)).await?;
        let tables = entries.tables.iter().cloned().map(Entity::TableEntry);
        for entity in entries.first.iter().cloned().chain(tables) {
            let one = |of: &[Result<(), _>]| of.first().is_some_and(Result::is_ok);
            let update: Vec<Update> = vec![insert(entity.clone())];
            let theirs = self.bmv2.write(update.clone()).await.context("BMv2")?;
            let ours = self.ours.write(update).await.context("dmux")?;
            match (one(&theirs), one(&ours)) {
                (true, true) => written += 1,
                (false, false) => {}
                (true, false) => {
                    differences.push(format!("only BMv2 accepts: dmux says {}; {entity:?}", refusal(&ours)));
                    self.bmv2.write(vec![delete(entity)]).await?;
                }
                (false, true) => {
                    differences.push(format!("only dmux accepts: BMv2 says {}; {entity:?}", refusal(&theirs)));
                    self.ours.write(vec![delete(entity)]).await?;
                }
            }
        }
        Ok(written)
    }

    /// Sends frames to both. The number of frames that came, or how they differ.
    async fn exchange(&mut self, frames: &[Frame], rules: Rules) -> Result<Result<usize, String>> {
        let theirs = self.bmv2.exchange(frames, 0).await.context("BMv2")?;
        let ours = self.ours.exchange(frames, theirs.len()).await.context("dmux")?;
        let count = ours.len();
        Ok(if by_port(&theirs, rules) == by_port(&ours, rules) {
            Ok(count)
        } else {
            Err(format!("BMv2 sends {}; dmux sends {}", shown(&theirs), shown(&ours)))
        })
    }
}

fn refusal(results: &[UpdateResult]) -> String {
    results.iter().find_map(|r| r.as_ref().err()).map_or_else(String::new, ToString::to_string)
}

fn by_port(frames: &[Frame], rules: Rules) -> BTreeMap<u16, Vec<&Vec<u8>>> {
    let mut ports: BTreeMap<u16, Vec<&Vec<u8>>> = BTreeMap::new();
    for (port, frame) in frames {
        ports.entry(*port).or_default().push(frame);
    }
    if rules.any_order {
        ports.values_mut().for_each(|frames| frames.sort());
    }
    ports
}

fn shown(frames: &[Frame]) -> String {
    let all: Vec<String> = frames.iter().map(|(port, frame)| format!("{port}:{}", hex(frame))).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(" ") }
}

/// Runs the case again, frame by frame.
async fn first_difference(bmv2: &Path, program: &Program, case: &Case, rules: Rules) -> Result<String> {
    let mut both = Both::start(bmv2, program).await?;
    both.fill(program, &case.entries, &mut Vec::new()).await?;
    for (n, frame) in case.frames.iter().enumerate() {
        if let Err(why) = both.exchange(std::slice::from_ref(frame), rules).await? {
            return Ok(format!("frame {n}, {} at port {}: {why}", hex(&frame.1), frame.0));
        }
    }
    Ok("frames differ only when sent together".to_owned())
}
