use std::future::Future;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::Range;

use dmux_wire::MacAddr;
use tokio::net::UdpSocket;

use crate::link::{FrameLink, LinkSpec};
use crate::station::{Incoming, Station};

/// UDP datagrams from and to the router's address and port.
pub trait Transport: Send + Sync {
    /// Sends a datagram. One that cannot be delivered is no error: UDP promises nothing.
    fn send(&self, to: SocketAddrV4, payload: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// The next datagram: its source, and where in the buffer its payload is. May be cancelled without loss.
    fn receive(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(SocketAddrV4, Range<usize>)>> + Send;
}

/// The kernel's UDP.
#[derive(Debug)]
pub struct UdpTransport {
    socket: UdpSocket,
}

impl UdpTransport {
    /// Binds the router's address and port.
    pub async fn bind(router: SocketAddrV4) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind(router).await? })
    }

    /// The address and port that are bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl Transport for UdpTransport {
    async fn send(&self, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        match self.socket.send_to(payload, to).await {
            Err(error) if is_undeliverable(&error) => {
                tracing::debug!(%to, %error, "a datagram could not be sent");
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(SocketAddrV4, Range<usize>)> {
        loop {
            match self.socket.recv_from(buffer).await {
                Ok((length, SocketAddr::V4(from))) => return Ok((from, 0..length)),
                // Bound to an IPv4 address.
                Ok((_, SocketAddr::V6(_))) => {}
                Err(error) if is_undeliverable(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Errors of one datagram or one destination, not of the socket.
fn is_undeliverable(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable | K::PermissionDenied | K::WouldBlock
    ) || error.raw_os_error() == Some(EMSGSIZE)
}

/// The datagram is larger than the path takes (Linux).
const EMSGSIZE: i32 = 90;

/// A frame link, with Ethernet, ARP and IPv4 done here: for routers without a kernel interface.
#[derive(Debug)]
pub struct FrameTransport {
    link: FrameLink,
    station: Station,
    router: SocketAddrV4,
}

impl FrameTransport {
    /// Opens the link for a router with these addresses. Must be called within a tokio runtime.
    pub fn open(spec: LinkSpec, mac: MacAddr, gateway_mac: MacAddr, router: SocketAddrV4) -> io::Result<Self> {
        let station = Station::new(mac, gateway_mac, *router.ip(), 1);
        Ok(Self { link: FrameLink::open(spec)?, station, router })
    }
}

impl Transport for FrameTransport {
    async fn send(&self, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        match self.station.datagram(self.router, to, payload) {
            Ok(frame) => self.link.send(&frame).await,
            Err(error) => {
                tracing::debug!(%to, %error, "a datagram could not be sent");
                Ok(())
            }
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(SocketAddrV4, Range<usize>)> {
        loop {
            let length = self.link.receive(buffer).await?;
            let frame = &buffer[..length];
            match self.station.incoming(frame) {
                Incoming::Datagram { from, to, payload } if to == self.router => {
                    // Where the payload lies within the frame: padding may follow it.
                    let start = payload.as_ptr().addr() - frame.as_ptr().addr();
                    return Ok((from, start..start + payload.len()));
                }
                Incoming::Answer(answer) => self.link.send(&answer).await?,
                Incoming::Undelivered { by, to, error, .. } => {
                    tracing::debug!(%by, %to, ?error, "a datagram did not get through");
                }
                Incoming::Datagram { .. } | Incoming::Ignored => {}
            }
        }
    }
}
