//! How a parser state goes on: `transition_key` and `transitions`.

use super::super::error::LoadError;
use super::super::json;
use super::super::layout::{Field, words};
use super::super::ops::{Op, Select, SelectFrom, SelectPart};
use super::super::tree::{Bin, Expr, Rel};
use super::Compiler;
use super::builder::Label;
use super::expr::parse_number;
use super::genexpr::Need;
use num_bigint::{BigInt, BigUint};
use serde_json::Value;

/// A case of a select, in order.
enum Case {
    /// A value under a mask.
    Value(BigUint, Option<BigUint>, Label),
    /// Any member of a value set.
    Set(usize, Label),
}

/// A part of the key and its width.
struct Part {
    from: Expr,
    width: u32,
}

impl Part {
    /// BMv2 pads each part to whole bytes.
    fn padded(&self) -> u32 {
        self.width.div_ceil(8) * 8
    }
}

impl Compiler<'_> {
    pub(super) fn gen_transition(
        &mut self,
        s: &Value,
        find: &impl Fn(&Value, &str) -> Result<Label, LoadError>,
        ctx: &str,
    ) -> Result<(), LoadError> {
        let mut parts = Vec::new();
        for k in json::list_or_empty(s, "transition_key", ctx)? {
            let from = parse_number(k, &self.scope(&[], ctx))?;
            let width = match &from {
                Expr::Field(f) => f.width,
                Expr::At { ty, .. } => ty.bits + u32::from(ty.neg),
                Expr::Lookahead { width, .. } => *width,
                _ => return Err(LoadError::unsupported(format!("a select on {k}"), ctx)),
            };
            parts.push(Part { from, width });
        }
        let (mut cases, mut default) = (Vec::new(), self.end);
        for t in json::list(s, "transitions", ctx)? {
            let next = find(json::get(t, "next_state", ctx)?, ctx)?;
            let mask = t.get("mask").filter(|m| !m.is_null());
            let number = |v: &Value| -> Result<BigUint, LoadError> {
                json::big(v, ctx)?.try_into().map_err(|_| LoadError::invalid("a negative value of a transition", ctx))
            };
            match t.get("type").and_then(Value::as_str).unwrap_or("hexstr") {
                "default" => default = next,
                // Older versions write the default as a value of its own.
                "hexstr" if json::get(t, "value", ctx)?.as_str() == Some("default") => default = next,
                "hexstr" => {
                    let value = number(json::get(t, "value", ctx)?)?;
                    cases.push(Case::Value(value, mask.map(number).transpose()?, next));
                }
                "parse_vset" => {
                    let name = json::text(t, "value", ctx)?;
                    let set = *self.vset_names.get(name).ok_or_else(|| LoadError::unknown("value set", name, ctx))?;
                    if mask.is_some() {
                        return Err(LoadError::unsupported(format!("a mask over the value set {name}"), ctx));
                    }
                    self.shape_vset(set, &parts, ctx)?;
                    cases.push(Case::Set(set, next));
                }
                other => return Err(LoadError::unsupported(format!("a transition of type {other}"), ctx)),
            }
        }
        if parts.is_empty() {
            // A state without a key takes its default, whatever cases it has.
            self.b.emit(Op::Jmp { t: default.0 });
            return Ok(());
        }
        let bits: u32 = parts.iter().map(Part::padded).sum();
        if bits <= 128 && cases.iter().all(|c| matches!(c, Case::Value(..))) {
            self.gen_select(&parts, cases, default)
        } else {
            self.gen_chain(parts, cases, default)
        }
    }

    /// One instruction that compares the whole key.
    fn gen_select(&mut self, parts: &[Part], cases: Vec<Case>, default: Label) -> Result<(), LoadError> {
        let mut select = Select { parts: Vec::new(), cases: Vec::new(), default: default.0, narrow: None };
        for p in parts {
            let from = match &p.from {
                Expr::Field(f) => SelectFrom::Slot { slot: f.slot, width: p.width },
                Expr::Lookahead { bit_offset, width } => {
                    SelectFrom::Lookahead { bit_offset: *bit_offset, width: *width }
                }
                _ => SelectFrom::Slot { slot: self.keep(p)?.slot, width: p.width },
            };
            select.parts.push(SelectPart { from, bits: p.padded() });
        }
        for c in cases {
            if let Case::Value(value, mask, to) = c {
                // A case that wants a bit beyond the key never matches.
                let Ok(value) = u128::try_from(value) else { continue };
                let mask = mask.map_or(u128::MAX, |m| u128::try_from(m).unwrap_or(u128::MAX));
                select.cases.push((value & mask, mask, to.0));
            }
        }
        let ix = u32::from(self.index(self.out.selects.len(), "selects")?);
        self.out.selects.push(select);
        self.b.emit(Op::Select { ix });
        self.b.release();
        Ok(())
    }

    /// The part's value in slots of its own.
    fn keep(&mut self, p: &Part) -> Result<Field, LoadError> {
        let v = self.b.gen_value(&p.from, Need::Low(p.width))?;
        Ok(Field { slot: v.slot, width: p.width, signed: false, valid: None, bit_offset: 0 })
    }

    /// One comparison after the other.
    fn gen_chain(&mut self, mut parts: Vec<Part>, cases: Vec<Case>, default: Label) -> Result<(), LoadError> {
        for p in &mut parts {
            if words(p.width) <= 2 && !matches!(p.from, Expr::Field(_)) {
                p.from = Expr::Field(self.keep(p)?);
            }
        }
        for c in cases {
            match c {
                Case::Value(value, mask, to) => {
                    if let Some(cond) = matches(&parts, &value, mask.as_ref()) {
                        self.b.gen_branch(&cond, to, true)?;
                    }
                }
                Case::Set(set, to) => {
                    let parts = parts.iter().map(|p| p.from.clone()).collect();
                    self.b.gen_branch(&Expr::Member(set, parts), to, true)?;
                }
            }
        }
        self.b.emit(Op::Jmp { t: default.0 });
        self.b.release();
        Ok(())
    }

    /// The members of a value set look like the key that it is compared with.
    fn shape_vset(&mut self, set: usize, parts: &[Part], ctx: &str) -> Result<(), LoadError> {
        let widths: Vec<u32> = parts.iter().map(|p| p.width).collect();
        let info = &mut self.out.value_sets[set];
        if self.shaped.contains(&set) && info.widths != widths {
            return Err(LoadError::unsupported(format!("the value set {} over keys that differ", info.name), ctx));
        }
        if widths.iter().sum::<u32>() != info.widths.iter().sum::<u32>() {
            return Err(LoadError::invalid(format!("the value set {} over a key of another width", info.name), ctx));
        }
        info.widths = widths;
        self.shaped.insert(set);
        Ok(())
    }
}

/// The condition that the key is this value under the mask; `None` if it cannot be.
fn matches(parts: &[Part], value: &BigUint, mask: Option<&BigUint>) -> Option<Expr> {
    let mut left: u32 = parts.iter().map(Part::padded).sum();
    if value.bits() > u64::from(left) {
        return None;
    }
    let mut all = Expr::Bool(true);
    for p in parts {
        left -= p.padded();
        let ones = (BigUint::from(1u8) << p.padded()) - 1u8;
        let mask = mask.map_or_else(|| ones.clone(), |m| (m >> left) & &ones);
        let value = (value >> left) & &mask;
        if value.bits() > u64::from(p.width) {
            return None;
        }
        let whole = (BigUint::from(1u8) << p.width) - 1u8;
        let mask = mask & &whole;
        if mask == BigUint::ZERO {
            continue;
        }
        // A signed field is compared as the bits that it has.
        let key = if mask == whole && !p.from.ty().neg {
            p.from.clone()
        } else {
            Expr::Bin(Bin::And, Box::new(p.from.clone()), Box::new(super::expr::constant(BigInt::from(mask))))
        };
        let value = super::expr::constant(BigInt::from(value));
        all = Expr::AndAlso(Box::new(all), Box::new(Expr::Rel(Rel::Eq, Box::new(key), Box::new(value))));
    }
    Some(all)
}
