//! The oracle: what a switch holds after updates, and what may be wrong with one, by the specification and the P4Info.

use std::collections::BTreeMap;

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::action_ref::Scope;
use dmux_p4rt::p4::config::v1::match_field::MatchType;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::field_match::{self, FieldMatchType};
use dmux_p4rt::p4::v1::table_action;
use dmux_p4rt::p4::v1::update::Type;
use dmux_softswitch::server::config::ForwardingPipeline;
use prost::Message;
use tonic::Code;

use crate::generate::{id, kind_of};

/// The longest metadata that the switch keeps.
const MAX_METADATA: usize = 1024;

/// What identifies an entry: table, match fields in canonical form and order, priority.
type Key = (u32, Vec<u8>, i32);

#[derive(Clone)]
pub struct Model {
    p4info: std::sync::Arc<info::P4Info>,
    /// Entries as they are read with their direct resources.
    entries: BTreeMap<Key, v1::TableEntry>,
    /// Default entries, and what they are reset to.
    defaults: BTreeMap<u32, (v1::TableEntry, v1::TableEntry)>,
    counters: BTreeMap<(u32, i64), v1::CounterData>,
    meters: BTreeMap<(u32, i64), v1::MeterConfig>,
}

/// A number in its shortest form.
pub fn shortest(value: u128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take(15).take_while(|b| **b == 0).count();
    bytes[zeros..].to_vec()
}

/// A byte string's value, unless it is empty or does not fit.
fn number(bytes: &[u8], bits: u32) -> Option<u128> {
    if bytes.is_empty() {
        return None;
    }
    let significant: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
    if significant.len() > 16 {
        return None;
    }
    let value = significant.iter().fold(0u128, |v, b| v << 8 | u128::from(*b));
    (bits >= 128 || value >> bits == 0).then_some(value)
}

fn max(bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

fn everything() -> v1::TableEntry {
    v1::TableEntry {
        counter_data: Some(v1::CounterData::default()),
        meter_config: Some(v1::MeterConfig::default()),
        ..v1::TableEntry::default()
    }
}

fn read_entries(pipeline: &ForwardingPipeline, filter: v1::TableEntry) -> Vec<v1::TableEntry> {
    let found = pipeline.read(&v1::Entity { entity: Some(Entity::TableEntry(filter)) }).unwrap();
    let entry = |e: v1::Entity| match e.entity {
        Some(Entity::TableEntry(mut entry)) => {
            entry.r#match.sort_by_key(|m| m.field_id);
            entry
        }
        other => panic!("not a table entry: {other:?}"),
    };
    found.into_iter().map(entry).collect()
}

fn key_of(entry: &v1::TableEntry) -> Key {
    let matches = v1::TableEntry { r#match: entry.r#match.clone(), ..v1::TableEntry::default() };
    (entry.table_id, matches.encode_to_vec(), entry.priority)
}

impl Model {
    /// What a pipeline holds to which nothing was written: constant entries and default actions.
    pub fn new(p4info: &info::P4Info, pipeline: &ForwardingPipeline) -> Self {
        let entries = read_entries(pipeline, everything()).into_iter().map(|e| (key_of(&e), e)).collect();
        let default = |table: &info::Table| {
            let filter = v1::TableEntry { table_id: id(&table.preamble), is_default_action: true, ..everything() };
            let entry = read_entries(pipeline, filter).pop()?;
            Some((entry.table_id, (entry.clone(), entry)))
        };
        Self {
            p4info: std::sync::Arc::new(p4info.clone()),
            entries,
            defaults: p4info.tables.iter().filter_map(default).collect(),
            counters: BTreeMap::new(),
            meters: BTreeMap::new(),
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = &v1::TableEntry> {
        self.entries.values()
    }

    /// Applies an update if nothing is wrong with it; else says what is, in any order.
    pub fn apply(&mut self, update: &v1::Update) -> Vec<Code> {
        let kind = update.r#type();
        let mut wrong = Vec::new();
        match update.entity.as_ref().and_then(|e| e.entity.as_ref()) {
            Some(Entity::TableEntry(entry)) if entry.is_default_action => self.default(kind, entry, &mut wrong),
            Some(Entity::TableEntry(entry)) => self.entry(kind, entry, &mut wrong),
            Some(Entity::CounterEntry(entry)) => self.counter(kind, entry, &mut wrong),
            Some(Entity::MeterEntry(entry)) => self.meter(kind, entry, &mut wrong),
            Some(Entity::DirectCounterEntry(entry)) => self.direct_counter(kind, entry, &mut wrong),
            Some(Entity::DirectMeterEntry(entry)) => self.direct_meter(kind, entry, &mut wrong),
            other => panic!("the generator makes no {other:?}"),
        }
        wrong
    }

    fn default(&mut self, kind: Type, entry: &v1::TableEntry, wrong: &mut Vec<Code>) {
        let p4info = self.p4info.clone();
        let Some(table) = find_table(&p4info, entry.table_id, wrong) else { return };
        if kind != Type::Modify || !entry.r#match.is_empty() || entry.priority != 0 {
            wrong.push(Code::InvalidArgument);
        }
        if table.const_default_action_id != 0 {
            wrong.push(Code::PermissionDenied);
        }
        let action = entry.action.as_ref().and_then(|a| check_action(&p4info, table, a, true, wrong));
        if !wrong.is_empty() {
            return;
        }
        let Some((now, initial)) = self.defaults.get_mut(&entry.table_id) else { return };
        *now = match action {
            None => initial.clone(),
            action => v1::TableEntry {
                table_id: entry.table_id,
                action,
                metadata: entry.metadata.clone(),
                is_default_action: true,
                ..v1::TableEntry::default()
            },
        };
    }

    fn entry(&mut self, kind: Type, entry: &v1::TableEntry, wrong: &mut Vec<Code>) {
        let p4info = self.p4info.clone();
        let Some(table) = find_table(&p4info, entry.table_id, wrong) else { return };
        if kind == Type::Unspecified {
            wrong.push(Code::InvalidArgument);
        }
        let key = canonical_key(table, entry, wrong);
        let held = key.as_ref().and_then(|key| self.entries.get(&key_of(key)));
        if table.is_const_table && (kind != Type::Modify || entry.action.is_some()) {
            wrong.push(Code::PermissionDenied);
        }
        match (kind, held.is_some()) {
            (Type::Insert, true) => wrong.push(Code::AlreadyExists),
            (Type::Modify | Type::Delete, false) if key.is_some() => wrong.push(Code::NotFound),
            (Type::Insert, false) => {
                let held = self.entries.keys().filter(|(table, ..)| *table == entry.table_id).count();
                if held as i64 >= table.size {
                    wrong.push(Code::ResourceExhausted);
                }
            }
            _ => {}
        }
        let direct = Direct::of(&p4info, table);
        let mut action = None;
        if kind != Type::Delete {
            if entry.is_const {
                wrong.push(Code::InvalidArgument);
            }
            if entry.metadata.len() > MAX_METADATA {
                wrong.push(Code::ResourceExhausted);
            }
            match &entry.action {
                Some(given) => action = check_action(&p4info, table, given, false, wrong),
                None if kind == Type::Insert => wrong.push(Code::InvalidArgument),
                None => {}
            }
            if let Some(data) = &entry.counter_data {
                check_data(data, wrong);
                if !direct.counter {
                    wrong.push(Code::InvalidArgument);
                }
            }
            if let Some(config) = &entry.meter_config {
                check_config(config, wrong);
                if !direct.meter {
                    wrong.push(Code::InvalidArgument);
                }
            }
        }
        let Some(key) = key.filter(|_| wrong.is_empty()) else { return };
        if kind == Type::Delete {
            self.entries.remove(&key_of(&key));
            return;
        }
        let before = held.cloned().unwrap_or_default();
        let counter = direct.counter.then(|| entry.counter_data.or(before.counter_data).unwrap_or_default());
        let after = v1::TableEntry {
            action: action.or(before.action),
            metadata: entry.metadata.clone(),
            counter_data: counter,
            meter_config: entry.meter_config,
            is_const: before.is_const,
            ..key
        };
        self.entries.insert(key_of(&after), after);
    }

    /// The cells of an array that an update means.
    fn cells(index: Option<&v1::Index>, size: i64, wrong: &mut Vec<Code>) -> std::ops::Range<i64> {
        match index.map(|i| i.index) {
            None => 0..size,
            Some(index) if index < 0 => {
                wrong.push(Code::InvalidArgument);
                0..0
            }
            Some(index) if index >= size => {
                wrong.push(Code::OutOfRange);
                0..0
            }
            Some(index) => index..index + 1,
        }
    }

    fn counter(&mut self, kind: Type, entry: &v1::CounterEntry, wrong: &mut Vec<Code>) {
        if kind != Type::Modify {
            wrong.push(Code::InvalidArgument);
        }
        let p4info = self.p4info.clone();
        let Some(counter) = p4info.counters.iter().find(|c| id(&c.preamble) == entry.counter_id) else {
            return wrong.push(Code::InvalidArgument);
        };
        let cells = Self::cells(entry.index.as_ref(), counter.size, wrong);
        let Some(data) = &entry.data else { return };
        check_data(data, wrong);
        if wrong.is_empty() {
            self.counters.extend(cells.map(|cell| ((entry.counter_id, cell), *data)));
        }
    }

    fn meter(&mut self, kind: Type, entry: &v1::MeterEntry, wrong: &mut Vec<Code>) {
        if kind != Type::Modify {
            wrong.push(Code::InvalidArgument);
        }
        let p4info = self.p4info.clone();
        let Some(meter) = p4info.meters.iter().find(|m| id(&m.preamble) == entry.meter_id) else {
            return wrong.push(Code::InvalidArgument);
        };
        let cells = Self::cells(entry.index.as_ref(), meter.size, wrong);
        if let Some(config) = &entry.config {
            check_config(config, wrong);
        }
        for cell in cells.filter(|_| wrong.is_empty()) {
            match entry.config {
                Some(config) => drop(self.meters.insert((entry.meter_id, cell), config)),
                None => drop(self.meters.remove(&(entry.meter_id, cell))),
            }
        }
    }

    /// The entry that a direct resource belongs to.
    fn of_entry(
        &mut self,
        kind: Type,
        entry: Option<&v1::TableEntry>,
        has: impl Fn(&Direct) -> bool,
        wrong: &mut Vec<Code>,
    ) -> Option<&mut v1::TableEntry> {
        if kind != Type::Modify {
            wrong.push(Code::InvalidArgument);
        }
        let p4info = self.p4info.clone();
        let Some(entry) = entry else {
            wrong.push(Code::InvalidArgument);
            return None;
        };
        let table = find_table(&p4info, entry.table_id, wrong)?;
        if !has(&Direct::of(&p4info, table)) {
            wrong.push(Code::InvalidArgument);
        }
        let key = canonical_key(table, entry, wrong)?;
        let held = self.entries.get_mut(&key_of(&key));
        if held.is_none() {
            wrong.push(Code::NotFound);
        }
        held
    }

    fn direct_counter(&mut self, kind: Type, entry: &v1::DirectCounterEntry, wrong: &mut Vec<Code>) {
        if let Some(data) = &entry.data {
            check_data(data, wrong);
        }
        let held = self.of_entry(kind, entry.table_entry.as_ref(), |d| d.counter, wrong);
        if let (Some(held), Some(data)) = (held, entry.data)
            && wrong.is_empty()
        {
            held.counter_data = Some(data);
        }
    }

    fn direct_meter(&mut self, kind: Type, entry: &v1::DirectMeterEntry, wrong: &mut Vec<Code>) {
        if let Some(config) = &entry.config {
            check_config(config, wrong);
        }
        let held = self.of_entry(kind, entry.table_entry.as_ref(), |d| d.meter, wrong);
        if let Some(held) = held
            && wrong.is_empty()
        {
            held.meter_config = entry.config;
        }
    }

    /// The tables of a switch are the model's, entry by entry.
    pub fn compare_entries(&self, pipeline: &ForwardingPipeline, place: &str) {
        let found: Vec<_> = read_entries(pipeline, everything());
        let count = found.len();
        let found: BTreeMap<Key, v1::TableEntry> = found.into_iter().map(|e| (key_of(&e), e)).collect();
        assert_eq!(found.len(), count, "{place}: an entry was read twice");
        for (key, entry) in &self.entries {
            assert_eq!(found.get(key), Some(entry), "{place}: an entry is missing or differs (left: read)");
        }
        let extra = found.keys().find(|key| !self.entries.contains_key(*key)).map(|key| &found[key]);
        assert_eq!(extra, None, "{place}: an entry too many");
        for (table_id, (entry, _)) in &self.defaults {
            let filter = v1::TableEntry { table_id: *table_id, is_default_action: true, ..everything() };
            assert_eq!(read_entries(pipeline, filter).first(), Some(entry), "{place}: a default entry (left: read)");
        }
    }

    /// As [`Self::compare_entries`], with all counters and meters.
    pub fn compare_all(&self, pipeline: &ForwardingPipeline, place: &str) {
        self.compare_entries(pipeline, place);
        let read = |entity| pipeline.read(&v1::Entity { entity: Some(entity) }).unwrap();
        for found in read(Entity::CounterEntry(v1::CounterEntry::default())) {
            let Some(Entity::CounterEntry(found)) = found.entity else { panic!("{place}: not a counter") };
            let cell = (found.counter_id, found.index.unwrap().index);
            assert_eq!(found.data, Some(self.counters.get(&cell).copied().unwrap_or_default()), "{place}: {cell:?}");
        }
        for found in read(Entity::MeterEntry(v1::MeterEntry::default())) {
            let Some(Entity::MeterEntry(found)) = found.entity else { panic!("{place}: not a meter") };
            let cell = (found.meter_id, found.index.unwrap().index);
            assert_eq!(found.config.as_ref(), self.meters.get(&cell), "{place}: {cell:?}");
        }
    }
}

/// The direct resources that a table has.
struct Direct {
    counter: bool,
    meter: bool,
}

impl Direct {
    fn of(p4info: &info::P4Info, table: &info::Table) -> Self {
        let attached = |preamble: &Option<info::Preamble>| table.direct_resource_ids.contains(&id(preamble));
        Self {
            counter: p4info.direct_counters.iter().any(|c| attached(&c.preamble)),
            meter: p4info.direct_meters.iter().any(|m| attached(&m.preamble)),
        }
    }
}

fn find_table<'a>(p4info: &'a info::P4Info, table_id: u32, wrong: &mut Vec<Code>) -> Option<&'a info::Table> {
    let found = p4info.tables.iter().find(|t| id(&t.preamble) == table_id);
    if found.is_none() {
        wrong.push(Code::InvalidArgument);
    }
    found
}

/// The part of an entry that identifies it, in canonical form; `None` when something is wrong with it.
fn canonical_key(table: &info::Table, entry: &v1::TableEntry, wrong: &mut Vec<Code>) -> Option<v1::TableEntry> {
    let before = wrong.len();
    let kinds: Vec<MatchType> = table.match_fields.iter().map(kind_of).collect();
    let needs_priority = kinds.iter().any(|k| matches!(k, MatchType::Ternary | MatchType::Range | MatchType::Optional));
    if table.match_fields.is_empty()
        || (needs_priority && entry.priority <= 0)
        || (!needs_priority && entry.priority != 0)
    {
        wrong.push(Code::InvalidArgument);
    }
    let mut seen = Vec::new();
    let mut canonical = Vec::new();
    for given in &entry.r#match {
        let field = table.match_fields.iter().find(|f| f.id == given.field_id);
        if seen.contains(&given.field_id) || field.is_none() || given.field_match_type.is_none() {
            wrong.push(Code::InvalidArgument);
        }
        seen.push(given.field_id);
        if let (Some(field), Some(kind)) = (field, &given.field_match_type) {
            let field_match_type = canonical_field(field, kind, wrong);
            canonical.push(v1::FieldMatch { field_id: given.field_id, field_match_type });
        }
    }
    for (field, kind) in table.match_fields.iter().zip(&kinds) {
        if *kind == MatchType::Exact && !seen.contains(&field.id) {
            wrong.push(Code::InvalidArgument);
        }
    }
    canonical.sort_by_key(|m| m.field_id);
    (wrong.len() == before).then(|| v1::TableEntry {
        table_id: entry.table_id,
        r#match: canonical,
        priority: entry.priority,
        ..v1::TableEntry::default()
    })
}

fn canonical_field(field: &info::MatchField, given: &FieldMatchType, wrong: &mut Vec<Code>) -> Option<FieldMatchType> {
    let bits = field.bitwidth as u32;
    let mut value = |bytes: &[u8]| {
        let value = number(bytes, bits);
        if value.is_none() {
            wrong.push(Code::OutOfRange);
        }
        value
    };
    let (fits, canonical) = match (kind_of(field), given) {
        (MatchType::Exact, FieldMatchType::Exact(m)) => {
            let value = shortest(value(&m.value)?);
            (true, FieldMatchType::Exact(field_match::Exact { value }))
        }
        (MatchType::Optional, FieldMatchType::Optional(m)) => {
            let value = shortest(value(&m.value)?);
            (true, FieldMatchType::Optional(field_match::Optional { value }))
        }
        (MatchType::Lpm, FieldMatchType::Lpm(m)) => {
            let value = value(&m.value);
            let prefix = u32::try_from(m.prefix_len).unwrap_or(0);
            let fits = (1..=bits).contains(&prefix) && value.is_none_or(|v| v & max(bits - prefix) == 0);
            let value = shortest(value.unwrap_or_default());
            (fits, FieldMatchType::Lpm(field_match::Lpm { value, prefix_len: m.prefix_len }))
        }
        (MatchType::Ternary, FieldMatchType::Ternary(m)) => {
            let (value, mask) = (value(&m.value), value(&m.mask));
            let fits = mask != Some(0) && value.zip(mask).is_none_or(|(v, m)| v & !m == 0);
            let (value, mask) = (shortest(value.unwrap_or_default()), shortest(mask.unwrap_or_default()));
            (fits, FieldMatchType::Ternary(field_match::Ternary { value, mask }))
        }
        (MatchType::Range, FieldMatchType::Range(m)) => {
            let (low, high) = (value(&m.low), value(&m.high));
            let fits = low.zip(high).is_none_or(|(l, h)| l <= h && (l, h) != (0, max(bits)));
            let (low, high) = (shortest(low.unwrap_or_default()), shortest(high.unwrap_or_default()));
            (fits, FieldMatchType::Range(field_match::Range { low, high }))
        }
        (_, other) => (false, other.clone()),
    };
    if !fits {
        wrong.push(Code::InvalidArgument);
    }
    Some(canonical)
}

/// An action in canonical form; `None` when something is wrong with it.
fn check_action(
    p4info: &info::P4Info,
    table: &info::Table,
    given: &v1::TableAction,
    default: bool,
    wrong: &mut Vec<Code>,
) -> Option<v1::TableAction> {
    let before = wrong.len();
    let Some(table_action::Type::Action(given)) = &given.r#type else {
        wrong.push(Code::InvalidArgument);
        return None;
    };
    let reference = table.action_refs.iter().find(|r| r.id == given.action_id);
    let action = p4info.actions.iter().find(|a| id(&a.preamble) == given.action_id);
    let (Some(reference), Some(action)) = (reference, action) else {
        wrong.push(Code::InvalidArgument);
        return None;
    };
    if reference.scope() == if default { Scope::TableOnly } else { Scope::DefaultOnly } {
        wrong.push(Code::PermissionDenied);
    }
    if given.params.iter().any(|g| action.params.iter().all(|p| p.id != g.param_id)) {
        wrong.push(Code::InvalidArgument);
    }
    let mut params = Vec::new();
    for param in &action.params {
        let values: Vec<_> = given.params.iter().filter(|g| g.param_id == param.id).collect();
        if values.len() != 1 {
            wrong.push(Code::InvalidArgument);
        }
        for one in values {
            match number(&one.value, param.bitwidth as u32) {
                Some(value) => params.push(v1::action::Param { param_id: param.id, value: shortest(value) }),
                None => wrong.push(Code::OutOfRange),
            }
        }
    }
    let action = v1::Action { action_id: given.action_id, params };
    (wrong.len() == before).then_some(v1::TableAction { r#type: Some(table_action::Type::Action(action)) })
}

fn check_data(data: &v1::CounterData, wrong: &mut Vec<Code>) {
    if data.byte_count < 0 || data.packet_count < 0 {
        wrong.push(Code::InvalidArgument);
    }
}

/// Two rates and three colours, which is what the meters of the tests' programs have.
fn check_config(config: &v1::MeterConfig, wrong: &mut Vec<Code>) {
    let numbers = [config.cir, config.cburst, config.pir, config.pburst];
    if numbers.iter().any(|n| *n < 0) || config.eburst != 0 || config.pir < config.cir {
        wrong.push(Code::InvalidArgument);
    }
}
