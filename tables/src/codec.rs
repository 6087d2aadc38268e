//! What the generated code is made of: one function for each kind of field, both ways.

use dmux_p4rt::bytestring;
use dmux_p4rt::p4::v1::action::Param;
use dmux_p4rt::p4::v1::field_match::{Exact, FieldMatchType, Lpm, Ternary as TernaryMatch};
use dmux_p4rt::p4::v1::p4_data::Data;
pub use dmux_p4rt::p4::v1::{Action, FieldMatch, P4Data, PacketMetadata, TableEntry};

use crate::{DecodeError, Prefix, Priority, Ternary, Value};

fn field(field_id: u32, kind: FieldMatchType) -> Option<FieldMatch> {
    Some(FieldMatch { field_id, field_match_type: Some(kind) })
}

fn bytes(value: impl Value) -> Vec<u8> {
    bytestring::encode(value.to_bits())
}

/// An exact field.
pub fn exact(id: u32, value: impl Value) -> Option<FieldMatch> {
    let value = bytes(value);
    field(id, FieldMatchType::Exact(Exact { value }))
}

/// A prefix; the empty one is left out, as §9.1.1 wants it.
pub fn lpm<T: Value>(id: u32, prefix: Prefix<T>) -> Option<FieldMatch> {
    if prefix.len() == 0 {
        return None;
    }
    let lpm = Lpm { value: bytes(prefix.value()), prefix_len: prefix.len().into() };
    field(id, FieldMatchType::Lpm(lpm))
}

/// A value and mask; an empty mask is left out, as §9.1.1 wants it.
pub fn ternary<T: Value>(id: u32, ternary: Ternary<T>) -> Option<FieldMatch> {
    if ternary.mask() == 0 {
        return None;
    }
    let ternary = TernaryMatch { value: bytes(ternary.value()), mask: bytestring::encode(ternary.mask()) };
    field(id, FieldMatchType::Ternary(ternary))
}

/// A parameter of an action.
pub fn param(param_id: u32, value: impl Value) -> Param {
    let value = bytes(value);
    Param { param_id, value }
}

/// An action.
pub fn action(action_id: u32, params: Vec<Param>) -> Action {
    Action { action_id, params }
}

/// A field of a packet header.
pub fn metadata(metadata_id: u32, value: impl Value) -> PacketMetadata {
    let value = bytes(value);
    PacketMetadata { metadata_id, value }
}

/// A number of at most `bits` bits as a value.
fn value<T: Value>(of: &str, name: &'static str, bytes: &[u8], bits: u32) -> Result<T, DecodeError> {
    let number = number(of, name, bytes, bits)?;
    T::from_bits(number).ok_or_else(|| DecodeError::BadValue { of: of.to_owned(), field: name, value: number })
}

fn number(of: &str, name: &'static str, bytes: &[u8], bits: u32) -> Result<u128, DecodeError> {
    bytestring::decode(bytes, bits).map_err(|source| DecodeError::BadBytes { of: of.to_owned(), field: name, source })
}

/// Refuses ids that are not among `allowed`, and those that come twice.
fn only(of: &str, ids: impl Iterator<Item = u32> + Clone, allowed: &[u32]) -> Result<(), DecodeError> {
    for (n, id) in ids.clone().enumerate() {
        if !allowed.contains(&id) || ids.clone().take(n).any(|earlier| earlier == id) {
            return Err(DecodeError::UnexpectedField { of: of.to_owned(), id });
        }
    }
    Ok(())
}

/// Reads the key of an entry.
pub struct KeyReader<'a> {
    table: &'static str,
    entry: &'a TableEntry,
}

impl<'a> KeyReader<'a> {
    /// Refuses fields that the key does not have.
    pub fn new(table: &'static str, entry: &'a TableEntry, fields: &[u32]) -> Result<Self, DecodeError> {
        only(table, entry.r#match.iter().map(|f| f.field_id), fields)?;
        Ok(Self { table, entry })
    }

    fn get(&self, id: u32) -> Option<&'a FieldMatchType> {
        let field = self.entry.r#match.iter().find(|f| f.field_id == id)?;
        field.field_match_type.as_ref()
    }

    fn wrong<T>(&self, field: &'static str, wanted: &'static str) -> Result<T, DecodeError> {
        let table = self.table;
        Err(DecodeError::WrongKind { table, field, wanted })
    }

    /// An exact field.
    pub fn exact<T: Value>(&self, id: u32, name: &'static str) -> Result<T, DecodeError> {
        match self.get(id) {
            Some(FieldMatchType::Exact(m)) => value(self.table, name, &m.value, T::BITS),
            Some(_) => self.wrong(name, "exact value"),
            None => Err(DecodeError::MissingField { of: self.table.to_owned(), field: name }),
        }
    }

    /// A prefix.
    pub fn lpm<T: Value>(&self, id: u32, name: &'static str) -> Result<Prefix<T>, DecodeError> {
        let (number, len) = match self.get(id) {
            Some(FieldMatchType::Lpm(m)) => (number(self.table, name, &m.value, T::BITS)?, m.prefix_len),
            Some(_) => return self.wrong(name, "longest prefix"),
            None => (0, 0),
        };
        let prefix = u8::try_from(len).ok().and_then(|len| Prefix::new(T::from_bits(number)?, len));
        prefix.ok_or(DecodeError::BadPrefix { table: self.table, field: name, len })
    }

    /// A value and mask.
    pub fn ternary<T: Value>(&self, id: u32, name: &'static str) -> Result<Ternary<T>, DecodeError> {
        let (number, mask) = match self.get(id) {
            Some(FieldMatchType::Ternary(m)) => {
                (number(self.table, name, &m.value, T::BITS)?, number(self.table, name, &m.mask, T::BITS)?)
            }
            Some(_) => return self.wrong(name, "value and mask"),
            None => (0, 0),
        };
        T::from_bits(number).and_then(|value| Ternary::new(value, mask)).ok_or_else(|| DecodeError::BadValue {
            of: self.table.to_owned(),
            field: name,
            value: number,
        })
    }

    /// The priority, where the table has it.
    pub fn priority(&self) -> Result<Priority, DecodeError> {
        let priority = self.entry.priority;
        Priority::new(priority).ok_or(DecodeError::BadPriority { table: self.table, priority })
    }
}

/// Reads the action of an entry.
pub struct ActionReader<'a> {
    table: &'static str,
    action: &'a Action,
}

impl<'a> ActionReader<'a> {
    /// Of an entry of `table`.
    pub fn new(table: &'static str, action: &'a Action) -> Self {
        Self { table, action }
    }

    /// The action's id.
    pub fn id(&self) -> u32 {
        self.action.action_id
    }

    fn of(&self) -> String {
        format!("action {:#010x} of {}", self.action.action_id, self.table)
    }

    /// Refuses parameters that the action does not have.
    pub fn only(&self, params: &[u32]) -> Result<(), DecodeError> {
        // The name is made only where it is needed: entries are decoded by the hundred thousand.
        let ids = self.action.params.iter().map(|p| p.param_id);
        match only("", ids, params) {
            Err(DecodeError::UnexpectedField { id, .. }) => Err(DecodeError::UnexpectedField { of: self.of(), id }),
            other => other,
        }
    }

    /// A parameter.
    pub fn param<T: Value>(&self, id: u32, name: &'static str) -> Result<T, DecodeError> {
        let Some(param) = self.action.params.iter().find(|p| p.param_id == id) else {
            return Err(DecodeError::MissingField { of: self.of(), field: name });
        };
        value(self.table, name, &param.value, T::BITS)
    }

    /// The error for an action that the table does not have.
    pub fn foreign(&self) -> DecodeError {
        DecodeError::ForeignAction { table: self.table, action_id: self.action.action_id }
    }
}

/// Reads the header of a packet.
pub struct MetadataReader<'a> {
    header: &'static str,
    metadata: &'a [PacketMetadata],
}

impl<'a> MetadataReader<'a> {
    /// Refuses fields that the header does not have.
    pub fn new(header: &'static str, metadata: &'a [PacketMetadata], fields: &[u32]) -> Result<Self, DecodeError> {
        only(header, metadata.iter().map(|m| m.metadata_id), fields)?;
        Ok(Self { header, metadata })
    }

    /// A field, whose type may be narrower than the header's `bits`.
    pub fn field<T: Value>(&self, id: u32, name: &'static str, bits: u32) -> Result<T, DecodeError> {
        match self.metadata.iter().find(|m| m.metadata_id == id) {
            Some(m) => value(self.header, name, &m.value, bits),
            None => Err(DecodeError::MissingField { of: self.header.to_owned(), field: name }),
        }
    }
}

/// Reads a message of a digest.
pub struct MemberReader<'a> {
    digest: &'static str,
    members: &'a [P4Data],
}

impl<'a> MemberReader<'a> {
    /// Refuses what is no struct of so many members.
    pub fn new(digest: &'static str, data: &'a P4Data, members: usize) -> Result<Self, DecodeError> {
        match &data.data {
            Some(Data::Struct(read)) if read.members.len() == members => Ok(Self { digest, members: &read.members }),
            _ => Err(DecodeError::BadDigest { digest, members }),
        }
    }

    /// A member, which is a bit string.
    pub fn member<T: Value>(&self, at: usize, name: &'static str) -> Result<T, DecodeError> {
        match self.members.get(at).and_then(|member| member.data.as_ref()) {
            Some(Data::Bitstring(bytes)) => value(self.digest, name, bytes, T::BITS),
            _ => Err(DecodeError::MissingField { of: self.digest.to_owned(), field: name }),
        }
    }
}
