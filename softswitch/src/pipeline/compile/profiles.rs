//! Action profiles and selectors of the JSON, and the tables that use them.

use super::super::calc::{Algo, Calc, Input};
use super::super::error::LoadError;
use super::super::info::{ActionIx, ProfileInfo, ProfileIx, TableInfo};
use super::super::json;
use super::super::ops::ViaRt;
use super::Compiler;
use serde_json::Value;

/// Most actions of an indirect table.
const MAX_ACTIONS: usize = 4096;

impl Compiler<'_> {
    /// An element of `action_profiles`.
    pub(super) fn read_profile(&mut self, a: &Value) -> Result<(), LoadError> {
        let name = json::text(a, "name", "action profile")?;
        let ctx = format!("action profile {name}");
        let selector = a.get("selector").filter(|s| !s.is_null());
        let size = a.get("max_size").and_then(Value::as_u64).unwrap_or(0);
        self.add_profile(name, size, selector, &ctx)?;
        Ok(())
    }

    fn add_profile(
        &mut self,
        name: &str,
        size: u64,
        selector: Option<&Value>,
        ctx: &str,
    ) -> Result<ProfileIx, LoadError> {
        let hash = selector.map(|s| self.read_selector(s, ctx)).transpose()?;
        let ix = self.out.profiles.len();
        if self.profile_names.insert(name.to_owned(), ix).is_some() {
            return Err(LoadError::invalid("a second action profile of this name", ctx));
        }
        let (name, selector) = (name.to_owned(), hash.is_some());
        self.out.profiles.push(ProfileInfo { name, size, selector, actions: Vec::new() });
        self.profile_hashes.push(hash);
        Ok(ProfileIx(ix))
    }

    /// The hash of a selector; BMv2 knows fields as its inputs only.
    fn read_selector(&mut self, s: &Value, ctx: &str) -> Result<u16, LoadError> {
        let algo = json::text(s, "algo", ctx)?;
        let algo = Algo::by_name(algo).ok_or_else(|| LoadError::unsupported(format!("the algorithm {algo}"), ctx))?;
        let mut inputs = Vec::new();
        for i in json::list(s, "input", ctx)? {
            match json::text(i, "type", ctx)? {
                "field" => {
                    let (h, f) = json::pair(json::get(i, "value", ctx)?, ctx)?;
                    inputs.push(Input::Field(self.b.layout.field(h, f, ctx)?));
                }
                other => return Err(LoadError::unsupported(format!("a selector over an input of type {other}"), ctx)),
            }
        }
        let ix = self.index(self.out.calcs.len(), "calculations")?;
        self.out.calcs.push(Calc::new(algo, inputs, false));
        Ok(ix)
    }

    /// The profile that a table is implemented by; none for a direct table.
    pub(super) fn implementation(&mut self, t: &Value, ctx: &str) -> Result<Option<ProfileIx>, LoadError> {
        let selects = match t.get("type").and_then(Value::as_str).unwrap_or("simple") {
            "simple" => return Ok(None),
            "indirect" => false,
            "indirect_ws" => true,
            kind => return Err(LoadError::unsupported(format!("a table of type {kind}"), ctx)),
        };
        let profile = match t.get("action_profile") {
            Some(name) => {
                let name = json::as_text(name, "action_profile", ctx)?;
                let found = self.profile_names.get(name);
                ProfileIx(*found.ok_or_else(|| LoadError::unknown("action profile", name, ctx))?)
            }
            // Older versions of the format define the profile in its table.
            None => {
                let name = json::text(t, "act_prof_name", ctx)?;
                let selector = if selects { Some(json::get(t, "selector", ctx)?) } else { None };
                self.add_profile(name, 0, selector, ctx)?
            }
        };
        if selects && !self.out.profiles[profile.0].selector {
            return Err(LoadError::invalid("a table of type indirect_ws with a profile that has no selector", ctx));
        }
        Ok(Some(profile))
    }

    /// Gives a profile the actions of one of its tables.
    pub(super) fn join_profile(
        &mut self,
        profile: ProfileIx,
        table: &TableInfo,
        has_entries: bool,
        ctx: &str,
    ) -> Result<(), LoadError> {
        if has_entries {
            // BMv2 refuses those, too: there is no member that they could name.
            return Err(LoadError::unsupported("constant entries in a table with an action profile", ctx));
        }
        if table.actions.len() > MAX_ACTIONS {
            return Err(LoadError::unsupported(format!("more than {MAX_ACTIONS} actions"), ctx));
        }
        for a in &table.actions {
            let of = |a: ActionIx| &self.out.actions[a.0];
            let known = &self.out.profiles[profile.0].actions;
            // The compiler makes a copy of an action for each table: to the profile they are one.
            match known.iter().find(|k| of(**k).name == of(*a).name) {
                None => self.out.profiles[profile.0].actions.push(*a),
                Some(k) if of(*k).params == of(*a).params => {}
                Some(_) => {
                    return Err(LoadError::invalid("an action that another table of its profile has differently", ctx));
                }
            }
        }
        Ok(())
    }

    /// What a packet needs of an indirect table that has so many actions.
    pub(super) fn via(&self, table: &TableInfo, actions: usize) -> Option<ViaRt> {
        let ProfileIx(profile) = table.profile?;
        // `join_profile` has seen that both fit.
        let empty = actions as u16;
        let name = |a: &ActionIx| &self.out.actions[a.0].name;
        let place = |a: &ActionIx| table.actions.iter().position(|t| name(t) == name(a)).map_or(empty, |i| i as u16);
        let local = self.out.profiles[profile].actions.iter().map(place).collect();
        Some(ViaRt { profile, hash: self.profile_hashes[profile], local, empty })
    }
}
