//! A request, repeated until it is answered.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Action, Timers};
use crate::patience::backed_off;

/// How often a request is sent before whoever should answer it is taken not to know the endpoint.
pub(super) const TRIES: u32 = 5;

/// What an endpoint draws: nonces, and times that keep endpoints from marching in step.
#[derive(Debug)]
pub(super) struct Dice(StdRng);

impl Dice {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(StdRng::from_seed(seed))
    }

    /// What an attacker who does not see the request cannot know; never 0, which is a notice's.
    pub(super) fn nonce(&mut self) -> u64 {
        self.0.random_range(1..=u64::MAX)
    }

    /// Between three quarters of a time and all of it.
    pub(super) fn spread(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.0.random_range(0.75..=1.0))
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Request {
    /// What its answer repeats.
    pub(super) nonce: u64,
    /// When it was sent first: what the answer says was so after that.
    pub(super) asked: Duration,
    /// When it is to be sent again.
    pub(super) due: Duration,
    /// How often it was sent.
    pub(super) sent: u32,
    frame: Vec<u8>,
    /// Between two repetitions at most.
    at_most: Duration,
}

impl Request {
    /// Sends it for the first time.
    pub(super) fn send(
        nonce: u64,
        frame: Vec<u8>,
        now: Duration,
        at_most: Duration,
        (timers, dice): (&Timers, &mut Dice),
        out: &mut Vec<Action>,
    ) -> Self {
        let mut request = Self { nonce, asked: now, due: now, sent: 0, frame, at_most };
        request.repeat(now, timers, dice, out);
        request
    }

    /// Sends it again.
    pub(super) fn repeat(&mut self, now: Duration, timers: &Timers, dice: &mut Dice, out: &mut Vec<Action>) {
        self.due = now + dice.spread(backed_off(timers, self.sent).min(self.at_most));
        self.sent = self.sent.saturating_add(1);
        out.push(Action::Send(self.frame.clone()));
    }
}
