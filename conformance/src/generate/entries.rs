//! Entries for the tables of a program, out of its P4Info.

use std::collections::{BTreeMap, BTreeSet};

use dmux_p4rt::p4::config::v1::action_ref::Scope;
use dmux_p4rt::p4::config::v1::match_field::{Match, MatchType};
use dmux_p4rt::p4::config::v1::{self as info, P4Info};
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::field_match::{Exact, FieldMatchType, Lpm, Optional, Range, Ternary};
use dmux_p4rt::p4::v1::table_action::Type;
use dmux_p4rt::p4::v1::{
    Action, ActionProfileGroup, ActionProfileMember, FieldMatch, TableAction, TableEntry, action, action_profile_group,
};
use num_bigint::BigUint;

use super::{PORTS, Pool};
use crate::dice::Dice;
use crate::stf::replication::{clone_session, multicast, replica};

/// Members and groups that are made in each action profile.
const MEMBERS: u32 = 6;
const GROUPS: u32 = 3;
/// Multicast groups and clone sessions, numbered from 1.
const REPLICATIONS: u32 = 8;
/// Width of v1model's port numbers.
const PORT_BITS: i32 = 9;

/// What is written before the frames come, in this order: later ones refer to earlier ones.
#[derive(Debug, Default)]
pub struct Entries {
    /// Groups of the replication engine, members and groups of action profiles.
    pub first: Vec<Entity>,
    /// Table entries, no two of a table with the same key.
    pub tables: Vec<TableEntry>,
}

impl Entries {
    /// All of them in their order.
    pub fn all(&self) -> impl Iterator<Item = Entity> + '_ {
        self.first.iter().cloned().chain(self.tables.iter().cloned().map(Entity::TableEntry))
    }
}

/// Numbers that occur, by their width in bits.
#[derive(Debug, Default)]
pub(super) struct Values(BTreeMap<u32, Vec<u128>>);

impl Values {
    /// Takes in a number; the fields of frames that are chosen have 128 bits at most.
    pub(super) fn add(&mut self, width: u32, bytes: &[u8]) {
        if width > 128 {
            return;
        }
        let value = bytes.iter().fold(0, |n, byte| n << 8 | u128::from(*byte));
        let known = self.0.entry(width).or_default();
        if !known.contains(&value) {
            known.push(value);
        }
    }

    /// One of a width, if there is any.
    pub(super) fn pick(&self, width: u32, dice: &mut Dice) -> Option<u128> {
        self.0.get(&width).and_then(|known| dice.pick(known).copied())
    }

    /// Takes in the keys and arguments of an entry.
    pub(super) fn learn(&mut self, info: &P4Info, entry: &TableEntry) {
        let Some(table) = info.tables.iter().find(|t| id(t.preamble.as_ref()) == entry.table_id) else { return };
        for field in &table.match_fields {
            let given = entry.r#match.iter().find(|m| m.field_id == field.id).and_then(|m| m.field_match_type.as_ref());
            let bytes = match given {
                Some(FieldMatchType::Exact(m)) => &m.value,
                Some(FieldMatchType::Lpm(m)) => &m.value,
                Some(FieldMatchType::Ternary(m)) => &m.value,
                Some(FieldMatchType::Range(m)) => &m.low,
                Some(FieldMatchType::Optional(m)) => &m.value,
                _ => continue,
            };
            self.add(field.bitwidth.unsigned_abs(), bytes);
        }
        let Some(Type::Action(call)) = entry.action.as_ref().and_then(|a| a.r#type.as_ref()) else { return };
        let Some(action) = info.actions.iter().find(|a| id(a.preamble.as_ref()) == call.action_id) else { return };
        for (param, given) in action.params.iter().zip(&call.params) {
            self.add(param.bitwidth.unsigned_abs(), &given.value);
        }
    }
}

/// What tables' entries may refer to: groups of the replication engine (if the program uses them), members and groups of
/// action profiles.
pub(super) fn first(info: &P4Info, pool: &Pool, replication: bool, dice: &mut Dice) -> Vec<Entity> {
    let mut all = Vec::new();
    for n in 1..=if replication { REPLICATIONS } else { 0 } {
        let mut replicas = |n: usize| -> Vec<_> {
            let ports: BTreeSet<u16> = (0..n).filter_map(|_| dice.pick(&PORTS).copied()).collect();
            ports.into_iter().zip(1..).map(|(port, rid)| replica(rid, port)).collect()
        };
        all.push(multicast(n, replicas(3)));
        all.push(clone_session(n, replicas(1)));
    }
    for profile in &info.action_profiles {
        profile_entries(info, profile, pool, dice, &mut all);
    }
    all
}

pub(super) fn id(preamble: Option<&info::Preamble>) -> u32 {
    preamble.map_or(0, |p| p.id)
}

fn call(info: &P4Info, ids: &[u32], near: &Values, pool: &Pool, dice: &mut Dice) -> Option<Action> {
    let action_id = *dice.pick(ids)?;
    let action = info.actions.iter().find(|a| id(a.preamble.as_ref()) == action_id)?;
    let params = action.params.iter().map(|p| {
        let value = if p.bitwidth == PORT_BITS && !dice.one_in(8) {
            dice.pick(&PORTS).copied().unwrap_or(0).into()
        } else {
            let width = p.bitwidth.unsigned_abs();
            let near = if dice.one_in(2) { near.pick(width, dice) } else { None };
            near.map_or_else(|| wide(width, pool, dice), BigUint::from)
        };
        action::Param { param_id: p.id, value: value.to_bytes_be() }
    });
    Some(Action { action_id, params: params.collect() })
}

/// A value of any width; a wide one is made of values of 128 bits.
fn wide(width: u32, pool: &Pool, dice: &mut Dice) -> BigUint {
    let mut value = BigUint::from(pool.value(width.min(128), dice));
    let mut left = width.saturating_sub(128);
    while left > 0 {
        value = value << 128 | BigUint::from(pool.value(128, dice));
        left = left.saturating_sub(128);
    }
    value & ((BigUint::from(1u8) << width) - 1u8)
}

fn entry_actions(table: &info::Table) -> Vec<u32> {
    table.action_refs.iter().filter(|a| a.scope != Scope::DefaultOnly as i32).map(|a| a.id).collect()
}

fn profile_entries(info: &P4Info, profile: &info::ActionProfile, pool: &Pool, dice: &mut Dice, all: &mut Vec<Entity>) {
    let action_profile_id = id(profile.preamble.as_ref());
    let table = info.tables.iter().find(|t| t.implementation_id == action_profile_id);
    let Some(ids) = table.map(entry_actions) else { return };
    for member_id in 1..=MEMBERS {
        let action = call(info, &ids, &Values::default(), pool, dice);
        all.push(Entity::ActionProfileMember(ActionProfileMember { action_profile_id, member_id, action }));
    }
    for group_id in 1..=if profile.with_selector { GROUPS } else { 0 } {
        let members: BTreeSet<u32> = (0..3).map(|_| 1 + dice.below(MEMBERS as usize) as u32).collect();
        let member = |member_id| action_profile_group::Member { member_id, weight: 1, ..Default::default() };
        all.push(Entity::ActionProfileGroup(ActionProfileGroup {
            action_profile_id,
            group_id,
            members: members.into_iter().map(member).collect(),
            max_size: 0,
        }));
    }
}

/// Any entry of a table; `None` if it takes none.
pub(super) fn random_entry(info: &P4Info, table: &info::Table, pool: &Pool, dice: &mut Dice) -> Option<TableEntry> {
    let fields = table.match_fields.iter().map(|f| field(f, pool, dice)).collect::<Option<Vec<_>>>()?;
    entry(info, table, fields, &Values::default(), pool, dice)
}

/// An entry that matches a key; its arguments are often values of `near`.
pub(super) fn entry_for(
    info: &P4Info,
    table: &info::Table,
    key: &[BigUint],
    near: &Values,
    pool: &Pool,
    dice: &mut Dice,
) -> Option<TableEntry> {
    let matching = |(f, value): (&info::MatchField, &BigUint)| field_for(f, value, dice);
    let fields = table.match_fields.iter().zip(key).map(matching).collect::<Option<Vec<_>>>()?;
    entry(info, table, fields, near, pool, dice)
}

fn entry(
    info: &P4Info,
    table: &info::Table,
    fields: Vec<Option<FieldMatch>>,
    near: &Values,
    pool: &Pool,
    dice: &mut Dice,
) -> Option<TableEntry> {
    let fields: Vec<FieldMatch> = fields.into_iter().flatten().collect();
    // One that matches everything would keep every packet from the others.
    if fields.is_empty() {
        return None;
    }
    let prioritised = table
        .match_fields
        .iter()
        .any(|f| [MatchType::Ternary, MatchType::Range, MatchType::Optional].iter().any(|kind| is(f, *kind)));
    let action = if table.implementation_id == 0 {
        Type::Action(call(info, &entry_actions(table), near, pool, dice)?)
    } else {
        let profiles = &info.action_profiles;
        let profile = profiles.iter().find(|p| id(p.preamble.as_ref()) == table.implementation_id);
        if profile.is_some_and(|p| p.with_selector) && dice.one_in(2) {
            Type::ActionProfileGroupId(1 + dice.below(GROUPS as usize) as u32)
        } else {
            Type::ActionProfileMemberId(1 + dice.below(MEMBERS as usize) as u32)
        }
    };
    Some(TableEntry {
        table_id: id(table.preamble.as_ref()),
        r#match: fields,
        priority: if prioritised { 1 + dice.below(1000) as i32 } else { 0 },
        action: Some(TableAction { r#type: Some(action) }),
        ..Default::default()
    })
}

/// How a field can match a value.
fn field_for(field: &info::MatchField, value: &BigUint, dice: &mut Dice) -> Option<Option<FieldMatch>> {
    let width = field.bitwidth.unsigned_abs();
    let exactly = dice.one_in(2);
    let behind = if exactly { 0 } else { dice.below(width as usize / 2 + 1) as u32 };
    let all = (BigUint::from(1u8) << width) - 1u8;
    let (part, mask) = (value >> behind << behind, &all >> behind << behind);
    let written = |n: &BigUint| n.to_bytes_be();
    let kind = if is(field, MatchType::Exact) {
        Some(FieldMatchType::Exact(Exact { value: written(value) }))
    } else if is(field, MatchType::Lpm) {
        let prefix_len = (width - behind).cast_signed();
        Some(FieldMatchType::Lpm(Lpm { value: written(&part), prefix_len }))
    } else if is(field, MatchType::Ternary) {
        let ternary = Ternary { value: written(&part), mask: written(&mask) };
        (!dice.one_in(3)).then_some(FieldMatchType::Ternary(ternary))
    } else if is(field, MatchType::Range) {
        let high = if exactly { value.clone() } else { (value + 2u8).min(all.clone()) };
        let range = Range { low: written(&part), high: written(&high) };
        (part != BigUint::ZERO || high != all).then_some(FieldMatchType::Range(range))
    } else if is(field, MatchType::Optional) {
        exactly.then(|| FieldMatchType::Optional(Optional { value: written(value) }))
    } else {
        return None;
    };
    Some(kind.map(|kind| FieldMatch { field_id: field.id, field_match_type: Some(kind) }))
}

fn is(field: &info::MatchField, kind: MatchType) -> bool {
    field.r#match == Some(Match::MatchType(kind as i32))
}

/// What a field matches; `Some(None)` for anything, `None` where the kind is none that is known.
fn field(field: &info::MatchField, pool: &Pool, dice: &mut Dice) -> Option<Option<FieldMatch>> {
    let width = field.bitwidth.unsigned_abs();
    let value = if width == PORT_BITS.unsigned_abs() && !dice.one_in(4) {
        dice.pick(&PORTS).copied().unwrap_or(0).into()
    } else {
        wide(width, pool, dice)
    };
    let all = (BigUint::from(1u8) << width) - 1u8;
    let anything = dice.one_in(3);
    let written = |n: &BigUint| n.to_bytes_be();
    let kind = if is(field, MatchType::Exact) {
        Some(FieldMatchType::Exact(Exact { value: written(&value) }))
    } else if is(field, MatchType::Lpm) {
        let prefix = if dice.one_in(2) { width } else { dice.below(width as usize + 1) as u32 };
        let behind = width - prefix;
        let lpm = Lpm { value: written(&(value >> behind << behind)), prefix_len: prefix.cast_signed() };
        (prefix > 0).then_some(FieldMatchType::Lpm(lpm))
    } else if is(field, MatchType::Ternary) {
        let mask = if dice.one_in(2) { all } else { wide(width, pool, dice) };
        let ternary = Ternary { value: written(&(value & &mask)), mask: written(&mask) };
        (mask != BigUint::ZERO && !anything).then_some(FieldMatchType::Ternary(ternary))
    } else if is(field, MatchType::Range) {
        let other = wide(width, pool, dice);
        let (low, high) = if value <= other { (value, other) } else { (other, value) };
        let range = Range { low: written(&low), high: written(&high) };
        let anything = anything || low == BigUint::ZERO && high == all;
        (!anything).then_some(FieldMatchType::Range(range))
    } else if is(field, MatchType::Optional) {
        (!anything).then(|| FieldMatchType::Optional(Optional { value: written(&value) }))
    } else {
        return None;
    };
    Some(kind.map(|kind| FieldMatch { field_id: field.id, field_match_type: Some(kind) }))
}
