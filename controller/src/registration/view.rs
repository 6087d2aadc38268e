use dmux_wire::GatewayId;

use crate::model::{Change, Config, Fingerprint, Model, Registration, RegistrationKey};

/// What a [`Registrar`](super::Registrar) reads of the replicated state: this node's own copy, which may lag.
pub trait RegistrationView {
    /// Rises with every change.
    fn applied(&self) -> u64;

    /// The registrations that changed after [`applied`](Self::applied) was `index`; `None` if that is too long ago to
    /// know, and all must be looked at.
    fn changed_since(&self, index: u64) -> Option<Vec<RegistrationKey>>;

    /// Timers and the dmux-prefix.
    fn config(&self) -> &Config;

    /// One registration.
    fn registration(&self, key: &RegistrationKey) -> Option<&Registration>;

    /// The round trip in µs between a router and its gateway, as the cluster has it.
    fn router_rtt(&self, key: &RegistrationKey) -> Option<u32>;

    /// The registrations whose liveness a gateway owns.
    fn owned_by(&self, gateway: GatewayId) -> Box<dyn Iterator<Item = &Registration> + '_>;

    /// When a router that flapped returns, while it is held out; both in ms since the Unix epoch.
    fn suppressed_until(&self, key: &RegistrationKey, now: u64) -> Option<u64>;

    /// Whether the registration went to another gateway so lately that it should stay there; in ms since the Unix epoch.
    fn moved_lately(&self, key: &RegistrationKey, now: u64) -> bool;

    /// The first revoked key of a chain.
    fn revoked(&self, chain: &[Fingerprint]) -> Option<Fingerprint>;

    /// Whether an operator drains the registration.
    fn is_drained(&self, key: &RegistrationKey) -> bool;
}

impl RegistrationView for Model {
    fn applied(&self) -> u64 {
        Model::applied(self)
    }

    fn changed_since(&self, index: u64) -> Option<Vec<RegistrationKey>> {
        let key = |change| if let Change::Registration(key) = change { Some(key) } else { None };
        Some(self.changes_since(index)?.into_iter().filter_map(key).collect())
    }

    fn config(&self) -> &Config {
        Model::config(self)
    }

    fn registration(&self, key: &RegistrationKey) -> Option<&Registration> {
        Model::registration(self, key).map(|r| &r.registration)
    }

    fn router_rtt(&self, key: &RegistrationKey) -> Option<u32> {
        Model::router_rtt(self, key)
    }

    fn owned_by(&self, gateway: GatewayId) -> Box<dyn Iterator<Item = &Registration> + '_> {
        Box::new(self.registrations_at(gateway).map(|r| &r.registration))
    }

    fn suppressed_until(&self, key: &RegistrationKey, now: u64) -> Option<u64> {
        Model::suppressed_until(self, key, now)
    }

    fn moved_lately(&self, key: &RegistrationKey, now: u64) -> bool {
        Model::moved_lately(self, key, now)
    }

    fn revoked(&self, chain: &[Fingerprint]) -> Option<Fingerprint> {
        Model::revoked(self, chain).copied()
    }

    fn is_drained(&self, key: &RegistrationKey) -> bool {
        Model::is_drained(self, key)
    }
}
