//! The lab's child processes: this same binary, so that a `kill -9` is real.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A child process with its output in a file. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    arguments: Vec<String>,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `dmux ARGUMENTS…`, appending its output to `<logs>/<name>.log`.
    pub fn start(name: &str, arguments: Vec<String>, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let child = spawn(&arguments, &log).with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), arguments, log, child })
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL: no farewell of any kind. Returns when it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).with_context(|| format!("killing {}", self.name))?;
        Ok(())
    }

    /// Kills it if it runs, and starts it again as it was started first.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            self.kill()?;
        }
        self.child = spawn(&self.arguments, &self.log).with_context(|| format!("restarting {}", self.name))?;
        Ok(())
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of its output, for the report of a failure.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let text = self.output();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(|l| format!("{}: {l}", self.name)).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running()
            && let Err(error) = self.kill()
        {
            tracing::warn!(%error, "a lab process may be left over");
        }
    }
}

fn spawn(arguments: &[String], log: &Path) -> io::Result<Child> {
    let out = File::options().create(true).append(true).open(log)?;
    let err = out.try_clone()?;
    Command::new(std::env::current_exe()?).args(arguments).stdin(Stdio::null()).stdout(out).stderr(err).spawn()
}
