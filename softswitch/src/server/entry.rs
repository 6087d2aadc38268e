//! Table entries between P4Runtime and the pipeline: specification 1.4, section 9.1.

use dmux_p4rt::p4::config::v1::action_ref::Scope;
use dmux_p4rt::p4::config::v1::meter_spec;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::field_match::{self, FieldMatchType};
use tonic::Code;

use super::binding::{ActionBinding, FieldBinding, TableBinding};
use super::error::Refused;
use super::value;
use crate::pipeline::{ActionCall, ColourCounts, CounterValue, MatchKind, MatchValue, MeterConfig, Outcome};

/// What identifies an entry within its table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryKey {
    /// One value for each key field, in the program's order.
    pub fields: Vec<MatchValue>,
    /// Its priority; 0 in tables without.
    pub priority: i32,
}

impl TableBinding {
    /// Reads an entry's match fields and priority.
    pub(crate) fn decode_key(&self, entry: &v1::TableEntry) -> Result<EntryKey, Refused> {
        if self.fields.is_empty() {
            return Err(self.refuse("the table has no key, so it has no entries: set its default action instead"));
        }
        for (i, given) in entry.r#match.iter().enumerate() {
            if self.fields.iter().all(|f| f.id != given.field_id) {
                return Err(self.refuse(format!("there is no match field with id {}", given.field_id)));
            }
            if entry.r#match[..i].iter().any(|other| other.field_id == given.field_id) {
                return Err(self.refuse(format!("the match field with id {} is given twice", given.field_id)));
            }
        }
        match (self.needs_priority, entry.priority) {
            (true, ..=0) => {
                return Err(self
                    .refuse("entries need a priority above 0, since the key has a ternary, range or optional field"));
            }
            (false, p) if p != 0 => {
                return Err(
                    self.refuse("entries have no priority, since no field is ternary, range or optional: leave it 0")
                );
            }
            _ => {}
        }
        let decode = |field: &FieldBinding| {
            let given = entry.r#match.iter().find(|m| m.field_id == field.id);
            let value = match given {
                None => self.wildcard(field),
                Some(given) => self.decode_field(field, given.field_match_type.as_ref()),
            };
            value.map(|value| compile(field, value))
        };
        let fields = self.fields.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(EntryKey { fields, priority: entry.priority })
    }

    /// What an omitted field means; an exact one cannot be omitted.
    fn wildcard(&self, field: &FieldBinding) -> Result<MatchValue, Refused> {
        Ok(match field.kind {
            MatchKind::Exact => {
                return Err(self.refuse(format!("the exact match field \"{}\" is missing", field.name)));
            }
            MatchKind::Lpm => MatchValue::Lpm { value: 0, prefix_len: 0 },
            MatchKind::Ternary => MatchValue::Ternary { value: 0, mask: 0 },
            MatchKind::Range => MatchValue::Range { low: 0, high: value::all_ones(field.width) },
            MatchKind::Optional => MatchValue::Optional(None),
        })
    }

    fn decode_field(&self, field: &FieldBinding, given: Option<&FieldMatchType>) -> Result<MatchValue, Refused> {
        let number = |bytes: &[u8]| {
            value::decode(bytes, field.width, || format!("table {}: match field \"{}\"", self.name, field.name))
        };
        let refuse = |what: &str| self.refuse(format!("match field \"{}\": {what}", field.name));
        match (field.kind, given) {
            (MatchKind::Exact, Some(FieldMatchType::Exact(m))) => Ok(MatchValue::Exact(number(&m.value)?)),
            (MatchKind::Lpm, Some(FieldMatchType::Lpm(m))) => {
                let value = number(&m.value)?;
                let prefix_len = u32::try_from(m.prefix_len).ok().filter(|p| (1..=field.width).contains(p));
                let Some(prefix_len) = prefix_len else {
                    return Err(refuse(&format!(
                        "a prefix length is 1 to {}; omit the field to match everything",
                        field.width
                    )));
                };
                if value & value::all_ones(field.width - prefix_len) != 0 {
                    return Err(refuse("the value has bits set beyond the prefix length"));
                }
                Ok(MatchValue::Lpm { value, prefix_len })
            }
            (MatchKind::Ternary, Some(FieldMatchType::Ternary(m))) => {
                let (value, mask) = (number(&m.value)?, number(&m.mask)?);
                if mask == 0 {
                    return Err(refuse("the mask is zero; omit the field to match everything"));
                }
                if value & !mask != 0 {
                    return Err(refuse("the value has bits set outside the mask"));
                }
                Ok(MatchValue::Ternary { value, mask })
            }
            (MatchKind::Range, Some(FieldMatchType::Range(m))) => {
                let (low, high) = (number(&m.low)?, number(&m.high)?);
                if low > high {
                    return Err(refuse("the low bound is above the high bound"));
                }
                if low == 0 && high == value::all_ones(field.width) {
                    return Err(refuse("the range holds every value; omit the field to match everything"));
                }
                Ok(MatchValue::Range { low, high })
            }
            (MatchKind::Optional, Some(FieldMatchType::Optional(m))) => {
                Ok(MatchValue::Optional(Some(number(&m.value)?)))
            }
            (_, None) => Err(refuse("it has no value")),
            (kind, Some(_)) => Err(refuse(&format!("it is matched as {kind:?}, and another kind was given"))),
        }
    }

    /// Writes match fields in canonical form: what matches everything is omitted.
    pub(crate) fn encode_key(&self, key: &[MatchValue]) -> Vec<v1::FieldMatch> {
        let encode = |(field, value): (&FieldBinding, &MatchValue)| {
            let matched = match *value {
                MatchValue::Exact(v) => FieldMatchType::Exact(field_match::Exact { value: value::encode(v) }),
                MatchValue::Lpm { prefix_len: 0, .. }
                | MatchValue::Ternary { mask: 0, .. }
                | MatchValue::Optional(None) => return None,
                MatchValue::Range { low: 0, high } if high == value::all_ones(field.width) => return None,
                MatchValue::Lpm { value, prefix_len } => FieldMatchType::Lpm(field_match::Lpm {
                    value: value::encode(value),
                    // At most 128.
                    prefix_len: prefix_len as i32,
                }),
                MatchValue::Ternary { value, .. } if field.kind == MatchKind::Optional => {
                    FieldMatchType::Optional(field_match::Optional { value: value::encode(value) })
                }
                MatchValue::Ternary { value, mask } => FieldMatchType::Ternary(field_match::Ternary {
                    value: value::encode(value),
                    mask: value::encode(mask),
                }),
                MatchValue::Range { low, high } => {
                    FieldMatchType::Range(field_match::Range { low: value::encode(low), high: value::encode(high) })
                }
                MatchValue::Optional(Some(v)) => {
                    FieldMatchType::Optional(field_match::Optional { value: value::encode(v) })
                }
            };
            Some(v1::FieldMatch { field_id: field.id, field_match_type: Some(matched) })
        };
        self.fields.iter().zip(key).filter_map(encode).collect()
    }

    /// Reads what an entry, or the default entry, is to lead to.
    pub(crate) fn decode_outcome(&self, action: &v1::TableAction, default: bool) -> Result<Outcome, Refused> {
        match (&action.r#type, self.profile) {
            (None, _) => Err(self.refuse("the action is empty")),
            (Some(v1::table_action::Type::Action(action)), None) => {
                self.decode_action(action, default).map(Outcome::Call)
            }
            (Some(_), None) => {
                Err(self.refuse("the table is direct: give an action, not a member or group of an action profile"))
            }
            (Some(v1::table_action::Type::Action(_)), Some(_)) => Err(self.refuse(
                "the table is indirect: give a member or group of its action profile, or a set, not an action",
            )),
            (Some(named), Some(_)) => self.decode_via(named).map(Outcome::Via),
        }
    }

    /// Reads an action for an entry or a member, or for the default entry.
    pub(crate) fn decode_action(&self, action: &v1::Action, default: bool) -> Result<ActionCall, Refused> {
        let Some(bound) = self.action(action.action_id) else {
            return Err(self.refuse(format!(
                "the action with id {} (0x{:08x}) is not one of the table's",
                action.action_id, action.action_id
            )));
        };
        match (bound.scope, default) {
            (Scope::TableOnly, true) => Err(Refused::new(
                Code::PermissionDenied,
                format!("table {}: action \"{}\" is for entries only, not for the default", self.name, bound.name),
            )),
            (Scope::DefaultOnly, false) => Err(Refused::new(
                Code::PermissionDenied,
                format!("table {}: action \"{}\" is for the default only, not for entries", self.name, bound.name),
            )),
            (Scope::GroupAction, _) => Err(Refused::new(
                Code::PermissionDenied,
                format!("table {}: action \"{}\" is for the group_action of sets only", self.name, bound.name),
            )),
            _ => Ok(ActionCall { action: bound.ix, args: self.decode_params(bound, &action.params)? }),
        }
    }

    fn decode_params(&self, action: &ActionBinding, given: &[v1::action::Param]) -> Result<Vec<u128>, Refused> {
        if let Some(unknown) = given.iter().find(|g| action.params.iter().all(|p| p.id != g.param_id)) {
            return Err(
                self.refuse(format!("action \"{}\" has no parameter with id {}", action.name, unknown.param_id))
            );
        }
        let decode = |param: &super::binding::ParamBinding| {
            let mut values = given.iter().filter(|g| g.param_id == param.id);
            let (Some(one), None) = (values.next(), values.next()) else {
                return Err(self.refuse(format!(
                    "action \"{}\" needs its parameter \"{}\" (id {}) exactly once",
                    action.name, param.name, param.id
                )));
            };
            value::decode(&one.value, param.width, || {
                format!("table {}: parameter \"{}\" of action \"{}\"", self.name, param.name, action.name)
            })
        };
        action.params.iter().map(decode).collect()
    }

    /// Writes what an entry leads to; `None` for an action that the P4Info does not give the table.
    pub(crate) fn encode_outcome(&self, outcome: &Outcome) -> Option<v1::TableAction> {
        let named = match outcome {
            Outcome::Call(call) => v1::table_action::Type::Action(self.encode_action(call)?),
            Outcome::Via(via) => self.encode_via(via)?,
        };
        Some(v1::TableAction { r#type: Some(named) })
    }

    /// Writes an action in canonical form; `None` for one that the P4Info does not give the table.
    pub(crate) fn encode_action(&self, call: &ActionCall) -> Option<v1::Action> {
        let bound = self.action_by_ix(call.action)?;
        let params = bound
            .params
            .iter()
            .zip(&call.args)
            .map(|(param, arg)| v1::action::Param { param_id: param.id, value: value::encode(*arg) })
            .collect();
        Some(v1::Action { action_id: bound.id, params })
    }

    /// INVALID_ARGUMENT, with the table's name.
    pub(crate) fn refuse(&self, what: impl std::fmt::Display) -> Refused {
        Refused::invalid(format!("table {}: {what}", self.name))
    }
}

/// The value as the program matches it.
fn compile(field: &FieldBinding, value: MatchValue) -> MatchValue {
    match (value, field.compiled) {
        (MatchValue::Optional(Some(value)), MatchKind::Ternary) => {
            MatchValue::Ternary { value, mask: value::all_ones(field.width) }
        }
        (MatchValue::Optional(None), MatchKind::Ternary) => MatchValue::Ternary { value: 0, mask: 0 },
        (value, _) => value,
    }
}

/// Reads a meter configuration, by the meter's type (§9.4).
pub(crate) fn decode_meter(
    name: &str,
    meter_type: meter_spec::Type,
    config: &v1::MeterConfig,
) -> Result<MeterConfig, Refused> {
    let refuse = |what: &str| Refused::invalid(format!("meter {name}: {what}"));
    let number = |value: i64, what: &str| {
        u64::try_from(value).map_err(|_| refuse(&format!("{what} is {value}, and rates and bursts are not negative")))
    };
    let (cir, cburst) = (number(config.cir, "cir")?, number(config.cburst, "cburst")?);
    if meter_type == meter_spec::Type::TwoRateThreeColor {
        if config.eburst != 0 {
            return Err(refuse("it has two rates, so eburst must be 0"));
        }
        let (pir, pburst) = (number(config.pir, "pir")?, number(config.pburst, "pburst")?);
        // The data plane refuses this, too, but only once the entry that brings it is there.
        if pir < cir {
            return Err(refuse("the peak rate (pir) is below the committed rate (cir)"));
        }
        return Ok(MeterConfig::TwoRates { cir, cburst, pir, pburst });
    }
    if (config.pir, config.pburst) != (config.cir, config.cburst) {
        return Err(refuse("it has one rate: pir must equal cir, and pburst cburst"));
    }
    if meter_type == meter_spec::Type::SingleRateTwoColor && config.eburst != 0 {
        return Err(refuse("it has two colours, so eburst must be 0"));
    }
    Ok(MeterConfig::OneRate { cir, cburst, eburst: number(config.eburst, "eburst")? })
}

/// P4Runtime's numbers are signed; what does not fit saturates.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn encode_meter(config: MeterConfig) -> v1::MeterConfig {
    let (cir, cburst, pir, pburst, eburst) = match config {
        MeterConfig::TwoRates { cir, cburst, pir, pburst } => (cir, cburst, pir, pburst, 0),
        MeterConfig::OneRate { cir, cburst, eburst } => (cir, cburst, cir, cburst, eburst),
    };
    v1::MeterConfig {
        cir: signed(cir),
        cburst: signed(cburst),
        pir: signed(pir),
        pburst: signed(pburst),
        eburst: signed(eburst),
    }
}

pub(crate) fn decode_counter(data: &v1::CounterData) -> Result<CounterValue, Refused> {
    match (u64::try_from(data.packet_count), u64::try_from(data.byte_count)) {
        (Ok(packets), Ok(bytes)) => Ok(CounterValue { packets, bytes }),
        _ => Err(Refused::invalid("a counter's value cannot be negative")),
    }
}

pub(crate) fn encode_counter(value: CounterValue) -> v1::CounterData {
    v1::CounterData { byte_count: signed(value.bytes), packet_count: signed(value.packets) }
}

pub(crate) fn encode_colours(counts: ColourCounts) -> v1::MeterCounterData {
    v1::MeterCounterData {
        green: Some(encode_counter(counts.green)),
        yellow: Some(encode_counter(counts.yellow)),
        red: Some(encode_counter(counts.red)),
    }
}

/// Counters per colour can only be set to zero (§9.1.7, §9.4). Returns whether they are.
pub(crate) fn resets_colours(data: Option<&v1::MeterCounterData>) -> Result<bool, Refused> {
    let Some(data) = data else { return Ok(false) };
    let zero = |d: &Option<v1::CounterData>| d.as_ref().is_none_or(|d| d.byte_count == 0 && d.packet_count == 0);
    if zero(&data.green) && zero(&data.yellow) && zero(&data.red) {
        return Ok(true);
    }
    Err(Refused::invalid("a meter's counters per colour can only be reset: leave their values 0"))
}
