//! The time stamps of an answered probe (DESIGN §3.3).

use std::time::Duration;

use super::ProbeError;

/// A round trip above this is a clock that jumped or a forged reply, not a distance.
pub const MAX_RTT: Duration = Duration::from_secs(10);
/// The time stamps of §3.3 are 48 bits wide and wrap.
pub(super) const STAMP_MASK: u64 = (1 << 48) - 1;

/// The four time stamps of an answered probe, µs, 48 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// Request left the origin switch.
    pub out: u64,
    /// Request entered the reflecting switch.
    pub reflect_in: u64,
    /// Reply left the reflecting switch.
    pub reflect_out: u64,
    /// Reply entered the origin switch.
    pub back: u64,
}

impl Stamps {
    /// `(t_in − t_out) − (t_reflect_out − t_reflect_in)` modulo 2⁴⁸ (DESIGN §3.3).
    pub fn round_trip(&self) -> Result<Duration, ProbeError> {
        let total = self.back.wrapping_sub(self.out) & STAMP_MASK;
        let held = self.reflect_out.wrapping_sub(self.reflect_in) & STAMP_MASK;
        let limit = MAX_RTT.as_micros() as u64;
        match total.checked_sub(held) {
            Some(rtt) if rtt <= limit => Ok(Duration::from_micros(rtt)),
            _ => Err(ProbeError::Impossible { total, held }),
        }
    }
}
