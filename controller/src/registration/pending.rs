//! Proposals under way, bounded.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;
use std::time::Duration;

use crate::model::{Registration, RegistrationKey};

use super::{CallId, MAX_IN_FLIGHT, PROPOSAL_DEADLINE, Token};

/// Whom to answer, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The router.
    pub(crate) from: SocketAddrV4,
    pub(crate) via: Via,
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// From anywhere.
    Datagram {
        /// The address that it went to.
        to: SocketAddrV4,
        nonce: u64,
        /// Bytes of it.
        length: usize,
    },
    /// Through the operators' API, whose channel stands for the cookie.
    Call(CallId),
}

impl Asker {
    pub(crate) fn is_call(&self) -> bool {
        matches!(self.via, Via::Call(_))
    }
}

/// What a proposal is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    Register {
        asker: Asker,
        registration: Box<Registration>,
        keepalive_ms: u32,
        expire_ms: u32,
    },
    /// The registration as it was, under the owner before.
    Adopt {
        asker: Asker,
        registration: Box<Registration>,
        sequence: u64,
        expire_ms: u32,
    },
    /// Adopts the registration of a router that flapped, which says something else of which the cluster is told when `due`.
    Move {
        asker: Asker,
        registration: Box<Registration>,
        wanted: Box<Registration>,
        due: Duration,
        keepalive_ms: u32,
        expire_ms: u32,
    },
    /// Tells the cluster what was held.
    Release {
        registration: Box<Registration>,
    },
    Deregister {
        asker: Asker,
        key: RegistrationKey,
        sequence: u64,
    },
    Expire {
        key: RegistrationKey,
        why: &'static str,
    },
}

impl Purpose {
    pub(crate) fn key(&self) -> RegistrationKey {
        match self {
            Self::Register { registration, .. }
            | Self::Adopt { registration, .. }
            | Self::Move { registration, .. }
            | Self::Release { registration } => registration.key,
            Self::Deregister { key, .. } | Self::Expire { key, .. } => *key,
        }
    }

    /// The sequence number of the request; 0 where no router asked.
    fn sequence(&self) -> u64 {
        match self {
            Self::Register { registration, .. } => registration.sequence,
            Self::Adopt { sequence, .. } | Self::Deregister { sequence, .. } => *sequence,
            Self::Move { wanted, .. } => wanted.sequence,
            Self::Expire { .. } | Self::Release { .. } => 0,
        }
    }
}

/// At most one proposal a registration, and [`MAX_IN_FLIGHT`] in all.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    by_token: BTreeMap<Token, (Duration, Purpose)>,
    by_key: HashMap<RegistrationKey, Token>,
    last: u64,
}

/// Whether another proposal may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    /// The same request is under way: its answer will come.
    Same,
    /// Something else is under way for this registration.
    Other,
    /// Too many are under way.
    Full,
}

impl Pending {
    pub(crate) fn room(&self, key: &RegistrationKey, sequence: u64) -> Room {
        match self.by_key.get(key).and_then(|token| self.by_token.get(token)) {
            Some((_, purpose)) if purpose.sequence() == sequence => Room::Same,
            Some(_) => Room::Other,
            None if self.by_token.len() >= MAX_IN_FLIGHT => Room::Full,
            None => Room::Yes,
        }
    }

    /// The caller has seen that there is room.
    pub(crate) fn insert(&mut self, now: Duration, purpose: Purpose) -> Token {
        self.last += 1;
        let token = Token(self.last);
        self.by_key.insert(purpose.key(), token);
        self.by_token.insert(token, (now + PROPOSAL_DEADLINE, purpose));
        token
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<Purpose> {
        let (_, purpose) = self.by_token.remove(&token)?;
        self.by_key.remove(&purpose.key());
        Some(purpose)
    }

    /// Tokens are given out in the order of their deadlines.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.by_token.first_key_value().map(|(_, (deadline, _))| *deadline)
    }

    pub(crate) fn pop_overdue(&mut self, now: Duration) -> Option<Purpose> {
        let token = self.by_token.first_key_value().filter(|(_, (deadline, _))| *deadline <= now).map(|(t, _)| *t)?;
        self.remove(token)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.by_token.len(), self.by_key.len());
        self.by_token.len()
    }
}
