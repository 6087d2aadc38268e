//! Whole lives of endpoints over a channel that loses, delays, duplicates and reorders, while the gateway's controller
//! restarts and operators change their minds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::gateway::Gateway;
use super::*;

/// Both directions of a link, as the seed has it.
struct Channel {
    random: StdRng,
    /// Parts in a hundred.
    loss: u32,
    duplicates: u32,
    delay: Duration,
    /// What is under way: when it arrives, and to whom.
    frames: BTreeMap<(Duration, u64), (To, Vec<u8>)>,
    sent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Gateway,
    Endpoint,
}

impl Channel {
    fn send(&mut self, now: Duration, to: To, frame: &[u8]) {
        let copies = 1 + u32::from(self.random.random_range(0..100) < self.duplicates);
        for _ in 0..copies {
            if self.random.random_range(0..100) >= self.loss {
                self.sent += 1;
                let at = now + self.delay.mul_f64(self.random.random_range(0.1..=1.0));
                self.frames.insert((at, self.sent), (to, frame.to_vec()));
            }
        }
    }
}

struct Life {
    now: Duration,
    endpoint: EndpointCore,
    gateway: Gateway,
    channel: Channel,
    events: Vec<Event>,
    /// MLIs that an operator took away: their leases end early.
    revoked: BTreeSet<u32>,
}

impl Life {
    fn new(seed: u64, loss: u32, lease: Duration) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let delay = Duration::from_millis(40);
        let wanted = [wanted(41, 15_000_000), wanted(42, 30_000_000)];
        Self {
            now: Duration::from_secs(1),
            endpoint: endpoint(&wanted, seed as u8),
            gateway: Gateway::new(lease),
            channel: Channel { random, loss, duplicates: 20, delay, frames: BTreeMap::new(), sent: 0 },
            events: Vec::new(),
            revoked: BTreeSet::new(),
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(frame) => self.channel.send(self.now, To::Gateway, &frame),
                Action::Tell(event) => self.events.push(event),
            }
        }
    }

    fn start(&mut self) {
        let actions = self.endpoint.start(at(self.now));
        self.perform(actions);
    }

    /// Everything that happens within a time, in its order.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.channel.frames.keys().next().map(|(at, _)| *at);
            let next = arrival.into_iter().chain(self.endpoint.deadline()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, (to, frame)) = self.channel.frames.pop_first().unwrap();
                match to {
                    To::Gateway => {
                        if let Some(answer) = self.gateway.frame(self.now, &frame) {
                            self.channel.send(self.now, To::Endpoint, &answer);
                        }
                    }
                    To::Endpoint => {
                        let actions = self.endpoint.frame(at(self.now), &frame);
                        self.perform(actions);
                    }
                }
            }
            let actions = self.endpoint.tick(at(self.now));
            self.perform(actions);
            self.check();
        }
        self.now = end;
        self.gateway.tick(self.now);
    }

    /// Nobody believes in a metalink that the gateway may have given to somebody else.
    fn check(&self) {
        for n in 0..2 {
            let Some(held) = self.endpoint.held(n).filter(|held| !self.revoked.contains(&held.mli)) else { continue };
            let has = self.gateway.metalinks.get(&held.metanet);
            let has = has.unwrap_or_else(|| panic!("at {:?} {held:?} is the endpoint's only", self.now));
            assert_eq!(has.mli, held.mli);
            assert!(held.until <= has.until, "at {:?}: {held:?}, {has:?}", self.now);
        }
    }

    fn agree(&self) -> bool {
        (0..2).all(|n| {
            let held = self.endpoint.held(n);
            let has = held.and_then(|held| self.gateway.metalinks.get(&held.metanet));
            has.zip(held).is_some_and(|(has, held)| (has.mli, has.rate) == (held.mli, held.rate))
        })
    }

    fn operator(&mut self, what: u8) {
        let id = metanet(41 + u16::from(what & 1));
        let notice = match what % 6 {
            0 | 1 => return self.gateway.forget(),
            2 | 3 => {
                let rate = self.channel.random.random_range(1..20_000_000);
                let Some(metalink) = self.gateway.metalinks.get_mut(&id) else { return };
                metalink.rate = rate;
                Gateway::notice(id, metalink.mli, rate)
            }
            _ => {
                let Some(gone) = self.gateway.revoke(id) else { return };
                self.revoked.insert(gone.mli);
                Gateway::notice(id, gone.mli, 0)
            }
        };
        self.channel.send(self.now, To::Endpoint, &notice);
    }
}

const LEASE: Duration = Duration::from_secs(20);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However many frames are lost short of all: connected in the end, and never disconnected.
    #[test]
    fn metalinks_come_and_stay_over_a_bad_link(seed: u64, loss in 0u32..35) {
        let mut life = Life::new(seed, loss, LEASE);
        life.start();
        life.run(Duration::from_secs(120));
        prop_assert!(life.agree(), "{:?}", life.events);
        life.events.clear();
        life.run(Duration::from_secs(600));
        prop_assert!(life.agree());
        let renewals = life.events.iter().filter(|e| matches!(e, Event::Renewed(_))).count();
        prop_assert!(renewals >= 100, "{renewals} of 180");
        let gone: Vec<_> = life.events.iter().filter(|e| matches!(e, Event::Gone { .. })).collect();
        prop_assert_eq!(gone, Vec::<&Event>::new());
    }

    /// Whatever happens and however badly frames travel: what the endpoint believes is true, and once the channel is good
    /// again, it has all that it wants.
    #[test]
    fn whatever_happens_both_sides_agree_in_the_end(
        seed: u64, loss in 0u32..100, happenings in prop::collection::vec((0u64..15_000, any::<u8>()), 0..20),
    ) {
        let mut life = Life::new(seed, loss, LEASE);
        life.start();
        for (wait, what) in happenings {
            life.run(Duration::from_millis(wait));
            life.operator(what);
        }
        life.channel.loss = 0;
        life.run(Duration::from_secs(60));
        prop_assert!(life.agree(), "{:?}", life.events);
    }

    /// Everything is given back on the way out, also a claim whose answer is under way.
    #[test]
    fn who_leaves_leaves_nothing(seed: u64, after in 0u64..3_000) {
        let mut life = Life::new(seed, 0, LEASE);
        life.start();
        life.run(Duration::from_millis(after));
        let actions = life.endpoint.stop(at(life.now));
        life.perform(actions);
        life.run(Duration::from_secs(3));
        prop_assert!(life.endpoint.is_stopped());
        prop_assert!(life.gateway.metalinks.is_empty(), "{:?}", life.gateway);
    }
}

#[test]
fn a_gateway_that_restarts_is_attached_to_again_and_no_metalink_is_lost() {
    let mut life = Life::new(1, 0, LEASE);
    life.start();
    life.run(Duration::from_secs(2));
    let before: Vec<u32> = life.gateway.metalinks.values().map(|m| m.mli).collect();
    life.gateway.forget();
    life.events.clear();
    life.run(Duration::from_secs(60));
    let after: Vec<u32> = life.gateway.metalinks.values().map(|m| m.mli).collect();
    assert_eq!((before, life.agree()), (after, true));
    assert!(!life.events.iter().any(|e| matches!(e, Event::Gone { .. } | Event::Connected(_))), "{:?}", life.events);
}

#[test]
fn a_silent_gateway_is_missed_the_leases_end_and_all_comes_back() {
    let mut life = Life::new(2, 0, LEASE);
    life.start();
    life.run(Duration::from_secs(2));
    life.channel.loss = 100;
    life.events.clear();
    life.run(LEASE + Duration::from_secs(1));
    assert!(life.events.contains(&Event::Lost));
    let ended = life.events.iter().filter(|e| matches!(e, Event::Gone { why: Gone::LeaseEnded, .. })).count();
    assert_eq!(ended, 2, "{:?}", life.events);
    life.channel.loss = 0;
    life.run(Duration::from_secs(15));
    assert!(life.agree(), "{:?}", life.events);
}
