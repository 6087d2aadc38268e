//! What signatures may cost: bounded per second, per source and in total.
//!
//! | who | bound |
//! | --- | --- |
//! | a proven source that registers, or is first heard here | [`VERIFICATIONS_PER_SOURCE`], and [`VERIFICATIONS_PER_SECOND`] in all |
//! | a router that is heard here, with a cookie | [`VERIFICATIONS_PER_SOURCE`] |
//! | a router that is heard here, its source unproven | none while its signatures verify; after one that does not, its next keepalives need a cookie for [`SUSPICION`] |
//! | all of these together | after [`FORGERIES_PER_SECOND`] that do not verify, all keepalives need a cookie for the rest of the second |
//!
//! So a flood of registrations takes nothing from the keepalives of routers that are known, and a flood of forged
//! keepalives costs the router that it names one more round trip and nothing else: who forges a source does not see the
//! cookie.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Signatures verified a second for sources that are not known as live routers; more are refused as busy.
pub const VERIFICATIONS_PER_SECOND: u32 = 4_000;
/// Likewise for one source: sixteen registrations with their chains.
pub const VERIFICATIONS_PER_SOURCE: u32 = 64;
/// Signatures a second in the names of live routers, without a cookie, that may turn out wrong.
pub const FORGERIES_PER_SECOND: u32 = 500;
/// How long a cookie is demanded in the name of a router after a signature that did not verify.
pub const SUSPICION: Duration = Duration::from_secs(10);

const WINDOW: Duration = Duration::from_secs(1);

/// What was spent in this second, and ever.
#[derive(Debug, Default)]
pub(crate) struct Work {
    began: Duration,
    spent: u32,
    forgeries: u32,
    /// At most [`VERIFICATIONS_PER_SECOND`] sources and the live routers: each has spent something.
    by_source: HashMap<SocketAddrV4, u32>,
    total: u64,
}

impl Work {
    fn turn(&mut self, now: Duration) {
        if now.saturating_sub(self.began) >= WINDOW {
            self.began = now;
            self.spent = 0;
            self.forgeries = 0;
            self.by_source.clear();
        }
    }

    /// Whether `cost` verifications may be done for a source that is no live router; if so, they are counted.
    pub(crate) fn admit(&mut self, now: Duration, source: SocketAddrV4, cost: u32) -> bool {
        self.turn(now);
        let spent = self.by_source.get(&source).copied().unwrap_or(0);
        if spent.saturating_add(cost) > VERIFICATIONS_PER_SOURCE
            || self.spent.saturating_add(cost) > VERIFICATIONS_PER_SECOND
        {
            return false;
        }
        self.by_source.insert(source, spent + cost);
        self.spent += cost;
        self.total = self.total.saturating_add(cost.into());
        true
    }

    /// A live router's signature is about to be verified, without a cookie.
    pub(crate) fn count(&mut self) {
        self.total = self.total.saturating_add(1);
    }

    /// Whether a live router's signature may be verified that came with a cookie: who sees the router's datagrams can
    /// repeat that. The total is not touched, so that others' registrations take nothing from it.
    pub(crate) fn admit_live(&mut self, now: Duration, source: SocketAddrV4) -> bool {
        self.turn(now);
        let spent = self.by_source.entry(source).or_insert(0);
        if *spent >= VERIFICATIONS_PER_SOURCE {
            return false;
        }
        *spent += 1;
        self.total = self.total.saturating_add(1);
        true
    }

    /// It did not verify.
    pub(crate) fn forged(&mut self, now: Duration) {
        self.turn(now);
        self.forgeries = self.forgeries.saturating_add(1);
    }

    /// Whether signatures in the names of live routers may be verified without a cookie.
    pub(crate) fn is_calm(&mut self, now: Duration) -> bool {
        self.turn(now);
        self.forgeries < FORGERIES_PER_SECOND
    }

    /// Verifications ever done.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn source(n: u32) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1)
    }

    #[test]
    fn one_source_and_all_together_are_bounded_a_second() {
        let mut work = Work::default();
        let at = Duration::from_millis;
        let admitted = (0..100).filter(|_| work.admit(at(5_000), source(0), 4)).count();
        assert_eq!(admitted as u32, VERIFICATIONS_PER_SOURCE / 4);
        let others = (1..10_000).filter(|&n| work.admit(at(5_999), source(n), 1)).count();
        assert_eq!(others as u32, VERIFICATIONS_PER_SECOND - VERIFICATIONS_PER_SOURCE);
        assert!(work.by_source.len() <= VERIFICATIONS_PER_SECOND as usize);
        assert!(work.admit(at(6_000), source(0), 4), "another second");
        assert_eq!(work.total(), u64::from(VERIFICATIONS_PER_SECOND) + 4);
    }

    #[test]
    fn forgeries_end_the_calm_for_the_rest_of_a_second() {
        let mut work = Work::default();
        let at = Duration::from_millis;
        for _ in 0..FORGERIES_PER_SECOND {
            assert!(work.is_calm(at(1_000)));
            work.forged(at(1_000));
        }
        assert!(!work.is_calm(at(1_999)));
        assert!(work.is_calm(at(2_000)));
    }
}
