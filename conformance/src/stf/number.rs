//! Numbers of any width as packet tests write them, as big-endian bytes.

use anyhow::{Result, bail, ensure};
use dmux_p4rt::bytestring::canonical;

/// A number, and which of its bits are meant: `0x12**` has two digits that may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// The number, 0 where anything goes. Canonical.
    pub value: Vec<u8>,
    /// 1 where the bit is meant. As long as the number was written, digit by digit, without leading zeros.
    pub mask: Vec<u8>,
    /// Written in decimal: it has no digits that stand for bits, and means the whole field.
    pub decimal: bool,
    /// Bits that the digits written stand for, those that may be anything left out.
    pub meant: u32,
}

/// Reads `0x12**`, `0b1*01`, `0o17` or `42`.
pub fn masked(text: &str) -> Result<Masked> {
    let lower = text.to_ascii_lowercase();
    let (digits, bits) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 4),
        Some("0o") => (&lower[2..], 3),
        Some("0b") => (&lower[2..], 1),
        _ => {
            let Ok(value) = lower.parse::<u128>() else { bail!("{text} is no number") };
            return Ok(Masked {
                value: dmux_p4rt::bytestring::encode(value),
                mask: Vec::new(),
                decimal: true,
                meant: 0,
            });
        }
    };
    ensure!(!digits.is_empty(), "{text} is no number");
    let (mut value, mut mask) = (Bits::default(), Bits::default());
    let mut meant = 0;
    for digit in digits.chars() {
        if digit == '*' {
            value.push(0, bits);
            mask.push(0, bits);
            continue;
        }
        let Some(digit) = digit.to_digit(1 << bits) else { bail!("{text} is no number") };
        value.push(digit, bits);
        mask.push(u32::MAX, bits);
        meant += bits;
    }
    Ok(Masked { value: value.bytes(), mask: mask.bytes(), decimal: false, meant })
}

/// Reads a number that has no digit to choose.
pub fn exact(text: &str) -> Result<Vec<u8>> {
    ensure!(!text.contains('*'), "{text} leaves digits open where a number is needed");
    Ok(masked(text)?.value)
}

/// Reads a number of at most 64 bits.
pub fn small(text: &str) -> Result<u64> {
    let bytes = exact(text)?;
    ensure!(bytes.len() <= 8, "{text} has more than 64 bits");
    Ok(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// The number with the lowest `bits` bits set, canonical.
pub fn ones(bits: u32) -> Vec<u8> {
    let mut all = Bits::default();
    for _ in 0..bits {
        all.push(1, 1);
    }
    all.bytes()
}

/// The upper `prefix` of `bits` bits set, canonical.
pub fn prefix_mask(prefix: u32, bits: u32) -> Vec<u8> {
    let mut all = Bits::default();
    for bit in 0..bits {
        all.push(u32::from(bit < prefix), 1);
    }
    all.bytes()
}

/// Both numbers' common bits, canonical.
pub fn and(a: &[u8], b: &[u8]) -> Vec<u8> {
    let common = a.iter().rev().zip(b.iter().rev()).map(|(a, b)| a & b);
    let mut bytes: Vec<u8> = common.collect();
    bytes.reverse();
    canonical_or_zero(&bytes)
}

fn canonical_or_zero(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() { vec![0] } else { canonical(bytes).to_vec() }
}

/// Bits, most significant first.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn push(&mut self, value: u32, bits: u32) {
        self.0.extend((0..bits).rev().map(|bit| value >> bit & 1 == 1));
    }

    fn bytes(&self) -> Vec<u8> {
        let missing = self.0.len().next_multiple_of(8) - self.0.len();
        let padded: Vec<bool> = std::iter::repeat_n(false, missing).chain(self.0.iter().copied()).collect();
        let bytes: Vec<u8> = padded.chunks(8).map(|b| b.iter().fold(0, |n, bit| n << 1 | u8::from(*bit))).collect();
        canonical_or_zero(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_may_be_anything_are_not_in_the_mask() {
        let n = masked("0x****0202").unwrap();
        assert_eq!((n.value, n.mask, n.meant), (vec![2, 2], vec![0xff, 0xff], 16));
        let n = masked("0x25**").unwrap();
        assert_eq!((n.value, n.mask, n.meant), (vec![0x25, 0], vec![0xff, 0], 8));
        let n = masked("0b1*1").unwrap();
        assert_eq!((n.value, n.mask, n.meant), (vec![5], vec![5], 2));
    }

    #[test]
    fn numbers_of_every_base() {
        assert_eq!(exact("42").unwrap(), [42]);
        assert_eq!(exact("0").unwrap(), [0]);
        assert_eq!(exact("0o17").unwrap(), [15]);
        assert_eq!(small("0x1ff").unwrap(), 511);
        assert!(exact("0x1*").is_err());
        assert!(exact("0xg").is_err());
        assert!(small("0x010000000000000000").is_err());
    }

    #[test]
    fn masks() {
        assert_eq!(ones(9), [1, 0xff]);
        assert_eq!(prefix_mask(4, 12), [0x0f, 0]);
        assert_eq!(prefix_mask(0, 12), [0]);
        assert_eq!(and(&[1, 0x0f], &[0xff]), [0x0f]);
    }
}
