//! Marks in the code: what a program that is watched tells (see [`Marking`]).

use super::super::error::LoadError;
use super::super::marks::{Mark, Marking, Named};
use super::super::ops::Op;
use super::Compiler;
use super::builder::Label;
use serde_json::Value;

/// The longest text of a step; the source of a statement can go over many lines.
const MAX_TEXT: usize = 200;

impl Compiler<'_> {
    /// Puts a mark here.
    pub(super) fn mark(&mut self, mark: Mark) {
        // One mark an instruction at most, and those are bounded far below.
        let ix = self.out.marks.len() as u32;
        self.out.marks.push(mark);
        self.b.emit(Op::Mark { ix });
    }

    /// Marks the beginning of a part, if every step is told.
    pub(super) fn mark_part(&mut self, text: impl FnOnce() -> String) {
        if self.out.target.marking == Marking::Steps {
            self.mark(Mark::Part(text()));
        }
    }

    /// Marks a parser operation or a primitive, if every step is told.
    pub(super) fn mark_step(&mut self, step: &Value) {
        if self.out.target.marking == Marking::Steps {
            self.mark(Mark::Step(text_of(step)));
        }
    }

    /// Marks both ways of a conditional; returns where to go instead.
    pub(super) fn mark_branch(&mut self, name: &str, conditional: &Value, yes: Label, no: Label) -> (Label, Label) {
        if self.out.target.marking != Marking::Steps {
            return (yes, no);
        }
        // The ways come first, and are jumped over.
        let start = self.b.label();
        self.b.emit(Op::Jmp { t: start.0 });
        let text = source(conditional).unwrap_or_else(|| name.to_owned());
        let mut way = |what: &str, to: Label| {
            let label = self.b.label();
            self.b.place(label);
            self.mark(Mark::Part(format!("if {text}: {what}")));
            self.b.emit(Op::Jmp { t: to.0 });
            label
        };
        let ways = (way("true", yes), way("false", no));
        self.b.place(start);
        ways
    }

    /// Marks the key that a table is applied to.
    pub(super) fn mark_key(&mut self, table: usize) {
        if self.out.target.marking != Marking::Steps {
            return;
        }
        let info = &self.out.tables[table];
        let named = |(at, field): (usize, &super::super::info::KeyField)| {
            // The last piece of a field is where the field starts.
            let slot = self.out.keys[table].0.iter().rfind(|p| usize::from(p.field) == at)?.slot;
            Some(Named { name: field.name.clone(), slot, width: field.width })
        };
        let parts = info.key.iter().enumerate().filter_map(named).collect();
        self.mark(Mark::Key { table, parts });
    }

    /// Marks what a table came to: `action` is the program's number of it.
    pub(super) fn mark_way(&mut self, table: usize, hit: bool, action: Option<usize>) {
        if self.out.target.marking == Marking::None {
            return;
        }
        let mut args = Vec::new();
        if let Some(action) = action {
            let params = self.out.actions[action].params.iter().zip(&self.actions[action].params);
            args.extend(params.map(|(p, (slot, width))| Named { name: p.name.clone(), slot: *slot, width: *width }));
        }
        let action = action.map(|a| self.out.actions[a].name.clone());
        self.mark(Mark::Way { table, hit, action, args });
    }

    /// The names of everything that a trace shows when it changes.
    pub(super) fn name_slots(&mut self) {
        if self.out.target.marking != Marking::Steps {
            return;
        }
        let mut names = self.b.layout.names();
        let own = |name: &str, slot| Named { name: name.to_owned(), slot, width: 64 };
        names.push(own("parser error", self.out.error_slot));
        names.push(own("checksum error", self.out.checksum_slot));
        names.sort_by(|a, b| (a.slot, &a.name).cmp(&(b.slot, &b.name)));
        names.dedup_by_key(|n| n.slot);
        self.out.names = names;
    }

    /// A place that marks a table's way without an action and goes on at `next`.
    pub(super) fn marked_none(&mut self, table: usize, next: Label) -> Result<Label, LoadError> {
        if self.out.target.marking == Marking::None {
            return Ok(next);
        }
        let label = self.b.label();
        self.b.place(label);
        self.mark_way(table, false, None);
        self.b.emit(Op::Jmp { t: next.0 });
        Ok(label)
    }
}

/// The statement in the program's source that something was made of.
fn source(v: &Value) -> Option<String> {
    let info = v.get("source_info")?;
    let fragment = info.get("source_fragment").and_then(Value::as_str)?.trim();
    let line = info.get("line").and_then(Value::as_u64);
    let mut text: String = fragment.split_whitespace().collect::<Vec<_>>().join(" ");
    shorten(&mut text);
    Some(line.map_or(text.clone(), |line| format!("{text}  (line {line})")))
}

/// The source of a step, or else its operation and parameters as the JSON has them.
fn text_of(step: &Value) -> String {
    if let Some(text) = source(step) {
        return text;
    }
    let op = step.get("op").and_then(Value::as_str).unwrap_or("?");
    let params = step.get("parameters").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if let ("primitive", [call]) = (op, params) {
        return text_of(call);
    }
    let mut text = format!("{op}({})", params.iter().map(operand).collect::<Vec<_>>().join(", "));
    shorten(&mut text);
    text
}

fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// An operand of the JSON, in short.
fn operand(v: &Value) -> String {
    let inner = v.get("value").unwrap_or(v);
    match inner {
        Value::String(s) => s.clone(),
        Value::Array(path) if path.iter().all(Value::is_string) => {
            path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(".")
        }
        Value::Object(o) if o.contains_key("value") => operand(inner),
        other => other.to_string(),
    }
}
