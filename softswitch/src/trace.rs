//! Which packets are traced, and where the text goes.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::ports::PortId;

/// Packets traced in a second when nothing else is said.
pub const DEFAULT_TRACES_PER_SECOND: u32 = 10;

/// What to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// Packets in a second; more are passed over.
    pub per_second: u32,
    /// Ports at which they arrive; none named means all.
    pub ports: Vec<PortId>,
    /// Where the text goes; to the log if there is no file.
    pub file: Option<PathBuf>,
}

/// Chooses packets and writes down their ways.
pub(crate) struct Tracer {
    config: TraceConfig,
    file: Option<File>,
    /// The second that `used` counts in.
    second: u64,
    used: u32,
    passed_over: u64,
    number: u64,
}

impl Tracer {
    pub(crate) fn new(config: TraceConfig) -> io::Result<Self> {
        let file = config.file.as_ref().map(File::create).transpose()?;
        Ok(Self { config, file, second: 0, used: 0, passed_over: 0, number: 0 })
    }

    /// Whether a packet that arrives at `port` is traced; `now` is in nanoseconds.
    pub(crate) fn wants(&mut self, port: PortId, now: u64) -> bool {
        if !self.config.ports.is_empty() && !self.config.ports.contains(&port) {
            return false;
        }
        let second = now / 1_000_000_000;
        if second != self.second {
            (self.second, self.used) = (second, 0);
        }
        if self.used >= self.config.per_second {
            self.passed_over += 1;
            return false;
        }
        self.used += 1;
        true
    }

    /// Writes down one packet's way.
    pub(crate) fn write(&mut self, text: &str) {
        self.number += 1;
        let passed_over = match std::mem::take(&mut self.passed_over) {
            0 => String::new(),
            n => format!(" ({n} packets passed over)"),
        };
        let block = format!("packet {}{passed_over} {text}", self.number);
        let Some(file) = &mut self.file else {
            tracing::info!(target: "dmux_softswitch::trace", "{block}");
            return;
        };
        if let Err(error) = file.write_all(block.as_bytes()).and_then(|()| file.write_all(b"\n")) {
            tracing::warn!(%error, "the trace file cannot be written: tracing ends");
            self.config.per_second = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_packets_of_the_named_ports_a_second() {
        let mut tracer = Tracer::new(TraceConfig { per_second: 2, ports: vec![1, 3], file: None }).unwrap();
        let second = 1_000_000_000;
        assert!(!tracer.wants(2, 0));
        let wanted: Vec<bool> = (0..4).map(|n| tracer.wants(1 + 2 * (n % 2), n.into())).collect();
        assert_eq!(wanted, [true, true, false, false]);
        assert_eq!(tracer.passed_over, 2);
        assert!(tracer.wants(3, second) && tracer.wants(1, second) && !tracer.wants(1, 2 * second - 1));
    }
}
