//! One packet's way through a program, in words.
//!
//! The program's marks say where the packet is; what a step has done is seen by comparing every named value with what
//! it was at the mark before.

use super::super::compile::copies::instance;
use super::super::marks::{Mark, Named};
use super::super::program::Program;
use super::super::tables::{Dataplane, Side};
use super::copies::{Later, Start};
use super::later::Waited;
use super::matched;
use super::{Batch, Done, MAX_FRAME, RECIRCULATE, TRACED, Verdict, Worker};
use std::fmt::Write;

/// The longest text about one packet. What would come after is left out.
pub const MAX_TRACE_BYTES: usize = 256 << 10;
/// Bytes of a frame that are shown.
const SHOWN_BYTES: usize = 128;

/// What is told about a packet.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Whether a packet is being traced at all.
    on: bool,
    text: String,
    /// Values at the mark before.
    before: Vec<u64>,
    /// The entry that the table finds which is applied now.
    entry: Option<String>,
}

/// Writes a line; writing to a string does not fail.
macro_rules! line {
    ($text:expr, $($arg:tt)*) => {
        let _ = writeln!($text, $($arg)*);
    };
}

impl Trace {
    /// Begins with a packet. `slots` are all that a program has; they are as a packet starts at the first mark.
    pub(super) fn begin(&mut self, ingress_port: u16, frame: &[u8]) {
        self.on = true;
        self.text.clear();
        self.before.clear();
        line!(self.text, "received at port {ingress_port}, {} bytes: {}", frame.len(), Bytes(frame));
    }

    /// Goes on with a packet that has waited.
    fn begin_again(&mut self, what: &str, ingress_port: u16, frame: &[u8]) {
        self.on = true;
        self.text.clear();
        let bytes = frame.len();
        line!(self.text, "{what}; received at port {ingress_port}, {bytes} bytes: {}", Bytes(frame));
    }

    /// Says something of a packet.
    pub(super) fn line(&mut self, what: &str) {
        if self.on && self.text.len() <= MAX_TRACE_BYTES {
            line!(self.text, "  {what}");
        }
    }

    /// The whole text.
    pub(super) fn end(&mut self) -> String {
        self.on = false;
        std::mem::take(&mut self.text)
    }

    /// A mark on the packet's way.
    pub(super) fn note(&mut self, dp: &Dataplane, side: &Side, slots: &[u64], mark: &Mark) {
        if !self.on || self.text.len() > MAX_TRACE_BYTES {
            return;
        }
        let p = dp.program();
        self.changes(p, slots);
        match mark {
            Mark::Part(text) => {
                line!(self.text, "  {text}");
            }
            Mark::Step(text) => {
                line!(self.text, "    {text}");
            }
            Mark::Key { table, parts } => {
                line!(self.text, "  table {}: {}", p.tables[*table].name, List(parts, slots));
                // What the lookup is about to find: its action may change the key.
                self.entry = dp.matched(side, *table, slots).map(|e| matched::describe(p, &p.tables[*table], &e));
            }
            Mark::Way { hit, action, args, .. } => {
                let found = if *hit { "hit" } else { "miss" };
                if let Some(entry) = self.entry.take().filter(|_| *hit) {
                    line!(self.text, "    entry {entry}");
                }
                match action {
                    Some(action) => {
                        line!(self.text, "    {found}: {action}({})", List(args, slots));
                    }
                    None => {
                        line!(self.text, "    {found}: no action");
                    }
                }
            }
        }
        if self.text.len() > MAX_TRACE_BYTES {
            line!(self.text, "  … (more is left out)");
        }
    }

    /// What the steps since the mark before have changed.
    fn changes(&mut self, p: &Program, slots: &[u64]) {
        if self.before.len() == slots.len() {
            for named in &p.names {
                if words(&self.before, named) == words(slots, named) {
                    continue;
                }
                let (old, new) = (value(&self.before, named), value(slots, named));
                if old == new {
                    continue;
                }
                match named.name.strip_suffix(".$valid$") {
                    Some(header) => {
                        let state = if new == "0x0" { "not valid any more" } else { "valid" };
                        line!(self.text, "      {header} is {state}");
                    }
                    None => {
                        line!(self.text, "      {} = {new} (was {old})", named.name);
                    }
                }
            }
        }
        self.before.clear();
        self.before.extend_from_slice(slots);
    }
}

impl Batch<'_, '_> {
    /// Like [`process`](Self::process), and tells the packet's way: in detail, if the program was compiled with
    /// [`Marking::Steps`](super::super::Marking::Steps).
    pub fn process_traced(
        &mut self,
        ingress_port: u16,
        frame: &[u8],
        now_us: u64,
        out: &mut impl FnMut(u16, &[u8]),
    ) -> String {
        self.worker.trace.begin(ingress_port, frame);
        if frame.len() > MAX_FRAME {
            self.worker.trace.line("dropped: longer than a frame can be");
        }
        self.flags |= TRACED;
        let before = self.worker.work.cut_off;
        self.process(ingress_port, frame, now_us, out);
        self.flags &= !TRACED;
        if self.worker.work.cut_off != before {
            self.worker.trace.line("dropped: cloned or started again too often");
        }
        self.worker.trace.end()
    }

    /// Tells how a packet goes on that has waited in a queue, if its way is told.
    pub(super) fn trace_waited(&mut self, port: u16, later: &Later, waited: &Waited, now_us: u64) {
        let us = now_us.saturating_sub(waited.since_us);
        let what = format!("from queue {} of port {port}, after {us} us", waited.priority);
        self.worker.trace.begin_again(&what, later.ingress_port, &later.frame);
    }
}

impl Worker {
    /// Tells what a run of a packet has come to.
    pub(super) fn trace_done(&mut self, done: &Done) {
        let frame = &self.out[done.sent.clone()];
        let (bytes, shown) = (frame.len(), Bytes(frame));
        let text = match done.verdict {
            Verdict::Sent if done.flags & RECIRCULATE != 0 => format!("recirculates, {bytes} bytes: {shown}"),
            Verdict::Sent if bytes > MAX_FRAME => "dropped: longer than a frame can be".to_owned(),
            Verdict::Sent => format!("sent to port {}, {bytes} bytes: {shown}", done.port),
            Verdict::Dropped => "dropped by the program".to_owned(),
            Verdict::NoGroup => "dropped: the multicast group has no replicas, or is not there".to_owned(),
            Verdict::NoQueue => "dropped: no queue for its priority".to_owned(),
            Verdict::AssertFailed => "dropped: an assert or assume failed".to_owned(),
            // What it has led to comes next.
            Verdict::Deferred => return,
        };
        self.trace.line(&text);
    }

    /// Tells that a packet waits, or cannot.
    pub(super) fn trace_parked(&mut self, port: u16, priority: u64, taken: bool) {
        let what = if taken { "waits in" } else { "dropped: no room in" };
        self.trace.line(&format!("{what} queue {priority} of port {port}"));
    }

    /// Tells that a packet goes on that something else has led to.
    pub(super) fn trace_later(&mut self, later: &Later) {
        let text = match &later.start {
            Start::Again { instance, .. } if *instance == instance::RESUBMITTED => {
                "resubmitted: parsed again".to_owned()
            }
            Start::Again { .. } => "recirculated: parsed again".to_owned(),
            Start::Copy { .. } => "clone of the frame as it came: parsed again".to_owned(),
            Start::Egress { port, rid: None, .. } => format!("the packet itself goes on to port {port}"),
            Start::Egress { port, rid: Some(rid), class, .. } => {
                let class = if *class == 0 { String::new() } else { format!(", class of service {class}") };
                format!("copy to port {port}, instance {rid}{class}")
            }
        };
        self.trace.line(&text);
        // What was seen last is of another packet.
        self.trace.before.clear();
        if let Start::Egress { slots, .. } = &later.start {
            self.trace.before.extend_from_slice(slots);
        }
    }
}

/// The words that hold a value.
fn words<'a>(slots: &'a [u64], named: &Named) -> &'a [u64] {
    let from = usize::from(named.slot);
    slots.get(from..from + named.width.div_ceil(64).max(1) as usize).unwrap_or(&[])
}

/// A value in hexadecimal.
fn value(slots: &[u64], named: &Named) -> String {
    let mut text = String::new();
    for word in words(slots, named).iter().rev() {
        // Signed fields are kept sign-extended: only their own bits are shown.
        let own = if named.width < 64 { word & ((1 << named.width) - 1) } else { *word };
        if text.is_empty() {
            if own != 0 {
                let _ = write!(text, "0x{own:x}");
            }
        } else {
            let _ = write!(text, "{own:016x}");
        }
    }
    if text.is_empty() { "0x0".to_owned() } else { text }
}

/// `name=value` for each.
struct List<'a>(&'a [Named], &'a [u64]);

impl std::fmt::Display for List<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, named) in self.0.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{}={}", named.name, value(self.1, named))?;
        }
        Ok(())
    }
}

/// The first bytes of a frame.
struct Bytes<'a>(&'a [u8]);

impl std::fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.iter().take(SHOWN_BYTES) {
            write!(f, "{byte:02x}")?;
        }
        if self.0.len() > SHOWN_BYTES { f.write_str("…") } else { Ok(()) }
    }
}
