//! The processes that are measured: found, started, watched and ended.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How much of a dead process's log an error quotes.
const LOG_TAIL_BYTES: usize = 2000;
/// How long a process may take to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// The program's path, if it is on PATH and can be run.
pub fn on_path(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

/// The first line that `program --version` prints.
pub fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let line = output.ok().and_then(|o| {
        let text = String::from_utf8_lossy(if o.stdout.is_empty() { &o.stderr } else { &o.stdout }).into_owned();
        text.lines().next().map(str::to_owned)
    });
    line.unwrap_or_else(|| "version unknown".to_owned())
}

/// The `dmux` binary beside this one, as `cargo build --release --bins` leaves it.
pub fn dmux_binary() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program cannot find its own file")?;
    let dmux = own.with_file_name("dmux");
    if !dmux.is_file() {
        bail!("no dmux beside dmux-bench: run `cargo build --release --bins` first");
    }
    Ok(dmux)
}

/// A child process that does not outlive this one.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output in `dir/name.log`. Call it from a thread that lives as long as the child is
    /// to live: the kernel ends the child with its parent *thread*.
    pub fn spawn(name: &str, command: &mut Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        // A process that is started again goes on in its old log.
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("{} cannot be written", log.display()))?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        Self::start(name, command, log)
    }

    /// Like [`spawn`](Self::spawn), with pipes to its standard input and from its standard output.
    pub fn spawn_piped(name: &str, command: &mut Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        Self::start(name, command, log)
    }

    fn start(name: &str, command: &mut Command, log: PathBuf) -> Result<Self> {
        // SAFETY: prctl is async-signal-safe, and nothing else runs between fork and exec here.
        unsafe {
            command.pre_exec(|| {
                // However this program ends, what it started ends with it.
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let program = command.get_program().to_owned();
        let child = command.spawn().with_context(|| format!("{} cannot be started", Path::new(&program).display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends SIGKILL, and does not wait.
    pub fn strike(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("{} cannot be killed", self.name))
    }

    /// Waits until it is gone, after [`strike`](Self::strike).
    pub fn bury(mut self) -> Result<()> {
        self.child.wait().with_context(|| format!("{} cannot be waited for", self.name))?;
        Ok(())
    }

    /// Fails with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; the end of its log:\n{}", self.name, tail(&self.log));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Once it was waited for, its id may be somebody else's.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: a plain system call; the child is ours and not yet waited for, so the id is still its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                // Both may fail only because it is gone already.
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
}

/// A TCP port on loopback that nobody listens on at this moment. Somebody else may take it before its user does, so
/// whoever starts a program with it tries again when the program ends at once.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("no free TCP port")?;
    Ok(listener.local_addr()?.port())
}

/// CPU time that a process has used so far, all threads, user and system.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone: its CPU time cannot be read"))?;
    let ticks = stat_ticks(&stat).context("/proc/PID/stat is not as expected")?;
    // SAFETY: no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u64::try_from(per_second).ok().filter(|n| *n > 0).context("no clock tick rate")?;
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / per_second))
}

/// CPU time that the calling thread has used so far: unlike the clock, it stands still while others have the processor.
pub fn thread_cpu_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is live; the kernel writes it.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error()).context("the thread's CPU time cannot be read");
    }
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

/// `utime + stime`: fields 14 and 15. The name in field 2 may hold anything, so counting starts behind its bracket.
fn stat_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Runs a command to its end; its standard error becomes the error.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        let args: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        bail!("`{program} {}`: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 110 20 0 0 20 0 1 0 100";
        assert_eq!(stat_ticks(stat), Some(130));
        assert_eq!(stat_ticks("42 (x) S 1 2"), None);
    }

    #[test]
    fn own_cpu_time_grows() {
        let before = cpu_time(std::process::id()).unwrap();
        let mut x = 0u64;
        while cpu_time(std::process::id()).unwrap() == before {
            x = std::hint::black_box(x.wrapping_add(1));
        }
        assert!(cpu_time(std::process::id()).unwrap() > before);
    }

    #[test]
    fn a_dead_daemon_is_reported_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo reason >&2; exit 3"]);
        let mut daemon = Daemon::spawn("dead", &mut command, dir.path()).unwrap();
        let error = loop {
            match daemon.check() {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("reason") && error.contains('3'), "{error}");
    }
}
