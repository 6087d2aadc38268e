//! Table entries between P4Runtime and the pipeline: specification 1.4, section 9.1. Their keys are in [`key`](super::key).

use dmux_p4rt::p4::config::v1::action_ref::Scope;
use dmux_p4rt::p4::config::v1::meter_spec;
use dmux_p4rt::p4::v1;
use num_bigint::BigUint;
use tonic::Code;

use super::binding::{ActionBinding, ParamBinding, TableBinding};
use super::error::Refused;
use super::value::{self, Number, Wide};
use crate::pipeline::{ActionCall, ColourCounts, CounterValue, MeterConfig, Outcome, PIECE, pieces};

impl TableBinding {
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
        let mut args = Vec::with_capacity(action.params.len());
        for param in &action.params {
            let mut values = given.iter().filter(|g| g.param_id == param.id);
            let (Some(one), None) = (values.next(), values.next()) else {
                return Err(self.refuse(format!(
                    "action \"{}\" needs its parameter \"{}\" (id {}) exactly once",
                    action.name, param.name, param.id
                )));
            };
            let what = || format!("table {}: parameter \"{}\" of action \"{}\"", self.name, param.name, action.name);
            if param.width <= PIECE {
                args.push(value::decode(&one.value, param.width, what)?);
            } else {
                args.extend(BigUint::read(&one.value, param.width, what)?.cut(param.width));
            }
        }
        Ok(args)
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
        let mut args = &call.args[..];
        let write = |param: &ParamBinding| {
            let (own, rest) = args.split_at(pieces(param.width).count().min(args.len()));
            args = rest;
            let value = match own {
                [one] => value::encode(*one),
                many => BigUint::joined(many.iter().copied()).written(),
            };
            v1::action::Param { param_id: param.id, value }
        };
        let params = bound.params.iter().map(write).collect();
        Some(v1::Action { action_id: bound.id, params })
    }

    /// INVALID_ARGUMENT, with the table's name.
    pub(crate) fn refuse(&self, what: impl std::fmt::Display) -> Refused {
        Refused::invalid(format!("table {}: {what}", self.name))
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
