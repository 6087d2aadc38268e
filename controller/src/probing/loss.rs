//! Lost probes: smoothed, and what they make of a distance.

/// Lost probes of a thousand that count as none: one lost probe of the last twenty says nothing of a path, and must
/// move nobody.
pub const LOSS_FORGIVEN_PERMILLE: u16 = 50;
/// What a lost packet costs whoever sent it, in µs: the shortest time after which senders in use today repeat
/// (RFC 6298 asks for 1 s, and stacks use 200 ms).
pub const LOSS_COST_US: u64 = 200_000;
/// From here on a path is as bad as it gets.
const WORST_PERMILLE: u64 = 900;
/// Weight of the newest probe in the smoothed loss: 1/64.
const SMOOTHING: u32 = 64;
/// Parts of the smoothed ratio, so that one thousandth survives being divided.
const PARTS: u32 = 1 << 20;

/// The smoothed share of probes that were lost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loss {
    parts: u32,
}

impl Loss {
    pub(super) fn add(&mut self, lost: bool) {
        let target = if lost { PARTS } else { 0 };
        self.parts = self.parts - self.parts / SMOOTHING + target / SMOOTHING;
    }

    pub(super) fn permille(self) -> u16 {
        let permille = u64::from(self.parts) * 1000 / u64::from(PARTS);
        u16::try_from(permille).unwrap_or(1000).min(1000)
    }
}

/// The distance that a path of this round trip and loss ranks by, in µs: the round trip, and the time that repeating
/// lost packets is expected to take, `p / (1 − p)` times [`LOSS_COST_US`] where `p` is the loss beyond
/// [`LOSS_FORGIVEN_PERMILLE`]. A tenth lost makes a path about 10 ms longer, a third about 80 ms.
pub fn distance_us(rtt_us: u32, loss_permille: u16) -> u64 {
    let lost = u64::from(loss_permille.saturating_sub(LOSS_FORGIVEN_PERMILLE)).min(WORST_PERMILLE);
    u64::from(rtt_us) + LOSS_COST_US * lost / (1000 - lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_lost_probe_moves_no_distance_and_a_lossy_path_ranks_as_farther() {
        let mut loss = Loss::default();
        loss.add(true);
        assert_eq!(loss.permille(), 15);
        assert_eq!(distance_us(10_000, loss.permille()), 10_000);
        for n in 0..10_000 {
            loss.add(n % 5 == 0);
        }
        assert!((190..=220).contains(&loss.permille()), "{}", loss.permille());
        let lossy = distance_us(10_000, loss.permille());
        assert!((40_000..60_000).contains(&lossy), "{lossy}");
        for _ in 0..1000 {
            loss.add(false);
        }
        assert_eq!(loss.permille(), 0);
    }

    #[test]
    fn even_a_path_that_loses_all_has_a_distance() {
        assert_eq!(distance_us(0, u16::MAX), 1_800_000);
        assert!(distance_us(u32::MAX, 1000) > u64::from(u32::MAX));
    }
}
