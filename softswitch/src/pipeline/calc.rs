//! Hashes and checksums over fields (BMv2's "calculations").

use super::hashes::State;
use super::layout::{Field, Slot, Varbit};

/// What a calculation computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algo {
    Csum16,
    Crc16,
    Crc32,
    CrcCcitt,
    Xxh64,
    Identity,
    Xor16,
    Xor32,
    Crc8Custom,
    Crc16Custom,
    Crc32Custom,
    Crc64Custom,
    Toeplitz,
    RoundRobin,
    RoundRobinConsistent,
}

impl Algo {
    /// The algorithm that BMv2 registers under this name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "csum16" | "cksum16" => Self::Csum16,
            "crc16" => Self::Crc16,
            "crc32" => Self::Crc32,
            "crcCCITT" => Self::CrcCcitt,
            "xxh64" => Self::Xxh64,
            "identity" => Self::Identity,
            "xor16" => Self::Xor16,
            "xor32" => Self::Xor32,
            "crc8_custom" => Self::Crc8Custom,
            "crc16_custom" => Self::Crc16Custom,
            "crc32_custom" => Self::Crc32Custom,
            "crc64_custom" => Self::Crc64Custom,
            "toeplitz" => Self::Toeplitz,
            "round_robin" => Self::RoundRobin,
            "round_robin_consistent" => Self::RoundRobinConsistent,
            _ => return None,
        })
    }

    /// The value over a buffer; of an algorithm with parameters or a memory, that of a fresh one.
    pub(crate) fn over(self, buf: &[u8]) -> u64 {
        match self {
            Self::Csum16 => u64::from(!fold(sum16(buf))),
            Self::Crc16 => u64::from(crc16_arc(buf)),
            Self::Crc32 => u64::from(crc32fast::hash(buf)),
            Self::CrcCcitt => u64::from(crc_ccitt(buf)),
            Self::Xxh64 => xxh64(buf),
            Self::Identity => buf.iter().take(8).fold(0, |v, b| v << 8 | u64::from(*b)),
            Self::Xor16 => xor(buf, 2),
            Self::Xor32 => xor(buf, 4),
            with_state => State::new(with_state).over(buf).unwrap_or(0),
        }
    }
}

/// One input of a calculation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    /// Left out while its header is invalid.
    Field(Field),
    Const {
        value: u128,
        width: u32,
    },
    /// Left out while the header with this validity slot is invalid.
    Varbit(Varbit, Slot),
}

impl Input {
    fn width(&self) -> u32 {
        match self {
            Self::Field(f) => f.width,
            Self::Const { width, .. } => *width,
            Self::Varbit(v, _) => v.max_bits,
        }
    }
}

/// A calculation, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Calc {
    pub algo: Algo,
    pub inputs: Vec<Input>,
    pub payload: bool,
    /// For the Internet checksum while all headers are valid: each narrow field's contribution is its value shifted so
    /// that it stands where it would in a 16-bit word.
    fast: Option<Fast>,
}

/// So many terms of at most 47 bits do not overflow 64.
const MAX_TERMS: usize = 1 << 16;

#[derive(Debug, Clone)]
pub(crate) struct Fast {
    valid: Vec<Slot>,
    /// Slot, shift down, mask and shift up: at most 32 bits of a field, so that no sum of them overflows.
    terms: Box<[(Slot, u8, u32, u8)]>,
    /// Slot and shift up of unsigned fields of at most 32 bits, whose slots hold nothing above.
    plain: Box<[(Slot, u8)]>,
    constant: u64,
    /// The payload starts at an odd byte.
    odd: bool,
}

impl Calc {
    pub(crate) fn new(algo: Algo, inputs: Vec<Input>, payload: bool) -> Self {
        let fast = if algo == Algo::Csum16 { Fast::new(&inputs) } else { None };
        Self { algo, inputs, payload, fast }
    }

    /// How it is computed while all headers are valid, if it is an Internet checksum.
    pub(crate) fn fast(&self) -> Option<&Fast> {
        self.fast.as_ref()
    }

    /// The value of the calculation over the slots that `s` gives; `frame` has the contents of varbits, `buf` is scratch
    /// space.
    #[inline]
    pub(crate) fn value(&self, s: impl Fn(Slot) -> u64, frame: &[u8], payload: &[u8], buf: &mut Vec<u8>) -> u64 {
        if let Some(fast) = &self.fast
            && fast.valid.iter().all(|v| s(*v) != 0)
        {
            let payload = if self.payload { payload } else { &[] };
            return u64::from(!fast.sum(s, payload));
        }
        self.fill(&s, frame, payload, buf);
        self.algo.over(buf)
    }

    /// Puts the bytes that the calculation runs over into `buf`.
    #[inline(never)]
    pub(crate) fn fill(&self, s: &dyn Fn(Slot) -> u64, frame: &[u8], payload: &[u8], buf: &mut Vec<u8>) {
        buf.clear();
        let mut bits = 0u32;
        for i in &self.inputs {
            match i {
                Input::Const { value, width } => put_bits(buf, &mut bits, *value, *width),
                Input::Field(f) if f.valid.is_some_and(|v| s(v) == 0) => {}
                Input::Field(f) => {
                    let mut top = (f.width - 1) % 64 + 1;
                    for slot in f.slots().rev() {
                        put_bits(buf, &mut bits, u128::from(s(slot)), top);
                        top = 64;
                    }
                }
                Input::Varbit(_, valid) if s(*valid) == 0 => {}
                Input::Varbit(v, _) => {
                    let at = s(v.at) as usize;
                    for n in 0..s(v.bits) as usize / 8 {
                        let byte = if at == 0 { 0 } else { byte_at(frame, at - 1 + n * 8) };
                        put_bits(buf, &mut bits, u128::from(byte), 8);
                    }
                }
            }
        }
        if self.payload {
            buf.extend_from_slice(payload);
        }
    }
}

/// The byte that starts at a bit.
fn byte_at(buf: &[u8], bit: usize) -> u8 {
    let byte = |i: usize| u16::from(buf.get(i).copied().unwrap_or(0));
    ((byte(bit / 8) << 8 | byte(bit / 8 + 1)) >> (8 - bit % 8)) as u8
}

/// Appends the low `width` bits of `value`, most significant first; the last byte is padded with zeros.
fn put_bits(buf: &mut Vec<u8>, bits: &mut u32, value: u128, width: u32) {
    let mut left = width;
    while left > 0 {
        let used = *bits % 8;
        if used == 0 {
            buf.push(0);
        }
        let take = left.min(8 - used);
        let part = (value >> (left - take)) as u32 & ((1 << take) - 1);
        if let Some(last) = buf.last_mut() {
            *last |= (part << (8 - used - take)) as u8;
        }
        *bits += take;
        left -= take;
    }
}

impl Fast {
    /// Validity of the headers that it needs.
    pub(crate) fn valid(&self) -> &[Slot] {
        &self.valid
    }

    /// Slot, shift down, mask, shift up of the fields that are cut.
    pub(crate) fn terms(&self) -> &[(Slot, u8, u32, u8)] {
        &self.terms
    }

    /// Slot and shift up of the fields that are taken whole.
    pub(crate) fn plain(&self) -> &[(Slot, u8)] {
        &self.plain
    }

    /// What the constants add up to.
    pub(crate) fn constant(&self) -> u64 {
        self.constant
    }

    fn new(inputs: &[Input]) -> Option<Self> {
        let mut fast =
            Self { valid: Vec::new(), terms: Box::default(), plain: Box::default(), constant: 0, odd: false };
        let (mut terms, mut plain) = (Vec::new(), Vec::new());
        let mut end = 0u32;
        for i in inputs {
            // The length of a varbit is not known. A constant of 48 bits shifted by at most 15 leaves a bit to spare.
            if i.width() > 48 || matches!(i, Input::Varbit(..)) {
                return None;
            }
            end += i.width();
            let shift = ((16 - end % 16) % 16) as u8;
            match i {
                Input::Field(f) => {
                    if f.width <= 32 && !f.signed {
                        plain.push((f.slot, shift));
                    } else {
                        terms.push((f.slot, 0, u32::MAX >> (32 - f.width.min(32)), shift));
                        // Two words further up, a word stands where it stood.
                        let high = f.width.saturating_sub(32);
                        terms.push((f.slot, 32, if high == 0 { 0 } else { u32::MAX >> (32 - high) }, shift));
                    }
                    if let Some(v) = f.valid
                        && !fast.valid.contains(&v)
                    {
                        fast.valid.push(v);
                    }
                }
                Input::Varbit(..) => return None,
                Input::Const { value, .. } => fast.constant = add(fast.constant, (*value as u64) << shift),
            }
        }
        if terms.len() + plain.len() > MAX_TERMS {
            return None;
        }
        (fast.terms, fast.plain) = (terms.into_boxed_slice(), plain.into_boxed_slice());
        fast.odd = end.div_ceil(8) % 2 == 1;
        Some(fast)
    }

    #[inline]
    fn sum(&self, s: impl Fn(Slot) -> u64, payload: &[u8]) -> u16 {
        let mut sum = 0;
        for (slot, down, mask, up) in &self.terms {
            sum += (s(*slot) >> down & u64::from(*mask)) << up;
        }
        for (slot, up) in &self.plain {
            sum += s(*slot) << up;
        }
        sum = add(sum, self.constant);
        if !payload.is_empty() {
            let p = fold(sum16(payload));
            sum = add(sum, u64::from(if self.odd { p.swap_bytes() } else { p }));
        }
        fold(sum)
    }
}

/// Sum with end-around carry: both are sums of 16-bit words to be folded.
fn add(a: u64, b: u64) -> u64 {
    let (s, carry) = a.overflowing_add(b);
    s + u64::from(carry)
}

/// Folds a sum to 16 bits with end-around carry.
fn fold(sum: u64) -> u16 {
    let s = (sum & 0xffff_ffff) + (sum >> 32);
    let s = (s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32);
    let s = (s & 0xffff) + (s >> 16);
    ((s & 0xffff) + (s >> 16)) as u16
}

/// Big-endian 16-bit words of a buffer, summed; an odd last byte is followed by a zero.
fn sum16(buf: &[u8]) -> u64 {
    let mut sum = 0;
    let mut chunks = buf.chunks_exact(8);
    for c in &mut chunks {
        let mut w = [0; 8];
        w.copy_from_slice(c);
        sum = add(sum, u64::from_be_bytes(w));
    }
    let mut last = [0; 8];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    add(sum, u64::from_be_bytes(last))
}

/// CRC-16/ARC.
fn crc16_arc(buf: &[u8]) -> u16 {
    buf.iter()
        .fold(0, |crc, b| (0..8).fold(crc ^ u16::from(*b), |c, _| if c & 1 != 0 { c >> 1 ^ 0xa001 } else { c >> 1 }))
}

/// CRC-16 with polynomial 0x1021 and initial value 0xffff.
fn crc_ccitt(buf: &[u8]) -> u16 {
    buf.iter().fold(0xffff, |crc, b| {
        (0..8).fold(crc ^ u16::from(*b) << 8, |c, _| if c & 0x8000 != 0 { c << 1 ^ 0x1021 } else { c << 1 })
    })
}

/// Words of `n` bytes, exclusive-or; the last is padded with zeros.
fn xor(buf: &[u8], n: usize) -> u64 {
    buf.chunks(n).fold(0, |x, c| x ^ (0..n).fold(0, |v, i| v << 8 | u64::from(c.get(i).copied().unwrap_or(0))))
}

/// xxHash, 64 bits, seed 0 (the published algorithm).
fn xxh64(buf: &[u8]) -> u64 {
    const P1: u64 = 0x9e37_79b1_85eb_ca87;
    const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
    const P3: u64 = 0x1656_67b1_9e37_79f9;
    const P4: u64 = 0x85eb_ca77_c2b2_ae63;
    const P5: u64 = 0x27d4_eb2f_1656_67c5;
    let le = |b: &[u8]| b.iter().rev().fold(0u64, |v, x| v << 8 | u64::from(*x));
    let round = |acc: u64, v: u64| acc.wrapping_add(v.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1);
    let merge = |h: u64, v: u64| (h ^ round(0, v)).wrapping_mul(P1).wrapping_add(P4);
    let mut rest = buf;
    let mut h = P5;
    if buf.len() >= 32 {
        let mut v = [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)];
        while rest.len() >= 32 {
            for (i, lane) in v.iter_mut().enumerate() {
                *lane = round(*lane, le(&rest[i * 8..i * 8 + 8]));
            }
            rest = &rest[32..];
        }
        h = v[0]
            .rotate_left(1)
            .wrapping_add(v[1].rotate_left(7))
            .wrapping_add(v[2].rotate_left(12))
            .wrapping_add(v[3].rotate_left(18));
        h = v.iter().fold(h, |h, lane| merge(h, *lane));
    }
    h = h.wrapping_add(buf.len() as u64);
    while rest.len() >= 8 {
        h = (h ^ round(0, le(&rest[..8]))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = &rest[8..];
    }
    if rest.len() >= 4 {
        h = (h ^ le(&rest[..4]).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = &rest[4..];
    }
    for b in rest {
        h = (h ^ u64::from(*b).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    h ^= h >> 33;
    h = h.wrapping_mul(P2);
    h ^= h >> 29;
    h = h.wrapping_mul(P3);
    h ^ h >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_give_their_published_check_values() {
        let check = b"123456789";
        assert_eq!(Algo::Crc16.over(check), 0xbb3d);
        assert_eq!(Algo::Crc32.over(check), 0xcbf4_3926);
        assert_eq!(Algo::CrcCcitt.over(check), 0x29b1);
        assert_eq!(Algo::Xxh64.over(b""), 0xef46_db37_51d8_e999);
        assert_eq!(Algo::Xxh64.over(b"Nobody inspects the spammish repetition"), 0xfbce_a83c_8a37_8bf1);
        assert_eq!(Algo::Identity.over(&[1, 2, 3]), 0x010203);
        assert_eq!(Algo::Xor16.over(&[0x12, 0x34, 0x01]), 0x1234 ^ 0x0100);
    }

    /// RFC 1071, word by word.
    fn naive(buf: &[u8]) -> u16 {
        let mut sum = 0u32;
        for c in buf.chunks(2) {
            sum += u32::from(c[0]) << 8 | u32::from(c.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn the_checksum_of_bytes_is_rfc_1071s(buf in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Algo::Csum16.over(&buf), u64::from(naive(&buf)));
        }

        #[test]
        fn the_checksum_over_fields_equals_that_over_their_bytes(
            fields in proptest::collection::vec((1u32..=48, any::<u64>()), 1..12),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut s = vec![1u64];
            let mut inputs = Vec::new();
            for (width, value) in &fields {
                let slot = s.len() as Slot;
                s.push(value & (u64::MAX >> (64 - width)));
                inputs.push(Input::Field(Field { slot, width: *width, signed: false, valid: Some(0), bit_offset: 0 }));
            }
            let calc = Calc::new(Algo::Csum16, inputs, true);
            prop_assert!(calc.fast.is_some());
            let fast = calc.value(|i| s[usize::from(i)], &[], &payload, &mut Vec::new());
            let slow = Calc { fast: None, ..calc }.value(|i| s[usize::from(i)], &[], &payload, &mut Vec::new());
            prop_assert_eq!(fast, slow);
        }
    }
}
