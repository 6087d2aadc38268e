//! The compiler: BMv2 JSON in, [`Program`] out.
//!
//! ```text
//!   layout (headers → slots) → calculations, actions, tables, arrays → parser, checks, ingress, egress, updates → code
//! ```

mod actions;
mod builder;
mod calcs;
mod control;
mod expr;
mod genexpr;
mod parser;
mod tables;

use super::error::LoadError;
use super::layout::{Field, Layout, Slot};
use super::ops::{Op, TableAction, TableRt};
use super::program::{Program, StdMeta};
use actions::ActionSrc;
use builder::{Builder, Label};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
pub(crate) use tables::ones;

/// Largest JSON that is accepted.
const MAX_JSON_BYTES: usize = 64 << 20;

/// Next nodes of a table: (after a hit, after a miss) by action, and after a miss without an action.
type Ways = (Vec<(Label, Label)>, Label);

struct Compiler<'a> {
    root: &'a Value,
    b: Builder,
    out: Program,
    actions: Vec<ActionSrc<'a>>,
    action_ids: HashMap<u32, usize>,
    calc_names: HashMap<String, usize>,
    counter_names: HashMap<String, usize>,
    meter_names: HashMap<String, usize>,
    register_names: HashMap<String, usize>,
    table_names: HashMap<String, usize>,
    meter_targets: HashMap<usize, (Slot, u8)>,
    table_ways: Vec<Option<Ways>>,
    /// Actions that some table runs by lookup, and thus need code of their own.
    used_actions: BTreeSet<usize>,
    /// The one `End`.
    end: Label,
    /// 1 once the program has called `exit`.
    exit_slot: Slot,
}

/// Compiles a BMv2 JSON.
pub(super) fn compile(json: &[u8]) -> Result<Arc<Program>, LoadError> {
    if json.len() > MAX_JSON_BYTES {
        return Err(LoadError::Json(format!("{} bytes; at most {MAX_JSON_BYTES} are read", json.len())));
    }
    let root: Value = serde_json::from_slice(json).map_err(|e| LoadError::Json(e.to_string()))?;
    let layout = Layout::read(&root)?;
    let field_slots = layout.slots;
    let mut b = Builder::new(layout);
    let end = b.label();
    let exit_slot = b.layout.alloc(1, "program")?;
    let mut c = Compiler {
        root: &root,
        b,
        out: Program { field_slots, exit_slot, ..Program::default() },
        actions: Vec::new(),
        action_ids: HashMap::new(),
        calc_names: HashMap::new(),
        counter_names: HashMap::new(),
        meter_names: HashMap::new(),
        register_names: HashMap::new(),
        table_names: HashMap::new(),
        meter_targets: HashMap::new(),
        table_ways: Vec::new(),
        used_actions: BTreeSet::new(),
        end,
        exit_slot,
    };
    c.read_std_meta()?;
    c.read_calculations()?;
    c.read_actions()?;
    c.read_tables()?;
    c.generate()?;
    Ok(Arc::new(c.out))
}

impl Compiler<'_> {
    fn read_std_meta(&mut self) -> Result<(), LoadError> {
        let l = &self.b.layout;
        let need =
            |f: &str| -> Result<Field, LoadError> { l.field("standard_metadata", f, "program (is it for v1model?)") };
        let narrow = |f: Option<Field>| f.filter(|f| !f.wide());
        let std = |f: &str| narrow(l.find("standard_metadata", f));
        let intrinsic = |f: &str| narrow(l.find("intrinsic_metadata", f));
        self.out.std = StdMeta {
            ingress_port: Some(need("ingress_port")?),
            egress_spec: Some(need("egress_spec")?),
            egress_port: Some(need("egress_port")?),
            packet_length: std("packet_length"),
            parser_error: std("parser_error"),
            checksum_error: std("checksum_error"),
            ingress_ts: intrinsic("ingress_global_timestamp"),
            egress_ts: intrinsic("egress_global_timestamp"),
            mcast_grp: intrinsic("mcast_grp"),
            enq_timestamp: narrow(l.find("queueing_metadata", "enq_timestamp")),
        };
        Ok(())
    }

    fn generate(&mut self) -> Result<(), LoadError> {
        let [parser, verify, ingress, egress, update] = std::array::from_fn(|_| self.b.label());
        self.b.place(parser);
        self.gen_parser()?;
        self.b.place(verify);
        self.gen_checksums(true)?;
        self.b.place(ingress);
        self.gen_pipeline("ingress")?;
        self.b.place(egress);
        self.b.egress_ts = self.out.std.egress_ts.map(|f| f.slot);
        self.gen_pipeline("egress")?;
        self.b.place(update);
        self.gen_checksums(false)?;
        // Bodies last: an action may be run by tables of both pipelines, so a use of the egress time stamp is marked
        // in all of them; it does nothing in ingress.
        let mut bodies = HashMap::new();
        for action in self.used_actions.clone() {
            let label = self.b.label();
            self.b.place(label);
            self.gen_body(action)?;
            self.b.emit(Op::Ret);
            bodies.insert(action, label);
        }
        self.b.place(self.end);
        self.b.emit(Op::End);
        self.read_deparser()?;
        self.out.consts = self.b.finish()?;
        self.resolve(&bodies)?;
        self.out.parser = self.b.at(parser)?;
        self.out.verify = self.b.at(verify)?;
        self.out.ingress = self.b.at(ingress)?;
        self.out.egress = self.b.at(egress)?;
        self.out.update = self.b.at(update)?;
        self.out.code = std::mem::take(&mut self.b.code);
        self.out.slots = self.b.layout.slots;
        self.out.headers = std::mem::take(&mut self.b.layout.headers);
        Ok(())
    }

    fn read_deparser(&mut self) -> Result<(), LoadError> {
        use super::json;
        let all = json::list(self.root, "deparsers", "program")?;
        let d = all.iter().find(|d| d.get("name").and_then(Value::as_str) == Some("deparser"));
        let d = d.ok_or_else(|| LoadError::unknown("deparser", "deparser", "program"))?;
        if !json::list_or_empty(d, "primitives", "deparser")?.is_empty() {
            return Err(LoadError::unsupported("a primitive in the deparser", "deparser"));
        }
        for h in json::list(d, "order", "deparser")? {
            let h = self.b.layout.header(json::as_text(h, "header", "deparser")?, "deparser")?;
            self.out.deparse.push(h);
        }
        Ok(())
    }

    /// Turns the labels inside selects and tables into places.
    fn resolve(&mut self, bodies: &HashMap<usize, Label>) -> Result<(), LoadError> {
        for s in &mut self.out.selects {
            s.default = self.b.at(Label(s.default))?;
            for (_, _, t) in &mut s.cases {
                *t = self.b.at(Label(*t))?;
            }
        }
        for (ix, ways) in self.table_ways.iter().enumerate() {
            let (key, _) = self.out.keys[ix].clone();
            let info = &self.out.tables[ix];
            let mut rt =
                TableRt { key, actions: Vec::new(), next_none: 0, meter: self.meter_targets.get(&ix).copied() };
            for (n, a) in info.actions.iter().enumerate() {
                let src = &self.actions[a.0];
                let mut action =
                    TableAction { code: 0, param_base: src.base, param_words: src.words, next_hit: 0, next_miss: 0 };
                // A table that no packet reaches has no way.
                if let (Some((ways, _)), Some(body)) = (ways, bodies.get(&a.0)) {
                    action.code = self.b.at(*body)?;
                    action.next_hit = self.b.at(ways[n].0)?;
                    action.next_miss = self.b.at(ways[n].1)?;
                }
                rt.actions.push(action);
            }
            if let Some((_, none)) = ways {
                rt.next_none = self.b.at(*none)?;
            }
            self.out.table_rt.push(rt);
        }
        Ok(())
    }
}
