//! Header stacks and header unions: groups of headers that have slots and names of their own, too.
//!
//! A stack is a list of elements and a slot with the number of the next element that the parser fills. An element of a
//! stack of headers has one member, one of a stack of unions has the union's.

use super::error::LoadError;
use super::json;
use super::layout::{Field, Layout};
use serde_json::Value;
use std::collections::HashMap;

/// Most elements of a stack.
const MAX_ELEMENTS: usize = 512;

/// A stack of headers or unions.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    /// The headers of each element.
    pub elements: Vec<Box<[usize]>>,
    /// The number of the element that is extracted next.
    pub next: Field,
}

/// Names and numbers of stacks and unions, while a program is compiled.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(super) header_ids: HashMap<u64, usize>,
    stacks: HashMap<String, usize>,
    union_stacks: HashMap<String, usize>,
    unions: HashMap<String, Box<[usize]>>,
    /// Names of the members of a union type.
    members: HashMap<String, Vec<String>>,
    /// The union type of a stack of unions.
    union_types: HashMap<String, String>,
}

impl Layout {
    /// Reads `header_stacks`, `header_union_types`, `header_unions` and `header_union_stacks`.
    pub(super) fn read_groups(&mut self, root: &Value) -> Result<(), LoadError> {
        for s in json::list_or_empty(root, "header_stacks", "program")? {
            let name = json::text(s, "name", "header stack")?;
            let ctx = format!("header stack {name}");
            let headers = self.members_by_id(s, &ctx)?;
            let elements = headers.iter().map(|h| Box::from([*h])).collect();
            let ix = self.add_stack(elements, &ctx)?;
            self.groups.stacks.insert(name.to_owned(), ix);
        }
        for t in json::list_or_empty(root, "header_union_types", "program")? {
            let name = json::text(t, "name", "header union type")?;
            let ctx = format!("header union type {name}");
            let mut members = Vec::new();
            for m in json::list(t, "headers", &ctx)? {
                members.push(json::pair(m, &ctx)?.0.to_owned());
            }
            self.groups.members.insert(name.to_owned(), members);
        }
        let mut by_id = HashMap::new();
        for u in json::list_or_empty(root, "header_unions", "program")? {
            let name = json::text(u, "name", "header union")?;
            let ctx = format!("header union {name}");
            let members = self.members_by_id(u, &ctx)?;
            for h in &members {
                let others = members.iter().filter(|o| *o != h).map(|o| self.headers[*o].valid).collect();
                self.headers[*h].others = others;
            }
            let members = members.into_boxed_slice();
            by_id.insert(json::number(u, "id", &ctx)?, members.clone());
            self.groups.unions.insert(name.to_owned(), members);
        }
        for s in json::list_or_empty(root, "header_union_stacks", "program")? {
            let name = json::text(s, "name", "header union stack")?;
            let ctx = format!("header union stack {name}");
            let mut elements = Vec::new();
            for id in json::list(s, "header_union_ids", &ctx)? {
                let union = id.as_u64().and_then(|n| by_id.get(&n));
                elements.push(union.cloned().ok_or_else(|| LoadError::unknown("header union", id, &ctx))?);
            }
            let ix = self.add_stack(elements, &ctx)?;
            self.groups.union_stacks.insert(name.to_owned(), ix);
            self.groups.union_types.insert(name.to_owned(), json::text(s, "union_type", &ctx)?.to_owned());
        }
        Ok(())
    }

    fn members_by_id(&self, v: &Value, ctx: &str) -> Result<Vec<usize>, LoadError> {
        let ids = json::list(v, "header_ids", ctx)?.iter();
        ids.map(|id| {
            let h = id.as_u64().and_then(|n| self.groups.header_ids.get(&n));
            h.copied().ok_or_else(|| LoadError::unknown("header", id, ctx))
        })
        .collect()
    }

    fn add_stack(&mut self, elements: Vec<Box<[usize]>>, ctx: &str) -> Result<usize, LoadError> {
        let alike = elements.windows(2).all(|w| {
            let type_ids = |e: &[usize]| e.iter().map(|h| self.headers[*h].type_id).collect::<Vec<_>>();
            type_ids(&w[0]) == type_ids(&w[1])
        });
        if elements.is_empty() || elements.len() > MAX_ELEMENTS || !alike {
            let what = format!("its elements are not 1 to {MAX_ELEMENTS} of one type");
            return Err(LoadError::invalid(what, ctx));
        }
        let next = Field { slot: self.alloc(1, ctx)?, width: 32, signed: false, valid: None, bit_offset: 0 };
        self.stacks.push(Stack { elements, next });
        Ok(self.stacks.len() - 1)
    }

    /// The stack of headers of that name.
    pub(crate) fn header_stack(&self, name: &str, ctx: &str) -> Result<usize, LoadError> {
        self.groups.stacks.get(name).copied().ok_or_else(|| LoadError::unknown("header stack", name, ctx))
    }

    /// The stack of unions of that name.
    pub(crate) fn union_stack(&self, name: &str, ctx: &str) -> Result<usize, LoadError> {
        self.groups.union_stacks.get(name).copied().ok_or_else(|| LoadError::unknown("header union stack", name, ctx))
    }

    /// The headers of a union.
    pub(crate) fn header_union(&self, name: &str, ctx: &str) -> Result<&[usize], LoadError> {
        self.groups.unions.get(name).map(|u| &**u).ok_or_else(|| LoadError::unknown("header union", name, ctx))
    }

    /// The number of a member of the unions of a stack.
    pub(crate) fn union_member(&self, stack: &str, member: &str, ctx: &str) -> Result<usize, LoadError> {
        let members = self.groups.union_types.get(stack).and_then(|t| self.groups.members.get(t));
        let found = members.and_then(|m| m.iter().position(|n| n == member));
        found.ok_or_else(|| LoadError::unknown("member of the union", member, ctx))
    }

    /// The number of a field in its header type, where a varbit counts, too.
    pub(crate) fn field_number(&self, header: usize, field: &str, ctx: &str) -> Result<usize, LoadError> {
        let found = self.numbers.get(&(self.headers[header].type_id, field.to_owned())).copied();
        found.ok_or_else(|| LoadError::unknown("field", field, ctx))
    }
}
