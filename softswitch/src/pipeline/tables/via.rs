//! Writing action profiles, and the entries of tables that use them.

use super::super::entry::{ActionCall, GroupSpec, MatchValue, ProfileLimits, Via, Watch};
use super::super::error::TableError;
use super::super::info::{ProfileIx, TableIx};
use super::encode::check_args;
use super::ledger::{Ledger, Misfit};
use super::profiles::{Named, Origin, ProfileChange, SideGroup};
use super::txn::Txn;
use super::{Dataplane, KnownPorts, words_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

impl Dataplane {
    fn profile(&self, ProfileIx(p): ProfileIx) -> Result<usize, TableError> {
        if p < self.profiles.len() { Ok(p) } else { Err(TableError::NoSuchObject { kind: "action profile", index: p }) }
    }

    /// Says which of the switch's ports are up: members that watch one that is not are not selected, and replicas to one
    /// that is not give way to their backups. Ports that are not named do not exist. Before the first call, every port
    /// exists and is up.
    pub fn set_ports(&self, ports: BTreeMap<u16, bool>) {
        let ports = KnownPorts::from(ports);
        self.replication.set_ports(ports.clone());
        self.write(|txn| {
            txn.writer.ports = ports;
            for p in 0..txn.writer.profiles.len() {
                txn.refresh(p);
            }
        });
    }

    /// Sets how large a profile and its groups may be. What is there already stays.
    pub fn set_profile_limits(&self, ProfileIx(p): ProfileIx, limits: ProfileLimits) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = writer.profiles.get_mut(p) {
            profile.limits = limits;
        }
    }

    fn with_ledger<R>(&self, profile: ProfileIx, f: impl FnOnce(&Ledger) -> R) -> Result<R, TableError> {
        let p = self.profile(profile)?;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(f(&writer.profiles[p]))
    }

    /// The members of a profile by their ids, with their actions.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn members(&self, profile: ProfileIx) -> Result<Vec<(u32, ActionCall)>, TableError> {
        self.with_ledger(profile, |l| l.members.iter().map(|(id, m)| (*id, m.call.clone())).collect())
    }

    /// One member's action, if it is there.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn member(&self, profile: ProfileIx, id: u32) -> Result<Option<ActionCall>, TableError> {
        self.with_ledger(profile, |l| l.members.get(&id).map(|m| m.call.clone()))
    }

    /// The groups of a selector.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn groups(&self, profile: ProfileIx) -> Result<Vec<GroupSpec>, TableError> {
        self.with_ledger(profile, |l| l.groups.values().map(|g| g.spec.clone()).collect())
    }

    /// One group, if it is there.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn group(&self, profile: ProfileIx, id: u32) -> Result<Option<GroupSpec>, TableError> {
        self.with_ledger(profile, |l| l.groups.get(&id).map(|g| g.spec.clone()))
    }
}

/// What a profile is called, for errors.
fn name(dp: &Dataplane, p: usize) -> String {
    dp.program.profiles[p].name.clone()
}

/// The place of an action among the profile's: by name, since each table has its own copy of it.
fn action_in(dp: &Dataplane, p: usize, call: &ActionCall) -> Option<usize> {
    let all = &dp.program.actions;
    let name = &all.get(call.action.0)?.name;
    dp.program.profiles[p].actions.iter().position(|a| all[a.0].name == *name)
}

impl Txn<'_> {
    fn misfit(&self, p: usize, m: Misfit) -> TableError {
        match m {
            Misfit::Bad(what) => TableError::BadProfile { profile: name(self.dp, p), what },
            Misfit::Full(what) => TableError::ProfileFull { profile: name(self.dp, p), what },
        }
    }

    fn bad(&self, p: usize, what: impl Into<String>) -> TableError {
        self.misfit(p, Misfit::Bad(what.into()))
    }

    fn missing(&self, p: usize, what: &'static str, id: u32) -> TableError {
        TableError::NoSuchMember { profile: name(self.dp, p), what, id }
    }

    fn enter(&mut self, p: usize, one_shot: bool) -> Result<(), TableError> {
        self.writer.profiles[p].enter(one_shot).map_err(|m| self.misfit(p, m))
    }

    fn check_call(&self, p: usize, call: &ActionCall) -> Result<(), TableError> {
        if action_in(self.dp, p, call).is_none() {
            return Err(self.bad(p, "the action is not one of its tables'"));
        }
        check_args(&self.dp.program, call.action, &call.args).map_err(|what| self.bad(p, what))
    }

    fn check_watch(&self, p: usize, watch: Option<Watch>) -> Result<(), TableError> {
        match watch.map(|w| w.port).filter(|p| !self.writer.ports.exists(*p)) {
            Some(port) => Err(self.bad(p, format!("a member watches port {port}, and the switch has no such port"))),
            None => Ok(()),
        }
    }

    fn change_profile(&mut self, profile: usize, change: ProfileChange) {
        self.side.profiles[profile].apply(&change);
        self.profile_log.push((profile, change));
    }

    fn write_member(&mut self, p: usize, record: u32, id: u32, call: &ActionCall) {
        let words: Vec<u64> = words_of(&self.dp.program, call).collect();
        // Checked before.
        let action = action_in(self.dp, p, call).unwrap_or(0);
        self.dp.profiles[p].store(record, self.side.number, action, &words);
        self.change_profile(p, ProfileChange::Member { record, id });
    }

    fn write_group(&mut self, p: usize, id: u32, group: u32) {
        let ports = &self.writer.ports;
        let live = self.writer.profiles[p].live_group(id, &|w| ports.allow(w));
        self.change_profile(p, ProfileChange::Group { group, is: SideGroup { live, origin: Origin::Id(id) } });
    }

    fn write_set(&mut self, p: usize, group: u32) {
        let (ports, ledger) = (&self.writer.ports, &self.writer.profiles[p]);
        let Some(set) = ledger.sets.get(&group) else { return };
        let (live, origin) = (ledger.live_set(group, &|w| ports.allow(w)), Origin::Set(Arc::clone(&set.set)));
        self.change_profile(p, ProfileChange::Group { group, is: SideGroup { live, origin } });
    }

    /// Selects anew among the members that are up, in every group that watches a port.
    fn refresh(&mut self, p: usize) {
        let ledger = &self.writer.profiles[p];
        let watching = ledger.groups.iter().filter(|(_, g)| g.spec.members.iter().any(|m| m.watch.is_some()));
        let groups: Vec<_> = watching.map(|(id, g)| (*id, g.number)).collect();
        let watching = ledger.sets.iter().filter(|(_, s)| s.set.actions.iter().any(|a| a.watch.is_some()));
        let sets: Vec<_> = watching.map(|(number, _)| *number).collect();
        groups.into_iter().for_each(|(id, number)| self.write_group(p, id, number));
        sets.into_iter().for_each(|number| self.write_set(p, number));
    }

    /// Adds a member to a profile.
    ///
    /// # Errors
    /// The id is 0 or taken, the action is not one of the profile's, there is no room, or the profile is programmed
    /// with one-shot groups.
    pub fn insert_member(&mut self, profile: ProfileIx, id: u32, call: &ActionCall) -> Result<(), TableError> {
        let p = self.dp.profile(profile)?;
        if id == 0 {
            return Err(self.bad(p, "a member's id cannot be 0"));
        }
        self.check_call(p, call)?;
        self.enter(p, false)?;
        if self.writer.profiles[p].members.contains_key(&id) {
            return Err(TableError::MemberExists { profile: name(self.dp, p), what: "member", id });
        }
        let added = self.writer.profiles[p].add_member(id, call.clone());
        let record = added.map_err(|m| self.misfit(p, m))?;
        self.write_member(p, record, id, call);
        Ok(())
    }

    /// Gives a member another action, in all groups and entries.
    ///
    /// # Errors
    /// It is not there, or the action is not one of the profile's.
    pub fn modify_member(&mut self, profile: ProfileIx, id: u32, call: &ActionCall) -> Result<(), TableError> {
        let p = self.dp.profile(profile)?;
        self.check_call(p, call)?;
        let Some(member) = self.writer.profiles[p].members.get_mut(&id) else {
            return Err(self.missing(p, "member", id));
        };
        member.call = call.clone();
        let record = member.record();
        self.write_member(p, record, id, call);
        Ok(())
    }

    /// Removes a member.
    ///
    /// # Errors
    /// It is not there, or a group or an entry names it.
    pub fn delete_member(&mut self, profile: ProfileIx, id: u32) -> Result<(), TableError> {
        let p = self.dp.profile(profile)?;
        let Some(member) = self.writer.profiles[p].members.get(&id) else {
            return Err(self.missing(p, "member", id));
        };
        if member.in_groups() || member.entries > 0 {
            let by = if member.in_groups() { "a group" } else { "an entry" };
            return Err(TableError::InUse { profile: name(self.dp, p), what: "member", id, by });
        }
        self.writer.profiles[p].remove_member(id);
        Ok(())
    }

    fn check_group(&self, p: usize, spec: &GroupSpec) -> Result<(), TableError> {
        if !self.dp.program.profiles[p].selector {
            return Err(self.bad(p, "it is no selector: it has no groups"));
        }
        if spec.id == 0 {
            return Err(self.bad(p, "a group's id cannot be 0"));
        }
        let mut seen = BTreeSet::new();
        for m in &spec.members {
            if !self.writer.profiles[p].members.contains_key(&m.member) {
                return Err(self.missing(p, "member", m.member));
            }
            if !seen.insert(m.member) {
                return Err(self.bad(p, format!("member {} is in the group twice: give it a weight", m.member)));
            }
            self.check_watch(p, m.watch)?;
        }
        Ok(())
    }

    /// Adds a group to a selector.
    ///
    /// # Errors
    /// The id is 0 or taken, a member is not there or named twice, a weight is 0, there is no room, the profile is no
    /// selector, or is programmed with one-shot groups.
    pub fn insert_group(&mut self, profile: ProfileIx, spec: &GroupSpec) -> Result<(), TableError> {
        let p = self.dp.profile(profile)?;
        self.enter(p, false)?;
        if self.writer.profiles[p].groups.contains_key(&spec.id) {
            return Err(TableError::MemberExists { profile: name(self.dp, p), what: "group", id: spec.id });
        }
        self.check_group(p, spec)?;
        let added = self.writer.profiles[p].add_group(spec.clone());
        let number = added.map_err(|m| self.misfit(p, m))?;
        self.write_group(p, spec.id, number);
        Ok(())
    }

    /// Gives a group other members.
    ///
    /// # Errors
    /// As [`insert_group`](Self::insert_group), or it is not there, or its `max_size` is another one.
    pub fn modify_group(&mut self, profile: ProfileIx, spec: &GroupSpec) -> Result<(), TableError> {
        let p = self.dp.profile(profile)?;
        if !self.writer.profiles[p].groups.contains_key(&spec.id) {
            return Err(self.missing(p, "group", spec.id));
        }
        self.check_group(p, spec)?;
        let changed = self.writer.profiles[p].change_group(spec.clone());
        if let Some(number) = changed.map_err(|m| self.misfit(p, m))? {
            self.write_group(p, spec.id, number);
        }
        Ok(())
    }

    /// Removes a group; its members stay.
    ///
    /// # Errors
    /// It is not there, or an entry names it.
    pub fn delete_group(&mut self, profile: ProfileIx, id: u32) -> Result<(), TableError> {
        let p = self.dp.profile(profile)?;
        let Some(group) = self.writer.profiles[p].groups.get(&id) else {
            return Err(self.missing(p, "group", id));
        };
        if group.entries > 0 {
            return Err(TableError::InUse { profile: name(self.dp, p), what: "group", id, by: "an entry" });
        }
        if let Some(group) = self.writer.profiles[p].remove_group(id) {
            self.change_profile(p, ProfileChange::Group { group, is: SideGroup::default() });
        }
        Ok(())
    }

    /// The profile of an indirect table.
    fn profile_of(&self, t: usize) -> Result<usize, TableError> {
        let info = &self.dp.program.tables[t];
        info.profile.map(|p| p.0).ok_or_else(|| TableError::BadAction {
            table: info.name.clone(),
            what: "it is a direct table: its entries have actions, not members or groups".to_owned(),
        })
    }

    /// Takes hold of what an entry is to name.
    fn hold(&mut self, p: usize, via: &Via) -> Result<Named, TableError> {
        match via {
            Via::Member(id) => {
                self.enter(p, false)?;
                let Some(member) = self.writer.profiles[p].members.get_mut(id) else {
                    return Err(self.missing(p, "member", *id));
                };
                member.entries += 1;
                Ok(Named::Member(member.record()))
            }
            Via::Group(id) => {
                self.enter(p, false)?;
                let Some(group) = self.writer.profiles[p].groups.get_mut(id) else {
                    return Err(self.missing(p, "group", *id));
                };
                group.entries += 1;
                Ok(Named::Group(group.number))
            }
            Via::Set(set) => {
                if !self.dp.program.profiles[p].selector {
                    return Err(self.bad(p, "it is no selector: its tables take members, not action sets"));
                }
                for a in &set.actions {
                    self.check_call(p, &a.call)?;
                    self.check_watch(p, a.watch)?;
                }
                self.enter(p, true)?;
                let added = self.writer.profiles[p].add_set(set);
                let (number, records) = added.map_err(|m| self.misfit(p, m))?;
                for (record, a) in records.into_iter().zip(&set.actions) {
                    self.write_member(p, record, 0, &a.call);
                }
                self.write_set(p, number);
                Ok(Named::Group(number))
            }
        }
    }

    /// Lets go of what an entry named.
    fn let_go(&mut self, p: usize, named: Named) {
        let via = self.side.profiles[p].describe(named);
        let ledger = &mut self.writer.profiles[p];
        match (via, named) {
            (Some(Via::Member(id)), _) => {
                if let Some(m) = ledger.members.get_mut(&id) {
                    m.entries -= 1;
                }
            }
            (Some(Via::Group(id)), _) => {
                if let Some(g) = ledger.groups.get_mut(&id) {
                    g.entries -= 1;
                }
            }
            (Some(Via::Set(_)), Named::Group(group)) => {
                ledger.remove_set(group);
                self.change_profile(p, ProfileChange::Group { group, is: SideGroup::default() });
            }
            _ => {}
        }
    }

    /// Lets go of what an entry of any table names: it is about to be removed, or to name something else.
    pub(super) fn release(&mut self, t: usize, entry: u32) {
        if let Some(ProfileIx(p)) = self.dp.program.tables[t].profile {
            let named = self.dp.named(t, entry);
            self.let_go(p, named);
        }
    }

    /// Adds an entry to an indirect table; see [`insert`](Self::insert).
    ///
    /// # Errors
    /// As [`insert`](Self::insert), or what it names is not there, or does not fit its profile.
    pub fn insert_via(
        &mut self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
        via: &Via,
    ) -> Result<(), TableError> {
        let t = self.dp.check_table(table.0)?;
        let p = self.profile_of(t)?;
        let key = self.vacant(t, key, priority)?;
        let (action, number) = self.hold(p, via)?.words();
        self.add(t, &key, action, std::iter::once(number));
        Ok(())
    }

    /// Lets an entry of an indirect table name something else; see [`modify`](Self::modify).
    ///
    /// # Errors
    /// As [`modify`](Self::modify), or what it names is not there, or does not fit its profile.
    pub fn modify_via(
        &mut self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
        via: &Via,
    ) -> Result<(), TableError> {
        let t = self.dp.check_table(table.0)?;
        let p = self.profile_of(t)?;
        self.writable(t)?;
        let (key, old) = self.existing(t, key, priority)?;
        // The new is held before the old is let go, as PI does it: their handles differ.
        let (action, number) = self.hold(p, via)?.words();
        self.release(t, old);
        self.exchange(t, &key, old, action, std::iter::once(number));
        Ok(())
    }

    /// Sets what a miss of an indirect table leads to, as BMv2 allows it.
    ///
    /// # Errors
    /// As [`set_default`](Self::set_default), or what it names is not there, or does not fit its profile.
    pub fn set_default_via(&mut self, table: TableIx, via: &Via) -> Result<(), TableError> {
        let t = self.dp.check_table(table.0)?;
        let p = self.profile_of(t)?;
        let info = &self.dp.program.tables[t];
        if info.const_default {
            return Err(TableError::Constant { table: info.name.clone(), what: "its default action" });
        }
        let (action, number) = self.hold(p, via)?.words();
        self.release(t, self.side.tables[t].default);
        self.exchange_default(t, Some((action, std::iter::once(number))));
        Ok(())
    }

    /// Removes all members and groups of all profiles; no entry names any.
    pub(super) fn clear_profiles(&mut self) {
        for p in 0..self.writer.profiles.len() {
            self.writer.profiles[p].clear();
        }
    }
}
