//! The state machine: one command, one reply.

use std::net::Ipv4Addr;

use dmux_wire::GatewayId;

use super::gateway::MAX_API_ADDRESS;
use super::register::check_buckets;
use super::{
    Change, Command, Config, Gateway, Latency, LatencySample, MAX_GATEWAY_NAME, MAX_GATEWAYS, Model, NodeId, Refusal,
    Reply, SwitchOwner,
};
use crate::coordinates::Coordinate;

impl Model {
    /// Applies the command of log index `index`. Pure, deterministic, and the same twice as once.
    pub fn apply(&mut self, index: u64, command: &Command) -> Reply {
        self.state.applied = self.state.applied.max(index);
        let outcome = match command {
            Command::PutGateway { gateway, .. } => self.put_gateway(gateway),
            Command::RemoveGateway { gateway, .. } => self.remove_gateway(*gateway),
            Command::ClaimSwitch { gateway, node, claim, .. } => self.claim_switch(*gateway, *node, *claim),
            Command::Register { at, registration } => self.register(*at, registration),
            Command::Deregister { at, key, sequence } => self.deregister(*at, key, *sequence),
            Command::Expire { at, key, gateway, sequence } => self.expire(*at, key, *gateway, *sequence),
            Command::Adopt { at, key, gateway, sequence } => self.adopt(*at, key, *gateway, *sequence),
            Command::RecordLatencies { at, from, samples } => self.record_latencies(*at, *from, samples),
            Command::PutConfig { config, .. } => self.put_config(config),
            Command::RecordRouterRtts { gateway, samples, .. } => self.record_router_rtts(*gateway, samples),
            Command::RecordCoordinate { from, coordinate, .. } => self.record_coordinate(*from, *coordinate),
            Command::Revoke { at, fingerprint, note } => self.revoke(*at, *fingerprint, note),
            Command::Unrevoke { fingerprint, .. } => self.unrevoke(fingerprint),
            Command::Drain { at, key, draining } => self.drain(*at, key, *draining),
            Command::PutMetanet { metanet, .. } => self.put_metanet(metanet),
            Command::RemoveMetanet { metanet, .. } => self.remove_metanet(*metanet),
            Command::PutAccessLink { link, .. } => self.put_access_link(link),
            Command::RemoveAccessLink { link, .. } => self.remove_access_link(link),
            Command::ClaimMetalink { at, claim } => self.claim_metalink(*at, claim),
            Command::RenewMetalinks { at, metalinks } => self.renew_metalinks(*at, metalinks),
            Command::AdjustMetalink { at, metalink, rate } => self.adjust_metalink(*at, *metalink, *rate),
            Command::ReleaseMetalink { at, metalink } => self.release_metalink(*at, *metalink),
            Command::EndLeases { at, gateway } => self.end_leases(*at, *gateway),
            Command::GiveMetalinkBack { at, metalink, request, why } => {
                self.give_metalink_back(*at, *metalink, *request, why)
            }
        };
        outcome.unwrap_or_else(Reply::Refused)
    }

    pub(super) fn note(&mut self, change: Change) {
        self.journal.push(self.state.applied, change);
    }

    pub(super) fn known_gateway(&self, id: GatewayId) -> Result<&Gateway, Refusal> {
        self.state.gateways.get(&id).ok_or(Refusal::UnknownGateway(id))
    }

    fn put_gateway(&mut self, gateway: &Gateway) -> Result<Reply, Refusal> {
        let id = gateway.id;
        if self.state.gateways.get(&id) == Some(gateway) {
            return Ok(Reply::Done);
        }
        check_gateway(gateway, &self.state.config)?;
        if let Some(other) = self.state.gateways.values().find(|g| g.unicast == gateway.unicast && g.id != id) {
            return Err(Refusal::AddressTaken { address: gateway.unicast, by: other.id });
        }
        if self.state.gateways.len() >= MAX_GATEWAYS && !self.state.gateways.contains_key(&id) {
            return Err(Refusal::TooManyGateways(MAX_GATEWAYS));
        }
        self.state.gateways.insert(id, gateway.clone());
        self.note(Change::Gateway(id));
        Ok(Reply::Done)
    }

    fn remove_gateway(&mut self, id: GatewayId) -> Result<Reply, Refusal> {
        let registrations = self.index.count_at(id);
        if registrations > 0 {
            return Err(Refusal::GatewayInUse { gateway: id, registrations });
        }
        let links = self.access_links_of(id);
        if links > 0 {
            return Err(Refusal::GatewayHasAccessLinks { gateway: id, links });
        }
        if self.state.gateways.remove(&id).is_some() {
            // The owner stays: an epoch that starts anew would let a deposed controller write again.
            self.state.latencies.retain(|&(from, to), _| from != id && to != id);
            self.state.coordinates.remove(&id);
            self.note(Change::Gateway(id));
        }
        Ok(Reply::Done)
    }

    fn claim_switch(&mut self, gateway: GatewayId, node: NodeId, claim: u64) -> Result<Reply, Refusal> {
        self.known_gateway(gateway)?;
        let epoch = match self.state.owners.get(&gateway) {
            Some(owner) if owner.node == node && owner.claim == claim => {
                return Ok(Reply::Claimed { epoch: owner.epoch });
            }
            Some(owner) => owner.epoch.saturating_add(1),
            None => 1,
        };
        self.state.owners.insert(gateway, SwitchOwner { node, epoch, claim });
        self.note(Change::Owner(gateway));
        Ok(Reply::Claimed { epoch })
    }

    fn record_latencies(&mut self, at: u64, from: GatewayId, samples: &[LatencySample]) -> Result<Reply, Refusal> {
        self.known_gateway(from)?;
        for sample in samples {
            let (to, loss_permille) = (sample.to, sample.loss_permille.min(1000));
            // A peer that was removed while the report was under way is no reason to refuse the others.
            if to == from || !self.state.gateways.contains_key(&to) {
                continue;
            }
            let worth_writing = self.state.latencies.get(&(from, to)).is_none_or(|old| {
                let late = at < old.measured_at && old.measured_at - at <= Latency::LATE_MS;
                !late && old.is_news(sample)
            });
            if worth_writing {
                self.state
                    .latencies
                    .insert((from, to), Latency { rtt_us: sample.rtt_us, loss_permille, measured_at: at });
                self.note(Change::Latency(from, to));
            }
        }
        Ok(Reply::Done)
    }

    fn record_coordinate(&mut self, from: GatewayId, coordinate: Coordinate) -> Result<Reply, Refusal> {
        self.known_gateway(from)?;
        if !coordinate.is_sane() {
            let why = "its network coordinate is farther from the origin than anything on Earth".into();
            return Err(Refusal::BadGateway { gateway: from, why });
        }
        if self.state.coordinates.insert(from, coordinate) != Some(coordinate) {
            self.note(Change::Coordinate(from));
        }
        Ok(Reply::Done)
    }

    fn put_config(&mut self, config: &Config) -> Result<Reply, Refusal> {
        if self.state.config == *config {
            return Ok(Reply::Done);
        }
        let have = self.state.config.version;
        if have.checked_add(1) != Some(config.version) {
            return Err(Refusal::ConfigVersion { have, got: config.version });
        }
        config.check().map_err(Refusal::BadConfig)?;
        check_buckets(self.buckets(config))?;
        if let Some(inside) = self.state.gateways.values().find(|g| config.dmux_prefix.contains(g.unicast)) {
            return Err(Refusal::BadConfig(format!(
                "dmux_prefix {} holds {}, the unicast address of gateway {}",
                config.dmux_prefix, inside.unicast, inside.id.0
            )));
        }
        self.state.config = config.clone();
        self.note(Change::Config);
        Ok(Reply::Done)
    }
}

fn check_gateway(gateway: &Gateway, config: &Config) -> Result<(), Refusal> {
    let bad = |why: String| Err(Refusal::BadGateway { gateway: gateway.id, why });
    if gateway.name.len() > MAX_GATEWAY_NAME {
        return bad(format!("its name has {} bytes; at most {MAX_GATEWAY_NAME}", gateway.name.len()));
    }
    if gateway.api.len() > MAX_API_ADDRESS {
        return bad(format!("its API address has {} bytes; at most {MAX_API_ADDRESS}", gateway.api.len()));
    }
    if config.dmux_prefix.contains(gateway.unicast) {
        return bad(format!(
            "its unicast address {} lies in the dmux-prefix {}, which every gateway announces",
            gateway.unicast, config.dmux_prefix
        ));
    }
    if !is_host(gateway.unicast) {
        return bad(format!("{} is not an address that a host can have", gateway.unicast));
    }
    Ok(())
}

/// Whether a packet on the Internet may come from this address (RFC 1122 §3.2.1.3).
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}
