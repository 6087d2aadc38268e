use thiserror::Error;

/// Why bytes are not the header they should be, or a value cannot be written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// Fewer bytes than the header, or its length field, asks for.
    #[error("{what} needs {need} bytes, there are {have}")]
    Truncated {
        /// The header.
        what: &'static str,
        /// Bytes it needs.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A version that this code does not speak.
    #[error("{what} has version {version}")]
    BadVersion {
        /// The header.
        what: &'static str,
        /// What it says.
        version: u8,
    },
    /// A length field that contradicts its header.
    #[error("{what} has an impossible length field {length}")]
    BadLength {
        /// The header.
        what: &'static str,
        /// What it says.
        length: usize,
    },
    /// The checksum does not match.
    #[error("{what} has a bad checksum")]
    BadChecksum {
        /// The header.
        what: &'static str,
    },
    /// A field whose value has no meaning here.
    #[error("{what} is {value}, which has no meaning here")]
    Unknown {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// A payload that does not fit the length field.
    #[error("{what} cannot carry {length} bytes")]
    TooLong {
        /// The header.
        what: &'static str,
        /// Bytes asked for.
        length: usize,
    },
}

/// The first `N` bytes and the rest.
pub(crate) fn split<'a, const N: usize>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(&'a [u8; N], &'a [u8]), WireError> {
    bytes.split_first_chunk::<N>().ok_or(WireError::Truncated { what, need: N, have: bytes.len() })
}
