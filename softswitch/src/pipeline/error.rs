//! What can go wrong when a program is loaded, and when its tables are written.

use thiserror::Error;

/// Why a BMv2 JSON was refused. Nothing unsupported is ever half loaded: one of these names it instead.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// The bytes are not JSON, or an object lacks a field that the format requires.
    #[error("not a BMv2 JSON: {0}; compile the program with p4c-bm2-ss (or p4c -b bmv2)")]
    Json(String),
    /// The program uses something that this switch does not implement.
    #[error("{context}: {feature} is not supported by the embedded switch")]
    Unsupported {
        /// The feature, for example "action profiles".
        feature: String,
        /// The object of the JSON that uses it, for example "table ingress.t".
        context: String,
    },
    /// The JSON refers to something that it does not define.
    #[error("{context}: there is no {kind} {name}")]
    Unknown {
        /// What was looked for ("header", "action", …).
        kind: &'static str,
        /// Its name or number.
        name: String,
        /// The object of the JSON that refers to it.
        context: String,
    },
    /// An object is there but makes no sense.
    #[error("{context}: {what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
        /// The object of the JSON.
        context: String,
    },
}

impl LoadError {
    pub(crate) fn unsupported(feature: impl Into<String>, context: impl Into<String>) -> Self {
        Self::Unsupported { feature: feature.into(), context: context.into() }
    }
    pub(crate) fn unknown(kind: &'static str, name: impl ToString, context: impl Into<String>) -> Self {
        Self::Unknown { kind, name: name.to_string(), context: context.into() }
    }
    pub(crate) fn invalid(what: impl Into<String>, context: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), context: context.into() }
    }
}

/// Why a read or write of a table, counter, meter or register was refused. The state is unchanged.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum TableError {
    /// No table, counter, meter or register with that index.
    #[error("there is no {kind} number {index}")]
    NoSuchObject {
        /// "table", "counter", "meter" or "register".
        kind: &'static str,
        /// The index that was asked for.
        index: usize,
    },
    /// An entry with the same key and priority is already there.
    #[error("table {table}: an entry with this key{} is already there; MODIFY it instead", fmt_priority(*.priority))]
    Exists {
        /// The table's name.
        table: String,
        /// The priority, for tables that have one.
        priority: i32,
    },
    /// No entry with that key and priority.
    #[error("table {table}: no entry with this key{}", fmt_priority(*.priority))]
    NotFound {
        /// The table's name.
        table: String,
        /// The priority, for tables that have one.
        priority: i32,
    },
    /// The table holds as many entries as the program gave it.
    #[error("table {table} is full: it holds {capacity} entries")]
    Full {
        /// The table's name.
        table: String,
        /// The size the program gave it.
        capacity: usize,
    },
    /// The key does not fit the table.
    #[error("table {table}: {what}")]
    BadKey {
        /// The table's name.
        table: String,
        /// What is wrong with the key.
        what: String,
    },
    /// The priority is missing where one is needed, or given where none may be.
    #[error("table {table}: {what}")]
    BadPriority {
        /// The table's name.
        table: String,
        /// What is wrong with the priority.
        what: String,
    },
    /// The action is not one of the table's, may not be used so, or its arguments do not fit.
    #[error("table {table}: {what}")]
    BadAction {
        /// The table's name.
        table: String,
        /// What is wrong with the action.
        what: String,
    },
    /// The table or its default action is constant.
    #[error("table {table}: {what} is constant and cannot be changed")]
    Constant {
        /// The table's name.
        table: String,
        /// What is constant: "the table" or "its default action".
        what: &'static str,
    },
    /// A member or group of an action profile does not make sense.
    #[error("action profile {profile}: {what}")]
    BadProfile {
        /// The profile's name.
        profile: String,
        /// What is wrong.
        what: String,
    },
    /// An action profile has no room for a member or a group.
    #[error("action profile {profile} is full: {what}")]
    ProfileFull {
        /// The profile's name.
        profile: String,
        /// What does not fit.
        what: String,
    },
    /// A member or group with that id is already there.
    #[error("action profile {profile}: {what} {id} is already there; MODIFY it instead")]
    MemberExists {
        /// The profile's name.
        profile: String,
        /// "member" or "group".
        what: &'static str,
        /// Its id.
        id: u32,
    },
    /// No member or group with that id.
    #[error("action profile {profile}: there is no {what} {id}")]
    NoSuchMember {
        /// The profile's name.
        profile: String,
        /// "member" or "group".
        what: &'static str,
        /// Its id.
        id: u32,
    },
    /// A member or group that is still named by something cannot be removed.
    #[error("action profile {profile}: {what} {id} is used by {by}, which has to let go of it first")]
    InUse {
        /// The profile's name.
        profile: String,
        /// "member" or "group".
        what: &'static str,
        /// Its id.
        id: u32,
        /// "a group" or "an entry".
        by: &'static str,
    },
    /// A table does not support idle timeouts, but one was set.
    #[error("table {table} does not support idle timeouts (the program does not say support_timeout)")]
    NoIdleTimeout {
        /// The table's name.
        table: String,
    },
    /// A table has no direct counter or direct meter, but one was read or written.
    #[error("table {table} has no direct {what}")]
    NoDirect {
        /// The table's name.
        table: String,
        /// "counter" or "meter".
        what: &'static str,
    },
    /// An index beyond the size of a counter, meter or register array.
    #[error("{name} has {size} cells; index {index} is out of range")]
    BadIndex {
        /// The array's name.
        name: String,
        /// The number of its cells.
        size: usize,
        /// The index that was asked for.
        index: usize,
    },
    /// A hash cannot have these parameters.
    #[error("calculation {name}: {what}")]
    BadHash {
        /// The calculation's name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A meter configuration that cannot be kept.
    #[error("{name}: {what}")]
    BadMeter {
        /// The meter's name.
        name: String,
        /// What is wrong.
        what: String,
    },
}

fn fmt_priority(priority: i32) -> String {
    if priority == 0 { String::new() } else { format!(" and priority {priority}") }
}
