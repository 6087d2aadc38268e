//! What goes wrong in a run, drawn from its seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::net::{Site, Weather};
use crate::setup::Setup;
use crate::world::Clock;

/// Something that goes wrong, or right again.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Nothing gets from the first to the second any more, or again.
    Cut(Vec<(Site, Site)>, bool),
    /// The power of a controller goes.
    Crash(Site),
    /// A controller starts.
    Boot(Site),
    /// A controller is cut off from the others for good, but not from its switch, and another takes its place.
    Succeed(Site),
    /// A switch is turned off.
    SwitchOff(Site),
    /// It is turned on, empty.
    SwitchOn(Site),
    /// A wall clock is so many seconds off.
    Clock(Clock, i64),
    /// Datagrams fare otherwise.
    Weather(Weather),
    /// Each sync takes so long at most.
    Disk(Site, Option<Duration>),
    /// A router ends, with a farewell or without.
    RouterStop(usize, bool),
    /// A router starts.
    RouterStart(usize),
    /// Anycast takes a router's datagrams to another site.
    RouterMove(usize, Site),
    /// A switch refuses some updates.
    Refuse(Site, u32),
    /// A switch accepts some updates and forgets them.
    Forget(Site, u32),
    /// A controller and the others do not hear each other, or do again; nobody else notices.
    Sever(Site, bool),
    /// What a controller asks others takes so much longer at most.
    Stall(Site, Option<Duration>),
    /// A router wants no new clients, or wants them again.
    RouterDrain(usize, bool),
    /// An operator wants a router to have no new clients, or takes that back.
    Drain(usize, bool),
    /// An endpoint ends, with a farewell or without.
    EndpointStop(usize, bool),
    /// An endpoint starts.
    EndpointStart(usize),
    /// A router's key is revoked, or with `true` its provider's.
    Revoke(usize, bool),
    /// A controller loses its power and its disk.
    Wipe(Site),
}

/// The kinds of faults that a run draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Partition,
    OneWay,
    Crash,
    Blackout,
    Switch,
    Clock,
    Weather,
    Disk,
    Router,
    Flap,
    Move,
    Liar,
    Succession,
    Wander,
    LastWords,
    Stall,
    Drain,
    Revoke,
    Endpoint,
}

const KINDS: [Kind; 16] = [
    Kind::Succession,
    Kind::Partition,
    Kind::OneWay,
    Kind::Crash,
    Kind::Blackout,
    Kind::Switch,
    Kind::Clock,
    Kind::Weather,
    Kind::Disk,
    Kind::Router,
    Kind::Flap,
    Kind::Move,
    Kind::Liar,
    Kind::Wander,
    Kind::LastWords,
    Kind::Stall,
];

/// Draws what happens between `from` and `to`, in order of time.
pub fn draw(
    seed: u64,
    setup: &Setup,
    sites: usize,
    routers: usize,
    from: Duration,
    to: Duration,
) -> Vec<(Duration, Fault)> {
    let mut random = StdRng::seed_from_u64(seed ^ 0xfa17);
    let mut drawn = Vec::new();
    // Few kinds a run, several times each, so that some runs are about one thing and some about many.
    let mut of: Vec<Kind> = (0..random.random_range(1..6)).filter_map(|_| KINDS.choose(&mut random).copied()).collect();
    for (on, kind) in [
        (setup.dampening, Kind::Flap),
        (setup.draining, Kind::Drain),
        (setup.revocation, Kind::Revoke),
        (setup.endpoints, Kind::Endpoint),
    ] {
        of.extend(on.then_some(kind));
    }
    for _ in 0..random.random_range(3..12) {
        let at = Duration::from_millis(random.random_range(from.as_millis() as u64..to.as_millis() as u64));
        let until = at + Duration::from_millis(random.random_range(300..8_000));
        if let Some(kind) = of.choose(&mut random) {
            one(&mut random, *kind, setup, sites, routers, at, until, &mut drawn);
        }
    }
    drawn.retain(|(at, _)| *at < to);
    drawn.sort_by_key(|(at, _)| *at);
    drawn
}

#[allow(clippy::too_many_arguments, reason = "what a run is made of, each once")]
fn one(
    random: &mut StdRng,
    kind: Kind,
    setup: &Setup,
    sites: usize,
    routers: usize,
    at: Duration,
    until: Duration,
    out: &mut Vec<(Duration, Fault)>,
) {
    let site = random.random_range(0..sites);
    let router = random.random_range(0..routers);
    let mut for_a_while = |begin: Fault, end: Fault| out.extend([(at, begin), (until, end)]);
    match kind {
        Kind::Partition => {
            let pairs: Vec<_> = (0..sites).filter(|&s| s != site).flat_map(|s| [(site, s), (s, site)]).collect();
            for_a_while(Fault::Cut(pairs.clone(), true), Fault::Cut(pairs, false));
        }
        Kind::OneWay => {
            let pair = vec![(site, (site + random.random_range(1..sites)) % sites)];
            for_a_while(Fault::Cut(pair.clone(), true), Fault::Cut(pair, false));
        }
        Kind::Crash => for_a_while(Fault::Crash(site), Fault::Boot(site)),
        Kind::Blackout => {
            for site in 0..sites {
                let later = Duration::from_millis(random.random_range(0..1_000));
                out.extend([(at, Fault::Crash(site)), (until + later, Fault::Boot(site))]);
            }
        }
        Kind::Switch => for_a_while(Fault::SwitchOff(site), Fault::SwitchOn(site)),
        Kind::Clock => {
            let whose = if random.random_bool(0.7) { Clock::Site(site) } else { Clock::Router(router) };
            // A router whose clock was ahead is refused, rightly, until true time has caught up with what it signed.
            // By what a clock is ahead, what it dampens is held out longer.
            let most = if matches!(whose, Clock::Site(_)) && !setup.dampening { 600 } else { 15 };
            let seconds = random.random_range(1..=most);
            for_a_while(
                Fault::Clock(whose, if random.random_bool(0.5) { seconds } else { -seconds }),
                Fault::Clock(whose, 0),
            );
        }
        Kind::Weather => {
            let weather = Weather {
                loss: random.random_range(0.0..0.4),
                duplicates: random.random_range(0.0..0.3),
                jitter: Duration::from_millis(random.random_range(1..500)),
            };
            for_a_while(Fault::Weather(weather), Fault::Weather(Weather::FAIR));
        }
        Kind::Succession => out.push((at, Fault::Succeed(site))),
        Kind::Disk => {
            let time = Duration::from_millis(random.random_range(20..800));
            for_a_while(Fault::Disk(site, Some(time)), Fault::Disk(site, None));
        }
        Kind::Router => {
            let farewell = random.random_bool(0.5);
            out.push((at, Fault::RouterStop(router, farewell)));
            if random.random_bool(0.7) {
                out.push((until, Fault::RouterStart(router)));
            }
        }
        Kind::Flap => {
            let mut time = at;
            while time < until {
                out.push((time, Fault::RouterStop(router, random.random_bool(0.5))));
                time += Duration::from_millis(random.random_range(50..900));
                out.push((time, Fault::RouterStart(router)));
                time += Duration::from_millis(random.random_range(50..900));
            }
        }
        Kind::Move => {
            out.push((at, Fault::RouterMove(router, site)));
            if random.random_bool(0.5) {
                out.push((until, Fault::RouterMove(router, random.random_range(0..sites))));
            }
        }
        Kind::Wander => {
            // What a controller wanted while it was cut off comes late: after the router has found another.
            let next = (site + random.random_range(1..sites)) % sites;
            let on = at + Duration::from_millis(random.random_range(1_200..2_500));
            let joined = on + Duration::from_millis(random.random_range(500..3_000));
            out.extend([
                (at, Fault::Sever(site, true)),
                (at, Fault::RouterStart(router)),
                (at, Fault::RouterMove(router, site)),
                (on, Fault::RouterMove(router, next)),
                (joined, Fault::Sever(site, false)),
            ]);
        }
        Kind::LastWords => {
            let last = at + Duration::from_millis(random.random_range(300..1_800));
            out.extend([(at, Fault::RouterMove(router, site)), (last, Fault::RouterStop(router, false))]);
        }
        Kind::Stall => {
            // The router falls silent, and returns while its expiry is under way.
            let back = at + Duration::from_millis(random.random_range(3_000..10_000));
            let time = Duration::from_millis(random.random_range(500..12_000));
            out.extend([
                (at, Fault::RouterStop(router, false)),
                (back, Fault::RouterStart(router)),
                (at + Duration::from_secs(2), Fault::Stall(site, Some(time))),
                (at + Duration::from_millis(random.random_range(3_000..6_000)), Fault::Stall(site, None)),
            ]);
        }
        Kind::Drain => {
            // One or the other: an operator who takes a drain back overrules the router, too.
            let fault = |drains| {
                if router.is_multiple_of(2) { Fault::RouterDrain(router, drains) } else { Fault::Drain(router, drains) }
            };
            out.push((at, fault(true)));
            if random.random_bool(0.5) {
                out.push((until, fault(false)));
            }
        }
        Kind::Endpoint => {
            out.push((at, Fault::EndpointStop(site, random.random_bool(0.5))));
            if random.random_bool(0.7) {
                out.push((until, Fault::EndpointStart(site)));
            }
        }
        Kind::Revoke => out.push((at, Fault::Revoke(router, random.random_bool(0.5)))),
        Kind::Liar => {
            let updates = random.random_range(1..20);
            let fault =
                if random.random_bool(0.5) { Fault::Refuse(site, updates) } else { Fault::Forget(site, updates) };
            out.push((at, fault));
        }
    }
}
