//! P4Runtime's byte strings: unsigned big-endian numbers of a width in bits (specification §8.3).
//!
//! *Canonical* is the shortest form, zero being one byte: what we send, and what a server answers with. *Padded* is the
//! form of as many bytes as the width needs: what goes into a packet. Decoding accepts any number of leading zeros, as
//! the specification asks of a receiver, and refuses the empty string and numbers that the width cannot hold.

use thiserror::Error;

/// Bytes that are no number of the width that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ByteStringError {
    /// No byte at all: P4Runtime writes zero as one zero byte.
    #[error("an empty byte string is no number: write zero as one zero byte")]
    Empty,
    /// More significant bits than the width has.
    #[error("the number has {significant} significant bits, but the width is {bits}")]
    TooWide {
        /// Bits up to the highest one.
        significant: u64,
        /// The width.
        bits: u32,
    },
    /// A width that this type cannot hold.
    #[error("a width of {bits} bits does not fit a 128-bit number")]
    Width {
        /// The width.
        bits: u32,
    },
}

/// The number of bytes that a number of `bits` bits needs.
pub const fn padded_len(bits: u32) -> usize {
    bits.div_ceil(8) as usize
}

/// `bytes` without leading zeros; zero keeps one byte, and the empty string stays empty.
pub fn canonical(bytes: &[u8]) -> &[u8] {
    match bytes.iter().position(|&b| b != 0) {
        Some(first) => &bytes[first..],
        None => &bytes[bytes.len().saturating_sub(1)..],
    }
}

/// Checks that `bytes` is a number of at most `bits` bits, of any width, and returns its canonical form.
pub fn check(bytes: &[u8], bits: u32) -> Result<&[u8], ByteStringError> {
    let short = canonical(bytes);
    let Some(first) = short.first() else {
        return Err(ByteStringError::Empty);
    };
    let significant = (short.len() as u64) * 8 - u64::from(first.leading_zeros());
    if significant > u64::from(bits) {
        return Err(ByteStringError::TooWide { significant, bits });
    }
    Ok(short)
}

/// `bytes` as exactly [`padded_len`] bytes.
pub fn pad(bytes: &[u8], bits: u32) -> Result<Vec<u8>, ByteStringError> {
    let short = check(bytes, bits)?;
    let len = padded_len(bits);
    // The number zero of width zero is one byte long: there is nothing to pad.
    let mut padded = vec![0; len.saturating_sub(short.len())];
    padded.extend_from_slice(&short[short.len().saturating_sub(len)..]);
    Ok(padded)
}

/// `value` in canonical form.
pub fn encode(value: u128) -> Vec<u8> {
    canonical(&value.to_be_bytes()).to_vec()
}

/// `value` in canonical form, if `bits` bits hold it.
pub fn encode_checked(value: u128, bits: u32) -> Result<Vec<u8>, ByteStringError> {
    check(&value.to_be_bytes(), bits).map(<[u8]>::to_vec)
}

/// `value` in padded form, if `bits` bits hold it.
pub fn encode_padded(value: u128, bits: u32) -> Result<Vec<u8>, ByteStringError> {
    pad(&value.to_be_bytes(), bits)
}

/// The number that `bytes` holds, of a width of at most 128 bits.
pub fn decode(bytes: &[u8], bits: u32) -> Result<u128, ByteStringError> {
    if bits > u128::BITS {
        return Err(ByteStringError::Width { bits });
    }
    Ok(check(bytes, bits)?.iter().fold(0, |value, &b| (value << 8) | u128::from(b)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_of_the_specification() {
        // §8.3: valid strings for the number 99 of 16 bits.
        for bytes in [&[99][..], &[0, 99], &[0, 0, 99]] {
            assert_eq!(decode(bytes, 16), Ok(99));
            assert_eq!(canonical(bytes), [99]);
        }
        assert_eq!(encode(12388), [0x30, 0x64]);
        assert_eq!(encode(0), [0]);
        assert_eq!(encode_padded(99, 16), Ok(vec![0, 99]));
        assert_eq!(decode(&[], 8), Err(ByteStringError::Empty));
        assert_eq!(decode(&[2, 0], 9), Err(ByteStringError::TooWide { significant: 10, bits: 9 }));
        assert_eq!(decode(&[1, 0xff], 9), Ok(511));
    }

    #[test]
    fn widths_above_128_bits_are_checked_but_not_decoded() {
        let mut bytes = vec![0xff; 20];
        assert_eq!(check(&bytes, 160), Ok(&bytes.clone()[..]));
        assert_eq!(pad(&[1], 160).unwrap().len(), 20);
        assert_eq!(decode(&bytes, 160), Err(ByteStringError::Width { bits: 160 }));
        bytes.insert(0, 1);
        assert!(check(&bytes, 160).is_err());
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(value: u128, spare in 0u32..16, zeros in 0usize..4) {
            let bits = (u128::BITS - value.leading_zeros() + spare).clamp(1, 128);
            let short = encode_checked(value, bits).unwrap();
            prop_assert_eq!(&short, &encode(value));
            prop_assert_eq!(canonical(&short), &short[..]);
            prop_assert_eq!(decode(&short, bits), Ok(value));
            let padded = encode_padded(value, bits).unwrap();
            prop_assert_eq!(padded.len(), padded_len(bits));
            prop_assert_eq!(decode(&padded, bits), Ok(value));
            let longer = [vec![0; zeros], short].concat();
            prop_assert_eq!(decode(&longer, bits), Ok(value));
        }

        #[test]
        fn what_the_width_cannot_hold_is_refused(value in 2u128.., less in 1u32..128) {
            let significant = u128::BITS - value.leading_zeros();
            let bits = significant.saturating_sub(less).max(1);
            prop_assert!(encode_checked(value, bits).is_err());
            prop_assert!(decode(&value.to_be_bytes(), bits).is_err());
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..40), bits in 0u32..300) {
            let _ = decode(&bytes, bits);
            let _ = pad(&bytes, bits);
        }
    }
}
