//! Action profiles: members, groups, and what entries of indirect tables name (§9.2).

use std::collections::BTreeMap;

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::action_profile::SelectorSizeSemantics;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::action_profile_action_set::{ActionSelectionMode as Mode, SizeSemantics};
use dmux_p4rt::p4::v1::table_action::Type as Named;
use dmux_p4rt::p4::v1::update::Type;
use dmux_p4rt::p4::v1::{action_profile_action, action_profile_group};
use tonic::Code;

use super::keys::check_action;
use super::{Model, admit};
use crate::generate::id;

/// What was written into one profile; action sets are in the entries that have them.
#[derive(Clone, Default)]
pub(super) struct Profile {
    pub members: BTreeMap<u32, v1::ActionProfileMember>,
    pub groups: BTreeMap<u32, v1::ActionProfileGroup>,
}

/// Whether a group's size is the number of its members and not the sum of their weights.
fn by_members(profile: &info::ActionProfile, semantics: SizeSemantics) -> bool {
    match semantics {
        SizeSemantics::SumOfWeights => false,
        SizeSemantics::SumOfMembers => true,
        SizeSemantics::DefaultSizeDeterminedByActionSelector => {
            matches!(profile.selector_size_semantics, Some(SelectorSizeSemantics::SumOfMembers(_)))
        }
    }
}

/// The size of a group with these weights.
fn size_of(by_members: bool, weights: &[i32]) -> i64 {
    if by_members { weights.len() as i64 } else { weights.iter().map(|w| i64::from(*w)).sum() }
}

fn check_weights(profile: &info::ActionProfile, by_members: bool, weights: &[i32], wrong: &mut Vec<Code>) {
    let most = match &profile.selector_size_semantics {
        Some(SelectorSizeSemantics::SumOfMembers(s)) if by_members && s.max_member_weight > 0 => s.max_member_weight,
        _ => i32::MAX,
    };
    if weights.iter().any(|w| *w <= 0 || *w > most) {
        wrong.push(Code::InvalidArgument);
    }
}

fn group_weights(group: &v1::ActionProfileGroup) -> Vec<i32> {
    group.members.iter().map(|m| m.weight).collect()
}

fn set_weights(set: &v1::ActionProfileActionSet) -> Vec<i32> {
    set.action_profile_actions.iter().map(|a| a.weight).collect()
}

impl Model {
    fn profile(&self, profile_id: u32) -> Profile {
        self.profiles.get(&profile_id).cloned().unwrap_or_default()
    }

    /// What entries and default entries of the tables of a profile name.
    fn named(&self, profile_id: u32) -> Vec<&Named> {
        let indirect = |table_id: u32| {
            let table = self.p4info.tables.iter().find(|t| id(&t.preamble) == table_id);
            table.is_some_and(|t| t.implementation_id == profile_id)
        };
        let defaults = self.defaults.values().filter_map(|(now, _)| now.as_ref());
        let entries = self.entries.values().chain(defaults).filter(|e| indirect(e.table_id));
        entries.filter_map(|e| e.action.as_ref()?.r#type.as_ref()).collect()
    }

    fn sets(&self, profile_id: u32) -> Vec<&v1::ActionProfileActionSet> {
        let mut sets = Vec::new();
        for named in self.named(profile_id) {
            if let Named::ActionProfileActionSet(set) = named {
                sets.push(set);
            }
        }
        sets
    }

    /// The two ways to program a profile are not mixed (§9.2.3).
    fn enter(&self, profile_id: u32, one_shot: bool, wrong: &mut Vec<Code>) {
        let profile = self.profile(profile_id);
        let manual = !profile.members.is_empty() || !profile.groups.is_empty();
        if if one_shot { manual } else { !self.sets(profile_id).is_empty() } {
            wrong.push(Code::InvalidArgument);
        }
    }

    fn room_for_members(&self, profile: &info::ActionProfile, more: usize, wrong: &mut Vec<Code>) {
        let profile_id = id(&profile.preamble);
        let in_sets: usize = self.sets(profile_id).iter().map(|s| s.action_profile_actions.len()).sum();
        let have = self.profile(profile_id).members.len() + in_sets;
        if profile.size > 0 && (have + more) as i64 > profile.size {
            wrong.push(Code::ResourceExhausted);
        }
    }

    /// The sizes of all groups together, but for one.
    fn size(&self, profile: &info::ActionProfile, but: Option<u32>) -> i64 {
        let profile_id = id(&profile.preamble);
        let held = self.profile(profile_id);
        let groups = held.groups.values().filter(|g| Some(g.group_id) != but);
        let own = by_members(profile, SizeSemantics::DefaultSizeDeterminedByActionSelector);
        let groups: i64 = groups.map(|g| size_of(own, &group_weights(g))).sum();
        let set = |s: &&v1::ActionProfileActionSet| size_of(by_members(profile, s.size_semantics()), &set_weights(s));
        groups + self.sets(profile_id).iter().map(set).sum::<i64>()
    }

    fn find_profile(&self, profile_id: u32, wrong: &mut Vec<Code>) -> Option<info::ActionProfile> {
        let found = self.p4info.action_profiles.iter().find(|p| id(&p.preamble) == profile_id).cloned();
        if found.is_none() {
            wrong.push(Code::InvalidArgument);
        }
        found
    }

    fn table_of(&self, profile_id: u32) -> Option<info::Table> {
        self.p4info.tables.iter().find(|t| t.implementation_id == profile_id).cloned()
    }

    pub(super) fn member(&mut self, kind: Type, entry: &v1::ActionProfileMember, wrong: &mut Vec<Code>) {
        let profile_id = entry.action_profile_id;
        let Some(profile) = self.find_profile(profile_id, wrong) else { return };
        let held = self.profile(profile_id);
        admit(kind, held.members.contains_key(&entry.member_id), wrong);
        if kind == Type::Delete {
            let in_group = |g: &v1::ActionProfileGroup| g.members.iter().any(|m| m.member_id == entry.member_id);
            let named = Named::ActionProfileMemberId(entry.member_id);
            if held.groups.values().any(in_group) || self.named(profile_id).contains(&&named) {
                wrong.push(Code::FailedPrecondition);
            }
            if wrong.is_empty() {
                self.profiles.entry(profile_id).or_default().members.remove(&entry.member_id);
            }
            return;
        }
        if entry.member_id == 0 || entry.action.is_none() {
            wrong.push(Code::InvalidArgument);
        }
        if kind == Type::Insert {
            self.enter(profile_id, false, wrong);
            self.room_for_members(&profile, 1, wrong);
        }
        let (p4info, table) = (self.p4info.clone(), self.table_of(profile_id));
        let action = entry.action.as_ref().zip(table).and_then(|(a, t)| check_action(&p4info, &t, a, false, wrong));
        if wrong.is_empty() {
            let member = v1::ActionProfileMember { action, ..entry.clone() };
            self.profiles.entry(profile_id).or_default().members.insert(entry.member_id, member);
        }
    }

    pub(super) fn profile_group(&mut self, kind: Type, entry: &v1::ActionProfileGroup, wrong: &mut Vec<Code>) {
        let profile_id = entry.action_profile_id;
        let Some(profile) = self.find_profile(profile_id, wrong) else { return };
        let held = self.profile(profile_id);
        let before = held.groups.get(&entry.group_id);
        admit(kind, before.is_some(), wrong);
        if kind == Type::Delete {
            if self.named(profile_id).contains(&&Named::ActionProfileGroupId(entry.group_id)) {
                wrong.push(Code::FailedPrecondition);
            }
            if wrong.is_empty() {
                self.profiles.entry(profile_id).or_default().groups.remove(&entry.group_id);
            }
            return;
        }
        if entry.group_id == 0 || !profile.with_selector || entry.max_size < 0 {
            wrong.push(Code::InvalidArgument);
        }
        if kind == Type::Insert {
            self.enter(profile_id, false, wrong);
        }
        let limit = profile.max_group_size;
        if (limit > 0 && entry.max_size > limit) || before.is_some_and(|g| g.max_size != entry.max_size) {
            wrong.push(Code::InvalidArgument);
        }
        let mut seen = Vec::new();
        for member in &entry.members {
            if !held.members.contains_key(&member.member_id) {
                wrong.push(Code::NotFound);
            }
            if seen.contains(&member.member_id) {
                wrong.push(Code::InvalidArgument);
            }
            seen.push(member.member_id);
        }
        let weights = group_weights(entry);
        let by_members = by_members(&profile, SizeSemantics::DefaultSizeDeterminedByActionSelector);
        check_weights(&profile, by_members, &weights, wrong);
        let size = size_of(by_members, &weights);
        let most = if entry.max_size == 0 { limit } else { entry.max_size };
        let all = self.size(&profile, Some(entry.group_id)) + size;
        if (most > 0 && size > most.into()) || (profile.size > 0 && all > profile.size) {
            wrong.push(Code::ResourceExhausted);
        }
        if wrong.is_empty() {
            // No port is a port that is not watched.
            let unwatched =
                |m: &action_profile_group::Member| action_profile_group::Member { watch_kind: None, ..m.clone() };
            let members = entry.members.iter().map(unwatched).collect();
            let group = v1::ActionProfileGroup { members, ..entry.clone() };
            self.profiles.entry(profile_id).or_default().groups.insert(entry.group_id, group);
        }
    }

    /// What an entry of a table is to do, in canonical form; `None` when something is wrong with it.
    pub(super) fn outcome(
        &self,
        table: &info::Table,
        given: &v1::TableAction,
        default: bool,
        wrong: &mut Vec<Code>,
    ) -> Option<v1::TableAction> {
        let before = wrong.len();
        let indirect = table.implementation_id != 0;
        let named = match &given.r#type {
            Some(Named::Action(action)) if !indirect => {
                check_action(&self.p4info, table, action, default, wrong).map(Named::Action)
            }
            Some(named @ Named::ActionProfileMemberId(member)) if indirect => {
                self.enter(table.implementation_id, false, wrong);
                if !self.profile(table.implementation_id).members.contains_key(member) {
                    wrong.push(Code::NotFound);
                }
                Some(named.clone())
            }
            Some(named @ Named::ActionProfileGroupId(group)) if indirect => {
                self.enter(table.implementation_id, false, wrong);
                if !self.profile(table.implementation_id).groups.contains_key(group) {
                    wrong.push(Code::NotFound);
                }
                Some(named.clone())
            }
            Some(Named::ActionProfileActionSet(set)) if indirect => {
                self.set(table, set, wrong).map(Named::ActionProfileActionSet)
            }
            _ => {
                wrong.push(Code::InvalidArgument);
                None
            }
        };
        (wrong.len() == before).then_some(v1::TableAction { r#type: named })
    }

    /// An action set. One that replaces another is there before the other goes: both must find room.
    fn set(
        &self,
        table: &info::Table,
        set: &v1::ActionProfileActionSet,
        wrong: &mut Vec<Code>,
    ) -> Option<v1::ActionProfileActionSet> {
        let profile = self.find_profile(table.implementation_id, wrong)?;
        if !profile.with_selector {
            wrong.push(Code::InvalidArgument);
        }
        self.enter(table.implementation_id, true, wrong);
        self.room_for_members(&profile, set.action_profile_actions.len(), wrong);
        let weights = set_weights(set);
        let (mode, semantics) = (set.action_selection_mode, set.size_semantics);
        if Mode::try_from(mode).is_err() || SizeSemantics::try_from(semantics).is_err() {
            wrong.push(Code::InvalidArgument);
        }
        let by_members = by_members(&profile, set.size_semantics());
        check_weights(&profile, by_members, &weights, wrong);
        let size = size_of(by_members, &weights);
        // §9.2.3 has another code for this than §9.2.2.
        if profile.max_group_size > 0 && size > profile.max_group_size.into() {
            wrong.push(Code::InvalidArgument);
        }
        if profile.size > 0 && self.size(&profile, None) + size > profile.size {
            wrong.push(Code::ResourceExhausted);
        }
        let mut actions = Vec::new();
        for given in &set.action_profile_actions {
            let Some(action) = &given.action else {
                wrong.push(Code::InvalidArgument);
                continue;
            };
            let action = check_action(&self.p4info, table, action, false, wrong);
            actions.push(v1::ActionProfileAction { action, weight: given.weight, watch_kind: None });
        }
        Some(v1::ActionProfileActionSet { action_profile_actions: actions, ..set.clone() })
    }
}

/// Both ways to say that no port is watched, and none.
#[expect(deprecated, reason = "controllers of P4Runtime 1.0 say so")]
pub fn no_watch(
    n: usize,
) -> (Option<action_profile_group::member::WatchKind>, Option<action_profile_action::WatchKind>) {
    use action_profile_action::WatchKind as OfAction;
    use action_profile_group::member::WatchKind as OfMember;
    match n {
        0 => (Some(OfMember::Watch(-1)), Some(OfAction::Watch(-1))),
        1 => (Some(OfMember::WatchPort(Vec::new())), Some(OfAction::WatchPort(Vec::new()))),
        _ => (None, None),
    }
}
