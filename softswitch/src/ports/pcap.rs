//! Captures: what crossed a port, for Wireshark.
//!
//! The classic format with nanosecond time stamps: a 24-byte header, then each frame behind a 16-byte record.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Says "nanoseconds" and, by its byte order, ours.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;

/// A file is not written beyond this, so that a forgotten capture does not fill the disk.
pub const MAX_CAPTURE_BYTES: u64 = 4 << 30;

/// Writes frames of both directions into one capture file.
pub struct PcapWriter<W: Write = BufWriter<File>> {
    out: W,
    written: u64,
    /// After a failure nothing more is written: half a record would spoil what follows.
    failed: bool,
}

impl PcapWriter {
    /// Starts a capture file, replacing what was there.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::new(BufWriter::new(File::create(path)?))
    }
}

impl<W: Write> PcapWriter<W> {
    /// Starts a capture on `out`.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut header = [0u8; 24];
        header[0..4].copy_from_slice(&MAGIC_NANOSECONDS.to_ne_bytes());
        header[4..6].copy_from_slice(&2u16.to_ne_bytes());
        header[6..8].copy_from_slice(&4u16.to_ne_bytes());
        header[16..20].copy_from_slice(&(super::MAX_FRAME as u32).to_ne_bytes());
        header[20..24].copy_from_slice(&LINKTYPE_ETHERNET.to_ne_bytes());
        out.write_all(&header)?;
        Ok(Self { out, written: 24, failed: false })
    }

    /// Records one frame.
    pub fn record(&mut self, at: SystemTime, frame: &[u8]) {
        if self.failed || self.written > MAX_CAPTURE_BYTES {
            return;
        }
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let captured = frame.len().min(super::MAX_FRAME);
        let mut record = [0u8; 16];
        // The format's seconds are 32 bits wide until 2106.
        record[0..4].copy_from_slice(&(since.as_secs() as u32).to_ne_bytes());
        record[4..8].copy_from_slice(&since.subsec_nanos().to_ne_bytes());
        record[8..12].copy_from_slice(&(captured as u32).to_ne_bytes());
        record[12..16].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        let result = self.out.write_all(&record).and_then(|()| self.out.write_all(&frame[..captured]));
        self.written += 16 + captured as u64;
        self.note(result);
    }

    /// Pushes what is buffered out to the file.
    pub fn flush(&mut self) {
        if !self.failed {
            let result = self.out.flush();
            self.note(result);
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failed = true;
            tracing::warn!(%error, "a capture file cannot be written any more; the port goes on without it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_capture_has_a_header_and_whole_records() {
        let mut bytes = Vec::new();
        let mut writer = PcapWriter::new(&mut bytes).unwrap();
        writer.record(UNIX_EPOCH + Duration::new(7, 8), b"abc");
        writer.flush();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), 0xa1b2_3c4d);
        assert_eq!(word(20), 1);
        assert_eq!([word(24), word(28), word(32), word(36)], [7, 8, 3, 3]);
        assert_eq!(&bytes[40..], b"abc");
    }

    #[test]
    fn a_failing_file_silences_the_capture_and_nothing_else() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::Error::other("disk full"))?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = PcapWriter::new(Full(24 + 16)).unwrap();
        writer.record(UNIX_EPOCH, b"abc");
        assert!(writer.failed);
        writer.record(UNIX_EPOCH, b"abc");
        writer.flush();
    }
}
