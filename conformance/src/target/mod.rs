//! A switch that takes entries and frames, and gives back what comes out: ours in this process, or BMv2.
//!
//! ```text
//!   Target ── Session (P4Runtime) ──▶ entries, packet-outs;  ◀── packet-ins, digests
//!      └───── Wire: memory ports (ours), the data plane's gRPC stream (BMv2) ──▶ frames of any length, ◀── frames
//! ```
//! Both are driven through the same session, so that entries, counters and digests are the same messages. BMv2's frames go
//! through `--dp-grpc-server-addr` and not through veth pairs: an interface refuses frames shorter than an Ethernet header,
//! which most packet tests send, and the stream tells when BMv2 has finished with everything that it was given.

mod bmv2;
mod ours;
mod packet_io;
mod stream;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dmux_p4rt::ElectionId;
use dmux_p4rt::client::{Arbitration, Commit, Event, Events, Session, Target as Endpoint};
use dmux_p4rt::p4::v1::forwarding_pipeline_config::Cookie;
use dmux_p4rt::p4::v1::{DigestList, ForwardingPipelineConfig, Update};
use dmux_p4rt::status::UpdateResult;

use crate::program::Program;
use packet_io::PacketIo;

/// The port of packet-in and packet-out.
pub const CPU_PORT: u16 = 510;

const DEVICE_ID: u64 = 1;
const ELECTION: ElectionId = ElectionId(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long nothing must have come for a switch to be taken as finished, where it cannot say so itself.
const QUIET: Duration = Duration::from_millis(40);
/// How long frames that must still come are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The embedded switch, in this process.
    Ours,
    /// `simple_switch_grpc`, at this path.
    Bmv2(PathBuf),
}

/// A frame, and the port that it enters or leaves at.
pub type Frame = (u16, Vec<u8>);

enum Wire {
    Ours(ours::Ours),
    Bmv2(bmv2::Bmv2),
}

/// A running switch with a program.
pub struct Target {
    /// For reads and writes; primary.
    pub session: Session,
    /// Digests that came so far.
    pub digests: Vec<DigestList>,
    events: Events,
    wire: Wire,
    io: PacketIo,
    ports: Vec<u16>,
}

impl Target {
    /// Starts a switch with these ports and loads `program`.
    ///
    /// # Errors
    /// A switch that does not start, or that refuses the program.
    pub async fn start(kind: &Kind, program: &Program, ports: &[u16]) -> Result<Self> {
        let io = PacketIo::new(&program.info);
        let (wire, address) = match kind {
            Kind::Ours => ours::Ours::start(ports).await.map(|(ours, address)| (Wire::Ours(ours), address))?,
            Kind::Bmv2(path) => bmv2::Bmv2::start(path).await.map(|(bmv2, address)| (Wire::Bmv2(bmv2), address))?,
        };
        let mut wire = wire;
        let (session, events) = match &mut wire {
            Wire::Ours(_) => connect(&address).await?,
            Wire::Bmv2(bmv2) => bmv2.connect(&address).await?,
        };
        ensure!(session.arbitration() == Arbitration::Primary, "the switch made somebody else primary");
        let config = ForwardingPipelineConfig {
            p4info: Some(program.info.clone()),
            p4_device_config: program.json.clone(),
            cookie: Some(Cookie { cookie: 1 }),
        };
        session.set_pipeline(config, Commit::Replace).await.context("the switch refuses the program")?;
        Ok(Self { session, digests: Vec::new(), events, wire, io, ports: ports.to_vec() })
    }

    /// Writes updates, each on its own, and gives the result of each.
    ///
    /// # Errors
    /// A session that is over.
    pub async fn write(&self, updates: Vec<Update>) -> Result<Vec<UpdateResult>> {
        self.session.write(updates).await.context("the switch does not answer a write")
    }

    /// Sends frames in order and collects what comes out. `at_least` frames are waited for; more may come.
    ///
    /// # Errors
    /// A switch that is gone.
    pub async fn exchange(&mut self, frames: &[Frame], at_least: usize) -> Result<Vec<Frame>> {
        let mut out = Vec::new();
        // Packet-outs take another way in than frames: what stands between them goes in runs.
        for run in frames.chunk_by(|a, b| (a.0 == CPU_PORT) == (b.0 == CPU_PORT)) {
            // What enters by one way may not overtake what entered by the other.
            if !std::ptr::eq(run.as_ptr(), frames.as_ptr()) {
                self.settle(&mut out, 0).await?;
            }
            let to_controller = run.first().is_some_and(|(port, _)| *port == CPU_PORT);
            match (&mut self.wire, to_controller) {
                (Wire::Ours(ours), false) => ours.send(run).await?,
                (Wire::Bmv2(bmv2), false) => out.extend(bmv2.exchange(run).await?),
                (Wire::Ours(_), true) => packet_outs(&self.session, &self.io, run).await?,
                (Wire::Bmv2(bmv2), true) => {
                    let sending = packet_outs(&self.session, &self.io, run);
                    out.extend(bmv2.listen(sending).await?);
                }
            }
        }
        self.settle(&mut out, at_least).await?;
        // BMv2's stream carries what is sent to ports that it does not have.
        out.retain(|(port, _)| *port == CPU_PORT || self.ports.contains(port));
        Ok(out)
    }

    /// Waits until nothing comes any more.
    async fn settle(&mut self, out: &mut Vec<Frame>, at_least: usize) -> Result<()> {
        let began = tokio::time::Instant::now();
        let mut last = began;
        loop {
            let before = out.len() + self.digests.len();
            match &mut self.wire {
                Wire::Ours(ours) => ours.collect(out),
                Wire::Bmv2(bmv2) => bmv2.check()?,
            }
            while let Some(event) = self.events.try_next() {
                match event {
                    Event::PacketIn(packet) => out.push((CPU_PORT, self.io.frame(&packet))),
                    Event::Digest(list) => self.digests.push(list),
                    Event::StreamError(error) => bail!("the switch complains: {}", error.message),
                    Event::IdleTimeout(_) => {}
                }
            }
            let now = tokio::time::Instant::now();
            if out.len() + self.digests.len() > before {
                last = now;
            }
            let finished = match &self.wire {
                Wire::Ours(ours) => ours.taken(),
                // It says itself when it has finished with frames; what goes to the controller takes another way.
                Wire::Bmv2(_) => true,
            };
            let quiet = match &self.wire {
                Wire::Bmv2(_) if !self.io.any() => Duration::ZERO,
                _ => QUIET,
            };
            let enough = out.len() >= at_least && finished;
            if (enough && now - last >= quiet) || now - began >= PATIENCE.max(quiet) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn packet_outs(session: &Session, io: &PacketIo, frames: &[Frame]) -> Result<()> {
    for (_, frame) in frames {
        let packet = io.packet_out(frame).context("a frame at the CPU port")?;
        session.send_packet_out(packet).await.context("a packet-out")?;
    }
    Ok(())
}

async fn connect(address: &str) -> Result<(Session, Events)> {
    let mut endpoint = Endpoint::new(format!("http://{address}"), DEVICE_ID);
    endpoint.call_timeout = CALL_TIMEOUT;
    endpoint.pipeline_timeout = CALL_TIMEOUT;
    Session::connect(endpoint, Some(ELECTION)).await.context("the switch does not answer")
}
