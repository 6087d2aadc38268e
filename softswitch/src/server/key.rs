//! Keys of table entries between P4Runtime and the pipeline: specification 1.4, section 9.1.1.

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::field_match::{self, FieldMatchType};
use num_bigint::BigUint;

use super::binding::{FieldBinding, TableBinding};
use super::error::Refused;
use super::value::{self, Number, Wide};
use crate::pipeline::{MatchKind, MatchValue, PIECE, pieces};

/// What identifies an entry within its table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryKey {
    /// One value for each key field, in the program's order (a wide one has several: [`pieces`]).
    pub fields: Vec<MatchValue>,
    /// Its priority; 0 in tables without.
    pub priority: i32,
}

impl TableBinding {
    /// Reads an entry's match fields and priority.
    pub(crate) fn decode_key(&self, entry: &v1::TableEntry) -> Result<EntryKey, Refused> {
        if self.fields.is_empty() {
            return Err(self.refuse("the table has no key, so it has no entries: set its default action instead"));
        }
        for (i, given) in entry.r#match.iter().enumerate() {
            if self.fields.iter().all(|f| f.id != given.field_id) {
                return Err(self.refuse(format!("there is no match field with id {}", given.field_id)));
            }
            if entry.r#match[..i].iter().any(|other| other.field_id == given.field_id) {
                return Err(self.refuse(format!("the match field with id {} is given twice", given.field_id)));
            }
        }
        match (self.needs_priority, entry.priority) {
            (true, ..=0) => {
                return Err(self
                    .refuse("entries need a priority above 0, since the key has a ternary, range or optional field"));
            }
            (false, p) if p != 0 => {
                return Err(
                    self.refuse("entries have no priority, since no field is ternary, range or optional: leave it 0")
                );
            }
            _ => {}
        }
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            match entry.r#match.iter().find(|m| m.field_id == field.id) {
                None => self.wildcard(field, &mut fields)?,
                Some(given) if field.width <= PIECE => {
                    let value = self.decode_field::<u128>(field, given.field_match_type.as_ref())?;
                    fields.push(compile(field, field.width, value.narrow()));
                }
                Some(given) => {
                    let value = self.decode_field::<BigUint>(field, given.field_match_type.as_ref())?;
                    let cut = value.cut(field.width).into_iter().zip(pieces(field.width));
                    fields.extend(cut.map(|(value, width)| compile(field, width, value)));
                }
            }
        }
        Ok(EntryKey { fields, priority: entry.priority })
    }

    /// What an omitted field means; an exact one cannot be omitted.
    fn wildcard(&self, field: &FieldBinding, fields: &mut Vec<MatchValue>) -> Result<(), Refused> {
        if field.kind == MatchKind::Exact {
            return Err(self.refuse(format!("the exact match field \"{}\" is missing", field.name)));
        }
        for width in pieces(field.width) {
            let all = match field.kind {
                MatchKind::Lpm => MatchValue::Lpm { value: 0, prefix_len: 0 },
                MatchKind::Range => MatchValue::Range { low: 0, high: value::all_ones(width) },
                MatchKind::Exact | MatchKind::Optional => MatchValue::Optional(None),
                MatchKind::Ternary => MatchValue::Ternary { value: 0, mask: 0 },
            };
            fields.push(compile(field, width, all));
        }
        Ok(())
    }

    fn decode_field<N: Number>(
        &self,
        field: &FieldBinding,
        given: Option<&FieldMatchType>,
    ) -> Result<Matched<N>, Refused> {
        let number = |bytes: &[u8]| {
            N::read(bytes, field.width, || format!("table {}: match field \"{}\"", self.name, field.name))
        };
        let refuse = |what: &str| self.refuse(format!("match field \"{}\": {what}", field.name));
        match (field.kind, given) {
            (MatchKind::Exact, Some(FieldMatchType::Exact(m))) => Ok(Matched::Exact(number(&m.value)?)),
            (MatchKind::Lpm, Some(FieldMatchType::Lpm(m))) => {
                let value = number(&m.value)?;
                let prefix_len = u32::try_from(m.prefix_len).ok().filter(|p| (1..=field.width).contains(p));
                let Some(prefix_len) = prefix_len else {
                    return Err(refuse(&format!(
                        "a prefix length is 1 to {}; omit the field to match everything",
                        field.width
                    )));
                };
                if !value.ends_in_zeros(field.width - prefix_len) {
                    return Err(refuse("the value has bits set beyond the prefix length"));
                }
                Ok(Matched::Lpm { value, prefix_len })
            }
            (MatchKind::Ternary, Some(FieldMatchType::Ternary(m))) => {
                let (value, mask) = (number(&m.value)?, number(&m.mask)?);
                if mask.is_zero() {
                    return Err(refuse("the mask is zero; omit the field to match everything"));
                }
                if !value.within(&mask) {
                    return Err(refuse("the value has bits set outside the mask"));
                }
                Ok(Matched::Ternary { value, mask })
            }
            (MatchKind::Range, Some(FieldMatchType::Range(m))) => {
                let (low, high) = (number(&m.low)?, number(&m.high)?);
                if low > high {
                    return Err(refuse("the low bound is above the high bound"));
                }
                if low.is_zero() && high.is_all_ones(field.width) {
                    return Err(refuse("the range holds every value; omit the field to match everything"));
                }
                Ok(Matched::Range { low, high })
            }
            (MatchKind::Optional, Some(FieldMatchType::Optional(m))) => Ok(Matched::Optional(Some(number(&m.value)?))),
            (_, None) => Err(refuse("it has no value")),
            (kind, Some(_)) => Err(refuse(&format!("it is matched as {kind:?}, and another kind was given"))),
        }
    }

    /// Writes match fields in canonical form: what matches everything is omitted.
    pub(crate) fn encode_key(&self, key: &[MatchValue]) -> Vec<v1::FieldMatch> {
        let mut rest = key;
        let encode = |field: &FieldBinding| {
            let (own, after) = rest.split_at(pieces(field.width).count().min(rest.len()));
            rest = after;
            let matched = match own {
                [one] => Matched::<u128>::from(*one).encode(field),
                many => Matched::joined(many).encode(field),
            };
            Some(v1::FieldMatch { field_id: field.id, field_match_type: Some(matched?) })
        };
        self.fields.iter().filter_map(encode).collect()
    }
}

/// What a field of an entry matches.
enum Matched<N> {
    Exact(N),
    Lpm { value: N, prefix_len: u32 },
    Ternary { value: N, mask: N },
    Range { low: N, high: N },
    Optional(Option<N>),
}

impl Matched<u128> {
    fn narrow(self) -> MatchValue {
        match self {
            Self::Exact(v) => MatchValue::Exact(v),
            Self::Lpm { value, prefix_len } => MatchValue::Lpm { value, prefix_len },
            Self::Ternary { value, mask } => MatchValue::Ternary { value, mask },
            Self::Range { low, high } => MatchValue::Range { low, high },
            Self::Optional(v) => MatchValue::Optional(v),
        }
    }
}

impl From<MatchValue> for Matched<u128> {
    fn from(v: MatchValue) -> Self {
        match v {
            MatchValue::Exact(v) => Self::Exact(v),
            MatchValue::Lpm { value, prefix_len } => Self::Lpm { value, prefix_len },
            MatchValue::Ternary { value, mask } => Self::Ternary { value, mask },
            MatchValue::Range { low, high } => Self::Range { low, high },
            MatchValue::Optional(v) => Self::Optional(v),
        }
    }
}

impl Matched<BigUint> {
    /// As the data plane takes it: in [`pieces`].
    fn cut(&self, width: u32) -> Vec<MatchValue> {
        let both = |a: &BigUint, b: &BigUint, f: fn(u128, u128) -> MatchValue| {
            a.cut(width).into_iter().zip(b.cut(width)).map(|(a, b)| f(a, b)).collect()
        };
        match self {
            Self::Exact(v) => v.cut(width).into_iter().map(MatchValue::Exact).collect(),
            Self::Lpm { value, prefix_len } => {
                let mut left = *prefix_len;
                let piece = |(value, width): (u128, u32)| {
                    let prefix_len = left.min(width);
                    left -= prefix_len;
                    MatchValue::Lpm { value, prefix_len }
                };
                value.cut(width).into_iter().zip(pieces(width)).map(piece).collect()
            }
            Self::Ternary { value, mask } => both(value, mask, |value, mask| MatchValue::Ternary { value, mask }),
            Self::Range { low, high } => both(low, high, |low, high| MatchValue::Range { low, high }),
            Self::Optional(Some(v)) => v.cut(width).into_iter().map(|v| MatchValue::Optional(Some(v))).collect(),
            Self::Optional(None) => pieces(width).map(|_| MatchValue::Optional(None)).collect(),
        }
    }

    /// From pieces, all of one kind.
    fn joined(pieces: &[MatchValue]) -> Self {
        let join = |f: fn(&MatchValue) -> u128| BigUint::joined(pieces.iter().map(f));
        let value = join(|m| match *m {
            MatchValue::Exact(v) | MatchValue::Optional(Some(v)) => v,
            MatchValue::Lpm { value, .. } | MatchValue::Ternary { value, .. } => value,
            MatchValue::Range { low, .. } => low,
            MatchValue::Optional(None) => 0,
        });
        let other = join(|m| match *m {
            MatchValue::Ternary { mask, .. } => mask,
            MatchValue::Range { high, .. } => high,
            _ => 0,
        });
        let prefix = |m: &MatchValue| if let MatchValue::Lpm { prefix_len, .. } = m { *prefix_len } else { 0 };
        match pieces.first() {
            Some(MatchValue::Exact(_)) => Self::Exact(value),
            Some(MatchValue::Lpm { .. }) => Self::Lpm { value, prefix_len: pieces.iter().map(prefix).sum() },
            Some(MatchValue::Ternary { .. }) => Self::Ternary { value, mask: other },
            Some(MatchValue::Range { .. }) => Self::Range { low: value, high: other },
            Some(MatchValue::Optional(Some(_))) => Self::Optional(Some(value)),
            Some(MatchValue::Optional(None)) | None => Self::Optional(None),
        }
    }
}

impl<N: Number> Matched<N> {
    /// In canonical form; `None` for what matches everything.
    fn encode(&self, field: &FieldBinding) -> Option<FieldMatchType> {
        let optional = |value: &N| FieldMatchType::Optional(field_match::Optional { value: value.written() });
        Some(match self {
            Self::Exact(v) => FieldMatchType::Exact(field_match::Exact { value: v.written() }),
            Self::Lpm { prefix_len: 0, .. } | Self::Optional(None) => return None,
            // A field has some thousand bits at most.
            Self::Lpm { value, prefix_len } => {
                FieldMatchType::Lpm(field_match::Lpm { value: value.written(), prefix_len: *prefix_len as i32 })
            }
            Self::Ternary { mask, .. } if mask.is_zero() => return None,
            Self::Ternary { value, .. } if field.kind == MatchKind::Optional => optional(value),
            Self::Ternary { value, mask } => {
                FieldMatchType::Ternary(field_match::Ternary { value: value.written(), mask: mask.written() })
            }
            Self::Range { low, high } if low.is_zero() && high.is_all_ones(field.width) => return None,
            Self::Range { low, high } => {
                FieldMatchType::Range(field_match::Range { low: low.written(), high: high.written() })
            }
            Self::Optional(Some(v)) => optional(v),
        })
    }
}

/// The value, of `width` bits, as the program matches it.
fn compile(field: &FieldBinding, width: u32, value: MatchValue) -> MatchValue {
    match (value, field.compiled) {
        (MatchValue::Optional(Some(value)), MatchKind::Ternary) => {
            MatchValue::Ternary { value, mask: value::all_ones(width) }
        }
        (MatchValue::Optional(None), MatchKind::Ternary) => MatchValue::Ternary { value: 0, mask: 0 },
        (value, _) => value,
    }
}
