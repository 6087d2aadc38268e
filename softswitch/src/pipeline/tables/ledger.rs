//! What a control plane wrote into an action profile, by its ids, and the numbers that BMv2 would have given to it.
//!
//! BMv2 selects among a group's members in the order of their handles. It gives the lowest free handle to a new member;
//! PI, its P4Runtime server, makes copies of a member (with handles of their own) for weights above 1, and keeps as
//! many as the heaviest use needs. To select the same member for the same hash, handles are given out here in the
//! same way; the records that packets read are one for each member, however many handles it has.

use super::super::entry::{ActionCall, ActionSet, GroupMember, GroupSpec, ProfileLimits, SizeBy, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most handles of one profile: members, and their copies for weights.
pub(super) const MAX_HANDLES: u64 = 1 << 20;

/// Numbers, the lowest free one first.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    free: BTreeSet<u32>,
    next: u32,
}

impl Numbers {
    fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn give_back(&mut self, n: u32) {
        self.free.insert(n);
    }

    fn used(&self) -> u64 {
        u64::from(self.next) - self.free.len() as u64
    }
}

/// How a profile is programmed; the two ways are not mixed (§9.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Free,
    Manual,
    OneShot,
}

#[derive(Debug)]
pub(super) struct Member {
    pub call: ActionCall,
    /// BMv2's handles; the first is the number of the record, too.
    handles: Vec<u32>,
    /// How many groups it is in, by its weight there.
    weights: BTreeMap<u32, u32>,
    /// Entries that name it.
    pub entries: u32,
}

impl Member {
    pub(super) fn record(&self) -> u32 {
        self.handles[0]
    }

    pub(super) fn in_groups(&self) -> bool {
        !self.weights.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub number: u32,
    pub spec: GroupSpec,
    /// Entries that name it.
    pub entries: u32,
}

/// The group of a one-shot entry.
#[derive(Debug)]
pub(super) struct Set {
    pub set: Arc<ActionSet>,
    /// The handles of each action's copies; the first is the number of its record.
    handles: Vec<Vec<u32>>,
}

/// What one profile holds.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    mode: Mode,
    pub limits: ProfileLimits,
    handles: Numbers,
    numbers: Numbers,
    pub members: BTreeMap<u32, Member>,
    pub groups: BTreeMap<u32, Group>,
    /// By the number of the group.
    pub sets: BTreeMap<u32, Set>,
    /// The sizes of all groups together.
    size: u64,
}

/// Why something does not fit.
#[derive(Debug)]
pub(super) enum Misfit {
    /// It makes no sense.
    Bad(String),
    /// There is no room.
    Full(String),
}

impl Ledger {
    /// Forgets everything but the limits.
    pub(super) fn clear(&mut self) {
        *self = Self { limits: self.limits, ..Self::default() };
    }

    /// Whether it may be programmed in this way now.
    pub(super) fn enter(&mut self, one_shot: bool) -> Result<(), Misfit> {
        let wanted = if one_shot { Mode::OneShot } else { Mode::Manual };
        if self.mode != wanted {
            let (empty, other) = match self.mode {
                Mode::Free => (true, ""),
                Mode::Manual => (self.members.is_empty() && self.groups.is_empty(), "members and groups"),
                Mode::OneShot => (self.sets.is_empty(), "one-shot action sets"),
            };
            if !empty {
                return Err(Misfit::Bad(format!("it is programmed with {other} now, and the two cannot be mixed")));
            }
            self.mode = wanted;
        }
        Ok(())
    }

    fn room_for_members(&self, more: usize) -> Result<(), Misfit> {
        let have = self.members.len() + self.sets.values().map(|s| s.set.actions.len()).sum::<usize>();
        let size = self.limits.size;
        if size > 0 && (have + more) as u64 > size {
            return Err(Misfit::Full(format!("it holds {size} members, and {have} are there")));
        }
        Ok(())
    }

    fn room_for_handles(&self, more: u64) -> Result<(), Misfit> {
        if self.handles.used() + more > MAX_HANDLES {
            return Err(Misfit::Full(format!("members and weights add up to more than {MAX_HANDLES}")));
        }
        Ok(())
    }

    /// The size of a group with these weights.
    fn size_of(&self, weights: impl Iterator<Item = u32>, by: SizeBy) -> Result<u64, Misfit> {
        let by_members = match by {
            SizeBy::Selector => self.limits.by_members,
            SizeBy::Weights => false,
            SizeBy::Members => true,
        };
        let (mut count, mut sum) = (0, 0u64);
        for w in weights {
            if w == 0 {
                return Err(Misfit::Bad("a member's weight must be positive".to_owned()));
            }
            let most = self.limits.max_member_weight;
            if by_members && most > 0 && w > most {
                return Err(Misfit::Bad(format!("a weight of {w} is above the largest one, {most}")));
            }
            (count, sum) = (count + 1, sum + u64::from(w));
        }
        Ok(if by_members { count } else { sum })
    }

    /// Whether all groups together keep to the selector's size.
    fn room_for_size(&self, old: u64, new: u64) -> Result<(), Misfit> {
        let (size, rest) = (self.limits.size, self.size - old);
        if size > 0 && rest + new > size {
            return Err(Misfit::Full(format!(
                "its groups may have {size} in all: {rest} are in others, and {new} in this"
            )));
        }
        Ok(())
    }

    /// A new member; the id is free. Returns its record.
    pub(super) fn add_member(&mut self, id: u32, call: ActionCall) -> Result<u32, Misfit> {
        self.room_for_members(1)?;
        self.room_for_handles(1)?;
        let record = self.handles.take();
        self.members.insert(id, Member { call, handles: vec![record], weights: BTreeMap::new(), entries: 0 });
        Ok(record)
    }

    pub(super) fn remove_member(&mut self, id: u32) {
        for h in self.members.remove(&id).into_iter().flat_map(|m| m.handles) {
            self.handles.give_back(h);
        }
    }

    /// Checks the members of a group, all of which exist, against the limits. `old` is the group's size so far.
    fn check_group(&self, spec: &GroupSpec, old: u64) -> Result<u64, Misfit> {
        let size = self.size_of(spec.members.iter().map(|m| m.weight), SizeBy::Selector)?;
        let most = if spec.max_size == 0 { self.limits.max_group_size } else { spec.max_size };
        if most > 0 && size > u64::from(most) {
            return Err(Misfit::Full(format!("group {} may have a size of {most}, and this is {size}", spec.id)));
        }
        self.room_for_size(old, size)?;
        let copies = |m: &GroupMember| {
            let have = self.members.get(&m.member).map_or(0, |m| m.handles.len());
            u64::from(m.weight).saturating_sub(have as u64)
        };
        self.room_for_handles(spec.members.iter().map(copies).sum())?;
        Ok(size)
    }

    /// A new group; the id is free and its members exist. Returns its number.
    pub(super) fn add_group(&mut self, spec: GroupSpec) -> Result<u32, Misfit> {
        let limit = self.limits.max_group_size;
        if limit > 0 && spec.max_size > limit {
            return Err(Misfit::Bad(format!("a max_size of {} is above the selector's {limit}", spec.max_size)));
        }
        let size = self.check_group(&spec, 0)?;
        let number = self.numbers.take();
        self.size += size;
        self.change_weights(&[], &spec.members);
        self.groups.insert(spec.id, Group { number, spec, entries: 0 });
        Ok(number)
    }

    /// Gives a group that is there other members, which exist. Returns its number.
    pub(super) fn change_group(&mut self, spec: GroupSpec) -> Result<Option<u32>, Misfit> {
        let Some(group) = self.groups.get(&spec.id) else { return Ok(None) };
        let had = group.spec.max_size;
        if spec.max_size != had {
            return Err(Misfit::Bad(format!("the max_size of group {} is {had} and cannot change", spec.id)));
        }
        let old = self.size_of(group.spec.members.iter().map(|m| m.weight), SizeBy::Selector)?;
        let new = self.check_group(&spec, old)?;
        self.size = self.size - old + new;
        let Some(group) = self.groups.get_mut(&spec.id) else { return Ok(None) };
        let number = group.number;
        let before = std::mem::replace(&mut group.spec, spec.clone());
        self.change_weights(&before.members, &spec.members);
        Ok(Some(number))
    }

    /// Returns the number that it had.
    pub(super) fn remove_group(&mut self, id: u32) -> Option<u32> {
        let group = self.groups.remove(&id)?;
        self.size -= self.size_of(group.spec.members.iter().map(|m| m.weight), SizeBy::Selector).unwrap_or(0);
        self.change_weights(&group.spec.members, &[]);
        self.numbers.give_back(group.number);
        Some(group.number)
    }

    /// Makes the copies that new weights need, then drops those that no group needs any more: in PI's order, by id.
    fn change_weights(&mut self, old: &[GroupMember], new: &[GroupMember]) {
        let weight = |of: &[GroupMember], id: u32| of.iter().find(|m| m.member == id).map(|m| m.weight);
        let ids: BTreeSet<u32> = old.iter().chain(new).map(|m| m.member).collect();
        let mut changes = Vec::with_capacity(ids.len());
        if ids.len() > 16 {
            // Many members: by maps, for the search above is quadratic.
            let map = |of: &[GroupMember]| of.iter().map(|m| (m.member, m.weight)).collect::<BTreeMap<_, _>>();
            let (old, new) = (map(old), map(new));
            changes.extend(ids.iter().map(|id| (*id, old.get(id).copied(), new.get(id).copied())));
        } else {
            changes.extend(ids.iter().map(|id| (*id, weight(old, *id), weight(new, *id))));
        }
        for (id, was, is) in &changes {
            let Some(m) = self.members.get_mut(id) else { continue };
            while (m.handles.len() as u64) < u64::from(is.unwrap_or(0)) {
                m.handles.push(self.handles.take());
            }
            if let Some(was) = was
                && let Some(n) = m.weights.get_mut(was)
            {
                *n -= 1;
                if *n == 0 {
                    m.weights.remove(was);
                }
            }
            if let Some(is) = is {
                *m.weights.entry(*is).or_default() += 1;
            }
        }
        for (id, _, _) in &changes {
            let Some(m) = self.members.get_mut(id) else { continue };
            let needed = m.weights.last_key_value().map_or(1, |(w, _)| (*w).max(1)) as usize;
            for h in m.handles.drain(needed.min(m.handles.len())..) {
                self.handles.give_back(h);
            }
        }
    }

    /// A new one-shot group. Returns its number and the records of its actions.
    pub(super) fn add_set(&mut self, set: &ActionSet) -> Result<(u32, Vec<u32>), Misfit> {
        let actions = &set.actions;
        let size = self.size_of(actions.iter().map(|a| a.weight), set.size)?;
        let most = self.limits.max_group_size;
        if most > 0 && size > u64::from(most) {
            return Err(Misfit::Bad(format!("an action set may have a size of {most}, and this is {size}")));
        }
        self.room_for_members(actions.len())?;
        self.room_for_size(0, size)?;
        self.room_for_handles(actions.iter().map(|a| u64::from(a.weight)).sum())?;
        let mut take = |n: u32| (0..n).map(|_| self.handles.take()).collect::<Vec<_>>();
        let handles: Vec<Vec<u32>> = actions.iter().map(|a| take(a.weight)).collect();
        let records = handles.iter().map(|h| h[0]).collect();
        let number = self.numbers.take();
        self.size += size;
        self.sets.insert(number, Set { set: Arc::new(set.clone()), handles });
        Ok((number, records))
    }

    pub(super) fn remove_set(&mut self, number: u32) {
        let Some(set) = self.sets.remove(&number) else { return };
        self.size -= self.size_of(set.set.actions.iter().map(|a| a.weight), set.set.size).unwrap_or(0);
        set.handles.into_iter().flatten().for_each(|h| self.handles.give_back(h));
        self.numbers.give_back(number);
    }

    /// The records of a group's members that are up, in BMv2's order.
    pub(super) fn live_group(&self, id: u32, up: &dyn Fn(Option<Watch>) -> bool) -> Arc<[u32]> {
        let members = self.groups.get(&id).map_or(&[][..], |g| &g.spec.members);
        let members = members.iter().filter(|m| up(m.watch)).filter_map(|m| {
            let handles = &self.members.get(&m.member)?.handles;
            Some(&handles[..handles.len().min(m.weight as usize)])
        });
        ordered(members)
    }

    /// As [`live_group`](Self::live_group), of a one-shot group.
    pub(super) fn live_set(&self, number: u32, up: &dyn Fn(Option<Watch>) -> bool) -> Arc<[u32]> {
        let Some(set) = self.sets.get(&number) else { return Arc::from([]) };
        ordered(set.set.actions.iter().zip(&set.handles).filter(|(a, _)| up(a.watch)).map(|(_, h)| h.as_slice()))
    }
}

/// From each member's handles to the members' records, in the order of the handles.
fn ordered<'a>(members: impl Iterator<Item = &'a [u32]>) -> Arc<[u32]> {
    let mut all: Vec<(u32, u32)> = members.flat_map(|h| h.iter().map(|n| (*n, h[0]))).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, record)| record).collect()
}
