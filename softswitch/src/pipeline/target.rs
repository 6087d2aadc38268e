//! What a switch is to the programs that it runs: what BMv2 takes as options of its command line.

use super::marks::Marking;

/// v1model's drop port, if nothing else is said.
pub const DEFAULT_DROP_PORT: u16 = 511;
/// Priorities of a port's egress queues, at most: `standard_metadata.priority` has three bits.
pub const MAX_PRIORITIES: u8 = 8;

/// What programs are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The `egress_spec` of a packet that is dropped (BMv2's `--drop-port`). No port has that number.
    pub drop_port: u16,
    /// Priorities of each port's egress queues, from 0, the lowest (BMv2's `--priority-queues`). A packet with any other
    /// one is dropped before egress, whether its port has queues or not.
    pub priority_queues: u8,
    /// What programs tell about the ways of their packets.
    pub marking: Marking,
}

impl Default for Target {
    fn default() -> Self {
        Self { drop_port: DEFAULT_DROP_PORT, priority_queues: 1, marking: Marking::None }
    }
}
