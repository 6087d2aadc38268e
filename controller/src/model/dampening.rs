//! Dampening of routers that come and go (RFC 2439; DESIGN §5.4): a router's flaps raise a penalty that decays
//! exponentially; above *suppress* it is held out, below *reuse* it returns.
//!
//! | flap | penalty |
//! | --- | --- |
//! | the registration goes: farewell or expiry | [`Dampening::flap`] |
//! | it is replaced by one that says something else, or is heard by another gateway | [`Dampening::change`] |
//! | it is adopted by another gateway, again within [`MOVE_HOLD_INTERVALS`](super::MOVE_HOLD_INTERVALS) | [`Dampening::change`] |
//! | keepalives, late or not; any other adoption; the same registration again | none |
//!
//! Penalties belong to the key and outlive the registration. Integers only, so that every controller reckons the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Model, RegistrationKey};

/// Keys whose flaps are remembered at most; beyond, the one that flapped longest ago is forgotten.
pub const MAX_FLAPPING: usize = 16_384;
/// The longest maximum suppress time, in half-lives: the ceiling is `reuse` doubled so often (RFC 2439 §4.2).
const MAX_DOUBLINGS: u32 = 16;
/// How far the clocks of two gateways may differ before a suppression looks longer than one can be.
const CLOCK_SLACK_MS: u64 = 300_000;
/// The highest penalty or threshold that may be configured.
const MAX_PENALTY: u32 = 1_000_000;

/// RFC 2439 §4.2's parameters. Part of the cluster's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dampening {
    /// Penalty of a registration that goes.
    pub flap: u32,
    /// Penalty of a registration that changes.
    pub change: u32,
    /// A router with this penalty is suppressed; 0: none ever is.
    pub suppress: u32,
    /// A suppressed router returns when its penalty has fallen below this.
    pub reuse: u32,
    /// Seconds in which a penalty halves.
    pub half_life_s: u32,
    /// Seconds that a router which has stopped to flap is suppressed at most: the penalty has a ceiling accordingly.
    pub max_suppress_s: u32,
}

impl Default for Dampening {
    /// Usual figures of BGP routers, with a third of their half-life: keepalives are faster than BGP.
    fn default() -> Self {
        Self { flap: 1_000, change: 500, suppress: 3_000, reuse: 750, half_life_s: 300, max_suppress_s: 1_200 }
    }
}

impl Dampening {
    /// What is wrong with it, as a sentence for the person who wrote it.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { flap, change, suppress, reuse, half_life_s, max_suppress_s } = *self;
        if suppress == 0 {
            return Ok(());
        }
        if [flap, change, suppress, reuse].iter().any(|&penalty| penalty > MAX_PENALTY) {
            return Err(format!("dampening: penalties and thresholds are at most {MAX_PENALTY}"));
        }
        if reuse == 0 || reuse >= suppress {
            return Err(format!("dampening.reuse is {reuse}; at least 1 and less than suppress ({suppress})"));
        }
        if half_life_s == 0 || max_suppress_s / half_life_s.max(1) > MAX_DOUBLINGS {
            return Err(format!(
                "dampening.half_life_s is {half_life_s}; at least 1, and at least a {MAX_DOUBLINGS}th of max_suppress_s \
                 ({max_suppress_s})"
            ));
        }
        if self.ceiling() < u64::from(suppress) {
            return Err(format!(
                "dampening.max_suppress_s is {max_suppress_s}: a penalty that decays from suppress ({suppress}) to reuse \
                 ({reuse}) takes longer, so nobody would ever be suppressed; give more"
            ));
        }
        Ok(())
    }

    /// The penalty that decays to `reuse` within the maximum suppress time (RFC 2439 §4.2).
    fn ceiling(&self) -> u64 {
        // What decays to one unit in that time, and so many of these.
        let unit = decayed(1 << 32, u64::from(self.max_suppress_s) * 1000, self.half_life_ms()).max(1);
        u64::try_from((u128::from(self.reuse) << 32) / u128::from(unit)).unwrap_or(u64::MAX)
    }

    fn half_life_ms(&self) -> u64 {
        u64::from(self.half_life_s.max(1)) * 1000
    }

    fn max_suppress_ms(&self) -> u64 {
        u64::from(self.max_suppress_s) * 1000
    }

    /// How long a penalty takes to fall below `reuse`, ms.
    fn until_reuse_ms(&self, penalty: u64) -> u64 {
        let (mut low, mut high) = (0, self.max_suppress_ms());
        while low < high {
            let middle = low + (high - low) / 2;
            if decayed(penalty, middle, self.half_life_ms()) < u64::from(self.reuse) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

/// 2^(-k/16) in units of 2^-32.
const SIXTEENTHS: [u64; 17] = [
    4_294_967_296,
    4_112_874_773,
    3_938_502_376,
    3_771_522_796,
    3_611_622_603,
    3_458_501_653,
    3_311_872_529,
    3_171_459_999,
    3_037_000_500,
    2_908_241_642,
    2_784_941_738,
    2_666_869_345,
    2_553_802_834,
    2_445_529_972,
    2_341_847_524,
    2_242_560_872,
    2_147_483_648,
];

/// A penalty after `elapsed`: between the sixteenths of a half-life it falls in a straight line, which is right to
/// 0.03 %. Never rises with `elapsed`.
fn decayed(penalty: u64, elapsed_ms: u64, half_life_ms: u64) -> u64 {
    let halvings = elapsed_ms / half_life_ms;
    if halvings >= 64 {
        return 0;
    }
    let rest = u128::from(elapsed_ms % half_life_ms);
    // Sixteenths of the half-life, with 16 bits after the point; less than 16 of them.
    let position = ((rest << 20) / u128::from(half_life_ms)) as u64;
    let (step, within) = ((position >> 16) as usize & 15, position & 0xffff);
    let factor = SIXTEENTHS[step] - (((SIXTEENTHS[step] - SIXTEENTHS[step + 1]) * within) >> 16);
    ((u128::from(penalty) * u128::from(factor)) >> 32 >> halvings) as u64
}

/// What is remembered of a key that flapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flap {
    /// The penalty as of `at`.
    penalty: u64,
    /// Of the last flap, ms since the Unix epoch.
    at: u64,
    /// When it returns, ms since the Unix epoch; `None` while it never rose above `suppress`.
    reuse_at: Option<u64>,
    /// Flaps since it is remembered.
    count: u32,
}

/// The keys that flapped lately. Bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Flaps {
    by_key: BTreeMap<RegistrationKey, Flap>,
    by_age: BTreeSet<(u64, RegistrationKey)>,
    by_reuse: BTreeSet<(u64, RegistrationKey)>,
}

impl Flaps {
    fn add(&mut self, at: u64, key: RegistrationKey, penalty: u32, config: &Dampening) {
        if config.suppress == 0 || penalty == 0 {
            return;
        }
        let old = self.forget(&key);
        let at = old.map_or(at, |old| old.at.max(at));
        let before = old.map_or(0, |old| decayed(old.penalty, at - old.at, config.half_life_ms()));
        let penalty = before.saturating_add(penalty.into()).min(config.ceiling());
        let held = old.and_then(|old| old.reuse_at).is_some_and(|reuse_at| at < reuse_at);
        let suppressed = held || penalty >= u64::from(config.suppress);
        let reuse_at = suppressed.then(|| at.saturating_add(config.until_reuse_ms(penalty)));
        let count = old.map_or(0, |old| old.count).saturating_add(1);
        self.by_key.insert(key, Flap { penalty, at, reuse_at, count });
        self.by_age.insert((at, key));
        self.by_reuse.extend(reuse_at.map(|reuse_at| (reuse_at, key)));
        // What decayed below half of `reuse` is as good as nothing (RFC 2439 §4.4.3).
        let memory = config.max_suppress_ms().saturating_add(config.half_life_ms());
        while let Some(&(flapped_at, oldest)) = self.by_age.first() {
            if flapped_at.saturating_add(memory) >= at && self.by_key.len() <= MAX_FLAPPING {
                break;
            }
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, key: &RegistrationKey) -> Option<Flap> {
        let old = self.by_key.remove(key)?;
        self.by_age.remove(&(old.at, *key));
        if let Some(reuse_at) = old.reuse_at {
            self.by_reuse.remove(&(reuse_at, *key));
        }
        Some(old)
    }

    pub(super) fn is_consistent(&self) -> bool {
        let held = self.by_key.iter().filter_map(|(key, flap)| Some((flap.reuse_at?, *key)));
        self.by_key.len() == self.by_age.len()
            && self.by_key.iter().all(|(key, flap)| self.by_age.contains(&(flap.at, *key)))
            && held.collect::<BTreeSet<_>>() == self.by_reuse
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
}

/// A key's penalty at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Penalty {
    /// What is left of it.
    pub penalty: u64,
    /// While suppressed: when it returns, ms since the Unix epoch.
    pub reuse_at: Option<u64>,
    /// Flaps since the key is remembered.
    pub flaps: u32,
}

impl Model {
    pub(super) fn flapped(&mut self, at: u64, key: RegistrationKey, penalty: impl Fn(&Dampening) -> u32) {
        let config = self.state.config.dampening;
        self.state.flaps.add(at, key, penalty(&config), &config);
    }

    /// When a suppressed router returns; `None` if it is not suppressed. Times in ms since the Unix epoch.
    pub fn suppressed_until(&self, key: &RegistrationKey, now: u64) -> Option<u64> {
        let reuse_at = self.state.flaps.by_key.get(key)?.reuse_at?;
        self.is_held(reuse_at, now).then_some(reuse_at)
    }

    /// The keys that are suppressed, the one that returns first first, and when each returns; registered or not.
    pub fn suppressed(&self, now: u64) -> impl Iterator<Item = (RegistrationKey, u64)> {
        let held = self.state.flaps.by_reuse.iter().skip_while(move |(reuse_at, _)| *reuse_at <= now);
        held.filter(move |(reuse_at, _)| self.is_held(*reuse_at, now)).map(|&(reuse_at, key)| (key, reuse_at))
    }

    /// What a key's flaps have come to; `None` where none is remembered.
    pub fn penalty(&self, key: &RegistrationKey, now: u64) -> Option<Penalty> {
        let flap = self.state.flaps.by_key.get(key)?;
        let half_life = self.state.config.dampening.half_life_ms();
        let penalty = decayed(flap.penalty, now.saturating_sub(flap.at), half_life);
        Some(Penalty { penalty, reuse_at: self.suppressed_until(key, now), flaps: flap.count })
    }

    /// A time stamp from a clock that was far ahead, or a configuration that was milder since, holds nobody out for
    /// longer than the maximum.
    fn is_held(&self, reuse_at: u64, now: u64) -> bool {
        let dampening = &self.state.config.dampening;
        dampening.suppress > 0 && now < reuse_at && reuse_at - now <= dampening.max_suppress_ms() + CLOCK_SLACK_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmux_wire::ProtocolId;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn key(n: u32) -> RegistrationKey {
        RegistrationKey { protocol: ProtocolId(41), router: SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1) }
    }

    #[test]
    fn a_penalty_decays_as_an_exponential_does_and_never_rises() {
        let mut last = u64::MAX;
        for elapsed in (0..1_500_000).step_by(997) {
            let exact = 12_000_000.0 * (-(elapsed as f64) / 300_000.0 * std::f64::consts::LN_2).exp();
            let got = decayed(12_000_000, elapsed, 300_000);
            assert!((got as f64 - exact).abs() <= 2.0 + exact * 0.0003, "{elapsed}: {got} for {exact}");
            assert!(got <= last);
            last = got;
        }
        assert_eq!(decayed(u64::MAX, u64::MAX, 1), 0);
        assert_eq!(decayed(u64::MAX, 0, 1), u64::MAX);
    }

    #[test]
    fn the_ceiling_is_what_decays_to_reuse_in_the_maximum_suppress_time() {
        let config = Dampening::default();
        assert_eq!(config.ceiling(), 12_000, "750 doubled four times");
        assert_eq!(config.until_reuse_ms(12_001).abs_diff(1_200_000), 0);
        assert!(config.until_reuse_ms(3_000).abs_diff(600_000) < 1_000, "two half-lives");
    }

    #[test]
    fn it_is_held_out_from_suppress_to_reuse_and_not_for_longer_than_the_maximum() {
        let mut model = Model::new();
        let flap = |model: &mut Model, at| model.flapped(at, key(1), |d| d.flap);
        flap(&mut model, 0);
        flap(&mut model, 1_000);
        flap(&mut model, 2_000);
        assert_eq!(model.suppressed_until(&key(1), 2_000), None, "a little has decayed");
        flap(&mut model, 3_000);
        let until = model.suppressed_until(&key(1), 3_000).unwrap();
        assert!(model.penalty(&key(1), until - 1).unwrap().penalty >= 750);
        assert!(model.penalty(&key(1), until).unwrap().penalty < 750);
        assert_eq!(model.suppressed(until - 1).collect::<Vec<_>>(), [(key(1), until)]);
        assert_eq!(model.suppressed(until).count(), 0);
        assert_eq!(model.suppressed_until(&key(1), until), None);
        for at in 4..100 {
            flap(&mut model, at * 1_000);
        }
        assert_eq!(model.suppressed_until(&key(1), 99_000), Some(99_000 + 1_200_000));
        assert!(model.suppressed_until(&key(1), 98_000).is_some(), "clocks differ a little");
        let mut model = Model::new();
        for n in 0..4 {
            flap(&mut model, 900_000_000 + n);
        }
        assert_eq!(model.suppressed_until(&key(1), 5), None, "a clock that was far ahead holds nobody out for long");
    }

    #[test]
    fn memory_is_bounded_and_what_is_long_ago_is_forgotten() {
        let mut model = Model::new();
        for n in 0..=MAX_FLAPPING as u32 {
            model.flapped(n.into(), key(n), |d| d.flap);
        }
        assert_eq!(model.state.flaps.len(), MAX_FLAPPING);
        assert_eq!(model.penalty(&key(0), 5), None);
        model.flapped(2_000_000, key(1), |d| d.flap);
        assert_eq!(model.state.flaps.len(), 1);
        assert!(model.state.flaps.is_consistent());
    }

    #[test]
    fn parameters_that_contradict_each_other_say_where() {
        let good = Dampening::default();
        good.check().unwrap();
        Dampening { suppress: 0, half_life_s: 0, ..good }.check().unwrap();
        for (bad, word) in [
            (Dampening { reuse: 3_000, ..good }, "reuse"),
            (Dampening { reuse: 0, ..good }, "reuse"),
            (Dampening { half_life_s: 0, ..good }, "half_life_s"),
            (Dampening { half_life_s: 1, ..good }, "half_life_s"),
            (Dampening { max_suppress_s: 500, ..good }, "max_suppress_s"),
            (Dampening { flap: u32::MAX, ..good }, "at most"),
        ] {
            assert!(bad.check().unwrap_err().contains(word), "{bad:?}");
        }
    }
}
