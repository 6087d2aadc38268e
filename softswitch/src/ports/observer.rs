//! What looks at the frames of a port as they pass: capture files, and bytes shown in the log.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::pcap::PcapWriter;
use super::{Device, PortError, PortId, PortSpec};

/// What a switch observes on every port that is described by a [`PortSpec`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observe {
    /// A directory for two capture files a port, `NAME_in.pcap` and `NAME_out.pcap`, as seen from the switch. The
    /// name is the interface's, or `portNUMBER`.
    pub capture_dir: Option<PathBuf>,
    /// How many bytes of each frame are shown in the log; 0 is off.
    pub dump_bytes: usize,
}

enum Files {
    None,
    /// Both directions in one.
    One(PcapWriter),
    Two {
        received: PcapWriter,
        sent: PcapWriter,
    },
}

/// The observer of one port.
pub(crate) struct Observer {
    port: PortId,
    files: Files,
    dump_bytes: usize,
}

impl Observer {
    /// What the port's own description and the switch's settings ask for; `None` if that is nothing.
    pub(crate) fn new(spec: &PortSpec, observe: &Observe) -> Result<Option<Box<Self>>, PortError> {
        let create = |path: &Path| {
            PcapWriter::create(path).map_err(|source| PortError::Capture { path: path.to_owned(), source })
        };
        let files = match (&spec.pcap, &observe.capture_dir) {
            (Some(path), _) => Files::One(create(path)?),
            (None, Some(dir)) => {
                let name = match &spec.device {
                    Device::Interface(name) | Device::Tap(name) => name.clone(),
                    Device::Udp { .. } | Device::Files { .. } => format!("port{}", spec.number),
                };
                let file = |direction| create(&dir.join(format!("{name}_{direction}.pcap")));
                Files::Two { received: file("in")?, sent: file("out")? }
            }
            (None, None) if observe.dump_bytes == 0 => return Ok(None),
            (None, None) => Files::None,
        };
        Ok(Some(Box::new(Self { port: spec.number, files, dump_bytes: observe.dump_bytes })))
    }

    pub(crate) fn received(&mut self, at: SystemTime, frame: &[u8]) {
        match &mut self.files {
            Files::None => {}
            Files::One(file) | Files::Two { received: file, .. } => file.record(at, frame),
        }
        self.dump("received", frame);
    }

    pub(crate) fn sent(&mut self, at: SystemTime, frame: &[u8]) {
        match &mut self.files {
            Files::None => {}
            Files::One(file) | Files::Two { sent: file, .. } => file.record(at, frame),
        }
        self.dump("sent", frame);
    }

    fn dump(&self, what: &str, frame: &[u8]) {
        if self.dump_bytes > 0 {
            let shown = hex(&frame[..frame.len().min(self.dump_bytes)]);
            tracing::info!(port = self.port, bytes = frame.len(), data = shown, "{what}");
        }
    }

    /// Pushes what is buffered out to the files.
    pub(crate) fn flush(&mut self) {
        match &mut self.files {
            Files::None => {}
            Files::One(file) => file.flush(),
            Files::Two { received, sent } => {
                received.flush();
                sent.flush();
            }
        }
    }
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Observe {
    /// Checks that captures can be written at all.
    ///
    /// # Errors
    /// The directory is not there.
    pub fn check(&self) -> Result<(), PortError> {
        match &self.capture_dir {
            Some(dir) if !dir.is_dir() => {
                let source =
                    io::Error::new(io::ErrorKind::NotADirectory, "there is no such directory: create it first");
                Err(PortError::Capture { path: dir.clone(), source })
            }
            _ => Ok(()),
        }
    }
}
