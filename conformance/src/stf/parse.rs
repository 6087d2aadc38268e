//! Reading a packet test: one command a line.
//!
//! The language is p4c's (its STF tests for BMv2), and a few commands more for what those cannot say:
//!
//! | command | what it does |
//! | --- | --- |
//! | `add TABLE [PRIORITY] KEY:VALUE… ACTION(ARG:VALUE, …)` | inserts; a higher priority wins |
//! | `add TABLE … member(N)`, `add TABLE … group(N)` | inserts an entry that names a member or a group |
//! | `setdefault TABLE ACTION(…)` | changes the default action |
//! | `member PROFILE N ACTION(…)`, `group PROFILE N MEMBER…` | makes a member, a group |
//! | `packet PORT HEX`, `expect PORT [HEX]`, `no_packet` | sends, expects; `*` any digit, `$` no more |
//! | `mirroring_add SESSION PORT`, `mirroring_add_mc SESSION GROUP` | where clones go |
//! | `mc_mgrp_create`, `mc_node_create`, `mc_node_associate` | multicast |
//! | `value_set NAME VALUE…` | the members of a parser value set |
//! | `register_write NAME INDEX VALUE`, `check_register NAME(INDEX) == VALUE` | registers |
//! | `check_counter NAME(INDEX) packets == N` | counters; `bytes` and other comparisons likewise |
//! | `meter_set_rates NAME INDEX RATE:BURST RATE:BURST` | committed and peak rate, in units a microsecond |
//! | `expect_digest NAME FIELD…` | a digest with these fields: numbers, names of errors, `invalid` for a header |
//! | `wait` | until what was sent has come out |
//!
//! Values: `0x12**` and `0b1*0` leave digits open, `VALUE/PREFIX`, `VALUE&&&MASK`, `LOW..HIGH`.

use anyhow::{Context, Result, bail, ensure};

use super::expect::Pattern;
use super::tokens::Tokens;

/// One field of a key as written: name and value.
pub type Key = (String, Value);

/// What a key field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number, perhaps with open digits.
    Number(String),
    /// A number and the length of the prefix.
    Prefix(String, u32),
    /// A number and a mask.
    Mask(String, String),
    /// Bounds, both included.
    Range(String, String),
}

/// An action as written: name, and arguments by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The name, or the end of it.
    pub name: String,
    /// Argument names and values.
    pub args: Vec<(String, String)>,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Does {
    /// Runs an action.
    Action(Call),
    /// Runs what a member of its action profile says.
    Member(u32),
    /// Runs one of a group's members.
    Group(u32),
}

/// Committed and peak rate: units a second, and the burst in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Committed rate and burst.
    pub committed: (u64, u64),
    /// Peak rate and burst.
    pub peak: (u64, u64),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// `==`
    Equal,
    /// `!=`
    Different,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Is {
    /// Whether it holds.
    pub fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Different => left != right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

/// One line of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module's table says what each does")]
pub enum Command {
    Add {
        table: String,
        priority: Option<i32>,
        keys: Vec<Key>,
        does: Does,
    },
    SetDefault {
        table: String,
        call: Call,
    },
    Member {
        profile: String,
        id: u32,
        call: Call,
    },
    Group {
        profile: String,
        id: u32,
        members: Vec<u32>,
    },
    Packet {
        port: u16,
        frame: Vec<u8>,
    },
    Expect {
        port: u16,
        pattern: Option<Pattern>,
    },
    NoPacket,
    Mirror {
        session: u32,
        port: u16,
    },
    MirrorGroup {
        session: u32,
        group: u32,
    },
    MirrorDelete {
        session: u32,
    },
    McGroup {
        group: u32,
    },
    McNode {
        rid: u32,
        ports: Vec<u16>,
    },
    McAssociate {
        group: u32,
        node: usize,
    },
    ValueSet {
        name: String,
        values: Vec<Value>,
    },
    RegisterWrite {
        name: String,
        index: u64,
        value: String,
    },
    RegisterReset {
        name: String,
    },
    CheckRegister {
        name: String,
        index: u64,
        is: Is,
        value: u64,
    },
    CounterWrite {
        name: String,
        index: u64,
        packets: u64,
        bytes: u64,
    },
    CheckCounter {
        name: String,
        index: u64,
        bytes: bool,
        is: Is,
        value: u64,
    },
    Meter {
        name: String,
        index: Option<u64>,
        rates: Rates,
    },
    ExpectDigest {
        name: String,
        fields: Vec<String>,
    },
    Wait,
    /// Has no effect on what comes out: reads that p4c's runner does not look at either.
    Nothing,
}

/// Reads a whole test. Each command comes with its line number, from 1.
///
/// # Errors
/// The first line that is no command, with its number.
pub fn parse(text: &str) -> Result<Vec<(usize, Command)>> {
    let mut commands = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            commands.push((n + 1, command(line).with_context(|| format!("line {}: {line}", n + 1))?));
        }
    }
    Ok(commands)
}

fn command(line: &str) -> Result<Command> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let word = word.to_ascii_lowercase();
    match word.as_str() {
        "packet" => {
            let (port, data) = port_and_data(rest)?;
            let digits: String = data.chars().filter(|c| !c.is_whitespace()).collect();
            return Ok(Command::Packet { port, frame: unhex(&digits)? });
        }
        "expect" => {
            let (port, data) = port_and_data(rest)?;
            let pattern = (!data.trim().is_empty()).then(|| Pattern::new(data));
            return Ok(Command::Expect { port, pattern });
        }
        _ => {}
    }
    let mut t = Tokens::new(rest)?;
    let command = match word.as_str() {
        "add" => add(&mut t)?,
        "setdefault" => Command::SetDefault { table: t.word()?, call: call(&mut t)? },
        "member" => Command::Member { profile: t.word()?, id: t.int()?, call: call(&mut t)? },
        "group" => Command::Group { profile: t.word()?, id: t.int()?, members: t.ints()? },
        "no_packet" => Command::NoPacket,
        "mirroring_add" => Command::Mirror { session: t.int()?, port: t.int()? },
        "mirroring_add_mc" => Command::MirrorGroup { session: t.int()?, group: t.int()? },
        "mirroring_delete" => Command::MirrorDelete { session: t.int()? },
        "mc_mgrp_create" => Command::McGroup { group: t.int()? },
        "mc_node_create" => Command::McNode { rid: t.int()?, ports: t.ints()? },
        "mc_node_associate" => Command::McAssociate { group: t.int()?, node: t.int()? },
        "value_set" => {
            let name = t.word()?;
            let mut values = Vec::new();
            while !t.done() {
                values.push(value(&mut t)?);
            }
            Command::ValueSet { name, values }
        }
        "register_write" => Command::RegisterWrite { name: t.word()?, index: t.int()?, value: t.word()? },
        "register_reset" => Command::RegisterReset { name: t.word()? },
        "check_register" => {
            let (name, index) = indexed(&mut t)?;
            Command::CheckRegister { name, index, is: comparison(&mut t)?, value: t.int()? }
        }
        "counter_write" => {
            Command::CounterWrite { name: t.word()?, index: t.int()?, packets: t.int()?, bytes: t.int()? }
        }
        "check_counter" => {
            let (name, index) = indexed(&mut t)?;
            if t.done() {
                return Ok(Command::Nothing);
            }
            let bytes = match t.word()?.to_ascii_lowercase().as_str() {
                "bytes" => true,
                "packets" => false,
                other => bail!("{other} is neither packets nor bytes"),
            };
            Command::CheckCounter { name, index, bytes, is: comparison(&mut t)?, value: t.int()? }
        }
        "meter_set_rates" => Command::Meter { name: t.word()?, index: Some(t.int()?), rates: rates(&mut t)? },
        "meter_array_set_rates" => Command::Meter { name: t.word()?, index: None, rates: rates(&mut t)? },
        "expect_digest" => {
            let name = t.word()?;
            let mut fields = Vec::new();
            while !t.done() {
                fields.push(t.word()?);
            }
            Command::ExpectDigest { name, fields }
        }
        "wait" => Command::Wait,
        "register_read" | "counter_read" | "mirroring_get" | "meter_get_rates" => return Ok(Command::Nothing),
        // p4c's runner ignores it.
        "remove" => return Ok(Command::Nothing),
        other => bail!("{other} is no command"),
    };
    ensure!(t.done(), "more than {word} takes: {:?}", t.left());
    Ok(command)
}

fn port_and_data(rest: &str) -> Result<(u16, &str)> {
    let rest = rest.trim_start();
    let (port, data) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Ok((port.parse().with_context(|| format!("{port} is no port"))?, data))
}

fn unhex(digits: &str) -> Result<Vec<u8>> {
    ensure!(digits.is_ascii() && digits.len().is_multiple_of(2), "an odd number of digits is no frame");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).context("a frame is written in hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn add(t: &mut Tokens) -> Result<Command> {
    let table = t.word()?;
    let mut priority = None;
    if t.peek(1) != Some(":")
        && let Some(n) = t.peek(0).and_then(|w| w.parse().ok())
    {
        priority = Some(n);
        t.word()?;
    }
    let mut keys = Vec::new();
    while t.peek(1) == Some(":") {
        let name = t.word()?;
        t.punctuation(":")?;
        keys.push((name, value(t)?));
    }
    let does = match (t.peek(0), t.peek(2)) {
        (Some(kind @ ("member" | "group")), Some(id)) if id.parse::<u32>().is_ok() => {
            let member = kind == "member";
            t.word()?;
            t.punctuation("(")?;
            let id = t.int()?;
            t.punctuation(")")?;
            if member { Does::Member(id) } else { Does::Group(id) }
        }
        _ => Does::Action(call(t)?),
    };
    // A name for the entry, which nothing uses.
    if t.peek(0) == Some("=") {
        t.punctuation("=")?;
        t.word()?;
    }
    Ok(Command::Add { table, priority, keys, does })
}

fn call(t: &mut Tokens) -> Result<Call> {
    let name = t.word()?;
    let mut args = Vec::new();
    t.punctuation("(")?;
    while t.peek(0) != Some(")") {
        let name = t.word()?;
        t.punctuation(":")?;
        args.push((name, t.word()?));
        if t.peek(0) == Some(",") {
            t.punctuation(",")?;
        }
    }
    t.punctuation(")")?;
    Ok(Call { name, args })
}

fn value(t: &mut Tokens) -> Result<Value> {
    let first = t.word()?;
    if let Some((low, high)) = first.split_once("..") {
        return Ok(Value::Range(low.to_owned(), high.to_owned()));
    }
    match t.peek(0) {
        Some("/") => {
            t.punctuation("/")?;
            Ok(Value::Prefix(first, t.int()?))
        }
        Some("&&&") => {
            t.punctuation("&&&")?;
            Ok(Value::Mask(first, t.word()?))
        }
        _ => Ok(Value::Number(first)),
    }
}

fn indexed(t: &mut Tokens) -> Result<(String, u64)> {
    let name = t.word()?;
    t.punctuation("(")?;
    let index = t.int()?;
    t.punctuation(")")?;
    Ok((name, index))
}

fn comparison(t: &mut Tokens) -> Result<Is> {
    Ok(match t.next()?.as_str() {
        "==" => Is::Equal,
        "!=" => Is::Different,
        "<" => Is::Less,
        "<=" => Is::AtMost,
        ">" => Is::More,
        ">=" => Is::AtLeast,
        other => bail!("{other} is no comparison"),
    })
}

/// BMv2's command line gives rates in units a microsecond; P4Runtime has units a second.
fn rates(t: &mut Tokens) -> Result<Rates> {
    let mut one = || -> Result<(u64, u64)> {
        let rate: f64 = t.word()?.parse().context("a rate is a number")?;
        t.punctuation(":")?;
        ensure!((0.0..=1e12).contains(&rate), "{rate} is no rate");
        Ok(((rate * 1e6).round() as u64, t.int()?))
    };
    Ok(Rates { committed: one()?, peak: one()? })
}

#[cfg(test)]
mod tests;
