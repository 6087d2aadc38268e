//! One table: its key, its actions, and [`Table`](crate::Table) for them.

use std::fmt::Write;

use super::{DERIVES, Field, Kind};
use crate::Error;
use crate::p4info::{Action, Table};
use crate::rules::camel;

pub struct Binding<'a> {
    table: &'a Table,
    /// The name as types begin with it.
    camel: String,
    fields: Vec<Field>,
    /// Those that entries can have, with their parameters.
    actions: Vec<(&'a Action, Vec<Field>)>,
    priority: bool,
    stage: u8,
}

impl<'a> Binding<'a> {
    pub fn new(table: &'a Table, fields: Vec<Field>, actions: Vec<(&'a Action, Vec<Field>)>, stage: u8) -> Self {
        let priority = fields.iter().any(|f| f.kind == Kind::Ternary);
        Self { table, camel: camel(&table.preamble.name), fields, actions, priority, stage }
    }

    pub fn emit(&self, out: &mut String) -> Result<(), Error> {
        self.key(out)?;
        self.action_enum(out)?;
        self.constants(out)?;
        self.encode(out)?;
        self.decode(out)?;
        writeln!(out, "}}\n")?;
        self.sample(out)
    }

    /// The struct, and how a person reads it.
    fn key(&self, out: &mut String) -> Result<(), Error> {
        let name = &self.table.preamble.name;
        let camel = &self.camel;
        writeln!(out, "/// The key of an entry of `{name}`.\n{DERIVES}\npub struct {camel}Key {{")?;
        if self.priority {
            writeln!(out, "    /// Of entries that match the same packet the one with the largest wins.")?;
            writeln!(out, "    pub priority: crate::Priority,")?;
        }
        for f in &self.fields {
            writeln!(out, "    /// {}\n    pub {}: {},", f.doc(), f.name, f.rust_type())?;
        }
        writeln!(out, "}}\n")?;
        if self.fields.iter().all(|f| f.kind == Kind::Ternary) {
            writeln!(out, "impl {camel}Key {{")?;
            writeln!(out, "    /// Matches every packet: to be narrowed with `..{camel}Key::any(priority)`.")?;
            writeln!(out, "    pub const fn any(priority: crate::Priority) -> Self {{")?;
            writeln!(out, "        Self {{\n            priority,")?;
            for f in &self.fields {
                writeln!(out, "            {}: {}::ANY,", f.name, f.rust_type().replace("Ternary<", "Ternary::<"))?;
            }
            writeln!(out, "        }}\n    }}\n}}\n")?;
        }
        writeln!(out, "impl ::std::fmt::Display for {camel}Key {{")?;
        writeln!(out, "    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {{")?;
        let mut shown: Vec<String> = self.fields.iter().map(|f| f.name.clone()).collect();
        if self.priority {
            shown.push("priority".into());
        }
        let format: Vec<String> = shown.iter().map(|n| format!("{n}={{}}")).collect();
        let values: Vec<String> = shown.iter().map(|n| format!("self.{n}")).collect();
        writeln!(out, "        write!(f, \"{name}[{}]\", {})", format.join(" "), values.join(", "))?;
        writeln!(out, "    }}\n}}\n")?;
        Ok(())
    }

    /// The enum, and how a person reads it.
    fn action_enum(&self, out: &mut String) -> Result<(), Error> {
        let name = &self.table.preamble.name;
        let camel = &self.camel;
        writeln!(out, "/// What an entry of `{name}` can do.\n{DERIVES}\npub enum {camel}Action {{")?;
        for (action, params) in &self.actions {
            let variant = variant_name(action);
            writeln!(out, "    /// `{}`.", action.preamble.name)?;
            if params.is_empty() {
                writeln!(out, "    {variant},")?;
                continue;
            }
            writeln!(out, "    {variant} {{")?;
            for p in params {
                writeln!(out, "        /// {}\n        {}: {},", p.doc(), p.name, p.rust_type())?;
            }
            writeln!(out, "    }},")?;
        }
        writeln!(out, "}}\n")?;
        writeln!(out, "impl ::std::fmt::Display for {camel}Action {{")?;
        writeln!(out, "    fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {{")?;
        writeln!(out, "        match self {{")?;
        for (action, params) in &self.actions {
            let format: Vec<String> = params.iter().map(|p| format!("{0}={{{0}}}", p.name)).collect();
            writeln!(
                out,
                "            Self::{}{} => write!(f, \"{}({})\"),",
                variant_name(action),
                pattern(params),
                action.preamble.name,
                format.join(" "),
            )?;
        }
        writeln!(out, "        }}\n    }}\n}}\n")?;
        Ok(())
    }

    /// The table itself, and the beginning of its trait.
    fn constants(&self, out: &mut String) -> Result<(), Error> {
        let name = &self.table.preamble.name;
        let camel = &self.camel;
        writeln!(out, "/// The table `{name}`.\n{DERIVES}\npub enum {camel}Table {{}}\n")?;
        writeln!(out, "impl crate::Table for {camel}Table {{")?;
        writeln!(out, "    type Key = {camel}Key;\n    type Action = {camel}Action;")?;
        writeln!(out, "    const TABLE_ID: u32 = {:#010x};", self.table.preamble.id)?;
        writeln!(out, "    const NAME: &'static str = {name:?};")?;
        writeln!(out, "    const SIZE: u64 = {};", u64::try_from(self.table.size)?)?;
        writeln!(out, "    const STAGE: u8 = {};", self.stage)?;
        let ids: Vec<String> = self.fields.iter().map(|f| f.id.to_string()).collect();
        writeln!(out, "    const FIELDS: &'static [u32] = &[{}];\n", ids.join(", "))?;
        Ok(())
    }

    /// From our types to messages.
    fn encode(&self, out: &mut String) -> Result<(), Error> {
        let camel = &self.camel;
        writeln!(out, "    fn encode_match(key: &{camel}Key) -> Vec<crate::codec::FieldMatch> {{")?;
        writeln!(out, "        [")?;
        for f in &self.fields {
            writeln!(out, "            crate::codec::{}({}, key.{}),", f.codec(), f.id, f.name)?;
        }
        writeln!(out, "        ]\n        .into_iter()\n        .flatten()\n        .collect()\n    }}\n")?;

        if self.priority {
            writeln!(out, "    fn priority(key: &{camel}Key) -> Option<crate::Priority> {{")?;
            writeln!(out, "        Some(key.priority)\n    }}\n")?;
        }

        writeln!(out, "    fn encode_action(action: &{camel}Action) -> crate::codec::Action {{")?;
        writeln!(out, "        match *action {{")?;
        for (action, params) in &self.actions {
            let encoded: Vec<String> =
                params.iter().map(|p| format!("crate::codec::param({}, {})", p.id, p.name)).collect();
            writeln!(
                out,
                "            {camel}Action::{}{} => crate::codec::action({:#010x}, vec![{}]),",
                variant_name(action),
                pattern(params),
                action.preamble.id,
                encoded.join(", "),
            )?;
        }
        writeln!(out, "        }}\n    }}\n")?;
        Ok(())
    }

    /// From messages to our types.
    fn decode(&self, out: &mut String) -> Result<(), Error> {
        let camel = &self.camel;
        writeln!(
            out,
            "    fn decode_key(read: &crate::codec::KeyReader<'_>) -> Result<{camel}Key, crate::DecodeError> {{"
        )?;
        writeln!(out, "        Ok({camel}Key {{")?;
        if self.priority {
            writeln!(out, "            priority: read.priority()?,")?;
        }
        for f in &self.fields {
            writeln!(out, "            {}: read.{}({}, {:?})?,", f.name, f.codec(), f.id, f.name)?;
        }
        writeln!(out, "        }})\n    }}\n")?;

        writeln!(
            out,
            "    fn decode_action(read: &crate::codec::ActionReader<'_>) -> Result<{camel}Action, crate::DecodeError> {{"
        )?;
        writeln!(out, "        match read.id() {{")?;
        for (action, params) in &self.actions {
            let ids: Vec<String> = params.iter().map(|p| p.id.to_string()).collect();
            let decoded: Vec<String> =
                params.iter().map(|p| format!("{}: read.param({}, {:?})?", p.name, p.id, p.name)).collect();
            let value = if decoded.is_empty() { String::new() } else { format!(" {{ {} }}", decoded.join(", ")) };
            writeln!(
                out,
                "            {:#010x} => {{\n                read.only(&[{}])?;\n                \
                 Ok({camel}Action::{}{value})\n            }}",
                action.preamble.id,
                ids.join(", "),
                variant_name(action),
            )?;
        }
        writeln!(out, "            _ => Err(read.foreign()),\n        }}\n    }}\n")?;
        Ok(())
    }

    /// For the property tests: any entry, from a source of numbers.
    fn sample(&self, out: &mut String) -> Result<(), Error> {
        let name = &self.table.preamble.name;
        let camel = &self.camel;
        writeln!(out, "#[cfg(test)]\nimpl crate::sample::Sample for ({camel}Key, {camel}Action) {{")?;
        writeln!(out, "    fn sample(source: &mut crate::sample::Source) -> Self {{")?;
        writeln!(out, "        let key = {camel}Key {{")?;
        if self.priority {
            writeln!(out, "            priority: source.priority(),")?;
        }
        for f in &self.fields {
            let method = if f.kind == Kind::Exact { "value" } else { f.codec() };
            writeln!(out, "            {}: source.{method}(),", f.name)?;
        }
        writeln!(out, "        }};")?;
        let sampled: Vec<String> = self
            .actions
            .iter()
            .map(|(action, params)| {
                let values: Vec<String> = params.iter().map(|p| format!("{}: source.value()", p.name)).collect();
                let value = if values.is_empty() { String::new() } else { format!(" {{ {} }}", values.join(", ")) };
                format!("{camel}Action::{}{value}", variant_name(action))
            })
            .collect();
        let Some((last, others)) = sampled.split_last() else {
            return Err(format!("entries of {name} can have no action: remove the table or add one").into());
        };
        if others.is_empty() {
            writeln!(out, "        let action = {last};")?;
        } else {
            writeln!(out, "        let action = match source.below({}) {{", sampled.len())?;
            for (n, one) in others.iter().enumerate() {
                writeln!(out, "            {n} => {one},")?;
            }
            writeln!(out, "            _ => {last},\n        }};")?;
        }
        writeln!(out, "        (key, action)\n    }}\n}}\n")?;
        Ok(())
    }
}

fn variant_name(action: &Action) -> String {
    camel(&action.preamble.name)
}

/// The pattern that binds a variant's parameters.
fn pattern(params: &[Field]) -> String {
    if params.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = params.iter().map(|p| p.name.as_str()).collect();
    format!(" {{ {} }}", names.join(", "))
}
