//! Random updates: most of them what a controller could mean, many of them broken in one place or two.

mod rest;

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::match_field::{Match, MatchType};
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::field_match::{self, FieldMatchType};
use dmux_p4rt::p4::v1::table_action;
use dmux_p4rt::p4::v1::update::Type;

use crate::model::{Model, shortest};
use crate::random::Random;

pub struct Generator<'a> {
    p4info: &'a info::P4Info,
    model: &'a Model,
    random: &'a mut Random,
}

impl<'a> Generator<'a> {
    pub fn new(p4info: &'a info::P4Info, model: &'a Model, random: &'a mut Random) -> Self {
        Self { p4info, model, random }
    }

    pub fn update(&mut self) -> v1::Update {
        let p = self.p4info;
        let mut update = match self.random.below(20) {
            0 if !p.counters.is_empty() => self.counter(),
            1 if !p.meters.is_empty() => self.meter(),
            2..=3 if !p.tables.is_empty() => self.direct(),
            4..=5 if !p.tables.is_empty() => self.default_entry(),
            6 if !p.registers.is_empty() => self.register(),
            7 if !p.value_sets.is_empty() => self.value_set(),
            8 if !p.digests.is_empty() => self.digest(),
            9..=11 if !p.action_profiles.is_empty() => self.member(),
            12..=13 if !p.action_profiles.is_empty() => self.group(),
            14..=19 if !p.tables.is_empty() => self.entry_update(),
            _ if !p.tables.is_empty() && !self.random.one_in(3) => self.entry_update(),
            _ => self.replication(),
        };
        if self.random.one_in(40) {
            update.r#type = self.random.below(5) as i32;
        }
        update
    }

    fn table(&mut self) -> &'a info::Table {
        self.random.pick(&self.p4info.tables)
    }

    fn bytes(&mut self, bits: u32) -> Vec<u8> {
        let value = self.random.value(bits);
        self.spell(value, bits)
    }

    /// A value as bytes: mostly the shortest, sometimes padded, sometimes none or too many.
    fn spell(&mut self, value: u128, bits: u32) -> Vec<u8> {
        let mut bytes = shortest(value);
        match self.random.below(60) {
            0 => bytes.clear(),
            1 => bytes = shortest(if bits < 128 { 1 << bits } else { 0 }),
            2 => bytes = vec![0xff; bits as usize / 8 + 2],
            3..=6 => {
                let zeros = self.random.below(4);
                bytes.splice(0..0, vec![0; zeros]);
            }
            _ => {}
        }
        bytes
    }

    fn entry_update(&mut self) -> v1::Update {
        let known: Vec<&v1::TableEntry> = self.model.entries().collect();
        let (kind, mut entry) = if known.is_empty() || self.random.one_in(2) {
            (Type::Insert, self.entry())
        } else {
            let mut entry = (*self.random.pick(&known)).clone();
            entry.is_const = false;
            let kind = *self.random.pick(&[Type::Modify, Type::Delete, Type::Insert]);
            if kind == Type::Modify
                && let Some(table) = self.p4info.tables.iter().find(|t| id(&t.preamble) == entry.table_id)
            {
                entry.action = self.action(table);
                self.decorate(&mut entry, table);
            }
            (kind, entry)
        };
        if self.random.one_in(4) {
            self.damage(&mut entry);
        }
        update(kind, Entity::TableEntry(entry))
    }

    fn entry(&mut self) -> v1::TableEntry {
        let table = self.table();
        let mut r#match = Vec::new();
        for field in &table.match_fields {
            if let Some(kind) = self.field(field) {
                r#match.push(v1::FieldMatch { field_id: field.id, field_match_type: Some(kind) });
            }
        }
        let needs_priority = table
            .match_fields
            .iter()
            .any(|f| matches!(kind_of(f), MatchType::Ternary | MatchType::Range | MatchType::Optional));
        let mut entry = v1::TableEntry {
            table_id: id(&table.preamble),
            r#match,
            action: self.action(table),
            priority: if needs_priority { 1 + self.random.below(3) as i32 } else { 0 },
            ..v1::TableEntry::default()
        };
        self.decorate(&mut entry, table);
        entry
    }

    /// Metadata and direct resources.
    fn decorate(&mut self, entry: &mut v1::TableEntry, table: &info::Table) {
        if self.random.one_in(4) {
            entry.metadata = vec![7; self.random.below(4)];
        }
        let direct = |preamble: &Option<info::Preamble>| table.direct_resource_ids.contains(&id(preamble));
        let counted = self.p4info.direct_counters.iter().any(|c| direct(&c.preamble));
        let metered = self.p4info.direct_meters.iter().any(|m| direct(&m.preamble));
        entry.counter_data =
            (if counted { self.random.one_in(2) } else { self.random.one_in(30) }).then(|| self.counter_data());
        entry.meter_config =
            (if metered { self.random.one_in(2) } else { self.random.one_in(30) }).then(|| self.meter_config());
        let ages = table.idle_timeout_behavior() != info::table::IdleTimeoutBehavior::NoTimeout;
        if if ages { self.random.one_in(2) } else { self.random.one_in(40) } {
            entry.idle_timeout_ns = self.number();
        }
    }

    fn field(&mut self, field: &info::MatchField) -> Option<FieldMatchType> {
        let bits = field.bitwidth as u32;
        Some(match kind_of(field) {
            MatchType::Exact => FieldMatchType::Exact(field_match::Exact { value: self.bytes(bits) }),
            MatchType::Optional if self.random.one_in(3) => return None,
            MatchType::Optional => FieldMatchType::Optional(field_match::Optional { value: self.bytes(bits) }),
            _ if self.random.one_in(4) => return None,
            MatchType::Lpm => {
                let prefix = 1 + self.random.below(bits as usize) as u32;
                let value = self.random.value(prefix) << (bits - prefix);
                FieldMatchType::Lpm(field_match::Lpm { value: self.spell(value, bits), prefix_len: prefix as i32 })
            }
            MatchType::Ternary => {
                let mask = self.random.value(bits).max(1);
                let value = self.random.value(bits) & mask;
                let value = self.spell(value, bits);
                FieldMatchType::Ternary(field_match::Ternary { value, mask: self.spell(mask, bits) })
            }
            MatchType::Range => {
                let (a, b) = (self.random.value(bits), self.random.value(bits));
                let (low, high) = (self.spell(a.min(b), bits), self.spell(a.max(b), bits));
                FieldMatchType::Range(field_match::Range { low, high })
            }
            MatchType::Unspecified => return None,
        })
    }

    fn action(&mut self, table: &info::Table) -> Option<v1::TableAction> {
        if self.random.one_in(40) || table.action_refs.is_empty() {
            return None;
        }
        let named = if table.implementation_id != 0 && !self.random.one_in(30) {
            self.indirect(table)
        } else {
            table_action::Type::Action(self.call(table)?)
        };
        Some(v1::TableAction { r#type: Some(named) })
    }

    /// An action of a table with arguments.
    fn call(&mut self, table: &info::Table) -> Option<v1::Action> {
        let reference = self.random.pick(&table.action_refs);
        let action = self.p4info.actions.iter().find(|a| id(&a.preamble) == reference.id)?;
        let params = action
            .params
            .iter()
            .map(|p| v1::action::Param { param_id: p.id, value: self.bytes(p.bitwidth as u32) })
            .collect();
        Some(v1::Action { action_id: reference.id, params })
    }

    /// Breaks something, perhaps.
    fn damage(&mut self, entry: &mut v1::TableEntry) {
        let fields = entry.r#match.len();
        match self.random.below(14) {
            0 => entry.table_id = *self.random.pick(&[0, 1, u32::MAX, id(&self.p4info.tables[0].preamble)]),
            1 if fields > 0 => drop(entry.r#match.remove(self.random.below(fields))),
            2 if fields > 0 => entry.r#match.push(entry.r#match[self.random.below(fields)].clone()),
            3 if fields > 0 => entry.r#match[self.random.below(fields)].field_id = 99,
            4 if fields > 0 => entry.r#match[self.random.below(fields)].field_match_type = None,
            5 if fields > 0 => {
                let kinds = [
                    FieldMatchType::Exact(field_match::Exact { value: vec![1] }),
                    FieldMatchType::Lpm(field_match::Lpm { value: vec![1], prefix_len: self.random.below(200) as i32 }),
                    FieldMatchType::Ternary(field_match::Ternary { value: vec![1], mask: vec![0] }),
                    FieldMatchType::Ternary(field_match::Ternary { value: vec![3], mask: vec![1] }),
                    FieldMatchType::Range(field_match::Range { low: vec![2], high: vec![1] }),
                    FieldMatchType::Optional(field_match::Optional { value: vec![] }),
                ];
                entry.r#match[self.random.below(fields)].field_match_type = Some(self.random.pick(&kinds).clone());
            }
            6 => entry.priority = *self.random.pick(&[-1, 0, 1, i32::MAX]),
            7 => entry.action = Some(v1::TableAction { r#type: None }),
            8 => {
                let kinds = [table_action::Type::ActionProfileMemberId(1), table_action::Type::ActionProfileGroupId(1)];
                entry.action = Some(v1::TableAction { r#type: Some(self.random.pick(&kinds).clone()) });
            }
            9..=11 => {
                let Some(table_action::Type::Action(action)) = entry.action.as_mut().and_then(|a| a.r#type.as_mut())
                else {
                    return;
                };
                let params = action.params.len();
                match self.random.below(4) {
                    0 => action.action_id = id(&self.random.pick(&self.p4info.actions).preamble),
                    1 => action.params.push(v1::action::Param { param_id: 1, value: vec![1] }),
                    2 if params > 0 => drop(action.params.remove(self.random.below(params))),
                    3 if params > 0 => action.params[self.random.below(params)].param_id = 77,
                    _ => {}
                }
            }
            12 => entry.is_const = true,
            13 => entry.metadata = vec![1; 1020 + self.random.below(10)],
            _ => {}
        }
    }

    fn default_entry(&mut self) -> v1::Update {
        let table = self.table();
        let mut entry = v1::TableEntry {
            table_id: id(&table.preamble),
            action: self.action(table),
            is_default_action: true,
            ..v1::TableEntry::default()
        };
        if self.random.one_in(4) {
            entry.metadata = vec![9; self.random.below(4)];
        }
        if self.random.one_in(20) {
            entry.priority = 1;
        }
        let kind = if self.random.one_in(10) { Type::Insert } else { Type::Modify };
        update(kind, Entity::TableEntry(entry))
    }

    fn number(&mut self) -> i64 {
        match self.random.below(20) {
            0 => -1,
            1 => i64::MAX,
            _ => self.random.below(1000) as i64,
        }
    }

    fn counter_data(&mut self) -> v1::CounterData {
        v1::CounterData { byte_count: self.number(), packet_count: self.number() }
    }

    fn meter_config(&mut self) -> v1::MeterConfig {
        let (cir, pir) = (self.number(), self.number());
        let eburst = i64::from(self.random.one_in(20));
        let ordered = self.random.one_in(10);
        let (cir, pir) = if ordered { (cir, pir) } else { (cir.min(pir), cir.max(pir)) };
        v1::MeterConfig { cir, cburst: self.number(), pir, pburst: self.number(), eburst }
    }

    fn index(&mut self, size: i64) -> Option<v1::Index> {
        if self.random.one_in(12) {
            return None;
        }
        let index = match self.random.below(20) {
            0 => -1,
            1 => size,
            2 => i64::MAX,
            _ => self.random.below(size as usize) as i64,
        };
        Some(v1::Index { index })
    }

    fn counter(&mut self) -> v1::Update {
        let counter = self.random.pick(&self.p4info.counters);
        let data = (!self.random.one_in(10)).then(|| self.counter_data());
        let counter_id = if self.random.one_in(20) { 5 } else { id(&counter.preamble) };
        let kind = if self.random.one_in(10) { Type::Insert } else { Type::Modify };
        update(kind, Entity::CounterEntry(v1::CounterEntry { counter_id, index: self.index(counter.size), data }))
    }

    fn meter(&mut self) -> v1::Update {
        let meter = self.random.pick(&self.p4info.meters);
        let config = (!self.random.one_in(5)).then(|| self.meter_config());
        let meter_id = if self.random.one_in(20) { 5 } else { id(&meter.preamble) };
        let kind = if self.random.one_in(10) { Type::Delete } else { Type::Modify };
        let index = self.index(meter.size);
        update(kind, Entity::MeterEntry(v1::MeterEntry { meter_id, index, config, counter_data: None }))
    }

    /// A direct resource of an entry that is there, or perhaps is not.
    fn direct(&mut self) -> v1::Update {
        let known: Vec<&v1::TableEntry> = self.model.entries().collect();
        let entry =
            if known.is_empty() || self.random.one_in(4) { self.entry() } else { (*self.random.pick(&known)).clone() };
        let key = v1::TableEntry {
            table_id: entry.table_id,
            r#match: entry.r#match,
            priority: entry.priority,
            ..v1::TableEntry::default()
        };
        let table_entry = (!self.random.one_in(20)).then_some(key);
        let kind = if self.random.one_in(10) { Type::Delete } else { Type::Modify };
        if self.random.one_in(2) {
            let data = (!self.random.one_in(5)).then(|| self.counter_data());
            return update(kind, Entity::DirectCounterEntry(v1::DirectCounterEntry { table_entry, data }));
        }
        let config = (!self.random.one_in(3)).then(|| self.meter_config());
        update(kind, Entity::DirectMeterEntry(v1::DirectMeterEntry { table_entry, config, counter_data: None }))
    }
}

pub fn id(preamble: &Option<info::Preamble>) -> u32 {
    preamble.as_ref().unwrap().id
}

/// The width of a register's cells.
pub fn register_bits(register: &info::Register) -> u32 {
    use info::p4_bitstring_like_type_spec::TypeSpec as Bits;
    let spec = register.type_spec.as_ref().and_then(|s| s.type_spec.as_ref());
    match spec {
        Some(info::p4_data_type_spec::TypeSpec::Bitstring(bits)) => match bits.type_spec.as_ref().unwrap() {
            Bits::Bit(t) => t.bitwidth as u32,
            Bits::Int(t) => t.bitwidth as u32,
            Bits::Varbit(t) => t.max_bitwidth as u32,
        },
        other => panic!("a register of {other:?}"),
    }
}

/// The kind of a field, which the tests' programs always tell.
pub fn kind_of(field: &info::MatchField) -> MatchType {
    match field.r#match {
        Some(Match::MatchType(kind)) => MatchType::try_from(kind).unwrap(),
        _ => MatchType::Unspecified,
    }
}

fn update(kind: Type, entity: Entity) -> v1::Update {
    v1::Update { r#type: kind as i32, entity: Some(v1::Entity { entity: Some(entity) }) }
}
