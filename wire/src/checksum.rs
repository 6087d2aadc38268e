//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// A running one's complement sum. Add pieces in order; every piece but the last must have an even length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes as big-endian 16-bit words; a last odd byte is padded with zero.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<2>();
        for word in words {
            self.0 += u64::from(u16::from_be_bytes(*word));
        }
        if let [last] = rest {
            self.0 += u64::from(u16::from_be_bytes([*last, 0]));
        }
        self
    }

    /// Adds one word.
    #[must_use]
    pub fn word(mut self, word: u16) -> Self {
        self.0 += u64::from(word);
        self
    }

    /// The pseudo-header of UDP over IPv4 (RFC 768).
    #[must_use]
    pub fn pseudo_v4(self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, length: u16) -> Self {
        self.bytes(&src.octets()).bytes(&dst.octets()).word(u16::from(protocol)).word(length)
    }

    /// The pseudo-header of upper layers over IPv6 (RFC 8200 §8.1).
    #[must_use]
    pub fn pseudo_v6(self, src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, length: u32) -> Self {
        self.bytes(&src.octets()).bytes(&dst.octets()).bytes(&length.to_be_bytes()).word(u16::from(next_header))
    }

    /// The checksum: the complement of the folded sum. Zero if the summed bytes held a correct checksum.
    pub fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

/// The checksum after one 16-bit word under it changed from `old` to `new` (RFC 1624, equation 3).
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().word(!checksum).word(!old).word(new).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_1071_example() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), !0xddf2);
    }

    #[test]
    fn rfc_1624_example_has_no_minus_zero() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn a_sum_with_its_checksum_is_zero(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if bytes.len() % 2 == 1 {
                bytes.pop();
            }
            let checksum = Sum::default().bytes(&bytes).finish();
            prop_assert_eq!(Sum::default().bytes(&bytes).word(checksum).finish(), 0);
        }

        #[test]
        fn an_update_verifies_like_a_full_sum(a in 1u16.., b: u16, new: u16) {
            let before = Sum::default().word(a).word(b).finish();
            let after = update(before, b, new);
            prop_assert_eq!(Sum::default().word(a).word(new).word(after).finish(), 0);
        }
    }
}
