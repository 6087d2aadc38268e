//! What an operator who watches is told (`dmux watch`): pure differences between what was and what is.

use std::collections::BTreeMap;

use dmux_wire::GatewayId;

use crate::model::{Change, Destination, Endpoint, Gateway, MetalinkId, Model, Registered, RegistrationKey};
use crate::plan::State;
use crate::selection::{Choice, Local, Selection};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A registration came.
    Registered(Registered),
    /// A registration has other terms; each as a sentence.
    Changed(Registered, String),
    /// Another gateway hears the router's keepalives now.
    Adopted {
        /// Who heard them before.
        from: GatewayId,
        /// As it is now.
        now: Registered,
    },
    /// A registration was made anew, on the same terms.
    Renewed(Registered),
    /// A registration left, expired or was revoked.
    Gone(Registered),
    /// A gateway came into the replicated state.
    GatewayAdded(Gateway),
    /// A gateway has other addresses or another controller.
    GatewayChanged(Gateway),
    /// A gateway was removed.
    GatewayRemoved(Gateway),
    /// A gateway answers this one's probes again, or does not any more.
    Reachable(GatewayId, bool),
    /// Another gateway's routers are chosen for a destination.
    Choice {
        /// Which.
        destination: Destination,
        /// What was chosen.
        before: Option<Choice>,
        /// What is chosen.
        now: Option<Choice>,
    },
    /// The switch is in another state.
    Switch {
        /// It was.
        before: State,
        /// It is.
        now: State,
        /// Why, or what it refused.
        detail: String,
    },
    /// A router of this gateway fell silent, or is heard again.
    Liveness(RegistrationKey, bool),
    /// A router is held out for its flaps, or is back.
    Dampened(RegistrationKey, bool),
    /// The shared configuration was replaced.
    Config(u64),
    /// A metalink of this gateway cannot be programmed: its claim is given back.
    GivenBack {
        /// Which.
        metalink: MetalinkId,
        /// Whose.
        endpoint: Endpoint,
        /// Why.
        why: String,
    },
    /// An endpoint sends more than it may: told once a second a metalink at most, while it lasts.
    Violation {
        /// By which; `None` if it is its control MLI.
        metalink: Option<MetalinkId>,
        /// Who.
        endpoint: Endpoint,
        /// Since this controller started.
        times: u64,
    },
}

/// Follows the replicated state and tells what changed in it. Holds a copy of all registrations, since a journal names
/// only what changed, not how; so one exists only while somebody watches.
#[derive(Debug)]
pub struct Follower {
    registrations: BTreeMap<RegistrationKey, Registered>,
    gateways: BTreeMap<GatewayId, Gateway>,
    config: u64,
    applied: u64,
}

impl Follower {
    /// From this state on.
    pub fn new(model: &Model) -> Self {
        Self {
            registrations: model.registrations().map(|r| (r.registration.key, r.clone())).collect(),
            gateways: model.gateways().map(|g| (g.id, g.clone())).collect(),
            config: model.config().version,
            applied: model.applied(),
        }
    }

    /// The log index of the state that was followed last.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Registrations and gateways in that state.
    pub fn counts(&self) -> (usize, usize) {
        (self.registrations.len(), self.gateways.len())
    }

    /// What is new. Costs what the change costs, unless the journal does not reach back so far.
    pub fn follow(&mut self, model: &Model) -> Vec<Happening> {
        let mut happened = Vec::new();
        match model.changes_since(self.applied) {
            Some(mut changes) => {
                // What changed twice is told once, as it is now.
                changes.sort_unstable();
                changes.dedup();
                for change in changes {
                    match change {
                        Change::Registration(key) => happened.extend(self.registration(model, key)),
                        Change::Gateway(id) => happened.extend(self.gateway(model, id)),
                        Change::Config => happened.extend(self.configuration(model)),
                        _ => {}
                    }
                }
            }
            None => {
                let ids = self.gateways.keys().copied().chain(model.gateways().map(|g| g.id));
                for id in ids.collect::<std::collections::BTreeSet<_>>() {
                    happened.extend(self.gateway(model, id));
                }
                let keys = self.registrations.keys().copied().chain(model.registrations().map(|r| r.registration.key));
                for key in keys.collect::<std::collections::BTreeSet<_>>() {
                    happened.extend(self.registration(model, key));
                }
                happened.extend(self.configuration(model));
            }
        }
        self.applied = model.applied();
        happened
    }

    fn registration(&mut self, model: &Model, key: RegistrationKey) -> Option<Happening> {
        let Some(now) = model.registration(&key) else {
            return self.registrations.remove(&key).map(Happening::Gone);
        };
        let before = self.registrations.insert(key, now.clone());
        let now = now.clone();
        match before {
            None => Some(Happening::Registered(now)),
            Some(before) if before == now => None,
            Some(before) if before.registration.gateway != now.registration.gateway => {
                Some(Happening::Adopted { from: before.registration.gateway, now })
            }
            Some(before) => Some(match terms(&before, &now) {
                terms if terms.is_empty() => Happening::Renewed(now),
                terms => Happening::Changed(now, terms.join(", ")),
            }),
        }
    }

    fn gateway(&mut self, model: &Model, id: GatewayId) -> Option<Happening> {
        let Some(now) = model.gateway(id) else {
            return self.gateways.remove(&id).map(Happening::GatewayRemoved);
        };
        match self.gateways.insert(id, now.clone()) {
            None => Some(Happening::GatewayAdded(now.clone())),
            Some(before) if before == *now => None,
            Some(_) => Some(Happening::GatewayChanged(now.clone())),
        }
    }

    fn configuration(&mut self, model: &Model) -> Option<Happening> {
        let version = model.config().version;
        (std::mem::replace(&mut self.config, version) != version).then_some(Happening::Config(version))
    }
}

/// What is new about a registration, apart from its having been made again.
fn terms(before: &Registered, now: &Registered) -> Vec<String> {
    let (old, new) = (&before.registration, &now.registration);
    let mut terms = Vec::new();
    if old.weight != new.weight {
        terms.push(format!("weight {} instead of {}", new.weight, old.weight));
    }
    if old.provider != new.provider {
        terms.push(format!("provider {} instead of {}", new.provider, old.provider));
    }
    if old.public_key != new.public_key {
        terms.push("another key".into());
    }
    match (old.draining, new.draining) {
        (None, Some(_)) => terms.push("it drains: no new clients".into()),
        (Some(_), None) => terms.push("it drains no more".into()),
        _ => {}
    }
    if before.router != now.router {
        terms.push(format!("router index {} instead of {}", now.router, before.router));
    }
    terms
}

/// Which gateways answer now that did not, which routers are held out that were not, and the other way round.
pub fn observations(before: &Local, now: &Local) -> Vec<Happening> {
    let gone = now.unreachable.difference(&before.unreachable).map(|&id| Happening::Reachable(id, false));
    let back = before.unreachable.difference(&now.unreachable).map(|&id| Happening::Reachable(id, true));
    let held = now.dampened.difference(&before.dampened).map(|&key| Happening::Dampened(key, true));
    let reused = before.dampened.difference(&now.dampened).map(|&key| Happening::Dampened(key, false));
    gone.chain(back).chain(held).chain(reused).collect()
}

/// What is chosen for each destination.
pub type Choices = BTreeMap<Destination, Choice>;

/// The choices of a selection, without what else it remembers.
pub fn choices(selection: &Selection) -> Choices {
    selection.iter().map(|(destination, chosen)| (destination, chosen.choice.clone())).collect()
}

/// The destinations whose choice is another.
pub fn chosen_anew(before: &Choices, now: &Choices) -> Vec<Happening> {
    let changed = |destination: &Destination| {
        let (before, now) = (before.get(destination).cloned(), now.get(destination).cloned());
        (before != now).then_some(Happening::Choice { destination: *destination, before, now })
    };
    let gone = before.keys().filter(|&destination| !now.contains_key(destination));
    gone.chain(now.keys()).filter_map(changed).collect()
}

#[cfg(test)]
mod tests;
