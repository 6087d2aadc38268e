//! Fields that match more than one value, and the priority that orders entries with such fields.

use std::fmt;

use crate::Value;

/// The `len` upper bits of `T`, as a mask.
fn prefix_mask<T: Value>(len: u8) -> u128 {
    let all = ones::<T>();
    match u32::from(len) {
        len if len >= T::BITS => all,
        len => all & !(all >> len),
    }
}

/// All bits of `T`.
fn ones<T: Value>() -> u128 {
    u128::MAX >> (u128::BITS - T::BITS)
}

/// A value and how many of its upper bits must match. The other bits are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<T> {
    value: T,
    len: u8,
}

impl<T: Value> Prefix<T> {
    /// The prefix of `value` of `len` bits; bits beyond it are cleared. `None` if the type has fewer bits, or if it has no
    /// value for what is left.
    pub fn new(value: T, len: u8) -> Option<Self> {
        if u32::from(len) > T::BITS {
            return None;
        }
        let value = T::from_bits(value.to_bits() & prefix_mask::<T>(len))?;
        Some(Self { value, len })
    }

    /// The prefix of all bits: only `value` itself.
    pub fn host(value: T) -> Self {
        // A width is at most 128.
        let len = T::BITS as u8;
        Self { value, len }
    }

    /// The value, 0 beyond the prefix.
    pub fn value(self) -> T {
        self.value
    }

    /// Its length in bits.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether `value` begins with the prefix.
    pub fn contains(self, value: T) -> bool {
        value.to_bits() & prefix_mask::<T>(self.len) == self.value.to_bits()
    }
}

impl<T: Value> fmt::Display for Prefix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.value, self.len)
    }
}

/// A value, and a mask of the bits that must match. The other bits of the value are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ternary<T> {
    value: T,
    // Not u128: every entry of a plan is as large as the largest key, and no field is wider than this.
    mask: u64,
}

impl<T: Value> Ternary<T> {
    /// All bits of the type.
    const ONES: u64 = {
        assert!(T::BITS <= u64::BITS, "a ternary field has at most 64 bits");
        u64::MAX >> (u64::BITS - T::BITS)
    };

    /// `value` where `mask` is 1; bits elsewhere are cleared. `None` if the mask has more bits than the type, or if the type
    /// has no value for what is left.
    pub fn new(value: T, mask: u128) -> Option<Self> {
        let mask = u64::try_from(mask).ok().filter(|mask| mask & !Self::ONES == 0)?;
        let value = T::from_bits(value.to_bits() & u128::from(mask))?;
        Some(Self { value, mask })
    }

    /// Only `value`.
    pub fn exact(value: T) -> Self {
        Self { value, mask: Self::ONES }
    }

    /// The value, 0 outside the mask.
    pub fn value(self) -> T {
        self.value
    }

    /// The bits that must match.
    pub fn mask(self) -> u128 {
        self.mask.into()
    }

    /// Whether `value` matches.
    pub fn contains(self, value: T) -> bool {
        value.to_bits() & self.mask() == self.value.to_bits()
    }
}

macro_rules! any {
    ($($type:ty),*) => {$(
        impl Ternary<$type> {
            /// Anything.
            pub const ANY: Self = Self { value: <$type>::MIN, mask: 0 };
        }
    )*};
}

any!(u8, u16, u32, u64);

impl Ternary<std::net::Ipv4Addr> {
    /// Any address.
    pub const ANY: Self = Self { value: std::net::Ipv4Addr::UNSPECIFIED, mask: 0 };
}

impl<T: Value> fmt::Display for Ternary<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mask == 0 {
            f.write_str("*")
        } else if self.mask == Self::ONES {
            write!(f, "{}", self.value)
        } else {
            write!(f, "{}&{:#x}", self.value, self.mask)
        }
    }
}

/// Of entries that match the same packet the one with the largest priority wins. Above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i32);

impl Priority {
    /// A priority, if it is above 0.
    pub const fn new(priority: i32) -> Option<Self> {
        if priority > 0 { Some(Self(priority)) } else { None }
    }

    /// A priority that is known when the code is written; one that is not above 0 does not compile.
    pub const fn of<const PRIORITY: i32>() -> Self {
        const { assert!(PRIORITY > 0, "a priority is above 0") }
        Self(PRIORITY)
    }

    /// As P4Runtime has it.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_prefix_has_no_bits_beyond_its_length() {
        let net = Prefix::new(Ipv4Addr::new(198, 51, 100, 77), 24).unwrap();
        assert_eq!(net.to_string(), "198.51.100.0/24");
        assert!(net.contains(Ipv4Addr::new(198, 51, 100, 1)));
        assert!(!net.contains(Ipv4Addr::new(198, 51, 101, 1)));
        let all = Prefix::new(Ipv4Addr::new(1, 2, 3, 4), 0).unwrap();
        assert_eq!(all.to_string(), "0.0.0.0/0");
        assert!(all.contains(Ipv4Addr::BROADCAST));
        assert_eq!(Prefix::new(Ipv4Addr::UNSPECIFIED, 33), None);
        let host = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(Prefix::new(host, 32), Some(Prefix::host(host)));
        assert_eq!(Prefix::new(u128::MAX, 1).unwrap().value(), 1 << 127);
    }

    #[test]
    fn a_ternary_has_no_bits_outside_its_mask() {
        let high = Ternary::new(0xabcd_u16, 0xff00).unwrap();
        assert_eq!((high.value(), high.mask()), (0xab00, 0xff00));
        assert!(high.contains(0xab12) && !high.contains(0xac12));
        assert_eq!(Ternary::new(0_u8, 0x100), None);
        assert_eq!(Ternary::exact(7_u8), Ternary::new(7, 0xff).unwrap());
        assert_eq!(Ternary::<u16>::ANY.to_string(), "*");
        assert_eq!(Ternary::exact(7_u8).to_string(), "7");
        assert_eq!(high.to_string(), "43776&0xff00");
    }

    #[test]
    fn priorities_are_above_zero() {
        assert_eq!(Priority::new(0), None);
        assert_eq!(Priority::new(-1), None);
        assert_eq!(Priority::new(1), Some(Priority::of::<1>()));
    }
}
