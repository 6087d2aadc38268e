//! Frames that the switch punted.

use dmux_wire::DropReason;
use dmux_wire::icmpv4::Icmpv4Error;

use super::{Actor, NO_ROUTE_LOG};
use crate::punted;
use crate::registration::Now;
use crate::runtime::packets::{self, Packet, Punt};
use crate::runtime::probe::Heard;

impl Actor {
    pub(super) fn on_punt(&mut self, now: Now, punt: Punt<'_>) {
        let own = self.config.gateway.address;
        let answer = match punt.packet {
            Packet::Control { from, to, message } => {
                let effects = self.store.read(|r| self.registrar.handle(now, &r.0, from, to, message));
                self.perform(effects);
                return;
            }
            Packet::ProbeReply { from, probe, stamps } => {
                if probe.origin != self.config.gateway_id() {
                    return;
                }
                match self.prober.reply(now.mono, from, probe.sequence, &stamps) {
                    Ok((peer, rtt)) => {
                        let theirs = self.store.read(|r| r.0.coordinate(peer).copied());
                        self.mapper.sample(now.mono, peer, rtt, theirs.as_ref());
                    }
                    Err(error) => tracing::debug!(%error, "probe reply ignored"),
                }
                return;
            }
            Packet::Returned { router, ttl, client, packet } => {
                if *client.ip() == own {
                    let heard = Heard::Returned { router, ttl, packet: packet.to_vec() };
                    self.probes.heard(client.port(), heard);
                }
                return;
            }
            Packet::NoRoute { client, .. } if *client.ip() == own => {
                self.probes.heard(client.port(), Heard::Dropped(DropReason::NoRoute));
                return;
            }
            Packet::NoRoute { protocol, provider, .. } => {
                if now.mono >= self.next_no_route_log {
                    self.next_no_route_log = now.mono + NO_ROUTE_LOG;
                    tracing::info!(%protocol, %provider, "clients ask for a destination that no router serves (sampled)");
                }
                return;
            }
            Packet::Endpoint { reason, frame } => {
                self.on_endpoint(now, reason, punt.ingress_port, frame);
                return;
            }
            Packet::Arp { frame } => {
                let port = self.config.site.ports.iter().find(|p| p.number == punt.ingress_port.get());
                let Some(port) = port else { return };
                let prefix = self.store.read(|r| r.0.config().dmux_prefix);
                punted::answer_arp(frame, punt.ingress_port, port.mac, |a| a == own || prefix.contains(a))
            }
            Packet::Icmp { frame, error } => match packets::sent_from(frame, own) {
                // What a probe of the operator API ran into; an error to ourselves would go nowhere.
                Some(port) => {
                    let reason = match error {
                        Icmpv4Error::TimeExceeded => DropReason::TtlExpired,
                        Icmpv4Error::FragmentationNeeded { .. } => DropReason::TooBig,
                    };
                    self.probes.heard(port, Heard::Dropped(reason));
                    return;
                }
                None => punted::answer_icmp(frame, own, error),
            },
        };
        match answer {
            Ok(outgoing) => self.send(&outgoing),
            Err(why) => tracing::debug!(%why, port = %punt.ingress_port, "punted frame not answered"),
        }
    }
}
