use dmux_p4rt::bytestring::ByteStringError;
use thiserror::Error;

/// Why something that a switch holds or sent is not of this program.
///
/// A switch that runs our program and that nobody else writes gives none of these: whoever gets one has a foreign entry,
/// another program, or a broken switch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The program has no such table.
    #[error("the program has no table {table_id:#010x}")]
    UnknownTable {
        /// Its id.
        table_id: u32,
    },
    /// An entry of one table given to another.
    #[error("an entry of table {found:#010x} is none of {table}")]
    WrongTable {
        /// The table that was to decode it.
        table: &'static str,
        /// The entry's table.
        found: u32,
    },
    /// Default entries have no key.
    #[error("the default entry of {table} is not an entry with a key")]
    DefaultEntry {
        /// The table.
        table: &'static str,
    },
    /// The key, action or header has no such field.
    #[error("{of} has no field {id}, or it is there twice")]
    UnexpectedField {
        /// The table, action or header.
        of: String,
        /// The field's id.
        id: u32,
    },
    /// A field that cannot be left out.
    #[error("{of} lacks its field {field}")]
    MissingField {
        /// The table, action or header.
        of: String,
        /// The field's name.
        field: &'static str,
    },
    /// A field of another kind of match.
    #[error("field {field} of {table} does not match by {wanted}")]
    WrongKind {
        /// The table.
        table: &'static str,
        /// The field's name.
        field: &'static str,
        /// The kind of the program.
        wanted: &'static str,
    },
    /// A prefix longer than the field, or shorter than nothing.
    #[error("field {field} of {table} has a prefix of {len} bits")]
    BadPrefix {
        /// The table.
        table: &'static str,
        /// The field's name.
        field: &'static str,
        /// What was given.
        len: i32,
    },
    /// A byte string that is no number of the width.
    #[error("field {field} of {of}: {source}")]
    BadBytes {
        /// The table, action or header.
        of: String,
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        source: ByteStringError,
    },
    /// A number that the field's type does not have.
    #[error("field {field} of {of} cannot be {value}")]
    BadValue {
        /// The table, action or header.
        of: String,
        /// The field's name.
        field: &'static str,
        /// What was given.
        value: u128,
    },
    /// Priorities are above 0 where a table has them, and 0 elsewhere.
    #[error("an entry of {table} cannot have the priority {priority}")]
    BadPriority {
        /// The table.
        table: &'static str,
        /// What was given.
        priority: i32,
    },
    /// No action, or one of an action profile.
    #[error("an entry of {table} has no action of its own")]
    NoAction {
        /// The table.
        table: &'static str,
    },
    /// An action that entries of the table cannot have.
    #[error("entries of {table} cannot have the action {action_id:#010x}")]
    ForeignAction {
        /// The table.
        table: &'static str,
        /// The action's id.
        action_id: u32,
    },
    /// A message of a digest that has another shape.
    #[error("a message of the digest {digest} is no struct of {members} members")]
    BadDigest {
        /// The digest.
        digest: &'static str,
        /// How many members it has in the program.
        members: usize,
    },
}
