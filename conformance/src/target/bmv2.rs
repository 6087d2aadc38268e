//! BMv2: a process that ends with this one.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dmux_p4rt::client::{Events, Session};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::{CPU_PORT, DEVICE_ID, Frame, stream};

/// How long BMv2 may take to open its ports: a second on an idle machine.
const START: Duration = Duration::from_secs(30);
/// How long it may take over the frames of one exchange; half a second is usual.
const EXCHANGE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// A running `simple_switch_grpc`.
pub(super) struct Bmv2 {
    process: Child,
    dataplane: String,
    channel: Option<Channel>,
    _log: tempfile::NamedTempFile,
}

impl Drop for Bmv2 {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nothing listens on. BMv2 cannot be asked to choose one and tell.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?.port())
}

impl Bmv2 {
    /// Starts it; returns the address of its P4Runtime server.
    pub(super) async fn start(program: &Path) -> Result<(Self, String)> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let dataplane = format!("127.0.0.1:{}", free_port()?);
        let log = tempfile::NamedTempFile::new().context("no file for BMv2's log")?;
        let mut command = Command::new(program);
        command
            .args(["--no-p4", "--device-id", &DEVICE_ID.to_string(), "--"])
            .args(["--grpc-server-addr", &address, "--dp-grpc-server-addr", &dataplane])
            .args(["--cpu-port", &CPU_PORT.to_string()])
            .stdin(Stdio::null())
            .stdout(log.reopen()?)
            .stderr(log.reopen()?);
        // SAFETY: prctl is async-signal-safe, and nothing else runs between fork and exec here.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let process = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        Ok((Self { process, dataplane, channel: None, _log: log }, address))
    }

    /// Opens the session once it listens.
    pub(super) async fn connect(&mut self, address: &str) -> Result<(Session, Events)> {
        let deadline = Instant::now() + START;
        loop {
            match super::connect(address).await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    self.check()?;
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    /// Fails if it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            let said = std::fs::read_to_string(self._log.path()).unwrap_or_default();
            let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("").to_owned();
            bail!("BMv2 ended with {status}: {last}");
        }
        Ok(())
    }

    /// Collects frames while `meanwhile` runs, and a moment before and after: whether BMv2 listens already, and whether it
    /// has taken in what the controller sent, nobody tells.
    pub(super) async fn listen(&mut self, meanwhile: impl Future<Output = Result<()>>) -> Result<Vec<Frame>> {
        // Whether it is ready shows only when something is exchanged.
        self.exchange(&[]).await?;
        let channel = self.channel().await?;
        let meanwhile = async {
            tokio::time::sleep(super::QUIET).await;
            meanwhile.await?;
            tokio::time::sleep(super::QUIET).await;
            Ok(())
        };
        let out = tokio::time::timeout(EXCHANGE, stream::listen(channel, meanwhile)).await;
        out.context("BMv2 has not finished with packet-outs")??.context("BMv2's data plane is not ready")
    }

    async fn channel(&mut self) -> Result<Channel> {
        Ok(match &self.channel {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{}", self.dataplane))?;
                let channel = endpoint.connect().await.context("BMv2's data plane does not answer")?;
                self.channel.insert(channel).clone()
            }
        })
    }

    /// Sends frames and collects all that they lead to, but for what goes to the controller.
    pub(super) async fn exchange(&mut self, frames: &[Frame]) -> Result<Vec<Frame>> {
        let channel = self.channel().await?;
        let exchange = async {
            loop {
                match stream::exchange(channel.clone(), frames).await? {
                    Some(out) => return Ok(out),
                    None => tokio::time::sleep(POLL).await,
                }
            }
        };
        match tokio::time::timeout(EXCHANGE, exchange).await {
            Ok(Ok(out)) => Ok(out),
            Ok(Err(error)) => {
                // Why it broke is more of use than that it did.
                tokio::time::sleep(POLL).await;
                self.check()?;
                Err(error)
            }
            Err(_) => bail!("BMv2 has not finished with {} frames after {EXCHANGE:?}", frames.len()),
        }
    }
}
