//! Frame links: one Ethernet frame in each UDP datagram. What labs without privileges are wired with.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::UdpSocket;

/// The longest frame that a link carries.
pub const MAX_FRAME: usize = 9216;
/// What is asked for as socket buffers; the system may grant less.
const SOCKET_BUFFER: usize = 1 << 20;

/// Both ends of a frame link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSpec {
    /// Where frames arrive, an address of this machine.
    pub local: SocketAddr,
    /// Where they are sent; frames from elsewhere are not taken.
    pub remote: SocketAddr,
}

/// Not a link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no link: write udp:LOCAL>REMOTE, as in udp:127.0.0.1:5001>127.0.0.1:5002 (in quotes, for the shell)")]
pub struct ParseLinkError(String);

impl FromStr for LinkSpec {
    type Err = ParseLinkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseLinkError(text.chars().take(80).collect());
        let (local, remote) = text.strip_prefix("udp:").and_then(|t| t.split_once('>')).ok_or_else(bad)?;
        let spec = Self { local: local.parse().map_err(|_| bad())?, remote: remote.parse().map_err(|_| bad())? };
        if spec.local.is_ipv4() == spec.remote.is_ipv4() { Ok(spec) } else { Err(bad()) }
    }
}

impl fmt::Display for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp:{}>{}", self.local, self.remote)
    }
}

/// An open frame link.
#[derive(Debug)]
pub struct FrameLink {
    socket: UdpSocket,
}

impl FrameLink {
    /// Opens it. Must be called within a tokio runtime.
    pub fn open(spec: LinkSpec) -> io::Result<Self> {
        let fail =
            |source: io::Error| io::Error::new(source.kind(), format!("the link {spec} cannot be opened: {source}"));
        let socket = Socket::new(Domain::for_address(spec.local), Type::DGRAM, Some(Protocol::UDP)).map_err(fail)?;
        // Larger buffers only make loss under load rarer, so a refusal is no error.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true).map_err(fail)?;
        socket.bind(&spec.local.into()).map_err(fail)?;
        socket.connect(&spec.remote.into()).map_err(fail)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into()).map_err(fail)? })
    }

    /// Sends a frame. A far end that is not there loses it, as a cable would.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self.socket.send(frame).await {
            Err(error) if !is_absence(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// The next frame, cut to the buffer. Cancelling it loses nothing.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.recv(buffer).await {
                Err(error) if is_absence(&error) => {}
                other => return other,
            }
        }
    }

    /// The address that frames arrive at.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// The far end's machine says that nobody listens there (yet, or any more).
fn is_absence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_read_as_they_print() {
        for text in ["udp:127.0.0.1:5001>127.0.0.1:5002", "udp:[::1]:1>[::1]:2"] {
            assert_eq!(text.parse::<LinkSpec>().unwrap().to_string(), text);
        }
        for bad in ["", "udp:", "127.0.0.1:1>127.0.0.1:2", "udp:127.0.0.1>127.0.0.1:2", "udp:127.0.0.1:1>[::1]:2"] {
            let error = bad.parse::<LinkSpec>().unwrap_err();
            assert!(error.to_string().contains("udp:LOCAL>REMOTE"), "{error}");
        }
    }

    #[tokio::test]
    async fn frames_cross_a_link_and_an_absent_end_is_no_error() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let far = UdpSocket::bind(any).await.unwrap();
        let far_address = far.local_addr().unwrap();
        let near = FrameLink::open(LinkSpec { local: any, remote: far_address }).unwrap();
        near.send(b"frame").await.unwrap();
        let mut buffer = [0; 64];
        let (length, from) = far.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"frame"[..], near.local_addr().unwrap()));
        drop(far);
        for _ in 0..3 {
            near.send(b"lost").await.unwrap();
        }
        let back = UdpSocket::bind(far_address).await.unwrap();
        back.send_to(b"again", from).await.unwrap();
        let length = near.receive(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"again");
    }
}
