//! Pipelines: tables and conditionals become blocks of code, one after the other along the way a packet takes.

use super::super::entry::pieces;
use super::super::error::LoadError;
use super::super::json;
use super::super::layout::words;
use super::super::marks::Marking;
use super::super::ops::Op;
use super::Compiler;
use super::builder::Label;
use super::expr::parse_bool;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Nodes of one pipeline.
struct Nodes<'a> {
    kinds: HashMap<&'a str, (Node<'a>, Label)>,
}

#[derive(Clone, Copy)]
enum Node<'a> {
    Table(&'a Value),
    Conditional(&'a Value),
    ActionCall(&'a Value),
}

impl<'a> Nodes<'a> {
    fn find(&self, v: Option<&Value>, end: Label, ctx: &str) -> Result<Label, LoadError> {
        match v {
            None | Some(Value::Null) => Ok(end),
            Some(v) => {
                let name = json::as_text(v, "next node", ctx)?;
                self.kinds
                    .get(name)
                    .map(|(_, l)| *l)
                    .ok_or_else(|| LoadError::unknown("table or conditional", name, ctx))
            }
        }
    }
}

impl<'a> Compiler<'a> {
    /// The pipeline of this name.
    pub(super) fn pipeline(&self, name: &str) -> Result<Option<&'a Value>, LoadError> {
        let all = json::list(self.root, "pipelines", "program")?;
        Ok(all.iter().find(|p| p.get("name").and_then(Value::as_str) == Some(name)))
    }

    /// Code of the pipeline of this name. Without one, packets pass.
    pub(super) fn gen_pipeline(&mut self, name: &str) -> Result<(), LoadError> {
        let Some(pipeline) = self.pipeline(name)? else {
            self.b.emit(Op::Jmp { t: self.end.0 });
            return Ok(());
        };
        let ctx = format!("pipeline {name}");
        let mut nodes = Nodes { kinds: HashMap::new() };
        type Make<'v> = fn(&'v Value) -> Node<'v>;
        let lists: [(&str, Make<'a>); 3] =
            [("tables", Node::Table), ("conditionals", Node::Conditional), ("action_calls", Node::ActionCall)];
        for (list, make) in lists {
            for v in json::list_or_empty(pipeline, list, &ctx)? {
                let label = self.b.label();
                if nodes.kinds.insert(json::text(v, "name", &ctx)?, (make(v), label)).is_some() {
                    return Err(LoadError::invalid(
                        format!("two nodes are named {}", json::text(v, "name", &ctx)?),
                        &ctx,
                    ));
                }
            }
        }
        check_acyclic(pipeline, &ctx)?;
        let init = pipeline.get("init_table");
        let start = nodes.find(init, self.end, &ctx)?;
        self.b.emit(Op::Jmp { t: start.0 });
        let mut todo: Vec<String> = init.and_then(Value::as_str).map(str::to_owned).into_iter().collect();
        let mut done = HashSet::new();
        while let Some(name) = todo.pop() {
            let Some((node, label)) = nodes.kinds.get(name.as_str()).copied() else { continue };
            if !done.insert(name.clone()) {
                continue;
            }
            self.b.place(label);
            let nexts = match node {
                Node::Table(t) => self.gen_table(&name, t, &nodes)?,
                Node::Conditional(c) => self.gen_conditional(&name, c, &nodes)?,
                Node::ActionCall(a) => self.gen_call(&name, a, &nodes)?,
            };
            // The last one is generated next, so its predecessor's jump is to the next instruction.
            todo.extend(nexts.into_iter().flatten());
        }
        Ok(())
    }

    fn gen_conditional(&mut self, name: &str, c: &Value, nodes: &Nodes<'_>) -> Result<Vec<Option<String>>, LoadError> {
        self.b.ctx = format!("conditional {name}");
        let ctx = self.b.ctx.clone();
        let cond = parse_bool(json::get(c, "expression", &ctx)?, &self.scope(&[], &ctx))?;
        let yes = nodes.find(c.get("true_next"), self.end, &ctx)?;
        let no = nodes.find(c.get("false_next"), self.end, &ctx)?;
        let (yes, no) = self.mark_branch(name, c, yes, no);
        self.b.gen_branch(&cond, no, false)?;
        self.b.release();
        self.b.emit(Op::Jmp { t: yes.0 });
        Ok(vec![string(c.get("false_next")), string(c.get("true_next"))])
    }

    fn gen_call(&mut self, name: &str, a: &Value, nodes: &Nodes<'_>) -> Result<Vec<Option<String>>, LoadError> {
        let ctx = format!("action call {name}");
        let action = self.action_by_id(json::number(a, "action_id", &ctx)?, &ctx)?;
        if !self.actions[action].params.is_empty() {
            return Err(LoadError::invalid("an action that needs arguments", &ctx));
        }
        let next = nodes.find(a.get("next_node"), self.end, &ctx)?;
        self.gen_body(action)?;
        self.b.emit(Op::Jmp { t: next.0 });
        Ok(vec![string(a.get("next_node"))])
    }

    fn gen_table(&mut self, name: &str, t: &'a Value, nodes: &Nodes<'_>) -> Result<Vec<Option<String>>, LoadError> {
        let ctx = format!("table {name}");
        let ix = *self.table_names.get(name).ok_or_else(|| LoadError::unknown("table", name, &ctx))?;
        let next = json::get(t, "next_tables", &ctx)?;
        let by_action = |action: &str, hit: bool| -> Option<&Value> {
            let key = if hit { "__HIT__" } else { "__MISS__" };
            next.get(key).or_else(|| next.get(action))
        };
        let none = next.get("__MISS__").or_else(|| t.get("base_default_next"));
        let mut nexts: Vec<Option<String>> = Vec::new();
        if let Some(n) = next.as_object() {
            nexts.extend(n.values().map(|v| string(Some(v))));
        }
        nexts.push(string(t.get("base_default_next")));

        if let Some((action, args)) = self.inline_action(ix) {
            // p4c wraps statements between tables into tables without a key: no lookup is needed for those.
            let name = self.out.actions[action].name.clone();
            let target = nodes.find(by_action(&name, false), self.end, &ctx)?;
            self.mark_part(|| format!("statement {name}"));
            let params = self.actions[action].params.clone();
            let mut args = args.into_iter();
            for (slot, width) in params {
                let mut below = width;
                for (width, value) in pieces(width).zip(&mut args) {
                    below -= width;
                    let d = slot + words(below);
                    if width > 64 {
                        let a = self.b.wide_constant(value)?;
                        self.b.emit(Op::WMov { d, a, w: 128 });
                    } else {
                        let a = self.b.constant(value as u64)?;
                        self.b.emit(Op::Mov { d, a, w: 64 });
                    }
                }
            }
            self.gen_body(action)?;
            self.b.emit(Op::Jmp { t: target.0 });
            return Ok(nexts);
        }

        let none = nodes.find(none, self.end, &ctx)?;
        let indirect = self.out.tables[ix].profile.is_some();
        self.mark_key(ix);
        {
            let t = self.index(ix, "tables")?;
            let ways = u32::from(t);
            self.b.emit(if indirect { Op::ApplyVia { t, ways } } else { Op::Apply { t, ways } });
        }
        let actions: Vec<usize> = self.out.tables[ix].actions.iter().map(|a| a.0).collect();
        let mut ways = Vec::new();
        for action in actions {
            // Every table has its own copy of an action's code, so that it goes straight on to the next node.
            let name = self.out.actions[action].name.clone();
            let hit = nodes.find(by_action(&name, true), self.end, &ctx)?;
            let miss = nodes.find(by_action(&name, false), self.end, &ctx)?;
            let after_hit = self.gen_copy(ix, true, action, hit)?;
            // A program that tells hits from misses needs both.
            let same = miss == hit && self.out.target.marking == Marking::None;
            ways.push((after_hit, if same { after_hit } else { self.gen_copy(ix, false, action, miss)? }));
        }
        let none = self.marked_none(ix, none)?;
        if indirect {
            let hit = next.get("__HIT__").or_else(|| t.get("base_default_next"));
            ways.push((nodes.find(hit, self.end, &ctx)?, none));
        }
        self.table_ways[ix] = Some((ways, none));
        Ok(nexts)
    }

    /// Code of an action that goes on at `next`.
    fn gen_copy(&mut self, table: usize, hit: bool, action: usize, next: Label) -> Result<Label, LoadError> {
        let label = self.b.label();
        self.b.place(label);
        self.mark_way(table, hit, Some(action));
        self.gen_body(action)?;
        self.b.emit(Op::Jmp { t: next.0 });
        Ok(label)
    }
}

fn string(v: Option<&Value>) -> Option<String> {
    v.and_then(Value::as_str).map(str::to_owned)
}

/// A pipeline that can come back to a node would let one packet run forever.
fn check_acyclic(pipeline: &Value, ctx: &str) -> Result<(), LoadError> {
    let mut edges: HashMap<&str, Vec<&str>> = HashMap::new();
    for list in ["tables", "conditionals", "action_calls"] {
        for v in json::list_or_empty(pipeline, list, ctx)? {
            let mut to: Vec<&str> = Vec::new();
            for key in ["true_next", "false_next", "base_default_next", "next_node"] {
                to.extend(v.get(key).and_then(Value::as_str));
            }
            if let Some(n) = v.get("next_tables").and_then(Value::as_object) {
                to.extend(n.values().filter_map(Value::as_str));
            }
            edges.insert(json::text(v, "name", ctx)?, to);
        }
    }
    if acyclic(&edges) { Ok(()) } else { Err(LoadError::invalid("a loop of tables and conditionals", ctx)) }
}

/// No way leads back to where it came from. Edges to unknown nodes are ignored.
pub(super) fn acyclic(edges: &HashMap<&str, Vec<&str>>) -> bool {
    // Remove nodes without predecessors until none is left.
    let mut incoming: HashMap<&str, usize> = edges.keys().map(|n| (*n, 0)).collect();
    for to in edges.values().flatten() {
        if let Some(n) = incoming.get_mut(to) {
            *n += 1;
        }
    }
    let mut free: Vec<&str> = incoming.iter().filter(|(_, n)| **n == 0).map(|(k, _)| *k).collect();
    let mut removed = 0;
    while let Some(n) = free.pop() {
        removed += 1;
        for to in edges.get(n).into_iter().flatten() {
            if let Some(left) = incoming.get_mut(to) {
                *left -= 1;
                if *left == 0 {
                    free.push(to);
                }
            }
        }
    }
    removed == edges.len()
}
