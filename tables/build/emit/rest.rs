//! What is not a table: the types over all of them, packet headers, counters and meters, newtypes.

use std::fmt::Write;

use super::{DERIVES, Emitter};
use crate::Error;
use crate::p4info::{Array, Digest, Header, Param};
use crate::rules::{PADDING, camel};

impl Emitter<'_> {
    /// One type for an entry, or a key, of any table: a list of tables handed to the macro that defines them.
    pub fn any(&mut self) -> Result<(), Error> {
        writeln!(self.out, "crate::any::any_table! {{")?;
        for table in &self.info.tables {
            let name = &table.preamble.name;
            let camel = camel(name);
            writeln!(self.out, "    {camel}, {camel}Table, {camel}Key, {camel}Action, {name:?};")?;
        }
        writeln!(self.out, "}}\n")?;
        Ok(())
    }

    pub fn header(&mut self, header: &Header) -> Result<(), Error> {
        let name = &header.preamble.name;
        let camel = camel(name);
        let all = self.params(name, &header.fields)?;
        let (padding, fields): (Vec<_>, Vec<_>) = all.into_iter().partition(|f| f.name == PADDING);
        let out = &mut self.out;
        writeln!(
            out,
            "/// The header `{name}` between a frame and the controller.\n{DERIVES}\npub struct {camel}Header {{"
        )?;
        for f in &fields {
            writeln!(out, "    /// `{}`, {} bits.\n    pub {}: {},", f.name, f.bits, f.name, f.rust)?;
        }
        writeln!(out, "}}\n\nimpl {camel}Header {{")?;
        writeln!(out, "    /// As the metadata of a packet message: every field once (§16.1).")?;
        writeln!(out, "    pub fn encode(&self) -> Vec<crate::codec::PacketMetadata> {{\n        vec![")?;
        for f in &fields {
            writeln!(out, "            crate::codec::metadata({}, self.{}),", f.id, f.name)?;
        }
        for f in &padding {
            writeln!(out, "            crate::codec::metadata({}, 0u8),", f.id)?;
        }
        writeln!(out, "        ]\n    }}\n")?;
        writeln!(out, "    /// From the metadata of a packet message.")?;
        writeln!(
            out,
            "    pub fn decode(metadata: &[crate::codec::PacketMetadata]) -> Result<Self, crate::DecodeError> {{"
        )?;
        let ids: Vec<String> = fields.iter().chain(&padding).map(|f| f.id.to_string()).collect();
        writeln!(
            out,
            "        let read = crate::codec::MetadataReader::new({name:?}, metadata, &[{}])?;\n        Ok(Self {{",
            ids.join(", ")
        )?;
        for f in &fields {
            writeln!(out, "            {}: read.field({}, {:?}, {})?,", f.name, f.id, f.name, f.bits)?;
        }
        writeln!(out, "        }})\n    }}\n}}\n")?;
        writeln!(out, "#[cfg(test)]\nimpl crate::sample::Sample for {camel}Header {{")?;
        writeln!(out, "    fn sample(source: &mut crate::sample::Source) -> Self {{\n        Self {{")?;
        for f in &fields {
            writeln!(out, "            {}: source.value(),", f.name)?;
        }
        writeln!(out, "        }}\n    }}\n}}\n")?;
        Ok(())
    }

    /// A message of a digest; `a_name_t` in the P4 source is `ANameDigest` here.
    pub fn digest(&mut self, digest: &Digest) -> Result<(), Error> {
        let name = &digest.preamble.name;
        let camel = camel(name.strip_suffix("_t").unwrap_or(name));
        let params: Vec<_> = self
            .info
            .members(digest)?
            .into_iter()
            .zip(1..)
            .map(|((name, bits), id)| Param { id, name, annotations: Vec::new(), bits })
            .collect();
        let members = self.params(name, &params)?;
        self.widths.extend(members.iter().map(|m| (m.rust.clone(), m.bits)));
        let out = &mut self.out;
        writeln!(out, "/// A message of the digest `{name}`.\n{DERIVES}\npub struct {camel}Digest {{")?;
        for m in &members {
            writeln!(out, "    /// `{}`, {} bits.\n    pub {}: {},", m.name, m.bits, m.name, m.rust)?;
        }
        writeln!(out, "}}\n\nimpl {camel}Digest {{")?;
        writeln!(out, "    /// The digest, in the P4Info.\n    pub const ID: u32 = {:#010x};\n", digest.preamble.id)?;
        writeln!(out, "    /// From the data of one message of a digest list (§8.4.2).")?;
        writeln!(
            out,
            "    pub fn decode(data: &crate::codec::P4Data) -> Result<Self, crate::DecodeError> {{\n        \
             let read = crate::codec::MemberReader::new({name:?}, data, {})?;\n        Ok(Self {{",
            members.len()
        )?;
        for (m, at) in members.iter().zip(0..) {
            writeln!(out, "            {}: read.member({at}, {:?})?,", m.name, m.name)?;
        }
        writeln!(out, "        }})\n    }}\n}}\n")?;
        Ok(())
    }

    pub fn arrays(&mut self, module: &str, what: &str, arrays: &[Array]) -> Result<(), Error> {
        let out = &mut self.out;
        writeln!(out, "/// The {what} of the program.\npub mod {module} {{\n    use crate::Array;\n")?;
        for array in arrays {
            let p = &array.preamble;
            writeln!(out, "    /// `{}`.", p.name)?;
            writeln!(
                out,
                "    pub const {}: Array = Array {{ id: {:#010x}, name: {:?}, size: {} }};",
                p.alias.to_ascii_uppercase().replace('.', "_"),
                p.id,
                p.name,
                u64::try_from(array.size)?
            )?;
        }
        if module == "counters" {
            for direct in &self.info.direct_counters {
                let p = &direct.preamble;
                writeln!(out, "    /// `{}`, in each entry of table {:#010x}: its id.", p.name, direct.table)?;
                writeln!(out, "    pub const {}: u32 = {:#010x};", p.alias.to_ascii_uppercase(), p.id)?;
            }
        }
        writeln!(out, "}}\n")?;
        Ok(())
    }

    pub fn newtypes(&mut self) -> Result<(), Error> {
        for (name, (bits, target)) in &self.newtypes {
            if !matches!(bits, 8 | 16 | 32 | 64) {
                return Err(format!(
                    "{name} would be {bits} bits wide, which no integer type is: name a type in tables/build/rules.rs"
                )
                .into());
            }
            writeln!(
                self.out,
                "crate::value::newtype! {{\n    /// What `{}` of the table `{}` is, there and wherever something refers to it.\n    \
                 {name}(u{bits})\n}}\n",
                target.field, target.table
            )?;
        }
        Ok(())
    }
}
