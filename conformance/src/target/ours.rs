//! The embedded switch, in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dmux_softswitch::ports::LinkConfig;
use dmux_softswitch::{MemoryPort, Switch};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{CPU_PORT, DEVICE_ID, Frame, PATIENCE};

/// A switch with ports in memory.
pub(super) struct Ours {
    switch: Arc<Switch>,
    ports: BTreeMap<u16, MemoryPort>,
    sent: u64,
    /// Ends the server when dropped.
    _stop: oneshot::Sender<()>,
}

impl Ours {
    /// Starts it; returns the address of its P4Runtime server.
    pub(super) async fn start(ports: &[u16]) -> Result<(Self, String)> {
        let switch = Arc::new(Switch::builder(DEVICE_ID, CPU_PORT).start()?);
        let mut ends = BTreeMap::new();
        for port in ports.iter().filter(|p| **p != CPU_PORT) {
            ends.insert(*port, switch.add_memory_port(*port, &LinkConfig::default())?);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the P4Runtime server")?;
        let address = listener.local_addr()?.to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&switch);
        tokio::spawn(async move {
            // Its end is the end of the sessions, which notice.
            let _ = served.serve(listener, async { drop(stopped.await) }).await;
        });
        Ok((Self { switch, ports: ends, sent: 0, _stop: stop }, address))
    }

    /// Sends frames in order: a port takes its next one only when the ports before it have given theirs, since the switch
    /// turns to its ports in an order of its own.
    pub(super) async fn send(&mut self, frames: &[Frame]) -> Result<()> {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        for (port, frame) in frames {
            while last.is_some_and(|last| last != *port) && !self.taken() {
                ensure!(Instant::now() < deadline, "the switch does not take frames");
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            last = Some(*port);
            let end = self.ports.get(port).with_context(|| format!("port {port} was not made"))?;
            ensure!(end.send(frame), "port {port} takes no more frames");
            self.sent += 1;
        }
        Ok(())
    }

    /// Whether all frames that were sent have been taken in.
    pub(super) fn taken(&self) -> bool {
        let received: u64 = self.switch.port_statistics().values().map(|p| p.received_frames).sum();
        received >= self.sent
    }

    /// Takes what has come out.
    pub(super) fn collect(&mut self, out: &mut Vec<Frame>) {
        for (number, port) in &self.ports {
            while let Some(frame) = port.receive(Duration::ZERO) {
                out.push((*number, frame));
            }
        }
    }
}
