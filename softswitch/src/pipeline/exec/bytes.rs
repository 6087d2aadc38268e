//! Fields from and to the bytes of a frame.

use super::super::layout::{Field, Header, Varbit};
use super::mask;
use super::slots::Slots;
use num_bigint::BigUint;

/// Eight bytes at `at`, big-endian; bytes behind the end read 0.
#[inline]
fn load8(buf: &[u8], at: usize) -> u64 {
    if let Some(b) = buf.get(at..at + 8)
        && let Ok(b) = b.try_into()
    {
        return u64::from_be_bytes(b);
    }
    let mut b = [0; 8];
    let rest = buf.get(at..).unwrap_or(&[]);
    b[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(b)
}

/// `width` (1..=64) bits at a bit offset.
#[inline]
fn bits64(buf: &[u8], bit: usize, width: u32) -> u64 {
    let (at, skip) = (bit / 8, (bit % 8) as u32);
    let v = load8(buf, at);
    if skip + width <= 64 {
        return v << skip >> (64 - width);
    }
    // The field ends in a ninth byte.
    let over = skip + width - 64;
    let last = u64::from(buf.get(at + 8).copied().unwrap_or(0));
    (v << skip >> (64 - width)) | last >> (8 - over)
}

/// `width` (1..=128) bits at a bit offset.
pub(super) fn bits(buf: &[u8], bit: usize, width: u32) -> u128 {
    if width <= 64 {
        return u128::from(bits64(buf, bit, width));
    }
    let high = width - 64;
    u128::from(bits64(buf, bit, high)) << 64 | u128::from(bits64(buf, bit + high as usize, 64))
}

/// Reads a header's fields; `buf` is all of it.
#[inline]
pub(super) fn extract(h: &Header, buf: &[u8], s: Slots<'_>) {
    match &h.wire {
        Some(wire) => {
            for w in &wire.read {
                s.set(w.slot, load(buf, w.at) >> w.shift & mask(w.width));
            }
        }
        None => extract_all(h, buf, s),
    }
}

#[inline(never)]
fn extract_all(h: &Header, buf: &[u8], s: Slots<'_>) {
    for f in &h.fields {
        extract_field(*f, buf, f.bit_offset as usize, f.width, s);
    }
}

/// `width` bits into a field, which may be wider or narrower.
pub(super) fn extract_field(f: Field, buf: &[u8], bit: usize, width: u32, s: Slots<'_>) {
    if f.width <= 128 && width <= 128 {
        s.store(f, bits(buf, bit, width));
        return;
    }
    let mut left = width.min(f.width);
    let end = bit + width as usize;
    let mut taken = 0;
    for slot in f.slots() {
        let n = left.min(64);
        let v = if n == 0 { 0 } else { bits64(buf, end - taken - n as usize, n) };
        // The word with the sign.
        let last = left > 0 && left <= 64 && width >= f.width;
        s.set(slot, if f.signed && last { sign64(v, n) } else { v });
        taken += n as usize;
        left -= n;
    }
}

/// Bits as a number of any size; those behind the end read 0.
pub(super) fn big(buf: &[u8], bit: usize, width: u32) -> BigUint {
    let head = width % 8;
    let mut bytes = Vec::with_capacity(width as usize / 8 + 1);
    if head > 0 {
        bytes.push(bits64(buf, bit, head) as u8);
    }
    bytes_at(buf, bit + head as usize, width as usize / 8, &mut bytes);
    BigUint::from_bytes_be(&bytes)
}

/// Appends `n` bytes that start at a bit.
pub(super) fn bytes_at(buf: &[u8], bit: usize, n: usize, out: &mut Vec<u8>) {
    out.extend((0..n).map(|i| bits64(buf, bit + i * 8, 8) as u8));
}

/// Reads the fields of a header whose varbit has so many bits. Returns where that starts.
pub(super) fn extract_around(h: &Header, v: Varbit, buf: &[u8], varbit_bits: usize, s: Slots<'_>) -> usize {
    let (before, after) = h.fields.split_at(v.before.min(h.fields.len()));
    for f in before {
        extract_field(*f, buf, f.bit_offset as usize, f.width, s);
    }
    for f in after {
        extract_field(*f, buf, f.bit_offset as usize + varbit_bits, f.width, s);
    }
    before.last().map_or(0, |f| (f.bit_offset + f.width) as usize)
}

/// Writes a header with a varbit. Returns its length.
pub(super) fn emit_around(out: &mut [u8], h: &Header, v: Varbit, s: Slots<'_>, frame: &[u8]) -> usize {
    let varbit_bytes = (s.get(v.bits) / 8) as usize;
    let len = h.bytes as usize + varbit_bytes;
    let (before, after) = h.fields.split_at(v.before.min(h.fields.len()));
    let mut b = Bits { out: &mut out[..len], word: 0, used: 0 };
    before.iter().for_each(|f| put(&mut b, f, s));
    let at = s.get(v.at) as usize;
    for i in 0..varbit_bytes {
        b.put(if at == 0 { 0 } else { bits64(frame, at - 1 + i * 8, 8) }, 8);
    }
    after.iter().for_each(|f| put(&mut b, f, s));
    let bytes = (b.used / 8) as usize;
    b.write(bytes);
    len
}

/// The eight bytes of a window.
#[inline]
fn load(buf: &[u8], at: u16) -> u64 {
    let at = usize::from(at);
    let mut b = [0; 8];
    b.copy_from_slice(&buf[at..at + 8]);
    u64::from_be_bytes(b)
}

#[inline]
pub(super) fn sign64(v: u64, width: u32) -> u64 {
    let up = 64 - width;
    ((v << up) as i64 >> up) as u64
}

#[inline]
pub(super) fn sign128(v: u128, width: u32) -> u128 {
    let up = 128 - width;
    ((v << up) as i128 >> up) as u128
}

/// Writes a header into `out`, which is as long as the header.
#[inline]
pub(super) fn emit(out: &mut [u8], h: &Header, s: Slots<'_>, frame: &[u8]) {
    let origin = s.get(h.origin) as usize;
    if origin != 0
        && let Some(wire) = &h.wire
        && let Some(came) = frame.get(origin - 1..origin - 1 + out.len())
    {
        copy(out, came);
        for p in &wire.patches {
            let mut word = load(out, p.at) & p.keep;
            for (slot, mask, shift) in &p.fields {
                word |= (s.get(*slot) & mask) << shift;
            }
            let at = usize::from(p.at);
            out[at..at + 8].copy_from_slice(&word.to_be_bytes());
        }
        return;
    }
    emit_all(out, h, s);
}

/// Copies at least eight bytes, eight at a time: headers are too short for the library's way to pay.
#[inline]
fn copy(out: &mut [u8], from: &[u8]) {
    let (words, _) = out.as_chunks_mut::<8>();
    let (source, _) = from.as_chunks::<8>();
    for (o, f) in words.iter_mut().zip(source) {
        *o = *f;
    }
    if let (Some(o), Some(f)) = (out.last_chunk_mut::<8>(), from.last_chunk::<8>()) {
        *o = *f;
    }
}

/// Collects fields into whole words, so that a field costs a shift and an or.
struct Bits<'a> {
    out: &'a mut [u8],
    word: u64,
    /// Bits of `word` that are filled, from the top.
    used: u32,
}

impl Bits<'_> {
    #[inline]
    fn put(&mut self, v: u64, width: u32) {
        let free = 64 - self.used;
        if width < free {
            self.word |= v << (free - width);
            self.used += width;
            return;
        }
        let over = width - free;
        self.word |= v >> over;
        self.write(8);
        self.word = if over == 0 { 0 } else { v << (64 - over) };
        self.used = over;
    }

    fn write(&mut self, bytes: usize) {
        let (now, rest) = std::mem::take(&mut self.out).split_at_mut(bytes);
        now.copy_from_slice(&self.word.to_be_bytes()[..bytes]);
        self.out = rest;
    }
}

/// Writes all fields.
fn emit_all(out: &mut [u8], h: &Header, s: Slots<'_>) {
    let mut b = Bits { out, word: 0, used: 0 };
    for f in &h.fields {
        put(&mut b, f, s);
    }
    let bytes = (b.used / 8) as usize;
    b.write(bytes);
}

#[inline]
fn put(b: &mut Bits<'_>, f: &Field, s: Slots<'_>) {
    if f.width <= 64 {
        b.put(s.get(f.slot) & mask(f.width as u8), f.width);
    } else {
        let top = (f.width - 1) % 64 + 1;
        for (n, slot) in f.slots().rev().enumerate() {
            if n == 0 {
                b.put(s.get(slot) & mask(top as u8), top);
            } else {
                b.put(s.get(slot), 64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::layout::{Field, words};
    use super::*;
    use proptest::prelude::*;

    fn header(widths: &[u32]) -> (Header, usize) {
        let (mut fields, mut bit, mut slot) = (Vec::new(), 0, 1);
        for w in widths {
            fields.push(Field { slot, width: *w, signed: false, valid: None, bit_offset: bit });
            bit += w;
            slot += words(*w);
        }
        let h = Header { bytes: bit / 8, fields, ..Header::default() };
        (h, usize::from(slot))
    }

    proptest! {
        #[test]
        fn what_is_extracted_is_emitted_again(mut widths in proptest::collection::vec(1u32..=300, 1..12), bytes in proptest::collection::vec(any::<u8>(), 450)) {
            let sum: u32 = widths.iter().sum();
            if !sum.is_multiple_of(8) {
                widths.push(8 - sum % 8);
            }
            let (h, slots) = header(&widths);
            let mut s = vec![0; slots];
            // SAFETY: the header uses the slots that were counted for it.
            let s = unsafe { Slots::new(&mut s) };
            let frame = &bytes[..h.bytes as usize];
            extract(&h, frame, s);
            // Each field against a bit-by-bit reading.
            for f in &h.fields {
                let naive = (0..f.width).fold(BigUint::ZERO, |v, i| {
                    let bit = (f.bit_offset + i) as usize;
                    (v << 1) | BigUint::from(frame[bit / 8] >> (7 - bit % 8) & 1)
                });
                let got = f.slots().rev().fold(BigUint::ZERO, |v, slot| (v << 64) | BigUint::from(s.get(slot)));
                prop_assert_eq!(&got, &naive);
                prop_assert_eq!(big(frame, f.bit_offset as usize, f.width), naive);
            }
            let mut out = vec![0xff; frame.len()];
            emit(&mut out, &h, s, frame);
            prop_assert_eq!(&out[..], frame);
        }
    }

    #[test]
    fn signed_fields_keep_their_sign() {
        assert_eq!(sign64(0xff, 8), u64::MAX);
        assert_eq!(sign64(0x7f, 8), 0x7f);
        assert_eq!(sign128(1 << 99, 100), u128::MAX << 99);
    }
}
