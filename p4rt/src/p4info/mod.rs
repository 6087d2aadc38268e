//! A P4Info, checked and indexed by id and by name (specification §6).
//!
//! [`P4Info::new`] refuses a P4Info that contradicts itself, so that users of the index need not: every action that a
//! table refers to exists, ids are unique, widths are positive, every match kind is one that is known.

mod objects;
mod text;

use std::collections::HashMap;

use thiserror::Error;

use crate::p4::config::v1;

pub use objects::{
    Action, ActionRef, Counter, DirectCounter, DirectMeter, Field, MatchKind, Meter, PacketHeader, Param, Scope, Table,
    Unit,
};
pub use text::TextError;

/// A P4Info that contradicts itself or uses what P4Runtime does not define.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum P4InfoError {
    /// Text that is no P4Info.
    #[error(transparent)]
    Text(#[from] TextError),
    /// An object without a preamble has neither id nor name.
    #[error("a {kind} of the P4Info has no preamble")]
    NoPreamble {
        /// Table, action, …
        kind: &'static str,
    },
    /// Ids are unique over all objects, and 0 is none.
    #[error("id {id:#010x} of {name:?} is 0 or used twice in the P4Info")]
    BadId {
        /// The id.
        id: u32,
        /// The second object that has it.
        name: String,
    },
    /// Two objects of one kind have the same name.
    #[error("the P4Info has two objects of one kind named {name:?}")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Fields of a key, of an action or of a packet header.
    #[error("{of:?} has two fields with the id {id}, or one with the id 0")]
    BadFieldId {
        /// The table, action or header.
        of: String,
        /// The id of the field.
        id: u32,
    },
    /// Only translated strings have no width, and those are not supported.
    #[error("field {field:?} of {of:?} has a width of {bits} bits: expected 1 to 65535")]
    BadWidth {
        /// The table, action or header.
        of: String,
        /// The field.
        field: String,
        /// The width that the P4Info tells.
        bits: i32,
    },
    /// A match kind that P4Runtime does not define.
    #[error(
        "field {field:?} of table {table:?} has the match kind {kind:?}: \
         expected exact, lpm, ternary, range or optional"
    )]
    BadMatchKind {
        /// The table.
        table: String,
        /// The field.
        field: String,
        /// What the P4Info tells.
        kind: String,
    },
    /// A size below zero.
    #[error("{name:?} has the size {size}")]
    BadSize {
        /// The table, counter or meter.
        name: String,
        /// What the P4Info tells.
        size: i64,
    },
    /// A reference to an object that is not there.
    #[error("{from:?} refers to the {kind} {id:#010x}, which the P4Info does not have")]
    Dangling {
        /// Who refers.
        from: String,
        /// To what kind of object.
        kind: &'static str,
        /// The id.
        id: u32,
    },
}

/// A checked P4Info.
#[derive(Debug, Clone)]
pub struct P4Info {
    raw: v1::P4Info,
    tables: Index<Table>,
    actions: Index<Action>,
    counters: Index<Counter>,
    direct_counters: Index<DirectCounter>,
    meters: Index<Meter>,
    direct_meters: Index<DirectMeter>,
    headers: Index<PacketHeader>,
}

/// Objects of one kind in the order of the P4Info.
#[derive(Debug, Clone)]
struct Index<T> {
    all: Vec<T>,
    by_id: HashMap<u32, usize>,
    /// Full names and aliases; a full name wins over the alias of another object.
    by_name: HashMap<String, usize>,
}

impl<T> Index<T> {
    fn build(
        all: Vec<T>,
        used: &mut HashMap<u32, ()>,
        names: impl Fn(&T) -> (u32, &str, &str),
    ) -> Result<Self, P4InfoError> {
        let (mut by_id, mut by_name) = (HashMap::new(), HashMap::new());
        for (at, object) in all.iter().enumerate() {
            let (id, name, _) = names(object);
            if id == 0 || used.insert(id, ()).is_some() {
                return Err(P4InfoError::BadId { id, name: name.to_owned() });
            }
            by_id.insert(id, at);
            if by_name.insert(name.to_owned(), at).is_some() {
                return Err(P4InfoError::DuplicateName { name: name.to_owned() });
            }
        }
        for (at, object) in all.iter().enumerate() {
            let (_, _, alias) = names(object);
            if !alias.is_empty() {
                by_name.entry(alias.to_owned()).or_insert(at);
            }
        }
        Ok(Self { all, by_id, by_name })
    }

    fn id(&self, id: u32) -> Option<&T> {
        self.by_id.get(&id).map(|&at| &self.all[at])
    }

    fn name(&self, name: &str) -> Option<&T> {
        self.by_name.get(name).map(|&at| &self.all[at])
    }
}

macro_rules! lookups {
    ($($(#[$doc:meta])* $all:ident, $one:ident, $named:ident: $type:ty;)*) => {
        $(
            $(#[$doc])*
            pub fn $all(&self) -> &[$type] {
                &self.$all.all
            }

            /// The one with this id.
            pub fn $one(&self, id: u32) -> Option<&$type> {
                self.$all.id(id)
            }

            /// The one with this full name or alias.
            pub fn $named(&self, name: &str) -> Option<&$type> {
                self.$all.name(name)
            }
        )*
    };
}

impl P4Info {
    /// Checks and indexes `raw`.
    pub fn new(raw: v1::P4Info) -> Result<Self, P4InfoError> {
        let mut used = HashMap::new();
        let actions = Index::build(objects::actions(&raw)?, &mut used, |o: &Action| (o.id, &o.name, &o.alias))?;
        let tables = Index::build(objects::tables(&raw)?, &mut used, |o: &Table| (o.id, &o.name, &o.alias))?;
        let counters = Index::build(objects::counters(&raw)?, &mut used, |o: &Counter| (o.id, &o.name, &o.alias))?;
        let direct_counters =
            Index::build(objects::direct_counters(&raw)?, &mut used, |o: &DirectCounter| (o.id, &o.name, &o.alias))?;
        let meters = Index::build(objects::meters(&raw)?, &mut used, |o: &Meter| (o.id, &o.name, &o.alias))?;
        let direct_meters =
            Index::build(objects::direct_meters(&raw)?, &mut used, |o: &DirectMeter| (o.id, &o.name, &o.alias))?;
        let headers = Index::build(objects::headers(&raw)?, &mut used, |o: &PacketHeader| (o.id, &o.name, ""))?;
        let info = Self { raw, tables, actions, counters, direct_counters, meters, direct_meters, headers };
        info.check_references()?;
        Ok(info)
    }

    /// Reads the text format that p4c writes.
    pub fn from_text(text: &str) -> Result<Self, P4InfoError> {
        Self::new(text::parse(text)?)
    }

    /// The message itself, for a `ForwardingPipelineConfig`.
    pub fn raw(&self) -> &v1::P4Info {
        &self.raw
    }

    lookups! {
        /// All tables.
        tables, table, table_named: Table;
        /// All actions.
        actions, action, action_named: Action;
        /// All indirect counters.
        counters, counter, counter_named: Counter;
        /// All direct counters.
        direct_counters, direct_counter, direct_counter_named: DirectCounter;
        /// All indirect meters.
        meters, meter, meter_named: Meter;
        /// All direct meters.
        direct_meters, direct_meter, direct_meter_named: DirectMeter;
        /// The headers of packets to and from the controller.
        headers, header, header_named: PacketHeader;
    }

    /// The header of packets to the controller.
    pub fn packet_in(&self) -> Option<&PacketHeader> {
        self.header_named("packet_in")
    }

    /// The header of packets from the controller.
    pub fn packet_out(&self) -> Option<&PacketHeader> {
        self.header_named("packet_out")
    }

    /// The members of an `enum bit<W>` of the program, as (name, value); `None` where the P4Info does not list it.
    pub fn serializable_enum(&self, name: &str) -> Option<Vec<(String, u128)>> {
        let spec = self.raw.type_info.as_ref()?.serializable_enums.get(name)?;
        let bits = spec.underlying_type.as_ref()?.bitwidth.try_into().ok()?;
        spec.members
            .iter()
            .map(|m| {
                let value = crate::bytestring::decode(&m.value, bits).ok()?;
                Some((m.name.clone(), value))
            })
            .collect()
    }

    fn check_references(&self) -> Result<(), P4InfoError> {
        let dangling = |from: &str, kind, id| Err(P4InfoError::Dangling { from: from.to_owned(), kind, id });
        for table in self.tables() {
            let default = table.const_default_action;
            for id in table.actions.iter().map(|a| a.id).chain(default) {
                if self.action(id).is_none() {
                    return dangling(&table.name, "action", id);
                }
            }
            for id in table.direct_counter.iter().chain(&table.direct_meter) {
                if self.direct_counter(*id).is_none() && self.direct_meter(*id).is_none() {
                    return dangling(&table.name, "direct resource", *id);
                }
            }
        }
        for counter in self.direct_counters() {
            if self.table(counter.table).is_none() {
                return dangling(&counter.name, "table", counter.table);
            }
        }
        for meter in self.direct_meters() {
            if self.table(meter.table).is_none() {
                return dangling(&meter.name, "table", meter.table);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
