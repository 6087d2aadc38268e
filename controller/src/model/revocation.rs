//! Revocation: keys whose certificates are good for nothing any more, whoever's they are (DESIGN §8).

use std::collections::BTreeMap;

use dmux_wire::{GatewayId, ProtocolId, ProviderId};
use serde::{Deserialize, Serialize};

use super::{Fingerprint, Model, Refusal, Registration, RegistrationKey, Reply};

/// Revocations held at most. They stay until they are taken back: an operator removes those of expired certificates.
pub const MAX_REVOCATIONS: usize = 4096;
/// Bytes of a revocation's note at most.
pub const MAX_REVOCATION_NOTE: usize = 128;

/// Registrations that are remembered at most of all that went with revoked keys: for `dmux explain`, which is to say where
/// they are. The first ones of a provider's, by key; the others are gone without a trace.
pub const MAX_REVOKED_ROUTERS: usize = 4096;

/// A registration that went with a revoked key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedRouter {
    /// Which it was.
    pub key: RegistrationKey,
    /// Whose it was.
    pub provider: ProviderId,
    /// Who heard it.
    pub gateway: GatewayId,
    /// The subject of its certificate.
    pub name: String,
}

/// What is remembered of a revoked key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When, ms since the Unix epoch (time stamp of the command).
    pub at: u64,
    /// For people: whose, why; at most [`MAX_REVOCATION_NOTE`] bytes.
    pub note: String,
    /// What went with it; at most [`MAX_REVOKED_ROUTERS`] of all revocations.
    pub routers: Vec<RevokedRouter>,
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
        revoked.entry(fingerprint).or_insert_with(|| Revocation { at, note: note.to_owned(), routers: Vec::new() });
        let rests = |r: &Registration| r.chain.contains(&fingerprint);
        let gone: Vec<(RegistrationKey, u64)> = self
            .registrations()
            .filter(|registered| rests(&registered.registration))
            .map(|registered| (registered.registration.key, registered.registration.sequence))
            .collect();
        self.remember_revoked(&fingerprint, &gone);
        for &(key, sequence) in &gone {
            self.remove_registration(at, key, sequence);
        }
        Ok(Reply::Revoked { registrations: u32::try_from(gone.len()).unwrap_or(u32::MAX) })
    }

    fn remember_revoked(&mut self, fingerprint: &Fingerprint, gone: &[(RegistrationKey, u64)]) {
        let kept: usize = self.state.revocations.values().map(|revocation| revocation.routers.len()).sum();
        let routers = gone.iter().take(MAX_REVOKED_ROUTERS.saturating_sub(kept)).filter_map(|(key, _)| {
            let Registration { key, provider, gateway, name, .. } = &self.registration(key)?.registration;
            Some(RevokedRouter { key: *key, provider: *provider, gateway: *gateway, name: name.clone() })
        });
        let routers: Vec<_> = routers.collect();
        if let Some(revocation) = self.state.revocations.get_mut(fingerprint) {
            revocation.routers.extend(routers);
        }
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

    /// The registrations of a protocol that went with revoked keys and have not come again by other ones, each with the key
    /// that it went with.
    pub fn revoked_routers(&self, protocol: ProtocolId) -> impl Iterator<Item = (&Fingerprint, &RevokedRouter)> {
        let all = self.state.revocations.iter();
        let all = all.flat_map(|(fingerprint, revocation)| revocation.routers.iter().map(move |r| (fingerprint, r)));
        all.filter(move |(_, router)| router.key.protocol == protocol && self.registration(&router.key).is_none())
    }

    /// All revocations, by fingerprint.
    pub fn revocations(&self) -> impl ExactSizeIterator<Item = (&Fingerprint, &Revocation)> {
        self.state.revocations.iter()
    }
}
