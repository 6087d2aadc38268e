//! Routers whose keepalives come here though another gateway owns them and was given them only lately.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::RegistrationKey;

/// Such routers remembered at most; one that finds no room stays where it is until its hold is over.
pub(super) const MAX_STRANGERS: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Heard {
    since: Duration,
    last: Duration,
    sequence: u64,
}

/// When they were heard. Bounded.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    by_key: BTreeMap<RegistrationKey, Heard>,
}

impl Strangers {
    /// A signed keepalive of a router that is not ours. True if it is not the first in succession: none went elsewhere in
    /// between, as far as the router keeps to `interval`.
    pub(super) fn heard(&mut self, now: Duration, key: RegistrationKey, sequence: u64, interval: Duration) -> bool {
        // Routers send a keepalive after three quarters of their interval to the whole of it; networks add to that.
        let gap = interval * 5 / 4;
        let is_known = |heard: &Heard| now.saturating_sub(heard.last) <= gap;
        if let Some(heard) = self.by_key.get_mut(&key).filter(|heard| is_known(heard)) {
            // A datagram that the network doubled, or one that somebody repeats, says nothing new.
            if sequence > heard.sequence {
                (heard.last, heard.sequence) = (now, sequence);
            }
            return now.saturating_sub(heard.since) >= interval / 2 && sequence == heard.sequence && heard.last == now;
        }
        if self.by_key.len() >= MAX_STRANGERS && !self.by_key.contains_key(&key) {
            self.by_key.retain(|_, heard| is_known(heard));
            if self.by_key.len() >= MAX_STRANGERS {
                return false;
            }
        }
        self.by_key.insert(key, Heard { since: now, last: now, sequence });
        false
    }

    /// It is ours, or gone.
    pub(super) fn forget(&mut self, key: &RegistrationKey) {
        self.by_key.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use dmux_wire::ProtocolId;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn key(n: u32) -> RegistrationKey {
        RegistrationKey { protocol: ProtocolId(41), router: SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1) }
    }

    #[test]
    fn only_a_later_keepalive_in_succession_counts() {
        let mut strangers = Strangers::default();
        assert!(!strangers.heard(ms(5_000), key(1), 1, INTERVAL));
        assert!(!strangers.heard(ms(5_900), key(1), 1, INTERVAL), "the same again");
        assert!(!strangers.heard(ms(7_000), key(1), 2, INTERVAL), "one went elsewhere");
        assert!(!strangers.heard(ms(7_100), key(1), 3, INTERVAL), "too soon to tell");
        assert!(strangers.heard(ms(7_900), key(1), 4, INTERVAL));
        assert!(!strangers.heard(ms(7_900), key(2), 4, INTERVAL));
        strangers.forget(&key(1));
        assert!(!strangers.heard(ms(8_800), key(1), 5, INTERVAL));
    }

    #[test]
    fn memory_is_bounded_and_those_of_long_ago_make_room() {
        let mut strangers = Strangers::default();
        for n in 0..=MAX_STRANGERS as u32 {
            strangers.heard(ms(1_000), key(n), 1, INTERVAL);
        }
        assert_eq!(strangers.by_key.len(), MAX_STRANGERS);
        assert!(!strangers.heard(ms(1_900), key(MAX_STRANGERS as u32), 2, INTERVAL), "it found no room");
        assert!(strangers.heard(ms(1_900), key(0), 2, INTERVAL));
        assert!(!strangers.heard(ms(3_000), key(MAX_STRANGERS as u32), 3, INTERVAL));
        assert_eq!(strangers.by_key.len(), 2);
    }
}
