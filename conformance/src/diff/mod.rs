//! The differential harness: the same program, entries and frames on ours and on BMv2; whatever comes out must be the same.
//!
//! A seed determines a case. What is compared: whether each write is accepted; every frame that leaves, port by port (but for
//! bytes that depend on the time, which the embedded switch shows by being run at several times);
//! every counter, direct ones included; every digest. A write that only one of them accepts is undone, so that the rest of
//! the case means something. When frames differ, the case is run again frame by frame to find the first that does.

mod state;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use dmux_p4rt::client::{delete, insert};
use dmux_p4rt::p4::v1::Update;
use dmux_p4rt::status::UpdateResult;

use crate::dice::Dice;
use crate::generate::{Coverage, Entries, Frames, PORTS, Pool, coverage, explore, time_dependence};
use crate::program::Program;
use crate::stf::digest_configs;
use crate::stf::expect::hex;
use crate::target::{Frame, Kind, Target};

/// Frames that are sent together: BMv2 takes half a second over any number of them.
const TOGETHER: usize = 50;
/// How often BMv2 is started again for one case, after it has stopped on its way.
const MOST_RESTARTS: usize = 3;

/// Programs whose parser and controls look whether a header is there before they read it: for them, what becomes of a frame
/// that ends too early is defined.
const CHECKS_VALIDITY: [&str; 5] = ["gateway", "router", "parser_errors", "parser_stack", "parser_lookahead"];

/// A program, and which of its frames do what P4 leaves undefined.
type Undefined = (&'static str, fn(&[u8]) -> bool);

/// Frames that are left out: BMv2 would send what happens to be in its memory, or die.
const UNDEFINED: [Undefined; 1] = [
    // Elements of the stack from the fourth on are not valid, and from the sixth on not there.
    ("stack_ops", |frame| matches!(frame, [5 | 6, index, ..] if *index >= 3)),
];

/// A frame of a case.
#[derive(Debug)]
struct Sent {
    frame: Frame,
    /// What it should lead to, as masks of the bytes that depend on the time.
    masks: Vec<Frame>,
}

/// Entries and frames for a program.
#[derive(Debug)]
pub struct Case {
    entries: Entries,
    frames: Vec<Sent>,
    /// What they come by on the embedded switch.
    pub coverage: Coverage,
}

impl Case {
    /// What a seed determines.
    ///
    /// # Errors
    /// A program that the embedded switch refuses.
    pub fn new(program: &Program, seed: u64, count: usize) -> Result<Self> {
        let tree = program.tree()?;
        let replication = has(program, &["\"clone_", "standard_metadata\",\"mcast_grp\"]"]);
        let pool = Pool::new(&tree);
        let mut generator = Frames::new(tree);
        generator.short = CHECKS_VALIDITY.contains(&program.name.as_str());
        let headers = &program.info.controller_packet_metadata;
        generator.from_controller = headers.iter().filter_map(|h| h.preamble.as_ref()).any(|p| p.name == "packet_out");
        let (entries, mut frames) = explore(program, &generator, &pool, replication, count, &Dice::new(seed))?;
        for (_, undefined) in UNDEFINED.iter().filter(|(name, _)| *name == program.name) {
            frames.retain(|(_, frame)| !undefined(frame));
        }
        let coverage = coverage(program, &entries, &frames)?;
        let masks = time_dependence(program, &entries, &frames)?;
        let frames = frames.into_iter().zip(masks).map(|(frame, masks)| Sent { frame, masks }).collect();
        Ok(Self { entries, frames, coverage })
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
    /// How BMv2 stopped, each time that it did.
    pub stopped: Vec<String>,
}

/// Why a case does not go on.
enum Broken {
    /// BMv2 has died or does not answer.
    Bmv2(String),
    /// Ours has.
    Ours(anyhow::Error),
}

impl Broken {
    fn bmv2(error: impl Into<anyhow::Error>) -> Self {
        Self::Bmv2(format!("{:#}", error.into()))
    }
}

/// Runs a case on both. When BMv2 stops on its way, both are started again, and the frames behind those that it stopped at are
/// sent.
///
/// # Errors
/// An embedded switch that refuses the program or dies.
pub async fn compare(bmv2: &Path, program: &Program, case: &Case) -> Result<Report> {
    let mut report = Report::default();
    let rules = Rules::of(program);
    let mut runs: VecDeque<&[Sent]> = case.frames.chunks(rules.together).collect();
    loop {
        // Dropped, BMv2 is killed.
        let mut both = match Both::start(bmv2, program).await {
            Ok(both) => both,
            Err(Broken::Ours(error)) => return Err(error.context("dmux")),
            Err(Broken::Bmv2(why)) => {
                report.stopped.push(why);
                return Ok(report);
            }
        };
        match both.run(program, case, &mut runs, rules, &mut report).await {
            Ok(None) => return Ok(report),
            Ok(Some(frames)) => {
                drop(both);
                let why = first_difference(bmv2, program, case, frames, rules).await;
                report.differences.push(why.unwrap_or_else(|error| format!("frames differ; run again, {error:#}")));
                return Ok(report);
            }
            Err(Broken::Ours(error)) => return Err(error.context("dmux")),
            Err(Broken::Bmv2(why)) => {
                drop(both);
                let at = match runs.pop_front() {
                    Some(frames) => first_difference(bmv2, program, case, frames, rules).await,
                    None => Ok("after the last frame".to_owned()),
                };
                let at = at.unwrap_or_else(|error| format!("{error:#}"));
                report.stopped.push(format!("{why}; run again, {at}"));
                if report.stopped.len() > MOST_RESTARTS || runs.is_empty() {
                    return Ok(report);
                }
            }
        }
    }
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
    /// The program draws numbers: only how long frames are can be compared.
    random: bool,
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
        let random = has(program, &["\"modify_field_rng_uniform\""]);
        Self { together: if queues { 1 } else { TOGETHER }, any_order, random }
    }
}

struct Both {
    bmv2: Target,
    ours: Target,
}

impl Both {
    async fn start(bmv2: &Path, program: &Program) -> Result<Self, Broken> {
        let theirs = Target::start(&Kind::Bmv2(bmv2.to_owned()), program, &PORTS).await.map_err(Broken::bmv2)?;
        let ours = Target::start(&Kind::Ours, program, &PORTS).await.map_err(Broken::Ours)?;
        Ok(Self { bmv2: theirs, ours })
    }

    /// Sends what is left of a case. `Some` are frames that the two did not treat alike.
    async fn run<'a>(
        &mut self,
        program: &Program,
        case: &Case,
        runs: &mut VecDeque<&'a [Sent]>,
        rules: Rules,
        report: &mut Report,
    ) -> Result<Option<&'a [Sent]>, Broken> {
        let mut refusals = Vec::new();
        report.written = self.fill(program, &case.entries, &mut refusals).await?;
        if report.stopped.is_empty() {
            report.differences.append(&mut refusals);
        }
        while let Some(frames) = runs.front().copied() {
            report.sent += frames.len();
            match self.exchange(frames, rules).await? {
                Ok(came) => report.came += came,
                Err(_) => return Ok(Some(frames)),
            }
            runs.pop_front();
        }
        let theirs = state::read(&program.info, &mut self.bmv2).await.map_err(Broken::bmv2)?;
        let ours = state::read(&program.info, &mut self.ours).await.map_err(Broken::Ours)?;
        report.differences.extend(state::differences(&theirs, &ours, rules.any_order));
        Ok(None)
    }

    /// Writes the entries; gives the number that both accepted.
    async fn fill(&self, program: &Program, entries: &Entries, differences: &mut Vec<String>) -> Result<usize, Broken> {
        let mut written = 0;
        self.bmv2.write(digest_configs(&program.info)).await.map_err(Broken::bmv2)?;
        self.ours.write(digest_configs(&program.info)).await.map_err(Broken::Ours)?;
        for entity in entries.all() {
            let one = |of: &[Result<(), _>]| of.first().is_some_and(Result::is_ok);
            let update: Vec<Update> = vec![insert(entity.clone())];
            let theirs = self.bmv2.write(update.clone()).await.map_err(Broken::bmv2)?;
            let ours = self.ours.write(update).await.map_err(Broken::Ours)?;
            match (one(&theirs), one(&ours)) {
                (true, true) => written += 1,
                (false, false) => {}
                (true, false) => {
                    differences.push(format!("only BMv2 accepts: dmux says {}; {entity:?}", refusal(&ours)));
                    self.bmv2.write(vec![delete(entity)]).await.map_err(Broken::bmv2)?;
                }
                (false, true) => {
                    differences.push(format!("only dmux accepts: BMv2 says {}; {entity:?}", refusal(&theirs)));
                    self.ours.write(vec![delete(entity)]).await.map_err(Broken::Ours)?;
                }
            }
        }
        Ok(written)
    }

    /// Sends frames to both. The number of frames that came, or how they differ.
    async fn exchange(&mut self, sent: &[Sent], rules: Rules) -> Result<Result<usize, String>, Broken> {
        let frames: Vec<Frame> = sent.iter().map(|s| s.frame.clone()).collect();
        let theirs = self.bmv2.exchange(&frames, 0).await.map_err(Broken::bmv2)?;
        let ours = self.ours.exchange(&frames, theirs.len()).await.map_err(Broken::Ours)?;
        let count = ours.len();
        Ok(if by_port(&theirs, sent, rules) == by_port(&ours, sent, rules) {
            Ok(count)
        } else {
            Err(format!("BMv2 sends {}; dmux sends {}", shown(&theirs), shown(&ours)))
        })
    }
}

fn refusal(results: &[UpdateResult]) -> String {
    results.iter().find_map(|r| r.as_ref().err()).map_or_else(String::new, ToString::to_string)
}

/// Frames by the port that they left at, without what need not be the same.
fn by_port(frames: &[Frame], sent: &[Sent], rules: Rules) -> BTreeMap<u16, Vec<Vec<u8>>> {
    let mut ports: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    for (port, frame) in frames {
        let frame = if rules.random { vec![0; frame.len()] } else { frame.clone() };
        ports.entry(*port).or_default().push(frame);
    }
    for (port, frames) in &mut ports {
        let masks = sent.iter().flat_map(|s| &s.masks).filter(|(at, _)| at == port);
        for (frame, (_, mask)) in frames.iter_mut().zip(masks).filter(|(frame, (_, mask))| frame.len() == mask.len()) {
            frame.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= !mask);
        }
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

/// Runs the case again up to the frames that it found a difference in, and those one by one.
async fn first_difference(
    bmv2: &Path,
    program: &Program,
    case: &Case,
    differ: &[Sent],
    rules: Rules,
) -> Result<String> {
    let broken = |broken| match broken {
        Broken::Bmv2(why) => anyhow!("BMv2 stops: {why}"),
        Broken::Ours(error) => error,
    };
    let mut both = Both::start(bmv2, program).await.map_err(broken)?;
    both.fill(program, &case.entries, &mut Vec::new()).await.map_err(broken)?;
    for frames in case.frames.chunks(rules.together).take_while(|frames| !std::ptr::eq(*frames, differ)) {
        both.exchange(frames, rules).await.map_err(broken)?.ok();
    }
    for (n, sent) in differ.iter().enumerate() {
        let which = format!("frame {n} of a run, {} at port {}", hex(&sent.frame.1), sent.frame.0);
        let outcome = both.exchange(std::slice::from_ref(sent), rules).await.map_err(broken);
        if let Err(why) = outcome.with_context(|| which.clone())? {
            return Ok(format!("{which}: {why}"));
        }
    }
    Ok("nothing is wrong when frames are sent one by one".to_owned())
}
