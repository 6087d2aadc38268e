//! An IPv4 prefix: an address whose host bits are zero, and a length.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An IPv4 prefix such as `198.51.100.0/24`; host bits are always zero. Serialised as that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Prefix {
    address: Ipv4Addr,
    length: u8,
}

/// Why a text or a pair is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// Not `address/length`.
    #[error("`{0}` is not an IPv4 prefix; write an address and a length, such as 198.51.100.0/24")]
    Syntax(String),
    /// The length exceeds 32.
    #[error("an IPv4 prefix cannot be {0} bits long; use 0 to 32")]
    Length(u8),
    /// Bits beyond the length are set, so it is unclear what was meant.
    #[error("{address}/{length} has bits set beyond its length; did you mean {meant}?")]
    HostBits {
        /// As given.
        address: Ipv4Addr,
        /// As given.
        length: u8,
        /// The prefix that contains the address.
        meant: Ipv4Prefix,
    },
}

impl Ipv4Prefix {
    /// A prefix; refuses lengths above 32 and host bits that are not zero.
    pub fn new(address: Ipv4Addr, length: u8) -> Result<Self, PrefixError> {
        if length > 32 {
            return Err(PrefixError::Length(length));
        }
        let meant = Self::containing(address, length);
        if meant.address != address {
            return Err(PrefixError::HostBits { address, length, meant });
        }
        Ok(meant)
    }

    /// The prefix of `length` bits (at most 32 are used) that `address` lies in.
    pub const fn containing(address: Ipv4Addr, length: u8) -> Self {
        let length = if length > 32 { 32 } else { length };
        Self { address: Ipv4Addr::from_bits(address.to_bits() & mask(length)), length }
    }

    /// The prefix that holds one address.
    pub const fn host(address: Ipv4Addr) -> Self {
        Self { address, length: 32 }
    }

    /// The first address.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// How many leading bits count.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether `address` lies in the prefix.
    pub const fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.length) == self.address.to_bits()
    }
}

const fn mask(length: u8) -> u32 {
    if length == 0 { 0 } else { u32::MAX << (32 - length) }
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Ipv4Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let parsed = text.split_once('/').and_then(|(a, l)| Some((a.parse().ok()?, l.parse().ok()?)));
        let (address, length) = parsed.ok_or_else(|| PrefixError::Syntax(text.chars().take(64).collect()))?;
        Self::new(address, length)
    }
}

impl TryFrom<String> for Ipv4Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Ipv4Prefix> for String {
    fn from(prefix: Ipv4Prefix) -> Self {
        prefix.to_string()
    }
}
