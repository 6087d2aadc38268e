//! The cluster's configuration, as the operator API has it.

use std::time::Duration;

use dmux_raft_store::Store;
use dmux_wire::{ProtocolId, ServiceIndex};
use tonic::Status;

use super::clock::Wall;
use super::replicated::Replicated;
use crate::api::v1;
use crate::model::{Command, Config, Policy, Refusal, Timers};

/// What is configured now.
pub(super) fn get(store: &Store<Replicated>) -> v1::Config {
    store.read(|r| to_api(r.0.config()))
}

/// Has the cluster replace it; what this version of the API does not know stays.
pub(super) async fn put(
    store: &Store<Replicated>,
    wall: &Wall,
    wanted: v1::Config,
    within: Duration,
) -> Result<v1::Config, Status> {
    let config = store.read(|r| merged(r.0.config(), &wanted)).map_err(Status::invalid_argument)?;
    let command = Command::PutConfig { at: wall.unix_ms(), config: config.clone() };
    let (_, reply) = store.propose(command, within).await.map_err(|e| Status::unavailable(e.to_string()))?;
    match reply.refusal() {
        None => Ok(to_api(&config)),
        Some(refusal @ Refusal::ConfigVersion { .. }) => Err(Status::aborted(refusal.to_string())),
        Some(refusal) => Err(Status::invalid_argument(refusal.to_string())),
    }
}

fn to_api(config: &Config) -> v1::Config {
    v1::Config {
        version: config.version,
        dmux_prefix: config.dmux_prefix.to_string(),
        services: config.services.iter().map(|(index, address)| (index.0.into(), address.to_string())).collect(),
        registration: config.registration.to_string(),
        keepalive_ms: config.timers.keepalive_ms,
        expire_after_ms: config.timers.expire_after_ms,
        protocols: config
            .protocols
            .iter()
            .map(|(protocol, config)| v1::ProtocolConfig {
                protocol: protocol.0.into(),
                policy: config.policy.to_string(),
                buckets: config.buckets.into(),
                margin_ms: config.margin_ms,
            })
            .collect(),
        drain_learn_ms: Some(config.draining.learn_ms),
        drain_idle_ms: Some(config.draining.idle_ms),
    }
}

/// The current configuration with what the operator wants of it; the model checks what it comes to.
fn merged(current: &Config, wanted: &v1::Config) -> Result<Config, String> {
    let mut config = current.clone();
    config.version = wanted.version.checked_add(1).ok_or("the version is the last that there is")?;
    config.dmux_prefix =
        wanted.dmux_prefix.parse().map_err(|e| format!("dmux_prefix {:?}: {e}", wanted.dmux_prefix))?;
    let address = |text: &str| text.parse().map_err(|_| format!("{text:?} is no IPv4 address"));
    config.registration = address(&wanted.registration)?;
    config.services.clear();
    for (&index, text) in &wanted.services {
        let index = u16::try_from(index).map_err(|_| format!("service index {index} is above 65535"))?;
        config.services.insert(ServiceIndex(index), address(text)?);
    }
    config.timers = Timers { keepalive_ms: wanted.keepalive_ms, expire_after_ms: wanted.expire_after_ms };
    config.draining.learn_ms = wanted.drain_learn_ms.unwrap_or(config.draining.learn_ms);
    config.draining.idle_ms = wanted.drain_idle_ms.unwrap_or(config.draining.idle_ms);
    let before = std::mem::take(&mut config.protocols);
    for wanted in &wanted.protocols {
        let id = u16::try_from(wanted.protocol).map_err(|_| format!("protocol {} is above 65535", wanted.protocol))?;
        let mut protocol = before.get(&ProtocolId(id)).cloned().unwrap_or_default();
        protocol.policy = wanted.policy.parse::<Policy>()?;
        protocol.margin_ms = wanted.margin_ms;
        protocol.buckets =
            u16::try_from(wanted.buckets).map_err(|_| format!("{} buckets are too many", wanted.buckets))?;
        config.protocols.insert(ProtocolId(id), protocol);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProtocolConfig;

    #[test]
    fn what_is_read_can_be_written_back() {
        let mut config = Config { version: 3, ..Config::default() };
        let weighted = ProtocolConfig { policy: Policy::Weighted, buckets: 1024, margin_ms: 7 };
        config.protocols.insert(ProtocolId(41), weighted);
        let again = merged(&config, &to_api(&config)).unwrap();
        assert_eq!(again, Config { version: 4, ..config.clone() });
        let without = v1::Config { protocols: Vec::new(), ..to_api(&config) };
        assert!(merged(&config, &without).unwrap().protocols.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let config = Config::default();
        let good = to_api(&config);
        let refused = |change: fn(&mut v1::Config)| {
            let mut bad = good.clone();
            change(&mut bad);
            merged(&config, &bad).unwrap_err()
        };
        assert!(refused(|c| c.dmux_prefix = "nowhere".into()).contains("nowhere"));
        assert!(refused(|c| c.registration = "1.2.3".into()).contains("1.2.3"));
        assert!(refused(|c| c.services.extend([(70_000, "198.51.100.9".into())])).contains("70000"));
        let protocol = |policy: &str, protocol, buckets| v1::ProtocolConfig {
            protocol,
            policy: policy.into(),
            buckets,
            margin_ms: 1,
        };
        let with = |wanted| {
            let bad = v1::Config { protocols: vec![wanted], ..good.clone() };
            merged(&config, &bad).unwrap_err()
        };
        assert!(with(protocol("farthest", 41, 256)).contains("closest-router"), "it says what there is");
        assert!(with(protocol("closest", 70_000, 256)).contains("70000"));
        assert!(with(protocol("closest", 41, 100_000)).contains("100000"));
    }
}
