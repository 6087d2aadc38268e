use std::fmt::{Debug, Display};
use std::hash::Hash;

use dmux_p4rt::p4::v1::table_action::Type;
use dmux_p4rt::p4::v1::{Action, FieldMatch, TableAction, TableEntry};

use crate::codec::{ActionReader, KeyReader};
use crate::{DecodeError, Priority};

/// A table of the program: the same verbs for each.
///
/// The generated code says what differs; encoding and decoding whole entries is done here.
pub trait Table {
    /// What identifies an entry, its priority included.
    type Key: Copy + Ord + Hash + Debug + Display;
    /// What an entry does.
    type Action: Copy + Ord + Hash + Debug + Display;

    /// In the P4Info.
    const TABLE_ID: u32;
    /// In the P4 source.
    const NAME: &'static str;
    /// Entries that fit.
    const SIZE: u64;
    /// Tables that this one refers to have a lower stage ([`crate::write_order`]).
    const STAGE: u8;
    /// Ids of the fields of the key.
    const FIELDS: &'static [u32];

    /// The fields of the key that do not match everything.
    fn encode_match(key: &Self::Key) -> Vec<FieldMatch>;

    /// The priority, in tables that have it.
    fn priority(_key: &Self::Key) -> Option<Priority> {
        None
    }

    /// The action with its parameters.
    fn encode_action(action: &Self::Action) -> Action;

    /// The key of an entry of this table.
    fn decode_key(read: &KeyReader<'_>) -> Result<Self::Key, DecodeError>;

    /// The action of an entry of this table.
    fn decode_action(read: &ActionReader<'_>) -> Result<Self::Action, DecodeError>;

    /// An entry without action, as a deletion names it.
    fn encode_key(key: &Self::Key) -> TableEntry {
        TableEntry {
            table_id: Self::TABLE_ID,
            r#match: Self::encode_match(key),
            priority: Self::priority(key).map_or(0, Priority::get),
            ..Default::default()
        }
    }

    /// An entry, in canonical form.
    fn encode(key: &Self::Key, action: &Self::Action) -> TableEntry {
        TableEntry {
            action: Some(TableAction { r#type: Some(Type::Action(Self::encode_action(action))) }),
            ..Self::encode_key(key)
        }
    }

    /// Reads an entry back. Counters, meters and times of the entry do not matter, nor does the form of its numbers.
    fn decode(entry: &TableEntry) -> Result<(Self::Key, Self::Action), DecodeError> {
        let table = Self::NAME;
        if entry.table_id != Self::TABLE_ID {
            let found = entry.table_id;
            return Err(DecodeError::WrongTable { table, found });
        }
        if entry.is_default_action {
            return Err(DecodeError::DefaultEntry { table });
        }
        let read = KeyReader::new(table, entry, Self::FIELDS)?;
        let key = Self::decode_key(&read)?;
        if Self::priority(&key).is_none() && entry.priority != 0 {
            let priority = entry.priority;
            return Err(DecodeError::BadPriority { table, priority });
        }
        let action = match entry.action.as_ref().and_then(|a| a.r#type.as_ref()) {
            Some(Type::Action(action)) => Self::decode_action(&ActionReader::new(table, action))?,
            _ => return Err(DecodeError::NoAction { table }),
        };
        Ok((key, action))
    }
}
