//! Whether the embedded switch does what BMv2 does.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`program`] | a compiled program: from files, or from P4 by p4c |
//! | [`target`] | a switch that takes entries and frames: ours in this process, or BMv2 |
//! | [`stf`] | packet tests: p4c's language, translated to P4Runtime |
//! | [`diff`] | generated entries and frames, on ours and on BMv2, compared |
//! | [`fuzz`] | what no input may do: break the loader, the packet path, the P4Runtime server |
//! | [`generate`] | entries and frames made from a program |
//! | [`dice`] | numbers that a seed determines |
//!
//! A development tool: nothing of dmux needs it.

pub mod dice;
pub mod diff;
pub mod fuzz;
pub mod generate;
pub mod program;
pub mod stf;
pub mod target;
