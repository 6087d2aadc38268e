//! Writes the Rust code.

mod rest;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use self::table::Binding;
use crate::Error;
use crate::order;
use crate::p4info::{self, P4Info, Param, Table};
use crate::rules::{self, Target, refers_to};

const DERIVES: &str = "#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]";

/// A field of a generated struct or variant.
struct Field {
    id: u32,
    name: String,
    bits: u32,
    /// Of the value; the struct's field may wrap it.
    rust: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Exact,
    Lpm,
    Ternary,
    Param,
}

impl Field {
    fn rust_type(&self) -> String {
        match self.kind {
            Kind::Exact | Kind::Param => self.rust.clone(),
            Kind::Lpm => format!("crate::Prefix<{}>", self.rust),
            Kind::Ternary => format!("crate::Ternary<{}>", self.rust),
        }
    }

    /// The function of `crate::codec` that reads or writes it.
    fn codec(&self) -> &'static str {
        match self.kind {
            Kind::Exact => "exact",
            Kind::Lpm => "lpm",
            Kind::Ternary => "ternary",
            Kind::Param => "param",
        }
    }

    fn doc(&self) -> String {
        let what = match self.kind {
            Kind::Exact => "exact",
            Kind::Lpm => "longest prefix",
            Kind::Ternary => "value and mask",
            Kind::Param => "parameter",
        };
        format!("`{}`, {what}, {} bits.", self.name, self.bits)
    }
}

struct Emitter<'a> {
    info: &'a P4Info,
    stages: BTreeMap<String, u8>,
    /// Fields that something refers to.
    targets: BTreeSet<Target>,
    /// Types that must have a width, which only the compiler can tell of those that are not generated.
    widths: BTreeSet<(String, u32)>,
    /// Newtypes that are ours to define, with their widths.
    newtypes: BTreeMap<String, (u32, Target)>,
    out: String,
}

pub fn tables(info: &P4Info) -> Result<String, Error> {
    let mut targets = BTreeSet::new();
    for action in &info.actions {
        for param in &action.params {
            targets.extend(refers_to(&param.annotations)?);
        }
    }
    for table in &info.tables {
        for field in &table.fields {
            targets.extend(refers_to(&field.annotations)?);
        }
    }
    let mut emitter = Emitter {
        info,
        stages: order::stages(info)?,
        targets,
        widths: BTreeSet::new(),
        newtypes: BTreeMap::new(),
        out: String::new(),
    };
    for table in &info.tables {
        emitter.table(table)?;
    }
    emitter.any()?;
    for header in &info.headers {
        emitter.header(header)?;
    }
    for digest in &info.digests {
        emitter.digest(digest)?;
    }
    emitter.arrays("counters", "indirect counters", &info.counters)?;
    emitter.arrays("meters", "indirect meters", &info.meters)?;
    emitter.arrays("registers", "registers", &info.registers)?;
    emitter.newtypes()?;
    for (rust, bits) in &emitter.widths {
        writeln!(
            emitter.out,
            "const _: () = assert!(<{rust} as crate::Value>::BITS == {bits}, \"tables/build/rules.rs gives a field of {bits} \
             bits a type of another width\");"
        )?;
    }
    Ok(emitter.out)
}

impl Emitter<'_> {
    /// The type of a field; `at` is the table and field itself, where it is part of a key.
    fn rust_type(
        &mut self,
        of: &str,
        (name, bits, annotations): (&str, u32, &[String]),
        at: Option<Target>,
    ) -> Result<String, Error> {
        let own = at.filter(|t| self.targets.contains(t));
        let Some(target) = refers_to(annotations)?.or(own) else {
            return rules::plain_type(of, name, bits, annotations);
        };
        let (rust, ours) = target.rust_type();
        if ours {
            let known = self.newtypes.entry(rust.clone()).or_insert((bits, target)).0;
            if known != bits {
                return Err(format!("{of}: {name} has {bits} bits, what it refers to {known}").into());
            }
        }
        Ok(rust)
    }

    fn key_fields(&mut self, table: &Table) -> Result<Vec<Field>, Error> {
        let of = &table.preamble.name;
        let mut fields = Vec::new();
        for field in &table.fields {
            let kind = match field.kind {
                p4info::EXACT => Kind::Exact,
                p4info::LPM => Kind::Lpm,
                p4info::TERNARY => Kind::Ternary,
                other => {
                    return Err(format!(
                        "{of}: {} has match kind {other}, but only exact, lpm and ternary have a type in \
                         tables/src/matching.rs: add one there and here",
                        field.name
                    )
                    .into());
                }
            };
            let at = Target { table: of.clone(), field: field.name.clone() };
            let described = (field.name.as_str(), field.bits, field.annotations.as_slice());
            fields.push(Field {
                id: field.id,
                name: field.name.clone(),
                bits: field.bits,
                rust: self.rust_type(of, described, Some(at))?,
                kind,
            });
        }
        Ok(fields)
    }

    fn params(&mut self, of: &str, params: &[Param]) -> Result<Vec<Field>, Error> {
        let mut fields = Vec::new();
        for param in params {
            let described = (param.name.as_str(), param.bits, param.annotations.as_slice());
            fields.push(Field {
                id: param.id,
                name: param.name.clone(),
                bits: param.bits,
                rust: self.rust_type(of, described, None)?,
                kind: Kind::Param,
            });
        }
        Ok(fields)
    }

    fn table(&mut self, table: &Table) -> Result<(), Error> {
        let fields = self.key_fields(table)?;
        let info = self.info;
        let mut actions = Vec::new();
        for reference in table.actions.iter().filter(|a| a.in_entries()) {
            let action = info.action(reference.id)?;
            actions.push((action, self.params(&action.preamble.name, &action.params)?));
        }
        let all = fields.iter().chain(actions.iter().flat_map(|(_, params)| params));
        self.widths.extend(all.map(|f| (f.rust.clone(), f.bits)));
        let stage = self.stages[&table.preamble.name];
        Binding::new(table, fields, actions, stage).emit(&mut self.out)
    }
}
