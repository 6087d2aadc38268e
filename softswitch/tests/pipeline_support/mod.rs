//! What the pipeline's tests and its measurement share: a clock, frames, and the gateway program with entries.
#![allow(dead_code, reason = "each user takes what it needs")]

pub mod build;
pub mod gateway;
pub mod v1model;

use dmux_softswitch::pipeline::{
    ActionCall, ActionIx, Clock, Dataplane, EntrySpec, MatchValue, Program, TableIx, Worker,
};
use std::sync::Arc;

/// A clock that stands still.
pub struct Still(pub u64);

impl Clock for Still {
    fn now_us(&self) -> u64 {
        self.0
    }
}

/// A data plane for a program.
pub fn dataplane(json: &[u8]) -> Dataplane {
    match Program::compile(json) {
        Ok(p) => Dataplane::new(p, Arc::new(Still(1_000_000))),
        Err(e) => panic!("the program does not load: {e}"),
    }
}

/// The table of that name.
pub fn table(dp: &Dataplane, name: &str) -> TableIx {
    dp.program().table_by_name(name).unwrap_or_else(|| panic!("no table {name}"))
}

/// An action of a table, with arguments.
pub fn call(dp: &Dataplane, t: TableIx, action: &str, args: &[u128]) -> ActionCall {
    let p = dp.program();
    let found = p.tables()[t.0].actions.iter().find(|a| p.actions()[a.0].name == action);
    let ActionIx(ix) = *found.unwrap_or_else(|| panic!("{} has no action {action}", p.tables()[t.0].name));
    ActionCall { action: ActionIx(ix), args: args.to_vec() }
}

/// Adds an entry, by names.
pub fn insert(dp: &Dataplane, name: &str, key: &[MatchValue], priority: i32, action: &str, args: &[u128]) {
    let t = table(dp, name);
    let spec = EntrySpec { key: key.to_vec(), priority, action: call(dp, t, action, args) };
    dp.insert(t, &spec).unwrap_or_else(|e| panic!("{e}"));
}

/// What comes out of a data plane for one frame.
pub fn run(dp: &Dataplane, port: u16, frame: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut out = Vec::new();
    Worker::new(dp).process(dp, port, frame, 1_000_000, &mut |p, f| out.push((p, f.to_vec())));
    out
}

/// RFC 1071 over bytes, the slow and plain way.
pub fn checksum(data: &[u8]) -> u16 {
    let mut sum = 0u32;
    for c in data.chunks(2) {
        sum += u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
