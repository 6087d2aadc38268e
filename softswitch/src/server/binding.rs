//! The P4Info and the program it describes, tied together once at load.
//!
//! P4Runtime speaks in the P4Info's ids, the pipeline in indices; names tie the two. Everything that a request can
//! name is looked up here, and nothing is looked up by name after this.

use std::collections::HashMap;

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::action_ref::Scope;
use dmux_p4rt::p4::config::v1::match_field::{Match, MatchType};
use dmux_p4rt::p4::config::v1::meter_spec;

use super::digest::DigestBinding;
use super::error::Refused;
use super::packet_io::PacketHeader;
use super::profiles::{self, ProfileBinding};
use super::value_set;
use crate::pipeline::{ActionIx, KeyField, MatchKind, Program, TableInfo, TableIx};

/// A key field as P4Info and program both have it.
#[derive(Clone, Debug)]
pub struct FieldBinding {
    /// Its P4Info id.
    pub id: u32,
    /// Its P4Info name.
    pub name: String,
    /// Its width in bits.
    pub width: u32,
    /// How controllers give it: by the P4Info.
    pub kind: MatchKind,
    /// How the program matches it: p4c compiles an optional field to a ternary one.
    pub compiled: MatchKind,
}

/// A parameter of an action.
#[derive(Clone, Debug)]
pub struct ParamBinding {
    /// Its P4Info id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its width in bits.
    pub width: u32,
}

/// An action that a table may run; parameters in the program's order.
#[derive(Clone, Debug)]
pub struct ActionBinding {
    /// Its P4Info id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The program's action.
    pub ix: ActionIx,
    /// Where it may be used.
    pub scope: Scope,
    /// Its parameters.
    pub params: Vec<ParamBinding>,
}

/// A table; fields in the program's order.
#[derive(Clone, Debug)]
pub struct TableBinding {
    /// Its P4Info id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The program's table.
    pub ix: TableIx,
    /// Its key.
    pub fields: Vec<FieldBinding>,
    /// Its actions.
    pub actions: Vec<ActionBinding>,
    /// Whether entries carry a priority.
    pub needs_priority: bool,
    /// Whether it counts per entry.
    pub direct_counter: bool,
    /// Whether it meters per entry, and how.
    pub direct_meter: Option<meter_spec::Type>,
    /// Whether its entries are part of the program.
    pub is_const: bool,
    /// The P4Info id of the action profile that its entries name members and groups of; none for a direct table.
    pub profile: Option<u32>,
    /// Whether the members of that profile's groups have no weights.
    pub weightless: bool,
    /// Whether its entries may have idle timeouts.
    pub idle_timeouts: bool,
}

impl TableBinding {
    /// The action with this P4Info id.
    #[must_use]
    pub fn action(&self, id: u32) -> Option<&ActionBinding> {
        self.actions.iter().find(|a| a.id == id)
    }

    /// The action that the program has under this index.
    #[must_use]
    pub fn action_by_ix(&self, ix: ActionIx) -> Option<&ActionBinding> {
        self.actions.iter().find(|a| a.ix == ix)
    }
}

/// An indirect counter or meter array.
#[derive(Clone, Debug)]
pub struct ArrayBinding {
    /// Its P4Info id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its index in the program.
    pub ix: usize,
    /// Its number of cells.
    pub size: usize,
    /// How a meter meters; without meaning for a counter.
    pub meter_type: meter_spec::Type,
}

/// Everything that requests can name, by P4Info id.
#[derive(Debug, Default)]
pub struct Binding {
    /// Tables, in the P4Info's order.
    tables: Vec<TableBinding>,
    tables_by_id: HashMap<u32, usize, foldhash::fast::RandomState>,
    /// Action profiles and selectors, in the P4Info's order.
    pub profiles: Vec<ProfileBinding>,
    /// Indirect counters, in the P4Info's order.
    pub counters: Vec<ArrayBinding>,
    /// Indirect meters, in the P4Info's order.
    pub meters: Vec<ArrayBinding>,
    /// Registers, in the P4Info's order.
    pub registers: Vec<ArrayBinding>,
    /// Parser value sets, in the P4Info's order.
    pub value_sets: Vec<TableBinding>,
    /// Digests, in the P4Info's order.
    pub digests: Vec<DigestBinding>,
    /// How packet-in is laid out; without one, packet-ins carry no metadata.
    pub packet_in: PacketHeader,
    /// How packet-out is laid out; without one, packet-outs carry no metadata.
    pub packet_out: PacketHeader,
}

impl Binding {
    /// Ties a P4Info to a program.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the name of whatever one of the two has and the other has not, or has differently.
    pub fn new(p4info: &info::P4Info, program: &Program) -> Result<Self, Refused> {
        let actions: HashMap<u32, &info::Action> =
            p4info.actions.iter().filter_map(|a| Some((a.preamble.as_ref()?.id, a))).collect();
        let mut binding = Self::default();
        for table in &p4info.tables {
            // p4c describes a program before it finds out what no packet reaches: such a table is not in the JSON, and
            // is as good as not described.
            let (_, name) = preamble(table.preamble.as_ref(), "table")?;
            if program.table_by_name(name).is_none() {
                continue;
            }
            let bound = bind_table(table, p4info, &actions, program)?;
            if binding.tables_by_id.insert(bound.id, binding.tables.len()).is_some() {
                return Err(Refused::invalid(format!("the P4Info has two tables with id {}", bound.id)));
            }
            binding.tables.push(bound);
        }
        binding.profiles = profiles::bind(p4info, program, &binding.tables)?;
        for counter in &p4info.counters {
            let (id, name) = preamble(counter.preamble.as_ref(), "counter")?;
            let all = program.counters().iter().map(|c| (c.name.as_str(), c.size, c.direct_table.is_some()));
            let meter_type = meter_spec::Type::default();
            binding.counters.push(bind_array("counter", id, name, all, counter.size, meter_type)?);
        }
        for meter in &p4info.meters {
            let (id, name) = preamble(meter.preamble.as_ref(), "meter")?;
            let all = program.meters().iter().map(|m| (m.name.as_str(), m.size, m.direct_table.is_some()));
            let meter_type = meter.spec.as_ref().map_or_else(Default::default, info::MeterSpec::r#type);
            binding.meters.push(bind_array("meter", id, name, all, meter.size, meter_type)?);
        }
        for register in &p4info.registers {
            let (id, name) = preamble(register.preamble.as_ref(), "register")?;
            let all = program.registers().iter().map(|r| (r.name.as_str(), r.size, false));
            let size = i64::from(register.size);
            binding.registers.push(bind_array("register", id, name, all, size, meter_spec::Type::default())?);
        }
        for set in &p4info.value_sets {
            binding.value_sets.push(value_set::bind(set, program)?);
        }
        for digest in &p4info.digests {
            binding.digests.push(DigestBinding::new(digest, p4info.type_info.as_ref(), program)?);
        }
        for header in &p4info.controller_packet_metadata {
            match preamble(header.preamble.as_ref(), "controller packet metadata")? {
                (_, "packet_in") => binding.packet_in = PacketHeader::new(header)?,
                (_, "packet_out") => binding.packet_out = PacketHeader::new(header)?,
                (_, name) => {
                    return Err(Refused::invalid(format!(
                        "the P4Info's controller packet metadata \"{name}\" is neither packet_in nor packet_out"
                    )));
                }
            }
        }
        Ok(binding)
    }

    /// All tables, in the P4Info's order.
    #[must_use]
    pub fn tables(&self) -> &[TableBinding] {
        &self.tables
    }

    /// The table with this id.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when there is none.
    pub fn table(&self, id: u32) -> Result<&TableBinding, Refused> {
        let index = self.tables_by_id.get(&id);
        index.and_then(|i| self.tables.get(*i)).ok_or_else(|| Refused::invalid(no_such("table", id)))
    }

    /// The indirect counter with this id.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when there is none.
    pub fn counter(&self, id: u32) -> Result<&ArrayBinding, Refused> {
        self.counters.iter().find(|c| c.id == id).ok_or_else(|| Refused::invalid(no_such("counter", id)))
    }

    /// The digest with this id.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when there is none.
    pub fn digest(&self, id: u32) -> Result<&DigestBinding, Refused> {
        self.digests.iter().find(|d| d.id == id).ok_or_else(|| Refused::invalid(no_such("digest", id)))
    }

    /// The indirect meter with this id.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when there is none.
    pub fn meter(&self, id: u32) -> Result<&ArrayBinding, Refused> {
        self.meters.iter().find(|m| m.id == id).ok_or_else(|| Refused::invalid(no_such("meter", id)))
    }

    /// The register with this id.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when there is none.
    pub fn register(&self, id: u32) -> Result<&ArrayBinding, Refused> {
        self.registers.iter().find(|r| r.id == id).ok_or_else(|| Refused::invalid(no_such("register", id)))
    }

    /// The value set with this id, as a table without actions.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when there is none.
    pub fn value_set(&self, id: u32) -> Result<&TableBinding, Refused> {
        self.value_sets.iter().find(|s| s.id == id).ok_or_else(|| Refused::invalid(no_such("value set", id)))
    }
}

pub(super) fn no_such(kind: &str, id: u32) -> String {
    format!("the P4Info has no {kind} with id {id} (0x{id:08x}); is the client's P4Info the one that is loaded?")
}

pub(super) fn preamble<'a>(preamble: Option<&'a info::Preamble>, kind: &str) -> Result<(u32, &'a str), Refused> {
    match preamble {
        Some(p) if p.id != 0 && !p.name.is_empty() => Ok((p.id, &p.name)),
        _ => Err(Refused::invalid(format!("the P4Info has a {kind} without id or name"))),
    }
}

fn bind_array<'a>(
    kind: &str,
    id: u32,
    name: &str,
    mut all: impl Iterator<Item = (&'a str, usize, bool)>,
    described_size: i64,
    meter_type: meter_spec::Type,
) -> Result<ArrayBinding, Refused> {
    let found = all.by_ref().enumerate().find(|(_, (n, _, direct))| *n == name && !direct);
    let Some((ix, (_, size, _))) = found else {
        return Err(Refused::invalid(format!("the P4Info's {kind} \"{name}\" is not in the program")));
    };
    if usize::try_from(described_size) != Ok(size) {
        return Err(Refused::invalid(format!(
            "the {kind} \"{name}\" has {described_size} cells in the P4Info and {size} in the program"
        )));
    }
    Ok(ArrayBinding { id, name: name.to_owned(), ix, size, meter_type })
}

fn bind_table(
    described: &info::Table,
    p4info: &info::P4Info,
    actions: &HashMap<u32, &info::Action>,
    program: &Program,
) -> Result<TableBinding, Refused> {
    let (id, name) = preamble(described.preamble.as_ref(), "table")?;
    let Some(ix) = program.table_by_name(name) else {
        return Err(Refused::invalid(format!("the P4Info's table \"{name}\" is not in the program")));
    };
    let Some(table) = program.tables().get(ix.0) else {
        return Err(Refused::invalid(format!("the program has no table \"{name}\"")));
    };
    if (described.implementation_id != 0) != table.profile.is_some() {
        return Err(Refused::invalid(format!(
            "table \"{name}\" has an action profile in only one of P4Info and program"
        )));
    }
    let idle_timeouts = described.idle_timeout_behavior() == info::table::IdleTimeoutBehavior::NotifyControl;
    if idle_timeouts && !table.support_timeout {
        return Err(Refused::invalid(format!("table \"{name}\" supports idle timeouts in the P4Info only")));
    }
    let direct = |ids: &[u32], id: Option<&info::Preamble>| id.is_some_and(|p| ids.contains(&p.id));
    let ids = &described.direct_resource_ids;
    let direct_counter = p4info.direct_counters.iter().any(|c| direct(ids, c.preamble.as_ref()));
    let direct_meter = p4info
        .direct_meters
        .iter()
        .find(|m| direct(ids, m.preamble.as_ref()))
        .map(|m| m.spec.as_ref().map_or_else(Default::default, info::MeterSpec::r#type));
    if direct_counter && !table.direct_counter {
        return Err(Refused::invalid(format!("table \"{name}\" has a direct counter in the P4Info only")));
    }
    if direct_meter.is_some() && table.direct_meter.is_none() {
        return Err(Refused::invalid(format!("table \"{name}\" has a direct meter in the P4Info only")));
    }
    let profile = p4info.action_profiles.iter().find(|p| {
        let id = p.preamble.as_ref().map(|p| p.id);
        described.implementation_id != 0 && id == Some(described.implementation_id)
    });
    let mut bound_actions = Vec::with_capacity(described.action_refs.len());
    for action_ref in &described.action_refs {
        let Some(action) = actions.get(&action_ref.id) else {
            return Err(Refused::invalid(format!(
                "table \"{name}\" refers to action id {}, which the P4Info does not define",
                action_ref.id
            )));
        };
        bound_actions.push(bind_action(name, action_ref, action, table, program)?);
    }
    Ok(TableBinding {
        id,
        name: name.to_owned(),
        ix,
        fields: bind_fields(name, &described.match_fields, &table.key)?,
        actions: bound_actions,
        needs_priority: table.needs_priority,
        direct_counter,
        direct_meter,
        is_const: table.is_const,
        profile: table.profile.map(|_| described.implementation_id),
        weightless: profile.is_some_and(|p| p.weights_disallowed),
        idle_timeouts,
    })
}

/// The key in the program's order. Fields pair up by name; a name that only one side has pairs by position, since
/// compilers name computed keys differently in the two files.
pub(super) fn bind_fields(
    table: &str,
    described: &[info::MatchField],
    key: &[KeyField],
) -> Result<Vec<FieldBinding>, Refused> {
    if described.len() != key.len() {
        return Err(Refused::invalid(format!(
            "table \"{table}\" has {} key fields in the P4Info and {} in the program",
            described.len(),
            key.len()
        )));
    }
    let mut bound: Vec<FieldBinding> = Vec::with_capacity(key.len());
    for (position, field) in key.iter().enumerate() {
        let by_name = described.iter().find(|d| d.name == field.name);
        let by_position = described.get(position).filter(|d| key.iter().all(|k| k.name != d.name));
        let Some(d) = by_name.or(by_position) else {
            return Err(Refused::invalid(format!(
                "table \"{table}\": the program's key field \"{}\" is not in the P4Info",
                field.name
            )));
        };
        let described_kind = match &d.r#match {
            Some(Match::MatchType(kind)) => MatchType::try_from(*kind).unwrap_or(MatchType::Unspecified),
            Some(Match::OtherMatchType(_)) | None => MatchType::Unspecified,
        };
        let kind = match described_kind {
            MatchType::Exact => Some(MatchKind::Exact),
            MatchType::Lpm => Some(MatchKind::Lpm),
            MatchType::Ternary => Some(MatchKind::Ternary),
            MatchType::Range => Some(MatchKind::Range),
            MatchType::Optional => Some(MatchKind::Optional),
            MatchType::Unspecified => None,
        };
        // Fields of type `error` have no width in the P4Info.
        if d.bitwidth != 0 && u32::try_from(d.bitwidth) != Ok(field.width) {
            return Err(Refused::invalid(format!(
                "table \"{table}\": the key field \"{}\" has {} bits in the P4Info and {} in the program",
                d.name, d.bitwidth, field.width
            )));
        }
        let compatible = |kind: &MatchKind| {
            *kind == field.kind || (*kind == MatchKind::Optional && field.kind == MatchKind::Ternary)
        };
        let Some(kind) = kind.filter(compatible) else {
            return Err(Refused::invalid(format!(
                "table \"{table}\": the key field \"{}\" is matched as {} in the P4Info and as {:?} in the program",
                d.name,
                described_kind.as_str_name(),
                field.kind
            )));
        };
        if bound.iter().any(|b| b.id == d.id) {
            return Err(Refused::invalid(format!("table \"{table}\" has two key fields with id {}", d.id)));
        }
        bound.push(FieldBinding { id: d.id, name: d.name.clone(), width: field.width, kind, compiled: field.kind });
    }
    Ok(bound)
}

fn bind_action(
    table: &str,
    action_ref: &info::ActionRef,
    action: &info::Action,
    in_table: &TableInfo,
    program: &Program,
) -> Result<ActionBinding, Refused> {
    let (id, name) = preamble(action.preamble.as_ref(), "action")?;
    // Several actions of a program may share a name; the table refers to the one it means.
    let found = in_table.actions.iter().find_map(|ix| {
        let action = program.actions().get(ix.0)?;
        (action.name == name).then_some((*ix, action))
    });
    let Some((ix, compiled)) = found else {
        return Err(Refused::invalid(format!(
            "the P4Info's action \"{name}\" is not in the program's table \"{table}\""
        )));
    };
    if compiled.params.len() != action.params.len() {
        return Err(Refused::invalid(format!(
            "action \"{name}\" has {} parameters in the P4Info and {} in the program",
            action.params.len(),
            compiled.params.len()
        )));
    }
    let mut params = Vec::with_capacity(compiled.params.len());
    for param in &compiled.params {
        let Some(described) = action.params.iter().find(|p| p.name == param.name) else {
            return Err(Refused::invalid(format!(
                "action \"{name}\": the program's parameter \"{}\" is not in the P4Info",
                param.name
            )));
        };
        if u32::try_from(described.bitwidth) != Ok(param.width) {
            return Err(Refused::invalid(format!(
                "action \"{name}\": the parameter \"{}\" has {} bits in the P4Info and {} in the program",
                param.name, described.bitwidth, param.width
            )));
        }
        params.push(ParamBinding { id: described.id, name: param.name.clone(), width: param.width });
    }
    let scope = Scope::try_from(action_ref.scope)
        .map_err(|_| Refused::invalid(format!("table \"{table}\": action \"{name}\" has an unknown scope")))?;
    Ok(ActionBinding { id, name: name.to_owned(), ix, scope, params })
}
