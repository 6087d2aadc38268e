//! What goes wrong in a run, drawn from its seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::net::{Site, Weather};
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
}

const KINDS: [Kind; 13] = [
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
];

/// Draws what happens between `from` and `to`, in order of time.
pub fn draw(seed: u64, sites: usize, routers: usize, from: Duration, to: Duration) -> Vec<(Duration, Fault)> {
    let mut random = StdRng::seed_from_u64(seed ^ 0xfa17);
    let mut drawn = Vec::new();
    // Few kinds a run, several times each, so that some runs are about one thing and some about many.
    let of: Vec<Kind> = (0..random.random_range(1..6)).filter_map(|_| KINDS.choose(&mut random).copied()).collect();
    for _ in 0..random.random_range(3..12) {
        let at = Duration::from_millis(random.random_range(from.as_millis() as u64..to.as_millis() as u64));
        let until = at + Duration::from_millis(random.random_range(300..8_000));
        if let Some(kind) = of.choose(&mut random) {
            one(&mut random, *kind, sites, routers, at, until, &mut drawn);
        }
    }
    drawn.retain(|(at, _)| *at < to);
    drawn.sort_by_key(|(at, _)| *at);
    drawn
}

fn one(
    random: &mut StdRng,
    kind: Kind,
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
            let most = if matches!(whose, Clock::Site(_)) { 600 } else { 15 };
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
        Kind::Liar => {
            let updates = random.random_range(1..20);
            let fault =
                if random.random_bool(0.5) { Fault::Refuse(site, updates) } else { Fault::Forget(site, updates) };
            out.push((at, fault));
        }
    }
}
