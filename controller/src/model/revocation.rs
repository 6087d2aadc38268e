//! Revocation: keys whose certificates are good for nothing any more, whoever's they are (DESIGN §8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fingerprint, Model, Refusal, Registration, RegistrationKey, Reply};

/// Revocations held at most. They stay until they are taken back: an operator removes those of expired certificates.
pub const MAX_REVOCATIONS: usize = 4096;
/// Bytes of a revocation's note at most.
pub const MAX_REVOCATION_NOTE: usize = 128;

/// What is remembered of a revoked key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When, ms since the Unix epoch (time stamp of the command).
    pub at: u64,
    /// For people: whose, why; at most [`MAX_REVOCATION_NOTE`] bytes.
    pub note: String,
}

pub(super) type Revocations = BTreeMap<Fingerprint, Revocation>;

impl Model {
    /// Revokes a key, and removes every registration that rests on it.
    pub(super) fn revoke(&mut self, at: u64, fingerprint: Fingerprint, note: &str) -> Result<Reply, Refusal> {
        let revoked = &mut self.state.revocations;
        if note.len() > MAX_REVOCATION_NOTE {
            return Err(Refusal::BadRevocation(format!(
                "its note has {} bytes; at most {MAX_REVOCATION_NOTE}",
                note.len()
            )));
        }
        if revoked.len() >= MAX_REVOCATIONS && !revoked.contains_key(&fingerprint) {
            return Err(Refusal::TooManyRevocations(MAX_REVOCATIONS));
        }
        revoked.entry(fingerprint).or_insert_with(|| Revocation { at, note: note.to_owned() });
        let rests = |r: &Registration| r.chain.contains(&fingerprint);
        let gone: Vec<(RegistrationKey, u64)> = self
            .registrations()
            .filter(|registered| rests(&registered.registration))
            .map(|registered| (registered.registration.key, registered.registration.sequence))
            .collect();
        for &(key, sequence) in &gone {
            self.remove_registration(at, key, sequence);
        }
        Ok(Reply::Revoked { registrations: u32::try_from(gone.len()).unwrap_or(u32::MAX) })
    }

    /// Takes a revocation back. The routers have to register again.
    pub(super) fn unrevoke(&mut self, fingerprint: &Fingerprint) -> Result<Reply, Refusal> {
        self.state.revocations.remove(fingerprint);
        Ok(Reply::Done)
    }

    /// The first revoked key of a chain.
    pub fn revoked<'a>(&self, chain: &'a [Fingerprint]) -> Option<&'a Fingerprint> {
        chain.iter().find(|fingerprint| self.state.revocations.contains_key(fingerprint))
    }

    /// All revocations, by fingerprint.
    pub fn revocations(&self) -> impl ExactSizeIterator<Item = (&Fingerprint, &Revocation)> {
        self.state.revocations.iter()
    }
}
