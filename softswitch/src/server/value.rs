//! Values on the wire, with refusals that name them.

use dmux_p4rt::bytestring;
use num_bigint::BigUint;
use tonic::Code;

use super::error::Refused;
use crate::pipeline::{PIECE, cut_number};

pub(crate) use dmux_p4rt::bytestring::encode;

/// The largest value of a field of `width` bits.
pub(crate) fn all_ones(width: u32) -> u128 {
    if width >= u128::BITS { u128::MAX } else { (1 << width) - 1 }
}

/// Reads a value of `width` bits; `what` names it for the refusal, which is OUT_OF_RANGE (§8.3).
pub(crate) fn decode(bytes: &[u8], width: u32, what: impl Fn() -> String) -> Result<u128, Refused> {
    bytestring::decode(bytes, width).map_err(|e| Refused::new(Code::OutOfRange, format!("{}: {e}", what())))
}

/// A number of a match field: a plain one wherever 128 bits hold it.
pub(crate) trait Number: Sized + PartialOrd {
    /// Reads a value of `width` bits, as [`decode`] does.
    fn read(bytes: &[u8], width: u32, what: impl Fn() -> String) -> Result<Self, Refused>;
    /// In canonical form.
    fn written(&self) -> Vec<u8>;
    fn is_zero(&self) -> bool;
    fn is_all_ones(&self, width: u32) -> bool;
    /// The low `n` bits are 0.
    fn ends_in_zeros(&self, n: u32) -> bool;
    /// No bit is set that is not in the mask.
    fn within(&self, mask: &Self) -> bool;
}

impl Number for u128 {
    fn read(bytes: &[u8], width: u32, what: impl Fn() -> String) -> Result<Self, Refused> {
        decode(bytes, width, what)
    }
    fn written(&self) -> Vec<u8> {
        encode(*self)
    }
    fn is_zero(&self) -> bool {
        *self == 0
    }
    fn is_all_ones(&self, width: u32) -> bool {
        *self == all_ones(width)
    }
    fn ends_in_zeros(&self, n: u32) -> bool {
        self & all_ones(n) == 0
    }
    fn within(&self, mask: &Self) -> bool {
        self & !mask == 0
    }
}

impl Number for BigUint {
    fn read(bytes: &[u8], width: u32, what: impl Fn() -> String) -> Result<Self, Refused> {
        let checked = bytestring::check(bytes, width);
        let bytes = checked.map_err(|e| Refused::new(Code::OutOfRange, format!("{}: {e}", what())))?;
        Ok(Self::from_bytes_be(bytes))
    }
    fn written(&self) -> Vec<u8> {
        self.to_bytes_be()
    }
    fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
    fn is_all_ones(&self, width: u32) -> bool {
        self.count_ones() == u64::from(width)
    }
    fn ends_in_zeros(&self, n: u32) -> bool {
        self.trailing_zeros().is_none_or(|zeros| zeros >= u64::from(n))
    }
    fn within(&self, mask: &Self) -> bool {
        self & mask == *self
    }
}

/// A number of more bits than a value of the data plane has.
pub(crate) trait Wide {
    /// Its [`pieces`].
    fn cut(&self, width: u32) -> Vec<u128>;
    /// From its pieces.
    fn joined(pieces: impl Iterator<Item = u128>) -> Self;
}

impl Wide for BigUint {
    fn cut(&self, width: u32) -> Vec<u128> {
        cut_number(self, width)
    }
    fn joined(pieces: impl Iterator<Item = u128>) -> Self {
        pieces.fold(Self::ZERO, |n, p| (n << PIECE) | Self::from(p))
    }
}
