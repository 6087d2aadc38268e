//! Action profiles between P4Runtime and the pipeline: specification 1.4, section 9.2.

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::action_profile::SelectorSizeSemantics;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::table_action::Type as Named;
use dmux_p4rt::p4::v1::update::Type;
use dmux_p4rt::p4::v1::{action_profile_action, action_profile_group};

use super::binding::{Binding, TableBinding, no_such, preamble};
use super::config::ForwardingPipeline;
use super::error::Refused;
use super::value;
use crate::pipeline::{
    ActionCall, ActionSet, GroupMember, GroupSpec, ProfileIx, ProfileLimits, Program, Selection, SizeBy, Txn, Via,
    Watch, WeightedCall,
};

/// The old way to say that a member watches no port.
const NO_WATCH: i32 = -1;

/// An action profile or selector.
#[derive(Clone, Debug)]
pub struct ProfileBinding {
    /// Its P4Info id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The program's profile.
    pub ix: ProfileIx,
    /// How large it and its groups may be.
    pub limits: ProfileLimits,
    /// One of its tables, by which actions are read and written: all have the same ones (§9.2.1).
    table: TableBinding,
}

/// Ties the P4Info's action profiles to the program's.
///
/// # Errors
/// INVALID_ARGUMENT with the name of whatever one of the two has and the other has not, or has differently.
pub(super) fn bind(
    p4info: &info::P4Info,
    program: &Program,
    tables: &[TableBinding],
) -> Result<Vec<ProfileBinding>, Refused> {
    let mut all: Vec<ProfileBinding> = Vec::new();
    for profile in &p4info.action_profiles {
        let (id, name) = preamble(profile.preamble.as_ref(), "action profile")?;
        let refuse = |what: &str| Refused::invalid(format!("the P4Info's action profile \"{name}\" {what}"));
        let Some(table) = tables.iter().find(|t| t.profile == Some(id)) else {
            // The compiler leaves out of the program what no table uses.
            continue;
        };
        let found = program.profiles().iter().position(|p| p.name == name);
        let ix = ProfileIx(found.ok_or_else(|| refuse("is not in the program"))?);
        if profile.with_selector != program.profiles()[ix.0].selector {
            return Err(refuse("is a selector in only one of P4Info and program"));
        }
        if all.iter().any(|p| p.id == id) {
            return Err(refuse("has the id of another one"));
        }
        let limit = |n: i64| u64::try_from(n).map_err(|_| refuse("has a negative size"));
        let (by_members, most) = match &profile.selector_size_semantics {
            Some(SelectorSizeSemantics::SumOfMembers(s)) => (true, s.max_member_weight),
            Some(SelectorSizeSemantics::SumOfWeights(_)) | None => (false, 0),
        };
        let limits = ProfileLimits {
            size: limit(profile.size)?,
            max_group_size: u32::try_from(profile.max_group_size).map_err(|_| refuse("has a negative group size"))?,
            by_members,
            max_member_weight: u32::try_from(most).map_err(|_| refuse("has a negative member weight"))?,
        };
        all.push(ProfileBinding { id, name: name.to_owned(), ix, limits, table: table.clone() });
    }
    let unbound = tables.iter().find(|t| t.profile.is_some_and(|id| all.iter().all(|p| p.id != id)));
    match unbound {
        Some(table) => Err(table.refuse("the P4Info does not describe its action profile")),
        None => Ok(all),
    }
}

impl Binding {
    /// The action profile with this id.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when there is none.
    pub fn profile(&self, id: u32) -> Result<&ProfileBinding, Refused> {
        self.profiles.iter().find(|p| p.id == id).ok_or_else(|| Refused::invalid(no_such("action profile", id)))
    }
}

impl TableBinding {
    /// A weight is positive, or left out where the P4Info disallows weights (§9.2.2); then all weigh the same.
    fn weight(&self, given: i32) -> Result<u32, Refused> {
        match u32::try_from(given) {
            Ok(w) if w > 0 && !self.weightless => Ok(w),
            Ok(0) if self.weightless => Ok(1),
            _ if self.weightless => {
                Err(self.refuse(format!("a weight of {given}: its P4Info disallows weights, so leave them 0")))
            }
            _ => Err(self.refuse(format!("a weight of {given}: the weight of a member must be positive"))),
        }
    }

    /// The weight as it was given, which was an i32.
    fn written_weight(&self, weight: u32) -> i32 {
        if self.weightless { 0 } else { weight as i32 }
    }
}

fn watch_number(given: i32) -> Result<Option<Watch>, Refused> {
    if given == NO_WATCH {
        return Ok(None);
    }
    let port = u16::try_from(given).map_err(|_| Refused::invalid(format!("there is no port {given} to watch")))?;
    Ok(Some(Watch { port, by_number: true }))
}

/// No bytes: no port.
fn watch_bytes(given: &[u8]) -> Result<Option<Watch>, Refused> {
    if given.is_empty() {
        return Ok(None);
    }
    let port = value::decode(given, u16::BITS, || "watch_port".to_owned())?;
    // The value has 16 bits.
    Ok(Some(Watch { port: port as u16, by_number: false }))
}

fn port_bytes(watch: Watch) -> Vec<u8> {
    value::encode(u128::from(watch.port))
}

#[expect(deprecated, reason = "watch is deprecated, but must still be returned as it was written")]
fn member_watch(member: &action_profile_group::Member) -> Result<Option<Watch>, Refused> {
    match &member.watch_kind {
        None => Ok(None),
        Some(action_profile_group::member::WatchKind::Watch(n)) => watch_number(*n),
        Some(action_profile_group::member::WatchKind::WatchPort(bytes)) => watch_bytes(bytes),
    }
}

#[expect(deprecated, reason = "watch is deprecated, but must still be returned as it was written")]
fn action_watch(action: &v1::ActionProfileAction) -> Result<Option<Watch>, Refused> {
    match &action.watch_kind {
        None => Ok(None),
        Some(action_profile_action::WatchKind::Watch(n)) => watch_number(*n),
        Some(action_profile_action::WatchKind::WatchPort(bytes)) => watch_bytes(bytes),
    }
}

impl TableBinding {
    /// Reads what an entry of an indirect table is to name.
    pub(super) fn decode_via(&self, named: &Named) -> Result<Via, Refused> {
        match named {
            Named::Action(_) => Err(self.refuse("the table is indirect: give a member or group, or a set")),
            Named::ActionProfileMemberId(id) => Ok(Via::Member(*id)),
            Named::ActionProfileGroupId(id) => Ok(Via::Group(*id)),
            Named::ActionProfileActionSet(set) => self.decode_set(set).map(Via::Set),
        }
    }

    fn decode_set(&self, set: &v1::ActionProfileActionSet) -> Result<ActionSet, Refused> {
        use v1::action_profile_action_set::{ActionSelectionMode as Mode, SizeSemantics};
        if set.group_action.is_some() {
            return Err(Refused::unimplemented(format!(
                "table {}: group_action is not supported: leave it unset",
                self.name
            )));
        }
        let selection = match Mode::try_from(set.action_selection_mode) {
            Ok(Mode::DefaultModeDeterminedByActionSelector) => Selection::Selector,
            Ok(Mode::Hash) => Selection::Hash,
            Ok(Mode::Random) => Selection::Random,
            Err(_) => {
                return Err(self.refuse(format!("there is no action_selection_mode {}", set.action_selection_mode)));
            }
        };
        let size = match SizeSemantics::try_from(set.size_semantics) {
            Ok(SizeSemantics::DefaultSizeDeterminedByActionSelector) => SizeBy::Selector,
            Ok(SizeSemantics::SumOfWeights) => SizeBy::Weights,
            Ok(SizeSemantics::SumOfMembers) => SizeBy::Members,
            Err(_) => return Err(self.refuse(format!("there are no size_semantics {}", set.size_semantics))),
        };
        let decode = |a: &v1::ActionProfileAction| {
            let action = a.action.as_ref().ok_or_else(|| self.refuse("an element of the action set has no action"))?;
            let call = self.decode_action(action, false)?;
            Ok(WeightedCall { call, weight: self.weight(a.weight)?, watch: action_watch(a)? })
        };
        let actions = set.action_profile_actions.iter().map(decode).collect::<Result<_, Refused>>()?;
        Ok(ActionSet { actions, selection, size })
    }

    /// Writes what an entry of an indirect table names.
    #[expect(deprecated, reason = "watch is deprecated, but must still be returned as it was written")]
    pub(super) fn encode_via(&self, via: &Via) -> Option<Named> {
        use action_profile_action::WatchKind;
        use v1::action_profile_action_set::{ActionSelectionMode as Mode, SizeSemantics};
        let encode = |a: &WeightedCall| {
            Some(v1::ActionProfileAction {
                action: Some(self.encode_action(&a.call)?),
                weight: self.written_weight(a.weight),
                watch_kind: a.watch.map(|w| {
                    if w.by_number { WatchKind::Watch(w.port.into()) } else { WatchKind::WatchPort(port_bytes(w)) }
                }),
            })
        };
        Some(match via {
            Via::Member(id) => Named::ActionProfileMemberId(*id),
            Via::Group(id) => Named::ActionProfileGroupId(*id),
            Via::Set(set) => Named::ActionProfileActionSet(v1::ActionProfileActionSet {
                action_profile_actions: set.actions.iter().map(encode).collect::<Option<_>>()?,
                action_selection_mode: match set.selection {
                    Selection::Selector => Mode::DefaultModeDeterminedByActionSelector,
                    Selection::Hash => Mode::Hash,
                    Selection::Random => Mode::Random,
                }
                .into(),
                size_semantics: match set.size {
                    SizeBy::Selector => SizeSemantics::DefaultSizeDeterminedByActionSelector,
                    SizeBy::Weights => SizeSemantics::SumOfWeights,
                    SizeBy::Members => SizeSemantics::SumOfMembers,
                }
                .into(),
                group_action: None,
            }),
        })
    }
}

/// An update of an action profile, decoded.
pub(super) struct ProfileUpdate {
    profile: ProfileIx,
    change: Change,
}

enum Change {
    InsertMember(u32, ActionCall),
    ModifyMember(u32, ActionCall),
    DeleteMember(u32),
    InsertGroup(GroupSpec),
    ModifyGroup(GroupSpec),
    DeleteGroup(u32),
}

fn untyped(profile: &ProfileBinding) -> Refused {
    Refused::invalid(format!("action profile {}: the update has no type: INSERT, MODIFY or DELETE", profile.name))
}

/// Reads an update of a member.
pub(super) fn decode_member(
    pipeline: &ForwardingPipeline,
    kind: Type,
    member: &v1::ActionProfileMember,
) -> Result<ProfileUpdate, Refused> {
    let profile = pipeline.binding.profile(member.action_profile_id)?;
    let call = || match &member.action {
        Some(action) => profile.table.decode_action(action, false),
        None => Err(Refused::invalid(format!("action profile {}: a member needs an action", profile.name))),
    };
    let id = member.member_id;
    let change = match kind {
        Type::Insert => Change::InsertMember(id, call()?),
        Type::Modify => Change::ModifyMember(id, call()?),
        // Everything but the ids is ignored (§9.2.1).
        Type::Delete => Change::DeleteMember(id),
        Type::Unspecified => return Err(untyped(profile)),
    };
    Ok(ProfileUpdate { profile: profile.ix, change })
}

/// Reads an update of a group.
pub(super) fn decode_group(
    pipeline: &ForwardingPipeline,
    kind: Type,
    group: &v1::ActionProfileGroup,
) -> Result<ProfileUpdate, Refused> {
    let profile = pipeline.binding.profile(group.action_profile_id)?;
    let spec = || -> Result<GroupSpec, Refused> {
        let max_size = u32::try_from(group.max_size).map_err(|_| {
            Refused::invalid(format!("action profile {}: a max_size of {}", profile.name, group.max_size))
        })?;
        let member = |m: &action_profile_group::Member| {
            Ok(GroupMember { member: m.member_id, weight: profile.table.weight(m.weight)?, watch: member_watch(m)? })
        };
        let members = group.members.iter().map(member).collect::<Result<_, Refused>>()?;
        Ok(GroupSpec { id: group.group_id, max_size, members })
    };
    let change = match kind {
        Type::Insert => Change::InsertGroup(spec()?),
        Type::Modify => Change::ModifyGroup(spec()?),
        Type::Delete => Change::DeleteGroup(group.group_id),
        Type::Unspecified => return Err(untyped(profile)),
    };
    Ok(ProfileUpdate { profile: profile.ix, change })
}

/// Performs an update as part of a batch.
pub(super) fn perform(txn: &mut Txn<'_>, update: &ProfileUpdate) -> Result<(), Refused> {
    let ProfileUpdate { profile, change } = update;
    let profile = *profile;
    let done = match change {
        Change::InsertMember(id, call) => txn.insert_member(profile, *id, call),
        Change::ModifyMember(id, call) => txn.modify_member(profile, *id, call),
        Change::DeleteMember(id) => txn.delete_member(profile, *id),
        Change::InsertGroup(spec) => txn.insert_group(profile, spec),
        Change::ModifyGroup(spec) => txn.modify_group(profile, spec),
        Change::DeleteGroup(id) => txn.delete_group(profile, *id),
    };
    Ok(done?)
}

/// The profiles that a read means: one, or all for id 0, which then takes no other id either.
fn profiles(binding: &Binding, id: u32, inner: u32) -> Result<&[ProfileBinding], Refused> {
    match (id, inner) {
        (0, 0) => Ok(&binding.profiles),
        (0, _) => Err(Refused::invalid("a read of all action profiles (action_profile_id 0) takes no other id")),
        _ => binding.profile(id).map(std::slice::from_ref),
    }
}

/// Members by the filter of §9.2.1.
pub(super) fn read_members(
    pipeline: &ForwardingPipeline,
    filter: &v1::ActionProfileMember,
    found: &mut dyn FnMut(v1::ActionProfileMember),
) -> Result<(), Refused> {
    for profile in profiles(&pipeline.binding, filter.action_profile_id, filter.member_id)? {
        let members = match filter.member_id {
            0 => pipeline.dataplane.members(profile.ix)?,
            // A filter that selects nothing is no error.
            id => pipeline.dataplane.member(profile.ix, id)?.map(|call| (id, call)).into_iter().collect(),
        };
        for (member_id, call) in members {
            let action = profile.table.encode_action(&call);
            found(v1::ActionProfileMember { action_profile_id: profile.id, member_id, action });
        }
    }
    Ok(())
}

/// Groups by the filter of §9.2.2.
pub(super) fn read_groups(
    pipeline: &ForwardingPipeline,
    filter: &v1::ActionProfileGroup,
    found: &mut dyn FnMut(v1::ActionProfileGroup),
) -> Result<(), Refused> {
    for profile in profiles(&pipeline.binding, filter.action_profile_id, filter.group_id)? {
        let groups = match filter.group_id {
            0 => pipeline.dataplane.groups(profile.ix)?,
            id => pipeline.dataplane.group(profile.ix, id)?.into_iter().collect(),
        };
        groups.into_iter().for_each(|g| found(encode_group(profile, &g)));
    }
    Ok(())
}

#[expect(deprecated, reason = "watch is deprecated, but must still be returned as it was written")]
fn encode_group(profile: &ProfileBinding, group: &GroupSpec) -> v1::ActionProfileGroup {
    use action_profile_group::member::WatchKind;
    let member = |m: &GroupMember| action_profile_group::Member {
        member_id: m.member,
        weight: profile.table.written_weight(m.weight),
        watch_kind: m
            .watch
            .map(|w| if w.by_number { WatchKind::Watch(w.port.into()) } else { WatchKind::WatchPort(port_bytes(w)) }),
    };
    v1::ActionProfileGroup {
        action_profile_id: profile.id,
        group_id: group.id,
        members: group.members.iter().map(member).collect(),
        // It came as an i32.
        max_size: group.max_size as i32,
    }
}
