//! Which routers this gateway hears: the part of a registration that is not replicated (DESIGN §5.2).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use dmux_wire::GatewayId;
use dmux_wire::control::Domain;
use ed25519_dalek::{Signature, VerifyingKey};

use super::work::SUSPICION;
use super::{APPLY_GRACE, Now, RegistrationView};
use crate::model::{Fingerprint, Registration, RegistrationKey};

/// Routers at most of which it is remembered that they went because a key was revoked; the others are told that they are
/// not registered, and why with their next registration.
const MAX_REVOKED: usize = 4096;

/// One registration that this gateway owns.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) registration: Registration,
    /// What the router has said since, to be told to the cluster when the router is held out no more.
    held: Option<Held>,
    /// The highest sequence number heard; at least the registration's.
    pub(crate) last_sequence: u64,
    /// When the router was last heard; `None` since a restart of this gateway.
    pub(crate) heard: Option<Duration>,
    /// When it counts as silent.
    deadline: Duration,
    /// When a signature in its name last did not verify.
    forged: Option<Duration>,
    /// Its farewell or expiry was proposed, and nobody knows what became of that: it may be gone already.
    pub(crate) doubtful: bool,
}

/// A change of a router that flapped.
#[derive(Debug, Clone)]
struct Held {
    registration: Registration,
    /// When the cluster may be told.
    due: Duration,
}

impl Session {
    /// A registration as the cluster has it.
    fn new(now: Now, registration: Registration, heard: Option<Duration>, expire: Duration) -> Self {
        let deadline = deadline(now, &registration, expire);
        let last_sequence = registration.sequence;
        Self { registration, held: None, last_sequence, heard, deadline, forged: None, doubtful: false }
    }

    /// What the router said last.
    pub(crate) fn current(&self) -> &Registration {
        self.held.as_ref().map_or(&self.registration, |held| &held.registration)
    }

    /// Whether the cluster has still to be told what the router said last.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether somebody may be forging its source address.
    pub(crate) fn is_suspect(&self, now: Duration) -> bool {
        self.forged.is_some_and(|at| now.saturating_sub(at) < SUSPICION)
    }
}

/// All of them, by key and by deadline.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_key: HashMap<RegistrationKey, Session>,
    deadlines: BTreeSet<(Duration, RegistrationKey)>,
    silent: BTreeSet<RegistrationKey>,
    /// Changes that are held, by when the cluster may be told.
    held: BTreeSet<(Duration, RegistrationKey)>,
    /// Which key was revoked that a registration rested on.
    revoked: BTreeMap<RegistrationKey, Fingerprint>,
    /// Committed, but not yet in the local copy of the replicated state; and since when.
    unconfirmed: BTreeMap<RegistrationKey, Duration>,
    synced: Option<u64>,
}

impl Sessions {
    pub(crate) fn get(&self, key: &RegistrationKey) -> Option<&Session> {
        self.by_key.get(key)
    }

    pub(crate) fn silent(&self) -> &BTreeSet<RegistrationKey> {
        &self.silent
    }

    /// The cluster has just made this gateway the owner, because it heard the router.
    pub(crate) fn committed(&mut self, now: Now, registration: Registration, expire: Duration) {
        let key = registration.key;
        self.put(Session::new(now, registration, Some(now.mono), expire));
        self.unconfirmed.insert(key, now.mono);
        self.silent.remove(&key);
    }

    /// The router was heard. True if it had been silent.
    pub(crate) fn heard(&mut self, now: Now, key: &RegistrationKey, sequence: u64, expire: Duration) -> bool {
        let Some(session) = self.by_key.get_mut(key) else { return false };
        session.last_sequence = session.last_sequence.max(sequence);
        session.heard = Some(now.mono);
        let deadline = deadline(now, session.current(), expire);
        self.set_deadline(key, deadline);
        self.silent.remove(key)
    }

    pub(crate) fn set_deadline(&mut self, key: &RegistrationKey, deadline: Duration) {
        if let Some(session) = self.by_key.get_mut(key) {
            self.deadlines.remove(&(session.deadline, *key));
            session.deadline = deadline;
            self.deadlines.insert((deadline, *key));
        }
    }

    /// Nobody knows whether it is still registered.
    pub(crate) fn doubt(&mut self, key: &RegistrationKey) {
        if let Some(session) = self.by_key.get_mut(key) {
            session.doubtful = true;
        }
    }

    /// The router says something else, of which the cluster is told when `due`; `None`: nothing else after all.
    pub(crate) fn hold(&mut self, key: &RegistrationKey, change: Option<(Registration, Duration)>) {
        let Some(session) = self.by_key.get_mut(key) else { return };
        if let Some(old) = session.held.take() {
            self.held.remove(&(old.due, *key));
        }
        if let Some((registration, due)) = change {
            session.held = Some(Held { registration, due });
            self.held.insert((due, *key));
        }
    }

    /// Tells the cluster of the held change later.
    pub(crate) fn hold_until(&mut self, key: &RegistrationKey, due: Duration) {
        let held = self.by_key.get_mut(key).and_then(|session| session.held.take());
        if let Some(held) = held {
            self.held.remove(&(held.due, *key));
            self.hold(key, Some((held.registration, due)));
        }
    }

    /// The cluster has taken the held change.
    pub(crate) fn written(&mut self, registration: Registration) {
        let key = registration.key;
        self.hold(&key, None);
        if let Some(session) = self.by_key.get_mut(&key) {
            session.registration = registration;
        }
    }

    /// Those whose held change may be told to the cluster.
    pub(crate) fn releasable(&self, now: Duration) -> Vec<RegistrationKey> {
        self.held.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect()
    }

    /// The revoked key for which this gateway dropped the registration.
    pub(crate) fn revoked(&self, key: &RegistrationKey) -> Option<Fingerprint> {
        self.revoked.get(key).copied()
    }

    /// Drops a registration that rests on a revoked key.
    pub(crate) fn revoke(&mut self, key: RegistrationKey, fingerprint: Fingerprint) {
        if self.remove(&key).is_some() && self.revoked.len() < MAX_REVOKED {
            self.revoked.insert(key, fingerprint);
        }
    }

    /// A signature in its name did not verify.
    pub(crate) fn forged(&mut self, now: Duration, key: &RegistrationKey) {
        if let Some(session) = self.by_key.get_mut(key) {
            session.forged = Some(now);
        }
    }

    /// True if it was not silent before.
    pub(crate) fn mark_silent(&mut self, key: RegistrationKey) -> bool {
        self.silent.insert(key)
    }

    pub(crate) fn remove(&mut self, key: &RegistrationKey) -> Option<Session> {
        let session = self.by_key.remove(key)?;
        self.deadlines.remove(&(session.deadline, *key));
        if let Some(held) = &session.held {
            self.held.remove(&(held.due, *key));
        }
        self.silent.remove(key);
        self.unconfirmed.remove(key);
        Some(session)
    }

    /// Those whose deadline has passed.
    pub(crate) fn due(&self, now: Duration) -> Vec<RegistrationKey> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let unconfirmed = self.unconfirmed.values().min().map(|&since| since + APPLY_GRACE);
        let first = self.deadlines.first().map(|&(at, _)| at);
        let held = self.held.first().map(|&(at, _)| at);
        first.into_iter().chain(unconfirmed).chain(held).min()
    }

    /// Follows the replicated state: registrations that are this gateway's but were never heard get a fresh term (it
    /// has restarted), those that are others' or gone are dropped.
    pub(crate) fn sync(&mut self, now: Now, view: &dyn RegistrationView, gateway: GatewayId, expire: Duration) {
        let overdue: Vec<_> =
            self.unconfirmed.iter().filter(|(_, since)| now.mono >= **since + APPLY_GRACE).map(|(k, _)| *k).collect();
        for key in overdue {
            self.unconfirmed.remove(&key);
            self.sync_key(now, view, gateway, expire, key);
        }
        let applied = view.applied();
        if self.synced == Some(applied) {
            return;
        }
        match self.synced.and_then(|index| view.changed_since(index)) {
            Some(changed) => {
                for key in changed {
                    self.sync_key(now, view, gateway, expire, key);
                }
            }
            None => {
                let mut keys: BTreeSet<_> = self.by_key.keys().copied().collect();
                keys.extend(view.owned_by(gateway).map(|r| r.key));
                for key in keys {
                    self.sync_key(now, view, gateway, expire, key);
                }
            }
        }
        self.synced = Some(applied);
    }

    fn sync_key(
        &mut self,
        now: Now,
        view: &dyn RegistrationView,
        gateway: GatewayId,
        expire: Duration,
        key: RegistrationKey,
    ) {
        let unconfirmed = self.unconfirmed.contains_key(&key);
        let known = self.by_key.get_mut(&key);
        match (view.registration(&key), known) {
            (Some(theirs), Some(session)) if theirs.gateway == gateway => {
                if theirs.sequence >= session.registration.sequence {
                    // What was proposed of an older one is without effect.
                    session.doubtful &= theirs.sequence == session.registration.sequence;
                    session.registration = theirs.clone();
                    session.last_sequence = session.last_sequence.max(theirs.sequence);
                    let told = session.held.as_ref().is_some_and(|held| held.registration.says_the_same(theirs));
                    self.unconfirmed.remove(&key);
                    if told {
                        self.hold(&key, None);
                    }
                }
            }
            (Some(theirs), None) if theirs.gateway == gateway => {
                self.put(Session::new(now, theirs.clone(), None, expire));
            }
            (Some(theirs), Some(session)) => {
                if !unconfirmed || theirs.sequence > session.registration.sequence {
                    self.remove(&key);
                }
            }
            (None, Some(session)) => {
                // Whoever knows of the revocation knows of what was committed before it.
                if let Some(fingerprint) = view.revoked(&session.registration.chain) {
                    self.revoke(key, fingerprint);
                } else if !unconfirmed {
                    self.remove(&key);
                }
            }
            (_, _) => {}
        }
    }

    fn put(&mut self, session: Session) {
        let key = session.registration.key;
        if let Some(old) = self.by_key.get(&key) {
            self.deadlines.remove(&(old.deadline, key));
            if let Some(held) = &old.held {
                self.held.remove(&(held.due, key));
            }
        }
        self.revoked.remove(&key);
        self.deadlines.insert((session.deadline, key));
        self.by_key.insert(key, session);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.by_key.len(), self.deadlines.len());
        self.by_key.len()
    }
}

/// After so much silence, or when the router's certificates expire, whichever is first.
fn deadline(now: Now, registration: &Registration, expire: Duration) -> Duration {
    let certified = Duration::from_secs(registration.not_after).saturating_sub(now.unix);
    now.mono.saturating_add(expire.min(certified))
}

/// Whether the router of this public key signed the body for this purpose. Strict (RFC 8032 §5.1.7 without
/// cofactor, and no small-order keys), so that there is one answer on every controller.
pub(crate) fn is_signed(public_key: &[u8; 32], domain: Domain, body: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(public_key), Signature::from_slice(signature)) else {
        return false;
    };
    key.verify_strict(&domain.signed_bytes(body), &signature).is_ok()
}
