//! What can be wrong with a port, in sentences that say what to do.

use std::io;
use std::path::PathBuf;

use super::PortId;
use super::spec::GRAMMAR;

/// Why a port could not be described or opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The text is not a port description.
    #[error("the port \"{text}\" is not understood: {reason}. {GRAMMAR}")]
    Grammar {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The number is the drop port.
    #[error("port {0} is the drop port (v1model's is 511) and cannot carry frames: choose another number")]
    DropPort(PortId),
    /// The number is the CPU port.
    #[error(
        "port {0} is this switch's CPU port, which is reached over P4Runtime packet-in and packet-out: choose another number for the device, or another CPU port"
    )]
    CpuPort(PortId),
    /// The number is in use.
    #[error("port {0} is given twice: each port number belongs to one device")]
    Duplicate(PortId),
    /// The interface does not exist.
    #[error(
        "there is no interface \"{interface}\" here: create it first (for example `ip link add {interface} type veth peer name {interface}p`), or correct the name"
    )]
    NoInterface {
        /// The name that was given.
        interface: String,
    },
    /// Opening a raw socket is not permitted.
    #[error(
        "opening interface \"{interface}\" needs CAP_NET_RAW: run as root, inside `unshare -Urn`, or use UDP ports"
    )]
    NotPermitted {
        /// The interface.
        interface: String,
    },
    /// Opening a TAP interface is not permitted.
    #[error(
        "opening the TAP interface \"{interface}\" needs CAP_NET_ADMIN and access to /dev/net/tun: run as root, inside `unshare -Urn`, or have an administrator make it (`ip tuntap add {interface} mode tap user USER`, then set it up)"
    )]
    TapNotPermitted {
        /// The interface.
        interface: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and on what.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The capture file cannot be written.
    #[error("the capture file {path} cannot be created: {source}")]
    Capture {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The switch has been shut down.
    #[error("the switch has stopped: ports cannot be added any more")]
    Stopped,
}

impl PortError {
    pub(crate) fn no_thread(source: io::Error) -> Self {
        Self::io("no thread can be started to watch links", source)
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}
