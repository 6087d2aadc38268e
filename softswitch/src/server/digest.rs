//! Digests: specification 1.4, section 9.8.

use dmux_p4rt::bytestring;
use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::config::v1::p4_data_type_spec::TypeSpec;
use dmux_p4rt::p4::config::v1::{p4_bitstring_like_type_spec, p4_new_type_spec, p4_new_type_translation};
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::p4_data::Data;
use dmux_p4rt::p4::v1::update::Type;
use tonic::Code;

use super::config::ForwardingPipeline;
use super::error::Refused;
use crate::pipeline::Program;
use crate::pipeline::digest::{DigestConfig, DigestList};

/// How deep the type of a digest may be nested.
const MAX_DEPTH: usize = 16;

/// How a sample's bytes are read as the digest's type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// A bit string of so many bits.
    Bits(u32),
    Bool,
    /// A serializable enum over so many bits.
    EnumValue(u32),
    /// An enum whose members the compiler numbers.
    Enum(Vec<String>),
    Error(Vec<String>),
    /// A header, with the bits of its fields.
    Header(Vec<u32>),
    Tuple(Vec<Shape>),
    Struct(Vec<Shape>),
}

/// p4c gives an enum without an underlying type so many bits, and an error, too.
const ENUM_BITS: u32 = 32;

/// A digest as P4Info and program have it.
#[derive(Clone, Debug)]
pub struct DigestBinding {
    /// Its P4Info id.
    pub id: u32,
    /// Its name.
    pub name: String,
    shape: Shape,
}

impl DigestBinding {
    /// Ties a P4Info's digest to the program's learn lists of the same name.
    ///
    /// # Errors
    /// A type that cannot be sent, or one that is not that of the program.
    pub(crate) fn new(
        digest: &info::Digest,
        types: Option<&info::P4TypeInfo>,
        program: &Program,
    ) -> Result<Self, Refused> {
        let Some(preamble) = digest.preamble.as_ref().filter(|p| p.id != 0 && !p.name.is_empty()) else {
            return Err(Refused::invalid("the P4Info has a digest without id or name"));
        };
        let (id, name) = (preamble.id, preamble.name.clone());
        let shape = shape(digest.type_spec.as_ref(), types, 0)
            .map_err(|what| Refused::unimplemented(format!("the digest \"{name}\" has {what}")))?;
        let mut widths = Vec::new();
        shape.widths(&mut widths);
        // One that nothing sends any more (its code was removed) has no list.
        if let Some(list) = program.learn_lists().iter().find(|l| l.name == name && l.widths != widths) {
            return Err(Refused::invalid(format!(
                "the digest \"{name}\" has members of {widths:?} bits in the P4Info and of {:?} in the program",
                list.widths
            )));
        }
        Ok(Self { id, name, shape })
    }
}

impl Shape {
    fn widths(&self, out: &mut Vec<u32>) {
        match self {
            Self::Bits(w) | Self::EnumValue(w) => out.push(*w),
            Self::Bool => out.push(1),
            Self::Enum(_) | Self::Error(_) => out.push(ENUM_BITS),
            Self::Header(all) => out.extend(all),
            Self::Tuple(all) | Self::Struct(all) => all.iter().for_each(|s| s.widths(out)),
        }
    }

    /// Reads it from a sample.
    fn read(&self, sample: &mut Sample<'_>) -> v1::P4Data {
        let named = |names: &[String], sample: &mut Sample<'_>| {
            let number = sample.take(ENUM_BITS).iter().fold(0, |n, b| n << 8 | usize::from(*b));
            names.get(number).cloned().unwrap_or_default()
        };
        let data = match self {
            Self::Bits(w) => Data::Bitstring(sample.take(*w).to_vec()),
            Self::EnumValue(w) => Data::EnumValue(sample.take(*w).to_vec()),
            Self::Bool => Data::Bool(sample.take(1) != [0]),
            Self::Enum(names) => Data::Enum(named(names, sample)),
            Self::Error(names) => Data::Error(named(names, sample)),
            Self::Header(fields) => {
                let is_valid = sample.valid();
                let mut bitstrings: Vec<_> = fields.iter().map(|w| sample.take(*w).to_vec()).collect();
                if !is_valid {
                    // §8.4: an invalid header has no bit strings.
                    bitstrings.clear();
                }
                Data::Header(v1::P4Header { is_valid, bitstrings })
            }
            Self::Tuple(all) => Data::Tuple(members(all, sample)),
            Self::Struct(all) => Data::Struct(members(all, sample)),
        };
        v1::P4Data { data: Some(data) }
    }
}

/// A sample that is being read, member by member; see [`LearnList::sample_bytes`](crate::pipeline::LearnList::sample_bytes).
struct Sample<'a> {
    rest: &'a [u8],
    validity: &'a [u8],
    member: usize,
}

impl<'a> Sample<'a> {
    fn new(sample: &'a [u8], members: usize) -> Self {
        let (rest, validity) = sample.split_at(sample.len().saturating_sub(members.div_ceil(8)));
        Self { rest, validity, member: 0 }
    }

    /// The next member's value, in canonical form.
    fn take(&mut self, bits: u32) -> &'a [u8] {
        let (now, rest) = self.rest.split_at(bytestring::padded_len(bits).min(self.rest.len()));
        self.rest = rest;
        self.member += 1;
        bytestring::canonical(now)
    }

    /// Whether the next member's header is valid.
    fn valid(&self) -> bool {
        self.validity.get(self.member / 8).is_some_and(|byte| byte >> (self.member % 8) & 1 == 1)
    }
}

fn members(all: &[Shape], sample: &mut Sample<'_>) -> v1::P4StructLike {
    v1::P4StructLike { members: all.iter().map(|s| s.read(sample)).collect() }
}

/// The shape of a type; otherwise, what it has that cannot be sent.
fn shape(spec: Option<&info::P4DataTypeSpec>, types: Option<&info::P4TypeInfo>, depth: usize) -> Result<Shape, String> {
    if depth > MAX_DEPTH {
        return Err(format!("a type nested more than {MAX_DEPTH} deep"));
    }
    let spec = spec.and_then(|s| s.type_spec.as_ref()).ok_or("no type")?;
    let unknown = |kind: &str, name: &str| format!("the {kind} {name}, which the P4Info does not describe");
    match spec {
        TypeSpec::Bitstring(bits) => bit_width(bits).map(Shape::Bits),
        TypeSpec::Bool(_) => Ok(Shape::Bool),
        TypeSpec::Tuple(t) => {
            let members: Result<_, _> = t.members.iter().map(|m| shape(Some(m), types, depth + 1)).collect();
            members.map(Shape::Tuple)
        }
        TypeSpec::Struct(t) => {
            let found = types.and_then(|i| i.structs.get(&t.name)).ok_or_else(|| unknown("struct", &t.name))?;
            let members = found.members.iter().map(|m| shape(m.type_spec.as_ref(), types, depth + 1));
            members.collect::<Result<_, _>>().map(Shape::Struct)
        }
        TypeSpec::Enum(t) => {
            let found = types.and_then(|i| i.enums.get(&t.name)).ok_or_else(|| unknown("enum", &t.name))?;
            Ok(Shape::Enum(found.members.iter().map(|m| m.name.clone()).collect()))
        }
        TypeSpec::SerializableEnum(t) => {
            let found = types.and_then(|i| i.serializable_enums.get(&t.name));
            let found = found.ok_or_else(|| unknown("enum", &t.name))?;
            width(found.underlying_type.as_ref().map_or(0, |t| t.bitwidth)).map(Shape::EnumValue)
        }
        TypeSpec::NewType(t) => {
            let found = types.and_then(|i| i.new_types.get(&t.name)).ok_or_else(|| unknown("type", &t.name))?;
            match &found.representation {
                Some(p4_new_type_spec::Representation::OriginalType(original)) => {
                    shape(Some(original), types, depth + 1)
                }
                Some(p4_new_type_spec::Representation::TranslatedType(t)) => match t.sdn_type {
                    Some(p4_new_type_translation::SdnType::SdnBitwidth(w)) => width(w).map(Shape::Bits),
                    _ => Err(format!("a type that is translated to a string ({})", t.uri)),
                },
                None => Err(unknown("type", &t.name)),
            }
        }
        TypeSpec::Header(t) => {
            let found = types.and_then(|i| i.headers.get(&t.name)).ok_or_else(|| unknown("header", &t.name))?;
            let widths =
                found.members.iter().map(|m| m.type_spec.as_ref().ok_or("no type".to_owned()).and_then(bit_width));
            widths.collect::<Result<_, _>>().map(Shape::Header)
        }
        TypeSpec::Error(_) => {
            let found = types.and_then(|i| i.error.as_ref()).ok_or_else(|| unknown("type", "error"))?;
            Ok(Shape::Error(found.members.clone()))
        }
        TypeSpec::HeaderUnion(t) => Err(format!("the header union {}", t.name)),
        TypeSpec::HeaderStack(_) | TypeSpec::HeaderUnionStack(_) => Err("a header stack".to_owned()),
    }
}

fn bit_width(bits: &info::P4BitstringLikeTypeSpec) -> Result<u32, String> {
    match bits.type_spec.as_ref() {
        Some(p4_bitstring_like_type_spec::TypeSpec::Bit(t)) => width(t.bitwidth),
        Some(p4_bitstring_like_type_spec::TypeSpec::Int(t)) => width(t.bitwidth),
        _ => Err("a varbit member".to_owned()),
    }
}

fn width(bits: i32) -> Result<u32, String> {
    u32::try_from(bits).ok().filter(|w| *w > 0).ok_or_else(|| format!("a member of {bits} bits"))
}

/// Performs one update of a digest's configuration.
pub(crate) fn write(pipeline: &ForwardingPipeline, update: Type, entry: &v1::DigestEntry) -> Result<(), Refused> {
    let digest = pipeline.binding.digest(entry.digest_id)?;
    // A digest that nothing sends has no state either: what was written is still read back.
    let index = pipeline.dataplane.digests().by_name(&digest.name);
    let mut configured = pipeline.digests();
    let there = configured.contains_key(&digest.id);
    let config = match (update, there) {
        (Type::Unspecified, _) => {
            return Err(Refused::invalid("the update has no type: INSERT, MODIFY or DELETE"));
        }
        (Type::Insert, true) => {
            return Err(Refused::new(
                Code::AlreadyExists,
                format!("the digest {} is configured already: MODIFY it instead", digest.name),
            ));
        }
        (Type::Modify | Type::Delete, false) => return Err(not_configured(&digest.name)),
        (Type::Delete, true) => None,
        (Type::Insert | Type::Modify, _) => {
            let config = entry.config.unwrap_or_default();
            let number = |what: &str, n: i64| {
                u64::try_from(n)
                    .map_err(|_| Refused::invalid(format!("the digest {}: {what} is negative ({n})", digest.name)))
            };
            let decoded = DigestConfig {
                max_timeout_ns: number("max_timeout_ns", config.max_timeout_ns)?,
                max_list_size: number("max_list_size", config.max_list_size.into())? as usize,
                ack_timeout_ns: number("ack_timeout_ns", config.ack_timeout_ns)?,
            };
            configured.insert(digest.id, config);
            Some(decoded)
        }
    };
    if config.is_none() {
        configured.remove(&digest.id);
    }
    if let Some(index) = index {
        pipeline.dataplane.digests().configure(index, config);
    }
    Ok(())
}

fn not_configured(name: &str) -> Refused {
    Refused::new(Code::NotFound, format!("the digest {name} is not configured: INSERT it first"))
}

/// The configuration of one digest, or of all that have one (id 0).
pub(crate) fn read(pipeline: &ForwardingPipeline, filter: &v1::DigestEntry) -> Result<Vec<v1::DigestEntry>, Refused> {
    let configured = pipeline.digests();
    let entry = |(id, c): (&u32, &v1::digest_entry::Config)| v1::DigestEntry { digest_id: *id, config: Some(*c) };
    if filter.digest_id == 0 {
        return Ok(configured.iter().map(entry).collect());
    }
    let digest = pipeline.binding.digest(filter.digest_id)?;
    let found = configured.get_key_value(&digest.id).map(entry);
    found.map(|e| vec![e]).ok_or_else(|| not_configured(&digest.name))
}

/// A list was handled by the controller.
pub(crate) fn acknowledge(pipeline: &ForwardingPipeline, ack: &v1::DigestListAck) -> Result<(), Refused> {
    let digest = pipeline.binding.digest(ack.digest_id)?;
    if let Some(index) = pipeline.dataplane.digests().by_name(&digest.name) {
        pipeline.dataplane.digests().forget(index, ack.list_id);
    }
    Ok(())
}

/// A list as it is sent; `timestamp` is in nanoseconds since the epoch. `None` if the P4Info has no such digest.
pub(crate) fn encode(pipeline: &ForwardingPipeline, list: &DigestList, timestamp: i64) -> Option<v1::DigestList> {
    let digests = pipeline.dataplane.digests();
    let digest = pipeline.binding.digests.iter().find(|d| digests.by_name(&d.name) == Some(list.digest))?;
    let mut widths = Vec::new();
    digest.shape.widths(&mut widths);
    let data = list.samples.iter().map(|s| digest.shape.read(&mut Sample::new(s, widths.len()))).collect();
    Some(v1::DigestList { digest_id: digest.id, list_id: list.id, data, timestamp })
}
