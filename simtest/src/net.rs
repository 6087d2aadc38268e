//! The network between sites: how long things take on their way, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmux_raft_store::{Call, Carried, Lost, Server, Wire};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::traps::{FaultPoint, Traps};

/// A site of the cluster, from 0.
pub type Site = usize;

/// How long a caller waits for a connection to a peer that does not answer.
const CONNECT: Duration = Duration::from_secs(1);

/// What happens to datagrams on their way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// Share of datagrams that are lost.
    pub loss: f64,
    /// Share that arrive twice.
    pub duplicates: f64,
    /// Up to this much longer than the way takes, so that they overtake each other.
    pub jitter: Duration,
}

impl Weather {
    /// What is usual.
    pub const FAIR: Self = Self { loss: 0.0, duplicates: 0.0, jitter: Duration::from_millis(1) };
}

/// The network. All randomness of a run after its start is drawn here.
pub struct Net(Mutex<State>);

struct State {
    random: StdRng,
    /// One way, between sites.
    distances: BTreeMap<(Site, Site), Duration>,
    /// What is sent from the first to the second does not arrive.
    cut: BTreeSet<(Site, Site)>,
    /// Stores there neither reach others nor are reached, while datagrams fare as ever.
    severed: BTreeSet<Site>,
    /// Calls from there take so much longer at most: connections that stall.
    stalls: BTreeMap<Site, Duration>,
    weather: Weather,
    slow_disks: BTreeMap<Site, Duration>,
    members: BTreeMap<String, Member>,
}

#[derive(Clone)]
struct Member {
    site: Site,
    boot: u64,
    server: Server,
}

impl State {
    fn way(&self, from: Site, to: Site) -> Duration {
        self.distances.get(&(from, to)).copied().unwrap_or_default()
    }
}

impl Net {
    /// Sites at random distances.
    pub fn new(seed: u64, sites: usize) -> Arc<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut distances = BTreeMap::new();
        for a in 0..sites {
            distances.insert((a, a), Duration::from_micros(200));
            for b in a + 1..sites {
                let way = Duration::from_micros(random.random_range(2_000..30_000));
                distances.extend([((a, b), way), ((b, a), way)]);
            }
        }
        Arc::new(Self(Mutex::new(State {
            random,
            distances,
            cut: BTreeSet::new(),
            severed: BTreeSet::new(),
            stalls: BTreeMap::new(),
            weather: Weather::FAIR,
            slow_disks: BTreeMap::new(),
            members: BTreeMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number from a range, as chance has it.
    pub fn pick(&self, range: std::ops::Range<u64>) -> u64 {
        if range.is_empty() { range.start } else { self.state().random.random_range(range) }
    }

    /// Random bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.state().random.random()
    }

    /// Lets nothing through from one site to another, or lets it through again.
    pub fn cut(&self, from: Site, to: Site, cut: bool) {
        let mut state = self.state();
        if cut {
            state.cut.insert((from, to))
        } else {
            state.cut.remove(&(from, to))
        };
    }

    /// Cuts the store of a site off from all others, or joins it to them again. Routers and probes notice nothing.
    pub fn sever(&self, site: Site, severed: bool) {
        let mut state = self.state();
        if severed {
            state.severed.insert(site)
        } else {
            state.severed.remove(&site)
        };
    }

    /// Calls from a site that begin from now on take so much longer at most.
    pub fn stall(&self, site: Site, time: Option<Duration>) {
        let mut state = self.state();
        match time {
            Some(time) => state.stalls.insert(site, time),
            None => state.stalls.remove(&site),
        };
    }

    /// Changes the weather.
    pub fn weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// How long each sync of a site's disk takes at most, from now on.
    pub fn slow_disk(&self, site: Site, time: Option<Duration>) {
        let mut state = self.state();
        match time {
            Some(time) => state.slow_disks.insert(site, time),
            None => state.slow_disks.remove(&site),
        };
    }

    /// All is well again.
    pub fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.severed.clear();
        state.stalls.clear();
        state.weather = Weather::FAIR;
        state.slow_disks.clear();
    }

    /// How long the next sync of a site's disk takes.
    pub fn sync_time(&self, site: Site) -> Duration {
        let mut state = self.state();
        let most = state.slow_disks.get(&site).copied().unwrap_or(Duration::from_millis(2));
        most.mul_f64(state.random.random_range(0.2..1.0))
    }

    /// When the copies of a datagram arrive that goes from one site to another; or within a site, with `from == to`.
    pub fn datagram(&self, from: Site, to: Site) -> Vec<Duration> {
        let mut state = self.state();
        if state.cut.contains(&(from, to)) {
            return Vec::new();
        }
        let weather = state.weather;
        let copies = 1 + usize::from(state.random.random_bool(weather.duplicates));
        let lost = state.random.random_bool(weather.loss);
        let way = state.way(from, to);
        let times = (0..copies).map(|_| way + weather.jitter.mul_f64(state.random.random_range(0.0..1.0)));
        let times: Vec<_> = times.collect();
        if lost { Vec::new() } else { times }
    }

    /// How long a message in a stream takes, if it arrives: what is lost is sent again.
    fn stream(&self, from: Site, to: Site) -> Option<Duration> {
        let mut state = self.state();
        let severed = from != to && [from, to].iter().any(|site| state.severed.contains(site));
        if severed || state.cut.contains(&(from, to)) {
            return None;
        }
        let stall = match state.stalls.get(&from).copied() {
            Some(most) => most.mul_f64(state.random.random_range(0.0..1.0)),
            None => Duration::ZERO,
        };
        let weather = state.weather;
        let jitter = weather.jitter.mul_f64(state.random.random_range(0.0..1.0));
        let again = if state.random.random_bool(weather.loss) { Duration::from_millis(250) } else { Duration::ZERO };
        Some(state.way(from, to) + jitter + again + stall)
    }

    fn member(&self, addr: &str) -> Option<Member> {
        self.state().members.get(addr).cloned()
    }

    fn is_current(&self, addr: &str, boot: u64) -> bool {
        self.state().members.get(addr).is_some_and(|m| m.boot == boot)
    }

    /// A member's machine has stopped.
    pub fn unplug(&self, addr: &str) {
        self.state().members.remove(addr);
    }
}

/// A member's end of the network, for as long as its process lives.
pub struct Plug {
    /// The network.
    pub net: Arc<Net>,
    /// Where it is.
    pub site: Site,
    /// Which of its processes.
    pub boot: u64,
    /// Its own address.
    pub addr: String,
    /// Where somebody may die.
    pub traps: Arc<Traps>,
}

impl Wire for Plug {
    fn listen(&self, addr: &str, server: Server) {
        let member = Member { site: self.site, boot: self.boot, server };
        self.net.state().members.insert(addr.to_owned(), member);
    }

    fn carry(&self, addr: &str, call: Call) -> Carried {
        let (net, from, own, boot, addr) = (self.net.clone(), self.site, self.addr.clone(), self.boot, addr.to_owned());
        let traps = self.traps.clone();
        Box::pin(async move {
            let dies = traps.reached(from, FaultPoint::Proposed);
            let target =
                net.member(&addr).filter(|target| net.is_current(&own, boot) && !dies && !traps.is_dead(target.site));
            let way = target.as_ref().and_then(|t| net.stream(from, t.site));
            let (Some(target), Some(way)) = (target, way) else {
                // The other side's machine is off, or nothing reaches it.
                tokio::time::sleep(CONNECT).await;
                return Err(Lost::Unreached);
            };
            // What is on its way arrives, though nobody waits for the answer any more.
            let (there, server) = (net.clone(), target.server.clone());
            let (to, its_boot) = (addr.clone(), target.boot);
            let arrival = tokio::spawn(async move {
                tokio::time::sleep(way).await;
                if there.is_current(&to, its_boot) { Some(server.answer(call).await) } else { None }
            });
            let Ok(Some(answer)) = arrival.await else { return Err(Lost::Broken) };
            let back = net.stream(target.site, from).filter(|_| net.is_current(&addr, target.boot));
            match back {
                Some(way) => tokio::time::sleep(way).await,
                None => {
                    tokio::time::sleep(CONNECT).await;
                    return Err(Lost::Broken);
                }
            }
            if net.is_current(&own, boot) { Ok(answer) } else { Err(Lost::Broken) }
        })
    }
}
