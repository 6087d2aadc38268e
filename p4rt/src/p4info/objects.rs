//! The objects of a P4Info, with what is wrong about them told on the way.

use std::collections::HashSet;

use super::P4InfoError;
use crate::p4::config::v1;

/// How a field of a key matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchKind {
    /// Equal.
    Exact,
    /// Longest prefix.
    Lpm,
    /// Value and mask.
    Ternary,
    /// From low to high, both included.
    Range,
    /// Equal, or anything.
    Optional,
}

impl MatchKind {
    /// Whether a table with such a field orders its entries by priority.
    pub const fn needs_priority(self) -> bool {
        matches!(self, Self::Ternary | Self::Range | Self::Optional)
    }
}

/// A field of the key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Unique in the table.
    pub id: u32,
    /// From `@name`, or the expression.
    pub name: String,
    /// Width.
    pub bits: u32,
    /// How it matches.
    pub kind: MatchKind,
    /// Of the P4 source, as they stand there.
    pub annotations: Vec<String>,
}

/// A parameter of an action, or a field of a packet header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Unique in the action or header.
    pub id: u32,
    /// As in the P4 source.
    pub name: String,
    /// Width.
    pub bits: u32,
    /// The named type, where the program uses one.
    pub type_name: Option<String>,
    /// Of the P4 source, as they stand there.
    pub annotations: Vec<String>,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Unique in the P4Info.
    pub id: u32,
    /// Fully qualified.
    pub name: String,
    /// Shortest unique suffix of the name.
    pub alias: String,
    /// In the order of their declaration.
    pub params: Vec<Param>,
}

impl Action {
    /// The parameter with this id.
    pub fn param(&self, id: u32) -> Option<&Param> {
        self.params.iter().find(|p| p.id == id)
    }
}

/// Where a table can use an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// In entries and as default.
    TableAndDefault,
    /// In entries only.
    TableOnly,
    /// As default only.
    DefaultOnly,
    /// As the action of a selector's group.
    GroupAction,
}

/// An action that a table can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ActionRef {
    /// Of the action.
    pub id: u32,
    /// Where.
    pub scope: Scope,
}

impl ActionRef {
    /// Whether an entry may have this action.
    pub const fn in_entries(self) -> bool {
        matches!(self.scope, Scope::TableAndDefault | Scope::TableOnly)
    }

    /// Whether the default entry may have this action.
    pub const fn as_default(self) -> bool {
        matches!(self.scope, Scope::TableAndDefault | Scope::DefaultOnly)
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Unique in the P4Info.
    pub id: u32,
    /// Fully qualified.
    pub name: String,
    /// Shortest unique suffix of the name.
    pub alias: String,
    /// The key, in the order of its declaration.
    pub fields: Vec<Field>,
    /// The actions.
    pub actions: Vec<ActionRef>,
    /// The default action, where it cannot be changed.
    pub const_default_action: Option<u32>,
    /// Action profile or selector, for an indirect table.
    pub implementation: Option<u32>,
    /// Id of its direct counter.
    pub direct_counter: Option<u32>,
    /// Id of its direct meter.
    pub direct_meter: Option<u32>,
    /// Entries that must fit.
    pub size: u64,
    /// Whether the program fixes its entries.
    pub is_const: bool,
    /// Whether its entries can time out.
    pub idle_timeout: bool,
}

impl Table {
    /// The field of the key with this id.
    pub fn field(&self, id: u32) -> Option<&Field> {
        self.fields.iter().find(|f| f.id == id)
    }

    /// Whether its entries have a priority.
    pub fn has_priority(&self) -> bool {
        self.fields.iter().any(|f| f.kind.needs_priority())
    }
}

/// What a counter counts or a meter measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
    /// Both (counters only).
    Both,
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident { $(#[$fdoc:meta])* $field:ident: $type:ty })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name {
                /// Unique in the P4Info.
                pub id: u32,
                /// Fully qualified.
                pub name: String,
                /// Shortest unique suffix of the name.
                pub alias: String,
                /// What it counts or measures.
                pub unit: Unit,
                $(#[$fdoc])*
                pub $field: $type,
            }
        )*
    };
}

resources! {
    /// An indirect counter.
    Counter {
        /// Number of cells.
        size: u64
    }
    /// A counter in each entry of a table.
    DirectCounter {
        /// Id of the table.
        table: u32
    }
    /// An indirect meter.
    Meter {
        /// Number of cells.
        size: u64
    }
    /// A meter in each entry of a table.
    DirectMeter {
        /// Id of the table.
        table: u32
    }
}

/// The header of packets to or from the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketHeader {
    /// Unique in the P4Info.
    pub id: u32,
    /// `packet_in` or `packet_out`.
    pub name: String,
    /// In the order in which they precede the frame.
    pub fields: Vec<Param>,
}

impl PacketHeader {
    /// The field with this name.
    pub fn field_named(&self, name: &str) -> Option<&Param> {
        self.fields.iter().find(|f| f.name == name)
    }
}

type Checked<T> = Result<T, P4InfoError>;

fn preamble(kind: &'static str, of: &Option<v1::Preamble>) -> Checked<(u32, String, String)> {
    let p = of.as_ref().ok_or(P4InfoError::NoPreamble { kind })?;
    Ok((p.id, p.name.clone(), p.alias.clone()))
}

fn width(of: &str, field: &str, bits: i32) -> Checked<u32> {
    match u16::try_from(bits) {
        Ok(n) if n > 0 => Ok(n.into()),
        _ => Err(P4InfoError::BadWidth { of: of.to_owned(), field: field.to_owned(), bits }),
    }
}

fn size(name: &str, size: i64) -> Checked<u64> {
    u64::try_from(size).map_err(|_| P4InfoError::BadSize { name: name.to_owned(), size })
}

fn unique_ids(of: &str, ids: impl Iterator<Item = u32>) -> Checked<()> {
    let mut seen = HashSet::from([0]);
    for id in ids {
        if !seen.insert(id) {
            return Err(P4InfoError::BadFieldId { of: of.to_owned(), id });
        }
    }
    Ok(())
}

fn type_name(name: &Option<v1::P4NamedType>) -> Option<String> {
    name.as_ref().map(|n| n.name.clone())
}

pub(super) fn actions(raw: &v1::P4Info) -> Checked<Vec<Action>> {
    raw.actions
        .iter()
        .map(|a| {
            let (id, name, alias) = preamble("action", &a.preamble)?;
            unique_ids(&name, a.params.iter().map(|p| p.id))?;
            let params = a
                .params
                .iter()
                .map(|p| {
                    Ok(Param {
                        id: p.id,
                        name: p.name.clone(),
                        bits: width(&name, &p.name, p.bitwidth)?,
                        type_name: type_name(&p.type_name),
                        annotations: p.annotations.clone(),
                    })
                })
                .collect::<Checked<_>>()?;
            Ok(Action { id, name, alias, params })
        })
        .collect()
}

pub(super) fn tables(raw: &v1::P4Info) -> Checked<Vec<Table>> {
    let direct_counters: HashSet<u32> =
        raw.direct_counters.iter().filter_map(|c| c.preamble.as_ref().map(|p| p.id)).collect();
    raw.tables
        .iter()
        .map(|t| {
            let (id, name, alias) = preamble("table", &t.preamble)?;
            unique_ids(&name, t.match_fields.iter().map(|f| f.id))?;
            let fields = t
                .match_fields
                .iter()
                .map(|f| {
                    Ok(Field {
                        id: f.id,
                        name: f.name.clone(),
                        bits: width(&name, &f.name, f.bitwidth)?,
                        kind: match_kind(&name, f)?,
                        annotations: f.annotations.clone(),
                    })
                })
                .collect::<Checked<_>>()?;
            let actions = t.action_refs.iter().map(action_ref).collect();
            // A program that targets other direct resources is not refused for it: unknown ids are checked later.
            let (counters, meters): (Vec<u32>, Vec<u32>) =
                t.direct_resource_ids.iter().partition(|id| direct_counters.contains(id));
            Ok(Table {
                fields,
                actions,
                const_default_action: some_id(t.const_default_action_id),
                implementation: some_id(t.implementation_id),
                direct_counter: counters.first().copied(),
                direct_meter: meters.first().copied(),
                size: size(&name, t.size)?,
                is_const: t.is_const_table,
                idle_timeout: t.idle_timeout_behavior == v1::table::IdleTimeoutBehavior::NotifyControl as i32,
                id,
                name,
                alias,
            })
        })
        .collect()
}

fn some_id(id: u32) -> Option<u32> {
    (id != 0).then_some(id)
}

fn match_kind(table: &str, field: &v1::MatchField) -> Checked<MatchKind> {
    use v1::match_field::{Match, MatchType};
    let bad =
        |kind: String| Err(P4InfoError::BadMatchKind { table: table.to_owned(), field: field.name.clone(), kind });
    match &field.r#match {
        Some(Match::MatchType(kind)) => match MatchType::try_from(*kind) {
            Ok(MatchType::Exact) => Ok(MatchKind::Exact),
            Ok(MatchType::Lpm) => Ok(MatchKind::Lpm),
            Ok(MatchType::Ternary) => Ok(MatchKind::Ternary),
            Ok(MatchType::Range) => Ok(MatchKind::Range),
            Ok(MatchType::Optional) => Ok(MatchKind::Optional),
            Ok(MatchType::Unspecified) | Err(_) => bad(kind.to_string()),
        },
        Some(Match::OtherMatchType(kind)) => bad(kind.clone()),
        None => bad("none".into()),
    }
}

fn action_ref(r: &v1::ActionRef) -> ActionRef {
    let scope = match r.scope() {
        v1::action_ref::Scope::TableAndDefault => Scope::TableAndDefault,
        v1::action_ref::Scope::TableOnly => Scope::TableOnly,
        v1::action_ref::Scope::DefaultOnly => Scope::DefaultOnly,
        v1::action_ref::Scope::GroupAction => Scope::GroupAction,
    };
    ActionRef { id: r.id, scope }
}

fn counter_unit(spec: &Option<v1::CounterSpec>) -> Unit {
    match spec.as_ref().map(v1::CounterSpec::unit) {
        Some(v1::counter_spec::Unit::Bytes) => Unit::Bytes,
        Some(v1::counter_spec::Unit::Packets) => Unit::Packets,
        _ => Unit::Both,
    }
}

fn meter_unit(spec: &Option<v1::MeterSpec>) -> Unit {
    match spec.as_ref().map(v1::MeterSpec::unit) {
        Some(v1::meter_spec::Unit::Packets) => Unit::Packets,
        _ => Unit::Bytes,
    }
}

macro_rules! read_resources {
    ($($function:ident, $from:ident, $kind:literal, $unit:ident, $type:ident { $field:ident: $get:expr };)*) => {
        $(
            pub(super) fn $function(raw: &v1::P4Info) -> Checked<Vec<$type>> {
                raw.$from
                    .iter()
                    .map(|object| {
                        let (id, name, alias) = preamble($kind, &object.preamble)?;
                        let unit = $unit(&object.spec);
                        let read: Checked<_> = ($get)(&name, object);
                        let $field = read?;
                        Ok($type { id, name, alias, unit, $field })
                    })
                    .collect()
            }
        )*
    };
}

read_resources! {
    counters, counters, "counter", counter_unit,
        Counter { size: |name: &str, o: &v1::Counter| size(name, o.size) };
    direct_counters, direct_counters, "direct counter", counter_unit,
        DirectCounter { table: |_: &str, o: &v1::DirectCounter| Ok(o.direct_table_id) };
    meters, meters, "meter", meter_unit,
        Meter { size: |name: &str, o: &v1::Meter| size(name, o.size) };
    direct_meters, direct_meters, "direct meter", meter_unit,
        DirectMeter { table: |_: &str, o: &v1::DirectMeter| Ok(o.direct_table_id) };
}

pub(super) fn headers(raw: &v1::P4Info) -> Checked<Vec<PacketHeader>> {
    raw.controller_packet_metadata
        .iter()
        .map(|h| {
            let (id, name, _) = preamble("controller packet metadata", &h.preamble)?;
            unique_ids(&name, h.metadata.iter().map(|m| m.id))?;
            let fields = h
                .metadata
                .iter()
                .map(|m| {
                    Ok(Param {
                        id: m.id,
                        name: m.name.clone(),
                        bits: width(&name, &m.name, m.bitwidth)?,
                        type_name: type_name(&m.type_name),
                        annotations: m.annotations.clone(),
                    })
                })
                .collect::<Checked<_>>()?;
            Ok(PacketHeader { id, name, fields })
        })
        .collect()
}
