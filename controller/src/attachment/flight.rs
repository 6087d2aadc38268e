//! Requests that the cluster, or the switch, is at: bounded, and one for each metalink.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_wire::metalink::Connect;

use super::answers::Asker;
use super::{Dropped, Token};
use crate::model::{Destination, Endpoint, Metalink, Mli, Owner};

/// Requests under way at most; what comes on top is dropped, and the endpoint repeats it.
pub const MAX_IN_FLIGHT: usize = 1_024;
/// Likewise of one endpoint.
pub const MAX_IN_FLIGHT_PER_ENDPOINT: usize = 16;
/// A proposal without an outcome for this long is given up; the endpoint's repetition finds out what became of it.
const PROPOSAL_DEADLINE: Duration = Duration::from_secs(30);
/// Likewise the switch's programming.
pub const PROGRAM_DEADLINE: Duration = Duration::from_secs(10);

/// What of an endpoint's a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Metanet(Destination),
    Mli(Mli),
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    Connect(Connect),
    Renew(Box<Metalink>),
    Release(Mli),
    /// What the metanet's operator has granted; nobody is answered, the endpoint asks again.
    Grant(Owner),
    /// The switch is being programmed for what was claimed.
    Program(Box<Metalink>),
}

/// A request that is under way.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    /// Whom to answer: who asked last. Nobody, if an operator did.
    pub(super) asker: Option<Asker>,
    pub(super) endpoint: Endpoint,
    pub(super) subject: Subject,
    pub(super) purpose: Purpose,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_token: BTreeMap<Token, (Duration, Flight)>,
    by_subject: BTreeMap<(Endpoint, Subject), Token>,
    of_endpoint: BTreeMap<Endpoint, usize>,
    by_deadline: BTreeSet<(Duration, Token)>,
    last: u64,
}

impl Flights {
    /// Whether something is under way for it; if so, whoever asks now is answered.
    pub(super) fn joins(&mut self, asker: &Asker, subject: Subject) -> bool {
        let token = self.by_subject.get(&(asker.endpoint, subject));
        let Some((_, flight)) = token.and_then(|token| self.by_token.get_mut(token)) else { return false };
        flight.asker = Some(asker.clone());
        true
    }

    /// Whether something is under way for the metalink of an endpoint.
    pub(super) fn is_busy(&self, endpoint: Endpoint, metanet: Destination, mli: Mli) -> bool {
        [Subject::Metanet(metanet), Subject::Mli(mli)].iter().any(|s| self.by_subject.contains_key(&(endpoint, *s)))
    }

    /// # Errors
    /// [`Dropped::Busy`]: there is no room, or something is under way for it.
    pub(super) fn begin(&mut self, now: Duration, flight: Flight) -> Result<Token, Dropped> {
        let of_endpoint = self.of_endpoint.get(&flight.endpoint).copied().unwrap_or(0);
        if self.by_token.len() >= MAX_IN_FLIGHT
            || of_endpoint >= MAX_IN_FLIGHT_PER_ENDPOINT
            || self.by_subject.contains_key(&(flight.endpoint, flight.subject))
        {
            return Err(Dropped::Busy);
        }
        let patience = match flight.purpose {
            Purpose::Program(_) => PROGRAM_DEADLINE,
            _ => PROPOSAL_DEADLINE,
        };
        self.last += 1;
        let (token, due) = (Token(self.last), now + patience);
        self.by_subject.insert((flight.endpoint, flight.subject), token);
        *self.of_endpoint.entry(flight.endpoint).or_default() += 1;
        self.by_deadline.insert((due, token));
        self.by_token.insert(token, (due, flight));
        Ok(token)
    }

    pub(super) fn take(&mut self, token: Token) -> Option<Flight> {
        let (due, flight) = self.by_token.remove(&token)?;
        self.by_deadline.remove(&(due, token));
        self.by_subject.remove(&(flight.endpoint, flight.subject));
        if let Some(count) = self.of_endpoint.get_mut(&flight.endpoint) {
            *count -= 1;
            if *count == 0 {
                self.of_endpoint.remove(&flight.endpoint);
            }
        }
        Some(flight)
    }

    /// Forgets what has taken too long.
    pub(super) fn give_up(&mut self, now: Duration) {
        while let Some(&(_, token)) = self.by_deadline.first().filter(|(due, _)| *due <= now) {
            self.take(token);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.by_deadline.first().map(|(due, _)| *due)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_token.len(), self.by_subject.len());
        self.by_token.len()
    }
}
