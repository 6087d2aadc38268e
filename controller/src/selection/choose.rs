//! The closest gateway, with hysteresis.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_wire::GatewayId;

use super::{Chosen, Local, Member, Members, Owners, Selection, Standing};
use crate::model::{Destination, Model, Policy, Registered, RegistrationKey};
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
    /// From own measurements, else from what the replicated state says: the round trip in either direction, or network
    /// coordinates.
    pub fn new(model: &Model, local: &Local) -> Self {
        let to = model.gateways().map(|gateway| (gateway.id, distance(model, local, gateway.id))).collect();
        Self { to }
    }

    /// The gateways to which these distances and others differ.
    pub fn differing(&self, other: &Self) -> BTreeSet<GatewayId> {
        let both = self.to.keys().chain(other.to.keys()).copied();
        both.filter(|gateway| self.to.get(gateway) != other.to.get(gateway)).collect()
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
    let reckoned = || {
        let (own, theirs) = (model.coordinate(local.gateway)?, model.coordinate(to)?);
        (own.is_trusted() && theirs.is_trusted()).then(|| own.distance_us(theirs))
    };
    // Of figures that are not our own, those that are kept up come first.
    let others = || if local.by_coordinates { reckoned().or_else(recorded) } else { recorded().or_else(reckoned) };
    let own = local.rtts.get(&to).map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
    match (local.unreachable.contains(&to), own.or_else(others)) {
        (true, rtt) => Distance::Suspect(rtt.unwrap_or(u64::MAX)),
        (false, Some(rtt)) => Distance::Measured(rtt),
        (false, None) => Distance::Unknown,
    }
}

/// What was chosen for a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The gateway whose routers are the set, or the closest of those whose routers are.
    pub gateway: GatewayId,
    /// It does not answer, and no gateway that does has a live router.
    pub suspect: bool,
    /// All gateways whose routers share the clients, by id: that one alone, unless the policy spreads wider.
    pub pool: Vec<GatewayId>,
}

/// How a gateway ranks by a policy; the least is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// What the policy goes by.
    distance: Distance,
    /// What decides while that is unknown.
    to_gateway: Distance,
    gateway: GatewayId,
}

/// What is looked at in choosing for one destination.
#[derive(Clone, Copy)]
struct Chooser<'a> {
    model: &'a Model,
    local: &'a Local,
    distances: &'a Distances,
    destination: Destination,
    /// This gateway is out of question.
    except: Option<GatewayId>,
    /// Routers that drain are in question: there are no others.
    draining: bool,
}

/// Chooses for one destination, and what comes next if that fails. The best gateway with a live router (ties: the lower
/// id) wins, or the one chosen before while no other is markedly better. `None` when there is no live router anywhere.
pub fn choose(
    model: &Model,
    local: &Local,
    distances: &Distances,
    destination: Destination,
    previous: Option<&Chosen>,
) -> Option<(Choice, Option<Choice>)> {
    let chooser = Chooser { model, local, distances, destination, except: None, draining: false };
    let choice = chooser.choose_at_all(previous.map(|chosen| &chosen.choice))?;
    let next = Chooser { except: Some(choice.gateway), ..chooser };
    let backup = next.choose_at_all(previous.and_then(|chosen| chosen.backup.as_ref()));
    Some((choice, backup))
}

impl Chooser<'_> {
    /// A router that drains gets new clients only where no other can.
    fn choose_at_all(self, previous: Option<&Choice>) -> Option<Choice> {
        self.choose(previous).or_else(|| Self { draining: true, ..self }.choose(previous))
    }

    fn takes(self, registered: &Registered) -> bool {
        let registration = &registered.registration;
        self.local.is_live(registration) && (self.draining || registration.draining.is_none())
    }

    fn choose(self, previous: Option<&Choice>) -> Option<Choice> {
        let config = self.model.config().protocol(self.destination.protocol);
        let mut best: Option<Rank> = None;
        let mut stay: Option<Rank> = None;
        for gateway in self.gateways() {
            let to_gateway = self.distances.to(gateway);
            let was_chosen = previous.is_some_and(|choice| choice.gateway == gateway);
            // No router is closer than its gateway, and finding out how close it is may take long.
            let least = Rank { distance: to_gateway, to_gateway, gateway };
            if !was_chosen && config.policy != Policy::ClosestRouter && best.is_some_and(|best| best <= least) {
                continue;
            }
            let distance = match config.policy {
                Policy::Closest | Policy::Weighted => self.is_served(gateway).then_some(to_gateway),
                Policy::ClosestRouter => self.to_router(gateway, to_gateway),
            };
            let Some(distance) = distance else { continue };
            let candidate = Rank { distance, ..least };
            if was_chosen {
                stay = Some(candidate);
            }
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
        let best = best?;
        let Rank { gateway, to_gateway, .. } = match stay {
            Some(stay) if !best.is_markedly_closer(&stay) => stay,
            _ => best,
        };
        let pool = match config.policy {
            Policy::Closest | Policy::ClosestRouter => vec![gateway],
            Policy::Weighted => self.pool(gateway, u64::from(config.margin_ms) * 1_000, previous),
        };
        Some(Choice { gateway, suspect: matches!(to_gateway, Distance::Suspect(_)), pool })
    }

    fn gateways(self) -> impl Iterator<Item = GatewayId> {
        self.model.gateways_serving(self.destination).filter(move |&gateway| Some(gateway) != self.except)
    }

    fn is_served(self, gateway: GatewayId) -> bool {
        // Otherwise all of those that drain would be looked at to find nobody else.
        let somebody = self.draining || !self.model.all_drain(self.destination, gateway);
        somebody && self.model.serving(self.destination, gateway).any(|registered| self.takes(registered))
    }

    /// The way to the closest live router at a gateway; unknown while none of them has been measured.
    fn to_router(self, gateway: GatewayId, to_gateway: Distance) -> Option<Distance> {
        let mut by_rtt = self.model.closest(self.destination, gateway);
        let least = by_rtt.find(|(_, registered)| self.takes(registered)).map(|(rtt, _)| u64::from(rtt));
        let served = least.is_some() || self.is_served(gateway);
        served.then(|| match (to_gateway, least) {
            (Distance::Own, Some(rtt)) => Distance::Measured(rtt),
            (Distance::Measured(way), Some(rtt)) => Distance::Measured(way.saturating_add(rtt)),
            (Distance::Suspect(way), rtt) => Distance::Suspect(way.saturating_add(rtt.unwrap_or(0))),
            (Distance::Unknown, _) | (_, None) => Distance::Unknown,
        })
    }

    /// The gateways that are no more than `margin` µs farther than the chosen one. One that was in stays until it is
    /// markedly beyond.
    fn pool(self, closest: GatewayId, margin: u64, previous: Option<&Choice>) -> Vec<GatewayId> {
        let figure = |gateway| match self.distances.to(gateway) {
            Distance::Own => Some(0),
            Distance::Measured(rtt) => Some(rtt),
            Distance::Unknown | Distance::Suspect(_) => None,
        };
        let belongs = |gateway: GatewayId| {
            let Some((least, rtt)) = figure(closest).zip(figure(gateway)) else { return false };
            let stays = previous.is_some_and(|choice| choice.pool.contains(&gateway));
            let slack = if stays { hysteresis(rtt) } else { 0 };
            rtt <= least.saturating_add(margin).saturating_add(slack) && self.is_served(gateway)
        };
        self.gateways().filter(|&gateway| gateway == closest || belongs(gateway)).collect()
    }
}

/// The routers at some gateways that a destination's new clients may be sent to: all live ones that do not drain (unless
/// all do), or by [`Policy::ClosestRouter`] those of them that are as good as equally close to their gateway.
pub fn members(model: &Model, local: &Local, destination: Destination, pool: &[GatewayId]) -> Members {
    let policy = model.config().protocol(destination.protocol).policy;
    let live = || {
        let all = pool.iter().flat_map(|&gateway| model.serving(destination, gateway));
        all.filter(|registered| local.is_live(&registered.registration))
    };
    let others = live().any(|registered| registered.registration.draining.is_none());
    let live = || live().filter(move |registered| !others || registered.registration.draining.is_none());
    let rtt = |registered: &Registered| model.router_rtt(&registered.registration.key).map(u64::from);
    let least = if policy == Policy::ClosestRouter { live().filter_map(rtt).min() } else { None };
    let close = |registered: &&Registered| match least {
        Some(least) => rtt(registered).is_some_and(|rtt| rtt <= least + hysteresis(least)),
        None => true,
    };
    live()
        .filter(close)
        .map(|registered| {
            let registration = &registered.registration;
            (registration.key, Member { router: registered.router, weight: registration.weight })
        })
        .collect()
}

/// How a router that has clients of a destination stands to it now.
pub fn standing(model: &Model, local: &Local, destination: Destination, key: &RegistrationKey) -> Standing {
    match model.registration(key) {
        Some(registered)
            if local.is_live(&registered.registration)
                && !local.is_suspect(registered)
                && Destination::served_by(&registered.registration).contains(&destination) =>
        {
            if registered.registration.draining.is_some() { Standing::Leaves } else { Standing::Serves }
        }
        _ => Standing::Gone,
    }
}

/// Chooses for every destination, in full.
pub fn select(model: &Model, local: &Local, previous: &Selection) -> Selection {
    let distances = Distances::new(model, local);
    model
        .destinations()
        .filter_map(|(destination, _)| {
            let before = previous.chosen(destination);
            let (choice, backup) = choose(model, local, &distances, destination, before)?;
            let buckets = model.config().buckets(destination.protocol);
            let owners =
                |pool: &[GatewayId], memory: &Owners| members(model, local, destination, pool).deal(memory, buckets);
            let standing = |key: &_| standing(model, local, destination, key);
            Some((destination, Chosen::next(before, choice, backup, owners, standing)))
        })
        .collect()
}

impl Rank {
    fn is_markedly_closer(&self, old: &Self) -> bool {
        match (self.distance, old.distance) {
            (Distance::Unknown, Distance::Unknown) => is_markedly_closer(self.to_gateway, old.to_gateway),
            (new, old) => is_markedly_closer(new, old),
        }
    }
}

/// How much closer than this another has to be to be worth a change, in µs.
pub(super) fn hysteresis(rtt: u64) -> u64 {
    (HYSTERESIS_FLOOR.as_micros() as u64).max(rtt / 10)
}

fn is_markedly_closer(new: Distance, old: Distance) -> bool {
    match (new, old) {
        (Distance::Measured(new), Distance::Measured(old)) | (Distance::Suspect(new), Distance::Suspect(old)) => {
            old.saturating_sub(new) > hysteresis(old)
        }
        (Distance::Unknown, Distance::Unknown) => false,
        _ => new < old,
    }
}
