//! `calculations` and `checksums` of the JSON.

use super::super::calc::{Algo, Calc, Input};
use super::super::error::LoadError;
use super::super::json;
use super::super::ops::{ChecksumOp, Op};
use super::Compiler;
use super::expr::{Scope, parse_bool};
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
                if payload {
                    return Err(LoadError::unsupported("an input after the payload", &ctx));
                }
                match json::text(i, "type", &ctx)? {
                    "field" => {
                        let (h, f) = json::pair(json::get(i, "value", &ctx)?, &ctx)?;
                        inputs.push(Input::Field(self.b.layout.field(h, f, &ctx)?));
                    }
                    "hexstr" => {
                        let width = json::number(i, "bitwidth", &ctx)?;
                        if width == 0 || width > 128 {
                            return Err(LoadError::unsupported(format!("a constant of {width} bits"), &ctx));
                        }
                        let value = json::unsigned(json::get(i, "value", &ctx)?, &ctx)?;
                        if width < 128 && value >> width != 0 {
                            return Err(LoadError::invalid("a constant wider than its bitwidth", &ctx));
                        }
                        inputs.push(Input::Const { value, width: width as u32 });
                    }
                    "header" => {
                        let h = self.b.layout.header(json::text(i, "value", &ctx)?, &ctx)?;
                        inputs.extend(self.b.layout.headers[h].fields.iter().map(|f| Input::Field(*f)));
                    }
                    "payload" => payload = true,
                    other => return Err(LoadError::unsupported(format!("an input of type {other}"), &ctx)),
                }
            }
            self.calc_names.insert(name.to_owned(), self.out.calcs.len());
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
            if target.wide() {
                return Err(LoadError::unsupported("a checksum wider than 64 bits", &ctx));
            }
            let calc = self.calculation(json::text(c, "calculation", &ctx)?, &ctx)?;
            let skip = self.b.label();
            if verify && let Some(a) = target.valid {
                self.b.emit(Op::BrZ { a, t: skip.0 });
            }
            if let Some(cond) = c.get("if_cond").filter(|v| !v.is_null()) {
                let cond = parse_bool(cond, &Scope { layout: &self.b.layout, params: &[], ctx: &ctx })?;
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
