use std::net::Ipv6Addr;

use dmux_wire::ipv6;

use super::Delivery;

/// Where de-tunnelled packets go.
pub trait Sink: Send {
    /// Takes a packet; what it returns is sent back to the packet's origin. Must not block, nor panic whatever the
    /// packet holds: it comes from outside.
    fn packet(&mut self, delivery: &Delivery<'_>) -> Option<Vec<u8>>;
}

/// Answers ICMPv6 echo requests and UDP datagrams over IPv6.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo {
    /// Its own address; without one it answers for every address. See [`ipv6::echo_answer`].
    pub address: Option<Ipv6Addr>,
}

impl Sink for Echo {
    fn packet(&mut self, delivery: &Delivery<'_>) -> Option<Vec<u8>> {
        ipv6::echo_answer(delivery.packet, self.address)
    }
}

/// Takes packets without an answer; [`Stats`](super::Stats) counts them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count;

impl Sink for Count {
    fn packet(&mut self, _: &Delivery<'_>) -> Option<Vec<u8>> {
        None
    }
}
