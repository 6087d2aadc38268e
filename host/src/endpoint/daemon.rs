//! An [`EndpointCore`] with its edges: the access LAN, the clock, and whoever sends and receives metaframes.

use std::io;
use std::net::SocketAddrV4;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dmux_wire::frame::Datagram;
use dmux_wire::metalink::MetanetId;
use dmux_wire::{ProviderId, Shim, ShimKind};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Action, EndpointCore, Event, NotSent, Now, Shaper};
use crate::interface::Interface;
use crate::link::{FrameLink, MAX_FRAME};

/// Metaframes from users that wait for the daemon; when there are more, their sockets' buffers fill.
const INBOX: usize = 256;

/// Where an endpoint hangs on its access LAN.
#[derive(Debug)]
pub enum AccessPort {
    /// A network interface.
    Interface(Interface),
    /// A frame link to a port of the switch.
    Link(FrameLink),
}

impl AccessPort {
    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self {
            Self::Interface(interface) => interface.send(frame).await,
            Self::Link(link) => link.send(frame).await,
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Interface(interface) => interface.receive(buffer).await,
            Self::Link(link) => link.receive(buffer).await,
        }
    }
}

/// The way of metaframes while there is no metalink: the tunnel to the service address (DESIGN §3.1).
#[derive(Debug)]
pub struct Tunnel {
    socket: UdpSocket,
}

impl Tunnel {
    /// Opens it. Nothing is sent yet.
    pub async fn open(service: SocketAddrV4) -> io::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect(service).await?;
        Ok(Self { socket })
    }

    /// Sends a metaframe. What cannot be delivered is lost, as anywhere.
    async fn send(&self, metanet: MetanetId, metaframe: &[u8]) {
        let shim = Shim::new(ShimKind::Data, metanet.protocol, metanet.provider);
        let datagram = Datagram { shim, origin: None, payload: metaframe }.to_vec();
        if let Err(error) = self.socket.send(&datagram).await {
            tracing::debug!(%error, "a metaframe could not be tunnelled");
        }
    }

    /// The next metaframe, and of which metanet. Cancelling it loses nothing.
    async fn receive(&self, buffer: &mut [u8]) -> (MetanetId, Vec<u8>) {
        loop {
            let Ok(length) = self.socket.recv(buffer).await else { continue };
            if let Ok(Datagram { shim, origin: None, payload }) = Datagram::parse(&buffer[..length])
                && shim.kind == ShimKind::Deliver
            {
                let metanet = MetanetId { protocol: shim.protocol, provider: shim.provider };
                return (metanet, payload.to_vec());
            }
        }
    }
}

/// What went by one connection, in metaframes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Sent by the metalink.
    pub sent: u64,
    /// Received by it.
    pub received: u64,
    /// Sent by tunnel, for want of a metalink.
    pub tunnelled: u64,
    /// Not sent: there was no way, it was too long, or too many waited for the rate.
    pub dropped: u64,
}

/// An endpoint that runs.
#[derive(Debug)]
pub struct EndpointDaemon {
    core: EndpointCore,
    port: AccessPort,
    tunnel: Option<Tunnel>,
    /// Whoever sends and receives metaframes, by connection.
    users: Vec<Option<Arc<FrameLink>>>,
    shapers: Vec<Shaper>,
    carried: Vec<Carried>,
    started: Instant,
}

impl EndpointDaemon {
    /// `users`: by connection, where metaframes come from and go to. Nothing is sent before [`run`](Self::run).
    pub fn new(core: EndpointCore, port: AccessPort, users: Vec<Option<FrameLink>>, tunnel: Option<Tunnel>) -> Self {
        let connections = core.metanets().len();
        let mut users: Vec<_> = users.into_iter().map(|user| user.map(Arc::new)).collect();
        users.resize_with(connections, || None);
        Self {
            core,
            port,
            tunnel,
            users,
            shapers: (0..connections).map(|_| Shaper::default()).collect(),
            carried: vec![Carried::default(); connections],
            started: Instant::now(),
        }
    }

    /// Attaches, connects, carries metaframes until `stop`, and then gives everything back. Every event is told, with the
    /// time on whose clock leases end. Returns what was carried, by connection. Ends early only when the access port fails
    /// for good.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(Duration, &Event),
    ) -> io::Result<Vec<Carried>> {
        let mut stop = pin!(stop);
        let mut stopping = false;
        let (outbox, mut inbox) = mpsc::channel(INBOX);
        let mut readers = tokio::task::JoinSet::new();
        for (n, user) in self.users.iter().enumerate() {
            if let Some(user) = user.clone() {
                readers.spawn(read(n, user, outbox.clone()));
            }
        }
        let (mut buffer, mut tunnelled) = (vec![0; MAX_FRAME], vec![0; MAX_FRAME]);
        let actions = self.core.start(self.now());
        self.perform(actions, &mut tell).await?;
        while !self.core.is_stopped() {
            let due = self.shapers.iter().filter_map(Shaper::due).chain(self.core.deadline()).min();
            let wait = due.map_or(Duration::MAX, |at| at.saturating_sub(self.started.elapsed()));
            tokio::select! {
                received = self.port.receive(&mut buffer) => {
                    let frame = &buffer[..received?];
                    if let Some((n, metaframe)) = self.core.delivered(frame) {
                        self.carried[n].received += 1;
                        self.hand_over(n, metaframe).await;
                    } else {
                        let actions = self.core.frame(self.now(), frame);
                        self.perform(actions, &mut tell).await?;
                    }
                }
                Some((n, metaframe)) = inbox.recv() => self.outgoing(n, &metaframe).await,
                (metanet, metaframe) = from_tunnel(self.tunnel.as_ref(), &mut tunnelled) => {
                    let same = |m: MetanetId| m.protocol == metanet.protocol
                        && (m.provider == metanet.provider || m.provider == ProviderId::ANY);
                    let n = self.core.metanets().position(same);
                    if let Some(n) = n {
                        self.hand_over(n, &metaframe).await;
                    }
                }
                () = sleep(wait) => {}
                () = &mut stop, if !stopping => {
                    stopping = true;
                    let actions = self.core.stop(self.now());
                    self.perform(actions, &mut tell).await?;
                }
            }
            // A deadline that has passed must not wait for a pause in the traffic.
            let actions = self.core.tick(self.now());
            self.perform(actions, &mut tell).await?;
            self.send_what_may_go().await?;
        }
        Ok(self.carried)
    }

    async fn perform(&mut self, actions: Vec<Action>, tell: &mut impl FnMut(Duration, &Event)) -> io::Result<()> {
        let now = self.started.elapsed();
        for action in actions {
            match action {
                Action::Send(frame) => self.port.send(&frame).await?,
                Action::Tell(event) => tell(now, &event),
            }
        }
        for (n, shaper) in self.shapers.iter_mut().enumerate() {
            match self.core.held(n) {
                Some(held) => shaper.set_rate(held.rate),
                None => {
                    self.carried[n].dropped += shaper.clear();
                    shaper.set_rate(0);
                }
            }
        }
        Ok(())
    }

    /// A metaframe from a user.
    async fn outgoing(&mut self, n: usize, metaframe: &[u8]) {
        let taken = match self.core.metaframe(n, metaframe) {
            Ok(frame) => self.shapers[n].push(frame),
            Err(NotSent::NoMetalink) => match (&self.tunnel, self.core.metanets().nth(n)) {
                (Some(tunnel), Some(metanet)) => {
                    tunnel.send(metanet, metaframe).await;
                    self.carried[n].tunnelled += 1;
                    true
                }
                _ => false,
            },
            Err(NotSent::TooLong { .. }) => false,
        };
        self.carried[n].dropped += u64::from(!taken);
    }

    async fn send_what_may_go(&mut self) -> io::Result<()> {
        for (shaper, carried) in self.shapers.iter_mut().zip(&mut self.carried) {
            while let Some(frame) = shaper.pop(self.started.elapsed()) {
                self.port.send(&frame).await?;
                carried.sent += 1;
            }
        }
        Ok(())
    }

    /// A metaframe for a user. One who does not listen misses it.
    async fn hand_over(&self, n: usize, metaframe: &[u8]) {
        if let Some(user) = self.users.get(n).and_then(Option::as_ref)
            && let Err(error) = user.send(metaframe).await
        {
            tracing::debug!(%error, "a metaframe could not be handed over");
        }
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.started.elapsed(), unix }
    }
}

/// Metaframes of a user, one after the other.
async fn read(n: usize, user: Arc<FrameLink>, outbox: mpsc::Sender<(usize, Vec<u8>)>) {
    let mut buffer = vec![0; MAX_FRAME];
    while let Ok(length) = user.receive(&mut buffer).await {
        if outbox.send((n, buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn from_tunnel(tunnel: Option<&Tunnel>, buffer: &mut [u8]) -> (MetanetId, Vec<u8>) {
    match tunnel {
        Some(tunnel) => tunnel.receive(buffer).await,
        None => std::future::pending().await,
    }
}
