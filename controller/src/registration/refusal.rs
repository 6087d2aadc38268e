//! Refusals: what is said, how often, and how long it may be.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;
use std::time::Duration;

use dmux_wire::control::{self, Kind, RefusalCode, Refused};

use super::{Effect, Level};

/// A source is told the same reason once in this time, and so is the log.
pub const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);
/// Sources remembered for that at most; beyond, the one refused longest ago is forgotten.
pub const MAX_REFUSED_SOURCES: usize = 4096;
/// Lines that the outside can cause in the log, an interval.
pub const MAX_LOG_LINES: u32 = 16;
/// Remembered beside the reasons: the source costs too much.
const PROBATION: i32 = -1;
/// Bytes of a refusal's sentence at most.
const MAX_TEXT: usize = 400;

/// A refusal before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: RefusalCode,
    /// For a person: what is wrong and what to do.
    pub(crate) text: String,
    pub(crate) retry_after: Duration,
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), retry_after: Duration::ZERO }
    }

    pub(crate) fn retry(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { retry_after: super::RETRY_AFTER, ..Self::new(code, text) }
    }

    /// The message, whole.
    pub(crate) fn message(&self) -> Kind {
        Kind::Refused(Refused {
            code: self.code.into(),
            text: cut(&self.text, MAX_TEXT).to_owned(),
            retry_after_ms: u32::try_from(self.retry_after.as_millis()).unwrap_or(u32::MAX),
        })
    }

    /// The message, with the text cut so that it has at most `limit` bytes; `None` if it cannot be made to fit.
    pub(crate) fn encode(&self, nonce: u64, limit: usize) -> Option<Vec<u8>> {
        let mut text = cut(&self.text, MAX_TEXT);
        loop {
            let refused = Refused {
                code: self.code.into(),
                text: text.to_owned(),
                retry_after_ms: u32::try_from(self.retry_after.as_millis()).unwrap_or(u32::MAX),
            };
            let bytes = control::encode(nonce, Kind::Refused(refused)).ok()?;
            let excess = bytes.len().saturating_sub(limit);
            if excess == 0 {
                return Some(bytes);
            }
            if text.is_empty() {
                return None;
            }
            text = cut(text, text.len().saturating_sub(excess));
        }
    }
}

/// At most `limit` bytes of the text, whole characters.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Remembers who was refused what lately. Bounded.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: HashMap<(SocketAddrV4, i32), (Duration, u64)>,
    by_age: BTreeMap<(Duration, u64), (SocketAddrV4, i32)>,
    serial: u64,
    window_start: Duration,
    lines: u32,
    suppressed: u64,
}

impl Throttle {
    /// Whether this source may be told this reason now; if so, it may not be again for an interval.
    pub(crate) fn admit(&mut self, now: Duration, source: SocketAddrV4, code: RefusalCode) -> bool {
        let key = (source, i32::from(code));
        if self.remembers(now, key) {
            return false;
        }
        self.remember(now, key);
        true
    }

    /// The source, which is proven, failed a costly check.
    pub(crate) fn put_on_probation(&mut self, now: Duration, source: SocketAddrV4) {
        self.remember(now, (source, PROBATION));
    }

    /// Whether it did less than an interval ago.
    pub(crate) fn is_on_probation(&self, now: Duration, source: SocketAddrV4) -> bool {
        self.remembers(now, (source, PROBATION))
    }

    fn remember(&mut self, now: Duration, key: (SocketAddrV4, i32)) {
        self.serial += 1;
        if let Some(age) = self.last.insert(key, (now, self.serial)) {
            self.by_age.remove(&age);
        }
        self.by_age.insert((now, self.serial), key);
        if self.last.len() > MAX_REFUSED_SOURCES
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.last.remove(&oldest);
        }
    }

    fn remembers(&self, now: Duration, key: (SocketAddrV4, i32)) -> bool {
        self.last.get(&key).is_some_and(|(at, _)| now.saturating_sub(*at) < REFUSAL_INTERVAL)
    }

    /// A log line, unless there were too many in this interval; how many were left out is told in the next.
    pub(crate) fn log(&mut self, now: Duration, level: Level, text: String) -> Option<Effect> {
        if now.saturating_sub(self.window_start) >= REFUSAL_INTERVAL {
            self.window_start = now;
            self.lines = 0;
        }
        if self.lines >= MAX_LOG_LINES {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.lines += 1;
        let text = match std::mem::take(&mut self.suppressed) {
            0 => text,
            n => format!("{text} ({n} more messages like this were left out before)"),
        };
        Some(Effect::Log { level, text })
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.last.len(), self.by_age.len());
        self.last.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmux_wire::control::decode;
    use std::net::Ipv4Addr;

    fn source(n: u32) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1)
    }

    #[test]
    fn a_source_hears_a_reason_once_an_interval() {
        let mut throttle = Throttle::default();
        let at = Duration::from_millis;
        assert!(throttle.admit(at(0), source(1), RefusalCode::Busy));
        assert!(!throttle.admit(at(999), source(1), RefusalCode::Busy));
        assert!(throttle.admit(at(999), source(1), RefusalCode::Replayed), "another reason is news");
        assert!(throttle.admit(at(999), source(2), RefusalCode::Busy));
        assert!(throttle.admit(at(1000), source(1), RefusalCode::Busy));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten() {
        let mut throttle = Throttle::default();
        let limit = MAX_REFUSED_SOURCES as u32;
        for n in 0..=limit {
            assert!(throttle.admit(Duration::from_micros(n.into()), source(n), RefusalCode::Busy));
        }
        assert_eq!(throttle.len(), MAX_REFUSED_SOURCES);
        let now = Duration::from_millis(900);
        assert!(throttle.admit(now, source(0), RefusalCode::Busy));
        assert!(!throttle.admit(now, source(limit), RefusalCode::Busy));
    }

    #[test]
    fn log_lines_are_bounded_and_counted() {
        let mut throttle = Throttle::default();
        let mut at = |ms| throttle.log(Duration::from_millis(ms), Level::Warn, "x".into());
        for _ in 0..MAX_LOG_LINES {
            assert!(at(5000).is_some());
        }
        assert_eq!(at(5999), None);
        assert_eq!(at(5999), None);
        let Some(Effect::Log { text, .. }) = at(6000) else { panic!("a new interval") };
        assert_eq!(text, "x (2 more messages like this were left out before)");
    }

    #[test]
    fn a_refusal_is_cut_to_fit_and_given_up_if_it_cannot() {
        let refusal = Refusal::new(RefusalCode::NotRegistered, "grüße ".repeat(100));
        let full = refusal.encode(7, 1200).unwrap();
        assert!(full.len() < MAX_TEXT + 32);
        for limit in 0..full.len() {
            match refusal.encode(7, limit) {
                Some(bytes) => {
                    assert!(bytes.len() <= limit);
                    assert!(matches!(decode(&bytes), Ok((7, Kind::Refused(r))) if r.code() == refusal.code));
                }
                None => assert!(limit < 13, "the code alone needs 13 bytes: {limit}"),
            }
        }
    }
}
