//! Counters, meters, registers, direct resources, value sets and digests.

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::p4_data::Data;
use dmux_p4rt::p4::v1::update::Type;
use tonic::Code;

use super::keys::{canonical_key, canonical_match, find_table};
use super::{Model, key_of};
use crate::generate::{id, register_bits};

impl Model {
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

    pub(super) fn counter(&mut self, kind: Type, entry: &v1::CounterEntry, wrong: &mut Vec<Code>) {
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

    pub(super) fn meter(&mut self, kind: Type, entry: &v1::MeterEntry, wrong: &mut Vec<Code>) {
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

    pub(super) fn direct_counter(&mut self, kind: Type, entry: &v1::DirectCounterEntry, wrong: &mut Vec<Code>) {
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

    pub(super) fn direct_meter(&mut self, kind: Type, entry: &v1::DirectMeterEntry, wrong: &mut Vec<Code>) {
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

    /// Registers may be wider than any number here: values are bytes without leading zeros.
    pub(super) fn register(&mut self, kind: Type, entry: &v1::RegisterEntry, wrong: &mut Vec<Code>) {
        if kind != Type::Modify {
            wrong.push(Code::InvalidArgument);
        }
        let p4info = self.p4info.clone();
        let Some(register) = p4info.registers.iter().find(|r| id(&r.preamble) == entry.register_id) else {
            return wrong.push(Code::InvalidArgument);
        };
        let cells = Self::cells(entry.index.as_ref(), register.size.into(), wrong);
        let Some(Data::Bitstring(bytes)) = entry.data.as_ref().and_then(|d| d.data.as_ref()) else {
            return wrong.push(Code::InvalidArgument);
        };
        let zeros = bytes.iter().take(bytes.len().saturating_sub(1)).take_while(|b| **b == 0).count();
        let value = &bytes[zeros..];
        let bits = value.first().map_or(0, |b| value.len() as u32 * 8 - b.leading_zeros());
        if bytes.is_empty() || bits > register_bits(register) {
            wrong.push(Code::OutOfRange);
        }
        if wrong.is_empty() {
            self.registers.extend(cells.map(|cell| ((entry.register_id, cell), value.to_vec())));
        }
    }

    pub(super) fn value_set(&mut self, kind: Type, entry: &v1::ValueSetEntry, wrong: &mut Vec<Code>) {
        if kind != Type::Modify {
            wrong.push(Code::InvalidArgument);
        }
        let p4info = self.p4info.clone();
        let Some(set) = p4info.value_sets.iter().find(|s| id(&s.preamble) == entry.value_set_id) else {
            return wrong.push(Code::InvalidArgument);
        };
        if entry.members.len() as i64 > i64::from(set.size) {
            wrong.push(Code::ResourceExhausted);
        }
        let mut member =
            |m: &v1::ValueSetMember| v1::ValueSetMember { r#match: canonical_match(&set.r#match, &m.r#match, wrong) };
        let members: Vec<_> = entry.members.iter().map(&mut member).collect();
        if wrong.is_empty() {
            self.value_sets.insert(entry.value_set_id, members);
        }
    }

    pub(super) fn digest(&mut self, kind: Type, entry: &v1::DigestEntry, wrong: &mut Vec<Code>) {
        if self.p4info.digests.iter().all(|d| id(&d.preamble) != entry.digest_id) {
            return wrong.push(Code::InvalidArgument);
        }
        super::admit(kind, self.digests.contains_key(&entry.digest_id), wrong);
        let config = entry.config.unwrap_or_default();
        let numbers = [config.max_timeout_ns, config.max_list_size.into(), config.ack_timeout_ns];
        if kind != Type::Delete && numbers.iter().any(|n| *n < 0) {
            wrong.push(Code::InvalidArgument);
        }
        if wrong.is_empty() {
            match kind {
                Type::Delete => drop(self.digests.remove(&entry.digest_id)),
                _ => drop(self.digests.insert(entry.digest_id, config)),
            }
        }
    }
}

/// The direct resources that a table has.
pub(super) struct Direct {
    pub counter: bool,
    pub meter: bool,
}

impl Direct {
    pub fn of(p4info: &info::P4Info, table: &info::Table) -> Self {
        let attached = |preamble: &Option<info::Preamble>| table.direct_resource_ids.contains(&id(preamble));
        Self {
            counter: p4info.direct_counters.iter().any(|c| attached(&c.preamble)),
            meter: p4info.direct_meters.iter().any(|m| attached(&m.preamble)),
        }
    }
}

pub(super) fn check_data(data: &v1::CounterData, wrong: &mut Vec<Code>) {
    if data.byte_count < 0 || data.packet_count < 0 {
        wrong.push(Code::InvalidArgument);
    }
}

/// Two rates and three colours, which is what the meters of the tests' programs have.
pub(super) fn check_config(config: &v1::MeterConfig, wrong: &mut Vec<Code>) {
    let numbers = [config.cir, config.cburst, config.pir, config.pburst];
    if numbers.iter().any(|n| *n < 0) || config.eburst != 0 || config.pir < config.cir {
        wrong.push(Code::InvalidArgument);
    }
}
