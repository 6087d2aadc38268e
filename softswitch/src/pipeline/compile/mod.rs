//! The compiler: BMv2 JSON in, [`Program`] out.
//!
//! ```text
//!   layout (headers → slots) → calculations, actions, tables, arrays → parser, checks, ingress, egress, updates → code
//! ```

mod actions;
mod builder;
mod calcs;
mod check;
mod control;
pub(crate) mod copies;
mod expr;
mod genbool;
mod genexpr;
mod headers;
mod marks;
mod optimize;
mod parser;
mod primitives;
mod profiles;
mod refs;
mod select;
mod tables;
mod wire;

use super::error::LoadError;
use super::layout::{Field, Layout, Slot};
use super::ops::{NarrowSelect, Op, Select, SelectFrom, TableAction, TableRt, Ways};
use super::program::{Program, StdMeta};
use super::target::Target;
use super::tree::{Place, Slow};
use actions::ActionSrc;
use builder::{Builder, Label};
use expr::Scope;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
pub(crate) use tables::ones;

/// Largest JSON that is accepted.
const MAX_JSON_BYTES: usize = 64 << 20;

/// Where a table leads: the code (after a hit, after a miss) by action, and what follows a miss without an action.
type Leads = (Vec<(Label, Label)>, Label);

struct Compiler<'a> {
    root: &'a Value,
    b: Builder,
    out: Program,
    actions: Vec<ActionSrc<'a>>,
    action_ids: HashMap<u32, usize>,
    calc_names: HashMap<String, usize>,
    counter_names: HashMap<String, usize>,
    meter_names: HashMap<String, usize>,
    register_names: HashMap<String, (u16, u32)>,
    field_list_ids: HashMap<u64, usize>,
    learn_list_ids: HashMap<u64, usize>,
    table_names: HashMap<String, usize>,
    vset_names: HashMap<String, usize>,
    /// Value sets whose members are known to look like the key of a select.
    shaped: HashSet<usize>,
    profile_names: HashMap<String, usize>,
    /// The calculation of each profile that is a selector.
    profile_hashes: Vec<Option<u16>>,
    meter_targets: HashMap<usize, (Slot, u8)>,
    table_ways: Vec<Option<Leads>>,
    /// Where the block leads that is being generated: parser, then ingress, then egress.
    end: Label,
    /// 1 once the program has called `exit`.
    exit_slot: Slot,
}

/// Compiles a BMv2 JSON.
pub(super) fn compile(json: &[u8], optimize: bool, target: Target) -> Result<Arc<Program>, LoadError> {
    if json.len() > MAX_JSON_BYTES {
        return Err(LoadError::Json(format!("{} bytes; at most {MAX_JSON_BYTES} are read", json.len())));
    }
    let root: Value = serde_json::from_slice(json).map_err(|e| LoadError::Json(e.to_string()))?;
    let mut layout = Layout::read(&root)?;
    let error_slot = layout.alloc(1, "program")?;
    let checksum_slot = layout.alloc(1, "program")?;
    let loop_slot = layout.alloc(1, "program")?;
    let asked = copies::asked(&root, &mut || layout.alloc(1, "program"))?;
    let field_slots = layout.slots;
    let mut b = Builder::new(layout);
    let end = b.label();
    let exit_slot = b.layout.alloc(1, "program")?;
    let mut c = Compiler {
        root: &root,
        b,
        out: Program {
            target,
            field_slots,
            exit_slot,
            error_slot,
            checksum_slot,
            loop_slot,
            asked,
            ..Program::default()
        },
        actions: Vec::new(),
        action_ids: HashMap::new(),
        calc_names: HashMap::new(),
        counter_names: HashMap::new(),
        meter_names: HashMap::new(),
        register_names: HashMap::new(),
        field_list_ids: HashMap::new(),
        learn_list_ids: HashMap::new(),
        table_names: HashMap::new(),
        vset_names: HashMap::new(),
        shaped: HashSet::new(),
        profile_names: HashMap::new(),
        profile_hashes: Vec::new(),
        meter_targets: HashMap::new(),
        table_ways: Vec::new(),
        end,
        exit_slot,
    };
    c.read_std_meta()?;
    c.read_errors()?;
    c.read_value_sets()?;
    c.read_calculations()?;
    c.read_lists()?;
    c.read_actions()?;
    c.read_tables()?;
    c.generate()?;
    let mut out = c.out;
    if optimize {
        optimize::optimize(&mut out);
        wire::plan(&mut out);
    }
    check::check(&out)?;
    if optimize {
        out.native = super::native::Native::of(&out);
    }
    Ok(Arc::new(out))
}

impl Compiler<'_> {
    /// What names mean in an expression of an object of the JSON.
    fn scope<'s>(&'s self, params: &'s [(Slot, u32)], ctx: &'s str) -> Scope<'s> {
        Scope { layout: &self.b.layout, params, registers: &self.register_names, ctx }
    }

    fn read_std_meta(&mut self) -> Result<(), LoadError> {
        let l = &self.b.layout;
        let need = |f: &str| -> Result<Field, LoadError> {
            let field = l.field("standard_metadata", f, "program (is it for v1model?)")?;
            // The machine sets and reads these as words.
            let wide = || LoadError::unsupported(format!("a {f} of more than 64 bits"), "standard_metadata");
            if field.wide() { Err(wide()) } else { Ok(field) }
        };
        let narrow = |f: Option<Field>| f.filter(|f| !f.wide());
        let std = |f: &str| narrow(l.find("standard_metadata", f));
        let intrinsic = |f: &str| narrow(l.find("intrinsic_metadata", f));
        let queueing = |f: &str| narrow(l.find("queueing_metadata", f));
        let queue = ["enq_timestamp", "enq_qdepth", "deq_timedelta", "deq_qdepth"].map(queueing);
        // BMv2 sets all of them or none.
        let [enq_timestamp, enq_qdepth, deq_timedelta, deq_qdepth] =
            if queue.iter().all(Option::is_some) { queue } else { [None; 4] };
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
            egress_rid: intrinsic("egress_rid"),
            instance_type: std("instance_type"),
            priority: intrinsic("priority"),
            qid: queueing("qid"),
            enq_timestamp,
            enq_qdepth,
            deq_timedelta,
            deq_qdepth,
        };
        Ok(())
    }

    fn generate(&mut self) -> Result<(), LoadError> {
        let [start, parsed, routed, egress, leaving, cloned] = std::array::from_fn(|_| self.b.label());
        self.b.place(start);
        self.end = parsed;
        self.gen_parser()?;
        self.b.place(parsed);
        self.mark_part(|| "parser done; checksums are verified".to_owned());
        self.gen_after_parser(cloned);
        self.gen_checksums(true)?;
        self.b.emit(Op::ToIngress);
        self.end = routed;
        self.mark_part(|| "ingress".to_owned());
        self.gen_pipeline("ingress")?;
        self.b.place(routed);
        self.gen_after_ingress(egress)?;
        self.b.place(egress);
        self.b.egress_ts = self.out.std.egress_ts.map(|f| f.slot);
        self.end = leaving;
        self.mark_part(|| "egress".to_owned());
        self.gen_pipeline("egress")?;
        self.b.place(leaving);
        self.gen_after_egress(egress)?;
        self.b.emit(Op::Leave);
        self.mark_part(|| "checksums are updated".to_owned());
        self.gen_checksums(false)?;
        self.mark_part(|| "deparser".to_owned());
        self.gen_deparser()?;
        self.gen_end(egress, cloned)?;
        self.out.consts = self.b.finish()?;
        self.resolve()?;
        self.name_slots();
        self.out.start = self.b.at(start)?;
        (self.out.restart, self.out.reparse) = (self.out.start, self.out.start);
        self.out.code = std::mem::take(&mut self.b.code);
        self.out.slots = self.b.layout.slots;
        self.out.headers = std::mem::take(&mut self.b.layout.headers);
        self.out.stacks = std::mem::take(&mut self.b.layout.stacks);
        self.out.slow = std::mem::take(&mut self.b.slow);
        self.out.shared_registers = shared_registers(&self.out);
        Ok(())
    }

    /// Code of the deparser's primitives, and the order of the headers.
    fn gen_deparser(&mut self) -> Result<(), LoadError> {
        use super::json;
        let all = json::list(self.root, "deparsers", "program")?;
        let d = all.iter().find(|d| d.get("name").and_then(Value::as_str) == Some("deparser"));
        let d = d.ok_or_else(|| LoadError::unknown("deparser", "deparser", "program"))?;
        for p in json::list_or_empty(d, "primitives", "deparser")? {
            self.gen_primitive(p, &[], "deparser")?;
            self.b.release();
        }
        for h in json::list(d, "order", "deparser")? {
            let h = self.b.layout.header(json::as_text(h, "header", "deparser")?, "deparser")?;
            self.out.deparse.push(h);
        }
        Ok(())
    }

    /// Turns the labels inside selects and tables into places.
    fn resolve(&mut self) -> Result<(), LoadError> {
        for s in &mut self.out.selects {
            s.default = self.b.at(Label(s.default))?;
            for (_, _, t) in &mut s.cases {
                *t = self.b.at(Label(*t))?;
            }
            s.narrow = narrow(s);
        }
        for (ix, ways) in self.table_ways.iter().enumerate() {
            let (key, _) = self.out.keys[ix].clone();
            let info = &self.out.tables[ix];
            let actions = info.actions.iter().map(|a| {
                let src = &self.actions[a.0];
                TableAction { param_base: src.base, param_words: src.words }
            });
            let meter = self.meter_targets.get(&ix).copied();
            let mut actions: Vec<TableAction> = actions.collect();
            let via = self.via(info, actions.len());
            if via.is_some() {
                actions.push(TableAction { param_base: 0, param_words: 0 });
            }
            let rt = TableRt { key, actions, meter, via };
            // A table that no packet reaches has no way.
            let mut to = Ways { actions: vec![(0, 0); rt.actions.len()].into_boxed_slice(), none: 0 };
            if let Some((ways, none)) = ways {
                for (to, (hit, miss)) in to.actions.iter_mut().zip(ways) {
                    *to = (self.b.at(*hit)?, self.b.at(*miss)?);
                }
                to.none = self.b.at(*none)?;
            }
            self.out.ways.push(to);
            self.out.table_rt.push(rt);
        }
        Ok(())
    }
}

/// The form for keys of at most 64 bits.
fn narrow(s: &Select) -> Option<NarrowSelect> {
    let mut left: u32 = s.parts.iter().map(|p| p.bits).sum();
    if left > 64 {
        return None;
    }
    let mut parts = Vec::new();
    for p in &s.parts {
        left -= p.bits;
        match p.from {
            SelectFrom::Slot { slot, width } => parts.push((slot, ones(width) as u64, left as u8)),
            SelectFrom::Lookahead { .. } => return None,
        }
    }
    // A case that wants a bit beyond the key never matches.
    let cases = s.cases.iter().filter(|(value, _, _)| value >> 64 == 0);
    let cases = cases.map(|(value, mask, t)| (*value as u64, *mask as u64, *t)).collect();
    Some(NarrowSelect { parts: parts.into_boxed_slice(), cases })
}

/// For each register, whether packets both read and write it.
fn shared_registers(p: &Program) -> Box<[bool]> {
    let mut touched = vec![[false; 2]; p.registers.len()];
    let mut touch = |reg: u16, write: bool| touched[usize::from(reg)][usize::from(write)] = true;
    for op in &p.code {
        match op {
            Op::RegRead { reg, .. } => touch(*reg, false),
            Op::RegWrite { reg, .. } => touch(*reg, true),
            _ => {}
        }
    }
    for slow in &p.slow {
        match slow {
            Slow::RegRead { reg, .. } => touch(*reg, false),
            Slow::Assign { to: Place::Register { reg, .. }, .. } => touch(*reg, true),
            _ => {}
        }
    }
    touched.into_iter().map(|t| t == [true; 2]).collect()
}
