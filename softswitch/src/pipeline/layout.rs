//! Where each header and field of a program lives: everything is a slot of one flat array of `u64`.
//!
//! A field of up to 64 bits has one slot, a wider one has two (low word first). Signed fields are kept sign-extended.
//! The slots of all fields and validity bits come first, so that one `fill(0)` starts a packet.

use super::error::LoadError;
use super::json;
use super::marks::Named;
use serde_json::Value;
use std::collections::HashMap;

/// Index of a slot.
pub(crate) type Slot = u16;

/// Widest field that is implemented.
pub(crate) const MAX_WIDTH: u32 = 128;
/// Most slots that a program may need (slots are numbered in 16 bits).
pub(crate) const MAX_SLOTS: usize = u16::MAX as usize;
/// BMv2's drop port (`egress_spec` of a dropped packet).
pub(crate) const DROP_PORT: u64 = 511;

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
    /// It has two slots.
    pub(crate) fn wide(&self) -> bool {
        self.width > 64
    }
}

/// A header or metadata structure.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub type_id: usize,
    pub metadata: bool,
    pub valid: Slot,
    pub bytes: u32,
    pub fields: Vec<Field>,
    /// Holds where in the frame the header was found, plus 1; 0 if it was made by the program.
    pub origin: Slot,
    /// How to go through fewer fields than all.
    pub wire: Option<Wire>,
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
    /// Number of slots used so far.
    pub slots: usize,
    by_name: HashMap<String, usize>,
    fields: HashMap<(String, String), Field>,
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
        }
        if !json::list_or_empty(root, "header_unions", "program")?.is_empty() {
            return Err(LoadError::unsupported("a header union", "program"));
        }
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
        for f in json::list(t, "fields", ctx)? {
            let f = json::as_list(f, "field", ctx)?;
            let (Some(fname), Some(width)) = (f.first(), f.get(1)) else {
                return Err(LoadError::invalid("expected a field as [name, width, signed]", ctx));
            };
            let fname = json::as_text(fname, "field name", ctx)?;
            let Some(width) = width.as_u64() else {
                return Err(LoadError::unsupported(format!("the variable-length field {fname}"), ctx));
            };
            if width == 0 || width > u64::from(MAX_WIDTH) {
                return Err(LoadError::unsupported(
                    format!("field {fname} of {width} bits (at most {MAX_WIDTH})"),
                    ctx,
                ));
            }
            if f.get(3).and_then(Value::as_bool).unwrap_or(false) {
                return Err(LoadError::unsupported(format!("the saturating field {fname}"), ctx));
            }
            let width = width as u32;
            let field = Field {
                slot: self.alloc(if width > 64 { 2 } else { 1 }, ctx)?,
                width,
                signed: f.get(2).and_then(Value::as_bool).unwrap_or(false),
                valid: (!metadata).then_some(valid),
                bit_offset: bits,
            };
            bits += width;
            fields.push(field);
            self.fields.insert((name.to_owned(), fname.to_owned()), field);
        }
        if !metadata && !bits.is_multiple_of(8) {
            return Err(LoadError::invalid(format!("its {bits} bits are no whole number of bytes"), ctx));
        }
        let validity = Field { slot: valid, width: 1, signed: false, valid: None, bit_offset: 0 };
        self.fields.insert((name.to_owned(), "$valid$".to_owned()), validity);
        self.by_name.insert(name.to_owned(), self.headers.len());
        self.headers.push(Header { type_id, metadata, valid, bytes: bits / 8, fields, origin, wire: None });
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

    /// The number of the header `name`.
    pub(crate) fn header(&self, name: &str, ctx: &str) -> Result<usize, LoadError> {
        self.by_name.get(name).copied().ok_or_else(|| LoadError::unknown("header", name, ctx))
    }
}
