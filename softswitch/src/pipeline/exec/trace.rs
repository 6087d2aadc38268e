//! One packet's way through a program, in words.
//!
//! The program's marks say where the packet is; what a step has done is seen by comparing every named value with what
//! it was at the mark before.

use super::super::marks::{Mark, Named};
use super::super::program::Program;
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

    /// Says what left.
    pub(super) fn sent(&mut self, port: u16, frame: &[u8]) {
        line!(self.text, "  sent to port {port}, {} bytes: {}", frame.len(), Bytes(frame));
    }

    /// Says what became of the packet otherwise.
    pub(super) fn outcome(&mut self, what: &str) {
        line!(self.text, "  {what}");
    }

    /// The whole text.
    pub(super) fn end(&mut self) -> String {
        self.on = false;
        std::mem::take(&mut self.text)
    }

    /// A mark on the packet's way.
    pub(super) fn note(&mut self, p: &Program, slots: &[u64], mark: &Mark) {
        if !self.on || self.text.len() > MAX_TRACE_BYTES {
            return;
        }
        self.changes(p, slots);
        match mark {
            Mark::Part(text) => {
                line!(self.text, "  {text}");
            }
            Mark::Step(text) => {
                line!(self.text, "    {text}");
            }
            Mark::Key { table, parts } => {
                line!(self.text, "  table {table}: {}", List(parts, slots));
            }
            Mark::Way { hit, action, args, .. } => {
                let found = if *hit { "hit" } else { "miss" };
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

/// A value in hexadecimal.
fn value(slots: &[u64], named: &Named) -> String {
    let from = usize::from(named.slot);
    let words = slots.get(from..from + named.width.div_ceil(64).max(1) as usize).unwrap_or(&[]);
    let mut text = String::new();
    for word in words.iter().rev() {
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
