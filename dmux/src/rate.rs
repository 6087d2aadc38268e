//! Rates, as people write and read them.

use std::fmt;
use std::str::FromStr;

/// Decimal prefixes, the largest first.
const PREFIXES: [(char, u64); 4] = [('T', 1_000_000_000_000), ('G', 1_000_000_000), ('M', 1_000_000), ('k', 1_000)];

/// A rate in bit/s. Nothing is rounded, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(char, u64)| self.0 > 0 && self.0.is_multiple_of(*unit);
        match PREFIXES.iter().find(fits) {
            Some((prefix, unit)) => f.pad(&format!("{} {prefix}bit/s", self.0 / unit)),
            None => f.pad(&format!("{} bit/s", self.0)),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no rate: give bit/s as a whole number, with k, M, G or T if you like: 15M");
        let bare = text.strip_suffix("bit/s").unwrap_or(text).trim_end();
        let unit = PREFIXES.iter().find_map(|(prefix, unit)| Some((bare.strip_suffix(*prefix)?, *unit)));
        let (digits, unit) = unit.unwrap_or((bare, 1));
        let digits = digits.trim_end();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).map(Self).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_they_print_to_the_last_bit() {
        for (text, rate) in [
            ("15 Mbit/s", 15_000_000),
            ("15000001 bit/s", 15_000_001),
            ("1500 kbit/s", 1_500_000),
            ("0 bit/s", 0),
            ("2 Tbit/s", 2_000_000_000_000),
        ] {
            assert_eq!(Rate(rate).to_string(), text);
            assert_eq!(text.parse(), Ok(Rate(rate)));
        }
        assert_eq!("15M".parse(), Ok(Rate(15_000_000)));
        for bad in ["", "M", "1.5M", "-1", "+1", "15m", "15 MB/s", "99999999999999999999", "99999999999T"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
