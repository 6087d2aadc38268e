//! A network namespace of our own: veth pairs that nobody else sees, made without touching the machine's network.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail};

use crate::process::{on_path, run};

/// Moves this process into a new network namespace, with a new user namespace around it when we are not root.
/// Call it before the first thread is started: the kernel moves only the calling thread.
pub fn enter() -> Result<()> {
    if on_path("ip").is_none() {
        bail!("needs `ip` (iproute2) on PATH");
    }
    // SAFETY: no pointers; the process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        // SAFETY: no pointers.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        // SAFETY: as above.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) } != 0 {
            bail!("needs root, or user namespaces ({})", io::Error::last_os_error());
        }
        // Groups may be mapped only after setgroups is given up (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny").context("/proc/self/setgroups")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1")).context("/proc/self/uid_map")?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1")).context("/proc/self/gid_map")?;
    }
    run("ip", &["link", "set", "lo", "up"])
}

/// Makes a veth pair and sets both ends up, with nothing of the kernel's own on them.
pub fn veth(a: &str, b: &str) -> Result<()> {
    run("ip", &["link", "add", a, "type", "veth", "peer", "name", b])?;
    for end in [a, b] {
        // Otherwise the kernel sends router solicitations through the switch. Kernels without IPv6 have no such file.
        let disable = format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6");
        if fs::exists(&disable)? {
            fs::write(&disable, "1").with_context(|| disable.clone())?;
        }
        run("ip", &["link", "set", end, "up"])?;
    }
    Ok(())
}

/// Frames that an interface has received so far.
pub fn received(interface: &str) -> Result<u64> {
    let counters = fs::read_to_string("/proc/thread-self/net/dev").context("/proc/thread-self/net/dev")?;
    received_in(&counters, interface).with_context(|| format!("the interface {interface} is gone"))
}

/// Second column behind the name, after two lines of headings.
fn received_in(counters: &str, interface: &str) -> Option<u64> {
    let line = counters.lines().find_map(|l| l.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_interface() {
        let counters = "Inter-|   Receive\n face |bytes packets errs\n  lo: 10 1 0\nveth1: 640 10 0\nveth10: 7 8 9\n";
        assert_eq!(received_in(counters, "veth1"), Some(10));
        assert_eq!(received_in(counters, "veth10"), Some(8));
        assert_eq!(received_in(counters, "veth"), None);
        assert!(received("lo").is_ok());
    }
}
