//! Tables, counters, meters and registers of the JSON: what a control plane sees, and their constant entries.

use super::super::entry::{ActionCall, EntrySpec, MatchValue, pieces};
use super::super::error::LoadError;
use super::super::info::{
    ActionIx, CounterInfo, KeyField, MatchKind, MeterInfo, MeterUnit, RegisterInfo, TableInfo, TableIx,
};
use super::super::json;
use super::super::layout::{MAX_WIDTH, words};
use super::super::ops::KeyPart;
use super::super::program::DefaultAction;
use super::Compiler;
use serde_json::Value;

/// Most cells that a counter, meter or register array may have.
const MAX_CELLS: u64 = 1 << 24;
/// Most entries that a table is given room for, whatever the program says.
const MAX_ENTRIES: u64 = 1 << 24;
/// Widest key, in bits.
pub(crate) const MAX_KEY_BITS: u32 = 512;

impl<'a> Compiler<'a> {
    /// Reads all tables of all pipelines, then what is attached to them.
    pub(super) fn read_tables(&mut self) -> Result<(), LoadError> {
        for p in ["ingress", "egress"] {
            let Some(pipeline) = self.pipeline(p)? else { continue };
            for a in json::list_or_empty(pipeline, "action_profiles", p)? {
                self.read_profile(a)?;
            }
            for t in json::list_or_empty(pipeline, "tables", p)? {
                self.read_table(t)?;
            }
        }
        self.table_ways = vec![None; self.out.tables.len()];
        self.read_arrays()
    }

    fn read_table(&mut self, t: &'a Value) -> Result<(), LoadError> {
        let name = json::text(t, "name", "table")?;
        let ctx = format!("table {name}");
        let profile = self.implementation(t, &ctx)?;
        let (mut key, mut parts) = (Vec::new(), Vec::new());
        for k in json::list_or_empty(t, "key", &ctx)? {
            let at = self.index(key.len(), "key fields")?;
            key.push(self.read_key_field(k, at, &mut parts, &ctx)?);
        }
        let key_bits: u32 = parts.iter().map(|p: &KeyPart| p.width).sum();
        if key_bits > MAX_KEY_BITS {
            return Err(LoadError::unsupported(format!("a key of {key_bits} bits (at most {MAX_KEY_BITS})"), &ctx));
        }
        // The last field ends at bit 0 of the packed key.
        let mut pos = key_bits;
        for p in &mut parts {
            pos -= p.width;
            p.pos = pos;
        }
        if key.iter().filter(|k: &&KeyField| k.kind == MatchKind::Lpm).count() > 1
            && !key.iter().any(|k| matches!(k.kind, MatchKind::Ternary | MatchKind::Range | MatchKind::Optional))
        {
            return Err(LoadError::unsupported("a key with two lpm fields and no ternary one", &ctx));
        }
        let mut actions = Vec::new();
        for id in json::list_or_empty(t, "action_ids", &ctx)? {
            let id = id.as_u64().ok_or_else(|| LoadError::invalid("an action id that is no number", &ctx))?;
            actions.push(ActionIx(self.action_by_id(id, &ctx)?));
        }
        if t.get("action_ids").is_none() {
            // Older versions of the format name the actions instead.
            for name in json::list(t, "actions", &ctx)? {
                let name = json::as_text(name, "action", &ctx)?;
                let found = self.out.actions.iter().position(|a| a.name == name);
                actions.push(ActionIx(found.ok_or_else(|| LoadError::unknown("action", name, &ctx))?));
            }
        }
        let entries = json::list_or_empty(t, "entries", &ctx)?;
        let size =
            t.get("max_size").and_then(Value::as_u64).unwrap_or(0).clamp(1, MAX_ENTRIES).max(entries.len() as u64);
        let needs_priority =
            key.iter().any(|k| matches!(k.kind, MatchKind::Ternary | MatchKind::Range | MatchKind::Optional));
        let mut info = TableInfo {
            name: name.to_owned(),
            key,
            actions,
            max_size: size as usize,
            is_const: !entries.is_empty(),
            const_default: false,
            needs_priority,
            direct_counter: json::flag(t, "with_counters"),
            direct_meter: None,
            support_timeout: json::flag(t, "support_timeout"),
            profile,
        };
        let default = match t.get("default_entry").filter(|d| !d.is_null()) {
            None => DefaultAction::default(),
            Some(d) => {
                let call = self.read_call(d, &info, &ctx)?;
                info.const_default = json::flag(d, "action_const");
                DefaultAction {
                    call: Some(call),
                    fixed: json::flag(d, "action_const") && json::flag(d, "action_entry_const"),
                }
            }
        };
        if let Some(profile) = profile {
            self.join_profile(profile, &info, !entries.is_empty(), &ctx)?;
        }
        let consts = self.read_entries(entries, &info, &ctx)?;
        if self.table_names.insert(name.to_owned(), self.out.tables.len()).is_some() {
            return Err(LoadError::invalid("a second table of this name", &ctx));
        }
        self.out.tables.push(info);
        self.out.keys.push((parts, key_bits));
        self.out.defaults.push(default);
        self.out.const_entries.push(consts);
        Ok(())
    }

    fn read_key_field(
        &self,
        k: &Value,
        field: u16,
        parts: &mut Vec<KeyPart>,
        ctx: &str,
    ) -> Result<KeyField, LoadError> {
        let target = json::get(k, "target", ctx)?;
        let match_type = json::text(k, "match_type", ctx)?;
        let (f, default_name) = if match_type == "valid" {
            let h = json::as_text(target, "target", ctx)?;
            (self.b.layout.field(h, "$valid$", ctx)?, format!("{h}.$valid$"))
        } else {
            let (h, f) = json::pair(target, ctx)?;
            (self.b.layout.field(h, f, ctx)?, format!("{h}.{f}"))
        };
        let kind = match match_type {
            "exact" | "valid" => MatchKind::Exact,
            "lpm" => MatchKind::Lpm,
            "ternary" => MatchKind::Ternary,
            "range" => MatchKind::Range,
            "optional" => MatchKind::Optional,
            other => return Err(LoadError::unsupported(format!("the match kind {other}"), ctx)),
        };
        if kind == MatchKind::Range && f.signed {
            return Err(LoadError::unsupported("a range over a signed field", ctx));
        }
        let mask = match k.get("mask").filter(|m| !m.is_null()) {
            None => vec![u128::MAX; pieces(f.width).count()],
            Some(m) => json::cut(m, f.width, ctx)?,
        };
        let name = k.get("name").and_then(Value::as_str).map_or(default_name, str::to_owned);
        let mut below = f.width;
        for (width, mask) in pieces(f.width).zip(mask) {
            below -= width;
            let slot = f.slot + words(below);
            parts.push(KeyPart { slot, width, valid: f.valid, pos: 0, mask: mask & ones(width), field });
        }
        Ok(KeyField { name, kind, width: f.width })
    }

    /// An action with its arguments: `action_id` and `action_data`.
    fn read_call(&self, v: &Value, info: &TableInfo, ctx: &str) -> Result<ActionCall, LoadError> {
        let action = ActionIx(self.action_by_id(json::number(v, "action_id", ctx)?, ctx)?);
        if !info.actions.contains(&action) {
            return Err(LoadError::invalid("an entry with an action that the table does not have", ctx));
        }
        let params = &self.out.actions[action.0].params;
        let data = json::list_or_empty(v, "action_data", ctx)?;
        if data.len() != params.len() {
            return Err(LoadError::invalid(format!("{} arguments where {} are needed", data.len(), params.len()), ctx));
        }
        let mut args = Vec::new();
        for (d, p) in data.iter().zip(params) {
            args.extend(json::cut(d, p.width, ctx)?);
        }
        Ok(ActionCall { action, args })
    }

    fn read_entries(&self, entries: &[Value], info: &TableInfo, ctx: &str) -> Result<Vec<EntrySpec>, LoadError> {
        let mut out = Vec::new();
        for e in entries {
            let key = json::list(e, "match_key", ctx)?;
            if key.len() != info.key.len() {
                return Err(LoadError::invalid("a constant entry with a key of another length than the table's", ctx));
            }
            let mut spec = Vec::new();
            for (k, f) in key.iter().zip(&info.key) {
                read_match(k, f, &mut spec, ctx)?;
            }
            let priority = e.get("priority").and_then(Value::as_i64).unwrap_or(0);
            let action = self.read_call(json::get(e, "action_entry", ctx)?, info, ctx)?;
            out.push((priority, EntrySpec { key: spec, priority: 0, action }));
        }
        // In the JSON a lower number wins; at our boundary (P4Runtime) a higher one does.
        let last = out.iter().map(|(p, _)| *p).max().unwrap_or(0);
        if info.needs_priority {
            for (p, spec) in &mut out {
                let flipped = last.saturating_sub(*p).saturating_add(1);
                spec.priority =
                    i32::try_from(flipped).map_err(|_| LoadError::invalid("a priority beyond 31 bits", ctx))?;
            }
        }
        Ok(out.into_iter().map(|(_, s)| s).collect())
    }

    fn read_arrays(&mut self) -> Result<(), LoadError> {
        for c in json::list_or_empty(self.root, "counter_arrays", "program")? {
            let name = json::text(c, "name", "counter")?;
            let ctx = format!("counter {name}");
            let direct_table = if json::flag(c, "is_direct") { Some(self.binding(c, &ctx)?) } else { None };
            let size = if direct_table.is_some() { 0 } else { cells(c, &ctx)? };
            if let Some(t) = direct_table {
                self.out.tables[t.0].direct_counter = true;
            }
            self.counter_names.insert(name.to_owned(), self.out.counters.len());
            self.out.counters.push(CounterInfo { name: name.to_owned(), size, direct_table });
        }
        for m in json::list_or_empty(self.root, "meter_arrays", "program")? {
            let name = json::text(m, "name", "meter")?;
            let ctx = format!("meter {name}");
            if m.get("rate_count").and_then(Value::as_u64).unwrap_or(2) != 2 {
                return Err(LoadError::unsupported("a meter with other than two rates", &ctx));
            }
            let unit = match json::text(m, "type", &ctx)? {
                "bytes" => MeterUnit::Bytes,
                "packets" => MeterUnit::Packets,
                other => return Err(LoadError::unsupported(format!("a meter of {other}"), &ctx)),
            };
            let direct_table = if json::flag(m, "is_direct") { Some(self.binding(m, &ctx)?) } else { None };
            let size = if direct_table.is_some() { 0 } else { cells(m, &ctx)? };
            if let Some(t) = direct_table {
                let (h, f) = json::pair(json::get(m, "result_target", &ctx)?, &ctx)?;
                let f = self.b.layout.field(h, f, &ctx)?;
                if f.wide() || f.signed {
                    return Err(LoadError::unsupported("a colour in a signed field or one wider than 64 bits", &ctx));
                }
                self.out.tables[t.0].direct_meter = Some((name.to_owned(), unit));
                self.meter_targets.insert(t.0, (f.slot, f.width as u8));
            }
            self.meter_names.insert(name.to_owned(), self.out.meters.len());
            self.out.meters.push(MeterInfo { name: name.to_owned(), size, unit, direct_table });
        }
        for r in json::list_or_empty(self.root, "register_arrays", "program")? {
            let name = json::text(r, "name", "register")?;
            let ctx = format!("register {name}");
            let width = json::number(r, "bitwidth", &ctx)?;
            if width == 0 || width > u64::from(MAX_WIDTH) {
                return Err(LoadError::unsupported(format!("a register of {width} bits (1 to {MAX_WIDTH})"), &ctx));
            }
            let (width, size) = (width as u32, cells(r, &ctx)?);
            if size as u64 * u64::from(words(width)) > MAX_CELLS {
                return Err(LoadError::unsupported(format!("a register of {size} cells of {width} bits"), &ctx));
            }
            let ix = self.index(self.out.registers.len(), "registers")?;
            self.register_names.insert(name.to_owned(), (ix, width));
            self.out.registers.push(RegisterInfo { name: name.to_owned(), size, width });
        }
        Ok(())
    }

    fn binding(&self, v: &Value, ctx: &str) -> Result<TableIx, LoadError> {
        let table = json::text(v, "binding", ctx)?;
        self.table_names.get(table).map(|t| TableIx(*t)).ok_or_else(|| LoadError::unknown("table", table, ctx))
    }

    /// The action that a table always runs, if it has no key and nothing can change that.
    pub(super) fn inline_action(&self, table: usize) -> Option<(usize, Vec<u128>)> {
        let info = &self.out.tables[table];
        let default = &self.out.defaults[table];
        let plain =
            info.key.is_empty() && !info.direct_counter && info.direct_meter.is_none() && info.profile.is_none();
        match &default.call {
            Some(call) if plain && default.fixed => Some((call.action.0, call.args.clone())),
            _ => None,
        }
    }
}

fn cells(v: &Value, ctx: &str) -> Result<usize, LoadError> {
    match json::number(v, "size", ctx)? {
        n if n <= MAX_CELLS => Ok(n as usize),
        n => Err(LoadError::unsupported(format!("an array of {n} cells (at most {MAX_CELLS})"), ctx)),
    }
}

/// As many ones.
pub(crate) fn ones(width: u32) -> u128 {
    if width >= 128 { u128::MAX } else { (1 << width) - 1 }
}

/// Reads what a constant entry matches in one field.
fn read_match(k: &Value, f: &KeyField, spec: &mut Vec<MatchValue>, ctx: &str) -> Result<(), LoadError> {
    let num = |key: &str| -> Result<Vec<u128>, LoadError> {
        let v = json::get(k, key, ctx)?;
        if json::big(v, ctx)?.bits() <= u64::from(f.width) {
            json::cut(v, f.width, ctx)
        } else {
            Err(LoadError::invalid(format!("a constant entry whose {key} is wider than {} bits", f.width), ctx))
        }
    };
    match f.kind {
        MatchKind::Exact => match k.get("key").and_then(Value::as_bool) {
            Some(b) => spec.push(MatchValue::Exact(u128::from(b))),
            None => spec.extend(num("key")?.into_iter().map(MatchValue::Exact)),
        },
        MatchKind::Lpm => {
            let prefix_len = json::number(k, "prefix_length", ctx)?;
            if prefix_len > u64::from(f.width) {
                return Err(LoadError::invalid("a prefix longer than its field", ctx));
            }
            let mut left = prefix_len as u32;
            for (value, width) in num("key")?.into_iter().zip(pieces(f.width)) {
                let prefix_len = left.min(width);
                left -= prefix_len;
                let behind = if prefix_len == width { 0 } else { ones(width - prefix_len) };
                spec.push(MatchValue::Lpm { value: value & !behind, prefix_len });
            }
        }
        MatchKind::Ternary => {
            let both = num("key")?.into_iter().zip(num("mask")?);
            spec.extend(both.map(|(value, mask)| MatchValue::Ternary { value: value & mask, mask }));
        }
        MatchKind::Range => {
            let both = num("start")?.into_iter().zip(num("end")?);
            spec.extend(both.map(|(low, high)| MatchValue::Range { low, high }));
        }
        MatchKind::Optional => match k.get("key").filter(|v| !v.is_null()) {
            None => spec.extend(pieces(f.width).map(|_| MatchValue::Optional(None))),
            Some(_) => spec.extend(num("key")?.into_iter().map(|v| MatchValue::Optional(Some(v)))),
        },
    }
    Ok(())
}
