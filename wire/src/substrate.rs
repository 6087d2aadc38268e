use std::ops::RangeInclusive;

use crate::error::split;
use crate::{MLI_MAX, WireError};

/// Bytes of a substrate header.
pub const SUBSTRATE_LEN: usize = 4;
/// The MLI of substrate discovery: nobody's metalink.
pub const MLI_DISCOVERY: u32 = 0;
/// The MLI on which each endpoint and its gateway speak of metalinks: the same for all, since an MLI counts under its
/// endpoint.
pub const CONTROL_MLI: u32 = MLI_MAX;
/// MLIs of metanets on the multipoint VLAN ("shared mode"), the same at all gateways.
pub const SHARED_MLIS: RangeInclusive<u32> = 0xff_fc00..=0xff_fffe;
/// The highest MLI of a provisioned metalink; all above are [`SHARED_MLIS`] or [`CONTROL_MLI`].
pub const PROVISIONED_MLI_MAX: u32 = *SHARED_MLIS.start() - 1;

const VERSION: u8 = 1;
/// Flag bit 0 (`S`): a shim and an origin header follow.
const FLAG_SHIM: u8 = 1;

/// The substrate header: what follows the EtherType [`SUBSTRATE`](crate::ethernet::SUBSTRATE) (DESIGN §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Substrate {
    /// Flag `S`: a shim and an origin header follow, then the metaframe. Between a gateway and an IPvN router on a metalink.
    pub shim: bool,
    /// The metalink, 24 bits; [`MLI_DISCOVERY`] in discovery.
    pub mli: u32,
}

impl Substrate {
    /// The header of a metaframe without a shim.
    pub const fn new(mli: u32) -> Self {
        Self { shim: false, mli }
    }

    /// Reads a header and returns what follows it; reserved flags are ignored.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let ([first, a, b, c], rest) = split::<SUBSTRATE_LEN>("substrate header", bytes)?;
        let version = first >> 4;
        if version != VERSION {
            return Err(WireError::BadVersion { what: "substrate header", version });
        }
        Ok((Self { shim: first & FLAG_SHIM != 0, mli: u32::from_be_bytes([0, *a, *b, *c]) }, rest))
    }

    /// Appends the header. Bits of the MLI above its 24 are cut.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let flags = if self.shim { FLAG_SHIM } else { 0 };
        let word = u32::from(VERSION << 4 | flags) << 24 | (self.mli & MLI_MAX);
        out.extend(word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn worked_bytes() {
        for (header, bytes) in [
            (Substrate::new(0x01_0001), [0x10, 0x01, 0x00, 0x01]),
            (Substrate { shim: true, mli: MLI_MAX }, [0x11, 0xff, 0xff, 0xff]),
            (Substrate::new(MLI_DISCOVERY), [0x10, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            header.emit(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(Substrate::parse(&bytes), Ok((header, &[][..])));
        }
    }

    #[test]
    fn reserved_mlis_lie_above_the_provisioned_ones() {
        assert_eq!(SHARED_MLIS, PROVISIONED_MLI_MAX + 1..=CONTROL_MLI - 1);
        assert_eq!(CONTROL_MLI, MLI_MAX);
    }

    #[test]
    fn reserved_flags_are_ignored_and_other_versions_refused() {
        assert_eq!(Substrate::parse(&[0x1e, 0, 0, 7]), Ok((Substrate::new(7), &[][..])));
        let what = "substrate header";
        assert_eq!(Substrate::parse(&[0x20, 0, 0, 7]), Err(WireError::BadVersion { what, version: 2 }));
        assert_eq!(Substrate::parse(&[0x10, 0, 0]), Err(WireError::Truncated { what, need: 4, have: 3 }));
    }

    proptest! {
        #[test]
        fn headers_survive_the_wire(shim: bool, mli: u32, rest: Vec<u8>) {
            let mut out = Vec::new();
            Substrate { shim, mli }.emit(&mut out);
            out.extend(&rest);
            let header = Substrate { shim, mli: mli & MLI_MAX };
            prop_assert_eq!(Substrate::parse(&out), Ok((header, &rest[..])));
        }

        #[test]
        fn whatever_the_bytes_nothing_panics(bytes: Vec<u8>) {
            if let Ok((header, rest)) = Substrate::parse(&bytes) {
                prop_assert!(header.mli <= MLI_MAX);
                prop_assert_eq!(rest.len() + SUBSTRATE_LEN, bytes.len());
            }
        }
    }
}
