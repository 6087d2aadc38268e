//! Where each header and field of a program lives: everything is a slot of one flat array of `u64`.
//!
//! A field has a slot for each 64 bits, low word first. Signed fields are kept sign-extended. A varbit has where in the
//! frame its contents are and how many bits it has: a program can move and compare those, but not compute them.
//! The slots of all fields and validity bits come first, so that one `fill(0)` starts a packet.

use super::error::LoadError;
use super::json;
use super::marks::Named;
use super::stacks::{Groups, Stack};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Index of a slot.
pub(crate) type Slot = u16;

/// Widest field that is implemented.
pub(crate) const MAX_WIDTH: u32 = 16_384;
/// Longest header with a varbit.
const MAX_VARBIT_BYTES: u64 = 65_535;
/// Most slots that a program may need (slots are numbered in 16 bits).
pub(crate) const MAX_SLOTS: usize = u16::MAX as usize;

/// Slots of a value of so many bits.
pub(crate) fn words(width: u32) -> u16 {
    width.div_ceil(64) as u16
}

/// A field, where it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub slot: Slot,
    pub width: u32,
    pub signed: bool,
    /// Validity slot of its header; `None` for metadata, which is always valid.
    pub valid: Option<Slot>,
    /// Offset from the start of the header.
    pub bit_offset: u32,
}

impl Field {
    /// It has two slots or more.
    pub(crate) fn wide(&self) -> bool {
        self.width > 64
    }
    /// Its slots, low word first.
    pub(crate) fn slots(&self) -> std::ops::Range<Slot> {
        self.slot..self.slot + words(self.width)
    }
}

/// A header or metadata structure.
#[derive(Debug, Clone, Default)]
pub(crate) struct Header {
    pub type_id: usize,
    pub metadata: bool,
    pub valid: Slot,
    /// Bytes of all fields but the varbit.
    pub bytes: u32,
    pub fields: Vec<Field>,
    /// Holds where in the frame the header was found, plus 1; 0 if it was made by the program.
    pub origin: Slot,
    /// How to go through fewer fields than all.
    pub wire: Option<Wire>,
    pub varbit: Option<Varbit>,
    /// Validity slots of the other members of its union.
    pub others: Box<[Slot]>,
}

/// A header's field of variable length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Varbit {
    /// Holds where in the frame its contents start, plus 1; 0 if they are zeros.
    pub at: Slot,
    /// Holds its bits, a multiple of 8.
    pub bits: Slot,
    /// How many of the header's fields are before it.
    pub before: usize,
    /// Most bits that it can have.
    pub max_bits: u32,
    /// Most bytes that the whole header may have; 0 for as many as there are.
    pub max_bytes: u32,
}

impl Header {
    /// Most bytes that it can have.
    pub(crate) fn most_bytes(&self) -> usize {
        (self.bytes + self.varbit.map_or(0, |v| v.max_bits / 8)) as usize
    }

    /// The field by its number in the header type, where the varbit counts, too.
    pub(crate) fn numbered(&self, n: usize) -> Option<Part> {
        match self.varbit {
            Some(v) if n == v.before => Some(Part::Varbit(v)),
            Some(v) if n > v.before => self.fields.get(n - 1).map(|f| Part::Field(*f)),
            _ => self.fields.get(n).map(|f| Part::Field(*f)),
        }
    }
}

/// A part of a header.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Field(Field),
    Varbit(Varbit),
}

/// A header whose fields are not all needed: it is sent as it came, with what the program may have written put over it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire {
    /// Fields that something reads, or that share a word with one that is written.
    pub read: Box<[Window]>,
    /// Words that something writes into.
    pub patches: Box<[Patch]>,
}

/// A field inside eight bytes of a header: big-endian, shifted by `shift` from the bottom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub slot: Slot,
    /// First of the eight bytes; all of them lie within the header.
    pub at: u16,
    pub shift: u8,
    pub width: u8,
}

/// Eight bytes of a header of which some bits come from fields.
#[derive(Debug, Clone)]
pub(crate) struct Patch {
    pub at: u16,
    /// Bits that stay as they came.
    pub keep: u64,
    /// Slot, mask and shift of each field.
    pub fields: Box<[(Slot, u64, u8)]>,
}

/// All headers of a program.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub headers: Vec<Header>,
    pub stacks: Vec<Stack>,
    pub groups: Groups,
    /// First slots of the fields that saturate.
    pub saturating: HashSet<Slot>,
    /// Number of slots used so far.
    pub slots: usize,
    by_name: HashMap<String, usize>,
    /// The header of each varbit.
    varbits: HashMap<(String, String), usize>,
    fields: HashMap<(String, String), Field>,
    /// Number of a field in its header type.
    pub(super) numbers: HashMap<(usize, String), usize>,
}

impl Layout {
    /// Reads `header_types`, `headers` and `field_aliases`.
    pub(crate) fn read(root: &Value) -> Result<Self, LoadError> {
        let mut types = HashMap::new();
        for (ix, t) in json::list(root, "header_types", "program")?.iter().enumerate() {
            let name = json::text(t, "name", "header type")?;
            types.insert(name, (ix, t));
        }
        let mut out = Self::default();
        for h in json::list(root, "headers", "program")? {
            let name = json::text(h, "name", "header")?;
            let ctx = format!("header {name}");
            let tname = json::text(h, "header_type", &ctx)?;
            let (type_id, t) = *types.get(tname).ok_or_else(|| LoadError::unknown("header type", tname, &ctx))?;
            out.add_header(name, type_id, t, json::flag(h, "metadata"), &ctx)?;
            if let Some(id) = h.get("id").and_then(Value::as_u64) {
                out.groups.header_ids.insert(id, out.headers.len() - 1);
            }
        }
        out.read_groups(root)?;
        for alias in json::list_or_empty(root, "field_aliases", "program")? {
            let ctx = "field_aliases";
            let [from, to] = json::as_list(alias, "alias", ctx)? else {
                return Err(LoadError::invalid("expected [name, [header, field]]", ctx));
            };
            let from = json::as_text(from, "alias", ctx)?;
            let (h, f) = json::pair(to, ctx)?;
            let field = out.field(h, f, ctx)?;
            let (ah, af) = from.split_once('.').ok_or_else(|| LoadError::invalid("an alias without a dot", ctx))?;
            out.fields.insert((ah.to_owned(), af.to_owned()), field);
        }
        Ok(out)
    }

    fn add_header(
        &mut self,
        name: &str,
        type_id: usize,
        t: &Value,
        metadata: bool,
        ctx: &str,
    ) -> Result<(), LoadError> {
        let (valid, origin) = (self.alloc(1, ctx)?, self.alloc(1, ctx)?);
        let mut fields = Vec::new();
        let mut bits = 0u32;
        let mut varbit = None;
        for f in json::list(t, "fields", ctx)? {
            let f = json::as_list(f, "field", ctx)?;
            let (Some(fname), Some(width)) = (f.first(), f.get(1)) else {
                return Err(LoadError::invalid("expected a field as [name, width, signed]", ctx));
            };
            let fname = json::as_text(fname, "field name", ctx)?;
            self.numbers.insert((type_id, fname.to_owned()), fields.len() + usize::from(varbit.is_some()));
            if width.as_str() == Some("*") {
                if varbit.is_some() || t.get("length_exp").is_some_and(|v| !v.is_null()) {
                    let what = format!("{fname}: a second varbit, or one whose length its type computes");
                    return Err(LoadError::unsupported(what, ctx));
                }
                let (at, len) = (self.alloc(1, ctx)?, self.alloc(1, ctx)?);
                let max_bytes = t.get("max_length").and_then(Value::as_u64).unwrap_or(0).min(MAX_VARBIT_BYTES) as u32;
                varbit = Some(Varbit { at, bits: len, before: fields.len(), max_bits: 0, max_bytes });
                self.varbits.insert((name.to_owned(), fname.to_owned()), self.headers.len());
                continue;
            }
            let Some(width) = width.as_u64() else {
                return Err(LoadError::invalid(format!("the width of {fname} is no number"), ctx));
            };
            if width == 0 || width > u64::from(MAX_WIDTH) {
                return Err(LoadError::unsupported(
                    format!("field {fname} of {width} bits (at most {MAX_WIDTH})"),
                    ctx,
                ));
            }
            let width = width as u32;
            let field = Field {
                slot: self.alloc(usize::from(words(width)), ctx)?,
                width,
                signed: f.get(2).and_then(Value::as_bool).unwrap_or(false),
                valid: (!metadata).then_some(valid),
                bit_offset: bits,
            };
            bits += width;
            fields.push(field);
            if f.get(3).and_then(Value::as_bool).unwrap_or(false) {
                self.saturating.insert(field.slot);
            }
            self.fields.insert((name.to_owned(), fname.to_owned()), field);
        }
        if !metadata && !bits.is_multiple_of(8) {
            return Err(LoadError::invalid(format!("its {bits} bits are no whole number of bytes"), ctx));
        }
        let validity = Field { slot: valid, width: 1, signed: false, valid: None, bit_offset: 0 };
        self.fields.insert((name.to_owned(), "$valid$".to_owned()), validity);
        self.by_name.insert(name.to_owned(), self.headers.len());
        if let Some(v) = &mut varbit {
            let most = if v.max_bytes == 0 { MAX_VARBIT_BYTES as u32 } else { v.max_bytes };
            v.max_bits = most.saturating_sub(bits / 8) * 8;
        }
        let bytes = bits / 8;
        self.headers.push(Header { type_id, metadata, valid, bytes, fields, origin, varbit, ..Header::default() });
        Ok(())
    }

    /// Takes `n` consecutive slots.
    pub(crate) fn alloc(&mut self, n: usize, ctx: &str) -> Result<Slot, LoadError> {
        let at = self.slots;
        if at + n > MAX_SLOTS {
            return Err(LoadError::unsupported(format!("a program that needs more than {MAX_SLOTS} slots"), ctx));
        }
        self.slots += n;
        Ok(at as Slot)
    }

    /// The field `header.field` (or an alias).
    pub(crate) fn field(&self, header: &str, field: &str, ctx: &str) -> Result<Field, LoadError> {
        self.find(header, field).ok_or_else(|| LoadError::unknown("field", format!("{header}.{field}"), ctx))
    }

    /// Like [`field`](Self::field), for fields that a program need not have.
    pub(crate) fn find(&self, header: &str, field: &str) -> Option<Field> {
        self.fields.get(&(header.to_owned(), field.to_owned())).copied()
    }

    /// Every field and validity bit by its name.
    pub(crate) fn names(&self) -> Vec<Named> {
        let named = |((header, field), f): (&(String, String), &Field)| Named {
            name: format!("{header}.{field}"),
            slot: f.slot,
            width: f.width,
        };
        self.fields.iter().map(named).collect()
    }

    /// The header whose varbit `header.field` is, if it is one.
    pub(crate) fn varbit(&self, header: &str, field: &str) -> Option<usize> {
        self.varbits.get(&(header.to_owned(), field.to_owned())).copied()
    }

    /// The number of the header `name`.
    pub(crate) fn header(&self, name: &str, ctx: &str) -> Result<usize, LoadError> {
        self.by_name.get(name).copied().ok_or_else(|| LoadError::unknown("header", name, ctx))
    }
}
