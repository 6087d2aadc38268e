//! The closest gateway, with hysteresis.

use std::collections::BTreeMap;
use std::time::Duration;

use dmux_wire::GatewayId;

use super::{Chosen, Local, Member, Members, Owners, Selection};
use crate::model::{Destination, Model};
use crate::probing::distance_us;

/// A gateway stays chosen unless another is closer by more than this, and by more than a tenth of its own distance:
/// below a millisecond, round trips measure the load of the machines on the way rather than the way.
pub const HYSTERESIS_FLOOR: Duration = Duration::from_millis(1);

/// How a gateway ranks for this one; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// The gateway itself. Nothing is measured, so nothing jitters: it is preferred without hysteresis.
    Own,
    /// Its distance in µs: the round trip, and what its loss costs ([`distance_us`]).
    Measured(u64),
    /// Nobody has measured it yet.
    Unknown,
    /// It does not answer; its last distance in µs, if there was one, orders it among its like.
    Suspect(u64),
}

/// The distances from one gateway to all that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distances {
    to: BTreeMap<GatewayId, Distance>,
}

impl Distances {
    /// From own measurements, else from what the replicated state says of either direction.
    pub fn new(model: &Model, local: &Local) -> Self {
        let to = model.gateways().map(|gateway| (gateway.id, distance(model, local, gateway.id))).collect();
        Self { to }
    }

    /// To one gateway.
    pub fn to(&self, gateway: GatewayId) -> Distance {
        self.to.get(&gateway).copied().unwrap_or(Distance::Unknown)
    }
}

fn distance(model: &Model, local: &Local, to: GatewayId) -> Distance {
    if to == local.gateway {
        return Distance::Own;
    }
    let recorded = || {
        let latency = model.latency(local.gateway, to).or_else(|| model.latency(to, local.gateway))?;
        Some(distance_us(latency.rtt_us, latency.loss_permille))
    };
    let own = local.rtts.get(&to).map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
    match (local.unreachable.contains(&to), own.or_else(recorded)) {
        (true, rtt) => Distance::Suspect(rtt.unwrap_or(u64::MAX)),
        (false, Some(rtt)) => Distance::Measured(rtt),
        (false, None) => Distance::Unknown,
    }
}

/// What was chosen for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The gateway whose routers are the set.
    pub gateway: GatewayId,
    /// It does not answer, and no gateway that does has a live router.
    pub suspect: bool,
}

/// Chooses for one destination: the closest gateway with a live router (ties: the lower id), or the one chosen before
/// while no other is markedly closer. `None` when there is no live router anywhere.
pub fn choose(
    model: &Model,
    local: &Local,
    distances: &Distances,
    destination: Destination,
    previous: Option<Choice>,
) -> Option<Choice> {
    choose_but(model, local, distances, destination, previous, None)
}

/// Chooses for one destination, and what comes next if that fails.
pub fn choose_both(
    model: &Model,
    local: &Local,
    distances: &Distances,
    destination: Destination,
    previous: Option<&Chosen>,
) -> Option<(Choice, Option<Choice>)> {
    let before = previous.map(|chosen| chosen.choice);
    let choice = choose(model, local, distances, destination, before)?;
    let backup = previous.and_then(|chosen| chosen.backup);
    Some((choice, choose_but(model, local, distances, destination, backup, Some(choice.gateway))))
}

fn choose_but(
    model: &Model,
    local: &Local,
    distances: &Distances,
    destination: Destination,
    previous: Option<Choice>,
    except: Option<GatewayId>,
) -> Option<Choice> {
    let mut best: Option<(Distance, GatewayId)> = None;
    let mut stay: Option<(Distance, GatewayId)> = None;
    for gateway in model.gateways_serving(destination).filter(|&gateway| Some(gateway) != except) {
        let candidate = (distances.to(gateway), gateway);
        let was_chosen = previous.is_some_and(|choice| choice.gateway == gateway);
        if !was_chosen && best.is_some_and(|best| best <= candidate) {
            continue;
        }
        if !model.serving(destination, gateway).any(|registered| local.is_live(&registered.registration)) {
            continue;
        }
        if was_chosen {
            stay = Some(candidate);
        }
        if best.is_none_or(|best| candidate < best) {
            best = Some(candidate);
        }
    }
    let best = best?;
    let (distance, gateway) = match stay {
        Some(stay) if !is_markedly_closer(best.0, stay.0) => stay,
        _ => best,
    };
    Some(Choice { gateway, suspect: matches!(distance, Distance::Suspect(_)) })
}

/// The routers at a gateway that a destination's packets may be sent to.
pub fn members(model: &Model, local: &Local, destination: Destination, gateway: GatewayId) -> Members {
    model
        .serving(destination, gateway)
        .filter(|registered| local.is_live(&registered.registration))
        .map(|registered| {
            let registration = &registered.registration;
            (registration.key, Member { router: registered.router, weight: registration.weight })
        })
        .collect()
}

/// Chooses for every destination, in full.
pub fn select(model: &Model, local: &Local, previous: &Selection) -> Selection {
    let distances = Distances::new(model, local);
    model
        .destinations()
        .filter_map(|(destination, _)| {
            let before = previous.chosen(destination);
            let (choice, backup) = choose_both(model, local, &distances, destination, before)?;
            let buckets = model.config().buckets(destination.protocol);
            let members = |gateway| members(model, local, destination, gateway);
            let owners = |gateway, memory: &Owners| members(gateway).deal(memory, buckets);
            Some((destination, Chosen::next(before, choice, backup, owners)))
        })
        .collect()
}

fn is_markedly_closer(new: Distance, old: Distance) -> bool {
    match (new, old) {
        (Distance::Measured(new), Distance::Measured(old)) | (Distance::Suspect(new), Distance::Suspect(old)) => {
            let floor = HYSTERESIS_FLOOR.as_micros() as u64;
            old.saturating_sub(new) > floor.max(old / 10)
        }
        (Distance::Unknown, Distance::Unknown) => false,
        _ => new < old,
    }
}
