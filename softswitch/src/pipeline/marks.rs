//! Marks: what a program that is watched has in its code, so that one that is not pays nothing for it.
//!
//! A mark is an instruction ([`Op::Mark`](super::ops::Op::Mark)) that changes nothing of the packet. It counts what a
//! table came to, or tells a [`Trace`](super::exec::Trace) where the packet is.

use super::layout::Slot;

/// What a program tells about the ways of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Marking {
    /// Nothing: the fastest code.
    #[default]
    None,
    /// Hits and misses of each table are counted.
    Tables,
    /// Every step can be traced. The program is then compiled plainly, step by step as it is written.
    Steps,
}

/// A value of the packet that has a name.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub name: String,
    pub slot: Slot,
    pub width: u32,
}

/// What a mark says.
#[derive(Debug)]
pub(crate) enum Mark {
    /// A part of the program begins: a parser state, a pipeline, a conditional with its outcome.
    Part(String),
    /// A step of such a part: an extraction, a primitive.
    Step(String),
    /// A table is applied to this key.
    Key { table: usize, parts: Vec<Named> },
    /// What the table came to.
    Way { table: usize, hit: bool, action: Option<String>, args: Vec<Named> },
}
