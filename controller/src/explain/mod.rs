//! Why the packets of a client go where they go (`dmux explain`).
//!
//! Pure. [`explain`] gives each router of the protocol its reason, from the replicated state, this gateway's observations and
//! what was chosen; [`Walk`] finds the entries that a packet of the client hits, in a plan or in what a switch holds.

mod walk;

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use dmux_wire::{GatewayId, ProviderId};

pub use walk::{Hop, Leaving, Lookup, Outcome, Presence, Walk};

use crate::model::{Destination, Fingerprint, Model, Policy, Registered, RegistrationKey, RevokedRouter};
use crate::selection::{Choice, Distance, Distances, Local, Members, members};

/// Rejected routers that an explanation lists at most; the others are counted.
pub const MAX_REJECTED: usize = 256;

/// Whose packets, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The client's address.
    pub client: Ipv4Addr,
    /// The UDP port that it sends from; matters only where a route shares flows.
    pub client_port: u16,
    /// The service address that it sends to.
    pub service: Ipv4Addr,
    /// The protocol and provider that it asks for.
    pub destination: Destination,
    /// It comes from outside, so `source_guard` looks at its source; what the controller sends does not meet that.
    pub guarded: bool,
}

/// Why a router does not get the client's packets. The first that holds, in the order of selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client names another provider.
    OtherProvider {
        /// Which.
        asked: ProviderId,
    },
    /// This gateway, which hears its keepalives, no longer does: dead.
    Silent,
    /// It came and went too often, and is held out (RFC 2439).
    Dampened,
    /// Its gateway does not answer probes, and there is a choice that does.
    Suspect,
    /// It keeps its present clients and gets no new ones, of which this one would be.
    Draining,
    /// The chosen one is closer, by its gateway or, where the policy says so, by the whole way.
    Farther {
        /// By how much.
        by: Duration,
    },
    /// It is closer than the chosen one, but not by enough to leave that (hysteresis).
    NotMarkedlyCloser {
        /// By how much it is closer.
        by: Duration,
    },
    /// Nobody has measured how far it is, and there is a choice whose distance is known.
    Unmeasured,
    /// It is as far as the chosen one.
    AsFar,
    /// It is of the chosen set, but the client's bucket is another's.
    OtherBucket {
        /// The client's bucket.
        bucket: u16,
    },
    /// New clients of the bucket are its; this one still is the draining router's.
    KeptByDraining,
    /// A key of its certificates was revoked: it is registered no more.
    Revoked {
        /// Which.
        key: Fingerprint,
    },
    /// It should be chosen, but the plan does not have it yet.
    NotPlannedYet,
}

impl Reason {
    /// One word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OtherProvider { .. } => "other_provider",
            Self::Silent => "silent",
            Self::Dampened => "dampened",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Farther { .. } => "farther",
            Self::NotMarkedlyCloser { .. } => "not_markedly_closer",
            Self::Unmeasured => "unmeasured",
            Self::AsFar => "as_far",
            Self::OtherBucket { .. } => "other_bucket",
            Self::KeptByDraining => "kept_by_draining",
            Self::Revoked { .. } => "revoked",
            Self::NotPlannedYet => "not_planned_yet",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |d: &Duration| d.as_secs_f64() * 1000.0;
        match self {
            Self::OtherProvider { asked } => write!(f, "the client asks for provider {asked}"),
            Self::Silent => f.write_str("its keepalives have stopped"),
            Self::Dampened => f.write_str("it came and went too often, and is held out for a while"),
            Self::Suspect => f.write_str("its gateway does not answer"),
            Self::Draining => f.write_str("it drains: it gets no new clients"),
            Self::Farther { by } => write!(f, "it is farther by {:.3} ms", ms(by)),
            Self::NotMarkedlyCloser { by } => {
                write!(f, "it is closer by {:.3} ms, too little to leave the chosen one", ms(by))
            }
            Self::Unmeasured => f.write_str("how far it is is not known"),
            Self::AsFar => f.write_str("it is as far as the chosen one, which came first"),
            Self::OtherBucket { bucket } => write!(f, "bucket {bucket} of the set is another router's"),
            Self::KeptByDraining => {
                f.write_str("new clients of the bucket are its, and the draining router keeps this one")
            }
            Self::Revoked { key } => write!(f, "key {key} of its certificates is revoked"),
            Self::NotPlannedYet => f.write_str("it has just become a candidate: the plan is being changed"),
        }
    }
}

/// A router and why it was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The router.
    pub registered: Registered,
    /// Why.
    pub reason: Reason,
}

/// The outcome of selection for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The router that gets the client's packets.
    pub chosen: Option<Registered>,
    /// By what the protocol's routers are chosen: what "closer" and "farther" mean.
    pub policy: Policy,
    /// Round trip to the gateway of the choice; `None` where it is the asked gateway itself, or unknown.
    pub distance: Option<Duration>,
    /// The others of the protocol: those of the chosen gateway first, then by distance. At most [`MAX_REJECTED`].
    pub rejected: Vec<Rejected>,
    /// How many more there are.
    pub left_out: usize,
    /// Those of the protocol that are held out and have gone meanwhile: they may not register yet. At most [`MAX_REJECTED`].
    pub held_out: Vec<RegistrationKey>,
    /// Those of the protocol that went with a revoked key, which is beside them. At most [`MAX_REJECTED`].
    pub revoked: Vec<(RevokedRouter, Fingerprint)>,
}

/// Gives every router of the protocol its reason. `planned` is where the plan takes the client's packets, `choice` what was
/// chosen for the destination.
pub fn explain(
    model: &Model,
    local: &Local,
    destination: Destination,
    choice: Option<&Choice>,
    planned: &Walk,
) -> Explanation {
    let distances = Distances::new(model, local);
    let of_protocol = Destination::any(destination.protocol);
    let mut gateways: Vec<GatewayId> = model.gateways_serving(of_protocol).collect();
    gateways.sort_by_key(|&gateway| {
        let chosen = choice.is_some_and(|choice| choice.pool.contains(&gateway));
        (!chosen, distances.to(gateway), gateway)
    });
    let mut all: Vec<&Registered> =
        gateways.into_iter().flat_map(|gateway| model.serving(of_protocol, gateway)).collect();
    let chosen = planned.router().and_then(|index| all.iter().position(|registered| registered.router == index));
    let chosen = chosen.map(|at| all.remove(at));
    let policy = model.config().protocol(destination.protocol).policy;
    let judge = Judge {
        model,
        local,
        distances: &distances,
        destination,
        policy,
        choice,
        members: choice.map(|choice| members(model, local, destination, &choice.pool)).unwrap_or_default(),
        chosen,
        planned,
    };
    let left_out = all.len().saturating_sub(MAX_REJECTED);
    all.truncate(MAX_REJECTED);
    let rejected = all
        .into_iter()
        .map(|registered| Rejected { registered: registered.clone(), reason: judge.reason(registered) })
        .collect();
    let distance = choice.and_then(|choice| measured(distances.to(choice.gateway)));
    let gone = |key: &&RegistrationKey| key.protocol == destination.protocol && model.registration(key).is_none();
    let held_out = local.dampened.iter().filter(gone).take(MAX_REJECTED).copied().collect();
    let revoked = model.revoked_routers(destination.protocol).take(MAX_REJECTED);
    let revoked = revoked.map(|(key, router)| (router.clone(), *key)).collect();
    Explanation { chosen: chosen.cloned(), policy, distance, rejected, left_out, held_out, revoked }
}

/// What is looked at to find a reason.
struct Judge<'a> {
    model: &'a Model,
    local: &'a Local,
    distances: &'a Distances,
    destination: Destination,
    policy: Policy,
    choice: Option<&'a Choice>,
    /// Those that share the clients.
    members: Members,
    chosen: Option<&'a Registered>,
    planned: &'a Walk,
}

impl Judge<'_> {
    fn reason(&self, registered: &Registered) -> Reason {
        let registration = &registered.registration;
        if !Destination::served_by(registration).contains(&self.destination) {
            return Reason::OtherProvider { asked: self.destination.provider };
        }
        if self.local.dampened.contains(&registration.key) {
            return Reason::Dampened;
        }
        if !self.local.is_live(registration) {
            return Reason::Silent;
        }
        let reason = match self.choice {
            None => Reason::NotPlannedYet,
            Some(_) if self.members.get(&registration.key).is_some() => {
                match (self.planned.leaving(), self.planned.bucket()) {
                    (Some(leaving), _) if leaving.heir == registered.router => Reason::KeptByDraining,
                    (_, Some(bucket)) => Reason::OtherBucket { bucket },
                    (_, None) => Reason::NotPlannedYet,
                }
            }
            // What the policy goes by decides between members of the pool, and between gateways.
            Some(choice) => match self.chosen {
                Some(chosen) if self.policy == Policy::ClosestRouter => compare(self.way(registered), self.way(chosen)),
                _ => compare(self.distances.to(registration.gateway), self.distances.to(choice.gateway)),
            },
        };
        match reason {
            Reason::OtherBucket { .. } | Reason::NotPlannedYet if registration.draining.is_some() => Reason::Draining,
            reason => reason,
        }
    }

    /// The way to a router through its gateway, as [`Policy::ClosestRouter`] reckons it.
    fn way(&self, registered: &Registered) -> Distance {
        let registration = &registered.registration;
        let on = self.model.router_rtt(&registration.key).map(u64::from);
        match (self.distances.to(registration.gateway), on) {
            (Distance::Own, Some(on)) => Distance::Measured(on),
            (Distance::Measured(way), Some(on)) => Distance::Measured(way.saturating_add(on)),
            (Distance::Suspect(way), on) => Distance::Suspect(way.saturating_add(on.unwrap_or(0))),
            (Distance::Own | Distance::Measured(_) | Distance::Unknown, _) => Distance::Unknown,
        }
    }
}

/// Why one at a distance was not taken when the chosen one is at the other.
fn compare(rejected: Distance, chosen: Distance) -> Reason {
    let micros = Duration::from_micros;
    match (rejected, chosen) {
        (Distance::Suspect(theirs), Distance::Suspect(ours))
        | (Distance::Measured(theirs), Distance::Measured(ours)) => match theirs.cmp(&ours) {
            std::cmp::Ordering::Less => Reason::NotMarkedlyCloser { by: micros(ours - theirs) },
            std::cmp::Ordering::Equal => Reason::AsFar,
            std::cmp::Ordering::Greater => Reason::Farther { by: micros(theirs - ours) },
        },
        (Distance::Suspect(_), _) => Reason::Suspect,
        (Distance::Measured(theirs), Distance::Own) => Reason::Farther { by: micros(theirs) },
        (Distance::Unknown, Distance::Unknown) => Reason::AsFar,
        (Distance::Unknown, _) => Reason::Unmeasured,
        // Better in kind than what is chosen: selection takes such at once.
        (Distance::Own | Distance::Measured(_), _) => Reason::NotPlannedYet,
    }
}

fn measured(distance: Distance) -> Option<Duration> {
    match distance {
        Distance::Measured(us) | Distance::Suspect(us) if us != u64::MAX => Some(Duration::from_micros(us)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
