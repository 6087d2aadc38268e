//! What all parts of a simulated cluster share: the time, the switches, and the ways of frames between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmux_controller::runtime::Wall;
use dmux_p4rt::p4::v1::PacketIn;
use dmux_tables::{PacketInHeader, PortId, SwitchTime};
use dmux_wire::frame::{Datagram, UdpFrame, udp_frame};
use dmux_wire::{Ethernet, MLI_DISCOVERY, MacAddr, Probe, ProbeType, PuntReason, ShimKind, Substrate, ethernet};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::net::{Net, Site};
use crate::setup::Setup;
use crate::switch::Switch;
use crate::traps::{FaultPoint, Traps};

/// The wall clock at the start: 2027-01-15, inside the certificates' validity.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);
/// Where routers register.
pub const REGISTRATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), dmux_wire::DMUX_PORT);
/// The port of each site's switch that its endpoint is on.
pub const ACCESS_PORT: u16 = 2;
/// The access LAN's name.
pub const ACCESS_LINK: &str = "a";
/// Lines of the story that are kept.
const MAX_STORY: usize = 2_000;

/// A gateway's unicast address.
pub fn unicast(site: Site) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(site + 1).unwrap_or(u8::MAX))
}

/// A router's end of the network.
#[derive(Debug, Clone)]
pub struct Port {
    /// The site that it is near to.
    pub home: Site,
    /// The site that anycast takes its datagrams to.
    pub path: Site,
    /// Its socket; none while it is off.
    pub inbox: Option<UnboundedSender<(SocketAddrV4, Vec<u8>)>>,
}

/// See the module.
pub struct World {
    /// The network.
    pub net: Arc<Net>,
    /// Where controllers may die.
    pub traps: Arc<Traps>,
    setup: Setup,
    start: Instant,
    switches: Vec<Mutex<Switch>>,
    /// Rises when a switch starts, stops or gets another primary.
    turns: Vec<watch::Sender<u64>>,
    /// Seconds that each site's wall clock is ahead.
    skews: Mutex<BTreeMap<Clock, i64>>,
    ports: Mutex<BTreeMap<SocketAddrV4, Port>>,
    /// Stations on the access LANs.
    lans: Mutex<BTreeMap<Station, UnboundedSender<Vec<u8>>>>,
    story: Mutex<Vec<String>>,
    audit_s: AtomicU64,
    aloud: bool,
}

/// Somebody on a site's access LAN.
type Station = (Site, MacAddr);

/// Whose wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// A controller's.
    Site(Site),
    /// A router's.
    Router(usize),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// All switches are on and empty.
    pub fn new(seed: u64, sites: usize, setup: Setup, aloud: bool) -> Arc<Self> {
        let switch = || {
            let mut switch = Switch::default();
            switch.start();
            Mutex::new(switch)
        };
        Arc::new(Self {
            net: Net::new(seed, sites),
            traps: Arc::default(),
            setup,
            start: Instant::now(),
            switches: (0..sites).map(|_| switch()).collect(),
            turns: (0..sites).map(|_| watch::channel(0).0).collect(),
            skews: Mutex::default(),
            ports: Mutex::default(),
            lans: Mutex::default(),
            story: Mutex::default(),
            audit_s: AtomicU64::new(3_600),
            aloud,
        })
    }

    /// What the cluster is configured to do.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A moment since the start as one to sleep until.
    pub fn at(&self, moment: Duration) -> Instant {
        self.start + moment
    }

    /// How many sites there are.
    pub fn sites(&self) -> usize {
        self.switches.len()
    }

    /// What somebody's wall clock shows.
    pub fn wall(&self, whose: Clock) -> Duration {
        let skew = lock(&self.skews).get(&whose).copied().unwrap_or(0);
        let ahead = Duration::from_secs(skew.unsigned_abs());
        let time = EPOCH + self.now();
        if skew < 0 { time.saturating_sub(ahead) } else { time + ahead }
    }

    /// A controller's wall clock.
    pub fn wall_of(self: &Arc<Self>, site: Site) -> Wall {
        let world = self.clone();
        Wall::of(move || world.wall(Clock::Site(site)))
    }

    /// Sets a wall clock so many seconds ahead of the true time, or behind it.
    pub fn set_wall(&self, whose: Clock, skew: i64) {
        lock(&self.skews).insert(whose, skew);
    }

    /// All wall clocks are right again.
    pub fn set_walls_right(&self) {
        lock(&self.skews).clear();
    }

    /// Controllers that start from now on look so often whether their switch still holds what it took, in seconds. Where
    /// no switch forgets, hardly ever, since that would put right what they should have done by themselves.
    pub fn set_audits(&self, seconds: u64) {
        self.audit_s.store(seconds, Ordering::Relaxed);
    }

    /// See [`set_audits`](Self::set_audits).
    pub fn audits(&self) -> u64 {
        self.audit_s.load(Ordering::Relaxed)
    }

    /// Notes what happens, for who looks for the reason of a failure.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        let line = format!("{:9.3} s  {}", self.now().as_secs_f64(), what());
        if self.aloud {
            println!("{line}");
        }
        let mut story = lock(&self.story);
        if story.len() < MAX_STORY {
            story.push(line);
        }
    }

    /// What happened.
    pub fn story(&self) -> Vec<String> {
        lock(&self.story).clone()
    }

    /// A site's switch.
    pub fn switch(&self, site: Site) -> MutexGuard<'_, Switch> {
        lock(&self.switches[site])
    }

    /// Tells the sessions of a switch to look at it.
    pub fn turn(&self, site: Site) {
        self.turns[site].send_modify(|turn| *turn += 1);
    }

    /// Hears of [`turn`](Self::turn).
    pub fn turns(&self, site: Site) -> watch::Receiver<u64> {
        self.turns[site].subscribe()
    }

    /// Puts a router's port in, or changes it.
    pub fn set_port(&self, router: SocketAddrV4, port: Port) {
        lock(&self.ports).insert(router, port);
    }

    /// A router's port.
    pub fn port(&self, router: SocketAddrV4) -> Option<Port> {
        lock(&self.ports).get(&router).cloned()
    }

    /// A router sends a datagram.
    pub fn from_router(self: &Arc<Self>, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        let Some(port) = self.port(from) else { return };
        let site = if to == REGISTRATION { Some(port.path) } else { self.site_of(*to.ip()) };
        let frame = udp_frame(MacAddr::ZERO, MacAddr::ZERO, from, to, payload);
        if let (Some(site), Ok(frame)) = (site, frame) {
            self.travel(port.home, site, frame);
        }
    }

    /// A switch sends a frame that its controller gave it.
    pub fn from_switch(self: &Arc<Self>, site: Site, frame: &[u8]) {
        if let Some(station) = self.station(site, frame) {
            return self.over_lan(station, frame);
        }
        let Ok(udp) = UdpFrame::parse(frame) else { return };
        let port = self.port(udp.to);
        if let Some(port) = port {
            let (world, from, payload) = (self.clone(), udp.from, udp.payload.to_vec());
            let to = udp.to;
            for time in self.net.datagram(site, port.home) {
                let (world, payload) = (world.clone(), payload.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    if let Some(inbox) = world.port(to).and_then(|port| port.inbox) {
                        // A router that is ending hears nothing more.
                        let _ = inbox.send((from, payload));
                    }
                });
            }
        } else if let Some(to) = self.site_of(*udp.to.ip()) {
            self.travel(site, to, self.stamped(&udp, |probe, now| probe.t_out = now).unwrap_or(frame.to_vec()));
        }
    }

    fn site_of(&self, address: Ipv4Addr) -> Option<Site> {
        (0..self.sites()).find(|&site| unicast(site) == address)
    }

    fn travel(self: &Arc<Self>, from: Site, to: Site, frame: Vec<u8>) {
        for time in self.net.datagram(from, to) {
            let (world, frame) = (self.clone(), frame.clone());
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                world.arrive(to, frame);
            });
        }
    }

    /// What the data plane does with a frame that is for its gateway.
    fn arrive(self: &Arc<Self>, site: Site, frame: Vec<u8>) {
        let Ok(udp) = UdpFrame::parse(&frame) else { return };
        let Ok(datagram) = Datagram::parse(udp.payload) else { return };
        match datagram.shim.kind {
            ShimKind::Control => self.punt(site, PuntReason::Control, frame),
            ShimKind::Probe => match Probe::parse(datagram.payload) {
                Ok((probe, _)) if probe.probe_type == ProbeType::Reply => {
                    self.punt(site, PuntReason::ProbeReply, frame);
                }
                Ok(_) if self.switch(site).reflects(*udp.from.ip()) => {
                    let back = UdpFrame { from: udp.to, to: udp.from, ..udp };
                    let reply = self.stamped(&back, |probe, now| {
                        probe.probe_type = ProbeType::Reply;
                        probe.t_reflect_in = now;
                        probe.t_reflect_out = now;
                    });
                    if let (Some(reply), Some(to)) = (reply, self.site_of(*udp.from.ip())) {
                        self.travel(site, to, reply);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.now().as_micros()).unwrap_or(u64::MAX)
    }

    /// The frame with its probe changed, if it carries one.
    fn stamped(&self, udp: &UdpFrame<'_>, change: impl FnOnce(&mut Probe, u64)) -> Option<Vec<u8>> {
        let datagram = Datagram::parse(udp.payload).ok()?;
        let (mut probe, rest) =
            Probe::parse(datagram.payload).ok().filter(|_| datagram.shim.kind == ShimKind::Probe)?;
        change(&mut probe, self.micros());
        let mut payload = Vec::new();
        probe.emit(&mut payload);
        payload.extend_from_slice(rest);
        let payload = Datagram { shim: datagram.shim, origin: None, payload: &payload }.to_vec();
        udp_frame(MacAddr::ZERO, MacAddr::ZERO, udp.from, udp.to, &payload).ok()
    }

    /// A station joins a site's access LAN.
    pub fn join_lan(&self, site: Site, mac: MacAddr, inbox: UnboundedSender<Vec<u8>>) {
        lock(&self.lans).insert((site, mac), inbox);
    }

    /// The station of a site that a substrate frame is for.
    fn station(&self, site: Site, frame: &[u8]) -> Option<Station> {
        let (header, _) = Ethernet::parse(frame).ok().filter(|(h, _)| h.ether_type == ethernet::SUBSTRATE)?;
        let station = (site, header.dst);
        lock(&self.lans).contains_key(&station).then_some(station)
    }

    fn over_lan(self: &Arc<Self>, station: Station, frame: &[u8]) {
        for time in self.net.datagram(station.0, station.0) {
            let (world, frame) = (self.clone(), frame.to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                if let Some(inbox) = lock(&world.lans).get(&station) {
                    // A station that is ending hears nothing more.
                    let _ = inbox.send(frame);
                }
            });
        }
    }

    /// A station of a site's access LAN sends a substrate frame.
    pub fn from_endpoint(self: &Arc<Self>, site: Site, frame: Vec<u8>) {
        for time in self.net.datagram(site, site) {
            let (world, frame) = (self.clone(), frame.clone());
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                world.arrive_by_lan(site, frame);
            });
        }
    }

    /// What the data plane does with it.
    fn arrive_by_lan(&self, site: Site, frame: Vec<u8>) {
        let Ok((header, rest)) = Ethernet::parse(&frame) else { return };
        let Ok((substrate, _)) = Substrate::parse(rest) else { return };
        let port = PortId::of::<ACCESS_PORT>();
        if substrate.mli == MLI_DISCOVERY {
            return self.punt_from(site, port, PuntReason::Discovery, frame);
        }
        let known = self.switch(site).is_control(ACCESS_PORT, header.src, substrate.mli);
        if known && !self.traps.reached(site, FaultPoint::Heard) {
            self.punt_from(site, port, PuntReason::MetalinkControl, frame);
        }
    }

    fn punt(&self, site: Site, reason: PuntReason, frame: Vec<u8>) {
        self.punt_from(site, PortId::of::<1>(), reason, frame);
    }

    fn punt_from(&self, site: Site, ingress_port: PortId, reason: PuntReason, frame: Vec<u8>) {
        let header = PacketInHeader { ingress_port, reason, path_mtu: 0, t_in: SwitchTime::from_micros(self.micros()) };
        let switch = self.switch(site);
        // What comes on an access LAN is punted by its tables, or always.
        let by_metalink = matches!(reason, PuntReason::Discovery | PuntReason::MetalinkControl);
        if by_metalink || switch.punts(reason) {
            switch.punt(PacketIn { payload: frame.into(), metadata: header.encode() });
        }
    }
}
