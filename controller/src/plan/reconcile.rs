//! Makes a switch equal to the plan, and keeps it so (DESIGN §5.1): the decisions, without the IO.
//!
//! ```text
//!                 Connected             pipeline is ours        something differs
//! Disconnected ─────────────▶ Pipeline ─────────────────▶ Reading ───────▶ Writing ──▶ Verifying ──▶ Synced
//!      ▲                         ▲  │ set it if not            │               ▲  │         │           │
//!      │ Disconnected            │  └──────────────────────────┘               │  └ refused ┴▶ Refused ─┤
//!   (any state)                  └─ a read failed                              └── Delta, retry, audit ─┘
//! ```
//!
//! The caller performs the [`Action`] that [`Reconciler::next`] names and reports what came of it by
//! [`Reconciler::on`]; one action is under way at a time, and beside a read-back that verifies, one write: a look at a full
//! switch takes long, and what fails over cannot wait. Nothing is ever taken as done because it was tried: an update
//! counts when the switch has accepted it, and a synchronisation when a read-back shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::work::{Actual, Item, Phase, Update};
use super::{Action, Delta, Entry, Event, Key, Plan, ReadBack, ReconcilerOptions, State, Status, UpdateError};

/// Refusals that a status lists at most.
const MAX_REPORTED: usize = 16;
/// Refusals of one update after which no other answer is expected, whatever the reason.
const HOPELESS: u32 = 10;
/// google.rpc.Code values that say that our picture of the switch is wrong.
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;

#[derive(Debug)]
struct Failure {
    attempts: u32,
    retry_at: Duration,
    why: String,
    /// Trying again will not help.
    permanent: bool,
}

/// What was asked of the caller, besides writes, and is not answered yet.
#[derive(Debug)]
enum UnderWay {
    Check,
    Set,
    Read(Look),
}

/// A read-back under way.
#[derive(Debug, Default)]
struct Look {
    /// The switch is believed to be in step. What it holds is known, then, so changes are written meanwhile.
    verifies: bool,
    /// Written since it was asked for: the answer may show these as they were before or after, so it says nothing of them.
    overtaken: BTreeSet<Key>,
    /// A write meanwhile ended otherwise than expected: the answer may be older than that.
    spoilt: bool,
}

/// Updates and what each is for.
type Work = Vec<(Item, Update)>;

/// The state machine of one switch.
#[derive(Debug)]
pub struct Reconciler {
    options: ReconcilerOptions,
    state: State,
    /// The pipeline differs and has to be set.
    set_pipeline: bool,
    under_way: Option<UnderWay>,
    /// The write under way.
    writing: Option<Work>,
    actual: Actual,
    queue: BTreeSet<(Phase, Item)>,
    /// Touched since `next` last looked: not yet known to be out of step.
    touched: BTreeSet<Key>,
    failures: BTreeMap<Item, Failure>,
    /// Failure of a step (pipeline, read) rather than of an update.
    step: Option<Failure>,
    /// Made whole, but not yet seen to be: read back before calling it synced.
    unverified: bool,
    /// Verifications in a row that found what nobody expected.
    unexpected_rounds: u32,
    connected_at: Option<Duration>,
    next_audit: Duration,
    resyncs: u64,
    last_resync: Option<Duration>,
    why_disconnected: String,
}

impl Reconciler {
    /// For a switch that is not connected yet.
    pub fn new(options: ReconcilerOptions) -> Self {
        Self {
            options,
            state: State::Disconnected,
            set_pipeline: false,
            under_way: None,
            writing: None,
            actual: Actual::default(),
            queue: BTreeSet::new(),
            touched: BTreeSet::new(),
            failures: BTreeMap::new(),
            step: None,
            unverified: false,
            unexpected_rounds: 0,
            connected_at: None,
            next_audit: Duration::ZERO,
            resyncs: 0,
            last_resync: None,
            why_disconnected: "not connected yet".into(),
        }
    }

    /// The plan changed.
    pub fn planned(&mut self, delta: &Delta) {
        // Before the first read-back there is nothing to compare with; it will compare everything.
        if !matches!(self.state, State::Disconnected | State::Pipeline | State::Reading) {
            self.touched.extend(delta.keys());
        }
    }

    /// What to do now. `plan` is the current one; every change of it was told by [`Reconciler::planned`].
    pub fn next(&mut self, now: Duration, plan: &Plan) -> Action {
        if self.writing.is_some() || self.state == State::Disconnected {
            return Action::Wait { until: None };
        }
        match &self.under_way {
            Some(UnderWay::Read(look)) if look.verifies && !look.spoilt => return self.write_beside_look(plan),
            Some(_) => return Action::Wait { until: None },
            None => {}
        }
        if let Some(step) = self.step.as_ref().filter(|step| step.retry_at > now) {
            return Action::Wait { until: Some(step.retry_at) };
        }
        match self.state {
            State::Disconnected => Action::Wait { until: None },
            State::Pipeline if self.set_pipeline => self.begin(UnderWay::Set, Action::SetPipeline),
            State::Pipeline => self.begin(UnderWay::Check, Action::CheckPipeline),
            State::Reading => self.begin(UnderWay::Read(Look::default()), Action::ReadBack),
            State::Writing | State::Verifying | State::Refused | State::Synced => self.write_or_rest(now, plan),
        }
    }

    fn begin(&mut self, what: UnderWay, action: Action) -> Action {
        self.under_way = Some(what);
        action
    }

    fn write_or_rest(&mut self, now: Duration, plan: &Plan) -> Action {
        self.file_touched(plan);
        self.file_due(now, plan);
        let work = self.batch(plan);
        if !work.is_empty() {
            self.state = State::Writing;
            return self.write(work);
        }
        if self.unverified || now >= self.next_audit {
            self.state = State::Verifying;
            let look = Look { verifies: true, ..Look::default() };
            return self.begin(UnderWay::Read(look), Action::ReadBack);
        }
        self.state = if self.failures.is_empty() { State::Synced } else { State::Refused };
        let retry = self.failures.values().map(|failure| failure.retry_at).min();
        Action::Wait { until: Some(retry.map_or(self.next_audit, |at| at.min(self.next_audit))) }
    }

    /// Only what is wished for anew: the rest is what the look is for.
    fn write_beside_look(&mut self, plan: &Plan) -> Action {
        self.file_touched(plan);
        let work = self.batch(plan);
        if work.is_empty() {
            return Action::Wait { until: None };
        }
        if let Some(UnderWay::Read(look)) = &mut self.under_way {
            look.overtaken.extend(work.iter().filter_map(|(item, _)| item.key()));
        }
        self.write(work)
    }

    fn write(&mut self, work: Work) -> Action {
        let updates = work.iter().map(|(_, update)| update.clone()).collect();
        self.writing = Some(work);
        Action::Write(updates)
    }

    /// A new wish for a key is tried at once, whatever became of the last one.
    fn file_touched(&mut self, plan: &Plan) {
        for key in std::mem::take(&mut self.touched) {
            let item = Item::Entry(key);
            self.failures.remove(&item);
            self.enqueue(plan, item);
        }
    }

    fn file_due(&mut self, now: Duration, plan: &Plan) {
        if self.failures.is_empty() {
            return;
        }
        let due: Vec<_> =
            self.failures.iter().filter(|(_, f)| f.retry_at <= now).map(|(item, _)| item.clone()).collect();
        for item in due {
            // The failure stays, with its count, until the switch accepts the update or there is none to make.
            if !self.enqueue(plan, item.clone()) {
                self.failures.remove(&item);
            }
        }
    }

    fn enqueue(&mut self, plan: &Plan, item: Item) -> bool {
        let update = self.actual.update(plan, &item);
        if let Some((phase, _)) = &update {
            self.queue.insert((*phase, item));
        }
        update.is_some()
    }

    /// The next updates of one phase.
    fn batch(&mut self, plan: &Plan) -> Work {
        let mut batch = Vec::new();
        let mut batch_phase = None;
        while batch.len() < self.options.batch.max(1) {
            let Some((filed, item)) = self.queue.pop_first() else { break };
            // The plan may have changed since the item was filed.
            let Some((phase, update)) = self.actual.update(plan, &item) else {
                self.failures.remove(&item);
                continue;
            };
            let out_of_turn = filed != phase || batch_phase.is_some_and(|of_batch| of_batch != phase);
            if out_of_turn {
                let stop = filed == phase;
                self.queue.insert((phase, item));
                if stop {
                    break;
                }
                continue;
            }
            batch_phase = Some(phase);
            batch.push((item, update));
        }
        batch
    }

    /// What came of the action under way, or happened by itself.
    pub fn on(&mut self, now: Duration, plan: &Plan, event: Event) {
        match event {
            Event::Connected => self.connected(now),
            Event::Disconnected { why } => self.disconnected(why),
            Event::Written(result) => {
                // An answer to something that was not asked is a late one from before a reconnect; here and below.
                if let Some(work) = self.writing.take() {
                    self.written(now, work, result);
                }
            }
            answer => self.answered(now, plan, answer),
        }
    }

    fn answered(&mut self, now: Duration, plan: &Plan, answer: Event) {
        match (answer, self.under_way.take()) {
            (Event::Pipeline(result), Some(UnderWay::Check)) => match result {
                Ok(true) => self.enter(State::Reading),
                Ok(false) => {
                    self.set_pipeline = true;
                    self.step = None;
                }
                Err(why) => self.step_failed(now, format!("cannot read its pipeline: {why}")),
            },
            (Event::PipelineSet(result), Some(UnderWay::Set)) => {
                // Whatever came of it: look again before the next attempt.
                self.set_pipeline = false;
                match result {
                    Ok(()) => self.enter(State::Reading),
                    Err(why) => self.step_failed(now, format!("cannot set its pipeline: {why}")),
                }
            }
            (Event::ReadBack(result), Some(UnderWay::Read(look))) => match result {
                Ok(_) if look.spoilt => {}
                Ok(read) => self.read(now, plan, read, &look),
                Err(why) => {
                    // Its pipeline may have been replaced under us: begin there.
                    self.state = State::Pipeline;
                    self.step_failed(now, format!("cannot read its tables: {why}"));
                }
            },
            (_, under_way) => self.under_way = under_way,
        }
    }

    fn connected(&mut self, now: Duration) {
        self.reset();
        self.connected_at = Some(now);
        self.enter(State::Pipeline);
    }

    fn disconnected(&mut self, why: String) {
        self.reset();
        self.why_disconnected = why;
        self.enter(State::Disconnected);
    }

    /// Forgets what was believed of the switch: after a reconnect it may be another one.
    fn reset(&mut self) {
        self.set_pipeline = false;
        self.under_way = None;
        self.writing = None;
        self.actual = Actual::default();
        self.queue.clear();
        self.touched.clear();
        self.failures.clear();
        self.step = None;
        self.unverified = false;
        self.unexpected_rounds = 0;
        self.connected_at = None;
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.step = None;
    }

    fn step_failed(&mut self, now: Duration, why: String) {
        let attempts = self.step.as_ref().map_or(0, |step| step.attempts);
        self.step = Some(self.failure(now, attempts, why));
    }

    fn failure(&self, now: Duration, attempts: u32, why: String) -> Failure {
        let wait = self.options.retry_min.saturating_mul(1 << attempts.min(20)).min(self.options.retry_max);
        Failure { attempts: attempts.saturating_add(1), retry_at: now + wait, why, permanent: false }
    }

    fn read(&mut self, now: Duration, plan: &Plan, read: ReadBack, look: &Look) {
        let verifying = look.verifies;
        self.step = None;
        let queue = std::mem::take(&mut self.queue);
        if verifying {
            // Nothing waited when the look began, so all of this is wished for since.
            self.touched.extend(queue.iter().filter_map(|(_, item)| item.key()));
        }
        let believed = std::mem::replace(&mut self.actual, Actual::new(read));
        if verifying {
            self.actual.keep_wishes(&believed);
        }
        self.actual.keep(&believed, &look.overtaken);
        let mut out_of_step = self.actual.out_of_step(plan);
        if let Some(writing) = &self.writing {
            let answered_soon: BTreeSet<&Item> = writing.iter().map(|(item, _)| item).collect();
            out_of_step.retain(|(_, item)| !answered_soon.contains(item));
        }
        let differs: BTreeSet<&Item> = out_of_step.iter().map(|(_, item)| item).collect();
        // Foreign things are numbered anew by each read-back, so their failures cannot be told apart any more.
        self.failures.retain(|item, _| differs.contains(item) && !matches!(item, Item::Foreign(_)));
        let mut unexpected = Vec::new();
        for (phase, item) in &out_of_step {
            let touched = matches!(item, Item::Entry(key) if self.touched.contains(key));
            if touched || !verifying && !self.failures.contains_key(item) {
                self.queue.insert((*phase, item.clone()));
            } else if !self.failures.contains_key(item) {
                unexpected.push(item.clone());
            }
        }
        self.note_unexpected(now, unexpected);
        self.unverified = !verifying;
        self.next_audit = now + self.options.audit_every;
        self.state = State::Writing;
        if verifying && out_of_step.is_empty() {
            self.state = State::Synced;
            self.unexpected_rounds = 0;
            if let Some(since) = self.connected_at.take() {
                self.resyncs += 1;
                self.last_resync = Some(now.saturating_sub(since));
            }
        }
    }

    /// Accepted and yet not held, or changed by another hand: put right, but never in a tight loop.
    fn note_unexpected(&mut self, now: Duration, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        for item in items {
            let why = "the switch does not hold what it accepted".into();
            let failure = self.failure(now, self.unexpected_rounds, why);
            self.failures.insert(item, failure);
        }
        self.unexpected_rounds = self.unexpected_rounds.saturating_add(1);
    }

    fn written(&mut self, now: Duration, work: Work, result: Result<Vec<Result<(), UpdateError>>, String>) {
        let results = match result {
            Ok(results) if results.len() == work.len() => results,
            Ok(results) => {
                let why = format!("it answered {} of {} updates", results.len(), work.len());
                return self.look_again(now, why);
            }
            Err(why) => return self.look_again(now, why),
        };
        self.step = None;
        let mut surprised = false;
        for ((item, update), result) in work.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    // What was refused before is not believed without a look.
                    self.unverified |= self.failures.remove(&item).is_some();
                    self.actual.accepted(&item, update);
                }
                Err(error) => {
                    surprised |= matches!(error.code, NOT_FOUND | ALREADY_EXISTS);
                    let attempts = self.failures.get(&item).map_or(0, |failure| failure.attempts);
                    let failure = self.failure(now, attempts, error.to_string());
                    let permanent = error.is_permanent() || failure.attempts >= HOPELESS;
                    self.failures.insert(item, Failure { permanent, ..failure });
                }
            }
        }
        if surprised {
            // It holds something else than we think. What failed keeps its back-off, so this is no tight loop.
            self.doubt();
            self.step = Some(self.failure(now, 0, "it holds other entries than expected: reading again".into()));
        }
    }

    /// The fate of a write is unknown: read what the switch holds.
    fn look_again(&mut self, now: Duration, why: String) {
        self.doubt();
        self.step_failed(now, format!("a write failed as a whole: {why}"));
    }

    /// What the switch holds has to be read, by a look that begins from here on.
    fn doubt(&mut self) {
        if let Some(UnderWay::Read(look)) = &mut self.under_way {
            look.spoilt = true;
        }
        // Where its pipeline is in doubt, tables come later.
        if self.state != State::Pipeline {
            self.state = State::Reading;
        }
    }

    /// What an operator sees.
    pub fn status(&self) -> Status {
        let detail = match (&self.step, self.state) {
            (_, State::Disconnected) => self.why_disconnected.clone(),
            (Some(step), _) => format!("{} (attempt {})", step.why, step.attempts),
            (None, _) => self.refusals(),
        };
        Status {
            state: self.state,
            detail,
            entries: self.actual.entries().len(),
            pending: self.queue.len() + self.touched.len() + self.under_way_len(),
            refused: self.failures.len(),
            resyncs: self.resyncs,
            last_resync: self.last_resync,
        }
    }

    /// The entries that the switch is known to hold, by key.
    pub fn held(&self) -> &BTreeMap<Key, Entry> {
        self.actual.entries()
    }

    /// Whether the switch is known to hold these as planned, with their meters.
    pub fn holds<'a>(&self, plan: &Plan, keys: impl IntoIterator<Item = &'a Key>) -> bool {
        keys.into_iter().all(|key| self.actual.holds(plan, key))
    }

    /// Entries of these that the switch refuses, and will go on to refuse, each with its reason. Costs what is refused.
    pub fn refused(&self) -> impl Iterator<Item = (&Key, &str)> {
        self.failures.iter().filter(|(_, failure)| failure.permanent).filter_map(|(item, failure)| match item {
            Item::Entry(key) => Some((key, failure.why.as_str())),
            _ => None,
        })
    }

    /// How many entries each table is known to hold, by its id.
    pub fn table_use(&self) -> &BTreeMap<u32, u64> {
        self.actual.counts()
    }

    fn under_way_len(&self) -> usize {
        self.writing.as_ref().map_or(0, Vec::len)
    }

    fn refusals(&self) -> String {
        let mut lines: Vec<String> = self
            .failures
            .iter()
            .take(MAX_REPORTED)
            .map(|(item, failure)| format!("{item}: {} (attempt {})", failure.why, failure.attempts))
            .collect();
        if self.failures.len() > MAX_REPORTED {
            lines.push(format!("and {} more", self.failures.len() - MAX_REPORTED));
        }
        lines.join("; ")
    }
}
