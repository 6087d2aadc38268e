//! `Probe` of the operator API: a packet into the switch as if a client had sent it, and the router's answer out of it.
//!
//! ```text
//! API ──packet-out, "as received"──▶ switch: service ─ demux ─ bucket ─ router ─ route ──▶ IPvN router
//!  ▲                                                                                         │
//!  └── Probes ◀── actor ◀── punt (reason `return`) ── switch: return_source ─ service_source ◀┘
//! ```
//!
//! The client is this gateway itself: its unicast address, and a port for each probe. So its bucket is that address's, and
//! nobody else hears an answer that nobody asked for.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dmux_p4rt::client::Session;
use dmux_wire::DropReason;
use tokio::sync::oneshot;
use tonic::Status;

use super::explain::{Explainer, question};
use super::packets;
use crate::api::v1::{ExplainRequest, ProbeAnswer, ProbeRequest};
use crate::explain::Question;

/// Probes under way at most; each has a port of its own.
const MAX_PROBES: u16 = 64;
/// The first of these ports.
const FIRST_PORT: u16 = 0xc000;
/// The longest packet of the new protocol, bytes: what fits 1500 with everything around it.
const MAX_PACKET: usize = 1400;
/// The longest that an answer may be waited for.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// What it is without a wish.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// The router answered.
    Returned {
        /// The router, as it is registered.
        router: SocketAddrV4,
        /// The TTL with which its datagram came.
        ttl: u8,
        /// The packet inside.
        packet: Vec<u8>,
    },
    /// The switch dropped it, and told.
    Dropped(DropReason),
}

/// Who waits for the answer to which port.
#[derive(Debug, Clone, Default)]
pub(super) struct Probes {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u16,
    by_port: BTreeMap<u16, oneshot::Sender<(Heard, Instant)>>,
}

impl Probes {
    /// Hands what came of a probe to whoever sent it; nobody may be waiting any more.
    pub(super) fn heard(&self, port: u16, heard: Heard) {
        let waiter = self.lock().by_port.remove(&port);
        if let Some(waiter) = waiter {
            // Whoever asked may have given up.
            let _ = waiter.send((heard, Instant::now()));
        }
    }

    /// A port that no probe has, the longest unused first, and what will be heard at it. `None` when all are in use.
    fn open(&self) -> Option<(u16, oneshot::Receiver<(Heard, Instant)>)> {
        let mut waiting = self.lock();
        // Whoever gave up has left its place behind.
        waiting.by_port.retain(|_, waiter| !waiter.is_closed());
        let after = waiting.last;
        let port = (1..=MAX_PROBES)
            .map(|step| FIRST_PORT + (after + step) % MAX_PROBES)
            .find(|port| !waiting.by_port.contains_key(port))?;
        waiting.last = port - FIRST_PORT;
        let (waiter, heard) = oneshot::channel();
        waiting.by_port.insert(port, waiter);
        Some((port, heard))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends one probe and waits for what comes of it.
pub(super) async fn probe(
    explainer: &Explainer<'_>,
    probes: &Probes,
    request: ProbeRequest,
) -> Result<ProbeAnswer, Status> {
    if request.packet.len() > MAX_PACKET {
        let length = request.packet.len();
        return Err(Status::invalid_argument(format!("the packet has {length} bytes; at most {MAX_PACKET} are sent")));
    }
    let asked = ExplainRequest {
        protocol: request.protocol,
        provider: request.provider,
        service: request.service.clone(),
        ..ExplainRequest::default()
    };
    let own = explainer.config.gateway.address;
    let question = explainer.store.read(|r| question(&r.0, own, &asked))?;
    let Some(session) = &explainer.session else {
        let why = &explainer.snapshot.switch.detail;
        return Err(Status::unavailable(format!("the switch is not connected: {why}")));
    };
    let Some((port, heard)) = probes.open() else {
        return Err(Status::resource_exhausted(format!("{MAX_PROBES} probes are under way already; try again")));
    };
    let sent = send(session, own, port, question, &request.packet)?;
    let wait = match request.timeout_ms {
        0 => DEFAULT_WAIT,
        ms => Duration::from_millis(ms.into()).min(MAX_WAIT),
    };
    Ok(match tokio::time::timeout(wait, heard).await {
        Ok(Ok((Heard::Returned { router, ttl, packet }, at))) => ProbeAnswer {
            answered: true,
            router: router.to_string(),
            packet,
            ttl: ttl.into(),
            rtt_us: u32::try_from(at.duration_since(sent).as_micros()).unwrap_or(u32::MAX),
            dropped: String::new(),
        },
        Ok(Ok((Heard::Dropped(reason), _))) => ProbeAnswer { dropped: reason.to_string(), ..ProbeAnswer::default() },
        Ok(Err(_)) | Err(_) => ProbeAnswer::default(),
    })
}

fn send(session: &Session, own: Ipv4Addr, port: u16, question: Question, packet: &[u8]) -> Result<Instant, Status> {
    let frame = packets::from_client(SocketAddrV4::new(own, port), question.service, question.destination, packet)
        .map_err(|error| Status::internal(format!("the packet cannot be sent: {error}")))?;
    let sent = Instant::now();
    session
        .try_send_packet_out(packets::as_received(frame))
        .map_err(|error| Status::unavailable(format!("the switch does not take the packet: {error}")))?;
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_probe_has_a_port_and_hears_what_comes_for_that() {
        let probes = Probes::default();
        let mut open: Vec<_> = (0..MAX_PROBES).map(|_| probes.open().expect("a port")).collect();
        assert!(probes.open().is_none(), "all are in use");
        let dropped = Heard::Dropped(DropReason::NoRoute);
        let (port, mut heard) = open.remove(7);
        probes.heard(port, dropped.clone());
        assert_eq!(heard.try_recv().map(|(heard, _)| heard), Ok(dropped.clone()));
        probes.heard(port, dropped);
        let (again, _) = probes.open().expect("the port is free again");
        assert_eq!(again, port);
        open.clear();
        let (next, _) = probes.open().expect("who gave up left its port");
        assert_ne!(next, again, "the one that was used last rests");
    }
}
