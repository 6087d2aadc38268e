//! The highest rate that passes almost without loss, found by bisection (RFC 2544, with a tolerance).

use anyhow::Result;

/// Share of the frames that may be lost: a scheduler's hiccup on a busy machine, not a queue that runs over.
pub const TOLERATED_LOSS: f64 = 0.001;
/// The search ends when the bounds are this close.
const PRECISION: f64 = 1.03;
/// A failed rate gets this many more chances: one hiccup must not halve the result.
const RETRIES: usize = 1;
/// A rate this much below what a flooded switch delivers is no rate that is worth finding.
const GIVE_UP: f64 = 0.05;
/// After the search, the rate goes down by this factor until a long trial passes.
const BACK_OFF: f64 = 0.85;
const MAX_STEPS: i32 = 10;

/// What one trial saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Frames a second that were offered.
    pub offered: f64,
    /// Frames a second that came out.
    pub delivered: f64,
    /// Share of the frames that were lost.
    pub loss: f64,
    /// CPU nanoseconds of the switch for a frame that came out.
    pub cpu_ns: f64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The confirmed trial; none where even low rates lose frames.
    pub at: Option<Trial>,
    /// Under a flood.
    pub flood: Trial,
    /// The sender could offer no more than this, and it passed: the switch could do more.
    pub sender_limited: bool,
}

/// What a trial is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ask {
    /// As many frames as the sender can offer.
    Flood,
    /// A short trial at this rate.
    Short(f64),
    /// A long trial at this rate.
    Long(f64),
}

impl Found {
    /// CPU nanoseconds for a frame that came out: at the confirmed rate, or else under the flood.
    pub fn cpu_ns(&self) -> f64 {
        self.at.unwrap_or(self.flood).cpu_ns
    }
}

/// Searches by trials.
pub fn search(mut trial: impl FnMut(Ask) -> Result<Trial>) -> Result<Found> {
    let flood = trial(Ask::Flood)?;
    let mut low = 0.0;
    let mut high = flood.offered;
    let sender_limited = flood.loss <= TOLERATED_LOSS;
    if sender_limited {
        low = flood.delivered;
    } else {
        // What a flooded switch delivers is a good first guess, though some deliver less then than when they are not.
        let mut guess = flood.delivered.max(high / 64.0);
        let least = guess * GIVE_UP;
        while high > low * PRECISION && guess > least {
            if (0..=RETRIES)
                .try_fold(false, |ok, _| Ok::<_, anyhow::Error>(ok || passes(&trial(Ask::Short(guess))?)))?
            {
                low = guess;
            } else {
                high = guess;
            }
            guess = if low == 0.0 { high * 0.7 } else { (low * high).sqrt().min(low * 1.4) };
        }
    }
    let mut found = Found { at: None, flood, sender_limited: false };
    for (step, _) in (0..MAX_STEPS).flat_map(|step| (0..=RETRIES).map(move |retry| (step, retry))) {
        let rate = low * BACK_OFF.powi(step);
        if rate < 1.0 {
            break;
        }
        let at = trial(Ask::Long(rate))?;
        if passes(&at) {
            found.at = Some(at);
            found.sender_limited = sender_limited && step == 0;
            break;
        }
    }
    Ok(found)
}

/// Almost nothing was lost.
fn passes(trial: &Trial) -> bool {
    trial.loss <= TOLERATED_LOSS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A switch that delivers up to `capacity`, `flooded` when it is offered far more, behind a sender of `limit`.
    fn model(capacity: f64, flooded: f64, limit: f64) -> impl FnMut(Ask) -> Result<Trial> {
        move |ask| {
            let offered = match ask {
                Ask::Flood => limit,
                Ask::Short(rate) | Ask::Long(rate) => rate.min(limit),
            };
            let delivered = if offered > 2.0 * capacity { flooded } else { offered.min(capacity) };
            Ok(Trial { offered, delivered, loss: 1.0 - delivered / offered, cpu_ns: 1e9 / capacity })
        }
    }

    #[test]
    fn the_capacity_is_found_whatever_a_flood_does() {
        for (capacity, flooded) in [(80e3, 80e3), (80e3, 20e3), (400e3, 400e3), (499e3, 10e3), (3e3, 100.0)] {
            let found = search(model(capacity, flooded, 500e3)).unwrap();
            assert!(
                (0.9..=1.001).contains(&(found.at.unwrap().delivered / capacity)),
                "{capacity} {flooded}: {found:?}"
            );
            assert!(!found.sender_limited);
        }
    }

    #[test]
    fn a_switch_that_outruns_the_sender_is_said_to() {
        let found = search(model(900e3, 900e3, 500e3)).unwrap();
        assert!(found.sender_limited);
        assert_eq!(found.at.unwrap().delivered, 500e3);
    }

    #[test]
    fn a_switch_that_delivers_nothing_has_no_rate() {
        let nothing = |_| Ok(Trial { offered: 1000.0, delivered: 0.0, loss: 1.0, cpu_ns: 7.0 });
        let found = search(nothing).unwrap();
        assert_eq!((found.at, found.cpu_ns()), (None, 7.0));
    }

    #[test]
    fn one_hiccup_does_not_spoil_the_search() {
        let mut inner = model(80e3, 80e3, 500e3);
        let mut n = 0;
        let found = search(|ask| {
            n += 1;
            let trial = inner(ask)?;
            // Every other trial loses a twentieth.
            Ok(if n % 2 == 0 { Trial { loss: trial.loss.max(0.05), ..trial } } else { trial })
        });
        assert!(found.unwrap().at.unwrap().delivered > 70e3);
    }
}
