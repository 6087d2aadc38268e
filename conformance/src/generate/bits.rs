//! A frame as bits, most significant first.

/// Bits that can be put anywhere and changed.
#[derive(Debug, Clone, Default)]
pub struct BitString(Vec<bool>);

impl BitString {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends the lowest `width` bits of a number; zeros where it has fewer.
    pub fn push(&mut self, value: u128, width: usize) {
        self.0.extend((0..width).rev().map(|bit| bit < 128 && value >> bit & 1 == 1));
    }

    /// Overwrites; what is beyond the end is left out.
    pub fn set(&mut self, at: usize, width: usize, value: u128) {
        for (n, bit) in (0..width).rev().enumerate() {
            if let Some(place) = self.0.get_mut(at + n) {
                *place = bit < 128 && value >> bit & 1 == 1;
            }
        }
    }

    /// Some of the bits.
    pub fn slice(&self, at: usize, width: usize) -> &[bool] {
        let end = (at + width).min(self.0.len());
        self.0.get(at..end).unwrap_or(&[])
    }

    /// Overwrites with other bits; what is beyond the end is left out.
    pub fn put(&mut self, at: usize, bits: &[bool]) {
        for (place, bit) in self.0.iter_mut().skip(at).zip(bits) {
            *place = *bit;
        }
    }

    /// Appends bits.
    pub fn extend(&mut self, bits: &[bool]) {
        self.0.extend_from_slice(bits);
    }

    /// As bytes; the last one is filled up with zeros.
    pub fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| (0..8).fold(0, |n, at| n << 1 | u8::from(bits.get(at).copied().unwrap_or(false)));
        self.0.chunks(8).map(byte).collect()
    }
}
