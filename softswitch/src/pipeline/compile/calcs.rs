//! `calculations` and `checksums` of the JSON.

use super::super::calc::{Algo, Calc, Input};
use super::super::error::LoadError;
use super::super::json;
use super::super::layout::{MAX_WIDTH, Part};
use super::super::ops::{ChecksumOp, Op};
use super::Compiler;
use super::expr::parse_bool;
use num_bigint::Sign;
use serde_json::Value;

impl Compiler<'_> {
    pub(super) fn read_calculations(&mut self) -> Result<(), LoadError> {
        for c in json::list_or_empty(self.root, "calculations", "program")? {
            let name = json::text(c, "name", "calculation")?;
            let ctx = format!("calculation {name}");
            let algo = json::text(c, "algo", &ctx)?;
            let algo =
                Algo::by_name(algo).ok_or_else(|| LoadError::unsupported(format!("the algorithm {algo}"), &ctx))?;
            let (mut inputs, mut payload) = (Vec::new(), false);
            for i in json::list(c, "input", &ctx)? {
                match json::text(i, "type", &ctx)? {
                    "field" => {
                        let (h, f) = json::pair(json::get(i, "value", &ctx)?, &ctx)?;
                        match self.b.layout.varbit(h, f) {
                            Some(h) => {
                                let h = &self.b.layout.headers[h];
                                inputs.extend(h.varbit.map(|v| Input::Varbit(v, h.valid)));
                            }
                            None => inputs.push(Input::Field(self.b.layout.field(h, f, &ctx)?)),
                        }
                    }
                    "hexstr" => {
                        let width = json::number(i, "bitwidth", &ctx)?;
                        let value = json::big(json::get(i, "value", &ctx)?, &ctx)?;
                        if width == 0
                            || width > u64::from(MAX_WIDTH)
                            || value.sign() == Sign::Minus
                            || value.bits() > width
                        {
                            return Err(LoadError::invalid(format!("a constant that does not fit {width} bits"), &ctx));
                        }
                        // The first part has what is over whole words.
                        let mut left = width as u32;
                        while left > 0 {
                            let width = (left - 1) % 64 + 1;
                            left -= width;
                            let word = (&value >> left) % (1u128 << 64) % (1u128 << width);
                            inputs.push(Input::Const { value: u128::try_from(word).unwrap_or(0), width });
                        }
                    }
                    "header" => {
                        let h = self.b.layout.header(json::text(i, "value", &ctx)?, &ctx)?;
                        let h = &self.b.layout.headers[h];
                        for part in (0..).map_while(|n| h.numbered(n)) {
                            inputs.push(match part {
                                Part::Field(f) => Input::Field(f),
                                Part::Varbit(v) => Input::Varbit(v, h.valid),
                            });
                        }
                    }
                    "payload" => payload = true,
                    other => return Err(LoadError::unsupported(format!("an input of type {other}"), &ctx)),
                }
            }
            self.calc_names.insert(name.to_owned(), self.out.calcs.len());
            self.out.calc_names.push(name.to_owned());
            self.out.calcs.push(Calc::new(algo, inputs, payload));
        }
        Ok(())
    }

    /// Index of a calculation by name.
    pub(super) fn calculation(&self, name: &str, ctx: &str) -> Result<u16, LoadError> {
        let ix = self.calc_names.get(name).ok_or_else(|| LoadError::unknown("calculation", name, ctx))?;
        u16::try_from(*ix).map_err(|_| LoadError::unsupported("more than 65535 calculations", ctx))
    }

    /// Code that verifies (`verify`) or updates all checksums, in the order of the JSON.
    pub(super) fn gen_checksums(&mut self, verify: bool) -> Result<(), LoadError> {
        for c in json::list_or_empty(self.root, "checksums", "program")? {
            let name = json::text(c, "name", "checksum")?;
            self.b.ctx = format!("checksum {name}");
            let ctx = self.b.ctx.clone();
            if json::text(c, "type", &ctx)? != "generic" {
                return Err(LoadError::unsupported("a checksum of a type other than generic", &ctx));
            }
            // Without the flags of newer versions, a checksum is both verified and updated.
            let wanted = c.get(if verify { "verify" } else { "update" }).and_then(Value::as_bool).unwrap_or(true);
            if !wanted {
                continue;
            }
            let (h, f) = json::pair(json::get(c, "target", &ctx)?, &ctx)?;
            let target = self.b.layout.field(h, f, &ctx)?;
            let calc = self.calculation(json::text(c, "calculation", &ctx)?, &ctx)?;
            let skip = self.b.label();
            if verify && let Some(a) = target.valid {
                self.b.emit(Op::BrZ { a, t: skip.0 });
            }
            if let Some(cond) = c.get("if_cond").filter(|v| !v.is_null()) {
                let cond = parse_bool(cond, &self.scope(&[], &ctx))?;
                self.b.gen_branch(&cond, skip, false)?;
                self.b.release();
            }
            let ix = u16::try_from(self.out.checksums.len())
                .map_err(|_| LoadError::unsupported("more than 65535 checksums", &ctx))?;
            self.out.checksums.push(ChecksumOp { calc, target });
            self.b.emit(if verify { Op::VerifyChecksum { ix } } else { Op::UpdateChecksum { ix } });
            self.b.place(skip);
        }
        Ok(())
    }
}
