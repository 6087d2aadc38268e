//! The switches that are compared: ours and BMv2, each a process that is driven by P4Runtime.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dmux_p4rt::ElectionId;
use dmux_p4rt::client::{Arbitration, Commit, Events, Session, Target, insert};
use dmux_p4rt::p4::v1::forwarding_pipeline_config::Cookie;
use dmux_p4rt::p4::v1::{ForwardingPipelineConfig, TableEntry, Update};

use crate::gateway::{CPU_PORT, Pipeline};
use crate::process::{Daemon, dmux_binary, free_port, on_path, version};

const DEVICE_ID: u64 = 1;
const ELECTION: ElectionId = ElectionId(1);
const COOKIE: u64 = 0xd11;
const READY_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);
/// BMv2 takes seconds for a batch of a thousand on a busy machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts to start, since the port may be taken between choosing and using it.
const START_ATTEMPTS: usize = 3;

/// Which switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `dmux switch`.
    Dmux,
    /// `simple_switch_grpc`.
    Bmv2,
}

impl Kind {
    /// Where its program is, or why it cannot be measured.
    pub fn program(self) -> Result<PathBuf> {
        match self {
            Self::Dmux => dmux_binary(),
            Self::Bmv2 => on_path("simple_switch_grpc").context("not on PATH"),
        }
    }

    /// Name and version for the table.
    pub fn title(self) -> String {
        match (self, self.program()) {
            (Self::Dmux, _) => "dmux switch".to_owned(),
            (Self::Bmv2, Ok(program)) => format!("BMv2 simple_switch_grpc {}", version(&program)),
            (Self::Bmv2, Err(_)) => "BMv2 simple_switch_grpc".to_owned(),
        }
    }

    /// The command line; `ports` are (number, interface).
    fn command(self, program: &Path, grpc: &str, ports: &[(u16, String)]) -> Command {
        let mut command = Command::new(program);
        let cpu_port = CPU_PORT.to_string();
        let device_id = DEVICE_ID.to_string();
        match self {
            Self::Dmux => {
                command.args(["switch", "--p4runtime", grpc, "--device-id", &device_id, "--cpu-port", &cpu_port]);
                for (number, interface) in ports {
                    command.args(["--port", &format!("{number}@{interface}")]);
                }
            }
            Self::Bmv2 => {
                command.args(["--no-p4", "--device-id", &device_id]);
                for (number, interface) in ports {
                    command.args(["-i", &format!("{number}@{interface}")]);
                }
                command.args(["--", "--grpc-server-addr", grpc, "--cpu-port", &cpu_port]);
            }
        }
        command
    }
}

/// A running switch with the program loaded, and a session that is primary.
pub struct Switch {
    /// Which.
    pub kind: Kind,
    /// For reads and writes.
    pub session: Session,
    daemon: Daemon,
    // Dropping the receiver is allowed, but then each packet-in would count as lost.
    _events: Events,
}

impl Switch {
    /// Starts a switch and loads `pipeline`. Its log goes to `dir`.
    pub async fn start(kind: Kind, ports: &[(u16, String)], pipeline: &Pipeline, dir: &Path) -> Result<Self> {
        let program = kind.program()?;
        let mut attempt = 1;
        loop {
            match Self::try_start(kind, &program, ports, pipeline, dir).await {
                Err(error) if attempt == START_ATTEMPTS => return Err(error.context(kind.title())),
                Err(_) => attempt += 1,
                started => return started,
            }
        }
    }

    async fn try_start(
        kind: Kind,
        program: &Path,
        ports: &[(u16, String)],
        pipeline: &Pipeline,
        dir: &Path,
    ) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let name = if kind == Kind::Dmux { "dmux-switch" } else { "bmv2" };
        let mut daemon = Daemon::spawn(name, &mut kind.command(program, &address, ports), dir)?;
        let mut target = Target::new(format!("http://{address}"), DEVICE_ID);
        target.call_timeout = CALL_TIMEOUT;
        target.pipeline_timeout = CALL_TIMEOUT;
        let deadline = Instant::now() + READY_WITHIN;
        let (session, events) = loop {
            match Session::connect(target.clone(), Some(ELECTION)).await {
                Ok(session) => break session,
                Err(error) => {
                    daemon.check()?;
                    if Instant::now() >= deadline {
                        return Err(error).context("the switch does not answer");
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        };
        ensure!(session.arbitration() == Arbitration::Primary, "the switch made somebody else primary");
        let config = ForwardingPipelineConfig {
            p4info: Some(pipeline.info.raw().clone()),
            p4_device_config: pipeline.json.clone(),
            cookie: Some(Cookie { cookie: COOKIE }),
        };
        session.set_pipeline(config, Commit::Replace).await.context("the switch refuses the program")?;
        Ok(Self { kind, session, daemon, _events: events })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Fails with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.daemon.check()
    }

    /// Inserts entries, each of which must be accepted, and reads their number back.
    pub async fn install(&self, entries: &[TableEntry]) -> Result<()> {
        let updates = entries.iter().cloned().map(insert).collect();
        write_all(&self.session, updates).await?;
        let read = self.session.read_table(0).await?.len();
        ensure!(
            read == entries.len(),
            "{}: {} entries were written and {read} read back",
            self.kind.title(),
            entries.len()
        );
        Ok(())
    }
}

/// Writes updates, each of which must be accepted.
pub async fn write_all(session: &Session, updates: Vec<Update>) -> Result<()> {
    let results = session.write(updates).await?;
    if let Some((n, Err(error))) = results.iter().enumerate().find(|(_, r)| r.is_err()) {
        bail!("update {n} of {} was refused: {error}", results.len());
    }
    Ok(())
}
