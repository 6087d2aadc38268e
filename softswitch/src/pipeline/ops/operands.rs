//! What instructions name by index: selects, hashes, checksums, and what a packet needs of a table.

use super::super::layout::{Field, Slot};

/// The key of a `select`, and its cases in order.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub parts: Vec<SelectPart>,
    /// (value, mask, target); the first that matches is taken.
    pub cases: Vec<(u128, u128, u32)>,
    pub default: u32,
    /// The same for a key of at most 64 bits that is made of fields only.
    pub narrow: Option<NarrowSelect>,
}

impl Select {
    /// Calls `f` with every target of the wide form, from which the narrow one is made.
    pub(crate) fn targets(&mut self, f: &mut dyn FnMut(&mut u32)) {
        f(&mut self.default);
        self.cases.iter_mut().for_each(|(_, _, t)| f(t));
    }
}

/// A select whose key fits a word.
#[derive(Debug, Clone)]
pub(crate) struct NarrowSelect {
    /// (slot, mask of the field, shift)
    pub parts: Box<[(Slot, u64, u8)]>,
    pub cases: Box<[(u64, u64, u32)]>,
}

/// A part of a select's key; each is padded to whole bytes, as in BMv2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SelectPart {
    pub from: SelectFrom,
    /// Padded width.
    pub bits: u32,
}

/// Where a part of a select's key comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SelectFrom {
    Slot { slot: Slot, width: u32 },
    Lookahead { bit_offset: u32, width: u32 },
}

/// `field = packet.lookahead`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookahead {
    pub bit_offset: u32,
    pub width: u32,
    pub dst: Field,
}

/// `dst = base + hash(calc) % size`
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashOp {
    pub calc: u16,
    pub base: Slot,
    pub size: Slot,
    pub dst: Field,
}

/// A checksum: where it is kept and how it is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChecksumOp {
    pub calc: u16,
    pub target: Field,
}

/// One field of a table's key, or one of its [`pieces`](super::super::pieces).
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyPart {
    pub slot: Slot,
    pub width: u32,
    /// The key reads 0 while this slot is 0 (BMv2's rule for fields of invalid headers).
    pub valid: Option<Slot>,
    /// Bit position in the packed key.
    pub pos: u32,
    /// Constant mask of the program over the field.
    pub mask: u128,
    /// Which field of the key.
    pub field: u16,
}

/// An action that a table may run.
#[derive(Debug, Clone)]
pub(crate) struct TableAction {
    /// First slot of the parameters, and how many words they take.
    pub param_base: Slot,
    pub param_words: u16,
}

/// Where a lookup leads.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    /// Where the code of each of the table's actions starts after a hit, and after a miss.
    pub actions: Box<[(u32, u32)]>,
    /// Where a miss goes that runs no action.
    pub none: u32,
}

impl Ways {
    pub(crate) fn targets(&mut self) -> impl Iterator<Item = &mut u32> {
        self.actions.iter_mut().flat_map(|(hit, miss)| [hit, miss]).chain([&mut self.none])
    }
}

/// What a packet needs of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableRt {
    pub key: Vec<KeyPart>,
    pub actions: Vec<TableAction>,
    /// Slot and width of the colour of the direct meter.
    pub meter: Option<(Slot, u8)>,
    /// Where its entries lead, if it is indirect.
    pub via: Option<ViaRt>,
}

/// What a packet needs of an indirect table.
#[derive(Debug, Clone)]
pub(crate) struct ViaRt {
    pub profile: usize,
    /// The hash that selects a group's member; none in a profile without selector.
    pub hash: Option<u16>,
    /// Index among the table's actions, by index among the profile's; `empty` where the table does not have it.
    pub local: Box<[u16]>,
    /// Index of the action that does nothing.
    pub empty: u16,
}
