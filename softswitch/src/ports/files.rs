//! Ports that are capture files: what arrives is read from one, what leaves is written to another.
//!
//! The files of all ports are read as one sequence, ordered by time stamp, as fast as the switch takes them. Time
//! stamps say in which order, not when.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::pcap::PcapWriter;
use super::{Deliver, MAX_FRAME, PortError, Receive, Transmit};

const LINKTYPE_ETHERNET: u32 = 1;

/// Reads a capture file in the classic format, of either byte order, in microseconds or nanoseconds.
pub struct PcapReader<R: Read = BufReader<File>> {
    input: R,
    big_endian: bool,
    /// What one unit of a time stamp's fraction is, in nanoseconds.
    unit: u64,
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl PcapReader {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no capture of Ethernet frames.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read> PcapReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// No header of a capture of Ethernet frames.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut header = [0u8; 24];
        input.read_exact(&mut header).map_err(|_| bad("it is shorter than a pcap header".to_owned()))?;
        let (big_endian, unit) = match header[..4] {
            [0xa1, 0xb2, 0xc3, 0xd4] => (true, 1000),
            [0xa1, 0xb2, 0x3c, 0x4d] => (true, 1),
            [0xd4, 0xc3, 0xb2, 0xa1] => (false, 1000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (false, 1),
            _ => return Err(bad("it is not a pcap file (pcapng has to be converted: editcap -F pcap)".to_owned())),
        };
        let reader = Self { input, big_endian, unit };
        // The upper bits tell of frame check sequences, which nobody writes.
        match reader.word(&header[20..]) & 0xffff {
            LINKTYPE_ETHERNET => Ok(reader),
            other => Err(bad(format!("it holds packets of link type {other}, not Ethernet frames"))),
        }
    }

    fn word(&self, at: &[u8]) -> u32 {
        let bytes = [at[0], at[1], at[2], at[3]];
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// The next frame and its time stamp in nanoseconds; `None` at the end, which a record that is cut short is too.
    ///
    /// # Errors
    /// A record that is longer than any frame, or a file that cannot be read.
    pub fn next_frame(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut record = [0u8; 16];
        if let Err(error) = self.input.read_exact(&mut record) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
        }
        let length = self.word(&record[8..]) as usize;
        if length > MAX_FRAME {
            return Err(bad(format!("a record has {length} bytes; {MAX_FRAME} are the most")));
        }
        let mut frame = vec![0; length];
        if let Err(error) = self.input.read_exact(&mut frame) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
        }
        let stamp = u64::from(self.word(&record)) * 1_000_000_000 + u64::from(self.word(&record[4..])) * self.unit;
        Ok(Some((stamp, frame)))
    }
}

struct Source {
    reader: PcapReader,
    next: Option<(u64, Vec<u8>)>,
}

impl Source {
    fn advance(&mut self) {
        self.next = self.reader.next_frame().unwrap_or_else(|error| {
            tracing::warn!(%error, "a capture file that is replayed cannot be read further");
            None
        });
    }
}

#[derive(Default)]
struct Sources {
    all: Vec<Source>,
    begin: Option<Instant>,
}

/// What the file ports of one switch share: whose turn it is.
#[derive(Clone, Default)]
pub(crate) struct Replay(Arc<Mutex<Sources>>);

impl Replay {
    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the frames come in, that long from now.
    pub(crate) fn begin_after(&self, wait: Duration) {
        self.lock().begin = Some(Instant::now() + wait);
    }

    /// Opens both halves of a port.
    pub(crate) fn open(&self, input: &Path, output: &Path) -> Result<(FileReceive, FileTransmit), PortError> {
        let fail = |source| PortError::io(format!("the capture file {} cannot be replayed", input.display()), source);
        let mut source = Source { reader: PcapReader::open(input).map_err(fail)?, next: None };
        source.advance();
        let file =
            PcapWriter::create(output).map_err(|source| PortError::Capture { path: output.to_owned(), source })?;
        let mut sources = self.lock();
        sources.all.push(source);
        Ok((FileReceive { replay: self.clone(), source: sources.all.len() - 1 }, FileTransmit { file }))
    }
}

/// The receiving half.
pub(crate) struct FileReceive {
    replay: Replay,
    source: usize,
}

impl FileReceive {
    /// The next frame, if it is this port's turn.
    fn next(&self) -> Option<Vec<u8>> {
        let mut sources = self.replay.lock();
        if sources.begin.is_none_or(|begin| begin > Instant::now()) {
            return None;
        }
        let stamp = |source: &Source| source.next.as_ref().map(|(stamp, _)| *stamp);
        let turn = (0..sources.all.len()).filter(|i| sources.all[*i].next.is_some());
        if turn.min_by_key(|i| stamp(&sources.all[*i])) != Some(self.source) {
            return None;
        }
        let source = sources.all.get_mut(self.source)?;
        let frame = source.next.take().map(|(_, frame)| frame);
        source.advance();
        frame
    }
}

impl Receive for FileReceive {
    fn receive(&mut self, budget: usize, deliver: &mut dyn Deliver) -> usize {
        for count in 0..budget {
            match self.next() {
                Some(frame) => deliver.deliver(&frame),
                None => return count,
            }
        }
        budget
    }

    /// The worker looks again when its longest wait is over.
    fn readiness(&self) -> Option<RawFd> {
        None
    }
}

/// The transmitting half.
pub(crate) struct FileTransmit {
    file: PcapWriter,
}

impl Transmit for FileTransmit {
    fn transmit(&mut self, frame: &[u8]) {
        self.file.record(SystemTime::now(), frame);
    }

    fn flush(&mut self) -> u64 {
        self.file.flush();
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(magic: [u8; 4], big_endian: bool, link: u32, frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let word = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
        let mut out = magic.to_vec();
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&word(link));
        for (seconds, fraction, frame) in frames {
            for v in [*seconds, *fraction, frame.len() as u32, frame.len() as u32] {
                out.extend_from_slice(&word(v));
            }
            out.extend_from_slice(frame);
        }
        out
    }

    #[test]
    fn either_byte_order_and_resolution_is_read() {
        for (magic, big_endian, unit) in [
            ([0xa1, 0xb2, 0xc3, 0xd4], true, 1000),
            ([0xa1, 0xb2, 0x3c, 0x4d], true, 1),
            ([0xd4, 0xc3, 0xb2, 0xa1], false, 1000),
            ([0x4d, 0x3c, 0xb2, 0xa1], false, 1),
        ] {
            let bytes = capture(magic, big_endian, 1, &[(1, 2, b"one"), (3, 4, b"")]);
            let mut reader = PcapReader::new(&bytes[..]).unwrap();
            assert_eq!(reader.next_frame().unwrap(), Some((1_000_000_000 + 2 * unit, b"one".to_vec())));
            assert_eq!(reader.next_frame().unwrap(), Some((3_000_000_000 + 4 * unit, Vec::new())));
            assert_eq!(reader.next_frame().unwrap(), None);
            // Cut anywhere, it ends early and does no harm.
            for end in 24..bytes.len() {
                let mut reader = PcapReader::new(&bytes[..end]).unwrap();
                while reader.next_frame().unwrap().is_some() {}
            }
        }
    }

    #[test]
    fn what_is_no_capture_of_ethernet_frames_is_refused() {
        let magic = [0xd4, 0xc3, 0xb2, 0xa1];
        let text = |bytes: &[u8]| PcapReader::new(bytes).map(drop).unwrap_err().to_string();
        assert!(text(&[]).contains("shorter"));
        assert!(text(&[7; 24]).contains("not a pcap file"));
        assert!(text(&capture(magic, false, 101, &[])).contains("link type 101"));
        let mut long = capture(magic, false, 1, &[(0, 0, b"x")]);
        long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(PcapReader::new(&long[..]).unwrap().next_frame().is_err());
    }
}
