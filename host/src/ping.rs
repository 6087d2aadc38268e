//! Probes of the whole path: ICMPv6 echo requests in the tunnel, to whichever IPvN router gets them. Pure.
//!
//! The request goes to "all routers" (RFC 4291 §2.7.1), so the router that the gateway chose answers in its own name; the hop
//! limit of its answer tells how many IPv6 hops lay behind the tunnel.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dmux_wire::ipv6::{self, Echo};
use dmux_wire::{Ipv6, WireError};

/// Where requests go.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// What requests carry.
const DATA: &[u8] = b"dmux ping";

/// The IPv6 address that a client without one pings from: the first of its 6to4 prefix (RFC 3056 §2), which is derived from
/// its IPv4 address. The answer comes back through the tunnel, so nobody need route to it.
pub fn ipv6_of(client: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = client.octets();
    Ipv6Addr::new(0x2002, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), 0, 0, 0, 0, 1)
}

/// An answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Which request, counted from 0.
    pub sequence: u16,
    /// The router, by the address that it answers in.
    pub router: Ipv6Addr,
    /// The hop limit that was left; routers start at 64 or 255.
    pub hop_limit: u8,
    /// From sending the request to hearing the answer.
    pub rtt: Duration,
}

/// A run of requests and what came of them.
#[derive(Debug)]
pub struct Pings {
    source: Ipv6Addr,
    identifier: u16,
    /// Sent and not answered yet: when.
    waiting: BTreeMap<u16, Duration>,
    sent: u32,
    replies: Vec<Reply>,
    duplicates: u32,
}

impl Pings {
    /// None sent yet. `identifier` should be random: it keeps others' answers apart.
    pub fn new(source: Ipv6Addr, identifier: u16) -> Self {
        Self { source, identifier, waiting: BTreeMap::new(), sent: 0, replies: Vec::new(), duplicates: 0 }
    }

    /// The next request, an IPv6 packet to be sent now.
    pub fn request(&mut self, now: Duration) -> Result<Vec<u8>, WireError> {
        let sequence = (self.sent & 0xffff) as u16;
        let echo = Echo { reply: false, identifier: self.identifier, sequence, data: DATA };
        let packet = echo.packet(self.source, ALL_ROUTERS)?;
        self.sent += 1;
        self.waiting.insert(sequence, now);
        Ok(packet)
    }

    /// Takes a packet from the tunnel. `None` if it answers none of ours.
    pub fn reply(&mut self, now: Duration, packet: &[u8]) -> Option<Reply> {
        let (header, payload) = Ipv6::parse(packet).ok()?;
        if header.next_header != ipv6::ICMPV6 || header.dst != self.source {
            return None;
        }
        let echo = Echo::parse(payload, header.src, header.dst).ok()?;
        if !echo.reply || echo.identifier != self.identifier || echo.data != DATA {
            return None;
        }
        let Some(sent) = self.waiting.remove(&echo.sequence) else {
            self.duplicates += u32::from(self.replies.iter().any(|r| r.sequence == echo.sequence));
            return None;
        };
        let rtt = now.saturating_sub(sent);
        let reply = Reply { sequence: echo.sequence, router: header.src, hop_limit: header.hop_limit, rtt };
        self.replies.push(reply);
        Some(reply)
    }

    /// Whether every request has its answer.
    pub fn all_answered(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What came of all of them.
    pub fn summary(&self) -> Summary {
        let mut rtts: Vec<_> = self.replies.iter().map(|r| r.rtt).collect();
        rtts.sort_unstable();
        let mut routers = BTreeMap::new();
        for reply in &self.replies {
            *routers.entry(reply.router).or_default() += 1;
        }
        let total: Duration = rtts.iter().sum();
        Summary {
            sent: self.sent,
            received: rtts.len() as u32,
            duplicates: self.duplicates,
            routers,
            min: rtts.first().copied(),
            mean: u32::try_from(rtts.len()).ok().and_then(|n| total.checked_div(n)),
            max: rtts.last().copied(),
        }
    }
}

/// Totals of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Requests.
    pub sent: u32,
    /// Answered ones.
    pub received: u32,
    /// Answers to what was answered already.
    pub duplicates: u32,
    /// Who answered how many. More than one where the choice changed meanwhile.
    pub routers: BTreeMap<Ipv6Addr, u32>,
    /// The shortest round trip; `None` without an answer, as the others.
    pub min: Option<Duration>,
    /// The mean.
    pub mean: Option<Duration>,
    /// The longest.
    pub max: Option<Duration>,
}

impl Summary {
    /// Unanswered requests in percent.
    pub fn loss_percent(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { f64::from(self.sent - self.received) * 100.0 / f64::from(self.sent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmux_wire::ipv6::echo_answer;
    use proptest::prelude::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn round_trips_loss_and_who_answered_are_told() {
        let mut pings = Pings::new(ipv6_of(CLIENT), 77);
        let requests: Vec<_> = (0..4).map(|n| pings.request(ms(100 * n)).unwrap()).collect();
        let answer = |n: usize| echo_answer(&requests[n], Some(ROUTER)).expect("a router answers to all routers");
        let reply = pings.reply(ms(2), &answer(0)).unwrap();
        assert_eq!(reply, Reply { sequence: 0, router: ROUTER, hop_limit: 64, rtt: ms(2) });
        assert_eq!(pings.reply(ms(310), &answer(3)).unwrap().rtt, ms(10));
        assert_eq!(pings.reply(ms(320), &answer(1)).unwrap().rtt, ms(220), "out of order");
        assert_eq!(pings.reply(ms(330), &answer(1)), None, "again");
        assert!(!pings.all_answered());
        let summary = pings.summary();
        assert_eq!((summary.sent, summary.received, summary.duplicates), (4, 3, 1));
        assert_eq!((summary.min, summary.max), (Some(ms(2)), Some(ms(220))));
        assert_eq!(summary.mean, Some(ms(232) / 3));
        assert_eq!(summary.routers, BTreeMap::from([(ROUTER, 3)]));
        assert!((summary.loss_percent() - 25.0).abs() < 1e-9);
    }

    #[test]
    fn answers_of_others_are_not_taken() {
        let mut pings = Pings::new(ipv6_of(CLIENT), 77);
        let mut other = Pings::new(ipv6_of(CLIENT), 78);
        pings.request(ms(0)).unwrap();
        let theirs = echo_answer(&other.request(ms(0)).unwrap(), Some(ROUTER)).unwrap();
        assert_eq!(pings.reply(ms(1), &theirs), None);
        let unasked = Echo { reply: true, identifier: 77, sequence: 9, data: DATA };
        assert_eq!(pings.reply(ms(1), &unasked.packet(ROUTER, ipv6_of(CLIENT)).unwrap()), None);
        assert_eq!(pings.summary().min, None);
        assert_eq!(pings.summary().duplicates, 0);
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut pings = Pings::new(ipv6_of(CLIENT), 1);
            pings.request(ms(0)).unwrap();
            prop_assert_eq!(pings.reply(ms(1), &packet), None);
        }
    }
}
