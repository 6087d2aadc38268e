//! What the figures were measured on: machine, commit, date, and how calm it was.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::table::{number, percentile};

/// Appends of the disk probe.
const DISK_PROBES: usize = 200;
const DISK_PROBE_BYTES: usize = 4096;
/// Above this share of the processors the figures say more about other work than about ours.
const CALM_LOAD_PER_CPU: f64 = 0.5;
/// Longest wait for a calm machine.
const CALM_WAIT: Duration = Duration::from_secs(60);
const CALM_POLL: Duration = Duration::from_secs(5);

/// Lines "name: value" about the machine, the source and the moment.
pub fn describe(root: &Path) -> Vec<(String, String)> {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut lines = vec![
        ("date".to_owned(), date(SystemTime::now())),
        ("commit".to_owned(), commit(root)),
        ("CPU".to_owned(), format!("{cpus} × {}", cpu_model())),
        ("memory".to_owned(), memory()),
        ("kernel".to_owned(), first_line("/proc/sys/kernel/osrelease")),
        ("load before".to_owned(), first_line("/proc/loadavg")),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).ok().and_then(|t| t.lines().next().map(|l| l.trim().to_owned())).unwrap_or_default()
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.trim_start().strip_prefix(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |m| m.trim().to_owned())
}

fn memory() -> String {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        info.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map_or_else(String::new, |k| format!("{} GiB", number(k / 1024.0 / 1024.0)))
}

fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "none (no git commit here)".to_owned() };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => hash,
        _ => format!("{hash} with local changes"),
    }
}

/// `YYYY-MM-DD HH:MM UTC`.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = civil_date(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

/// Days since 1970-01-01 to a Gregorian date. Years start in March here, so that the leap day comes last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The one-minute load average.
pub fn load() -> Option<f64> {
    first_line("/proc/loadavg").split(' ').next()?.parse().ok()
}

/// Waits, at most a minute, until other work has calmed down. Returns a note when it has not.
pub fn wait_until_calm() -> Option<String> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let deadline = Instant::now() + CALM_WAIT;
    let mut said = false;
    loop {
        let load = load()?;
        if load <= CALM_LOAD_PER_CPU * cpus {
            return None;
        }
        if Instant::now() >= deadline {
            return Some(format!(
                "The load average was {} on {} processors when this run began: other work disturbed it.",
                number(load),
                number(cpus)
            ));
        }
        if !said {
            eprintln!("load average {}: waiting up to {} s for a calm machine", number(load), CALM_WAIT.as_secs());
            said = true;
        }
        std::thread::sleep(CALM_POLL);
    }
}

/// p50 and p99, in microseconds, of a 4 KiB append and fdatasync in `dir`: what every durable write waits for.
pub fn disk_sync(dir: &Path) -> Result<(f64, f64)> {
    let path = dir.join("fdatasync-probe");
    let mut file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    let block = [0x5a_u8; DISK_PROBE_BYTES];
    let mut times = Vec::with_capacity(DISK_PROBES);
    for _ in 0..DISK_PROBES {
        let began = Instant::now();
        file.write_all(&block)?;
        // SAFETY: a plain system call on a descriptor that is open.
        if unsafe { libc::fdatasync(file.as_raw_fd()) } != 0 {
            return Err(std::io::Error::last_os_error()).context("fdatasync");
        }
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(&path)?;
    let p50 = percentile(&mut times, 50.0).context("no samples")?;
    let p99 = percentile(&mut times, 99.0).context("no samples")?;
    Ok((p50, p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        let at = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(at(1_709_251_199), "2024-02-29 23:59 UTC");
        assert_eq!(at(1_735_689_600), "2025-01-01 00:00 UTC");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn the_machine_has_a_name_and_a_disk() {
        let lines = describe(Path::new("."));
        assert!(lines.iter().any(|(name, value)| name == "CPU" && !value.is_empty()));
        let dir = tempfile::tempdir().unwrap();
        let (p50, p99) = disk_sync(dir.path()).unwrap();
        assert!(p50 > 0.0 && p50 <= p99);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
