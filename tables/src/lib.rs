//! Typed keys and actions of the gateway program, generated from its P4Info.
//!
//! For every table `t` of `bmv2-configs/gateway.p4info.txtpb` there are a key `TKey`, an enum of the actions that an entry can
//! have, `TAction`, and `TTable`, which implements [`Table`]: the same verbs for each. [`AnyEntry`] and [`AnyKey`] hold those of
//! any table; they are ordered and hashed, so that the difference between two sets of entries is an operation on sets.
//!
//! ```
//! use dmux_tables::{AnyEntry, RouterAction, RouterIndex, RouterKey};
//!
//! let key = RouterKey { router: RouterIndex(5) };
//! let action = RouterAction::Tunnel { dst: [203, 0, 113, 100].into(), dst_port: 4000 };
//! let entry = AnyEntry::from((key, action));
//! assert_eq!(AnyEntry::decode(&entry.encode())?, entry);
//! # Ok::<(), dmux_tables::DecodeError>(())
//! ```
//!
//! A key or an action that the program does not have does not compile, nor does a value of another kind or width:
//!
//! ```compile_fail,E0599
//! use dmux_tables::{RouterAction, SetId};
//! let action = RouterAction::ToSet { set: SetId(1), mask: 255 }; // an action of `demux`
//! ```
//! ```compile_fail,E0560
//! use dmux_tables::{RouterIndex, RouterKey};
//! let key = RouterKey { router: RouterIndex(1), provider: 1 }; // no such field
//! ```
//! ```compile_fail,E0308
//! use dmux_tables::{RouterKey, SetId};
//! let key = RouterKey { router: SetId(1) }; // a set is no router
//! ```
//! ```compile_fail,E0277
//! use dmux_tables::{AnyEntry, DemuxAction, RouterIndex, RouterKey};
//! let action = DemuxAction::ToRouter { router: RouterIndex(2) };
//! let entry = AnyEntry::from((RouterKey { router: RouterIndex(1) }, action)); // key and action of two tables
//! ```
//! ```compile_fail,E0080
//! let port = dmux_tables::PortId::of::<512>(); // 9 bits
//! ```

mod any;
#[doc(hidden)]
pub mod codec;
mod error;
mod matching;
mod table;
mod value;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

pub use any::TableInfo;
pub use error::DecodeError;
pub use matching::{Prefix, Priority, Ternary};
pub use table::Table;
pub use value::{
    AccessLinkIndex, Mli, MulticastGroup, OutOfProfile, PortId, PortRole, Priority8, Submit, SwitchTime, Value, VlanId,
};

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// The P4Info that all this was generated from, in text format: what a controller loads into a switch.
pub const P4INFO_TEXT: &str = include_str!("../../bmv2-configs/gateway.p4info.txtpb");

/// An indirect counter or meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Array {
    /// In the P4Info.
    pub id: u32,
    /// In the P4 source.
    pub name: &'static str,
    /// Number of cells.
    pub size: u64,
}

/// The stage of a table: what it refers to has a lower one. Insert and modify from 0 upwards, delete downwards.
///
/// Entries of a table that the program does not have refer to nothing that we know, and come last.
pub fn write_order(table_id: u32) -> u8 {
    table_info(table_id).map_or(u8::MAX, |t| t.stage)
}

/// The table with this id.
pub fn table_info(table_id: u32) -> Option<&'static TableInfo> {
    TABLES.iter().find(|t| t.id == table_id)
}
