//! Action profiles as packets see them: from what an entry names to an action with its arguments.
//!
//! ```text
//!   record of an entry ──member──────────────────────────▶ record of the member (action, arguments; one version a side)
//!                      ╲──group──▶ selectable members ──hash──╱
//! ```
//! A group's members stand in the order in which BMv2 would number them, so that the same hash selects the same one.

use super::super::entry::{ActionSet, Selection, Via};
use super::super::info::{ParamInfo, ProfileIx};
use super::super::ops::ViaRt;
use super::super::program::Program;
use super::slab::Slab;
use super::{Dataplane, Found, NO_ACTION, Side};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// In the place of an action, the record of an entry in an indirect table has one of these: its first argument is then
/// the number of a member's record, …
const MEMBER: u64 = NO_ACTION - 1;
/// … or of a group. Anything else is an action, as in a direct table: the program's default, or none.
const GROUP: u64 = NO_ACTION - 2;

/// What the record of an entry in an indirect table names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Member(u32),
    Group(u32),
    /// The program's own default action, or none.
    Plain,
}

impl Named {
    #[inline]
    fn of(action: u64, args: &[AtomicU64]) -> Self {
        // Numbers of records and groups have 32 bits.
        let number = || args.first().map_or(0, |w| w.load(Ordering::Relaxed) as u32);
        match action {
            MEMBER => Self::Member(number()),
            GROUP => Self::Group(number()),
            _ => Self::Plain,
        }
    }

    /// What a record has that names this, in the place of the action and as its argument.
    pub(super) fn words(self) -> (u64, u64) {
        match self {
            Self::Member(m) => (MEMBER, m.into()),
            Self::Group(g) => (GROUP, g.into()),
            Self::Plain => (NO_ACTION, 0),
        }
    }
}

/// What both sides share of a profile.
pub(crate) struct Members {
    /// Words of one version of a member: its action (among the profile's) and the arguments.
    words: usize,
    records: Slab<AtomicU64>,
}

impl Members {
    pub(super) fn new(program: &Program, ProfileIx(p): ProfileIx) -> Self {
        let width = |p: &ParamInfo| p.width.div_ceil(64) as usize;
        let params = |a: usize| program.actions[a].params.iter().map(width).sum::<usize>();
        let words = 1 + program.profiles[p].actions.iter().map(|a| params(a.0)).max().unwrap_or(0);
        Self { words, records: Slab::new(2 * words) }
    }

    /// The words of one version of a member.
    #[inline]
    pub(super) fn version(&self, member: u32, side: usize) -> &[AtomicU64] {
        self.records.get(member).get(side * self.words..(side + 1) * self.words).unwrap_or(&[])
    }

    /// Writes one version of a member, which may be new.
    pub(super) fn store(&self, member: u32, side: usize, action: usize, args: &[u64]) {
        self.records.reserve(member);
        if let Some((head, rest)) = self.version(member, side).split_first() {
            for (cell, v) in rest.iter().zip(args) {
                cell.store(*v, Ordering::Relaxed);
            }
            head.store(action as u64, Ordering::Relaxed);
        }
    }

    /// Copies a version to the other side.
    pub(super) fn mirror(&self, member: u32, from: usize) {
        for (a, b) in self.version(member, from).iter().zip(self.version(member, 1 - from)) {
            b.store(a.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// A profile as one side has it.
#[derive(Default)]
pub(crate) struct SideProfile {
    groups: Vec<SideGroup>,
    /// The ids of members, by the number of their record.
    ids: Vec<u32>,
}

/// A group as one side has it.
#[derive(Clone)]
pub(super) struct SideGroup {
    /// Records of the members that may be selected, as often as they weigh.
    pub live: Arc<[u32]>,
    pub origin: Origin,
}

/// Where a group comes from.
#[derive(Clone)]
pub(super) enum Origin {
    /// A control plane made it, under this id.
    Id(u32),
    /// It belongs to one entry.
    Set(Arc<ActionSet>),
}

/// How the place among a group's members is found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Draw {
    /// By this calculation, whose value is cut to the number of places.
    Hash(u16),
    /// By chance, from 0 to this number.
    Chance(u64),
}

impl SideGroup {
    fn random(&self) -> bool {
        matches!(&self.origin, Origin::Set(set) if set.selection == Selection::Random)
    }
}

impl Default for SideGroup {
    fn default() -> Self {
        Self { live: Arc::from([]), origin: Origin::Id(0) }
    }
}

/// A change of a profile, to be repeated on the other side.
pub(super) enum ProfileChange {
    /// A member that is new or has a new action.
    Member { record: u32, id: u32 },
    /// A group that is new, or has other members.
    Group { group: u32, is: SideGroup },
}

impl SideProfile {
    pub(super) fn apply(&mut self, change: &ProfileChange) {
        match change {
            ProfileChange::Member { record, id } => put(&mut self.ids, *record, *id),
            ProfileChange::Group { group, is } => put(&mut self.groups, *group, is.clone()),
        }
    }

    /// What a control plane calls what an entry names.
    pub(super) fn describe(&self, named: Named) -> Option<Via> {
        match named {
            Named::Member(m) => self.ids.get(m as usize).map(|id| Via::Member(*id)),
            Named::Group(g) => self.groups.get(g as usize).map(|g| match &g.origin {
                Origin::Id(id) => Via::Group(*id),
                Origin::Set(set) => Via::Set(ActionSet::clone(set)),
            }),
            Named::Plain => None,
        }
    }
}

fn put<T: Default + Clone>(all: &mut Vec<T>, at: u32, v: T) {
    let at = at as usize;
    if all.len() <= at {
        all.resize(at + 1, T::default());
    }
    all[at] = v;
}

impl Dataplane {
    /// What the record of an entry of an indirect table names.
    pub(super) fn named(&self, t: usize, entry: u32) -> Named {
        let (action, args, _) = self.shared[t].records.action(entry);
        Named::of(action, args)
    }

    /// Follows what a lookup in an indirect table found to an action among the table's. A hit on an empty group runs
    /// none, and stays a hit (P4Runtime 1.4 §9.2.4; BMv2's behaviour is undefined).
    #[inline]
    pub(crate) fn resolve<'a>(
        &'a self,
        side: &Side,
        via: &ViaRt,
        found: Found<'a>,
        draw: impl FnOnce(Draw) -> u64,
    ) -> Found<'a> {
        let member = match Named::of(found.action, found.args) {
            Named::Plain => return found,
            Named::Member(m) => m,
            Named::Group(g) => {
                let Some(group) = side.profiles[via.profile].groups.get(g as usize).filter(|g| !g.live.is_empty())
                else {
                    return Found { action: u64::from(via.empty), args: &[], ..found };
                };
                let live = &group.live;
                let drawn = match via.hash {
                    _ if group.random() => draw(Draw::Chance(live.len() as u64 - 1)),
                    Some(hash) => draw(Draw::Hash(hash)),
                    None => 0,
                };
                // BMv2 keeps 32 bits of the hash.
                live[drawn as u32 as usize % live.len()]
            }
        };
        let version = self.profiles[via.profile].version(member, side.number);
        let (action, args) = match version.split_first() {
            Some((a, rest)) => (via.local.get(a.load(Ordering::Relaxed) as usize), rest),
            None => (None, version),
        };
        Found { action: u64::from(*action.unwrap_or(&via.empty)), args, ..found }
    }
}
