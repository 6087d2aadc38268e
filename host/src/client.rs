//! A client on a frame link: sends packets of a new protocol to the service address, and takes what comes back.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use dmux_wire::frame::Datagram;
use dmux_wire::icmpv4::Icmpv4Error;
use dmux_wire::{MacAddr, ProtocolId, ProviderId, Shim, ShimKind};

use crate::link::{FrameLink, LinkSpec, MAX_FRAME};
use crate::station::{Incoming, Station};

/// Where a client is and whom it talks to.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Its link to the gateway's switch.
    pub link: LinkSpec,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The gateway's.
    pub gateway_mac: MacAddr,
    /// Its (first) IPv4 address.
    pub address: Ipv4Addr,
    /// How many consecutive addresses it has.
    pub addresses: usize,
    /// The service address and port.
    pub service: SocketAddrV4,
}

/// What a client receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// A packet of the new protocol.
    Delivered {
        /// Which of the client's addresses and ports it came to.
        to: SocketAddrV4,
        /// The service address, or a router that answered directly.
        from: SocketAddrV4,
        /// Its shim.
        shim: Shim,
        /// The packet.
        packet: Vec<u8>,
    },
    /// A packet that the client sent did not get through.
    Undelivered {
        /// Who says so.
        by: Ipv4Addr,
        /// From which of the client's addresses it was sent.
        from: SocketAddrV4,
        /// Why.
        error: Icmpv4Error,
    },
}

/// A client. Sending and receiving may go on at the same time.
#[derive(Debug)]
pub struct ClientLink {
    link: FrameLink,
    station: Station,
    service: SocketAddrV4,
}

impl ClientLink {
    /// Opens the link. Must be called within a tokio runtime.
    pub fn open(config: &ClientConfig) -> io::Result<Self> {
        Ok(Self {
            link: FrameLink::open(config.link)?,
            station: Station::new(config.mac, config.gateway_mac, config.address, config.addresses),
            service: config.service,
        })
    }

    /// The client's address number `n`, going round.
    pub fn address(&self, n: usize) -> Ipv4Addr {
        self.station.address(n)
    }

    /// Tunnels a packet of a protocol to a provider's routers, from one of the client's addresses and any port.
    pub async fn send(
        &self,
        from: SocketAddrV4,
        protocol: ProtocolId,
        provider: ProviderId,
        packet: &[u8],
    ) -> io::Result<()> {
        let shim = Shim::new(ShimKind::Data, protocol, provider);
        let payload = Datagram { shim, origin: None, payload: packet }.to_vec();
        let frame = self.station.datagram(from, self.service, &payload).map_err(io::Error::other)?;
        self.link.send(&frame).await
    }

    /// The next event; answers ARP meanwhile. Cancelling it loses nothing but perhaps an ARP answer.
    pub async fn receive(&self) -> io::Result<ClientEvent> {
        let mut buffer = vec![0; MAX_FRAME];
        loop {
            let length = self.link.receive(&mut buffer).await?;
            match self.station.incoming(&buffer[..length]) {
                Incoming::Answer(frame) => self.link.send(&frame).await?,
                Incoming::Undelivered { by, from, to, error } if to == self.service => {
                    return Ok(ClientEvent::Undelivered { by, from, error });
                }
                Incoming::Datagram { from, to, payload } => {
                    if let Ok(Datagram { shim, origin: None, payload }) = Datagram::parse(payload)
                        && shim.kind == ShimKind::Deliver
                    {
                        return Ok(ClientEvent::Delivered { to, from, shim, packet: payload.to_vec() });
                    }
                }
                Incoming::Undelivered { .. } | Incoming::Ignored => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmux_wire::frame::{UdpFrame, udp_frame};
    use std::time::Duration;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_packet_goes_out_with_a_shim_and_an_answer_comes_back() {
        let switch = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = ClientConfig {
            link: LinkSpec { local: "127.0.0.1:0".parse().unwrap(), remote: switch.local_addr().unwrap() },
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            gateway_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            address: Ipv4Addr::new(203, 0, 113, 96),
            addresses: 32,
            service: SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 51700),
        };
        let client = ClientLink::open(&config).unwrap();
        let from = SocketAddrV4::new(client.address(3), 40000);
        client.send(from, ProtocolId(41), ProviderId::ANY, b"IPvN").await.unwrap();

        let mut buffer = [0; 2048];
        let (length, peer) = timeout(PATIENCE, switch.recv_from(&mut buffer)).await.unwrap().unwrap();
        let frame = UdpFrame::parse(&buffer[..length]).unwrap();
        assert_eq!((frame.from, frame.to, frame.ethernet.dst), (from, config.service, config.gateway_mac));
        let sent = Datagram::parse(frame.payload).unwrap();
        let shim = Shim::new(ShimKind::Data, ProtocolId(41), ProviderId::ANY);
        assert_eq!(sent, Datagram { shim, origin: None, payload: b"IPvN" });

        let deliver = Shim { kind: ShimKind::Deliver, ..shim };
        let payload = Datagram { shim: deliver, origin: None, payload: b"back" }.to_vec();
        for (kind, bytes) in [("another kind", frame.payload.to_vec()), ("deliver", payload)] {
            let back = udp_frame(config.gateway_mac, config.mac, config.service, from, &bytes).expect(kind);
            switch.send_to(&back, peer).await.unwrap();
        }
        let event = timeout(PATIENCE, client.receive()).await.unwrap().unwrap();
        let expected =
            ClientEvent::Delivered { to: from, from: config.service, shim: deliver, packet: b"back".to_vec() };
        assert_eq!(event, expected);
    }
}
