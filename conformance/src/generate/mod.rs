//! Entries and frames that get deep into a program, because they are made from it.
//!
//! Values come from one [`Pool`]: the program's own constants and a few small numbers. Keys of entries and fields of frames
//! are drawn from it alike, so that they meet.

mod bits;
mod entries;
mod explore;
mod frames;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::dice::Dice;

pub use entries::Entries;
pub use explore::{coverage, explore, time_dependence};
pub use frames::Frames;

/// The ports that generated entries send to and generated frames come from.
pub const PORTS: [u16; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// Constants of the program that are kept: enough for every program of ours, and a bound for any other.
const MOST_CONSTANTS: usize = 96;

/// Values of which there are few, so that a field, an argument and a key often have the same one.
const HOT: [u128; 3] = [1, 2, 3];

/// What frames have come by.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// States of the parser, and whether a frame came by.
    pub states: BTreeMap<String, bool>,
    /// Tables that have a key, and whether an entry was hit.
    pub tables: BTreeMap<String, bool>,
    /// Tables with each of their actions, and whether it ran, on a hit or by default.
    pub actions: BTreeMap<(String, String), bool>,
}

impl Coverage {
    /// Takes in what another run has come by.
    pub fn join(&mut self, other: &Self) {
        for (state, seen) in &other.states {
            *self.states.entry(state.clone()).or_default() |= seen;
        }
        for (table, hit) in &other.tables {
            *self.tables.entry(table.clone()).or_default() |= hit;
        }
        for (action, ran) in &other.actions {
            *self.actions.entry(action.clone()).or_default() |= ran;
        }
    }

    /// What it has not come by.
    pub fn missing(&self) -> Vec<String> {
        let tables = self.tables.iter().filter(|t| !t.1).map(|(table, _)| format!("{table} is never hit"));
        let actions = self.actions.iter().filter(|a| !a.1).map(|((table, action), _)| format!("{table}: {action}"));
        let states = self.states.iter().filter(|s| !s.1).map(|(state, _)| format!("parser state {state}"));
        states.chain(tables).chain(actions).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let done = |all: &mut dyn Iterator<Item = &bool>| all.filter(|done| **done).count();
        let tables = done(&mut self.tables.values());
        let actions = done(&mut self.actions.values());
        let states = done(&mut self.states.values());
        write!(f, "{states} of {} parser states, {tables} of {} tables hit, ", self.states.len(), self.tables.len())?;
        write!(f, "{actions} of {} actions run", self.actions.len())
    }
}

/// Operations of conditions that compare.
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];

/// Values at which a program decides something.
#[derive(Debug, Clone)]
pub struct Pool {
    constants: Vec<u128>,
    /// What conditions compare a field with.
    compared: HashMap<(String, String), Vec<u128>>,
}

impl Pool {
    /// The constants of a BMv2 JSON.
    pub fn new(program: &Value) -> Self {
        let mut found = BTreeSet::from([0, 1, 2, 3, 5, 7, 0xff, u128::MAX]);
        let mut compared = HashMap::new();
        collect(program, &mut found, &mut compared);
        Self { constants: found.into_iter().take(MOST_CONSTANTS).collect(), compared }
    }

    /// Whether a condition compares a field with something.
    fn decides(&self, field: &(String, String)) -> bool {
        self.compared.contains_key(field)
    }

    /// A value for a field of `width` bits: more often than not one that a condition compares it with.
    pub fn field(&self, field: &(String, String), width: u32, dice: &mut Dice) -> u128 {
        match self.compared.get(field) {
            Some(values) if !dice.one_in(4) => dice.pick(values).copied().unwrap_or(0) & ones(width),
            _ => self.value(width, dice),
        }
    }

    /// A value of at most `width` bits.
    pub fn value(&self, width: u32, dice: &mut Dice) -> u128 {
        let all = ones(width);
        match dice.below(8) {
            0 => u128::from(dice.roll()) << 64 & all | u128::from(dice.roll()) & all,
            1 => all,
            2 => all >> 1,
            3..=5 => dice.pick(&HOT).copied().unwrap_or(0) & all,
            _ => dice.pick(&self.constants).copied().unwrap_or(0) & all,
        }
    }
}

fn collect(node: &Value, found: &mut BTreeSet<u128>, compared: &mut HashMap<(String, String), Vec<u128>>) {
    let constant = |v: Option<&Value>| v?.get("value")?.as_str().and_then(hexstr);
    match node {
        Value::Object(map) if map.get("op").and_then(Value::as_str).is_some_and(|op| COMPARISONS.contains(&op)) => {
            let names = map.get("left").and_then(|l| l.get("value")).and_then(Value::as_array);
            if let (Some([header, field]), Some(n)) = (names.map(Vec::as_slice), constant(map.get("right")))
                && let (Some(header), Some(field)) = (header.as_str(), field.as_str())
            {
                compared.entry((header.to_owned(), field.to_owned())).or_default().push(n);
            }
            map.values().for_each(|v| collect(v, found, compared));
        }
        Value::Object(map) => {
            if map.get("type").and_then(Value::as_str) == Some("hexstr")
                && let Some(n) = map.get("value").and_then(Value::as_str).and_then(hexstr)
            {
                found.insert(n);
            }
            map.values().for_each(|v| collect(v, found, compared));
        }
        Value::Array(all) => all.iter().for_each(|v| collect(v, found, compared)),
        _ => {}
    }
}

/// `0x1f` as a number; `None` for what is negative or longer than 128 bits.
pub(crate) fn hexstr(text: &str) -> Option<u128> {
    u128::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// As many ones.
pub(crate) fn ones(width: u32) -> u128 {
    if width >= 128 { u128::MAX } else { (1 << width) - 1 }
}
