//! Values on the wire, with refusals that name them.

use dmux_p4rt::bytestring;
use tonic::Code;

use super::error::Refused;

pub(crate) use dmux_p4rt::bytestring::encode;

/// The largest value of a field of `width` bits.
pub(crate) fn all_ones(width: u32) -> u128 {
    if width >= u128::BITS { u128::MAX } else { (1 << width) - 1 }
}

/// Reads a value of `width` bits; `what` names it for the refusal, which is OUT_OF_RANGE (§8.3).
pub(crate) fn decode(bytes: &[u8], width: u32, what: impl Fn() -> String) -> Result<u128, Refused> {
    bytestring::decode(bytes, width).map_err(|e| Refused::new(Code::OutOfRange, format!("{}: {e}", what())))
}
